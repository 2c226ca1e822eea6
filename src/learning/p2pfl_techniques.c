/* SPDX-License-Identifier: Apache-2.0 */
/* low_rank, topk and ptq towards P2PFL's nodes. What they send themselves differs in one point: their topk keeps the largest values
 * with their sign, which loses all that is negative; here it is the largest magnitudes. */
#include "learning/p2pfl_techniques.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tensor/blas.h"

void pfl_p2pfl_params_deinit(struct pfl_p2pfl_params *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->arrays[i].owned);
    free(p->arrays);
    for (size_t t = 0; t < p->n_applied; t++) {
        for (size_t i = 0; i < p->applied[t].n; i++) {
            for (size_t k = 0; k < PFL_ARRAY_LEN(p->applied[t].sides[i].arrays); k++)
                free(p->applied[t].sides[i].arrays[k].owned);
        }
        free(p->applied[t].sides);
    }
    *p = (struct pfl_p2pfl_params){0};
}

static enum pfl_rc no_memory(struct pfl_err *err)
{
    return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for the compression of a model");
}

/* An array of its own with room for n elements of `size` bytes; shape (n). */
static bool array_new(struct pfl_p2pfl_array *a, const char *type, size_t n, size_t size)
{
    size_t bytes;
    if (!pfl_size_mul(n, size, &bytes))
        return false;
    void *block = pfl_try_malloc(bytes ? bytes : 1);
    if (!block)
        return false;
    *a = (struct pfl_p2pfl_array){.type = type, .rank = 1, .shape = {n}, .n = n, .bytes = bytes, .data = block, .owned = block};
    return true;
}

static void replace(struct pfl_p2pfl_array *old, struct pfl_p2pfl_array fresh)
{
    free(old->owned);
    *old = fresh;
}

static float at(const struct pfl_p2pfl_array *a, size_t i) /* the block may be a view at any offset */
{
    float v;
    memcpy(&v, (const uint8_t *)a->data + i * sizeof(v), sizeof(v));
    return v;
}

/* ---- topk ---- */

struct ranked {
    float magnitude;
    uint32_t index;
};

