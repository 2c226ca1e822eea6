/* SPDX-License-Identifier: Apache-2.0 */
/* What trains: the contract between a node's driver and a model with its data.
 * All calls but interrupt come from one worker at a time, never from the loop. */
#ifndef PFL_LEARNING_LEARNER_H
#define PFL_LEARNING_LEARNER_H

#include "tensor/model.h"

struct pfl_metrics {
    double loss;     /* mean over the test samples */
    double accuracy; /* share in [0, 1] */
    uint64_t n_samples;
};
struct pfl_fit_result {
    double loss;        /* mean training loss of the last epoch */
    uint64_t n_samples; /* samples in the training set: the weight of the contribution */
    uint64_t n_steps;
    double learning_rate; /* of the local optimiser; 0: the learner has none or does not say */
    double normaliser;    /* FedNova's ||a||: n_steps for plain SGD, more with momentum; 0: the learner does not say */
};

/** What an aggregation rule asks of the local training. */
struct pfl_fit_steer {
    double proximal_mu;           /* FedProx: mu/2 |w - start|^2 is added to the loss; 0: nothing */
    struct pfl_model *correction; /* SCAFFOLD: added to the gradient of every batch (c - c_i); of the learner's layout, float32;
                                   * NULL: nothing */
};

struct pfl_learner {
    const struct pfl_learner_ops *ops;
    void *self;
};
struct pfl_learner_ops {
    const char *name;
    /** Layout of the parameters, borrowed for the learner's life. */
    struct pfl_layout *(*layout)(void *self);
    /** The initial model from the learner's seed. *ret owned. */
    enum pfl_rc (*init)(void *self, struct pfl_model **ret, struct pfl_err *err);
    /** Trains from `start` for `epochs`; *ret_model owned, its layout is layout(). seed makes the order of samples reproducible.
     *  CANCELED after interrupt(). progress may be NULL; it is called from the worker. */
    enum pfl_rc (*fit)(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                       void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                       struct pfl_fit_result *ret, struct pfl_err *err);
    enum pfl_rc (*evaluate)(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err);
    /** From any thread: a running fit or evaluate ends soon with CANCELED; the next call starts fresh. */
    void (*interrupt)(void *self);
    /** Optional, NULL: the learner cannot be steered. Holds for all fits to come until it is called again; steer NULL: plain fits.
     *  Takes a reference to the correction. INVALID, MALFORMED: out of range, another layout; then nothing changed. */
    enum pfl_rc (*steer)(void *self, const struct pfl_fit_steer *steer, struct pfl_err *err);
    void (*free)(void *self);
};

#endif
