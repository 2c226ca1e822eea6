/* SPDX-License-Identifier: Apache-2.0 */
/* A .npz is a zip file of .npy arrays. The central directory at the end says where each entry is and how large; it is checked
 * against the limit and against what deflate can hold before anything is allocated, and the CRC after. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/mem.h"
#include "learning/table.h"

enum {
    END_BYTES = 22,
    COMMENT_MAX = 65535,
    ENTRIES_MAX = 4096,
    END_MAGIC = 0x06054b50,
    ENTRY_MAGIC = 0x02014b50,
    LOCAL_MAGIC = 0x04034b50,
    STORED = 0,
    DEFLATED = 8,
    DEFLATE_RATIO = 1040, /* no deflate stream expands more than 1032 times; the rest is for its head */
};

struct entry {
    char name[128];
    unsigned method, flags;
    uint32_t crc, packed, size, offset;
};

static uint16_t u16(struct pfl_reader *r)
{
    unsigned low = pfl_reader_u8(r);
    return (uint16_t)(low | (unsigned)pfl_reader_u8(r) << 8);
}

static void skip(struct pfl_reader *r, size_t n)
{
    (void)pfl_reader_bytes(r, n);
}

/* The end record: where the directory begins, and how many entries it has. */
static enum pfl_rc find_directory(struct pfl_bytes in, size_t *ret_offset, unsigned *ret_n, struct pfl_err *err)
{
    size_t from = in.len > END_BYTES + COMMENT_MAX ? in.len - END_BYTES - COMMENT_MAX : 0;
    for (size_t at = in.len < END_BYTES ? 0 : in.len - END_BYTES + 1; at-- > from;) {
        struct pfl_reader r = pfl_reader_of(pfl_bytes_sub(in, at, in.len - at));
        if (pfl_reader_u32le(&r) != END_MAGIC)
            continue;
        skip(&r, 6);
        *ret_n = u16(&r);
        skip(&r, 4);
        *ret_offset = pfl_reader_u32le(&r);
        if (r.failed || *ret_n == UINT16_MAX || *ret_offset == UINT32_MAX)
            break;
        return PFL_OK;
    }
    return pfl_err_set(err, PFL_MALFORMED, "not a zip file of less than 4 GiB");
}

static bool read_entry(struct pfl_reader *r, struct entry *e)
{
    if (pfl_reader_u32le(r) != ENTRY_MAGIC)
        return false;
    skip(r, 4);
    e->flags = u16(r);
    e->method = u16(r);
    skip(r, 4);
    e->crc = pfl_reader_u32le(r);
    e->packed = pfl_reader_u32le(r);
    e->size = pfl_reader_u32le(r);
    size_t name = u16(r), extra = u16(r), comment = u16(r);
    skip(r, 8);
    e->offset = pfl_reader_u32le(r);
    struct pfl_bytes text = pfl_reader_bytes(r, name);
    skip(r, extra + comment);
    if (r->failed || memchr(text.data, '\0', text.len))
        return false;
    (void)snprintf(e->name, sizeof(e->name), "%.*s", (int)(text.len < sizeof(e->name) ? text.len : sizeof(e->name) - 1),
                   (const char *)text.data);
    return true;
}

