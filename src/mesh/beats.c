/* SPDX-License-Identifier: Apache-2.0 */
/* Text, because arguments of messages are texts, and many lines to an argument, because a thousand small strings cost more than
 * forty long ones. See beats.h. */
#include "mesh/beats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/limits.h"

enum {
    LINES_MAX = PFL_WIRE_ARG_MAX,                 /* bytes of one argument */
    MESSAGE_MAX = PFL_WIRE_CONTROL_MAX - 8 * 1024 /* of all: the envelope and the arguments' lengths need some */
};

void pfl_beats_end(struct pfl_beats_writer *w)
{
    if (w->len > 0)
        pfl_strs_addn(&w->args, w->line, w->len);
    w->len = 0;
}

bool pfl_beats_add(struct pfl_beats_writer *w, const char *addr, uint64_t count, int32_t fits)
{
    char line[PFL_ADDR_MAX + 48];
    if (strchr(addr, '\n'))
        return true;
    int len = fits >= 0 ? snprintf(line, sizeof(line), "%" PRIu64 " %" PRId32 " %s", count, fits, addr)
                        : snprintf(line, sizeof(line), "%" PRIu64 " %c %s", count, fits == PFL_BEAT_GONE ? 'x' : '-', addr);
    size_t n = (size_t)len;
    PFL_ASSERT(len > 0 && n < sizeof(line));
    if (w->total + n + 1 > MESSAGE_MAX)
        return false;
    if (w->len + n + 1 > LINES_MAX)
        pfl_beats_end(w);
    if (w->len > 0)
        w->line[w->len++] = '\n';
    memcpy(w->line + w->len, line, n);
    w->len += n;
    w->total += n + 1;
    return true;
}

void pfl_beats_deinit(struct pfl_beats_writer *w)
{
    pfl_strs_deinit(&w->args);
    *w = (struct pfl_beats_writer){0};
}

/* Decimal digits alone, up to the end of the text. */
static bool number(const char *s, const char *end, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    if (s >= end || end - s > 16)
        return false;
    for (; s < end; s++) {
        if (*s < '0' || *s > '9')
            return false;
        v = 10 * v + (uint64_t)(*s - '0');
    }
    *ret = v;
    return v <= max;
}

/* The address comes last because the path of a Unix socket may hold blanks. */
static bool parse(const char *line, const char *end, struct pfl_beat *ret)
{
    uint64_t round = 0;
    const char *a = memchr(line, ' ', (size_t)(end - line));
    const char *b = a ? memchr(a + 1, ' ', (size_t)(end - a - 1)) : NULL;
    if (!b || !number(line, a, PFL_BEAT_COUNT_MAX, &ret->count) || ret->count == 0)
        return false;
    bool gone = b - a == 2 && a[1] == 'x';
    bool fits = !gone && !(b - a == 2 && a[1] == '-');
    if (fits && !number(a + 1, b, INT32_MAX, &round))
        return false;
    size_t len = (size_t)(end - b - 1);
    if (len == 0 || len >= sizeof(ret->addr))
        return false;
    ret->fits = gone ? PFL_BEAT_GONE : fits ? (int32_t)round : PFL_BEAT_IDLE;
    memcpy(ret->addr, b + 1, len);
    ret->addr[len] = '\0';
    return true;
}

enum pfl_rc pfl_beats_next(struct pfl_beats_reader *r, struct pfl_beat *ret, struct pfl_err *err)
{
    if (r->arg >= r->args->n)
        return PFL_NOT_FOUND;
    const char *line = r->args->items[r->arg] + r->at;
    const char *end = strchr(line, '\n');
    size_t len = end ? (size_t)(end - line) : strlen(line);
    if (!parse(line, line + len, ret))
        return pfl_err_set(err, PFL_MALFORMED, "beats: %s is no count, round and address", pfl_q(line));
    r->at = end ? r->at + len + 1 : 0;
    r->arg += end ? 0 : 1;
    return PFL_OK;
}

int64_t pfl_beat_hash(const char *addr, uint64_t count)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a over the address, then the finaliser of MurmurHash3 with the count */
    for (; *addr; addr++)
        h = (h ^ (uint8_t)*addr) * UINT64_C(0x100000001b3);
    h ^= count * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    h ^= h >> 33;
    return (int64_t)h;
}
