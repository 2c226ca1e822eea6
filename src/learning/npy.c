/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy's arrays. The head is a Python literal with three keys; nothing but that is read of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learning/table.h"

enum { HEAD_MAX = 4096 };

/* ---- the head ---- */

/* What follows 'key': in the head, without spaces; NULL. */
static const char *value_of(const char *head, const char *key)
{
    PFL_AUTO(pfl_freep) char *quoted = pfl_xasprintf("'%s':", key);
    const char *at = strstr(head, quoted);
    if (!at)
        return NULL;
    for (at += strlen(quoted); *at == ' '; at++) {
    }
    return at;
}

static bool known_type(char kind, unsigned bytes)
{
    switch (kind) {
    case 'b':
        return bytes == 1;
    case 'u':
    case 'i':
        return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
    case 'f':
        return bytes == 2 || bytes == 4 || bytes == 8;
    default:
        return false;
    }
}

/* "'<f4'" */
static enum pfl_rc parse_type(const char *at, struct pfl_npy *x, struct pfl_err *err)
{
    bool ok = at && at[0] == '\'' && strchr("<>|=", at[1]) && at[1] && at[2] && at[3] >= '1' && at[3] <= '8' && at[4] == '\'';
    if (!ok || !known_type(at[2], (unsigned)(at[3] - '0')))
        return pfl_err_set(err, at ? PFL_UNSUPPORTED : PFL_MALFORMED,
                           "values of type %.12s; bool, integers and floats of up to 8 bytes are read", at ? pfl_q(at) : "(none)");
    x->kind = at[2];
    x->bytes = (unsigned)(at[3] - '0');
    x->swapped = at[1] == '>';
    return PFL_OK;
}

/* "(60000, 28, 28)" */
static enum pfl_rc parse_shape(const char *at, struct pfl_npy *x, struct pfl_err *err)
{
    bool ok = at && *at == '(';
    x->n = 1;
    for (at = ok ? at + 1 : at; ok && *at != ')';) {
        uint64_t v = 0;
        unsigned digits = 0;
        for (; *at >= '0' && *at <= '9' && digits < 15; at++, digits++)
            v = 10 * v + (uint64_t)(*at - '0');
        ok = digits > 0 && digits < 15 && x->rank < PFL_TENSOR_RANK_MAX && pfl_size_mul(x->n, (size_t)v, &x->n);
        if (!ok)
            break;
        x->shape[x->rank++] = (size_t)v;
        while (*at == ',' || *at == ' ')
            at++;
    }
    if (!ok)
        return pfl_err_set(err, PFL_MALFORMED, "the .npy head has no shape of at most %d dimensions", PFL_TENSOR_RANK_MAX);
    if (x->n > PFL_TABLE_VALUES_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "an array of %zu values, the limit is %zu", x->n, PFL_TABLE_VALUES_MAX);
    return PFL_OK;
}

enum pfl_rc pfl_npy_decode(struct pfl_bytes in, struct pfl_npy *ret, struct pfl_err *err)
{
    static const uint8_t magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    struct pfl_reader r = pfl_reader_of(in);
    struct pfl_bytes start = pfl_reader_bytes(&r, sizeof(magic));
    uint8_t version = pfl_reader_u8(&r), minor = pfl_reader_u8(&r);
    char head[HEAD_MAX + 1];
    if (r.failed || memcmp(start.data, magic, sizeof(magic)) != 0 || minor != 0 || version < 1 || version > 3)
        return pfl_err_set(err, PFL_MALFORMED, "not a .npy array of version 1 to 3");
    size_t len = version > 1 ? pfl_reader_u32le(&r) : pfl_reader_u8(&r);
    if (version == 1)
        len += (size_t)pfl_reader_u8(&r) << 8;
    if (len > HEAD_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "a .npy head of %zu bytes, the limit is %d", len, HEAD_MAX);
    struct pfl_bytes text = pfl_reader_bytes(&r, len);
    if (r.failed || memchr(text.data, '\0', len))
        return pfl_err_set(err, PFL_MALFORMED, "cut short within the .npy head");
    memcpy(head, text.data, len);
    head[len] = '\0';
    struct pfl_npy x = {0};
    const char *order = value_of(head, "fortran_order");
    enum pfl_rc rc = parse_type(value_of(head, "descr"), &x, err);
    if (rc == PFL_OK)
        rc = parse_shape(value_of(head, "shape"), &x, err);
    if (rc != PFL_OK)
        return rc;
    if (!order || strncmp(order, "False", 5) != 0)
        return pfl_err_set(err, PFL_UNSUPPORTED, "an array in Fortran's order; save np.ascontiguousarray(a)");
    if (pfl_reader_left(&r) != x.n * x.bytes)
        return pfl_err_set(err, PFL_MALFORMED, "%zu bytes of values, the .npy head announces %zu", pfl_reader_left(&r),
                           x.n * x.bytes);
    x.data = pfl_reader_bytes(&r, x.n * x.bytes);
    *ret = x;
    return PFL_OK;
}

/* ---- values ---- */

