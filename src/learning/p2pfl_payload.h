/* SPDX-License-Identifier: Apache-2.0 */
/* A model as P2PFL's Python nodes send it: a pickle of {"byte_compressor": None | "zlib" | "lzma", "bytes": B}, where B is a pickle
 * of
 * {"params": [ndarray, ...], "additional_info": {"applied_techniques": [[name, {...}], ...], ...}}. Parameters come in the model's
 * order, without names. Nothing is ever unpickled (wire/pickle.h). Source: P2PFL 0.4.4, learning/frameworks/p2pfl_model.py and
 * learning/compression. */
#ifndef PFL_LEARNING_P2PFL_PAYLOAD_H
#define PFL_LEARNING_P2PFL_PAYLOAD_H

#include "tensor/model.h"

enum { PFL_P2PFL_TENSORS_MAX = 4096 };

/** Decompresses, reads, undoes the techniques last to first (topk, ptq, low_rank) and puts the arrays by position into want's
 * layout: each must have the tensor's shape, and its type where no technique changed it. want NULL: the arrays' own layout, named
 * "0", "1", ... inner_max: most bytes that B may have after decompression. MALFORMED, UNSUPPORTED (a callable, a technique, a type:
 * named), TOO_BIG. */
enum pfl_rc pfl_p2pfl_decode(struct pfl_bytes in, struct pfl_layout *want, size_t inner_max, struct pfl_model **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;
/** What decoding a model of this layout may need for B: its bytes four times over (SCAFFOLD sends three more sets), and 1 KiB a
 *  tensor. */
size_t pfl_p2pfl_inner_max(const struct pfl_layout *layout);

/** Appends the payload to out: not compressed, protocol 4, NumPy's old names, which NumPy 1 and 2 both read. TOO_BIG where out's
 * limit is passed; UNSUPPORTED for BF16, which NumPy does not have. */
enum pfl_rc pfl_p2pfl_encode(const struct pfl_model *model, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
