/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor mesh */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "mesh/flooded.h"

static void flood(struct pfl_flooded *f, int what, pfl_ns now)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = pfl_scatter_of(&what, sizeof(what));
    pfl_flooded_add(f, pfl_past_of_body(body, now));
}

static void check_at(const struct pfl_flooded *f, uint64_t number, int want)
{
    const struct pfl_past *p = pfl_flooded_at(f, number);
    assert_non_null(p);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = pfl_past_body(p);
    assert_int_equal(body->total, sizeof(want));
    assert_memory_equal(body->parts[0].data, &want, sizeof(want));
}

static void flooded__what_nobody_waits_for__the_newest_are_kept_for_a_while(void **state)
{
    (void)state;
    struct pfl_flooded f = {0};
    enum { N = 3 * PFL_RECENT_MAX / 2 };
    assert_null(pfl_flooded_at(&f, 0));
    for (int i = 0; i < N; i++) {
        flood(&f, i, i * PFL_SEC);
        pfl_flooded_trim(&f, f.end);
        uint64_t n = i < PFL_RECENT_MAX ? (uint64_t)i + 1 : PFL_RECENT_MAX;
        assert_int_equal(f.end - f.first, n);
        assert_true(f.n_blocks * PFL_FLOODED_BLOCK < n + 2 * PFL_FLOODED_BLOCK);
        check_at(&f, f.first, i + 1 - (int)n);
        check_at(&f, f.end - 1, i);
        assert_null(pfl_flooded_at(&f, f.end));
    }
    assert_null(pfl_flooded_at(&f, f.first - 1));
    assert_int_equal(pfl_flooded_since(&f, (N - 10) * PFL_SEC), N - 10);
    assert_int_equal(pfl_flooded_since(&f, N * PFL_SEC), N);
    pfl_flooded_expire(&f, (N - 10) * PFL_SEC);
    pfl_flooded_trim(&f, f.end);
    assert_int_equal(f.end - f.first, 10);
    pfl_flooded_close(&f);
    assert_int_equal(pfl_flooded_since(&f, 0), N);
    check_at(&f, N - 10, N - 10); /* as long as nobody trims it */
    pfl_flooded_trim(&f, f.end);
    assert_true(f.first == f.end && f.bytes == 0 && f.recent_bytes == 0 && f.n_blocks == 0);
    flood(&f, 7, N * PFL_SEC);
    check_at(&f, N, 7);
    pfl_flooded_deinit(&f);
}

static void flooded__what_somebody_waits_for__is_kept_beyond_that(void **state)
{
    (void)state;
    struct pfl_flooded f = {0};
    enum { N = 2 * PFL_RECENT_MAX, GIVEN = 100 };
    for (int i = 0; i < N; i++) {
        flood(&f, i, i * PFL_SEC);
        pfl_flooded_trim(&f, i < GIVEN ? (uint64_t)i : GIVEN);
    }
    assert_int_equal(f.first, GIVEN);
    pfl_flooded_expire(&f, N * PFL_SEC);
    pfl_flooded_close(&f);
    pfl_flooded_trim(&f, GIVEN);
    for (int i = GIVEN; i < N; i++)
        check_at(&f, (uint64_t)i, i);
    while (f.end < PFL_FLOODED_MAX + GIVEN)
        flood(&f, (int)f.end, 0);
    assert_int_equal(f.first, GIVEN);
    flood(&f, (int)f.end, 0); /* but not without end */
    assert_int_equal(f.first, GIVEN + 1);
    check_at(&f, GIVEN + 1, GIVEN + 1);
    pfl_flooded_deinit(&f);
}

/* A monotonic clock that has counted so far that its milliseconds do not fit 32 bits. */
static void flooded__times_that_turn_round__are_in_order(void **state)
{
    (void)state;
    struct pfl_flooded f = {0};
    pfl_ns turn = ((pfl_ns)1 << 32) * PFL_MS;
    flood(&f, 0, turn - PFL_SEC);
    flood(&f, 1, turn + PFL_SEC);
    assert_int_equal(pfl_flooded_since(&f, turn - 2 * PFL_SEC), 0);
    assert_int_equal(pfl_flooded_since(&f, turn), 1);
    assert_int_equal(pfl_flooded_since(&f, turn + 2 * PFL_SEC), 2);
    pfl_flooded_deinit(&f);
}

