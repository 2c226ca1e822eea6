/* SPDX-License-Identifier: Apache-2.0 */
/* What the ten callables stand for, and walking the values. Nothing is called: an array is a description of bytes in the input. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "wire/pickle_impl.h"

static const struct {
    const char *module, *name;
    enum pfl_py_callable callable;
} CALLABLES[] = {
    {"numpy.core.multiarray", "_reconstruct", PFL_PY_RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", PFL_PY_RECONSTRUCT}, /* NumPy 2 */
    {"numpy", "ndarray", PFL_PY_NDARRAY},
    {"numpy", "dtype", PFL_PY_NUMPY_DTYPE},
    {"numpy.core.multiarray", "scalar", PFL_PY_SCALAR},
    {"numpy._core.multiarray", "scalar", PFL_PY_SCALAR},
    {"numpy.core.numeric", "_frombuffer", PFL_PY_FROMBUFFER},
    {"numpy._core.numeric", "_frombuffer", PFL_PY_FROMBUFFER},
    {"_codecs", "encode", PFL_PY_ENCODE},         /* how protocol 2 writes bytes */
    {"__builtin__", "bytes", PFL_PY_EMPTY_BYTES}, /* how it writes none: bytes() */
};

static bool equals(struct pfl_bytes b, const char *text)
{
    return b.len == strlen(text) && memcmp(b.data, text, b.len) == 0;
}

static struct pfl_py *fail(struct pfl_pickle *p, enum pfl_rc rc, const char *what)
{
    (void)pfl_err_set(p->err, rc, "pickle: %s", what);
    return NULL;
}

struct pfl_py *pfl_pickle_global(struct pfl_pickle *p, struct pfl_bytes module, struct pfl_bytes name)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(CALLABLES); i++) {
        if (equals(module, CALLABLES[i].module) && equals(name, CALLABLES[i].name)) {
            struct pfl_py *v = pfl_pickle_value(p, PFL_PY_CALLABLE);
            if (v)
                v->callable = CALLABLES[i].callable;
            return v;
        }
    }
    char text[160];
    (void)snprintf(text, sizeof(text), "%.*s.%.*s", (int)(module.len < 70 ? module.len : 70), (const char *)module.data,
                   (int)(name.len < 70 ? name.len : 70), (const char *)name.data);
    (void)pfl_err_set(p->err, PFL_UNSUPPORTED, "pickle: it names '%s', which no model needs; nothing was run", pfl_q(text));
    return NULL;
}

/* ---- dtype ---- */

static bool parse_dtype(struct pfl_bytes text, struct pfl_py_dtype *ret)
{
    static const struct {
        const char *text;
        struct pfl_py_dtype dtype;
    } known[] = {{"f2", {'f', 2, false}}, {"f4", {'f', 4, false}}, {"f8", {'f', 8, false}}, {"i1", {'i', 1, false}},
                 {"i2", {'i', 2, false}}, {"i4", {'i', 4, false}}, {"i8", {'i', 8, false}}, {"u1", {'u', 1, false}},
                 {"u2", {'u', 2, false}}, {"u4", {'u', 4, false}}, {"u8", {'u', 8, false}}, {"b1", {'b', 1, false}}};
    bool big = text.len && text.data[0] == '>';
    if (text.len && memchr("<>|=", text.data[0], 4))
        text = pfl_bytes_of(text.data + 1, text.len - 1);
    for (size_t i = 0; i < PFL_ARRAY_LEN(known); i++) {
        if (equals(text, known[i].text)) {
            *ret = known[i].dtype;
            ret->big = big;
            return true;
        }
    }
    return false;
}

static struct pfl_py *make_dtype(struct pfl_pickle *p, const struct pfl_py *args)
{
    const struct pfl_py *name = pfl_py_at(args, 0);
    struct pfl_py_dtype dtype;
    if (!name || name->kind != PFL_PY_STR || !parse_dtype(name->bytes, &dtype)) {
        char text[32] = "?";
        if (name && name->kind == PFL_PY_STR)
            (void)snprintf(text, sizeof(text), "%.*s", (int)(name->bytes.len < 24 ? name->bytes.len : 24),
                           (const char *)name->bytes.data);
        (void)pfl_err_set(p->err, PFL_UNSUPPORTED, "pickle: arrays of type '%s' are not read", pfl_q(text));
        return NULL;
    }
    struct pfl_py *v = pfl_pickle_value(p, PFL_PY_DTYPE);
    if (v)
        v->dtype = dtype;
    return v;
}

