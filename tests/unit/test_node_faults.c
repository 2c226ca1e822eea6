/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 300 */
/* Experiments with deaths, cuts and losses: the living end, in bounded time, with one model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/netsim.h"

/* What a death may cost: noticing it, a few retries. Nothing may run into the vote's or the aggregation's deadline. */
static const pfl_ns after_a_death = 25 * PFL_SEC;

static struct netsim *network(const struct netsim_opts *o, const char *topology)
{
    struct netsim *s = netsim_new(o);
    netsim_topology(s, topology);
    netsim_run_to_membership(s, 20 * PFL_SEC);
    return s;
}

/* Evicts so early that what a dying node sent is still under way. */
static struct pfl_node_settings quick_eviction(void)
{
    struct pfl_node_settings set;
    pfl_node_settings_default(&set);
    set.heartbeat_period = 250 * PFL_MS;
    set.heartbeat_timeout = 900 * PFL_MS;
    return set;
}

/* A member took another's result instead of its own. */
static bool a_member_adopted(const struct netsim *s, unsigned n)
{
    unsigned adopted = 0, aggregated = 0, rounds = 0;
    for (unsigned i = 0; i < n; i++) {
        adopted = netsim_count(s, i, PFL_NOTE_ADOPTED);
        aggregated = netsim_count(s, i, PFL_NOTE_AGGREGATED);
        rounds = netsim_count(s, i, PFL_NOTE_ROUND_FINISHED);
        if (adopted + aggregated > rounds)
            return true;
    }
    return false;
}

/* Kills `victim` so long after the start; the rest must end. */
static void kill_after(const struct netsim_opts *o, const char *topology, unsigned starter, unsigned size, unsigned victim,
                       pfl_ns after)
{
    struct netsim *s = network(o, topology);
    netsim_learn(s, starter, 4, 1, size);
    netsim_kill_at(s, victim, netsim_now(s) + after);
    netsim_run_to_end(s, netsim_now(s) + after + after_a_death);
    netsim_check_equal(s, 4);
    netsim_free(s);
}

static void a_node_is_killed_at_any_time__the_others_finish_equal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 15; seed++) {
        for (pfl_ns after = 30 * PFL_MS; after < 5 * PFL_SEC; after += 190 * PFL_MS + (pfl_ns)seed * PFL_MS) {
            unsigned n = 3 + (unsigned)(seed % 3);
            const struct netsim_opts o = {.n = n, .seed = 5000 + seed, .silent_death = seed % 2 == 0};
            kill_after(&o, "full", 0, 1 + (unsigned)(seed % n), 1 + (unsigned)(seed % (n - 1)), after);
        }
    }
}

/* Far and slow links: a death tears broadcasts and pushes apart, so that members end a round with different contributions. */
static void a_death_tears_a_round_apart__the_others_finish_equal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        unsigned n = 4 + (unsigned)(seed % 3);
        const struct netsim_opts o = {.n = n,
                                      .seed = 7000 + seed,
                                      .latency_min = PFL_MS,
                                      .latency_max = 250 * PFL_MS,
                                      .set = quick_eviction(),
                                      .fit_min = PFL_MS,
                                      .fit_max = 50 * PFL_MS,
                                      .silent_death = seed % 2 == 0};
        kill_after(&o, "full", 0, 2 + (unsigned)(seed % (n - 1)), (unsigned)(seed % n), (pfl_ns)(seed * 37 % 1600 + 1500) * PFL_MS);
    }
}

static void the_starter_is_killed__after_the_model_went_out__the_others_finish_equal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        const struct netsim_opts o = {.n = 5, .seed = 8000 + seed, .silent_death = seed % 2 == 0};
        kill_after(&o, seed % 3 ? "ring" : "full", 0, 3, 0, 500 * PFL_MS + (pfl_ns)seed * 60 * PFL_MS);
    }
}

