/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* Votes against values computed by hand, and the book-keeping of a round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/round.h"
#include "node/vote.h"

static struct pfl_strs list(const char *const *names)
{
    struct pfl_strs l = {0};
    for (; *names; names++)
        pfl_strs_add(&l, *names);
    return l;
}
#define LIST(...) list((const char *const[]){__VA_ARGS__, NULL})

/* ---- votes ---- */

static bool not_ghost(void *user, const char *name)
{
    (void)user;
    return strcmp(name, "ghost") != 0;
}

static void vote(struct pfl_round *r, const char *who, const struct pfl_strs *ballot)
{
    struct pfl_round_peer *p = pfl_round_get(r, who);
    assert_int_equal(pfl_round_set_ballot(r, p, ballot, NULL), PFL_OK);
    pfl_round_set_voted(r, p, true);
}

static void tally__by_hand(void **state)
{
    (void)state;
    /* a: 500 + 0 = 500; b: 250 + 250 = 500; c: 100 + 399 = 499; d: 0; ghost: 1000, which nobody knows */
    struct pfl_strs first = LIST("a", "500", "b", "250", "c", "100", "ghost", "1000");
    struct pfl_strs second = LIST("c", "399", "b", "250", "a", "0", "d", "0");
    struct pfl_strs set = {0};
    struct pfl_round *r = pfl_round_new(0, NULL), *turned = pfl_round_new(0, NULL);
    vote(r, "x", &first);
    vote(r, "y", &second);
    vote(turned, "x", &second);
    vote(turned, "y", &first);
    pfl_round_tally(r, 3, not_ghost, NULL, &set);
    assert_int_equal(set.n, 3);
    assert_string_equal(set.items[0], "b"); /* 500 like a; the higher name first */
    assert_string_equal(set.items[1], "a");
    assert_string_equal(set.items[2], "c");
    pfl_round_tally(turned, 9, not_ghost, NULL, &set);
    assert_int_equal(set.n, 4);
    assert_string_equal(set.items[3], "d"); /* no votes, but a candidate */
    pfl_round_tally(r, 1, NULL, NULL, &set);
    assert_int_equal(set.n, 1);
    assert_string_equal(set.items[0], "ghost");
    struct pfl_round_peer *x = pfl_round_find(r, "x");
    pfl_round_ballot(r, x, &set);
    assert_int_equal(set.n, first.n);
    for (size_t i = 0; i < set.n; i++)
        assert_string_equal(set.items[i], first.items[i]);
    pfl_round_set_voted(r, x, false); /* it is out: with its ballot goes who was named there only */
    pfl_round_drop_ballot(r, x);
    assert_int_equal(r->n_voted, 1);
    pfl_round_tally(r, 9, NULL, NULL, &set);
    assert_int_equal(set.n, 4);
    assert_string_equal(set.items[0], "c");
    assert_string_equal(set.items[3], "a");
    assert_int_equal(r->n_peers, 7); /* x, y, and five names */
    pfl_round_drop_ballots(r);
    pfl_round_tally(r, 3, NULL, NULL, &set);
    assert_int_equal(set.n, 0);
    pfl_round_ballot(r, pfl_round_find(r, "y"), &set);
    assert_int_equal(set.n, 0);
    assert_int_equal(r->n_peers, 2); /* of those who were only named nothing is known any more */
    pfl_round_free(r);
    pfl_round_free(turned);
    pfl_strs_deinit(&first);
    pfl_strs_deinit(&second);
    pfl_strs_deinit(&set);
}

static void ballots__that_are_only_counted__count_the_same(void **state)
{
    (void)state;
    struct pfl_strs first = LIST("a", "500", "b", "250", "c", "100"), second = LIST("c", "399", "b", "250", "a", "0");
    struct pfl_strs set = {0};
    struct pfl_round *r = pfl_round_new(0, NULL);
    vote(r, "x", &first);
    assert_int_equal(pfl_round_count_ballot(r, &second, NULL), PFL_OK);
    pfl_round_tally(r, 9, NULL, NULL, &set);
    assert_int_equal(set.n, 3);
    assert_string_equal(set.items[0], "b"); /* 500 like a */
    assert_string_equal(set.items[1], "a");
    assert_string_equal(set.items[2], "c"); /* 499 */
    pfl_round_drop_ballot(r, pfl_round_find(r, "x"));
    pfl_round_drop_ballot(r, pfl_round_find(r, "x")); /* it is out already */
    pfl_round_drop_ballot(r, pfl_round_find(r, "c")); /* has none */
    pfl_round_tally(r, 9, NULL, NULL, &set);
    assert_int_equal(set.n, 3);
    assert_string_equal(set.items[0], "c"); /* 399 */
    assert_string_equal(set.items[2], "a"); /* 0, but a candidate */
    vote(r, "x", &first);
    vote(r, "x", &second); /* takes the place of the first */
    pfl_round_tally(r, 1, NULL, NULL, &set);
    assert_string_equal(set.items[0], "c"); /* 798 */
    pfl_strs_deinit(&first);
    pfl_strs_deinit(&second);
    pfl_strs_deinit(&set);
    pfl_round_free(r);
}

