/* SPDX-License-Identifier: Apache-2.0 */
/* Drawn by hand, because a report must open in ten years and without a network. All coordinates are in the units of one view box
 * that the page scales. */
#include "runtime/run_chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum {
    W = 560,
    H = 280,
    LEFT = 58,
    RIGHT = 14,
    TOP = 12,
    BOTTOM = 42,
    COLOURS = 8,
    TICKS_WANTED = 5,
    X_LABELS_MAX = 11,
    MARKERS_MAX = 30 /* places; with more, points would hide the line */
};

struct scale {
    double min, max, step;
};

void pfl_html_text(struct pfl_buf *out, const char *s)
{
    size_t len = s ? strlen(s) : 0;
    PFL_AUTO(pfl_freep) char *safe = NULL;
    if (!pfl_utf8_valid(s ? s : "", len)) {
        safe = pfl_xmalloc(4 * len + 8);
        s = pfl_quote(s, len, safe, 4 * len + 8);
        len = strlen(s);
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)s[i];
        if (ch == '<')
            pfl_buf_append_str(out, "&lt;");
        else if (ch == '>')
            pfl_buf_append_str(out, "&gt;");
        else if (ch == '&')
            pfl_buf_append_str(out, "&amp;");
        else if (ch == '"')
            pfl_buf_append_str(out, "&quot;");
        else if (ch == '\'')
            pfl_buf_append_str(out, "&#39;");
        else if ((ch < 0x20 && ch != '\n' && ch != '\t') || ch == 0x7f)
            pfl_buf_append_str(out, "\xef\xbf\xbd");
        else
            pfl_buf_append(out, &s[i], 1);
    }
}

static void grouped(uint64_t v, char *out, size_t out_size)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)v);
    size_t at = 0;
    for (int i = 0; i < len && at + 2 < out_size; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
}

static void bytes_text(double v, char *out, size_t out_size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t u = 0;
    while (v >= 1000 && u + 1 < PFL_ARRAY_LEN(units)) {
        v /= 1000;
        u++;
    }
    (void)snprintf(out, out_size, v >= 100 || u == 0 || v == floor(v) ? "%.0f %s" : "%.1f %s", v, units[u]);
}

void pfl_chart_value(enum pfl_chart_unit unit, double v, char *out, size_t out_size)
{
    if (isnan(v))
        (void)snprintf(out, out_size, "–");
    else if (unit == PFL_CHART_PERCENT)
        (void)snprintf(out, out_size, "%.1f %%", 100 * v);
    else if (unit == PFL_CHART_BYTES)
        bytes_text(v, out, out_size);
    else if (unit == PFL_CHART_COUNT)
        grouped(v > 0 && v < 1e18 ? (uint64_t)(v + 0.5) : 0, out, out_size);
    else
        (void)snprintf(out, out_size, "%.3f", v);
}

/* What stands at the axis: as many decimals as the step needs. */
static void tick_text(enum pfl_chart_unit unit, double v, double step, char *out, size_t out_size)
{
    double s = unit == PFL_CHART_PERCENT ? 100 * step : step;
    int decimals = s >= 1 ? 0 : s >= 0.1 ? 1 : s >= 0.01 ? 2 : 3;
    if (unit == PFL_CHART_PERCENT)
        (void)snprintf(out, out_size, "%.*f %%", decimals, 100 * v);
    else if (unit == PFL_CHART_NUMBER)
        (void)snprintf(out, out_size, "%.*f", decimals, v);
    else
        pfl_chart_value(unit, v, out, out_size);
}

/* Steps of 1, 2 or 5 times a power of ten; limits on whole steps. */
static struct scale scale_of(double lo, double hi)
{
    if (!(hi > lo)) {
        double pad = fabs(hi) > 0 ? fabs(hi) * 0.1 : 1;
        lo -= lo > 0 && lo < pad ? lo : pad;
        hi += pad;
    }
    double raw = (hi - lo) / TICKS_WANTED, p = pow(10, floor(log10(raw))), m = raw / p;
    double step = (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10) * p;
    return (struct scale){floor(lo / step + 1e-9) * step, ceil(hi / step - 1e-9) * step, step};
}

static double y_at(const struct scale *s, double v)
{
    return TOP + (H - TOP - BOTTOM) * (s->max - v) / (s->max - s->min);
}

static double x_at(const struct pfl_chart *c, double i)
{
    double inner = W - LEFT - RIGHT;
    return c->n_x > 1 ? LEFT + inner * i / (double)(c->n_x - 1) : LEFT + inner / 2;
}

