/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: signed_node */
/* A node is out, so its ballot is void, or a ballot comes late: what that changes in a round that nobody has ended, that others
 * have, that this node has, and that is settled. And whose word is not taken for who trained in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/core.h"
#include "support/signed_node.h"

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define D         "10.0.0.5:1"
static const char *const none[] = {NULL};

/* Takes m; signed by whoever its source is. */
static const char *say(struct world *w, struct pfl_msg *m)
{
    static char name[] = "spiffe://lab/node/x";
    const struct pfl_signer signer = {.id = name, .may = PFL_MAY_TRAIN | PFL_MAY_START};
    struct pfl_event ev = {.msg = m, .signer = &signer, .payload = m->kind == PFL_MSG_WEIGHTS ? w->payload : NULL};
    m->origin = m->origin ? m->origin : pfl_origin_new("x-1", epoch / PFL_MS);
    return deliver(w, &ev);
}

static struct pfl_msg *gossip(const char *source, int32_t round, const char *cmd, const char *const *args)
{
    static int64_t hash = 1;
    struct pfl_msg *m = pfl_msg_new(source, round, cmd, PFL_MSG_GOSSIP);
    m->hash = hash++;
    for (; *args; args++)
        pfl_strs_add(&m->args, *args);
    return m;
}

static struct pfl_msg *weights(const char *source, int32_t round, const char *cmd)
{
    struct pfl_msg *m = pfl_msg_new(source, round, cmd, PFL_MSG_WEIGHTS);
    m->codec = pfl_xstrdup("safetensors");
    m->has_digest = true;
    m->num_samples = 1;
    return m;
}

static struct pfl_msg *computed(const char *source, uint8_t digest)
{
    struct pfl_msg *m = gossip(source, 0, "models_ready", none);
    m->has_model_digest = m->computed = true;
    memset(m->model_digest, digest, sizeof(m->model_digest));
    return m;
}

static void own_ballot(struct world *w, int32_t round)
{
    struct pfl_round *r = pfl_core_round(w->node, round);
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs args = {0};
    pfl_strs_add(&args, B);
    pfl_strs_add(&args, "1000");
    assert_int_equal(pfl_round_set_ballot(r, pfl_round_get(r, ME), &args, NULL), PFL_OK);
}

static void vote(struct world *w, int32_t round)
{
    own_ballot(w, round);
    assert_string_equal(say(w, gossip(A, round, "vote_train_set", LIST(A, "1000"))), "");
    assert_string_equal(say(w, gossip(B, round, "vote_train_set", LIST(B, "1000", C, "100"))), "");
    assert_string_equal(say(w, gossip(C, round, "vote_train_set", LIST(B, "1000", C, "100"))), "");
}

/* Four nodes, two of which train; a and b by all ballots, b and c without a's. This one waits for round 0's result. */
static struct world *waiting(void)
{
    struct world *w = world_new(false);
    assert_string_equal(say(w, gossip(B, -1, "start_learning", LIST("3", "1", "2", "x-1"))), "");
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(say(w, gossip(LIST(A, B, C)[i], -1, "model_initialized", none)), "");
    assert_string_equal(say(w, weights(B, 0, "init_model")), "");
    assert_int_equal(w->node->stage, PFL_STAGE_VOTING);
    vote(w, 0);
    assert_int_equal(w->node->stage, PFL_STAGE_WAITING);
    return w;
}

static void assert_names(const struct pfl_strs *names, const char *const *expected)
{
    size_t n = 0;
    for (; expected[n]; n++)
        assert_true(n < names->n && strcmp(names->items[n], expected[n]) == 0);
    assert_int_equal(names->n, n);
}

/* It has voted otherwise, too. */
static void void_ballot_of(struct world *w, const char *addr)
{
    (void)say(w, gossip(addr, 0, "vote_train_set", LIST(A, "999")));
    assert_int_equal(count(w, PFL_ACT_NOTE, PFL_NOTE_EXCLUDED), 1);
}

static void void_ballot(struct world *w)
{
    void_ballot_of(w, A);
}

/* b computed what everybody takes here, and a says the same. */
static void end_round(struct world *w)
{
    assert_string_equal(say(w, computed(A, 0)), "");
    assert_string_equal(say(w, computed(B, 0)), "");
    assert_string_equal(say(w, weights(B, 0, "add_model")), "");
    assert_true(pfl_core_round(w->node, 0)->done);
    assert_int_equal(w->node->round, 1);
}

