/* SPDX-License-Identifier: Apache-2.0 */
/* Reading P2PFL's payloads. Each size is checked against what is there or against the model before memory is taken for it. */
#include "learning/p2pfl_payload.h"

#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/str.h"
#include "wire/pickle.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

/* One parameter on its way: the array as it came, or the values that a technique made of it. */
struct item {
    unsigned rank;
    size_t shape[PFL_TENSOR_RANK_MAX];
    size_t n;
    const struct pfl_py *raw; /* NULL once values are there */
    float *values;            /* n, owned */
};

struct decoding {
    struct item *items;
    size_t n;
    size_t budget; /* bytes that values may still take */
    struct pfl_err *err;
};

static void decoding_deinit(struct decoding *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->items[i].values);
    free(d->items);
}

static enum pfl_rc bad(const struct decoding *d, size_t i, const char *what)
{
    return pfl_err_set(d->err, PFL_MALFORMED, "P2PFL payload: parameter %zu: %s", i, what);
}

/* ---- decompression ---- */

static enum pfl_rc inflate_all(struct pfl_bytes in, struct pfl_buf *out, struct pfl_err *err)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.data, .avail_in = (uInt)in.len};
    if (in.len > UINT32_MAX || inflateInit(&z) != Z_OK)
        return pfl_err_set(err, PFL_MALFORMED, "P2PFL payload: zlib cannot be started");
    int z_rc = Z_OK;
    uint8_t chunk[16 << 10];
    while (z_rc == Z_OK) {
        z.next_out = chunk;
        z.avail_out = sizeof(chunk);
        z_rc = inflate(&z, Z_NO_FLUSH);
        if (z_rc == Z_OK && z.avail_out == sizeof(chunk))
            z_rc = Z_BUF_ERROR; /* the input ended early */
        if ((z_rc == Z_OK || z_rc == Z_STREAM_END) && !pfl_buf_append(out, chunk, sizeof(chunk) - z.avail_out))
            break;
    }
    (void)inflateEnd(&z);
    if (out->failed)
        return pfl_err_set(err, PFL_TOO_BIG, "P2PFL payload: more than %zu bytes after zlib", out->limit);
    return z_rc == Z_STREAM_END ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "P2PFL payload: broken zlib data");
}

static enum pfl_rc unlzma(struct pfl_bytes in, struct pfl_buf *out, struct pfl_err *err)
{
    enum { MEMORY_MAX = 128 << 20 }; /* preset 9 needs 65 MiB */
    lzma_stream z = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&z, MEMORY_MAX, 0) != LZMA_OK)
        return pfl_err_set(err, PFL_UNAVAILABLE, "P2PFL payload: lzma cannot be started");
    z.next_in = in.data;
    z.avail_in = in.len;
    lzma_ret rc = LZMA_OK;
    uint8_t chunk[16 << 10];
    while (rc == LZMA_OK) {
        z.next_out = chunk;
        z.avail_out = sizeof(chunk);
        rc = lzma_code(&z, LZMA_FINISH);
        if ((rc == LZMA_OK || rc == LZMA_STREAM_END) && !pfl_buf_append(out, chunk, sizeof(chunk) - z.avail_out))
            break;
    }
    lzma_end(&z);
    if (out->failed)
        return pfl_err_set(err, PFL_TOO_BIG, "P2PFL payload: more than %zu bytes after lzma", out->limit);
    return rc == LZMA_STREAM_END ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "P2PFL payload: broken lzma data");
}

/* ---- arrays ---- */

static enum pfl_rc item_of(const struct decoding *d, size_t i, const struct pfl_py *a, struct item *ret)
{
    if (!a || a->kind != PFL_PY_ARRAY || !a->array.set)
        return bad(d, i, "it is no array");
    *ret = (struct item){.rank = a->array.rank, .n = a->array.n, .raw = a};
    memcpy(ret->shape, a->array.shape, a->array.rank * sizeof(ret->shape[0]));
    return PFL_OK;
}