/* (version, byte order, subtype, names, fields, itemsize, alignment, flags): only the byte order may say anything. */
static enum pfl_rc build_dtype(struct pfl_pickle *p, struct pfl_py *dtype, const struct pfl_py *state)
{
    const struct pfl_py *order = pfl_py_at(state, 1);
    bool plain = pfl_py_n(state) >= 5 && order && order->kind == PFL_PY_STR && order->bytes.len == 1;
    for (size_t i = 2; plain && i < 5; i++)
        plain = pfl_py_at(state, i)->kind == PFL_PY_NONE;
    if (!plain || !memchr("<>|=", order->bytes.data[0], 4))
        return pfl_err_set(p->err, PFL_UNSUPPORTED, "pickle: a type with a structure or a byte order that is not known");
    dtype->dtype.big = order->bytes.data[0] == '>';
    return PFL_OK;
}

/* ---- arrays ---- */

static enum pfl_rc set_array(struct pfl_pickle *p, struct pfl_py *a, const struct pfl_py *shape, const struct pfl_py *dtype,
                             bool fortran, const struct pfl_py *data)
{
    if (!shape || shape->kind != PFL_PY_TUPLE || !dtype || dtype->kind != PFL_PY_DTYPE || !data || data->kind != PFL_PY_BYTES)
        return pfl_err_set(p->err, PFL_MALFORMED, "pickle: an array needs a shape, a type and bytes");
    if (pfl_py_n(shape) > PFL_PICKLE_RANK_MAX)
        return pfl_err_set(p->err, PFL_TOO_BIG, "pickle: an array of %zu dimensions, at most %d are read", pfl_py_n(shape),
                           PFL_PICKLE_RANK_MAX);
    size_t n = 1, bytes;
    a->array.rank = (unsigned)pfl_py_n(shape);
    for (unsigned i = 0; i < a->array.rank; i++) {
        int64_t size;
        if (!pfl_py_integer(pfl_py_at(shape, i), &size) || size < 0 || !pfl_size_mul(n, (size_t)size, &n))
            return pfl_err_set(p->err, PFL_MALFORMED, "pickle: an array's shape is no list of sizes, or overflows");
        a->array.shape[i] = (size_t)size;
    }
    if (!pfl_size_mul(n, dtype->dtype.bytes, &bytes) || bytes != data->bytes.len)
        return pfl_err_set(p->err, PFL_MALFORMED, "pickle: an array of %zu elements of %u bytes has %zu bytes", n,
                           dtype->dtype.bytes, data->bytes.len);
    a->array.dtype = dtype->dtype;
    a->array.fortran = fortran;
    a->array.n = n;
    a->array.data = data->bytes;
    a->array.set = true;
    return PFL_OK;
}

/* (version, shape, dtype, is_fortran, bytes) */
static enum pfl_rc build_array(struct pfl_pickle *p, struct pfl_py *a, const struct pfl_py *state)
{
    const struct pfl_py *fortran = pfl_py_at(state, 3);
    if (pfl_py_n(state) != 5 || fortran->kind != PFL_PY_BOOL)
        return pfl_err_set(p->err, PFL_MALFORMED, "pickle: an array's state has five parts");
    return set_array(p, a, pfl_py_at(state, 1), pfl_py_at(state, 2), fortran->boolean, pfl_py_at(state, 4));
}

/* _frombuffer(bytes, dtype, shape, order) */
static struct pfl_py *from_buffer(struct pfl_pickle *p, const struct pfl_py *args)
{
    const struct pfl_py *order = pfl_py_at(args, 3);
    if (pfl_py_n(args) != 4 || !(pfl_py_is_str(order, "C") || pfl_py_is_str(order, "F")))
        return fail(p, PFL_MALFORMED, "_frombuffer takes bytes, a type, a shape and an order");
    struct pfl_py *a = pfl_pickle_value(p, PFL_PY_ARRAY);
    if (!a || set_array(p, a, pfl_py_at(args, 2), pfl_py_at(args, 1), pfl_py_is_str(order, "F"), pfl_py_at(args, 0)) != PFL_OK)
        return NULL;
    return a;
}

