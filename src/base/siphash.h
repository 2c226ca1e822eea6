/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4: a keyed hash of 64 bits for tables whose keys are chosen by others. Who does not know the key can neither find two
 * texts with one hash nor texts that crowd one slot. It is no signature: 64 bits are too few for that.
 * Source: Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012. */
#ifndef PFL_BASE_SIPHASH_H
#define PFL_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct pfl_siphash {
    uint64_t v[4];
    uint64_t tail; /* bytes that do not make a word yet, the first one lowest */
    size_t len;    /* of all that was added */
};
void pfl_siphash_init(struct pfl_siphash *h, uint64_t key0, uint64_t key1);
/** The same bytes give the same hash, in however many pieces they come. */
void pfl_siphash_add(struct pfl_siphash *h, const void *data, size_t len);
void pfl_siphash_add_u64(struct pfl_siphash *h, uint64_t x);
/** With its length, so that texts do not run into each other. NULL counts as empty. */
void pfl_siphash_add_text(struct pfl_siphash *h, const char *text);
/** The hash; nothing is added after this. */
uint64_t pfl_siphash_end(struct pfl_siphash *h);

#endif
