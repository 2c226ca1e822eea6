/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* safetensors files: those that are refused, one written by NumPy (tests/fixtures/safetensors/make.py) and our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "wire/payload.h"

/* A file of this header and n_data bytes that count up. */
static struct pfl_blob *file_of(const char *header, size_t n_data)
{
    struct pfl_buf b = {0};
    pfl_buf_u64le(&b, strlen(header));
    pfl_buf_append_str(&b, header);
    for (size_t i = 0; i < n_data; i++)
        pfl_buf_u8(&b, (uint8_t)i);
    assert_false(b.failed);
    struct pfl_blob *blob = pfl_blob_copy(b.data, b.len);
    assert_non_null(blob);
    pfl_buf_deinit(&b);
    return blob;
}

static enum pfl_rc decode(const char *header, size_t n_data, struct pfl_model **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = file_of(header, n_data);
    return pfl_safetensors_decode(blob, 0, blob->len, NULL, ret, err);
}

#define T(shape, from, to) "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

static const struct {
    const char *header;
    size_t n_data;
    const char *says;
} refused[] = {
    {"{}", 0, "no tensors"},
    {"{\"__metadata__\":{\"a\":\"b\"}}", 0, "no tensors"},
    {"[]", 0, "JSON object"},
    {"7", 0, "JSON"},
    {"{\"x\":" T("[1]", "0", "4") "} x", 4, "JSON"},
    {"{\"x\":" T("[1]", "0", "4") ",\"x\":" T("[1]", "4", "8") "}", 8, "JSON"},
    {"{\"x\":" T("[1]", "0", "4"), 4, "JSON"},
    {"{\"\":" T("[1]", "0", "4") "}", 4, "name"},
    {"{\"x\\u0000y\":" T("[1]", "0", "4") "}", 4, "JSON"},
    {"{\"x\":[1]}", 4, "data_offsets"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, "nothing else"},
    {"{\"x\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
    {"{\"x\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
    {"{\"x\":" T("1", "0", "4") "}", 4, "shape"},
    {"{\"x\":" T("[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "shape"},
    {"{\"x\":" T("[1.0]", "0", "4") "}", 4, "shape"},
    {"{\"x\":" T("[-1]", "0", "4") "}", 4, "shape"},
    {"{\"x\":" T("[\"1\"]", "0", "4") "}", 4, "shape"},
    {"{\"x\":" T("[9223372036854775807,4]", "0", "4") "}", 4, "overflow"},
    {"{\"x\":" T("[4611686018427387904]", "0", "0") "}", 0, "overflow"},
    {"{\"x\":" T("[18446744073709551616]", "0", "4") "}", 4, "JSON"},
    {"{\"x\":" T("[1]", "0.0", "4") "}", 4, "data_offsets"},
    {"{\"x\":" T("[1]", "-4", "0") "}", 4, "data_offsets"},
    {"{\"x\":" T("[1]", "4", "0") "}", 4, "outside"},
    {"{\"x\":" T("[1]", "0", "8") "}", 4, "outside"},
    {"{\"x\":" T("[1]", "0", "9223372036854775807") "}", 4, "outside"},
    {"{\"x\":" T("[2]", "0", "4") "}", 4, "do not fit"},
    {"{\"x\":" T("[1]", "0", "8") "}", 8, "do not fit"},
    {"{\"x\":" T("[0]", "0", "4") "}", 4, "do not fit"},
    {"{\"x\":" T("[1]", "4", "8") "}", 8, "hole"},
    {"{\"x\":" T("[1]", "0", "4") ",\"y\":" T("[1]", "8", "12") "}", 12, "hole"},
    {"{\"x\":" T("[2]", "0", "8") ",\"y\":" T("[1]", "4", "8") "}", 8, "overlap"},
    {"{\"x\":" T("[1]", "0", "4") ",\"y\":" T("[1]", "0", "4") "}", 4, "overlap"},
    {"{\"x\":" T("[1]", "0", "4") "}", 5, "bytes of data"},
    {"{\"__metadata__\":1,\"x\":" T("[1]", "0", "4") "}", 4, "__metadata__"},
    {"{\"__metadata__\":{\"a\":1},\"x\":" T("[1]", "0", "4") "}", 4, "__metadata__"},
};

static void test_safetensors__hostile_headers__refused_with_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(refused); i++) {
        struct pfl_model *m = NULL;
        struct pfl_err err = {0};
        enum pfl_rc rc = decode(refused[i].header, refused[i].n_data, &m, &err);
        if (rc != PFL_MALFORMED || !strstr(err.msg, refused[i].says))
            fail_msg("%s: %s: %s", refused[i].header, pfl_rc_text(rc), err.msg);
        assert_null(m);
    }
}

static void test_safetensors__nesting_without_end__refused(void **state)
{
    (void)state;
    enum { DEPTH = 500000 };
    PFL_AUTO(pfl_freep) char *header = pfl_xmalloc(DEPTH + 6);
    memcpy(header, "{\"x\":", 5);
    memset(header + 5, '[', DEPTH);
    header[DEPTH + 5] = '\0';
    struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    assert_int_equal(decode(header, 0, &m, &err), PFL_MALFORMED);
}

static void test_safetensors__every_prefix_of_a_file__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *whole = file_of("{\"x\":" T("[2]", "0", "8") "}", 8);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    for (size_t len = 0; len < whole->len; len++)
        assert_int_equal(pfl_safetensors_decode(whole, 0, len, NULL, &m, &err), PFL_MALFORMED);
    assert_int_equal(pfl_safetensors_decode(whole, 0, whole->len + 1, NULL, &m, &err), PFL_MALFORMED);
    assert_int_equal(pfl_safetensors_decode(whole, SIZE_MAX, 16, NULL, &m, &err), PFL_MALFORMED);
    assert_null(m);
    assert_int_equal(pfl_safetensors_decode(whole, 0, whole->len, NULL, &m, &err), PFL_OK);
}

static void test_safetensors__header_length__exact_limit_passes_one_more_does_not(void **state)
{
    (void)state;
    static const char json[] = "{\"x\":" T("[1]", "0", "4") "}";
    for (size_t len = 1 << 20; len <= (1 << 20) + 1; len++) {
        PFL_AUTO(pfl_freep) char *header = pfl_xmalloc(len + 1);
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
        memset(header, ' ', len);
        memcpy(header, json, sizeof(json) - 1);
        header[len] = '\0';
        assert_int_equal(decode(header, 4, &m, NULL), len == 1 << 20 ? PFL_OK : PFL_TOO_BIG);
    }
    struct pfl_blob *huge = pfl_blob_copy("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    struct pfl_model *m = NULL;
    assert_int_equal(pfl_safetensors_decode(huge, 0, huge->len, NULL, &m, NULL), PFL_TOO_BIG);
    pfl_blob_unref(huge);
}

static void test_safetensors__more_tensors_than_a_layout_takes__too_big(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    struct pfl_model *m = NULL;
    pfl_buf_append_str(&b, "{");
    for (int i = 0; i <= PFL_LAYOUT_TENSORS_MAX + 1; i++)
        pfl_buf_printf(&b, "%s\"t%d\":" T("[0]", "0", "0"), i ? "," : "", i);
    pfl_buf_append_str(&b, "}");
    assert_int_equal(decode(pfl_buf_cstr(&b), 0, &m, NULL), PFL_TOO_BIG);
}

static void test_safetensors__name_length__127_passes_128_does_not(void **state)
{
    (void)state;
    for (int len = 127; len <= 128; len++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
        pfl_buf_printf(&b, "{\"%0*d\":" T("[1]", "0", "4") "}", len, 0);
        assert_int_equal(decode(pfl_buf_cstr(&b), 4, &m, NULL), len == 127 ? PFL_OK : PFL_MALFORMED);
    }
}

/* ---- what is taken ---- */

static void test_safetensors__scalars_empty_tensors_and_metadata__pass(void **state)
{
    (void)state;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    enum pfl_rc rc =
        decode("{\"__metadata__\":{\"format\":\"pt\"},\"s\":" T("[]", "0", "4") ",\"e\":" T("[3,0]", "4", "4") "}", 4, &m, &err);
    if (rc != PFL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(m->layout->n, 2);
    assert_int_equal(pfl_layout_find(m->layout, "s")->rank, 0);
    assert_int_equal(pfl_layout_find(m->layout, "e")->bytes, 0);
}

static struct pfl_layout *layout_xy(size_t n_x, size_t n_y)
{
    const struct pfl_tensor_desc descs[] = {{.name = "x", .dtype = PFL_F32, .rank = 1, .shape = {n_x}},
                                            {.name = "y", .dtype = PFL_F32, .rank = 1, .shape = {n_y}}};
    struct pfl_layout *l = NULL;
    assert_int_equal(pfl_layout_new(descs, 2, &l, NULL), PFL_OK);
    return l;
}

static void test_safetensors__another_order__is_put_into_the_wanted_one(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *want = layout_xy(1, 2);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *f = file_of("{\"y\":" T("[2]", "0", "8") ",\"x\":" T("[1]", "8", "12") "}", 12);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    assert_int_equal(pfl_safetensors_decode(f, 0, f->len, want, &m, NULL), PFL_OK);
    assert_ptr_equal(m->layout, want);
    assert_memory_equal(m->data, "\x08\x09\x0a\x0b\x00\x01\x02\x03\x04\x05\x06\x07", 12);
}

static void test_safetensors__another_layout_than_wanted__refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *header, *says;
        size_t n_data;
    } rows[] = {
        {"{\"x\":" T("[1]", "0", "4") "}", "1 tensors, 2", 4},
        {"{\"x\":" T("[1]", "0", "4") ",\"z\":" T("[2]", "4", "12") "}", "'y' is missing", 12},
        {"{\"x\":" T("[2]", "0", "8") ",\"y\":" T("[1]", "8", "12") "}", "'x': F32 (2), F32 (1)", 12},
        {"{\"x\":" T("[1,1]", "0", "4") ",\"y\":" T("[2]", "4", "12") "}", "'x': F32 (1, 1), F32 (1)", 12},
        {"{\"x\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]},\"y\":" T("[2]", "4", "12") "}", "'x': I32 (1), F32 (1)",
         12},
    };
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *want = layout_xy(1, 2);
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *f = file_of(rows[i].header, rows[i].n_data);
        struct pfl_model *m = NULL;
        struct pfl_err err = {0};
        enum pfl_rc rc = pfl_safetensors_decode(f, 0, f->len, want, &m, &err);
        if (rc != PFL_MALFORMED || !strstr(err.msg, rows[i].says))
            fail_msg("%s: %s: %s", rows[i].header, pfl_rc_text(rc), err.msg);
        assert_null(m);
    }
}

