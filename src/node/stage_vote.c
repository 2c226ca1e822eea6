/* SPDX-License-Identifier: Apache-2.0 */
/* VoteTrainSet. It ends when everybody who takes part has voted or is gone: then all nodes count the same ballots. The votes of
 * the dead count, because the living may learn of a death at different times. */
#include <stdlib.h>

#include "node/core.h"
#include "node/vote.h"

/* A round's models are needed until all living members have the aggregate; older ones by nobody. What was said in it: until all
 * have the same result. */
static void let_go(struct pfl_node *n, int32_t round)
{
    struct pfl_round *r = pfl_core_round(n, round);
    if (r)
        pfl_round_drop_models(r);
    if (r && r->done && pfl_core_all_in_line(n, r))
        pfl_round_close(r);
}

void pfl_core_enter_vote(struct pfl_node *n, int32_t round)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs candidates = {0}, ballot = {0};
    n->round = round;
    n->progress_at = n->now;
    n->fit_ended = false;
    let_go(n, round - 2);
    if (n->contributed != round)
        pfl_core_forget_contribution(n);
    struct pfl_round *r = pfl_core_round_get(n, round);
    pfl_core_note(n, PFL_NOTE_ROUND_STARTED, NULL);
    pfl_core_stage(n, PFL_STAGE_VOTING);
    pfl_strs_add(&candidates, n->addr);
    for (size_t i = 0; i < n->peers.n; i++) {
        const struct pfl_peer *p = n->peers.items[i];
        if (p->alive && p->takes_part && !p->lapsed && pfl_peer_from(&n->peers, p) <= round)
            pfl_strs_add(&candidates, p->addr);
    }
    pfl_strs_sort(&candidates);
    struct pfl_round_peer *me = pfl_round_get(r, n->addr);
    if (!me->voted) {       /* else: before it was started again */
        struct pfl_rng rng; /* of its own: what was gossiped before does not change a seeded run's votes */
        PFL_AUTO(pfl_freep) char *stream = pfl_xasprintf("vote %d %s", round, n->addr);
        pfl_rng_seed_named(&rng, n->set.seed, stream);
        pfl_vote_make(&rng, &candidates, n->trainset_size, &ballot);
        struct pfl_err err = {0};
        if (pfl_round_set_ballot(r, me, &ballot, &err) != PFL_OK) /* others have voted for a million names */
            pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "the own vote for round %d does not count here: %s", round, err.msg);
        pfl_round_set_voted(r, me, true);
    } else {
        pfl_round_ballot(r, me, &ballot);
    }
    pfl_core_keep(n);
    pfl_core_gossip(n, "vote_train_set", round, &ballot);
    pfl_core_look_again(n);
}

bool pfl_core_has_voted(const struct pfl_node *n, const char *addr)
{
    for (int32_t round = n->round; n->learning && round <= n->round + 1; round++) {
        const struct pfl_round *r = pfl_core_round(n, round);
        const struct pfl_round_peer *row = r ? pfl_round_find(r, addr) : NULL;
        if (row && row->voted)
            return true;
    }
    return false;
}

static bool lacks_vote(const struct pfl_node *n, const struct pfl_round *r, const struct pfl_peer *p)
{
    if (!p->alive || !p->takes_part || p->lapsed || pfl_peer_from(&n->peers, p) > r->round)
        return false;
    const struct pfl_round_peer *row = pfl_round_find(r, p->addr);
    return !row || !row->voted;
}

void pfl_core_missing_votes(const struct pfl_node *n, struct pfl_strs *ret)
{
    const struct pfl_round *r = pfl_core_round(n, n->round);
    for (size_t i = 0; r && i < n->peers.n; i++) {
        if (lacks_vote(n, r, n->peers.items[i]))
            pfl_strs_add(ret, n->peers.items[i]->addr);
    }
}

/* Asked at each vote that comes: one that is missing is answer enough, and the one that was missing last time often still is. */
static bool some_vote_missing(struct pfl_node *n, const struct pfl_round *r)
{
    for (size_t i = 0; i < n->peers.n; i++) {
        size_t at = (n->look_first + i) % n->peers.n;
        if (lacks_vote(n, r, n->peers.items[at])) {
            n->look_first = at;
            return true;
        }
    }
    return false;
}

/* Alive, or it has voted itself. Whoever died before its vote counts for nobody: every node waits until it has voted or is gone, so
 * all leave out the same names, also those who only ever heard of it from others' ballots. */
struct count_of {
    struct pfl_node *n;
    const struct pfl_round *r;
};
static bool name_counts(void *user, const char *name)
{
    const struct count_of *c = user;
    const struct pfl_round_peer *row = pfl_round_find(c->r, name);
    if (pfl_core_excluded(c->n, name))
        return false;
    return pfl_core_alive(c->n, name) || (row && row->voted);
}

static void note_lapsed(struct pfl_node *n, const struct pfl_strs *missing)
{
    for (size_t i = 0; i < missing->n; i++) {
        struct pfl_peer *p = pfl_neighbours_find(&n->peers, missing->items[i]);
        if (p)
            p->lapsed = true;
        pfl_core_note_text(n, PFL_NOTE_WARNING, missing->items[i],
                           "no vote for round %d within %.0f s; it is not waited for any more", n->round,
                           (double)n->set.vote_timeout / (double)PFL_SEC);
    }
}

