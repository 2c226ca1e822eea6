/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire */
/* The messages between a node and a learner in another process: there and back, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "wire/learner_msg.h"

static void test_describe__all_fields__come_back(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    PFL_AUTO(pfl_freep) struct pfl_learner_describe *in = pfl_xcalloc(1, sizeof(*in));
    PFL_AUTO(pfl_freep) struct pfl_learner_describe *out = pfl_xcalloc(1, sizeof(*out));
    *in = (struct pfl_learner_describe){.version = 1,
                                        .node = "node-1",
                                        .folder = "/dev/shm/x",
                                        .dataset = "mnist",
                                        .dataset_path = "/data",
                                        .partition = "shards",
                                        .part_index = 3,
                                        .part_count = 9,
                                        .part_seed = UINT64_MAX,
                                        .seed = 666,
                                        .reduction_factor = 0.25,
                                        .learning_rate = 1e-3,
                                        .batch_size = 64,
                                        .threads = 2,
                                        .hidden = {256, 128},
                                        .n_hidden = 2,
                                        .params = {{"a", "1"}, {"b", ""}},
                                        .n_params = 2,
                                        .partition_params = {{"alpha", "0.5"}},
                                        .n_partition_params = 1};
    assert_int_equal(pfl_learner_describe_encode(in, &b, NULL), PFL_OK);
    assert_int_equal(pfl_learner_describe_decode(pfl_buf_view(&b), out, NULL), PFL_OK);
    assert_memory_equal(in, out, sizeof(*in));
}

static struct pfl_layout *some_layout(void)
{
    const struct pfl_tensor_desc d[] = {{.name = "layers.0.weight", .dtype = PFL_F32, .rank = 2, .shape = {3, 2}},
                                        {.name = "scalar", .dtype = PFL_F32},
                                        {.name = "count", .dtype = PFL_I64, .rank = 1, .shape = {1}}};
    struct pfl_layout *l = NULL;
    assert_int_equal(pfl_layout_new(d, PFL_ARRAY_LEN(d), &l, NULL), PFL_OK);
    return l;
}

static void test_description__layout__comes_back(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *in = some_layout();
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *out = NULL;
    struct pfl_learner_description d;
    const struct pfl_learner_description said = {.name = "torch", .steerable = true};
    assert_int_equal(pfl_learner_description_encode(&said, in, &b, NULL), PFL_OK);
    assert_int_equal(pfl_learner_description_decode(pfl_buf_view(&b), &d, &out, NULL), PFL_OK);
    assert_int_equal(pfl_layout_check_same(out, in, NULL), PFL_OK);
    assert_string_equal(d.name, "torch");
    assert_true(d.steerable);
    for (size_t len = 0; len < b.len; len++) { /* cut anywhere: refused, or fewer tensors, never more */
        PFL_AUTO(pfl_layout_freep) struct pfl_layout *cut = NULL;
        if (pfl_learner_description_decode(pfl_bytes_of(b.data, len), &d, &cut, NULL) == PFL_OK)
            assert_true(cut->n < in->n || !d.steerable);
    }
}

/* One tensor with this name and dtype, and a shape of `rank` dimensions. */
static void put_tensor(struct pfl_buf *b, const char *name, const char *dtype, unsigned rank, uint64_t dim)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf t = {0}, shape = {0};
    pfl_buf_u8(&t, 0x0a);
    pfl_buf_varint(&t, strlen(name));
    pfl_buf_append_str(&t, name);
    pfl_buf_u8(&t, 0x12);
    pfl_buf_varint(&t, strlen(dtype));
    pfl_buf_append_str(&t, dtype);
    for (unsigned i = 0; i < rank; i++)
        pfl_buf_varint(&shape, dim);
    pfl_buf_u8(&t, 0x1a);
    pfl_buf_varint(&t, shape.len);
    pfl_buf_append(&t, shape.data, shape.len);
    pfl_buf_u8(b, 0x12);
    pfl_buf_varint(b, t.len);
    pfl_buf_append(b, t.data, t.len);
}

static void test_description__nonsense__is_refused(void **state)
{
    (void)state;
    char long_name[200];
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const struct {
        const char *name, *dtype;
        unsigned rank;
        uint64_t dim;
    } rows[] = {{"", "F32", 1, 1},        {"w", "F31", 1, 1},    {"w", "float32long", 1, 1},  {"w", "F32", 9, 1},
                {long_name, "F32", 1, 1}, {"a\nb", "F32", 1, 1}, {"w", "F32", 8, UINT64_MAX}, {"\xff", "F32", 1, 1}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        struct pfl_layout *layout = NULL;
        struct pfl_err err = {0};
        struct pfl_learner_description d;
        put_tensor(&b, rows[i].name, rows[i].dtype, rows[i].rank, rows[i].dim);
        assert_int_not_equal(pfl_learner_description_decode(pfl_buf_view(&b), &d, &layout, &err), PFL_OK);
        assert_null(layout);
        assert_true(err.msg[0] != '\0');
    }
}

