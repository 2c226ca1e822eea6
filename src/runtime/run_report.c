/* SPDX-License-Identifier: Apache-2.0 */
/* The page from top to bottom: what came out, how it went round by round, who talked to whom, what was asked for. Charts are drawn
 * in run_chart.c, tables in run_report_tables.c. */
#include "runtime/run_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/run_chart.h"
#include "runtime/run_report_impl.h"
#include "runtime/run_report_style.h"

static void time_text(double t, char *out, size_t out_size)
{
    time_t s = (time_t)t;
    struct tm tm;
    if (t <= 0 || !gmtime_r(&s, &tm) || strftime(out, out_size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        (void)snprintf(out, out_size, "–");
}

static void verdict(const struct pfl_record *r, struct pfl_buf *out)
{
    size_t lost = 0;
    for (size_t i = 0; i < r->n_nodes; i++)
        lost += r->nodes[i].lost != NULL;
    if (r->finished && lost)
        pfl_buf_printf(out, "<p class=\"badge warn\">Finished without %zu of %zu nodes</p>\n", lost, r->n_nodes);
    else if (r->finished)
        pfl_buf_append_str(out, "<p class=\"badge good\">Finished</p>\n");
    else
        pfl_buf_printf(out, "<p class=\"badge bad\">%s</p>\n", r->interrupted ? "Interrupted" : "Not finished");
}

static void tile(struct pfl_buf *out, const char *value, const char *label)
{
    pfl_buf_append_str(out, "<div class=\"tile\"><b>");
    pfl_html_text(out, value);
    pfl_buf_append_str(out, "</b><span>");
    pfl_html_text(out, label);
    pfl_buf_append_str(out, "</span></div>\n");
}

static void accuracy_tile(const struct pfl_record *r, struct pfl_buf *out)
{
    double lo = INFINITY, hi = -INFINITY;
    char text[80], a[32], b[32];
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (r->nodes[i].lost || isnan(r->nodes[i].accuracy))
            continue;
        lo = fmin(lo, r->nodes[i].accuracy);
        hi = fmax(hi, r->nodes[i].accuracy);
    }
    pfl_chart_value(PFL_CHART_PERCENT, lo <= hi ? lo : NAN, a, sizeof(a));
    pfl_chart_value(PFL_CHART_PERCENT, hi, b, sizeof(b));
    if (lo <= hi && !pfl_streq(a, b)) {
        a[strcspn(a, " ")] = '\0'; /* one unit for both ends of the range */
        (void)snprintf(text, sizeof(text), "%s–%s", a, b);
        tile(out, text, "test accuracy, least and most");
    } else {
        tile(out, a, "test accuracy on every node");
    }
}

static void tiles(const struct pfl_record *r, struct pfl_buf *out)
{
    struct pfl_rec_counters sum;
    char text[64];
    pfl_record_totals(r, &sum);
    pfl_buf_append_str(out, "<div class=\"tiles\">\n");
    accuracy_tile(r, out);
    (void)snprintf(text, sizeof(text), "%zu", r->n_nodes);
    tile(out, text, r->memory ? "nodes in one process" : "nodes, each a process of its own");
    (void)snprintf(text, sizeof(text), "%.1f s", pfl_record_learn_s(r));
    tile(out, text, "of learning");
    pfl_chart_value(PFL_CHART_BYTES, (double)sum.bytes_sent, text, sizeof(text));
    tile(out, text, r->memory ? "passed on in memory" : r->tls ? "sent over mutual TLS" : "sent WITHOUT TLS");
    pfl_chart_value(PFL_CHART_COUNT, (double)sum.messages_sent, text, sizeof(text));
    tile(out, text, "messages sent");
    (void)snprintf(text, sizeof(text), "%zu", r->n_refusals);
    tile(out, text, r->n_refusals == 1 ? "peer refused" : "peers refused");
    pfl_buf_append_str(out, "</div>\n");
}

static void models_line(const struct pfl_record *r, struct pfl_buf *out)
{
    const char *digest;
    size_t n = pfl_record_models(r, &digest);
    if (digest[0]) {
        pfl_buf_printf(out, "<p class=\"hash\">All %zu %smodels are identical, byte for byte: SHA-256 <code>", n,
                       r->identical ? "final " : "finished ");
        pfl_html_text(out, digest);
        pfl_buf_append_str(out, "</code></p>\n");
    } else if (n > 0) {
        pfl_buf_append_str(out, "<p class=\"callout bad\"><b>The final models are not all the same</b>; the table of nodes below "
                                "tells them apart.</p>\n");
    }
}

static void callouts(const struct pfl_record *r, struct pfl_buf *out)
{
    for (size_t i = 0; i < r->failures.n; i++) {
        pfl_buf_append_str(out, "<p class=\"callout bad\">");
        pfl_html_text(out, r->failures.items[i].text);
        pfl_buf_append_str(out, "</p>\n");
    }
    if (r->memory)
        pfl_buf_append_str(
            out, "<p class=\"note\">Memory protocol: every node ran in one process, messages passed in virtual time, without "
                 "sockets. The protocol and the learning are those of a network; its times are not.</p>\n");
    else if (!r->tls)
        pfl_buf_append_str(out, "<p class=\"callout bad\"><b>Without TLS:</b> the experiment asked for plaintext links. Nobody's "
                                "identity was checked.</p>\n");
    if (r->interop)
        pfl_buf_append_str(out, "<p class=\"callout warn\"><b>interop: p2pfl:</b> the nodes would have taken P2PFL's own nodes as "
                                "neighbours, whose messages are not signed and whose models carry no digest.</p>\n");
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (!r->nodes[i].lost)
            continue;
        pfl_buf_append_str(out, "<p class=\"callout warn\"><b>");
        pfl_html_text(out, r->nodes[i].name);
        pfl_buf_printf(out, " was lost</b> after %u round%s: ", r->nodes[i].rounds_done, r->nodes[i].rounds_done == 1 ? "" : "s");
        pfl_html_text(out, r->nodes[i].lost);
        pfl_buf_append_str(out, "</p>\n");
    }
}

