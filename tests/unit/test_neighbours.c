/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor mesh */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mesh/neighbours.h"
#include "mesh/spread.h"

static void neighbours__are_unique_and_sorted_and_stay_where_they_are(void **state)
{
    (void)state;
    struct pfl_neighbours t = {0};
    assert_null(pfl_neighbours_find(&t, "b"));
    struct pfl_peer *b = pfl_neighbours_get(&t, "b");
    for (char c = 'z'; c >= 'a'; c--) {
        const char name[] = {c, '\0'};
        pfl_neighbours_get(&t, name);
    }
    assert_int_equal(t.n, 26);
    assert_ptr_equal(pfl_neighbours_find(&t, "b"), b);
    for (size_t i = 1; i < t.n; i++)
        assert_true(strcmp(t.items[i - 1]->addr, t.items[i]->addr) < 0);
    pfl_neighbours_remove(&t, b);
    assert_null(pfl_neighbours_find(&t, "b"));
    assert_non_null(pfl_neighbours_find(&t, "a"));
    assert_non_null(pfl_neighbours_find(&t, "c"));
    assert_int_equal(t.n, 25);
    pfl_neighbours_deinit(&t);
}

static void neighbours__direct_are_those_with_a_link(void **state)
{
    (void)state;
    struct pfl_neighbours t = {0};
    pfl_neighbours_link(&t, pfl_neighbours_get(&t, "a"), PFL_LINK_UP);
    pfl_neighbours_link(&t, pfl_neighbours_get(&t, "b"), PFL_LINK_SUSPECT);
    pfl_neighbours_link(&t, pfl_neighbours_get(&t, "c"), PFL_LINK_DIALLING);
    pfl_neighbours_get(&t, "d")->alive = true;
    assert_int_equal(t.n_linked, 3);
    assert_string_equal(t.linked[0]->addr, "a");
    pfl_neighbours_link(&t, t.linked[1], PFL_LINK_NONE);
    assert_int_equal(t.n_linked, 2);
    assert_string_equal(t.linked[1]->addr, "c");
    assert_ptr_equal(pfl_neighbours_find_linked(&t, "c"), t.linked[1]);
    assert_null(pfl_neighbours_find_linked(&t, "b"));
    assert_null(pfl_neighbours_find_linked(&t, "d"));
    pfl_neighbours_remove(&t, t.linked[0]); /* and it is gone from there, too */
    assert_int_equal(t.n_linked, 1);
    assert_string_equal(t.linked[0]->addr, "c");
    assert_true(pfl_neighbours_alive(&t, "d"));
    assert_false(pfl_neighbours_alive(&t, "a"));
    assert_false(pfl_neighbours_alive(&t, "x"));
    pfl_neighbours_deinit(&t);
}

static void contact__backoff_doubles_up_to_five_seconds(void **state)
{
    (void)state;
    static const int64_t want_ms[] = {200, 400, 800, 1600, 3200, 5000, 5000};
    struct pfl_contact c = {0};
    for (size_t i = 0; i < PFL_ARRAY_LEN(want_ms); i++)
        assert_int_equal(pfl_contact_backoff(&c), want_ms[i] * PFL_MS);
}

static void contact__only_so_many_wait_for_a_link(void **state)
{
    (void)state;
    struct pfl_contact c = {0};
    for (uint64_t i = 1; i <= PFL_PEER_CALLS_MAX; i++)
        assert_true(pfl_contact_wait(&c, i, false));
    assert_false(pfl_contact_wait(&c, 99, false));
    free(c.calls);
}

static void peer__without_contact_reads_as_zeros_and_takes_none(void **state)
{
    (void)state;
    struct pfl_neighbours t = {0};
    struct pfl_peer *p = pfl_neighbours_get(&t, "a");
    assert_int_equal(pfl_contact_of(&t, p)->retry_at, 0);
    assert_int_equal(pfl_peer_from(&t, p), 0);
    pfl_peer_set_from(&t, p, 0);
    pfl_peer_initialized_for(&t, p, NULL);
    assert_int_equal(p->contact, 0);
    pfl_peer_initialized_for(&t, p, "run-1");
    assert_string_equal(pfl_contact_of(&t, p)->initialized_for, "run-1");
    pfl_contact_get(&t, p)->retry_at = 7;
    assert_int_equal(pfl_contact_of(&t, p)->retry_at, 7);
    pfl_peer_initialized_for(&t, p, NULL);
    assert_null(pfl_contact_of(&t, p)->initialized_for);
    pfl_peer_set_from(&t, p, 3);
    assert_int_equal(pfl_peer_from(&t, p), 3);
    pfl_neighbours_deinit(&t);
}

