/* SPDX-License-Identifier: Apache-2.0 */
/* The learner's messages on nanopb. The sizes in proto/learner.options are those of the structs, so that nanopb itself refuses what
 * is longer; the list of tensors is read one by one into what becomes the layout. */
#include "wire/learner_msg.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learner.pb.h"
#include "wire/pb.h"

typedef p2pfl_learner_v1_DescribeRequest pb_describe;
typedef p2pfl_learner_v1_Description pb_description;
typedef p2pfl_learner_v1_Tensor pb_tensor;

static_assert(sizeof(((pb_describe *)0)->folder) == PFL_LEARNER_FOLDER_MAX, "learner.options: folder");
static_assert(sizeof(((pb_describe *)0)->dataset_path) == PFL_LEARNER_PATH_MAX, "learner.options: dataset_path");
static_assert(sizeof(((pb_describe *)0)->hidden_sizes) == PFL_LEARNER_HIDDEN_MAX * sizeof(uint32_t), "learner.options: hidden");
static_assert(sizeof(((pb_tensor *)0)->name) == PFL_TENSOR_NAME_MAX, "learner.options: a tensor's name");
static_assert(sizeof(((pb_tensor *)0)->shape) == PFL_TENSOR_RANK_MAX * sizeof(uint64_t), "learner.options: a tensor's shape");

/* What is in a fixed text goes on; its struct has the same size or a larger one. */
#define COPY_TEXT(dst, src)                                                                                                        \
    do {                                                                                                                           \
        static_assert(sizeof(dst) >= sizeof(src), #dst);                                                                           \
        (void)snprintf(dst, sizeof(dst), "%s", src);                                                                               \
    } while (0)

static enum pfl_rc decode(struct pfl_bytes in, const pb_msgdesc_t *fields, void *msg, const char *what, struct pfl_err *err)
{
    static const uint8_t nothing;
    struct pfl_err local = {0}, *e = err ? err : &local;
    if (in.len > PFL_LEARNER_MESSAGE_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%s is %zu bytes, the limit is %d", what, in.len, PFL_LEARNER_MESSAGE_MAX);
    const struct pfl_pb_input input = {in.data ? in : pfl_bytes_of(&nothing, 0), e};
    return pfl_pb_decode(&input, fields, msg, what);
}

/* ---- DescribeRequest ---- */

static void put_params(const struct pfl_learner_param *from, size_t n, p2pfl_learner_v1_Param *to, pb_size_t *ret_n)
{
    for (size_t i = 0; i < n; i++) {
        COPY_TEXT(to[i].key, from[i].key);
        COPY_TEXT(to[i].value, from[i].value);
    }
    *ret_n = (pb_size_t)n;
}

static size_t take_params(const p2pfl_learner_v1_Param *from, size_t n, struct pfl_learner_param *to)
{
    for (size_t i = 0; i < n; i++) {
        COPY_TEXT(to[i].key, from[i].key);
        COPY_TEXT(to[i].value, from[i].value);
    }
    return n;
}

enum pfl_rc pfl_learner_describe_encode(const struct pfl_learner_describe *m, struct pfl_buf *out, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) pb_describe *pb = pfl_xcalloc(1, sizeof(*pb));
    PFL_ASSERT(m->n_hidden <= PFL_LEARNER_HIDDEN_MAX && m->n_params <= PFL_LEARNER_PARAMS_MAX &&
               m->n_partition_params <= PFL_LEARNER_PARTITION_PARAMS_MAX);
    pb->version = m->version;
    COPY_TEXT(pb->node, m->node);
    COPY_TEXT(pb->folder, m->folder);
    COPY_TEXT(pb->dataset, m->dataset);
    COPY_TEXT(pb->dataset_path, m->dataset_path);
    COPY_TEXT(pb->partition, m->partition);
    pb->part_index = m->part_index;
    pb->part_count = m->part_count;
    pb->part_seed = m->part_seed;
    pb->reduction_factor = m->reduction_factor;
    pb->seed = m->seed;
    pb->learning_rate = m->learning_rate;
    pb->batch_size = m->batch_size;
    pb->threads = m->threads;
    memcpy(pb->hidden_sizes, m->hidden, sizeof(m->hidden));
    pb->hidden_sizes_count = (pb_size_t)m->n_hidden;
    put_params(m->params, m->n_params, pb->params, &pb->params_count);
    put_params(m->partition_params, m->n_partition_params, pb->partition_params, &pb->partition_params_count);
    return pfl_pb_encode(out, p2pfl_learner_v1_DescribeRequest_fields, pb, "the learner's configuration", err);
}

enum pfl_rc pfl_learner_describe_decode(struct pfl_bytes in, struct pfl_learner_describe *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) pb_describe *pb = pfl_xcalloc(1, sizeof(*pb));
    enum pfl_rc rc = decode(in, p2pfl_learner_v1_DescribeRequest_fields, pb, "the learner's configuration", err);
    if (rc != PFL_OK)
        return rc;
    memset(ret, 0, sizeof(*ret));
    ret->version = pb->version;
    COPY_TEXT(ret->node, pb->node);
    COPY_TEXT(ret->folder, pb->folder);
    COPY_TEXT(ret->dataset, pb->dataset);
    COPY_TEXT(ret->dataset_path, pb->dataset_path);
    COPY_TEXT(ret->partition, pb->partition);
    ret->part_index = pb->part_index;
    ret->part_count = pb->part_count;
    ret->part_seed = pb->part_seed;
    ret->reduction_factor = pb->reduction_factor;
    ret->seed = pb->seed;
    ret->learning_rate = pb->learning_rate;
    ret->batch_size = pb->batch_size;
    ret->threads = pb->threads;
    memcpy(ret->hidden, pb->hidden_sizes, sizeof(ret->hidden));
    ret->n_hidden = pb->hidden_sizes_count;
    ret->n_params = take_params(pb->params, pb->params_count, ret->params);
    ret->n_partition_params = take_params(pb->partition_params, pb->partition_params_count, ret->partition_params);
    return PFL_OK;
}

