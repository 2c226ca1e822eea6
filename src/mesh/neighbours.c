/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array of pointers: lookups are binary searches, iteration is in address order, and a peer does not move while
 * callers hold it. Invariant: addresses are unique and ascending bytewise, and `linked` has exactly those whose link is not NONE.
 */
#include "mesh/neighbours.h"

#include <stdlib.h>
#include <string.h>

static const pfl_ns backoff_first = 200 * PFL_MS;
static const pfl_ns backoff_last = 5 * PFL_SEC;

static void peer_free(struct pfl_peer *p)
{
    free(p->calls);
    free(p->initialized_for);
    free(p);
}

void pfl_neighbours_deinit(struct pfl_neighbours *t)
{
    for (size_t i = 0; i < t->n; i++)
        peer_free(t->items[i]);
    free(t->items);
    free(t->linked);
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
        t->cap = t->cap ? 2 * t->cap : 8;
        t->items = pfl_xrealloc(t->items, t->cap * sizeof(struct pfl_peer *));
    }
    memmove(&t->items[i + 1], &t->items[i], (t->n - i) * sizeof(struct pfl_peer *));
    size_t len = strlen(addr) + 1;
    t->items[i] = pfl_xcalloc(1, sizeof(*t->items[i]) + len);
    memcpy(t->items[i]->addr, addr, len);
    t->items[i]->fits = -1;
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
    for (i = 0; i < t->n; i++) {
        if (t->items[i]->count_by == p)
            t->items[i]->count_by = NULL;
    }
    peer_free(p);
}

void pfl_neighbours_link(struct pfl_neighbours *t, struct pfl_peer *p, enum pfl_link_state link)
{
    bool was = p->link != PFL_LINK_NONE;
    bool is = link != PFL_LINK_NONE;
    p->link = link;
    if (was == is)
        return;
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

bool pfl_peer_wait(struct pfl_peer *p, uint64_t call, bool handshake)
{
    if (p->n_calls == PFL_PEER_CALLS_MAX)
        return false;
    if (!p->calls)
        p->calls = pfl_xcalloc(PFL_PEER_CALLS_MAX, sizeof(*p->calls));
    p->calls[p->n_calls++] = (struct pfl_peer_call){.call = call, .handshake = handshake};
    return true;
}

pfl_ns pfl_peer_backoff(struct pfl_peer *p)
{
    p->backoff = p->backoff == 0 ? backoff_first : p->backoff * 2;
    if (p->backoff > backoff_last)
        p->backoff = backoff_last;
    return p->backoff;
}