/* Numbers of more than one, two and three bytes, and the most votes that one can have. */
static void ballots__of_many_names__come_back_as_they_were(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(0, NULL);
    struct pfl_strs ballot = {0}, back = {0};
    for (int i = 0; i < 3000; i++) {
        char text[40];
        snprintf(text, sizeof(text), "10.%d.%d.1:6666", i / 256, i % 256);
        pfl_strs_add(&ballot, text);
        snprintf(text, sizeof(text), "%d", i % 7 ? i % (PFL_VOTE_MAX + 1) : PFL_VOTE_MAX);
        pfl_strs_add(&ballot, text);
    }
    vote(r, "x", &ballot);
    vote(r, "y", &ballot);
    for (int i = 0; i < 2; i++) {
        pfl_round_ballot(r, pfl_round_find(r, i ? "y" : "x"), &back);
        assert_int_equal(back.n, ballot.n);
        for (size_t k = 0; k < back.n; k++)
            assert_string_equal(back.items[k], ballot.items[k]);
    }
    pfl_round_tally(r, 1, NULL, NULL, &back);
    assert_string_equal(back.items[0], "10.9.97.1:6666"); /* of those with the most votes the highest name */
    assert_int_equal(r->n_candidates, 3000);
    pfl_strs_deinit(&ballot);
    pfl_strs_deinit(&back);
    pfl_round_free(r);
}

static void make__the_ith_gets_at_most_its_share(void **state)
{
    (void)state;
    struct pfl_strs candidates = LIST("a", "b", "c", "d", "e");
    struct pfl_rng rng;
    struct pfl_strs ballot = {0};
    bool seen_high = false;
    pfl_rng_seed(&rng, 1);
    for (unsigned round = 0; round < 500; round++) {
        size_t size = 1 + round % 7;
        pfl_vote_make(&rng, &candidates, size, &ballot);
        assert_int_equal(ballot.n, 2 * (size < 5 ? size : 5));
        assert_int_equal(pfl_vote_check(&ballot, NULL), PFL_OK); /* distinct names, votes in range */
        for (size_t i = 0; i < ballot.n / 2; i++) {
            int64_t votes;
            assert_true(pfl_parse_i64(ballot.items[2 * i + 1], 0, 1000 / (int64_t)(i + 1), &votes));
            assert_true(pfl_strs_has(&candidates, ballot.items[2 * i]));
            seen_high = seen_high || (i == 0 && votes > 900);
        }
    }
    assert_true(seen_high);
    pfl_strs_deinit(&ballot);
    pfl_strs_deinit(&candidates);
}

static void check__names_that_are_too_long__are_refused(void **state)
{
    (void)state;
    char name[300];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct pfl_strs args = LIST(name, "1");
    struct pfl_err err = {0};
    assert_int_equal(pfl_vote_check(&args, &err), PFL_MALFORMED);
    assert_string_equal(err.msg, "vote_train_set: a name of 299 bytes");
    pfl_strs_deinit(&args);
}

/* ---- a round's records ---- */

static struct pfl_payload *payload(uint8_t digest)
{
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {1}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_payload *p = NULL;
    assert_int_equal(pfl_layout_new(&desc, 1, &layout, NULL), PFL_OK);
    assert_int_equal(pfl_model_new(layout, &model, NULL), PFL_OK);
    assert_int_equal(pfl_payload_new(model, &p, NULL), PFL_OK);
    memset(p->digest, digest, sizeof(p->digest));
    p->has_digest = true;
    return p;
}

