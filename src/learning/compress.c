/* SPDX-License-Identifier: Apache-2.0 */
/* Contributions, compressed. A tensor begins as one part, the difference to the base; each technique makes other parts of those
 * that are still numbers (F32 and live). What comes out is undone at once by the code that peers run, so that this node counts the
 * same values as they do. */
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "learning/compress_parts.h"
#include "wire/payload.h"

struct part {
    char name[PFL_PART_NAME_MAX];
    enum pfl_dtype dtype;
    unsigned rank;
    size_t shape[PFL_TENSOR_RANK_MAX];
    uint8_t *data; /* owned */
    size_t bytes;
    bool live; /* numbers that the next technique may work on */
};
struct parts {
    struct part *items; /* owned */
    size_t n, cap;
};

static void parts_deinit(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->items[i].data);
    free(p->items);
    *p = (struct parts){0};
}

/* A new part with room for its data; NULL where memory is gone. Pointers into `p` end with it. */
static struct part *add(struct parts *p, const char *of, const char *suffix, enum pfl_dtype dtype, unsigned rank,
                        const size_t *shape)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 16;
        p->items = pfl_xrealloc(p->items, p->cap * sizeof(*p->items));
    }
    struct part t = {.dtype = dtype, .rank = rank, .bytes = pfl_dtype_bytes(dtype)};
    (void)snprintf(t.name, sizeof(t.name), "%s%s", of, suffix);
    for (unsigned i = 0; i < rank; i++) {
        t.shape[i] = shape[i];
        t.bytes *= shape[i];
    }
    t.data = pfl_try_malloc(t.bytes ? t.bytes : 1);
    if (!t.data)
        return NULL;
    p->items[p->n] = t;
    return &p->items[p->n++];
}

static float *floats(const struct part *t)
{
    return (float *)(void *)t->data;
}

static size_t n_values(const struct part *t)
{
    return t->bytes / pfl_dtype_bytes(t->dtype);
}

static enum pfl_rc no_memory(struct pfl_err *err)
{
    return pfl_err_set(err, PFL_UNAVAILABLE, "no memory to compress a model");
}

/* ---- topk ---- */

/* Magnitudes are compared as their bits, which sort as they do (and NaN behind infinity). */
static uint32_t magnitude_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u & 0x7fffffffU;
}

/* In which of the counts, from the last one down, the k-th lies; k becomes its place in there. */
static uint32_t find_count(const size_t *counts, uint32_t n, size_t *k)
{
    uint32_t i = n - 1;
    for (; counts[i] < *k; i--)
        *k -= counts[i];
    return i;
}

/* The magnitude of the k-th largest of n >= k >= 1, and how many of that magnitude are among the k. By counting the upper 16 bits,
 * then the lower ones of those that share the upper. counts: room for 2^16. */
static uint32_t threshold_of(const float *x, size_t n, size_t k, size_t *counts, size_t *ret_ties)
{
    enum { HALF = 1 << 16 };
    memset(counts, 0, HALF * sizeof(*counts));
    for (size_t i = 0; i < n; i++)
        counts[magnitude_bits(x[i]) >> 16]++;
    uint32_t upper = find_count(counts, HALF, &k);
    memset(counts, 0, HALF * sizeof(*counts));
    for (size_t i = 0; i < n; i++) {
        uint32_t u = magnitude_bits(x[i]);
        counts[u & (HALF - 1)] += u >> 16 == upper;
    }
    uint32_t lower = find_count(counts, HALF, &k);
    *ret_ties = k;
    return upper << 16 | lower;
}