/* What came before the train set was known is judged now. */
static void judge_early(struct pfl_node *n, struct pfl_round *r)
{
    bool member = pfl_round_is_member(r, n->addr);
    for (size_t i = 0; i < r->n_peers; i++) {
        struct pfl_round_peer *p = pfl_round_at(r, i);
        struct pfl_trainer *t = pfl_round_trainer_of(r, p);
        struct pfl_err err = {0};
        if (!t || !t->early.payload)
            continue;
        struct pfl_early e = t->early;
        t->early = (struct pfl_early){0};
        enum pfl_book_verdict v =
            member ? pfl_book_check(&r->book, &r->members, &e.who, (int64_t)e.n_samples, &err) : PFL_BOOK_KNOWN;
        if (v == PFL_BOOK_FITS)
            pfl_core_contribute(n, r, pfl_round_addr(p), &e.who, e.payload, e.n_samples);
        else if (v == PFL_BOOK_REFUSED)
            pfl_core_refused(n, pfl_round_addr(p), err.msg);
        pfl_early_deinit(&e);
    }
}

/* Counts what ballots there are; *ret: the train set. */
static void count(struct pfl_node *n, struct pfl_round *r, struct pfl_strs *ret)
{
    struct count_of c = {n, r};
    pfl_round_tally(r, n->trainset_size, name_counts, &c, ret);
    r->n_counted = r->n_voted;
}

static void set_train_set(struct pfl_node *n, struct pfl_round *r, const struct pfl_strs *set)
{
    pfl_strs_copy(&r->train_set, set);
    pfl_strs_copy(&r->members, set);
    pfl_strs_sort(&r->members);
    pfl_strs_deinit(&r->authors);
    for (size_t i = 0; i < set->n; i++)
        pfl_strs_add_once(&r->vouchers, set->items[i]);
    r->decided = true;
    pfl_strs_copy(&pfl_core_note(n, PFL_NOTE_TRAIN_SET, NULL)->list, &r->train_set);
}

size_t pfl_core_votes_needed(const struct pfl_node *n)
{
    double needed = n->set.vote_quorum * (double)n->voters;
    size_t whole = (size_t)needed;
    return (double)whole < needed ? whole + 1 : whole;
}

bool pfl_core_advance_vote(struct pfl_node *n)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs missing = {0};
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs set = {0};
    struct pfl_round *r = pfl_core_round(n, n->round);
    size_t needed = pfl_core_votes_needed(n);
    bool too_few = r->n_voted < needed;
    if (pfl_core_stage_until(n) > n->now && (too_few || some_vote_missing(n, r)))
        return false;
    if (too_few) {
        pfl_core_stop(
            n, "%zu votes for round %d came within %.0f s; training.vote_quorum asks for %zu (%zu voted in the round before)",
            r->n_voted, n->round, (double)n->set.vote_timeout / (double)PFL_SEC, needed, n->voters);
        return true;
    }
    pfl_core_missing_votes(n, &missing);
    note_lapsed(n, &missing);
    count(n, r, &set);
    n->voters = r->n_counted;
    set_train_set(n, r, &set);
    judge_early(n, r);
    pfl_core_after_vote(n);
    return true;
}

/* ---- ballots that come late ---- */

static bool same_names(const struct pfl_strs *a, const struct pfl_strs *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = pfl_streq(a->items[i], b->items[i]);
    return same;
}

static bool somebody_is_ready(const struct pfl_round *r)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (pfl_round_at(r, i)->ready)
            return true;
    }
    return false;
}

/* A train set that a neighbour told stands, unless it told it before our own ballot came there. */
static bool is_settled(struct pfl_node *n, const struct pfl_round *r)
{
    const struct pfl_round_peer *me = pfl_round_find(r, n->addr);
    return r->given && (!me || !me->voted || some_vote_missing(n, r));
}

/* Nobody starts over, but all have to agree whose results count, whenever they heard of a ballot, or that one is void. */
static void set_authors(struct pfl_node *n, struct pfl_round *r, const struct pfl_strs *sorted)
{
    PFL_AUTO(pfl_freep) char *names = pfl_strs_join(sorted, " ");
    pfl_strs_copy(&r->authors, sorted);
    for (size_t i = 0; i < sorted->n; i++)
        pfl_strs_add_once(&r->vouchers, sorted->items[i]);
    pfl_core_note_text(
        n, PFL_NOTE_WARNING, NULL,
        "a ballot of round %d came, or turned out to be void, after somebody ended it: the results of these count: %s", r->round,
        names);
    n->dirty = true;
}

static void set_train_set_anew(struct pfl_node *n, struct pfl_round *r, const struct pfl_strs *set)
{
    bool was_member = pfl_round_is_member(r, n->addr);
    pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "a late ballot changes the train set of round %d", r->round);
    set_train_set(n, r, set);
    pfl_round_prune(r);
    if (n->stage != PFL_STAGE_SYNCING && was_member != pfl_round_is_member(r, n->addr)) {
        pfl_core_cancel_jobs(n);
        n->fit_ended = false;
        pfl_core_enter_train(n);
    }
    n->dirty = true;
}

static void recount(struct pfl_node *n, struct pfl_round *r)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs set = {0}, members = {0};
    bool ended = r && (r->done || r->round != n->round);
    if (!r || !r->decided || r->n_voted == r->n_counted || is_settled(n, r) || (!ended && n->stage == PFL_STAGE_AGGREGATING))
        return;
    if (ended && (r->n_counted == 0 || r->settled)) /* 0: it was ended before a restart */
        return;
    count(n, r, &set);
    pfl_strs_copy(&members, &set);
    pfl_strs_sort(&members);
    if (set.n == 0 || same_names(&members, pfl_round_authors(r)))
        return;
    if (!ended && !somebody_is_ready(r))
        set_train_set_anew(n, r, &set);
    else
        set_authors(n, r, &members);
}

void pfl_core_recount(struct pfl_node *n)
{
    if (!n->learning)
        return;
    recount(n, pfl_core_round(n, n->round - 1));
    recount(n, pfl_core_round(n, n->round));
}
