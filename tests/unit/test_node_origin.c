/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: signed_node */
/* Who may say what, by events that say who signed: no keys, no sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/node.h"
#include "support/signed_node.h"

/* Gossip of round 0 (or -1) in an experiment; args ended by NULL. */
static struct pfl_msg *gossip(const char *source, const char *cmd, const char *experiment, const char *const *args)
{
    static int64_t hash = 1;
    struct pfl_msg *m = pfl_msg_new(source, strncmp(cmd, "st", 2) == 0 ? -1 : 0, cmd, PFL_MSG_GOSSIP);
    m->hash = hash++;
    for (; args && *args; args++)
        pfl_strs_add(&m->args, *args);
    m->origin = experiment ? pfl_origin_new(experiment, epoch / PFL_MS) : NULL;
    return m;
}

enum { UNSIGNED = 64, FORGED = 65 };

/* Takes m. The answer: "" for success, else the error; borrowed until the next step. */
static const char *say(struct world *w, struct pfl_msg *m, unsigned may)
{
    static char name[] = "spiffe://lab/node/x";
    const struct pfl_signer signer = {.id = name, .may = may};
    struct pfl_event ev = {.msg = m};
    ev.signer = may == UNSIGNED || may == FORGED ? NULL : &signer;
    ev.forged = may == FORGED ? "the signature is bad" : NULL;
    if (m->kind == PFL_MSG_WEIGHTS)
        ev.payload = w->payload;
    return deliver(w, &ev);
}

static bool denied(const struct world *w)
{
    bool found = false;
    for (size_t i = 0; i < w->out.n; i++)
        found = found || (w->out.items[i].kind == PFL_ACT_REPLY && w->out.items[i].denied);
    return found;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(struct world *w, struct pfl_msg *m, unsigned may, const char *reason)
{
    const char *said = say(w, m, may);
    if (!strstr(said, reason))
        fail_msg("'%s', wanted '%s'", said, reason);
    assert_true(denied(w));
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_REFUSED), 1);
}

static void start(struct world *w, const char *experiment)
{
    assert_string_equal(
        say(w, gossip(A, "start_learning", experiment, LIST("3", "1", "4", experiment)), PFL_MAY_TRAIN | PFL_MAY_START), "");
    assert_true(pfl_node_is_learning(w->node));
}

static void test_not_signed_or_badly__refused_with_who_passed_it_on(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    static const char *const commands[] = {"model_initialized", "models_ready", "stop_learning", "models_aggregated"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(commands); i++) {
        assert_refused(w, gossip(A, commands[i], NULL, NULL), UNSIGNED, "is not signed (passed on by spiffe://lab/node/relay)");
        assert_refused(w, gossip(A, commands[i], "x-1", NULL), FORGED, "does not count: the signature is bad (passed on by");
    }
    assert_refused(w, gossip(A, "beat", NULL, LIST("1.5")), UNSIGNED, "is not signed");
    assert_true(pfl_node_is_learning(w->node));
    world_free(w);
}

static void test_rights__start_and_stop_are_a_coordinators(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    assert_refused(w, gossip(A, "start_learning", "x-1", LIST("3", "1", "4", "x-1")), PFL_MAY_TRAIN,
                   "may not start or stop learning");
    assert_false(pfl_node_is_learning(w->node));
    start(w, "x-1");
    assert_refused(w, gossip(A, "stop_learning", "x-1", NULL), PFL_MAY_TRAIN, "may not start or stop learning");
    assert_refused(w, gossip(A, "vote_train_set", "x-1", LIST(A, "7")), 0, "may not take part in learning");
    assert_true(pfl_node_is_learning(w->node));
    assert_string_equal(say(w, gossip(A, "stop_learning", "x-1", NULL), PFL_MAY_START), "");
    assert_false(pfl_node_is_learning(w->node));
    world_free(w);
}

static void test_own_operator__needs_the_right_too(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    static char name[] = "spiffe://lab/node/me";
    struct pfl_signer self = {.id = name, .may = PFL_MAY_TRAIN};
    struct pfl_event ev = {
        .kind = PFL_EV_CMD_LEARN, .call = 7, .signer = &self, .learn = {.rounds = 2, .epochs = 1, .trainset_size = 1}};
    step(w, &ev);
    assert_false(pfl_node_is_learning(w->node));
    self.may |= PFL_MAY_START;
    ev.learn.rounds = 51;
    step(w, &ev); /* max_rounds is 50 */
    assert_false(pfl_node_is_learning(w->node));
    ev.learn.rounds = 50;
    step(w, &ev);
    assert_true(pfl_node_is_learning(w->node));
    world_free(w);
}

