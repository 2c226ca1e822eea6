/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 120 */
/* Messages that should not be: each is answered, noted where it is somebody's fault, and changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/netsim.h"

static const char *const evil = "10.6.6.6:6666";

static struct netsim *network(unsigned n, uint64_t seed)
{
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = n, .seed = seed, .skew_check = true});
    netsim_topology(s, "full");
    netsim_run_to_membership(s, 20 * PFL_SEC);
    return s;
}

/* A message with arguments or contributors, ended by NULL. */
static struct pfl_msg *message(const char *source, int32_t round, const char *cmd, enum pfl_msg_kind kind, const char *const *list)
{
    static int64_t hash = 1;
    struct pfl_msg *m = pfl_msg_new(source, round, cmd, kind);
    m->hash = hash++;
    m->ttl = 0;
    for (; list && *list; list++)
        pfl_strs_add(kind == PFL_MSG_WEIGHTS ? &m->contributors : &m->args, *list);
    return m;
}

static const char *weights(struct netsim *s, unsigned to, const char *source, int32_t round, const char *cmd,
                           const char *const *who, int32_t n_samples, bool decoded)
{
    struct pfl_msg *m = message(source, round, cmd, PFL_MSG_WEIGHTS, who);
    m->num_samples = n_samples;
    return netsim_inject(s, to, m, decoded ? netsim_payload(s, 999.0F) : NULL);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void malformed_messages__are_answered_with_the_reason_and_noted(void **state)
{
    (void)state;
    struct netsim *s = network(2, 1);
    static const struct {
        const char *cmd;
        enum pfl_msg_kind kind;
        const char *args[8];
        const char *answer;
    } rows[] = {
        {"format_disk", PFL_MSG_GOSSIP, {"now"}, "error:Unknown command: format_disk"},
        {"format_disk", PFL_MSG_WEIGHTS, {NULL}, "error:Unknown command: format_disk"},
        {"", PFL_MSG_DIRECT, {NULL}, "error:Unknown command: "},
        {"beat", PFL_MSG_DIRECT, {"1.0"}, "error:beat came as a direct message, gossip is expected"},
        {"beat", PFL_MSG_GOSSIP, {NULL}, "error:beat: 0 arguments, 1 to 1 are expected"},
        {"beat", PFL_MSG_GOSSIP, {"1.0", "2.0"}, "error:beat: 2 arguments, 1 to 1 are expected"},
        {"partial_model", PFL_MSG_GOSSIP, {NULL}, "error:partial_model came as a gossip message, weights is expected"},
        {"start_learning", PFL_MSG_GOSSIP, {"1", "1", "1"}, "error:start_learning: 3 arguments, 4 to 4 are expected"},
        {"start_learning", PFL_MSG_GOSSIP, {"0", "1", "1", "x"}, "error:start_learning: 0 rounds, 1 to 1000000 are possible"},
        {"start_learning", PFL_MSG_GOSSIP, {"-1", "1", "1", "x"}, "error:start_learning: -1 rounds, 1 to 1000000 are possible"},
        {"start_learning",
         PFL_MSG_GOSSIP,
         {"1000001", "1", "1", "x"},
         "error:start_learning: 1000001 rounds, 1 to 1000000 are possible"},
        {"start_learning", PFL_MSG_GOSSIP, {"1", "10001", "1", "x"}, "error:start_learning: 10001 epochs, 0 to 10000 are possible"},
        {"start_learning", PFL_MSG_GOSSIP, {"1", "1.5", "1", "x"}, "error:start_learning: 1.5 epochs, 0 to 10000 are possible"},
        {"start_learning", PFL_MSG_GOSSIP, {"1", "1", "0", "x"}, "error:start_learning: a train set of 0, 1 to 4096 are possible"},
        {"start_learning",
         PFL_MSG_GOSSIP,
         {"1", "1", "4097", "x"},
         "error:start_learning: a train set of 4097, 1 to 4096 are possible"},
        {"start_learning",
         PFL_MSG_GOSSIP,
         {"1", "1", "1", ""},
         "error:start_learning: an experiment name of 0 bytes, 1 to 128 are possible"},
        {"vote_train_set",
         PFL_MSG_GOSSIP,
         {"a", "1", "b"},
         "error:vote_train_set: 3 arguments, pairs of address and votes are expected"},
        {"vote_train_set",
         PFL_MSG_GOSSIP,
         {"a", "1001"},
         "error:vote_train_set: '1001' votes for a: a number in 0..1000 is expected"},
        {"vote_train_set", PFL_MSG_GOSSIP, {"a", "-1"}, "error:vote_train_set: '-1' votes for a: a number in 0..1000 is expected"},
        {"vote_train_set", PFL_MSG_GOSSIP, {"a", "1", "a", "1"}, "error:vote_train_set: a name occurs twice"},
        {"metrics", PFL_MSG_GOSSIP, {"test_loss"}, "error:metrics: 1 arguments, pairs of name and value are expected"},
        {"metrics", PFL_MSG_GOSSIP, {"test_loss", "nan"}, "error:metrics: test_loss is 'nan', a finite number is expected"},
        {"models_ready", PFL_MSG_GOSSIP, {"1"}, "error:models_ready: 1 arguments, 0 to 0 are expected"},
        {"PRE_SEND_MODEL", PFL_MSG_DIRECT, {NULL}, "error:PRE_SEND_MODEL: 0 arguments, 1 to 4097 are expected"},
        {"PRE_SEND_MODEL", PFL_MSG_DIRECT, {"beat"}, "error:PRE_SEND_MODEL: 'beat' is no model command"},
        {"init_model", PFL_MSG_WEIGHTS, {NULL}, "error:init_model: the model cannot be decoded"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        unsigned noted = netsim_count(s, 0, PFL_NOTE_REFUSED);
        const char *answer = netsim_inject(s, 0, message(netsim_addr(s, 1), 0, rows[i].cmd, rows[i].kind, rows[i].args), NULL);
        assert_string_equal(answer, rows[i].answer);
        assert_int_equal(netsim_count(s, 0, PFL_NOTE_REFUSED), noted + 1);
        assert_string_equal(netsim_note(s, 0, PFL_NOTE_REFUSED, NULL)->addr, netsim_addr(s, 1));
        netsim_run(s, netsim_now(s) + 100 * PFL_MS);
    }
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_LEARNING_STARTED), 0);
    assert_int_equal(netsim_count(s, 1, PFL_NOTE_REFUSED), 0); /* nothing of it was passed on */
    netsim_learn(s, 0, 2, 1, 2);
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    netsim_check_equal(s, 2);
    netsim_free(s);
}

