/* SPDX-License-Identifier: Apache-2.0 */
/* Dense layers, convolutions and pooling. Sizes were checked when the net was made, so they fit a BLAS int. */
#include "learning/net_layer.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

/* ---- activations ---- */

static void relu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i]; /* NaN stays NaN, as in PyTorch */
}

void pfl_activate(enum pfl_activation a, float *x, size_t n)
{
    switch (a) {
    case PFL_ACT_IDENTITY:
        return;
    case PFL_ACT_RELU:
        relu(x, n);
        return;
    case PFL_ACT_TANH:
        for (size_t i = 0; i < n; i++)
            x[i] = tanhf(x[i]);
        return;
    case PFL_ACT_SIGMOID:
        for (size_t i = 0; i < n; i++)
            x[i] = 1.0f / (1.0f + expf(-x[i]));
        return;
    }
}

void pfl_activation_slope(enum pfl_activation a, const float *out, float *delta, size_t n)
{
    switch (a) {
    case PFL_ACT_IDENTITY:
        return;
    case PFL_ACT_RELU:
        for (size_t i = 0; i < n; i++)
            delta[i] = out[i] > 0.0f ? delta[i] : 0.0f;
        return;
    case PFL_ACT_TANH:
        for (size_t i = 0; i < n; i++)
            delta[i] *= 1.0f - out[i] * out[i];
        return;
    case PFL_ACT_SIGMOID:
        for (size_t i = 0; i < n; i++)
            delta[i] *= out[i] * (1.0f - out[i]);
        return;
    }
}

/* ---- dense ---- */

static void dense_forward(const struct pfl_layer *l, const float *params, const float *x, size_t batch, float *out)
{
    size_t n_in = pfl_shape3_size(l->in), n_out = pfl_shape3_size(l->out);
    for (size_t b = 0; b < batch; b++)
        memcpy(out + b * n_out, params + l->bias, n_out * sizeof(float));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)batch, (int)n_out, (int)n_in, 1.0f, x, (int)n_in, params + l->weight,
                (int)n_in, 1.0f, out, (int)n_out);
}

/* grad_w = delta^T x, grad_b = column sums of delta, next = delta W. */
static void dense_backward(const struct pfl_layer *l, const float *params, const float *x, const float *delta, size_t batch,
                           float *grad, float *next)
{
    size_t n_in = pfl_shape3_size(l->in), n_out = pfl_shape3_size(l->out);
    float *grad_b = grad + l->bias;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n_out, (int)n_in, (int)batch, 1.0f, delta, (int)n_out, x, (int)n_in,
                0.0f, grad + l->weight, (int)n_in);
    memset(grad_b, 0, n_out * sizeof(float));
    for (size_t b = 0; b < batch; b++) {
        for (size_t i = 0; i < n_out; i++)
            grad_b[i] += delta[b * n_out + i];
    }
    if (next)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)batch, (int)n_in, (int)n_out, 1.0f, delta, (int)n_out,
                    params + l->weight, (int)n_in, 0.0f, next, (int)n_in);
}

/* ---- convolution ---- */

/* Samples go through in groups: one large matrix product is faster than many small ones, as long as its columns stay in the cache.
 */
enum { GROUP_FLOATS = 1 << 18 };

static size_t group_of(const struct pfl_layer *l, size_t batch)
{
    size_t fit = GROUP_FLOATS / (l->fan_in * l->out.height * l->out.width);
    fit = fit > 0 ? fit : 1;
    return fit < batch ? fit : batch;
}

size_t pfl_layer_columns(const struct pfl_layer *l, size_t batch)
{
    if (l->kind != PFL_LAYER_CONV)
        return 0;
    return group_of(l, batch) * (l->fan_in + l->out.channels) * l->out.height * l->out.width;
}

/* The output columns [*lo, *hi) whose input column at offset `off` of the kernel lies in the image. */
static void inside(size_t off, size_t pad, size_t stride, size_t in, size_t out, size_t *lo, size_t *hi)
{
    size_t first = off >= pad ? 0 : (pad - off + stride - 1) / stride;
    size_t end = in + pad > off ? (in + pad - off + stride - 1) / stride : 0;
    *hi = end < out ? end : out;
    *lo = first < *hi ? first : *hi;
}