static void book__is_disjoint_and_sorted(void **state)
{
    (void)state;
    struct pfl_book b = {0};
    struct pfl_err err = {0};
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = payload(1);
    struct pfl_strs members = LIST("a", "b", "c", "d"), dc = LIST("d", "c"), a = LIST("a"), ab = LIST("a", "b"), all = {0};
    assert_int_equal(pfl_book_check(&b, &members, &dc, 5, &err), PFL_BOOK_FITS);
    pfl_book_add(&b, &dc, p, 5, 0);
    assert_int_equal(pfl_book_check(&b, &members, &a, 7, &err), PFL_BOOK_FITS);
    pfl_book_add(&b, &a, p, 7, 0);
    assert_int_equal(pfl_book_check(&b, &members, &a, 7, &err), PFL_BOOK_KNOWN);
    assert_int_equal(pfl_book_check(&b, &members, &dc, 7, &err), PFL_BOOK_KNOWN);
    assert_int_equal(pfl_book_check(&b, &members, &ab, 7, &err), PFL_BOOK_REFUSED);
    assert_string_equal(b.items[0].who.items[0], "a");
    assert_string_equal(b.items[1].who.items[0], "c");
    assert_int_equal(pfl_book_samples(&b), 12);
    pfl_book_union(&b, &all);
    PFL_AUTO(pfl_freep) char *joined = pfl_strs_join(&all, " ");
    assert_string_equal(joined, "a c d");
    pfl_strs_sort(&dc);
    assert_ptr_equal(pfl_book_find(&b, &dc), &b.items[1]);
    assert_null(pfl_book_find(&b, &all));
    pfl_book_deinit(&b);
    pfl_strs_deinit(&members);
    pfl_strs_deinit(&dc);
    pfl_strs_deinit(&a);
    pfl_strs_deinit(&ab);
    pfl_strs_deinit(&all);
}

/* user: a string of the names that live, one letter each. */
static bool lives(void *user, const char *addr)
{
    return strchr(user, addr[0]) != NULL;
}

static const char *canonical(const struct pfl_round *r, const char *living)
{
    char text[32];
    snprintf(text, sizeof(text), "%s", living);
    const struct pfl_round_peer *p = pfl_round_canonical(r, lives, text).by;
    return p ? pfl_round_addr(p) : "-";
}

static void announce(struct pfl_round *r, const char *who, uint8_t digest)
{
    uint8_t d[PFL_DIGEST_LEN];
    memset(d, digest, sizeof(d));
    assert_true(pfl_round_set_ready(r, pfl_round_get(r, who), d, 0));
    assert_false(pfl_round_set_ready(r, pfl_round_get(r, who), d, 0)); /* nothing new */
}

static void canonical__the_lowest_member_whose_result_somebody_living_has(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(3, NULL);
    r->members = LIST("b", "c", "d");
    assert_string_equal(canonical(r, "abcd"), "-");
    announce(r, "a", 9); /* no member: only where no member announced */
    assert_string_equal(canonical(r, "abcd"), "a");
    announce(r, "d", 1);
    assert_string_equal(canonical(r, "abcd"), "d");
    announce(r, "c", 2);
    assert_string_equal(canonical(r, "abcd"), "c");
    announce(r, "b", 3);
    assert_string_equal(canonical(r, "abcd"), "b");
    assert_string_equal(canonical(r, "acd"), "c"); /* b's result died with it */
    announce(r, "d", 3);                           /* d had taken it: now it is there again */
    assert_string_equal(canonical(r, "acd"), "b");
    assert_string_equal(canonical(r, "a"), "a");
    assert_string_equal(canonical(r, ""), "-");
    pfl_round_free(r);
}

static void computes(struct pfl_round *r, const char *who, uint8_t digest)
{
    uint8_t d[PFL_DIGEST_LEN];
    memset(d, digest, sizeof(d));
    (void)pfl_round_set_ready(r, pfl_round_get(r, who), d, 0);
    assert_true(pfl_round_set_computed(r, pfl_round_get(r, who), d));
    assert_false(pfl_round_set_computed(r, pfl_round_get(r, who), d));
}

static void assert_canon(const struct pfl_round *r, const char *living, const char *by, uint8_t digest, size_t computed,
                         size_t against)
{
    char text[32];
    snprintf(text, sizeof(text), "%s", living);
    struct pfl_canon c = pfl_round_canonical(r, lives, text);
    assert_non_null(c.by);
    assert_string_equal(pfl_round_addr(c.by), by);
    assert_int_equal(c.digest[0], digest);
    assert_int_equal(c.computed, computed);
    assert_int_equal(c.against, against);
}