static int by_magnitude(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    if (a->magnitude != b->magnitude)
        return a->magnitude > b->magnitude ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int by_index(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    return a->index < b->index ? -1 : a->index > b->index;
}

static enum pfl_rc topk_one(struct pfl_p2pfl_array *a, double share, struct pfl_p2pfl_side *side, struct pfl_err *err)
{
    struct pfl_p2pfl_array kept = {0};
    size_t k = (size_t)(share * (double)a->n);
    k = k == 0 && a->n > 0 ? 1 : k > a->n ? a->n : k;
    if (a->n > UINT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "topk: a tensor of %zu values", a->n);
    PFL_AUTO(pfl_freep) struct ranked *all = pfl_try_malloc((a->n ? a->n : 1) * sizeof(*all));
    if (!all || !array_new(&kept, "f4", k, sizeof(float)) || !array_new(&side->arrays[0], "u4", k, sizeof(uint32_t))) {
        free(kept.owned);
        return no_memory(err);
    }
    for (size_t i = 0; i < a->n; i++)
        all[i] = (struct ranked){fabsf(at(a, i)), (uint32_t)i};
    qsort(all, a->n, sizeof(*all), by_magnitude);
    qsort(all, k, sizeof(*all), by_index);
    float *values = kept.owned;
    uint32_t *indices = side->arrays[0].owned;
    for (size_t i = 0; i < k; i++) {
        values[i] = at(a, all[i].index);
        indices[i] = all[i].index;
    }
    side->rank = a->rank;
    memcpy(side->shape, a->shape, sizeof(side->shape));
    replace(a, kept);
    return PFL_OK;
}

/* ---- low_rank ---- */

/* A (m, n), row by row, is its transpose column by column: the factors come out transposed and swapped. */
struct factors {
    int rows, cols, k;
    float *a, *s, *u, *v, *work; /* owned; v: A's U as (rows, k) row by row; u: A's V as (k, cols) row by row */
    int *iwork;
};

static void factors_deinit(struct factors *f)
{
    free(f->a);
    free(f->s);
    free(f->u);
    free(f->v);
    free(f->work);
    free(f->iwork);
}

static float *floats(size_t a, size_t b)
{
    size_t n, bytes;
    return pfl_size_mul(a, b, &n) && pfl_size_mul(n, sizeof(float), &bytes) ? pfl_try_malloc(bytes) : NULL;
}

static bool decompose(struct factors *f, const struct pfl_p2pfl_array *m)
{
    size_t rows = m->shape[0], cols = m->shape[1], k = rows < cols ? rows : cols;
    f->rows = (int)rows;
    f->cols = (int)cols;
    f->k = (int)k;
    f->a = floats(rows, cols);
    f->s = floats(k, 1);
    f->u = floats(cols, k);
    f->v = floats(k, rows);
    f->iwork = pfl_try_malloc(8 * k * sizeof(int));
    if (!f->a || !f->s || !f->u || !f->v || !f->iwork)
        return false;
    memcpy(f->a, m->data, m->bytes);
    float best = 0.0F;
    int lwork = -1, info = 0;
    sgesdd_("S", &f->cols, &f->rows, f->a, &f->cols, f->s, f->u, &f->cols, f->v, &f->k, &best, &lwork, f->iwork, &info);
    if (info != 0 || !(best < 2e9F))
        return false;
    lwork = (int)best + 1;
    f->work = floats((size_t)lwork, 1);
    if (!f->work)
        return false;
    sgesdd_("S", &f->cols, &f->rows, f->a, &f->cols, f->s, f->u, &f->cols, f->v, &f->k, f->work, &lwork, f->iwork, &info);
    return info == 0;
}

static size_t rank_for(const struct factors *f, double threshold)
{
    double total = 0.0, sum = 0.0;
    for (int i = 0; i < f->k; i++)
        total += (double)f->s[i] * (double)f->s[i];
    size_t k = 0;
    while (k < (size_t)f->k && (k == 0 || sum < threshold * total)) {
        sum += (double)f->s[k] * (double)f->s[k];
        k++;
    }
    return k;
}

/* The matrix by its factors, where they are smaller than it is. *ret_done says whether. */
static enum pfl_rc low_rank_one(const struct pfl_p2pfl_array *a, double threshold, struct pfl_p2pfl_side *side, bool *ret_done,
                                struct pfl_err *err)
{
    *ret_done = false;
    if (a->rank != 2 || a->n == 0 || a->shape[0] > INT_MAX / 2 || a->shape[1] > INT_MAX / 2)
        return PFL_OK;
    enum pfl_rc rc = pfl_blas_load(err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(factors_deinit) struct factors f = {0};
    if (!decompose(&f, a))
        return pfl_err_set(err, PFL_UNAVAILABLE, "low_rank: a matrix of %zu by %zu cannot be factored", a->shape[0], a->shape[1]);
    size_t rows = a->shape[0], cols = a->shape[1], k = rank_for(&f, threshold);
    if (k * (rows + cols + 1) >= a->n)
        return PFL_OK;
    if (!array_new(&side->arrays[0], "f4", rows * k, sizeof(float)) || !array_new(&side->arrays[1], "f4", k, sizeof(float)) ||
        !array_new(&side->arrays[2], "f4", k * cols, sizeof(float)))
        return no_memory(err);
    float *u = side->arrays[0].owned;
    for (size_t r = 0; r < rows; r++)
        memcpy(u + r * k, f.v + r * (size_t)f.k, k * sizeof(float));
    memcpy(side->arrays[1].owned, f.s, k * sizeof(float));
    memcpy(side->arrays[2].owned, f.u, k * cols * sizeof(float));
    side->arrays[0].rank = side->arrays[2].rank = 2;
    side->arrays[0].shape[0] = rows;
    side->arrays[0].shape[1] = side->arrays[2].shape[0] = k;
    side->arrays[2].shape[1] = cols;
    *ret_done = true;
    return PFL_OK;
}

/* ---- ptq ---- */

struct range {
    double min, max; /* of the integers */
};

static struct range range_of(enum pfl_dtype t)
{
    return t == PFL_U8 ? (struct range){0, 255} : t == PFL_I8 ? (struct range){-128, 127} : (struct range){-32768, 32767};
}

static double clamp(double v, struct range r)
{
    return v < r.min ? r.min : v > r.max ? r.max : v;
}

/* Symmetric: the largest magnitude over 128 (P2PFL's; 127 would be exact at both ends). Asymmetric: the values' range, which
 * always holds zero, over that of the integers. */
static void scale_of(const struct pfl_p2pfl_technique *t, double lo, double hi, double *ret_scale, double *ret_zero)
{
    struct range r = range_of(t->dtype);
    double scale = t->asymmetric ? (hi - lo) / (r.max - r.min) : (hi > -lo ? hi : -lo) / -r.min;
    *ret_scale = scale > 0.0 && isfinite(scale) ? scale : 1.0;
    *ret_zero = t->asymmetric ? clamp(rint(r.min - lo / *ret_scale), r) : 0.0;
}

static uint16_t half_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof(u));
    uint32_t sign = u >> 16 & 0x8000U, magnitude = u & 0x7fffffffU;
    if (magnitude >= 0x477ff000U) /* would round to more than 65504: the largest there is */
        return (uint16_t)(sign | 0x7bffU);
    if (magnitude < 0x38800000U) { /* below 2^-14: multiples of 2^-24 */
        float scaled = fabsf(v) * 16777216.0F;
        return (uint16_t)(sign | (uint32_t)rintf(scaled));
    }
    uint32_t rounded = magnitude + 0xfffU + (magnitude >> 13 & 1U); /* to nearest, ties to even */
    return (uint16_t)(sign | (rounded - 0x38000000U) >> 13);
}

