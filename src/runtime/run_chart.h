/* SPDX-License-Identifier: Apache-2.0 */
/* Charts as inline SVG, drawn from plain numbers: lines over rounds and stacked bars per round. Colours come from the page's style
 * sheet (classes c0 .. c7 and d0 .. d1), so one drawing serves light and dark. Every text is escaped here. */
#ifndef PFL_RUNTIME_RUN_CHART_H
#define PFL_RUNTIME_RUN_CHART_H

#include <stddef.h>

#include "base/bytes.h"

enum pfl_chart_unit { PFL_CHART_NUMBER, PFL_CHART_PERCENT, PFL_CHART_BYTES, PFL_CHART_COUNT };

struct pfl_chart_series {
    const char *label;
    const double *y; /* n_x values, borrowed; NaN: no value there */
};
struct pfl_chart {
    const char *title, *note; /* note may be NULL */
    const char *x_label;
    int x_first; /* what the first value's place is called */
    size_t n_x, n_series;
    const struct pfl_chart_series *series; /* borrowed */
    enum pfl_chart_unit unit;
};

/** One figure element: title, drawing, legend. Series with the same values at every place share one line and one legend entry. */
void pfl_chart_lines(struct pfl_buf *out, const struct pfl_chart *c);
/** Stacked: one bar for each place, one part for each series; NaN counts as nothing. */
void pfl_chart_bars(struct pfl_buf *out, const struct pfl_chart *c);

/** Text into HTML, escaped; bytes that are no UTF-8 and control characters are made visible. */
void pfl_html_text(struct pfl_buf *out, const char *s);
/** "12.3 MB", "1.20", "87.4 %", "12,345". */
void pfl_chart_value(enum pfl_chart_unit unit, double v, char *out, size_t out_size);

#endif