static void test_description__too_many_tensors__too_big(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    struct pfl_layout *layout = NULL;
    struct pfl_learner_description d;
    char tensor[16];
    for (unsigned i = 0; i <= PFL_LAYOUT_TENSORS_MAX; i++) {
        (void)snprintf(tensor, sizeof(tensor), "w%u", i);
        put_tensor(&b, tensor, "F32", 1, 1);
    }
    assert_int_equal(pfl_learner_description_decode(pfl_buf_view(&b), &d, &layout, NULL), PFL_TOO_BIG);
    assert_int_equal(pfl_learner_description_decode(pfl_bytes_of(NULL, 0), &d, &layout, NULL), PFL_MALFORMED);
}

static void test_parameters__names_that_lead_elsewhere__are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"", ".", "..", "../x", "/etc/passwd", ".hidden", "a/b"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(names); i++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        struct pfl_learner_parameters m = {.bytes = 4}, out;
        (void)snprintf(m.file, sizeof(m.file), "%s", names[i]);
        assert_int_equal(pfl_learner_parameters_encode(&m, &b, NULL), PFL_OK);
        assert_int_equal(pfl_learner_parameters_decode(pfl_buf_view(&b), &out, NULL), PFL_MALFORMED);
    }
}

static void test_small_messages__come_back(void **state)
{
    (void)state;
    struct pfl_buf b[5] = {0};
    const struct pfl_learner_parameters file = {.file = "to-learner", .bytes = UINT64_MAX};
    const struct pfl_learner_job job = {
        .id = 7, .epochs = 2, .seed = UINT64_MAX - 1, .proximal_mu = 0.5, .has_correction = true, .correction = {"c", 8}};
    const struct pfl_learner_result result = {
        .loss = 0.25, .accuracy = 0.5, .n_samples = 10, .n_steps = 3, .learning_rate = 0.1, .normaliser = 2};
    const struct pfl_learner_progress_request ask = {.job = 7, .seen = 2, .wait_ms = 1000};
    const struct pfl_learner_progress progress = {.beat = 3, .done = 0.75};
    struct pfl_learner_parameters file_out;
    struct pfl_learner_job job_out;
    struct pfl_learner_result result_out;
    struct pfl_learner_progress_request ask_out;
    struct pfl_learner_progress progress_out;
    assert_int_equal(pfl_learner_parameters_encode(&file, &b[0], NULL), PFL_OK);
    assert_int_equal(pfl_learner_parameters_decode(pfl_buf_view(&b[0]), &file_out, NULL), PFL_OK);
    assert_string_equal(file_out.file, file.file);
    assert_int_equal(file_out.bytes, file.bytes);
    assert_int_equal(pfl_learner_job_encode(&job, &b[1], NULL), PFL_OK);
    assert_int_equal(pfl_learner_job_decode(pfl_buf_view(&b[1]), &job_out, NULL), PFL_OK);
    assert_true(job_out.id == job.id && job_out.epochs == job.epochs && job_out.seed == job.seed && job_out.proximal_mu == 0.5);
    assert_true(job_out.has_correction && job_out.correction.bytes == 8 && pfl_streq(job_out.correction.file, "c"));
    assert_int_equal(pfl_learner_result_encode(&result, &b[2], NULL), PFL_OK);
    assert_int_equal(pfl_learner_result_decode(pfl_buf_view(&b[2]), &result_out, NULL), PFL_OK);
    assert_memory_equal(&result_out, &result, sizeof(result));
    assert_int_equal(pfl_learner_progress_request_encode(&ask, &b[3], NULL), PFL_OK);
    assert_int_equal(pfl_learner_progress_request_decode(pfl_buf_view(&b[3]), &ask_out, NULL), PFL_OK);
    assert_true(ask_out.job == ask.job && ask_out.seen == ask.seen && ask_out.wait_ms == ask.wait_ms);
    assert_int_equal(pfl_learner_progress_encode(&progress, &b[4], NULL), PFL_OK);
    assert_int_equal(pfl_learner_progress_decode(pfl_buf_view(&b[4]), &progress_out, NULL), PFL_OK);
    assert_memory_equal(&progress_out, &progress, sizeof(progress));
    for (size_t i = 0; i < PFL_ARRAY_LEN(b); i++)
        pfl_buf_deinit(&b[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describe__all_fields__come_back),
        cmocka_unit_test(test_description__layout__comes_back),
        cmocka_unit_test(test_description__nonsense__is_refused),
        cmocka_unit_test(test_description__too_many_tensors__too_big),
        cmocka_unit_test(test_parameters__names_that_lead_elsewhere__are_refused),
        cmocka_unit_test(test_small_messages__come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