static void nobody_ended__the_others_train(void **state)
{
    (void)state;
    struct world *w = waiting();
    const struct pfl_round *r = pfl_core_round(w->node, 0);
    assert_names(&r->members, LIST(A, B));
    void_ballot(w);
    assert_names(&r->members, LIST(B, C));
    assert_int_equal(r->authors.n, 0);
    assert_int_equal(w->node->stage, PFL_STAGE_WAITING);
    world_free(w);
}

static void somebody_ended__nobody_starts_over_and_the_others_results_count(void **state)
{
    (void)state;
    struct world *w = waiting();
    struct pfl_round *r = pfl_core_round(w->node, 0);
    assert_string_equal(say(w, computed(B, 1)), "");
    assert_string_equal(say(w, computed(C, 2)), ""); /* no member: it heard of the void ballot before */
    assert_int_equal(pfl_core_canonical(w->node, r).against, 0);
    void_ballot(w);
    assert_names(&r->members, LIST(A, B));
    assert_names(&r->authors, LIST(B, C));
    assert_int_equal(pfl_core_canonical(w->node, r).computed, 1);
    assert_int_equal(pfl_core_canonical(w->node, r).against, 1);
    assert_true(pfl_round_announced_by_member(r, pfl_round_computed(r, pfl_round_find(r, C))));
    assert_int_equal(w->node->stage, PFL_STAGE_WAITING);
    world_free(w);
}

static void who_ended_it_is_out_too__the_rest_starts_over(void **state)
{
    (void)state;
    struct world *w = waiting();
    const struct pfl_round *r = pfl_core_round(w->node, 0);
    assert_string_equal(say(w, computed(B, 1)), "");
    void_ballot(w);
    assert_names(&r->authors, LIST(B, C));
    void_ballot_of(w, B);
    assert_names(&r->members, LIST(C)); /* this node's and c's ballots name b and c */
    assert_int_equal(r->authors.n, 0);
    world_free(w);
}

static void ended_here__the_others_results_count(void **state)
{
    (void)state;
    struct world *w = waiting();
    struct pfl_round *r = pfl_core_round(w->node, 0);
    end_round(w);
    assert_int_equal(pfl_core_canonical(w->node, r).computed, 2);
    void_ballot(w);
    assert_names(&r->members, LIST(A, B));
    assert_names(&r->authors, LIST(B, C));
    assert_int_equal(pfl_core_canonical(w->node, r).computed, 1); /* b's; a is out */
    assert_string_equal(say(w, computed(C, 2)), "");
    assert_int_equal(pfl_core_canonical(w->node, r).against, 1);
    world_free(w);
}

static void ended_before_a_restart__no_ballots_to_count(void **state)
{
    (void)state;
    struct world *w = waiting();
    struct pfl_round *r = pfl_core_round(w->node, 0);
    end_round(w);
    r->n_counted = 0; /* it was read from the journal, and a few ballots came again */
    void_ballot(w);
    assert_int_equal(r->authors.n, 0);
    world_free(w);
}

static bool has_ballot(const struct pfl_round *r, const char *addr)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs ballot = {0};
    pfl_round_ballot(r, pfl_round_find(r, addr), &ballot);
    return ballot.n > 0;
}

static void late_ballot(struct world *w)
{
    assert_string_equal(say(w, gossip(D, -1, "model_initialized", none)), "");
    assert_string_equal(say(w, gossip(D, 0, "vote_train_set", LIST(C, "1000"))), "");
}

static void a_late_ballot__the_same(void **state)
{
    (void)state;
    for (unsigned ended = 0; ended < 3; ended++) { /* by nobody, elsewhere, here */
        struct world *w = waiting();
        const struct pfl_round *r = pfl_core_round(w->node, 0);
        if (ended == 1)
            assert_string_equal(say(w, computed(B, 1)), "");
        if (ended == 2)
            end_round(w);
        late_ballot(w);
        assert_names(&r->members, ended ? LIST(A, B) : LIST(B, C));
        assert_names(&r->authors, ended ? LIST(B, C) : none);
        world_free(w);
    }
}

