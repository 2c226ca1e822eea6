/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 60 */
/* One node alone, everybody else played by hand: what comes early is kept, what is asked is answered, who died counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/core.h"
#include "support/netsim.h"

static const char *const peer_a = "10.0.0.8:6666";
static const char *const peer_b = "10.0.0.9:6666";
static const char *const peer_c = "10.0.0.7:6666"; /* for who needs a third */
static const struct pfl_hello ours = {.present = true, .version = 1};

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
static const char *const none[] = {NULL};

static const char *tell(struct netsim *s, const char *source, int32_t round, const char *cmd, enum pfl_msg_kind kind,
                        const char *const *list)
{
    static int64_t hash = 1000;
    struct pfl_msg *m = pfl_msg_new(source, round, cmd, kind);
    m->hash = hash++;
    for (; *list; list++)
        pfl_strs_add(kind == PFL_MSG_WEIGHTS ? &m->contributors : &m->args, *list);
    m->num_samples = 10;
    return netsim_inject(s, 0, m, kind == PFL_MSG_WEIGHTS ? netsim_payload(s, 50.0F) : NULL);
}

static const char *gossip(struct netsim *s, const char *source, int32_t round, const char *cmd, const char *const *args)
{
    return tell(s, source, round, cmd, PFL_MSG_GOSSIP, args);
}

static const char *pre_send(struct netsim *s, const char *source, int32_t round, const char *const *args)
{
    return tell(s, source, round, "PRE_SEND_MODEL", PFL_MSG_DIRECT, args);
}

/* Both others beat for so long. */
static void live(struct netsim *s, const char *a, const char *b, pfl_ns time)
{
    for (pfl_ns t = 0; t < time; t += 500 * PFL_MS) {
        if (a)
            assert_string_equal(gossip(s, a, -1, "beat", LIST("1.0")), "ok:");
        if (b)
            assert_string_equal(gossip(s, b, -1, "beat", LIST("1.0")), "ok:");
        netsim_run(s, netsim_now(s) + 500 * PFL_MS);
    }
}

static struct netsim *with_two_peers(pfl_ns fit)
{
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 1, .seed = 1, .fit_of = {fit}});
    assert_string_equal(netsim_handshake(s, 0, peer_a, &ours, true), "ok:");
    assert_string_equal(gossip(s, peer_b, -1, "beat", LIST("1.0")), "ok:");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_KNOWN), 1);
    return s;
}

static void vote_both(struct netsim *s, int32_t round)
{
    const char *self = netsim_addr(s, 0);
    assert_string_equal(gossip(s, peer_a, round, "vote_train_set", LIST(self, "1000", peer_a, "500", peer_b, "333")), "ok:");
    assert_string_equal(gossip(s, peer_b, round, "vote_train_set", LIST(self, "1000", peer_a, "500", peer_b, "333")), "ok:");
}

static const char *stage(struct netsim *s)
{
    struct pfl_snapshot snap;
    pfl_node_snapshot(netsim_node(s, 0), &snap);
    const char *name = snap.stage;
    pfl_snapshot_deinit(&snap);
    return name;
}

static void before_the_start__model_and_ballots_are_kept(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(100 * PFL_MS);
    assert_string_equal(gossip(s, peer_a, -1, "model_initialized", none), "ok:");
    assert_string_equal(pre_send(s, peer_a, 0, LIST("init_model", "0")), "ok:true");
    assert_string_equal(pre_send(s, peer_b, 0, LIST("init_model", "0")), "ok:false"); /* a is sending it */
    assert_string_equal(tell(s, peer_a, 0, "init_model", PFL_MSG_WEIGHTS, none), "ok:");
    assert_string_equal(pre_send(s, peer_b, 0, LIST("init_model", "0")), "ok:false"); /* it is there */
    vote_both(s, 0);
    assert_string_equal(stage(s), "idle");
    assert_string_equal(gossip(s, peer_a, -1, "start_learning", LIST("1", "1", "3", "x-1")), "ok:");
    assert_string_equal(stage(s), "evaluating"); /* everything was there already */
    assert_int_equal(netsim_note(s, 0, PFL_NOTE_TRAIN_SET, NULL)->list.n, 3);
    netsim_free(s);
}

