/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed contributions, undone. The bytes are a peer's: the container is read like any model from a peer, and what it holds may
 * only become values of the tensors that are expected, never more of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "learning/compress_parts.h"
#include "learning/method.h"
#include "wire/payload.h"

struct box {
    struct pfl_model *model; /* owned: the container */
    bool *used;              /* owned: of its tensors */
    enum pfl_technique steps[PFL_TECHNIQUES];
    size_t n_steps;
    unsigned axis;
};

static void box_deinit(struct box *b)
{
    pfl_model_unref(b->model);
    free(b->used);
}

bool pfl_compress_works_on(const struct pfl_tensor_desc *t)
{
    return t->dtype == PFL_F32 && t->bytes > 0 && !pfl_method_is_extra(t);
}

bool pfl_compress_matrix(unsigned rank, const size_t *shape, size_t *ret_m, size_t *ret_n)
{
    size_t n = 1;
    for (unsigned i = 1; i < rank; i++)
        n *= shape[i];
    *ret_m = rank > 0 ? shape[0] : 1;
    *ret_n = n;
    return rank > 1 && *ret_m > 1 && n > 1;
}

static enum pfl_rc bad(struct pfl_err *err, const char *name, const char *suffix, const char *what)
{
    return pfl_err_set(err, PFL_MALFORMED, "compressed model: tensor '%s%s' %s", pfl_q(name), suffix, what);
}

static const struct pfl_tensor_desc *find(struct box *b, const char *name, const char *suffix)
{
    char full[PFL_PART_NAME_MAX];
    if (snprintf(full, sizeof(full), "%s%s", name, suffix) >= (int)sizeof(full))
        return NULL;
    const struct pfl_tensor_desc *t = pfl_layout_find(b->model->layout, full);
    if (t)
        b->used[t - b->model->layout->tensors] = true;
    return t;
}

/* Some tensor made of this one by the technique with this suffix. */
static bool has(const struct box *b, const char *name, const char *suffix)
{
    char full[PFL_PART_NAME_MAX];
    int len = snprintf(full, sizeof(full), "%s%s", name, suffix);
    for (size_t i = 0; len < (int)sizeof(full) && i < b->model->layout->n; i++) {
        const char *other = b->model->layout->tensors[i].name;
        if (strncmp(other, full, (size_t)len) == 0 && (other[len] == '\0' || other[len] == '#'))
            return true;
    }
    return false;
}

/* The values of a part: n of them into out, whatever was made of them from technique `stage` on. */
struct part {
    const char *name;
    size_t n;
    unsigned rank;
    const size_t *shape;
};
static enum pfl_rc get(struct box *b, const struct part *p, size_t stage, float *out, struct pfl_err *err);

static const uint8_t *bytes_of(const struct box *b, const struct pfl_tensor_desc *t)
{
    return b->model->data + t->offset;
}

/* The `n` 4-byte values of tensor name#suffix, copied: they need not be aligned. */
static enum pfl_rc words(struct box *b, const char *name, const char *suffix, enum pfl_dtype dtype, size_t n, void *out,
                         struct pfl_err *err)
{
    const struct pfl_tensor_desc *t = find(b, name, suffix);
    if (!t)
        return bad(err, name, suffix, "is missing");
    if (t->dtype != dtype || t->bytes != 4 * n)
        return bad(err, name, suffix, "has another type or size than it must");
    if (n > 0)
        memcpy(out, bytes_of(b, t), 4 * n);
    return PFL_OK;
}

/* ---- topk ---- */

/* Byte i of a bitmap of n bits; what lies behind the end counts for nothing. */
static unsigned bits_at(const uint8_t *bits, size_t i, size_t n)
{
    size_t left = n - 8 * i;
    return left < 8 ? bits[i] & ((1U << left) - 1U) : bits[i];
}

static size_t count_bits(const uint8_t *bits, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; 8 * i < n; i++)
        count += (size_t)__builtin_popcount(bits_at(bits, i, n));
    return count;
}

