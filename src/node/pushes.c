/* SPDX-License-Identifier: Apache-2.0 */
/* Models out. The plan is made anew from what is known: who needs the initial model, whose contributions a member lacks, who has
 * not ended a round or ended it differently. What is planned and not under way is asked for with PRE_SEND_MODEL; a "false" or a
 * failure is looked at again after the retry period, as long as the plan still wants it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

/* ---- initial model ---- */

static void plan_init(struct pfl_node *n)
{
    if (!n->learning || !n->initialized || !pfl_core_is_initial(n, n->initial) ||
        n->now - n->started_at > n->set.aggregation_timeout)
        return;
    for (size_t i = 0; i < n->peers.n_linked; i++) {
        const struct pfl_peer *p = n->peers.linked[i];
        if (p->link == PFL_LINK_UP && p->alive && (p->takes_part || p->joins) && !p->initialized)
            pfl_spread_want(&n->spread, PFL_PUSH_INIT, 0, p->addr, NULL, n->initial, 1, n->now);
    }
}

/* ---- contributions ---- */

static bool any_in(const struct pfl_strs *who, const struct pfl_strs *list)
{
    for (size_t i = 0; i < who->n; i++) {
        if (pfl_strs_has(list, who->items[i]))
            return true;
    }
    return false;
}

/* From when on it is our turn to send this entry. Our own: at once. Others': when its trainer is gone, or the target has lacked it
 * for so long that the trainer does not seem to reach it. */
static pfl_ns turn_of(struct pfl_node *n, const struct pfl_entry *e, bool plain)
{
    if (e->who.n == 1 && strcmp(e->who.items[0], n->addr) == 0)
        return e->at;
    for (size_t i = 0; i < e->who.n; i++) {
        if (!pfl_core_alive(n, e->who.items[i]))
            return plain ? e->at + 2 * n->set.retry_period : e->at;
    }
    return e->at + (plain ? 5 : 2) * n->set.retry_period;
}

/* One model for several contributions: made by a job the first time, then kept. NULL: not there yet. */
static const struct pfl_entry *partial_of(struct pfl_node *n, struct pfl_round *r, const struct pfl_entry *const *entries,
                                          size_t n_entries)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs who = {0};
    uint64_t n_samples = 0;
    for (size_t i = 0; i < n_entries; i++) {
        n_samples += entries[i]->n_samples;
        for (size_t k = 0; k < entries[i]->who.n; k++)
            pfl_strs_add(&who, entries[i]->who.items[k]);
    }
    pfl_strs_sort(&who);
    const struct pfl_entry *made = pfl_book_find(&r->partials, &who);
    if (made || n->partial_id)
        return made;
    struct pfl_action *a = pfl_core_act(n, PFL_ACT_AGGREGATE, NULL);
    a->id = ++n->next_id;
    a->payload = n->model ? pfl_payload_ref(n->model) : NULL;
    a->partial = true;
    a->in = pfl_xcalloc(n_entries, sizeof(*a->in));
    a->n_in = n_entries;
    for (size_t i = 0; i < n_entries; i++)
        a->in[i] =
            (struct pfl_contribution){.model = pfl_model_ref(entries[i]->payload->model), .n_samples = entries[i]->n_samples};
    n->partial_id = a->id;
    n->partial_round = r->round;
    n->partial_samples = n_samples;
    pfl_strs_copy(&n->partial_who, &who);
    return NULL;
}

void pfl_core_partial_made(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_round *r = pfl_core_round(n, n->partial_round);
    n->partial_id = 0;
    if (ev->rc != PFL_OK || !ev->payload)
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "a partial aggregate failed: %s", ev->text ? ev->text : pfl_rc_text(ev->rc));
    else if (r)
        pfl_book_add(&r->partials, &n->partial_who, ev->payload, n->partial_samples, n->now);
    n->dirty = true;
}

