/* SPDX-License-Identifier: Apache-2.0 */
/* Smaller contributions. A pipeline of techniques, in the order given:
 *
 *   dp        clips the update and adds noise (learning/privacy.h has the accounting)
 *   topk      the share `k` of each tensor's values with the largest magnitude; with error feedback, what was left out is added to
 *             the next contribution (Seide et al. 2014; Stich et al. 2018, "Sparsified SGD with Memory", Algorithm 1)
 *   low_rank  each matrix as a product of two, with as few singular values as hold `threshold` of the sum of their squares, where
 *             that is smaller (LAPACK's dgesdd). A tensor of rank above 2 is a matrix of its first dimension by the rest
 *   ptq       float16, bfloat16, int8, uint8, int16: symmetric or asymmetric, one scale per tensor or per channel (rank 2 and more)
 *   zlib lzma zstd   the bytes that come of it; the last one, and alone loses nothing
 *
 * All but the last group work on the difference to the round's common model, whose values are smaller and closer together than the
 * model's own. Tensors beside the model ("@..."), integers and other types than F32 are sent as they are.
 *
 * The form: a safetensors file with what each technique makes of tensor i ("i", "i#x" ...), `__metadata__` with "techniques" (a
 * JSON list of names) and "base" (the SHA-256 of the model to add to, absent where nothing is a difference); where its bytes are
 * compressed, behind "PFLZ", one byte (1 zlib, 2 xz, 3 zstd) and its length (u64, little-endian). What each technique adds:
 * topk: "#x", the values in order of position, and "#i", their positions (I32), or "#b", a bit for each position, whichever is
 * smaller. low_rank: "#u" (m, r) and "#v" (r, n). ptq: the same name in another type, "#s", scales (F32), and "#z", zero points
 * (I32), where asymmetric. Undoing is done in a fixed order in double: every node gets the same bytes, also the one that
 * compressed. */
#ifndef PFL_LEARNING_COMPRESSION_H
#define PFL_LEARNING_COMPRESSION_H

#include "tensor/model.h"

enum pfl_technique {
    PFL_TECHNIQUE_DP,
    PFL_TECHNIQUE_TOPK,
    PFL_TECHNIQUE_LOW_RANK,
    PFL_TECHNIQUE_PTQ,
    PFL_TECHNIQUE_ZLIB,
    PFL_TECHNIQUE_LZMA,
    PFL_TECHNIQUE_ZSTD,
};
enum { PFL_TECHNIQUES = 7 };
const char *pfl_technique_name(enum pfl_technique t);
bool pfl_technique_parse(const char *name, enum pfl_technique *ret);

struct pfl_compression_step {
    enum pfl_technique technique;
    /* topk */
    double k; /* share of the values that is kept, (0, 1] */
    bool error_feedback;
    double threshold; /* low_rank: (0, 1] */
    /* ptq */
    enum pfl_dtype dtype; /* F16, BF16, I8, U8, I16 */
    bool asymmetric, per_channel;
    unsigned channel_axis;
    int level; /* zlib 0 to 9, lzma 0 to 9, zstd 1 to 22 */
    /* dp */
    double clip_norm;        /* L2 of the whole update; with laplace L1 */
    double noise_multiplier; /* standard deviation (Laplace: scale) of the noise over clip_norm */
    bool laplace;
};
/** n 0: nothing is compressed. */
struct pfl_compression {
    size_t n;
    struct pfl_compression_step steps[PFL_TECHNIQUES];
};
/** The step with P2PFL's defaults where it has them: float16, k 0.1, threshold 0.95, level 6 (zstd 3), clip_norm 1. */
struct pfl_compression_step pfl_compression_step_default(enum pfl_technique t);
/** INVALID: a technique twice; dp not first; anything but a byte compressor behind ptq; two byte compressors or one that is not
 * last; a parameter out of its range. */
enum pfl_rc pfl_compression_check(const struct pfl_compression *c, struct pfl_err *err) PFL_WARN_UNUSED;
bool pfl_compression_has(const struct pfl_compression *c, enum pfl_technique t);
/** Does it lose anything? Then it works on differences. */
bool pfl_compression_is_lossy(const struct pfl_compression *c);

/** What is left out so far (error feedback); of one node. */
struct pfl_compressor {
    struct pfl_compression spec;
    float *residual; /* owned; as many values as the model has F32 ones; NULL: zero */
    size_t n_residual;
    void (*random)(void *out, size_t len); /* for dp's noise; NULL: the operating system's source */
};
void pfl_compressor_deinit(struct pfl_compressor *c);

enum { PFL_BASE_DIGEST_LEN = 32 };
/** model: a contribution; base: the round's common model, of which the first tensors are the contribution's (learning/method.h),
 * and its digest. *ret: the bytes, owned. *ret_model: what they decode to, owned: that is what this node contributes itself. The
 * residual changes on success only. */
enum pfl_rc pfl_compress(struct pfl_compressor *c, const struct pfl_model *base, const uint8_t *base_digest,
                         const struct pfl_model *model, struct pfl_blob **ret, struct pfl_model **ret_model,
                         struct pfl_err *err) PFL_WARN_UNUSED;
/** The bytes of a peer, which lie in blob->data[off, off + len), of a contribution in layout `want`. base_of gives the model with
 * this digest (borrowed for the call), or NULL. MALFORMED, TOO_BIG (nothing is allocated beyond three times the layout's size and 1
 * KiB a tensor), UNSUPPORTED (a technique: named), STATE: base_of does not know the base. */
enum pfl_rc pfl_decompress(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want,
                           const struct pfl_model *(*base_of)(void *user, const uint8_t *digest), void *user,
                           struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The most bytes that a compressed contribution of this layout may have. */
size_t pfl_compressed_max(const struct pfl_layout *l);

#endif
