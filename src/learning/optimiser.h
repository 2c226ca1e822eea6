/* SPDX-License-Identifier: Apache-2.0 */
/* Optimisers over one flat block of parameters, in the order of operations of torch.optim.
 * Each element on its own, so vector width changes nothing. */
#ifndef PFL_LEARNING_OPTIMISER_H
#define PFL_LEARNING_OPTIMISER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum pfl_optimiser_kind {
    PFL_OPTIMISER_ADAM, /* Kingma and Ba 2015, Algorithm 1; epsilon is added after the second moment's correction */
    PFL_OPTIMISER_SGD,  /* with heavy-ball momentum as torch.optim.SGD has it: no dampening, the buffer begins as the gradient */
};
/** "adam", "sgd" */
bool pfl_optimiser_parse(const char *name, enum pfl_optimiser_kind *ret);

struct pfl_optimiser_opts {
    enum pfl_optimiser_kind kind;
    double learning_rate;
    double momentum;     /* SGD; [0, 1) */
    double weight_decay; /* times the parameter, added to its gradient (L2), as in torch.optim */
};
/** INVALID naming the option that is out of range. */
enum pfl_rc pfl_optimiser_check(const struct pfl_optimiser_opts *o, struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_optimiser {
    struct pfl_optimiser_opts o;
    double beta1, beta2, epsilon; /* Adam: PyTorch's 0.9, 0.999, 1e-8 */
    uint64_t step;
    size_t n;
    float *m, *v; /* owned, n each: Adam's moments; m alone: SGD's momentum; NULL where not needed */
};
/** UNAVAILABLE: no memory. */
enum pfl_rc pfl_optimiser_init(struct pfl_optimiser *a, const struct pfl_optimiser_opts *o, size_t n,
                               struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_optimiser_deinit(struct pfl_optimiser *a); /* for PFL_AUTO too; accepts a zeroed one */

/** params[i] moves against grad[i], n of each. grad is changed where there is weight decay. */
void pfl_optimiser_step(struct pfl_optimiser *a, float *params, float *grad);

#endif
