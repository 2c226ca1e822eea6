/* SPDX-License-Identifier: Apache-2.0 */
/* zlib, lzma (xz), zstd. The reader is given the length that must come out, has room for that much and no more, and limits what the
 * decoder itself takes: a small message cannot become a large one. */
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "learning/squeeze.h"

static const uint64_t lzma_memory = (uint64_t)128 << 20;

static size_t bound(enum pfl_technique t, size_t len)
{
    if (t == PFL_TECHNIQUE_ZLIB)
        return compressBound((uLong)len);
    return t == PFL_TECHNIQUE_LZMA ? lzma_stream_buffer_bound(len) : ZSTD_compressBound(len);
}

/* Into out[0, max); the length, or 0. */
static size_t squeeze(enum pfl_technique t, int level, struct pfl_bytes in, uint8_t *out, size_t max)
{
    if (t == PFL_TECHNIQUE_ZLIB) {
        uLongf len = (uLongf)max;
        return compress2(out, &len, in.data, (uLong)in.len, level) == Z_OK ? len : 0;
    }
    if (t == PFL_TECHNIQUE_LZMA) {
        size_t len = 0;
        lzma_ret rc = lzma_easy_buffer_encode((uint32_t)level, LZMA_CHECK_CRC32, NULL, in.data, in.len, out, &len, max);
        return rc == LZMA_OK ? len : 0;
    }
    size_t len = ZSTD_compress(out, max, in.data, in.len, level);
    return ZSTD_isError(len) ? 0 : len;
}

enum pfl_rc pfl_squeeze_bytes(enum pfl_technique t, int level, struct pfl_bytes in, struct pfl_buf *out, struct pfl_err *err)
{
    size_t max = bound(t, in.len);
    if (max < in.len || !pfl_buf_reserve(out, max))
        return pfl_err_set(err, PFL_TOO_BIG, "%s: no room for %zu bytes", pfl_technique_name(t), max);
    size_t len = squeeze(t, level, in, out->data + out->len, max);
    if (len == 0)
        return pfl_err_set(err, PFL_UNAVAILABLE, "%s: %zu bytes were not compressed", pfl_technique_name(t), in.len);
    out->len += len;
    return PFL_OK;
}

static bool unsqueeze(enum pfl_technique t, struct pfl_bytes in, uint8_t *out, size_t len)
{
    if (t == PFL_TECHNIQUE_ZLIB) {
        uLongf got = (uLongf)len;
        uLong used = (uLong)in.len;
        return uncompress2(out, &got, in.data, &used) == Z_OK && got == len && used == in.len;
    }
    if (t == PFL_TECHNIQUE_LZMA) {
        uint64_t memory = lzma_memory;
        size_t from = 0, to = 0;
        lzma_ret rc = lzma_stream_buffer_decode(&memory, 0, NULL, in.data, &from, in.len, out, &to, len);
        return rc == LZMA_OK && to == len && from == in.len;
    }
    size_t got = ZSTD_decompress(out, len, in.data, in.len);
    return !ZSTD_isError(got) && got == len;
}

enum pfl_rc pfl_unsqueeze_bytes(enum pfl_technique t, struct pfl_bytes in, size_t len, struct pfl_blob **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_new(len);
    if (!blob)
        return pfl_err_set(err, PFL_TOO_BIG, "no memory for %zu bytes", len);
    if (!unsqueeze(t, in, blob->data, len))
        return pfl_err_set(err, PFL_MALFORMED, "%s: its bytes do not decompress to the %zu that it states", pfl_technique_name(t),
                           len);
    *ret = pfl_steal(&blob);
    return PFL_OK;
}
