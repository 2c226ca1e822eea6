/* SPDX-License-Identifier: Apache-2.0 */
/* Aggregators that look at the distances between contributions: Krum, Multi-Krum, Bulyan, P2PFL's Krum, geometric median. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learning/aggregate.h"

static int compare_f64(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

/* Sum of the distances of each contribution that is still in to its nearest others that are, `nearest` of them. gone may be NULL.
 */
static void scores(const double *d, size_t n, const bool *gone, size_t nearest, double *score, double *row)
{
    for (size_t a = 0; a < n; a++) {
        size_t m = 0;
        for (size_t b = 0; b < n; b++) {
            if (b != a && !(gone && gone[b]))
                row[m++] = d[a * n + b];
        }
        qsort(row, m, sizeof(*row), compare_f64);
        score[a] = 0.0;
        for (size_t i = 0; i < m && i < nearest; i++)
            score[a] += row[i];
    }
}

static size_t least(const double *score, size_t n, const bool *gone)
{
    size_t best = n;
    for (size_t a = 0; a < n; a++) {
        if (!(gone && gone[a]) && (best == n || score[a] < score[best]))
            best = a;
    }
    return best;
}

/* f for n contributions: as asked, or what the rule bears: n >= per_f * f + 3. */
static enum pfl_rc byzantine(const struct pfl_aggregator *self, size_t n, size_t per_f, size_t *ret, struct pfl_err *err)
{
    if (self->params.byzantine < 0) {
        *ret = n > 3 ? (n - 3) / per_f : 0;
        return PFL_OK;
    }
    size_t f = (size_t)self->params.byzantine;
    if (n < per_f * f + 3)
        return pfl_err_set(err, PFL_INVALID, "%s against %zu hostile contributions needs at least %zu, %zu came", self->name, f,
                           per_f * f + 3, n);
    *ret = f;
    return PFL_OK;
}

static size_t neighbours(size_t left, size_t f)
{
    return left > f + 2 ? left - f - 2 : 1;
}

/* An aggregate that is one of the contributions. */
static enum pfl_rc choose(const struct pfl_contribution *c, struct pfl_model **ret)
{
    *ret = pfl_model_ref(c->model);
    return PFL_OK;
}

enum pfl_rc pfl_krum(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                     struct pfl_err *err)
{
    size_t f = 0;
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    if (rc == PFL_OK)
        rc = byzantine(self, n, 2, &f, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) double *d = pfl_aggregate_distances(in, n, false);
    PFL_AUTO(pfl_freep) double *score = pfl_xcalloc(2 * n, sizeof(*score));
    scores(d, n, NULL, neighbours(n, f), score, score + n);
    return choose(&in[least(score, n, NULL)], ret);
}

enum pfl_rc pfl_krum_p2pfl(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                           struct pfl_err *err)
{
    (void)self;
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) double *d = pfl_aggregate_distances(in, n, true);
    PFL_AUTO(pfl_freep) double *score = pfl_xcalloc(2 * n, sizeof(*score));
    scores(d, n, NULL, n, score, score + n);
    return choose(&in[least(score, n, NULL)], ret);
}

enum pfl_rc pfl_multi_krum(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                           struct pfl_err *err)
{
    size_t f = 0;
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    if (rc == PFL_OK)
        rc = byzantine(self, n, 2, &f, err);
    if (rc != PFL_OK)
        return rc;
    size_t m = self->params.selected ? self->params.selected : n - f;
    if (m > n)
        return pfl_err_set(err, PFL_INVALID, "multi_krum averages %zu contributions, only %zu came", m, n);
    PFL_AUTO(pfl_freep) double *d = pfl_aggregate_distances(in, n, false);
    PFL_AUTO(pfl_freep) double *score = pfl_xcalloc(2 * n, sizeof(*score));
    PFL_AUTO(pfl_freep) bool *gone = pfl_xcalloc(n, sizeof(*gone));
    PFL_AUTO(pfl_freep) double *weights = pfl_xcalloc(n, sizeof(*weights));
    scores(d, n, NULL, neighbours(n, f), score, score + n);
    for (size_t i = 0; i < m; i++) {
        size_t best = least(score, n, gone);
        gone[best] = true;
        weights[best] = 1.0;
    }
    return pfl_aggregate_mean(in, n, weights, (double)m, ret, err);
}

