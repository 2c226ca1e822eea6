/* SPDX-License-Identifier: Apache-2.0 */
/* Words are little-endian, as in the paper, whatever the machine. */
#include "base/siphash.h"

#include <string.h>

static uint64_t rotl(uint64_t x, unsigned k)
{
    return x << k | x >> (64 - k);
}

static void half_round(uint64_t *a, uint64_t *b, unsigned k)
{
    *a += *b;
    *b = rotl(*b, k) ^ *a;
}

static void rounds(uint64_t v[4], unsigned n)
{
    while (n-- > 0) {
        half_round(&v[0], &v[1], 13);
        half_round(&v[2], &v[3], 16);
        v[0] = rotl(v[0], 32);
        half_round(&v[2], &v[1], 17);
        half_round(&v[0], &v[3], 21);
        v[2] = rotl(v[2], 32);
    }
}

static void word(struct pfl_siphash *h, uint64_t m)
{
    h->v[3] ^= m;
    rounds(h->v, 2);
    h->v[0] ^= m;
}

void pfl_siphash_init(struct pfl_siphash *h, uint64_t key0, uint64_t key1)
{
    *h = (struct pfl_siphash){.v = {key0 ^ UINT64_C(0x736f6d6570736575), key1 ^ UINT64_C(0x646f72616e646f6d),
                                    key0 ^ UINT64_C(0x6c7967656e657261), key1 ^ UINT64_C(0x7465646279746573)}};
}

void pfl_siphash_add(struct pfl_siphash *h, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        h->tail |= (uint64_t)p[i] << 8 * (h->len % 8);
        if (++h->len % 8 != 0)
            continue;
        word(h, h->tail);
        h->tail = 0;
    }
}

void pfl_siphash_add_u64(struct pfl_siphash *h, uint64_t x)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(x >> 8 * i);
    pfl_siphash_add(h, bytes, sizeof(bytes));
}

void pfl_siphash_add_text(struct pfl_siphash *h, const char *text)
{
    size_t len = text ? strlen(text) : 0;
    pfl_siphash_add_u64(h, len);
    pfl_siphash_add(h, text ? text : "", len);
}

uint64_t pfl_siphash_end(struct pfl_siphash *h)
{
    word(h, h->tail | (uint64_t)h->len << 56);
    h->v[2] ^= 0xff;
    rounds(h->v, 4);
    return h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
}