/* Keeps k values; of equal magnitudes the first. */
static enum pfl_rc keep_largest(struct parts *out, const struct part *t, double share, struct pfl_err *err)
{
    size_t n = n_values(t), k = (size_t)ceil(share * (double)n - 1e-9), ties = 0;
    k = k < 1 ? 1 : k > n ? n : k;
    PFL_AUTO(pfl_freep) size_t *counts = pfl_try_malloc((sizeof(*counts)) << 16);
    if (!counts)
        return no_memory(err);
    const float *x = floats(t);
    uint32_t limit = threshold_of(x, n, k, counts, &ties);
    bool bitmap = (n + 7) / 8 <= 4 * k;
    size_t n_bits = (n + 7) / 8, at = 0;
    struct part *where = add(out, t->name, bitmap ? "#b" : "#i", bitmap ? PFL_U8 : PFL_I32, 1, bitmap ? &n_bits : &k);
    if (!where)
        return no_memory(err);
    uint8_t *positions = where->data;
    struct part *values = add(out, t->name, "#x", PFL_F32, 1, &k);
    if (!values)
        return no_memory(err);
    values->live = true;
    if (bitmap)
        memset(positions, 0, n_bits);
    for (size_t i = 0; i < n && at < k; i++) {
        uint32_t u = magnitude_bits(x[i]);
        bool tie = u == limit && ties > 0;
        if (!tie && u <= limit)
            continue;
        ties -= tie;
        int32_t pos = (int32_t)i;
        if (bitmap)
            positions[i / 8] = (uint8_t)(positions[i / 8] | 1U << i % 8);
        else
            memcpy(positions + 4 * at, &pos, sizeof(pos));
        floats(values)[at++] = x[i];
    }
    return PFL_OK;
}

/* ---- low_rank ---- */

struct svd {
    double *a, *s, *u, *vt; /* owned by `block` */
    double *block;
};

static bool svd_of(const float *x, size_t m, size_t n, struct svd *ret)
{
    size_t least = m < n ? m : n;
    double *block = pfl_try_malloc((m * n + least + m * least + least * n) * sizeof(*block));
    if (!block)
        return false;
    *ret = (struct svd){.block = block, .a = block, .s = block + m * n};
    ret->u = ret->s + least;
    ret->vt = ret->u + m * least;
    for (size_t i = 0; i < m * n; i++)
        ret->a[i] = (double)x[i];
    return LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', (lapack_int)m, (lapack_int)n, ret->a, (lapack_int)n, ret->s, ret->u,
                          (lapack_int)least, ret->vt, (lapack_int)n) == 0;
}

static size_t rank_for(const double *s, size_t n, double share)
{
    double total = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        total += s[i] * s[i];
    for (size_t r = 1; r < n; r++) {
        sum += s[r - 1] * s[r - 1];
        if (sum >= share * total)
            return r;
    }
    return n;
}

static bool put_factors(struct parts *out, const struct part *t, const struct svd *d, size_t m, size_t n, size_t r)
{
    size_t least = m < n ? m : n, one = 1, u_shape[2] = {m, r}, v_shape[2] = {r, n};
    struct part *p = add(out, t->name, "#r", PFL_I32, 1, &one);
    if (!p)
        return false;
    int32_t rank = (int32_t)r;
    memcpy(p->data, &rank, sizeof(rank));
    if (!(p = add(out, t->name, "#u", PFL_F32, 2, u_shape)))
        return false;
    p->live = true;
    for (size_t i = 0; i < m; i++) {
        for (size_t k = 0; k < r; k++)
            floats(p)[i * r + k] = (float)(d->u[i * least + k] * d->s[k]);
    }
    if (!(p = add(out, t->name, "#v", PFL_F32, 2, v_shape)))
        return false;
    p->live = true;
    for (size_t i = 0; i < r * n; i++)
        floats(p)[i] = (float)d->vt[i];
    return true;
}

