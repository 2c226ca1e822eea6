/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of compression.c: bytes, quantisation, noise. Only src/learning includes this. */
#ifndef PFL_LEARNING_SQUEEZE_H
#define PFL_LEARNING_SQUEEZE_H

#include "learning/compression.h"

/** Appends the compressed bytes to out. */
enum pfl_rc pfl_squeeze_bytes(enum pfl_technique t, int level, struct pfl_bytes in, struct pfl_buf *out,
                              struct pfl_err *err) PFL_WARN_UNUSED;
/** Exactly len bytes must come of it. *ret owned. */
enum pfl_rc pfl_unsqueeze_bytes(enum pfl_technique t, struct pfl_bytes in, size_t len, struct pfl_blob **ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;

/** n values as F16 or BF16: to nearest even, beyond the range the largest finite one. out: 2 n bytes. And back. */
void pfl_halve(enum pfl_dtype t, const float *x, size_t n, uint8_t *out);
void pfl_unhalve(enum pfl_dtype t, const uint8_t *in, size_t n, float *out);

/** How values and scales belong together: value i has scale (i / inner) % channels. */
struct pfl_channels {
    size_t channels, inner;
};
/** One channel where the tensor has no such axis. */
struct pfl_channels pfl_channels_of(bool per_channel, unsigned axis, unsigned rank, const size_t *shape);
/** out: n values of the integer type. scale, zero: `channels` of each; zero NULL: symmetric (U8: around 128). */
void pfl_quantize(enum pfl_dtype t, const float *x, size_t n, struct pfl_channels c, float *scale, int32_t *zero, uint8_t *out);
void pfl_dequantize(enum pfl_dtype t, const uint8_t *q, size_t n, struct pfl_channels c, const float *scale, const int32_t *zero,
                    float *out);

/** Clips x to the norm (L2, or L1 with laplace) and adds noise. */
void pfl_privatize(float *x, size_t n, double clip_norm, double noise_multiplier, bool laplace, void (*random)(void *, size_t));

#endif