static enum pfl_rc find_entry(struct pfl_bytes in, const char *const *names, size_t n, struct entry *ret, struct pfl_err *err)
{
    size_t offset = 0, best = n;
    unsigned entries = 0;
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs seen = {0};
    enum pfl_rc rc = find_directory(in, &offset, &entries, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_reader r = pfl_reader_of(pfl_bytes_sub(in, offset, offset < in.len ? in.len - offset : 0));
    for (unsigned i = 0; i < entries && i < ENTRIES_MAX; i++) {
        struct entry e;
        if (!read_entry(&r, &e))
            return pfl_err_set(err, PFL_MALFORMED, "the zip file's directory is damaged at entry %u", i);
        pfl_strs_add(&seen, e.name);
        for (size_t k = 0; k < best; k++) { /* the first of names wins */
            if (!pfl_streq(e.name, names[k]))
                continue;
            best = k;
            *ret = e;
        }
    }
    if (best < n)
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *there = pfl_strs_join(&seen, ", ");
    return pfl_err_set(err, PFL_NOT_FOUND, "no entry '%s'; there are: %.200s", pfl_q(names[0]), pfl_q(there));
}

static enum pfl_rc unpack(struct pfl_bytes packed, const struct entry *e, struct pfl_blob *out, struct pfl_err *err)
{
    if (e->method == STORED) {
        if (packed.len != e->size)
            return pfl_err_set(err, PFL_MALFORMED, "entry '%s' is stored in %zu bytes, %u are announced", pfl_q(e->name),
                               packed.len, e->size);
        memcpy(out->data, packed.data, packed.len);
        return PFL_OK;
    }
    z_stream z = {
        .next_in = (Bytef *)(uintptr_t)packed.data, .avail_in = (uInt)packed.len, .next_out = out->data, .avail_out = e->size};
    if (inflateInit2(&z, -15) != Z_OK)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory to unpack '%s'", pfl_q(e->name));
    int zrc = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    if (zrc != Z_STREAM_END || z.avail_out != 0 || z.avail_in != 0)
        return pfl_err_set(err, PFL_MALFORMED, "entry '%s' is damaged", pfl_q(e->name));
    return PFL_OK;
}

enum pfl_rc pfl_zip_entry(struct pfl_bytes in, const char *const *names, size_t n, size_t limit, struct pfl_blob **ret,
                          struct pfl_err *err)
{
    struct entry e = {0};
    enum pfl_rc rc = find_entry(in, names, n, &e, err);
    if (rc != PFL_OK)
        return rc;
    if ((e.method != STORED && e.method != DEFLATED) || e.flags & 1)
        return pfl_err_set(err, PFL_UNSUPPORTED, "entry '%s' is %s", pfl_q(e.name),
                           e.flags & 1 ? "encrypted" : "packed in a way that is not read");
    if (e.size > limit || e.size / DEFLATE_RATIO > e.packed)
        return pfl_err_set(err, e.size > limit ? PFL_TOO_BIG : PFL_MALFORMED, "entry '%s' announces %u bytes from %u packed ones",
                           pfl_q(e.name), e.size, e.packed);
    struct pfl_reader r = pfl_reader_of(pfl_bytes_sub(in, e.offset, e.offset < in.len ? in.len - e.offset : 0));
    bool local = pfl_reader_u32le(&r) == LOCAL_MAGIC;
    skip(&r, 22);
    size_t name = u16(&r), extra = u16(&r);
    skip(&r, name + extra);
    struct pfl_bytes packed = pfl_reader_bytes(&r, e.packed);
    if (!local || r.failed)
        return pfl_err_set(err, PFL_MALFORMED, "entry '%s' is cut short", pfl_q(e.name));
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *out = pfl_blob_new(e.size);
    if (!out)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %u bytes", e.size);
    rc = unpack(packed, &e, out, err);
    if (rc != PFL_OK)
        return rc;
    if (crc32(crc32(0, NULL, 0), out->data, e.size) != e.crc)
        return pfl_err_set(err, PFL_MALFORMED, "entry '%s' is damaged: its checksum is another one", pfl_q(e.name));
    *ret = pfl_steal(&out);
    return PFL_OK;
}

enum pfl_rc pfl_npz_decode(struct pfl_bytes in, const char *label, struct pfl_table *ret, struct pfl_err *err)
{
    static const char *const features[] = {"x.npy",    "X.npy",       "features.npy",    "images.npy",
                                           "data.npy", "x_train.npy", "train_images.npy"};
    static const char *const labels[] = {"y.npy",      "labels.npy",  "label.npy",       "targets.npy",
                                         "target.npy", "y_train.npy", "train_labels.npy"};
    PFL_AUTO(pfl_freep) char *own = label ? pfl_xasprintf("%s.npy", label) : NULL;
    const char *const mine[] = {own};
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *x_file = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *y_file = NULL;
    struct pfl_npy x, y;
    enum pfl_rc rc = pfl_zip_entry(in, features, PFL_ARRAY_LEN(features), PFL_TABLE_FILE_MAX, &x_file, err);
    if (rc == PFL_OK)
        rc = pfl_zip_entry(in, own ? mine : labels, own ? 1 : PFL_ARRAY_LEN(labels), PFL_TABLE_FILE_MAX, &y_file, err);
    if (rc != PFL_OK)
        return rc;
    if (pfl_npy_decode(pfl_bytes_of(x_file->data, x_file->len), &x, err) != PFL_OK)
        return pfl_err_wrap(err, "features");
    if (pfl_npy_decode(pfl_bytes_of(y_file->data, y_file->len), &y, err) != PFL_OK)
        return pfl_err_wrap(err, "labels");
    return pfl_npy_table(&x, &y, ret, err);
}