/* Messages of the largest size take no more memory than is said, whoever waits for them. */
static void flooded__large_messages__the_oldest_give_way(void **state)
{
    (void)state;
    struct pfl_flooded f = {0};
    static uint8_t data[250000];
    for (int i = 0; i < 300; i++) {
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = pfl_scatter_of(data, sizeof(data));
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(data, sizeof(data));
        pfl_flooded_add(&f, i % 2 ? pfl_past_of_body(body, i) : pfl_past_of_blob(blob, 1, i));
        assert_true(f.bytes == (f.end - f.first) * sizeof(data) && f.bytes <= PFL_FLOODED_BYTES_MAX);
        assert_true(f.recent_bytes == (f.end - f.recent) * sizeof(data) && f.recent_bytes <= PFL_RECENT_BYTES_MAX);
    }
    assert_int_equal(f.end - f.first, PFL_FLOODED_BYTES_MAX / sizeof(data));
    assert_int_equal(f.end - f.recent, PFL_RECENT_BYTES_MAX / sizeof(data));
    assert_null(pfl_flooded_at(&f, f.first - 1));
    pfl_flooded_trim(&f, f.end);
    assert_int_equal(f.bytes, f.recent_bytes);
    pfl_flooded_deinit(&f);
}

/* Against the plainest model there is, at random. */
static void flooded__random_use__holds_what_it_should(void **state)
{
    (void)state;
    struct pfl_flooded f = {0};
    struct pfl_rng rng;
    uint64_t given = 0, recent = 0;
    pfl_rng_seed(&rng, 11);
    for (int k = 0; k < 20000; k++) {
        switch (pfl_rng_below(&rng, 8)) {
        case 0:
            given += pfl_rng_below(&rng, f.end - given + 1);
            pfl_flooded_trim(&f, given);
            break;
        case 1:
            recent = pfl_rng_below(&rng, 100) == 0 ? f.end : recent;
            if (recent == f.end)
                pfl_flooded_close(&f);
            break;
        default:
            flood(&f, (int)f.end, k);
        }
        recent = f.end - recent > PFL_RECENT_MAX ? f.end - PFL_RECENT_MAX : recent;
        assert_int_equal(f.recent, recent);
        assert_true(f.first <= recent || f.first == f.end);
        assert_true(f.first <= given || f.end == f.first || f.first <= recent);
        for (int i = 0; i < 4 && f.first < f.end; i++) {
            uint64_t number = f.first + pfl_rng_below(&rng, f.end - f.first);
            check_at(&f, number, (int)number);
        }
    }
    pfl_flooded_deinit(&f);
}

static struct pfl_buf join(const struct pfl_scatter *s)
{
    struct pfl_buf b = {0};
    for (size_t i = 0; i < s->n; i++)
        pfl_buf_append(&b, s->parts[i].data, s->parts[i].len);
    assert_int_equal(b.len, s->total);
    return b;
}

/* Another's is held as it came, and goes out as it was passed on. */
static void past__of_what_was_passed_on__is_the_same_bytes(void **state)
{
    (void)state;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new("10.0.0.1:1", 3, "vote_train_set", PFL_MSG_GOSSIP), *got = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *sent = NULL, *passed = NULL, *again = NULL;
    m->ttl = 9;
    m->hash = 77;
    pfl_strs_add(&m->args, "10.0.0.2:1");
    pfl_strs_add(&m->args, "500");
    assert_int_equal(pfl_msg_encode(m, NULL, &sent, NULL), PFL_OK);
    assert_int_equal(sent->n, 1);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(sent->parts[0].data, sent->total);
    assert_int_equal(pfl_msg_decode(blob, &got, NULL), PFL_OK);
    assert_int_equal(pfl_msg_forward(got, 8, &passed, NULL), PFL_OK);
    struct pfl_past p = pfl_past_of_blob(blob, 8, 1);
    again = pfl_past_body(&p);
    assert_non_null(again);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf want = join(passed), have = join(again);
    assert_true(pfl_bytes_eq(pfl_buf_view(&want), pfl_buf_view(&have)));
    assert_true(pfl_past_is_from(&p, "10.0.0.1:1"));
    assert_false(pfl_past_is_from(&p, "10.0.0.1:12") || pfl_past_is_from(&p, "10.0.0.1:") || pfl_past_is_from(&p, "10.0.0.2:1"));
    pfl_past_deinit(&p);
}

static void past__of_what_is_no_gossip__has_no_body(void **state)
{
    (void)state;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy("\x0a\x01z", 3);
    struct pfl_past p = pfl_past_of_blob(blob, 8, 1);
    assert_null(pfl_past_body(&p));
    assert_true(pfl_past_is_from(&p, "z"));
    pfl_past_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flooded__what_nobody_waits_for__the_newest_are_kept_for_a_while),
        cmocka_unit_test(flooded__what_somebody_waits_for__is_kept_beyond_that),
        cmocka_unit_test(flooded__times_that_turn_round__are_in_order),
        cmocka_unit_test(flooded__large_messages__the_oldest_give_way),
        cmocka_unit_test(flooded__random_use__holds_what_it_should),
        cmocka_unit_test(past__of_what_was_passed_on__is_the_same_bytes),
        cmocka_unit_test(past__of_what_is_no_gossip__has_no_body),
    };
    return cmocka_run_group_tests_name("flooded", tests, NULL, NULL);
}
