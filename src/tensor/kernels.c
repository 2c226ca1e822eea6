/* SPDX-License-Identifier: Apache-2.0 */
/* Loops over float32. Each output depends on its own inputs in one fixed order, so vector width and thread count change nothing; no
 * multiplication is fused with an addition (-ffp-contract=off).
 *
 * The mean is limited by memory. One tile of the output is finished before the next: its sums are registers, every input is one
 * stream that the processor fetches ahead. The same source is compiled for several vector widths and the widest is chosen at run
 * time, by hand and not by ifunc, which the sanitizers do not bear and the tests could not go through. */
#include "tensor/model.h"

#include <string.h>

void pfl_kernel_axpy_f64(double *restrict acc, const float *restrict x, double w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] += w * (double)x[i];
}

enum { LANES = 8, VECTORS = 4, TILE = LANES * VECTORS };
typedef float f32_lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef double f64_lanes __attribute__((vector_size(LANES * sizeof(double))));

static void mean_rest(float *out, const float *const *x, const double *w, size_t n_x, double total, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++) {
        double acc = 0.0;
        for (size_t k = 0; k < n_x; k++)
            acc += w[k] * (double)x[k][i];
        out[i] = (float)(acc / total);
    }
}

#define DEFINE_MEAN(name, attribute)                                                                                               \
    attribute static void name(float *out, const float *const *x, const double *w, size_t n_x, double total, size_t n)             \
    {                                                                                                                              \
        size_t i = 0;                                                                                                              \
        for (; i + TILE <= n; i += TILE) {                                                                                         \
            f64_lanes acc[VECTORS] = {{0}};                                                                                        \
            for (size_t k = 0; k < n_x; k++) {                                                                                     \
                for (size_t v = 0; v < VECTORS; v++) {                                                                             \
                    f32_lanes in;                                                                                                  \
                    memcpy(&in, x[k] + i + v * LANES, sizeof(in));                                                                 \
                    acc[v] += w[k] * __builtin_convertvector(in, f64_lanes);                                                       \
                }                                                                                                                  \
            }                                                                                                                      \
            for (size_t v = 0; v < VECTORS; v++) {                                                                                 \
                f32_lanes result = __builtin_convertvector(acc[v] / total, f32_lanes);                                             \
                memcpy(out + i + v * LANES, &result, sizeof(result));                                                              \
            }                                                                                                                      \
        }                                                                                                                          \
        mean_rest(out, x, w, n_x, total, i, n);                                                                                    \
    }

#if defined(__x86_64__)
#ifdef __clang__ /* it knows no such word, and would warn */
DEFINE_MEAN(mean_avx512, __attribute__((target("avx512f,avx512vl"))))
#else
DEFINE_MEAN(mean_avx512, __attribute__((target("avx512f,avx512vl,prefer-vector-width=512"))))
#endif
DEFINE_MEAN(mean_avx2, __attribute__((target("avx2"))))
#endif
DEFINE_MEAN(mean_base, )

struct version {
    const char *name;
    pfl_mean_fn fn;
    bool usable;
};

pfl_mean_fn pfl_kernel_weighted_mean_version(size_t i, const char **ret_name, bool *ret_usable)
{
    const struct version versions[] = {
#if defined(__x86_64__)
        {"avx512", mean_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")},
        {"avx2", mean_avx2, __builtin_cpu_supports("avx2") != 0},
#endif
        {"base", mean_base, true},
    };
    if (i >= PFL_ARRAY_LEN(versions))
        return NULL;
    *ret_name = versions[i].name;
    *ret_usable = versions[i].usable;
    return versions[i].fn;
}

void pfl_kernel_weighted_mean_f32(float *out, const float *const *x, const double *w, size_t n_x, double total, size_t n)
{
    const char *name;
    bool usable = false;
    pfl_mean_fn fn = NULL;
    for (size_t i = 0; !usable; i++) /* the last one always is */
        fn = pfl_kernel_weighted_mean_version(i, &name, &usable);
    fn(out, x, w, n_x, total, n);
}
