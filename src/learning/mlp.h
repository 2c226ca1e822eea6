/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in learner: an MLP on images, trained with Adam, as P2PFL's example does it (784-256-128-10 there).
 * Tensors are named and laid out as PyTorch's: "layers.0.weight" (out, in), "layers.0.bias" (out), "layers.1.weight", ...
 * Pixels are scaled to [0, 1].
 *
 * The same options, data, start and seed give the same bytes on the same machine with the same number of threads.
 * Each fit starts with fresh optimiser state, as P2PFL does: its trainer makes a new optimiser for every fit. */
#ifndef PFL_LEARNING_MLP_H
#define PFL_LEARNING_MLP_H

#include "learning/dataset.h"
#include "learning/learner.h"
#include "learning/mlp_math.h"

struct pfl_mlp_opts {
    unsigned hidden[PFL_MLP_HIDDEN_MAX];
    unsigned n_hidden; /* 0: no hidden layer */
    double learning_rate;
    unsigned batch_size; /* the last batch of an epoch may be smaller */
    unsigned threads;    /* OpenBLAS's, for the whole process; 0 means 1 */
    uint64_t seed;       /* of the initial parameters */
};

/** References to both data sets are taken on success; they must have as many features and classes as each other.
 *  INVALID naming the option that is out of range; TOO_BIG for too many parameters.
 *
 *  Of the learner: fit and evaluate are MALFORMED for a model of another layout, fit is INVALID where training diverged to NaN.
 *  interrupt() ends the fit or evaluate that is running, within a batch. One that comes between calls is forgotten: each call
 *  starts by clearing it, so who cancels a call that has not begun yet has to throw its result away. */
enum pfl_rc pfl_mlp_learner_new(const struct pfl_mlp_opts *opts, struct pfl_dataset *train, struct pfl_dataset *test,
                                struct pfl_learner *ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