static void a_flood_of_bad_messages__gives_few_notes(void **state)
{
    (void)state;
    struct netsim *s = network(2, 2);
    for (unsigned i = 0; i < 5000; i++)
        assert_string_equal(netsim_inject(s, 0, message(evil, 0, "no", PFL_MSG_DIRECT, NULL), NULL), "error:Unknown command: no");
    assert_true(netsim_count(s, 0, PFL_NOTE_REFUSED) <= 50);
    netsim_free(s);
}

/* Expects "training" of node 0 with all four as members, in round 0. */
static struct netsim *in_training(uint64_t seed)
{
    struct netsim *s = network(4, seed);
    netsim_learn(s, 0, 3, 1, 4);
    assert_true(netsim_run_to_stage(s, 0, "training", 30 * PFL_SEC));
    return s;
}

static void wrong_contributions__are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct netsim *s = in_training(3);
    const char *const one = netsim_addr(s, 1);
    static const char *const nobody[] = {NULL};
    unsigned before = netsim_count(s, 0, PFL_NOTE_CONTRIBUTION);
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(evil), 10, true),
                        "error:contributor 10.6.6.6:6666 is not in the train set");
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(one, evil), 10, true),
                        "error:contributor 10.6.6.6:6666 is not in the train set");
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", nobody, 10, true),
                        "error:a model with 0 contributors, 1 to 4096 are expected");
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(one, one), 10, true), "error:a contributor is named twice");
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(one), 0, true), "error:a contribution of 0 samples");
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(one), -5, true), "error:a contribution of -5 samples");
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(one), 100000001, true),
                        "error:a contribution of 100000001 samples");
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(one), 10, false),
                        "error:partial_model: the model cannot be decoded");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_REFUSED), 8);
    assert_string_equal(netsim_note(s, 0, PFL_NOTE_REFUSED, NULL)->addr, evil);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_CONTRIBUTION), before);
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    netsim_check_equal(s, 3);
    netsim_free(s);
}

