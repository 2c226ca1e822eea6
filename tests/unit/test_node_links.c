/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 120 */
/* Membership: handshakes of every kind, beats, silence, goodbyes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/netsim.h"

static const char *const stranger = "10.0.1.1:6666";
static const struct pfl_hello ours = {.present = true, .version = 1};

static size_t peers_of(struct netsim *s, unsigned i, bool direct_only)
{
    struct pfl_snapshot snap;
    pfl_node_snapshot(netsim_node(s, i), &snap);
    size_t n = 0;
    for (size_t k = 0; k < snap.n_peers; k++)
        n += snap.peers[k].direct || !direct_only;
    pfl_snapshot_deinit(&snap);
    return n;
}

static void handshakes__that_cannot_be__are_refused(void **state)
{
    (void)state;
    const struct pfl_hello python = {.present = false};
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 1, .seed = 1});
    assert_string_equal(netsim_handshake(s, 0, netsim_addr(s, 0), &ours, false),
                        "error:Cannot add the node (duplicated or wrong direction)");
    assert_string_equal(netsim_handshake(s, 0, stranger, &python, false),
                        "error:this node does not take part in P2PFL interop: it reads no pickled models");
    assert_string_equal(netsim_handshake(s, 0, stranger, NULL, false),
                        "error:this node does not take part in P2PFL interop: it reads no pickled models");
    assert_string_equal(netsim_handshake(s, 0, "no port", &ours, false), "error:that is no address to dial");
    assert_string_equal(netsim_handshake(s, 0, "127.0.0.1", &ours, false), "error:that is no address to dial");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_REFUSED), 5);
    assert_int_equal(peers_of(s, 0, false), 0);
    netsim_free(s);
}

static void a_handshake__is_answered_after_the_dial_back(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 1, .seed = 2});
    assert_null(netsim_handshake(s, 0, stranger, &ours, false)); /* the dial back is under way */
    netsim_run(s, netsim_now(s) + 5 * PFL_SEC);                  /* nobody is there: it fails */
    assert_string_equal(netsim_handshake(s, 0, stranger, &ours, true), "ok:");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_NEIGHBOUR), 1);
    netsim_free(s);
}

static void a_second_handshake__is_a_duplicate_while_the_link_is_fresh__later_a_return(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 1, .seed = 3});
    assert_string_equal(netsim_handshake(s, 0, stranger, &ours, true), "ok:");
    assert_string_equal(netsim_handshake(s, 0, stranger, &ours, true), "error:Cannot add the node (duplicated or wrong direction)");
    netsim_run(s, netsim_now(s) + 2500 * PFL_MS);
    assert_string_equal(netsim_handshake(s, 0, stranger, &ours, true), "ok:");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_NEIGHBOUR), 1);
    netsim_free(s);
}

static void too_many_neighbours__are_refused(void **state)
{
    (void)state;
    struct netsim_opts o = {.n = 1, .seed = 4};
    pfl_node_settings_default(&o.set);
    o.set.neighbours_max = 2;
    struct netsim *s = netsim_new(&o);
    assert_string_equal(netsim_handshake(s, 0, "10.0.1.1:1", &ours, true), "ok:");
    assert_string_equal(netsim_handshake(s, 0, "10.0.1.2:1", &ours, true), "ok:");
    assert_string_equal(netsim_handshake(s, 0, "10.0.1.3:1", &ours, true), "error:this node has as many neighbours as it takes");
    netsim_free(s);
}

static void another_federation__is_refused(void **state)
{
    (void)state;
    struct netsim_opts o = {.n = 1, .seed = 5};
    pfl_node_settings_default(&o.set);
    o.set.federation = "hospitals";
    struct netsim *s = netsim_new(&o);
    struct pfl_hello other = {.present = true, .version = 1, .federation = (char *)"banks"};
    assert_string_equal(netsim_handshake(s, 0, stranger, &other, true), "error:this node belongs to another federation");
    other.federation = (char *)"hospitals";
    assert_string_equal(netsim_handshake(s, 0, stranger, &other, true), "ok:");
    netsim_free(s);
}