static void want_entry(struct pfl_node *n, const struct pfl_round *r, const char *to, const struct pfl_entry *e)
{
    pfl_spread_want(&n->spread, PFL_PUSH_PARTIAL, r->round, to, &e->who, e->payload, e->n_samples, n->now);
}

/* What is under way to `to`, or was delivered a moment ago, stays wanted while the target does not show that it has it. */
static void keep_under_way(struct pfl_node *n, const struct pfl_round *r, const char *to, const struct pfl_strs *holds)
{
    for (size_t i = 0; i < n->spread.n; i++) {
        struct pfl_push *p = n->spread.items[i];
        if (p->kind == PFL_PUSH_PARTIAL && p->round == r->round && p->state != PFL_PUSH_WAIT && strcmp(p->to, to) == 0 &&
            !any_in(&p->contributors, holds))
            p->wanted = true;
    }
}

/* The entries that `to` lacks and that are not under way to it, in order; how many. */
static size_t lacking(const struct pfl_node *n, const struct pfl_round *r, const char *to, const struct pfl_strs *holds,
                      const struct pfl_entry **ret)
{
    size_t n_ret = 0;
    for (size_t i = 0; i < r->book.n; i++) {
        const struct pfl_entry *e = &r->book.items[i];
        if (!any_in(&e->who, holds) && !pfl_strs_has(&e->who, to) && !pfl_spread_covers(&n->spread, r->round, to, e->who.items[0]))
            ret[n_ret++] = e;
    }
    return n_ret;
}

/* Would `to`, one of ours, take it from us? It wants its trainer's signature; or what P2PFL's own nodes made, who have none. */
static bool may_relay(const struct pfl_node *n, const struct pfl_round *r, const struct pfl_entry *e, bool plain)
{
    if (!n->set.signatures || plain)
        return true;
    const struct pfl_round_peer *row = e->who.n == 1 ? pfl_round_find(r, e->who.items[0]) : NULL;
    const struct pfl_trainer *t = row ? pfl_round_trainer_of(r, row) : NULL;
    if (t && t->said_model.origin)
        return true;
    for (size_t i = 0; n->set.interop && i < e->who.n; i++) {
        if (pfl_core_plain_addr(n, e->who.items[i]))
            return true;
    }
    return false;
}

/* Relays what is due, and with it what is nearly due: several together travel as one partial aggregate. */
static void plan_relay(struct pfl_node *n, struct pfl_round *r, const char *to, const struct pfl_entry **entries, size_t n_entries)
{
    pfl_ns slack = 0;
    uint64_t n_samples = 0;
    size_t n_due = 0;
    bool plain = pfl_core_plain_addr(n, to);
    for (size_t i = 0; i < n_entries; i++) {
        if (turn_of(n, entries[i], plain) <= n->now)
            slack = n->set.retry_period;
    }
    for (size_t i = 0; i < n_entries; i++) {
        pfl_ns turn = may_relay(n, r, entries[i], plain) ? turn_of(n, entries[i], plain) : PFL_NEVER;
        if (turn != PFL_NEVER && turn - slack <= n->now) {
            entries[n_due++] = entries[i];
            n_samples += entries[i]->n_samples;
        } else if (turn != PFL_NEVER) {
            pfl_core_wake(n, turn);
        }
    }
    /* One of ours takes a contribution only with its trainer's signature, which an aggregate has not. */
    bool together = n_due > 1 && n->set.aggregator->partial && n_samples <= INT32_MAX && (plain || !n->set.signatures);
    if (together) {
        const struct pfl_entry *made = partial_of(n, r, entries, n_due);
        if (made)
            want_entry(n, r, to, made);
    }
    for (size_t i = 0; i < n_due && !together; i++)
        want_entry(n, r, to, entries[i]);
}