static void test_policy__a_longer_experiment__not_begun(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    assert_refused(w, gossip(A, "start_learning", "x-1", LIST("51", "1", "4", "x-1")), PFL_MAY_START, "policy.max_rounds");
    assert_false(pfl_node_is_learning(w->node));
    world_free(w);
}

static void test_replay__another_experiment_or_an_old_start__nothing_happens(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    const unsigned all = PFL_MAY_TRAIN | PFL_MAY_START;
    start(w, "x-1");
    assert_refused(w, gossip(A, "stop_learning", "x-0", NULL), all, "is of experiment 'x-0', here runs 'x-1'");
    assert_refused(w, gossip(A, "vote_train_set", "x-0", LIST(A, "7")), all, "is of experiment 'x-0'");
    assert_string_equal(say(w, gossip(A, "stop_learning", "x-1", NULL), all), "");
    assert_string_equal(say(w, gossip(A, "start_learning", "x-1", LIST("3", "1", "4", "x-1")), all), ""); /* over: begins nothing */
    assert_false(pfl_node_is_learning(w->node));
    assert_refused(w, gossip(A, "start_learning", "x-2", LIST("3", "1", "4", "x-3")), all,
                   "signed for experiment 'x-2', but it starts 'x-3'");
    struct pfl_msg *old = gossip(A, "start_learning", "x-4", LIST("3", "1", "4", "x-4"));
    old->origin->sent_at_ms -= 601000;
    assert_refused(w, old, all, "ago by this node's clock");
    start(w, "x-5");
    assert_string_equal(say(w, gossip(A, "stop_learning", "x-5", NULL), all), "");
    assert_string_equal(say(w, gossip(A, "start_learning", "x-1", LIST("3", "1", "4", "x-1")), all),
                        ""); /* remembered longer than one */
    assert_false(pfl_node_is_learning(w->node));
    world_free(w);
}

static void test_equivocation__evidence_once__and_out(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    assert_string_equal(say(w, gossip(A, "vote_train_set", "x-1", LIST(A, "7")), PFL_MAY_TRAIN), "");
    assert_string_equal(say(w, gossip(A, "vote_train_set", "x-1", LIST(A, "7")), PFL_MAY_TRAIN), ""); /* the same again */
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 0);
    assert_refused(w, gossip(A, "vote_train_set", "x-1", LIST(A, "8")), PFL_MAY_TRAIN, "another than the first");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
    assert_refused(w, gossip(A, "vote_train_set", "x-1", LIST(A, "9")), PFL_MAY_TRAIN, "said two different things");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 0);
    assert_refused(w, gossip(A, "models_aggregated", "x-1", LIST(A)), PFL_MAY_TRAIN, "said two different things");
    assert_string_equal(say(w, gossip(B, "vote_train_set", "x-1", LIST(B, "7")), PFL_MAY_TRAIN), "");
    world_free(w);
}

/* models_ready: what it computed, or took. */
static struct pfl_msg *ready(const char *source, uint8_t digest, bool computed)
{
    struct pfl_msg *m = gossip(source, "models_ready", "x-1", NULL);
    m->has_model_digest = true;
    memset(m->model_digest, digest, sizeof(m->model_digest));
    m->computed = computed;
    return m;
}

static void test_two_computed_results__evidence__and_out(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    assert_string_equal(say(w, gossip(A, "model_initialized", "x-1", NULL), PFL_MAY_TRAIN), "");
    assert_string_equal(say(w, ready(A, 1, true), PFL_MAY_TRAIN), "");
    assert_string_equal(say(w, ready(A, 2, false), PFL_MAY_TRAIN), ""); /* it takes the common one */
    assert_string_equal(say(w, ready(A, 1, true), PFL_MAY_TRAIN), "");  /* and its own again */
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 0);
    assert_refused(w, ready(A, 3, true), PFL_MAY_TRAIN, "another than the first");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
    for (size_t i = 0; i < w->out.n; i++) {
        const struct pfl_note *note = w->out.items[i].kind == PFL_ACT_NOTE ? w->out.items[i].note : NULL;
        if (note && note->kind == PFL_NOTE_EXCLUDED)
            assert_non_null(strstr(note->text, "two different results for round 0"));
    }
    assert_refused(w, ready(A, 1, true), PFL_MAY_TRAIN, "said two different things");
    world_free(w);
}

static struct pfl_msg *contribution(const char *source, const char *const *who)
{
    struct pfl_msg *m = pfl_msg_new(source, 0, "partial_model", PFL_MSG_WEIGHTS);
    m->codec = pfl_xstrdup("safetensors");
    m->has_digest = true;
    m->num_samples = 5;
    for (; *who; who++)
        pfl_strs_add(&m->contributors, *who);
    m->origin = pfl_origin_new("x-1", epoch / PFL_MS);
    return m;
}