static void early_things__are_dropped_when_no_start_comes(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(100 * PFL_MS);
    assert_string_equal(tell(s, peer_a, 0, "init_model", PFL_MSG_WEIGHTS, none), "ok:");
    vote_both(s, 0);
    live(s, peer_a, peer_b, 301 * PFL_SEC);
    assert_string_equal(gossip(s, peer_a, -1, "start_learning", LIST("1", "1", "3", "x-1")), "ok:");
    assert_string_equal(stage(s), "starting");
    netsim_free(s);
}

static void contributions_before_the_train_set_is_known__are_kept(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(100 * PFL_MS);
    netsim_learn(s, 0, 1, 1, 3);
    assert_string_equal(stage(s), "voting");
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", peer_a)), "ok:true");
    assert_string_equal(tell(s, peer_a, 0, "partial_model", PFL_MSG_WEIGHTS, LIST(peer_a)), "ok:");
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", peer_b)), "ok:false"); /* one of each is kept */
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_CONTRIBUTION), 0);
    vote_both(s, 0);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_CONTRIBUTION), 1);
    assert_string_equal(netsim_note(s, 0, PFL_NOTE_CONTRIBUTION, NULL)->addr, peer_a);
    netsim_free(s);
}

static void an_early_contribution_of_no_member__is_refused_when_the_train_set_is_known(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(100 * PFL_MS);
    netsim_learn(s, 0, 1, 1, 3);
    assert_string_equal(tell(s, peer_a, 0, "partial_model", PFL_MSG_WEIGHTS, LIST("10.6.6.6:1")), "ok:");
    vote_both(s, 0);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_CONTRIBUTION), 0);
    assert_string_equal(netsim_note(s, 0, PFL_NOTE_REFUSED, NULL)->addr, peer_a);
    netsim_free(s);
}

static void things_of_the_next_round__are_kept(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(100 * PFL_MS);
    netsim_learn(s, 0, 2, 1, 3);
    vote_both(s, 0);
    vote_both(s, 1);
    assert_string_equal(tell(s, peer_a, 1, "partial_model", PFL_MSG_WEIGHTS, LIST(peer_a)), "ok:");
    assert_string_equal(tell(s, peer_a, 0, "partial_model", PFL_MSG_WEIGHTS, LIST(peer_a)), "ok:");
    assert_string_equal(tell(s, peer_b, 0, "partial_model", PFL_MSG_WEIGHTS, LIST(peer_b)), "ok:");
    live(s, peer_a, peer_b, 2 * PFL_SEC);
    const struct pfl_note *note = netsim_note(s, 0, PFL_NOTE_TRAIN_SET, NULL);
    assert_int_equal(note->round, 1);         /* both had voted before */
    assert_string_equal(stage(s), "syncing"); /* their results of round 0 are not announced yet */
    note = netsim_note(s, 0, PFL_NOTE_CONTRIBUTION, peer_a);
    assert_int_equal(note->round, 1);
    netsim_free(s);
}

static void questions_before_a_model__are_answered_by_need(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(30 * PFL_SEC);
    const char *self = netsim_addr(s, 0);
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", peer_a)), "ok:false"); /* not learning */
    netsim_learn(s, 0, 1, 1, 3);
    vote_both(s, 0);
    assert_string_equal(pre_send(s, peer_a, 0, LIST("init_model", "0")), "ok:false");
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model")), "ok:false");
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", "10.6.6.6:1")), "ok:false");
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", peer_a)), "ok:true");
    assert_string_equal(pre_send(s, peer_b, 0, LIST("partial_model", peer_a)), "ok:false");
    assert_string_equal(pre_send(s, peer_b, 0, LIST("partial_model", peer_a, peer_b)), "ok:false");
    assert_string_equal(pre_send(s, peer_b, 0, LIST("partial_model", peer_b)), "ok:true");
    assert_string_equal(tell(s, peer_a, 0, "partial_model", PFL_MSG_WEIGHTS, LIST(peer_a)), "ok:");
    assert_string_equal(pre_send(s, peer_b, 0, LIST("partial_model", peer_a)), "ok:false"); /* it is there */
    assert_string_equal(pre_send(s, peer_b, 0, LIST("partial_model", self, peer_a)), "ok:false");
    /* b promised its own and does not send it: after the call's time and a while, somebody else may. */
    live(s, peer_a, peer_b, 12 * PFL_SEC);
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", peer_b)), "ok:true");
    netsim_free(s);
}

