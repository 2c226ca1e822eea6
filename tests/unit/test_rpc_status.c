/* SPDX-License-Identifier: Apache-2.0 */
/* link: base rpc */
/* gRPC's small texts and the assembly of messages, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rpc/headers.h"
#include "rpc/message.h"
#include "rpc/proto_scan.h"
#include "rpc/status.h"

static void test_timeout_parse__rows(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        pfl_ns ns;
    } ROWS[] = {
        {"", false, 0},
        {"S", false, 0},
        {"1", false, 0},
        {"1s", false, 0},
        {"-1S", false, 0},
        {"+1S", false, 0},
        {" 1S", false, 0},
        {"1 S", false, 0},
        {"1SS", false, 0},
        {"123456789S", false, 0},
        {"0x1S", false, 0},
        {"1.5S", false, 0},
        {"0n", true, 0},
        {"1n", true, 1},
        {"1u", true, 1000},
        {"1m", true, PFL_MS},
        {"10S", true, 10 * PFL_SEC},
        {"2M", true, 120 * PFL_SEC},
        {"1H", true, 3600 * PFL_SEC},
        {"00000001S", true, PFL_SEC},
        {"99999999S", true, 99999999 * PFL_SEC},
        {"2562047H", true, 2562047 * (3600 * PFL_SEC)},
        {"2562048H", true, PFL_NEVER},
        {"99999999H", true, PFL_NEVER},
    };
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        pfl_ns ns = 0;
        if (pfl_grpc_timeout_parse(ROWS[i].text, &ns) != ROWS[i].ok || (ROWS[i].ok && ns != ROWS[i].ns))
            fail_msg("'%s'", ROWS[i].text);
    }
}

static void test_timeout_format__never_shorter_than_asked(void **state)
{
    static const struct {
        pfl_ns ns;
        const char *text;
    } ROWS[] = {
        {1, "1n"},
        {999, "999n"},
        {1000, "1u"},
        {PFL_MS, "1m"},
        {1500 * PFL_MS, "1500m"},
        {10 * PFL_SEC, "10S"},
        {60 * PFL_SEC, "1M"},
        {3600 * PFL_SEC, "1H"},
        {123456789, "123457u"},
        {PFL_SEC + 1, "1000001u"},
        {99999999, "99999999n"},
        {PFL_NEVER - 1, "2562048H"},
    };
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        char text[16];
        pfl_ns back = 0;
        pfl_grpc_timeout_format(ROWS[i].ns, text);
        assert_string_equal(text, ROWS[i].text);
        assert_true(pfl_grpc_timeout_parse(text, &back) && back >= ROWS[i].ns);
    }
}

static void test_percent__both_ways(void **state)
{
    static const struct {
        const char *plain, *coded;
    } ROWS[] = {
        {"", ""}, {"abc ~", "abc ~"}, {"100 %", "100 %25"}, {"\xc3\xbc", "%C3%BC"}, {"a\r\nb\x7f\x01", "a%0D%0Ab%7F%01"},
    };
    char out[64];
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        assert_int_equal(pfl_grpc_percent_encode(ROWS[i].plain, out, sizeof out), strlen(ROWS[i].coded));
        assert_string_equal(out, ROWS[i].coded);
        pfl_grpc_percent_decode(ROWS[i].coded, strlen(ROWS[i].coded), out, sizeof out);
        assert_string_equal(out, ROWS[i].plain);
    }
    pfl_grpc_percent_decode("%zz%4%", 6, out, sizeof out); /* what is no code stays */
    assert_string_equal(out, "%zz%4%");
    pfl_grpc_percent_decode("a%00b\0c", 7, out, sizeof out);
    assert_string_equal(out, "a?b?c");
    assert_int_equal(pfl_grpc_percent_encode("ab\xc3", out, 5), 2); /* cut at a whole sequence */
    assert_string_equal(out, "ab");
    pfl_grpc_percent_decode("abcdef", 6, out, 4);
    assert_string_equal(out, "abc");
}

