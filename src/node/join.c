/* SPDX-License-Identifier: Apache-2.0 */
/* Joining an experiment that runs already, and catching up with one. A node that comes late, was started anew or was cut off asks a
 * neighbour where it is (`state`, see state.c), goes to that round as one that waits for its result, is pushed that result like
 * every node that is no member, and votes from the next round on. It says from which round on it takes part (model_initialized with
 * that round), so that nobody waits for a vote or a contribution of it before; so a node that was started anew costs its network
 * nothing.
 *
 * It trusts its neighbour as it trusts whoever sends it the initial model. Where that was wrong, the canonical result of the round
 * replaces it (stage_end.c). */
#include "node/join.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- when to ask ---- */

void pfl_core_ahead(struct pfl_node *n, int32_t round)
{
    if (!n->learning || round <= n->ahead || round > (int32_t)n->rounds)
        return;
    if (n->ahead <= n->round)
        n->ahead_at = n->now;
    n->ahead = round;
    n->ahead_denied = 0;
    n->dirty = true;
}

/* Others are where they would not be without us, if they waited for us. */
static bool is_behind(const struct pfl_node *n)
{
    if (!n->learning || n->stage == PFL_STAGE_FINISHING || (n->stage == PFL_STAGE_EVALUATING && n->job == PFL_JOB_EVALUATE_LAST))
        return false;
    bool early = n->stage == PFL_STAGE_VOTING || n->stage == PFL_STAGE_STARTING;
    return n->ahead > n->round + (early ? 0 : 1);
}

/* It knows neither the train set nor anything else of its round but that it will have a result. */
static bool is_blind(const struct pfl_node *n)
{
    const struct pfl_round *r = n->stage == PFL_STAGE_WAITING ? pfl_core_round(n, n->round) : NULL;
    return r && !r->decided;
}

/* Since when others learn and we have not heard of the start: its message was lost to us. PFL_NEVER: nothing says so. */
static pfl_ns outside_since(const struct pfl_node *n)
{
    if (n->learning)
        return PFL_NEVER;
    if (n->early_until != PFL_NEVER)
        return n->early_until - n->set.aggregation_timeout;
    pfl_ns last = n->n_put_off > 0 ? n->put_off[n->n_put_off - 1].at : PFL_NEVER;
    return last != PFL_NEVER && n->now - last <= 2 * n->set.heartbeat_timeout ? n->put_off[0].at : PFL_NEVER;
}

/* Who is out is not believed in this either: it would tell a train set that has it. */
static bool can_ask(const struct pfl_node *n, const struct pfl_peer *p)
{
    return p->link == PFL_LINK_UP && p->states && !pfl_core_excluded(n, p->addr);
}

/* Who gets the next question: a neighbour that is new, or the next in turn. NULL: nobody need be asked now. */
static struct pfl_peer *next_to_ask(struct pfl_node *n)
{
    struct pfl_peer *first = NULL, *behind = NULL;
    bool any = is_behind(n) || is_blind(n) || outside_since(n) != PFL_NEVER;
    for (size_t i = 0; i < n->peers.n_linked; i++) {
        struct pfl_peer *p = n->peers.linked[i];
        if (!can_ask(n, p))
            continue;
        if (p->curious)
            return p;
        if (!any)
            continue;
        first = first ? first : p;
        if (!behind && n->state_to && strcmp(p->addr, n->state_to) > 0)
            behind = p;
    }
    return behind ? behind : first;
}

static pfl_ns ask_at(const struct pfl_node *n, const struct pfl_peer *p)
{
    pfl_ns at = p->curious ? n->now : n->state_at;
    if (!p->curious && is_behind(n) && n->ahead_at + n->set.retry_period > at)
        at = n->ahead_at + n->set.retry_period; /* it may be on its way to us */
    if (!p->curious && is_blind(n) && n->stage_since + n->set.heartbeat_period > at)
        at = n->stage_since + n->set.heartbeat_period;
    pfl_ns since = outside_since(n);
    if (!p->curious && since != PFL_NEVER && since + n->set.heartbeat_period > at)
        at = since + n->set.heartbeat_period; /* so may this */
    return at;
}