static void counted_contributions__again_or_in_part(void **state)
{
    (void)state;
    struct netsim *s = in_training(4);
    while (netsim_count(s, 0, PFL_NOTE_CONTRIBUTION) < 1)
        netsim_run(s, netsim_now(s) + PFL_MS);
    const char *held = netsim_note(s, 0, PFL_NOTE_CONTRIBUTION, NULL)->list.items[0];
    const char *lacking = NULL;
    for (unsigned i = 0; i < 4; i++) {
        bool has = false;
        for (unsigned k = 0; netsim_note_at(s, 0, PFL_NOTE_CONTRIBUTION, k); k++)
            has = has || pfl_strs_has(&netsim_note_at(s, 0, PFL_NOTE_CONTRIBUTION, k)->list, netsim_addr(s, i));
        if (!has)
            lacking = netsim_addr(s, i);
    }
    assert_non_null(lacking);
    unsigned before = netsim_count(s, 0, PFL_NOTE_CONTRIBUTION);
    assert_string_equal(weights(s, 0, held, 0, "partial_model", LIST(held), 10, true),
                        "ok:"); /* the same again: no fault, no effect */
    assert_string_equal(weights(s, 0, evil, 0, "partial_model", LIST(held, lacking), 10, true),
                        "error:1 of its 2 contributors are counted already");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_CONTRIBUTION), before);
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    netsim_check_equal(s, 3);
    netsim_free(s);
}

static void wrong_rounds__have_no_effect(void **state)
{
    (void)state;
    struct netsim *s = in_training(5);
    const char *const one = netsim_addr(s, 1);
    static const int32_t rounds[] = {-1, -2147483647 - 1, 2, 17, 2147483647};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rounds); i++) {
        char why[96];
        snprintf(why, sizeof(why), "error:partial_model: round %d is far from this node's 0", rounds[i]);
        assert_string_equal(weights(s, 0, one, rounds[i], "partial_model", LIST(one), 10, true), why);
        assert_string_equal(weights(s, 0, one, rounds[i], "add_model", NULL, 1, true), "ok:");
        assert_string_equal(
            netsim_inject(s, 0, message(one, rounds[i], "PRE_SEND_MODEL", PFL_MSG_DIRECT, LIST("add_model", "9")), NULL),
            "ok:false");
        assert_string_equal(
            netsim_inject(s, 0, message(one, rounds[i], "PRE_SEND_MODEL", PFL_MSG_DIRECT, LIST("partial_model", one)), NULL),
            "ok:false");
        assert_string_equal(
            netsim_inject(s, 0, message(one, rounds[i], "vote_train_set", PFL_MSG_GOSSIP, LIST(evil, "1000")), NULL), "ok:");
        assert_string_equal(netsim_inject(s, 0, message(one, rounds[i], "models_ready", PFL_MSG_GOSSIP, NULL), NULL), "ok:");
        assert_string_equal(netsim_inject(s, 0, message(one, rounds[i], "models_aggregated", PFL_MSG_GOSSIP, LIST(evil)), NULL),
                            "ok:");
    }
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    netsim_check_equal(s, 3);
    netsim_free(s);
}

/* A stranger pushes an aggregate that no member vouches for: to a node that waits for one, and to one that trains. */
static void an_aggregate_that_no_member_announced__is_not_adopted(void **state)
{
    (void)state;
    struct netsim *s = network(4, 6);
    netsim_learn(s, 0, 3, 1, 1);
    unsigned waiting = 4;
    for (unsigned i = 0; i < 4 && waiting == 4; i++) {
        if (netsim_run_to_stage(s, i, "waiting", 2 * PFL_SEC))
            waiting = i;
    }
    assert_true(waiting < 4);
    unsigned other = (waiting + 1) % 4;
    for (unsigned to = 0; to < 4; to++) {
        struct pfl_msg *ready = message(evil, 0, "models_ready", PFL_MSG_GOSSIP, NULL);
        PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = netsim_payload(s, 999.0F);
        ready->has_model_digest = true;
        memcpy(ready->model_digest, p->digest, PFL_DIGEST_LEN);
        assert_string_equal(netsim_inject(s, to, ready, NULL), "ok:");
        (void)weights(s, to, evil, 0, "add_model", NULL, 1, true);
        (void)weights(s, to, netsim_addr(s, other), 0, "add_model", NULL, 1, true);
    }
    assert_int_equal(netsim_count(s, waiting, PFL_NOTE_ADOPTED), 0);
    netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
    netsim_check_equal(s, 3);
    netsim_free(s);
}

