/* SPDX-License-Identifier: Apache-2.0 */
/* IDX files come from outside: the head says how large the values are, and that is checked against the limit and against what
 * the file can hold before anything of that size is allocated. A gzip file is unpacked head first, then straight into a block
 * of exactly the size that the head announced, so it can neither grow past it nor end before it unnoticed. */
#include "learning/idx.h"

#include <zlib.h>

#include "base/fs.h"

enum {
    HEAD_MAX = 4 + 4 * PFL_IDX_RANK_MAX,
    TYPE_U8 = 0x08,
    GZIP_WINDOW = 15 + 16, /* the largest window, gzip framing only */
    DEFLATE_RATIO = 1040,  /* no deflate stream expands more than 1032 times; the rest is for its head */
};

/* Reads the head; *ret_size is the product of the dimensions, at most PFL_IDX_VALUES_MAX. */
static enum pfl_rc parse_head(struct pfl_reader *r, unsigned rank, struct pfl_idx *x, size_t *ret_size, struct pfl_err *err)
{
    uint16_t zero = pfl_reader_u16be(r);
    uint8_t type = pfl_reader_u8(r), got = pfl_reader_u8(r);
    if (r->failed)
        return pfl_err_set(err, PFL_MALFORMED, "%zu bytes are too few for an IDX file", r->in.len);
    if (zero != 0)
        return pfl_err_set(err, PFL_MALFORMED, "not an IDX file: it starts with 0x%04x, not with 0x0000", zero);
    if (type != TYPE_U8)
        return pfl_err_set(err, PFL_UNSUPPORTED, "IDX values of type 0x%02x; only unsigned bytes (0x08) are read", type);
    if (got != rank)
        return pfl_err_set(err, PFL_MALFORMED, "%u dimensions where %u are expected", got, rank);
    size_t size = 1;
    for (unsigned i = 0; i < rank; i++) {
        x->dims[i] = pfl_reader_u32be(r);
        if (r->failed)
            return pfl_err_set(err, PFL_MALFORMED, "cut short within the IDX head, at byte %zu", r->in.len);
        if (x->dims[i] == 0)
            return pfl_err_set(err, PFL_MALFORMED, "dimension %u of the IDX head is 0", i);
        if (!pfl_size_mul(size, x->dims[i], &size) || size > PFL_IDX_VALUES_MAX)
            return pfl_err_set(err, PFL_TOO_BIG, "the IDX head announces more than %zu bytes of values", PFL_IDX_VALUES_MAX);
    }
    x->rank = rank;
    *ret_size = size;
    return PFL_OK;
}

static enum pfl_rc decode_plain(struct pfl_blob *in, unsigned rank, struct pfl_idx *ret, struct pfl_err *err)
{
    struct pfl_idx x = {0};
    struct pfl_reader r = pfl_reader_of(pfl_bytes_of(in->data, in->len));
    size_t size;
    enum pfl_rc rc = parse_head(&r, rank, &x, &size, err);
    if (rc != PFL_OK)
        return rc;
    size_t left = pfl_reader_left(&r);
    if (left < size)
        return pfl_err_set(err, PFL_MALFORMED, "cut short: %zu bytes of values, the IDX head announces %zu", left, size);
    if (left > size)
        return pfl_err_set(err, PFL_MALFORMED, "%zu bytes behind the end of the values", left - size);
    x.values = pfl_reader_bytes(&r, size);
    x.blob = pfl_blob_ref(in);
    *ret = x;
    return PFL_OK;
}

static enum pfl_rc zlib_failed(const z_stream *z, int rc, struct pfl_err *err)
{
    if (rc == Z_MEM_ERROR)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory to unpack gzip");
    return pfl_err_set(err, PFL_MALFORMED, "damaged gzip: %s", z->msg ? z->msg : "it ends too early");
}

