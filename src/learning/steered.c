/* SPDX-License-Identifier: Apache-2.0 */
/* FedNova and SCAFFOLD: the halves that every node computes from all contributions. What each does in its own training is in
 * method.c.
 */
#include <math.h>
#include <string.h>

#include "learning/aggregate.h"
#include "learning/method.h"

static const float *floats(const struct pfl_model *m, const struct pfl_tensor_desc *t)
{
    return (const float *)(const void *)(m->data + t->offset);
}

static float *floats_mut(struct pfl_model *m, const struct pfl_tensor_desc *t)
{
    return (float *)(void *)(pfl_model_data_mut(m) + t->offset);
}

/* ---- FedNova ---- */

static double steps_of(const struct pfl_contribution *c)
{
    const struct pfl_tensor_desc *t = pfl_layout_find(c->model->layout, "@steps");
    return t ? fmin(fmax((double)*floats(c->model, t), 1.0), 1e6) : 1.0;
}

/* The tensors of the base; the weights p_i / a_i are w, sum p_i a_i is `steps`. */
static void normalized(const struct pfl_model *base, const struct pfl_contribution *in, size_t n, const double *w, double steps,
                       const struct pfl_tensor_desc *t, const struct pfl_tensor_desc *x0, float *out)
{
    for (size_t i = 0; i < t->bytes / sizeof(float); i++) {
        double x = (double)floats(base, x0)[i], sum = 0.0;
        for (size_t k = 0; k < n; k++)
            sum += w[k] * ((double)floats(in[k].model, t)[i] - x);
        out[i] = (float)(x + steps * sum);
    }
}

enum pfl_rc pfl_fednova(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                        size_t n, struct pfl_model **ret, struct pfl_err *err)
{
    /* FedAvg's result has the integers and what else there is, in the contributions' layout. */
    PFL_AUTO(pfl_model_freep) struct pfl_model *mean = NULL;
    enum pfl_rc rc = pfl_fedavg(self, in, n, &mean, err);
    if (rc != PFL_OK)
        return rc;
    if (base->layout->n > mean->layout->n)
        return pfl_err_set(err, PFL_INVALID, "fednova: the round's model has more tensors than contributions have");
    if ((rc = pfl_method_check_prefix(mean->layout, base->layout, err)) != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) double *w = pfl_xcalloc(n, sizeof(*w));
    double samples = 0.0, steps = 0.0;
    for (size_t k = 0; k < n; k++)
        samples += (double)in[k].n_samples;
    for (size_t k = 0; k < n; k++) {
        double p = (double)in[k].n_samples / samples, a = steps_of(&in[k]);
        w[k] = p / a;
        steps += p * a;
    }
    PFL_AUTO(pfl_model_freep) struct pfl_model *out = pfl_model_copy(mean);
    if (!out)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model");
    for (size_t i = 0; i < base->layout->n; i++) {
        const struct pfl_tensor_desc *t = &mean->layout->tensors[i];
        if (t->dtype == PFL_F32)
            normalized(base, in, n, w, steps, t, &base->layout->tensors[i], floats_mut(out, t));
    }
    const struct pfl_tensor_desc *t = pfl_layout_find(out->layout, "@steps");
    if (t)
        *floats_mut(out, t) = (float)steps;
    *ret = pfl_steal(&out);
    return PFL_OK;
}

/* ---- SCAFFOLD ---- */

static enum pfl_rc scaffold_step(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_model *mean,
                                 const struct pfl_model *plain, size_t n, struct pfl_model *out, struct pfl_err *err)
{
    double share = self->params.clients > n ? (double)n / (double)self->params.clients : 1.0, lr = self->params.global_lr;
    for (size_t i = 0; i < base->layout->n; i++) {
        const struct pfl_tensor_desc *x = &base->layout->tensors[i];
        if (pfl_method_is_extra(x))
            break; /* the set "c", written with the tensor that it belongs to */
        const struct pfl_tensor_desc *t = pfl_layout_find(mean->layout, x->name);
        const struct pfl_tensor_desc *dc = pfl_method_find(mean->layout, "delta_c", x->name),
                                     *c = pfl_method_find(base->layout, "c", x->name);
        if (t && t->dtype != PFL_F32) {
            memcpy(pfl_model_data_mut(out) + x->offset, mean->data + t->offset, t->bytes);
            continue;
        }
        if (!t || !dc || !c || t->bytes != x->bytes || dc->bytes != x->bytes || c->bytes != x->bytes)
            return pfl_err_set(err, PFL_INVALID, "scaffold: the round's model and its contributions do not belong together");
        for (size_t k = 0; k < x->bytes / sizeof(float); k++) {
            double x0 = (double)floats(base, x)[k];
            floats_mut(out, x)[k] = (float)(x0 + lr * ((double)floats(mean, t)[k] - x0));
            floats_mut(out, c)[k] = (float)((double)floats(base, c)[k] + share * (double)floats(plain, dc)[k]);
        }
    }
    return PFL_OK;
}

enum pfl_rc pfl_scaffold(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                         size_t n, struct pfl_model **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *mean = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *plain = NULL; /* each contribution once: the changes of variates */
    PFL_AUTO(pfl_model_freep) struct pfl_model *out = NULL;
    enum pfl_rc rc = pfl_fedavg(self, in, n, &mean, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) double *ones = pfl_xcalloc(n, sizeof(*ones));
    for (size_t k = 0; k < n; k++)
        ones[k] = 1.0;
    rc = pfl_aggregate_mean(in, n, ones, (double)n, &plain, err);
    if (rc == PFL_OK)
        rc = pfl_model_new(base->layout, &out, err);
    if (rc == PFL_OK)
        rc = scaffold_step(self, base, mean, plain, n, out, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&out);
    return rc;
}
