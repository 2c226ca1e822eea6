/* SPDX-License-Identifier: Apache-2.0 */
/* A model from a safetensors file that somebody else wrote. Everything in the header is a claim: names, types, shapes and offsets
 * are checked against each other and against the bytes that are there before any is used. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "wire/payload.h"

enum { HEADER_MAX = 1 << 20 };

static enum pfl_rc bad(struct pfl_err *err, const char *name, const char *what)
{
    return pfl_err_set(err, PFL_MALFORMED, "safetensors: tensor '%s': %s", pfl_q(name), what);
}

static bool get_size(const json_t *v, size_t *ret)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *ret = (size_t)json_integer_value(v);
    return true;
}

static enum pfl_rc read_shape(const char *name, const json_t *shape, struct pfl_tensor_desc *d, struct pfl_err *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > PFL_TENSOR_RANK_MAX)
        return bad(err, name, "its shape must be a list of at most 8 sizes");
    d->rank = (unsigned)json_array_size(shape);
    d->bytes = pfl_dtype_bytes(d->dtype);
    for (unsigned i = 0; i < d->rank; i++) {
        if (!get_size(json_array_get(shape, i), &d->shape[i]))
            return bad(err, name, "a size of its shape is no whole number");
        if (!pfl_size_mul(d->bytes, d->shape[i], &d->bytes))
            return bad(err, name, "its shape overflows");
    }
    return PFL_OK;
}

static enum pfl_rc read_entry(const char *name, const json_t *o, size_t data_len, struct pfl_tensor_desc *d, struct pfl_err *err)
{
    if (name[0] == '\0' || strlen(name) >= sizeof(d->name))
        return bad(err, name, "its name must have 1 to 127 bytes");
    if (!json_is_object(o) || json_object_size(o) != 3)
        return bad(err, name, "it must have dtype, shape and data_offsets and nothing else");
    memcpy(d->name, name, strlen(name) + 1);
    const char *dtype = json_string_value(json_object_get(o, "dtype"));
    if (!dtype || !pfl_dtype_parse(dtype, &d->dtype))
        return bad(err, name, "its dtype is missing or unknown");
    enum pfl_rc rc = read_shape(name, json_object_get(o, "shape"), d, err);
    if (rc != PFL_OK)
        return rc;
    const json_t *offsets = json_object_get(o, "data_offsets");
    size_t end;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !get_size(json_array_get(offsets, 0), &d->offset) ||
        !get_size(json_array_get(offsets, 1), &end))
        return bad(err, name, "data_offsets must be two whole numbers");
    if (d->offset > end || end > data_len)
        return bad(err, name, "its data_offsets lie outside the data");
    if (end - d->offset != d->bytes)
        return bad(err, name, "its data_offsets do not fit its shape and dtype");
    return PFL_OK;
}

static enum pfl_rc check_metadata(const json_t *o, struct pfl_err *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(o))
        return pfl_err_set(err, PFL_MALFORMED, "safetensors: __metadata__ must be a map of texts");
    json_object_foreach ((json_t *)(uintptr_t)o, key, v) {
        if (!json_is_string(v))
            return pfl_err_set(err, PFL_MALFORMED, "safetensors: __metadata__ must be a map of texts");
    }
    return PFL_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct pfl_tensor_desc *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Sorted by offset, each tensor must begin where the one before ends: no overlaps, no holes, nothing behind. */
static enum pfl_rc check_cover(const struct pfl_tensor_desc *descs, size_t n, size_t data_len, struct pfl_err *err)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (descs[i].offset != at)
            return bad(err, descs[i].name, descs[i].offset < at ? "it overlaps another tensor" : "there is a hole before it");
        at += descs[i].bytes;
    }
    if (at != data_len)
        return pfl_err_set(err, PFL_MALFORMED, "safetensors: %zu bytes of data, the tensors have %zu", data_len, at);
    return PFL_OK;
}