/* *ret_done: false where the factors would not be smaller. */
static enum pfl_rc factorize(struct parts *out, const struct part *t, double share, bool *ret_done, struct pfl_err *err)
{
    size_t m, n;
    struct svd d = {0};
    *ret_done = false;
    if (!pfl_compress_matrix(t->rank, t->shape, &m, &n))
        return PFL_OK;
    if (m > INT32_MAX || n > INT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "low_rank: a matrix of %zu by %zu", m, n);
    enum pfl_rc rc = PFL_OK;
    if (!svd_of(floats(t), m, n, &d))
        rc = pfl_err_set(err, PFL_UNAVAILABLE, "low_rank: no singular values of a matrix of %zu by %zu", m, n);
    size_t r = rc == PFL_OK ? rank_for(d.s, m < n ? m : n, share) : 0;
    if (rc == PFL_OK && r * (m + n) < m * n) {
        *ret_done = true;
        if (!put_factors(out, t, &d, m, n, r))
            rc = no_memory(err);
    }
    free(d.block);
    return rc;
}

/* ---- ptq ---- */

static enum pfl_rc quantize(struct parts *out, const struct part *t, const struct pfl_compression_step *s, struct pfl_err *err)
{
    size_t n = n_values(t);
    struct part *q = add(out, t->name, "", s->dtype, t->rank, t->shape);
    if (!q)
        return no_memory(err);
    uint8_t *data = q->data;
    if (s->dtype == PFL_F16 || s->dtype == PFL_BF16) {
        pfl_halve(s->dtype, floats(t), n, data);
        return PFL_OK;
    }
    struct pfl_channels c = pfl_channels_of(s->per_channel, s->channel_axis, t->rank, t->shape);
    struct part *scale = add(out, t->name, "#s", PFL_F32, 1, &c.channels);
    if (!scale)
        return no_memory(err);
    float *scales = floats(scale);
    struct part *zero = s->asymmetric ? add(out, t->name, "#z", PFL_I32, 1, &c.channels) : NULL;
    if (s->asymmetric && !zero)
        return no_memory(err);
    pfl_quantize(s->dtype, floats(t), n, c, scales, zero ? (int32_t *)(void *)zero->data : NULL, data);
    return PFL_OK;
}

/* ---- the pipeline ---- */

/* Every live part through one technique. */
static enum pfl_rc apply(struct parts *p, const struct pfl_compression_step *s, struct pfl_err *err)
{
    PFL_AUTO(parts_deinit) struct parts out = {0};
    for (size_t i = 0; i < p->n; i++) {
        struct part *t = &p->items[i];
        bool done = t->live && n_values(t) > 0;
        enum pfl_rc rc = PFL_OK;
        if (done && s->technique == PFL_TECHNIQUE_TOPK)
            rc = keep_largest(&out, t, s->k, err);
        else if (done && s->technique == PFL_TECHNIQUE_LOW_RANK)
            rc = factorize(&out, t, s->threshold, &done, err);
        else if (done && s->technique == PFL_TECHNIQUE_PTQ)
            rc = quantize(&out, t, s, err);
        else
            done = false;
        if (rc != PFL_OK)
            return rc;
        if (done)
            continue;
        if (!add(&out, "", "", PFL_U8, 0, NULL))
            return no_memory(err);
        free(out.items[out.n - 1].data);
        out.items[out.n - 1] = *t;
        t->data = NULL;
    }
    struct parts old = *p;
    *p = out;
    out = old;
    return PFL_OK;
}

static int wider_first(const void *pa, const void *pb)
{
    const struct part *a = pa, *b = pb;
    size_t wa = pfl_dtype_bytes(a->dtype), wb = pfl_dtype_bytes(b->dtype);
    return wa != wb ? (wa < wb) - (wa > wb) : strcmp(a->name, b->name);
}

static char *step_names(const struct pfl_compression *c)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    for (size_t i = 0; i < c->n && c->steps[i].technique < PFL_TECHNIQUE_ZLIB; i++)
        (void)pfl_buf_printf(&b, "%s\"%s\"", i ? "," : "[", pfl_technique_name(c->steps[i].technique));
    (void)pfl_buf_append_str(&b, b.len ? "]" : "[]");
    return pfl_xstrdup(pfl_buf_cstr(&b));
}

