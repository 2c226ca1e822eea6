/* SPDX-License-Identifier: Apache-2.0 */
/* One layer forwards and backwards; shared by net.c and its kernels only. */
#ifndef PFL_LEARNING_NET_LAYER_H
#define PFL_LEARNING_NET_LAYER_H

#include "learning/net.h"

/** out (batch, out) from x (batch, in), before the activation. columns: pfl_layer_columns(l, batch) floats, scratch. */
void pfl_layer_forward(const struct pfl_layer *l, const float *params, const float *x, size_t batch, float *columns, float *out);
/** From delta (batch, out), the gradient before the activation: the parameters' gradient into grad, and the input's into next
 * (batch, in), where that is not NULL. */
void pfl_layer_backward(const struct pfl_layer *l, const float *params, const float *x, const float *delta, size_t batch,
                        float *columns, float *grad, float *next);
/** Floats of scratch that a batch of at most `batch` needs: the im2col of some samples, and their outputs. */
size_t pfl_layer_columns(const struct pfl_layer *l, size_t batch);

void pfl_activate(enum pfl_activation a, float *x, size_t n);
/** delta[i] *= the activation's slope, from its output. */
void pfl_activation_slope(enum pfl_activation a, const float *out, float *delta, size_t n);

#endif
