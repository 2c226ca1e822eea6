/* SPDX-License-Identifier: Apache-2.0 */
/* A model's parameters: a layout (named tensors in a fixed order, one contiguous block) and the block itself.
 * The block's byte order is little-endian and its order is the layout's, so that it is the data section of a safetensors
 * file as it stands: sending a model copies nothing. Models are refcounted and immutable once shared. */
#ifndef PFL_TENSOR_MODEL_H
#define PFL_TENSOR_MODEL_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/err.h"
#include "tensor/limits.h"

enum pfl_dtype { PFL_F32, PFL_F64, PFL_F16, PFL_BF16, PFL_I8, PFL_I16, PFL_I32, PFL_I64, PFL_U8, PFL_BOOL };
size_t pfl_dtype_bytes(enum pfl_dtype t);
const char *pfl_dtype_name(enum pfl_dtype t); /* safetensors names: "F32", ... */
bool pfl_dtype_parse(const char *name, enum pfl_dtype *ret);

/** One named tensor. Row-major. rank 0 is a scalar. */
struct pfl_tensor_desc {
    char name[PFL_TENSOR_NAME_MAX];
    enum pfl_dtype dtype;
    unsigned rank;
    size_t shape[PFL_TENSOR_RANK_MAX];
    size_t offset; /* bytes from the block's start */
    size_t bytes;
};

/** Which tensors a model has. Refcounted, immutable. */
struct pfl_layout {
    atomic_uint refs;
    size_t n;
    size_t bytes;                     /* of the whole block */
    struct pfl_tensor_desc tensors[]; /* n, offsets contiguous and ascending */
};
/** Copies descs (names, dtypes, shapes; offset and bytes are computed). INVALID for a doubled or empty name, an overflow, too many.
 */
enum pfl_rc pfl_layout_new(const struct pfl_tensor_desc *descs, size_t n, struct pfl_layout **ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_layout *pfl_layout_ref(struct pfl_layout *l);
void pfl_layout_unref(struct pfl_layout *l);
/** MALFORMED naming the first tensor that differs and how ("tensor 'layers.0.weight': shape (2, 3), (3, 2) is expected"). */
enum pfl_rc pfl_layout_check_same(const struct pfl_layout *got, const struct pfl_layout *want, struct pfl_err *err) PFL_WARN_UNUSED;
/** The desc of that name, borrowed; NULL where there is none. */
const struct pfl_tensor_desc *pfl_layout_find(const struct pfl_layout *l, const char *name);

/** Parameters. The block is either owned or a view into a blob (a received message) that the model keeps a reference to. */
struct pfl_model {
    atomic_uint refs;
    struct pfl_layout *layout; /* a reference */
    const uint8_t *data;       /* layout->bytes, aligned to at least 4 bytes when owned; unaligned possible for views */
    uint8_t *owned;            /* NULL for a view */
    struct pfl_blob *blob;     /* the view's owner, or NULL */
};
/** Zeroed block of its own, writable through pfl_model_data_mut until it is shared. TOO_BIG/UNAVAILABLE where memory is gone. */
enum pfl_rc pfl_model_new(struct pfl_layout *layout, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The same, not zeroed: whoever makes it writes every byte before anybody reads one. */
enum pfl_rc pfl_model_new_unset(struct pfl_layout *layout, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** A view of blob->data[offset, offset + layout->bytes); takes references to both. Data that is not aligned for its dtypes is
 * copied. */
enum pfl_rc pfl_model_view(struct pfl_layout *layout, struct pfl_blob *blob, size_t offset, struct pfl_model **ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_model *pfl_model_ref(struct pfl_model *m);
void pfl_model_unref(struct pfl_model *m);
PFL_DEFINE_FREEP(model, struct pfl_model, pfl_model_unref)
PFL_DEFINE_FREEP(layout, struct pfl_layout, pfl_layout_unref)
uint8_t *pfl_model_data_mut(struct pfl_model *m);            /* asserts refs == 1 and an owned block */
struct pfl_model *pfl_model_copy(const struct pfl_model *m); /* own block; NULL where memory is gone */
/** MALFORMED naming the first tensor and index with NaN or Inf. F32, F64, F16, BF16 are looked at, integers pass. */
enum pfl_rc pfl_model_check_finite(const struct pfl_model *m, struct pfl_err *err) PFL_WARN_UNUSED;

/* Kernels over F32; fixed order of operations, so that two machines get the same bytes. */
/** acc[i] = acc[i] + w * x[i] in double. */
void pfl_kernel_axpy_f64(double *acc, const float *x, double w, size_t n);
/** out[i] = (float)(sum_k w[k] * x[k][i] / total); double accumulation from 0.0, k ascending. Reads each x once and writes out
 * once: sums stay in registers. */
typedef void (*pfl_mean_fn)(float *out, const float *const *x, const double *w, size_t n_x, double total, size_t n);
void pfl_kernel_weighted_mean_f32(float *out, const float *const *x, const double *w, size_t n_x, double total, size_t n);
/** The i-th version of it for some kind of processor, widest vectors first; all give the same bytes. NULL: there are no more.
 * usable: this processor can run it. */
pfl_mean_fn pfl_kernel_weighted_mean_version(size_t i, const char **ret_name, bool *ret_usable);

#endif
