/* SPDX-License-Identifier: Apache-2.0 */
/* Writing P2PFL's payloads: pickle protocol 4 without frames and memo, which every unpickler takes. */
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/str.h"
#include "learning/p2pfl_techniques.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

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

static void put_int(struct pfl_buf *b, uint64_t v) /* LONG1: a size, below 2^63 */
{
    put_op(b, 0x8a);
    put_le(b, 8, 1);
    put_le(b, v, 8);
}

static void put_number(struct pfl_buf *b, int32_t v) /* BININT */
{
    put_op(b, 'J');
    put_le(b, (uint32_t)v, 4);
}

static void put_double(struct pfl_buf *b, double v) /* BINFLOAT: big-endian */
{
    uint64_t u;
    memcpy(&u, &v, sizeof(u));
    put_op(b, 'G');
    (void)pfl_buf_u64be(b, u);
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
static void put_dtype(struct pfl_buf *b, const char *type)
{
    put_global(b, "numpy", "dtype");
    put_str(b, type);
    put_op(b, 0x89); /* NEWFALSE */
    put_op(b, 0x88); /* NEWTRUE */
    put_op(b, 0x87); /* TUPLE3 */
    put_op(b, 'R');
    put_op(b, '(');
    put_int(b, 3);
    put_str(b, type[1] == '1' ? "|" : "<");
    (void)pfl_buf_append(b, "NNN", 3);
    put_number(b, -1);
    put_number(b, -1);
    put_int(b, 0);
    put_op(b, 't');
    put_op(b, 'b');
}

static void put_shape(struct pfl_buf *b, const size_t *shape, unsigned rank)
{
    put_op(b, '(');
    for (unsigned i = 0; i < rank; i++)
        put_int(b, shape[i]);
    put_op(b, 't');
}

/* _reconstruct(ndarray, (0,), b"b") with the state (1, shape, dtype, False, bytes) */
static void put_array(struct pfl_buf *b, const struct pfl_p2pfl_array *a)
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
    put_shape(b, a->shape, a->rank);
    put_dtype(b, a->type);
    put_op(b, 0x89);
    put_bytes(b, a->data, a->bytes);
    put_op(b, 't');
    put_op(b, 'b');
}

static void put_start(struct pfl_buf *b)
{
    (void)pfl_buf_append(b, "\x80\x04}(", 4); /* PROTO 4, EMPTY_DICT, MARK */
}

/* ---- techniques ---- */

static void put_topk(struct pfl_buf *b, const struct pfl_p2pfl_applied *t)
{
    put_str(b, "topk_sparse_metadata");
    (void)pfl_buf_append(b, "}(", 2);
    for (size_t i = 0; i < t->n; i++) {
        put_int(b, t->sides[i].index);
        (void)pfl_buf_append(b, "}(", 2);
        put_str(b, "indices");
        put_array(b, &t->sides[i].arrays[0]);
        put_str(b, "shape");
        put_shape(b, t->sides[i].shape, t->sides[i].rank);
        put_op(b, 'u');
    }
    put_op(b, 'u');
}

static void put_low_rank(struct pfl_buf *b, const struct pfl_p2pfl_applied *t)
{
    put_str(b, "lowrank_compressed_state");
    (void)pfl_buf_append(b, "}(", 2);
    for (size_t i = 0; i < t->n; i++) {
        put_int(b, t->sides[i].index);
        for (size_t k = 0; k < 3; k++)
            put_array(b, &t->sides[i].arrays[k]);
        put_op(b, 0x87); /* TUPLE3 */
    }
    put_op(b, 'u');
}

static void put_ptq(struct pfl_buf *b, const struct pfl_p2pfl_applied *t)
{
    const struct pfl_p2pfl_technique *what = &t->what;
    put_str(b, "ptq_original_dtype");
    put_dtype(b, "f4");
    put_str(b, "ptq_type");
    put_str(b, what->dtype == PFL_F16 ? "float" : "int");
    if (what->dtype == PFL_F16)
        return;
    put_str(b, "ptq_scheme");
    put_str(b, what->asymmetric ? "asymmetric" : "symmetric");
    put_str(b, "ptq_granularity");
    put_str(b, what->per_channel ? "per_channel" : "per_tensor");
    put_str(b, "ptq_scales");
    (void)pfl_buf_append(b, "](", 2);
    for (size_t i = 0; i < t->n; i++) {
        if (what->per_channel)
            put_array(b, &t->sides[i].arrays[0]);
        else
            put_double(b, t->sides[i].scale);
    }
    put_op(b, 'e');
    put_str(b, "ptq_zero_points");
    (void)pfl_buf_append(b, "](", 2);
    for (size_t i = 0; i < t->n; i++) {
        if (what->per_channel)
            put_array(b, &t->sides[i].arrays[1]);
        else
            put_number(b, t->sides[i].zero);
    }
    put_op(b, 'e');
    put_str(b, "ptq_channel_axis");
    if (what->per_channel)
        put_int(b, what->axis);
    else
        put_op(b, 'N');
}

