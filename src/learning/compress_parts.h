/* SPDX-License-Identifier: Apache-2.0 */
/* What compress.c and decompress.c share. Only they include this. */
#ifndef PFL_LEARNING_COMPRESS_PARTS_H
#define PFL_LEARNING_COMPRESS_PARTS_H

#include "learning/squeeze.h"

enum { PFL_PART_NAME_MAX = 32 };
#define PFL_SQUEEZED_MAGIC "PFLZ"
enum { PFL_SQUEEZED_HEAD = 13 }; /* magic, kind, length */

/** Is this tensor sent as a difference, and changed? */
bool pfl_compress_works_on(const struct pfl_tensor_desc *t);
/** A matrix as which low_rank sees a tensor: the first dimension by the rest; false where it has only one. */
bool pfl_compress_matrix(unsigned rank, const size_t *shape, size_t *ret_m, size_t *ret_n);

/** deltas: the differences of all tensors it works on, one after the other; NULL: not wanted. As pfl_decompress otherwise. */
enum pfl_rc pfl_decompress_to(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want,
                              const struct pfl_model *(*base_of)(void *user, const uint8_t *digest), void *user, float *deltas,
                              struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