static enum pfl_rc pack(struct parts *p, const struct pfl_compression *c, const uint8_t *base, struct pfl_buf *out,
                        struct pfl_err *err)
{
    qsort(p->items, p->n, sizeof(*p->items), wider_first);
    PFL_AUTO(pfl_freep) struct pfl_tensor_desc *descs = pfl_xcalloc(p->n ? p->n : 1, sizeof(*descs));
    for (size_t i = 0; i < p->n; i++) {
        memcpy(descs[i].name, p->items[i].name, sizeof(p->items[i].name));
        descs[i].dtype = p->items[i].dtype;
        descs[i].rank = p->items[i].rank;
        memcpy(descs[i].shape, p->items[i].shape, sizeof(descs[i].shape));
    }
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    PFL_AUTO(pfl_freep) char *names = step_names(c);
    char hex[2 * PFL_BASE_DIGEST_LEN + 1], axis[16];
    unsigned channel_axis = 0;
    for (size_t i = 0; i < c->n; i++)
        channel_axis = c->steps[i].technique == PFL_TECHNIQUE_PTQ ? c->steps[i].channel_axis : channel_axis;
    (void)snprintf(axis, sizeof(axis), "%u", channel_axis);
    if (base)
        pfl_hex(pfl_bytes_of(base, PFL_BASE_DIGEST_LEN), hex);
    const struct pfl_safetensors_meta meta[] = {{"techniques", names}, {"axis", axis}, {"base", hex}};
    enum pfl_rc rc = pfl_layout_new(descs, p->n, &layout, err);
    if (rc == PFL_OK)
        rc = pfl_safetensors_head(layout, meta, base ? 3 : 2, out, err);
    for (size_t i = 0; i < p->n && rc == PFL_OK; i++) {
        if (p->items[i].bytes > 0 && !pfl_buf_append(out, p->items[i].data, p->items[i].bytes))
            rc = pfl_err_set(err, PFL_TOO_BIG, "a compressed model of more than %zu bytes", out->limit);
    }
    return rc;
}

/* With a byte compressor: its result behind a head of its own. */
static enum pfl_rc wrap(const struct pfl_compression *c, struct pfl_buf *packed, struct pfl_err *err)
{
    const struct pfl_compression_step *last = &c->steps[c->n - 1];
    if (last->technique < PFL_TECHNIQUE_ZLIB)
        return PFL_OK;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {.limit = 2 * packed->limit};
    (void)pfl_buf_append(&out, PFL_SQUEEZED_MAGIC, 4);
    (void)pfl_buf_u8(&out, (uint8_t)(last->technique - PFL_TECHNIQUE_ZLIB + 1));
    (void)pfl_buf_u64le(&out, packed->len);
    enum pfl_rc rc = pfl_squeeze_bytes(last->technique, last->level, pfl_buf_view(packed), &out, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_buf old = *packed;
    *packed = out;
    out = old;
    return PFL_OK;
}

/* The differences of all tensors that are worked on, one after the other. */
static void differences(const struct pfl_model *base, const struct pfl_model *model, float *out)
{
    for (size_t i = 0; i < model->layout->n; i++) {
        const struct pfl_tensor_desc *t = &model->layout->tensors[i];
        if (!pfl_compress_works_on(t))
            continue;
        const float *x = (const float *)(const void *)(model->data + t->offset);
        const float *x0 = (const float *)(const void *)(base->data + base->layout->tensors[i].offset);
        for (size_t k = 0; k < t->bytes / sizeof(float); k++)
            *out++ = (float)((double)x[k] - (double)x0[k]);
    }
}

static enum pfl_rc split(const struct pfl_model *model, const float *deltas, struct parts *ret, struct pfl_err *err)
{
    for (size_t i = 0; i < model->layout->n; i++) {
        const struct pfl_tensor_desc *t = &model->layout->tensors[i];
        bool live = deltas && pfl_compress_works_on(t);
        char name[PFL_PART_NAME_MAX];
        (void)snprintf(name, sizeof(name), "%zu", i);
        struct part *p = add(ret, name, "", t->dtype, t->rank, t->shape);
        if (!p)
            return no_memory(err);
        p->live = live;
        if (t->bytes > 0)
            memcpy(p->data, live ? (const uint8_t *)deltas : model->data + t->offset, t->bytes);
        if (live)
            deltas += t->bytes / sizeof(float);
    }
    return PFL_OK;
}

static size_t count_floats(const struct pfl_layout *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        n += pfl_compress_works_on(&l->tensors[i]) ? l->tensors[i].bytes / sizeof(float) : 0;
    return n;
}

static const struct pfl_model *same_base(void *user, const uint8_t *digest)
{
    (void)digest;
    return user;
}

static bool feeds_back(const struct pfl_compression *c)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->steps[i].technique == PFL_TECHNIQUE_TOPK)
            return c->steps[i].error_feedback;
    }
    return false;
}

