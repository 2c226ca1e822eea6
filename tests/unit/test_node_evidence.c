/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: signed_node */
/* Evidence that others found: what it takes to be believed, and what false evidence costs whom. Signatures are the driver's: events
 * say what it found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/limits.h"
#include "node/node.h"
#include "support/signed_node.h"

/* addr is a neighbour, of ours and with all that we do, or without evidence. */
static void link_up(struct world *w, const char *addr, bool proves)
{
    struct pfl_hello hello = {.present = true, .version = 1};
    struct pfl_event connect = {.kind = PFL_EV_CMD_CONNECT, .addr = addr},
                     up = {.kind = PFL_EV_LINK_UP, .addr = addr, .hello = &hello};
    for (size_t i = 0; i < pfl_node_hello()->features.n; i++) {
        if (proves || strcmp(pfl_node_hello()->features.items[i], "evidence") != 0)
            pfl_strs_add(&hello.features, pfl_node_hello()->features.items[i]);
    }
    step(w, &connect);
    step(w, &up);
    pfl_hello_deinit(&hello);
}

static struct pfl_msg *gossip(const char *source, const char *cmd, int32_t round, const char *experiment)
{
    static int64_t hash = 1;
    struct pfl_msg *m = pfl_msg_new(source, round, cmd, PFL_MSG_GOSSIP);
    m->hash = hash++;
    m->origin = pfl_origin_new(experiment, epoch / PFL_MS);
    pfl_buf_append(&m->origin->certs[0], "certificate", 11);
    m->origin->n_certs = 1;
    pfl_buf_append(&m->origin->signature, "signature", 9);
    return m;
}

static struct pfl_msg *vote(const char *source, const char *votes, int32_t round, const char *experiment)
{
    struct pfl_msg *m = gossip(source, "vote_train_set", round, experiment);
    pfl_strs_add(&m->args, B);
    pfl_strs_add(&m->args, votes);
    return m;
}

/* Takes both. */
static struct pfl_msg *evidence(const char *reporter, struct pfl_msg *one, struct pfl_msg *two)
{
    struct pfl_msg *m = gossip(reporter, "evidence", 0, "x-1");
    struct pfl_statement said[2];
    assert_true(pfl_statement_of(one, &said[0]) && pfl_statement_of(two, &said[1]));
    assert_int_equal(pfl_statements_pack(said, &m->evidence, NULL), PFL_OK);
    for (size_t i = 0; i < 2; i++)
        pfl_statement_deinit(&said[i]);
    pfl_msg_unref(one);
    pfl_msg_unref(two);
    return m;
}

static struct pfl_msg *good_evidence(const char *reporter, const char *accused)
{
    return evidence(reporter, vote(accused, "7", 0, "x-1"), vote(accused, "8", 0, "x-1"));
}

/* Takes m; signed by id, who may train. The answer: "" for success, else the error; borrowed until the next step. */
static const char *say_as(struct world *w, struct pfl_msg *m, const char *id, const char *accused, const char *unproven,
                          unsigned may)
{
    const struct pfl_signer signer = {.id = (char *)(uintptr_t)id, .may = may};
    struct pfl_event ev = {.msg = m, .signer = id ? &signer : NULL, .accused = accused, .unproven = unproven};
    return deliver(w, &ev);
}

static const char *say(struct world *w, struct pfl_msg *m)
{
    return say_as(w, m, "spiffe://lab/node/b", "spiffe://lab/node/a", NULL, PFL_MAY_TRAIN | PFL_MAY_START);
}

/* Evidence that the last step sent to addr. */
static unsigned sent(const struct world *w, const char *addr)
{
    unsigned n = 0;
    for (size_t i = 0; i < w->out.n; i++) {
        const struct pfl_action *a = &w->out.items[i];
        if (a->kind != PFL_ACT_SEND || strcmp(a->addr, addr) != 0)
            continue;
        PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = sent_msg(a);
        n += strcmp(m->cmd, "evidence") == 0;
    }
    return n;
}