/* Memory for n values of item i. */
static enum pfl_rc new_values(struct decoding *d, size_t i, size_t n, float **ret)
{
    size_t bytes;
    if (!pfl_size_mul(n, sizeof(float), &bytes) || bytes > d->budget)
        return pfl_err_set(d->err, PFL_TOO_BIG, "P2PFL payload: parameter %zu: %zu values are more than the model has", i, n);
    *ret = pfl_try_malloc(bytes ? bytes : 1);
    if (!*ret)
        return pfl_err_set(d->err, PFL_UNAVAILABLE, "P2PFL payload: no memory for parameter %zu", i);
    d->budget -= bytes;
    return PFL_OK;
}

static void give_values(struct item *it, float *values, size_t n)
{
    free(it->values);
    it->values = values;
    it->raw = NULL;
    it->n = n;
}

static float value_of(const struct item *it, size_t i)
{
    return it->raw ? (float)pfl_py_element(it->raw, i) : it->values[i];
}

/* shape: a tuple of sizes. */
static enum pfl_rc read_shape(const struct decoding *d, size_t i, const struct pfl_py *shape, struct item *it)
{
    if (!shape || shape->kind != PFL_PY_TUPLE || pfl_py_n(shape) > PFL_TENSOR_RANK_MAX)
        return bad(d, i, "a shape of at most 8 sizes is wanted");
    it->rank = (unsigned)pfl_py_n(shape);
    it->n = 1;
    for (unsigned k = 0; k < it->rank; k++) {
        int64_t size;
        if (!pfl_py_integer(pfl_py_at(shape, k), &size) || size < 0 || !pfl_size_mul(it->n, (size_t)size, &it->n))
            return bad(d, i, "its shape is no list of sizes, or overflows");
        it->shape[k] = (size_t)size;
    }
    return PFL_OK;
}

/* ---- techniques ---- */

/* The scale or zero point of element `at`: a number, or an array with one of each channel. */
static bool of_channel(const struct pfl_py *v, const struct item *it, int64_t axis, size_t at, double *ret)
{
    if (!v || v->kind != PFL_PY_ARRAY || v->array.rank == 0 || v->array.n == 1)
        return pfl_py_number(v, ret);
    if (axis < 0 || axis >= (int64_t)it->rank || v->array.n != it->shape[axis])
        return false;
    size_t inner = 1;
    for (unsigned k = (unsigned)axis + 1; k < it->rank; k++)
        inner *= it->shape[k];
    *ret = pfl_py_element(v, at / inner % it->shape[axis]);
    return true;
}

/* (q - zero point) * scale in float32, as P2PFL computes it. */
static enum pfl_rc undo_ptq_integers(struct decoding *d, const struct pfl_py *info)
{
    const struct pfl_py *scales = pfl_py_get(info, "ptq_scales"), *zeros = pfl_py_get(info, "ptq_zero_points");
    int64_t axis = 0;
    (void)pfl_py_integer(pfl_py_get(info, "ptq_channel_axis"), &axis);
    if (pfl_py_n(scales) != d->n || pfl_py_n(zeros) != d->n)
        return pfl_err_set(d->err, PFL_MALFORMED, "P2PFL payload: ptq has %zu scales and %zu zero points for %zu parameters",
                           pfl_py_n(scales), pfl_py_n(zeros), d->n);
    for (size_t i = 0; i < d->n; i++) {
        struct item *it = &d->items[i];
        float *values;
        TRY(new_values(d, i, it->n, &values));
        for (size_t k = 0; k < it->n; k++) {
            double scale, zero;
            if (!of_channel(pfl_py_at(scales, i), it, axis, k, &scale) || !of_channel(pfl_py_at(zeros, i), it, axis, k, &zero)) {
                free(values);
                return bad(d, i, "its scale or zero point is no number and not one for each channel");
            }
            values[k] = (value_of(it, k) - (float)zero) * (float)scale;
        }
        give_values(it, values, it->n);
    }
    return PFL_OK;
}

static enum pfl_rc undo_ptq(struct decoding *d, const struct pfl_py *info)
{
    const struct pfl_py *type = pfl_py_get(info, "ptq_original_dtype");
    if (!type || type->kind != PFL_PY_DTYPE || type->dtype.kind != 'f')
        return pfl_err_set(d->err, PFL_UNSUPPORTED, "P2PFL payload: ptq of values that were no floating point numbers");
    if (!pfl_py_is_str(pfl_py_get(info, "ptq_type"), "float"))
        return undo_ptq_integers(d, info);
    for (size_t i = 0; i < d->n; i++) {
        struct item *it = &d->items[i];
        float *values;
        TRY(new_values(d, i, it->n, &values));
        for (size_t k = 0; k < it->n; k++)
            values[k] = value_of(it, k);
        give_values(it, values, it->n);
    }
    return PFL_OK;
}

