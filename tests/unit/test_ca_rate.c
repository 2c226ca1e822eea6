/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* Token buckets by key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/ca_rate.h"

static void test_take__burst_then_nothing__then_one_more_with_time(void **state)
{
    (void)state;
    PFL_AUTO(pfl_rate_freep) struct pfl_rate *r = pfl_rate_new(3, 60, 8);
    for (int i = 0; i < 3; i++)
        assert_true(pfl_rate_take(r, "a", 0));
    assert_false(pfl_rate_take(r, "a", 0));
    assert_false(pfl_rate_allows(r, "a", PFL_SEC / 2));
    assert_true(pfl_rate_take(r, "b", 0)); /* another's */
    assert_true(pfl_rate_take(r, "a", PFL_SEC));
    assert_false(pfl_rate_take(r, "a", PFL_SEC));
}

static void test_take__clock_goes_back__gives_nothing(void **state)
{
    (void)state;
    PFL_AUTO(pfl_rate_freep) struct pfl_rate *r = pfl_rate_new(1, 60, 8);
    assert_true(pfl_rate_take(r, "a", 10 * PFL_SEC));
    assert_false(pfl_rate_take(r, "a", 5 * PFL_SEC));
}

static void test_take__more_keys_than_fit__the_oldest_makes_room(void **state)
{
    (void)state;
    PFL_AUTO(pfl_rate_freep) struct pfl_rate *r = pfl_rate_new(1, 1, 4);
    for (int i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        assert_true(pfl_rate_take(r, key, i * PFL_MS));
    }
    assert_false(pfl_rate_allows(r, "k99", 99 * PFL_MS));
    assert_true(pfl_rate_allows(r, "k0", 99 * PFL_MS)); /* forgotten */
}

static void test_key_of__addresses__their_host_or_network(void **state)
{
    (void)state;
    static const struct {
        const char *remote, *key;
    } rows[] = {{"192.0.2.7:53422", "192.0.2.7"},
                {"[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::"},
                {"[2001:db8:1:2:ffff::]:80", "2001:db8:1:2::"},
                {"[::ffff:192.0.2.7]:80", "::ffff:192.0.2.7"},
                {"unix", "unix"}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        char key[64];
        pfl_rate_key_of(rows[i].remote, key);
        assert_string_equal(key, rows[i].key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take__burst_then_nothing__then_one_more_with_time),
        cmocka_unit_test(test_take__clock_goes_back__gives_nothing),
        cmocka_unit_test(test_take__more_keys_than_fit__the_oldest_makes_room),
        cmocka_unit_test(test_key_of__addresses__their_host_or_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
