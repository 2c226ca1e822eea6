/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array of pointers: lookups are binary searches, iteration is in address order, and a peer does not move while
 * callers hold it. Invariant: addresses are unique and ascending bytewise, and `linked` has exactly those whose link is not NONE.
 */
#include "mesh/neighbours.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const pfl_ns backoff_first = 200 * PFL_MS;
static const pfl_ns backoff_last = 5 * PFL_SEC;

/* ---- a peer ---- */

struct pfl_peer *pfl_neighbour_new(const char *addr)
{
    size_t head = offsetof(struct pfl_peer, addr), len = strlen(addr) + 1;
    struct pfl_peer *p = pfl_xcalloc(1, head + len > sizeof(*p) ? head + len : sizeof(*p));
    memcpy(p->addr, addr, len);
    p->refs = 1;
    p->fits = -1;
    return p;
}

struct pfl_peer *pfl_neighbour_ref(struct pfl_peer *p)
{
    p->refs++;
    return p;
}

void pfl_neighbour_unref(struct pfl_peer *p)
{
    if (p && --p->refs == 0)
        free(p);
}

/* ---- contacts ---- */

const struct pfl_contact *pfl_contact_of(const struct pfl_neighbours *t, const struct pfl_peer *p)
{
    static const struct pfl_contact none = {0};
    return p->contact ? t->contacts[p->contact - 1] : &none;
}

struct pfl_contact *pfl_contact_get(struct pfl_neighbours *t, struct pfl_peer *p)
{
    size_t i = 0;
    if (p->contact)
        return t->contacts[p->contact - 1];
    while (i < t->n_contacts && t->contacts[i])
        i++;
    PFL_ASSERT(i < PFL_CONTACTS_MAX);
    if (i == t->n_contacts)
        t->contacts = pfl_xrealloc(t->contacts, ++t->n_contacts * sizeof(struct pfl_contact *));
    t->contacts[i] = pfl_xcalloc(1, sizeof(**t->contacts));
    p->contact = (uint16_t)(i + 1);
    return t->contacts[i];
}

static void drop_contact(struct pfl_neighbours *t, struct pfl_peer *p)
{
    struct pfl_contact *c = p->contact ? t->contacts[p->contact - 1] : NULL;
    if (!c)
        return;
    free(c->calls);
    free(c->initialized_for);
    free(c);
    t->contacts[p->contact - 1] = NULL;
    p->contact = 0;
}

bool pfl_contact_wait(struct pfl_contact *c, uint64_t call, bool handshake)
{
    if (c->n_calls == PFL_PEER_CALLS_MAX)
        return false;
    if (!c->calls)
        c->calls = pfl_xcalloc(PFL_PEER_CALLS_MAX, sizeof(*c->calls));
    c->calls[c->n_calls++] = (struct pfl_peer_call){.call = call, .handshake = handshake};
    return true;
}

pfl_ns pfl_contact_backoff(struct pfl_contact *c)
{
    c->backoff = c->backoff == 0 ? backoff_first : c->backoff * 2;
    if (c->backoff > backoff_last)
        c->backoff = backoff_last;
    return c->backoff;
}

void pfl_peer_initialized_for(struct pfl_neighbours *t, struct pfl_peer *p, const char *experiment)
{
    if (!experiment && !p->contact)
        return;
    struct pfl_contact *c = pfl_contact_get(t, p);
    free(c->initialized_for);
    c->initialized_for = experiment ? pfl_xstrdup(experiment) : NULL;
}

int32_t pfl_peer_from(const struct pfl_neighbours *t, const struct pfl_peer *p)
{
    return pfl_contact_of(t, p)->from;
}

void pfl_peer_set_from(struct pfl_neighbours *t, struct pfl_peer *p, int32_t round)
{
    if (round != pfl_peer_from(t, p))
        pfl_contact_get(t, p)->from = round;
}

/* ---- the table ---- */

