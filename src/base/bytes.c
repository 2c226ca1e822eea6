/* SPDX-License-Identifier: Apache-2.0 */
/* Views, buffers, blobs and the reader. */
#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool pfl_bytes_eq(struct pfl_bytes a, struct pfl_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

struct pfl_bytes pfl_bytes_sub(struct pfl_bytes b, size_t off, size_t len)
{
    if (off > b.len || len > b.len - off)
        return (struct pfl_bytes){NULL, 0};
    return (struct pfl_bytes){b.data ? b.data + off : NULL, len};
}

void pfl_buf_deinit(struct pfl_buf *b)
{
    free(b->data);
    *b = (struct pfl_buf){.limit = b->limit};
}

bool pfl_buf_reserve(struct pfl_buf *b, size_t more)
{
    size_t limit = b->limit ? b->limit : PFL_BUF_LIMIT_DEFAULT;
    size_t want;
    if (b->failed || !pfl_size_add(b->len, more, &want) || want > limit) {
        b->failed = true;
        return false;
    }
    if (want <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < want)
        cap = cap > limit / 2 ? limit : cap * 2;
    uint8_t *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

bool pfl_buf_append(struct pfl_buf *b, const void *data, size_t len)
{
    if (!pfl_buf_reserve(b, len))
        return false;
    if (len > 0)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    return true;
}

bool pfl_buf_append_str(struct pfl_buf *b, const char *s)
{
    return pfl_buf_append(b, s, strlen(s));
}

bool pfl_buf_vprintf(struct pfl_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    char small[256];
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    bool ok = n >= 0;
    if (ok && (size_t)n < sizeof(small)) {
        ok = pfl_buf_append(b, small, (size_t)n);
    } else if (ok) {
        char *big = pfl_try_malloc((size_t)n + 1);
        ok = big && vsnprintf(big, (size_t)n + 1, fmt, again) == n && pfl_buf_append(b, big, (size_t)n);
        free(big);
    }
    va_end(again);
    if (!ok)
        b->failed = true;
    return ok;
}

bool pfl_buf_printf(struct pfl_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool ok = pfl_buf_vprintf(b, fmt, ap);
    va_end(ap);
    return ok;
}

void pfl_buf_clear(struct pfl_buf *b)
{
    b->len = 0;
    b->failed = false;
}

struct pfl_bytes pfl_buf_view(const struct pfl_buf *b)
{
    return (struct pfl_bytes){b->data, b->len};
}

const char *pfl_buf_cstr(struct pfl_buf *b)
{
    if (b->cap == b->len) { /* the NUL may lie one past the limit: it is no content */
        uint8_t *data = realloc(b->data, b->len + 1);
        if (!data)
            return "";
        b->data = data;
        b->cap = b->len + 1;
    }
    b->data[b->len] = '\0';
    return (const char *)b->data;
}

/* A thousand gossip messages wait at once: they are held in one piece, behind what is counted. */
static bool is_small(size_t len)
{
    return len <= PFL_BLOB_SMALL_MAX;
}

struct pfl_blob *pfl_blob_new(size_t len)
{
    struct pfl_blob *b = pfl_try_malloc(sizeof(*b) + (is_small(len) ? len : 0));
    uint8_t *data = !b ? NULL : is_small(len) ? (uint8_t *)(b + 1) : pfl_try_block(len);
    if (!data) {
        free(b);
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->len = b->room = len;
    b->data = data;
    return b;
}

struct pfl_blob *pfl_blob_copy(const void *data, size_t len)
{
    struct pfl_blob *b = pfl_blob_new(len);
    if (b && len > 0)
        memcpy(b->data, data, len);
    return b;
}

struct pfl_blob *pfl_blob_ref(struct pfl_blob *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void pfl_blob_unref(struct pfl_blob *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (!is_small(b->room))
        pfl_block_free(b->data, b->room);
    free(b);
}

struct pfl_reader pfl_reader_of(struct pfl_bytes in)
{
    return (struct pfl_reader){.in = in};
}

size_t pfl_reader_left(const struct pfl_reader *r)
{
    return r->in.len - r->pos;
}

struct pfl_bytes pfl_reader_bytes(struct pfl_reader *r, size_t len)
{
    if (r->failed || len > pfl_reader_left(r)) {
        r->failed = true;
        return (struct pfl_bytes){NULL, 0};
    }
    struct pfl_bytes v = {r->in.data ? r->in.data + r->pos : NULL, len};
    r->pos += len;
    return v;
}

static uint64_t read_int(struct pfl_reader *r, size_t n, bool big)
{
    struct pfl_bytes v = pfl_reader_bytes(r, n);
    uint64_t x = 0;
    for (size_t i = 0; i < v.len; i++)
        x = x << 8 | v.data[big ? i : v.len - 1 - i];
    return x;
}

uint8_t pfl_reader_u8(struct pfl_reader *r)
{
    return (uint8_t)read_int(r, 1, true);
}

uint16_t pfl_reader_u16be(struct pfl_reader *r)
{
    return (uint16_t)read_int(r, 2, true);
}

uint32_t pfl_reader_u32be(struct pfl_reader *r)
{
    return (uint32_t)read_int(r, 4, true);
}

uint64_t pfl_reader_u64be(struct pfl_reader *r)
{
    return read_int(r, 8, true);
}

uint32_t pfl_reader_u32le(struct pfl_reader *r)
{
    return (uint32_t)read_int(r, 4, false);
}

uint64_t pfl_reader_u64le(struct pfl_reader *r)
{
    return read_int(r, 8, false);
}

uint64_t pfl_reader_varint(struct pfl_reader *r)
{
    size_t start = r->pos;
    uint64_t x = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t b = pfl_reader_u8(r);
        if (r->failed || (shift == 63 && b > 1))
            break;
        x |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return x;
    }
    r->failed = true;
    r->pos = start;
    return 0;
}

bool pfl_buf_u8(struct pfl_buf *b, uint8_t v)
{
    return pfl_buf_append(b, &v, 1);
}

bool pfl_buf_u32be(struct pfl_buf *b, uint32_t v)
{
    const uint8_t out[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    return pfl_buf_append(b, out, sizeof(out));
}

bool pfl_buf_u64be(struct pfl_buf *b, uint64_t v)
{
    uint8_t out[8];
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (56 - 8 * i));
    return pfl_buf_append(b, out, sizeof(out));
}

bool pfl_buf_u64le(struct pfl_buf *b, uint64_t v)
{
    uint8_t out[8];
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (8 * i));
    return pfl_buf_append(b, out, sizeof(out));
}

bool pfl_buf_varint(struct pfl_buf *b, uint64_t v)
{
    uint8_t out[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return pfl_buf_append(b, out, n);
}

void pfl_hex(struct pfl_bytes in, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < in.len; i++) {
        out[2 * i] = digits[in.data[i] >> 4];
        out[2 * i + 1] = digits[in.data[i] & 15];
    }
    out[2 * in.len] = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool pfl_unhex(const char *hex, uint8_t *out, size_t len)
{
    if (strlen(hex) != 2 * len)
        return false;
    for (size_t i = 0; i < 2 * len; i++) {
        if (hex_digit(hex[i]) < 0)
            return false;
    }
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    return true;
}
