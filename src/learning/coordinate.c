/* SPDX-License-Identifier: Apache-2.0 */
/* Aggregators that look at one coordinate at a time: median and trimmed mean. */
#include <math.h>

#include "learning/aggregate.h"

/* The mean of the values from..to-1 of each coordinate's sorted values. */
struct window {
    size_t from, to;
    float *column; /* n values */
};

static void window_values(void *user, float *out, const float *const *x, size_t n, size_t len)
{
    const struct window *w = user;
    for (size_t i = 0; i < len; i++) {
        for (size_t k = 0; k < n; k++)
            w->column[k] = x[k][i];
        pfl_sort_f32(w->column, n);
        double sum = 0.0;
        for (size_t k = w->from; k < w->to; k++)
            sum += (double)w->column[k];
        out[i] = (float)(sum / (double)(w->to - w->from));
    }
}

static enum pfl_rc window_mean(const struct pfl_contribution *in, size_t n, size_t cut, struct pfl_model **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) float *column = pfl_xcalloc(n, sizeof(*column));
    struct window w = {.from = cut, .to = n - cut, .column = column};
    return pfl_aggregate_tensors(in, n, window_values, &w, ret, err);
}

enum pfl_rc pfl_fedmedian(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                          struct pfl_err *err)
{
    (void)self;
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    return rc == PFL_OK ? window_mean(in, n, (n - 1) / 2, ret, err) : rc;
}

enum pfl_rc pfl_trimmed_mean(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                             struct pfl_err *err)
{
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    if (rc != PFL_OK)
        return rc;
    size_t cut = (size_t)floor(self->params.trim * (double)n + 1e-9); /* 0.1 of 10 is 1, whatever 0.1 is in binary */
    if (2 * cut >= n)
        cut = (n - 1) / 2;
    return window_mean(in, n, cut, ret, err);
}