/* What leaves the table may live on for its address. */
static void let_go(struct pfl_neighbours *t, struct pfl_peer *p)
{
    drop_contact(t, p);
    pfl_neighbour_unref(p);
}

void pfl_neighbours_deinit(struct pfl_neighbours *t)
{
    for (size_t i = 0; i < t->n; i++)
        let_go(t, t->items[i]);
    free(t->items);
    free(t->linked);
    free(t->contacts);
    *t = (struct pfl_neighbours){0};
}

/* Index of the first of n peers whose address is not below addr. */
static size_t lower_bound_in(struct pfl_peer *const *items, size_t n, const char *addr)
{
    size_t lo = 0;
    size_t hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(items[mid]->addr, addr) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static size_t lower_bound(const struct pfl_neighbours *t, const char *addr)
{
    return lower_bound_in(t->items, t->n, addr);
}

struct pfl_peer *pfl_neighbours_find(const struct pfl_neighbours *t, const char *addr)
{
    size_t i = lower_bound(t, addr);
    return i < t->n && strcmp(t->items[i]->addr, addr) == 0 ? t->items[i] : NULL;
}

struct pfl_peer *pfl_neighbours_find_linked(const struct pfl_neighbours *t, const char *addr)
{
    size_t i = lower_bound_in(t->linked, t->n_linked, addr);
    return i < t->n_linked && strcmp(t->linked[i]->addr, addr) == 0 ? t->linked[i] : NULL;
}

struct pfl_peer *pfl_neighbours_get(struct pfl_neighbours *t, const char *addr)
{
    size_t i = lower_bound(t, addr);
    if (i < t->n && strcmp(t->items[i]->addr, addr) == 0)
        return t->items[i];
    if (t->n == t->cap) {
        t->cap += 8 + t->cap / 4;
        t->items = pfl_xrealloc(t->items, t->cap * sizeof(struct pfl_peer *));
    }
    memmove(&t->items[i + 1], &t->items[i], (t->n - i) * sizeof(struct pfl_peer *));
    t->items[i] = pfl_neighbour_new(addr);
    t->n++;
    return t->items[i];
}

void pfl_neighbours_remove(struct pfl_neighbours *t, struct pfl_peer *p)
{
    size_t i = lower_bound(t, p->addr);
    PFL_ASSERT(i < t->n && t->items[i] == p);
    pfl_neighbours_link(t, p, PFL_LINK_NONE);
    memmove(&t->items[i], &t->items[i + 1], (t->n - i - 1) * sizeof(struct pfl_peer *));
    t->n--;
    for (i = 0; p->contact && i < t->n; i++) {
        if (t->items[i]->count_by == p->contact)
            t->items[i]->count_by = 0;
    }
    let_go(t, p);
}

void pfl_neighbours_link(struct pfl_neighbours *t, struct pfl_peer *p, enum pfl_link_state link)
{
    bool was = p->link != PFL_LINK_NONE;
    bool is = link != PFL_LINK_NONE;
    p->link = link;
    if (was == is)
        return;
    if (is)
        (void)pfl_contact_get(t, p); /* who tells others' counts has a number */
    size_t i = lower_bound_in(t->linked, t->n_linked, p->addr);
    if (was) {
        memmove(&t->linked[i], &t->linked[i + 1], (t->n_linked - i - 1) * sizeof(struct pfl_peer *));
        t->n_linked--;
        return;
    }
    if (t->n_linked == t->cap_linked) {
        t->cap_linked = t->cap_linked ? 2 * t->cap_linked : 8;
        t->linked = pfl_xrealloc(t->linked, t->cap_linked * sizeof(struct pfl_peer *));
    }
    memmove(&t->linked[i + 1], &t->linked[i], (t->n_linked - i) * sizeof(struct pfl_peer *));
    t->linked[i] = p;
    t->n_linked++;
}

bool pfl_neighbours_alive(const struct pfl_neighbours *t, const char *addr)
{
    const struct pfl_peer *p = pfl_neighbours_find(t, addr);
    return p && p->alive;
}