/* The values where the bits are. */
static void spread(const uint8_t *bits, size_t n, const float *x, float *out)
{
    for (size_t i = 0; 8 * i < n; i++) {
        for (unsigned left = bits_at(bits, i, n); left; left &= left - 1)
            out[8 * i + (size_t)__builtin_ctz(left)] = *x++;
    }
}

static enum pfl_rc get_sparse(struct box *b, const struct part *p, size_t stage, float *out, struct pfl_err *err)
{
    const struct pfl_tensor_desc *bits = find(b, p->name, "#b"), *at = bits ? NULL : find(b, p->name, "#i");
    if (bits ? bits->dtype != PFL_U8 || bits->bytes != (p->n + 7) / 8 : !at || at->dtype != PFL_I32 || at->bytes > 4 * p->n)
        return bad(err, p->name, "", "comes without positions, or with ones of another type or size than they must have");
    char name[PFL_PART_NAME_MAX];
    size_t k = bits ? count_bits(bytes_of(b, bits), p->n) : at->bytes / 4;
    if (snprintf(name, sizeof(name), "%s#x", p->name) >= (int)sizeof(name))
        return bad(err, p->name, "", "has too long a name");
    PFL_AUTO(pfl_freep) float *x = pfl_try_malloc(k ? k * sizeof(*x) : 1);
    if (!x)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu values", k);
    const struct part values = {.name = name, .n = k, .rank = 1, .shape = &k};
    enum pfl_rc rc = get(b, &values, stage + 1, x, err);
    if (rc != PFL_OK)
        return rc;
    for (size_t i = 0; i < p->n; i++)
        out[i] = 0.0F;
    if (bits)
        spread(bytes_of(b, bits), p->n, x, out);
    int64_t last = -1;
    for (size_t i = 0; at && i < k; i++) {
        int32_t pos;
        memcpy(&pos, bytes_of(b, at) + 4 * i, sizeof(pos));
        if (pos <= last || (size_t)pos >= p->n)
            return bad(err, p->name, "#i", "has positions that do not ascend or lie outside");
        out[pos] = x[i];
        last = pos;
    }
    return PFL_OK;
}

/* ---- low_rank ---- */

static void multiply(const float *u, const float *v, size_t m, size_t r, size_t n, double *row, float *out)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++)
            row[j] = 0.0;
        for (size_t k = 0; k < r; k++) {
            double f = (double)u[i * r + k];
            for (size_t j = 0; j < n; j++)
                row[j] += f * (double)v[k * n + j];
        }
        for (size_t j = 0; j < n; j++)
            out[i * n + j] = (float)row[j];
    }
}

static enum pfl_rc get_product(struct box *b, const struct part *p, size_t stage, float *out, struct pfl_err *err)
{
    size_t m, n;
    int32_t rank = 0;
    char u_name[PFL_PART_NAME_MAX], v_name[PFL_PART_NAME_MAX];
    if (!pfl_compress_matrix(p->rank, p->shape, &m, &n))
        return bad(err, p->name, "", "is no matrix, and came as a product");
    enum pfl_rc rc = words(b, p->name, "#r", PFL_I32, 1, &rank, err);
    if (rc != PFL_OK)
        return rc;
    if (rank < 1 || (size_t)rank > (m < n ? m : n) || snprintf(u_name, sizeof(u_name), "%s#u", p->name) >= (int)sizeof(u_name) ||
        snprintf(v_name, sizeof(v_name), "%s#v", p->name) >= (int)sizeof(v_name))
        return bad(err, p->name, "#r", "has a rank that its shape cannot have");
    size_t r = (size_t)rank, u_shape[2] = {m, r}, v_shape[2] = {r, n};
    PFL_AUTO(pfl_freep) float *u = pfl_try_malloc((m + n) * r * sizeof(*u));
    PFL_AUTO(pfl_freep) double *row = pfl_try_malloc(n * sizeof(*row));
    if (!u || !row)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu values", (m + n) * r);
    const struct part left = {.name = u_name, .n = m * r, .rank = 2, .shape = u_shape};
    const struct part right = {.name = v_name, .n = r * n, .rank = 2, .shape = v_shape};
    rc = get(b, &left, stage + 1, u, err);
    if (rc == PFL_OK)
        rc = get(b, &right, stage + 1, u + m * r, err);
    if (rc == PFL_OK)
        multiply(u, u + m * r, m, r, n, row, out);
    return rc;
}