static void test_safetensors__at_any_offset_of_a_message__same_model(void **state)
{
    (void)state;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *f = file_of("{\"x\":" T("[2]", "0", "8") "}   ", 8);
    for (size_t off = 0; off < 9; off++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *msg = pfl_blob_new(off + f->len + 1);
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
        memset(msg->data, 0xee, msg->len);
        memcpy(msg->data + off, f->data, f->len);
        assert_int_equal(pfl_safetensors_decode(msg, off, f->len, NULL, &m, NULL), PFL_OK);
        assert_memory_equal(m->data, "\x00\x01\x02\x03\x04\x05\x06\x07", 8);
        assert_int_equal((uintptr_t)m->data % 4, 0);
        if (m->blob)
            assert_ptr_equal(m->blob, msg);
    }
}

/* ---- NumPy's file ---- */

static void assert_f32(const struct pfl_model *m, const char *name, const float *want, size_t n)
{
    const struct pfl_tensor_desc *t = pfl_layout_find(m->layout, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, PFL_F32);
    assert_int_equal(t->bytes, n * sizeof(float));
    assert_memory_equal(m->data + t->offset, want, t->bytes);
}

static void test_safetensors__numpys_file__reads_and_is_what_we_write(void **state)
{
    (void)state;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *f = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_fs_read(PFL_TEST_FIXTURES "/safetensors/three.safetensors", 1 << 20, &f, &err), PFL_OK);
    if (pfl_safetensors_decode(f, 0, f->len, NULL, &m, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(m->layout->n, 3);
    assert_f32(m, "layers.0.weight", (const float[]){0, 0.5f, 1, 1.5f, 2, 2.5f}, 6);
    assert_f32(m, "layers.0.bias", (const float[]){-1, 1}, 2);
    const struct pfl_tensor_desc *steps = pfl_layout_find(m->layout, "steps");
    assert_int_equal(steps->dtype, PFL_I64);
    assert_int_equal(steps->rank, 0);
    int64_t n_steps;
    memcpy(&n_steps, m->data + steps->offset, sizeof(n_steps));
    assert_int_equal(n_steps, 469);

    assert_int_equal(pfl_payload_new(m, &p, &err), PFL_OK);
    assert_int_equal(pfl_payload_bytes(p), f->len);
    assert_memory_equal(p->head.data, f->data, p->head.len);
    assert_memory_equal(p->model->data, f->data + p->head.len, f->len - p->head.len);
}

/* ---- our own ---- */

static void test_payload__round_trip__and_the_head_depends_on_the_layout_alone(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = layout_xy(3, 5);
    PFL_AUTO(pfl_model_freep) struct pfl_model *a = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *b = NULL;
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *pa = NULL;
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *pb = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *back = NULL;
    assert_int_equal(pfl_model_new(l, &a, NULL), PFL_OK);
    assert_int_equal(pfl_model_new(l, &b, NULL), PFL_OK);
    for (size_t i = 0; i < l->bytes; i++)
        pfl_model_data_mut(b)[i] = (uint8_t)(i * 7);
    assert_int_equal(pfl_payload_new(a, &pa, NULL), PFL_OK);
    assert_int_equal(pfl_payload_new(b, &pb, NULL), PFL_OK);
    assert_true(pfl_bytes_eq(pfl_buf_view(&pa->head), pfl_buf_view(&pb->head)));
    assert_int_equal(pb->head.len % 8, 0);
    assert_ptr_equal(pb->model->data, b->data);

    PFL_AUTO(pfl_blob_freep) struct pfl_blob *f = pfl_blob_new(pfl_payload_bytes(pb));
    memcpy(f->data, pb->head.data, pb->head.len);
    memcpy(f->data + pb->head.len, b->data, l->bytes);
    assert_int_equal(pfl_safetensors_decode(f, 0, f->len, l, &back, NULL), PFL_OK);
    assert_ptr_equal(back->blob, f); /* aligned: a view */
    assert_memory_equal(back->data, b->data, l->bytes);
}

static void test_payload__a_header_over_the_limit__too_big(void **state)
{
    (void)state;
    struct pfl_tensor_desc *descs = pfl_xcalloc(PFL_LAYOUT_TENSORS_MAX, sizeof(*descs));
    for (size_t i = 0; i < PFL_LAYOUT_TENSORS_MAX; i++) {
        descs[i] = (struct pfl_tensor_desc){.dtype = PFL_F32, .rank = 8, .shape = {[7] = 1000000000000}};
        memset(descs[i].name, '"', 100); /* two bytes each in JSON */
        descs[i].name[100] = (char)('a' + i % 26);
        descs[i].name[101] = (char)('a' + i / 26 % 26);
        descs[i].name[102] = (char)('a' + i / 676);
    }
    struct pfl_layout *l = NULL;
    struct pfl_model *m = NULL;
    struct pfl_payload *p = NULL;
    assert_int_equal(pfl_layout_new(descs, PFL_LAYOUT_TENSORS_MAX, &l, NULL), PFL_OK);
    free(descs);
    assert_int_equal(pfl_model_new(l, &m, NULL), PFL_OK);
    assert_int_equal(pfl_payload_new(m, &p, NULL), PFL_TOO_BIG);
    assert_null(p);
    pfl_model_unref(m);
    pfl_layout_unref(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors__hostile_headers__refused_with_the_reason),
        cmocka_unit_test(test_safetensors__nesting_without_end__refused),
        cmocka_unit_test(test_safetensors__every_prefix_of_a_file__refused),
        cmocka_unit_test(test_safetensors__header_length__exact_limit_passes_one_more_does_not),
        cmocka_unit_test(test_safetensors__more_tensors_than_a_layout_takes__too_big),
        cmocka_unit_test(test_safetensors__name_length__127_passes_128_does_not),
        cmocka_unit_test(test_safetensors__scalars_empty_tensors_and_metadata__pass),
        cmocka_unit_test(test_safetensors__another_order__is_put_into_the_wanted_one),
        cmocka_unit_test(test_safetensors__another_layout_than_wanted__refused_by_name),
        cmocka_unit_test(test_safetensors__at_any_offset_of_a_message__same_model),
        cmocka_unit_test(test_safetensors__numpys_file__reads_and_is_what_we_write),
        cmocka_unit_test(test_payload__round_trip__and_the_head_depends_on_the_layout_alone),
        cmocka_unit_test(test_payload__a_header_over_the_limit__too_big),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
