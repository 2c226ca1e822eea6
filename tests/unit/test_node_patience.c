/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 240 */
/* For whom a round waits and for how long: the slow who show that they work, not the silent; how many are enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/netsim.h"

static struct netsim_opts opts(unsigned n)
{
    struct netsim_opts o = {.n = n, .seed = 11, .fit_min = 200 * PFL_MS, .fit_max = 400 * PFL_MS};
    pfl_node_settings_default(&o.set);
    o.set.aggregation_timeout = 20 * PFL_SEC;
    return o;
}

static struct netsim *start(const struct netsim_opts *o, unsigned rounds, unsigned size)
{
    struct netsim *s = netsim_new(o);
    netsim_topology(s, "full");
    netsim_run_to_membership(s, 20 * PFL_SEC);
    netsim_learn(s, 0, rounds, 1, size);
    return s;
}

static bool has_text(const struct pfl_note *note, const char *part)
{
    return note && note->text && strstr(note->text, part);
}

static void a_slow_learner__is_waited_for_while_it_trains(void **state)
{
    (void)state;
    struct netsim_opts o = opts(4);
    o.fit_of[2] = 200 * PFL_SEC; /* ten times the timeout */
    struct netsim *s = start(&o, 1, 4);
    pfl_ns begin = netsim_now(s);
    netsim_run(s, begin + 100 * PFL_SEC);
    struct pfl_snapshot snap;
    pfl_node_snapshot_at(netsim_node(s, 0), netsim_now(s), NULL, NULL, &snap);
    assert_true(strstr(snap.waiting_for, "node 10.0.0.3:6666 (fit, last sign of life "));
    assert_true(snap.waiting_until > netsim_now(s) && snap.waiting_until < netsim_now(s) + 21 * PFL_SEC);
    pfl_snapshot_deinit(&snap);
    netsim_run_to_end(s, begin + 230 * PFL_SEC);
    netsim_check_equal(s, 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(netsim_count(s, i, PFL_NOTE_EXCLUDED), 0);
    netsim_free(s);
}

static void a_learner_that_never_ends__is_left_out_at_its_limit_and_told_so(void **state)
{
    (void)state;
    struct netsim_opts o = opts(4);
    o.fit_of[2] = 100000 * PFL_SEC;
    o.set.fit_timeout = 60 * PFL_SEC;
    struct netsim *s = start(&o, 1, 4);
    pfl_ns begin = netsim_now(s);
    while (netsim_count(s, 0, PFL_NOTE_ROUND_FINISHED) == 0)
        netsim_run(s, netsim_now(s) + PFL_SEC);
    assert_in_range(netsim_now(s) - begin, 60 * PFL_SEC, 90 * PFL_SEC);
    assert_true(has_text(netsim_note(s, 0, PFL_NOTE_EXCLUDED, netsim_addr(s, 2)), "it still trains after"));
    netsim_free(s);
}

static void silence__is_not_waited_for(void **state)
{
    (void)state;
    struct netsim_opts o = opts(4);
    o.fit_of[2] = 200 * PFL_SEC;
    struct netsim *s = start(&o, 1, 4);
    pfl_ns begin = netsim_now(s);
    netsim_kill_at(s, 2, begin + 30 * PFL_SEC);
    netsim_run_to_end(s, begin + 60 * PFL_SEC);
    netsim_check_equal(s, 1);
    assert_true(has_text(netsim_note(s, 0, PFL_NOTE_EXCLUDED, netsim_addr(s, 2)), "no sign of life"));
    netsim_free(s);
}

static void the_smaller_part__stops_with_the_reason_where_a_quorum_is_asked_for(void **state)
{
    (void)state;
    struct netsim_opts o = opts(5);
    o.set.vote_quorum = 0.51;
    struct netsim *s = start(&o, 30, 3);
    netsim_run(s, netsim_now(s) + 3 * PFL_SEC);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned k = 2; k < 5; k++)
            netsim_cut(s, i, k);
    }
    netsim_run_to_end(s, netsim_now(s) + 300 * PFL_SEC);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(netsim_finished(s, i), i >= 2);
    assert_true(has_text(netsim_note(s, 0, PFL_NOTE_LEARNING_STOPPED, NULL), "training.vote_quorum asks for 3 (5 voted"));
    netsim_free(s);
}

static void too_few_contributions__the_member_waits_for_others_result(void **state)
{
    (void)state;
    struct netsim_opts o = opts(3);
    o.set.aggregation_quorum = 1.0;
    struct netsim *s = start(&o, 1, 3);
    netsim_fail_fit(s, 1);
    netsim_run_to_end(s, netsim_now(s) + 200 * PFL_SEC);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(netsim_count(s, i, PFL_NOTE_AGGREGATED), 0);
        assert_true(
            has_text(netsim_note_at(s, i, PFL_NOTE_WARNING, i == 1 ? 1 : 0), "2 of 3 contributions to round 0 are not enough"));
        assert_true(has_text(netsim_note(s, i, PFL_NOTE_LEARNING_STOPPED, NULL), "no aggregate of round 0 came"));
    }
    netsim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_learner__is_waited_for_while_it_trains),
        cmocka_unit_test(a_learner_that_never_ends__is_left_out_at_its_limit_and_told_so),
        cmocka_unit_test(silence__is_not_waited_for),
        cmocka_unit_test(the_smaller_part__stops_with_the_reason_where_a_quorum_is_asked_for),
        cmocka_unit_test(too_few_contributions__the_member_waits_for_others_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
