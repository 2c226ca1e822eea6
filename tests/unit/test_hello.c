/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* Handshakes and answers: what is refused, what of a Hello arrives, what P2PFL's own bytes look like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/limits.h"
#include "wire/msg.h"

#define RAW(s) pfl_bytes_of(s, sizeof(s) - 1)

static void test_handshake_decode__hostile_bytes__refused_and_nothing_written(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
        const void *data;
        size_t len;
        enum pfl_rc rc;
    } rows[] = {
        {"empty", "without an address", "", 0, PFL_MALFORMED},
        {"empty address", "without an address", "\x0a\x00", 2, PFL_MALFORMED},
        {"cut", "valid",
         "\x0a\x05"
         "a",
         3, PFL_MALFORMED},
        {"NUL", "NUL",
         "\x0a\x03"
         "a\0b",
         5, PFL_MALFORMED},
        {"not UTF-8", "UTF-8", "\x0a\x02\xc3\x28", 4, PFL_MALFORMED},
        {"not UTF-8 in the hello", "hello.federation",
         "\x0a\x01"
         "a"
         "\xa2\x06\x03\x22\x01\xff",
         9, PFL_MALFORMED},
        {"a number as hello", "valid",
         "\x0a\x01"
         "a"
         "\xa0\x06\x01",
         6, PFL_MALFORMED},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        char *addr = NULL;
        struct pfl_hello hello = {0};
        struct pfl_err err = {0};
        enum pfl_rc rc = pfl_handshake_decode(pfl_bytes_of(rows[i].data, rows[i].len), &addr, &hello, &err);
        if (rc != rows[i].rc || !strstr(err.msg, rows[i].says))
            fail_msg("%s: %s: %s", rows[i].name, pfl_rc_text(rc), err.msg);
        assert_null(addr);
        assert_false(hello.present);
        assert_int_equal(hello.codecs.n, 0);
    }
}

/* A handshake with a hello of n codecs of len bytes each. */
static enum pfl_rc decode_codecs(size_t n, size_t len)
{
    PFL_AUTO(pfl_hello_deinit) struct pfl_hello hello = {.present = true, .version = 1}, back = {0};
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_freep) char *addr = NULL;
    PFL_AUTO(pfl_freep) char *text = pfl_xmalloc(len + 1);
    memset(text, 'x', len);
    for (size_t i = 0; i < n; i++)
        pfl_strs_addn(&hello.codecs, text, len);
    assert_int_equal(pfl_handshake_encode("a:1", &hello, &s, NULL), PFL_OK);
    return pfl_handshake_decode(s->parts[0], &addr, &back, NULL);
}

static void test_handshake_decode__hello_lists__exact_limit_passes_one_more_does_not(void **state)
{
    (void)state;
    assert_int_equal(decode_codecs(PFL_WIRE_HELLO_ITEMS_MAX, PFL_WIRE_HELLO_ITEM_MAX), PFL_OK);
    assert_int_equal(decode_codecs(PFL_WIRE_HELLO_ITEMS_MAX + 1, 1), PFL_TOO_BIG);
    assert_int_equal(decode_codecs(1, PFL_WIRE_HELLO_ITEM_MAX + 1), PFL_TOO_BIG);
}

static void test_handshake_decode__long_address__too_big(void **state)
{
    (void)state;
    char text[PFL_WIRE_ADDRESS_MAX + 2];
    for (size_t len = PFL_WIRE_ADDRESS_MAX; len <= PFL_WIRE_ADDRESS_MAX + 1; len++) {
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
        PFL_AUTO(pfl_freep) char *addr = NULL;
        memset(text, 'a', len);
        text[len] = '\0';
        assert_int_equal(pfl_handshake_encode(text, NULL, &s, NULL), PFL_OK);
        assert_int_equal(pfl_handshake_decode(s->parts[0], &addr, NULL, NULL), len <= PFL_WIRE_ADDRESS_MAX ? PFL_OK : PFL_TOO_BIG);
    }
}