static void ask(struct pfl_node *n, struct pfl_peer *p)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(n->addr, -1, "state", PFL_MSG_DIRECT);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    char round[16];
    snprintf(round, sizeof(round), "%d", n->learning ? n->round : -1);
    pfl_strs_add(&m->args, n->learning || n->over ? n->experiment : "");
    pfl_strs_add(&m->args, round);
    if (p->curious && n->restored)
        pfl_strs_add(&m->args, "anew");
    p->curious = false;
    n->state_at = n->now + n->set.heartbeat_period;
    if (pfl_msg_encode(m, NULL, &body, &err) != PFL_OK)
        return;
    n->state_id = pfl_core_send(n, p->addr, body, n->set.call_timeout);
    free(n->state_to);
    n->state_to = pfl_xstrdup(p->addr);
}

void pfl_core_join_run(struct pfl_node *n)
{
    struct pfl_peer *p = n->set.late_join && n->model && !n->state_id && !n->revoked ? next_to_ask(n) : NULL;
    if (!p)
        return;
    pfl_ns at = ask_at(n, p);
    if (at <= n->now)
        ask(n, p);
    else
        pfl_core_wake(n, at);
}

/* ---- what came for a round that we were not in ---- */

/* What belongs to a later round of our experiment waits until we are there, however long that takes: its author does not say it
 * again. The rest is of an experiment that we may never hear of. */
static bool is_stale(const struct pfl_node *n, const struct pfl_put_off *p)
{
    int32_t round = p->msg->round;
    bool to_come = n->learning && round >= n->round && round < (int32_t)n->rounds && !pfl_core_foreign(n, p->msg);
    return !to_come && n->now - p->at > 2 * n->set.heartbeat_timeout;
}

static void drop_stale(struct pfl_node *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n->n_put_off; i++) {
        if (is_stale(n, &n->put_off[i]))
            pfl_msg_unref(n->put_off[i].msg);
        else
            n->put_off[kept++] = n->put_off[i];
    }
    n->n_put_off = kept;
}

static size_t bytes_of(const struct pfl_msg *m)
{
    return m->blob ? m->blob->len : 0;
}

/* Where its source has its share, the oldest of that gives way, else the oldest of all. */
static void make_room(struct pfl_node *n, const struct pfl_msg *m)
{
    for (;;) {
        size_t all = bytes_of(m), own = bytes_of(m), n_own = 0, oldest_own = 0;
        for (size_t i = n->n_put_off; i > 0; i--) {
            const struct pfl_msg *x = n->put_off[i - 1].msg;
            all += bytes_of(x);
            if (strcmp(x->source, m->source) != 0)
                continue;
            own += bytes_of(x);
            n_own++;
            oldest_own = i - 1;
        }
        size_t out = 0;
        if (n_own >= PFL_PUT_OFF_MAX / PFL_PUT_OFF_SHARES || (n_own > 0 && own > PFL_PUT_OFF_BYTES_MAX / PFL_PUT_OFF_SHARES))
            out = oldest_own;
        else if (n->n_put_off < PFL_PUT_OFF_MAX && (all <= PFL_PUT_OFF_BYTES_MAX || n->n_put_off == 0))
            return;
        pfl_msg_unref(n->put_off[out].msg);
        memmove(&n->put_off[out], &n->put_off[out + 1], (n->n_put_off - out - 1) * sizeof(n->put_off[0]));
        n->n_put_off--;
    }
}

enum pfl_rc pfl_core_put_off(struct pfl_node *n, struct pfl_incoming *in)
{
    bool later = !n->learning || in->msg->round > n->round;
    bool known = in->peer || pfl_core_gone_why(n, in->msg->source); /* who was cut off may be back before that is noticed */
    if (!n->set.late_join || !later || !known || pfl_core_is_past(n, in->msg))
        return PFL_OK;
    drop_stale(n);
    make_room(n, in->msg);
    n->put_off = pfl_xrealloc(n->put_off, (n->n_put_off + 1) * sizeof(*n->put_off));
    n->put_off[n->n_put_off++] = (struct pfl_put_off){.msg = pfl_msg_ref(in->msg), .at = n->now};
    return PFL_OK;
}

void pfl_core_put_off_clear(struct pfl_node *n)
{
    while (n->n_put_off > 0)
        pfl_msg_unref(n->put_off[--n->n_put_off].msg);
}

