/* SPDX-License-Identifier: Apache-2.0 */
/* The report's tables. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/run_chart.h"
#include "runtime/run_report_impl.h"

enum {
    LINKS_OPEN_MAX = 40 /* more rows than this start folded */
};

static void cell(struct pfl_buf *out, const char *class, const char *text)
{
    if (class[0])
        pfl_buf_printf(out, "<td class=\"%s\">", class);
    else
        pfl_buf_append_str(out, "<td>");
    pfl_html_text(out, text && text[0] ? text : "–");
    pfl_buf_append_str(out, "</td>");
}

static void value_cell(struct pfl_buf *out, enum pfl_chart_unit unit, double v)
{
    char text[32];
    pfl_chart_value(unit, v, text, sizeof(text));
    cell(out, "n", text);
}

static void node_row(const struct pfl_rec_node *n, struct pfl_buf *out)
{
    char digest[20];
    (void)snprintf(digest, sizeof(digest), "%.16s", n->digest);
    pfl_buf_append_str(out, "<tr>");
    cell(out, "w", n->name);
    cell(out, "w m", n->address);
    value_cell(out, PFL_CHART_PERCENT, n->accuracy);
    value_cell(out, PFL_CHART_NUMBER, n->loss);
    value_cell(out, PFL_CHART_COUNT, n->rounds_done);
    value_cell(out, PFL_CHART_BYTES, (double)n->counters.bytes_sent);
    value_cell(out, PFL_CHART_BYTES, (double)n->counters.bytes_received);
    value_cell(out, PFL_CHART_COUNT, (double)n->counters.messages_sent);
    value_cell(out, PFL_CHART_BYTES, n->rss_kb ? 1024.0 * (double)n->rss_kb : NAN);
    cell(out, "m", digest);
    cell(out, "w", n->lost ? "lost" : n->finished ? "finished" : n->stage);
    pfl_buf_append_str(out, "</tr>\n");
}

void pfl_report_nodes(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_append_str(
        out, "<h2>Nodes</h2>\n<div class=\"scroll\"><table><thead><tr><th>Node</th><th>Address</th><th class=\"n\">Accuracy</th>"
             "<th class=\"n\">Loss</th><th class=\"n\">Rounds</th><th class=\"n\">Sent</th><th class=\"n\">Received</th>"
             "<th class=\"n\">Messages</th><th class=\"n\">Memory</th><th>Model SHA-256</th><th>State</th></tr></thead>\n");
    for (size_t i = 0; i < r->n_nodes; i++)
        node_row(&r->nodes[i], out);
    pfl_buf_append_str(out, "</table></div>\n");
}

/* ---- rounds ---- */

static int by_name(const void *a, const void *b)
{
    return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

/* "node-1, node-2": the names of a list of addresses, in order. */
static void names_cell(const struct pfl_record *r, const struct pfl_strs *l, struct pfl_buf *out)
{
    PFL_AUTO(pfl_freep) const char **names = pfl_xcalloc(l->n + 1, sizeof(*names));
    for (size_t i = 0; i < l->n; i++)
        names[i] = pfl_record_name_of(r, l->items[i]);
    qsort(names, l->n, sizeof(*names), by_name);
    pfl_buf_append_str(out, l->n ? "<td>" : "<td>–");
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            pfl_buf_append_str(out, ", ");
        pfl_html_text(out, names[i]);
    }
    pfl_buf_append_str(out, "</td>");
}

/* Whose models went in, as the first node that aggregated says it; a node that found something else is named. */
static void contributors_cell(const struct pfl_record *r, size_t round, struct pfl_buf *out)
{
    static const struct pfl_strs none;
    const struct pfl_strs *first = &none;
    for (size_t i = 0; i < r->n_nodes && first->n == 0; i++)
        if (round < r->nodes[i].n_points)
            first = &r->nodes[i].points[round].contributors;
    names_cell(r, first, out);
}

static void excluded_cell(const struct pfl_record *r, size_t round, struct pfl_buf *out)
{
    struct pfl_strs who = {0};
    for (size_t i = 0; i < r->excluded.n; i++)
        if (r->excluded.items[i].round == (int32_t)round)
            pfl_strs_add_once(&who, r->excluded.items[i].address);
    names_cell(r, &who, out);
    pfl_strs_deinit(&who);
}