static void a_sender_that_is_lost__makes_room_for_another(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(30 * PFL_SEC);
    netsim_learn(s, 0, 1, 1, 3);
    vote_both(s, 0);
    assert_string_equal(pre_send(s, peer_b, 0, LIST("partial_model", peer_b)), "ok:true");
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", peer_b)), "ok:false");
    live(s, peer_a, NULL, 5500 * PFL_MS);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_KNOWN_LOST), 1);
    assert_string_equal(pre_send(s, peer_a, 0, LIST("partial_model", peer_b)), "ok:true");
    netsim_free(s);
}

static void votes_for_a_dead_node__count_if_it_has_voted_itself(void **state)
{
    (void)state;
    for (unsigned voted = 0; voted < 2; voted++) {
        struct netsim *s = with_two_peers(30 * PFL_SEC);
        const char *self = netsim_addr(s, 0);
        netsim_learn(s, 0, 1, 1, 1);
        if (voted)
            assert_string_equal(gossip(s, peer_b, 0, "vote_train_set", LIST(peer_a, "1000")), "ok:");
        live(s, peer_a, NULL, 6 * PFL_SEC);
        assert_int_equal(netsim_count(s, 0, PFL_NOTE_KNOWN_LOST), 1);
        assert_string_equal(stage(s), "voting");
        /* this node's own ballot adds up to 1000 for whomever it likes; a's overrules what b had for a */
        assert_string_equal(gossip(s, peer_a, 0, "vote_train_set", LIST(voted ? peer_a : peer_b, "1000", self, "0")), "ok:");
        const char *first = netsim_note(s, 0, PFL_NOTE_TRAIN_SET, NULL)->list.items[0];
        if (voted)
            assert_string_equal(first, peer_a);
        else
            assert_string_not_equal(first, peer_b); /* it died before its vote: nobody counts it */
        netsim_free(s);
    }
}

/* b was thought dead when the ballots were counted; its ballot comes all the same and elects others. */
static void a_late_ballot__changes_the_train_set_while_nobody_ended_the_round(void **state)
{
    (void)state;
    for (unsigned ready = 0; ready < 2; ready++) {
        struct netsim *s = with_two_peers(30 * PFL_SEC);
        const char *self = netsim_addr(s, 0);
        netsim_learn(s, 0, 1, 1, 1);
        live(s, peer_a, NULL, 6 * PFL_SEC);
        assert_string_equal(gossip(s, peer_a, 0, "vote_train_set", LIST(self, "1000", peer_a, "999")), "ok:");
        assert_string_equal(netsim_note(s, 0, PFL_NOTE_TRAIN_SET, NULL)->list.items[0], self);
        live(s, peer_a, NULL, PFL_SEC);
        assert_string_equal(stage(s), "training");
        if (ready)
            assert_string_equal(gossip(s, peer_a, 0, "models_ready", none), "ok:");
        assert_string_equal(gossip(s, peer_b, 0, "vote_train_set", LIST(peer_a, "1000")), "ok:");
        assert_string_equal(gossip(s, peer_b, 0, "vote_train_set", LIST(self, "1000")), "ok:"); /* one ballot each */
        const char *elected = netsim_note(s, 0, PFL_NOTE_TRAIN_SET, NULL)->list.items[0];
        /* with what this node's own ballot gave: 1000 to 2000 for itself, 1999 or more for a */
        bool changed = strcmp(elected, peer_a) == 0;
        assert_int_equal(netsim_count(s, 0, PFL_NOTE_TRAIN_SET), changed ? 2 : 1);
        assert_string_equal(stage(s), changed ? "waiting" : "training");
        assert_true(ready ? !changed : changed);
        netsim_free(s);
    }
}

