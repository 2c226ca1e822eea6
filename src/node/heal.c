/* SPDX-License-Identifier: Apache-2.0 */
/* When a neighbour dies, others may fall silent that only it connected us with: the hub of a star, the middle of a line. They are
 * known by address, so they are dialled before silence evicts them too. Each node dials one at a time: the next silent one
 * behind itself in the order of addresses, so that n nodes without their hub make a ring, not n * n links. */
#include <string.h>

#include "node/core.h"

/* Silence that a beat on its way does not explain. In digests a beat may wait for a period at each node on its way. */
static pfl_ns silent_at(const struct pfl_node *n, const struct pfl_peer *p)
{
    pfl_ns half = n->set.heartbeat_period / 2;
    if (p->link != PFL_LINK_NONE)
        return p->last_heard + 3 * half;
    return p->last_beat + (p->count ? 4 : 3) * half;
}

void pfl_core_torn(struct pfl_node *n)
{
    for (size_t i = 0; i < n->peers.n && n->torn_until <= n->now; i++) {
        struct pfl_peer *p = n->peers.items[i];
        if (p->link == PFL_LINK_NONE && p->contact)
            pfl_contact_get(&n->peers, p)->retry_at = 0; /* another loss, another try */
    }
    n->torn_until = n->now + n->set.heartbeat_timeout;
}

static bool may_heal(const struct pfl_node *n)
{
    return !n->revoked && n->torn_until > n->now && n->peers.n_linked < n->set.neighbours_max;
}

static bool is_direct(const struct pfl_peer *p)
{
    return p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT;
}

/* Not every loss is reported: a host that vanishes resets no connection. */
static bool a_neighbour_is_silent(const struct pfl_node *n)
{
    for (size_t i = 0; i < n->peers.n; i++) {
        if (is_direct(n->peers.items[i]) && silent_at(n, n->peers.items[i]) <= n->now)
            return true;
    }
    return false;
}

static bool could_be_cut_off(const struct pfl_node *n, const struct pfl_peer *p)
{
    return p->alive && p->link == PFL_LINK_NONE && pfl_contact_of(&n->peers, p)->retry_at == 0;
}

void pfl_core_heal_run(struct pfl_node *n)
{
    struct pfl_peer *behind = NULL, *first = NULL;
    if (n->torn_until <= n->now && a_neighbour_is_silent(n))
        pfl_core_torn(n);
    if (!may_heal(n))
        return;
    for (size_t i = 0; i < n->peers.n; i++) {
        struct pfl_peer *p = n->peers.items[i];
        if (p->link == PFL_LINK_DIALLING)
            return;
        if (!could_be_cut_off(n, p) || silent_at(n, p) > n->now)
            continue;
        first = first ? first : p;
        if (!behind && strcmp(p->addr, n->addr) > 0)
            behind = p;
    }
    struct pfl_peer *p = behind ? behind : first;
    if (!p)
        return;
    pfl_neighbours_link(&n->peers, p, PFL_LINK_DIALLING);
    pfl_contact_get(&n->peers, p)->retry_at = n->now; /* once for each loss */
    pfl_core_open(n, p, true, 0);
}

pfl_ns pfl_core_heal_deadline(const struct pfl_node *n)
{
    pfl_ns t = PFL_NEVER;
    bool may_dial = may_heal(n);
    for (size_t i = 0; i < n->peers.n; i++)
        may_dial = may_dial && n->peers.items[i]->link != PFL_LINK_DIALLING;
    for (size_t i = 0; i < n->peers.n; i++) {
        const struct pfl_peer *p = n->peers.items[i];
        pfl_ns at = silent_at(n, p);
        bool matters = is_direct(p) ? at > n->now : may_dial && could_be_cut_off(n, p);
        if (matters && at < t)
            t = at;
    }
    return t;
}