static void test_codes__names_and_mappings(void **state)
{
    (void)state;
    assert_string_equal(pfl_grpc_code_name(0), "OK");
    assert_string_equal(pfl_grpc_code_name(8), "RESOURCE_EXHAUSTED");
    assert_string_equal(pfl_grpc_code_name(16), "UNAUTHENTICATED");
    assert_string_equal(pfl_grpc_code_name(17), "UNKNOWN");
    assert_string_equal(pfl_grpc_code_name(-1), "UNKNOWN");
    assert_int_equal(pfl_grpc_code_of_http(404), PFL_GRPC_UNIMPLEMENTED);
    assert_int_equal(pfl_grpc_code_of_h2(NGHTTP2_REFUSED_STREAM), PFL_GRPC_UNAVAILABLE);
    int code = 7;
    assert_false(pfl_grpc_status_parse("", 0, &code) || pfl_grpc_status_parse("1x", 2, &code) ||
                 pfl_grpc_status_parse("-1", 2, &code) || pfl_grpc_status_parse("1234567", 7, &code));
    assert_int_equal(code, 7);
    assert_true(pfl_grpc_status_parse("16", 2, &code));
    assert_int_equal(code, 16);
}

static bool add(struct pfl_headers *h, const char *name, const char *value)
{
    return pfl_headers_add(h, (const uint8_t *)name, strlen(name), (const uint8_t *)value, strlen(value));
}

static void test_headers__content_types(void **state)
{
    static const struct {
        const char *text;
        bool grpc;
    } ROWS[] = {
        {"application/grpc", true},
        {"application/grpc+proto", true},
        {"application/grpc;x=y", true},
        {"application/grpc+proto;x", true},
        {"application/grpc+json", false},
        {"application/grpc-web", false},
        {"application/grpcx", false},
        {"application/json", false},
        {"", false},
        {"application/grpc application/grpc application/grpc application/grpc", false},
    };
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_headers h = {0};
        assert_true(add(&h, "content-type", ROWS[i].text));
        assert_int_equal(pfl_headers_is_grpc(&h), ROWS[i].grpc);
    }
}

static void test_headers__limit_and_overlong_values(void **state)
{
    struct pfl_headers h = {0};
    char value[1001];
    (void)state;
    memset(value, 'v', 1000);
    value[1000] = '\0';
    assert_true(add(&h, ":path", value));
    assert_string_equal(h.path, "");
    for (int i = 0; i < 13; i++)
        assert_true(add(&h, "x", value));
    assert_true(add(&h, "grpc-encoding", "identity"));
    assert_false(h.encoding_unknown);
    assert_true(add(&h, "grpc-encoding", value));
    assert_true(h.encoding_unknown);
    assert_false(add(&h, "x", value));
}

static enum pfl_msg_state feed(struct pfl_msg_in *m, const void *data, size_t len, struct pfl_bytes *left)
{
    *left = pfl_bytes_of(data, len);
    return pfl_msg_in_feed(m, left);
}

static void test_msg_in__byte_by_byte_and_several_at_once(void **state)
{
    static const uint8_t WIRE[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe};
    struct pfl_msg_in m = {0};
    struct pfl_bytes left;
    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(feed(&m, WIRE + i, 1, &left), PFL_MSG_MORE);
    assert_true(pfl_msg_in_partial(&m));
    assert_int_equal(feed(&m, WIRE + 4, sizeof WIRE - 4, &left), PFL_MSG_PREFIX);
    assert_int_equal(pfl_msg_in_len(&m), 3);
    assert_true(pfl_msg_in_begin(&m));
    assert_int_equal(pfl_msg_in_feed(&m, &left), PFL_MSG_DONE);
    struct pfl_blob *b = pfl_msg_in_take(&m);
    assert_memory_equal(b->data, "abc", 3);
    pfl_blob_unref(b);
    assert_false(pfl_msg_in_partial(&m));
    assert_int_equal(pfl_msg_in_feed(&m, &left), PFL_MSG_PREFIX); /* an empty message */
    assert_int_equal(pfl_msg_in_len(&m), 0);
    assert_true(pfl_msg_in_begin(&m));
    assert_int_equal(pfl_msg_in_feed(&m, &left), PFL_MSG_DONE);
    pfl_blob_unref(pfl_msg_in_take(&m));
    assert_int_equal(pfl_msg_in_feed(&m, &left), PFL_MSG_PREFIX);
    assert_int_equal(pfl_msg_in_flag(&m), 1);
    assert_int_equal(pfl_msg_in_len(&m), 0xfffffffe);
    assert_int_equal(left.len, 0);
    pfl_msg_in_deinit(&m);
}