static void headline(const struct pfl_record *r, struct pfl_buf *out)
{
    char when[40];
    time_text(r->start_t, when, sizeof(when));
    verdict(r, out);
    pfl_buf_append_str(out, "<h1>");
    pfl_html_text(out, r->title);
    pfl_buf_printf(out, "</h1>\n<p class=\"sub\">%zu nodes · ", r->n_nodes);
    if (r->topology[0]) {
        pfl_html_text(out, r->topology);
        pfl_buf_append_str(out, " · ");
    }
    pfl_buf_printf(out, "%u round%s of %u epoch%s · train set of %u · seed %llu · %s</p>\n", r->rounds, r->rounds == 1 ? "" : "s",
                   r->epochs, r->epochs == 1 ? "" : "s", r->trainset_size, (unsigned long long)r->seed, when);
    tiles(r, out);
    models_line(r, out);
    callouts(r, out);
}

/* ---- charts ---- */

enum what { TEST_ACCURACY, TEST_LOSS, FIT_LOSS, BYTES, MESSAGES };

static double value_at(const struct pfl_record *r, size_t node, size_t round, enum what what)
{
    const struct pfl_rec_node *n = &r->nodes[node];
    struct pfl_rec_counters c;
    if (round >= n->n_points)
        return NAN;
    const struct pfl_rec_point *p = &n->points[round];
    switch (what) {
    case TEST_ACCURACY:
        return p->has_test ? p->accuracy : NAN;
    case TEST_LOSS:
        return p->has_test ? p->loss : NAN;
    case FIT_LOSS:
        return p->has_fit ? p->fit_loss : NAN;
    case BYTES:
        return pfl_record_round_traffic(r, node, round, &c) ? (double)c.bytes_sent : NAN;
    case MESSAGES:
        return pfl_record_round_traffic(r, node, round, &c) ? (double)c.messages_sent : NAN;
    }
    return NAN;
}

