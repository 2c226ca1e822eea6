/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes: a view, a growable buffer with a hard limit, a refcounted block and a sticky reader.
 * No pointer arithmetic on untrusted bytes happens outside these files. */
#ifndef PFL_BASE_BYTES_H
#define PFL_BASE_BYTES_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

/** A view: borrowed, valid as long as its owner says. */
struct pfl_bytes {
    const uint8_t *data;
    size_t len;
};
static inline struct pfl_bytes pfl_bytes_of(const void *data, size_t len)
{
    return (struct pfl_bytes){(const uint8_t *)data, len};
}
bool pfl_bytes_eq(struct pfl_bytes a, struct pfl_bytes b);
/** View of [off, off+len); the empty view where that is outside. */
struct pfl_bytes pfl_bytes_sub(struct pfl_bytes b, size_t off, size_t len);

/** Growable buffer. Zero-initialised with a limit: struct pfl_buf b = {.limit = 4096}; limit 0 means PFL_BUF_LIMIT_DEFAULT.
 *  Appends past the limit or without memory set `failed` and change nothing; every later append fails too. */
struct pfl_buf {
    uint8_t *data; /* owned */
    size_t len, cap, limit;
    bool failed;
};
#define PFL_BUF_LIMIT_DEFAULT ((size_t)64 << 20)
void pfl_buf_deinit(struct pfl_buf *b); /* for PFL_AUTO too; the buffer can be used again */
bool pfl_buf_append(struct pfl_buf *b, const void *data, size_t len);
bool pfl_buf_append_str(struct pfl_buf *b, const char *s);
bool pfl_buf_printf(struct pfl_buf *b, const char *fmt, ...) PFL_PRINTF(2, 3);
bool pfl_buf_vprintf(struct pfl_buf *b, const char *fmt, va_list ap);
bool pfl_buf_reserve(struct pfl_buf *b, size_t more); /* room for `more` bytes behind len */
void pfl_buf_clear(struct pfl_buf *b);                /* len = 0, failed = false, memory kept */
struct pfl_bytes pfl_buf_view(const struct pfl_buf *b);
/** The content as a NUL-terminated string, owned by the buffer until its next change ("" when empty). */
const char *pfl_buf_cstr(struct pfl_buf *b);

/** Refcounted block of bytes: what a received message lives in. The refcount is atomic; the bytes are written before sharing. */
struct pfl_blob {
    atomic_uint refs;
    size_t len, room; /* len may become less than what was asked for */
    uint8_t *data;    /* owned, 64-byte aligned; 16 where room is PFL_BLOB_SMALL_MAX at most */
};
enum { PFL_BLOB_SMALL_MAX = 2048 };
_Static_assert(sizeof(struct pfl_blob) % 16 == 0, "what is behind it is aligned");
/** Checked size, uninitialised bytes, one reference. NULL where memory is gone. */
struct pfl_blob *pfl_blob_new(size_t len);
struct pfl_blob *pfl_blob_copy(const void *data, size_t len);
struct pfl_blob *pfl_blob_ref(struct pfl_blob *b);
void pfl_blob_unref(struct pfl_blob *b); /* accepts NULL */
PFL_DEFINE_FREEP(blob, struct pfl_blob, pfl_blob_unref)

/** A cursor over untrusted bytes. A read past the end sets `failed`, returns zero and leaves the cursor where it was. */
struct pfl_reader {
    struct pfl_bytes in;
    size_t pos;
    bool failed;
};
struct pfl_reader pfl_reader_of(struct pfl_bytes in);
size_t pfl_reader_left(const struct pfl_reader *r);
uint8_t pfl_reader_u8(struct pfl_reader *r);
uint16_t pfl_reader_u16be(struct pfl_reader *r);
uint32_t pfl_reader_u32be(struct pfl_reader *r);
uint64_t pfl_reader_u64be(struct pfl_reader *r);
uint32_t pfl_reader_u32le(struct pfl_reader *r);
uint64_t pfl_reader_u64le(struct pfl_reader *r);
uint64_t pfl_reader_varint(struct pfl_reader *r); /* protobuf base-128, at most 10 bytes */
struct pfl_bytes pfl_reader_bytes(struct pfl_reader *r, size_t len);

/** Big-endian and little-endian writers. */
bool pfl_buf_u8(struct pfl_buf *b, uint8_t v);
bool pfl_buf_u32be(struct pfl_buf *b, uint32_t v);
bool pfl_buf_u64be(struct pfl_buf *b, uint64_t v);
bool pfl_buf_u64le(struct pfl_buf *b, uint64_t v);
bool pfl_buf_varint(struct pfl_buf *b, uint64_t v);

/** Lower-case hex of in, NUL-terminated; out needs 2 * in.len + 1 bytes. */
void pfl_hex(struct pfl_bytes in, char *out);
/** Parses hex, exactly 2 * len digits. */
bool pfl_unhex(const char *hex, uint8_t *out, size_t len);

#endif