static void test_contributors__only_the_signer_itself(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    assert_refused(w, contribution(A, LIST(B)), PFL_MAY_TRAIN, "shows no signature of theirs");
    assert_refused(w, contribution(A, LIST(A, B)), PFL_MAY_TRAIN, "shows no signature of theirs");
    assert_refused(w, contribution(A, LIST(A)), UNSIGNED, "is not signed");
    (void)say(w, contribution(A, LIST(A)), PFL_MAY_TRAIN);
    assert_false(denied(w));
    struct pfl_msg *other = contribution(A, LIST(A));
    other->digest[0] = 1;
    assert_refused(w, other, PFL_MAY_TRAIN, "another than the first");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
    world_free(w);
}

static struct pfl_msg *announced(const char *source, uint8_t model, int32_t samples)
{
    struct pfl_msg *m = gossip(source, "models_aggregated", "x-1", LIST(source));
    m->has_contribution = true;
    memset(m->contribution, 0, sizeof(m->contribution));
    m->contribution[0] = model;
    m->contribution_samples = samples;
    return m;
}

static void test_announced_one_contribution_and_sent_another__evidence__and_out(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    assert_string_equal(say(w, announced(A, 0, 5), PFL_MAY_TRAIN), "");
    (void)say(w, contribution(A, LIST(A)), PFL_MAY_TRAIN); /* the one that it announced */
    assert_false(denied(w));
    struct pfl_msg *other = contribution(A, LIST(A));
    other->num_samples = 6;
    assert_refused(w, other, PFL_MAY_TRAIN, "10.0.0.2:1 announced another contribution to round 0 than this one");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
    assert_refused(w, contribution(A, LIST(A)), PFL_MAY_TRAIN, "said two different things");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 0); /* one pair is enough */
    assert_refused(w, gossip(A, "vote_train_set", "x-1", LIST(A, "7")), PFL_MAY_TRAIN, "said two different things");
    world_free(w);
}

static void test_sent_one_contribution_and_announced_another__evidence__and_out(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    struct pfl_msg *other = contribution(A, LIST(A));
    other->digest[0] = 1;
    (void)say(w, other, PFL_MAY_TRAIN);
    assert_false(denied(w));
    assert_refused(w, announced(A, 0, 5), PFL_MAY_TRAIN, "announced another contribution to round 0 than it sent");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
    assert_refused(w, contribution(A, LIST(A)), PFL_MAY_TRAIN, "said two different things");
    world_free(w);
}

static void test_two_announced_contributions__out_and_everybody_is_told(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    assert_string_equal(say(w, announced(A, 0, 5), PFL_MAY_TRAIN), "");
    assert_string_equal(say(w, announced(A, 0, 5), PFL_MAY_TRAIN), "");
    assert_refused(w, announced(A, 1, 5), PFL_MAY_TRAIN, "another than the first");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
    assert_refused(w, contribution(A, LIST(A)), PFL_MAY_TRAIN, "said two different things");
    world_free(w);
}

static void test_hash_of_another__hides_nothing(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w, "x-1");
    struct pfl_msg *mine = gossip(B, "metrics", "x-1", LIST("test_loss", "1")),
                   *good = gossip(A, "metrics", "x-1", LIST("test_loss", "2"));
    mine->hash = good->hash;
    assert_string_equal(say(w, mine, PFL_MAY_TRAIN), "");
    assert_string_equal(say(w, good, PFL_MAY_TRAIN), "");
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_METRICS), 1);
    world_free(w);
}

/* Each of its neighbours another vote, all under one hash: none passes for a copy of the other. */
static void test_equivocation__under_one_hash__found(void **state)
{
    (void)state;
    for (unsigned row = 0; row < 3; row++) {
        struct world *w = world_new(false);
        start(w, "x-1");
        struct pfl_msg *first = row == 0 ? gossip(A, "vote_train_set", "x-1", LIST(A, "7")) : announced(A, 0, 5),
                       *second =
                           row == 0 ? gossip(A, "vote_train_set", "x-1", LIST(B, "7")) : announced(A, row == 1, row == 1 ? 5 : 6);
        PFL_AUTO(pfl_msg_freep) struct pfl_msg *again = pfl_msg_ref(first);
        second->hash = first->hash;
        assert_string_equal(say(w, first, PFL_MAY_TRAIN), "");
        assert_true(pfl_node_knows(w->node, again));
        assert_false(pfl_node_knows(w->node, second));
        assert_refused(w, second, PFL_MAY_TRAIN, "another than the first");
        assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
        assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
        world_free(w);
    }
}

