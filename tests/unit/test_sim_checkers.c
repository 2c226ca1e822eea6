/* SPDX-License-Identifier: Apache-2.0 */
/* Checkers that cannot fail are worth nothing: for each one a fault is planted in a wrapper around the node, and it is found. The
 * same runs without the fault are clean. */
/* link: base node sim */
/* timeout: 180 */
#include <limits.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim.h"

enum { N = 6, VICTIM = 2 };

struct plant {
    const char *checker;
    bool (*before)(void *user, unsigned node, struct pfl_event *ev);
    void (*after)(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out);
    pfl_ns (*deadline)(void *user, unsigned node, pfl_ns at);
    bool partition, restart, liar;
    /* state of a running one */
    struct pfl_payload *fork;
    struct pfl_scatter *body;
    int64_t hash;
    void *leak;
    uint8_t lie[PFL_DIGEST_LEN];
    bool learning;
};

static struct pfl_action *append(struct pfl_actions *out)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->items = realloc(out->items, out->cap * sizeof(*out->items));
        assert_non_null(out->items);
    }
    struct pfl_action *a = &out->items[out->n++];
    *a = (struct pfl_action){0};
    return a;
}

static void append_note(struct pfl_actions *out, const struct pfl_note *from)
{
    struct pfl_note *note = calloc(1, sizeof(*note));
    assert_non_null(note);
    *note = *from;
    note->addr = from->addr ? pfl_xstrdup(from->addr) : NULL;
    note->text = from->text ? pfl_xstrdup(from->text) : NULL;
    note->list = (struct pfl_strs){0};
    pfl_strs_copy(&note->list, &from->list);
    struct pfl_action *a = append(out);
    a->kind = PFL_ACT_NOTE;
    a->note = note;
}

static struct pfl_note *find_note(struct pfl_actions *out, enum pfl_note_kind kind)
{
    for (size_t i = 0; i < out->n; i++) {
        if (out->items[i].kind == PFL_ACT_NOTE && out->items[i].note->kind == kind)
            return out->items[i].note;
    }
    return NULL;
}

/* ---- plants ---- */

static void round_twice(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    const struct pfl_note *note = find_note(out, PFL_NOTE_ROUND_STARTED);
    (void)user;
    (void)ev;
    if (node == VICTIM && note && note->round == 1)
        append_note(out, note);
}

static void aggregate_twice(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    const struct pfl_note *note = find_note(out, PFL_NOTE_AGGREGATED);
    (void)user;
    (void)ev;
    (void)node;
    if (note)
        append_note(out, note);
}

static void counts_one_twice(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    struct pfl_note *note = find_note(out, PFL_NOTE_AGGREGATED);
    (void)user;
    (void)ev;
    (void)node;
    if (note)
        pfl_strs_add(&note->list, note->list.items[0]);
}

static void weighs_too_much(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    struct pfl_note *note = find_note(out, PFL_NOTE_AGGREGATED);
    (void)user;
    (void)ev;
    (void)node;
    if (note)
        note->n_samples++;
}

/* A node that does not know any more what it has seen passes a message on again. */
static void forgets_what_it_saw(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    struct plant *p = user;
    if (node != VICTIM || ev->kind != PFL_EV_MESSAGE || ev->msg->kind != PFL_MSG_GOSSIP)
        return;
    if (p->body && ev->msg->hash == p->hash) {
        struct pfl_action *a = append(out);
        *a = (struct pfl_action){
            .kind = PFL_ACT_SEND, .addr = pfl_xstrdup("10.0.0.4:6666"), .id = UINT64_C(1) << 60, .timeout = PFL_SEC};
        a->body = pfl_scatter_ref(p->body);
        return;
    }
    for (size_t i = 0; !p->body && i < out->n; i++) {
        if (out->items[i].kind == PFL_ACT_SEND && strcmp(ev->msg->cmd, "vote_train_set") == 0) {
            p->body = pfl_scatter_ref(out->items[i].body);
            p->hash = ev->msg->hash;
        }
    }
}

static void answers_twice(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    (void)user;
    (void)ev;
    for (size_t i = 0; node == VICTIM && i < out->n; i++) {
        if (out->items[i].kind == PFL_ACT_REPLY) {
            uint64_t call = out->items[i].call;
            struct pfl_action *a = append(out);
            a->kind = PFL_ACT_REPLY;
            a->call = call;
            return;
        }
    }
}

static bool drops_ticks(void *user, unsigned node, struct pfl_event *ev)
{
    (void)user;
    return node != VICTIM || ev->kind != PFL_EV_TICK;
}

