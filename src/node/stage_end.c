/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for others' results. All nodes must go from round to round with one model, byte for byte. That is the rule as long as
 * everybody lives: the same contributions in the same order give the same bytes. When a death in the middle of a round leaves
 * members with different contributions, each round has one canonical result (pfl_round_canonical), and whoever ended it with
 * another one takes that before it builds on its own. */
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

static bool alive(void *user, const char *addr)
{
    return pfl_core_alive(user, addr);
}

struct pfl_canon pfl_core_canonical(const struct pfl_node *n, const struct pfl_round *r)
{
    struct pfl_node *user = (struct pfl_node *)(uintptr_t)n; /* alive() only looks */
    return pfl_round_canonical(r, alive, user);
}

static bool is_digest(const struct pfl_payload *p, const uint8_t *digest)
{
    return p && p->has_digest && digest && memcmp(p->digest, digest, PFL_DIGEST_LEN) == 0;
}

bool pfl_core_off_canon(const struct pfl_node *n, const struct pfl_round *r)
{
    if (!r->done || !r->aggregate->has_digest)
        return false;
    struct pfl_canon c = pfl_core_canonical(n, r);
    return c.by && !is_digest(r->aggregate, c.digest);
}

bool pfl_core_canonical_offered(const struct pfl_node *n, const struct pfl_round *r)
{
    struct pfl_canon c = pfl_core_canonical(n, r);
    return c.by && is_digest(r->offered, c.digest);
}

pfl_ns pfl_core_shows_until(const struct pfl_node *n, const struct pfl_round *r, const struct pfl_peer *p)
{
    const struct pfl_round_peer *row = pfl_round_find(r, p->addr);
    if (r->ended_at == 0 || p->fits == r->round || (row && (row->ready || pfl_round_holds(r, row)->n > 0)))
        return PFL_NEVER;
    return r->ended_at + pfl_core_bulk_timeout(n) + 4 * n->set.retry_period;
}

/* Until when this other member may still announce a result that it computed; 0: it does not. Who waits for others' result looks
 * like one that is slow. */
static pfl_ns computes_until(const struct pfl_node *n, const struct pfl_round *r, const char *member)
{
    const struct pfl_round_peer *row = pfl_round_find(r, member);
    if (row && row->ready)
        return 0;
    const struct pfl_peer *p = pfl_neighbours_find(&n->peers, member);
    if (!p || !p->alive || !p->takes_part || pfl_peer_from(&n->peers, p) > r->round || pfl_core_plain(n, p))
        return 0;
    return pfl_core_shows_until(n, r, p);
}

/* How many still may; *ret: when the first of them is not waited for any more. */
static size_t still_computing(const struct pfl_node *n, const struct pfl_round *r, pfl_ns *ret)
{
    const struct pfl_strs *authors = pfl_round_authors(r);
    size_t open = 0;
    *ret = PFL_NEVER;
    for (size_t i = 0; !r->closed && i < authors->n; i++) {
        pfl_ns until = computes_until(n, r, authors->items[i]);
        open += until > n->now;
        *ret = until > n->now && until < *ret ? until : *ret;
    }
    return open;
}

bool pfl_core_decided(struct pfl_node *n, const struct pfl_round *r)
{
    pfl_ns changes;
    struct pfl_canon c = pfl_core_canonical(n, r);
    size_t open = c.by ? still_computing(n, r, &changes) : 0;
    if (open > 0)
        pfl_core_wake(n, changes);
    return c.by && (open == 0 || c.computed > c.against + open);
}

bool pfl_core_all_ended(const struct pfl_node *n, const struct pfl_round *r)
{
    pfl_ns changes;
    return still_computing(n, r, &changes) == 0;
}

/* It took its result from another, so another one is as good. */
static bool took_it(const struct pfl_node *n, const struct pfl_round *r)
{
    const struct pfl_round_peer *me = pfl_round_find(r, n->addr);
    return !me || !pfl_round_computed(r, me);
}

void pfl_core_recall(struct pfl_node *n, struct pfl_round *r)
{
    struct pfl_canon c = pfl_core_off_canon(n, r) ? pfl_core_canonical(n, r) : (struct pfl_canon){0};
    struct pfl_payload *p = c.by ? pfl_round_former(r, c.digest) : NULL;
    if (p && p != r->offered)
        pfl_round_set_offer(r, p, n->addr);
}