static void model_cell(const struct pfl_record *r, size_t round, struct pfl_buf *out)
{
    const char *first = NULL;
    size_t n = 0;
    bool same = true;
    for (size_t i = 0; i < r->n_nodes; i++) {
        const struct pfl_rec_node *node = &r->nodes[i];
        if (round >= node->n_points || !node->points[round].digest[0])
            continue;
        if (first && !pfl_streq(first, node->points[round].digest))
            same = false;
        first = first ? first : node->points[round].digest;
        n++;
    }
    if (!first) {
        pfl_buf_append_str(out, "<td>–</td>");
        return;
    }
    pfl_buf_append_str(out, "<td class=\"w\">");
    if (same) {
        char text[20];
        (void)snprintf(text, sizeof(text), "%.16s", first);
        pfl_buf_append_str(out, "<code>");
        pfl_html_text(out, text);
        pfl_buf_printf(out, "</code> on %zu of %zu</td>", n, r->n_nodes);
    } else {
        pfl_buf_append_str(out, "differs</td>");
    }
}

static double round_end(const struct pfl_record *r, size_t round)
{
    double end = NAN;
    for (size_t i = 0; i < r->n_nodes; i++)
        if (round < r->nodes[i].n_points && r->nodes[i].points[round].has_end)
            end = fmax(isnan(end) ? 0 : end, r->nodes[i].points[round].end_t);
    return end;
}

void pfl_report_rounds(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_append_str(
        out, "<h2>Rounds</h2>\n<div class=\"scroll\"><table><thead><tr><th class=\"n\">Round</th><th>Train set</th>"
             "<th>Went into the model</th><th>Left out</th><th>Model after it</th><th class=\"n\">Time</th></tr></thead>\n");
    double before = r->learn_t;
    for (size_t round = 0; round < r->rounds; round++) {
        static const struct pfl_strs none;
        char text[32] = "–";
        double end = round_end(r, round);
        pfl_buf_printf(out, "<tr><td class=\"n\">%zu</td>", round + 1);
        names_cell(r, round < r->n_train_sets ? &r->train_sets[round] : &none, out);
        contributors_cell(r, round, out);
        excluded_cell(r, round, out);
        model_cell(r, round, out);
        if (!isnan(end) && before > 0)
            (void)snprintf(text, sizeof(text), "%.2f s", fmax(end - before, 0));
        cell(out, "n", text);
        pfl_buf_append_str(out, "</tr>\n");
        before = isnan(end) ? before : end;
    }
    pfl_buf_append_str(out, "</table></div>\n");
}

/* ---- links ---- */

/* SHA-256 in hex or with colons: the first eight bytes are enough to compare by eye. */
static void short_fingerprint(const char *full, char *out, size_t out_size)
{
    size_t want = strchr(full, ':') ? 23 : 16;
    (void)snprintf(out, out_size, strlen(full) > want ? "%.*s…" : "%.*s", (int)want, full);
}

static void link_row(const struct pfl_record *r, const struct pfl_rec_link *l, struct pfl_buf *out)
{
    char text[40];
    pfl_buf_append_str(out, "<tr>");
    cell(out, "w", l->node);
    cell(out, "w", pfl_record_name_of(r, l->address));
    cell(out, "w m", l->identity);
    short_fingerprint(l->fingerprint ? l->fingerprint : "", text, sizeof(text));
    cell(out, "m", text);
    cell(out, "w", l->tls);
    cell(out, "w m", l->cipher);
    cell(out, "w", l->expires);
    const struct pfl_rec_node *n = pfl_record_node(r, l->node);
    const char *state = n && n->lost ? "until the node was lost" : l->lost ? l->lost : "held to the end";
    cell(out, "", state);
    pfl_buf_append_str(out, "</tr>\n");
}

static int by_ends(const void *a, const void *b)
{
    const struct pfl_rec_link *const *x = a, *const *y = b;
    int order = strverscmp((*x)->node, (*y)->node);
    return order ? order : strverscmp((*x)->address, (*y)->address);
}

