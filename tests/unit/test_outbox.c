/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor mesh */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "mesh/outbox.h"

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
        o.items[0].attempts = (uint16_t)i;
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

/* Messages of the largest size take no more memory than is said. */
static void outbox__large_messages__the_oldest_waiting_gives_way(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    static uint8_t data[250000];
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = pfl_scatter_of(data, sizeof(data));
    for (int i = 0; i < 300; i++) {
        pfl_outbox_add(&o, "a", body, i < 3 ? (uint64_t)i + 1 : 0, i, false);
        assert_true(o.bytes == o.n * sizeof(data) && o.bytes <= PFL_OUTBOX_BYTES_MAX);
    }
    assert_int_equal(o.n, PFL_OUTBOX_BYTES_MAX / sizeof(data));
    assert_int_equal(o.dropped, 300 - o.n);
    assert_true(o.items[0].id == 1 && o.items[2].id == 3); /* on their way: not they */
    pfl_outbox_forget(&o, "a");
    assert_int_equal(o.bytes, 0);
    pfl_outbox_deinit(&o);
}

/* ---- lanes ---- */

static void flood(struct pfl_flooded *f, int what)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = pfl_scatter_of(&what, sizeof(what));
    struct pfl_past p = pfl_past_of_body(body, what);
    p.tag = 100 + (uint32_t)what;
    pfl_flooded_add(f, p);
}

/* Sends what there is room for, with its number + 1 as id. The number of messages. */
static unsigned run(struct pfl_outbox *o, const char *to, const struct pfl_flooded *f, pfl_ns now)
{
    struct pfl_lane *lane = pfl_outbox_lane(o, to, f->end);
    const struct pfl_past *p;
    unsigned n = 0;
    for (; (p = pfl_outbox_next(o, lane, f)); n++) {
        int what;
        memcpy(&what, p->body->parts[0].data, sizeof(what));
        assert_int_equal(what, lane->next - 1); /* in order, none left out */
        pfl_outbox_add_past(o, lane, p, 1000 * (uint64_t)to[0] + lane->next, now);
    }
    return n;
}

static bool answer(struct pfl_outbox *o, const char *of, int what, bool delivered)
{
    const char *to = NULL;
    unsigned attempts;
    return pfl_outbox_sent(o, 1000 * (uint64_t)of[0] + (uint64_t)what + 1, delivered, 0, &to, &attempts);
}

static void lane__more_than_its_window__waits_its_turn(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    struct pfl_flooded f = {0};
    enum { N = 10 * PFL_WINDOW };
    (void)pfl_outbox_lane(&o, "b", 0);
    (void)pfl_outbox_lane(&o, "a", 0);
    assert_string_equal(o.lanes[0].to, "a");
    for (int i = 0; i < N; i++)
        flood(&f, i);
    assert_int_equal(run(&o, "a", &f, 5), PFL_WINDOW);
    assert_int_equal(run(&o, "a", &f, 5), 0);
    assert_int_equal(o.n, PFL_WINDOW);
    for (int i = 0; i < N; i++) {
        assert_true(answer(&o, "a", i, true));
        assert_int_equal(run(&o, "a", &f, 5), i + PFL_WINDOW < N);
    }
    assert_int_equal(o.n, 0);
    assert_int_equal(pfl_outbox_given(&o), 0); /* b has nothing yet */
    assert_int_equal(run(&o, "b", &f, 5), PFL_WINDOW);
    assert_int_equal(pfl_outbox_given(&o), PFL_WINDOW);
    pfl_outbox_forget(&o, "b");
    assert_int_equal(o.n, 0);
    assert_int_equal(o.n_lanes, 1);
    assert_int_equal(pfl_outbox_given(&o), N);
    pfl_outbox_deinit(&o);
    pfl_flooded_deinit(&f);
}

/* A lost call has its place until it is known to be lost; one that nobody answers loses it, too, but not without end. */
static void lane__calls_that_are_lost__do_not_close_the_window(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    struct pfl_flooded f = {0};
    for (int i = 0; i < 2 * PFL_LANE_MAX; i++)
        flood(&f, i);
    struct pfl_lane *lane = pfl_outbox_lane(&o, "a", 0);
    assert_int_equal(run(&o, "a", &f, 10), PFL_WINDOW);
    assert_true(answer(&o, "a", 0, false)); /* waits to be sent again */
    assert_int_equal(lane->n, PFL_WINDOW);
    assert_int_equal(lane->n_window, PFL_WINDOW - 1);
    assert_int_equal(run(&o, "a", &f, 20), 1);
    pfl_parcel_send(&o, &o.items[0], 7, 30);
    assert_int_equal(lane->n_window, PFL_WINDOW + 1);
    assert_int_equal(pfl_outbox_oldest(&o), 30); /* or 10: about */
    pfl_outbox_age(&o, 19);                      /* those of 10 */
    assert_int_equal(lane->n_window, 2);
    for (int t = 40; t < 50; t++) {
        (void)run(&o, "a", &f, t);
        pfl_outbox_age(&o, t);
        assert_int_equal(lane->n_window, 0);
    }
    assert_int_equal(lane->n, PFL_LANE_MAX);
    assert_true(answer(&o, "a", 5, true)); /* late, but there */
    assert_int_equal(lane->n, PFL_LANE_MAX - 1);
    assert_int_equal(run(&o, "a", &f, 60), 1);
    pfl_outbox_deinit(&o);
    pfl_flooded_deinit(&f);
}

