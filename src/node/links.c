/* SPDX-License-Identifier: Apache-2.0 */
/* Membership: who becomes a neighbour, who is known, who is gone. P2PFL's rules (handshake answered by dialling back, silence
 * evicts), and ours where it has none: a lost channel is suspicion, not eviction, so a short break costs nobody its place.
 * Two nodes that shake hands with each other at the same moment both grant it at once: waiting for the other's answer would be
 * waiting for each other. */
#include <stdlib.h>

#include "base/addr.h"
#include "node/core.h"

static const char *const duplicated = "Cannot add the node (duplicated or wrong direction)"; /* P2PFL's words */

void pfl_core_open(struct pfl_node *n, struct pfl_peer *p, bool handshake, uint64_t call)
{
    struct pfl_action *a = pfl_core_act(n, PFL_ACT_OPEN, p->addr);
    a->handshake = handshake;
    a->call = call;
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    c->opening = true;
    c->asked = handshake;
    c->accepted = false;
}

void pfl_core_close_link(struct pfl_node *n, const char *addr, const char *why)
{
    struct pfl_action *a = pfl_core_act(n, PFL_ACT_CLOSE, addr);
    a->text = pfl_xstrdup(why);
}

static void grant(struct pfl_node *n, struct pfl_peer *p, uint64_t call)
{
    if (call) {
        struct pfl_action *a = pfl_core_act(n, PFL_ACT_REPLY, NULL);
        a->call = call;
        a->hello = true;
    }
    pfl_contact_get(&n->peers, p)->granted_at = n->now;
}

/* error NULL: the link is up. */
static void answer_waiting(struct pfl_node *n, struct pfl_peer *p, const char *error)
{
    struct pfl_contact *c = p->contact ? pfl_contact_get(&n->peers, p) : NULL;
    for (size_t i = 0; c && i < c->n_calls; i++) {
        if (c->calls[i].handshake && !error)
            grant(n, p, c->calls[i].call);
        else
            pfl_core_reply(n, c->calls[i].call, NULL, error);
    }
    if (c)
        c->n_calls = 0;
}

/* Removes a peer: silent, refused, or its own wish. */
static void drop_peer(struct pfl_node *n, struct pfl_peer *p, const char *why)
{
    bool direct = p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT;
    if (p->alive) {
        pfl_core_note_text(n, direct ? PFL_NOTE_NEIGHBOUR_LOST : PFL_NOTE_KNOWN_LOST, p->addr, "%s", why);
        pfl_core_gone(n, p->addr, why);
        pfl_offers_forget(&n->offers, p->addr);
        n->dirty = true;
    }
    if (p->link == PFL_LINK_DIALLING) { /* an answer is still to come */
        p->alive = false;
        return;
    }
    answer_waiting(n, p, why);
    pfl_outbox_forget(&n->outbox, p->addr);
    pfl_neighbours_remove(&n->peers, p);
}

/* The operator or the peer itself ends it: also a dial under way ends. */
void pfl_core_forget_peer(struct pfl_node *n, struct pfl_peer *p, const char *why)
{
    if (p->link == PFL_LINK_DIALLING)
        pfl_neighbours_link(&n->peers, p, PFL_LINK_NONE);
    drop_peer(n, p, why);
}

/* Why a link with this address cannot be, or NULL. */
static const char *cannot_link(const struct pfl_node *n, const char *addr, const struct pfl_peer *p)
{
    struct pfl_addr a;
    if (pfl_streq(addr, n->addr))
        return duplicated;
    if (pfl_addr_parse(addr, &a, NULL) != PFL_OK || (!a.is_unix && a.port == 0))
        return "that is no address to dial";
    if ((!p || p->link == PFL_LINK_NONE) && n->peers.n_linked >= n->set.neighbours_max)
        return "this node has as many neighbours as it takes";
    return NULL;
}

static const char *hello_wrong(const struct pfl_node *n, const struct pfl_hello *h)
{
    if (!h || !h->present)
        return n->set.interop ? NULL : "this node does not take part in P2PFL interop: it reads no pickled models";
    if (n->federation && h->federation && !pfl_streq(n->federation, h->federation))
        return "this node belongs to another federation";
    return NULL;
}

