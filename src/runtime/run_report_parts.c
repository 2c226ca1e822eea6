/* SPDX-License-Identifier: Apache-2.0 */
/* Who got what of the training set: a picture for the eye, a table for the numbers. */
#include "runtime/run_chart.h"
#include "runtime/run_report_impl.h"

enum { CELL_W = 26, CELL_H = 16, LEFT = 74, RIGHT = 150, TOP = 22, BAR_W = 120, TABLE_OPEN_MAX = 12 };

static size_t total_of(const struct pfl_record *r, size_t node)
{
    size_t sum = 0;
    for (unsigned c = 0; c < r->n_classes; c++)
        sum += r->parts[node * r->n_classes + c];
    return sum;
}

static void cells(const struct pfl_record *r, size_t node, size_t most, size_t most_total, struct pfl_buf *out)
{
    unsigned y = TOP + (unsigned)node * CELL_H;
    size_t total = total_of(r, node);
    pfl_buf_printf(out, "<text class=\"t\" x=\"%d\" y=\"%u\" text-anchor=\"end\">", LEFT - 8, y + 12);
    pfl_html_text(out, r->nodes[node].name);
    pfl_buf_append_str(out, "</text>");
    for (unsigned c = 0; c < r->n_classes; c++) {
        size_t n = r->parts[node * r->n_classes + c];
        if (n > 0)
            pfl_buf_printf(out,
                           "<rect class=\"b0\" x=\"%u\" y=\"%u\" width=\"%d\" height=\"%d\" fill-opacity=\"%.3f\"><title>%zu of "
                           "class %u</title></rect>",
                           LEFT + c * CELL_W, y, CELL_W - 1, CELL_H - 1, 0.08 + 0.92 * (double)n / (double)most, n, c);
    }
    unsigned x = LEFT + r->n_classes * CELL_W + 12;
    double width = most_total ? (double)BAR_W * (double)total / (double)most_total : 0.0;
    pfl_buf_printf(out, "<rect class=\"b1\" x=\"%u\" y=\"%u\" width=\"%.1f\" height=\"%d\"><title>%zu samples</title></rect>\n", x,
                   y + 3, width, CELL_H - 7, total);
}

static void picture(const struct pfl_record *r, struct pfl_buf *out)
{
    size_t most = 1, most_total = 1;
    for (size_t i = 0; i < r->n_nodes; i++) {
        for (unsigned c = 0; c < r->n_classes; c++)
            most = r->parts[i * r->n_classes + c] > most ? r->parts[i * r->n_classes + c] : most;
        most_total = total_of(r, i) > most_total ? total_of(r, i) : most_total;
    }
    unsigned width = LEFT + r->n_classes * CELL_W + RIGHT, height = TOP + (unsigned)r->n_nodes * CELL_H + 6;
    pfl_buf_append_str(
        out, "<figure class=\"wide\"><figcaption>Samples of each class per node <small>darker: more; the bar: all of the node's "
             "samples</small></figcaption>");
    pfl_buf_printf(out, "<svg viewBox=\"0 0 %u %u\" role=\"img\" aria-label=\"samples of each class per node\">\n", width, height);
    for (unsigned c = 0; c < r->n_classes; c++)
        pfl_buf_printf(out, "<text class=\"t\" x=\"%u\" y=\"14\" text-anchor=\"middle\">%u</text>", LEFT + c * CELL_W + CELL_W / 2,
                       c);
    for (size_t i = 0; i < r->n_nodes; i++)
        cells(r, i, most, most_total, out);
    pfl_buf_append_str(out, "</svg></figure>\n");
}

static void table(const struct pfl_record *r, struct pfl_buf *out)
{
    pfl_buf_printf(out, "<details%s><summary>The numbers</summary><div class=\"scroll\"><table><thead><tr><th>Node</th>",
                   r->n_nodes <= TABLE_OPEN_MAX ? " open" : "");
    for (unsigned c = 0; c < r->n_classes; c++)
        pfl_buf_printf(out, "<th class=\"n\">%u</th>", c);
    pfl_buf_append_str(out, "<th class=\"n\">all</th></tr></thead>\n");
    for (size_t i = 0; i < r->n_nodes; i++) {
        pfl_buf_append_str(out, "<tr><td class=\"w\">");
        pfl_html_text(out, r->nodes[i].name);
        pfl_buf_append_str(out, "</td>");
        for (unsigned c = 0; c < r->n_classes; c++)
            pfl_buf_printf(out, "<td class=\"n\">%zu</td>", r->parts[i * r->n_classes + c]);
        pfl_buf_printf(out, "<td class=\"n\">%zu</td></tr>\n", total_of(r, i));
    }
    pfl_buf_append_str(out, "</table></div></details>\n");
}

void pfl_report_parts(const struct pfl_record *r, struct pfl_buf *out)
{
    if (!r->parts || r->n_nodes == 0)
        return;
    pfl_buf_append_str(out, "<h2>Who got what</h2>\n<p class=\"note\">Training samples after the partition ");
    pfl_html_text(out, r->partition);
    pfl_buf_append_str(out, ".</p>\n");
    picture(r, out);
    table(r, out);
}
