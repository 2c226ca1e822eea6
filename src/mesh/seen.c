/* SPDX-License-Identifier: Apache-2.0 */
/* Invariant: each of the n newest keys is in the ring once and in exactly one slot; at least a fifth of the slots is free. */
#include "mesh/seen.h"

#include <stdlib.h>

#include "base/mem.h"

enum { FIRST = 256 };

/* ---- keys: 48 bits of a mixed hash ---- */

static uint64_t key_of(const struct pfl_seen *s, int64_t hash)
{
    uint64_t x = (uint64_t)hash ^ s->salt;
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL; /* the finaliser of MurmurHash3 */
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    x ^= x >> 33;
    return x >> 16;
}

static uint64_t key_at(const struct pfl_seen *s, size_t i)
{
    return (uint64_t)s->high[i] << 32 | s->low[i];
}

static void set_key(struct pfl_seen *s, size_t i, uint64_t key)
{
    s->low[i] = (uint32_t)key;
    s->high[i] = (uint16_t)(key >> 32);
}

/* ---- slots ---- */

static bool is_wide(const struct pfl_seen *s)
{
    return s->max > UINT16_MAX;
}

static size_t slot(const struct pfl_seen *s, size_t i)
{
    return is_wide(s) ? ((const uint32_t *)s->slots)[i] : ((const uint16_t *)s->slots)[i];
}

static void set_slot(struct pfl_seen *s, size_t i, size_t index)
{
    if (is_wide(s))
        ((uint32_t *)s->slots)[i] = (uint32_t)index;
    else
        ((uint16_t *)s->slots)[i] = (uint16_t)index;
}

/* Where the search for a key begins: its lower 32 bits as a fraction of all slots. */
static size_t home_of(const struct pfl_seen *s, uint64_t key)
{
    return (size_t)((uint64_t)(uint32_t)key * s->n_slots >> 32);
}

static size_t behind(const struct pfl_seen *s, size_t i)
{
    return i + 1 < s->n_slots ? i + 1 : 0;
}

static size_t distance(const struct pfl_seen *s, size_t from, size_t to)
{
    return to >= from ? to - from : to + s->n_slots - from;
}

/* Its slot, or the free one where it belongs. */
static size_t find(const struct pfl_seen *s, uint64_t key)
{
    size_t i = home_of(s, key);
    for (size_t index; (index = slot(s, i)) && key_at(s, index - 1) != key;)
        i = behind(s, i);
    return i;
}

/* Linear probing without tombstones: what stood behind the hole moves up if it may. */
static void clear_slot(struct pfl_seen *s, size_t hole)
{
    size_t index;
    for (size_t i = behind(s, hole); (index = slot(s, i)); i = behind(s, i)) {
        if (distance(s, home_of(s, key_at(s, index - 1)), i) < distance(s, hole, i))
            continue;
        set_slot(s, hole, index);
        hole = i;
    }
    set_slot(s, hole, 0);
}

/* Up to max the ring has not turned: what is in it stays where it is. */
static void resize(struct pfl_seen *s, size_t cap)
{
    s->cap = cap;
    s->low = pfl_xrealloc(s->low, cap * sizeof(*s->low));
    s->high = pfl_xrealloc(s->high, cap * sizeof(*s->high));
    s->n_slots = cap + cap / 4 + 1;
    free(s->slots);
    s->slots = pfl_xcalloc(s->n_slots, is_wide(s) ? sizeof(uint32_t) : sizeof(uint16_t));
    for (size_t i = 0; i < s->n; i++)
        set_slot(s, find(s, key_at(s, i)), i + 1);
}

/* ---- the set ---- */

void pfl_seen_init(struct pfl_seen *s, size_t max, uint64_t salt)
{
    PFL_ASSERT(max > 0 && max < UINT32_MAX / 4);
    *s = (struct pfl_seen){.max = max, .salt = salt};
    resize(s, max < FIRST ? max : FIRST);
}

void pfl_seen_deinit(struct pfl_seen *s)
{
    free(s->low);
    free(s->high);
    free(s->slots);
    *s = (struct pfl_seen){0};
}

bool pfl_seen_has(const struct pfl_seen *s, int64_t hash)
{
    return slot(s, find(s, key_of(s, hash))) != 0;
}

bool pfl_seen_add(struct pfl_seen *s, int64_t hash)
{
    uint64_t key = key_of(s, hash);
    if (slot(s, find(s, key)) != 0)
        return false;
    if (s->n == s->cap && s->cap < s->max) {
        resize(s, s->cap < s->max / 2 ? 2 * s->cap : s->max);
        s->next = s->n;
    }
    if (s->n == s->max)
        clear_slot(s, find(s, key_at(s, s->next)));
    else
        s->n++;
    set_key(s, s->next, key);
    set_slot(s, find(s, key), s->next + 1);
    s->next = (s->next + 1) % s->cap;
    return true;
}