void pfl_core_look_again(struct pfl_node *n)
{
    struct pfl_put_off *all = n->put_off;
    size_t n_all = n->n_put_off;
    n->put_off = NULL; /* what is too early still is put off anew */
    n->n_put_off = 0;
    for (size_t i = 0; i < n_all; i++) {
        if (!is_stale(n, &all[i]))
            pfl_core_again(n, all[i].msg);
        pfl_msg_unref(all[i].msg);
    }
    free(all);
}

/* ---- what follows from an answer ---- */

static bool may_join(const struct pfl_node *n, const struct pfl_state *s)
{
    if (n->learning)
        return strcmp(s->name, n->experiment) == 0;
    bool was_there = (n->over && pfl_streq(s->name, n->experiment)) || pfl_streq(s->name, n->left);
    return !s->ended && !was_there;
}

static void take_set(struct pfl_round *r, const struct pfl_strs *members)
{
    pfl_strs_copy(&r->train_set, members);
    pfl_strs_copy(&r->members, members);
    for (size_t i = 0; i < members->n; i++)
        pfl_strs_add_once(&r->vouchers, members->items[i]);
    r->decided = r->given = true;
}

static bool has_model(const struct pfl_node *n, const struct pfl_state *s)
{
    return s->has_digest && n->model->has_digest && memcmp(s->digest, n->model->digest, PFL_DIGEST_LEN) == 0;
}

/* Nobody need wait for us in this round. */
static void announce(struct pfl_node *n, const struct pfl_round *r)
{
    pfl_core_gossip(n, "model_initialized", r->round + 1, NULL);
    if (!r->decided || pfl_round_is_member(r, n->addr))
        pfl_core_gossip(n, "models_aggregated", r->round, NULL);
}

/* Goes to this round and waits for its result. */
static void go_to(struct pfl_node *n, int32_t round, const char *by)
{
    pfl_core_cancel_jobs(n);
    n->fit_ended = false;
    bool other = n->round != round;
    n->round = round;
    n->ahead = round;
    n->progress_at = n->now;
    n->initialized = true;
    if (!n->initial)
        n->initial = pfl_payload_ref(n->model); /* others' are not wanted any more */
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++) {
        if (n->kept[i] && (n->kept[i]->round < round - 2 || n->kept[i]->round > round + 1)) {
            pfl_round_free(n->kept[i]);
            n->kept[i] = NULL;
        }
    }
    (void)pfl_core_round_get(n, round);
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_JOINED, by);
    note->text = pfl_xstrdup(n->experiment);
    if (other || n->stage == PFL_STAGE_STARTING)
        pfl_core_note(n, PFL_NOTE_ROUND_STARTED, NULL);
    pfl_core_stage(n, PFL_STAGE_WAITING);
    pfl_core_keep_soon(n);
    pfl_core_look_again(n);
}

static void jump(struct pfl_node *n, const struct pfl_state *s, const char *by)
{
    /* One round behind, and they vote: we are in time for that vote if we get the result of ours. */
    bool next = n->learning && !s->ended && s->round == n->round + 1 && s->members.n == 0 && n->stage != PFL_STAGE_STARTING;
    if (next) {
        if (n->stage == PFL_STAGE_VOTING)
            go_to(n, n->round, by);
        n->ahead = s->round;
        return;
    }
    go_to(n, s->round, by);
    struct pfl_round *r = pfl_core_round(n, n->round);
    if (s->members.n > 0 && !r->decided)
        take_set(r, &s->members);
    if (s->ended)
        return;
    if (r->given && pfl_round_is_member(r, n->addr) && has_model(n, s) && n->set.durable)
        pfl_core_enter_train(n); /* what was said before the start is known: nothing else is said */
    else
        announce(n, r);
}

/* The same round. Started anew, we may have missed the votes that decided it. */
static void take_train_set(struct pfl_node *n, const struct pfl_state *s)
{
    struct pfl_round *r = pfl_core_round(n, n->round);
    if (s->members.n == 0 || !r || r->decided || (n->stage == PFL_STAGE_VOTING && !has_model(n, s)))
        return;
    take_set(r, &s->members);
    n->dirty = true;
    if (n->stage != PFL_STAGE_VOTING)
        return;
    pfl_strs_copy(&pfl_core_note(n, PFL_NOTE_TRAIN_SET, NULL)->list, &r->train_set);
    pfl_core_after_vote(n);
}

/* A neighbour is no further than we are. It may be behind as well: only where all of them say so, whoever said otherwise was wrong.
 */