/* scalar(dtype, bytes): a zero-dimensional array. */
static struct pfl_py *make_scalar(struct pfl_pickle *p, const struct pfl_py *args)
{
    static const struct pfl_py no_shape = {.kind = PFL_PY_TUPLE};
    struct pfl_py *a = pfl_pickle_value(p, PFL_PY_ARRAY);
    if (!a || set_array(p, a, &no_shape, pfl_py_at(args, 0), false, pfl_py_at(args, 1)) != PFL_OK)
        return NULL;
    return a;
}

/* _reconstruct(ndarray, (0,), b'b'): an array whose state comes by BUILD. */
static struct pfl_py *reconstruct(struct pfl_pickle *p, const struct pfl_py *args)
{
    const struct pfl_py *class = pfl_py_at(args, 0);
    if (!class || class->kind != PFL_PY_CALLABLE || class->callable != PFL_PY_NDARRAY)
        return fail(p, PFL_UNSUPPORTED, "_reconstruct of something that is no ndarray");
    return pfl_pickle_value(p, PFL_PY_ARRAY);
}

/* encode(str, 'latin1'): bytes written as the code points 0 to 255. */
static struct pfl_py *encode(struct pfl_pickle *p, const struct pfl_py *args)
{
    const struct pfl_py *text = pfl_py_at(args, 0), *how = pfl_py_at(args, 1);
    if (!text || text->kind != PFL_PY_STR || !(pfl_py_is_str(how, "latin1") || pfl_py_is_str(how, "latin-1")))
        return fail(p, PFL_UNSUPPORTED, "encode is read for a string to latin1 only");
    struct pfl_py *v = pfl_pickle_value(p, PFL_PY_BYTES);
    if (!v)
        return NULL;
    const uint8_t *in = text->bytes.data;
    size_t len = text->bytes.len, n = 0;
    uint8_t *out = pfl_pickle_alloc(p, len);
    for (size_t i = 0; i < len; i++) {
        if (in[i] < 0x80)
            out[n++] = in[i];
        else if ((in[i] == 0xc2 || in[i] == 0xc3) && i + 1 < len && (in[i + 1] & 0xc0) == 0x80) {
            out[n++] = (uint8_t)((in[i] & 3) << 6 | (in[i + 1] & 0x3f));
            i++;
        } else
            return fail(p, PFL_MALFORMED, "a latin1 string with a character above 255");
    }
    v->bytes = pfl_bytes_of(out, n);
    return v;
}

struct pfl_py *pfl_pickle_reduce(struct pfl_pickle *p, const struct pfl_py *fn, const struct pfl_py *args)
{
    switch (fn->callable) {
    case PFL_PY_RECONSTRUCT:
        return reconstruct(p, args);
    case PFL_PY_NUMPY_DTYPE:
        return make_dtype(p, args);
    case PFL_PY_SCALAR:
        return make_scalar(p, args);
    case PFL_PY_FROMBUFFER:
        return from_buffer(p, args);
    case PFL_PY_ENCODE:
        return encode(p, args);
    case PFL_PY_EMPTY_BYTES:
        return pfl_py_n(args) == 0 ? pfl_pickle_value(p, PFL_PY_BYTES)
                                   : fail(p, PFL_UNSUPPORTED, "bytes() is read without arguments only");
    case PFL_PY_NDARRAY:
        break;
    }
    return fail(p, PFL_UNSUPPORTED, "a call of numpy.ndarray itself");
}

enum pfl_rc pfl_pickle_build(struct pfl_pickle *p, struct pfl_py *target, const struct pfl_py *state)
{
    if (state->kind == PFL_PY_TUPLE && target->kind == PFL_PY_DTYPE)
        return build_dtype(p, target, state);
    if (state->kind == PFL_PY_TUPLE && target->kind == PFL_PY_ARRAY && !target->array.set)
        return build_array(p, target, state);
    return pfl_err_set(p->err, PFL_UNSUPPORTED, "pickle: a state for something that is no new array and no type");
}

/* ---- walking ---- */

bool pfl_py_is_str(const struct pfl_py *v, const char *text)
{
    return v && v->kind == PFL_PY_STR && equals(v->bytes, text);
}

const struct pfl_py *pfl_py_get(const struct pfl_py *v, const char *key)
{
    for (size_t i = v && v->kind == PFL_PY_DICT ? v->list.n : 0; i >= 2; i -= 2) {
        if (pfl_py_is_str(v->list.items[i - 2], key))
            return v->list.items[i - 1];
    }
    return NULL;
}