/* ---- Description ---- */

static bool put_tensors(pb_ostream_t *s, const pb_field_t *f, void *const *arg)
{
    const struct pfl_layout *l = *arg;
    for (size_t i = 0; i < l->n; i++) {
        const struct pfl_tensor_desc *t = &l->tensors[i];
        pb_tensor pb = p2pfl_learner_v1_Tensor_init_zero;
        COPY_TEXT(pb.name, t->name);
        (void)snprintf(pb.dtype, sizeof(pb.dtype), "%s", pfl_dtype_name(t->dtype));
        pb.shape_count = (pb_size_t)t->rank;
        for (unsigned k = 0; k < t->rank; k++)
            pb.shape[k] = t->shape[k];
        if (!pb_encode_tag_for_field(s, f) || !pb_encode_submessage(s, p2pfl_learner_v1_Tensor_fields, &pb))
            return false;
    }
    return true;
}

enum pfl_rc pfl_learner_description_encode(const struct pfl_learner_description *m, const struct pfl_layout *layout,
                                           struct pfl_buf *out, struct pfl_err *err)
{
    pb_description pb = p2pfl_learner_v1_Description_init_zero;
    COPY_TEXT(pb.name, m->name);
    pb.steerable = m->steerable;
    pb.tensors.funcs.encode = put_tensors;
    pb.tensors.arg = (void *)(uintptr_t)layout;
    return pfl_pb_encode(out, p2pfl_learner_v1_Description_fields, &pb, "a learner's description", err);
}

struct tensors {
    struct pfl_tensor_desc *items; /* owned */
    size_t n;
    struct pfl_err *err;
};

static bool is_name(const char *name)
{
    bool ok = name[0] != '\0' && pfl_utf8_valid(name, strlen(name));
    for (const char *p = name; *p && ok; p++)
        ok = (unsigned char)*p >= 0x20 && *p != 0x7f;
    return ok;
}