bool pfl_core_replaceable(const struct pfl_node *n, const struct pfl_round *r)
{
    if (r->round != n->round - 1)
        return false;
    if (n->stage == PFL_STAGE_VOTING || n->stage == PFL_STAGE_SYNCING)
        return true;
    const struct pfl_round *now = pfl_core_round(n, n->round);
    return n->stage == PFL_STAGE_WAITING && now && !pfl_round_is_member(now, n->addr) && n->contributed != n->round;
}

static bool a_member_lives(const struct pfl_node *n, const struct pfl_round *r)
{
    for (size_t i = 0; i < r->members.n; i++) {
        if (pfl_core_alive((struct pfl_node *)(uintptr_t)n, r->members.items[i]))
            return true;
    }
    return false;
}

bool pfl_core_adoptable(struct pfl_node *n, const struct pfl_round *r)
{
    if (!r->offered || r->done)
        return false;
    /* The members may use up their deadline first. */
    pfl_ns patience = n->progress_at + n->set.aggregation_timeout + n->set.aggregation_timeout / 2;
    bool late = patience <= n->now;
    if (!late && n->stage == PFL_STAGE_WAITING)
        pfl_core_wake(n, patience);
    if (!r->decided || r->given) /* who comes late knows of nobody who could vouch for it, but perhaps who computed what */
        return n->stage == PFL_STAGE_WAITING && r->offered->has_digest &&
               (pfl_core_canonical(n, r).computed == 0 || pfl_core_canonical_offered(n, r));
    bool common = pfl_core_canonical_offered(n, r) && pfl_round_announced_by_member(r, r->offered->digest);
    if (n->stage != PFL_STAGE_WAITING) /* a member gives up its own work for what all others cannot outvote only */
        return pfl_core_plain_left_alone(n, r) || (common && pfl_core_decided(n, r));
    /* late: whoever might outvote it is slow, or waits as this node does */
    return pfl_core_plain_vouches(n, r) || !a_member_lives(n, r) || (common && (late || pfl_core_decided(n, r)));
}

/* ---- who computed something else ---- */

void pfl_core_note_result(struct pfl_node *n, struct pfl_round *r, struct pfl_round_peer *p)
{
    const char *addr = pfl_round_addr(p);
    if (!r->settled || !pfl_round_computed(r, p) || p->named || pfl_round_peer_computed(r, p, r->aggregate) ||
        pfl_streq(addr, n->addr))
        return;
    p->named = true;
    struct pfl_canon c = pfl_core_canonical(n, r);
    bool same = !n->set.interop && pfl_round_same_contributors(r, n->addr, addr);
    struct pfl_note *note =
        pfl_core_note_text(n, PFL_NOTE_WARNING, addr,
                           "it announced a result of round %d as computed that is not the common one, which %zu of "
                           "%zu members computed: %s",
                           r->round, is_digest(r->aggregate, c.digest) ? c.computed : 0, pfl_round_authors(r)->n,
                           same ? "of the same contributors, so it computes otherwise, was sent other contributions, or lies"
                                : "it had other contributions, or lies");
    note->round = r->round;
}

/* Nothing more is changed here about the result of r. */
static void settle(struct pfl_node *n, struct pfl_round *r)
{
    const struct pfl_strs *authors = pfl_round_authors(r);
    r->settled = true;
    pfl_round_drop_ballots(r);
    for (size_t i = 0; i < authors->n; i++) {
        struct pfl_round_peer *p = pfl_round_find(r, authors->items[i]);
        if (p)
            pfl_core_note_result(n, r, p);
    }
}

/* ---- syncing: before round r is worked on, the result of r - 1 must be the common one ---- */

