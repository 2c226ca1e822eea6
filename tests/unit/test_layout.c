/* SPDX-License-Identifier: Apache-2.0 */
/* link: tensor */
/* Data types and layouts: what cannot be one, and how two are told apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/model.h"

static void test_dtype__names_and_sizes(void **state)
{
    (void)state;
    static const struct {
        enum pfl_dtype t;
        const char *name;
        size_t bytes;
    } rows[] = {{PFL_F32, "F32", 4}, {PFL_F64, "F64", 8}, {PFL_F16, "F16", 2}, {PFL_BF16, "BF16", 2}, {PFL_I8, "I8", 1},
                {PFL_I16, "I16", 2}, {PFL_I32, "I32", 4}, {PFL_I64, "I64", 8}, {PFL_U8, "U8", 1},     {PFL_BOOL, "BOOL", 1}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        enum pfl_dtype t = PFL_BOOL;
        assert_string_equal(pfl_dtype_name(rows[i].t), rows[i].name);
        assert_int_equal(pfl_dtype_bytes(rows[i].t), rows[i].bytes);
        assert_true(pfl_dtype_parse(rows[i].name, &t));
        assert_int_equal(t, rows[i].t);
    }
    enum pfl_dtype t = PFL_I16;
    assert_false(pfl_dtype_parse("f32", &t));
    assert_false(pfl_dtype_parse("", &t));
    assert_false(pfl_dtype_parse("F8_E4M3", &t));
    assert_int_equal(t, PFL_I16);
}

static void test_layout_new__what_cannot_be__refused_with_the_reason(void **state)
{
    (void)state;
    const struct {
        const char *name, *says;
        size_t n;
        struct pfl_tensor_desc descs[2];
    } rows[] = {
        {"no tensors", "0 tensors", 0, {{.name = "x"}}},
        {"no name", "no name", 2, {{.name = "x"}, {.name = ""}}},
        {"name twice", "named 'x'", 2, {{.name = "x"}, {.name = "x"}}},
        {"rank 9", "rank 9", 1, {{.name = "x", .rank = 9}}},
        {"shape overflows", "overflows", 1, {{.name = "x", .rank = 2, .shape = {SIZE_MAX / 2, 2}}}},
        {"sum overflows",
         "overflows",
         2,
         {{.name = "x", .rank = 1, .shape = {SIZE_MAX / 8}}, {.name = "y", .rank = 1, .shape = {SIZE_MAX / 8}}}},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_layout *l = NULL;
        struct pfl_err err = {0};
        enum pfl_rc rc = pfl_layout_new(rows[i].descs, rows[i].n, &l, &err);
        if (rc != PFL_INVALID || !strstr(err.msg, rows[i].says))
            fail_msg("%s: %s: %s", rows[i].name, pfl_rc_text(rc), err.msg);
        assert_null(l);
    }
}

static void test_layout_new__number_of_tensors__exact_limit_passes_one_more_does_not(void **state)
{
    (void)state;
    struct pfl_tensor_desc *descs = pfl_xcalloc(PFL_LAYOUT_TENSORS_MAX + 1, sizeof(*descs));
    for (size_t i = 0; i <= PFL_LAYOUT_TENSORS_MAX; i++)
        snprintf(descs[i].name, sizeof(descs[i].name), "t%zu", i);
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = NULL;
    struct pfl_layout *none = NULL;
    assert_int_equal(pfl_layout_new(descs, PFL_LAYOUT_TENSORS_MAX, &l, NULL), PFL_OK);
    assert_int_equal(pfl_layout_new(descs, PFL_LAYOUT_TENSORS_MAX + 1, &none, NULL), PFL_INVALID);
    assert_null(none);
    free(descs);
}

static void test_layout_new__offsets_and_bytes__are_computed_not_taken(void **state)
{
    (void)state;
    const struct pfl_tensor_desc descs[] = {
        {.name = "w", .dtype = PFL_F32, .rank = 2, .shape = {3, 5}, .offset = 77, .bytes = 1},
        {.name = "s", .dtype = PFL_F64, .rank = 0},
        {.name = "e", .dtype = PFL_I8, .rank = 1, .shape = {0}},
        {.name = "b", .dtype = PFL_U8, .rank = 1, .shape = {7}},
    };
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = NULL;
    assert_int_equal(pfl_layout_new(descs, 4, &l, NULL), PFL_OK);
    static const size_t offsets[] = {0, 60, 68, 68}, bytes[] = {60, 8, 0, 7};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(l->tensors[i].offset, offsets[i]);
        assert_int_equal(l->tensors[i].bytes, bytes[i]);
    }
    assert_int_equal(l->bytes, 75);
    assert_ptr_equal(pfl_layout_find(l, "b"), &l->tensors[3]);
    assert_null(pfl_layout_find(l, "B"));
}

static void test_layout_check_same__each_difference__named(void **state)
{
    (void)state;
    const struct pfl_tensor_desc want_descs[] = {{.name = "w", .rank = 2, .shape = {2, 3}}, {.name = "b", .rank = 1, .shape = {2}}};
    const struct {
        const char *says;
        size_t n;
        struct pfl_tensor_desc descs[3];
    } rows[] = {
        {"1 tensors, 2 are expected", 1, {{.name = "w", .rank = 2, .shape = {2, 3}}}},
        {"tensor 1 is 'c', 'b' is expected",
         2,
         {{.name = "w", .rank = 2, .shape = {2, 3}}, {.name = "c", .rank = 1, .shape = {2}}}},
        {"'w': F32 (3, 2), F32 (2, 3)", 2, {{.name = "w", .rank = 2, .shape = {3, 2}}, {.name = "b", .rank = 1, .shape = {2}}}},
        {"'w': F32 (6), F32 (2, 3)", 2, {{.name = "w", .rank = 1, .shape = {6}}, {.name = "b", .rank = 1, .shape = {2}}}},
        {"'b': I32 (2), F32 (2)",
         2,
         {{.name = "w", .rank = 2, .shape = {2, 3}}, {.name = "b", .dtype = PFL_I32, .rank = 1, .shape = {2}}}},
    };
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *want = NULL;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *same = NULL;
    assert_int_equal(pfl_layout_new(want_descs, 2, &want, NULL), PFL_OK);
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_layout_freep) struct pfl_layout *got = NULL;
        struct pfl_err err = {0};
        assert_int_equal(pfl_layout_new(rows[i].descs, rows[i].n, &got, NULL), PFL_OK);
        assert_int_equal(pfl_layout_check_same(got, want, &err), PFL_MALFORMED);
        if (!strstr(err.msg, rows[i].says))
            fail_msg("%s, not %s", err.msg, rows[i].says);
    }
    assert_int_equal(pfl_layout_new(want_descs, 2, &same, NULL), PFL_OK);
    assert_int_equal(pfl_layout_check_same(same, want, NULL), PFL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtype__names_and_sizes),
        cmocka_unit_test(test_layout_new__what_cannot_be__refused_with_the_reason),
        cmocka_unit_test(test_layout_new__number_of_tensors__exact_limit_passes_one_more_does_not),
        cmocka_unit_test(test_layout_new__offsets_and_bytes__are_computed_not_taken),
        cmocka_unit_test(test_layout_check_same__each_difference__named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
