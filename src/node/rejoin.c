/* SPDX-License-Identifier: Apache-2.0 */
/* A partition that lasts longer than the heartbeat timeout makes two networks of one: each side evicts the other, and nobody knows
 * any more whom to dial when the cut is mended. So a node remembers whom it lost to silence and goes on dialling: its former
 * neighbours soon, those it only knew of later, one at a time, ever more rarely, and after some twenty tries no more. Who said
 * goodbye, was disconnected by the operator or is barred is not dialled. */
#include <stdlib.h>

#include "node/core.h"

enum { TRIES_MAX = 20 };

static const pfl_ns pause_max = 60 * PFL_SEC;

static struct pfl_lost *find(const struct pfl_node *n, const char *addr)
{
    for (size_t i = 0; i < n->n_lost; i++) {
        if (pfl_streq(n->lost[i].addr, addr))
            return &n->lost[i];
    }
    return NULL;
}

static void forget(struct pfl_node *n, struct pfl_lost *l)
{
    free(l->addr);
    *l = n->lost[--n->n_lost];
}

/* Twice as long each time, and a little different on each node, so that two that lost each other do not always meet half-way. */
static pfl_ns next_try(struct pfl_node *n, const struct pfl_lost *l)
{
    pfl_ns pause = n->set.heartbeat_period << (l->tries < 5 ? l->tries : 5);
    pause = l->direct ? pause : 4 * pause;
    pause = pause < pause_max ? pause : pause_max;
    return n->now + pause + (pfl_ns)pfl_rng_below(&n->rng, (uint64_t)n->set.heartbeat_period / 2 + 1);
}

void pfl_core_lost(struct pfl_node *n, const char *addr, bool direct)
{
    if (find(n, addr) || n->n_lost == PFL_LOST_MAX || pfl_core_barred(n, addr))
        return;
    n->lost = pfl_xrealloc(n->lost, (n->n_lost + 1) * sizeof(*n->lost));
    struct pfl_lost *l = &n->lost[n->n_lost++];
    *l = (struct pfl_lost){.addr = pfl_xstrdup(addr), .direct = direct};
    l->at = next_try(n, l);
}

void pfl_core_lost_forget(struct pfl_node *n, const char *addr)
{
    struct pfl_lost *l = find(n, addr);
    if (l)
        forget(n, l);
}

void pfl_core_lost_deinit(struct pfl_node *n)
{
    for (size_t i = 0; i < n->n_lost; i++)
        free(n->lost[i].addr);
    free(n->lost);
}

static bool is_dialling(const struct pfl_node *n)
{
    for (size_t i = 0; i < n->peers.n; i++) {
        if (n->peers.items[i]->link == PFL_LINK_DIALLING)
            return true;
    }
    return false;
}

static void dial(struct pfl_node *n, struct pfl_lost *l)
{
    PFL_AUTO(pfl_freep) char *addr = pfl_xstrdup(l->addr);
    l->tries++;
    l->at = next_try(n, l);
    if (l->tries > TRIES_MAX)
        forget(n, l);
    struct pfl_peer *p = pfl_neighbours_get(&n->peers, addr);
    pfl_neighbours_link(&n->peers, p, PFL_LINK_DIALLING);
    pfl_core_open(n, p, true, 0);
}

void pfl_core_rejoin_run(struct pfl_node *n)
{
    for (size_t i = n->n_lost; i > 0; i--) {
        if (pfl_neighbours_alive(&n->peers, n->lost[i - 1].addr) || pfl_core_barred(n, n->lost[i - 1].addr))
            forget(n, &n->lost[i - 1]);
    }
    struct pfl_lost *due = NULL;
    for (size_t i = 0; i < n->n_lost; i++) {
        struct pfl_lost *l = &n->lost[i];
        if (l->at <= n->now && (!due || l->at < due->at))
            due = l;
    }
    if (!due)
        return;
    if (is_dialling(n) || n->peers.n_linked >= n->set.neighbours_max)
        due->at = n->now + n->set.heartbeat_period; /* its turn comes */
    else
        dial(n, due);
}

pfl_ns pfl_core_rejoin_deadline(const struct pfl_node *n)
{
    pfl_ns t = PFL_NEVER;
    for (size_t i = 0; i < n->n_lost; i++) {
        if (n->lost[i].at < t)
            t = n->lost[i].at;
    }
    return t;
}
