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

const struct pfl_round_peer *pfl_core_canonical(const struct pfl_node *n, const struct pfl_round *r)
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
    const struct pfl_round_peer *c = pfl_core_canonical(n, r);
    return c && !is_digest(r->aggregate, pfl_round_peer_digest(c));
}

static bool canonical_offered(const struct pfl_node *n, const struct pfl_round *r)
{
    const struct pfl_round_peer *c = pfl_core_canonical(n, r);
    return c && is_digest(r->offered, pfl_round_peer_digest(c));
}

void pfl_core_recall(struct pfl_node *n, struct pfl_round *r)
{
    const struct pfl_round_peer *c = pfl_core_off_canon(n, r) ? pfl_core_canonical(n, r) : NULL;
    struct pfl_payload *p = c ? pfl_round_former(r, pfl_round_peer_digest(c)) : NULL;
    if (p && p != r->offered)
        pfl_round_set_offer(r, p, n->addr);
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
    if (!r->decided) /* who comes late knows of nobody who could vouch for it */
        return n->stage == PFL_STAGE_WAITING && r->offered->has_digest;
    bool vouched = r->offered->has_digest && pfl_round_announced_by_member(r, r->offered->digest);
    if (n->stage == PFL_STAGE_WAITING)
        return vouched || pfl_core_plain_vouches(n, r) || !a_member_lives(n, r);
    if (pfl_core_plain_left_alone(n, r))
        return true;
    return vouched && canonical_offered(n, r); /* a member gives up its own work for the common result only */
}

/* ---- syncing: before round r is worked on, the result of r - 1 must be the common one ---- */

static void missing_results(const struct pfl_node *n, struct pfl_strs *ret)
{
    const struct pfl_round *now = pfl_core_round(n, n->round);
    const struct pfl_round *before = pfl_core_round(n, n->round - 1);
    for (size_t i = 0; before && i < before->members.n; i++) {
        const struct pfl_peer *p = pfl_neighbours_find(&n->peers, before->members.items[i]);
        const struct pfl_round_peer *vote = p ? pfl_round_find(now, p->addr) : NULL;
        const struct pfl_round_peer *row = p ? pfl_round_find(before, p->addr) : NULL;
        /* Who has voted has ended the round before: its result is on its way. */
        if (p && p->alive && vote && vote->voted && !(row && row->ready) && !pfl_core_plain(n, p))
            pfl_strs_add(ret, p->addr);
    }
}

/* True: the result of the round before is settled. */
static bool settled(struct pfl_node *n)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs missing = {0};
    struct pfl_round *before = pfl_core_round(n, n->round - 1);
    if (!before || !before->done)
        return true;
    missing_results(n, &missing);
    if (missing.n > 0)
        return false;
    if (!pfl_core_off_canon(n, before))
        return true;
    pfl_core_recall(n, before);
    if (!canonical_offered(n, before))
        return false;
    pfl_core_adopt(n, before);
    return true;
}

void pfl_core_after_vote(struct pfl_node *n)
{
    if (settled(n))
        pfl_core_enter_train(n);
    else
        pfl_core_stage(n, PFL_STAGE_SYNCING);
}

bool pfl_core_advance_sync(struct pfl_node *n)
{
    if (!settled(n)) {
        if (pfl_core_stage_until(n) > n->now)
            return false;
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL,
                           "the common result of round %d did not come within %.0f s: going on with another", n->round - 1,
                           (double)n->set.aggregation_timeout / (double)PFL_SEC);
    }
    pfl_core_enter_train(n);
    return true;
}

/* ---- waiting: no member, or one whose own aggregation failed ---- */

static bool somebody_has_it(const struct pfl_node *n, const struct pfl_round *r)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i]->ready && pfl_neighbours_alive(&n->peers, r->peers[i]->addr))
            return true;
    }
    return false;
}

bool pfl_core_advance_wait(struct pfl_node *n)
{
    struct pfl_round *r = pfl_core_round(n, n->round);
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

/* It takes part and has not announced the common result c (NULL: there is none) of the last round. */
static bool is_out_of_line(const struct pfl_round *r, const struct pfl_peer *p, const struct pfl_round_peer *c)
{
    if (!p->alive || !p->takes_part || p->lapsed || p->from > r->round)
        return false;
    const struct pfl_round_peer *row = pfl_round_find(r, p->addr);
    return !row || !row->ready || (c && row->n_results > 0 && !pfl_round_peer_announced(row, pfl_round_peer_digest(c)));
}

static void not_in_line(const struct pfl_node *n, const struct pfl_round *r, struct pfl_strs *ret)
{
    const struct pfl_round_peer *c = pfl_core_canonical(n, r);
    for (size_t i = 0; i < n->peers.n; i++) {
        if (is_out_of_line(r, n->peers.items[i], c))
            pfl_strs_add(ret, n->peers.items[i]->addr);
    }
}

bool pfl_core_all_in_line(struct pfl_node *n, const struct pfl_round *r)
{
    const struct pfl_round_peer *c = pfl_core_canonical(n, r);
    for (size_t i = 0; i < n->peers.n; i++) {
        size_t at = (n->look_first + i) % n->peers.n;
        if (is_out_of_line(r, n->peers.items[at], c)) {
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
    pfl_core_recall(n, r);
    if (pfl_core_off_canon(n, r) && canonical_offered(n, r)) {
        pfl_core_adopt(n, r);
        return true;
    }
    if (!pfl_core_all_in_line(n, r) || pfl_core_off_canon(n, r)) {
        if (pfl_core_stage_until(n) > n->now)
            return false;
        not_in_line(n, r, &missing);
        PFL_AUTO(pfl_freep) char *names = pfl_strs_join(&missing, " ");
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "ending without everybody's result of the last round: %s", names);
    }
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