/* For who keeps its address, as the rows of rounds do. */
static void peer__that_is_removed_keeps_its_address_for_who_refers_to_it(void **state)
{
    (void)state;
    struct pfl_neighbours t = {0};
    struct pfl_peer *p = pfl_neighbour_ref(pfl_neighbours_get(&t, "10.0.0.1:6666"));
    pfl_neighbours_link(&t, p, PFL_LINK_UP);
    pfl_neighbours_remove(&t, p);
    assert_null(pfl_neighbours_find(&t, "10.0.0.1:6666"));
    assert_string_equal(p->addr, "10.0.0.1:6666");
    assert_int_equal(p->contact, 0);
    assert_ptr_not_equal(pfl_neighbours_get(&t, "10.0.0.1:6666"), p);
    pfl_neighbour_unref(p);
    pfl_neighbours_deinit(&t);
}

/* It is told of who told a count, and nothing of it stays with others when it goes. */
static void contacts__have_numbers_and_the_first_free_one_is_taken_again(void **state)
{
    (void)state;
    struct pfl_neighbours t = {0};
    struct pfl_peer *a = pfl_neighbours_get(&t, "a"), *b = pfl_neighbours_get(&t, "b"), *c = pfl_neighbours_get(&t, "c");
    pfl_neighbours_link(&t, b, PFL_LINK_DIALLING);
    pfl_neighbours_link(&t, a, PFL_LINK_UP);
    assert_int_equal(b->contact, 1);
    assert_int_equal(a->contact, 2);
    assert_int_equal(c->contact, 0);
    pfl_neighbours_link(&t, b, PFL_LINK_NONE);
    pfl_neighbours_link(&t, b, PFL_LINK_UP);
    assert_int_equal(b->contact, 1); /* the same as long as it is known */
    a->count_by = 1;
    c->count_by = 2;
    pfl_neighbours_remove(&t, b);
    assert_int_equal(a->count_by, 0);
    assert_int_equal(c->count_by, 2);
    pfl_neighbours_link(&t, c, PFL_LINK_UP);
    assert_int_equal(c->contact, 1);
    pfl_neighbours_deinit(&t);
}

static struct pfl_strs list(const char *const *names)
{
    struct pfl_strs l = {0};
    for (; *names; names++)
        pfl_strs_add(&l, *names);
    return l;
}
#define LIST(...) list((const char *const[]){__VA_ARGS__, NULL})

static void offers__the_first_sender_of_a_contribution_is_told_true(void **state)
{
    (void)state;
    struct pfl_offers o = {0};
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs a = LIST("a");
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs ab = LIST("a", "b");
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs c = LIST("c");
    assert_true(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "x", &a, 0, 10, 2));
    assert_true(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "x", &a, 1, 11, 3));   /* asks again: still its turn */
    assert_false(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "y", &a, 1, 11, 3));  /* somebody else sends it */
    assert_false(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "y", &ab, 1, 11, 3)); /* or a part of it */
    assert_true(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "y", &c, 1, 11, 3));
    assert_true(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 2, "y", &a, 1, 11, 3)); /* another round */
    assert_true(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "y", NULL, 1, 11, 3));   /* another kind */
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "x", NULL, 1, 11, 3));
    pfl_offers_arrived(&o, PFL_PUSH_PARTIAL, 1, "x");
    assert_true(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "z", &a, 2, 12, 4));
    pfl_offers_forget(&o, "z");
    assert_true(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "w", &a, 3, 13, 5));
    assert_false(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "v", &a, 12, 22, 14));
    assert_true(pfl_offers_take(&o, PFL_PUSH_PARTIAL, 1, "v", &a, 13, 23, 15)); /* its time is over */
    pfl_offers_deinit(&o);
}

static void offers__sender_that_lost_it_asks_again__another_that_offered_it_may_send(void **state)
{
    (void)state;
    struct pfl_offers o = {0};
    assert_true(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "x", NULL, 0, 10, 2));
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "y", NULL, 1, 11, 3));
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "x", NULL, 9, 19, 11)); /* it lost it, and y offers it too */
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "x", NULL, 10, 20, 12));
    assert_true(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "y", NULL, 10, 20, 12));
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "x", NULL, 11, 21, 13));
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "y", NULL, 19, 29, 21)); /* y lost it as well: nobody takes the place ... */
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "y", NULL, 20, 30, 22));
    assert_true(pfl_offers_take(&o, PFL_PUSH_ADD, 1, "y", NULL, 21, 31, 23)); /* ... until its time is over */
    pfl_offers_deinit(&o);
}

