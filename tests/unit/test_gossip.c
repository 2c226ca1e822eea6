/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor mesh */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "mesh/gossip.h"
#include "mesh/heartbeat.h"

static void outbox__undelivered__waits_and_is_given_up_at_last(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    struct pfl_scatter *body = pfl_scatter_of("x", 1);
    const char *to = NULL;
    unsigned attempts = 0;
    pfl_outbox_add(&o, "a", body, 7, 0, false);
    pfl_outbox_add(&o, "b", body, 8, 0, true);
    pfl_scatter_unref(body);
    assert_false(pfl_outbox_sent(&o, 9, true, 0, &to, &attempts));
    assert_true(pfl_outbox_sent(&o, 8, false, 50, &to, &attempts)); /* expendable */
    assert_string_equal(to, "b");
    assert_int_equal(o.n, 1);
    for (unsigned i = 1; i <= PFL_OUTBOX_ATTEMPTS_MAX; i++) {
        assert_int_equal(o.n, 1);
        o.items[0].id = 7;
        o.items[0].attempts = i;
        assert_true(pfl_outbox_sent(&o, 7, false, 50, &to, &attempts));
        assert_int_equal(attempts, i);
        if (i < PFL_OUTBOX_ATTEMPTS_MAX) {
            assert_int_equal(o.items[0].id, 0);
            assert_int_equal(o.items[0].due, 50);
        }
    }
    assert_int_equal(o.n, 0);
    assert_int_equal(o.dropped, 1);
    pfl_outbox_deinit(&o);
}

static void outbox__over_its_limit__the_oldest_waiting_gives_way(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    struct pfl_scatter *body = pfl_scatter_of("x", 1);
    pfl_outbox_add(&o, "first, in flight", body, 1, 0, false);
    for (unsigned i = 0; i < PFL_OUTBOX_MAX; i++)
        pfl_outbox_add(&o, i == 0 ? "second" : "more", body, 0, 0, false);
    pfl_scatter_unref(body);
    assert_int_equal(o.n, PFL_OUTBOX_MAX);
    assert_string_equal(o.items[0].to, "first, in flight");
    assert_string_equal(o.items[1].to, "more");
    pfl_outbox_forget(&o, "more");
    assert_int_equal(o.n, 1);
    pfl_outbox_deinit(&o);
}

/* Answers come in any order, while more is sent; what is left stays in order. */
static void outbox__answered_in_any_order__keeps_the_rest_in_order(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    struct pfl_rng rng;
    struct pfl_scatter *body = pfl_scatter_of("x", 1);
    uint64_t next = 1, done = 0;
    pfl_rng_seed(&rng, 3);
    for (unsigned k = 0; k < 20000; k++) {
        bool flood = k / 1000 % 2 == 0;
        if (o.n < 900 && pfl_rng_below(&rng, 10) < (flood ? 6 : 4))
            pfl_outbox_add(&o, "a", body, next++, 0, false);
        if (o.n == 0)
            continue;
        size_t i = (size_t)pfl_rng_below(&rng, o.n) * (size_t)pfl_rng_below(&rng, 2); /* the oldest, or any */
        const char *to = NULL;
        unsigned attempts;
        uint64_t id = o.items[i].id;
        if (pfl_rng_below(&rng, 2)) {
            assert_true(pfl_outbox_sent(&o, id, true, 0, &to, &attempts));
            assert_string_equal(to, "a");
            assert_false(pfl_outbox_sent(&o, id, true, 0, &to, &attempts));
            done++;
        }
        for (size_t j = 1; j < o.n; j++)
            assert_true(o.items[j - 1].id < o.items[j].id);
        assert_int_equal(o.n, next - 1 - done);
    }
    assert_true(done > 5000);
    pfl_outbox_forget(&o, "a");
    assert_int_equal(o.n, 0);
    pfl_scatter_unref(body);
    pfl_outbox_deinit(&o);
}

static void heartbeat__beats_each_period_and_soon_for_newcomers(void **state)
{
    (void)state;
    struct pfl_heartbeat h;
    pfl_heartbeat_init(&h, 2 * PFL_SEC, 5 * PFL_SEC);
    assert_int_equal(pfl_heartbeat_deadline(&h), PFL_NEVER);
    pfl_heartbeat_observe(&h, 10 * PFL_SEC);
    assert_int_equal(pfl_heartbeat_deadline(&h), 12 * PFL_SEC);
    pfl_heartbeat_soon(&h, 10 * PFL_SEC); /* none sent yet: at once */
    assert_true(pfl_heartbeat_due(&h, 10 * PFL_SEC));
    pfl_heartbeat_sent(&h, 10 * PFL_SEC);
    pfl_heartbeat_soon(&h, 10 * PFL_SEC + PFL_MS);
    pfl_heartbeat_soon(&h, 10 * PFL_SEC + 2 * PFL_MS);
    assert_int_equal(pfl_heartbeat_deadline(&h), 10 * PFL_SEC + 200 * PFL_MS); /* at most one in 200 ms */
    pfl_heartbeat_sent(&h, 10 * PFL_SEC + 200 * PFL_MS);
    assert_int_equal(pfl_heartbeat_deadline(&h), 12 * PFL_SEC + 200 * PFL_MS);
    assert_int_equal(pfl_heartbeat_expiry(&h, 11 * PFL_SEC), 16 * PFL_SEC);
    pfl_heartbeat_observe(&h, 40 * PFL_SEC); /* slept */
    assert_int_equal(pfl_heartbeat_expiry(&h, 11 * PFL_SEC), 42 * PFL_SEC);
}

