/* SPDX-License-Identifier: Apache-2.0 */
/* Adam over one flat block of parameters. Source: Kingma and Ba 2015, Algorithm 1, in the order of operations of
 * torch.optim.Adam (epsilon is added after the second moment's correction). */
#ifndef PFL_LEARNING_ADAM_H
#define PFL_LEARNING_ADAM_H

#include <stddef.h>
#include <stdint.h>

struct pfl_adam {
    double learning_rate, beta1, beta2, epsilon;
    uint64_t step;
    size_t n;
    float *m, *v; /* borrowed, n each, zero before the first step */
};

/** Defaults of PyTorch: betas 0.9 and 0.999, epsilon 1e-8. m and v are the caller's and are zeroed here. */
void pfl_adam_init(struct pfl_adam *a, double learning_rate, float *m, float *v, size_t n);

/** params[i] moves against grad[i], n of each. */
void pfl_adam_step(struct pfl_adam *a, float *params, const float *grad);

#endif
