/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of a multi-layer perceptron: y = x W^T + b per layer, ReLU between layers, softmax cross-entropy at the end.
 * Parameters lie in one block in PyTorch's order: layers.0.weight (out, in), layers.0.bias (out), layers.1.weight, ... */
#ifndef PFL_LEARNING_MLP_MATH_H
#define PFL_LEARNING_MLP_MATH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/rng.h"

enum {
    PFL_MLP_HIDDEN_MAX = 8,
    PFL_MLP_LAYERS_MAX = PFL_MLP_HIDDEN_MAX + 1,
    PFL_MLP_WIDTH_MAX = 65536, /* of any layer, the input too */
    PFL_MLP_BATCH_MAX = 65536,
};
#define PFL_MLP_PARAMS_MAX ((size_t)1 << 28)

struct pfl_mlp_net {
    unsigned n_layers;                                           /* of weights */
    size_t width[PFL_MLP_LAYERS_MAX + 1];                        /* input, hidden ..., classes */
    size_t weight[PFL_MLP_LAYERS_MAX], bias[PFL_MLP_LAYERS_MAX]; /* where each starts in the block, in floats */
    size_t n_params;
};
/** widths: n of them, 2 to PFL_MLP_LAYERS_MAX + 1. INVALID or TOO_BIG naming the width that is out of range. */
enum pfl_rc pfl_mlp_net_init(struct pfl_mlp_net *net, const size_t *widths, size_t n, struct pfl_err *err) PFL_WARN_UNUSED;

/** PyTorch's default for Linear: weights and biases from U(-1/sqrt(in), 1/sqrt(in)), in the block's order. */
void pfl_mlp_init_params(const struct pfl_mlp_net *net, struct pfl_rng *rng, float *params);

/** Room for the activations of a batch, and, for training, their gradients. */
struct pfl_mlp_work {
    size_t batch_max;
    float *act[PFL_MLP_LAYERS_MAX + 1]; /* act[l] is (batch, width[l]); act[0] is the input, written by the caller */
    float *delta[2];                    /* (batch, widest layer behind the input); NULL where not for training */
    float *block;                       /* owned: all of the above */
};
enum pfl_rc pfl_mlp_work_init(struct pfl_mlp_work *w, const struct pfl_mlp_net *net, size_t batch_max, bool training,
                              struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_mlp_work_deinit(struct pfl_mlp_work *w); /* for PFL_AUTO too */

/** Runs act[0] of `batch` samples through the net; the logits are act[n_layers]. */
void pfl_mlp_forward(const struct pfl_mlp_net *net, const float *params, struct pfl_mlp_work *w, size_t batch);

struct pfl_mlp_score {
    double loss_sum; /* cross-entropy summed over the samples */
    size_t n_right;  /* samples whose largest logit (the first of equals) is their label's */
};
/** Loss of the logits there are. Labels are below the number of classes. */
void pfl_mlp_score(const struct pfl_mlp_net *net, const struct pfl_mlp_work *w, const uint8_t *labels, size_t batch,
                   struct pfl_mlp_score *ret);

/** Forward, loss, and the gradient of the mean loss into grad (n_params). Returns the loss's sum over the batch. */
double pfl_mlp_gradient(const struct pfl_mlp_net *net, const float *params, struct pfl_mlp_work *w, const uint8_t *labels,
                        size_t batch, float *grad);

#endif