static bool take_tensor(struct tensors *list, const pb_tensor *pb)
{
    struct pfl_tensor_desc d = {.rank = pb->shape_count};
    COPY_TEXT(d.name, pb->name);
    if (!is_name(d.name))
        return pfl_err_set(list->err, PFL_MALFORMED, "tensor %zu has the name '%s'", list->n, pfl_q(pb->name)) == PFL_OK;
    if (!pfl_dtype_parse(pb->dtype, &d.dtype))
        return pfl_err_set(list->err, PFL_MALFORMED, "tensor '%s' has the dtype '%s'; there are F32, F64, F16, BF16, ...",
                           pfl_q(d.name), pfl_q(pb->dtype)) == PFL_OK;
    for (unsigned k = 0; k < d.rank; k++)
        d.shape[k] = pb->shape[k];
    list->items = pfl_xrealloc(list->items, (list->n + 1) * sizeof(*list->items));
    list->items[list->n++] = d;
    return true;
}

static bool on_tensor(pb_istream_t *s, const pb_field_t *f, void **arg)
{
    struct tensors *list = *arg;
    (void)f;
    pb_tensor pb = p2pfl_learner_v1_Tensor_init_zero;
    if (list->n == PFL_LAYOUT_TENSORS_MAX) {
        pfl_err_set(list->err, PFL_TOO_BIG, "more than %d tensors", PFL_LAYOUT_TENSORS_MAX);
        return false;
    }
    return pb_decode(s, p2pfl_learner_v1_Tensor_fields, &pb) && take_tensor(list, &pb);
}

enum pfl_rc pfl_learner_description_decode(struct pfl_bytes in, struct pfl_learner_description *ret, struct pfl_layout **ret_layout,
                                           struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    struct tensors list = {.err = e};
    pb_description pb = p2pfl_learner_v1_Description_init_zero;
    pb.tensors.funcs.decode = on_tensor;
    pb.tensors.arg = &list;
    enum pfl_rc rc = decode(in, p2pfl_learner_v1_Description_fields, &pb, "the learner's description", e);
    if (rc == PFL_OK && list.n == 0)
        rc = pfl_err_set(e, PFL_MALFORMED, "the learner's description has no tensor in it");
    if (rc == PFL_OK)
        rc = pfl_layout_new(list.items, list.n, ret_layout, e);
    free(list.items);
    if (rc != PFL_OK)
        return rc;
    *ret = (struct pfl_learner_description){.steerable = pb.steerable};
    COPY_TEXT(ret->name, pb.name);
    return PFL_OK;
}

/* ---- the small ones ---- */

enum pfl_rc pfl_learner_parameters_encode(const struct pfl_learner_parameters *m, struct pfl_buf *out, struct pfl_err *err)
{
    p2pfl_learner_v1_Parameters pb = {.bytes = m->bytes};
    COPY_TEXT(pb.file, m->file);
    return pfl_pb_encode(out, p2pfl_learner_v1_Parameters_fields, &pb, "parameters", err);
}

static enum pfl_rc take_file(const p2pfl_learner_v1_Parameters *pb, struct pfl_learner_parameters *ret, struct pfl_err *err)
{
    if (pb->file[0] == '\0' || pb->file[0] == '.' || strchr(pb->file, '/'))
        return pfl_err_set(err, PFL_MALFORMED, "'%s' is no name of a file in the folder", pfl_q(pb->file));
    *ret = (struct pfl_learner_parameters){.bytes = pb->bytes};
    COPY_TEXT(ret->file, pb->file);
    return PFL_OK;
}

enum pfl_rc pfl_learner_parameters_decode(struct pfl_bytes in, struct pfl_learner_parameters *ret, struct pfl_err *err)
{
    p2pfl_learner_v1_Parameters pb = p2pfl_learner_v1_Parameters_init_zero;
    enum pfl_rc rc = decode(in, p2pfl_learner_v1_Parameters_fields, &pb, "parameters", err);
    return rc == PFL_OK ? take_file(&pb, ret, err) : rc;
}

enum pfl_rc pfl_learner_job_encode(const struct pfl_learner_job *m, struct pfl_buf *out, struct pfl_err *err)
{
    p2pfl_learner_v1_Job pb = {.id = m->id,
                               .epochs = m->epochs,
                               .seed = m->seed,
                               .proximal_mu = m->proximal_mu,
                               .has_correction = m->has_correction,
                               .correction = {.bytes = m->correction.bytes}};
    COPY_TEXT(pb.correction.file, m->correction.file);
    return pfl_pb_encode(out, p2pfl_learner_v1_Job_fields, &pb, "a job", err);
}

