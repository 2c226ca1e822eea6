/* SPDX-License-Identifier: Apache-2.0 */
/* What the aggregators share. Every check is made before a result exists. */
#include "learning/aggregate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static bool is_integer(enum pfl_dtype t)
{
    return t == PFL_I8 || t == PFL_I16 || t == PFL_I32 || t == PFL_I64 || t == PFL_U8 || t == PFL_BOOL;
}

static enum pfl_rc check_types(const struct pfl_layout *layout, struct pfl_err *err)
{
    for (size_t i = 0; i < layout->n; i++) {
        const struct pfl_tensor_desc *t = &layout->tensors[i];
        if (t->dtype != PFL_F32 && !is_integer(t->dtype))
            return pfl_err_set(err, PFL_UNSUPPORTED, "tensor '%s' is %s; F32 and integers can be averaged", pfl_q(t->name),
                               pfl_dtype_name(t->dtype));
        if (t->dtype == PFL_F32 && t->offset % sizeof(float) != 0)
            return pfl_err_set(err, PFL_UNSUPPORTED, "tensor '%s' starts at byte %zu, which no F32 can; put the wider types first",
                               pfl_q(t->name), t->offset);
    }
    return PFL_OK;
}

enum pfl_rc pfl_aggregate_check(const struct pfl_contribution *in, size_t n, struct pfl_err *err)
{
    if (n == 0)
        return pfl_err_set(err, PFL_INVALID, "nothing to aggregate");
    const struct pfl_layout *want = in[0].model->layout;
    for (size_t k = 0; k < n; k++) {
        if (in[k].n_samples == 0)
            return pfl_err_set(err, PFL_INVALID, "contribution %zu has no samples", k);
        if (pfl_layout_check_same(in[k].model->layout, want, err) != PFL_OK) {
            if (err)
                err->rc = PFL_INVALID;
            (void)pfl_err_wrap(err, "contribution %zu", k);
            return PFL_INVALID;
        }
    }
    return check_types(want, err);
}

/* The first of those with the most samples. */
static size_t heaviest(const struct pfl_contribution *in, size_t n)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++) {
        if (in[k].n_samples > in[best].n_samples)
            best = k;
    }
    return best;
}

static const float *floats_at(const struct pfl_contribution *c, const struct pfl_tensor_desc *t)
{
    return (const float *)(const void *)(c->model->data + t->offset); /* the block is aligned, and the offset was checked */
}

enum pfl_rc pfl_aggregate_tensors(const struct pfl_contribution *in, size_t n, pfl_aggregate_fn values, void *user,
                                  struct pfl_model **ret, struct pfl_err *err)
{
    struct pfl_layout *layout = in[0].model->layout;
    PFL_AUTO(pfl_model_freep) struct pfl_model *result = NULL;
    enum pfl_rc rc = pfl_model_new_unset(layout, &result, err); /* the layout has no holes: each byte is written below */
    if (rc != PFL_OK)
        return rc;
    uint8_t *out = pfl_model_data_mut(result);
    PFL_AUTO(pfl_freep) const float **x = pfl_xcalloc(n, sizeof(*x));
    const uint8_t *integers = in[heaviest(in, n)].model->data;
    for (size_t i = 0; i < layout->n; i++) {
        const struct pfl_tensor_desc *t = &layout->tensors[i];
        if (t->bytes == 0)
            continue;
        if (t->dtype != PFL_F32) {
            memcpy(out + t->offset, integers + t->offset, t->bytes);
            continue;
        }
        for (size_t k = 0; k < n; k++)
            x[k] = floats_at(&in[k], t);
        values(user, (float *)(void *)(out + t->offset), x, n, t->bytes / sizeof(float));
    }
    *ret = pfl_steal(&result);
    return PFL_OK;
}

struct weights {
    const double *w;
    double total;
};

static void mean_values(void *user, float *out, const float *const *x, size_t n, size_t len)
{
    const struct weights *w = user;
    pfl_kernel_weighted_mean_f32(out, x, w->w, n, w->total, len);
}

enum pfl_rc pfl_aggregate_mean(const struct pfl_contribution *in, size_t n, const double *weights, double total,
                               struct pfl_model **ret, struct pfl_err *err)
{
    struct weights w = {.w = weights, .total = total};
    return pfl_aggregate_tensors(in, n, mean_values, &w, ret, err);
}

/* Eight sums side by side let the compiler use vectors; their order is fixed, so the result is the same everywhere. */
static double squared_distance(const float *a, const float *b, size_t n)
{
    double s[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            double d = (double)a[i + j] - (double)b[i + j];
            s[j] += d * d;
        }
    }
    for (; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        s[i % 8] += d * d;
    }
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

double *pfl_aggregate_distances(const struct pfl_contribution *in, size_t n, bool by_tensor)
{
    const struct pfl_layout *layout = in[0].model->layout;
    double *d = pfl_xcalloc(n * n, sizeof(*d));
    for (size_t i = 0; i < layout->n; i++) {
        const struct pfl_tensor_desc *t = &layout->tensors[i];
        if (t->dtype != PFL_F32 || t->bytes == 0)
            continue;
        for (size_t a = 0; a < n; a++) {
            for (size_t b = a + 1; b < n; b++) {
                double s = squared_distance(floats_at(&in[a], t), floats_at(&in[b], t), t->bytes / sizeof(float));
                d[a * n + b] += by_tensor ? sqrt(s) : s;
            }
        }
    }
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < a; b++)
            d[a * n + b] = d[b * n + a];
    }
    return d;
}

static int compare_f32(const void *pa, const void *pb)
{
    float a = *(const float *)pa, b = *(const float *)pb;
    return (a > b) - (a < b);
}

void pfl_sort_f32(float *v, size_t n)
{
    if (n > 48) {
        qsort(v, n, sizeof(*v), compare_f32);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        float x = v[i];
        size_t j = i;
        for (; j > 0 && v[j - 1] > x; j--)
            v[j] = v[j - 1];
        v[j] = x;
    }
}
