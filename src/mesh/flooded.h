/* SPDX-License-Identifier: Apache-2.0 */
/* What was flooded, in that order: our own gossip and others' that was passed on. It serves two kinds of neighbours. Who is slower
 * than the flood finds here what it was not sent yet: a message waits once, not once for each neighbour. Who comes finds what was
 * flooded lately, so that two halves of a network that was torn apart learn what they missed; what it has already it drops by its
 * hash. How far each neighbour is stands in the outbox. */
#ifndef PFL_MESH_FLOODED_H
#define PFL_MESH_FLOODED_H

#include "base/clock.h"
#include "mesh/limits.h"
#include "wire/msg.h"

/** A message as it goes out. Copying it copies no reference: pfl_past_ref does. */
struct pfl_past {
    union {
        struct pfl_scatter *body; /* a reference: of our own, which may wait for its signature */
        struct pfl_blob *blob;    /* a reference: another's as it came, held once by all who were given the same bytes */
    };
    uint32_t bytes : 24; /* as it was added: a signature comes later */
    uint32_t ttl : 7;    /* with which blob is passed on */
    uint32_t own : 1;    /* body, not blob */
    uint32_t at_ms;      /* when it was added, modulo 2^32 */
    uint32_t tag;        /* what tells it from the others that wait; not safe against chance */
    uint32_t has;        /* lanes, by their bits, whose neighbours sent it themselves: they need not be given it */
};
struct pfl_past pfl_past_of_body(struct pfl_scatter *body, pfl_ns now); /* takes a reference */
struct pfl_past pfl_past_of_blob(struct pfl_blob *blob, int32_t ttl,
                                 pfl_ns now); /* the same; gossip, ttl up to PFL_GOSSIP_TTL_MAX */
struct pfl_past pfl_past_ref(const struct pfl_past *p);
void pfl_past_deinit(struct pfl_past *p);
/** The bytes to send; a new reference. NULL: it cannot be passed on, which does not happen to what was decoded once. */
struct pfl_scatter *pfl_past_body(const struct pfl_past *p);
/** Is it another's with that source? */
bool pfl_past_is_from(const struct pfl_past *p, const char *source);

/** Messages are numbered. Zero-initialised. */
struct pfl_flooded {
    struct pfl_past **blocks; /* owned, each owned: PFL_FLOODED_BLOCK of them */
    size_t n_blocks, cap_blocks;
    uint64_t first, end; /* what is there: [first, end) */
    uint64_t recent;     /* from here on it is for neighbours that come, too: PFL_RECENT_MAX and PFL_RECENT_BYTES_MAX at most */
    size_t bytes, recent_bytes;
};
enum { PFL_FLOODED_BLOCK = 64 };
void pfl_flooded_deinit(struct pfl_flooded *f);
/** Takes what p refers to. Past PFL_FLOODED_MAX or PFL_FLOODED_BYTES_MAX the oldest gives way, whoever waits for it. */
void pfl_flooded_add(struct pfl_flooded *f, struct pfl_past p);
/** NULL: there is none with that number (any more, or yet). */
const struct pfl_past *pfl_flooded_at(const struct pfl_flooded *f, uint64_t number);
struct pfl_past *pfl_flooded_get(struct pfl_flooded *f, uint64_t number); /* the same, to mark it */
/** The first one that a neighbour that comes is given, of those that are not older. */
uint64_t pfl_flooded_since(const struct pfl_flooded *f, pfl_ns oldest);
/** What was flooded before that time is for no newcomer. */
void pfl_flooded_expire(struct pfl_flooded *f, pfl_ns before);
/** None of what is there is. */
void pfl_flooded_close(struct pfl_flooded *f);
/** All neighbours were given what comes before that number: lets go of what nobody needs any more. */
void pfl_flooded_trim(struct pfl_flooded *f, uint64_t given);

#endif