static void lane__behind_by_too_much__misses_the_oldest(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    struct pfl_flooded f = {0};
    (void)pfl_outbox_lane(&o, "a", 0);
    for (int i = 0; i < PFL_FLOODED_MAX + 3; i++)
        flood(&f, i);
    assert_int_equal(run(&o, "a", &f, 5), PFL_WINDOW);
    assert_int_equal(o.dropped, 3);
    assert_false(answer(&o, "a", 2, true));
    assert_true(answer(&o, "a", 3, true));
    pfl_outbox_deinit(&o);
    pfl_flooded_deinit(&f);
}

/* What a neighbour sent itself, it is not given; unless it comes anew, and may have lost it. */
static void lane__what_its_neighbour_sent__is_passed_over(void **state)
{
    (void)state;
    struct pfl_outbox o = {0};
    struct pfl_flooded f = {0};
    struct pfl_lane *lane = pfl_outbox_lane(&o, "a", 0);
    const struct pfl_past *p;
    for (int i = 0; i < 6; i++)
        flood(&f, i);
    assert_non_null(pfl_outbox_next(&o, lane, &f));
    pfl_outbox_has(lane, &f, 100); /* it is on its way already */
    pfl_outbox_has(lane, &f, 101);
    pfl_outbox_has(lane, &f, 103);
    pfl_outbox_has(lane, &f, 105);
    pfl_outbox_has(lane, &f, 99); /* nobody's */
    (void)pfl_outbox_lane(&o, "b", 1);
    lane = pfl_outbox_find_lane(&o, "a");
    assert_true((p = pfl_outbox_next(&o, lane, &f)) && p->tag == 102);
    assert_true((p = pfl_outbox_next(&o, lane, &f)) && p->tag == 104);
    assert_null(pfl_outbox_next(&o, lane, &f));
    assert_int_equal(lane->next, f.end);
    struct pfl_lane *other = pfl_outbox_find_lane(&o, "b");
    assert_true(other->bit && other->bit != lane->bit);
    assert_true((p = pfl_outbox_next(&o, other, &f)) && p->tag == 101);
    pfl_outbox_again(lane, &f, 1);
    assert_true((p = pfl_outbox_next(&o, lane, &f)) && p->tag == 101);
    pfl_outbox_again(lane, &f, 5); /* it is before that */
    assert_true((p = pfl_outbox_next(&o, lane, &f)) && p->tag == 102);
    assert_null(pfl_outbox_find_lane(&o, "c"));
    pfl_outbox_deinit(&o);
    pfl_flooded_deinit(&f);
}

/* There are bits for 32 of them; the others are given everything. A bit is free again when its lane ends. */
static void lane__more_than_have_a_bit__are_given_everything(void **state)
{
    (void)state;
    static char names[40][16];
    struct pfl_outbox o = {0};
    struct pfl_flooded f = {0};
    uint32_t bits = 0;
    for (int i = 0; i < 40; i++) {
        snprintf(names[i], sizeof(names[i]), "n%d", i);
        uint32_t bit = pfl_outbox_lane(&o, names[i], 0)->bit;
        assert_true(i < 32 ? bit && (bit & (bit - 1)) == 0 && !(bits & bit) : bit == 0);
        bits |= bit;
    }
    flood(&f, 0);
    struct pfl_lane *last = pfl_outbox_find_lane(&o, "n39");
    pfl_outbox_has(last, &f, 100);
    assert_non_null(pfl_outbox_next(&o, last, &f));
    uint32_t bit = pfl_outbox_find_lane(&o, "n7")->bit;
    pfl_outbox_forget(&o, "n7");
    assert_int_equal(pfl_outbox_lane(&o, "x", 0)->bit, bit);
    pfl_outbox_deinit(&o);
    pfl_flooded_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outbox__undelivered__waits_and_is_given_up_at_last),
        cmocka_unit_test(outbox__over_its_limit__the_oldest_waiting_gives_way),
        cmocka_unit_test(outbox__answered_in_any_order__keeps_the_rest_in_order),
        cmocka_unit_test(outbox__large_messages__the_oldest_waiting_gives_way),
        cmocka_unit_test(lane__more_than_its_window__waits_its_turn),
        cmocka_unit_test(lane__calls_that_are_lost__do_not_close_the_window),
        cmocka_unit_test(lane__behind_by_too_much__misses_the_oldest),
        cmocka_unit_test(lane__what_its_neighbour_sent__is_passed_over),
        cmocka_unit_test(lane__more_than_have_a_bit__are_given_everything),
    };
    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
