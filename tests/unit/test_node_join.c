/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 240 */
/* Nodes that come late, come back, or were left behind: they take part again, and cost the others nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/join.h"
#include "support/netsim.h"

static const char *const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/* ---- the answer's text ---- */

static void answers_that_are_none__are_refused(void **state)
{
    (void)state;
    const char *const formats[] = {"",
                                   " ",
                                   "1",
                                   "1 5 1 2 t %s",
                                   "1 5 1 2 t %s ",
                                   "-1 5 1 2 t %s x",
                                   "5 5 1 2 t %s x",
                                   "1 0 1 2 t %s x",
                                   "1 1000001 1 2 t %s x",
                                   "1 5 10001 2 t %s x",
                                   "1 5 1 0 t %s x",
                                   "1 5 1 4097 t %s x",
                                   "1 5 1 2 q %s x",
                                   "1 5 1 2 vt %s x",
                                   "1 5 1 2  %s x",
                                   "1 5 1 2 t %s0 x",
                                   "1 5 1 2 t 00 x",
                                   "1 5 1 2 t %s x\n\na:1",
                                   "1 5 1 2 t %s x\na:1\na:1",
                                   "1 5 1 2 t %s x\n\n",
                                   "one 5 1 2 t %s x",
                                   "1 5 1 2 t %s \na:1",
                                   "9999999999999999999999 5 1 2 t %s x"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(formats); i++) {
        struct pfl_state s;
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf(formats[i], digest);
        if (pfl_state_parse(text, &s))
            fail_msg("'%s' is taken", text);
    }
    struct pfl_state s;
    PFL_AUTO(pfl_freep) char *name = pfl_xcalloc(1, PFL_EXPERIMENT_NAME_MAX + 2);
    memset(name, 'n', PFL_EXPERIMENT_NAME_MAX + 1);
    PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("1 5 1 2 t - %s", name);
    assert_false(pfl_state_parse(text, &s));
}

static void an_answer__is_read(void **state)
{
    (void)state;
    struct pfl_state s;
    PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("1 5 3 2 t %s my run-17\nb:1\na:1", digest);
    assert_true(pfl_state_parse(text, &s));
    assert_true(s.round == 1 && s.rounds == 5 && s.epochs == 3 && s.trainset_size == 2 && !s.ended && s.has_digest);
    assert_int_equal(s.digest[1], 0x11);
    assert_string_equal(s.name, "my run-17");
    assert_int_equal(s.members.n, 2);
    assert_string_equal(s.members.items[0], "a:1");
    pfl_state_deinit(&s);
    assert_true(pfl_state_parse("4 5 1 2 e - x", &s));
    assert_true(s.ended && !s.has_digest && s.members.n == 0);
    pfl_state_deinit(&s);
}

/* ---- whole networks ---- */

static struct netsim *ring(unsigned n, uint64_t seed, pfl_ns fit)
{
    struct netsim_opts o = {.n = n, .seed = seed, .fit_min = fit, .fit_max = fit + 200 * PFL_MS};
    struct netsim *s = netsim_new(&o);
    netsim_topology(s, "ring");
    netsim_run_to_membership(s, 20 * PFL_SEC);
    return s;
}

static bool was_member(struct netsim *s, unsigned i)
{
    for (unsigned k = 0; netsim_note_at(s, i, PFL_NOTE_TRAIN_SET, k); k++) {
        if (pfl_strs_has(&netsim_note_at(s, i, PFL_NOTE_TRAIN_SET, k)->list, netsim_addr(s, i)))
            return true;
    }
    return false;
}

/* Nobody timed out: no round took as long as a vote's or an aggregation's timeout. */
static void check_swift(struct netsim *s, pfl_ns start, pfl_ns limit)
{
    if (netsim_now(s) - start >= limit) {
        netsim_dump(s);
        fail_msg("it took %.1f s", (double)(netsim_now(s) - start) / 1e9);
    }
}