static void plan_contributions_to(struct pfl_node *n, struct pfl_round *r, const char *to)
{
    static const struct pfl_strs nothing = {0};
    const struct pfl_round_peer *row = pfl_round_find(r, to);
    const struct pfl_strs *holds = row ? pfl_round_holds(r, row) : &nothing;
    if ((row && row->ready) || (pfl_core_plain_addr(n, to) && !(row && row->trains)))
        return;
    if (pfl_core_plain_stagger(n, r, to) > n->now) {
        pfl_core_wake(n, pfl_core_plain_stagger(n, r, to));
        return;
    }
    keep_under_way(n, r, to, holds);
    const struct pfl_entry **entries = pfl_xcalloc(r->book.n, sizeof(*entries));
    size_t n_entries = lacking(n, r, to, holds, entries);
    size_t n_relay = 0;
    for (size_t i = 0; i < n_entries; i++) {
        if (pfl_strs_has(&entries[i]->who, n->addr))
            want_entry(n, r, to, entries[i]);
        else
            entries[n_relay++] = entries[i];
    }
    plan_relay(n, r, to, entries, n_relay);
    free(entries);
}

static void plan_contributions(struct pfl_node *n, struct pfl_round *r)
{
    if (!r->decided || r->book.n == 0 || !pfl_round_is_member(r, n->addr))
        return;
    bool needed = false;
    for (size_t i = 0; i < r->members.n; i++) {
        const char *to = r->members.items[i];
        const struct pfl_round_peer *row = pfl_round_find(r, to);
        if (strcmp(to, n->addr) == 0 || !pfl_core_alive(n, to))
            continue;
        needed = needed || !(row && row->ready);
        plan_contributions_to(n, r, to);
    }
    if (r->done && !needed)
        pfl_round_drop_models(r);
}

/* ---- aggregates ---- */

/* When this node should push its aggregate to p; PFL_NEVER: not. */
static pfl_ns add_due(const struct pfl_node *n, const struct pfl_round *r, const struct pfl_peer *p,
                      const struct pfl_canon *canonical)
{
    const struct pfl_round_peer *row = pfl_round_find(r, p->addr);
    const uint8_t *digest = canonical->digest;
    bool have_canonical = digest && r->aggregate->has_digest && memcmp(digest, r->aggregate->digest, PFL_DIGEST_LEN) == 0;
    bool direct = p->link == PFL_LINK_UP;
    if (!row || !row->ready) {
        bool was_there = p->takes_part || p->joins || (row && row->voted); /* the latter: cut off for a while, and behind */
        if (!direct || !was_there || (digest && !have_canonical))
            return PFL_NEVER;
        /* A member makes its own; if it does not get there, it lacks something. */
        return pfl_round_is_member(r, p->addr) ? r->done_at + 2 * n->set.retry_period : n->now;
    }
    if (!have_canonical || row->n_results == 0 || pfl_round_peer_announced(r, row, digest))
        return PFL_NEVER;
    if (strcmp(pfl_round_addr(canonical->by), n->addr) == 0)
        return n->now;
    return direct ? pfl_round_ready_at(r, row) + n->set.retry_period : PFL_NEVER;
}

static void plan_aggregate(struct pfl_node *n, const struct pfl_round *r)
{
    if (!r->done || r->closed)
        return;
    bool old = n->now - r->done_at > n->set.aggregation_timeout; /* whoever wanted it has it, or is gone */
    const struct pfl_canon canonical = pfl_core_canonical(n, r);
    bool whole = canonical.by && strcmp(pfl_round_addr(canonical.by), n->addr) == 0;
    /* Who is no neighbour gets it from the canonical node alone. */
    struct pfl_peer *const *peers = whole ? n->peers.items : n->peers.linked;
    for (size_t i = 0; i < (whole ? n->peers.n : n->peers.n_linked); i++) {
        const struct pfl_peer *p = peers[i];
        bool ours = p->link == PFL_LINK_UP || whole;
        pfl_ns due = p->alive && ours && (!old || p->joins) ? add_due(n, r, p, &canonical) : PFL_NEVER;
        if (due <= n->now)
            pfl_spread_want(&n->spread, PFL_PUSH_ADD, r->round, p->addr, NULL, r->aggregate, 1, n->now);
        else if (due != PFL_NEVER)
            pfl_core_wake(n, due);
    }
}

