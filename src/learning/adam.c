/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over parameters, gradient and both moments; each element on its own, so vector width changes nothing. */
#include "learning/adam.h"

#include <math.h>
#include <string.h>

void pfl_adam_init(struct pfl_adam *a, double learning_rate, float *m, float *v, size_t n)
{
    *a = (struct pfl_adam){.learning_rate = learning_rate, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .n = n, .m = m, .v = v};
    memset(m, 0, n * sizeof(*m));
    memset(v, 0, n * sizeof(*v));
}

static void update(float *restrict p, const float *restrict g, float *restrict m, float *restrict v, size_t n,
                   const float c[static 7])
{
    const float b1 = c[0], not_b1 = c[1], b2 = c[2], not_b2 = c[3], root2 = c[4], eps = c[5], rate = c[6];
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + not_b1 * g[i];
        v[i] = b2 * v[i] + not_b2 * (g[i] * g[i]);
        p[i] -= rate * (m[i] / (sqrtf(v[i]) / root2 + eps));
    }
}

void pfl_adam_step(struct pfl_adam *a, float *params, const float *grad)
{
    double t = (double)++a->step;
    const float c[7] = {
        (float)a->beta1,
        (float)(1.0 - a->beta1),
        (float)a->beta2,
        (float)(1.0 - a->beta2),
        (float)sqrt(1.0 - pow(a->beta2, t)),
        (float)a->epsilon,
        (float)(a->learning_rate / (1.0 - pow(a->beta1, t))),
    };
    update(params, grad, a->m, a->v, a->n, c);
}