static void missing_results(const struct pfl_node *n, struct pfl_strs *ret)
{
    const struct pfl_round *now = pfl_core_round(n, n->round);
    const struct pfl_round *before = pfl_core_round(n, n->round - 1);
    const struct pfl_strs *authors = before ? pfl_round_authors(before) : NULL;
    for (size_t i = 0; authors && i < authors->n; i++) {
        const struct pfl_peer *p = pfl_neighbours_find(&n->peers, authors->items[i]);
        const struct pfl_round_peer *vote = p ? pfl_round_find(now, p->addr) : NULL;
        const struct pfl_round_peer *row = p ? pfl_round_find(before, p->addr) : NULL;
        /* Who has voted has ended the round before: its result is on its way. */
        if (p && p->alive && vote && vote->voted && !(row && row->ready) && !pfl_core_plain(n, p))
            pfl_strs_add(ret, p->addr);
    }
}

/* True: the result of the round before is settled. late: nobody is waited for any more. */
static bool settled(struct pfl_node *n, bool late)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs missing = {0};
    struct pfl_round *before = pfl_core_round(n, n->round - 1);
    if (!before || !before->done)
        return true;
    missing_results(n, &missing);
    if (missing.n > 0 && !late)
        return false;
    if (!pfl_core_off_canon(n, before))
        return missing.n == 0;
    pfl_core_recall(n, before);
    if (!pfl_core_canonical_offered(n, before) || !(pfl_core_decided(n, before) || (late && took_it(n, before))))
        return false;
    pfl_core_adopt(n, before);
    return true;
}

static void go_on(struct pfl_node *n)
{
    struct pfl_round *before = pfl_core_round(n, n->round - 1);
    if (before && before->done)
        settle(n, before);
    pfl_core_enter_train(n);
}

void pfl_core_after_vote(struct pfl_node *n)
{
    if (settled(n, false))
        go_on(n);
    else
        pfl_core_stage(n, PFL_STAGE_SYNCING);
}

bool pfl_core_advance_sync(struct pfl_node *n)
{
    bool late = pfl_core_stage_until(n) <= n->now;
    if (!settled(n, late)) {
        if (!late)
            return false;
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL,
                           "the common result of round %d did not come within %.0f s: going on with another", n->round - 1,
                           (double)n->set.aggregation_timeout / (double)PFL_SEC);
    }
    go_on(n);
    return true;
}

/* ---- waiting: no member, or one whose own aggregation failed ---- */

static bool somebody_has_it(const struct pfl_node *n, const struct pfl_round *r)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct pfl_round_peer *p = pfl_round_at(r, i);
        if (p->ready && pfl_neighbours_alive(&n->peers, pfl_round_addr(p)))
            return true;
    }
    return false;
}

/* Where the members are not known, nobody knows who may still announce another one: one word alone, which may be a liar's, is not
 * enough. */
static bool outnumbers(struct pfl_node *n, const struct pfl_round *before)
{
    if (pfl_round_authors(before)->n > 0)
        return pfl_core_decided(n, before);
    struct pfl_canon c = pfl_core_canonical(n, before);
    return c.computed > 1 && c.computed > c.against;
}

/* Who came late may have taken another result than the common one, for it did not know whose counts, and is in the next round by
 * now.
 */
static bool mend_last(struct pfl_node *n)
{
    struct pfl_round *before = pfl_core_round(n, n->round - 1);
    if (!before || !before->done || !pfl_core_replaceable(n, before) || !pfl_core_off_canon(n, before))
        return false;
    pfl_core_recall(n, before);
    if (!pfl_core_canonical_offered(n, before) || !outnumbers(n, before))
        return false;
    pfl_core_adopt(n, before);
    return true;
}

bool pfl_core_advance_wait(struct pfl_node *n)
{
    struct pfl_round *r = pfl_core_round(n, n->round);
    if (mend_last(n))
        return true;
    if (pfl_core_adoptable(n, r)) {
        pfl_core_adopt(n, r);
        return true;
    }
    if (pfl_core_take_begin(n))
        return true;
    if (r->decided && !a_member_lives(n, r) && !somebody_has_it(n, r)) {
        for (size_t i = 0; i < r->members.n; i++) {
            const char *why = pfl_core_gone_why(n, r->members.items[i]);
            pfl_core_note_text(n, PFL_NOTE_EXCLUDED, r->members.items[i], "%s", why ? why : "it was never heard of");
        }
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "the whole train set of round %d is gone: the model stays as it is",
                           r->round);
        pfl_core_round_done(n, r, n->model);
        return true;
    }
    if (pfl_core_stage_until(n) > n->now)
        return false;
    pfl_core_stop(n, "no aggregate of round %d came within %.0f s of the last progress", r->round,
                  2 * (double)n->set.aggregation_timeout / (double)PFL_SEC);
    return true;
}