static enum pfl_rc read_header(const json_t *header, size_t data_len, struct pfl_tensor_desc **ret, size_t *ret_n,
                               struct pfl_err *err)
{
    size_t n = 0, most = json_object_size(header);
    if (most > PFL_LAYOUT_TENSORS_MAX + 1)
        return pfl_err_set(err, PFL_TOO_BIG, "safetensors: %zu tensors, the limit is %d", most, PFL_LAYOUT_TENSORS_MAX);
    PFL_AUTO(pfl_freep) struct pfl_tensor_desc *descs = pfl_xcalloc(most, sizeof(*descs));
    const char *name;
    json_t *o;
    json_object_foreach ((json_t *)(uintptr_t)header, name, o) {
        bool is_metadata = pfl_streq(name, "__metadata__");
        enum pfl_rc rc = is_metadata ? check_metadata(o, err) : read_entry(name, o, data_len, &descs[n], err);
        if (rc != PFL_OK)
            return rc;
        n += !is_metadata;
    }
    if (n == 0)
        return pfl_err_set(err, PFL_MALFORMED, "safetensors: no tensors");
    qsort(descs, n, sizeof(*descs), by_offset);
    enum pfl_rc rc = check_cover(descs, n, data_len, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_steal(&descs);
    *ret_n = n;
    return PFL_OK;
}

/* The same tensors in want's order: each checked, then copied. */
static enum pfl_rc reorder(const struct pfl_layout *got, const uint8_t *data, struct pfl_layout *want, struct pfl_model **ret,
                           struct pfl_err *err)
{
    struct pfl_tensor_desc *sorted = pfl_xcalloc(want->n, sizeof(*sorted));
    struct pfl_layout *layout = NULL;
    enum pfl_rc rc = PFL_OK;
    for (size_t i = 0; i < want->n && rc == PFL_OK; i++) {
        const struct pfl_tensor_desc *t = pfl_layout_find(got, want->tensors[i].name);
        if (t)
            sorted[i] = *t;
        else
            rc = pfl_err_set(err, PFL_MALFORMED, "safetensors: tensor '%s' is missing", want->tensors[i].name);
    }
    if (rc == PFL_OK)
        rc = pfl_layout_new(sorted, want->n, &layout, err);
    if (rc == PFL_OK)
        rc = pfl_layout_check_same(layout, want, err);
    struct pfl_model *m = NULL;
    if (rc == PFL_OK)
        rc = pfl_model_new(want, &m, err);
    for (size_t i = 0; i < want->n && rc == PFL_OK; i++) {
        const struct pfl_tensor_desc *t = &want->tensors[i];
        memcpy(m->owned + t->offset, data + sorted[i].offset, t->bytes);
    }
    pfl_layout_unref(layout);
    free(sorted);
    if (rc == PFL_OK)
        *ret = m;
    return rc;
}

static enum pfl_rc build(const json_t *header, struct pfl_blob *blob, size_t data_off, size_t data_len, struct pfl_layout *want,
                         struct pfl_model **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) struct pfl_tensor_desc *descs = NULL;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *got = NULL;
    size_t n = 0;
    enum pfl_rc rc = read_header(header, data_len, &descs, &n, err);
    if (rc == PFL_OK && want && n != want->n)
        rc = pfl_err_set(err, PFL_MALFORMED, "safetensors: %zu tensors, %zu are expected", n, want->n);
    if (rc == PFL_OK)
        rc = pfl_layout_new(descs, n, &got, err);
    if (rc != PFL_OK)
        return rc;
    bool same_order = !want || pfl_layout_check_same(got, want, NULL) == PFL_OK;
    if (same_order)
        return pfl_model_view(want ? want : got, blob, data_off, ret, err);
    return reorder(got, blob->data + data_off, want, ret, err);
}

enum pfl_rc pfl_safetensors_decode(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want, struct pfl_model **ret,
                                   struct pfl_err *err)
{
    struct pfl_bytes file = pfl_bytes_sub(pfl_bytes_of(blob->data, blob->len), off, len);
    struct pfl_reader r = pfl_reader_of(file);
    uint64_t header_len = pfl_reader_u64le(&r);
    if (r.failed || file.len != len)
        return pfl_err_set(err, PFL_MALFORMED, "safetensors: %zu bytes are too few", len);
    if (header_len > HEADER_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "safetensors: a header of %llu bytes, the limit is %d", (unsigned long long)header_len,
                           HEADER_MAX);
    struct pfl_bytes text = pfl_reader_bytes(&r, (size_t)header_len);
    if (r.failed || header_len == 0)
        return pfl_err_set(err, PFL_MALFORMED, "safetensors: the header of %llu bytes is cut off", (unsigned long long)header_len);
    json_error_t e;
    json_t *header = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &e);
    enum pfl_rc rc;
    if (!json_is_object(header))
        rc = pfl_err_set(err, PFL_MALFORMED, "safetensors: the header is no JSON object: %s", pfl_q(e.text));
    else
        rc = build(header, blob, off + r.pos, pfl_reader_left(&r), want, ret, err);
    json_decref(header);
    return rc;
}

char *pfl_safetensors_meta_get(struct pfl_bytes file, const char *key)
{
    struct pfl_reader r = pfl_reader_of(file);
    uint64_t header_len = pfl_reader_u64le(&r);
    if (r.failed || header_len > HEADER_MAX)
        return NULL;
    struct pfl_bytes text = pfl_reader_bytes(&r, (size_t)header_len);
    json_t *header = r.failed ? NULL : json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    const char *value = json_string_value(json_object_get(json_object_get(header, "__metadata__"), key));
    char *ret = value ? pfl_xstrdup(value) : NULL;
    json_decref(header);
    return ret;
}