/* columns is (channels * kernel * kernel, out height * out width), its rows `ld` floats apart; what lies in the padding is 0. */
static void im2col(const struct pfl_layer *l, const float *x, float *columns, size_t ld)
{
    size_t oh = l->out.height, ow = l->out.width;
    for (size_t c = 0; c < l->in.channels; c++) {
        const float *plane = x + c * l->in.height * l->in.width;
        for (size_t k = 0; k < l->kernel * l->kernel; k++, columns += ld) {
            size_t ky = k / l->kernel, kx = k % l->kernel, y0, y1, x0, x1;
            inside(ky, l->pad, l->stride, l->in.height, oh, &y0, &y1);
            inside(kx, l->pad, l->stride, l->in.width, ow, &x0, &x1);
            if (y0 > 0 || y1 < oh || x0 > 0 || x1 < ow)
                memset(columns, 0, oh * ow * sizeof(float));
            for (size_t y = y0; y < y1; y++) {
                const float *row = plane + (y * l->stride + ky - l->pad) * l->in.width;
                float *out = columns + y * ow;
                if (l->stride == 1 && x1 > x0) {
                    memcpy(out + x0, row + (x0 + kx - l->pad), (x1 - x0) * sizeof(float));
                    continue;
                }
                for (size_t o = x0; o < x1; o++)
                    out[o] = row[o * l->stride + kx - l->pad];
            }
        }
    }
}

/* Their not overlapping is what lets the compiler add several at a time. */
static void add_row(float *restrict to, const float *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* The transpose of im2col: adds each column's value to the pixel that it was read from. */
static void col2im(const struct pfl_layer *l, const float *columns, size_t ld, float *x)
{
    size_t oh = l->out.height, ow = l->out.width;
    memset(x, 0, pfl_shape3_size(l->in) * sizeof(float));
    for (size_t c = 0; c < l->in.channels; c++) {
        float *plane = x + c * l->in.height * l->in.width;
        for (size_t k = 0; k < l->kernel * l->kernel; k++, columns += ld) {
            size_t ky = k / l->kernel, kx = k % l->kernel, y0, y1, x0, x1;
            inside(ky, l->pad, l->stride, l->in.height, oh, &y0, &y1);
            inside(kx, l->pad, l->stride, l->in.width, ow, &x0, &x1);
            for (size_t y = y0; y < y1; y++) {
                float *row = plane + (y * l->stride + ky - l->pad) * l->in.width;
                const float *from = columns + y * ow;
                if (l->stride == 1 && x1 > x0) {
                    add_row(row + (x0 + kx - l->pad), from + x0, x1 - x0);
                    continue;
                }
                for (size_t o = x0; o < x1; o++)
                    row[o * l->stride + kx - l->pad] += from[o];
            }
        }
    }
}

/* out (channels, group * pixels) becomes y (group, channels, pixels), with the bias. */
static void spread_out(const struct pfl_layer *l, const float *bias, const float *out, size_t group, float *y)
{
    size_t pixels = l->out.height * l->out.width;
    for (size_t s = 0; s < group; s++) {
        for (size_t c = 0; c < l->out.channels; c++, y += pixels) {
            const float *from = out + (c * group + s) * pixels;
            for (size_t i = 0; i < pixels; i++)
                y[i] = from[i] + bias[c];
        }
    }
}

/* The way back: delta (group, channels, pixels) becomes out (channels, group * pixels); each channel's sum goes into bias. */
static void gather(const struct pfl_layer *l, const float *delta, size_t group, float *out, float *bias)
{
    size_t pixels = l->out.height * l->out.width;
    for (size_t s = 0; s < group; s++) {
        for (size_t c = 0; c < l->out.channels; c++, delta += pixels) {
            float sum = 0.0f;
            for (size_t i = 0; i < pixels; i++)
                sum += delta[i];
            bias[c] += sum;
            memcpy(out + (c * group + s) * pixels, delta, pixels * sizeof(float));
        }
    }
}

static void group_columns(const struct pfl_layer *l, const float *x, size_t group, float *columns)
{
    size_t n_in = pfl_shape3_size(l->in), pixels = l->out.height * l->out.width;
    for (size_t s = 0; s < group; s++)
        im2col(l, x + s * n_in, columns + s * pixels, group * pixels);
}

static void conv_forward(const struct pfl_layer *l, const float *params, const float *x, size_t batch, float *columns, float *out)
{
    size_t n_in = pfl_shape3_size(l->in), n_out = pfl_shape3_size(l->out), pixels = l->out.height * l->out.width;
    int m = (int)l->out.channels, k = (int)l->fan_in;
    for (size_t b = 0, group = group_of(l, batch); b < batch; b += group) {
        group = group < batch - b ? group : batch - b;
        int n = (int)(group * pixels);
        float *wide = columns + l->fan_in * group * pixels;
        group_columns(l, x + b * n_in, group, columns);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, params + l->weight, k, columns, n, 0.0f, wide, n);
        spread_out(l, params + l->bias, wide, group, out + b * n_out);
    }
}

