/* SPDX-License-Identifier: Apache-2.0 */
/* A net's way forwards and backwards. Layers are looked at one after the other; the only thing that crosses them is a skip, whose
 * gradient waits in `skipped` until its layer's turn has come. */
#include "learning/net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "learning/net_layer.h"

/* ---- parameters ---- */

static size_t biases_of(const struct pfl_layer *l)
{
    return l->fan_in ? l->kind == PFL_LAYER_CONV ? l->out.channels : pfl_shape3_size(l->out) : 0;
}

static void describe(const struct pfl_layer *l, struct pfl_tensor_desc *weight, struct pfl_tensor_desc *bias)
{
    *weight = (struct pfl_tensor_desc){.dtype = PFL_F32, .rank = 2, .shape = {biases_of(l), l->fan_in}};
    if (l->kind == PFL_LAYER_CONV) {
        const size_t shape[] = {l->out.channels, l->in.channels, l->kernel, l->kernel};
        weight->rank = PFL_ARRAY_LEN(shape);
        memcpy(weight->shape, shape, sizeof(shape));
    }
    *bias = (struct pfl_tensor_desc){.dtype = PFL_F32, .rank = 1, .shape = {biases_of(l)}};
    (void)snprintf(weight->name, sizeof(weight->name), "%s.weight", l->name);
    (void)snprintf(bias->name, sizeof(bias->name), "%s.bias", l->name);
}

enum pfl_rc pfl_net_layout(const struct pfl_net *net, struct pfl_layout **ret, struct pfl_err *err)
{
    struct pfl_tensor_desc descs[2 * PFL_NET_LAYERS_MAX] = {0};
    size_t n = 0;
    for (unsigned i = 0; i < net->n_layers; i++) {
        if (net->layers[i].fan_in == 0)
            continue;
        describe(&net->layers[i], &descs[n], &descs[n + 1]);
        n += 2;
    }
    return pfl_layout_new(descs, n, ret, err);
}

void pfl_net_init_params(const struct pfl_net *net, struct pfl_rng *rng, float *params)
{
    for (unsigned i = 0; i < net->n_layers; i++) {
        const struct pfl_layer *l = &net->layers[i];
        size_t end = l->bias + biases_of(l);
        if (l->fan_in == 0)
            continue;
        double bound = l->zero_init ? 0.0 : 1.0 / sqrt((double)l->fan_in);
        for (size_t k = l->weight; k < end; k++)
            params[k] = (float)((2.0 * pfl_rng_unit(rng) - 1.0) * bound);
    }
}

/* ---- working memory ---- */

static size_t in_size(const struct pfl_net *net, unsigned layer)
{
    return layer == net->n_layers ? net->n_classes : pfl_shape3_size(net->layers[layer].in);
}

/* Is the input of this layer added to another one's output? */
static bool is_skipped(const struct pfl_net *net, unsigned layer)
{
    for (unsigned i = 0; i < net->n_layers; i++) {
        if (net->layers[i].skip == layer + 1)
            return true;
    }
    return false;
}

static size_t widest(const struct pfl_net *net)
{
    size_t most = 0;
    for (unsigned l = 1; l <= net->n_layers; l++)
        most = in_size(net, l) > most ? in_size(net, l) : most;
    return most;
}

size_t pfl_net_work_floats(const struct pfl_net *net, bool training)
{
    size_t n = training ? 2 * widest(net) : 0;
    for (unsigned l = 0; l <= net->n_layers; l++)
        n += in_size(net, l) * (training && is_skipped(net, l) ? 2 : 1);
    return n;
}

static size_t most_columns(const struct pfl_net *net, size_t batch)
{
    size_t most = 0;
    for (unsigned l = 0; l < net->n_layers; l++) {
        size_t n = pfl_layer_columns(&net->layers[l], batch);
        most = n > most ? n : most;
    }
    return most;
}

enum pfl_rc pfl_net_work_init(struct pfl_net_work *w, const struct pfl_net *net, size_t batch_max, bool training,
                              struct pfl_err *err)
{
    PFL_ASSERT(batch_max >= 1 && batch_max <= PFL_NET_BATCH_MAX);
    size_t columns = most_columns(net, batch_max);
    /* far from an overflow: 2^16 samples of at most 2 * 25 * 2^20 values */
    float *p = pfl_try_malloc((batch_max * pfl_net_work_floats(net, training) + columns) * sizeof(float));
    if (!p)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for batches of %zu", batch_max);
    *w = (struct pfl_net_work){.batch_max = batch_max, .block = p};
    for (unsigned l = 0; l <= net->n_layers; l++) {
        w->act[l] = p;
        p += batch_max * in_size(net, l);
    }
    for (unsigned i = 0; training && i < 2; i++) {
        w->delta[i] = p;
        p += batch_max * widest(net);
    }
    for (unsigned l = 0; training && l < net->n_layers; l++) {
        if (!is_skipped(net, l))
            continue;
        w->skipped[l] = p;
        p += batch_max * in_size(net, l);
    }
    if (columns)
        w->columns = p;
    return PFL_OK;
}