static void check_past(const struct pfl_history *h, size_t i, int want)
{
    const struct pfl_past *p = pfl_history_at(h, i);
    assert_non_null(p);
    struct pfl_scatter *body = pfl_past_body(p);
    assert_int_equal(body->total, sizeof(want));
    assert_memory_equal(body->parts[0].data, &want, sizeof(want));
    pfl_scatter_unref(body);
}

static void history__keeps_the_newest__and_forgets_what_is_old(void **state)
{
    (void)state;
    struct pfl_history h = {0};
    assert_null(pfl_history_at(&h, 0));
    for (int i = 0; i < 3 * PFL_HISTORY_MAX / 2; i++) {
        struct pfl_scatter *body = pfl_scatter_of(&i, sizeof(i));
        pfl_history_add(&h, body, i);
        pfl_scatter_unref(body);
        size_t n = i < PFL_HISTORY_MAX ? (size_t)i + 1 : PFL_HISTORY_MAX;
        assert_int_equal(h.n, n);
        check_past(&h, 0, i + 1 - (int)n);
        check_past(&h, n - 1, i);
        assert_null(pfl_history_at(&h, n));
    }
    int newest = 3 * PFL_HISTORY_MAX / 2 - 1;
    pfl_history_expire(&h, newest - 9);
    assert_int_equal(h.n, 10);
    check_past(&h, 0, newest - 9);
    pfl_history_expire(&h, newest + 1);
    assert_int_equal(h.n, 0);
    struct pfl_scatter *body = pfl_scatter_of(&newest, sizeof(newest));
    pfl_history_add(&h, body, newest);
    pfl_scatter_unref(body);
    check_past(&h, 0, newest);
    pfl_history_clear(&h);
    assert_null(pfl_history_at(&h, 0));
}

static struct pfl_buf join(const struct pfl_scatter *s)
{
    struct pfl_buf b = {0};
    for (size_t i = 0; i < s->n; i++)
        pfl_buf_append(&b, s->parts[i].data, s->parts[i].len);
    assert_int_equal(b.len, s->total);
    return b;
}

/* Messages of the largest size take no more memory than is said. */
static void large_messages__the_oldest_give_way(void **state)
{
    (void)state;
    struct pfl_history h = {0};
    struct pfl_outbox o = {0};
    static uint8_t data[250000];
    for (int i = 0; i < 300; i++) {
        data[0] = (uint8_t)i;
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = pfl_scatter_of(data, sizeof(data));
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(data, sizeof(data));
        if (i % 2)
            pfl_history_add(&h, body, i);
        else
            pfl_history_add_blob(&h, blob, 1, i);
        pfl_outbox_add(&o, "a", body, i < 3 ? (uint64_t)i + 1 : 0, i, false);
        assert_true(h.bytes == h.n * sizeof(data) && h.bytes <= PFL_HISTORY_BYTES_MAX);
        assert_true(o.bytes == o.n * sizeof(data) && o.bytes <= PFL_OUTBOX_BYTES_MAX);
    }
    assert_int_equal(h.n, PFL_HISTORY_BYTES_MAX / sizeof(data));
    assert_int_equal(o.n, PFL_OUTBOX_BYTES_MAX / sizeof(data));
    assert_int_equal(o.dropped, 300 - o.n);
    assert_true(o.items[0].id == 1 && o.items[2].id == 3); /* on their way: not they */
    assert_int_equal(pfl_history_at(&h, h.n - 1)->at, 299);
    pfl_history_expire(&h, 300);
    assert_int_equal(h.bytes, 0);
    pfl_outbox_forget(&o, "a");
    assert_int_equal(o.bytes, 0);
    pfl_history_clear(&h);
    pfl_outbox_deinit(&o);
}

/* Another's is held as it came, and goes out as it was passed on. */
static void history__of_what_was_passed_on__is_the_same_bytes(void **state)
{
    (void)state;
    struct pfl_history h = {0};
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
    pfl_history_add_blob(&h, blob, 8, 1);
    again = pfl_past_body(pfl_history_at(&h, 0));
    assert_non_null(again);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf want = join(passed), have = join(again);
    assert_true(pfl_bytes_eq(pfl_buf_view(&want), pfl_buf_view(&have)));
    pfl_history_clear(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outbox__undelivered__waits_and_is_given_up_at_last),
        cmocka_unit_test(outbox__over_its_limit__the_oldest_waiting_gives_way),
        cmocka_unit_test(outbox__answered_in_any_order__keeps_the_rest_in_order),
        cmocka_unit_test(history__keeps_the_newest__and_forgets_what_is_old),
        cmocka_unit_test(history__of_what_was_passed_on__is_the_same_bytes),
        cmocka_unit_test(large_messages__the_oldest_give_way),
        cmocka_unit_test(heartbeat__beats_each_period_and_soon_for_newcomers),
    };
    return cmocka_run_group_tests_name("gossip", tests, NULL, NULL);
}
