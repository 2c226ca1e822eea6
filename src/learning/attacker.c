/* SPDX-License-Identifier: Apache-2.0 */
/* What a fit of the learner inside gives is changed. */
#include "learning/attacker.h"

#include "base/mem.h"
#include "base/rng.h"
#include "learning/wrapper.h"

struct attacker {
    struct pfl_wrapper wrapper;
    enum pfl_attack attack;
    double sigma;
};

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
    enum pfl_rc rc = a->wrapper.inner.ops->fit(a->wrapper.inner.self, start, epochs, seed, progress, user, &honest, ret, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_model *m = pfl_model_copy(honest);
    if (!m)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model");
    distort(a, start, m, seed);
    *ret_model = m;
    return PFL_OK;
}

void pfl_attacker_wrap(struct pfl_learner *learner, enum pfl_attack attack, double sigma)
{
    struct attacker *a = pfl_xcalloc(1, sizeof(*a));
    pfl_wrapper_init(&a->wrapper, learner);
    a->wrapper.ops.fit = fit;
    a->attack = attack;
    a->sigma = sigma;
}