static void test_handshake__with_a_hello__arrives_whole(void **state)
{
    (void)state;
    PFL_AUTO(pfl_hello_deinit) struct pfl_hello hello = {.present = true, .version = 7, .federation = pfl_xstrdup("hospital")};
    PFL_AUTO(pfl_hello_deinit) struct pfl_hello back = {0};
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_freep) char *addr = NULL;
    pfl_strs_add(&hello.codecs, "safetensors");
    pfl_strs_add(&hello.features, "beats");
    pfl_strs_add(&hello.features, "state");
    assert_int_equal(pfl_handshake_encode("[::1]:6666", &hello, &s, NULL), PFL_OK);
    assert_int_equal(s->n, 1);
    assert_int_equal(pfl_handshake_decode(s->parts[0], &addr, &back, NULL), PFL_OK);
    assert_string_equal(addr, "[::1]:6666");
    assert_true(back.present);
    assert_int_equal(back.version, 7);
    assert_string_equal(back.federation, "hospital");
    assert_int_equal(back.codecs.n, 1);
    assert_string_equal(back.codecs.items[0], "safetensors");
    assert_int_equal(back.features.n, 2);
    assert_string_equal(back.features.items[1], "state");
}

static void test_handshake__empty_hello__is_still_one(void **state)
{
    (void)state;
    PFL_AUTO(pfl_hello_deinit) struct pfl_hello back = {0};
    PFL_AUTO(pfl_freep) char *addr = NULL;
    assert_int_equal(pfl_handshake_decode(RAW("\x0a\x01"
                                              "a"
                                              "\xa2\x06\x00"),
                                          &addr, &back, NULL),
                     PFL_OK);
    assert_true(back.present);
    assert_int_equal(back.version, 0);
}

static void test_response_decode__hostile_bytes__refused(void **state)
{
    (void)state;
    char *response = NULL, *error = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_response_decode(RAW("\x0a\x04tru"), &response, &error, NULL, &err), PFL_MALFORMED);
    assert_int_equal(pfl_response_decode(RAW("\x0a\x04true\x12\x01\xfe"), &response, &error, NULL, &err), PFL_MALFORMED);
    assert_int_equal(pfl_response_decode(RAW("\x08\x01"), &response, &error, NULL, &err), PFL_MALFORMED);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf big = {0};
    pfl_buf_varint(&big, 1 << 3 | 2);
    pfl_buf_varint(&big, PFL_WIRE_RESPONSE_MAX + 1);
    for (int i = 0; i < PFL_WIRE_RESPONSE_MAX + 1; i++)
        pfl_buf_u8(&big, 'x');
    assert_int_equal(pfl_response_decode(pfl_buf_view(&big), &response, &error, NULL, &err), PFL_TOO_BIG);
    assert_null(response);
    assert_null(error);
}

static void test_response__text_and_error_and_hello__arrive(void **state)
{
    (void)state;
    PFL_AUTO(pfl_hello_deinit) struct pfl_hello hello = {.present = true, .version = 1}, back = {0};
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_freep) char *response = NULL;
    PFL_AUTO(pfl_freep) char *error = NULL;
    assert_int_equal(pfl_response_encode("true", "Unknown command: x", &hello, &s, NULL), PFL_OK);
    assert_int_equal(pfl_response_decode(s->parts[0], &response, &error, &back, NULL), PFL_OK);
    assert_string_equal(response, "true");
    assert_string_equal(error, "Unknown command: x");
    assert_true(back.present);
}

static void test_response__empty__is_success(void **state)
{
    (void)state;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    char *response = NULL, *error = NULL;
    assert_int_equal(pfl_response_encode(NULL, NULL, NULL, &s, NULL), PFL_OK);
    assert_int_equal(s->total, 0);
    assert_int_equal(pfl_response_decode(RAW(""), &response, &error, NULL, NULL), PFL_OK);
    assert_null(response);
    assert_null(error);
    assert_int_equal(pfl_response_decode(RAW("\x12\x00"), &response, &error, NULL, NULL), PFL_OK); /* an empty error is none */
    assert_null(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_decode__hostile_bytes__refused_and_nothing_written),
        cmocka_unit_test(test_handshake_decode__hello_lists__exact_limit_passes_one_more_does_not),
        cmocka_unit_test(test_handshake_decode__long_address__too_big),
        cmocka_unit_test(test_handshake__with_a_hello__arrives_whole),
        cmocka_unit_test(test_handshake__empty_hello__is_still_one),
        cmocka_unit_test(test_response_decode__hostile_bytes__refused),
        cmocka_unit_test(test_response__text_and_error_and_hello__arrive),
        cmocka_unit_test(test_response__empty__is_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