/* Votes of two rounds ahead come once. A cut may have left this node behind, and who speaks may have been given up for dead. */
static void votes_of_a_far_round__wait_until_that_begins(void **state)
{
    (void)state;
    for (unsigned gone = 0; gone < 2; gone++) {
        struct netsim *s = with_two_peers(100 * PFL_MS);
        const char *self = netsim_addr(s, 0);
        netsim_learn(s, 0, 3, 1, 1);
        live(s, peer_a, gone ? NULL : peer_b, 7 * PFL_SEC);
        assert_int_equal(netsim_count(s, 0, PFL_NOTE_KNOWN_LOST), gone);
        assert_string_equal(gossip(s, peer_b, 2, "vote_train_set", LIST(self, "1000")), "ok:");
        live(s, peer_a, peer_b, 20 * PFL_SEC);
        assert_string_equal(stage(s), "voting");
        for (int32_t round = 0; round < 2; round++) {
            assert_string_equal(gossip(s, peer_b, round, "vote_train_set", LIST(self, "1000")), "ok:");
            assert_string_equal(gossip(s, peer_a, round, "vote_train_set", LIST(self, "1000")), "ok:");
            live(s, peer_a, peer_b, PFL_SEC);
        }
        assert_int_equal(netsim_note(s, 0, PFL_NOTE_ROUND_STARTED, NULL)->round, 2);
        assert_string_equal(stage(s), "voting"); /* for a's */
        assert_string_equal(gossip(s, peer_a, 2, "vote_train_set", LIST(self, "1000")), "ok:");
        assert_string_not_equal(stage(s), "voting");
        assert_int_equal(netsim_count(s, 0, PFL_NOTE_WARNING), 0);
        netsim_free(s);
    }
}

/* A vote of round 2 with an unknown field of so many bytes. */
static void fat_vote(struct netsim *s, const char *source, size_t more)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *made = pfl_msg_new(source, 2, "vote_train_set", PFL_MSG_GOSSIP);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    struct pfl_msg *m = NULL;
    static int64_t hash = 1;
    made->hash = hash++;
    pfl_strs_add(&made->args, source);
    pfl_strs_add(&made->args, "7");
    assert_int_equal(pfl_msg_encode(made, NULL, &body, NULL), PFL_OK);
    pfl_buf_append(&b, body->parts[0].data, body->parts[0].len);
    pfl_buf_varint(&b, 2000 << 3 | 2);
    pfl_buf_varint(&b, more);
    for (size_t i = 0; i < more; i++)
        pfl_buf_u8(&b, 'x');
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(b.data, b.len);
    assert_int_equal(pfl_msg_decode(blob, &m, NULL), PFL_OK);
    assert_string_equal(netsim_inject(s, 0, m, NULL), "ok:");
}

/* What one says too early pushes out nothing that another said, neither by number nor by size. */
static void a_flood_for_a_later_round__costs_its_author_only(void **state)
{
    (void)state;
    for (unsigned row = 0; row < 2; row++) {
        struct netsim *s = with_two_peers(100 * PFL_MS);
        const char *self = netsim_addr(s, 0);
        const struct pfl_node *n = netsim_node(s, 0);
        netsim_learn(s, 0, 3, 1, 1);
        live(s, peer_a, peer_b, PFL_SEC);
        assert_string_equal(gossip(s, peer_b, 2, "vote_train_set", LIST(self, "1000")), "ok:");
        for (unsigned i = 0; i < (row == 0 ? PFL_PUT_OFF_MAX + 10 : 40); i++)
            fat_vote(s, peer_a, row == 0 ? 0 : 200000);
        size_t of_b = 0, bytes = 0;
        for (size_t i = 0; i < n->n_put_off; i++) {
            of_b += strcmp(n->put_off[i].msg->source, peer_b) == 0;
            bytes += n->put_off[i].msg->blob ? n->put_off[i].msg->blob->len : 0;
        }
        assert_int_equal(of_b, 1);
        assert_int_equal(n->n_put_off, row == 0 ? 1 + PFL_PUT_OFF_MAX / PFL_PUT_OFF_SHARES : 2);
        assert_true(bytes <= PFL_PUT_OFF_BYTES_MAX / PFL_PUT_OFF_SHARES);
        netsim_free(s);
    }
}