static enum pfl_rc undo_topk(struct decoding *d, const struct pfl_py *info)
{
    const struct pfl_py *all = pfl_py_get(info, "topk_sparse_metadata");
    for (size_t i = 0; i < d->n; i++) {
        const struct pfl_py *one = pfl_py_get_index(all, (int64_t)i);
        if (!one)
            continue; /* sent whole */
        const struct pfl_py *indices = pfl_py_get(one, "indices");
        struct item *it = &d->items[i], full = {0};
        TRY(read_shape(d, i, pfl_py_get(one, "shape"), &full));
        if (!indices || indices->kind != PFL_PY_ARRAY || !indices->array.set || indices->array.dtype.kind == 'f' ||
            indices->array.n != it->n)
            return bad(d, i, "topk needs as many indices as values");
        float *values;
        TRY(new_values(d, i, full.n, &values));
        memset(values, 0, full.n * sizeof(float));
        for (size_t k = 0; k < it->n; k++) {
            uint64_t at = (uint64_t)pfl_py_element_integer(indices, k);
            if (at >= full.n) {
                free(values);
                return bad(d, i, "a topk index lies outside of it");
            }
            values[at] = value_of(it, k);
        }
        give_values(it, values, full.n);
        it->rank = full.rank;
        memcpy(it->shape, full.shape, sizeof(it->shape));
    }
    return PFL_OK;
}

/* U diag(s) V^T */
static enum pfl_rc multiply_out(struct decoding *d, size_t i, const struct pfl_py *parts, struct item *ret)
{
    struct item u, s, v;
    TRY(item_of(d, i, pfl_py_at(parts, 0), &u));
    TRY(item_of(d, i, pfl_py_at(parts, 1), &s));
    TRY(item_of(d, i, pfl_py_at(parts, 2), &v));
    if (pfl_py_n(parts) != 3 || u.rank != 2 || v.rank != 2 || s.rank != 1 || u.shape[1] != s.shape[0] || v.shape[0] != s.shape[0])
        return bad(d, i, "low_rank needs U (m, k), s (k) and V (k, n)");
    if (s.n > u.shape[0] || s.n > v.shape[1]) /* more work than any matrix of that size has in it */
        return bad(d, i, "low_rank has more singular values than rows or columns");
    size_t rows = u.shape[0], cols = v.shape[1], k = s.shape[0], n;
    if (!pfl_size_mul(rows, cols, &n))
        return bad(d, i, "its shape overflows");
    float *values;
    TRY(new_values(d, i, n, &values));
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            double sum = 0.0;
            for (size_t j = 0; j < k; j++)
                sum += (double)value_of(&u, r * k + j) * (double)value_of(&s, j) * (double)value_of(&v, j * cols + c);
            values[r * cols + c] = (float)sum;
        }
    }
    *ret = (struct item){.rank = 2, .shape = {rows, cols}, .n = n, .values = values};
    return PFL_OK;
}

/* The parameters that were factored stand in the state under their index; the others follow in order. */
static enum pfl_rc undo_low_rank(struct decoding *d, const struct pfl_py *info)
{
    const struct pfl_py *state = pfl_py_get(info, "lowrank_compressed_state");
    size_t n_state = state && state->kind == PFL_PY_DICT ? state->list.n / 2 : 0, n = d->n + n_state, from = 0;
    if (n > PFL_P2PFL_TENSORS_MAX)
        return pfl_err_set(d->err, PFL_TOO_BIG, "P2PFL payload: more than %d parameters", PFL_P2PFL_TENSORS_MAX);
    struct decoding all = {.items = pfl_xcalloc(n ? n : 1, sizeof(struct item)), .n = n, .budget = d->budget, .err = d->err};
    enum pfl_rc rc = PFL_OK;
    for (size_t i = 0; i < n && rc == PFL_OK; i++) {
        const struct pfl_py *parts = pfl_py_get_index(state, (int64_t)i);
        if (parts) {
            rc = multiply_out(&all, i, parts, &all.items[i]);
        } else if (from < d->n) {
            all.items[i] = d->items[from];
            d->items[from++].values = NULL; /* moved */
        } else {
            rc = bad(d, i, "low_rank leaves it out");
        }
    }
    if (rc == PFL_OK && from != d->n)
        rc = bad(d, n, "low_rank counts the same one twice");
    decoding_deinit(d);
    *d = all;
    return rc;
}

