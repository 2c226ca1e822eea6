/* SPDX-License-Identifier: Apache-2.0 */
/* P2PFL's compression, applied: what its nodes undo. Parameters go through the techniques in the order of the options; each leaves
 * behind what its undoing needs. Source: P2PFL 0.4.4, learning/compression; how a payload holds it: p2pfl_encode.c. */
#ifndef PFL_LEARNING_P2PFL_TECHNIQUES_H
#define PFL_LEARNING_P2PFL_TECHNIQUES_H

#include "learning/p2pfl_payload.h"

/** An array on its way out. */
struct pfl_p2pfl_array {
    const char *type; /* NumPy's: "f4", "u4", ... */
    unsigned rank;
    size_t shape[PFL_TENSOR_RANK_MAX];
    size_t n, bytes;
    const void *data; /* borrowed, or owned */
    void *owned;
};

/** What a technique noted of one parameter. */
struct pfl_p2pfl_side {
    size_t index; /* of the parameter, as the technique found them */
    unsigned rank;
    size_t shape[PFL_TENSOR_RANK_MAX]; /* topk: before */
    double scale;                      /* ptq, one for all */
    int32_t zero;                      /* the same */
    struct pfl_p2pfl_array arrays[3];  /* topk: indices. low_rank: U (m, k), s (k), V (k, n). ptq by channel: scales, zero points */
};

struct pfl_p2pfl_applied {
    struct pfl_p2pfl_technique what;
    struct pfl_p2pfl_side *sides; /* owned, n */
    size_t n;
};

struct pfl_p2pfl_params {
    struct pfl_p2pfl_array *arrays; /* owned, n */
    size_t n;
    struct pfl_p2pfl_applied applied[PFL_P2PFL_TECHNIQUES_MAX];
    size_t n_applied;
};
void pfl_p2pfl_params_deinit(struct pfl_p2pfl_params *p);

/** Applies all techniques of opts; arrays are F32 where there are any (pfl_p2pfl_options_check). UNAVAILABLE where memory is gone
 * or a matrix cannot be factored; p is then good for nothing but deinit. */
enum pfl_rc pfl_p2pfl_apply(struct pfl_p2pfl_params *p, const struct pfl_p2pfl_options *opts, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
