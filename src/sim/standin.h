/* SPDX-License-Identifier: Apache-2.0 */
/* A learner for simulations of the protocol at scale: its "model" is a small vector, its "training" moves the vector half-way
 * towards a point of the node's own. The point that all nodes approach together is the weighted mean of theirs, so whether the
 * network learns can be checked, and what a contribution must look like is known exactly. */
#ifndef PFL_SIM_STANDIN_H
#define PFL_SIM_STANDIN_H

#include "learning/learner.h"

/** One F32 tensor "w" of n_values (> 0). The initial vector is that of the node: a node that started from its own and not from the
 *  common one shows. evaluate: loss is the mean square of the distance to node's point, accuracy 1 / (1 + loss). */
void pfl_standin_learner_new(unsigned node, size_t n_values, struct pfl_learner *ret);
uint64_t pfl_standin_samples(unsigned node); /* the weight of its contribution: odd, and another one for each of 500 nodes */
float pfl_standin_target(unsigned node, size_t value);

#endif