static void put_quantum(void *out, enum pfl_dtype t, size_t i, double q)
{
    if (t == PFL_I8)
        ((int8_t *)out)[i] = (int8_t)q;
    else if (t == PFL_U8)
        ((uint8_t *)out)[i] = (uint8_t)q;
    else
        ((int16_t *)out)[i] = (int16_t)q;
}

static enum pfl_rc ptq_float16(struct pfl_p2pfl_array *a, struct pfl_err *err)
{
    struct pfl_p2pfl_array out;
    if (!array_new(&out, "f2", a->n, sizeof(uint16_t)))
        return no_memory(err);
    for (size_t i = 0; i < a->n; i++)
        ((uint16_t *)out.owned)[i] = half_of(at(a, i));
    out.rank = a->rank;
    memcpy(out.shape, a->shape, sizeof(out.shape));
    replace(a, out);
    return PFL_OK;
}

static enum pfl_rc ptq_integers(struct pfl_p2pfl_array *a, const struct pfl_p2pfl_technique *t, struct pfl_p2pfl_side *side,
                                struct pfl_err *err)
{
    bool per_channel = t->per_channel;
    struct pfl_p2pfl_array out = {0};
    size_t channels = per_channel && a->n > 0 ? a->shape[t->axis] : 1, inner = 1;
    for (unsigned k = t->axis + 1; per_channel && a->n > 0 && k < a->rank; k++)
        inner *= a->shape[k];
    if (channels == 0 || inner == 0) /* not with n above 0 */
        channels = inner = 1;
    PFL_AUTO(pfl_freep) double *lo = pfl_xcalloc(channels, sizeof(*lo));
    PFL_AUTO(pfl_freep) double *hi = pfl_xcalloc(channels, sizeof(*hi));
    if (!array_new(&out,
                   t->dtype == PFL_I8   ? "i1"
                   : t->dtype == PFL_U8 ? "u1"
                                        : "i2",
                   a->n, pfl_dtype_bytes(t->dtype)) ||
        !array_new(&side->arrays[0], "f4", channels, sizeof(float)) ||
        !array_new(&side->arrays[1], "i4", channels, sizeof(int32_t))) {
        free(out.owned);
        return no_memory(err);
    }
    for (size_t i = 0; i < a->n; i++) {
        size_t c = per_channel ? i / inner % channels : 0;
        double v = (double)at(a, i);
        lo[c] = v < lo[c] ? v : lo[c];
        hi[c] = v > hi[c] ? v : hi[c];
    }
    for (size_t c = 0; c < channels; c++) { /* lo, hi: from here on scale and zero point */
        scale_of(t, lo[c], hi[c], &lo[c], &hi[c]);
        lo[c] = per_channel ? (double)(float)lo[c] : lo[c];
        ((float *)side->arrays[0].owned)[c] = (float)lo[c];
        ((int32_t *)side->arrays[1].owned)[c] = (int32_t)hi[c];
    }
    side->scale = lo[0];
    side->zero = (int32_t)hi[0];
    for (size_t i = 0; i < a->n; i++) {
        size_t c = per_channel ? i / inner % channels : 0;
        put_quantum(out.owned, t->dtype, i, clamp(rint((double)at(a, i) / lo[c]) + hi[c], range_of(t->dtype)));
    }
    out.rank = a->rank;
    memcpy(out.shape, a->shape, sizeof(out.shape));
    replace(a, out);
    return PFL_OK;
}

/* ---- all of them ---- */

static enum pfl_rc apply_low_rank(struct pfl_p2pfl_params *p, struct pfl_p2pfl_applied *to, struct pfl_err *err)
{
    size_t kept = 0;
    enum pfl_rc rc = PFL_OK;
    for (size_t i = 0; i < p->n; i++) {
        bool done = false;
        if (rc == PFL_OK)
            rc = low_rank_one(&p->arrays[i], to->what.threshold, &to->sides[to->n], &done, err);
        if (done) {
            to->sides[to->n++].index = i;
            free(p->arrays[i].owned);
        } else {
            p->arrays[kept++] = p->arrays[i];
        }
    }
    p->n = kept;
    if (rc != PFL_OK) /* a half-built side goes with the others */
        to->n++;
    return rc;
}

