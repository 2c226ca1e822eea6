/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* NumPy's results are in tests/fixtures/fedavg/cases.json (make.py beside it wrote them); ours are the same bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "learning/aggregator.h"

enum { CONTRIBUTIONS_MAX = 8 };

static struct pfl_layout *layout_of(const struct pfl_tensor_desc *descs, size_t n)
{
    struct pfl_layout *l = NULL;
    assert_int_equal(pfl_layout_new(descs, n, &l, NULL), PFL_OK);
    return l;
}

static struct pfl_layout *layout_f32(size_t n)
{
    return layout_of(&(struct pfl_tensor_desc){.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {n}}, 1);
}

static struct pfl_model *model_of(struct pfl_layout *layout, const void *bytes)
{
    struct pfl_model *m = NULL;
    assert_int_equal(pfl_model_new(layout, &m, NULL), PFL_OK);
    memcpy(pfl_model_data_mut(m), bytes, layout->bytes);
    return m;
}

static float *floats(const json_t *list)
{
    size_t n = json_array_size(list);
    assert_true(n > 0);
    float *f = calloc(n, sizeof(*f));
    for (size_t i = 0; i < n; i++)
        f[i] = (float)json_number_value(json_array_get(list, i));
    return f;
}

static void run_case(const json_t *c)
{
    const json_t *models = json_object_get(c, "models"), *samples = json_object_get(c, "samples");
    size_t n = json_array_size(models), n_values = json_array_size(json_object_get(c, "mean"));
    assert_in_range(n, 1, CONTRIBUTIONS_MAX);
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = layout_f32(n_values);
    struct pfl_contribution in[CONTRIBUTIONS_MAX];
    for (size_t k = 0; k < n; k++) {
        PFL_AUTO(pfl_freep) float *f = floats(json_array_get(models, k));
        in[k].model = model_of(layout, f);
        in[k].n_samples = (uint64_t)json_integer_value(json_array_get(samples, k));
    }
    PFL_AUTO(pfl_freep) float *want = floats(json_object_get(c, "mean"));
    PFL_AUTO(pfl_model_freep) struct pfl_model *mean = NULL;
    assert_int_equal(pfl_fedavg(NULL, in, n, &mean, NULL), PFL_OK);
    if (memcmp(mean->data, want, n_values * sizeof(float)) != 0)
        fail_msg("case '%s': not NumPy's bytes", json_string_value(json_object_get(c, "name")));
    for (size_t k = 0; k < n; k++)
        pfl_model_unref(in[k].model);
}

static void test_fedavg__numpy__same_bytes(void **state)
{
    (void)state;
    json_error_t jerr;
    json_t *cases = json_load_file(PFL_TEST_FIXTURES "/fedavg/cases.json", 0, &jerr), *c;
    size_t i;
    assert_non_null(cases);
    assert_true(json_array_size(cases) >= 10);
    json_array_foreach (cases, i, c)
        run_case(c);
    json_decref(cases);
}

static void test_fedavg__nothing_or_no_samples__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = layout_f32(1);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = model_of(layout, &(float){1.0f});
    struct pfl_model *mean = NULL;
    struct pfl_err err = {0};
    const struct pfl_contribution in[] = {{.model = m, .n_samples = 3}, {.model = m, .n_samples = 0}};
    assert_int_equal(pfl_fedavg(NULL, in, 0, &mean, &err), PFL_INVALID);
    assert_int_equal(pfl_fedavg(NULL, in, 2, &mean, &err), PFL_INVALID);
    assert_non_null(strstr(err.msg, "contribution 1"));
    assert_null(mean);
}

static void test_fedavg__layouts_differ__refused_naming_the_tensor(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *la = layout_f32(2);
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *lb = layout_f32(3);
    PFL_AUTO(pfl_model_freep) struct pfl_model *a = model_of(la, (float[]){1.0f, 2.0f});
    PFL_AUTO(pfl_model_freep) struct pfl_model *b = model_of(lb, (float[]){1.0f, 2.0f, 3.0f});
    const struct pfl_contribution in[] = {{.model = a, .n_samples = 1}, {.model = b, .n_samples = 1}};
    struct pfl_model *mean = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_fedavg(NULL, in, 2, &mean, &err), PFL_INVALID);
    assert_int_equal(err.rc, PFL_INVALID);
    assert_non_null(strstr(err.msg, "contribution 1"));
    assert_non_null(strstr(err.msg, "'w'"));
    assert_int_equal(pfl_fedavg(NULL, in, 2, &mean, NULL), PFL_INVALID);
    assert_null(mean);
}

static void test_fedavg__half_floats__unsupported(void **state)
{
    (void)state;
    static const enum pfl_dtype types[] = {PFL_F64, PFL_F16, PFL_BF16};
    for (size_t i = 0; i < PFL_ARRAY_LEN(types); i++) {
        struct pfl_tensor_desc d = {.name = "h", .dtype = types[i], .rank = 1, .shape = {1}};
        PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = layout_of(&d, 1);
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = model_of(layout, &(double){0.0});
        struct pfl_model *mean = NULL;
        struct pfl_err err = {0};
        assert_int_equal(pfl_fedavg(NULL, &(struct pfl_contribution){.model = m, .n_samples = 1}, 1, &mean, &err), PFL_UNSUPPORTED);
        assert_non_null(strstr(err.msg, pfl_dtype_name(types[i])));
    }
}