static void conv_backward(const struct pfl_layer *l, const float *params, const float *x, const float *delta, size_t batch,
                          float *columns, float *grad, float *next)
{
    size_t n_in = pfl_shape3_size(l->in), n_out = pfl_shape3_size(l->out), pixels = l->out.height * l->out.width;
    int m = (int)l->out.channels, k = (int)l->fan_in;
    memset(grad + l->bias, 0, l->out.channels * sizeof(float));
    for (size_t b = 0, group = group_of(l, batch); b < batch; b += group) {
        group = group < batch - b ? group : batch - b;
        int n = (int)(group * pixels);
        float *wide = columns + l->fan_in * group * pixels;
        gather(l, delta + b * n_out, group, wide, grad + l->bias);
        group_columns(l, x + b * n_in, group, columns);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, k, n, 1.0f, wide, n, columns, n, b == 0 ? 0.0f : 1.0f,
                    grad + l->weight, k);
        if (!next)
            continue;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k, n, m, 1.0f, params + l->weight, k, wide, n, 0.0f, columns, n);
        for (size_t s = 0; s < group; s++)
            col2im(l, columns + s * pixels, group * pixels, next + (b + s) * n_in);
    }
}

/* ---- pooling ---- */

/* Where the largest value of window (y, x) is, the first of equals. */
static size_t window_top(const struct pfl_layer *l, const float *plane, size_t y, size_t x)
{
    size_t row = y * l->kernel * l->in.width + x * l->kernel, top = row;
    for (size_t ky = 0; ky < l->kernel; ky++, row += l->in.width) {
        for (size_t at = row; at < row + l->kernel; at++)
            top = plane[at] > plane[top] ? at : top;
    }
    return top;
}

/* Forwards with next NULL; backwards: next (batch, in) gets delta where the largest values are. */
static void maxpool(const struct pfl_layer *l, const float *x, size_t batch, float *out, const float *delta, float *next)
{
    size_t in = l->in.height * l->in.width, planes = batch * l->in.channels, at = 0;
    if (next)
        memset(next, 0, planes * in * sizeof(float));
    for (size_t p = 0; p < planes; p++) {
        for (size_t y = 0; y < l->out.height; y++) {
            for (size_t o = 0; o < l->out.width; o++, at++) {
                size_t top = p * in + window_top(l, x + p * in, y, o);
                if (next)
                    next[top] = delta[at];
                else
                    out[at] = x[top];
            }
        }
    }
}

static void mean_forward(const struct pfl_layer *l, const float *x, size_t batch, float *out)
{
    size_t pixels = l->in.height * l->in.width;
    for (size_t p = 0; p < batch * l->in.channels; p++) {
        float sum = 0.0f;
        for (size_t i = 0; i < pixels; i++)
            sum += x[p * pixels + i];
        out[p] = sum / (float)pixels;
    }
}

static void mean_backward(const struct pfl_layer *l, const float *delta, size_t batch, float *next)
{
    size_t pixels = l->in.height * l->in.width;
    for (size_t p = 0; p < batch * l->in.channels; p++) {
        for (size_t i = 0; i < pixels; i++)
            next[p * pixels + i] = delta[p] / (float)pixels;
    }
}

/* ---- any ---- */

void pfl_layer_forward(const struct pfl_layer *l, const float *params, const float *x, size_t batch, float *columns, float *out)
{
    switch (l->kind) {
    case PFL_LAYER_DENSE:
        dense_forward(l, params, x, batch, out);
        return;
    case PFL_LAYER_CONV:
        conv_forward(l, params, x, batch, columns, out);
        return;
    case PFL_LAYER_MAXPOOL:
        maxpool(l, x, batch, out, NULL, NULL);
        return;
    case PFL_LAYER_GLOBAL_MEAN:
        mean_forward(l, x, batch, out);
        return;
    }
}

void pfl_layer_backward(const struct pfl_layer *l, const float *params, const float *x, const float *delta, size_t batch,
                        float *columns, float *grad, float *next)
{
    switch (l->kind) {
    case PFL_LAYER_DENSE:
        dense_backward(l, params, x, delta, batch, grad, next);
        return;
    case PFL_LAYER_CONV:
        conv_backward(l, params, x, delta, batch, columns, grad, next);
        return;
    case PFL_LAYER_MAXPOOL:
        if (next)
            maxpool(l, x, batch, NULL, delta, next);
        return;
    case PFL_LAYER_GLOBAL_MEAN:
        if (next)
            mean_backward(l, delta, batch, next);
        return;
    }
}