/* P2PFL cannot undo its own scales by channel of an array with one axis. */
static bool all_have_axes(const struct pfl_p2pfl_params *p, unsigned axis)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->arrays[i].rank < 2 || axis >= p->arrays[i].rank)
            return false;
    }
    return true;
}

static enum pfl_rc apply_one(struct pfl_p2pfl_params *p, struct pfl_p2pfl_applied *to, struct pfl_err *err)
{
    to->sides = pfl_xcalloc(p->n + 1, sizeof(*to->sides));
    if (to->what.kind == PFL_P2PFL_LOW_RANK)
        return apply_low_rank(p, to, err);
    if (to->what.kind == PFL_P2PFL_PTQ)
        to->what.per_channel = to->what.per_channel && all_have_axes(p, to->what.axis);
    for (size_t i = 0; i < p->n; i++) {
        struct pfl_p2pfl_side *side = &to->sides[to->n++];
        side->index = i;
        enum pfl_rc rc = to->what.kind == PFL_P2PFL_TOPK ? topk_one(&p->arrays[i], to->what.k, side, err)
                         : to->what.dtype == PFL_F16     ? ptq_float16(&p->arrays[i], err)
                                                         : ptq_integers(&p->arrays[i], &to->what, side, err);
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}

enum pfl_rc pfl_p2pfl_apply(struct pfl_p2pfl_params *p, const struct pfl_p2pfl_options *opts, struct pfl_err *err)
{
    for (size_t i = 0; i < opts->n; i++) {
        struct pfl_p2pfl_applied *to = &p->applied[p->n_applied++];
        to->what = opts->techniques[i];
        enum pfl_rc rc = apply_one(p, to, err);
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}

static enum pfl_rc check_one(const struct pfl_p2pfl_technique *t, bool last, struct pfl_err *err)
{
    if (t->kind == PFL_P2PFL_TOPK && !(t->k > 0.0 && t->k <= 1.0))
        return pfl_err_set(err, PFL_INVALID, "topk: k is %g: a share above 0, at most 1, is wanted", t->k);
    if (t->kind == PFL_P2PFL_LOW_RANK && !(t->threshold > 0.0 && t->threshold <= 1.0))
        return pfl_err_set(err, PFL_INVALID, "low_rank: threshold is %g: a share above 0, at most 1, is wanted", t->threshold);
    if (t->kind != PFL_P2PFL_PTQ)
        return PFL_OK;
    if (!last)
        return pfl_err_set(err, PFL_INVALID, "ptq: it must be the last technique: the others need floating point values");
    if (t->dtype != PFL_I8 && t->dtype != PFL_U8 && t->dtype != PFL_I16 && t->dtype != PFL_F16)
        return pfl_err_set(err, PFL_UNSUPPORTED, "ptq: into %s: int8, uint8, int16 and float16 are there",
                           pfl_dtype_name(t->dtype));
    if (t->dtype == PFL_U8 && !t->asymmetric)
        return pfl_err_set(err, PFL_INVALID, "ptq: uint8 has no negative values: scheme asymmetric is wanted");
    return PFL_OK;
}

enum pfl_rc pfl_p2pfl_options_check(const struct pfl_p2pfl_options *opts, const struct pfl_layout *layout, struct pfl_err *err)
{
    unsigned seen = 0;
    if (opts->level < 0 || opts->level > 9)
        return pfl_err_set(err, PFL_INVALID, "a compression level of %d: 0 to 9 is wanted", opts->level);
    for (size_t i = 0; i < opts->n; i++) {
        unsigned bit = 1U << opts->techniques[i].kind;
        if (seen & bit)
            return pfl_err_set(err, PFL_INVALID, "a technique is named twice");
        seen |= bit;
        enum pfl_rc rc = check_one(&opts->techniques[i], i + 1 == opts->n, err);
        if (rc != PFL_OK)
            return rc;
    }
    for (size_t i = 0; opts->n > 0 && i < layout->n; i++) {
        const struct pfl_tensor_desc *t = &layout->tensors[i];
        if (pfl_p2pfl_is_param(t) && t->dtype != PFL_F32)
            return pfl_err_set(err, PFL_UNSUPPORTED,
                               "tensor '%s' is %s: P2PFL's techniques need all to be F32 (zlib and lzma do not)", pfl_q(t->name),
                               pfl_dtype_name(t->dtype));
    }
    return PFL_OK;
}
