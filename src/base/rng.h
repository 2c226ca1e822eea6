/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers: a seeded, reproducible generator (xoshiro256**, seeded by splitmix64; Blackman and Vigna 2018).
 * Not for keys or tokens: those come from OpenSSL. */
#ifndef PFL_BASE_RNG_H
#define PFL_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct pfl_rng {
    uint64_t s[4];
};
void pfl_rng_seed(struct pfl_rng *r, uint64_t seed);
/** A generator of its own for (seed, name): "partition", "init", a node's address, ... */
void pfl_rng_seed_named(struct pfl_rng *r, uint64_t seed, const char *name);
uint64_t pfl_rng_u64(struct pfl_rng *r);
uint64_t pfl_rng_below(struct pfl_rng *r, uint64_t n);                  /* uniform in [0, n), unbiased; n > 0 */
double pfl_rng_unit(struct pfl_rng *r);                                 /* [0, 1) */
double pfl_rng_normal(struct pfl_rng *r);                               /* mean 0, variance 1 */
void pfl_rng_shuffle_u32(struct pfl_rng *r, uint32_t *items, size_t n); /* Fisher-Yates */
/** From the operating system, for seeds where none was given. */
uint64_t pfl_rng_entropy(void);

#endif