/* The member with the lowest address says afterwards that it has another one. */
static void another_result__that_nobody_computed__is_not_adopted(void **state)
{
    (void)state;
    struct netsim *s = network(3, 6);
    netsim_learn(s, 0, 1, 1, 3);
    netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
    struct pfl_msg *ready = message(netsim_addr(s, 0), 0, "models_ready", PFL_MSG_GOSSIP, NULL);
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = netsim_payload(s, 999.0F);
    ready->has_model_digest = true;
    memcpy(ready->model_digest, p->digest, PFL_DIGEST_LEN);
    assert_string_equal(netsim_inject(s, 2, ready, NULL), "ok:");
    (void)weights(s, 2, netsim_addr(s, 0), 0, "add_model", NULL, 1, true);
    assert_int_equal(netsim_count(s, 2, PFL_NOTE_ADOPTED), 0);
    netsim_free(s);
}

/* It says so before anybody computed anything, and hands it out: to members that train, and to one that waits. */
static void a_false_result__of_the_lowest_member__is_outvoted_and_its_author_named(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct netsim *s = network(5, 60 + seed);
        netsim_learn(s, 0, 3, 1, 4);
        assert_true(netsim_run_to_stage(s, 0, "training", 30 * PFL_SEC) || netsim_run_to_stage(s, 1, "training", 30 * PFL_SEC));
        const struct pfl_strs *set = &netsim_note(s, 0, PFL_NOTE_TRAIN_SET, NULL)->list;
        const char *lowest = set->items[0];
        for (size_t i = 1; i < set->n; i++)
            lowest = strcmp(set->items[i], lowest) < 0 ? set->items[i] : lowest;
        PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = netsim_payload(s, 999.0F);
        for (unsigned to = 0; to < 5; to++) {
            if (strcmp(netsim_addr(s, to), lowest) == 0)
                continue;
            struct pfl_msg *ready = message(lowest, 0, "models_ready", PFL_MSG_GOSSIP, NULL);
            ready->has_model_digest = ready->computed = true;
            memcpy(ready->model_digest, p->digest, PFL_DIGEST_LEN);
            assert_string_equal(netsim_inject(s, to, ready, NULL), "ok:");
            (void)weights(s, to, lowest, 0, "add_model", NULL, 1, true);
        }
        netsim_run_to_end(s, netsim_now(s) + 120 * PFL_SEC);
        netsim_check_equal(s, 3);
        for (unsigned to = 0; to < 5; to++) {
            const struct pfl_note *adopted;
            for (unsigned k = 0; (adopted = netsim_note_at(s, to, PFL_NOTE_ADOPTED, k)); k++)
                assert_memory_not_equal(adopted->digest, p->digest, PFL_DIGEST_LEN);
            const struct pfl_note *named = netsim_note(s, to, PFL_NOTE_WARNING, lowest);
            if (strcmp(netsim_addr(s, to), lowest) != 0)
                assert_true(named && strstr(named->text, "that is not the common one, which 3 of 4 members computed"));
        }
        netsim_free(s);
    }
}

static void votes_for_names_that_nobody_knows__elect_nobody(void **state)
{
    (void)state;
    struct netsim *s = network(3, 7);
    netsim_learn(s, 0, 2, 1, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct pfl_msg *m = message(netsim_addr(s, 2), 1, "vote_train_set", PFL_MSG_GOSSIP,
                                    LIST("10.9.9.9:1", "1000", "10.9.9.8:1", "1000", netsim_addr(s, 0), "3"));
        if (i != 2)
            (void)netsim_inject(s, i, m, NULL);
        else
            pfl_msg_unref(m);
    }
    netsim_run_to_end(s, netsim_now(s) + 60 * PFL_SEC);
    for (unsigned i = 0; i < 3; i++)
        assert_false(pfl_strs_has(&netsim_note(s, i, PFL_NOTE_TRAIN_SET, NULL)->list, "10.9.9.9:1"));
    netsim_free(s);
}

static void a_second_start__is_ignored_with_a_warning(void **state)
{
    (void)state;
    struct netsim *s = in_training(8);
    assert_string_equal(
        netsim_inject(s, 0, message(netsim_addr(s, 1), -1, "start_learning", PFL_MSG_GOSSIP, LIST("9", "9", "1", "other")), NULL),
        "ok:");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_WARNING), 1);
    netsim_learn(s, 2, 5, 1, 1);
    assert_string_equal(netsim_last_answer(s), "this node is learning already; stop that first");
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    netsim_check_equal(s, 3);
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_LEARNING_STARTED), 1);
    netsim_free(s);
}