static void both_shake_hands_at_once__one_link_on_both_sides(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct netsim *s =
            netsim_new(&(struct netsim_opts){.n = 2, .seed = seed, .latency_min = PFL_MS, .latency_max = 150 * PFL_MS});
        netsim_connect(s, 0, 1);
        netsim_run(s, netsim_now(s) + (pfl_ns)(seed % 10) * 50 * PFL_MS);
        netsim_connect(s, 1, 0);
        netsim_run(s, netsim_now(s) + PFL_SEC);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(peers_of(s, i, true), 1);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_NEIGHBOUR), 1);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_REFUSED), 0);
        }
        netsim_free(s);
    }
}

static void connect__answers_the_operator(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 3, .seed = 6});
    netsim_connect(s, 0, 1);
    assert_null(netsim_last_answer(s));
    netsim_run(s, netsim_now(s) + PFL_SEC);
    assert_string_equal(netsim_last_answer(s), "");
    netsim_connect(s, 0, 1);
    assert_string_equal(netsim_last_answer(s), ""); /* there already */
    netsim_connect(s, 0, 0);
    assert_string_equal(netsim_last_answer(s), "that is this node's own address");
    netsim_kill(s, 2);
    netsim_connect(s, 0, 2);
    netsim_run(s, netsim_now(s) + PFL_SEC);
    assert_string_equal(netsim_last_answer(s), "connection refused");
    assert_int_equal(peers_of(s, 0, false), 1);
    netsim_disconnect(s, 0, 2);
    assert_string_equal(netsim_last_answer(s), "that is no neighbour of this node");
    netsim_free(s);
}

static void membership__spreads_in_round_trips(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 8, .seed = 7, .latency_min = PFL_MS, .latency_max = 5 * PFL_MS});
    pfl_ns start = netsim_now(s);
    netsim_topology(s, "line");
    netsim_run_to_membership(s, 10 * PFL_SEC);
    assert_true(netsim_now(s) - start < PFL_SEC); /* well under the heartbeat period */
    assert_int_equal(peers_of(s, 0, true), 1);
    assert_int_equal(peers_of(s, 0, false), 7);
    /* Two networks become one. */
    netsim_free(s);
    s = netsim_new(&(struct netsim_opts){.n = 6, .seed = 8});
    for (unsigned i = 0; i < 5; i++) {
        if (i != 2)
            netsim_connect(s, i, i + 1);
    }
    netsim_run(s, netsim_now(s) + 3 * PFL_SEC);
    assert_int_equal(peers_of(s, 0, false), 2);
    start = netsim_now(s);
    netsim_connect(s, 2, 3);
    netsim_run_to_membership(s, netsim_now(s) + 10 * PFL_SEC);
    assert_true(netsim_now(s) - start < 1500 * PFL_MS);
    netsim_free(s);
}

static void idle_nodes__stay_together_for_long(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct netsim *s = netsim_new(&(struct netsim_opts){.n = 6, .seed = seed, .drop = 0.05});
        netsim_topology(s, "ring");
        netsim_run_to_membership(s, 10 * PFL_SEC);
        netsim_run(s, 1000 * PFL_SEC);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(peers_of(s, i, false), 5);
            assert_int_equal(peers_of(s, i, true), 2);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_NEIGHBOUR_LOST), 0);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_KNOWN_LOST), 0);
        }
        netsim_free(s);
    }
}