void pfl_core_plan_pushes(struct pfl_node *n)
{
    pfl_spread_begin(&n->spread);
    plan_init(n);
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++) {
        if (!n->kept[i])
            continue;
        plan_contributions(n, n->kept[i]);
        plan_aggregate(n, n->kept[i]);
    }
    pfl_spread_sweep(&n->spread);
}

/* ---- carrying it out ---- */

static uint64_t send_msg(struct pfl_node *n, const char *to, const struct pfl_msg *m, struct pfl_payload *payload, pfl_ns timeout)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    if (pfl_msg_encode(m, payload, &body, &err) == PFL_OK)
        return pfl_core_send(n, to, body, timeout);
    pfl_core_note_text(n, PFL_NOTE_WARNING, to, "%s is not sent: %s", m->cmd, err.msg);
    return 0;
}

/* PRE_SEND_MODEL's arguments as P2PFL has them: the command to come, then the contributors, or else the round. */
static uint64_t ask(struct pfl_node *n, const struct pfl_push *p)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(n->addr, p->round, "PRE_SEND_MODEL", PFL_MSG_DIRECT);
    char round[16];
    snprintf(round, sizeof(round), "%d", p->round);
    pfl_strs_add(&m->args, pfl_push_command(p->kind));
    for (size_t i = 0; i < p->contributors.n; i++)
        pfl_strs_add(&m->args, p->contributors.items[i]);
    if (p->contributors.n == 0)
        pfl_strs_add(&m->args, round);
    return send_msg(n, p->to, m, NULL, n->set.call_timeout);
}

/* Somebody else's contribution goes out in its trainer's name, with its signature, where we have that. */
static struct pfl_msg *model_msg(struct pfl_node *n, const struct pfl_push *p, bool plain)
{
    const char *who = p->kind == PFL_PUSH_PARTIAL && p->contributors.n == 1 ? p->contributors.items[0] : n->addr;
    const struct pfl_round *r = pfl_core_round(n, p->round);
    const struct pfl_round_peer *row = r && !plain && strcmp(who, n->addr) != 0 ? pfl_round_find(r, who) : NULL;
    const struct pfl_trainer *t = row ? pfl_round_trainer_of(r, row) : NULL;
    bool signed_by_it = t && t->said_model.origin;
    struct pfl_msg *m = pfl_msg_new(signed_by_it ? who : n->addr, p->round, pfl_push_command(p->kind), PFL_MSG_WEIGHTS);
    if (signed_by_it)
        m->origin = pfl_origin_ref(t->said_model.origin);
    else if (n->set.signatures && !plain)
        m->sign_for = pfl_xstrdup(n->experiment ? n->experiment : "");
    return m;
}

/* As it was compressed, bytes and all: the same message goes to everybody who can undo it. */
static void put_packed(struct pfl_msg *m, const struct pfl_payload *payload)
{
    m->codec = pfl_xstrdup("compressed");
    m->blob = pfl_blob_ref(payload->packed_in);
    m->weights = payload->packed;
    m->has_digest = true;
    memcpy(m->digest, payload->packed_digest, sizeof(m->digest));
    m->has_model_digest = true; /* what it is once it is undone: the same in each form */
    memcpy(m->model_digest, payload->digest, sizeof(m->model_digest));
}

