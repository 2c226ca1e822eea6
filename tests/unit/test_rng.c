/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"

/* The reference implementations' first outputs. */
static void test_rng_seed__is_splitmix64(void **state)
{
    (void)state;
    static const uint64_t want[] = {0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec};
    struct pfl_rng r;
    pfl_rng_seed(&r, 0);
    for (size_t i = 0; i < 4; i++)
        assert_true(r.s[i] == want[i]);
}

static void test_rng_u64__is_xoshiro256_starstar(void **state)
{
    (void)state;
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
    struct pfl_rng r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(want); i++)
        assert_true(pfl_rng_u64(&r) == want[i]);
}

static void test_rng_seed_named__same_for_the_same_name_only(void **state)
{
    (void)state;
    struct pfl_rng a, b, c, d;
    pfl_rng_seed_named(&a, 666, "partition");
    pfl_rng_seed_named(&b, 666, "partition");
    pfl_rng_seed_named(&c, 666, "init");
    pfl_rng_seed_named(&d, 667, "partition");
    uint64_t x = pfl_rng_u64(&a);
    assert_true(x == pfl_rng_u64(&b));
    assert_true(x != pfl_rng_u64(&c));
    assert_true(x != pfl_rng_u64(&d));
}

static void test_rng_below__in_range_and_even(void **state)
{
    (void)state;
    struct pfl_rng r;
    pfl_rng_seed(&r, 1);
    unsigned seen[6] = {0};
    for (int i = 0; i < 60000; i++) {
        uint64_t x = pfl_rng_below(&r, 6);
        assert_in_range(x, 0, 5);
        seen[x]++;
    }
    for (size_t i = 0; i < 6; i++)
        assert_in_range(seen[i], 9600, 10400); /* more than four standard deviations */
    assert_true(pfl_rng_below(&r, 1) == 0);
    uint64_t high = 0;
    for (int i = 0; i < 64; i++)
        high |= pfl_rng_below(&r, UINT64_MAX);
    assert_true(high >> 60 != 0);
}

static void test_rng_unit__half_open_with_mean_one_half(void **state)
{
    (void)state;
    struct pfl_rng r;
    pfl_rng_seed(&r, 2);
    double sum = 0;
    for (int i = 0; i < 20000; i++) {
        double x = pfl_rng_unit(&r);
        assert_true(x >= 0 && x < 1);
        sum += x;
    }
    assert_true(fabs(sum / 20000 - 0.5) < 0.01);
}

static void test_rng_normal__mean_and_variance(void **state)
{
    (void)state;
    struct pfl_rng r;
    pfl_rng_seed(&r, 3);
    double sum = 0, squares = 0;
    for (int i = 0; i < 40000; i++) {
        double x = pfl_rng_normal(&r);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / 40000) < 0.02);
    assert_true(fabs(squares / 40000 - 1) < 0.03);
}

static void test_rng_shuffle__a_permutation_that_the_seed_decides(void **state)
{
    (void)state;
    struct pfl_rng r;
    uint32_t a[100], b[100];
    unsigned seen[100] = {0}, moved = 0;
    for (uint32_t i = 0; i < 100; i++)
        a[i] = b[i] = i;
    pfl_rng_seed(&r, 4);
    pfl_rng_shuffle_u32(&r, a, 100);
    pfl_rng_seed(&r, 4);
    pfl_rng_shuffle_u32(&r, b, 100);
    assert_memory_equal(a, b, sizeof(a));
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(a[i] < 100);
        seen[a[i]]++;
        moved += a[i] != i;
    }
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > 80);
    pfl_rng_shuffle_u32(&r, a, 0);
    pfl_rng_shuffle_u32(&r, a, 1);
}

static void test_rng_entropy__differs(void **state)
{
    (void)state;
    assert_true(pfl_rng_entropy() != pfl_rng_entropy());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rng_seed__is_splitmix64),
        cmocka_unit_test(test_rng_u64__is_xoshiro256_starstar),
        cmocka_unit_test(test_rng_seed_named__same_for_the_same_name_only),
        cmocka_unit_test(test_rng_below__in_range_and_even),
        cmocka_unit_test(test_rng_unit__half_open_with_mean_one_half),
        cmocka_unit_test(test_rng_normal__mean_and_variance),
        cmocka_unit_test(test_rng_shuffle__a_permutation_that_the_seed_decides),
        cmocka_unit_test(test_rng_entropy__differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