/* ---- ptq ---- */

static enum pfl_rc get_quantized(struct box *b, const struct part *p, float *out, struct pfl_err *err)
{
    const struct pfl_tensor_desc *t = find(b, p->name, ""), *s = find(b, p->name, "#s");
    bool half = t && (t->dtype == PFL_F16 || t->dtype == PFL_BF16);
    if (!t || t->bytes != p->n * pfl_dtype_bytes(t->dtype) ||
        !(half || t->dtype == PFL_I8 || t->dtype == PFL_U8 || t->dtype == PFL_I16))
        return bad(err, p->name, "", "is missing, or has another type or size than it must");
    if (half) {
        pfl_unhalve(t->dtype, bytes_of(b, t), p->n, out);
        return PFL_OK;
    }
    bool per_channel = s && s->bytes != 4;
    struct pfl_channels c = pfl_channels_of(per_channel, b->axis, p->rank, p->shape);
    PFL_AUTO(pfl_freep) float *scale = pfl_try_malloc(c.channels * 8);
    if (!scale)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu scales", c.channels);
    int32_t *zero = (int32_t *)(void *)(scale + c.channels);
    bool asymmetric = has(b, p->name, "#z");
    enum pfl_rc rc = words(b, p->name, "#s", PFL_F32, c.channels, scale, err);
    if (rc == PFL_OK && asymmetric)
        rc = words(b, p->name, "#z", PFL_I32, c.channels, zero, err);
    if (rc == PFL_OK)
        pfl_dequantize(t->dtype, bytes_of(b, t), p->n, c, scale, asymmetric ? zero : NULL, out);
    return rc;
}

static enum pfl_rc get(struct box *b, const struct part *p, size_t stage, float *out, struct pfl_err *err)
{
    if (stage == b->n_steps)
        return words(b, p->name, "", PFL_F32, p->n, out, err);
    switch (b->steps[stage]) {
    case PFL_TECHNIQUE_TOPK:
        return has(b, p->name, "#x") ? get_sparse(b, p, stage, out, err) : get(b, p, stage + 1, out, err);
    case PFL_TECHNIQUE_LOW_RANK:
        return has(b, p->name, "#u") ? get_product(b, p, stage, out, err) : get(b, p, stage + 1, out, err);
    case PFL_TECHNIQUE_PTQ:
        return get_quantized(b, p, out, err);
    default:
        return get(b, p, stage + 1, out, err);
    }
}

/* ---- the container ---- */

/* ["topk","ptq"], as we write it. */
static enum pfl_rc read_steps(struct box *b, const char *text, struct pfl_err *err)
{
    if (!text || text[0] != '[')
        return pfl_err_set(err, PFL_MALFORMED, "compressed model: its techniques are missing");
    for (const char *at = text + 1; *at != ']'; at += *at == ',') {
        const char *end = *at == '"' ? strchr(at + 1, '"') : NULL;
        if (!end || (end[1] != ',' && end[1] != ']'))
            return pfl_err_set(err, PFL_MALFORMED, "compressed model: its techniques are no list of names");
        PFL_AUTO(pfl_freep) char *name = pfl_xstrndup(at + 1, (size_t)(end - at - 1));
        enum pfl_technique t;
        if (!pfl_technique_parse(name, &t) || t >= PFL_TECHNIQUE_ZLIB)
            return pfl_err_set(err, PFL_UNSUPPORTED, "compressed model: technique '%s' is not known here", pfl_q(name));
        if (b->n_steps == PFL_TECHNIQUES || (b->n_steps > 0 && b->steps[b->n_steps - 1] == PFL_TECHNIQUE_PTQ))
            return pfl_err_set(err, PFL_MALFORMED, "compressed model: its techniques are too many, or in an order that cannot be");
        b->steps[b->n_steps++] = t;
        at = end + 1;
    }
    return PFL_OK;
}

