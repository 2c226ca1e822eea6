/* SPDX-License-Identifier: Apache-2.0 */
/* Strings from outside, made safe and made numbers. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the valid UTF-8 sequence at s, 0 where there is none. Rejects overlong forms, surrogates, values past U+10FFFF. */
static size_t utf8_len(const uint8_t *s, size_t left)
{
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : n;
}

bool pfl_utf8_valid(const void *text, size_t len)
{
    const uint8_t *s = text;
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_len(s + i, len - i);
        if (n == 0)
            return false;
    }
    return true;
}

char *pfl_quote(const void *text, size_t len, char *out, size_t out_size)
{
    PFL_ASSERT(out_size >= 8);
    const uint8_t *s = text;
    size_t o = 0, cut = 0; /* cut: the last place where "..." fits */
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len(s + i, len - i);
        bool c1 = n == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0; /* U+0080 to U+009F steer terminals */
        bool plain = n > 1 ? !c1 : n == 1 && s[i] >= 0x20 && s[i] < 0x7f;
        size_t need = plain ? n : 4;
        if (o + need + 1 > out_size) {
            memcpy(out + cut, "...", 4);
            return out;
        }
        if (plain)
            memcpy(out + o, s + i, n);
        else
            snprintf(out + o, 5, "\\x%02x", s[i]);
        o += need;
        cut = o + 4 <= out_size ? o : cut;
        i += plain ? n : 1;
    }
    out[o] = '\0';
    return out;
}

const char *pfl_q(const char *text)
{
    static _Thread_local char slots[8][160];
    static _Thread_local unsigned next;
    if (!text)
        return "(none)";
    char *slot = slots[next++ % 8];
    return pfl_quote(text, strlen(text), slot, sizeof(slots[0]));
}

bool pfl_parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
    if (!s || !(isdigit((unsigned char)s[0]) || (s[0] == '-' && isdigit((unsigned char)s[1]))))
        return false;
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno != 0 || *end != '\0' || v < min || v > max)
        return false;
    *ret = v;
    return true;
}

bool pfl_parse_u64(const char *s, uint64_t *ret)
{
    if (!s || !isdigit((unsigned char)s[0]))
        return false;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *ret = v;
    return true;
}

bool pfl_parse_duration(const char *s, int64_t min_s, int64_t max_s, int64_t *ret_s)
{
    size_t len = strnlen(s, 20);
    int64_t n, unit_s = len < 2 || len == 20 ? 0
                        : s[len - 1] == 's'  ? 1
                        : s[len - 1] == 'm'  ? 60
                        : s[len - 1] == 'h'  ? 3600
                        : s[len - 1] == 'd'  ? 86400
                                             : 0;
    PFL_AUTO(pfl_freep) char *number = unit_s ? pfl_xstrndup(s, len - 1) : NULL;
    if (!number || !pfl_parse_i64(number, 1, INT64_MAX / 86400, &n) || n * unit_s < min_s || n * unit_s > max_s)
        return false;
    *ret_s = n * unit_s;
    return true;
}

bool pfl_parse_double(const char *s, double *ret)
{
    if (!s || s[0] == '\0' || s[strspn(s, "0123456789+-.eE")] != '\0') /* no hex, no inf, no blanks */
        return false;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* a program that embeds us may have set another one */
    if (!c)
        return false;
    char *end;
    double v = strtod_l(s, &end, c);
    freelocale(c);
    if (end == s || *end != '\0' || !isfinite(v))
        return false;
    *ret = v;
    return true;
}

bool pfl_streq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool pfl_str_has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* One block becomes a list whose strings can come and go. */
static void thaw(struct pfl_strs *l)
{
    if (l->cap > 0 || l->n == 0)
        return;
    char **items = pfl_xcalloc(l->n, sizeof(*items));
    for (size_t i = 0; i < l->n; i++)
        items[i] = pfl_xstrdup(l->items[i]);
    free(l->items);
    *l = (struct pfl_strs){.items = items, .n = l->n, .cap = l->n};
}

void pfl_strs_addn(struct pfl_strs *l, const char *s, size_t len)
{
    thaw(l);
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 4;
        l->items = pfl_xrealloc(l->items, l->cap * sizeof(*l->items));
    }
    l->items[l->n++] = pfl_xstrndup(s, len);
}

void pfl_strs_add(struct pfl_strs *l, const char *s)
{
    pfl_strs_addn(l, s, strlen(s));
}

bool pfl_strs_has(const struct pfl_strs *l, const char *s)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->items[i], s) == 0)
            return true;
    }
    return false;
}

bool pfl_strs_add_once(struct pfl_strs *l, const char *s)
{
    if (pfl_strs_has(l, s))
        return false;
    pfl_strs_add(l, s);
    return true;
}

bool pfl_strs_remove(struct pfl_strs *l, const char *s)
{
    thaw(l);
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->items[i], s) != 0)
            continue;
        free(l->items[i]);
        memmove(l->items + i, l->items + i + 1, (l->n - i - 1) * sizeof(*l->items));
        l->n--;
        return true;
    }
    return false;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void pfl_strs_sort(struct pfl_strs *l)
{
    if (l->n > 1)
        qsort(l->items, l->n, sizeof(*l->items), compare);
}

void pfl_strs_deinit(struct pfl_strs *l)
{
    for (size_t i = 0; l->cap > 0 && i < l->n; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct pfl_strs){0};
}

void pfl_strs_copy(struct pfl_strs *dst, const struct pfl_strs *src)
{
    size_t bytes = 0;
    pfl_strs_deinit(dst);
    if (src->n == 0)
        return;
    for (size_t i = 0; i < src->n; i++)
        bytes += strlen(src->items[i]) + 1;
    dst->items = pfl_xmalloc(src->n * sizeof(*dst->items) + bytes);
    char *at = (char *)(dst->items + src->n);
    for (size_t i = 0; i < src->n; i++) {
        size_t len = strlen(src->items[i]) + 1;
        memcpy(at, src->items[i], len);
        dst->items[i] = at;
        at += len;
    }
    dst->n = src->n;
}

void pfl_strs_seal(struct pfl_strs *l)
{
    struct pfl_strs copy = {0};
    if (l->cap == 0)
        return;
    pfl_strs_copy(&copy, l);
    pfl_strs_deinit(l);
    *l = copy;
}

void pfl_strs_split(struct pfl_strs *l, const char *s, char sep)
{
    for (;;) {
        const char *end = strchr(s, sep);
        size_t len = end ? (size_t)(end - s) : strlen(s);
        const char *from = s;
        while (len > 0 && isspace((unsigned char)*from)) {
            from++;
            len--;
        }
        while (len > 0 && isspace((unsigned char)from[len - 1]))
            len--;
        pfl_strs_addn(l, from, len);
        if (!end)
            return;
        s = end + 1;
    }
}

char *pfl_strs_join(const struct pfl_strs *l, const char *sep)
{
    struct pfl_buf b = {0};
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            pfl_buf_append_str(&b, sep);
        pfl_buf_append_str(&b, l->items[i]);
    }
    char *s = pfl_xstrdup(pfl_buf_cstr(&b));
    pfl_buf_deinit(&b);
    return s;
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's distance of two names; both at most 63 bytes, else "far". */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[64];
    if (n > 63 || m > 63)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t up = row[j];
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            row[j] = min3(up + 1, row[j - 1] + 1, diagonal + (same ? 0 : 1));
            diagonal = up;
        }
    }
    return row[m];
}

const char *pfl_nearest(const char *name, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t best_distance = 4;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(name, names[i]);
        if (d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}
