/* SPDX-License-Identifier: Apache-2.0 */
/* FedAdagrad, FedAdam, FedYogi: FedAvg's mean is not the next model but the direction of a server optimiser's step. There is no
 * server here: every node makes the same step from the same model and the same moments, which travel with the model. */
#include <math.h>
#include <string.h>

#include "base/str.h"
#include "learning/aggregate.h"
#include "learning/method.h"

enum rule { ADAGRAD, ADAM, YOGI };

static enum rule rule_of(const struct pfl_aggregator *self)
{
    return pfl_streq(self->name, "fedadagrad") ? ADAGRAD : pfl_streq(self->name, "fedadam") ? ADAM : YOGI;
}

static double second_moment(enum rule rule, double b2, double v, double d)
{
    double d2 = d * d;
    if (rule == ADAGRAD)
        return v + d2;
    if (rule == ADAM)
        return b2 * v + (1.0 - b2) * d2;
    double sign = (v > d2) - (v < d2);
    return v - (1.0 - b2) * d2 * sign;
}

/* One tensor: x and its moments, from what they were (x0, m0, v0) and FedAvg's mean. */
struct slot {
    float *x, *m, *v;
    const float *x0, *m0, *v0, *mean;
    size_t n;
};

static void step(const struct pfl_aggregator_params *p, enum rule rule, const struct slot *s)
{
    for (size_t i = 0; i < s->n; i++) {
        double d = (double)s->mean[i] - (double)s->x0[i];
        double m = p->beta_1 * (double)s->m0[i] + (1.0 - p->beta_1) * d;
        double v = second_moment(rule, p->beta_2, (double)s->v0[i], d);
        s->m[i] = (float)m;
        s->v[i] = (float)v;
        s->x[i] = (float)((double)s->x0[i] + p->eta * m / (sqrt(v) + p->tau));
    }
}

static float *floats_mut(uint8_t *block, const struct pfl_tensor_desc *t)
{
    return (float *)(void *)(block + t->offset);
}

static const float *floats(const struct pfl_model *m, const struct pfl_tensor_desc *t)
{
    return (const float *)(const void *)(m->data + t->offset);
}

static enum pfl_rc step_all(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_model *mean,
                            uint8_t *out, struct pfl_err *err)
{
    for (size_t i = 0; i < mean->layout->n; i++) {
        const struct pfl_tensor_desc *t = &mean->layout->tensors[i], *x = &base->layout->tensors[i];
        if (t->dtype != PFL_F32) {
            memcpy(out + x->offset, mean->data + t->offset, t->bytes);
            continue;
        }
        const struct pfl_tensor_desc *m = pfl_method_find(base->layout, "m", t->name);
        const struct pfl_tensor_desc *v = pfl_method_find(base->layout, "v", t->name);
        if (!m || !v || m->bytes != t->bytes || v->bytes != t->bytes)
            return pfl_err_set(err, PFL_INVALID, "%s: the round's model carries no moments of tensor '%s'", self->name,
                               pfl_q(t->name));
        const struct slot s = {.x = floats_mut(out, x),
                               .m = floats_mut(out, m),
                               .v = floats_mut(out, v),
                               .x0 = floats(base, x),
                               .m0 = floats(base, m),
                               .v0 = floats(base, v),
                               .mean = floats(mean, t),
                               .n = t->bytes / sizeof(float)};
        step(&self->params, rule_of(self), &s);
    }
    return PFL_OK;
}

enum pfl_rc pfl_fedopt(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in, size_t n,
                       struct pfl_model **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *mean = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *result = NULL;
    enum pfl_rc rc = pfl_fedavg(self, in, n, &mean, err);
    if (rc == PFL_OK)
        rc = pfl_method_check_prefix(base->layout, mean->layout, err);
    if (rc == PFL_OK)
        rc = pfl_model_new(base->layout, &result, err);
    if (rc == PFL_OK)
        rc = step_all(self, base, mean, pfl_model_data_mut(result), err);
    if (rc == PFL_OK && pfl_model_check_finite(result, err) != PFL_OK) {
        (void)pfl_err_wrap(err, "%s with eta %g", self->name, self->params.eta);
        rc = PFL_INVALID;
    }
    if (rc != PFL_OK) {
        if (err)
            err->rc = rc;
        return rc;
    }
    *ret = pfl_steal(&result);
    return PFL_OK;
}