/* How a neighbour answers the question where it is: it has ended all on a model of which `digest` is the first byte. */
static void told_of_the_end(struct world *w, const char *digest, const char *members)
{
    PFL_AUTO(pfl_freep)
    char *text = pfl_xasprintf("1 3 1 2 e %s%062d x-1\n%s", digest, 0, members);
    w->node->state_id = 77;
    w->node->state_to = pfl_xstrdup(A);
    struct pfl_event ev = {.kind = PFL_EV_SENT, .id = 77, .text = text};
    step(w, &ev);
}

static void ended_alone_on_another_model__not_followed(void **state)
{
    (void)state;
    static const struct {
        const char *digest, *members;
        bool followed;
    } rows[] = {{"01", A, false}, {"00", A, true}, {"01", A "\n" B, true}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct world *w = waiting();
        end_round(w); /* two have computed its result */
        told_of_the_end(w, rows[i].digest, rows[i].members);
        assert_int_equal(w->node->stage, rows[i].followed ? PFL_STAGE_WAITING : PFL_STAGE_VOTING);
        assert_int_equal(pfl_core_round(w->node, 1)->given, rows[i].followed);
        world_free(w);
    }
}

static void who_is_out__is_not_followed(void **state)
{
    (void)state;
    struct world *w = waiting();
    end_round(w);
    void_ballot(w);
    told_of_the_end(w, "00", A);
    assert_int_equal(w->node->stage, PFL_STAGE_VOTING);
    assert_false(pfl_core_round(w->node, 1)->given);
    world_free(w);
}

static void found_out_before_the_start__out_in_that_experiment(void **state)
{
    (void)state;
    for (unsigned other = 0; other < 2; other++) {
        const char *name = other ? "x-2" : "x-1";
        struct world *w = world_new(false);
        assert_string_equal(say(w, gossip(B, -1, "beat", LIST("1.0"))), "");
        assert_string_equal(say(w, gossip(B, 0, "vote_train_set", LIST(B, "1000"))), "");
        assert_string_equal(say(w, gossip(A, -1, "beat", LIST("1.0"))), "");
        assert_string_equal(say(w, gossip(A, 0, "vote_train_set", LIST(A, "1000"))), "");
        void_ballot(w);
        struct pfl_msg *m = gossip(B, -1, "start_learning", LIST("3", "1", "2", name));
        m->origin = pfl_origin_new(name, epoch / PFL_MS);
        assert_string_equal(say(w, m), "");
        assert_true(pfl_node_is_learning(w->node));
        const struct pfl_round_peer *row = pfl_round_find(pfl_core_round(w->node, 0), A);
        assert_false(row && row->voted);
        assert_int_equal(pfl_core_excluded(w->node, A), !other);
        assert_int_equal(pfl_neighbours_find(&w->node->peers, A)->takes_part, other);
        world_free(w);
    }
}

static void settled__nothing_changes_any_more(void **state)
{
    (void)state;
    struct world *w = waiting();
    struct pfl_round *r = pfl_core_round(w->node, 0);
    end_round(w);
    assert_string_equal(say(w, computed(C, 0)), "");
    vote(w, 1);
    assert_true(r->settled);
    assert_false(has_ballot(r, B)); /* they were needed until then */
    assert_string_equal(say(w, gossip(D, -1, "model_initialized", none)), "");
    assert_string_equal(say(w, gossip(D, 0, "vote_train_set", LIST(D, "1000"))), ""); /* nor for late ones */
    assert_true(pfl_round_find(r, D)->voted && !has_ballot(r, D));
    void_ballot(w);
    assert_int_equal(r->authors.n, 0);
    assert_names(&pfl_core_round(w->node, 1)->members, LIST(B, C));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_ended__the_others_train),
        cmocka_unit_test(somebody_ended__nobody_starts_over_and_the_others_results_count),
        cmocka_unit_test(who_ended_it_is_out_too__the_rest_starts_over),
        cmocka_unit_test(ended_here__the_others_results_count),
        cmocka_unit_test(ended_before_a_restart__no_ballots_to_count),
        cmocka_unit_test(a_late_ballot__the_same),
        cmocka_unit_test(ended_alone_on_another_model__not_followed),
        cmocka_unit_test(who_is_out__is_not_followed),
        cmocka_unit_test(found_out_before_the_start__out_in_that_experiment),
        cmocka_unit_test(settled__nothing_changes_any_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
