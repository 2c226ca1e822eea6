/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over parameters, gradient and state for each step. */
#include "learning/optimiser.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

bool pfl_optimiser_parse(const char *name, enum pfl_optimiser_kind *ret)
{
    bool adam = pfl_streq(name, "adam");
    if (!adam && !pfl_streq(name, "sgd"))
        return false;
    *ret = adam ? PFL_OPTIMISER_ADAM : PFL_OPTIMISER_SGD;
    return true;
}

enum pfl_rc pfl_optimiser_check(const struct pfl_optimiser_opts *o, struct pfl_err *err)
{
    if (!(o->learning_rate > 0.0 && isfinite(o->learning_rate)))
        return pfl_err_set(err, PFL_INVALID, "learning rate %g: it has to be above 0", o->learning_rate);
    if (!(o->momentum >= 0.0 && o->momentum < 1.0))
        return pfl_err_set(err, PFL_INVALID, "momentum %g: it has to be from 0 to below 1", o->momentum);
    if (o->momentum > 0.0 && o->kind != PFL_OPTIMISER_SGD)
        return pfl_err_set(err, PFL_INVALID, "momentum %g: only sgd has it", o->momentum);
    if (!(o->weight_decay >= 0.0 && isfinite(o->weight_decay)))
        return pfl_err_set(err, PFL_INVALID, "weight decay %g: it has to be 0 or more", o->weight_decay);
    return PFL_OK;
}

enum pfl_rc pfl_optimiser_init(struct pfl_optimiser *a, const struct pfl_optimiser_opts *o, size_t n, struct pfl_err *err)
{
    bool adam = o->kind == PFL_OPTIMISER_ADAM, needs_m = adam || o->momentum > 0.0;
    struct pfl_optimiser r = {.o = *o, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .n = n};
    r.m = needs_m ? pfl_try_malloc(n * sizeof(float)) : NULL;
    r.v = adam ? pfl_try_malloc(n * sizeof(float)) : NULL;
    if ((needs_m && !r.m) || (adam && !r.v)) {
        pfl_optimiser_deinit(&r);
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for the optimiser of %zu parameters", n);
    }
    if (r.m)
        memset(r.m, 0, n * sizeof(float));
    if (r.v)
        memset(r.v, 0, n * sizeof(float));
    *a = r;
    return PFL_OK;
}

void pfl_optimiser_deinit(struct pfl_optimiser *a)
{
    free(a->m);
    free(a->v);
    a->m = a->v = NULL;
}

static void adam_update(float *restrict p, const float *restrict g, float *restrict m, float *restrict v, size_t n,
                        const float c[static 7])
{
    const float b1 = c[0], not_b1 = c[1], b2 = c[2], not_b2 = c[3], root2 = c[4], eps = c[5], rate = c[6];
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + not_b1 * g[i];
        v[i] = b2 * v[i] + not_b2 * (g[i] * g[i]);
        p[i] -= rate * (m[i] / (sqrtf(v[i]) / root2 + eps));
    }
}

static void adam_step(struct pfl_optimiser *a, float *params, const float *grad)
{
    double t = (double)a->step;
    const float c[7] = {
        (float)a->beta1,
        (float)(1.0 - a->beta1),
        (float)a->beta2,
        (float)(1.0 - a->beta2),
        (float)sqrt(1.0 - pow(a->beta2, t)),
        (float)a->epsilon,
        (float)(a->o.learning_rate / (1.0 - pow(a->beta1, t))),
    };
    adam_update(params, grad, a->m, a->v, a->n, c);
}

static void sgd_update(float *restrict p, const float *restrict g, float *restrict m, size_t n, float momentum, float rate)
{
    for (size_t i = 0; i < n; i++) {
        m[i] = momentum * m[i] + g[i];
        p[i] -= rate * m[i];
    }
}

void pfl_optimiser_step(struct pfl_optimiser *a, float *params, float *grad)
{
    const float decay = (float)a->o.weight_decay, rate = (float)a->o.learning_rate;
    a->step++;
    for (size_t i = 0; decay > 0.0f && i < a->n; i++)
        grad[i] += decay * params[i];
    if (a->o.kind == PFL_OPTIMISER_ADAM) {
        adam_step(a, params, grad);
        return;
    }
    if (a->m) {
        sgd_update(params, grad, a->m, a->n, (float)a->o.momentum, rate);
        return;
    }
    for (size_t i = 0; i < a->n; i++)
        params[i] -= rate * grad[i];
}