static void take_hello(struct pfl_peer *p, const struct pfl_hello *h)
{
    p->ours = h && h->present;
    p->plain = !p->ours;
    p->beats = p->ours && pfl_strs_has(&h->features, "beats");
    p->unpacks = p->ours && pfl_strs_has(&h->codecs, "compressed");
    p->proves = p->ours && pfl_strs_has(&h->features, "evidence");
    p->states = p->ours && pfl_strs_has(&h->features, "state");
}

/* ---- the operator's commands ---- */

void pfl_core_on_connect(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, ev->addr);
    const char *why = pfl_streq(ev->addr, n->addr) ? "that is this node's own address" : cannot_link(n, ev->addr, p);
    if (why || (p && p->link == PFL_LINK_UP)) {
        pfl_core_reply(n, ev->call, NULL, why); /* there already: done */
        return;
    }
    if (!p)
        p = pfl_neighbours_get(&n->peers, ev->addr);
    if (!pfl_contact_wait(pfl_contact_get(&n->peers, p), ev->call, false)) {
        pfl_core_reply(n, ev->call, NULL, "too many wait for this link already");
        return;
    }
    if (p->link == PFL_LINK_NONE)
        pfl_neighbours_link(&n->peers, p, PFL_LINK_DIALLING);
    if (!pfl_contact_of(&n->peers, p)->opening)
        pfl_core_open(n, p, true, 0);
}

void pfl_core_on_cmd_disconnect(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, ev->addr);
    if (!p || p->link == PFL_LINK_NONE) {
        pfl_core_reply(n, ev->call, NULL, "that is no neighbour of this node");
        return;
    }
    pfl_core_act(n, PFL_ACT_GOODBYE, p->addr);
    pfl_core_forget_peer(n, p, "disconnected by the operator");
    pfl_core_reply(n, ev->call, NULL, NULL);
}

/* ---- the peer's wishes ---- */

static void refuse_handshake(struct pfl_node *n, const struct pfl_event *ev, const char *why)
{
    pfl_core_refused(n, ev->addr, why);
    pfl_core_reply(n, ev->call, NULL, why);
}

void pfl_core_on_handshake(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, ev->addr);
    const char *why = cannot_link(n, ev->addr, p);
    if (!why)
        why = hello_wrong(n, ev->hello);
    /* Twice from the same side while the link is fresh. Later it means that the peer lost its side, or was started anew. */
    pfl_ns granted_at = p ? pfl_contact_of(&n->peers, p)->granted_at : 0;
    if (!why && p && p->link == PFL_LINK_UP && granted_at && n->now - granted_at < n->set.heartbeat_period)
        why = duplicated;
    if (why) {
        refuse_handshake(n, ev, why);
        return;
    }
    if (!p)
        p = pfl_neighbours_get(&n->peers, ev->addr);
    pfl_core_unbar(n, ev->addr);
    take_hello(p, ev->hello);
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    c->anew = p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT;
    if (c->opening && c->asked) {
        grant(n, p, ev->call);
        c->accepted = true;
        return;
    }
    if (!pfl_contact_wait(c, ev->call, true)) {
        refuse_handshake(n, ev, duplicated);
        return;
    }
    if (p->link == PFL_LINK_NONE)
        pfl_neighbours_link(&n->peers, p, PFL_LINK_DIALLING);
    if (!c->opening)
        pfl_core_open(n, p, false, ev->call);
}

void pfl_core_on_disconnect(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, ev->addr);
    if (p && p->link != PFL_LINK_NONE) {
        pfl_core_close_link(n, p->addr, "it said goodbye");
        pfl_core_forget_peer(n, p, "it said goodbye");
    }
    pfl_core_reply(n, ev->call, NULL, NULL);
}

/* ---- what became of an OPEN ---- */

