/* SPDX-License-Identifier: Apache-2.0 */
/* All calls go to the learner inside; what a fit gives is changed. */
#include "learning/attacker.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"

struct attacker {
    struct pfl_learner_ops ops; /* of this one; without steer where the inner one has none */
    struct pfl_learner inner;   /* owned */
    enum pfl_attack attack;
    double sigma;
};

static struct pfl_layout *layout(void *self)
{
    struct attacker *a = self;
    return a->inner.ops->layout(a->inner.self);
}

static enum pfl_rc init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct attacker *a = self;
    return a->inner.ops->init(a->inner.self, ret, err);
}

static void distort(const struct attacker *a, const struct pfl_model *start, struct pfl_model *m, uint64_t seed)
{
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, seed, "attack");
    uint8_t *data = pfl_model_data_mut(m);
    for (size_t i = 0; i < m->layout->n; i++) {
        const struct pfl_tensor_desc *t = &m->layout->tensors[i];
        float *x = (float *)(void *)(data + t->offset);
        const float *x0 = (const float *)(const void *)(start->data + t->offset);
        for (size_t k = 0; t->dtype == PFL_F32 && k < t->bytes / sizeof(float); k++) {
            if (a->attack == PFL_ATTACK_GAUSSIAN)
                x[k] = (float)((double)x[k] + a->sigma * pfl_rng_normal(&rng));
            else
                x[k] = (float)((double)x0[k] - a->sigma * ((double)x[k] - (double)x0[k]));
        }
    }
}

static enum pfl_rc fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                       void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                       struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct attacker *a = self;
    PFL_AUTO(pfl_model_freep) struct pfl_model *honest = NULL;
    enum pfl_rc rc = a->inner.ops->fit(a->inner.self, start, epochs, seed, progress, user, &honest, ret, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_model *m = pfl_model_copy(honest);
    if (!m)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model");
    distort(a, start, m, seed);
    *ret_model = m;
    return PFL_OK;
}

static enum pfl_rc evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct attacker *a = self;
    return a->inner.ops->evaluate(a->inner.self, model, ret, err);
}

static void interrupt(void *self)
{
    struct attacker *a = self;
    a->inner.ops->interrupt(a->inner.self);
}

static enum pfl_rc steer(void *self, const struct pfl_fit_steer *s, struct pfl_err *err)
{
    struct attacker *a = self;
    return a->inner.ops->steer(a->inner.self, s, err);
}

static void attacker_free(void *self)
{
    struct attacker *a = self;
    a->inner.ops->free(a->inner.self);
    free(a);
}

void pfl_attacker_wrap(struct pfl_learner *learner, enum pfl_attack attack, double sigma)
{
    struct attacker *a = pfl_xcalloc(1, sizeof(*a));
    *a = (struct attacker){.ops = {.name = learner->ops->name,
                                   .layout = layout,
                                   .init = init,
                                   .fit = fit,
                                   .evaluate = evaluate,
                                   .interrupt = interrupt,
                                   .steer = learner->ops->steer ? steer : NULL,
                                   .free = attacker_free},
                           .inner = *learner,
                           .attack = attack,
                           .sigma = sigma};
    *learner = (struct pfl_learner){.ops = &a->ops, .self = a};
}