static void start(struct world *w)
{
    struct pfl_msg *m = gossip(B, "start_learning", -1, "x-1");
    static const char *const args[] = {"3", "1", "4", "x-1"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(args); i++)
        pfl_strs_add(&m->args, args[i]);
    assert_string_equal(say(w, m), "");
    assert_true(pfl_node_is_learning(w->node));
}

static void assert_refused(struct world *w, struct pfl_msg *m, const char *unproven, const char *reason)
{
    const char *said = say_as(w, m, "spiffe://lab/node/b", unproven ? NULL : "spiffe://lab/node/a", unproven, PFL_MAY_TRAIN);
    if (!strstr(said, reason) || !strstr(said, "spiffe://lab/node/b"))
        fail_msg("'%s', wanted '%s' and who said it", said, reason);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_REFUSED), 1);
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 0);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 0);
}

static bool counts(struct world *w, const char *addr)
{
    return say(w, vote(addr, "7", 0, "x-1"))[0] == '\0';
}

static void test_evidence__of_another__out_kept_and_passed_on_once(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    link_up(w, C, true);
    start(w);
    assert_string_equal(say(w, gossip(A, "model_initialized", 0, "x-1")), "");
    struct pfl_msg *m = good_evidence(B, A);
    m->ttl = 3;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *came = NULL;
    assert_int_equal(pfl_msg_encode(m, NULL, &body, NULL), PFL_OK);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    for (size_t k = 0; k < body->n; k++)
        pfl_buf_append(&b, body->parts[k].data, body->parts[k].len);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(b.data, b.len);
    assert_int_equal(pfl_msg_decode(blob, &came, NULL), PFL_OK); /* only what came from outside can be passed on */
    pfl_msg_unref(m);
    assert_string_equal(say(w, pfl_msg_ref(came)), "");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 1);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
    assert_int_equal(sent(w, C), 1);
    assert_false(counts(w, A));
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *again = good_evidence(C, A); /* by another reporter, with another hash */
    assert_true(pfl_node_knows(w->node, again));                         /* not even looked at */
    assert_string_equal(say(w, pfl_msg_ref(again)), "");
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0) + sent(w, C), 0);
    world_free(w);
}

static void test_evidence__found_here__told_to_those_who_take_it(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    link_up(w, B, true);
    link_up(w, C, false);
    start(w);
    assert_string_equal(say(w, vote(A, "7", 0, "x-1")), "");
    assert_non_null(strstr(say(w, vote(A, "8", 0, "x-1")), "another than the first"));
    assert_int_equal(sent(w, B), 1);
    assert_int_equal(sent(w, C), 0);
    link_up(w, "10.0.0.5:1", true); /* who comes later hears of it, too */
    assert_int_equal(sent(w, "10.0.0.5:1"), 1);
    link_up(w, "10.0.0.6:1", false);
    assert_int_equal(sent(w, "10.0.0.6:1"), 0);
    world_free(w);
}

static void test_evidence__that_is_none__costs_its_reporter_and_not_the_accused(void **state)
{
    (void)state;
    static const char *const unproven[] = {"statement 2 is not signed by the key of its certificate",
                                           "the statements are of two parties, x and y",
                                           "the certificate of statement 1 is refused: expired"};
    struct world *w = world_new(false);
    start(w);
    for (size_t i = 0; i < PFL_ARRAY_LEN(unproven); i++)
        assert_refused(w, good_evidence(B, A), unproven[i], unproven[i]);
    assert_refused(w, evidence(B, vote(A, "7", 0, "x-1"), vote(C, "8", 0, "x-1")), NULL, "do not contradict"); /* two nodes */
    assert_refused(w, evidence(B, vote(A, "7", 0, "x-1"), vote(A, "8", 1, "x-1")), NULL, "do not contradict"); /* two rounds */
    assert_refused(w, evidence(B, vote(A, "7", 0, "x-1"), vote(A, "8", 0, "x-0")), NULL, "do not contradict"); /* two experiments */
    assert_refused(w, evidence(B, vote(A, "7", 0, "x-1"), vote(A, "7", 0, "x-1")), NULL, "do not contradict"); /* the same twice */
    assert_true(counts(w, A));
    world_free(w);
    w = world_new(false);
    start(w);
    assert_refused(w, evidence(B, vote(A, "7", 0, "x-0"), vote(A, "8", 0, "x-0")), NULL,
                   "are of experiment 'x-0', here runs 'x-1'");
    struct pfl_msg *garbage = gossip(B, "evidence", 0, "x-1");
    pfl_buf_append(&garbage->evidence, "garbage", 7);
    assert_refused(w, garbage, NULL, "no two signed statements");
    assert_refused(w, gossip(B, "evidence", 0, "x-1"), NULL, "no two signed statements");
    assert_true(counts(w, A));
    world_free(w);
}