static enum pfl_rc open_box(struct box *b, struct pfl_blob *blob, size_t off, size_t len, uint8_t *ret_base, bool *ret_has_base,
                            struct pfl_err *err)
{
    struct pfl_bytes file = pfl_bytes_of(blob->data + off, len);
    enum pfl_rc rc = pfl_safetensors_decode(blob, off, len, NULL, &b->model, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) char *steps = pfl_safetensors_meta_get(file, "techniques");
    PFL_AUTO(pfl_freep) char *base = pfl_safetensors_meta_get(file, "base");
    PFL_AUTO(pfl_freep) char *axis = pfl_safetensors_meta_get(file, "axis");
    int64_t n_axis = 0;
    rc = read_steps(b, steps, err);
    if (rc != PFL_OK)
        return rc;
    if (axis && !pfl_parse_i64(axis, 0, PFL_TENSOR_RANK_MAX - 1, &n_axis))
        return pfl_err_set(err, PFL_MALFORMED, "compressed model: its axis is no small number");
    if (base && (strlen(base) != 2 * PFL_BASE_DIGEST_LEN || !pfl_unhex(base, ret_base, PFL_BASE_DIGEST_LEN)))
        return pfl_err_set(err, PFL_MALFORMED, "compressed model: its base is no SHA-256 in hex");
    *ret_has_base = base != NULL;
    b->axis = (unsigned)n_axis;
    b->used = pfl_xcalloc(b->model->layout->n, sizeof(*b->used));
    return PFL_OK;
}

static enum pfl_rc take_raw(struct box *b, const char *name, const struct pfl_tensor_desc *w, uint8_t *out, struct pfl_err *err)
{
    const struct pfl_tensor_desc *t = find(b, name, "");
    if (!t || t->dtype != w->dtype || t->bytes != w->bytes)
        return bad(err, name, "", "is missing, or has another type or size than it must");
    if (t->bytes > 0)
        memcpy(out + w->offset, bytes_of(b, t), t->bytes);
    return PFL_OK;
}

static enum pfl_rc take_all(struct box *b, struct pfl_layout *want, const struct pfl_model *base, float *deltas, uint8_t *out,
                            struct pfl_err *err)
{
    for (size_t i = 0; i < want->n; i++) {
        const struct pfl_tensor_desc *w = &want->tensors[i];
        char name[PFL_PART_NAME_MAX];
        (void)snprintf(name, sizeof(name), "%zu", i);
        if (!base || !pfl_compress_works_on(w)) {
            enum pfl_rc rc = take_raw(b, name, w, out, err);
            if (rc != PFL_OK)
                return rc;
            continue;
        }
        float *x = (float *)(void *)(out + w->offset);
        const float *x0 = (const float *)(const void *)(base->data + base->layout->tensors[i].offset);
        const struct part p = {.name = name, .n = w->bytes / sizeof(float), .rank = w->rank, .shape = w->shape};
        enum pfl_rc rc = get(b, &p, 0, x, err);
        if (rc != PFL_OK)
            return rc;
        if (deltas) {
            memcpy(deltas, x, w->bytes);
            deltas += p.n;
        }
        for (size_t k = 0; k < p.n; k++)
            x[k] = (float)((double)x0[k] + (double)x[k]);
    }
    for (size_t i = 0; i < b->model->layout->n; i++) {
        if (!b->used[i])
            return bad(err, b->model->layout->tensors[i].name, "", "belongs to nothing");
    }
    return PFL_OK;
}