void pfl_net_work_deinit(struct pfl_net_work *w)
{
    free(w->block);
    *w = (struct pfl_net_work){0};
}

/* ---- skips ---- */

/* wide (batch, from) and narrow (batch, to): narrow += wide where they meet, or with `back` wide += narrow. */
static void add_skip(struct pfl_shape3 from, struct pfl_shape3 to, size_t batch, float *wide, float *narrow, bool back)
{
    size_t stride = (from.height + to.height - 1) / to.height, channels = from.channels < to.channels ? from.channels : to.channels;
    for (size_t b = 0; b < batch; b++) {
        for (size_t c = 0; c < channels; c++) {
            float *w = wide + b * pfl_shape3_size(from) + c * from.height * from.width;
            float *n = narrow + b * pfl_shape3_size(to) + c * to.height * to.width;
            for (size_t i = 0; i < to.height * to.width; i++) {
                size_t at = i / to.width * stride * from.width + i % to.width * stride;
                if (back)
                    w[at] += n[i];
                else
                    n[i] += w[at];
            }
        }
    }
}

/* ---- forwards ---- */

void pfl_net_forward(const struct pfl_net *net, const float *params, struct pfl_net_work *w, size_t batch)
{
    PFL_ASSERT(batch >= 1 && batch <= w->batch_max);
    for (unsigned i = 0; i < net->n_layers; i++) {
        const struct pfl_layer *l = &net->layers[i];
        pfl_layer_forward(l, params, w->act[i], batch, w->columns, w->act[i + 1]);
        if (l->skip)
            add_skip(net->layers[l->skip - 1].in, l->out, batch, w->act[l->skip - 1], w->act[i + 1], false);
        pfl_activate(l->activation, w->act[i + 1], batch * in_size(net, i + 1));
    }
}

static size_t largest(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        if (x[i] > x[best])
            best = i;
    }
    return best;
}

/* Softmax of one row into p, where p is not NULL; returns the cross-entropy against label. The maximum is taken off first, so
 * that no exponential overflows. */
static double softmax_row(const float *logits, size_t n, size_t label, float scale, float *p)
{
    float top = logits[largest(logits, n)];
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)expf(logits[i] - top);
    for (size_t i = 0; p && i < n; i++)
        p[i] = scale * ((float)((double)expf(logits[i] - top) / sum) - (i == label ? 1.0f : 0.0f));
    return log(sum) - (double)(logits[label] - top);
}

void pfl_net_score(const struct pfl_net *net, const struct pfl_net_work *w, const uint8_t *labels, size_t batch,
                   struct pfl_net_score *ret)
{
    struct pfl_net_score s = {0};
    for (size_t b = 0; b < batch; b++) {
        const float *row = w->act[net->n_layers] + b * net->n_classes;
        PFL_ASSERT(labels[b] < net->n_classes);
        s.loss_sum += softmax_row(row, net->n_classes, labels[b], 0.0f, NULL);
        s.n_right += largest(row, net->n_classes) == labels[b];
    }
    *ret = s;
}

/* ---- backwards ---- */

double pfl_net_gradient(const struct pfl_net *net, const float *params, struct pfl_net_work *w, const uint8_t *labels, size_t batch,
                        float *grad)
{
    PFL_ASSERT(w->delta[0]);
    pfl_net_forward(net, params, w, batch);
    float *delta = w->delta[0], *next = w->delta[1];
    double loss = 0.0;
    for (size_t b = 0; b < batch; b++) {
        PFL_ASSERT(labels[b] < net->n_classes);
        loss += softmax_row(w->act[net->n_layers] + b * net->n_classes, net->n_classes, labels[b], 1.0f / (float)batch,
                            delta + b * net->n_classes);
    }
    for (unsigned l = 0; l < net->n_layers; l++) {
        if (w->skipped[l])
            memset(w->skipped[l], 0, batch * in_size(net, l) * sizeof(float));
    }
    for (unsigned l = net->n_layers; l-- > 0;) {
        const struct pfl_layer *layer = &net->layers[l];
        if (layer->skip)
            add_skip(net->layers[layer->skip - 1].in, layer->out, batch, w->skipped[layer->skip - 1], delta, true);
        pfl_layer_backward(layer, params, w->act[l], delta, batch, w->columns, grad, l > 0 ? next : NULL);
        if (l == 0)
            break;
        size_t n = batch * in_size(net, l);
        for (size_t i = 0; w->skipped[l] && i < n; i++)
            next[i] += w->skipped[l][i];
        pfl_activation_slope(net->layers[l - 1].activation, w->act[l], next, n);
        float *t = delta;
        delta = next;
        next = t;
    }
    return loss;
}