static void offers__too_many__are_told_false(void **state)
{
    (void)state;
    struct pfl_offers o = {0};
    for (int32_t i = 0; i < PFL_OFFERS_MAX; i++)
        assert_true(pfl_offers_take(&o, PFL_PUSH_ADD, i, "x", NULL, 0, 10, 2));
    assert_false(pfl_offers_take(&o, PFL_PUSH_ADD, PFL_OFFERS_MAX, "x", NULL, 0, 10, 2));
    assert_true(pfl_offers_take(&o, PFL_PUSH_ADD, PFL_OFFERS_MAX, "x", NULL, 10, 20, 12));
    pfl_offers_deinit(&o);
}

static struct pfl_payload *payload(void)
{
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {1}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_payload *p = NULL;
    assert_int_equal(pfl_layout_new(&desc, 1, &layout, NULL), PFL_OK);
    assert_int_equal(pfl_model_new(layout, &model, NULL), PFL_OK);
    assert_int_equal(pfl_payload_new(model, &p, NULL), PFL_OK);
    return p;
}

static void spread__what_is_not_wanted_goes_unless_it_is_under_way(void **state)
{
    (void)state;
    struct pfl_spread s = {0};
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = payload();
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs a = LIST("a");
    struct pfl_push *x = pfl_spread_want(&s, PFL_PUSH_PARTIAL, 0, "x", &a, p, 3, 5);
    assert_ptr_equal(pfl_spread_want(&s, PFL_PUSH_PARTIAL, 0, "x", &a, p, 3, 6), x); /* the same, not another */
    assert_int_equal(x->at, 5);
    assert_false(pfl_spread_covers(&s, 0, "x", "a")); /* it only waits */
    struct pfl_push *y = pfl_spread_want(&s, PFL_PUSH_ADD, 0, "y", NULL, p, 1, 4);
    assert_int_equal(pfl_spread_deadline(&s), 4);
    x->state = PFL_PUSH_SEND;
    x->id = 9;
    x->at = 20;
    assert_true(pfl_spread_covers(&s, 0, "x", "a"));
    assert_false(pfl_spread_covers(&s, 1, "x", "a"));
    assert_ptr_equal(pfl_spread_by_id(&s, 9), x);
    assert_ptr_equal(pfl_spread_find(&s, PFL_PUSH_ADD, 0, "y", NULL), y);
    pfl_spread_begin(&s);
    pfl_spread_sweep(&s);
    assert_int_equal(s.n, 1);
    x->state = PFL_PUSH_DONE;
    assert_null(pfl_spread_by_id(&s, 9));
    pfl_spread_sweep(&s);
    assert_int_equal(s.n, 0);
    assert_int_equal(pfl_spread_deadline(&s), PFL_NEVER);
    pfl_spread_deinit(&s);
}

static void spread__another_payload__is_offered_anew(void **state)
{
    (void)state;
    struct pfl_spread s = {0};
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = payload();
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *q = payload();
    struct pfl_push *x = pfl_spread_want(&s, PFL_PUSH_ADD, 0, "x", NULL, p, 1, 5);
    x->state = PFL_PUSH_DONE;
    pfl_spread_want(&s, PFL_PUSH_ADD, 0, "x", NULL, q, 1, 6);
    assert_int_equal(x->state, PFL_PUSH_WAIT);
    assert_ptr_equal(x->payload, q);
    pfl_spread_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours__are_unique_and_sorted_and_stay_where_they_are),
        cmocka_unit_test(neighbours__direct_are_those_with_a_link),
        cmocka_unit_test(contact__backoff_doubles_up_to_five_seconds),
        cmocka_unit_test(contact__only_so_many_wait_for_a_link),
        cmocka_unit_test(peer__without_contact_reads_as_zeros_and_takes_none),
        cmocka_unit_test(peer__that_is_removed_keeps_its_address_for_who_refers_to_it),
        cmocka_unit_test(contacts__have_numbers_and_the_first_free_one_is_taken_again),
        cmocka_unit_test(offers__the_first_sender_of_a_contribution_is_told_true),
        cmocka_unit_test(offers__sender_that_lost_it_asks_again__another_that_offered_it_may_send),
        cmocka_unit_test(offers__too_many__are_told_false),
        cmocka_unit_test(spread__what_is_not_wanted_goes_unless_it_is_under_way),
        cmocka_unit_test(spread__another_payload__is_offered_anew),
    };
    return cmocka_run_group_tests_name("neighbours", tests, NULL, NULL);
}