static void put_techniques(struct pfl_buf *b, const struct pfl_p2pfl_params *p)
{
    static const struct {
        const char *name;
        void (*put)(struct pfl_buf *b, const struct pfl_p2pfl_applied *t);
    } known[] = {[PFL_P2PFL_LOW_RANK] = {"low_rank", put_low_rank},
                 [PFL_P2PFL_TOPK] = {"topk", put_topk},
                 [PFL_P2PFL_PTQ] = {"ptq", put_ptq}};
    put_str(b, "applied_techniques");
    (void)pfl_buf_append(b, "](", 2);
    for (size_t i = 0; i < p->n_applied; i++) {
        (void)pfl_buf_append(b, "](", 2);
        put_str(b, known[p->applied[i].what.kind].name);
        (void)pfl_buf_append(b, "}(", 2);
        known[p->applied[i].what.kind].put(b, &p->applied[i]);
        (void)pfl_buf_append(b, "ue", 2);
    }
    put_op(b, 'e');
}

/* ---- what aggregators add ---- */

static const struct {
    const char *set, *group, *key;
} sets[] = {{"@delta_y.", "scaffold", "delta_y_i"}, {"@delta_c.", "scaffold", "delta_c_i"}, {"@c.", "scaffold", "global_c"}};

bool pfl_p2pfl_is_param(const struct pfl_tensor_desc *t)
{
    return t->name[0] != '@';
}

bool pfl_p2pfl_set_place(const char *tensor, const char **ret_group, const char **ret_key)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(sets); i++) {
        if (strncmp(tensor, sets[i].set, strlen(sets[i].set)) == 0) {
            *ret_group = sets[i].group;
            *ret_key = sets[i].key;
            return true;
        }
    }
    return false;
}

static struct pfl_p2pfl_array array_of(const struct pfl_model *m, const struct pfl_tensor_desc *t)
{
    struct pfl_p2pfl_array a = {.type = numpy_type(t->dtype), .rank = t->rank, .bytes = t->bytes, .data = m->data + t->offset};
    memcpy(a.shape, t->shape, t->rank * sizeof(a.shape[0]));
    a.n = t->bytes / pfl_dtype_bytes(t->dtype);
    return a;
}

/* additional_info["scaffold"], where the model has such tensors: the tensors of a set stand behind each other. */
static void put_sets(struct pfl_buf *b, const struct pfl_model *m)
{
    const char *open = NULL, *group = NULL, *key = NULL;
    for (size_t i = 0; i < m->layout->n; i++) {
        const struct pfl_tensor_desc *t = &m->layout->tensors[i];
        if (!pfl_p2pfl_set_place(t->name, &group, &key))
            continue;
        if (!open) {
            put_str(b, group);
            (void)pfl_buf_append(b, "}(", 2);
        }
        if (open != key) {
            (void)pfl_buf_append_str(b, open ? "e" : "");
            put_str(b, key);
            (void)pfl_buf_append(b, "](", 2);
            open = key;
        }
        struct pfl_p2pfl_array a = array_of(m, t);
        put_array(b, &a);
    }
    (void)pfl_buf_append_str(b, open ? "eu" : "");
}

static void put_inner(struct pfl_buf *b, const struct pfl_model *model, const struct pfl_p2pfl_params *p, double proximal_mu)
{
    put_start(b);
    put_str(b, "params");
    (void)pfl_buf_append(b, "](", 2);
    for (size_t i = 0; i < p->n; i++)
        put_array(b, &p->arrays[i]);
    put_op(b, 'e'); /* APPENDS */
    put_str(b, "additional_info");
    (void)pfl_buf_append(b, "}(", 2);
    put_sets(b, model);
    if (proximal_mu > 0.0) {
        put_str(b, "fedprox");
        (void)pfl_buf_append(b, "}(", 2);
        put_str(b, "proximal_mu");
        put_double(b, proximal_mu);
        put_op(b, 'u');
    }
    put_techniques(b, p);
    (void)pfl_buf_append(b, "uu.", 3); /* SETITEMS twice, STOP */
}

