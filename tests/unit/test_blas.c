/* SPDX-License-Identifier: Apache-2.0 */
/* link: tensor */
/* OpenBLAS behind pointers: not there, not it, there. In this order: what is loaded stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <cblas.h>

#include "tensor/blas.h"

static bool is_mapped(const char *what)
{
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        found = found || strstr(line, what);
    fclose(f);
    return found;
}

static void test_program__does_not_bring_it(void **state)
{
    (void)state;
    assert_false(is_mapped("openblas"));
    assert_false(is_mapped("gfortran"));
}

static void test_load__no_such_library__says_what_to_install(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    assert_int_equal(pfl_blas_load_from("libnothing-of-this-name.so.0", &err), PFL_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "libnothing-of-this-name.so.0"));
    assert_non_null(strstr(err.msg, "libopenblas0"));
}

static void test_load__another_library__is_no_openblas(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    assert_int_equal(pfl_blas_load_from("libm.so.6", &err), PFL_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "libm.so.6 is no OpenBLAS"));
}

static void test_sgemm__after_it_was_loaded__is_the_product(void **state)
{
    (void)state;
    static const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {7, 8, 9, 10, 11, 12}, want[] = {58, 64, 139, 154};
    float c[4] = {0};
    struct pfl_err err = {0};
    assert_int_equal(pfl_blas_load(&err), PFL_OK);
    assert_int_equal(pfl_blas_load(&err), PFL_OK);
    assert_true(is_mapped("openblas"));
    openblas_set_num_threads(1);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 2, 2, 3, 1.0f, a, 3, b, 2, 0.0f, c, 2);
    assert_memory_equal(c, want, sizeof(want));
}

static void test_dgesdd__of_a_diagonal_matrix__its_values_or_not_there(void **state)
{
    (void)state;
    enum { ROW_MAJOR = 101 };
    double a[] = {0, 2, 3, 0}, s[2] = {0}, u[4], vt[4];
    int rc = LAPACKE_dgesdd(ROW_MAJOR, 'S', 2, 2, a, 2, s, u, 2, vt, 2);
    if (!is_mapped("liblapacke")) {
        assert_int_not_equal(rc, 0);
        return;
    }
    assert_int_equal(rc, 0);
    assert_true(s[0] > 2.999 && s[0] < 3.001 && s[1] > 1.999 && s[1] < 2.001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program__does_not_bring_it),
        cmocka_unit_test(test_load__no_such_library__says_what_to_install),
        cmocka_unit_test(test_load__another_library__is_no_openblas),
        cmocka_unit_test(test_sgemm__after_it_was_loaded__is_the_product),
        cmocka_unit_test(test_dgesdd__of_a_diagonal_matrix__its_values_or_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
