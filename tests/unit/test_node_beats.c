/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 240 */
/* Signs of life in digests: what is refused, who hears of whom, how much is sent, one bad link, a node that comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mesh/beats.h"
#include "support/netsim.h"

static const char *const stranger = "10.0.1.1:6666";
static const char *const other = "10.0.1.2:6666";

static size_t peers_of(struct netsim *s, unsigned i)
{
    struct pfl_snapshot snap;
    pfl_node_snapshot(netsim_node(s, i), &snap);
    size_t n = snap.n_peers;
    pfl_snapshot_deinit(&snap);
    return n;
}

static bool knows(struct netsim *s, unsigned i, const char *addr)
{
    struct pfl_snapshot snap;
    bool found = false;
    pfl_node_snapshot(netsim_node(s, i), &snap);
    for (size_t k = 0; k < snap.n_peers; k++)
        found = found || strcmp(snap.peers[k].addr, addr) == 0;
    pfl_snapshot_deinit(&snap);
    return found;
}

static const char *say_to(struct netsim *s, unsigned to, const char *source, const char *cmd, const char *a, const char *b)
{
    struct pfl_msg *m = pfl_msg_new(source, -1, cmd, PFL_MSG_DIRECT);
    pfl_strs_add(&m->args, a);
    if (b)
        pfl_strs_add(&m->args, b);
    return netsim_inject(s, to, m, NULL);
}

static const char *say(struct netsim *s, const char *source, const char *cmd, const char *a, const char *b)
{
    return say_to(s, 0, source, cmd, a, b);
}

static struct netsim *with_stranger(void)
{
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 1, .seed = 1});
    assert_string_equal(netsim_handshake(s, 0, stranger, pfl_node_hello(), true), "ok:");
    return s;
}

static void digests__of_strangers_or_broken__are_refused(void **state)
{
    (void)state;
    struct netsim *s = with_stranger();
    assert_string_equal(say(s, other, "beats", "5 - 10.0.1.9:6666", NULL),
                        "error:beats: 10.0.1.2:6666 is no neighbour of this node");
    assert_string_equal(say(s, stranger, "beats", "x - 10.0.1.9:6666", NULL),
                        "error:beats: x - 10.0.1.9:6666 is no count, round and address");
    assert_string_equal(say(s, stranger, "hear", "10.0.1.9:6666", "-1"), "error:hear: a count of -1");
    assert_string_equal(say(s, stranger, "hear", "10.0.1.9:6666", NULL), "error:hear: 1 arguments, 2 to 2 are expected");
    assert_int_equal(peers_of(s, 0), 1);
    assert_string_equal(say(s, stranger, "beats", "5 - no address\n6 - 10.0.1.9:6666", NULL), "ok:");
    assert_int_equal(peers_of(s, 0), 2); /* the one that is an address */
    netsim_free(s);
}

static void an_old_count__does_not_bring_back_the_dead(void **state)
{
    (void)state;
    struct netsim *s = with_stranger();
    assert_string_equal(say(s, stranger, "beats", "70 - 10.0.1.2:6666", NULL), "ok:");
    assert_true(knows(s, 0, other));
    assert_string_equal(say(s, stranger, "beats", "69 x 10.0.1.2:6666", NULL), "ok:");
    assert_true(knows(s, 0, other)); /* there was a newer count */
    assert_string_equal(say(s, stranger, "beats", "70 x 10.0.1.2:6666", NULL), "ok:");
    assert_false(knows(s, 0, other));
    assert_string_equal(say(s, stranger, "beats", "71 - 10.0.1.2:6666", NULL), "ok:");
    assert_true(knows(s, 0, other));
    assert_string_equal(say(s, stranger, "beats", "90 x 10.0.1.1:6666", NULL), "ok:");
    assert_true(knows(s, 0, stranger)); /* with a link this node judges for itself */
    for (unsigned k = 0; k < 17; k++) {
        netsim_run(s, netsim_now(s) + PFL_SEC);
        assert_string_equal(say(s, stranger, "beats", "71 - 10.0.1.2:6666", NULL),
                            netsim_count(s, 0, PFL_NOTE_NEIGHBOUR_LOST) ? "error:beats: 10.0.1.1:6666 is no neighbour of this node"
                                                                        : "ok:");
    }
    assert_false(knows(s, 0, other));
    assert_string_equal(say(s, stranger, "beats", "71 - 10.0.1.2:6666", NULL), "ok:");
    assert_false(knows(s, 0, other));
    assert_string_equal(say(s, stranger, "beats", "72 - 10.0.1.2:6666", NULL), "ok:");
    assert_true(knows(s, 0, other));
    netsim_free(s);
}

static void hear__is_answered_by_what_is_known(void **state)
{
    (void)state;
    struct netsim *s = with_stranger();
    assert_string_equal(say(s, stranger, "hear", other, "0"), "ok:false");
    assert_string_equal(say(s, stranger, "beats", "70 - 10.0.1.2:6666", NULL), "ok:");
    assert_string_equal(say(s, stranger, "hear", other, "70"), "ok:false"); /* no more than the asker knows */
    assert_string_equal(say(s, stranger, "hear", other, "69"), "ok:true");
    assert_string_equal(say(s, other, "hear", stranger, "900"), "ok:true"); /* it spoke to this node itself */
    netsim_free(s);
}

