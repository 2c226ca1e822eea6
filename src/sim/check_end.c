/* SPDX-License-Identifier: Apache-2.0 */
/* The checkers that look around from time to time, and at the end. See check.h. */
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/check.h"
#include "sim/impl.h"

static const pfl_ns deadline_slack = 2 * PFL_SEC; /* of the node's clock: a tick may be late by one pause of ours */

/* ---- from time to time ---- */

static void check_wait(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_snapshot snap;
    pfl_node_snapshot(x->core, &snap);
    bool jobs = x->jobs > 0;
    if (snap.learning && !snap.waiting_for)
        pfl_sim_fail(s, "deadline", i, "is in stage %s of round %d and does not say what it waits for", snap.stage, snap.round);
    if (snap.learning && snap.waiting_until == PFL_NEVER && !jobs)
        pfl_sim_fail(s, "deadline", i, "stage %s of round %d: waits for %s without an end", snap.stage, snap.round,
                     snap.waiting_for ? snap.waiting_for : "nothing");
    if (snap.learning && snap.waiting_until != PFL_NEVER && snap.waiting_until + deadline_slack < pfl_sim_mono(s, i))
        pfl_sim_fail(s, "deadline", i, "stage %s of round %d: the wait for %s was over %.1f s ago", snap.stage, snap.round,
                     snap.waiting_for ? snap.waiting_for : "nothing", (double)(pfl_sim_mono(s, i) - snap.waiting_until) / 1e9);
    pfl_snapshot_deinit(&snap);
}

/* Large blocks count too: whether they are mapped by themselves depends on what was freed before. But not those of a learner that
 * is not ours, whose memory is its own affair. */
static size_t allocated(const struct pfl_sim *s)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + (s->o.learner ? 0 : m.hblkhd);
}

void pfl_sim_check_memory_from(struct pfl_sim *s)
{
    s->checks.memory_start = allocated(s);
}

/* All that was allocated since there were learners and no nodes yet: cores, models, messages under way, the queue. */
static void check_memory(struct pfl_sim *s)
{
    size_t now = allocated(s), start = s->checks.memory_start;
    size_t models = 64 * s->layout->bytes; /* a node holds a few rounds' worth of contributions */
    size_t most = s->n * (((size_t)2 << 20) + (size_t)8192 * s->n + models);
    if (s->learning && now > start && now - start > most)
        pfl_sim_fail(s, "limits", UINT_MAX, "%zu bytes more than before there were nodes, %zu are expected at most", now - start,
                     most);
}

void pfl_sim_check_probe(struct pfl_sim *s)
{
    check_memory(s);
    for (unsigned i = 0; i < s->n && !pfl_sim_failed(s); i++) {
        if (pfl_sim_up(s, i) && !pfl_sim_paused(s, i) && s->nodes[i].watch.running)
            check_wait(s, i);
    }
}

void pfl_sim_check_learn(struct pfl_sim *s)
{
    for (unsigned i = 0; i < s->n; i++)
        s->nodes[i].watch.was_there = pfl_sim_up(s, i) && (i == 0 || (pfl_sim_knows(s, i, 0) && pfl_sim_knows(s, 0, i)));
    s->checks.any_apart = false;
}

bool pfl_sim_all_ended(const struct pfl_sim *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct pfl_sim_watch *w = &s->nodes[i].watch;
        bool starting = w->was_there && !w->started && !w->disturbed && s->now - s->learn_at < s->sc->settings.heartbeat_timeout;
        if (pfl_sim_up(s, i) && (w->running || starting))
            return false;
    }
    return true;
}

/* ---- at the end ---- */

/* Up, honest, and in the experiment from its start: what is promised is promised to it. */
static bool counts(const struct pfl_sim *s, unsigned i)
{
    const struct pfl_sim_watch *w = &s->nodes[i].watch;
    return pfl_sim_up(s, i) && w->was_there && !w->disturbed;
}

static void check_all_ended(struct pfl_sim *s)
{
    for (unsigned i = 0; i < s->n && !pfl_sim_failed(s); i++) {
        const struct pfl_sim_watch *w = &s->nodes[i].watch;
        struct pfl_snapshot snap;
        if (!pfl_sim_up(s, i) || !w->running)
            continue;
        pfl_node_snapshot(s->nodes[i].core, &snap);
        pfl_sim_fail(s, "deadline", i, "has not ended: round %d, %s, waits for %s", snap.round, snap.stage,
                     snap.waiting_for ? snap.waiting_for : "nothing");
        pfl_snapshot_deinit(&snap);
    }
}