const struct pfl_py *pfl_py_get_index(const struct pfl_py *v, int64_t key)
{
    int64_t i;
    for (size_t k = v && v->kind == PFL_PY_DICT ? v->list.n : 0; k >= 2; k -= 2) {
        if (pfl_py_integer(v->list.items[k - 2], &i) && i == key)
            return v->list.items[k - 1];
    }
    return NULL;
}

size_t pfl_py_n(const struct pfl_py *v)
{
    return v && (v->kind == PFL_PY_LIST || v->kind == PFL_PY_TUPLE) ? v->list.n : 0;
}

const struct pfl_py *pfl_py_at(const struct pfl_py *v, size_t i)
{
    return i < pfl_py_n(v) ? v->list.items[i] : NULL;
}

bool pfl_py_number(const struct pfl_py *v, double *ret)
{
    int64_t i;
    if (v && v->kind == PFL_PY_FLOAT)
        *ret = v->real;
    else if (v && v->kind == PFL_PY_ARRAY && v->array.set && v->array.n == 1)
        *ret = pfl_py_element(v, 0);
    else if (pfl_py_integer(v, &i))
        *ret = (double)i;
    else
        return false;
    return true;
}

bool pfl_py_integer(const struct pfl_py *v, int64_t *ret)
{
    if (v && v->kind == PFL_PY_INT)
        *ret = v->integer;
    else if (v && v->kind == PFL_PY_BOOL)
        *ret = v->boolean;
    else if (v && v->kind == PFL_PY_ARRAY && v->array.set && v->array.n == 1 && v->array.dtype.kind != 'f')
        *ret = pfl_py_element_integer(v, 0);
    else
        return false;
    return true;
}

/* Where element i in C order lies: for Fortran order the indices are taken apart from the last to the first and put together the
 * other way round. */
static size_t position(const struct pfl_py *a, size_t i)
{
    if (!a->array.fortran || a->array.rank < 2)
        return i;
    size_t stride[PFL_PICKLE_RANK_MAX], at = 0;
    stride[0] = 1;
    for (unsigned k = 1; k < a->array.rank; k++)
        stride[k] = stride[k - 1] * a->array.shape[k - 1];
    for (unsigned k = a->array.rank; k-- > 0;) {
        at += i % a->array.shape[k] * stride[k];
        i /= a->array.shape[k];
    }
    return at;
}

static uint64_t raw(const struct pfl_py *a, size_t i)
{
    unsigned n = a->array.dtype.bytes;
    const uint8_t *from = a->array.data.data + position(a, i) * n;
    uint64_t u = 0;
    for (unsigned k = 0; k < n; k++)
        u = u << 8 | from[a->array.dtype.big ? k : n - 1 - k];
    return u;
}

void pfl_py_element_bytes(const struct pfl_py *a, size_t i, uint8_t *out)
{
    uint64_t u = raw(a, i);
    for (unsigned k = 0; k < a->array.dtype.bytes; k++)
        out[k] = (uint8_t)(u >> 8 * k);
}

int64_t pfl_py_element_integer(const struct pfl_py *a, size_t i)
{
    uint64_t u = raw(a, i);
    unsigned unused = 64 - 8U * a->array.dtype.bytes;
    if (a->array.dtype.kind != 'i')
        return (int64_t)u;
    return (int64_t)(u << unused) >> unused; /* the sign, from as far up as there are bits */
}

static double half(uint16_t h)
{
    int exponent = h >> 10 & 0x1f;
    double fraction = h & 0x3ff, value;
    if (exponent == 0)
        value = ldexp(fraction, -24);
    else if (exponent == 31)
        value = fraction != 0.0 ? (double)NAN : (double)INFINITY;
    else
        value = ldexp(fraction + 1024.0, exponent - 25);
    return h & 0x8000 ? -value : value;
}

double pfl_py_element(const struct pfl_py *a, size_t i)
{
    if (a->array.dtype.kind != 'f')
        return a->array.dtype.kind == 'u' ? (double)raw(a, i) : (double)pfl_py_element_integer(a, i);
    uint64_t u = raw(a, i);
    uint32_t low = (uint32_t)u;
    float f;
    double d;
    switch (a->array.dtype.bytes) {
    case 2:
        return half((uint16_t)u);
    case 4:
        memcpy(&f, &low, sizeof(f));
        return (double)f;
    default:
        memcpy(&d, &u, sizeof(d));
        return d;
    }
}
