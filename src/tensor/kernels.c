/* SPDX-License-Identifier: Apache-2.0 */
/* Loops over float32. Each output depends on its own inputs in one fixed order, so vector width and thread count change nothing. */
#include "tensor/model.h"

enum { BLOCK = 2048 }; /* doubles of one block: 16 KiB, half of a first-level cache */

void pfl_kernel_axpy_f64(double *restrict acc, const float *restrict x, double w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] += w * (double)x[i];
}

void pfl_kernel_weighted_mean_f32(float *out, const float *const *x, const double *w, size_t n_x, double total, size_t n)
{
    double acc[BLOCK];
    for (size_t from = 0; from < n; from += BLOCK) {
        size_t len = n - from < BLOCK ? n - from : BLOCK;
        for (size_t i = 0; i < len; i++)
            acc[i] = 0.0;
        for (size_t k = 0; k < n_x; k++)
            pfl_kernel_axpy_f64(acc, x[k] + from, w[k], len);
        for (size_t i = 0; i < len; i++)
            out[from + i] = (float)(acc[i] / total);
    }
}
