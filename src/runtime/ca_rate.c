/* SPDX-License-Identifier: Apache-2.0 */
/* A bucket that is full again is as good as none: those make room first, then the one unheard of for longest. */
#include "runtime/ca_rate.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bucket {
    char key[72];
    double tokens;
    pfl_ns at; /* when tokens was right */
};

struct pfl_rate {
    double burst, per_minute;
    size_t n, max;
    struct bucket *buckets; /* owned */
};

struct pfl_rate *pfl_rate_new(double burst, double per_minute, size_t keys_max)
{
    struct pfl_rate *r = pfl_xcalloc(1, sizeof *r);
    *r = (struct pfl_rate){.burst = burst, .per_minute = per_minute, .max = keys_max};
    return r;
}

void pfl_rate_free(struct pfl_rate *r)
{
    if (!r)
        return;
    free(r->buckets);
    free(r);
}

static void refill(const struct pfl_rate *r, struct bucket *b, pfl_ns now)
{
    if (now > b->at)
        b->tokens += (double)(now - b->at) / (60.0 * (double)PFL_SEC) * r->per_minute;
    b->tokens = b->tokens > r->burst ? r->burst : b->tokens;
    b->at = now;
}

static struct bucket *find(struct pfl_rate *r, const char *key)
{
    for (size_t i = 0; i < r->n; i++)
        if (strncmp(r->buckets[i].key, key, sizeof r->buckets[i].key - 1) == 0)
            return &r->buckets[i];
    return NULL;
}

static struct bucket *make(struct pfl_rate *r, const char *key, pfl_ns now)
{
    struct bucket *b = NULL;
    if (r->n < r->max) {
        r->buckets = pfl_xrealloc(r->buckets, (r->n + 1) * sizeof *r->buckets);
        b = &r->buckets[r->n++];
    } else {
        b = &r->buckets[0];
        for (size_t i = 1; i < r->n; i++)
            if (r->buckets[i].at < b->at)
                b = &r->buckets[i];
    }
    *b = (struct bucket){.tokens = r->burst, .at = now};
    snprintf(b->key, sizeof b->key, "%s", key);
    return b;
}

bool pfl_rate_allows(struct pfl_rate *r, const char *key, pfl_ns now)
{
    struct bucket *b = find(r, key);
    if (!b)
        return true;
    refill(r, b, now);
    return b->tokens >= 1;
}

bool pfl_rate_take(struct pfl_rate *r, const char *key, pfl_ns now)
{
    struct bucket *b = find(r, key);
    if (!b)
        b = make(r, key, now);
    refill(r, b, now);
    if (b->tokens < 1)
        return false;
    b->tokens -= 1;
    return true;
}

void pfl_rate_key_of(const char *remote, char out[64])
{
    struct in6_addr v6;
    char host[64];
    snprintf(host, sizeof host, "%s", remote[0] == '[' ? remote + 1 : remote);
    char *end = remote[0] == '[' ? strchr(host, ']') : strrchr(host, ':');
    if (end)
        *end = '\0';
    if (inet_pton(AF_INET6, host, &v6) == 1 && !IN6_IS_ADDR_V4MAPPED(&v6)) {
        memset(v6.s6_addr + 8, 0, 8);
        inet_ntop(AF_INET6, &v6, host, sizeof host);
    }
    memcpy(out, host, sizeof host);
}
