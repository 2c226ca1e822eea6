/* SPDX-License-Identifier: Apache-2.0 */
/* The results of variations side by side. Runs that differ in their seed alone are one line of the second table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "runtime/run_chart.h"
#include "runtime/run_report_style.h"
#include "runtime/variations.h"

static const char *state_of(const struct pfl_variation *x)
{
    return !x->done ? "no result" : !x->finished ? "not finished" : x->skipped ? "from before" : "done";
}

static void value(enum pfl_chart_unit unit, double v, char out[32])
{
    if (isnan(v))
        (void)snprintf(out, 32, "-");
    else
        pfl_chart_value(unit, v, out, 32);
}

/* ---- over seeds ---- */

struct group {
    const char *name;
    size_t n, n_reached;
    double mean, deviation, reached; /* of the final accuracy; reached: mean of those that did */
};

static struct group group_at(const struct pfl_variations *v, size_t first)
{
    struct group g = {.name = v->items[first].group};
    double sum = 0.0, squares = 0.0, reached = 0.0;
    for (size_t i = first; i < v->n; i++) {
        const struct pfl_variation *x = &v->items[i];
        if (!pfl_streq(x->group, g.name) || isnan(x->accuracy))
            continue;
        g.n++;
        sum += x->accuracy;
        squares += x->accuracy * x->accuracy;
        if (!isnan(x->reached)) {
            g.n_reached++;
            reached += x->reached;
        }
    }
    g.mean = g.n ? sum / (double)g.n : NAN;
    g.deviation = g.n > 1 ? sqrt(fmax(0.0, (squares - sum * g.mean) / (double)(g.n - 1))) : NAN;
    g.reached = g.n_reached ? reached / (double)g.n_reached : NAN;
    return g;
}

static bool is_first_of_group(const struct pfl_variations *v, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (pfl_streq(v->items[k].group, v->items[i].group))
            return false;
    }
    return true;
}

static bool has_seeds(const struct pfl_variations *v)
{
    for (size_t i = 1; i < v->n; i++) {
        if (!is_first_of_group(v, i))
            return true;
    }
    return false;
}

/* ---- text ---- */

void pfl_variations_table(const struct pfl_variations *v, struct pfl_buf *out)
{
    int width = 9;
    for (size_t i = 0; i < v->n; i++)
        width = (int)strlen(v->items[i].label) > width ? (int)strlen(v->items[i].label) : width;
    pfl_buf_printf(out, "%-*s %10s %10s %8s %7s %9s %9s%s  %s\n", width, "variation", "accuracy", "worst node", "loss", "rounds",
                   "time", "sent", isnan(v->target) ? "" : "  reached", "state");
    for (size_t i = 0; i < v->n; i++) {
        const struct pfl_variation *x = &v->items[i];
        char accuracy[32], worst[32], loss[32], bytes[32], reached[32] = "";
        value(PFL_CHART_PERCENT, x->accuracy, accuracy);
        value(PFL_CHART_PERCENT, x->worst, worst);
        value(PFL_CHART_NUMBER, x->loss, loss);
        value(PFL_CHART_BYTES, x->done ? x->bytes_sent : NAN, bytes);
        if (!isnan(v->target) && isnan(x->reached))
            (void)snprintf(reached, sizeof(reached), "%9s", "-");
        else if (!isnan(v->target))
            (void)snprintf(reached, sizeof(reached), "%9.0f", x->reached);
        pfl_buf_printf(out, "%-*s %10s %10s %8s %7u %7.1f s %9s%s  %s\n", width, x->label, accuracy, worst, loss, x->rounds,
                       x->wall_s, bytes, reached, state_of(x));
    }
    for (size_t i = 0; has_seeds(v) && i < v->n; i++) {
        struct group g = group_at(v, i);
        if (is_first_of_group(v, i))
            pfl_buf_printf(out, "over %zu seed%s: %s%s%.2f %% +- %.2f\n", g.n, g.n == 1 ? "" : "s", g.name, g.name[0] ? ": " : "",
                           100.0 * g.mean, isnan(g.deviation) ? 0.0 : 100.0 * g.deviation);
    }
}

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

void pfl_variations_jsonl(const struct pfl_variations *v, struct pfl_buf *out)
{
    for (size_t i = 0; i < v->n; i++) {
        const struct pfl_variation *x = &v->items[i];
        json_t *curve = json_array();
        for (size_t k = 0; k < x->n_curve; k++)
            json_array_append_new(curve, real_or_null(x->curve[k]));
        json_t *o = json_pack("{s:s, s:s, s:b, s:b, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "variation", x->label, "folder",
                              x->folder, "finished", x->finished, "skipped", x->skipped, "nodes", (int)x->nodes, "rounds",
                              (int)x->rounds, "accuracy", real_or_null(x->accuracy), "worst_accuracy", real_or_null(x->worst),
                              "loss", real_or_null(x->loss), "wall_s", real_or_null(x->wall_s), "bytes_sent",
                              real_or_null(x->bytes_sent), "reached_round", real_or_null(x->reached), "accuracy_by_round", curve);
        char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        pfl_buf_printf(out, "%s\n", text ? text : "{}");
        free(text);
        json_decref(o);
    }
}

/* ---- the page ---- */

static void cell(struct pfl_buf *out, const char *class, const char *text)
{
    pfl_buf_printf(out, "<td class=\"%s\">", class);
    pfl_html_text(out, text);
    pfl_buf_append_str(out, "</td>");
}