void pfl_core_on_link_up(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, ev->addr);
    if (!p || p->link == PFL_LINK_NONE) {
        pfl_core_close_link(n, ev->addr, "nobody wants this link any more");
        return;
    }
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    if (!c->opening)
        return; /* the driver's channel came back by itself */
    const char *why = c->asked ? hello_wrong(n, ev->hello) : NULL;
    if (why) {
        pfl_core_refused(n, p->addr, why);
        answer_waiting(n, p, why);
        pfl_core_close_link(n, p->addr, why);
        pfl_core_forget_peer(n, p, why);
        return;
    }
    bool anew = p->link == PFL_LINK_DIALLING;
    pfl_core_unbar(n, p->addr);
    n->revoked = false; /* a neighbour takes its certificate again */
    pfl_neighbours_link(&n->peers, p, PFL_LINK_UP);
    if (c->asked)
        take_hello(p, ev->hello);
    c->opening = false;
    c->failures = 0;
    c->backoff = 0;
    c->told = c->told_surely = 0; /* it may have been started anew */
    p->last_heard = c->last_direct = n->now;
    if (!p->alive) {
        c->alive_since = n->now;
        p->takes_part = pfl_core_has_voted(n, p->addr);
    }
    p->alive = true;
    if (anew)
        pfl_core_note(n, PFL_NOTE_NEIGHBOUR, p->addr);
    answer_waiting(n, p, NULL);
    pfl_core_keep_soon(n);
    pfl_core_beat(n);
    if (anew || c->anew)
        pfl_core_replay(n, p);
    p->curious = p->states;
    c->anew = false;
    n->dirty = true;
}

static void retry_later(struct pfl_node *n, struct pfl_peer *p)
{
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    c->retry_at = n->now + pfl_contact_backoff(c);
}

void pfl_core_suspect(struct pfl_node *n, struct pfl_peer *p)
{
    if (p->link != PFL_LINK_UP)
        return;
    pfl_neighbours_link(&n->peers, p, PFL_LINK_SUSPECT);
    n->members_at = 0;
    pfl_core_torn(n);
    retry_later(n, p);
    n->dirty = true;
}

/* The dial failed or was refused before there was a link. */
static void dial_failed(struct pfl_node *n, struct pfl_peer *p, const struct pfl_event *ev, const char *why)
{
    answer_waiting(n, p, why);
    /* It believes in the link because we granted it: go on trying for as long as it will. */
    const struct pfl_contact *c = pfl_contact_of(&n->peers, p);
    if (c->accepted && ev->rc != PFL_AUTH && n->now - c->granted_at < n->set.heartbeat_timeout) {
        retry_later(n, p);
        return;
    }
    if (ev->rc == PFL_AUTH) {
        pfl_core_close_link(n, p->addr, why);
        pfl_core_lost_forget(n, p->addr);
    }
    pfl_neighbours_link(&n->peers, p, PFL_LINK_NONE);
    pfl_outbox_forget(&n->outbox, p->addr);
    if (!p->alive)
        drop_peer(n, p, why);
}

void pfl_core_on_link_down(struct pfl_node *n, const struct pfl_event *ev)
{
    const char *why = ev->text ? ev->text : "the connection failed";
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, ev->addr);
    if (!p || p->link == PFL_LINK_NONE)
        return;
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    bool was_opening = c->opening;
    c->opening = false;
    if (p->link == PFL_LINK_DIALLING) {
        dial_failed(n, p, ev, why);
        return;
    }
    if (was_opening && p->link == PFL_LINK_UP && ev->rc == PFL_AUTH) {
        answer_waiting(n, p, why); /* somebody else asked in this neighbour's name; the link itself is sound */
        return;
    }
    answer_waiting(n, p, why);
    if (ev->rc == PFL_AUTH) {
        pfl_core_close_link(n, p->addr, why);
        drop_peer(n, p, why);
        return;
    }
    if (p->link == PFL_LINK_UP)
        pfl_core_suspect(n, p);
    else
        retry_later(n, p);
}

/* ---- signs of life ---- */