/* One that a neighbour told may be of before our own ballot came there: it is counted again, once all votes are here. */
static void a_told_train_set__is_counted_again_when_no_vote_is_missing(void **state)
{
    (void)state;
    static const struct {
        bool told, missing, changes;
    } rows[] = {{false, true, true}, {true, false, true}, {true, true, false}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct netsim *s = with_two_peers(30 * PFL_SEC);
        const char *self = netsim_addr(s, 0);
        netsim_learn(s, 0, 1, 1, 1);
        live(s, peer_a, NULL, 6 * PFL_SEC);
        assert_string_equal(gossip(s, peer_a, 0, "vote_train_set", LIST(self, "1000", peer_a, "999")), "ok:");
        live(s, peer_a, NULL, PFL_SEC);
        assert_string_equal(stage(s), "training");
        pfl_core_round(netsim_node(s, 0), 0)->given = rows[i].told;
        if (rows[i].missing) {
            assert_string_equal(gossip(s, peer_c, -1, "beat", LIST("1.0")), "ok:");
            assert_string_equal(gossip(s, peer_c, -1, "model_initialized", none), "ok:");
        }
        assert_string_equal(gossip(s, peer_b, 0, "vote_train_set", LIST(peer_a, "1000")), "ok:");
        assert_string_equal(stage(s), rows[i].changes ? "waiting" : "training");
        netsim_free(s);
    }
}

static void announce_computed(struct netsim *s, const char *source, int32_t round, float value)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = netsim_payload(s, value);
    struct pfl_msg *m = pfl_msg_new(source, round, "models_ready", PFL_MSG_GOSSIP);
    m->hash = (int64_t)value;
    m->has_model_digest = m->computed = true;
    memcpy(m->model_digest, p->digest, PFL_DIGEST_LEN);
    assert_string_equal(netsim_inject(s, 0, m, NULL), "ok:");
}

static void push_result(struct netsim *s, const char *source, int32_t round, float value)
{
    struct pfl_msg *m = pfl_msg_new(source, round, "add_model", PFL_MSG_WEIGHTS);
    m->num_samples = 1;
    assert_string_equal(netsim_inject(s, 0, m, netsim_payload(s, value)), "ok:");
}

/* It came late and did not know whose result of round 0 counts. In round 1 it only waits, so it can still take the common one; a
 * member of round 1 has built on what it had. */
/* A member's work is made of the result, also where it waits now: for a common one, after it gave up, or after a restart. */
static void assert_not_replaceable_for_a_member(struct pfl_node *n, const struct pfl_round *before)
{
    struct pfl_round *now = pfl_core_round(n, n->round);
    struct pfl_strs members = now->members;
    int32_t contributed = n->contributed;
    assert_true(pfl_core_replaceable(n, before));
    now->members = (struct pfl_strs){0};
    pfl_strs_add(&now->members, n->addr);
    assert_false(pfl_core_replaceable(n, before));
    pfl_strs_deinit(&now->members);
    now->members = members;
    n->contributed = n->round;
    assert_false(pfl_core_replaceable(n, before));
    n->contributed = contributed;
}