static void check_started(struct pfl_sim *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (counts(s, i) && !s->nodes[i].watch.started && !s->checks.any_apart)
            pfl_sim_fail(s, "started", i, "was there when the learning started, and takes no part");
    }
}

/* Nodes that left or came back while the last round was on its way: then who was with whom cannot be said. */
static bool excused(const struct pfl_sim *s)
{
    for (unsigned i = 0; i < s->n && s->checks.any_apart; i++) {
        if (counts(s, i) && s->nodes[i].watch.finished && s->nodes[i].watch.last_round_at <= s->checks.apart_at)
            return true;
    }
    return false;
}

/* A liar through whom alone a node hears of the others can keep from it what it likes, the evidence against itself too:
 * docs/SECURITY.md, "Not protected yet". *ret: for each node the number of its part of the network, in which all are joined by
 * links of honest ones. */
static void honest_parts(const struct pfl_sim *s, unsigned *ret)
{
    for (unsigned i = 0; i < s->n; i++)
        ret[i] = i;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t e = 0; e < s->sc->n_edges; e++) {
            unsigned a = s->sc->edges[e].a, b = s->sc->edges[e].b, low = ret[a] < ret[b] ? ret[a] : ret[b];
            if (s->nodes[a].lied || s->nodes[b].lied || ret[a] == ret[b])
                continue;
            ret[a] = ret[b] = low;
            changed = true;
        }
    }
}

static bool were_together(const struct pfl_sim *s, unsigned i, unsigned k)
{
    const uint8_t *a = s->nodes[i].watch.company, *b = s->nodes[k].watch.company;
    return a && b && (a[k / 8] >> k % 8 & 1) && (b[i / 8] >> i % 8 & 1);
}

static bool ended_well(const struct pfl_sim *s, unsigned i)
{
    return counts(s, i) && s->nodes[i].watch.finished;
}