/* ---- Bulyan ---- */

struct bulyan {
    size_t keep;   /* values of each coordinate that are averaged */
    float *column; /* as many as were chosen */
};

static void bulyan_values(void *user, float *out, const float *const *x, size_t n, size_t len)
{
    const struct bulyan *b = user;
    for (size_t i = 0; i < len; i++) {
        for (size_t k = 0; k < n; k++)
            b->column[k] = x[k][i];
        pfl_sort_f32(b->column, n);
        double median = ((double)b->column[(n - 1) / 2] + (double)b->column[n / 2]) / 2.0;
        size_t from = 0, to = n;
        while (to - from > b->keep) { /* the nearest ones lie together; of two that are equally far the upper one goes */
            if (median - (double)b->column[from] > (double)b->column[to - 1] - median)
                from++;
            else
                to--;
        }
        double sum = 0.0;
        for (size_t k = from; k < to; k++)
            sum += (double)b->column[k];
        out[i] = (float)(sum / (double)(to - from));
    }
}

enum pfl_rc pfl_bulyan(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                       struct pfl_err *err)
{
    size_t f = 0;
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    if (rc == PFL_OK)
        rc = byzantine(self, n, 4, &f, err);
    if (rc != PFL_OK)
        return rc;
    size_t n_chosen = n - 2 * f;
    PFL_AUTO(pfl_freep) double *d = pfl_aggregate_distances(in, n, false);
    PFL_AUTO(pfl_freep) double *score = pfl_xcalloc(2 * n, sizeof(*score));
    PFL_AUTO(pfl_freep) bool *gone = pfl_xcalloc(n, sizeof(*gone));
    PFL_AUTO(pfl_freep) struct pfl_contribution *chosen = pfl_xcalloc(n_chosen, sizeof(*chosen));
    for (size_t i = 0; i < n_chosen; i++) {
        scores(d, n, gone, neighbours(n - i, f), score, score + n);
        size_t best = least(score, n, gone);
        gone[best] = true;
        chosen[i] = in[best];
    }
    PFL_AUTO(pfl_freep) float *column = pfl_xcalloc(n_chosen, sizeof(*column));
    struct bulyan b = {.keep = n - 4 * f, .column = column};
    return pfl_aggregate_tensors(chosen, n_chosen, bulyan_values, &b, ret, err);
}

/* ---- geometric median ---- */

/* The point is a mean of the contributions with weights w (sum 1), so its distances to them follow from theirs to each other:
 * |z - x_k|^2 = sum_i w_i D_ik - 1/2 sum_ij w_i w_j D_ij. The models themselves are read once, whatever the number of steps. */
static double weiszfeld_step(const double *d, size_t n, double smooth, double *w, double *next)
{
    double spread = 0.0, total = 0.0, moved = 0.0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            spread += w[i] * w[j] * d[i * n + j];
    }
    for (size_t k = 0; k < n; k++) {
        double to_k = -spread / 2.0;
        for (size_t i = 0; i < n; i++)
            to_k += w[i] * d[i * n + k];
        double distance = to_k > 0.0 ? sqrt(to_k) : 0.0;
        next[k] = 1.0 / (distance > smooth ? distance : smooth);
        total += next[k];
    }
    for (size_t k = 0; k < n; k++) {
        next[k] /= total;
        moved = fmax(moved, fabs(next[k] - w[k]));
        w[k] = next[k];
    }
    return moved;
}

enum pfl_rc pfl_geometric_median(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n,
                                 struct pfl_model **ret, struct pfl_err *err)
{
    (void)self;
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) double *d = pfl_aggregate_distances(in, n, false);
    PFL_AUTO(pfl_freep) double *w = pfl_xcalloc(2 * n, sizeof(*w));
    double largest = 0.0;
    for (size_t i = 0; i < n; i++)
        w[i] = 1.0 / (double)n;
    for (size_t i = 0; i < n * n; i++)
        largest = fmax(largest, d[i]);
    if (largest > 0.0) {
        double smooth = 1e-6 * sqrt(largest); /* a contribution is never nearer than this: no division by zero */
        for (unsigned step = 0; step < 1000 && weiszfeld_step(d, n, smooth, w, w + n) > 1e-12; step++)
            ;
    }
    return pfl_aggregate_mean(in, n, w, 1.0, ret, err);
}
