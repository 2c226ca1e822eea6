/* SPDX-License-Identifier: Apache-2.0 */
/* xoshiro256** seeded by splitmix64. Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018. */
#include "base/rng.h"

#include <math.h>
#include <sys/random.h>

#include "base/mem.h"

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void pfl_rng_seed(struct pfl_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix64(&seed);
}

void pfl_rng_seed_named(struct pfl_rng *r, uint64_t seed, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a of the name */
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    uint64_t s = seed;
    pfl_rng_seed(r, splitmix64(&s) ^ h);
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t pfl_rng_u64(struct pfl_rng *r)
{
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t pfl_rng_below(struct pfl_rng *r, uint64_t n)
{
    PFL_ASSERT(n > 0);
    uint64_t reject = (0 - n) % n; /* the first values that would favour the small results */
    for (;;) {
        uint64_t x = pfl_rng_u64(r);
        if (x >= reject)
            return x % n;
    }
}

double pfl_rng_unit(struct pfl_rng *r)
{
    return (double)(pfl_rng_u64(r) >> 11) * 0x1p-53;
}

double pfl_rng_normal(struct pfl_rng *r)
{
    double u = 1.0 - pfl_rng_unit(r), v = pfl_rng_unit(r); /* Box and Muller 1958 */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void pfl_rng_shuffle_u32(struct pfl_rng *r, uint32_t *items, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)pfl_rng_below(r, i);
        uint32_t t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}

uint64_t pfl_rng_entropy(void)
{
    uint64_t x;
    PFL_ASSERT(getrandom(&x, sizeof(x), 0) == (ssize_t)sizeof(x));
    return x;
}
