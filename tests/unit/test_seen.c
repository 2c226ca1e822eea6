/* SPDX-License-Identifier: Apache-2.0 */
/* link: base mesh */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "mesh/seen.h"

static void seen__a_hash_is_new_once(void **state)
{
    (void)state;
    struct pfl_seen s;
    pfl_seen_init(&s, 4, 99);
    static const int64_t hashes[] = {0, -1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < PFL_ARRAY_LEN(hashes); i++) {
        assert_false(pfl_seen_has(&s, hashes[i]));
        assert_true(pfl_seen_add(&s, hashes[i]));
        assert_false(pfl_seen_add(&s, hashes[i]));
        assert_true(pfl_seen_has(&s, hashes[i]));
    }
    pfl_seen_deinit(&s);
}

static void seen__full__the_oldest_gives_way(void **state)
{
    (void)state;
    struct pfl_seen s;
    pfl_seen_init(&s, 3, 1);
    for (int64_t h = 1; h <= 4; h++)
        assert_true(pfl_seen_add(&s, h));
    assert_false(pfl_seen_has(&s, 1));
    for (int64_t h = 2; h <= 4; h++)
        assert_true(pfl_seen_has(&s, h));
    assert_true(pfl_seen_add(&s, 1)); /* forgotten, so new again; now 2 is gone */
    assert_false(pfl_seen_has(&s, 2));
    pfl_seen_deinit(&s);
}

/* Against a plain ring that is searched, with hashes from a small range, so that they come again and collide. */
static void agrees_with_a_searched_ring(size_t max, unsigned range)
{
    struct pfl_seen s;
    struct pfl_rng rng;
    int64_t *ring = pfl_xcalloc(max, sizeof(*ring));
    size_t n = 0, next = 0;
    pfl_rng_seed(&rng, 5);
    pfl_seen_init(&s, max, pfl_rng_u64(&rng));
    for (unsigned i = 0; i < 20000; i++) {
        int64_t h = (int64_t)pfl_rng_below(&rng, range) * (i % 2 ? 1 : 1 << 20);
        bool known = false;
        for (size_t k = 0; k < n; k++)
            known = known || ring[k] == h;
        assert_int_equal(pfl_seen_has(&s, h), known);
        assert_int_equal(pfl_seen_add(&s, h), !known);
        if (!known) {
            ring[next] = h;
            next = (next + 1) % max;
            n = n < max ? n + 1 : max;
        }
    }
    free(ring);
    pfl_seen_deinit(&s);
}

static void seen__random_use__agrees_with_a_searched_ring(void **state)
{
    (void)state;
    agrees_with_a_searched_ring(1, 3);
    agrees_with_a_searched_ring(2, 5);
    agrees_with_a_searched_ring(37, 90);
    agrees_with_a_searched_ring(600, 1000);
}

/* More than 65,535: its slots are wider. */
static void seen__many__none_is_lost_or_made_up(void **state)
{
    (void)state;
    enum { MAX = 70000 };
    struct pfl_seen s;
    pfl_seen_init(&s, MAX, 3);
    for (int64_t h = 0; h < MAX + 1000; h++)
        assert_true(pfl_seen_add(&s, h << 32));
    for (int64_t h = 0; h < 2 * MAX; h++)
        assert_int_equal(pfl_seen_has(&s, h << 32), h >= 1000 && h < MAX + 1000);
    pfl_seen_deinit(&s);
}

static void seen__grows_to_its_limit__and_loses_nothing_on_the_way(void **state)
{
    (void)state;
    struct pfl_seen s;
    pfl_seen_init(&s, 1000, 7);
    for (int64_t h = 1; h <= 1500; h++) {
        assert_true(pfl_seen_add(&s, h * 1000003));
        int64_t oldest = h <= 1000 ? 1 : h - 999;
        assert_true(pfl_seen_has(&s, oldest * 1000003) && pfl_seen_has(&s, h * 1000003));
        assert_false(pfl_seen_has(&s, (oldest - 1) * 1000003));
    }
    assert_int_equal(s.n, 1000);
    pfl_seen_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seen__a_hash_is_new_once),
        cmocka_unit_test(seen__full__the_oldest_gives_way),
        cmocka_unit_test(seen__random_use__agrees_with_a_searched_ring),
        cmocka_unit_test(seen__many__none_is_lost_or_made_up),
        cmocka_unit_test(seen__grows_to_its_limit__and_loses_nothing_on_the_way),
    };
    return cmocka_run_group_tests_name("seen", tests, NULL, NULL);
}
