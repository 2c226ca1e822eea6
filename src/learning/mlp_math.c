/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products are OpenBLAS's, whose result depends on the kind of processor and the number of threads but not on the run;
 * everything else is a loop in fixed order. Sizes were checked when the net was made, so they fit a BLAS int. */
#include "learning/mlp_math.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum pfl_rc pfl_mlp_net_init(struct pfl_mlp_net *net, const size_t *widths, size_t n, struct pfl_err *err)
{
    struct pfl_mlp_net r = {0};
    if (n < 2 || n > PFL_MLP_LAYERS_MAX + 1)
        return pfl_err_set(err, PFL_INVALID, "an MLP of %zu widths; 2 to %d are possible", n, PFL_MLP_LAYERS_MAX + 1);
    for (size_t i = 0; i < n; i++) {
        if (widths[i] == 0 || widths[i] > PFL_MLP_WIDTH_MAX)
            return pfl_err_set(err, PFL_INVALID, "width %zu of the MLP is %zu, 1 to %d are possible", i, widths[i],
                               PFL_MLP_WIDTH_MAX);
        r.width[i] = widths[i];
    }
    r.n_layers = (unsigned)(n - 1);
    for (unsigned l = 0; l < r.n_layers; l++) {
        r.weight[l] = r.n_params;
        r.bias[l] = r.weight[l] + r.width[l] * r.width[l + 1];
        r.n_params = r.bias[l] + r.width[l + 1];
    }
    if (r.n_params > PFL_MLP_PARAMS_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "an MLP of %zu parameters, the limit is %zu", r.n_params, PFL_MLP_PARAMS_MAX);
    *net = r;
    return PFL_OK;
}

void pfl_mlp_init_params(const struct pfl_mlp_net *net, struct pfl_rng *rng, float *params)
{
    for (unsigned l = 0; l < net->n_layers; l++) {
        double bound = 1.0 / sqrt((double)net->width[l]);
        size_t end = net->bias[l] + net->width[l + 1];
        for (size_t i = net->weight[l]; i < end; i++)
            params[i] = (float)((2.0 * pfl_rng_unit(rng) - 1.0) * bound);
    }
}

enum pfl_rc pfl_mlp_work_init(struct pfl_mlp_work *w, const struct pfl_mlp_net *net, size_t batch_max, bool training,
                              struct pfl_err *err)
{
    PFL_ASSERT(batch_max >= 1 && batch_max <= PFL_MLP_BATCH_MAX);
    size_t per_sample = 0, widest = 0;
    for (unsigned l = 0; l <= net->n_layers; l++) {
        per_sample += net->width[l];
        if (l > 0 && net->width[l] > widest)
            widest = net->width[l];
    }
    size_t floats = batch_max * (per_sample + (training ? 2 * widest : 0)); /* far from an overflow: 2^16 * 12 * 2^16 */
    float *p = pfl_try_malloc(floats * sizeof(float));
    if (!p)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for batches of %zu", batch_max);
    *w = (struct pfl_mlp_work){.batch_max = batch_max, .block = p};
    for (unsigned l = 0; l <= net->n_layers; l++, p += batch_max * net->width[l - 1])
        w->act[l] = p;
    for (unsigned i = 0; training && i < 2; i++, p += batch_max * widest)
        w->delta[i] = p;
    return PFL_OK;
}

void pfl_mlp_work_deinit(struct pfl_mlp_work *w)
{
    free(w->block);
    *w = (struct pfl_mlp_work){0};
}

static void relu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i]; /* NaN stays NaN, as in PyTorch */
}

void pfl_mlp_forward(const struct pfl_mlp_net *net, const float *params, struct pfl_mlp_work *w, size_t batch)
{
    PFL_ASSERT(batch >= 1 && batch <= w->batch_max);
    for (unsigned l = 0; l < net->n_layers; l++) {
        size_t n_in = net->width[l], n_out = net->width[l + 1];
        float *out = w->act[l + 1]; /* (batch, n_out) */
        for (size_t b = 0; b < batch; b++)
            memcpy(out + b * n_out, params + net->bias[l], n_out * sizeof(float));
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)batch, (int)n_out, (int)n_in, 1.0f, w->act[l], (int)n_in,
                    params + net->weight[l], (int)n_in, 1.0f, out, (int)n_out);
        if (l + 1 < net->n_layers)
            relu(out, batch * n_out);
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

void pfl_mlp_score(const struct pfl_mlp_net *net, const struct pfl_mlp_work *w, const uint8_t *labels, size_t batch,
                   struct pfl_mlp_score *ret)
{
    size_t n_classes = net->width[net->n_layers];
    struct pfl_mlp_score s = {0};
    for (size_t b = 0; b < batch; b++) {
        const float *row = w->act[net->n_layers] + b * n_classes;
        PFL_ASSERT(labels[b] < n_classes);
        s.loss_sum += softmax_row(row, n_classes, labels[b], 0.0f, NULL);
        s.n_right += largest(row, n_classes) == labels[b];
    }
    *ret = s;
}

/* grad_w = delta^T x, grad_b = column sums of delta. delta is (batch, n_out), x is (batch, n_in). */
static void layer_gradient(const float *delta, const float *x, size_t batch, size_t n_out, size_t n_in, float *grad_w,
                           float *grad_b)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n_out, (int)n_in, (int)batch, 1.0f, delta, (int)n_out, x, (int)n_in,
                0.0f, grad_w, (int)n_in);
    memset(grad_b, 0, n_out * sizeof(float));
    for (size_t b = 0; b < batch; b++) {
        for (size_t i = 0; i < n_out; i++)
            grad_b[i] += delta[b * n_out + i];
    }
}

double pfl_mlp_gradient(const struct pfl_mlp_net *net, const float *params, struct pfl_mlp_work *w, const uint8_t *labels,
                        size_t batch, float *grad)
{
    PFL_ASSERT(w->delta[0]);
    pfl_mlp_forward(net, params, w, batch);
    unsigned last = net->n_layers;
    size_t n_classes = net->width[last];
    float *delta = w->delta[0], *next = w->delta[1];
    double loss = 0.0;
    for (size_t b = 0; b < batch; b++) {
        PFL_ASSERT(labels[b] < n_classes);
        loss += softmax_row(w->act[last] + b * n_classes, n_classes, labels[b], 1.0f / (float)batch, delta + b * n_classes);
    }
    for (unsigned l = last; l-- > 0;) {
        size_t n_in = net->width[l], n_out = net->width[l + 1];
        const float *x = w->act[l];
        layer_gradient(delta, x, batch, n_out, n_in, grad + net->weight[l], grad + net->bias[l]);
        if (l == 0)
            break;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)batch, (int)n_in, (int)n_out, 1.0f, delta, (int)n_out,
                    params + net->weight[l], (int)n_in, 0.0f, next, (int)n_in);
        for (size_t i = 0; i < batch * n_in; i++)
            next[i] = x[i] > 0.0f ? next[i] : 0.0f;
        float *t = delta;
        delta = next;
        next = t;
    }
    return loss;
}
