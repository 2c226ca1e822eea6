/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for neighbours, and what newcomers are given. See gossip.h. */
#include "mesh/gossip.h"

#include <stdlib.h>
#include <string.h>

enum { OUTBOX_KEPT = 64 };

/* ---- outbox ---- */

static void outbox_remove(struct pfl_outbox *o, size_t i)
{
    o->n_waiting -= o->items[i].id == 0;
    o->bytes -= o->items[i].bytes;
    pfl_scatter_unref(o->items[i].body);
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
        size_t cap = o->cap ? 2 * o->cap : 16;
        struct pfl_parcel *block = pfl_xcalloc(cap, sizeof(*block));
        if (o->n > 0)
            memcpy(block, o->items, o->n * sizeof(*block));
        free(o->block);
        o->block = block;
        o->cap = cap;
    }
    o->items = o->block;
}

void pfl_outbox_add(struct pfl_outbox *o, const char *to, struct pfl_scatter *body, uint64_t id, pfl_ns due, bool expendable)
{
    while (o->n == PFL_OUTBOX_MAX || (o->n > 0 && o->bytes + body->total > PFL_OUTBOX_BYTES_MAX))
        make_room(o);
    if (o->n == 0 || o->items + o->n == o->block + o->cap)
        make_space(o);
    o->items[o->n++] = (struct pfl_parcel){.id = id,
                                           .to = to,
                                           .body = pfl_scatter_ref(body),
                                           .attempts = id ? 1 : 0,
                                           .bytes = (uint32_t)body->total,
                                           .due = due,
                                           .expendable = expendable};
    o->n_waiting += id == 0;
    o->bytes += body->total;
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
        p->id = 0;
        p->due = retry_at;
        o->n_waiting++;
        return true;
    }
    return false;
}

void pfl_outbox_forget(struct pfl_outbox *o, const char *to)
{
    for (size_t i = o->n; i > 0; i--) {
        if (strcmp(o->items[i - 1].to, to) == 0)
            outbox_remove(o, i - 1);
    }
}

/* ---- history ---- */

static void past_deinit(struct pfl_history *h, struct pfl_past *p)
{
    h->bytes -= p->bytes;
    pfl_scatter_unref(p->body);
    pfl_blob_unref(p->blob);
    *p = (struct pfl_past){0};
}

static size_t index_of(const struct pfl_history *h, size_t i)
{
    return (h->next + h->cap - h->n + i) % h->cap;
}

static void grow(struct pfl_history *h)
{
    size_t cap = h->cap ? 2 * h->cap : 32;
    cap = cap < PFL_HISTORY_MAX ? cap : PFL_HISTORY_MAX;
    struct pfl_past *items = pfl_xcalloc(cap, sizeof(*items));
    for (size_t i = 0; i < h->n; i++)
        items[i] = h->items[index_of(h, i)];
    free(h->items);
    *h = (struct pfl_history){.items = items, .n = h->n, .next = h->n % cap, .cap = cap, .bytes = h->bytes};
}

static void drop_oldest(struct pfl_history *h)
{
    past_deinit(h, &h->items[index_of(h, 0)]);
    h->n--;
}

static void add(struct pfl_history *h, struct pfl_past past)
{
    if (h->n == h->cap && h->cap < PFL_HISTORY_MAX)
        grow(h);
    struct pfl_past *p = &h->items[h->next];
    past_deinit(h, p);
    *p = past;
    h->bytes += past.bytes;
    h->next = (h->next + 1) % h->cap;
    h->n += h->n < h->cap;
    while (h->n > 1 && h->bytes > PFL_HISTORY_BYTES_MAX)
        drop_oldest(h);
}

void pfl_history_add(struct pfl_history *h, struct pfl_scatter *body, pfl_ns now)
{
    add(h, (struct pfl_past){.body = pfl_scatter_ref(body), .bytes = (uint32_t)body->total, .at = now});
}

void pfl_history_add_blob(struct pfl_history *h, struct pfl_blob *blob, int32_t ttl, pfl_ns now)
{
    add(h, (struct pfl_past){.blob = pfl_blob_ref(blob), .ttl = ttl, .bytes = (uint32_t)blob->len, .at = now});
}

void pfl_history_expire(struct pfl_history *h, pfl_ns before)
{
    while (h->n > 0 && h->items[index_of(h, 0)].at < before)
        drop_oldest(h);
}

const struct pfl_past *pfl_history_at(const struct pfl_history *h, size_t i)
{
    return i < h->n ? &h->items[index_of(h, i)] : NULL;
}

struct pfl_scatter *pfl_past_body(const struct pfl_past *p)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    struct pfl_scatter *body = NULL;
    if (p->body)
        return pfl_scatter_ref(p->body);
    bool made = pfl_msg_decode(p->blob, &m, NULL) == PFL_OK && pfl_msg_forward(m, p->ttl, &body, NULL) == PFL_OK;
    return made ? body : NULL;
}

void pfl_history_clear(struct pfl_history *h)
{
    for (size_t i = 0; i < h->n; i++)
        past_deinit(h, &h->items[index_of(h, i)]);
    free(h->items);
    *h = (struct pfl_history){0};
}