static void two_die__in_a_ring_with_chords__the_others_finish_equal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        const struct netsim_opts o = {.n = 7, .seed = 9000 + seed, .silent_death = seed % 2 == 0};
        struct netsim *s = netsim_new(&o);
        netsim_topology(s, "ring");
        netsim_connect(s, 0, 3);
        netsim_connect(s, 1, 5);
        netsim_connect(s, 2, 6);
        netsim_connect(s, 4, 0);
        netsim_run_to_membership(s, 20 * PFL_SEC);
        netsim_learn(s, 0, 4, 1, 4);
        netsim_kill_at(s, 1 + (unsigned)(seed % 3), netsim_now(s) + (pfl_ns)(seed * 31 % 2500 + 200) * PFL_MS);
        netsim_kill_at(s, 4 + (unsigned)(seed % 3), netsim_now(s) + (pfl_ns)(seed * 53 % 4000 + 300) * PFL_MS);
        netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
        netsim_check_equal(s, 4);
        netsim_free(s);
    }
}

/* The node that connects all others dies: they find each other by the addresses they know. */
static void the_hub_dies__the_others_find_each_other(void **state)
{
    (void)state;
    static const struct {
        const char *topology;
        unsigned victim;
    } rows[] = {{"star", 0}, {"line", 2}, {"line", 1}};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        const struct netsim_opts o = {.n = 6, .seed = 600 + seed, .silent_death = seed % 2 == 0};
        for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++)
            kill_after(&o, rows[i].topology, 5, 1 + (unsigned)(seed % 6), rows[i].victim,
                       (pfl_ns)(400 + seed * 97 % 2500) * PFL_MS);
    }
}

static void all_others_die__the_last_goes_on_alone(void **state)
{
    (void)state;
    struct netsim *s = network(&(struct netsim_opts){.n = 4, .seed = 3}, "full");
    netsim_learn(s, 0, 4, 1, 4);
    assert_true(netsim_run_to_stage(s, 0, "training", 30 * PFL_SEC));
    for (unsigned i = 1; i < 4; i++)
        netsim_kill(s, i);
    netsim_run_to_end(s, netsim_now(s) + after_a_death);
    netsim_check_equal(s, 4);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_NEIGHBOUR_LOST), 3);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_EXCLUDED), 3);
    assert_non_null(strstr(netsim_note(s, 0, PFL_NOTE_EXCLUDED, NULL)->text, "no sign of life for 5.0 s"));
    netsim_free(s);
}

/* The pair cannot reach each other at all; the third relays. */
static void one_pair_is_cut__a_third_relays(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct netsim *s = network(&(struct netsim_opts){.n = 4, .seed = 100 + seed}, "full");
        netsim_cut(s, 0, 1);
        netsim_learn(s, 2, 3, 1, 4);
        netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
        netsim_check_equal(s, 3);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(netsim_count(s, i, PFL_NOTE_EXCLUDED), 0);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_KNOWN_LOST), 0);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_NEIGHBOUR_LOST), 0);
        }
        netsim_free(s);
    }
}

/* One lacks two contributions while the relaying node itself still waits for a slow fit: they come as one partial aggregate. The
 * sum has other last bits then, so the round ends with two results, of which one is made canonical. */
static void two_pairs_are_cut__one_partial_aggregate_is_relayed__one_result_becomes_canonical(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        const struct netsim_opts o = {.n = 4, .seed = 200 + seed, .fit_of = {PFL_SEC, PFL_SEC, PFL_SEC, 8 * PFL_SEC}};
        struct netsim *s = network(&o, "full");
        netsim_cut(s, 0, 1);
        netsim_cut(s, 0, 2);
        netsim_learn(s, 3, 2, 1, 4);
        netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
        netsim_check_equal(s, 2);
        /* The first of the two rounds: the one of which node 3 had two contributions for node 0 while it trained itself. */
        const struct pfl_note *relayed = NULL;
        for (unsigned k = 0; (relayed = netsim_note_at(s, 0, PFL_NOTE_CONTRIBUTION, k)) && relayed->list.n < 2; k++) {
        }
        assert_non_null(relayed);
        assert_string_equal(relayed->addr, netsim_addr(s, 3));
        assert_true(a_member_adopted(s, 4));
        netsim_free(s);
    }
}

