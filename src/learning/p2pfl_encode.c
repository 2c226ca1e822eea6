/* SPDX-License-Identifier: Apache-2.0 */
/* Writing P2PFL's payloads: pickle protocol 4 without frames and memo, which every unpickler takes. */
#include <string.h>

#include "base/str.h"
#include "learning/p2pfl_payload.h"

static void put_le(struct pfl_buf *b, uint64_t v, unsigned n)
{
    uint8_t out[8];
    for (unsigned i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> 8 * i);
    (void)pfl_buf_append(b, out, n);
}

static void put_op(struct pfl_buf *b, uint8_t op)
{
    (void)pfl_buf_append(b, &op, 1);
}

static void put_str(struct pfl_buf *b, const char *s) /* SHORT_BINUNICODE: up to 255 bytes */
{
    put_op(b, 0x8c);
    put_le(b, strlen(s), 1);
    (void)pfl_buf_append_str(b, s);
}

static void put_bytes(struct pfl_buf *b, const void *data, size_t len) /* BINBYTES8 */
{
    put_op(b, 0x8e);
    put_le(b, len, 8);
    if (len)
        (void)pfl_buf_append(b, data, len);
}

static void put_int(struct pfl_buf *b, uint64_t v) /* LONG1 of at most 9 bytes: a size is never negative */
{
    put_op(b, 0x8a);
    put_le(b, 9, 1);
    put_le(b, v, 8);
    put_le(b, 0, 1);
}

static void put_global(struct pfl_buf *b, const char *module, const char *name)
{
    put_str(b, module);
    put_str(b, name);
    put_op(b, 0x93); /* STACK_GLOBAL */
}

static const char *numpy_type(enum pfl_dtype t)
{
    switch (t) {
    case PFL_F16:
        return "f2";
    case PFL_F32:
        return "f4";
    case PFL_F64:
        return "f8";
    case PFL_I8:
        return "i1";
    case PFL_I16:
        return "i2";
    case PFL_I32:
        return "i4";
    case PFL_I64:
        return "i8";
    case PFL_U8:
        return "u1";
    case PFL_BOOL:
        return "b1";
    case PFL_BF16:
        break;
    }
    return NULL;
}

/* numpy.dtype("f4", False, True) with the state (3, "<", None, None, None, -1, -1, 0) */
static void put_dtype(struct pfl_buf *b, enum pfl_dtype t)
{
    static const uint8_t minus_one[] = {'J', 0xff, 0xff, 0xff, 0xff};
    put_global(b, "numpy", "dtype");
    put_str(b, numpy_type(t));
    put_op(b, 0x89); /* NEWFALSE */
    put_op(b, 0x88); /* NEWTRUE */
    put_op(b, 0x87); /* TUPLE3 */
    put_op(b, 'R');
    put_op(b, '(');
    put_int(b, 3);
    put_str(b, pfl_dtype_bytes(t) == 1 ? "|" : "<");
    (void)pfl_buf_append(b, "NNN", 3);
    (void)pfl_buf_append(b, minus_one, sizeof(minus_one));
    (void)pfl_buf_append(b, minus_one, sizeof(minus_one));
    put_int(b, 0);
    put_op(b, 't');
    put_op(b, 'b');
}

/* _reconstruct(ndarray, (0,), b"b") with the state (1, shape, dtype, False, bytes) */
static void put_array(struct pfl_buf *b, const struct pfl_tensor_desc *t, const uint8_t *data)
{
    put_global(b, "numpy.core.multiarray", "_reconstruct");
    put_global(b, "numpy", "ndarray");
    put_int(b, 0);
    put_op(b, 0x85); /* TUPLE1 */
    put_bytes(b, "b", 1);
    put_op(b, 0x87);
    put_op(b, 'R');
    put_op(b, '(');
    put_int(b, 1);
    put_op(b, '(');
    for (unsigned i = 0; i < t->rank; i++)
        put_int(b, t->shape[i]);
    put_op(b, 't');
    put_dtype(b, t->dtype);
    put_op(b, 0x89);
    put_bytes(b, data, t->bytes);
    put_op(b, 't');
    put_op(b, 'b');
}

static void put_start(struct pfl_buf *b)
{
    (void)pfl_buf_append(b, "\x80\x04}(", 4); /* PROTO 4, EMPTY_DICT, MARK */
}

static void put_inner(struct pfl_buf *b, const struct pfl_model *model)
{
    put_start(b);
    put_str(b, "params");
    (void)pfl_buf_append(b, "](", 2);
    for (size_t i = 0; i < model->layout->n; i++)
        put_array(b, &model->layout->tensors[i], model->data + model->layout->tensors[i].offset);
    put_op(b, 'e'); /* APPENDS */
    put_str(b, "additional_info");
    (void)pfl_buf_append(b, "}(", 2);
    put_str(b, "applied_techniques");
    (void)pfl_buf_append(b, "]uu.", 4); /* an empty list, SETITEMS twice, STOP */
}

enum pfl_rc pfl_p2pfl_encode(const struct pfl_model *model, struct pfl_buf *out, struct pfl_err *err)
{
    for (size_t i = 0; i < model->layout->n; i++) {
        if (!numpy_type(model->layout->tensors[i].dtype))
            return pfl_err_set(err, PFL_UNSUPPORTED, "tensor '%s' is %s, which NumPy does not have",
                               pfl_q(model->layout->tensors[i].name), pfl_dtype_name(model->layout->tensors[i].dtype));
    }
    put_start(out);
    put_str(out, "byte_compressor");
    put_op(out, 'N');
    put_str(out, "bytes");
    put_op(out, 0x8e);
    size_t length_at = out->len;
    put_le(out, 0, 8);
    size_t from = out->len;
    put_inner(out, model);
    (void)pfl_buf_append(out, "u.", 2);
    if (out->failed)
        return pfl_err_set(err, PFL_TOO_BIG, "a P2PFL payload of more than %zu bytes", out->limit);
    uint64_t inner = out->len - 2 - from;
    for (unsigned i = 0; i < 8; i++)
        out->data[length_at + i] = (uint8_t)(inner >> 8 * i);
    return PFL_OK;
}
