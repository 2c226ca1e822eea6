/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

#define VIEW(s) pfl_bytes_of(s, sizeof(s) - 1)

/* ---- views ---- */

static void test_bytes_sub__outside__empty(void **state)
{
    (void)state;
    struct pfl_bytes b = VIEW("abcdef");
    assert_int_equal(pfl_bytes_sub(b, 7, 0).len, 0);
    assert_int_equal(pfl_bytes_sub(b, 4, 3).len, 0);
    assert_int_equal(pfl_bytes_sub(b, 1, SIZE_MAX).len, 0);
    assert_int_equal(pfl_bytes_sub((struct pfl_bytes){NULL, 0}, 0, 0).len, 0);
    assert_true(pfl_bytes_eq(pfl_bytes_sub(b, 2, 4), VIEW("cdef")));
    assert_int_equal(pfl_bytes_sub(b, 6, 0).len, 0);
}

static void test_bytes_eq__length_and_content(void **state)
{
    (void)state;
    assert_false(pfl_bytes_eq(VIEW("abc"), VIEW("ab")));
    assert_false(pfl_bytes_eq(VIEW("abc"), VIEW("abd")));
    assert_true(pfl_bytes_eq(VIEW("a\0b"), VIEW("a\0b")));
    assert_true(pfl_bytes_eq((struct pfl_bytes){NULL, 0}, VIEW("")));
}

/* ---- buffer ---- */

static void test_buf_append__past_the_limit__fails_and_stays_failed(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {.limit = 4};
    assert_true(pfl_buf_append(&b, "abc", 3));
    assert_false(pfl_buf_append(&b, "de", 2));
    assert_true(b.failed);
    assert_true(pfl_bytes_eq(pfl_buf_view(&b), VIEW("abc")));
    assert_false(pfl_buf_append(&b, "d", 1)); /* it would fit, but something is missing before it */
    pfl_buf_clear(&b);
    assert_true(pfl_buf_append(&b, "wxyz", 4));
    assert_string_equal(pfl_buf_cstr(&b), "wxyz");
    assert_int_equal(b.len, 4);
}