static double half(uint16_t h)
{
    int exponent = (h >> 10) & 31, fraction = h & 1023;
    double v = exponent == 0    ? ldexp((double)fraction, -24)
               : exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                                : ldexp((double)(1024 + fraction), exponent - 25);
    return h >> 15 ? -v : v;
}

double pfl_npy_value(const struct pfl_npy *x, size_t i)
{
    uint64_t raw = 0;
    struct pfl_reader r = pfl_reader_of(pfl_bytes_sub(x->data, i * x->bytes, x->bytes));
    for (unsigned k = 0; k < x->bytes; k++) {
        uint64_t byte = pfl_reader_u8(&r);
        raw |= byte << (8 * (x->swapped ? x->bytes - 1 - k : k));
    }
    if (x->kind == 'f') {
        union {
            uint32_t u;
            float f;
        } single = {.u = (uint32_t)raw};
        union {
            uint64_t u;
            double f;
        } whole = {.u = raw};
        return x->bytes == 2 ? half((uint16_t)raw) : x->bytes == 4 ? (double)single.f : whole.f;
    }
    if (x->kind == 'i' && x->bytes < 8 && raw >> (8 * x->bytes - 1))
        raw |= ~UINT64_C(0) << (8 * x->bytes); /* the sign */
    return x->kind == 'i' ? (double)(int64_t)raw : (double)raw;
}

/* ---- samples ---- */

/* Images of few channels, in either order; *ret_last: the channels come last. */
static struct pfl_shape3 shape_of(const struct pfl_npy *x, size_t n_columns, bool *ret_last)
{
    *ret_last = false;
    if (x->rank == 3)
        return (struct pfl_shape3){1, x->shape[1], x->shape[2]};
    if (x->rank == 4 && x->shape[3] <= 4) {
        *ret_last = true;
        return (struct pfl_shape3){x->shape[3], x->shape[1], x->shape[2]};
    }
    if (x->rank == 4 && x->shape[1] <= 4)
        return (struct pfl_shape3){x->shape[1], x->shape[2], x->shape[3]};
    return (struct pfl_shape3){n_columns, 1, 1};
}

static enum pfl_rc take_values(const struct pfl_npy *x, bool channels_last, struct pfl_table *t, struct pfl_err *err)
{
    bool bytes = x->kind == 'u' && x->bytes == 1;
    size_t pixels = t->shape.height * t->shape.width, channels = t->shape.channels;
    t->bytes = bytes ? pfl_try_malloc(x->n) : NULL;
    t->values = bytes ? NULL : pfl_try_malloc(x->n * sizeof(float));
    if (!t->bytes && !t->values)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu values", x->n);
    for (size_t i = 0; i < x->n; i++) {
        size_t row = i / t->n_columns, k = i % t->n_columns;
        size_t from = channels_last ? row * t->n_columns + k % pixels * channels + k / pixels : i;
        if (bytes)
            t->bytes[i] = x->data.data[from];
        else
            t->values[i] = (float)pfl_npy_value(x, from);
    }
    return PFL_OK;
}

static enum pfl_rc take_labels(const struct pfl_npy *y, struct pfl_table *t, struct pfl_err *err)
{
    t->labels = pfl_try_malloc(t->n * sizeof(*t->labels));
    if (!t->labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu labels", t->n);
    for (size_t i = 0; i < t->n; i++) {
        double v = pfl_npy_value(y, i);
        char text[24];
        if (!(v >= 0.0 && v < PFL_TABLE_CLASSES_MAX && v == floor(v)))
            return pfl_err_set(err, PFL_MALFORMED, "label %zu is %g: whole numbers from 0 to %d are expected", i, v,
                               PFL_TABLE_CLASSES_MAX - 1);
        (void)snprintf(text, sizeof(text), "%d", (int)v);
        enum pfl_rc rc = pfl_table_label(t, text, &t->labels[i], err);
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}

enum pfl_rc pfl_npy_table(const struct pfl_npy *x, const struct pfl_npy *y, struct pfl_table *ret, struct pfl_err *err)
{
    bool channels_last, flat_labels = y->rank == 1 || (y->rank == 2 && y->shape[1] == 1);
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
    if (x->rank < 2 || x->n == 0)
        return pfl_err_set(err, PFL_MALFORMED, "features of %u dimensions and %zu values: (samples, ...) is expected", x->rank,
                           x->n);
    if (!flat_labels || y->shape[0] != x->shape[0])
        return pfl_err_set(err, PFL_MALFORMED, "%zu samples, but labels of %u dimensions and %zu values", x->shape[0], y->rank,
                           y->n);
    t.n = x->shape[0];
    t.n_columns = x->n / t.n;
    if (t.n_columns > PFL_TABLE_COLUMNS_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "samples of %zu values, the limit is %d", t.n_columns, PFL_TABLE_COLUMNS_MAX);
    t.shape = shape_of(x, t.n_columns, &channels_last);
    enum pfl_rc rc = take_values(x, channels_last, &t, err);
    if (rc == PFL_OK)
        rc = take_labels(y, &t, err);
    if (rc != PFL_OK)
        return rc;
    *ret = t;
    t = (struct pfl_table){0};
    return PFL_OK;
}