static enum pfl_rc undo_techniques(struct decoding *d, const struct pfl_py *info)
{
    const struct pfl_py *techniques = pfl_py_get(info, "applied_techniques");
    enum { TECHNIQUES_MAX = 8 };
    if (pfl_py_n(techniques) > TECHNIQUES_MAX)
        return pfl_err_set(d->err, PFL_TOO_BIG, "P2PFL payload: more than %d techniques", TECHNIQUES_MAX);
    for (size_t i = pfl_py_n(techniques); i-- > 0;) {
        const struct pfl_py *one = pfl_py_at(techniques, i), *name = pfl_py_at(one, 0), *what = pfl_py_at(one, 1);
        if (pfl_py_is_str(name, "ptq"))
            TRY(undo_ptq(d, what));
        else if (pfl_py_is_str(name, "topk"))
            TRY(undo_topk(d, what));
        else if (pfl_py_is_str(name, "low_rank"))
            TRY(undo_low_rank(d, what));
        else {
            char text[32] = "?";
            if (name && name->kind == PFL_PY_STR)
                (void)snprintf(text, sizeof(text), "%.*s", (int)(name->bytes.len < 24 ? name->bytes.len : 24),
                               (const char *)name->bytes.data);
            return pfl_err_set(d->err, PFL_UNSUPPORTED, "P2PFL payload: the technique '%s' is not known", pfl_q(text));
        }
    }
    return PFL_OK;
}

/* ---- into a model ---- */

static bool dtype_of(const struct item *it, enum pfl_dtype *ret)
{
    static const struct {
        char kind;
        uint8_t bytes;
        enum pfl_dtype dtype;
    } known[] = {{'f', 2, PFL_F16}, {'f', 4, PFL_F32}, {'f', 8, PFL_F64}, {'i', 1, PFL_I8},  {'i', 2, PFL_I16},
                 {'i', 4, PFL_I32}, {'i', 8, PFL_I64}, {'u', 1, PFL_U8},  {'b', 1, PFL_BOOL}};
    if (!it->raw) {
        *ret = PFL_F32;
        return true;
    }
    for (size_t i = 0; i < PFL_ARRAY_LEN(known); i++) {
        if (it->raw->array.dtype.kind == known[i].kind && it->raw->array.dtype.bytes == known[i].bytes) {
            *ret = known[i].dtype;
            return true;
        }
    }
    return false;
}

static enum pfl_rc own_layout(const struct decoding *d, struct pfl_layout **ret)
{
    PFL_AUTO(pfl_freep) struct pfl_tensor_desc *descs = pfl_xcalloc(d->n ? d->n : 1, sizeof(*descs));
    for (size_t i = 0; i < d->n; i++) {
        (void)snprintf(descs[i].name, sizeof(descs[i].name), "%zu", i);
        if (!dtype_of(&d->items[i], &descs[i].dtype))
            return bad(d, i, "its type has no counterpart here");
        descs[i].rank = d->items[i].rank;
        memcpy(descs[i].shape, d->items[i].shape, sizeof(descs[i].shape));
    }
    return pfl_layout_new(descs, d->n, ret, d->err);
}