static void wrong_learn_commands__are_answered(void **state)
{
    (void)state;
    struct netsim *s = network(2, 9);
    static const struct {
        unsigned rounds, epochs, size;
        const char *answer;
    } rows[] = {
        {0, 1, 1, "rounds: 1 to 1000000 are possible"},         {1000001, 1, 1, "rounds: 1 to 1000000 are possible"},
        {1, 10001, 1, "epochs: 0 to 10000 are possible"},       {1, 1, 0, "train-set size: 1 to 4096 are possible"},
        {1, 1, 4097, "train-set size: 1 to 4096 are possible"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        netsim_learn(s, 0, rows[i].rounds, rows[i].epochs, rows[i].size);
        assert_string_equal(netsim_last_answer(s), rows[i].answer);
    }
    netsim_stop(s, 0);
    assert_string_equal(netsim_last_answer(s), "this node is not learning");
    assert_int_equal(netsim_count(s, 0, PFL_NOTE_LEARNING_STARTED), 0);
    netsim_free(s);
}

static void stop__reaches_everybody_and_leaves_them_ready(void **state)
{
    (void)state;
    struct netsim *s = in_training(10);
    netsim_stop(s, 2);
    assert_string_equal(netsim_last_answer(s), "");
    netsim_run_to_end(s, netsim_now(s) + PFL_SEC);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(netsim_count(s, i, PFL_NOTE_LEARNING_STOPPED), 1);
        struct pfl_snapshot snap;
        pfl_node_snapshot(netsim_node(s, i), &snap);
        assert_string_equal(snap.stage, "idle");
        assert_false(snap.learning);
        assert_null(snap.waiting_for);
        pfl_snapshot_deinit(&snap);
    }
    netsim_learn(s, 1, 2, 1, 4);
    netsim_run_to_end(s, netsim_now(s) + 30 * PFL_SEC);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(netsim_count(s, i, PFL_NOTE_LEARNING_FINISHED), 1);
    netsim_free(s);
}

/* start_learning came, the model does not. */
static void no_initial_model__ends_at_the_deadline(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 1, .seed = 11});
    assert_string_equal(netsim_inject(s, 0, message(evil, -1, "start_learning", PFL_MSG_GOSSIP, LIST("2", "1", "1", "x-1")), NULL),
                        "ok:");
    struct pfl_snapshot snap;
    pfl_node_snapshot(netsim_node(s, 0), &snap);
    assert_string_equal(snap.stage, "starting");
    assert_string_equal(snap.waiting_for, "the initial model");
    assert_int_equal(snap.waiting_until, netsim_now(s) + 300 * PFL_SEC);
    pfl_snapshot_deinit(&snap);
    netsim_run_to_end(s, netsim_now(s) + 301 * PFL_SEC);
    assert_string_equal(netsim_note(s, 0, PFL_NOTE_LEARNING_STOPPED, NULL)->text, "no initial model came within 300 s");
    netsim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_messages__are_answered_with_the_reason_and_noted),
        cmocka_unit_test(a_flood_of_bad_messages__gives_few_notes),
        cmocka_unit_test(wrong_contributions__are_refused_and_change_nothing),
        cmocka_unit_test(counted_contributions__again_or_in_part),
        cmocka_unit_test(wrong_rounds__have_no_effect),
        cmocka_unit_test(an_aggregate_that_no_member_announced__is_not_adopted),
        cmocka_unit_test(another_result__that_nobody_computed__is_not_adopted),
        cmocka_unit_test(a_false_result__of_the_lowest_member__is_outvoted_and_its_author_named),
        cmocka_unit_test(votes_for_names_that_nobody_knows__elect_nobody),
        cmocka_unit_test(a_second_start__is_ignored_with_a_warning),
        cmocka_unit_test(wrong_learn_commands__are_answered),
        cmocka_unit_test(stop__reaches_everybody_and_leaves_them_ready),
        cmocka_unit_test(no_initial_model__ends_at_the_deadline),
    };
    return cmocka_run_group_tests_name("node_hostile", tests, NULL, NULL);
}