static void a_node_comes_late__and_takes_part_from_the_next_vote(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct netsim *s = netsim_new(&(struct netsim_opts){.n = 5, .seed = seed, .fit_min = 500 * PFL_MS, .fit_max = PFL_SEC});
        for (unsigned i = 1; i < 4; i++)
            netsim_connect(s, i, i - 1);
        netsim_run(s, 5 * PFL_SEC);
        netsim_learn(s, 0, 6, 1, 5);
        pfl_ns start = netsim_now(s);
        netsim_run(s, start + (pfl_ns)seed * 150 * PFL_MS);
        netsim_connect(s, 4, (unsigned)(seed % 4));
        netsim_run_to_end(s, start + 60 * PFL_SEC);
        check_swift(s, start, 20 * PFL_SEC);
        netsim_check_equal(s, 6);
        assert_int_equal(netsim_count(s, 4, PFL_NOTE_LEARNING_STARTED), 1);
        assert_true(was_member(s, 4));
        assert_int_equal(netsim_count(s, 4, PFL_NOTE_WARNING), 0);
        netsim_free(s);
    }
}

static void a_node_that_may_not_join_late__stays_out(void **state)
{
    (void)state;
    struct netsim_opts o = {.n = 3, .seed = 1};
    pfl_node_settings_default(&o.set);
    o.set.late_join = false;
    struct netsim *s = netsim_new(&o);
    netsim_connect(s, 0, 1);
    netsim_run(s, 5 * PFL_SEC);
    netsim_learn(s, 0, 40, 1, 2);
    netsim_run(s, netsim_now(s) + 12 * PFL_SEC); /* what was flooded at the start is not told to newcomers any more */
    netsim_connect(s, 2, 1);
    netsim_run(s, netsim_now(s) + 60 * PFL_SEC);
    assert_int_equal(netsim_count(s, 2, PFL_NOTE_LEARNING_STARTED), 0);
    assert_true(netsim_finished(s, 0) && netsim_finished(s, 1));
    netsim_free(s);
}

/* Killed at any time, back at any time, with nothing of what it knew. */
static void a_killed_node_comes_back__the_round_does_not_wait_for_a_timeout(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct netsim *s = ring(5, seed, 300 * PFL_MS);
        netsim_learn(s, 0, 8, 1, 3);
        pfl_ns start = netsim_now(s);
        unsigned victim = (unsigned)(seed % 5);
        netsim_run(s, start + 700 * PFL_MS + (pfl_ns)(seed * 97 % 40) * 50 * PFL_MS);
        netsim_kill(s, victim);
        netsim_run(s, netsim_now(s) + (pfl_ns)(seed * 31 % 30) * 100 * PFL_MS);
        netsim_restart(s, victim);
        netsim_connect(s, victim, (victim + 1) % 5);
        netsim_connect(s, victim, (victim + 4) % 5);
        netsim_run_to_end(s, start + 300 * PFL_SEC);
        check_swift(s, start, 40 * PFL_SEC);
        netsim_check_equal(s, 8);
        netsim_free(s);
    }
}

static void a_node_that_was_cut_off_for_rounds__catches_up(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct netsim *s = ring(5, seed, 400 * PFL_MS);
        netsim_learn(s, 0, 40, 1, 3);
        pfl_ns start = netsim_now(s);
        netsim_run(s, start + 1500 * PFL_MS + (pfl_ns)seed * 83 * PFL_MS);
        netsim_cut(s, 2, 1);
        netsim_cut(s, 2, 3);
        netsim_run(s, netsim_now(s) + 15 * PFL_SEC);
        netsim_mend(s, 2, 1);
        netsim_mend(s, 2, 3);
        netsim_run_to_end(s, start + 900 * PFL_SEC);
        netsim_check_equal(s, 40);
        netsim_free(s);
    }
}

static void who_was_stopped__does_not_join_again(void **state)
{
    (void)state;
    struct netsim *s = ring(3, 5, 500 * PFL_MS);
    netsim_learn(s, 0, 50, 1, 2);
    netsim_run(s, netsim_now(s) + 3 * PFL_SEC);
    netsim_stop(s, 0);
    netsim_connect(s, 0, 2);
    netsim_run(s, netsim_now(s) + 20 * PFL_SEC);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(netsim_count(s, i, PFL_NOTE_LEARNING_STARTED), 1);
    netsim_free(s);
}

static const char *ask_state(struct netsim *s, unsigned to, unsigned from, const char *experiment, const char *round)
{
    struct pfl_msg *m = pfl_msg_new(netsim_addr(s, from), -1, "state", PFL_MSG_DIRECT);
    pfl_strs_add(&m->args, experiment);
    pfl_strs_add(&m->args, round);
    return netsim_inject(s, to, m, NULL);
}