static void deny(struct pfl_node *n)
{
    size_t askable = 0;
    for (size_t i = 0; i < n->peers.n_linked; i++)
        askable += can_ask(n, n->peers.linked[i]);
    if (++n->ahead_denied >= askable)
        n->ahead = n->round;
}

/* It has ended the last round on a model of its own, with fewer nodes than those who computed the result that this node has of the
 * round before: it was alone, or makes that up. Nobody who is in the last round, too, gives up its own for that. */
static bool is_outnumbered(const struct pfl_node *n, const struct pfl_state *s)
{
    const struct pfl_round *before = pfl_core_round(n, n->round - 1);
    return s->ended && s->round == n->round && s->members.n > 0 && before && before->done && !has_model(n, s) &&
           pfl_core_canonical(n, before).computed > s->members.n;
}

static void take_state(struct pfl_node *n, const struct pfl_state *s, const char *by)
{
    if (!may_join(n, s))
        return;
    if (!n->learning && n->set.signatures) { /* a neighbour's word starts nothing: it sends the starter's own, see state.c */
        free(n->told_of);
        n->told_of = pfl_xstrdup(s->name);
        return;
    }
    if (!n->learning) {
        struct pfl_learn_args args = {.rounds = s->rounds, .epochs = s->epochs, .trainset_size = s->trainset_size, .name = s->name};
        pfl_core_begin(n, by, &args);
        if (s->round == 0 && s->members.n == 0) { /* in time for the first vote */
            pfl_core_look_again(n);
            return;
        }
        go_to(n, s->round, by);
        struct pfl_round *r = pfl_core_round(n, n->round);
        if (s->members.n > 0 && !r->decided)
            take_set(r, &s->members);
        announce(n, r);
        return;
    }
    if (s->rounds != n->rounds)
        return;
    const struct pfl_round *last = pfl_core_round(n, s->round);
    bool starting = n->stage == PFL_STAGE_STARTING, done = last && last->done;
    bool late = starting && (s->round > 0 || (s->members.n > 0 && pfl_streq(n->told_of, n->experiment)));
    if (s->round > n->round || (s->ended && !done && !is_outnumbered(n, s) && n->stage != PFL_STAGE_WAITING) || late)
        jump(n, s, by);
    else if (s->round == n->round)
        take_train_set(n, s);
    if (s->round <= n->round)
        deny(n);
}

bool pfl_core_state_sent(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_state s;
    if (n->state_id == 0 || ev->id != n->state_id)
        return false;
    n->state_id = 0;
    n->dirty = true;
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, n->state_to);
    if (pfl_core_is_outage(ev->rc)) {
        if (p && !n->learning)
            p->curious = true; /* it is asked again */
        return true;
    }
    if (p)
        p->last_heard = pfl_contact_get(&n->peers, p)->last_direct = n->now;
    if (ev->rc != PFL_OK || !ev->text || !ev->text[0] || pfl_core_excluded(n, n->state_to))
        return true;
    if (!pfl_state_parse(ev->text, &s)) {
        pfl_core_refused(n, n->state_to, "an answer to state that is none");
        return true;
    }
    PFL_AUTO(pfl_freep) char *by = pfl_xstrdup(n->state_to);
    take_state(n, &s, by);
    pfl_state_deinit(&s);
    return true;
}

/* ---- the model that the round began with ---- */

bool pfl_core_take_begin(struct pfl_node *n)
{
    struct pfl_round *before = pfl_core_round(n, n->round - 1), *r = pfl_core_round(n, n->round);
    if (!before || before->done || !before->offered || !r || r->done || n->stage != PFL_STAGE_WAITING)
        return false;
    if (pfl_core_canonical(n, before).computed > 0 && !pfl_core_canonical_offered(n, before))
        return false; /* it would build on what nobody computed */
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = pfl_payload_ref(before->offered);
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_ADOPTED, before->offered_by);
    note->round = before->round;
    pfl_note_set_digest(note, p);
    pfl_round_set_offer(before, NULL, NULL);
    before->aggregate = pfl_payload_ref(p);
    before->done = true;
    before->done_at = n->now;
    n->rounds_done = (unsigned)before->round + 1;
    pfl_core_set_model(n, p);
    pfl_core_keep(n);
    pfl_core_announce_ready(n, before);
    return true;
}