/* ---- compressors ---- */

static bool deflate_all(struct pfl_bytes in, int level, struct pfl_buf *out)
{
    uLongf n = compressBound(in.len);
    if (!pfl_buf_reserve(out, n))
        return false;
    if (compress2(out->data + out->len, &n, in.data, in.len, level) != Z_OK)
        return false;
    out->len += n;
    return true;
}

static bool lzma_all(struct pfl_bytes in, int level, struct pfl_buf *out)
{
    size_t n = lzma_stream_buffer_bound(in.len), at = 0;
    if (n == 0 || !pfl_buf_reserve(out, n))
        return false;
    if (lzma_easy_buffer_encode((uint32_t)level, LZMA_CHECK_CRC64, NULL, in.data, in.len, out->data + out->len, &at, n) != LZMA_OK)
        return false;
    out->len += at;
    return true;
}

static enum pfl_rc compress_into(const struct pfl_p2pfl_options *opts, struct pfl_bytes inner, struct pfl_buf *out,
                                 struct pfl_err *err)
{
    bool lzma = opts->compressor == PFL_P2PFL_LZMA;
    if (lzma ? lzma_all(inner, opts->level, out) : deflate_all(inner, opts->level, out))
        return PFL_OK;
    if (out->failed)
        return PFL_OK; /* said by the caller */
    return pfl_err_set(err, PFL_UNAVAILABLE, "P2PFL payload: %s cannot compress %zu bytes", lzma ? "lzma" : "zlib", inner.len);
}

size_t pfl_p2pfl_encoded_max(const struct pfl_layout *layout)
{
    return 4 * layout->bytes + layout->n * 2048 + 65536;
}

static enum pfl_rc collect(const struct pfl_model *model, struct pfl_p2pfl_params *p, struct pfl_err *err)
{
    p->arrays = pfl_xcalloc(model->layout->n ? model->layout->n : 1, sizeof(*p->arrays));
    for (size_t i = 0; i < model->layout->n; i++) {
        const struct pfl_tensor_desc *t = &model->layout->tensors[i];
        if (!numpy_type(t->dtype))
            return pfl_err_set(err, PFL_UNSUPPORTED, "tensor '%s' is %s, which NumPy does not have", pfl_q(t->name),
                               pfl_dtype_name(t->dtype));
        if (pfl_p2pfl_is_param(t))
            p->arrays[p->n++] = array_of(model, t);
    }
    return PFL_OK;
}

enum pfl_rc pfl_p2pfl_encode(const struct pfl_model *model, const struct pfl_p2pfl_options *opts, struct pfl_buf *out,
                             struct pfl_err *err)
{
    static const struct pfl_p2pfl_options plain;
    static const char *const names[] = {[PFL_P2PFL_ZLIB] = "zlib", [PFL_P2PFL_LZMA] = "lzma"};
    PFL_AUTO(pfl_p2pfl_params_deinit) struct pfl_p2pfl_params p = {0};
    opts = opts ? opts : &plain;
    TRY(pfl_p2pfl_options_check(opts, model->layout, err));
    TRY(collect(model, &p, err));
    TRY(pfl_p2pfl_apply(&p, opts, err));
    put_start(out);
    put_str(out, "byte_compressor");
    if (opts->compressor == PFL_P2PFL_PLAIN)
        put_op(out, 'N');
    else
        put_str(out, names[opts->compressor]);
    put_str(out, "bytes");
    put_op(out, 0x8e);
    size_t length_at = out->len;
    put_le(out, 0, 8);
    size_t from = out->len;
    if (opts->compressor == PFL_P2PFL_PLAIN) {
        put_inner(out, model, &p, opts->proximal_mu);
    } else {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf inner = {.limit = out->limit};
        put_inner(&inner, model, &p, opts->proximal_mu);
        out->failed = out->failed || inner.failed;
        TRY(compress_into(opts, pfl_buf_view(&inner), out, err));
    }
    (void)pfl_buf_append(out, "u.", 2);
    if (out->failed)
        return pfl_err_set(err, PFL_TOO_BIG, "a P2PFL payload of more than %zu bytes", out->limit);
    uint64_t inner_len = out->len - 2 - from;
    for (unsigned i = 0; i < 8; i++)
        out->data[length_at + i] = (uint8_t)(inner_len >> 8 * i);
    return PFL_OK;
}
