/* SPDX-License-Identifier: Apache-2.0 */
/* A model as P2PFL's Python nodes send it: a pickle of {"byte_compressor": None | "zlib" | "lzma", "bytes": B}, where B is a pickle
 * of {"params": [ndarray, ...], "additional_info": {"applied_techniques": [[name, {...}], ...], ...}}. Parameters come in the
 * model's order, without names. Nothing is ever unpickled (wire/pickle.h). Source: P2PFL 0.4.4, learning/frameworks/p2pfl_model.py
 * and learning/compression.
 *
 * What P2PFL's aggregators keep in additional_info is carried as tensors and options here: a layout's tensor "@delta_y.NAME" is the
 * entry of parameter NAME in the list additional_info["scaffold"]["delta_y_i"], "@delta_c.NAME" in "delta_c_i", "@c.NAME" in
 * "global_c"; FedProx's additional_info["fedprox"]["proximal_mu"] is an option. Other tensors whose name begins with "@" do not
 * travel to P2PFL's nodes. */
#ifndef PFL_LEARNING_P2PFL_PAYLOAD_H
#define PFL_LEARNING_P2PFL_PAYLOAD_H

#include "tensor/model.h"

enum {
    PFL_P2PFL_TENSORS_MAX = 4096,
    PFL_P2PFL_TECHNIQUES_MAX = 3, /* each at most once */
};

/** What is done to a payload that goes out. */
enum pfl_p2pfl_kind { PFL_P2PFL_LOW_RANK, PFL_P2PFL_TOPK, PFL_P2PFL_PTQ };
struct pfl_p2pfl_technique {
    enum pfl_p2pfl_kind kind;
    double k;             /* topk: the share of each tensor's values that is kept, those of the largest magnitude; (0, 1] */
    double threshold;     /* low_rank: the share of the squared singular values that is kept at least; (0, 1] */
    enum pfl_dtype dtype; /* ptq: PFL_I8, PFL_U8, PFL_I16, PFL_F16 */
    bool asymmetric;      /* ptq: with a zero point; PFL_U8 always */
    bool per_channel;     /* ptq: a scale for each slice along `axis`, where every array has at least two axes */
    unsigned axis;
};
enum pfl_p2pfl_compressor { PFL_P2PFL_PLAIN, PFL_P2PFL_ZLIB, PFL_P2PFL_LZMA };
/** Zeroed: nothing is compressed. */
struct pfl_p2pfl_options {
    struct pfl_p2pfl_technique techniques[PFL_P2PFL_TECHNIQUES_MAX]; /* in the order in which they are applied */
    size_t n;
    enum pfl_p2pfl_compressor compressor;
    int level;          /* of zlib and lzma, 0 to 9 */
    double proximal_mu; /* FedProx's, for P2PFL's learners; 0: none */
};
/** Can a model of this layout be sent so? INVALID for techniques that do not go together (one twice, ptq before another, a
 * symmetric PFL_U8, values out of range), UNSUPPORTED where a technique would meet a tensor that is not F32: P2PFL gives all arrays
 * the type of the first one back. */
enum pfl_rc pfl_p2pfl_options_check(const struct pfl_p2pfl_options *opts, const struct pfl_layout *layout,
                                    struct pfl_err *err) PFL_WARN_UNUSED;

/** What came beside a model. */
struct pfl_p2pfl_info {
    bool has_proximal_mu;
    double proximal_mu;
};

/** Decompresses, reads, undoes the techniques last to first (topk, ptq, low_rank) and puts the arrays by position into want's
 * layout: each must have the tensor's shape, and its type where no technique changed it; tensors of sets ("@...") are filled from
 * additional_info, with zeros where nothing came. want NULL: the arrays' own layout, named "0", "1", ... inner_max: most bytes that
 * B may have after decompression. MALFORMED, UNSUPPORTED (a callable, a technique, a type: named), TOO_BIG.
 * ret_info may be NULL. */
enum pfl_rc pfl_p2pfl_decode(struct pfl_bytes in, struct pfl_layout *want, size_t inner_max, struct pfl_model **ret,
                             struct pfl_p2pfl_info *ret_info, struct pfl_err *err) PFL_WARN_UNUSED;
/** What decoding a model of this layout may need for B: its bytes four times over (SCAFFOLD sends three more sets), and 1 KiB a
 *  tensor. */
size_t pfl_p2pfl_inner_max(const struct pfl_layout *layout);

/** Appends the payload to out: protocol 4, NumPy's old names, which NumPy 1 and 2 both read. opts NULL: as it is. TOO_BIG where
 *  out's limit is passed; UNSUPPORTED for BF16, which NumPy does not have; else as pfl_p2pfl_options_check. */
enum pfl_rc pfl_p2pfl_encode(const struct pfl_model *model, const struct pfl_p2pfl_options *opts, struct pfl_buf *out,
                             struct pfl_err *err) PFL_WARN_UNUSED;
/** What out's limit must be for any options. */
size_t pfl_p2pfl_encoded_max(const struct pfl_layout *layout);

/** Has a tensor of this name a place in "params"? (Not those of sets.) */
bool pfl_p2pfl_is_param(const struct pfl_tensor_desc *t);
/** Where the set of the tensor "@SET.NAME" stands in additional_info: group and key; false for a set that does not travel. */
bool pfl_p2pfl_set_place(const char *tensor, const char **ret_group, const char **ret_key);

#endif