static bool same_model(const struct pfl_sim *s, unsigned i, unsigned k)
{
    const struct pfl_payload *a = pfl_node_model(s->nodes[i].core), *b = pfl_node_model(s->nodes[k].core);
    return memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

static void check_pair(struct pfl_sim *s, unsigned i, unsigned k, bool excuse)
{
    struct pfl_sim_result *r = s->result;
    if (same_model(s, i, k))
        return;
    r->one_model = false;
    if (excuse || !were_together(s, i, k))
        r->excused = true;
    else
        pfl_sim_fail(s, "one-model", i, "ends with another model than %s", s->nodes[k].name);
}

static void check_one_model(struct pfl_sim *s)
{
    struct pfl_sim_result *r = s->result;
    unsigned first = UINT_MAX;
    bool excuse = excused(s);
    unsigned *part = pfl_xcalloc(s->n, sizeof(*part));
    honest_parts(s, part);
    r->one_model = true;
    for (unsigned i = 0; i < s->n; i++) {
        if (!ended_well(s, i))
            continue;
        if (first == UINT_MAX) {
            first = i;
            memcpy(r->digest, pfl_node_model(s->nodes[i].core)->digest, sizeof(r->digest));
            r->loss = s->nodes[i].watch.loss;
        }
        /* With one that has the same model as the first all is said. */
        for (unsigned k = first; k < i && !same_model(s, i, first); k++) {
            if (ended_well(s, k))
                check_pair(s, i, k, excuse || part[i] != part[k]);
        }
    }
    free(part);
}

static bool has_result(const struct pfl_sim *s, unsigned i, unsigned round)
{
    const struct pfl_sim_watch *w = &s->nodes[i].watch;
    return counts(s, i) && w->finished && w->results && w->results[round];
}

static void check_one_result(struct pfl_sim *s)
{
    unsigned *part = pfl_xcalloc(s->n, sizeof(*part));
    honest_parts(s, part);
    for (unsigned round = 0; round < s->sc->rounds && !s->checks.any_apart; round++) {
        for (unsigned i = 0; i < s->n; i++) {
            unsigned k = 0; /* the first of its part */
            while (k < i && !(part[k] == part[i] && has_result(s, k, round)))
                k++;
            if (has_result(s, i, round) && s->nodes[i].watch.results[round] != s->nodes[k].watch.results[round])
                pfl_sim_fail(s, "one-result", i, "has another result of round %u than %s", round, s->nodes[k].name);
        }
    }
    free(part);
}

/* The most honest nodes that computed one and the same result of this round. */
static unsigned most_honest(const struct pfl_sim *s, unsigned round)
{
    unsigned most = 0;
    for (unsigned i = 0; i < s->n; i++) {
        const uint64_t *mine = s->nodes[i].watch.computed;
        unsigned same = 0;
        for (unsigned k = 0; k < s->n && mine && mine[round] && counts(s, i); k++) {
            const uint64_t *its = s->nodes[k].watch.computed;
            same += its && its[round] == mine[round] && counts(s, k);
        }
        most = same > most ? same : most;
    }
    return most;
}

static void check_false_result(struct pfl_sim *s)
{
    uint64_t lie = 0;
    unsigned liars = 0;
    memcpy(&lie, s->false_result, sizeof(lie));
    for (unsigned i = 0; i < s->n; i++)
        liars += s->nodes[i].lied && s->nodes[i].lie == PFL_SIM_LIE_FALSE_RESULT;
    for (unsigned round = 0; round < s->sc->rounds && s->has_false_result && !s->checks.any_apart; round++) {
        for (unsigned i = 0; i < s->n && most_honest(s, round) > liars; i++) {
            const struct pfl_sim_watch *w = &s->nodes[i].watch;
            if (counts(s, i) && w->results && w->results[round] == lie)
                pfl_sim_fail(s, "false-result", i, "keeps a result of round %u that nobody computed, and that a liar announced",
                             round);
        }
    }
}

/* Those who can reach each other over nodes that are up: the whole network, once all faults are over. */
static void check_converged(struct pfl_sim *s)
{
    for (unsigned i = 0; i < s->n && !pfl_sim_failed(s); i++) {
        for (unsigned k = 0; k < s->n; k++) {
            bool both = i != k && pfl_sim_up(s, i) && pfl_sim_up(s, k) && !s->nodes[i].lied && !s->nodes[k].lied;
            if (both && pfl_sim_net_reaches(s->net, i, k) && pfl_sim_net_reaches(s->net, k, i) && !pfl_sim_knows(s, i, k))
                pfl_sim_fail(s, "converged", i, "does not know %s", s->nodes[k].name);
            if (i != k && !pfl_sim_up(s, k) && pfl_sim_up(s, i) && pfl_sim_knows(s, i, k))
                pfl_sim_fail(s, "converged", i, "takes %s for alive", s->nodes[k].name);
        }
    }
}

static bool nobody_lied(const struct pfl_sim *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->nodes[i].lied)
            return false;
    }
    return true;
}

/* The stand-in's vectors begin at 2 or more and its points lie in [0, 1): each fit halves the distance. */
static void check_learning(struct pfl_sim *s)
{
    const double most = 1.0;
    for (unsigned i = 0; i < s->n; i++) {
        const struct pfl_sim_watch *w = &s->nodes[i].watch;
        if (counts(s, i) && w->finished && s->sc->n_faults == 0 && s->sc->rounds >= 3 && s->sc->epochs > 0 && w->loss > most)
            pfl_sim_fail(s, "learning", i, "ends with a loss of %g", w->loss);
    }
}

static void tally(struct pfl_sim *s)
{
    struct pfl_sim_result *r = s->result;
    for (unsigned i = 0; i < s->n; i++) {
        const struct pfl_sim_watch *w = &s->nodes[i].watch;
        if (!pfl_sim_up(s, i))
            continue;
        r->finished += w->finished;
        r->stopped += w->stopped;
        r->idle += !w->started;
    }
}

void pfl_sim_check_end(struct pfl_sim *s)
{
    tally(s);
    check_all_ended(s);
    check_started(s);
    check_false_result(s);
    check_one_model(s);
    check_one_result(s);
    check_converged(s);
    if (!s->o.learner && nobody_lied(s))
        check_learning(s);
}
