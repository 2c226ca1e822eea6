/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of messages in a row, so that no more memory is held than there are messages. See flooded.h. */
#include "mesh/flooded.h"

#include <stdlib.h>
#include <string.h>

/* ---- one message ---- */

static uint32_t ms(pfl_ns t)
{
    return (uint32_t)(t / PFL_MS);
}

struct pfl_past pfl_past_of_body(struct pfl_scatter *body, pfl_ns now)
{
    return (struct pfl_past){.body = pfl_scatter_ref(body), .bytes = (uint32_t)body->total & 0xffffff, .own = 1, .at_ms = ms(now)};
}

struct pfl_past pfl_past_of_blob(struct pfl_blob *blob, int32_t ttl, pfl_ns now)
{
    PFL_ASSERT(ttl >= 0 && ttl <= PFL_GOSSIP_TTL_MAX);
    return (struct pfl_past){
        .blob = pfl_blob_ref(blob), .bytes = (uint32_t)blob->len & 0xffffff, .ttl = (uint32_t)ttl & 0x7f, .at_ms = ms(now)};
}

struct pfl_past pfl_past_ref(const struct pfl_past *p)
{
    if (p->own)
        pfl_scatter_ref(p->body);
    else
        pfl_blob_ref(p->blob);
    return *p;
}

void pfl_past_deinit(struct pfl_past *p)
{
    if (p->own)
        pfl_scatter_unref(p->body);
    else
        pfl_blob_unref(p->blob);
    *p = (struct pfl_past){0};
}

struct pfl_scatter *pfl_past_body(const struct pfl_past *p)
{
    struct pfl_scatter *body = NULL;
    if (p->own)
        return pfl_scatter_ref(p->body);
    return pfl_blob_forward(p->blob, (int32_t)p->ttl, &body, NULL) == PFL_OK ? body : NULL;
}

bool pfl_past_is_from(const struct pfl_past *p, const char *source)
{
    return !p->own && pfl_blob_is_from(p->blob, source);
}

/* ---- all of them ---- */

static struct pfl_past *at(const struct pfl_flooded *f, uint64_t number)
{
    return &f->blocks[number / PFL_FLOODED_BLOCK - f->first / PFL_FLOODED_BLOCK][number % PFL_FLOODED_BLOCK];
}

static void drop_block(struct pfl_flooded *f)
{
    free(f->blocks[0]);
    memmove(&f->blocks[0], &f->blocks[1], --f->n_blocks * sizeof(struct pfl_past *));
}

static void skip_recent(struct pfl_flooded *f)
{
    f->recent_bytes -= at(f, f->recent)->bytes;
    f->recent++;
}

static void drop_oldest(struct pfl_flooded *f)
{
    struct pfl_past *p = at(f, f->first);
    if (f->recent == f->first)
        skip_recent(f);
    f->bytes -= p->bytes;
    pfl_past_deinit(p);
    f->first++;
    if (f->first % PFL_FLOODED_BLOCK == 0 || f->first == f->end)
        drop_block(f);
}

void pfl_flooded_deinit(struct pfl_flooded *f)
{
    while (f->first < f->end)
        drop_oldest(f);
    free(f->blocks);
    *f = (struct pfl_flooded){0};
}

static bool is_full(const struct pfl_flooded *f, size_t more)
{
    return f->end - f->first >= PFL_FLOODED_MAX || (f->first < f->end && f->bytes + more > PFL_FLOODED_BYTES_MAX);
}

void pfl_flooded_add(struct pfl_flooded *f, struct pfl_past p)
{
    while (is_full(f, p.bytes))
        drop_oldest(f);
    if (f->first == f->end || f->end % PFL_FLOODED_BLOCK == 0) {
        if (f->n_blocks == f->cap_blocks) {
            f->cap_blocks = f->cap_blocks ? 2 * f->cap_blocks : 4;
            f->blocks = pfl_xrealloc(f->blocks, f->cap_blocks * sizeof(struct pfl_past *));
        }
        f->blocks[f->n_blocks++] = pfl_xcalloc(PFL_FLOODED_BLOCK, sizeof(struct pfl_past));
    }
    f->end++;
    *at(f, f->end - 1) = p;
    f->bytes += p.bytes;
    f->recent_bytes += p.bytes;
    while (f->end - f->recent > PFL_RECENT_MAX || (f->recent_bytes > PFL_RECENT_BYTES_MAX && f->end - f->recent > 1))
        skip_recent(f);
}

const struct pfl_past *pfl_flooded_at(const struct pfl_flooded *f, uint64_t number)
{
    return number >= f->first && number < f->end ? at(f, number) : NULL;
}

struct pfl_past *pfl_flooded_get(struct pfl_flooded *f, uint64_t number)
{
    return number >= f->first && number < f->end ? at(f, number) : NULL;
}

/* Times are 32 bits that turn round; what is there is never a month old. */
static bool is_before(const struct pfl_past *p, pfl_ns t)
{
    return (int32_t)(p->at_ms - ms(t)) < 0;
}

uint64_t pfl_flooded_since(const struct pfl_flooded *f, pfl_ns oldest)
{
    uint64_t number = f->recent;
    while (number < f->end && is_before(at(f, number), oldest))
        number++;
    return number;
}

void pfl_flooded_expire(struct pfl_flooded *f, pfl_ns before)
{
    while (f->recent < f->end && is_before(at(f, f->recent), before))
        skip_recent(f);
}

void pfl_flooded_close(struct pfl_flooded *f)
{
    f->recent = f->end;
    f->recent_bytes = 0;
}

void pfl_flooded_trim(struct pfl_flooded *f, uint64_t given)
{
    while (f->first < f->recent && f->first < given)
        drop_oldest(f);
}