static void floods(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    const struct pfl_note *note = find_note(out, PFL_NOTE_STAGE);
    (void)user;
    (void)ev;
    for (unsigned i = 0; node == VICTIM && note && i < 3000; i++)
        append_note(out, find_note(out, PFL_NOTE_STAGE));
}

enum { LEAK = 60 << 20, PIECE = 60 << 10 };

static bool leaks(void *user, unsigned node, struct pfl_event *ev)
{
    struct plant *p = user;
    (void)node;
    if (p->leak || ev->kind != PFL_EV_JOB)
        return true;
    void **pieces = calloc(LEAK / PIECE + 1, sizeof(*pieces));
    assert_non_null(pieces);
    for (size_t i = 0; i < LEAK / PIECE; i++)
        pieces[i] = malloc(PIECE);
    p->leak = pieces;
    return true;
}

/* In one piece, which malloc maps by itself. */
static bool leaks_at_once(void *user, unsigned node, struct pfl_event *ev)
{
    struct plant *p = user;
    (void)node;
    if (p->leak || ev->kind != PFL_EV_JOB)
        return true;
    void **pieces = calloc(2, sizeof(*pieces));
    assert_non_null(pieces);
    pieces[0] = malloc(LEAK);
    p->leak = pieces;
    return true;
}

static void sends_garbage(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    (void)user;
    (void)ev;
    for (size_t i = 0; node == VICTIM && i < out->n; i++) {
        if (out->items[i].kind == PFL_ACT_SEND) {
            pfl_scatter_unref(out->items[i].body);
            out->items[i].body = pfl_scatter_of("\xff\xff\xff", 3);
        }
    }
}

/* A node that hangs: it hears nothing any more and asks for nothing. */
static bool hears_nothing(void *user, unsigned node, struct pfl_event *ev)
{
    struct plant *p = user;
    p->learning = p->learning || ev->kind == PFL_EV_JOB;
    return node != VICTIM || !p->learning;
}

static pfl_ns never(void *user, unsigned node, pfl_ns at)
{
    const struct plant *p = user;
    return node == VICTIM && p->learning ? PFL_NEVER : at;
}

static void stops_silently(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    struct pfl_note *note = find_note(out, PFL_NOTE_LEARNING_FINISHED);
    (void)user;
    (void)ev;
    if (node == VICTIM && note)
        note->kind = PFL_NOTE_LEARNING_STOPPED;
}

static bool misses_the_start(void *user, unsigned node, struct pfl_event *ev)
{
    static const char *const unheard[] = {"start_learning", "state"};
    (void)user;
    for (size_t i = 0; node == VICTIM && ev->kind == PFL_EV_MESSAGE && i < PFL_ARRAY_LEN(unheard); i++) {
        if (strcmp(ev->msg->cmd, unheard[i]) == 0)
            return false;
    }
    return true;
}

/* Its aggregate is another one than everybody's, and it takes nobody else's. */
static bool forks(struct plant *p, unsigned node, struct pfl_event *ev, int32_t round)
{
    bool add = ev->kind == PFL_EV_MESSAGE && strcmp(ev->msg->cmd, "add_model") == 0;
    if (node != VICTIM)
        return true;
    if (add && ev->msg->round == round)
        return false;
    if (ev->kind == PFL_EV_JOB && ev->payload && ev->n_samples == 0 && !p->fork) { /* an aggregate */
        struct pfl_model *m = pfl_model_copy(ev->payload->model);
        assert_non_null(m);
        ((float *)(void *)pfl_model_data_mut(m))[0] += 0.25F;
        assert_int_equal(pfl_payload_new(m, &p->fork, NULL), PFL_OK);
        pfl_model_unref(m);
        memset(p->fork->digest, 0xab, sizeof(p->fork->digest));
        p->fork->has_digest = true;
        ev->payload = p->fork;
    }
    return true;
}

static bool forks_first(void *user, unsigned node, struct pfl_event *ev)
{
    return forks(user, node, ev, 0);
}

static bool forks_last(void *user, unsigned node, struct pfl_event *ev)
{
    struct plant *p = user;
    return !p->learning || forks(p, node, ev, 2);
}

static void until_the_last_round(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    struct plant *p = user;
    const struct pfl_note *note = find_note(out, PFL_NOTE_ROUND_STARTED);
    (void)ev;
    p->learning = p->learning || (node == VICTIM && note && note->round == 2);
}