void pfl_report_links(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_append_str(out, "<h2>Links</h2>\n");
    pfl_buf_append_str(out,
                       r->tls ? "<p class=\"note\">Each row is what one node verified about a neighbour: the certificate that the "
                                "neighbour proved to own, and how the connection to it was protected.</p>\n"
                       : r->memory ? "<p class=\"note\">Links in memory: there was nobody to show a certificate to.</p>\n"
                                   : "<p class=\"note\">Plaintext links: no certificate was asked for.</p>\n");
    if (r->n_links > LINKS_OPEN_MAX)
        pfl_buf_printf(out, "<details><summary>%zu links</summary>", r->n_links);
    pfl_buf_append_str(
        out, "<div class=\"scroll\"><table><thead><tr><th>Node</th><th>Neighbour</th><th>Certificate identity</th>"
             "<th>Fingerprint (SHA-256)</th><th>Protocol</th><th>Cipher</th><th>Valid until</th><th>Link</th></tr></thead>\n");
    PFL_AUTO(pfl_freep) const struct pfl_rec_link **sorted = pfl_xcalloc(r->n_links + 1, sizeof(*sorted));
    for (size_t i = 0; i < r->n_links; i++)
        sorted[i] = &r->links[i];
    qsort(sorted, r->n_links, sizeof(*sorted), by_ends);
    for (size_t i = 0; i < r->n_links; i++)
        link_row(r, sorted[i], out);
    if (r->n_links == 0)
        pfl_buf_append_str(out, "<tr><td colspan=\"8\">No link was made.</td></tr>\n");
    pfl_buf_append_str(out, "</table></div>\n");
    if (r->n_links > LINKS_OPEN_MAX)
        pfl_buf_append_str(out, "</details>\n");
}

/* ---- refused, left out, warnings ---- */

static void after_start(const struct pfl_record *r, double t, struct pfl_buf *out)
{
    char text[32] = "";
    if (t > 0 && r->start_t > 0)
        (void)snprintf(text, sizeof(text), "%.1f s", fmax(t - r->start_t, 0));
    cell(out, "n", text);
}

void pfl_report_refusals(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_append_str(out, "<h2>Refused</h2>\n");
    if (r->n_refusals == 0) {
        pfl_buf_append_str(out, "<p class=\"sub\">Nobody was refused.</p>\n");
        return;
    }
    pfl_buf_append_str(out,
                       "<div class=\"scroll\"><table><thead><tr><th class=\"n\">At</th><th>By</th><th>Who</th><th>From</th><th>Why"
                       "</th></tr></thead>\n");
    for (size_t i = 0; i < r->n_refusals; i++) {
        const struct pfl_rec_refusal *x = &r->refusals[i];
        pfl_buf_append_str(out, "<tr>");
        after_start(r, x->t, out);
        cell(out, "w", x->by);
        cell(out, "m", x->peer);
        cell(out, "w m", x->remote);
        cell(out, "", x->reason);
        pfl_buf_append_str(out, "</tr>\n");
    }
    pfl_buf_append_str(out, "</table></div>\n");
}

static void remarks_table(const struct pfl_record *r, const struct pfl_rec_remarks *l, const char *title, struct pfl_buf *out)
{
    if (l->n == 0)
        return;
    pfl_buf_printf(
        out,
        "<h2>%s</h2>\n<div class=\"scroll\"><table><thead><tr><th class=\"n\">At</th><th class=\"n\">Round</th><th>Node says"
        "</th><th>About</th><th>What</th></tr></thead>\n",
        title);
    for (size_t i = 0; i < l->n; i++) {
        const struct pfl_rec_remark *x = &l->items[i];
        pfl_buf_append_str(out, "<tr>");
        after_start(r, x->t, out);
        if (x->round >= 0)
            pfl_buf_printf(out, "<td class=\"n\">%d</td>", (int)x->round + 1);
        else
            cell(out, "n", "");
        cell(out, "w", x->node);
        cell(out, "w", pfl_record_name_of(r, x->address));
        cell(out, "", x->text);
        pfl_buf_append_str(out, "</tr>\n");
    }
    if (l->dropped)
        pfl_buf_printf(out, "<tr><td colspan=\"5\">and %zu more</td></tr>\n", l->dropped);
    pfl_buf_append_str(out, "</table></div>\n");
}

void pfl_report_remarks(const struct pfl_record *r, struct pfl_buf *out)
{
    remarks_table(r, &r->excluded, "Left out of a round", out);
    remarks_table(r, &r->warnings, "Warnings", out);
}