static void test_fedavg__floats_at_an_odd_offset__unsupported(void **state)
{
    (void)state;
    const struct pfl_tensor_desc descs[] = {{.name = "flags", .dtype = PFL_BOOL, .rank = 1, .shape = {3}},
                                            {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {2}}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = layout_of(descs, 2);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = model_of(layout, "\1\0\1\0\0\0\0\0\0\0\0");
    struct pfl_model *mean = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_fedavg(NULL, &(struct pfl_contribution){.model = m, .n_samples = 1}, 1, &mean, &err), PFL_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "'w' starts at byte 3"));
    assert_null(mean);
}

static void test_fedavg__integers__of_the_one_with_most_samples(void **state)
{
    (void)state;
    const struct pfl_tensor_desc descs[] = {
        {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {1}},
        {.name = "batches", .dtype = PFL_I64, .rank = 0},
    };
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = layout_of(descs, 2);
    struct pfl_contribution in[3];
    const uint64_t samples[3] = {2, 4, 4}; /* of equals the first */
    for (unsigned k = 0; k < 3; k++) {
        struct {
            float w;
            uint8_t batches[8];
        } block = {.w = (float)k};
        int64_t v = 100 + k;
        memcpy(block.batches, &v, sizeof(v));
        in[k].model = model_of(layout, &block);
        in[k].n_samples = samples[k];
    }
    PFL_AUTO(pfl_model_freep) struct pfl_model *mean = NULL;
    assert_int_equal(pfl_fedavg(NULL, in, 3, &mean, NULL), PFL_OK);
    float w;
    int64_t batches;
    memcpy(&w, mean->data, sizeof(w));
    memcpy(&batches, mean->data + layout->tensors[1].offset, sizeof(batches));
    assert_true(w == 1.2f);
    assert_int_equal(batches, 101);
    for (unsigned k = 0; k < 3; k++)
        pfl_model_unref(in[k].model);
}

static void test_fedavg__samples_whose_sum_overflows__still_the_mean(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = layout_f32(1);
    PFL_AUTO(pfl_model_freep) struct pfl_model *a = model_of(layout, &(float){1.0f});
    PFL_AUTO(pfl_model_freep) struct pfl_model *b = model_of(layout, &(float){2.0f});
    const struct pfl_contribution in[] = {{.model = a, .n_samples = UINT64_MAX}, {.model = b, .n_samples = UINT64_MAX}};
    PFL_AUTO(pfl_model_freep) struct pfl_model *mean = NULL;
    assert_int_equal(pfl_fedavg(NULL, in, 2, &mean, NULL), PFL_OK);
    float v;
    memcpy(&v, mean->data, sizeof(v));
    assert_true(v == 1.5f);
}

/* What partial aggregation rests on: the mean of (mean of a and b) and c, with their samples, is the mean of a, b and c. */
static void test_fedavg__aggregate_of_an_aggregate__as_of_all(void **state)
{
    (void)state;
    enum { LEN = 5000 }; /* more than a block of the kernel */
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = layout_f32(LEN);
    static float values[3][LEN];
    struct pfl_contribution in[3];
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < LEN; i++)
            values[k][i] = (float)sin((double)(1 + k) * (double)i);
        in[k] = (struct pfl_contribution){.model = model_of(layout, values[k]), .n_samples = 10 + 7 * k};
    }
    PFL_AUTO(pfl_model_freep) struct pfl_model *all = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *some = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *rest = NULL;
    assert_int_equal(pfl_fedavg(NULL, in, 3, &all, NULL), PFL_OK);
    assert_int_equal(pfl_fedavg(NULL, in, 2, &some, NULL), PFL_OK);
    const struct pfl_contribution late[] = {{.model = some, .n_samples = 27}, in[2]};
    assert_int_equal(pfl_fedavg(NULL, late, 2, &rest, NULL), PFL_OK);
    const float *x = (const float *)(const void *)all->data, *y = (const float *)(const void *)rest->data;
    for (unsigned i = 0; i < LEN; i++) {
        double want = (10.0 * (double)values[0][i] + 17.0 * (double)values[1][i] + 24.0 * (double)values[2][i]) / 51.0;
        assert_true(fabs((double)x[i] - want) < 1e-7);
        assert_true(fabs((double)x[i] - (double)y[i]) < 1e-6);
    }
    for (unsigned k = 0; k < 3; k++)
        pfl_model_unref(in[k].model);
}

static void test_find__by_either_name(void **state)
{
    (void)state;
    assert_null(pfl_aggregator_find("krumm"));
    assert_null(pfl_aggregator_find(""));
    const struct pfl_aggregator *a = pfl_aggregator_find("FedAvg");
    assert_non_null(a);
    assert_ptr_equal(a, pfl_aggregator_find("fedavg"));
    assert_string_equal(a->name, "fedavg");
    assert_true(a->partial && a->aggregate == pfl_fedavg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fedavg__nothing_or_no_samples__refused),
        cmocka_unit_test(test_fedavg__layouts_differ__refused_naming_the_tensor),
        cmocka_unit_test(test_fedavg__half_floats__unsupported),
        cmocka_unit_test(test_fedavg__numpy__same_bytes),
        cmocka_unit_test(test_fedavg__floats_at_an_odd_offset__unsupported),
        cmocka_unit_test(test_fedavg__integers__of_the_one_with_most_samples),
        cmocka_unit_test(test_fedavg__samples_whose_sum_overflows__still_the_mean),
        cmocka_unit_test(test_fedavg__aggregate_of_an_aggregate__as_of_all),
        cmocka_unit_test(test_find__by_either_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
