/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in models as rows of layers. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "learning/net.h"

static const char *const activation_names[] = {"identity", "relu", "tanh", "sigmoid"};

bool pfl_activation_parse(const char *name, enum pfl_activation *ret)
{
    for (unsigned i = PFL_ACT_RELU; i < PFL_ARRAY_LEN(activation_names); i++) {
        if (pfl_streq(name, activation_names[i])) {
            *ret = (enum pfl_activation)i;
            return true;
        }
    }
    return false;
}

const char *pfl_activation_name(enum pfl_activation a)
{
    return activation_names[a];
}

bool pfl_net_kind_parse(const char *name, enum pfl_net_kind *ret)
{
    static const char *const names[] = {"mlp", "logistic", "cnn", "lenet5", "resnet8"};
    for (unsigned i = 0; i < PFL_ARRAY_LEN(names); i++) {
        if (pfl_streq(name, names[i])) {
            *ret = (enum pfl_net_kind)i;
            return true;
        }
    }
    return false;
}

/* A net under construction; the first thing that is wrong stays. */
struct maker {
    struct pfl_net net;
    struct pfl_shape3 at; /* what the next layer gets */
    struct pfl_err *err;
    enum pfl_rc rc;
};

static void fail(struct maker *m, enum pfl_rc rc, const char *fmt, ...) PFL_PRINTF(3, 4);
static void fail(struct maker *m, enum pfl_rc rc, const char *fmt, ...)
{
    char text[PFL_ERR_MAX];
    va_list ap;
    if (m->rc != PFL_OK)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    m->rc = pfl_err_set(m->err, rc, "%s", text);
}

/* Adds the layer; out and fan_in are set. NULL where something was wrong before or is now. */
static struct pfl_layer *add(struct maker *m, struct pfl_layer l)
{
    size_t width = pfl_shape3_size(l.out), n_bias = l.kind == PFL_LAYER_CONV ? l.out.channels : width, n;
    PFL_ASSERT(m->net.n_layers < PFL_NET_LAYERS_MAX);
    if (m->rc != PFL_OK)
        return NULL;
    if (width == 0 || width > PFL_NET_WIDTH_MAX) {
        fail(m, PFL_INVALID, "layer '%s' has %zu values, 1 to %d are possible", l.name, width, PFL_NET_WIDTH_MAX);
        return NULL;
    }
    l.in = m->at;
    l.weight = m->net.n_params;
    l.bias = l.weight;
    if (l.fan_in) {
        if (!pfl_size_mul(l.fan_in, n_bias, &n) || n + n_bias > PFL_NET_PARAMS_MAX - m->net.n_params) {
            fail(m, PFL_TOO_BIG, "layer '%s' makes more than %zu parameters, the limit", l.name, PFL_NET_PARAMS_MAX);
            return NULL;
        }
        l.bias += n;
        m->net.n_params = l.bias + n_bias;
    }
    m->at = l.out;
    m->net.layers[m->net.n_layers] = l;
    return &m->net.layers[m->net.n_layers++];
}

static void name_layer(struct pfl_layer *l, const char *name)
{
    (void)snprintf(l->name, sizeof(l->name), "%s", name);
}

static void dense(struct maker *m, const char *name, size_t width, enum pfl_activation a)
{
    struct pfl_layer l = {.kind = PFL_LAYER_DENSE, .activation = a, .out = {width, 1, 1}, .fan_in = pfl_shape3_size(m->at)};
    name_layer(&l, name);
    (void)add(m, l);
}

static struct pfl_layer *conv(struct maker *m, const char *name, size_t channels, size_t kernel, size_t stride, size_t pad)
{
    struct pfl_layer l = {.kind = PFL_LAYER_CONV,
                          .activation = PFL_ACT_RELU,
                          .kernel = kernel,
                          .stride = stride,
                          .pad = pad,
                          .fan_in = m->at.channels * kernel * kernel};
    name_layer(&l, name);
    size_t h = m->at.height + 2 * pad, w = m->at.width + 2 * pad;
    if (h < kernel || w < kernel) {
        fail(m, PFL_INVALID, "images of %zu x %zu are too small for layer '%s' with its %zu x %zu kernel", m->at.height,
             m->at.width, name, kernel, kernel);
        return NULL;
    }
    l.out = (struct pfl_shape3){channels, (h - kernel) / stride + 1, (w - kernel) / stride + 1};
    return add(m, l);
}

static void pool(struct maker *m)
{
    struct pfl_layer l = {.kind = PFL_LAYER_MAXPOOL, .kernel = 2, .stride = 2, .name = "pool"};
    if (m->at.height < 2 || m->at.width < 2) {
        fail(m, PFL_INVALID, "images of %zu x %zu are too small to be pooled", m->at.height, m->at.width);
        return;
    }
    l.out = (struct pfl_shape3){m->at.channels, m->at.height / 2, m->at.width / 2};
    (void)add(m, l);
}