static void silence__evicts_after_the_timeout_and_says_so(void **state)
{
    (void)state;
    for (unsigned silent = 0; silent < 2; silent++) {
        struct netsim *s = netsim_new(&(struct netsim_opts){.n = 3, .seed = 10, .silent_death = silent == 1});
        netsim_topology(s, "line");
        netsim_run_to_membership(s, 10 * PFL_SEC);
        netsim_run(s, 20 * PFL_SEC);
        netsim_kill(s, 2);
        netsim_run(s, netsim_now(s) + 2900 * PFL_MS);
        assert_int_equal(peers_of(s, 1, false), 2); /* suspected, not evicted */
        netsim_run(s, netsim_now(s) + 2200 * PFL_MS);
        assert_int_equal(peers_of(s, 1, false), 1);
        netsim_run(s, netsim_now(s) + 300 * PFL_MS); /* the other one is told */
        assert_int_equal(peers_of(s, 0, false), 1);
        assert_string_equal(netsim_note(s, 1, PFL_NOTE_NEIGHBOUR_LOST, NULL)->text,
                            "no sign of life for 5.0 s; 1 other neighbour does not hear it either");
        assert_string_equal(netsim_note(s, 0, PFL_NOTE_KNOWN_LOST, NULL)->text,
                            "its neighbours do not hear it any more, says 10.0.0.2:6666");
        netsim_free(s);
    }
}

static void disconnect__is_known_to_the_other_side(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 2, .seed = 11});
    netsim_topology(s, "full");
    netsim_run_to_membership(s, 10 * PFL_SEC);
    netsim_run(s, netsim_now(s) + PFL_SEC);
    netsim_disconnect(s, 0, 1);
    assert_string_equal(netsim_last_answer(s), "");
    netsim_run(s, netsim_now(s) + PFL_SEC);
    assert_int_equal(peers_of(s, 0, false), 0);
    assert_int_equal(peers_of(s, 1, false), 0);
    assert_string_equal(netsim_note(s, 1, PFL_NOTE_NEIGHBOUR_LOST, NULL)->text, "it said goodbye");
    netsim_connect(s, 1, 0); /* and it may come back */
    netsim_run(s, netsim_now(s) + PFL_SEC);
    assert_int_equal(peers_of(s, 0, true), 1);
    netsim_free(s);
}

/* ---- one node, its driver played by the test ---- */

static const struct pfl_action *find_action(const struct pfl_actions *out, enum pfl_action_kind kind)
{
    for (size_t i = 0; i < out->n; i++) {
        if (out->items[i].kind == kind)
            return &out->items[i];
    }
    return NULL;
}

/* Steps with ev, then with ticks when they are due, until an action of that kind; its id. */
static uint64_t step_until(struct pfl_node *n, struct pfl_event ev, enum pfl_action_kind kind, struct pfl_actions *out, pfl_ns *now)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        pfl_actions_clear(out);
        ev.now = ev.wall = *now;
        pfl_node_step(n, &ev, out);
        if (find_action(out, kind))
            return find_action(out, kind)->id;
        pfl_ns at = pfl_node_deadline(n);
        *now = at > *now ? at : *now;
        ev = (struct pfl_event){.kind = PFL_EV_TICK};
    }
    fail_msg("no action of kind %d", (int)kind);
    return 0;
}

static void a_digest_that_finds_no_neighbour__shakes_hands_again(void **state)
{
    (void)state;
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {1}};
    const struct pfl_hello knows = {.present = true, .features = {.items = (char *[]){(char[]){"beats"}}, .n = 1}};
    struct pfl_layout *layout = NULL;
    struct pfl_actions out = {0};
    struct pfl_node_settings set;
    pfl_ns now = PFL_SEC;
    assert_int_equal(pfl_layout_new(&desc, 1, &layout, NULL), PFL_OK);
    pfl_node_settings_default(&set);
    struct pfl_node *n = pfl_node_new("10.0.0.1:1", layout, &set);
    struct pfl_event ev = {.kind = PFL_EV_HANDSHAKE, .addr = stranger, .call = 1, .hello = &knows};
    (void)step_until(n, ev, PFL_ACT_OPEN, &out, &now);
    ev = (struct pfl_event){.kind = PFL_EV_LINK_UP, .addr = stranger};
    ev = (struct pfl_event){.kind = PFL_EV_SENT, .id = step_until(n, ev, PFL_ACT_SEND, &out, &now), .rc = PFL_STATE};
    (void)step_until(n, ev, PFL_ACT_OPEN, &out, &now);
    assert_true(find_action(&out, PFL_ACT_OPEN)->handshake);
    assert_true(now < PFL_SEC + set.heartbeat_timeout);
    pfl_actions_deinit(&out);
    pfl_node_free(n);
    pfl_layout_unref(layout);
}