static void canonical__what_most_members_computed(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(3, NULL);
    r->members = LIST("b", "c", "d", "e");
    announce(r, "b", 9); /* taken: from nobody knows whom */
    computes(r, "a", 8); /* no member */
    assert_canon(r, "abcde", "b", 9, 0, 0);
    computes(r, "d", 1);
    assert_canon(r, "abcde", "d", 1, 1, 0); /* one that was computed counts more than any that was taken */
    announce(r, "c", 9);
    assert_canon(r, "abcde", "d", 1, 1, 0);
    computes(r, "b", 2);
    assert_canon(r, "abcde", "b", 2, 1, 1); /* as many: the lowest address */
    computes(r, "e", 1);
    assert_canon(r, "abcde", "d", 1, 2, 1);
    uint8_t other[PFL_DIGEST_LEN] = {7};
    assert_false(pfl_round_set_computed(r, pfl_round_get(r, "e"), other)); /* the first counts */
    assert_canon(r, "abcde", "d", 1, 2, 1);
    assert_canon(r, "abc", "b", 2, 1, 0); /* what d and e computed died with them */
    announce(r, "a", 1);
    assert_canon(r, "abc", "d", 1, 2, 1); /* somebody has it again: whoever died said what it said */
    pfl_round_unset_ready(r, pfl_round_find(r, "d"));
    assert_canon(r, "abcde", "d", 1, 2, 1);
    pfl_round_unset_computed(r, pfl_round_find(r, "d"));
    assert_canon(r, "abcde", "b", 2, 1, 1);
    pfl_round_free(r);
}

static void canonical__members_unknown__everybody_counts(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(3, NULL);
    computes(r, "a", 1);
    computes(r, "c", 2);
    computes(r, "d", 2);
    assert_canon(r, "abcd", "c", 2, 2, 1);
    pfl_round_free(r);
}

static void announcements__that_overtake_each_other__are_all_kept(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(0, NULL);
    uint8_t d[PFL_DIGEST_LEN];
    announce(r, "a", 2);
    announce(r, "a", 1); /* the older one came last */
    memset(d, 2, sizeof(d));
    assert_true(pfl_round_peer_announced(r, pfl_round_find(r, "a"), d));
    announce(r, "a", 3);
    announce(r, "a", 4);
    assert_int_equal(pfl_round_find(r, "a")->n_results, PFL_READY_DIGESTS_MAX);
    memset(d, 4, sizeof(d));
    assert_memory_equal(pfl_round_peer_digest(r, pfl_round_find(r, "a")), d, sizeof(d));
    pfl_round_free(r);
}

static void rows__stay_where_they_are_and_are_in_order(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(0, NULL);
    char name[16];
    pfl_round_get(r, "500")->trains = true;
    const struct pfl_round_peer *p = pfl_round_find(r, "500");
    for (int i = 0; i < 999; i++) {
        snprintf(name, sizeof(name), "%03d", (i * 7) % 999);
        if (i % 2 == 0)
            assert_true(pfl_round_set_ready(r, pfl_round_get(r, name), NULL, i));
        (void)pfl_round_get(r, name);
    }
    assert_int_equal(r->n_peers, 999);
    assert_ptr_equal(pfl_round_find(r, "500"), p);
    for (size_t i = 1; i < r->n_peers; i++)
        assert_true(strcmp(pfl_round_addr(pfl_round_at(r, i - 1)), pfl_round_addr(pfl_round_at(r, i))) < 0);
    for (int i = 0; i < 999; i += 2) {
        snprintf(name, sizeof(name), "%03d", (i * 7) % 999);
        assert_int_equal(pfl_round_ready_at(r, pfl_round_find(r, name)), i);
    }
    size_t n_rows = r->n_rows;
    assert_false(p->ready); /* but it trains */
    pfl_round_drop_empty_rows(r);
    assert_int_equal(r->n_peers, 501);
    assert_ptr_equal(pfl_round_find(r, "500"), p);
    assert_null(pfl_round_find(r, "007"));
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "x%03d", i);
        assert_false(pfl_round_get(r, name)->ready);
    }
    assert_int_equal(r->n_rows, n_rows); /* their places are taken again */
    pfl_round_close(r);
    assert_int_equal(r->n_peers, 0);
    assert_null(pfl_round_find(r, "500"));
    pfl_round_free(r);
}

