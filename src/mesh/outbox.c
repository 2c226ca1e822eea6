/* SPDX-License-Identifier: Apache-2.0 */
/* Parcels in the order in which they were added, and lanes. See outbox.h.
 * Invariant: a lane's n and n_window are the numbers of its parcels with in_lane and in_window. */
#include "mesh/outbox.h"

#include <stdlib.h>
#include <string.h>

enum { OUTBOX_KEPT = 64 };

/* ---- lanes ---- */

/* The index of its lane, or where it belongs. */
static size_t lane_index(const struct pfl_outbox *o, const char *to)
{
    size_t lo = 0, hi = o->n_lanes;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(o->lanes[mid].to, to);
        if (order == 0)
            return mid;
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct pfl_lane *pfl_outbox_find_lane(const struct pfl_outbox *o, const char *to)
{
    size_t i = lane_index(o, to);
    return i < o->n_lanes && strcmp(o->lanes[i].to, to) == 0 ? &o->lanes[i] : NULL;
}

static uint32_t free_bit(const struct pfl_outbox *o)
{
    uint32_t taken = 0;
    for (size_t i = 0; i < o->n_lanes; i++)
        taken |= o->lanes[i].bit;
    return ~taken & (taken + 1);
}

struct pfl_lane *pfl_outbox_lane(struct pfl_outbox *o, const char *to, uint64_t next)
{
    size_t i = lane_index(o, to);
    if (i < o->n_lanes && strcmp(o->lanes[i].to, to) == 0)
        return &o->lanes[i];
    if (o->n_lanes == o->cap_lanes) {
        o->cap_lanes = o->cap_lanes ? 2 * o->cap_lanes : 4;
        o->lanes = pfl_xrealloc(o->lanes, o->cap_lanes * sizeof(*o->lanes));
    }
    uint32_t bit = free_bit(o);
    memmove(&o->lanes[i + 1], &o->lanes[i], (o->n_lanes - i) * sizeof(*o->lanes));
    o->n_lanes++;
    o->lanes[i] = (struct pfl_lane){.to = to, .next = next, .bit = bit};
    return &o->lanes[i];
}

static void forget_lane(struct pfl_outbox *o, const char *to)
{
    size_t i = lane_index(o, to);
    if (i == o->n_lanes || strcmp(o->lanes[i].to, to) != 0)
        return;
    memmove(&o->lanes[i], &o->lanes[i + 1], (o->n_lanes - i - 1) * sizeof(*o->lanes));
    o->n_lanes--;
}

const struct pfl_past *pfl_outbox_next(struct pfl_outbox *o, struct pfl_lane *lane, const struct pfl_flooded *f)
{
    if (lane->next < f->first) {
        o->dropped += f->first - lane->next;
        lane->next = f->first;
    }
    if (lane->n_window >= PFL_WINDOW || lane->n >= PFL_LANE_MAX)
        return NULL;
    const struct pfl_past *p;
    do {
        p = pfl_flooded_at(f, lane->next);
        lane->next += p != NULL;
    } while (p && (p->has & lane->bit));
    return p;
}

void pfl_outbox_has(const struct pfl_lane *lane, struct pfl_flooded *f, uint32_t tag)
{
    for (uint64_t i = lane->next; i < f->end; i++) {
        struct pfl_past *p = pfl_flooded_get(f, i);
        if (p && p->tag == tag)
            p->has |= lane->bit;
    }
}

void pfl_outbox_again(struct pfl_lane *lane, struct pfl_flooded *f, uint64_t from)
{
    lane->next = from < lane->next ? from : lane->next;
    for (uint64_t i = lane->next; i < f->end; i++) {
        struct pfl_past *p = pfl_flooded_get(f, i);
        if (p)
            p->has &= ~lane->bit;
    }
}

uint64_t pfl_outbox_given(const struct pfl_outbox *o)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < o->n_lanes; i++)
        least = o->lanes[i].next < least ? o->lanes[i].next : least;
    return least;
}

/* ---- parcels ---- */

static void leave_window(struct pfl_outbox *o, struct pfl_parcel *p)
{
    if (p->in_window)
        pfl_outbox_find_lane(o, p->to)->n_window--;
    p->in_window = false;
}

static void outbox_remove(struct pfl_outbox *o, size_t i)
{
    struct pfl_parcel *p = &o->items[i];
    leave_window(o, p);
    if (p->in_lane)
        pfl_outbox_find_lane(o, p->to)->n--;
    o->n_waiting -= p->id == 0;
    o->bytes -= p->what.bytes;
    pfl_past_deinit(&p->what);
    if (i < o->n / 2) {
        memmove(&o->items[1], &o->items[0], i * sizeof(*o->items));
        o->items++;
    } else {
        memmove(&o->items[i], &o->items[i + 1], (o->n - i - 1) * sizeof(*o->items));
    }
    if (--o->n > 0 || o->cap <= OUTBOX_KEPT)
        return;
    free(o->block); /* after a flood */
    o->items = o->block = NULL;
    o->cap = 0;
}