static enum pfl_rc check_fits(const struct decoding *d, size_t i, const struct pfl_tensor_desc *t)
{
    const struct item *it = &d->items[i];
    enum pfl_dtype dtype;
    bool same = it->rank == t->rank;
    for (unsigned k = 0; same && k < t->rank; k++)
        same = it->shape[k] == t->shape[k];
    if (!same) {
        char got[96] = "", want[96] = "";
        for (unsigned k = 0, g = 0, w = 0; k < PFL_TENSOR_RANK_MAX; k++) {
            if (k < it->rank && g < 80)
                g += (unsigned)snprintf(got + g, sizeof(got) - g, "%s%zu", k ? ", " : "", it->shape[k]);
            if (k < t->rank && w < 80)
                w += (unsigned)snprintf(want + w, sizeof(want) - w, "%s%zu", k ? ", " : "", t->shape[k]);
        }
        return pfl_err_set(d->err, PFL_MALFORMED, "P2PFL payload: parameter %zu has the shape (%s), '%s' has (%s)", i, got,
                           pfl_q(t->name), want);
    }
    if (!dtype_of(it, &dtype) || dtype != t->dtype)
        return pfl_err_set(d->err, PFL_MALFORMED, "P2PFL payload: parameter %zu has the type %c%u, '%s' is %s", i,
                           it->raw ? it->raw->array.dtype.kind : 'f', it->raw ? it->raw->array.dtype.bytes : 4U, pfl_q(t->name),
                           pfl_dtype_name(t->dtype));
    return PFL_OK;
}

/* Element for element in C order, little-endian. */
static void copy_raw(const struct pfl_py *a, uint8_t *out)
{
    unsigned n = a->array.dtype.bytes;
    if (!a->array.dtype.big && (!a->array.fortran || a->array.rank < 2)) {
        if (a->array.data.len)
            memcpy(out, a->array.data.data, a->array.data.len);
        return;
    }
    for (size_t i = 0; i < a->array.n; i++)
        pfl_py_element_bytes(a, i, out + i * n);
}

/* Where in `want` the tensor "@set.NAME" has its parameter NAME, counted among parameters. */
static bool param_index(const struct pfl_layout *layout, const char *set_tensor, size_t *ret)
{
    const char *name = strchr(set_tensor, '.');
    size_t at = 0;
    for (size_t i = 0; name && i < layout->n; i++) {
        if (!pfl_p2pfl_is_param(&layout->tensors[i]))
            continue;
        if (pfl_streq(layout->tensors[i].name, name + 1)) {
            *ret = at;
            return true;
        }
        at++;
    }
    return false;
}

/* A tensor of a set, from the list in additional_info that it stands in; what did not come stays zero. */
static enum pfl_rc fill_set(struct decoding *d, const struct pfl_layout *layout, const struct pfl_tensor_desc *t,
                            const struct pfl_py *info, uint8_t *out)
{
    const char *group, *key;
    size_t at;
    struct item it;
    if (!pfl_p2pfl_set_place(t->name, &group, &key) || !param_index(layout, t->name, &at))
        return PFL_OK;
    const struct pfl_py *list = pfl_py_get(pfl_py_get(info, group), key);
    if (pfl_py_n(list) == 0)
        return PFL_OK;
    if (pfl_py_n(list) != d->n)
        return pfl_err_set(d->err, PFL_MALFORMED, "P2PFL payload: %s.%s has %zu arrays for %zu parameters", group, key,
                           pfl_py_n(list), d->n);
    TRY(item_of(d, at, pfl_py_at(list, at), &it));
    struct pfl_err why = {0};
    const struct decoding one = {.items = &it, .n = 1, .err = &why};
    if (check_fits(&one, 0, t) != PFL_OK)
        return pfl_err_set(d->err, PFL_MALFORMED, "P2PFL payload: %s.%s does not fit: %s", group, key, why.msg);
    copy_raw(it.raw, out);
    return PFL_OK;
}

static enum pfl_rc build_model(struct decoding *d, struct pfl_layout *layout, const struct pfl_py *info, struct pfl_model **ret)
{
    size_t n_params = 0, at = 0;
    for (size_t i = 0; i < layout->n; i++)
        n_params += pfl_p2pfl_is_param(&layout->tensors[i]);
    if (d->n != n_params)
        return pfl_err_set(d->err, PFL_MALFORMED, "P2PFL payload: %zu parameters, the model has %zu", d->n, n_params);
    for (size_t i = 0; i < layout->n; i++) {
        if (pfl_p2pfl_is_param(&layout->tensors[i]))
            TRY(check_fits(d, at++, &layout->tensors[i]));
    }
    at = 0;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    TRY(pfl_model_new(layout, &model, d->err));
    uint8_t *out = pfl_model_data_mut(model);
    for (size_t i = 0; i < layout->n; i++) {
        const struct pfl_tensor_desc *t = &layout->tensors[i];
        if (!pfl_p2pfl_is_param(t)) {
            TRY(fill_set(d, layout, t, info, out + t->offset));
            continue;
        }
        const struct item *it = &d->items[at++];
        if (it->raw)
            copy_raw(it->raw, out + t->offset);
        else if (it->n)
            memcpy(out + t->offset, it->values, it->n * sizeof(float));
    }
    *ret = pfl_steal(&model);
    return PFL_OK;
}