static bool fits(const struct pfl_layout *base, const struct pfl_layout *want)
{
    for (size_t i = 0; i < want->n; i++) {
        const struct pfl_tensor_desc *w = &want->tensors[i];
        if (pfl_compress_works_on(w) && (i >= base->n || base->tensors[i].dtype != PFL_F32 || base->tensors[i].bytes != w->bytes))
            return false;
    }
    return true;
}

static enum pfl_rc unknown_base(const uint8_t *digest, struct pfl_err *err)
{
    enum { SHOWN = 8 };
    char hex[2 * SHOWN + 1];
    pfl_hex(pfl_bytes_of(digest, SHOWN), hex);
    return pfl_err_set(err, PFL_STATE,
                       "compressed model: it is a difference to a model that this node does not have (any more), SHA-256 %s...: "
                       "it must come whole",
                       hex);
}

static enum pfl_rc unpack(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want,
                          const struct pfl_model *(*base_of)(void *, const uint8_t *), void *user, float *deltas,
                          struct pfl_model **ret, struct pfl_err *err)
{
    PFL_AUTO(box_deinit) struct box b = {0};
    uint8_t digest[PFL_BASE_DIGEST_LEN];
    bool has_base = false;
    enum pfl_rc rc = open_box(&b, blob, off, len, digest, &has_base, err);
    if (rc != PFL_OK)
        return rc;
    if (has_base != (b.n_steps > 0))
        return pfl_err_set(err, PFL_MALFORMED, "compressed model: a base without techniques, or the other way round");
    const struct pfl_model *base = has_base ? base_of(user, digest) : NULL;
    if (has_base && !base)
        return unknown_base(digest, err);
    if (base && !fits(base->layout, want))
        return pfl_err_set(err, PFL_MALFORMED, "compressed model: it is a difference to a model of another shape");
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    rc = pfl_model_new(want, &m, err);
    if (rc == PFL_OK)
        rc = take_all(&b, want, base, deltas, pfl_model_data_mut(m), err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&m);
    return rc;
}

enum pfl_rc pfl_decompress_to(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want,
                              const struct pfl_model *(*base_of)(void *user, const uint8_t *digest), void *user, float *deltas,
                              struct pfl_model **ret, struct pfl_err *err)
{
    size_t max = pfl_compressed_max(want);
    struct pfl_bytes in = pfl_bytes_sub(pfl_bytes_of(blob->data, blob->len), off, len);
    if (in.len != len || len > max)
        return pfl_err_set(err, PFL_TOO_BIG, "a compressed model of %zu bytes, the limit is %zu", len, max);
    if (len < PFL_SQUEEZED_HEAD || memcmp(in.data, PFL_SQUEEZED_MAGIC, 4) != 0)
        return unpack(blob, off, len, want, base_of, user, deltas, ret, err);
    struct pfl_reader r = pfl_reader_of(in);
    (void)pfl_reader_bytes(&r, 4);
    unsigned kind = pfl_reader_u8(&r);
    uint64_t raw = pfl_reader_u64le(&r);
    if (kind < 1 || kind > 3)
        return pfl_err_set(err, PFL_UNSUPPORTED, "compressed model: byte compressor %u is not known here", kind);
    if (raw > max)
        return pfl_err_set(err, PFL_TOO_BIG, "a compressed model that states %llu bytes, the limit is %zu", (unsigned long long)raw,
                           max);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *inner = NULL;
    struct pfl_bytes rest = pfl_reader_bytes(&r, pfl_reader_left(&r));
    enum pfl_rc rc = pfl_unsqueeze_bytes((enum pfl_technique)(PFL_TECHNIQUE_ZLIB + kind - 1), rest, (size_t)raw, &inner, err);
    return rc == PFL_OK ? unpack(inner, 0, inner->len, want, base_of, user, deltas, ret, err) : rc;
}

enum pfl_rc pfl_decompress(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want,
                           const struct pfl_model *(*base_of)(void *user, const uint8_t *digest), void *user,
                           struct pfl_model **ret, struct pfl_err *err)
{
    return pfl_decompress_to(blob, off, len, want, base_of, user, NULL, ret, err);
}