static void rows(const struct pfl_variations *v, struct pfl_buf *out)
{
    pfl_buf_append_str(
        out,
        "<div class=\"scroll\"><table><thead><tr><th>Variation</th><th class=\"n\">Accuracy</th><th class=\"n\">Worst node</th>"
        "<th class=\"n\">Loss</th><th class=\"n\">Rounds</th>");
    if (!isnan(v->target))
        pfl_buf_printf(out, "<th class=\"n\">Round of %.4g %%</th>", 100.0 * v->target);
    pfl_buf_append_str(out, "<th class=\"n\">Time</th><th class=\"n\">Sent</th><th>State</th></tr></thead>\n");
    for (size_t i = 0; i < v->n; i++) {
        const struct pfl_variation *x = &v->items[i];
        char text[32];
        pfl_buf_append_str(out, "<tr>");
        cell(out, "w", x->label);
        value(PFL_CHART_PERCENT, x->accuracy, text);
        cell(out, "n", text);
        value(PFL_CHART_PERCENT, x->worst, text);
        cell(out, "n", text);
        value(PFL_CHART_NUMBER, x->loss, text);
        cell(out, "n", text);
        pfl_buf_printf(out, "<td class=\"n\">%u</td>", x->rounds);
        if (!isnan(v->target))
            value(PFL_CHART_COUNT, x->reached, text), cell(out, "n", text);
        pfl_buf_printf(out, "<td class=\"n\">%.1f s</td>", x->wall_s);
        value(PFL_CHART_BYTES, x->done ? x->bytes_sent : NAN, text);
        cell(out, "n", text);
        cell(out, "w", state_of(x));
        pfl_buf_append_str(out, "</tr>\n");
    }
    pfl_buf_append_str(out, "</table></div>\n");
}

static void seed_rows(const struct pfl_variations *v, struct pfl_buf *out)
{
    if (!has_seeds(v))
        return;
    pfl_buf_append_str(out,
                       "<h2>Over seeds</h2>\n<div class=\"scroll\"><table><thead><tr><th>Variation</th><th class=\"n\">Runs</th>"
                       "<th class=\"n\">Mean accuracy</th><th class=\"n\">Standard deviation</th></tr></thead>\n");
    for (size_t i = 0; i < v->n; i++) {
        struct group g = group_at(v, i);
        char text[32];
        if (!is_first_of_group(v, i))
            continue;
        pfl_buf_append_str(out, "<tr>");
        cell(out, "w", g.name[0] ? g.name : "all");
        pfl_buf_printf(out, "<td class=\"n\">%zu</td>", g.n);
        value(PFL_CHART_PERCENT, g.mean, text);
        cell(out, "n", text);
        value(PFL_CHART_PERCENT, g.deviation, text);
        cell(out, "n", text);
        pfl_buf_append_str(out, "</tr>\n");
    }
    pfl_buf_append_str(out, "</table></div>\n");
}

static void charts(const struct pfl_variations *v, struct pfl_buf *out)
{
    size_t n_x = 1;
    for (size_t i = 0; i < v->n; i++)
        n_x = v->items[i].n_curve > n_x ? v->items[i].n_curve : n_x;
    PFL_AUTO(pfl_freep) double *values = pfl_xcalloc(n_x * v->n, sizeof(*values));
    PFL_AUTO(pfl_freep) double *finals = pfl_xcalloc(v->n, sizeof(*finals));
    PFL_AUTO(pfl_freep) struct pfl_chart_series *series = pfl_xcalloc(v->n, sizeof(*series));
    for (size_t i = 0; i < v->n; i++) {
        const struct pfl_variation *x = &v->items[i];
        for (size_t k = 0; k < n_x; k++)
            values[i * n_x + k] = k < x->n_curve ? x->curve[k] : NAN;
        series[i] = (struct pfl_chart_series){x->label, values + i * n_x};
        finals[i] = x->accuracy;
    }
    const struct pfl_chart_series last = {"final accuracy", finals};
    pfl_buf_append_str(out, "<div class=\"charts\">\n");
    pfl_chart_lines(out, &(struct pfl_chart){.title = "Test accuracy",
                                             .note = "mean over the nodes that were measured; 0 is the initial model",
                                             .x_label = "after round",
                                             .n_x = n_x,
                                             .n_series = v->n,
                                             .series = series,
                                             .unit = PFL_CHART_PERCENT});
    pfl_chart_bars(out, &(struct pfl_chart){.title = "Final accuracy",
                                            .note = "by the table's line",
                                            .x_label = "line",
                                            .x_first = 1,
                                            .n_x = v->n,
                                            .n_series = 1,
                                            .series = &last,
                                            .unit = PFL_CHART_PERCENT});
    pfl_buf_append_str(out, "</div>\n");
}

void pfl_variations_html(const struct pfl_variations *v, struct pfl_buf *out)
{
    pfl_buf_append_str(
        out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>");
    pfl_html_text(out, v->title);
    pfl_buf_append_str(out, " – p2pfl variations</title>\n<style>\n" PFL_REPORT_STYLE "</style>\n</head>\n<body>\n<main>\n<h1>");
    pfl_html_text(out, v->title);
    pfl_buf_printf(out, "</h1>\n<p class=\"sub\">%zu variations</p>\n<h2>Results</h2>\n", v->n);
    rows(v, out);
    seed_rows(v, out);
    pfl_buf_append_str(out, "<h2>Side by side</h2>\n");
    charts(v, out);
    pfl_buf_append_str(out, "</main>\n</body>\n</html>\n");
}