static void test_evidence__unsigned_or_of_no_member__refused(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w);
    assert_non_null(strstr(say_as(w, good_evidence(B, A), NULL, NULL, NULL, 0), "is not signed"));
    assert_non_null(
        strstr(say_as(w, good_evidence(B, A), "spiffe://lab/observer/o", "a", NULL, 0), "may not take part in learning"));
    struct pfl_msg *elsewhere = good_evidence(B, A);
    pfl_origin_unref(elsewhere->origin);
    elsewhere->origin = pfl_origin_new("x-0", epoch / PFL_MS);
    assert_non_null(strstr(say(w, elsewhere), "is of experiment 'x-0', here runs 'x-1'"));
    assert_true(counts(w, A));
    world_free(w);
}

static void test_evidence__false_a_thousand_times__looked_at_eight_times(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    unsigned looked_at = 0, warned = 0;
    start(w);
    for (unsigned i = 0; i < 1000; i++) {
        struct pfl_msg *m = good_evidence(B, A);
        looked_at += !pfl_node_knows(w->node, m); /* else no signature is verified */
        (void)say_as(w, m, "spiffe://lab/node/b", NULL, "it is forged", PFL_MAY_TRAIN);
        warned += count(w, PFL_ACT_NOTE, PFL_NOTE_WARNING);
    }
    assert_int_equal(looked_at, 8);
    assert_int_equal(warned, 1);
    assert_string_equal(say_as(w, good_evidence(C, A), "spiffe://lab/node/c", "spiffe://lab/node/a", NULL, PFL_MAY_TRAIN), "");
    assert_false(counts(w, A)); /* others are heard */
    world_free(w);
}

/* Who signs two votes in the name of each of its ports floods nobody with the proof. */
/* Who accuses wrongly does not get another eight tries because somebody is found out meanwhile. */
static void test_evidence__false_before_a_true_one__counts_on(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w);
    for (unsigned i = 0; i < PFL_FALSE_EVIDENCE_MAX; i++) {
        if (i == 4)
            assert_true(strlen(say(w, vote(C, "7", 0, "x-1"))) == 0 && strlen(say(w, vote(C, "8", 0, "x-1"))) > 0);
        (void)say_as(w, good_evidence(B, A), "spiffe://lab/node/b", NULL, "nothing", PFL_MAY_TRAIN);
        assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_REFUSED), 1);
    }
    (void)say_as(w, good_evidence(B, A), "spiffe://lab/node/b", NULL, "nothing", PFL_MAY_TRAIN);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_REFUSED), 0); /* not looked at */
    world_free(w);
}

static void test_evidence__of_many_addresses_of_one_party__bounded(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    unsigned out = 0;
    start(w);
    for (unsigned port = 1000; port < 1100; port++) {
        PFL_AUTO(pfl_freep) char *addr = pfl_xasprintf("10.0.0.9:%u", port);
        (void)say_as(w, good_evidence(C, addr), "spiffe://lab/node/c", "spiffe://lab/node/liar", NULL, PFL_MAY_TRAIN);
        out += count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED);
    }
    assert_int_equal(out, 16);
    assert_string_equal(say(w, good_evidence(B, A)), ""); /* and hides nothing of others */
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
    world_free(w);
}

/* A vote with as many bytes of certificates as there may be, nearly. */
static struct pfl_msg *fat_vote(const char *source, const char *votes)
{
    static const uint8_t der[15000];
    struct pfl_msg *m = vote(source, votes, 0, "x-1");
    m->origin->n_certs = PFL_WIRE_ORIGIN_CERTS_MAX;
    for (size_t i = 0; i < m->origin->n_certs; i++)
        assert_true(pfl_buf_append(&m->origin->certs[i], der, sizeof(der)));
    return m;
}