void pfl_outbox_deinit(struct pfl_outbox *o)
{
    while (o->n > 0)
        outbox_remove(o, o->n - 1);
    free(o->block);
    free(o->lanes);
    *o = (struct pfl_outbox){0};
}

/* Waiting parcels give way first: those in flight are about to be answered. */
static void make_room(struct pfl_outbox *o)
{
    size_t victim = 0;
    while (victim < o->n && o->items[victim].id != 0)
        victim++;
    outbox_remove(o, victim < o->n ? victim : 0);
    o->dropped++;
}

/* At the end of the block: a quarter of it becomes free at least. */
static void make_space(struct pfl_outbox *o)
{
    bool full = 4 * o->n > 3 * o->cap || o->cap == 0;
    if (o->n > 0 && !full)
        memmove(o->block, o->items, o->n * sizeof(*o->items));
    if (full) {
        size_t cap = o->cap ? o->cap + o->cap / 2 : 16;
        struct pfl_parcel *block = pfl_xcalloc(cap, sizeof(*block));
        if (o->n > 0)
            memcpy(block, o->items, o->n * sizeof(*block));
        free(o->block);
        o->block = block;
        o->cap = cap;
    }
    o->items = o->block;
}

/* Takes what. */
static struct pfl_parcel *add(struct pfl_outbox *o, const char *to, struct pfl_past what, uint64_t id, pfl_ns due)
{
    while (o->n == PFL_OUTBOX_MAX || (o->n > 0 && o->bytes + what.bytes > PFL_OUTBOX_BYTES_MAX))
        make_room(o);
    if (o->n == 0 || o->items + o->n == o->block + o->cap)
        make_space(o);
    struct pfl_parcel *p = &o->items[o->n++];
    *p = (struct pfl_parcel){.id = id, .to = to, .what = what, .attempts = id ? 1 : 0, .due = due};
    o->n_waiting += id == 0;
    o->bytes += what.bytes;
    return p;
}

void pfl_outbox_add(struct pfl_outbox *o, const char *to, struct pfl_scatter *body, uint64_t id, pfl_ns due, bool expendable)
{
    add(o, to, pfl_past_of_body(body, due), id, due)->expendable = expendable;
}

static void enter_window(struct pfl_parcel *p, struct pfl_lane *lane, pfl_ns now)
{
    p->in_window = true;
    p->due = now;
    lane->n_window++;
}

void pfl_outbox_add_past(struct pfl_outbox *o, const struct pfl_lane *lane, const struct pfl_past *what, uint64_t id, pfl_ns now)
{
    struct pfl_parcel *p = add(o, lane->to, pfl_past_ref(what), id, now);
    p->in_lane = true;
    struct pfl_lane *l = pfl_outbox_find_lane(o, lane->to);
    l->n++;
    enter_window(p, l, now);
}

void pfl_parcel_send(struct pfl_outbox *o, struct pfl_parcel *p, uint64_t id, pfl_ns now)
{
    o->n_waiting -= p->id == 0 && id != 0;
    p->attempts++;
    p->id = id;
    if (p->in_lane)
        enter_window(p, pfl_outbox_find_lane(o, p->to), now);
}

bool pfl_outbox_sent(struct pfl_outbox *o, uint64_t id, bool delivered, pfl_ns retry_at, const char **ret_to,
                     unsigned *ret_attempts)
{
    for (size_t i = 0; i < o->n; i++) {
        struct pfl_parcel *p = &o->items[i];
        if (p->id != id)
            continue;
        *ret_to = p->to;
        *ret_attempts = p->attempts;
        if (delivered || p->expendable || p->attempts >= PFL_OUTBOX_ATTEMPTS_MAX) {
            o->dropped += delivered || p->expendable ? 0 : 1;
            outbox_remove(o, i);
            return true;
        }
        leave_window(o, p);
        p->id = 0;
        p->due = retry_at;
        o->n_waiting++;
        return true;
    }
    return false;
}

void pfl_outbox_age(struct pfl_outbox *o, pfl_ns since)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->items[i].in_window && o->items[i].due <= since)
            leave_window(o, &o->items[i]);
    }
}

pfl_ns pfl_outbox_oldest(const struct pfl_outbox *o)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->items[i].in_window)
            return o->items[i].due;
    }
    return PFL_NEVER;
}

void pfl_outbox_forget(struct pfl_outbox *o, const char *to)
{
    for (size_t i = o->n; i > 0; i--) {
        if (strcmp(o->items[i - 1].to, to) == 0)
            outbox_remove(o, i - 1);
    }
    forget_lane(o, to);
}
