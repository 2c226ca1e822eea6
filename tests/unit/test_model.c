/* SPDX-License-Identifier: Apache-2.0 */
/* link: tensor */
/* Models: who owns the block, and what is not a finite number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/model.h"

static struct pfl_layout *layout_of(enum pfl_dtype dtype, size_t n)
{
    const struct pfl_tensor_desc descs[] = {{.name = "first", .dtype = dtype, .rank = 1, .shape = {2}},
                                            {.name = "second", .dtype = dtype, .rank = 1, .shape = {n}}};
    struct pfl_layout *l = NULL;
    assert_int_equal(pfl_layout_new(descs, 2, &l, NULL), PFL_OK);
    return l;
}

static struct pfl_model *model_of(enum pfl_dtype dtype, size_t n)
{
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = layout_of(dtype, n);
    struct pfl_model *m = NULL;
    assert_int_equal(pfl_model_new(l, &m, NULL), PFL_OK);
    return m;
}

static void test_model_view__outside_the_block__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = layout_of(PFL_F32, 2);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_new(20);
    static const size_t offsets[] = {5, 20, 21, SIZE_MAX, SIZE_MAX - 15};
    for (size_t i = 0; i < PFL_ARRAY_LEN(offsets); i++) {
        struct pfl_model *m = NULL;
        assert_int_equal(pfl_model_view(l, blob, offsets[i], &m, NULL), PFL_MALFORMED);
        assert_null(m);
    }
}

static void test_model_view__aligned_is_a_view_unaligned_a_copy(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = layout_of(PFL_F32, 2);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_new(20);
    for (size_t i = 0; i < 20; i++)
        blob->data[i] = (uint8_t)i;
    for (size_t off = 0; off <= 4; off++) {
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
        assert_int_equal(pfl_model_view(l, blob, off, &m, NULL), PFL_OK);
        assert_memory_equal(m->data, blob->data + off, 16);
        assert_true(off % 4 == 0 ? m->data == blob->data + off && !m->owned : m->owned && !m->blob);
    }
}

static void test_model_view__keeps_its_bytes_alive(void **state)
{
    (void)state;
    struct pfl_layout *l = layout_of(PFL_F32, 2);
    struct pfl_blob *blob = pfl_blob_copy("0123456789abcdef", 16);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    assert_int_equal(pfl_model_view(l, blob, 0, &m, NULL), PFL_OK);
    pfl_layout_unref(l);
    pfl_blob_unref(blob);
    assert_memory_equal(m->data, "0123456789abcdef", 16);
    assert_int_equal(m->layout->n, 2);
}

static void test_model__new_is_zero_and_a_copy_stands_alone(void **state)
{
    (void)state;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = model_of(PFL_F32, 100);
    for (size_t i = 0; i < m->layout->bytes; i++)
        assert_int_equal(m->data[i], 0);
    PFL_AUTO(pfl_model_freep) struct pfl_model *c = pfl_model_copy(m);
    assert_non_null(c);
    pfl_model_data_mut(c)[3] = 9;
    assert_int_equal(m->data[3], 0);
    assert_int_equal((uintptr_t)c->data % 64, 0);
}

/* ---- finite or not ---- */

static void put_bits(struct pfl_model *m, size_t index, uint64_t bits)
{
    const struct pfl_tensor_desc *t = &m->layout->tensors[1];
    size_t size = pfl_dtype_bytes(t->dtype);
    memcpy(pfl_model_data_mut(m) + t->offset + index * size, &bits, size); /* little-endian */
}

static void test_model_check_finite__nan_and_infinity_at_any_place__named(void **state)
{
    (void)state;
    static const struct {
        enum pfl_dtype dtype;
        uint64_t bits;
    } rows[] = {
        {PFL_F32, 0x7f800000},
        {PFL_F32, 0xff800000},
        {PFL_F32, 0x7fc00000},
        {PFL_F32, 0xff800001},
        {PFL_F64, 0x7ff0000000000000},
        {PFL_F64, 0xfff8000000000001},
        {PFL_F16, 0x7c00},
        {PFL_F16, 0xfe00},
        {PFL_BF16, 0x7f80},
        {PFL_BF16, 0xffc0},
    };
    enum { N = 9001 }; /* more than two of the blocks that are looked at together */
    static const size_t places[] = {0, 1, 4093, 4094, 4095, 4096, 8191, 8192, N - 1};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        for (size_t k = 0; k < PFL_ARRAY_LEN(places); k++) {
            PFL_AUTO(pfl_model_freep) struct pfl_model *m = model_of(rows[i].dtype, N);
            struct pfl_err err = {0};
            char says[64];
            put_bits(m, places[k], rows[i].bits);
            assert_int_equal(pfl_model_check_finite(m, &err), PFL_MALFORMED);
            snprintf(says, sizeof(says), "'second': value %zu ", places[k]);
            if (!strstr(err.msg, says))
                fail_msg("row %zu: %s, not %s", i, err.msg, says);
        }
    }
}

static void test_model_check_finite__the_largest_and_smallest_numbers__pass(void **state)
{
    (void)state;
    static const struct {
        enum pfl_dtype dtype;
        uint64_t bits;
    } rows[] = {{PFL_F32, 0x7f7fffff}, {PFL_F32, 0xff7fffff}, {PFL_F32, 1},          {PFL_F64, 0x7fefffffffffffff},
                {PFL_F16, 0x7bff},     {PFL_BF16, 0x7f7f},    {PFL_I32, 0x7f800000}, {PFL_I64, 0x7ff0000000000000},
                {PFL_I16, 0x7c00},     {PFL_U8, 0xff}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = model_of(rows[i].dtype, 3);
        put_bits(m, 1, rows[i].bits);
        assert_int_equal(pfl_model_check_finite(m, NULL), PFL_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_view__outside_the_block__refused),
        cmocka_unit_test(test_model_view__aligned_is_a_view_unaligned_a_copy),
        cmocka_unit_test(test_model_view__keeps_its_bytes_alive),
        cmocka_unit_test(test_model__new_is_zero_and_a_copy_stands_alone),
        cmocka_unit_test(test_model_check_finite__nan_and_infinity_at_any_place__named),
        cmocka_unit_test(test_model_check_finite__the_largest_and_smallest_numbers__pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
