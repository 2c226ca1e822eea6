/* SPDX-License-Identifier: Apache-2.0 */
/* Feed-forward networks: a row of layers (dense, convolution, pooling), softmax cross-entropy at the end.
 *
 * Parameters lie in one block in PyTorch's order and layouts: each layer's weight, then its bias; a dense weight is (out, in), a
 * convolution's (out channels, in channels, kernel, kernel). Activations are (batch, channels, height, width).
 * Convolutions are im2col and one matrix product for each group of samples. Matrix products are OpenBLAS's, whose result depends on
 * the kind of processor and the number of threads but not on the run; all else is a loop in fixed order. */
#ifndef PFL_LEARNING_NET_H
#define PFL_LEARNING_NET_H

#include <stdbool.h>

#include "base/err.h"
#include "base/rng.h"
#include "tensor/model.h"

enum {
    PFL_NET_LAYERS_MAX = 24,
    PFL_NET_HIDDEN_MAX = 8,      /* hidden layers of an MLP */
    PFL_NET_WIDTH_MAX = 1 << 20, /* values of one sample, behind any layer */
    PFL_NET_BATCH_MAX = 65536,
};
#define PFL_NET_PARAMS_MAX ((size_t)1 << 28)

enum pfl_layer_kind { PFL_LAYER_DENSE, PFL_LAYER_CONV, PFL_LAYER_MAXPOOL, PFL_LAYER_GLOBAL_MEAN };
enum pfl_activation { PFL_ACT_IDENTITY, PFL_ACT_RELU, PFL_ACT_TANH, PFL_ACT_SIGMOID };
/** "relu", "tanh", "sigmoid" */
bool pfl_activation_parse(const char *name, enum pfl_activation *ret);
const char *pfl_activation_name(enum pfl_activation a);

struct pfl_shape3 {
    size_t channels, height, width;
};
static inline size_t pfl_shape3_size(struct pfl_shape3 s)
{
    return s.channels * s.height * s.width;
}

struct pfl_layer {
    enum pfl_layer_kind kind;
    enum pfl_activation activation; /* of its output */
    char name[24];                  /* of its tensors: "<name>.weight", "<name>.bias" */
    struct pfl_shape3 in, out;
    size_t kernel, stride, pad; /* convolution; pooling: kernel = stride, what does not fill a window is left out */
    unsigned skip;              /* 1 + the layer whose input is added before the activation; 0: none. Of another shape it is read
                                 * with a stride, and the channels that it lacks count as zero (He et al. 2016, option A) */
    bool zero_init;             /* begins at zero */
    size_t weight, bias;        /* where each starts in the block, in floats; without meaning for pooling */
    size_t fan_in;              /* 0: no parameters */
};

struct pfl_net {
    unsigned n_layers;
    struct pfl_layer layers[PFL_NET_LAYERS_MAX];
    size_t n_params, n_features, n_classes;
};

/* ---- the built-in models ---- */

enum pfl_net_kind {
    PFL_NET_MLP,
    PFL_NET_LOGISTIC, /* one dense layer */
    /** Two 5x5 convolutions (32 and 64 channels, padded to keep the size), each with ReLU and 2x2 max pooling, dense 512, classes:
     * 1,663,370 parameters on MNIST. Source: McMahan et al. 2017, section 3. */
    PFL_NET_CNN,
    /** conv 6@5x5 (padded by 2 where the image is smaller than 32), pool, conv 16@5x5, pool, dense 120, 84, classes; ReLU as in
     * today's use of it. Source: LeCun et al. 1998; max pooling as in Li et al. 2022 (niid_bench). */
    PFL_NET_LENET5,
    /** A residual network without normalisation: conv 16@3x3; three stages of 16, 32 and 64 channels with one block each, halving
     * the size; mean over the image; dense. Small enough for a processor; it is not P2PFL's resnet18. Source: He et al. 2016;
     * its second convolutions begin at zero, so that it trains without normalisation (Zhang et al. 2019, "Fixup"). */
    PFL_NET_RESNET8,
};
/** "mlp", "logistic", "cnn", "lenet5", "resnet8" */
bool pfl_net_kind_parse(const char *name, enum pfl_net_kind *ret);

struct pfl_net_spec {
    enum pfl_net_kind kind;
    unsigned hidden[PFL_NET_HIDDEN_MAX], n_hidden; /* MLP */
    enum pfl_activation activation;                /* MLP; IDENTITY stands for ReLU */
};
/** INVALID or TOO_BIG naming what is out of range; INVALID where the images are too small for the model. */
enum pfl_rc pfl_net_make(const struct pfl_net_spec *spec, struct pfl_shape3 input, size_t n_classes, struct pfl_net *ret,
                         struct pfl_err *err) PFL_WARN_UNUSED;
/** Tensors by PyTorch's names and shapes. *ret owned. */
enum pfl_rc pfl_net_layout(const struct pfl_net *net, struct pfl_layout **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** PyTorch's default of Linear and Conv2d: weights and biases from U(-1/sqrt(fan in), 1/sqrt(fan in)), in the block's order. */
void pfl_net_init_params(const struct pfl_net *net, struct pfl_rng *rng, float *params);

/* ---- the arithmetic ---- */

/** Room for the activations of a batch, and, for training, their gradients. */
struct pfl_net_work {
    size_t batch_max;
    float *act[PFL_NET_LAYERS_MAX + 1]; /* act[l] is (batch, input of layer l); act[0] is written by the caller */
    float *delta[2];                    /* (batch, widest layer); NULL where not for training */
    float *skipped[PFL_NET_LAYERS_MAX]; /* training: gradient that a skip brings to the input of layer l, or NULL */
    float *columns;                     /* im2col of a group of samples, or NULL */
    float *block;                       /* owned: all of the above */
};
/** Floats that one sample of a batch needs. */
size_t pfl_net_work_floats(const struct pfl_net *net, bool training);
enum pfl_rc pfl_net_work_init(struct pfl_net_work *w, const struct pfl_net *net, size_t batch_max, bool training,
                              struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_net_work_deinit(struct pfl_net_work *w); /* for PFL_AUTO too */

/** Runs act[0] of `batch` samples through the net; the logits are act[n_layers]. */
void pfl_net_forward(const struct pfl_net *net, const float *params, struct pfl_net_work *w, size_t batch);

struct pfl_net_score {
    double loss_sum; /* cross-entropy summed over the samples */
    size_t n_right;  /* samples whose largest logit (the first of equals) is their label's */
};
/** Loss of the logits there are. Labels are below the number of classes. */
void pfl_net_score(const struct pfl_net *net, const struct pfl_net_work *w, const uint8_t *labels, size_t batch,
                   struct pfl_net_score *ret);

/** Forward, loss, and the gradient of the mean loss into grad (n_params). Returns the loss's sum over the batch. */
double pfl_net_gradient(const struct pfl_net *net, const float *params, struct pfl_net_work *w, const uint8_t *labels, size_t batch,
                        float *grad);

#endif
