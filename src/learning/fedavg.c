/* SPDX-License-Identifier: Apache-2.0 */
/* FedAvg, and with it partial aggregation: the mean of means, weighted by the samples behind each, is the mean of all up to
 * rounding. Every check is made before the result exists; the sum over one value runs in the order given, in double. */
#include "learning/aggregator.h"

#include <string.h>

#include "base/str.h"

static bool is_integer(enum pfl_dtype t)
{
    return t == PFL_I8 || t == PFL_I16 || t == PFL_I32 || t == PFL_I64 || t == PFL_U8 || t == PFL_BOOL;
}

static enum pfl_rc check(const struct pfl_contribution *in, size_t n, struct pfl_err *err)
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
    for (size_t i = 0; i < want->n; i++) {
        const struct pfl_tensor_desc *t = &want->tensors[i];
        if (t->dtype != PFL_F32 && !is_integer(t->dtype))
            return pfl_err_set(err, PFL_UNSUPPORTED, "tensor '%s' is %s; F32 and integers can be averaged", pfl_q(t->name),
                               pfl_dtype_name(t->dtype));
        if (t->dtype == PFL_F32 && t->offset % sizeof(float) != 0)
            return pfl_err_set(err, PFL_UNSUPPORTED, "tensor '%s' starts at byte %zu, which no F32 can; put the wider types first",
                               pfl_q(t->name), t->offset);
    }
    return PFL_OK;
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

enum pfl_rc pfl_fedavg(const struct pfl_contribution *in, size_t n, struct pfl_model **ret, struct pfl_err *err)
{
    enum pfl_rc rc = check(in, n, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_layout *layout = in[0].model->layout;
    PFL_AUTO(pfl_model_freep) struct pfl_model *mean = NULL;
    rc = pfl_model_new(layout, &mean, err);
    if (rc != PFL_OK)
        return rc;
    uint8_t *out = pfl_model_data_mut(mean);
    PFL_AUTO(pfl_freep) const float **x = pfl_xcalloc(n, sizeof(*x));
    PFL_AUTO(pfl_freep) double *w = pfl_xcalloc(n, sizeof(*w));
    double total = 0.0; /* in double: a sum of 64-bit counts could overflow */
    for (size_t k = 0; k < n; k++) {
        w[k] = (double)in[k].n_samples;
        total += w[k];
    }
    const uint8_t *integers = in[heaviest(in, n)].model->data;
    for (size_t i = 0; i < layout->n; i++) {
        const struct pfl_tensor_desc *t = &layout->tensors[i];
        if (t->bytes == 0)
            continue;
        if (t->dtype != PFL_F32) {
            memcpy(out + t->offset, integers + t->offset, t->bytes);
            continue;
        }
        for (size_t k = 0; k < n; k++) /* the block is aligned, and the offset was checked */
            x[k] = (const float *)(const void *)(in[k].model->data + t->offset);
        pfl_kernel_weighted_mean_f32((float *)(void *)(out + t->offset), x, w, n, total, t->bytes / sizeof(float));
    }
    *ret = pfl_steal(&mean);
    return PFL_OK;
}