static void figure_open(struct pfl_buf *out, const struct pfl_chart *c)
{
    pfl_buf_append_str(out, "<figure><figcaption>");
    pfl_html_text(out, c->title);
    if (c->note) {
        pfl_buf_append_str(out, " <small>");
        pfl_html_text(out, c->note);
        pfl_buf_append_str(out, "</small>");
    }
    pfl_buf_printf(out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", W, H);
    pfl_html_text(out, c->title);
    pfl_buf_append_str(out, "\">\n");
}

static void y_axis(struct pfl_buf *out, const struct pfl_chart *c, const struct scale *s)
{
    for (double v = s->min; v <= s->max + s->step / 2; v += s->step) {
        char text[32];
        double y = y_at(s, v);
        tick_text(c->unit, fabs(v) < s->step / 1e6 ? 0 : v, s->step, text, sizeof(text));
        pfl_buf_printf(
            out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"t\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
            LEFT, y, W - RIGHT, LEFT - 8, y + 4, text);
    }
}

static void x_axis(struct pfl_buf *out, const struct pfl_chart *c, double (*at)(const struct pfl_chart *, double))
{
    size_t step = 1;
    static const size_t steps[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000};
    for (size_t i = 0; i < PFL_ARRAY_LEN(steps) && c->n_x / step >= X_LABELS_MAX; i++)
        step = steps[i];
    for (size_t i = 0; i < c->n_x; i++)
        if ((i + (size_t)c->x_first) % step == 0 || c->n_x == 1)
            pfl_buf_printf(out, "<text class=\"t\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%zu</text>\n", at(c, (double)i),
                           H - BOTTOM + 18, i + (size_t)c->x_first);
    pfl_buf_printf(out, "<text class=\"t\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">", LEFT + (W - LEFT - RIGHT) / 2, H - 6);
    pfl_html_text(out, c->x_label);
    pfl_buf_append_str(out, "</text>\n");
}

static bool same_values(const struct pfl_chart *c, size_t a, size_t b)
{
    for (size_t i = 0; i < c->n_x; i++) {
        double u = c->series[a].y[i], v = c->series[b].y[i];
        if (isnan(u) != isnan(v) || (!isnan(u) && u != v))
            return false;
    }
    return true;
}

/* group[i] is the first series with the values of series i. */
static size_t group_equal(const struct pfl_chart *c, size_t *group)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_series; i++) {
        group[i] = i;
        for (size_t j = 0; j < i && group[i] == i; j++)
            if (group[j] == j && same_values(c, i, j))
                group[i] = j;
        n += group[i] == i;
    }
    return n;
}

static void legend_entry(struct pfl_buf *out, const struct pfl_chart *c, const size_t *group, size_t first, size_t colour)
{
    size_t members = 0, shown = 0;
    for (size_t i = first; i < c->n_series; i++)
        members += group[i] == first;
    pfl_buf_printf(out, "<span><i class=\"b%zu d%zu\"></i>", colour % COLOURS, colour / COLOURS % 2);
    for (size_t i = first; i < c->n_series && shown < 4; i++) {
        if (group[i] != first)
            continue;
        if (shown++)
            pfl_buf_append_str(out, ", ");
        pfl_html_text(out, c->series[i].label);
    }
    if (members > shown)
        pfl_buf_printf(out, " and %zu more", members - shown);
    pfl_buf_printf(out, "%s</span>", members > 1 ? " (same values)" : "");
}

/* Solid where values stand side by side, faint across the rounds that a node sat out. */
static void one_line(struct pfl_buf *out, const struct pfl_chart *c, const struct scale *s, size_t series, size_t colour)
{
    const double *y = c->series[series].y;
    pfl_buf_printf(out, "<path class=\"line c%zu d%zu\" d=\"", colour % COLOURS, colour / COLOURS % 2);
    for (size_t i = 0; i < c->n_x; i++)
        if (!isnan(y[i]))
            pfl_buf_printf(out, "%c%.1f %.1f", i > 0 && !isnan(y[i - 1]) ? 'L' : 'M', x_at(c, (double)i), y_at(s, y[i]));
    pfl_buf_append_str(out, "\"/><path class=\"line gap c");
    pfl_buf_printf(out, "%zu\" d=\"", colour % COLOURS);
    for (size_t i = 0, last = 0; i < c->n_x; i++) {
        if (isnan(y[i]))
            continue;
        if (i > last + 1 && !isnan(y[last]))
            pfl_buf_printf(out, "M%.1f %.1fL%.1f %.1f", x_at(c, (double)last), y_at(s, y[last]), x_at(c, (double)i), y_at(s, y[i]));
        last = i;
    }
    pfl_buf_append_str(out, "\"/>\n");
    if (c->n_x > MARKERS_MAX)
        return;
    for (size_t i = 0; i < c->n_x; i++) {
        char text[32];
        if (isnan(y[i]))
            continue;
        pfl_chart_value(c->unit, y[i], text, sizeof(text));
        pfl_buf_printf(out, "<circle class=\"b%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>", colour % COLOURS, x_at(c, (double)i),
                       y_at(s, y[i]));
        pfl_html_text(out, c->series[series].label);
        pfl_buf_printf(out, ", %s %zu: %s</title></circle>\n", c->x_label, i + (size_t)c->x_first, text);
    }
}