/* Unpacks up to len bytes; *ret_got is what there was before the stream's end. */
static enum pfl_rc inflate_some(z_stream *z, uint8_t *out, size_t len, size_t *ret_got, bool *ret_end, struct pfl_err *err)
{
    z->next_out = out;
    z->avail_out = (uInt)len;
    int rc = Z_OK;
    while (rc == Z_OK && z->avail_out > 0)
        rc = inflate(z, Z_NO_FLUSH);
    if (rc != Z_OK && rc != Z_STREAM_END)
        return zlib_failed(z, rc, err);
    *ret_got = len - z->avail_out;
    *ret_end = rc == Z_STREAM_END;
    return PFL_OK;
}

/* The stream has to end here, and the file with it. */
static enum pfl_rc expect_end(z_stream *z, bool ended, struct pfl_err *err)
{
    uint8_t more;
    size_t got = 0;
    if (!ended) {
        enum pfl_rc rc = inflate_some(z, &more, 1, &got, &ended, err);
        if (rc != PFL_OK)
            return rc;
    }
    if (got > 0)
        return pfl_err_set(err, PFL_MALFORMED, "bytes behind the end of the values");
    if (z->avail_in > 0)
        return pfl_err_set(err, PFL_MALFORMED, "%u bytes behind the end of the gzip stream", z->avail_in);
    return PFL_OK;
}

static enum pfl_rc inflate_idx(z_stream *z, size_t packed, unsigned rank, struct pfl_idx *ret, struct pfl_err *err)
{
    struct pfl_idx x = {0};
    uint8_t head[HEAD_MAX];
    size_t got, size;
    bool ended;
    enum pfl_rc rc = inflate_some(z, head, 4 + 4 * (size_t)rank, &got, &ended, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_reader r = pfl_reader_of(pfl_bytes_of(head, got));
    rc = parse_head(&r, rank, &x, &size, err);
    if (rc != PFL_OK)
        return rc;
    if (size / DEFLATE_RATIO > packed)
        return pfl_err_set(err, PFL_MALFORMED, "the IDX head announces %zu bytes, which no gzip file of %zu bytes holds", size,
                           packed);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_new(size);
    if (!blob)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu bytes of IDX values", size);
    got = 0;
    if (!ended)
        rc = inflate_some(z, blob->data, size, &got, &ended, err);
    if (rc != PFL_OK)
        return rc;
    if (got < size)
        return pfl_err_set(err, PFL_MALFORMED, "cut short: %zu bytes of values, the IDX head announces %zu", got, size);
    rc = expect_end(z, ended, err);
    if (rc != PFL_OK)
        return rc;
    x.values = pfl_bytes_of(blob->data, size);
    x.blob = pfl_steal(&blob);
    *ret = x;
    return PFL_OK;
}

enum pfl_rc pfl_idx_decode(struct pfl_blob *in, unsigned rank, struct pfl_idx *ret, struct pfl_err *err)
{
    PFL_ASSERT(rank >= 1 && rank <= PFL_IDX_RANK_MAX);
    if (in->len > PFL_IDX_VALUES_MAX + HEAD_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%zu bytes, the limit is %zu", in->len, PFL_IDX_VALUES_MAX + HEAD_MAX);
    if (in->len < 2 || in->data[0] != 0x1f || in->data[1] != 0x8b)
        return decode_plain(in, rank, ret, err);
    z_stream z = {.next_in = in->data, .avail_in = (uInt)in->len};
    int zrc = inflateInit2(&z, GZIP_WINDOW);
    if (zrc != Z_OK)
        return zlib_failed(&z, zrc, err);
    enum pfl_rc rc = inflate_idx(&z, in->len, rank, ret, err);
    inflateEnd(&z);
    return rc;
}

enum pfl_rc pfl_idx_load(const char *path, unsigned rank, struct pfl_idx *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *file = NULL;
    enum pfl_rc rc = pfl_fs_read(path, PFL_IDX_VALUES_MAX + HEAD_MAX, &file, err);
    if (rc != PFL_OK)
        return rc;
    if (pfl_idx_decode(file, rank, ret, err) != PFL_OK)
        return pfl_err_wrap(err, "%s", path);
    return PFL_OK;
}

void pfl_idx_deinit(struct pfl_idx *x)
{
    pfl_blob_unref(x->blob);
    *x = (struct pfl_idx){0};
}
