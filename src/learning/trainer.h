/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in learner: a network, an optimiser, and this node's samples. The MLP with Adam is what P2PFL's example trains
 * (784-256-128-10 there). Samples come scaled from the data set (dataset.h).
 *
 * The same options, data, start and seed give the same bytes on the same machine with the same number of threads.
 * Each fit starts with fresh optimiser state, as P2PFL does: its trainer makes a new optimiser for every fit. */
#ifndef PFL_LEARNING_TRAINER_H
#define PFL_LEARNING_TRAINER_H

#include "learning/dataset.h"
#include "learning/learner.h"
#include "learning/net.h"
#include "learning/optimiser.h"

struct pfl_trainer_opts {
    struct pfl_net_spec net;
    struct pfl_optimiser_opts optimiser;
    unsigned batch_size; /* the last batch of an epoch may be smaller */
    unsigned threads;    /* OpenBLAS's, for the whole process; 0 means 1 */
    uint64_t seed;       /* of the initial parameters */
};

/** References to both data sets are taken on success; they must have as many features and classes as each other.
 *  INVALID naming the option that is out of range; TOO_BIG for too many parameters.
 *
 *  Of the learner: fit and evaluate are MALFORMED for a model of another layout, fit is INVALID where training diverged to NaN.
 *  interrupt() ends the fit or evaluate that is running, within a batch. One that comes between calls is forgotten: each call
 *  starts by clearing it, so who cancels a call that has not begun yet has to throw its result away. It can be steered. */
enum pfl_rc pfl_trainer_new(const struct pfl_trainer_opts *opts, struct pfl_dataset *train, struct pfl_dataset *test,
                            struct pfl_learner *ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