static void the_common_result__is_taken_in_the_next_round_by_who_waits_only(void **state)
{
    (void)state;
    for (unsigned member = 0; member < 2; member++) {
        struct netsim *s = with_two_peers(30 * PFL_SEC);
        const char *next = member ? netsim_addr(s, 0) : peer_b;
        netsim_learn(s, 0, 3, 1, 1);
        assert_string_equal(gossip(s, peer_a, 0, "vote_train_set", LIST(peer_b, "1000")), "ok:");
        assert_string_equal(gossip(s, peer_b, 0, "vote_train_set", LIST(peer_b, "1000")), "ok:");
        assert_string_equal(stage(s), "waiting");
        announce_computed(s, peer_b, 0, 10.0F);
        push_result(s, peer_b, 0, 10.0F);
        struct pfl_node *n = netsim_node(s, 0);
        struct pfl_round *r = pfl_core_round(n, 0);
        assert_true(r->done && n->round == 1);
        pfl_strs_deinit(&r->members); /* as one that came late */
        pfl_strs_deinit(&r->vouchers);
        assert_string_equal(gossip(s, peer_a, 0, "models_ready", none), "ok:");
        assert_string_equal(gossip(s, peer_a, 1, "vote_train_set", LIST(next, "1000")), "ok:");
        assert_string_equal(gossip(s, peer_b, 1, "vote_train_set", LIST(next, "1000")), "ok:");
        live(s, peer_a, peer_b, PFL_SEC);
        assert_string_equal(stage(s), member ? "training" : "waiting");
        if (!member)
            assert_not_replaceable_for_a_member(n, r);
        announce_computed(s, peer_a, 0, 20.0F); /* as many computed it, and a is first in order */
        assert_string_equal(pre_send(s, peer_a, 0, LIST("add_model", "0")), member ? "ok:false" : "ok:true");
        push_result(s, peer_a, 0, 20.0F);
        PFL_AUTO(pfl_payload_freep) struct pfl_payload *first = netsim_payload(s, 10.0F);
        assert_memory_equal(n->model->digest, first->digest, PFL_DIGEST_LEN); /* a alone may lie */
        assert_string_equal(gossip(s, peer_c, -1, "beat", LIST("1.0")), "ok:");
        announce_computed(s, peer_c, 0, 20.0F);
        PFL_AUTO(pfl_payload_freep) struct pfl_payload *expected = netsim_payload(s, member ? 10.0F : 20.0F);
        assert_memory_equal(r->aggregate->digest, expected->digest, PFL_DIGEST_LEN);
        assert_memory_equal(n->model->digest, expected->digest, PFL_DIGEST_LEN);
        assert_string_equal(stage(s), member ? "training" : "waiting");
        netsim_free(s);
    }
}

static const char *name_of(void *user, const char *addr)
{
    (void)user;
    return strcmp(addr, peer_b) == 0 ? "berlin" : NULL;
}

static void who_lets_a_vote_time_out__is_not_waited_for_until_it_votes_again(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(100 * PFL_MS);
    const char *self = netsim_addr(s, 0);
    netsim_learn(s, 0, 3, 1, 1);
    assert_string_equal(gossip(s, peer_a, 0, "vote_train_set", LIST(self, "1000")), "ok:");
    live(s, peer_a, peer_b, 59 * PFL_SEC);
    assert_string_equal(stage(s), "voting");
    struct pfl_snapshot snap;
    pfl_node_snapshot(netsim_node(s, 0), &snap);
    assert_string_equal(snap.waiting_for, "node 10.0.0.9:6666 (its vote, last sign of life 0.5 s ago)");
    pfl_snapshot_deinit(&snap);
    live(s, peer_a, peer_b, 3 * PFL_SEC);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_WARNING), 1);
    assert_int_equal(netsim_note(s, 0, PFL_NOTE_ROUND_STARTED, NULL)->round, 1);
    assert_string_equal(gossip(s, peer_a, 1, "vote_train_set", LIST(self, "1000")), "ok:");
    assert_string_not_equal(stage(s), "voting"); /* b is not waited for */
    live(s, peer_a, peer_b, PFL_SEC);
    assert_int_equal(netsim_note(s, 0, PFL_NOTE_ROUND_STARTED, NULL)->round, 2);
    assert_string_equal(gossip(s, peer_b, 2, "vote_train_set", LIST(self, "1000")), "ok:"); /* back again */
    assert_string_equal(gossip(s, peer_a, 2, "vote_train_set", LIST(self, "1000")), "ok:");
    live(s, peer_a, peer_b, PFL_SEC);
    assert_string_equal(stage(s), "finishing"); /* now b's result is waited for, too */
    pfl_node_snapshot(netsim_node(s, 0), &snap);
    assert_string_equal(snap.waiting_for, "node 10.0.0.8:6666 (its result, last sign of life 0.5 s ago), "
                                          "10.0.0.9:6666 (its result, last sign of life 0.5 s ago)");
    pfl_snapshot_deinit(&snap);
    pfl_node_snapshot_at(netsim_node(s, 0), netsim_now(s), name_of, NULL, &snap);
    assert_string_equal(snap.waiting_for, "node 10.0.0.8:6666 (its result, last sign of life 0.5 s ago), "
                                          "berlin at 10.0.0.9:6666 (its result, last sign of life 0.5 s ago)");
    pfl_snapshot_deinit(&snap);
    netsim_free(s);
}