static void read_info(const struct pfl_py *info, struct pfl_p2pfl_info *ret)
{
    double mu;
    if (ret && pfl_py_number(pfl_py_get(pfl_py_get(info, "fedprox"), "proximal_mu"), &mu) && mu >= 0.0)
        *ret = (struct pfl_p2pfl_info){.has_proximal_mu = true, .proximal_mu = mu};
}

static enum pfl_rc decode_inner(struct pfl_bytes in, struct pfl_layout *want, size_t inner_max, struct pfl_model **ret,
                                struct pfl_p2pfl_info *ret_info, struct pfl_err *err)
{
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
    PFL_AUTO(decoding_deinit) struct decoding d = {.budget = inner_max, .err = err};
    TRY(pfl_pickle_read(in, &p, err));
    const struct pfl_py *params = pfl_py_get(pfl_pickle_root(p), "params");
    if (!params || params->kind != PFL_PY_LIST)
        return pfl_err_set(err, PFL_MALFORMED, "P2PFL payload: no list 'params' in it");
    if (pfl_py_n(params) > PFL_P2PFL_TENSORS_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "P2PFL payload: more than %d parameters", PFL_P2PFL_TENSORS_MAX);
    d.items = pfl_xcalloc(pfl_py_n(params) ? pfl_py_n(params) : 1, sizeof(struct item));
    d.n = pfl_py_n(params);
    for (size_t i = 0; i < d.n; i++)
        TRY(item_of(&d, i, pfl_py_at(params, i), &d.items[i]));
    const struct pfl_py *info = pfl_py_get(pfl_pickle_root(p), "additional_info");
    TRY(undo_techniques(&d, info));
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *own = NULL;
    if (!want)
        TRY(own_layout(&d, &own));
    TRY(build_model(&d, want ? want : own, info, ret));
    read_info(info, ret_info);
    return PFL_OK;
}

size_t pfl_p2pfl_inner_max(const struct pfl_layout *layout)
{
    return 4 * layout->bytes + 4096 + layout->n * 1024;
}

enum pfl_rc pfl_p2pfl_decode(struct pfl_bytes in, struct pfl_layout *want, size_t inner_max, struct pfl_model **ret,
                             struct pfl_p2pfl_info *ret_info, struct pfl_err *err)
{
    struct pfl_err local = {0};
    err = err ? err : &local;
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *outer = NULL;
    TRY(pfl_pickle_read(in, &outer, err));
    const struct pfl_py *compressor = pfl_py_get(pfl_pickle_root(outer), "byte_compressor");
    const struct pfl_py *bytes = pfl_py_get(pfl_pickle_root(outer), "bytes");
    if (!compressor || !bytes || bytes->kind != PFL_PY_BYTES)
        return pfl_err_set(err, PFL_MALFORMED, "P2PFL payload: it has no 'byte_compressor' and 'bytes'");
    if (compressor->kind == PFL_PY_NONE)
        return decode_inner(bytes->bytes, want, inner_max, ret, ret_info, err);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf inner = {.limit = inner_max};
    if (pfl_py_is_str(compressor, "zlib"))
        TRY(inflate_all(bytes->bytes, &inner, err));
    else if (pfl_py_is_str(compressor, "lzma"))
        TRY(unlzma(bytes->bytes, &inner, err));
    else
        return pfl_err_set(err, PFL_UNSUPPORTED, "P2PFL payload: a compressor that is not zlib or lzma");
    return decode_inner(pfl_buf_view(&inner), want, inner_max, ret, ret_info, err);
}
