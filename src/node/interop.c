/* SPDX-License-Identifier: Apache-2.0 */
/* P2PFL's own nodes (Python) in our network: interop, link by link. Who shook hands without a Hello is one of them; of a node that
 * is no neighbour it is not known until it answers a PRE_SEND_MODEL, so until then it is treated as one. What follows from their
 * habits, each seen in runs of P2PFL 0.4.4 (docs/INTEROP.md lists them):
 *
 *  - A partial model that comes before they know their train set is dropped, and the question for it remembered for a minute: they
 *    are given models only after they showed that they train in that round.
 *  - A contributor that they count already may stop them: others' contributions are relayed late. That ends the stalls among
 *    themselves, too: they would refuse what they dropped once for a minute, but several contributions in one model are another
 * model.
 *  - An error in an answer makes them drop the caller as a neighbour: they hear errors for models that cannot be used, nothing
 * else.
 *  - Their results carry no digest and differ from ours in the last bits: see pfl_core_plain_vouches.
 *  - They call their neighbours from within two handlers. Two models at once at each of two of them, and both wait for each other
 * for the 10 s of a call: models to them are sent at times of each pair's own, and their silence is borne for that much longer.
 *  - What they lost is not sent again: who votes for a round has ended the one before. */
#include <string.h>

#include "node/core.h"

bool pfl_core_plain(const struct pfl_node *n, const struct pfl_peer *p)
{
    return n->set.interop && (!p || p->plain || (!p->ours && p->count == 0));
}

bool pfl_core_plain_addr(const struct pfl_node *n, const char *addr)
{
    return pfl_core_plain(n, pfl_neighbours_find(&n->peers, addr));
}

bool pfl_core_answered_plain(struct pfl_peer *p, const struct pfl_hello *hello)
{
    if (p && hello) {
        p->ours = hello->present;
        p->unpacks = p->ours && pfl_strs_has(&hello->codecs, "compressed");
        p->plain = !hello->present;
    }
    return hello ? !hello->present : p && p->plain;
}

bool pfl_core_no_error(const struct pfl_node *n, const struct pfl_incoming *in, enum pfl_rc rc)
{
    if (!n->set.interop)
        return false;
    if (in->msg->kind == PFL_MSG_GOSSIP) /* whoever passed it on did nothing wrong */
        return true;
    return pfl_core_plain(n, in->peer) && (rc == PFL_STATE || in->ev->payload);
}

/* Two of them sent at the same moment, or one sent what we had from somebody else before it could know. */
bool pfl_core_plain_overtaken(const struct pfl_node *n, const struct pfl_incoming *in, const struct pfl_round *r)
{
    bool counted = false;
    for (size_t i = 0; i < in->msg->contributors.n && !counted; i++)
        counted = pfl_book_has(&r->book, in->msg->contributors.items[i]);
    return counted && in->msg->num_samples > 0 && pfl_core_plain(n, in->peer);
}

void pfl_core_plain_progress(struct pfl_node *n, const struct pfl_incoming *in, bool trains)
{
    if (!n->learning || !pfl_core_plain(n, in->peer) || !in->peer)
        return;
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++) {
        struct pfl_round *r = n->kept[i];
        if (!r || r->round >= in->msg->round)
            continue;
        struct pfl_round_peer *row = pfl_round_get(r, in->msg->source);
        if (!row->ready && pfl_round_set_ready(r, row, NULL, n->now))
            n->progress_at = n->now;
    }
    struct pfl_round *r = trains ? pfl_core_round_get(n, in->msg->round) : NULL;
    if (r)
        pfl_round_get(r, in->msg->source)->trains = true;
    n->dirty = true;
}

bool pfl_core_plain_vouches(const struct pfl_node *n, const struct pfl_round *r)
{
    const struct pfl_round_peer *row = r->offered_by ? pfl_round_find(r, r->offered_by) : NULL;
    return row && row->ready && row->n_results == 0 && pfl_core_plain_addr(n, r->offered_by);
}

bool pfl_core_plain_left_alone(const struct pfl_node *n, const struct pfl_round *r)
{
    if (!n->set.interop || !n->fit_ended || !pfl_core_plain_vouches(n, r))
        return false;
    for (size_t i = 0; i < r->members.n; i++) {
        const char *who = r->members.items[i];
        const struct pfl_round_peer *row = pfl_round_find(r, who);
        if (!pfl_streq(who, n->addr) && !(pfl_core_plain_addr(n, who) && row && row->ready))
            return false;
    }
    return true;
}

pfl_ns pfl_core_plain_stagger(const struct pfl_node *n, const struct pfl_round *r, const char *to)
{
    struct pfl_rng rng;
    if (!pfl_core_plain_addr(n, to) || r->book.n == 0)
        return 0;
    PFL_AUTO(pfl_freep) char *pair = pfl_xasprintf("%s %s", n->addr, to);
    pfl_rng_seed_named(&rng, (uint64_t)r->round, pair);
    pfl_ns first = r->book.items[0].at;
    for (size_t i = 1; i < r->book.n; i++)
        first = r->book.items[i].at < first ? r->book.items[i].at : first;
    return first + (pfl_ns)pfl_rng_below(&rng, (uint64_t)n->set.retry_period);
}

uint64_t pfl_core_send_pickled(struct pfl_node *n, const char *to, struct pfl_msg *m, struct pfl_payload *payload, pfl_ns timeout)
{
    struct pfl_action *a = pfl_core_act(n, PFL_ACT_SEND, to);
    a->id = ++n->next_id;
    a->msg = pfl_msg_ref(m);
    a->payload = pfl_payload_ref(payload);
    a->timeout = timeout;
    a->after = n->durable_seq;
    return a->id;
}

/* ---- who dropped us ---- */

/* A neighbour whose call failed once is no neighbour for them any more, and they do not say so: calls to it still succeed, but its
 * gossip stays away. So it is asked for the link again. */
static pfl_ns doubt_at(const struct pfl_node *n, const struct pfl_peer *p)
{
    const struct pfl_contact *c = pfl_contact_of(&n->peers, p);
    if (!p->plain || p->link != PFL_LINK_UP || c->opening)
        return PFL_NEVER;
    pfl_ns since = p->last_beat > c->alive_since ? p->last_beat : c->alive_since;
    return (since > c->retry_at ? since : c->retry_at) + n->set.heartbeat_timeout;
}

void pfl_core_plain_run(struct pfl_node *n)
{
    for (size_t i = 0; n->set.interop && i < n->peers.n; i++) {
        struct pfl_peer *p = n->peers.items[i];
        if (doubt_at(n, p) > n->now)
            continue;
        pfl_contact_get(&n->peers, p)->retry_at = n->now;
        pfl_core_open(n, p, true, 0);
    }
}

pfl_ns pfl_core_plain_deadline(const struct pfl_node *n)
{
    pfl_ns t = PFL_NEVER;
    for (size_t i = 0; n->set.interop && i < n->peers.n; i++) {
        pfl_ns at = doubt_at(n, n->peers.items[i]);
        t = at < t ? at : t;
    }
    return t;
}