static uint64_t send_model(struct pfl_node *n, const struct pfl_push *p, bool plain, bool unpacks)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = model_msg(n, p, plain);
    m->num_samples = (int32_t)p->n_samples;
    pfl_strs_copy(&m->contributors, &p->contributors);
    if (plain)
        return pfl_core_send_pickled(n, p->to, m, p->payload, pfl_core_bulk_timeout(n));
    if (p->kind == PFL_PUSH_PARTIAL && p->payload->packed_in && unpacks && !p->whole) {
        put_packed(m, p->payload);
        return send_msg(n, p->to, m, NULL, pfl_core_bulk_timeout(n));
    }
    m->codec = pfl_xstrdup("safetensors");
    m->has_digest = p->payload->has_digest;
    memcpy(m->digest, p->payload->digest, sizeof(m->digest));
    m->has_model_digest = p->kind == PFL_PUSH_ADD && p->payload->has_digest;
    if (m->has_model_digest)
        memcpy(m->model_digest, p->payload->digest, sizeof(m->model_digest));
    return send_msg(n, p->to, m, p->payload, pfl_core_bulk_timeout(n));
}

static void wait_to_retry(struct pfl_node *n, struct pfl_push *p)
{
    p->state = PFL_PUSH_WAIT;
    p->at = n->now + n->set.retry_period;
    p->id = 0;
}

/* An answer always comes; this guards against a driver that loses one. */
static pfl_ns give_up_at(const struct pfl_node *n, pfl_ns timeout)
{
    return n->now + timeout + n->set.call_timeout;
}

void pfl_core_run_pushes(struct pfl_node *n)
{
    for (size_t i = 0; i < n->spread.n; i++) {
        struct pfl_push *p = n->spread.items[i];
        if (p->at > n->now)
            continue;
        if (p->state != PFL_PUSH_WAIT) {
            wait_to_retry(n, p);
            n->dirty = true; /* what was delivered or under way counted as covered: plan again */
            continue;
        }
        p->id = ask(n, p);
        if (p->id) {
            p->state = PFL_PUSH_ASK;
            p->at = give_up_at(n, n->set.call_timeout);
        } else {
            wait_to_retry(n, p);
        }
    }
}

bool pfl_core_push_sent(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_push *p = pfl_spread_by_id(&n->spread, ev->id);
    if (!p)
        return false;
    struct pfl_peer *peer = pfl_neighbours_find(&n->peers, p->to);
    bool answered = !pfl_core_is_outage(ev->rc) && ev->rc != PFL_AUTH; /* AUTH: perhaps its certificate, and nobody has listened */
    if (peer && answered)
        peer->last_heard = pfl_contact_get(&n->peers, peer)->last_direct = n->now;
    n->dirty = true;
    bool plain = p->state == PFL_PUSH_ASK && ev->rc == PFL_OK && pfl_core_answered_plain(peer, ev->hello);
    if (plain && !n->set.interop) {
        pfl_core_refused(n, p->to, "it is one of P2PFL's own nodes, and interop is off here: it is sent no models");
        wait_to_retry(n, p);
        p->at = n->now + n->set.aggregation_timeout; /* not worth asking again soon */
        return true;
    }
    if (p->state == PFL_PUSH_ASK && p->wanted && ev->rc == PFL_OK && pfl_streq(ev->text, "true")) {
        bool unpacks = ev->hello ? pfl_strs_has(&ev->hello->codecs, "compressed") : peer && peer->unpacks;
        p->id = send_model(n, p, plain, unpacks);
        p->state = PFL_PUSH_SEND;
        p->at = give_up_at(n, pfl_core_bulk_timeout(n));
        if (p->id == 0)
            wait_to_retry(n, p);
        return true;
    }
    if (p->state == PFL_PUSH_SEND && ev->rc == PFL_OK) {
        p->state = PFL_PUSH_DONE;
        p->at = n->now + 4 * n->set.retry_period;
        return true;
    }
    /* It may lack the model that a compressed one is a difference to. Others' contributions go as they came: so they are signed. */
    p->whole = p->whole || (p->state == PFL_PUSH_SEND && !pfl_core_is_outage(ev->rc) && pfl_strs_has(&p->contributors, n->addr));
    wait_to_retry(n, p);
    return true;
}
