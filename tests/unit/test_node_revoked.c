/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 300 */
/* A certificate is revoked while its holder takes part: the others go on without it, and it cannot come back by way of others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/netsim.h"

static struct netsim *network(unsigned n, const char *topology, pfl_ns slow_fit_of_last)
{
    struct netsim_opts o = {.n = n, .seed = 7};
    o.fit_of[n - 1] = slow_fit_of_last;
    struct netsim *s = netsim_new(&o);
    netsim_topology(s, topology);
    netsim_run_to_membership(s, 20 * PFL_SEC);
    return s;
}

/* Everybody but the victim hears of it. */
static void revoke_everywhere(struct netsim *s, unsigned n, unsigned victim)
{
    for (unsigned i = 0; i < n; i++)
        if (i != victim)
            netsim_revoke(s, i, victim);
}

static void assert_out(struct netsim *s, unsigned n, unsigned victim)
{
    for (unsigned i = 0; i < n; i++) {
        struct pfl_snapshot v = {0};
        if (i == victim)
            continue;
        assert_non_null(netsim_note(s, i, PFL_NOTE_REVOKED, netsim_addr(s, victim)));
        pfl_node_snapshot(netsim_node(s, i), &v);
        for (size_t k = 0; k < v.n_peers; k++)
            assert_string_not_equal(v.peers[k].addr, netsim_addr(s, victim));
        pfl_snapshot_deinit(&v);
    }
}

static bool in_list(const struct pfl_note *note, const char *addr)
{
    return note && pfl_strs_has(&note->list, addr);
}

static void test_revoked__while_all_wait_for_it__the_round_goes_on_at_once(void **state)
{
    (void)state;
    struct netsim *s = network(4, "full", 200 * PFL_SEC);
    netsim_learn(s, 0, 2, 1, 4);
    assert_true(netsim_run_to_stage(s, 3, "training", netsim_now(s) + 20 * PFL_SEC));
    netsim_run(s, netsim_now(s) + 5 * PFL_SEC); /* the others are done and wait for node 3 */
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_AGGREGATED), 0);
    pfl_ns at = netsim_now(s);
    revoke_everywhere(s, 4, 3);
    netsim_revoke(s, 3, 3);
    netsim_run_to_end(s, at + 10 * PFL_SEC);
    assert_out(s, 4, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(netsim_finished(s, i));
        assert_false(in_list(netsim_note_at(s, i, PFL_NOTE_AGGREGATED, 0), netsim_addr(s, 3)));
        const struct pfl_note *excluded = netsim_note(s, i, PFL_NOTE_EXCLUDED, netsim_addr(s, 3));
        assert_non_null(excluded);
        assert_non_null(strstr(excluded->text, "keyCompromise"));
    }
    const struct pfl_note *stopped = netsim_note(s, 3, PFL_NOTE_LEARNING_STOPPED, NULL);
    assert_non_null(stopped);
    assert_non_null(strstr(stopped->text, "this node is out: revoked on a Monday"));
    netsim_free(s);
}

static void test_revoked__its_contribution_is_there__dropped(void **state)
{
    (void)state;
    struct netsim *s = network(4, "full", 20 * PFL_SEC);
    netsim_learn(s, 0, 1, 1, 4);
    assert_true(netsim_run_to_stage(s, 3, "training", netsim_now(s) + 20 * PFL_SEC));
    netsim_run(s, netsim_now(s) + 5 * PFL_SEC); /* node 3 still trains: the others hold three contributions */
    assert_non_null(netsim_note(s, 0, PFL_NOTE_CONTRIBUTION, netsim_addr(s, 1)));
    revoke_everywhere(s, 4, 1);
    netsim_kill(s, 1);
    netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
    for (unsigned i = 0; i < 4; i++) {
        if (i == 1)
            continue;
        const struct pfl_note *aggregated = netsim_note(s, i, PFL_NOTE_AGGREGATED, NULL);
        assert_non_null(aggregated);
        assert_int_equal(aggregated->list.n, 3);
        assert_false(in_list(aggregated, netsim_addr(s, 1)));
        assert_non_null(netsim_note(s, i, PFL_NOTE_WARNING, netsim_addr(s, 1)));
    }
    netsim_check_equal(s, 1);
    netsim_free(s);
}

static void test_revoked__in_the_middle_of_a_line__the_halves_find_together(void **state)
{
    (void)state;
    struct netsim *s = network(8, "line", 0);
    netsim_learn(s, 0, 3, 1, 8);
    assert_true(netsim_run_to_stage(s, 0, "training", netsim_now(s) + 20 * PFL_SEC));
    revoke_everywhere(s, 8, 4);
    netsim_revoke(s, 4, 4);
    netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
    assert_out(s, 8, 4);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(netsim_finished(s, i), i != 4);
    netsim_free(s);
}

static void test_revoked__its_messages_by_way_of_others__do_not_count(void **state)
{
    (void)state;
    struct netsim *s = network(3, "line", 0);
    revoke_everywhere(s, 3, 2);
    netsim_revoke(s, 2, 2);
    netsim_run(s, netsim_now(s) + PFL_SEC);
    unsigned sent = netsim_sent(s, "start_learning");
    struct pfl_msg *m = pfl_msg_new(netsim_addr(s, 2), -1, "start_learning", PFL_MSG_GOSSIP);
    m->ttl = 10;
    m->hash = 4711;
    for (const char *const *arg = (const char *const[]){"1", "1", "3", "evil", NULL}; *arg; arg++)
        pfl_strs_add(&m->args, *arg);
    const char *answer = netsim_inject(s, 0, m, NULL);
    assert_string_equal(answer, "error:the certificate of its source was revoked");
    netsim_run(s, netsim_now(s) + 2 * PFL_SEC);
    assert_int_equal(netsim_sent(s, "start_learning"), sent);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_LEARNING_STARTED), 0);
    assert_out(s, 3, 2);
    netsim_free(s);
}

static void test_revoked__a_new_certificate_for_the_address__is_welcome(void **state)
{
    (void)state;
    struct netsim *s = network(3, "full", 0);
    revoke_everywhere(s, 3, 2);
    netsim_revoke(s, 2, 2);
    netsim_run(s, netsim_now(s) + 10 * PFL_SEC);
    assert_out(s, 3, 2);     /* nobody dialled by himself */
    netsim_connect(s, 2, 0); /* the driver would have refused the revoked one */
    netsim_run(s, netsim_now(s) + 5 * PFL_SEC);
    assert_string_equal(netsim_last_answer(s), "");
    netsim_learn(s, 0, 1, 1, 3);
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    assert_true(netsim_finished(s, 0) && netsim_finished(s, 2));
    netsim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_revoked__while_all_wait_for_it__the_round_goes_on_at_once),
        cmocka_unit_test(test_revoked__its_contribution_is_there__dropped),
        cmocka_unit_test(test_revoked__in_the_middle_of_a_line__the_halves_find_together),
        cmocka_unit_test(test_revoked__its_messages_by_way_of_others__do_not_count),
        cmocka_unit_test(test_revoked__a_new_certificate_for_the_address__is_welcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