/* False where there is nothing to draw. */
static bool range_of(const struct pfl_chart *c, double *lo, double *hi)
{
    *lo = INFINITY;
    *hi = -INFINITY;
    for (size_t s = 0; s < c->n_series; s++) {
        for (size_t i = 0; i < c->n_x; i++) {
            double v = c->series[s].y[i];
            if (isfinite(v)) {
                *lo = fmin(*lo, v);
                *hi = fmax(*hi, v);
            }
        }
    }
    return *lo <= *hi;
}

static void empty_chart(struct pfl_buf *out)
{
    pfl_buf_printf(out, "<text class=\"t\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">no values</text>\n</svg></figure>\n", W / 2,
                   H / 2);
}

void pfl_chart_lines(struct pfl_buf *out, const struct pfl_chart *c)
{
    double lo, hi;
    figure_open(out, c);
    if (!range_of(c, &lo, &hi)) {
        empty_chart(out);
        return;
    }
    struct scale s = scale_of(lo, hi);
    if (c->unit == PFL_CHART_PERCENT && s.max > 1 && hi <= 1)
        s.max = 1;
    y_axis(out, c, &s);
    x_axis(out, c, x_at);
    PFL_AUTO(pfl_freep) size_t *group = pfl_xcalloc(c->n_series, sizeof(*group));
    (void)group_equal(c, group);
    size_t colour = 0;
    for (size_t i = 0; i < c->n_series; i++)
        if (group[i] == i)
            one_line(out, c, &s, i, colour++);
    pfl_buf_append_str(out, "</svg>\n<p class=\"legend\">");
    colour = 0;
    for (size_t i = 0; i < c->n_series; i++)
        if (group[i] == i)
            legend_entry(out, c, group, i, colour++);
    pfl_buf_append_str(out, "</p></figure>\n");
}

static double bar_at(const struct pfl_chart *c, double i)
{
    double slot = (double)(W - LEFT - RIGHT) / (double)c->n_x;
    return LEFT + slot * (i + 0.5);
}

static double bar_sum(const struct pfl_chart *c, size_t i)
{
    double sum = 0;
    for (size_t s = 0; s < c->n_series; s++)
        sum += isfinite(c->series[s].y[i]) && c->series[s].y[i] > 0 ? c->series[s].y[i] : 0;
    return sum;
}

static void one_bar(struct pfl_buf *out, const struct pfl_chart *c, const struct scale *s, size_t i)
{
    double slot = (double)(W - LEFT - RIGHT) / (double)c->n_x, width = fmin(slot * 0.68, 56), below = 0;
    for (size_t k = 0; k < c->n_series; k++) {
        char text[32];
        double v = c->series[k].y[i];
        if (!isfinite(v) || v <= 0)
            continue;
        pfl_chart_value(c->unit, v, text, sizeof(text));
        double top = y_at(s, below + v), bottom = y_at(s, below);
        pfl_buf_printf(out, "<rect class=\"b%zu e%zu\" x=\"%.1f\" y=\"%.2f\" width=\"%.1f\" height=\"%.2f\"><title>", k % COLOURS,
                       k / COLOURS % 2, bar_at(c, (double)i) - width / 2, top, width, fmax(bottom - top, 0.2));
        pfl_html_text(out, c->series[k].label);
        pfl_buf_printf(out, ", %s %zu: %s</title></rect>\n", c->x_label, i + (size_t)c->x_first, text);
        below += v;
    }
}

void pfl_chart_bars(struct pfl_buf *out, const struct pfl_chart *c)
{
    double hi = 0;
    figure_open(out, c);
    for (size_t i = 0; i < c->n_x; i++)
        hi = fmax(hi, bar_sum(c, i));
    if (!(hi > 0)) {
        empty_chart(out);
        return;
    }
    struct scale s = scale_of(0, hi);
    y_axis(out, c, &s);
    x_axis(out, c, bar_at);
    for (size_t i = 0; i < c->n_x; i++)
        one_bar(out, c, &s, i);
    pfl_buf_append_str(out, "</svg>\n<p class=\"legend\">");
    for (size_t k = 0; k < c->n_series; k++) {
        pfl_buf_printf(out, "<span><i class=\"b%zu e%zu\"></i>", k % COLOURS, k / COLOURS % 2);
        pfl_html_text(out, c->series[k].label);
        pfl_buf_append_str(out, "</span>");
    }
    pfl_buf_append_str(out, "</p></figure>\n");
}