static void rows__share_the_addresses_of_known_nodes(void **state)
{
    (void)state;
    struct pfl_neighbours known = {0};
    struct pfl_peer *a = pfl_neighbours_get(&known, "a");
    struct pfl_round *r = pfl_round_new(0, &known);
    pfl_round_get(r, "a")->ready = true;
    pfl_round_get(r, "b")->ready = true;
    assert_ptr_equal(pfl_round_addr(pfl_round_find(r, "a")), a->addr);
    assert_string_equal(pfl_round_addr(pfl_round_find(r, "b")), "b");
    pfl_neighbours_remove(&known, a);
    assert_string_equal(pfl_round_addr(pfl_round_find(r, "a")), "a"); /* it is gone; what it said is not */
    pfl_neighbours_deinit(&known);
    pfl_round_free(r);
}

static void results__are_held_once_and_as_long_as_somebody_has_them(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(0, NULL);
    announce(r, "a", 1);
    announce(r, "b", 1);
    computes(r, "c", 1);
    announce(r, "d", 2);
    assert_int_equal(r->n_results, 2);
    assert_ptr_equal(pfl_round_peer_digest(r, pfl_round_find(r, "a")), pfl_round_computed(r, pfl_round_find(r, "c")));
    pfl_round_unset_ready(r, pfl_round_find(r, "d"));
    assert_null(pfl_round_peer_digest(r, pfl_round_find(r, "d")));
    announce(r, "e", 3); /* takes the place of what nobody has any more */
    assert_int_equal(r->n_results, 2);
    for (uint8_t d = 4; d < 9; d++)
        announce(r, "a", d); /* each is forgotten when three newer ones came */
    assert_int_equal(r->n_results, 2 + PFL_READY_DIGESTS_MAX + 1);
    pfl_round_free(r);
}

static void results__that_were_replaced__are_kept(void **state)
{
    (void)state;
    struct pfl_round *r = pfl_round_new(0, NULL);
    struct pfl_payload *p[4];
    for (uint8_t i = 0; i < 4; i++)
        p[i] = payload(i);
    pfl_round_set_aggregate(r, p[0]);
    pfl_round_set_aggregate(r, p[0]); /* the same again is none that was replaced */
    assert_null(pfl_round_former(r, p[0]->digest));
    pfl_round_set_aggregate(r, p[1]);
    assert_ptr_equal(pfl_round_former(r, p[0]->digest), p[0]);
    assert_null(pfl_round_former(r, p[1]->digest));
    pfl_round_set_aggregate(r, p[2]);
    pfl_round_set_aggregate(r, p[3]); /* the two before that are left */
    assert_ptr_equal(r->aggregate, p[3]);
    assert_null(pfl_round_former(r, p[0]->digest));
    assert_ptr_equal(pfl_round_former(r, p[1]->digest), p[1]);
    assert_ptr_equal(pfl_round_former(r, p[2]->digest), p[2]);
    pfl_round_close(r);
    assert_null(pfl_round_former(r, p[2]->digest));
    for (uint8_t i = 0; i < 4; i++)
        pfl_payload_unref(p[i]);
    pfl_round_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tally__by_hand),
        cmocka_unit_test(ballots__that_are_only_counted__count_the_same),
        cmocka_unit_test(ballots__of_many_names__come_back_as_they_were),
        cmocka_unit_test(make__the_ith_gets_at_most_its_share),
        cmocka_unit_test(check__names_that_are_too_long__are_refused),
        cmocka_unit_test(book__is_disjoint_and_sorted),
        cmocka_unit_test(canonical__the_lowest_member_whose_result_somebody_living_has),
        cmocka_unit_test(canonical__what_most_members_computed),
        cmocka_unit_test(canonical__members_unknown__everybody_counts),
        cmocka_unit_test(rows__stay_where_they_are_and_are_in_order),
        cmocka_unit_test(rows__share_the_addresses_of_known_nodes),
        cmocka_unit_test(results__are_held_once_and_as_long_as_somebody_has_them),
        cmocka_unit_test(results__that_were_replaced__are_kept),
        cmocka_unit_test(announcements__that_overtake_each_other__are_all_kept),
    };
    return cmocka_run_group_tests_name("vote", tests, NULL, NULL);
}
