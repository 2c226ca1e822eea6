/* SPDX-License-Identifier: Apache-2.0 */
/* Which gossip messages were here already. P2PFL scans its last 100 hashes; with thousands of nodes 100 is too few and a scan too
 * slow, and with thousands of hashes it matters what each of them costs: 8.5 bytes where 4,096 are remembered. */
#ifndef PFL_MESH_SEEN_H
#define PFL_MESH_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The hashes seen last: a ring for their age, an open-addressed set for the question. Memory grows with what there is, up to max.
 *  48 bits of each are kept, mixed with the salt: a hash passes for one of 4,096 others once in 7e10 times, and nobody can
 *  choose it so. */
struct pfl_seen {
    uint32_t *low;  /* owned, cap: the ring */
    uint16_t *high; /* owned, cap: the other bits of it */
    void *slots;    /* owned, n_slots: index in the ring + 1, 0 free; of 16 bits, or of 32 where max does not fit */
    size_t max, cap, n, next, n_slots;
    uint64_t salt; /* a peer chooses hashes; without the salt it could choose them to collide */
};
void pfl_seen_init(struct pfl_seen *s, size_t max, uint64_t salt); /* max > 0 */
void pfl_seen_deinit(struct pfl_seen *s);
bool pfl_seen_has(const struct pfl_seen *s, int64_t hash);
/** False where it was there. The oldest hash gives way to a new one when the cache is full. */
bool pfl_seen_add(struct pfl_seen *s, int64_t hash);

#endif
