/* SPDX-License-Identifier: Apache-2.0 */
/* Gossip out: own messages, forwarded ones. A message that a neighbour could not be given is tried again until the
 * neighbour is evicted: P2PFL drops it, and a vote that is lost on one link makes two nodes train in different train sets. */
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

static const pfl_ns resend_first = 100 * PFL_MS;
static const pfl_ns answer_after = 500 * PFL_MS; /* a call under way for longer keeps no other one waiting: it may be lost */
static const unsigned failures_to_suspect = 3;

/* Beats and evidence, at once and to every direct neighbour but `except` (NULL: none): a sign of life must not wait for a thousand
 * votes. Evidence only to those that know the command, for P2PFL's own nodes drop a neighbour that sends them another one. */
static void give_at_once(struct pfl_node *n, struct pfl_scatter *body, const char *except, bool evidence)
{
    for (size_t i = 0; i < n->peers.n_linked; i++) {
        const struct pfl_peer *p = n->peers.linked[i];
        if (p->link != PFL_LINK_UP || pfl_streq(p->addr, except) || (evidence && !p->proves))
            continue;
        pfl_outbox_add(&n->outbox, p->addr, body, pfl_core_send(n, p->addr, body, n->set.call_timeout), n->now, !evidence);
    }
}

/* What its window has room for. body: that of the newest message; NULL: it is made anew. */
static void run_lane(struct pfl_node *n, struct pfl_lane *lane, struct pfl_scatter *newest)
{
    const struct pfl_past *past;
    while ((past = pfl_outbox_next(&n->outbox, lane, &n->flooded))) {
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
        if (pfl_past_is_from(past, lane->to))
            continue;
        body = newest && lane->next == n->flooded.end ? pfl_scatter_ref(newest) : pfl_past_body(past);
        if (body)
            pfl_outbox_add_past(&n->outbox, lane, past, pfl_core_send(n, lane->to, body, n->set.call_timeout), n->now);
    }
}

/* To every direct neighbour but who sent it (NULL: none); who is still dialled gets it when the link is there. Takes past. */
static void give_in_turn(struct pfl_node *n, const struct pfl_msg *m, struct pfl_past past, const char *by,
                         struct pfl_scatter *body)
{
    for (size_t i = 0; i < n->peers.n_linked; i++) {
        const struct pfl_lane *lane = pfl_outbox_lane(&n->outbox, n->peers.linked[i]->addr, n->flooded.end);
        past.has |= pfl_streq(lane->to, by) ? lane->bit : 0;
    }
    past.tag = pfl_core_tag(n, m);
    pfl_flooded_add(&n->flooded, past);
    for (size_t i = 0; i < n->peers.n_linked; i++) {
        const struct pfl_peer *p = n->peers.linked[i];
        struct pfl_lane *lane = pfl_outbox_lane(&n->outbox, p->addr, n->flooded.end);
        if (p->link == PFL_LINK_UP && lane->next == n->flooded.end - 1) /* others wait there already: it is their turn */
            run_lane(n, lane, body);
    }
    pfl_flooded_trim(&n->flooded, pfl_outbox_given(&n->outbox));
}

void pfl_core_flood(struct pfl_node *n, struct pfl_msg *msg)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = msg;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    m->ttl = n->set.gossip_ttl;
    do {
        m->hash = (int64_t)pfl_rng_u64(&n->rng);
    } while (!pfl_core_seen_add(n, m));
    if (n->set.signatures && !m->sign_for)
        m->sign_for = pfl_xstrdup(n->experiment ? n->experiment : "");
    if (pfl_msg_encode(m, NULL, &body, &err) != PFL_OK) {
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "%s is not sent: %s", m->cmd, err.msg);
        return;
    }
    if (strcmp(m->cmd, "start_learning") == 0)
        pfl_core_keep_start(n, body);
    if (m->evidence.len > 0) {
        pfl_core_keep_evidence(n, body);
        give_at_once(n, body, NULL, true);
    } else {
        give_in_turn(n, m, pfl_past_of_body(body, n->now), NULL, body);
    }
}

void pfl_core_gossip(struct pfl_node *n, const char *cmd, int32_t round, const struct pfl_strs *args)
{
    struct pfl_msg *m = pfl_msg_new(n->addr, round, cmd, PFL_MSG_GOSSIP);
    if (args)
        pfl_strs_copy(&m->args, args);
    pfl_core_flood(n, m);
}

/* The ttl to pass it on with; -1: it ends here. Relays lower the ttl, so it cannot be signed, and one that lowers it to nothing
 * would keep the message from all who are behind this node: what is signed goes to everybody, once, by its hash. But for the start,
 * which is handed to who comes late with a ttl of 0, and would begin anew where it is forgotten. */
static int32_t onward(const struct pfl_node *n, const struct pfl_msg *m)
{
    bool everywhere = n->set.signatures && m->origin && strcmp(m->cmd, "start_learning") != 0;
    int32_t came = m->ttl > PFL_GOSSIP_TTL_MAX ? PFL_GOSSIP_TTL_MAX : m->ttl > 0 ? m->ttl : 0; /* it may be any number */
    return everywhere && came < 2 ? 1 : came - 1;
}

