/* SPDX-License-Identifier: Apache-2.0 */
/* Where the time went: one row per node, one block per stage. A span lasts from its stage event to the node's next one; training
 * ends with the fit, and what follows in its stage is waiting for the others. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/run_chart.h"
#include "runtime/run_report_impl.h"

enum { W = 560, LEFT = 58, RIGHT = 14, ROW = 18, GAP = 7, TOP = 6, BOTTOM = 40 };

/* The stages that a round is made of, in their order, each with the colour class of its place in this list. */
static const struct {
    const char *stage, *what;
} stages[] = {
    {"training", "training"}, {"evaluating", "evaluating"},       {"aggregating", "aggregating"},    {"voting", "voting"},
    {"waiting", "waiting"},   {"syncing", "spreading the model"}, {"starting", "getting the model"}, {"finishing", "finishing"},
};

static int stage_index(const char *stage)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(stages); i++)
        if (pfl_streq(stages[i].stage, stage))
            return (int)i;
    return -1;
}

static double span_end(const struct pfl_record *r, size_t i, double last)
{
    for (size_t k = i + 1; k < r->stages.n; k++)
        if (pfl_streq(r->stages.items[k].node, r->stages.items[i].node))
            return r->stages.items[k].t;
    const struct pfl_rec_node *n = pfl_record_node(r, r->stages.items[i].node);
    if (n && n->lost_t > 0)
        return n->lost_t;
    return n && n->final_t > 0 ? n->final_t : last;
}

static void spans(const struct pfl_record *r, struct pfl_buf *out, double t0, double t1)
{
    double scale = (W - LEFT - RIGHT) / (t1 - t0);
    for (size_t i = 0; i < r->stages.n; i++) {
        const struct pfl_rec_remark *s = &r->stages.items[i];
        int at = stage_index(s->text);
        double from = fmax(s->t, t0), to = fmin(span_end(r, i, t1), t1);
        size_t row = (size_t)(pfl_record_node(r, s->node) - r->nodes);
        if (at < 0 || to <= from)
            continue;
        pfl_buf_printf(out, "<rect class=\"g%d\" x=\"%.2f\" y=\"%zu\" width=\"%.2f\" height=\"%d\"><title>", at,
                       LEFT + (from - t0) * scale, TOP + row * (ROW + GAP), fmax((to - from) * scale, 0.3), ROW);
        pfl_html_text(out, s->node);
        pfl_buf_printf(out, ", round %d: %s %.2f s</title></rect>\n", (int)s->round + 1, stages[at].what, to - from);
    }
}

static void axis(const struct pfl_record *r, struct pfl_buf *out, double seconds)
{
    double raw = seconds / 6, p = pow(10, floor(log10(raw))), m = raw / p, step = (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10) * p;
    size_t bottom = TOP + r->n_nodes * (ROW + GAP);
    for (double s = 0; s <= seconds * 1.0001; s += step) {
        double x = LEFT + (W - LEFT - RIGHT) * s / seconds;
        pfl_buf_printf(
            out,
            "<path class=\"grid\" d=\"M%.1f %dV%zu\"/><text class=\"t\" x=\"%.1f\" y=\"%zu\" text-anchor=\"middle\">%.*f</text>\n",
            x, TOP, bottom, x, bottom + 14,
            step >= 1     ? 0
            : step >= 0.1 ? 1
                          : 2,
            s);
    }
    pfl_buf_printf(out, "<text class=\"t\" x=\"%d\" y=\"%zu\" text-anchor=\"middle\">seconds of learning</text>\n",
                   LEFT + (W - LEFT - RIGHT) / 2, bottom + 32);
    for (size_t i = 0; i < r->n_nodes; i++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "%.8s%s", r->nodes[i].name, strlen(r->nodes[i].name) > 8 ? "…" : "");
        pfl_buf_printf(out, "<text class=\"t\" x=\"%d\" y=\"%zu\" text-anchor=\"end\">", LEFT - 8, TOP + i * (ROW + GAP) + 13);
        pfl_html_text(out, name);
        pfl_buf_append_str(out, "</text>\n");
    }
}

static bool stage_occurs(const struct pfl_record *r, const char *stage)
{
    for (size_t i = 0; i < r->stages.n; i++)
        if (pfl_streq(r->stages.items[i].text, stage))
            return true;
    return false;
}

void pfl_report_timeline(const struct pfl_record *r, struct pfl_buf *out)
{
    double seconds = pfl_record_learn_s(r), t0 = r->learn_t;
    if (seconds <= 0 || r->stages.n == 0)
        return;
    size_t height = TOP + r->n_nodes * (ROW + GAP) + BOTTOM;
    pfl_buf_printf(out,
                   "<figure><figcaption>Where the time went</figcaption>\n<svg viewBox=\"0 0 %d %zu\" role=\"img\" "
                   "aria-label=\"Where the time went\">\n",
                   W, height);
    axis(r, out, seconds);
    spans(r, out, t0, t0 + seconds);
    pfl_buf_append_str(out, "</svg>\n<p class=\"legend\">");
    for (size_t i = 0; i < PFL_ARRAY_LEN(stages); i++)
        if (stage_occurs(r, stages[i].stage))
            pfl_buf_printf(out, "<span><i class=\"g%zu\"></i>%s</span>", i, stages[i].what);
    pfl_buf_append_str(out, "</p></figure>\n");
}
