/* SPDX-License-Identifier: Apache-2.0 */
/* link: tensor */
/* The kernels against the plain loop they stand for, bit for bit, at sizes around their blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tensor/model.h"

enum { N_X = 5, N_MAX = 6000 };

static float *random_floats(struct pfl_rng *rng, size_t n)
{
    float *x = pfl_xcalloc(n, sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(pfl_rng_normal(rng) * 1e3);
    return x;
}

static void test_axpy__is_the_plain_loop(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 3, 4, 7, 8, 1023};
    struct pfl_rng rng;
    pfl_rng_seed(&rng, 1);
    for (size_t s = 0; s < PFL_ARRAY_LEN(sizes); s++) {
        PFL_AUTO(pfl_freep) float *x = random_floats(&rng, sizes[s] + 1);
        PFL_AUTO(pfl_freep) double *acc = pfl_xcalloc(sizes[s] + 1, sizeof(*acc));
        acc[sizes[s]] = 42.0;
        for (size_t i = 0; i < sizes[s]; i++)
            acc[i] = (double)i / 3.0;
        pfl_kernel_axpy_f64(acc, x, 0.1, sizes[s]);
        for (size_t i = 0; i < sizes[s]; i++) {
            double product = 0.1 * (double)x[i], want = (double)i / 3.0 + product;
            assert_memory_equal(&acc[i], &want, sizeof(want));
        }
        assert_true(acc[sizes[s]] == 42.0); /* nothing behind the end */
    }
}

/* Through the one that is chosen (fn NULL) or a certain version. */
static void check_mean(pfl_mean_fn fn)
{
    static const size_t sizes[] = {0, 1, 5, 31, 32, 33, 63, 64, 2049, 4096, N_MAX};
    static const double w[N_X] = {15000, 1, 299, 60000, 7};
    const double total = 15000 + 1 + 299 + 60000 + 7;
    struct pfl_rng rng;
    pfl_rng_seed(&rng, 2);
    float *x[N_X];
    for (size_t k = 0; k < N_X; k++)
        x[k] = random_floats(&rng, N_MAX);
    for (size_t k = 0; k < N_X; k++) { /* sums that are -0.0, that are not normal, that cancel */
        x[k][0] = -0.0f;
        x[k][1] = 1e-44f;
        x[k][2] = k % 2 == 0 ? 3e38f : -3e38f;
    }
    PFL_AUTO(pfl_freep) float *out = pfl_xcalloc(N_MAX + 1, sizeof(*out));
    for (size_t s = 0; s < PFL_ARRAY_LEN(sizes); s++) {
        out[sizes[s]] = 42.0f;
        (fn ? fn : pfl_kernel_weighted_mean_f32)(out, (const float *const *)x, w, N_X, total, sizes[s]);
        for (size_t i = 0; i < sizes[s]; i++) {
            double sum = 0.0;
            for (size_t k = 0; k < N_X; k++)
                sum += w[k] * (double)x[k][i];
            float want = (float)(sum / total);
            assert_memory_equal(&out[i], &want, sizeof(want));
        }
        assert_true(out[sizes[s]] == 42.0f);
    }
    for (size_t k = 0; k < N_X; k++)
        free(x[k]);
}

static void test_weighted_mean__is_the_plain_sum_in_the_given_order(void **state)
{
    (void)state;
    check_mean(NULL);
}

static void test_weighted_mean__every_version__gives_the_same_bytes(void **state)
{
    (void)state;
    const char *name = NULL;
    bool usable = false;
    size_t n = 0;
    for (pfl_mean_fn fn; (fn = pfl_kernel_weighted_mean_version(n, &name, &usable)) != NULL; n++) {
        print_message("%s%s\n", name, usable ? "" : ": this processor cannot");
        if (usable)
            check_mean(fn);
    }
    assert_in_range(n, 1, 8);
    assert_true(usable); /* the last one runs everywhere */
}

static void test_weighted_mean__of_equals__is_exact(void **state)
{
    (void)state;
    struct pfl_rng rng;
    pfl_rng_seed(&rng, 3);
    PFL_AUTO(pfl_freep) float *x = random_floats(&rng, N_MAX);
    PFL_AUTO(pfl_freep) float *out = pfl_xcalloc(N_MAX, sizeof(*out));
    const float *const all[] = {x, x, x, x};
    const double w[] = {15000, 15000, 15000, 15000};
    pfl_kernel_weighted_mean_f32(out, all, w, 4, 60000, N_MAX);
    assert_memory_equal(out, x, N_MAX * sizeof(*x));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axpy__is_the_plain_loop),
        cmocka_unit_test(test_weighted_mean__is_the_plain_sum_in_the_given_order),
        cmocka_unit_test(test_weighted_mean__every_version__gives_the_same_bytes),
        cmocka_unit_test(test_weighted_mean__of_equals__is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