enum pfl_rc pfl_learner_job_decode(struct pfl_bytes in, struct pfl_learner_job *ret, struct pfl_err *err)
{
    p2pfl_learner_v1_Job pb = p2pfl_learner_v1_Job_init_zero;
    enum pfl_rc rc = decode(in, p2pfl_learner_v1_Job_fields, &pb, "a job", err);
    struct pfl_learner_job m = {
        .id = pb.id, .epochs = pb.epochs, .seed = pb.seed, .proximal_mu = pb.proximal_mu, .has_correction = pb.has_correction};
    if (rc == PFL_OK && pb.has_correction)
        rc = take_file(&pb.correction, &m.correction, err);
    if (rc == PFL_OK)
        *ret = m;
    return rc;
}

enum pfl_rc pfl_learner_result_encode(const struct pfl_learner_result *m, struct pfl_buf *out, struct pfl_err *err)
{
    const p2pfl_learner_v1_Result pb = {.loss = m->loss,
                                        .accuracy = m->accuracy,
                                        .n_samples = m->n_samples,
                                        .n_steps = m->n_steps,
                                        .learning_rate = m->learning_rate,
                                        .normaliser = m->normaliser};
    return pfl_pb_encode(out, p2pfl_learner_v1_Result_fields, &pb, "a result", err);
}

enum pfl_rc pfl_learner_result_decode(struct pfl_bytes in, struct pfl_learner_result *ret, struct pfl_err *err)
{
    p2pfl_learner_v1_Result pb = p2pfl_learner_v1_Result_init_zero;
    enum pfl_rc rc = decode(in, p2pfl_learner_v1_Result_fields, &pb, "the result", err);
    if (rc == PFL_OK)
        *ret = (struct pfl_learner_result){.loss = pb.loss,
                                           .accuracy = pb.accuracy,
                                           .n_samples = pb.n_samples,
                                           .n_steps = pb.n_steps,
                                           .learning_rate = pb.learning_rate,
                                           .normaliser = pb.normaliser};
    return rc;
}

enum pfl_rc pfl_learner_progress_request_encode(const struct pfl_learner_progress_request *m, struct pfl_buf *out,
                                                struct pfl_err *err)
{
    const p2pfl_learner_v1_ProgressRequest pb = {.job = m->job, .seen = m->seen, .wait_ms = m->wait_ms};
    return pfl_pb_encode(out, p2pfl_learner_v1_ProgressRequest_fields, &pb, "a question for progress", err);
}

enum pfl_rc pfl_learner_progress_request_decode(struct pfl_bytes in, struct pfl_learner_progress_request *ret, struct pfl_err *err)
{
    p2pfl_learner_v1_ProgressRequest pb = p2pfl_learner_v1_ProgressRequest_init_zero;
    enum pfl_rc rc = decode(in, p2pfl_learner_v1_ProgressRequest_fields, &pb, "a question for progress", err);
    if (rc == PFL_OK)
        *ret = (struct pfl_learner_progress_request){.job = pb.job, .seen = pb.seen, .wait_ms = pb.wait_ms};
    return rc;
}

enum pfl_rc pfl_learner_progress_encode(const struct pfl_learner_progress *m, struct pfl_buf *out, struct pfl_err *err)
{
    const p2pfl_learner_v1_Progress pb = {.beat = m->beat, .done = m->done};
    return pfl_pb_encode(out, p2pfl_learner_v1_Progress_fields, &pb, "progress", err);
}

enum pfl_rc pfl_learner_progress_decode(struct pfl_bytes in, struct pfl_learner_progress *ret, struct pfl_err *err)
{
    p2pfl_learner_v1_Progress pb = p2pfl_learner_v1_Progress_init_zero;
    enum pfl_rc rc = decode(in, p2pfl_learner_v1_Progress_fields, &pb, "progress", err);
    if (rc == PFL_OK)
        *ret = (struct pfl_learner_progress){.beat = pb.beat, .done = pb.done};
    return rc;
}