/* A node that takes what the liar says; the liar's name is the lowest address but one. */
static bool hears_the_liar(void *user, unsigned node, struct pfl_event *ev)
{
    struct plant *p = user;
    bool said = ev->kind == PFL_EV_MESSAGE && ev->msg->computed && strcmp(ev->msg->source, "10.0.0.2:6666") == 0;
    if (node == VICTIM && said)
        memcpy(p->lie, ev->msg->model_digest, sizeof(p->lie));
    return true;
}

static void believes_the_liar(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    const struct plant *p = user;
    static const uint8_t nothing[PFL_DIGEST_LEN];
    (void)ev;
    for (size_t i = 0; node == VICTIM && i < out->n && memcmp(p->lie, nothing, sizeof(nothing)) != 0; i++) {
        struct pfl_note *note = out->items[i].kind == PFL_ACT_NOTE ? out->items[i].note : NULL;
        if (note && (note->kind == PFL_NOTE_ROUND_FINISHED || note->kind == PFL_NOTE_ADOPTED))
            memcpy(note->digest, p->lie, sizeof(p->lie));
    }
}

static void never_dials(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    struct plant *p = user;
    (void)node;
    p->learning = p->learning || ev->kind == PFL_EV_JOB;
    for (size_t i = 0; p->learning && i < out->n; i++) {
        if (out->items[i].kind == PFL_ACT_OPEN) {
            free(out->items[i].addr);
            out->items[i].addr = pfl_xstrdup("10.9.9.9:6666");
        }
    }
}

static void never_trains(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out)
{
    (void)user;
    (void)ev;
    (void)node;
    for (size_t i = 0; i < out->n; i++) {
        if (out->items[i].kind == PFL_ACT_FIT)
            out->items[i].epochs = 0;
    }
}

static struct pfl_durable *found_on_disk(unsigned node, const struct pfl_event *ev)
{
    bool learns = node == VICTIM && ev->kind == PFL_EV_RESTORE && ev->durable->learning;
    return learns ? (struct pfl_durable *)(uintptr_t)ev->durable : NULL;
}

/* Its disk held an older state than it said. */
static bool loses_a_round(void *user, unsigned node, struct pfl_event *ev)
{
    struct pfl_durable *d = found_on_disk(node, ev);
    (void)user;
    if (d) {
        assert_true(d->rounds_done > 0);
        d->rounds_done--;
        d->round = (int32_t)d->rounds_done;
        d->voted = d->contributed = -1;
    }
    return true;
}

static bool votes_otherwise(void *user, unsigned node, struct pfl_event *ev)
{
    struct pfl_durable *d = found_on_disk(node, ev);
    (void)user;
    if (d) {
        assert_true(d->voted == d->round && d->ballot.n > 1);
        free(d->ballot.items[1]);
        d->ballot.items[1] = pfl_xstrdup("7");
    }
    return true;
}

/* ---- the runs ---- */