/* Node 3's contribution reaches node 0 alone, then it dies. Node 1 must wait for it, and get it from node 0, because node 0 counts
 * it. The retry period is long: what is relayed is relayed because of the death. */
static void a_dead_node_s_contribution__that_one_has__is_relayed_and_counted_by_all(void **state)
{
    (void)state;
    struct netsim_opts o = {.n = 4, .seed = 500, .fit_of = {PFL_SEC, PFL_SEC, 9 * PFL_SEC, 200 * PFL_MS}};
    pfl_node_settings_default(&o.set);
    o.set.retry_period = 100 * PFL_SEC;
    struct netsim *s = network(&o, "full");
    netsim_cut(s, 3, 1);
    netsim_cut(s, 3, 2);
    netsim_learn(s, 0, 1, 1, 4);
    while (!netsim_note(s, 0, PFL_NOTE_CONTRIBUTION, netsim_addr(s, 3)))
        netsim_run(s, netsim_now(s) + PFL_MS);
    netsim_kill(s, 3);
    netsim_run_to_end(s, netsim_now(s) + after_a_death);
    netsim_check_equal(s, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(netsim_note(s, i, PFL_NOTE_AGGREGATED, NULL)->list.n, 4);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_EXCLUDED), 0);
    }
    netsim_free(s);
}

/* The same, but the relay must be waited for: node 1 has all others' contributions when it notices the death, mostly before the
 * relaying node does. */
static void a_contribution_that_was_announced__is_waited_for(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct netsim_opts o = {.n = 3, .seed = 500 + seed, .fit_of = {200 * PFL_MS, 200 * PFL_MS, 200 * PFL_MS}};
        pfl_node_settings_default(&o.set);
        o.set.retry_period = 100 * PFL_SEC;
        struct netsim *s = network(&o, "full");
        netsim_cut(s, 2, 1);
        netsim_learn(s, 0, 1, 1, 3);
        while (!netsim_note(s, 0, PFL_NOTE_CONTRIBUTION, netsim_addr(s, 2)))
            netsim_run(s, netsim_now(s) + PFL_MS);
        netsim_kill(s, 2);
        while (!netsim_note(s, 1, PFL_NOTE_KNOWN_LOST, NULL) && !netsim_note(s, 1, PFL_NOTE_NEIGHBOUR_LOST, NULL))
            netsim_run(s, netsim_now(s) + PFL_MS);
        assert_int_equal(netsim_count(s, 1, PFL_NOTE_EXCLUDED), 0);
        netsim_free(s);
    }
}

static void one_call_in_twenty_fails__all_finish_equal(void **state)
{
    (void)state;
    static const char *const topologies[] = {"full", "line", "star", "ring"};
    for (uint64_t seed = 1; seed <= 100; seed++) {
        const struct netsim_opts o = {.n = 3 + (unsigned)(seed % 4), .seed = 300 + seed, .drop = 0.05};
        struct netsim *s = network(&o, topologies[seed % 4]);
        netsim_learn(s, 0, 4, 1, 1 + (unsigned)(seed % 4));
        netsim_run_to_end(s, netsim_now(s) + 40 * PFL_SEC);
        netsim_check_equal(s, 4);
        netsim_free(s);
    }
}