/* As it came with this ttl: it is passed on to how many, and with which ttl? */
static unsigned passed_on(struct world *w, struct pfl_msg *m, int32_t ttl, unsigned may, int32_t *ret_ttl)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *made = m;
    struct pfl_origin *origin = pfl_steal(&m->origin);
    struct pfl_msg *got = NULL;
    unsigned n = 0;
    m->ttl = ttl;
    assert_int_equal(pfl_msg_encode(m, NULL, &s, NULL), PFL_OK);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(s->parts[0].data, s->parts[0].len);
    assert_int_equal(pfl_msg_decode(blob, &got, NULL), PFL_OK);
    got->origin = origin;
    assert_string_equal(say(w, got, may), "");
    for (size_t i = 0; i < w->out.n; i++) {
        const struct pfl_action *a = &w->out.items[i];
        PFL_AUTO(pfl_msg_freep) struct pfl_msg *sent = a->kind == PFL_ACT_SEND ? sent_msg(a) : NULL;
        if (!sent || strcmp(sent->source, made->source) != 0)
            continue;
        n++;
        *ret_ttl = sent->ttl;
    }
    return n;
}

/* A relay that takes the ttl from a message keeps it from nobody behind this node. */
static void test_forward__signed__whatever_the_ttl(void **state)
{
    (void)state;
    int32_t ttl = -7;
    for (int interop = 0; interop < 2; interop++) {
        struct world *w = world_new(interop == 1);
        struct pfl_event ev = {.kind = PFL_EV_HANDSHAKE, .addr = B, .hello = pfl_node_hello(), .call = 3};
        step(w, &ev);
        ev = (struct pfl_event){.kind = PFL_EV_LINK_UP, .addr = B, .hello = pfl_node_hello()};
        step(w, &ev);
        assert_int_equal(
            passed_on(w, gossip(A, "start_learning", "x-1", LIST("3", "1", "4", "x-1")), 0, PFL_MAY_TRAIN | PFL_MAY_START, &ttl),
            0);
        static const int32_t rows[][2] = {{0, 1}, {-3, 1}, {INT32_MIN, 1}, {1, 1},
                                          {2, 1}, {3, 2},  {1000, 63}}; /* came with, goes with */
        for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
            assert_int_equal(passed_on(w, gossip(A, "metrics", "x-1", LIST("test_loss", "1")), rows[i][0], PFL_MAY_TRAIN, &ttl), 1);
            assert_int_equal(ttl, rows[i][1]);
        }
        if (interop)
            assert_int_equal(passed_on(w, gossip("10.0.0.9:1", "metrics", NULL, LIST("test_loss", "1")), 0, UNSIGNED, &ttl), 0);
        world_free(w);
    }
}

/* Nodes that translate a digest for P2PFL's make one beat each, by different clocks. */
static void test_plain_beats_of_one_hash__are_one(void **state)
{
    (void)state;
    struct world *w = world_new(true);
    struct pfl_msg *one = gossip(A, "beat", NULL, LIST("1.000001")), *two = gossip(A, "beat", NULL, LIST("1.000002"));
    two->hash = one->hash;
    (void)say(w, one, UNSIGNED);
    assert_true(pfl_node_knows(w->node, two));
    pfl_msg_unref(two);
    world_free(w);
}

static void test_interop__unsigned_counts__never_for_one_that_signs(void **state)
{
    (void)state;
    struct world *w = world_new(true);
    start(w, "x-1"); /* A has signed */
    assert_string_equal(say(w, gossip(B, "vote_train_set", NULL, LIST(B, "7")), UNSIGNED), "");
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_REFUSED), 0);
    assert_string_equal(say(w, gossip(A, "stop_learning", NULL, NULL), UNSIGNED), ""); /* no error for whoever passed it on */
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_REFUSED), 1);
    assert_true(pfl_node_is_learning(w->node));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_signed_or_badly__refused_with_who_passed_it_on),
        cmocka_unit_test(test_rights__start_and_stop_are_a_coordinators),
        cmocka_unit_test(test_own_operator__needs_the_right_too),
        cmocka_unit_test(test_policy__a_longer_experiment__not_begun),
        cmocka_unit_test(test_replay__another_experiment_or_an_old_start__nothing_happens),
        cmocka_unit_test(test_equivocation__evidence_once__and_out),
        cmocka_unit_test(test_two_computed_results__evidence__and_out),
        cmocka_unit_test(test_contributors__only_the_signer_itself),
        cmocka_unit_test(test_announced_one_contribution_and_sent_another__evidence__and_out),
        cmocka_unit_test(test_sent_one_contribution_and_announced_another__evidence__and_out),
        cmocka_unit_test(test_two_announced_contributions__out_and_everybody_is_told),
        cmocka_unit_test(test_hash_of_another__hides_nothing),
        cmocka_unit_test(test_equivocation__under_one_hash__found),
        cmocka_unit_test(test_forward__signed__whatever_the_ttl),
        cmocka_unit_test(test_plain_beats_of_one_hash__are_one),
        cmocka_unit_test(test_interop__unsigned_counts__never_for_one_that_signs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