void pfl_core_forward(struct pfl_node *n, const struct pfl_msg *msg, const char *by)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    int32_t ttl = onward(n, msg);
    if (ttl < 0 || !msg->blob)
        return;
    if (pfl_msg_forward(msg, ttl, &body, &err) != PFL_OK) {
        pfl_core_note_text(n, PFL_NOTE_WARNING, msg->source, "%s is not passed on: %s", pfl_q(msg->cmd), err.msg);
        return;
    }
    if (msg->evidence.len > 0)
        pfl_core_keep_evidence(n, body);
    if (msg->evidence.len > 0 || pfl_streq(msg->cmd, "beat"))
        give_at_once(n, body, msg->source, msg->evidence.len > 0);
    else
        give_in_turn(n, msg, pfl_past_of_blob(msg->blob, ttl, n->now), by, body);
}

void pfl_core_came_again(struct pfl_node *n, const struct pfl_msg *m, const char *by)
{
    const struct pfl_lane *lane = by ? pfl_outbox_find_lane(&n->outbox, by) : NULL;
    if (lane && lane->next < n->flooded.end)
        pfl_outbox_has(lane, &n->flooded, pfl_core_tag(n, m));
}

/* It had its time to arrive. */
static pfl_ns old_after(const struct pfl_node *n)
{
    return 2 * n->set.heartbeat_timeout;
}

void pfl_core_replay(struct pfl_node *n, const struct pfl_peer *p)
{
    if (!n->learning && !n->over)
        return;
    struct pfl_lane *lane = pfl_outbox_lane(&n->outbox, p->addr, n->flooded.end);
    pfl_outbox_again(lane, &n->flooded, pfl_flooded_since(&n->flooded, n->now - old_after(n)));
    pfl_core_hand_evidence(n, p);
}

void pfl_core_flood_age(struct pfl_node *n)
{
    pfl_flooded_expire(&n->flooded, n->now - old_after(n));
}

static bool is_up(const struct pfl_node *n, const char *addr)
{
    const struct pfl_peer *p = pfl_neighbours_find_linked(&n->peers, addr);
    return p && p->link == PFL_LINK_UP;
}

static bool can_go(const struct pfl_node *n, const struct pfl_parcel *p)
{
    return p->id == 0 && is_up(n, p->to);
}

/* Is there something that it could be given now, or when the calls under way are older? */
static bool is_behind(const struct pfl_node *n, const struct pfl_lane *lane)
{
    return lane->next < n->flooded.end && lane->n < PFL_LANE_MAX && is_up(n, lane->to);
}

void pfl_core_outbox_run(struct pfl_node *n, bool lanes)
{
    for (size_t i = 0; n->outbox.n_waiting > 0 && i < n->outbox.n; i++) {
        struct pfl_parcel *p = &n->outbox.items[i];
        if (p->due > n->now || !can_go(n, p))
            continue;
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = pfl_past_body(&p->what);
        PFL_ASSERT(body); /* it was sent before */
        pfl_parcel_send(&n->outbox, p, pfl_core_send(n, p->to, body, n->set.call_timeout), n->now);
    }
    for (size_t i = 0; lanes && i < n->outbox.n_lanes; i++) {
        if (!is_behind(n, &n->outbox.lanes[i]))
            continue;
        if (n->outbox.lanes[i].n_window >= PFL_WINDOW)
            pfl_outbox_age(&n->outbox, n->now - answer_after);
        run_lane(n, &n->outbox.lanes[i], NULL);
        pfl_flooded_trim(&n->flooded, pfl_outbox_given(&n->outbox));
    }
}

pfl_ns pfl_core_outbox_deadline(const struct pfl_node *n)
{
    pfl_ns t = PFL_NEVER;
    for (size_t i = 0; n->outbox.n_waiting > 0 && i < n->outbox.n; i++) {
        if (n->outbox.items[i].due < t && can_go(n, &n->outbox.items[i]))
            t = n->outbox.items[i].due;
    }
    for (size_t i = 0; t > n->now && i < n->outbox.n_lanes; i++) {
        bool closed = n->outbox.lanes[i].n_window >= PFL_WINDOW;
        pfl_ns at = !is_behind(n, &n->outbox.lanes[i]) ? PFL_NEVER : closed ? pfl_outbox_oldest(&n->outbox) + answer_after : n->now;
        t = at < t ? at : t;
    }
    return t;
}

bool pfl_core_flood_sent(struct pfl_node *n, const struct pfl_event *ev)
{
    const char *to = NULL;
    unsigned attempts = 0;
    bool outage = pfl_core_is_outage(ev->rc);
    bool again = outage || ev->rc == PFL_TOO_BIG; /* more at once than it takes: later */
    if (!pfl_outbox_sent(&n->outbox, ev->id, !again, n->now + resend_first, &to, &attempts))
        return false;
    struct pfl_peer *p = pfl_neighbours_find_linked(&n->peers, to);
    if (!p)
        return true;
    pfl_core_digest_sent(n, p, ev->id, ev->rc == PFL_OK);
    if (ev->rc == PFL_STATE &&
        ev->id == pfl_contact_of(&n->peers, p)->digest_id) { /* it does not take us for a neighbour: shake hands again */
        pfl_core_suspect(n, p);
        return true;
    }
    if (!outage) {
        pfl_contact_get(&n->peers, p)->failures = 0;
        p->last_heard = pfl_contact_get(&n->peers, p)->last_direct = n->now; /* it answered */
        return true;
    }
    if (++pfl_contact_get(&n->peers, p)->failures >= failures_to_suspect)
        pfl_core_suspect(n, p);
    return true;
}