static void count_release(void *owner)
{
    ++*(int *)owner;
}

static void test_msg_out__parts_cursor_release_and_again(void **state)
{
    static const struct pfl_bytes PARTS[] = {{(const uint8_t *)"ab", 2}, {NULL, 0}, {(const uint8_t *)"cde", 3}};
    int released = 0;
    const struct pfl_rpc_body body = {.parts = PARTS, .n = 3, .release = count_release, .owner = &released};
    (void)state;
    struct pfl_msg_out *m = pfl_msg_out_new(&body);
    assert_int_equal(pfl_msg_out_unclaimed(m), 10);
    struct pfl_msg_out *again = pfl_msg_out_again(pfl_msg_out_ref(m));
    pfl_msg_out_claim(m, 10);
    uint8_t got[10];
    size_t n = 0;
    for (struct pfl_bytes b = pfl_msg_out_peek(m); b.len > 0; b = pfl_msg_out_peek(m)) {
        memcpy(got + n, b.data, 1);
        n++;
        pfl_msg_out_advance(m, 1);
    }
    assert_int_equal(n, 10);
    assert_memory_equal(got, "\0\0\0\0\5abcde", 10);
    pfl_msg_out_unref(m);
    assert_int_equal(released, 0);
    assert_int_equal(pfl_msg_out_unclaimed(again), 10);
    pfl_msg_out_unref(again);
    assert_int_equal(released, 1);
    const struct pfl_bytes huge[] = {{got, (size_t)3 << 30}, {got, (size_t)3 << 30}};
    const struct pfl_rpc_body past = {.parts = huge, .n = 2, .release = count_release, .owner = &released};
    assert_null(pfl_msg_out_new(&past));
    assert_int_equal(released, 2);
}

static void test_field_next__malformed_rows(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        unsigned n;
        bool failed;
    } ROWS[] = {
        {"", 0, 0, false},
        {"\x08\x01", 2, 1, false},
        {"\x0a\x02xy\x10\x05", 6, 2, false},
        {"\x08", 1, 0, true},
        {"\x0a\x05xy", 4, 0, true},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", 12, 0, true},
        {"\x0b", 1, 0, true},
        {"\x00\x01", 2, 0, true},
        {"\x0d\1\2\3", 4, 0, true},
        {"\x09"
         "12345678",
         9, 1, false},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11, 0, true},
    };
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_reader r = pfl_reader_of(pfl_bytes_of(ROWS[i].bytes, ROWS[i].len));
        struct pfl_field f;
        unsigned n = 0;
        while (pfl_field_next(&r, &f))
            n++;
        if (n != ROWS[i].n || r.failed != ROWS[i].failed)
            fail_msg("row %zu: %u fields, failed %d", i, n, r.failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeout_parse__rows),
        cmocka_unit_test(test_timeout_format__never_shorter_than_asked),
        cmocka_unit_test(test_percent__both_ways),
        cmocka_unit_test(test_codes__names_and_mappings),
        cmocka_unit_test(test_headers__content_types),
        cmocka_unit_test(test_headers__limit_and_overlong_values),
        cmocka_unit_test(test_msg_in__byte_by_byte_and_several_at_once),
        cmocka_unit_test(test_msg_out__parts_cursor_release_and_again),
        cmocka_unit_test(test_field_next__malformed_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