/* The node's two contributions of others are announced, but never come: it goes on at the deadline and says so. */
static void contributions_that_do_not_come__cost_the_deadline(void **state)
{
    (void)state;
    struct netsim *s = with_two_peers(100 * PFL_MS);
    netsim_learn(s, 0, 1, 1, 3);
    vote_both(s, 0);
    live(s, peer_a, peer_b, 299 * PFL_SEC);
    assert_string_equal(stage(s), "training");
    struct pfl_snapshot snap;
    pfl_node_snapshot(netsim_node(s, 0), &snap);
    assert_string_equal(snap.waiting_for, "node 10.0.0.8:6666 (its contribution, last sign of life 0.0 s ago), "
                                          "10.0.0.9:6666 (its contribution, last sign of life 0.0 s ago)");
    assert_true(snap.waiting_until > netsim_now(s) && snap.waiting_until < netsim_now(s) + 3 * PFL_SEC);
    assert_int_equal(snap.train_set.n, 3);
    pfl_snapshot_deinit(&snap);
    live(s, peer_a, peer_b, 4 * PFL_SEC);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_EXCLUDED), 2);
    assert_string_equal(netsim_note(s, 0, PFL_NOTE_EXCLUDED, NULL)->text, "no contribution came within 300 s of the last progress");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_AGGREGATED), 1);
    netsim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_start__model_and_ballots_are_kept),
        cmocka_unit_test(early_things__are_dropped_when_no_start_comes),
        cmocka_unit_test(contributions_before_the_train_set_is_known__are_kept),
        cmocka_unit_test(an_early_contribution_of_no_member__is_refused_when_the_train_set_is_known),
        cmocka_unit_test(things_of_the_next_round__are_kept),
        cmocka_unit_test(questions_before_a_model__are_answered_by_need),
        cmocka_unit_test(a_sender_that_is_lost__makes_room_for_another),
        cmocka_unit_test(votes_for_a_dead_node__count_if_it_has_voted_itself),
        cmocka_unit_test(a_late_ballot__changes_the_train_set_while_nobody_ended_the_round),
        cmocka_unit_test(votes_of_a_far_round__wait_until_that_begins),
        cmocka_unit_test(a_flood_for_a_later_round__costs_its_author_only),
        cmocka_unit_test(a_told_train_set__is_counted_again_when_no_vote_is_missing),
        cmocka_unit_test(the_common_result__is_taken_in_the_next_round_by_who_waits_only),
        cmocka_unit_test(who_lets_a_vote_time_out__is_not_waited_for_until_it_votes_again),
        cmocka_unit_test(contributions_that_do_not_come__cost_the_deadline),
    };
    return cmocka_run_group_tests_name("node_early", tests, NULL, NULL);
}
