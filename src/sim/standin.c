/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in learner. See standin.h. */
#include "sim/standin.h"

#include <stdlib.h>

struct standin {
    unsigned node;
    struct pfl_layout *layout;
};

static size_t n_values(const struct standin *s)
{
    return s->layout->tensors[0].shape[0];
}

uint64_t pfl_standin_samples(unsigned node)
{
    return 101 + 2 * (uint64_t)(node % 500);
}

float pfl_standin_target(unsigned node, size_t value)
{
    /* Uneven, so that the order of sums shows in the last bits. */
    return (float)((node * 7919U + (unsigned)value * 104729U) % 2003U) / 2003.0F;
}

static struct pfl_layout *layout(void *self)
{
    return ((struct standin *)self)->layout;
}

static enum pfl_rc init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct standin *s = self;
    enum pfl_rc rc = pfl_model_new(s->layout, ret, err);
    if (rc != PFL_OK)
        return rc;
    float *w = (float *)(void *)pfl_model_data_mut(*ret);
    for (size_t i = 0; i < n_values(s); i++)
        w[i] = 2.0F + (float)s->node;
    return PFL_OK;
}

static enum pfl_rc fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                       void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                       struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct standin *s = self;
    (void)seed;
    (void)progress;
    (void)user;
    struct pfl_model *m = pfl_model_copy(start);
    if (!m)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model");
    float *w = (float *)(void *)pfl_model_data_mut(m);
    for (size_t i = 0; epochs > 0 && i < n_values(s); i++)
        w[i] += 0.5F * (pfl_standin_target(s->node, i) - w[i]);
    *ret = (struct pfl_fit_result){.loss = 1.0, .n_samples = pfl_standin_samples(s->node), .n_steps = epochs};
    *ret_model = m;
    return PFL_OK;
}

static enum pfl_rc evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct standin *s = self;
    const float *w = (const float *)(const void *)model->data;
    double sum = 0;
    (void)err;
    for (size_t i = 0; i < n_values(s); i++) {
        double d = (double)w[i] - (double)pfl_standin_target(s->node, i);
        sum += d * d;
    }
    double loss = sum / (double)n_values(s);
    *ret = (struct pfl_metrics){.loss = loss, .accuracy = 1.0 / (1.0 + loss), .n_samples = 10};
    return PFL_OK;
}

static void interrupt(void *self)
{
    (void)self; /* the simulator throws a canceled result away */
}

static void standin_free(void *self)
{
    struct standin *s = self;
    pfl_layout_unref(s->layout);
    free(s);
}

void pfl_standin_learner_new(unsigned node, size_t values, struct pfl_learner *ret)
{
    static const struct pfl_learner_ops ops = {.name = "stand-in",
                                               .layout = layout,
                                               .init = init,
                                               .fit = fit,
                                               .evaluate = evaluate,
                                               .interrupt = interrupt,
                                               .free = standin_free};
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {values}};
    struct standin *s = pfl_xcalloc(1, sizeof(*s));
    s->node = node;
    enum pfl_rc rc = pfl_layout_new(&desc, 1, &s->layout, NULL);
    PFL_ASSERT(rc == PFL_OK);
    *ret = (struct pfl_learner){.ops = &ops, .self = s};
}