/* deltas: what is to be sent, 2 n values of room: the second half is what the peers will have of it. */
static enum pfl_rc run(const struct pfl_compressor *c, const struct pfl_model *base, const uint8_t *base_digest,
                       const struct pfl_model *model, float *deltas, size_t n, struct pfl_blob **ret, struct pfl_model **ret_model,
                       struct pfl_err *err)
{
    bool lossy = pfl_compression_is_lossy(&c->spec);
    PFL_AUTO(parts_deinit) struct parts parts = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf packed = {.limit = pfl_compressed_max(model->layout)};
    enum pfl_rc rc = split(model, lossy ? deltas : NULL, &parts, err);
    for (size_t i = 0; i < c->spec.n && rc == PFL_OK; i++) {
        if (c->spec.steps[i].technique < PFL_TECHNIQUE_ZLIB)
            rc = apply(&parts, &c->spec.steps[i], err);
    }
    if (rc == PFL_OK)
        rc = pack(&parts, &c->spec, lossy ? base_digest : NULL, &packed, err);
    parts_deinit(&parts);
    if (rc == PFL_OK)
        rc = wrap(&c->spec, &packed, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(packed.data, packed.len);
    if (!blob)
        return no_memory(err);
    rc = pfl_decompress_to(blob, 0, blob->len, model->layout, same_base, (void *)(uintptr_t)base, lossy ? deltas + n : NULL,
                           ret_model, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&blob);
    return rc;
}

enum pfl_rc pfl_compress(struct pfl_compressor *c, const struct pfl_model *base, const uint8_t *base_digest,
                         const struct pfl_model *model, struct pfl_blob **ret, struct pfl_model **ret_model, struct pfl_err *err)
{
    PFL_ASSERT(c->spec.n > 0);
    size_t n = count_floats(model->layout);
    PFL_AUTO(pfl_freep) float *deltas = pfl_try_malloc((2 * n + 1) * sizeof(*deltas));
    if (!deltas)
        return no_memory(err);
    if (pfl_compression_is_lossy(&c->spec))
        differences(base, model, deltas);
    const struct pfl_compression_step *first = &c->spec.steps[0];
    if (first->technique == PFL_TECHNIQUE_DP)
        pfl_privatize(deltas, n, first->clip_norm, first->noise_multiplier, first->laplace, c->random);
    bool feedback = feeds_back(&c->spec);
    for (size_t i = 0; feedback && c->residual && i < n && c->n_residual == n; i++)
        deltas[i] += c->residual[i];
    enum pfl_rc rc = run(c, base, base_digest, model, deltas, n, ret, ret_model, err);
    if (rc != PFL_OK || !feedback)
        return rc;
    for (size_t i = 0; i < n; i++)
        deltas[i] -= deltas[n + i];
    free(c->residual);
    c->residual = pfl_steal(&deltas);
    c->n_residual = n;
    return PFL_OK;
}