/* One message per link, direction and period, however many nodes there are. */
static void idle__one_digest_per_neighbour_and_period(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 16, .seed = 3});
    netsim_topology(s, "ring");
    netsim_run_to_membership(s, 30 * PFL_SEC);
    netsim_run(s, netsim_now(s) + 10 * PFL_SEC);
    unsigned before = netsim_sent(s, "beats");
    netsim_run(s, netsim_now(s) + 100 * PFL_SEC);
    assert_in_range(netsim_sent(s, "beats") - before, 16 * 2 * 49, 16 * 2 * 51);
    assert_int_equal(netsim_sent(s, "beat"), 0);
    netsim_free(s);
}

/* A node that knows no digests, in the middle or at the end. */
static void plain_nodes__get_each_beat_and_everybody_knows_them(void **state)
{
    (void)state;
    for (unsigned plain = 0; plain < 6; plain += 5) {
        struct netsim_opts o = {.n = 6, .seed = 4};
        o.plain[plain] = true;
        struct netsim *s = netsim_new(&o);
        netsim_topology(s, "ring");
        netsim_run_to_membership(s, 30 * PFL_SEC);
        netsim_run(s, netsim_now(s) + 200 * PFL_SEC);
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(netsim_count(s, i, PFL_NOTE_KNOWN_LOST) + netsim_count(s, i, PFL_NOTE_NEIGHBOUR_LOST), 0);
        /* What it passes on from one side to the other is not flooded by nodes that know it from digests: per period each of its
         * two neighbours gives it 5 beats, it gives them 5, and its own goes round among the other 5. */
        assert_true(netsim_sent(s, "beat") < 100 * 35);
        netsim_learn(s, 1, 2, 1, 3);
        netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
        netsim_check_equal(s, 2);
        netsim_free(s);
    }
}

static void one_bad_link__evicts_nobody(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 4, .seed = 5, .silent_death = true});
    netsim_topology(s, "ring");
    netsim_run_to_membership(s, 10 * PFL_SEC);
    netsim_cut(s, 0, 1);
    netsim_run(s, netsim_now(s) + 300 * PFL_SEC);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(netsim_count(s, i, PFL_NOTE_KNOWN_LOST) + netsim_count(s, i, PFL_NOTE_NEIGHBOUR_LOST), 0);
    netsim_free(s);
}

/* Its count starts lower than before (its clock was set back): the neighbours tell it where it was. */
static void a_node_that_is_started_anew__overtakes_its_former_count(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 3, .seed = 7});
    netsim_topology(s, "line");
    netsim_run_to_membership(s, 10 * PFL_SEC);
    assert_string_equal(say_to(s, 2, netsim_addr(s, 1), "hear", netsim_addr(s, 0), "9000000000"), "ok:false");
    assert_string_equal(say_to(s, 0, netsim_addr(s, 1), "beats", "9000000000 - 10.0.0.1:6666", NULL), "ok:");
    netsim_run(s, netsim_now(s) + 3 * PFL_SEC);
    assert_string_equal(say_to(s, 2, netsim_addr(s, 1), "hear", netsim_addr(s, 0), "9000000000"), "ok:true");
    assert_string_equal(say_to(s, 2, netsim_addr(s, 1), "hear", netsim_addr(s, 0), "9000000009"), "ok:false");
    netsim_free(s);
}

static void a_killed_node__comes_back_under_its_address(void **state)
{
    (void)state;
    for (pfl_ns away = PFL_SEC; away < 20 * PFL_SEC; away += 3 * PFL_SEC) {
        struct netsim *s = netsim_new(&(struct netsim_opts){.n = 6, .seed = 6});
        netsim_topology(s, "ring");
        netsim_run_to_membership(s, 10 * PFL_SEC);
        netsim_run(s, netsim_now(s) + 20 * PFL_SEC);
        netsim_kill(s, 2);
        netsim_run(s, netsim_now(s) + away);
        netsim_restart(s, 2);
        netsim_connect(s, 2, 1);
        netsim_connect(s, 2, 3);
        netsim_run_to_membership(s, netsim_now(s) + 5 * PFL_SEC);
        unsigned lost[6];
        for (unsigned i = 0; i < 6; i++)
            lost[i] = netsim_count(s, i, PFL_NOTE_KNOWN_LOST) + netsim_count(s, i, PFL_NOTE_NEIGHBOUR_LOST);
        netsim_run(s, netsim_now(s) + 60 * PFL_SEC);
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(netsim_count(s, i, PFL_NOTE_KNOWN_LOST) + netsim_count(s, i, PFL_NOTE_NEIGHBOUR_LOST), lost[i]);
        netsim_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests__of_strangers_or_broken__are_refused),
        cmocka_unit_test(an_old_count__does_not_bring_back_the_dead),
        cmocka_unit_test(hear__is_answered_by_what_is_known),
        cmocka_unit_test(idle__one_digest_per_neighbour_and_period),
        cmocka_unit_test(plain_nodes__get_each_beat_and_everybody_knows_them),
        cmocka_unit_test(one_bad_link__evicts_nobody),
        cmocka_unit_test(a_node_that_is_started_anew__overtakes_its_former_count),
        cmocka_unit_test(a_killed_node__comes_back_under_its_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