struct pfl_peer *pfl_core_heard(struct pfl_node *n, const char *source, bool introduce)
{
    struct pfl_addr a;
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, source);
    if (p)
        p->last_heard = n->now;
    if (p && p->alive)
        return p;
    if (!introduce || n->peers.n >= n->set.known_max || pfl_addr_parse(source, &a, NULL) != PFL_OK)
        return NULL;
    if (!p)
        p = pfl_neighbours_get(&n->peers, source);
    n->members_at = 0;
    p->alive = true;
    p->last_heard = n->now;
    p->last_beat = n->now;
    p->takes_part = pfl_core_has_voted(n, source); /* was cut off only; one that was started anew has no part in this */
    pfl_core_note(n, PFL_NOTE_KNOWN, source);
    pfl_heartbeat_soon(&n->heartbeat, n->now); /* let it know us, too */
    n->dirty = true;
    return p;
}

static bool is_direct(const struct pfl_peer *p)
{
    return p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT;
}

/* What comes by way of others may be late or lost at each of them, and if they lose it, they say so: see beats.c. */
pfl_ns pfl_core_silence_ends(const struct pfl_node *n, const struct pfl_peer *p)
{
    bool relayed = p->link == PFL_LINK_NONE && p->count > 0;
    pfl_ns grace = p->plain ? n->set.call_timeout : relayed ? n->set.heartbeat_timeout : 0; /* plain: see interop.c */
    return pfl_heartbeat_expiry(&n->heartbeat, p->last_heard) + grace;
}

void pfl_core_evict(struct pfl_node *n, struct pfl_peer *p, const char *why, bool tell)
{
    pfl_core_bury(n, p, tell);
    if (is_direct(p))
        pfl_core_torn(n);
    pfl_core_lost(n, p->addr, is_direct(p));
    if (p->link != PFL_LINK_DIALLING) /* a known node may have a channel, too: for models */
        pfl_core_close_link(n, p->addr, why);
    drop_peer(n, p, why);
}

static char *silence_text(const struct pfl_node *n, const struct pfl_peer *p)
{
    double silent = (double)(n->now - p->last_heard) / (double)PFL_SEC;
    const struct pfl_contact *c = pfl_contact_of(&n->peers, p);
    if (c->unheard == 0 || c->asked_since != p->last_heard)
        return pfl_xasprintf("no sign of life for %.1f s", silent);
    return pfl_xasprintf("no sign of life for %.1f s; %u other neighbour%s not hear it either", silent, c->unheard,
                         c->unheard == 1 ? " does" : "s do");
}

void pfl_core_links_run(struct pfl_node *n)
{
    for (size_t i = n->peers.n; i > 0; i--) {
        struct pfl_peer *p = n->peers.items[i - 1];
        bool silent = p->alive && pfl_core_silence_ends(n, p) <= n->now;
        if (silent && !pfl_core_ask_around(n, p)) {
            PFL_AUTO(pfl_freep) char *why = silence_text(n, p);
            pfl_core_evict(n, p, why, is_direct(p));
            continue;
        }
        const struct pfl_contact *c = pfl_contact_of(&n->peers, p);
        bool redial = p->link == PFL_LINK_SUSPECT || p->link == PFL_LINK_DIALLING;
        if (redial && !c->opening && c->retry_at <= n->now)
            pfl_core_open(n, p, true, 0);
    }
}

pfl_ns pfl_core_links_deadline(const struct pfl_node *n)
{
    pfl_ns t = PFL_NEVER;
    for (size_t i = 0; i < n->peers.n; i++) {
        const struct pfl_peer *p = n->peers.items[i];
        pfl_ns expiry = pfl_core_silence_ends(n, p);
        const struct pfl_contact *c = pfl_contact_of(&n->peers, p);
        expiry = c->asked_until > expiry ? c->asked_until : expiry;
        if (p->alive && expiry < t)
            t = expiry;
        bool redial = p->link == PFL_LINK_SUSPECT || p->link == PFL_LINK_DIALLING;
        if (redial && !c->opening && c->retry_at < t)
            t = c->retry_at;
    }
    return t;
}

void pfl_core_shutdown(struct pfl_node *n)
{
    for (size_t i = 0; i < n->peers.n; i++) {
        struct pfl_peer *p = n->peers.items[i];
        answer_waiting(n, p, "the node is shutting down");
        if (p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT)
            pfl_core_act(n, PFL_ACT_GOODBYE, p->addr);
    }
    n->closing = true;
}