static void losses_and_a_death__all_finish_equal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        const struct netsim_opts o = {
            .n = 5, .seed = 400 + seed, .drop = 0.05, .latency_max = 100 * PFL_MS, .silent_death = seed % 2 == 0};
        struct netsim *s = network(&o, "full");
        netsim_learn(s, 0, 4, 1, 2 + (unsigned)(seed % 4));
        netsim_kill_at(s, (unsigned)(1 + seed % 4), netsim_now(s) + (pfl_ns)(seed * 41 % 4000 + 600) * PFL_MS);
        netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
        netsim_check_equal(s, 4);
        netsim_free(s);
    }
}

static void a_fit_fails__the_round_goes_on_without_it_at_once(void **state)
{
    (void)state;
    struct netsim *s = network(&(struct netsim_opts){.n = 4, .seed = 11}, "full");
    netsim_fail_fit(s, 2);
    netsim_learn(s, 0, 3, 1, 4);
    netsim_run_to_end(s, netsim_now(s) + 15 * PFL_SEC);
    netsim_check_equal(s, 3);
    assert_int_equal(netsim_count(s, 2, PFL_NOTE_FIT), 2);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_EXCLUDED), 1);
    assert_string_equal(netsim_note(s, 0, PFL_NOTE_EXCLUDED, NULL)->text, "its training failed");
    netsim_free(s);
}

static void every_fit_fails__the_model_stays_as_it_is(void **state)
{
    (void)state;
    struct netsim *s = network(&(struct netsim_opts){.n = 3, .seed = 12}, "full");
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *start = pfl_payload_ref(pfl_node_model(netsim_node(s, 0)));
    for (unsigned i = 0; i < 3; i++)
        netsim_fail_fit(s, i);
    netsim_learn(s, 0, 1, 1, 3);
    netsim_run_to_end(s, netsim_now(s) + 15 * PFL_SEC);
    netsim_check_equal(s, 1);
    assert_memory_equal(netsim_note(s, 1, PFL_NOTE_LEARNING_FINISHED, NULL)->digest, start->digest, PFL_DIGEST_LEN);
    netsim_free(s);
}

static void a_short_break_of_a_link__nobody_is_evicted(void **state)
{
    (void)state;
    struct netsim *s = network(&(struct netsim_opts){.n = 2, .seed = 13}, "full");
    netsim_learn(s, 0, 6, 1, 2);
    netsim_run(s, netsim_now(s) + PFL_SEC);
    netsim_cut(s, 0, 1);
    netsim_run(s, netsim_now(s) + 2 * PFL_SEC);
    netsim_mend(s, 0, 1);
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    netsim_check_equal(s, 6);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_NEIGHBOUR_LOST), 0);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_EXCLUDED), 0);
    netsim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_killed_at_any_time__the_others_finish_equal),
        cmocka_unit_test(a_death_tears_a_round_apart__the_others_finish_equal),
        cmocka_unit_test(the_starter_is_killed__after_the_model_went_out__the_others_finish_equal),
        cmocka_unit_test(two_die__in_a_ring_with_chords__the_others_finish_equal),
        cmocka_unit_test(the_hub_dies__the_others_find_each_other),
        cmocka_unit_test(all_others_die__the_last_goes_on_alone),
        cmocka_unit_test(one_pair_is_cut__a_third_relays),
        cmocka_unit_test(two_pairs_are_cut__one_partial_aggregate_is_relayed__one_result_becomes_canonical),
        cmocka_unit_test(a_dead_node_s_contribution__that_one_has__is_relayed_and_counted_by_all),
        cmocka_unit_test(a_contribution_that_was_announced__is_waited_for),
        cmocka_unit_test(one_call_in_twenty_fails__all_finish_equal),
        cmocka_unit_test(losses_and_a_death__all_finish_equal),
        cmocka_unit_test(a_fit_fails__the_round_goes_on_without_it_at_once),
        cmocka_unit_test(every_fit_fails__the_model_stays_as_it_is),
        cmocka_unit_test(a_short_break_of_a_link__nobody_is_evicted),
    };
    return cmocka_run_group_tests_name("node_faults", tests, NULL, NULL);
}