/* What it announced is still known: so the common result of the last round stays what it was. */
static void who_has_ended_asks__nothing_of_it_is_forgotten(void **state)
{
    (void)state;
    struct netsim *s = ring(3, 5, 100 * PFL_MS);
    netsim_learn(s, 0, 2, 1, 3);
    netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
    netsim_run(s, netsim_now(s) + PFL_SEC);
    struct pfl_node *n = netsim_node(s, 0);
    const struct pfl_round_peer *row = pfl_round_find(pfl_core_round(n, 1), netsim_addr(s, 1));
    assert_true(n->over && row && row->ready && row->n_results == 1);
    assert_non_null(strstr(ask_state(s, 0, 1, n->experiment, "-1"), " e "));
    assert_true(row->ready && row->n_results == 1);
    assert_non_null(strstr(ask_state(s, 0, 1, "", "-1"), " e ")); /* one that was started anew, without its disk */
    assert_true(!row->ready && row->n_results == 0);
    netsim_free(s);
}

/* Who asks may not have known it when the result was announced; but many may ask, and each announcement is a flood. */
static void who_has_ended_is_asked__it_says_so_again_once_a_period(void **state)
{
    (void)state;
    struct netsim *s = ring(3, 5, 100 * PFL_MS);
    netsim_learn(s, 0, 2, 1, 3);
    netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
    netsim_run(s, netsim_now(s) + 5 * PFL_SEC);
    const char *experiment = netsim_node(s, 0)->experiment;
    for (unsigned i = 0; i < 2; i++) {
        unsigned before = netsim_sent(s, "models_ready");
        (void)ask_state(s, 0, 1, experiment, "1");
        netsim_run(s, netsim_now(s) + 500 * PFL_MS);
        unsigned once = netsim_sent(s, "models_ready");
        assert_true(once > before);
        (void)ask_state(s, 0, 1, experiment, "1");
        (void)ask_state(s, 0, 2, experiment, "1");
        netsim_run(s, netsim_now(s) + 500 * PFL_MS);
        assert_int_equal(netsim_sent(s, "models_ready"), once);
        netsim_run(s, netsim_now(s) + 2 * PFL_SEC);
    }
    netsim_free(s);
}

/* Somebody says that he is rounds ahead. One neighbour that is not may be behind itself; if none is, he was wrong. */
static void nobody_is_ahead__all_neighbours_are_asked_and_then_no_more(void **state)
{
    (void)state;
    struct netsim *s = ring(3, 5, 60 * PFL_SEC);
    netsim_learn(s, 0, 5, 1, 3);
    assert_true(netsim_run_to_stage(s, 0, "training", netsim_now(s) + 20 * PFL_SEC));
    struct pfl_node *n = netsim_node(s, 0);
    struct pfl_msg *m = pfl_msg_new(netsim_addr(s, 2), 3, "vote_train_set", PFL_MSG_GOSSIP);
    m->hash = 77;
    pfl_strs_add(&m->args, netsim_addr(s, 0));
    pfl_strs_add(&m->args, "1");
    assert_string_equal(netsim_inject(s, 0, m, NULL), "ok:");
    assert_int_equal(n->ahead, 3);
    unsigned before = netsim_sent(s, "state");
    pfl_ns until = netsim_now(s) + 10 * PFL_SEC;
    while (n->ahead_denied == 0 && netsim_now(s) < until)
        netsim_run(s, netsim_now(s) + 100 * PFL_MS);
    assert_int_equal(n->ahead_denied, 1);
    assert_int_equal(n->ahead, 3);
    netsim_run(s, netsim_now(s) + 20 * PFL_SEC);
    assert_int_equal(n->ahead, 0);
    assert_int_equal(netsim_sent(s, "state") - before, 2);
    assert_int_equal(n->round, 0);
    netsim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_that_are_none__are_refused),
        cmocka_unit_test(an_answer__is_read),
        cmocka_unit_test(a_node_comes_late__and_takes_part_from_the_next_vote),
        cmocka_unit_test(a_node_that_may_not_join_late__stays_out),
        cmocka_unit_test(a_killed_node_comes_back__the_round_does_not_wait_for_a_timeout),
        cmocka_unit_test(a_node_that_was_cut_off_for_rounds__catches_up),
        cmocka_unit_test(who_was_stopped__does_not_join_again),
        cmocka_unit_test(who_has_ended_asks__nothing_of_it_is_forgotten),
        cmocka_unit_test(who_has_ended_is_asked__it_says_so_again_once_a_period),
        cmocka_unit_test(nobody_is_ahead__all_neighbours_are_asked_and_then_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