static void shutdown__says_goodbye_to_the_neighbours(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 3, .seed = 12});
    netsim_topology(s, "star");
    netsim_run_to_membership(s, 10 * PFL_SEC);
    netsim_run(s, netsim_now(s) + PFL_SEC);
    netsim_shutdown(s, 0);
    assert_int_equal(pfl_node_deadline(netsim_node(s, 0)), PFL_NEVER);
    netsim_run(s, netsim_now(s) + 100 * PFL_MS);
    for (unsigned i = 1; i < 3; i++)
        assert_string_equal(netsim_note(s, i, PFL_NOTE_NEIGHBOUR_LOST, NULL)->text, "it said goodbye");
    netsim_free(s);
}

/* The process did not run for a while: what came meanwhile is read first, nobody is evicted for our own sleep. */
static void own_sleep__evicts_nobody(void **state)
{
    (void)state;
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {2}};
    struct pfl_node_settings set;
    struct pfl_layout *layout = NULL;
    struct pfl_actions acts = {0};
    pfl_node_settings_default(&set);
    assert_int_equal(pfl_layout_new(&desc, 1, &layout, NULL), PFL_OK);
    struct pfl_node *n = pfl_node_new("10.0.0.1:1", layout, &set);
    struct pfl_event shake = {.kind = PFL_EV_HANDSHAKE, .now = PFL_SEC, .addr = stranger, .hello = &ours, .call = 1};
    struct pfl_event up = {.kind = PFL_EV_LINK_UP, .now = PFL_SEC, .addr = stranger};
    struct pfl_event tick = {.kind = PFL_EV_TICK, .now = 60 * PFL_SEC};
    pfl_node_step(n, &shake, &acts);
    pfl_node_step(n, &up, &acts);
    pfl_node_step(n, &tick, &acts);
    struct pfl_snapshot snap;
    pfl_node_snapshot(n, &snap);
    assert_int_equal(snap.n_peers, 1);
    pfl_snapshot_deinit(&snap);
    tick.now += 2100 * PFL_MS; /* still nothing: it is really gone */
    pfl_node_step(n, &tick, &acts);
    pfl_node_snapshot(n, &snap);
    assert_int_equal(snap.n_peers, 0);
    pfl_snapshot_deinit(&snap);
    pfl_actions_deinit(&acts);
    pfl_node_free(n);
    pfl_layout_unref(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes__that_cannot_be__are_refused),
        cmocka_unit_test(a_handshake__is_answered_after_the_dial_back),
        cmocka_unit_test(a_second_handshake__is_a_duplicate_while_the_link_is_fresh__later_a_return),
        cmocka_unit_test(too_many_neighbours__are_refused),
        cmocka_unit_test(another_federation__is_refused),
        cmocka_unit_test(both_shake_hands_at_once__one_link_on_both_sides),
        cmocka_unit_test(connect__answers_the_operator),
        cmocka_unit_test(membership__spreads_in_round_trips),
        cmocka_unit_test(idle_nodes__stay_together_for_long),
        cmocka_unit_test(silence__evicts_after_the_timeout_and_says_so),
        cmocka_unit_test(disconnect__is_known_to_the_other_side),
        cmocka_unit_test(a_digest_that_finds_no_neighbour__shakes_hands_again),
        cmocka_unit_test(shutdown__says_goodbye_to_the_neighbours),
        cmocka_unit_test(own_sleep__evicts_nobody),
    };
    return cmocka_run_group_tests_name("node_links", tests, NULL, NULL);
}