/* ---- the models ---- */

static void make_mlp(struct maker *m, const struct pfl_net_spec *spec, size_t n_classes)
{
    char name[24];
    enum pfl_activation a = spec->activation == PFL_ACT_IDENTITY ? PFL_ACT_RELU : spec->activation;
    if (spec->n_hidden > PFL_NET_HIDDEN_MAX) {
        fail(m, PFL_INVALID, "%u hidden layers, the limit is %d", spec->n_hidden, PFL_NET_HIDDEN_MAX);
        return;
    }
    for (unsigned i = 0; i <= spec->n_hidden; i++) {
        (void)snprintf(name, sizeof(name), "layers.%u", i);
        dense(m, name, i < spec->n_hidden ? spec->hidden[i] : n_classes, i < spec->n_hidden ? a : PFL_ACT_IDENTITY);
    }
}

static void make_cnn(struct maker *m, size_t n_classes)
{
    (void)conv(m, "conv1", 32, 5, 1, 2);
    pool(m);
    (void)conv(m, "conv2", 64, 5, 1, 2);
    pool(m);
    dense(m, "fc1", 512, PFL_ACT_RELU);
    dense(m, "fc2", n_classes, PFL_ACT_IDENTITY);
}

static void make_lenet5(struct maker *m, size_t n_classes)
{
    (void)conv(m, "conv1", 6, 5, 1, m->at.height < 32 ? 2 : 0);
    pool(m);
    (void)conv(m, "conv2", 16, 5, 1, 0);
    pool(m);
    dense(m, "fc1", 120, PFL_ACT_RELU);
    dense(m, "fc2", 84, PFL_ACT_RELU);
    dense(m, "fc3", n_classes, PFL_ACT_IDENTITY);
}

static void make_resnet8(struct maker *m, size_t n_classes)
{
    char name[24];
    (void)conv(m, "conv1", 16, 3, 1, 1);
    for (unsigned stage = 0; stage < 3; stage++) {
        unsigned first = m->net.n_layers;
        (void)snprintf(name, sizeof(name), "layer%u.0.conv1", stage + 1);
        (void)conv(m, name, (size_t)16 << stage, 3, stage ? 2 : 1, 1);
        (void)snprintf(name, sizeof(name), "layer%u.0.conv2", stage + 1);
        struct pfl_layer *second = conv(m, name, (size_t)16 << stage, 3, 1, 1);
        if (!second)
            return;
        second->skip = first + 1;
        second->zero_init = true;
    }
    struct pfl_layer mean = {.kind = PFL_LAYER_GLOBAL_MEAN, .name = "mean", .out = {m->at.channels, 1, 1}};
    (void)add(m, mean);
    dense(m, "fc", n_classes, PFL_ACT_IDENTITY);
}

static bool needs_images(enum pfl_net_kind k)
{
    return k == PFL_NET_CNN || k == PFL_NET_LENET5 || k == PFL_NET_RESNET8;
}

enum pfl_rc pfl_net_make(const struct pfl_net_spec *spec, struct pfl_shape3 input, size_t n_classes, struct pfl_net *ret,
                         struct pfl_err *err)
{
    struct maker m = {.at = input, .err = err};
    size_t n_features = pfl_shape3_size(input);
    if (n_features == 0 || n_features > PFL_NET_WIDTH_MAX)
        return pfl_err_set(err, PFL_INVALID, "samples of %zu values, 1 to %d are possible", n_features, PFL_NET_WIDTH_MAX);
    if (n_classes < 1 || n_classes > PFL_NET_WIDTH_MAX)
        return pfl_err_set(err, PFL_INVALID, "%zu classes, 1 to %d are possible", n_classes, PFL_NET_WIDTH_MAX);
    if (needs_images(spec->kind) && input.height == 1)
        return pfl_err_set(err, PFL_INVALID, "this model needs images, the samples are rows of %zu values: use mlp or logistic",
                           n_features);
    switch (spec->kind) {
    case PFL_NET_MLP:
        make_mlp(&m, spec, n_classes);
        break;
    case PFL_NET_LOGISTIC:
        dense(&m, "linear", n_classes, PFL_ACT_IDENTITY);
        break;
    case PFL_NET_CNN:
        make_cnn(&m, n_classes);
        break;
    case PFL_NET_LENET5:
        make_lenet5(&m, n_classes);
        break;
    case PFL_NET_RESNET8:
        make_resnet8(&m, n_classes);
        break;
    }
    if (m.rc != PFL_OK)
        return m.rc;
    m.net.n_features = n_features;
    m.net.n_classes = n_classes;
    *ret = m.net;
    return PFL_OK;
}