static struct pfl_sim_result run(const struct plant *with, bool planted)
{
    struct plant p = *with;
    struct pfl_sim_scenario sc;
    struct pfl_sim_result r;
    struct pfl_sim *s = NULL;
    struct pfl_err err = {0};
    pfl_sim_scenario_default(&sc);
    sc.n = N;
    sc.seed = 5;
    sc.trainset_size = N;
    sc.settings.vote_timeout = 5 * PFL_SEC;
    sc.settings.aggregation_timeout = 10 * PFL_SEC;
    sc.settings.late_join = strcmp(p.checker, "started") != 0; /* it would find out from its neighbours */
    for (unsigned i = 0; i < N; i++)
        pfl_sim_scenario_link(&sc, i, (i + 1) % N);
    pfl_sim_scenario_link(&sc, 0, 3);
    if (p.partition) {
        struct pfl_sim_fault *f = pfl_sim_scenario_fault(&sc, PFL_SIM_PARTITION, PFL_SEC, 12 * PFL_SEC);
        f->nodes = calloc(2, sizeof(*f->nodes));
        f->nodes[0] = 1;
        f->nodes[1] = 2;
        f->n_nodes = 2;
    }
    if (p.restart) {
        struct pfl_sim_fault *f = pfl_sim_scenario_fault(&sc, PFL_SIM_RESTART, 3 * PFL_SEC, 4 * PFL_SEC);
        f->node = VICTIM;
        f->disk = true;
        sc.rounds = 8;
    }
    if (p.liar) {
        struct pfl_sim_fault *f = pfl_sim_scenario_fault(&sc, PFL_SIM_BYZANTINE, 0, PFL_NEVER);
        f->node = 1;
        f->lie = PFL_SIM_LIE_FALSE_RESULT;
    }
    struct pfl_sim_opts o = {.scenario = &sc, .user = &p};
    if (planted) {
        o.before = p.before;
        o.after = p.after;
        o.deadline = p.deadline;
    }
    if (pfl_sim_new(&o, &s, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_sim_run(s, &r);
    pfl_sim_free(s);
    pfl_payload_unref(p.fork);
    pfl_scatter_unref(p.body);
    for (void **piece = p.leak; piece && *piece; piece++)
        free(*piece);
    free(p.leak);
    pfl_sim_scenario_deinit(&sc);
    return r;
}

static void check(const struct plant *p)
{
    struct pfl_sim_result r = run(p, false);
    assert_string_equal(r.failure, "");
    r = run(p, true);
    if (!r.failed || strcmp(r.checker, p->checker) != 0)
        fail_msg("'%s' is expected, got '%s': %s", p->checker, r.checker, r.failure);
    assert_true(r.failure[0] != '\0');
}

#define PLANT(name, ...)                                                                                                           \
    static void test_planted__##name##__found(void **state)                                                                        \
    {                                                                                                                              \
        (void)state;                                                                                                               \
        check(&(struct plant){__VA_ARGS__});                                                                                       \
    }
PLANT(round_twice, .checker = "rounds", .after = round_twice)
PLANT(aggregate_twice, .checker = "aggregate", .after = aggregate_twice)
PLANT(counts_one_twice, .checker = "counted", .after = counts_one_twice)
PLANT(weighs_too_much, .checker = "counted", .after = weighs_too_much)
PLANT(processes_twice, .checker = "twice", .after = forgets_what_it_saw)
PLANT(answers_twice, .checker = "answer", .after = answers_twice)
PLANT(spins, .checker = "spin", .before = drops_ticks)
PLANT(floods, .checker = "limits", .after = floods)
PLANT(sends_garbage, .checker = "codec", .after = sends_garbage)
PLANT(hangs, .checker = "deadline", .before = hears_nothing, .deadline = never)
PLANT(stops_silently, .checker = "reason", .after = stops_silently)
PLANT(misses_the_start, .checker = "started", .before = misses_the_start)
PLANT(forks_at_the_end, .checker = "one-model", .before = forks_last, .after = until_the_last_round)
PLANT(forks_on_the_way, .checker = "one-result", .before = forks_first)
PLANT(stays_apart, .checker = "converged", .after = never_dials, .partition = true)
PLANT(never_trains, .checker = "learning", .after = never_trains)
PLANT(loses_a_round, .checker = "kept", .before = loses_a_round, .restart = true)
PLANT(votes_otherwise, .checker = "contradicts", .before = votes_otherwise, .restart = true)

PLANT(believes_a_liar, .checker = "false-result", .before = hears_the_liar, .after = believes_the_liar, .liar = true)

static void test_planted__leaks__found(void **state)
{
    (void)state;
    if (mallinfo2().uordblks == 0)
        skip(); /* the sanitizers' allocator does not count */
    check(&(struct plant){.checker = "limits", .before = leaks});
    check(&(struct plant){.checker = "limits", .before = leaks_at_once});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted__round_twice__found),
        cmocka_unit_test(test_planted__aggregate_twice__found),
        cmocka_unit_test(test_planted__counts_one_twice__found),
        cmocka_unit_test(test_planted__weighs_too_much__found),
        cmocka_unit_test(test_planted__processes_twice__found),
        cmocka_unit_test(test_planted__answers_twice__found),
        cmocka_unit_test(test_planted__spins__found),
        cmocka_unit_test(test_planted__floods__found),
        cmocka_unit_test(test_planted__leaks__found),
        cmocka_unit_test(test_planted__sends_garbage__found),
        cmocka_unit_test(test_planted__hangs__found),
        cmocka_unit_test(test_planted__stops_silently__found),
        cmocka_unit_test(test_planted__misses_the_start__found),
        cmocka_unit_test(test_planted__forks_at_the_end__found),
        cmocka_unit_test(test_planted__forks_on_the_way__found),
        cmocka_unit_test(test_planted__stays_apart__found),
        cmocka_unit_test(test_planted__never_trains__found),
        cmocka_unit_test(test_planted__loses_a_round__found),
        cmocka_unit_test(test_planted__votes_otherwise__found),
        cmocka_unit_test(test_planted__believes_a_liar__found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
