/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a learner in another process (proto/learner.proto) as plain structs. Every size is bounded while it is decoded.
 * A learner is the operator's own program, but one with faults: nothing that it says is used before it was checked. */
#ifndef PFL_WIRE_LEARNER_MSG_H
#define PFL_WIRE_LEARNER_MSG_H

#include "base/bytes.h"
#include "tensor/model.h"

#define PFL_LEARNER_SERVICE      "p2pfl.learner.v1.Learner"
#define PFL_LEARNER_METHOD(name) "/" PFL_LEARNER_SERVICE "/" name

enum {
    PFL_LEARNER_VERSION = 1,
    PFL_LEARNER_NAME_MAX = 128,   /* with NUL, as all of these */
    PFL_LEARNER_FOLDER_MAX = 108, /* a Unix socket's path */
    PFL_LEARNER_PATH_MAX = 4096,
    PFL_LEARNER_FILE_MAX = 64,
    PFL_LEARNER_HIDDEN_MAX = 16,
    PFL_LEARNER_PARAMS_MAX = 32,
    PFL_LEARNER_PARTITION_PARAMS_MAX = 8,
    PFL_LEARNER_KEY_MAX = 64,
    PFL_LEARNER_VALUE_MAX = 512,
    PFL_LEARNER_MESSAGE_MAX = 1 << 20, /* a description of 4096 tensors is below 900 KB */
};

struct pfl_learner_param {
    char key[PFL_LEARNER_KEY_MAX], value[PFL_LEARNER_VALUE_MAX];
};
struct pfl_learner_describe {
    uint32_t version;
    char node[PFL_LEARNER_NAME_MAX], folder[PFL_LEARNER_FOLDER_MAX];
    char dataset[PFL_LEARNER_NAME_MAX], dataset_path[PFL_LEARNER_PATH_MAX], partition[64];
    uint32_t part_index, part_count;
    uint64_t part_seed, seed;
    double reduction_factor, learning_rate;
    uint32_t batch_size, threads;
    uint32_t hidden[PFL_LEARNER_HIDDEN_MAX];
    size_t n_hidden;
    struct pfl_learner_param params[PFL_LEARNER_PARAMS_MAX];
    size_t n_params;
    struct pfl_learner_param partition_params[PFL_LEARNER_PARTITION_PARAMS_MAX];
    size_t n_partition_params;
};
struct pfl_learner_description {
    char name[PFL_LEARNER_NAME_MAX]; /* for logs */
    bool steerable;
};
struct pfl_learner_parameters {
    char file[PFL_LEARNER_FILE_MAX];
    uint64_t bytes;
};
struct pfl_learner_job {
    uint64_t id;
    uint32_t epochs;
    uint64_t seed;
    double proximal_mu;
    bool has_correction;
    struct pfl_learner_parameters correction;
};
struct pfl_learner_result {
    double loss, accuracy;
    uint64_t n_samples, n_steps;
    double learning_rate, normaliser;
};
struct pfl_learner_progress_request {
    uint64_t job, seen;
    uint32_t wait_ms;
};
struct pfl_learner_progress {
    uint64_t beat;
    double done;
};

/* Each encode appends to out and is TOO_BIG where it does not fit; each decode overwrites *ret on success, and is MALFORMED or
 * TOO_BIG with the reason. An empty message may come without a buffer. */
enum pfl_rc pfl_learner_describe_encode(const struct pfl_learner_describe *m, struct pfl_buf *out,
                                        struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_describe_decode(struct pfl_bytes in, struct pfl_learner_describe *ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_description_encode(const struct pfl_learner_description *m, const struct pfl_layout *layout,
                                           struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** *ret_layout is owned. MALFORMED too for no tensor, a doubled or empty name, an unknown dtype; TOO_BIG past the layout's limits.
 */
enum pfl_rc pfl_learner_description_decode(struct pfl_bytes in, struct pfl_learner_description *ret, struct pfl_layout **ret_layout,
                                           struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_parameters_encode(const struct pfl_learner_parameters *m, struct pfl_buf *out,
                                          struct pfl_err *err) PFL_WARN_UNUSED;
/** MALFORMED too for a file name that could lead out of the folder. */
enum pfl_rc pfl_learner_parameters_decode(struct pfl_bytes in, struct pfl_learner_parameters *ret,
                                          struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_job_encode(const struct pfl_learner_job *m, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_job_decode(struct pfl_bytes in, struct pfl_learner_job *ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_result_encode(const struct pfl_learner_result *m, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_result_decode(struct pfl_bytes in, struct pfl_learner_result *ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_progress_request_encode(const struct pfl_learner_progress_request *m, struct pfl_buf *out,
                                                struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_progress_request_decode(struct pfl_bytes in, struct pfl_learner_progress_request *ret,
                                                struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_progress_encode(const struct pfl_learner_progress *m, struct pfl_buf *out,
                                        struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_progress_decode(struct pfl_bytes in, struct pfl_learner_progress *ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