/* What is kept for newcomers is bounded, however large what liars sign is. */
static void test_evidence__of_many_parties__as_much_as_is_said_for_newcomers(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w);
    for (unsigned i = 0; i < 60; i++) {
        PFL_AUTO(pfl_freep) char *addr = pfl_xasprintf("10.0.1.%u:1", i), *id = pfl_xasprintf("spiffe://lab/node/%u", i / 10);
        (void)say_as(w, fat_vote(addr, "7"), id, NULL, NULL, PFL_MAY_TRAIN);
        (void)say_as(w, fat_vote(addr, "8"), id, NULL, NULL, PFL_MAY_TRAIN);
        assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
    }
    link_up(w, C, true);
    unsigned given = sent(w, C);
    assert_in_range(given, 40, PFL_EVIDENCE_BYTES_MAX / 90000);
    world_free(w);
}

/* It is behind, and asks again and again. */
static void ask_state(struct world *w)
{
    struct pfl_msg *m = pfl_msg_new(C, -1, "state", PFL_MSG_DIRECT);
    pfl_strs_add(&m->args, "x-0");
    pfl_strs_add(&m->args, "0");
    assert_string_equal(say(w, m), "");
}

static void test_evidence__asked_for_again_and_again__once_a_period(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w);
    assert_string_equal(say(w, vote(A, "7", 0, "x-1")), "");
    assert_true(strlen(say(w, vote(A, "8", 0, "x-1"))) > 0);
    link_up(w, C, true);
    assert_int_equal(sent(w, C), 1);
    struct pfl_msg *init = pfl_msg_new(B, 0, "init_model", PFL_MSG_WEIGHTS);
    init->codec = pfl_xstrdup("safetensors");
    init->has_digest = true;
    init->num_samples = 1;
    init->origin = pfl_origin_new("x-1", epoch / PFL_MS);
    const struct pfl_signer signer = {.id = (char *)(uintptr_t) "spiffe://lab/node/b", .may = PFL_MAY_TRAIN | PFL_MAY_START};
    struct pfl_event ev = {.msg = init, .signer = &signer, .payload = w->payload};
    assert_string_equal(deliver(w, &ev), ""); /* who has no model yet has nothing to tell */
    ask_state(w);
    assert_int_equal(sent(w, C), 1);
    ask_state(w);
    assert_int_equal(sent(w, C), 0);
    w->now += 3 * PFL_SEC;
    ask_state(w);
    assert_int_equal(sent(w, C), 1);
    world_free(w);
}

static void test_evidence__against_this_node__said_once(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    start(w);
    assert_string_equal(say(w, good_evidence(B, ME)), "");
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_WARNING), 1);
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 0);
    assert_string_equal(say(w, good_evidence(C, ME)), "");
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_WARNING), 0);
    world_free(w);
}

static void test_evidence__outside_an_experiment__nothing(void **state)
{
    (void)state;
    struct world *w = world_new(false);
    assert_non_null(strstr(say(w, good_evidence(B, A)), "not learning in that experiment"));
    assert_int_equal(count(w, PFL_ACT_EVIDENCE, 0), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evidence__of_another__out_kept_and_passed_on_once),
        cmocka_unit_test(test_evidence__found_here__told_to_those_who_take_it),
        cmocka_unit_test(test_evidence__that_is_none__costs_its_reporter_and_not_the_accused),
        cmocka_unit_test(test_evidence__unsigned_or_of_no_member__refused),
        cmocka_unit_test(test_evidence__false_a_thousand_times__looked_at_eight_times),
        cmocka_unit_test(test_evidence__false_before_a_true_one__counts_on),
        cmocka_unit_test(test_evidence__of_many_addresses_of_one_party__bounded),
        cmocka_unit_test(test_evidence__of_many_parties__as_much_as_is_said_for_newcomers),
        cmocka_unit_test(test_evidence__asked_for_again_and_again__once_a_period),
        cmocka_unit_test(test_evidence__against_this_node__said_once),
        cmocka_unit_test(test_evidence__outside_an_experiment__nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