static void test_buf_reserve__overflowing_size__fails(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {.limit = SIZE_MAX};
    assert_true(pfl_buf_append(&b, "abc", 3));
    assert_false(pfl_buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    assert_int_equal(b.len, 3);
}

static void test_buf_printf__long_text_and_limit(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {.limit = 700};
    char text[401];
    memset(text, 'x', 400);
    text[400] = '\0';
    assert_true(pfl_buf_printf(&b, "%d:%s", 5, text));
    assert_int_equal(b.len, 402);
    assert_false(pfl_buf_printf(&b, "%s", text));
    assert_int_equal(b.len, 402);
    assert_true(b.failed);
}

static void test_buf_cstr__empty__the_empty_string(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    assert_string_equal(pfl_buf_cstr(&b), "");
    assert_true(pfl_buf_append_str(&b, "ab"));
    assert_string_equal(pfl_buf_cstr(&b), "ab");
}

static void test_buf_integers__byte_order(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    pfl_buf_u8(&b, 0xfe);
    pfl_buf_u32be(&b, 0x01020304);
    pfl_buf_u64be(&b, 0x0102030405060708);
    pfl_buf_u64le(&b, 0x0102030405060708);
    char hex[64];
    pfl_hex(pfl_buf_view(&b), hex);
    assert_string_equal(hex, "fe01020304"
                             "0102030405060708"
                             "0807060504030201");
}

/* ---- blob ---- */

static void test_blob_new__impossible_size__null(void **state)
{
    (void)state;
    assert_null(pfl_blob_new(SIZE_MAX));
    assert_null(pfl_blob_new(SIZE_MAX - 63));
    assert_null(pfl_blob_new((size_t)PTRDIFF_MAX));
}

static void test_blob__shared__lives_until_the_last_owner(void **state)
{
    (void)state;
    struct pfl_blob *b = pfl_blob_copy("abc", 3);
    assert_int_equal((uintptr_t)b->data % 16, 0);
    for (size_t len = PFL_BLOB_SMALL_MAX; len <= PFL_BLOB_SMALL_MAX + 1; len++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *edge = pfl_blob_new(len);
        assert_int_equal((uintptr_t)edge->data % (len > PFL_BLOB_SMALL_MAX ? 64 : 16), 0);
        edge->data[0] = edge->data[len - 1] = 1;
        edge->len = 1; /* may become less */
    }
    struct pfl_blob *second = pfl_blob_ref(b);
    pfl_blob_unref(b);
    assert_true(pfl_bytes_eq(pfl_bytes_of(second->data, second->len), VIEW("abc")));
    pfl_blob_unref(second);
    pfl_blob_unref(NULL);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *empty = pfl_blob_copy(NULL, 0);
    assert_int_equal(empty->len, 0);
}

/* ---- reader ---- */

static void test_reader__short_input__fails_once_and_for_all(void **state)
{
    (void)state;
    struct pfl_reader r = pfl_reader_of(VIEW("\x01\x02\x03"));
    assert_int_equal(pfl_reader_u32be(&r), 0);
    assert_true(r.failed);
    assert_int_equal(r.pos, 0);
    assert_int_equal(pfl_reader_u8(&r), 0); /* a byte is there, the cursor is sticky */
    assert_int_equal(pfl_reader_left(&r), 3);
    struct pfl_reader none = pfl_reader_of((struct pfl_bytes){NULL, 0});
    assert_int_equal(pfl_reader_u8(&none), 0);
    assert_true(none.failed);
}

static void test_reader_bytes__longer_than_the_rest__fails(void **state)
{
    (void)state;
    struct pfl_reader r = pfl_reader_of(VIEW("abc"));
    assert_int_equal(pfl_reader_bytes(&r, SIZE_MAX).len, 0);
    assert_true(r.failed);
    r = pfl_reader_of(VIEW("abc"));
    assert_true(pfl_bytes_eq(pfl_reader_bytes(&r, 3), VIEW("abc")));
    assert_int_equal(pfl_reader_bytes(&r, 0).len, 0);
    assert_false(r.failed);
    assert_int_equal(pfl_reader_left(&r), 0);
}

static void test_reader_integers__byte_order(void **state)
{
    (void)state;
    struct pfl_reader r = pfl_reader_of(VIEW("\xff"
                                             "\x01\x02"
                                             "\x01\x02\x03\x04"
                                             "\x01\x02\x03\x04\x05\x06\x07\x08"
                                             "\x01\x02\x03\x04"
                                             "\x01\x02\x03\x04\x05\x06\x07\x88"));
    assert_int_equal(pfl_reader_u8(&r), 0xff);
    assert_int_equal(pfl_reader_u16be(&r), 0x0102);
    assert_int_equal(pfl_reader_u32be(&r), 0x01020304);
    assert_true(pfl_reader_u64be(&r) == 0x0102030405060708u);
    assert_int_equal(pfl_reader_u32le(&r), 0x04030201);
    assert_true(pfl_reader_u64le(&r) == 0x8807060504030201u);
    assert_false(r.failed);
    assert_int_equal(pfl_reader_left(&r), 0);
}

static void test_reader_varint__refused__cursor_stays(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct pfl_bytes in;
    } rows[] = {
        {"empty", {NULL, 0}},
        {"ends in the middle", {(const uint8_t *)"\x80\x80", 2}},
        {"eleven bytes", {(const uint8_t *)"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11}},
        {"the 65th bit", {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10}},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_reader r = pfl_reader_of(rows[i].in);
        assert_true(pfl_reader_varint(&r) == 0);
        if (!r.failed || r.pos != 0)
            fail_msg("%s", rows[i].name);
    }
}

static void test_varint__round_trip(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 127, 128, 300, 0xffffffff, (uint64_t)1 << 63, UINT64_MAX};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    for (size_t i = 0; i < PFL_ARRAY_LEN(values); i++)
        assert_true(pfl_buf_varint(&b, values[i]));
    struct pfl_reader r = pfl_reader_of(pfl_buf_view(&b));
    for (size_t i = 0; i < PFL_ARRAY_LEN(values); i++)
        assert_true(pfl_reader_varint(&r) == values[i]);
    assert_false(r.failed);
    assert_int_equal(pfl_reader_left(&r), 0);
    pfl_buf_clear(&b);
    pfl_buf_varint(&b, 300);
    assert_true(pfl_bytes_eq(pfl_buf_view(&b), VIEW("\xac\x02")));
}

/* ---- hex ---- */

static void test_unhex__refused__nothing_written(void **state)
{
    (void)state;
    static const char *const rows[] = {"", "0", "01", "012", "01023", "010203", "01g2", "0x02", " 102"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        uint8_t out[2] = {7, 7};
        if (pfl_unhex(rows[i], out, 2) || out[0] != 7 || out[1] != 7)
            fail_msg("'%s'", rows[i]);
    }
}

static void test_hex__round_trip(void **state)
{
    (void)state;
    char hex[9];
    uint8_t out[4];
    pfl_hex(VIEW("\x00\x7f\xa0\xff"), hex);
    assert_string_equal(hex, "007fa0ff");
    assert_true(pfl_unhex("007FA0ff", out, 4));
    assert_memory_equal(out, "\x00\x7f\xa0\xff", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_sub__outside__empty),
        cmocka_unit_test(test_bytes_eq__length_and_content),
        cmocka_unit_test(test_buf_append__past_the_limit__fails_and_stays_failed),
        cmocka_unit_test(test_buf_reserve__overflowing_size__fails),
        cmocka_unit_test(test_buf_printf__long_text_and_limit),
        cmocka_unit_test(test_buf_cstr__empty__the_empty_string),
        cmocka_unit_test(test_buf_integers__byte_order),
        cmocka_unit_test(test_blob_new__impossible_size__null),
        cmocka_unit_test(test_blob__shared__lives_until_the_last_owner),
        cmocka_unit_test(test_reader__short_input__fails_once_and_for_all),
        cmocka_unit_test(test_reader_bytes__longer_than_the_rest__fails),
        cmocka_unit_test(test_reader_integers__byte_order),
        cmocka_unit_test(test_reader_varint__refused__cursor_stays),
        cmocka_unit_test(test_varint__round_trip),
        cmocka_unit_test(test_unhex__refused__nothing_written),
        cmocka_unit_test(test_hex__round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