static void one_chart(const struct pfl_record *r, struct pfl_buf *out, enum what what, struct pfl_chart c)
{
    size_t n_x = (size_t)r->rounds + (what == TEST_ACCURACY || what == TEST_LOSS);
    if (n_x == 0 || r->n_nodes == 0)
        return;
    PFL_AUTO(pfl_freep) double *values = pfl_xcalloc(n_x * r->n_nodes, sizeof(*values));
    PFL_AUTO(pfl_freep) struct pfl_chart_series *series = pfl_xcalloc(r->n_nodes, sizeof(*series));
    for (size_t i = 0; i < r->n_nodes; i++) {
        for (size_t x = 0; x < n_x; x++)
            values[i * n_x + x] = value_at(r, i, x, what);
        series[i] = (struct pfl_chart_series){r->nodes[i].name, values + i * n_x};
    }
    c.n_x = n_x;
    c.n_series = r->n_nodes;
    c.series = series;
    if (what == BYTES || what == MESSAGES)
        pfl_chart_bars(out, &c);
    else
        pfl_chart_lines(out, &c);
}

static void charts(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_append_str(out, "<h2>Round by round</h2>\n<div class=\"charts\">\n");
    one_chart(r, out, TEST_ACCURACY,
              (struct pfl_chart){
                  .title = "Test accuracy", .note = "0 is the initial model", .x_label = "after round", .unit = PFL_CHART_PERCENT});
    one_chart(r, out, TEST_LOSS,
              (struct pfl_chart){.title = "Test loss", .note = "0 is the initial model", .x_label = "after round"});
    one_chart(r, out, FIT_LOSS,
              (struct pfl_chart){.title = "Training loss", .note = "each node on its own data", .x_label = "round", .x_first = 1});
    one_chart(r, out, BYTES,
              (struct pfl_chart){.title = "Bytes sent",
                                 .note = "round 1 includes getting to know each other",
                                 .x_label = "round",
                                 .x_first = 1,
                                 .unit = PFL_CHART_BYTES});
    one_chart(r, out, MESSAGES,
              (struct pfl_chart){.title = "Messages sent", .x_label = "round", .x_first = 1, .unit = PFL_CHART_COUNT});
    pfl_report_timeline(r, out);
    pfl_buf_append_str(out, "</div>\n");
}

static void configuration(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_append_str(out, "<h2>Configuration</h2>\n<details><summary>The experiment as it was run</summary><pre>");
    pfl_html_text(out, r->config_text);
    pfl_buf_append_str(out, "</pre></details>\n");
}

static void footer(const struct pfl_record *r, struct pfl_buf *out)
{
    char from[40], to[40];
    time_text(r->start_t, from, sizeof(from));
    time_text(r->end_t, to, sizeof(to));
    pfl_buf_append_str(out, "<footer>");
    pfl_html_text(out, r->versions);
    pfl_buf_printf(out, "<br>%s to %s", from, to);
    if (r->final_model) {
        pfl_buf_append_str(out, " · final model: <code>");
        pfl_html_text(out, r->final_model);
        pfl_buf_append_str(out, "</code>");
    }
    pfl_buf_append_str(out, "</footer>\n");
}

void pfl_report_html(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_append_str(out,
                       "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                       "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                       "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
                       "<title>");
    pfl_html_text(out, r->title);
    pfl_buf_append_str(out, " – p2pfl</title>\n<style>\n" PFL_REPORT_STYLE "</style>\n</head>\n<body>\n<main>\n");
    headline(r, out);
    charts(r, out);
    pfl_report_parts(r, out);
    pfl_report_nodes(r, out);
    pfl_report_rounds(r, out);
    pfl_report_links(r, out);
    pfl_report_refusals(r, out);
    pfl_report_remarks(r, out);
    configuration(r, out);
    footer(r, out);
    pfl_buf_append_str(out, "</main>\n</body>\n</html>\n");
}