/* ---- finishing ---- */

void pfl_core_after_round(struct pfl_node *n)
{
    if (n->round + 1 < (int32_t)n->rounds)
        pfl_core_enter_vote(n, n->round + 1);
    else
        pfl_core_stage(n, PFL_STAGE_FINISHING);
}

/* It takes part and has not announced the common result c (where there is one) of the last round. */
static bool is_out_of_line(const struct pfl_node *n, const struct pfl_round *r, const struct pfl_peer *p, const struct pfl_canon *c)
{
    if (!p->alive || !p->takes_part || p->lapsed || pfl_peer_from(&n->peers, p) > r->round)
        return false;
    const struct pfl_round_peer *row = pfl_round_find(r, p->addr);
    return !row || !row->ready || (c->by && row->n_results > 0 && !pfl_round_peer_announced(r, row, c->digest));
}

static void not_in_line(const struct pfl_node *n, const struct pfl_round *r, struct pfl_strs *ret)
{
    struct pfl_canon c = pfl_core_canonical(n, r);
    for (size_t i = 0; i < n->peers.n; i++) {
        if (is_out_of_line(n, r, n->peers.items[i], &c))
            pfl_strs_add(ret, n->peers.items[i]->addr);
    }
}

bool pfl_core_all_in_line(struct pfl_node *n, const struct pfl_round *r)
{
    struct pfl_canon c = pfl_core_canonical(n, r);
    for (size_t i = 0; i < n->peers.n; i++) {
        size_t at = (n->look_first + i) % n->peers.n;
        if (is_out_of_line(n, r, n->peers.items[at], &c)) {
            n->look_first = at;
            return false;
        }
    }
    return true;
}

void pfl_core_missing_ready(const struct pfl_node *n, struct pfl_strs *ret)
{
    const struct pfl_round *r = pfl_core_round(n, n->round);
    if (n->stage == PFL_STAGE_SYNCING)
        missing_results(n, ret);
    else if (r)
        not_in_line(n, r, ret);
}

bool pfl_core_advance_finish(struct pfl_node *n)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs missing = {0};
    struct pfl_round *r = pfl_core_round(n, n->round);
    bool late = pfl_core_stage_until(n) <= n->now;
    pfl_core_recall(n, r);
    if (pfl_core_off_canon(n, r) && pfl_core_canonical_offered(n, r) && (pfl_core_decided(n, r) || (late && took_it(n, r)))) {
        pfl_core_adopt(n, r);
        return true;
    }
    if (!pfl_core_all_in_line(n, r) || pfl_core_off_canon(n, r)) {
        if (!late)
            return false;
        not_in_line(n, r, &missing);
        PFL_AUTO(pfl_freep) char *names = pfl_strs_join(&missing, " ");
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "ending without everybody's result of the last round: %s", names);
    }
    settle(n, r);
    pfl_core_stage(n, PFL_STAGE_EVALUATING);
    struct pfl_action *a = pfl_core_act(n, PFL_ACT_EVALUATE, NULL);
    a->id = ++n->next_id;
    a->payload = pfl_payload_ref(n->model);
    n->job = PFL_JOB_EVALUATE_LAST;
    n->job_id = a->id;
    return true;
}

void pfl_core_finished(struct pfl_node *n, const struct pfl_event *ev)
{
    if (ev->rc == PFL_OK)
        pfl_core_publish_metrics(n, (int32_t)n->rounds, &ev->metrics);
    else
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "the last evaluation failed: %s", ev->text ? ev->text : pfl_rc_text(ev->rc));
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_LEARNING_FINISHED, NULL);
    note->round = (int32_t)n->rounds;
    note->metrics = ev->metrics;
    pfl_note_set_digest(note, n->model);
    n->learning = false;
    n->over = true;
    n->round = -1;
    pfl_core_keep(n);
    for (size_t i = 0; i < n->peers.n; i++)
        n->peers.items[i]->initialized = false;
    pfl_core_stage(n, PFL_STAGE_IDLE);
}
