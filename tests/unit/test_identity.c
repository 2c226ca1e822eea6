/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "pki/identity.h"
#include "support/certs.h"

#define LABEL64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SPIFFE  "subjectAltName=URI:spiffe://p2pfl/node/a"

static enum pfl_rc read_identity(const struct test_cert_spec *spec, struct pfl_identity **ret, struct pfl_err *err)
{
    struct test_cert c = test_cert_make(spec, NULL);
    enum pfl_rc rc = pfl_identity_of_x509(c.cert, ret, err);
    test_cert_free(&c);
    return rc;
}

static struct pfl_identity *identity_with(const char *san)
{
    struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    const char *exts[] = {san, NULL};
    assert_int_equal(read_identity(&(struct test_cert_spec){.cn = "holder", .exts = exts}, &id, &err), PFL_OK);
    return id;
}

static void test_identity__names_that_can_be_misread__refused(void **state)
{
    (void)state;
    static const struct {
        const char *row, *exts[3], *wanted;
    } ROWS[] = {
        {"NUL inside a DNS name",
         {"subjectAltName=DER:300582036100"
          "62"},
         "byte 0x00"},
        {"control character in a URI", {"subjectAltName=DER:30068604613a0a62"}, "byte 0x0a"},
        {"blank in a DNS name", {"subjectAltName=DER:30058203612062"}, "byte 0x20"},
        {"not ASCII in a DNS name", {"subjectAltName=DER:30058203c3a462"}, "byte 0xc3"},
        {"empty DNS name", {"subjectAltName=DER:30028200"}, "0 bytes"},
        {"IP of five bytes", {"subjectAltName=DER:300787050102030405"}, "IP subject alternative name of 5"},
        {"not a list of names", {"subjectAltName=DER:0500"}, "cannot be read"},
        {"the extension twice", {"subjectAltName=DNS:a", "subjectAltName=DNS:b"}, "twice"},
        {"two SPIFFE IDs", {"subjectAltName=URI:spiffe://p2pfl/node/a,URI:spiffe://p2pfl/node/b"}, "more than one"},
        {"SPIFFE without a path", {"subjectAltName=URI:spiffe://p2pfl"}, "bad SPIFFE ID"},
        {"SPIFFE without a name", {"subjectAltName=URI:spiffe://p2pfl/node"}, "bad SPIFFE ID"},
        {"SPIFFE with an empty name", {"subjectAltName=URI:spiffe://p2pfl/node/"}, "bad SPIFFE ID"},
        {"SPIFFE with four parts", {"subjectAltName=URI:spiffe://p2pfl/node/a/b"}, "bad SPIFFE ID"},
        {"SPIFFE with a dot segment", {"subjectAltName=URI:spiffe://p2pfl/node/.."}, "bad SPIFFE ID"},
        {"SPIFFE with an upper-case scheme", {"subjectAltName=URI:SPIFFE://p2pfl/node/a"}, "bad SPIFFE ID"},
        {"SPIFFE with an upper-case name", {"subjectAltName=URI:spiffe://p2pfl/node/A"}, "bad SPIFFE ID"},
        {"SPIFFE with a port", {"subjectAltName=URI:spiffe://p2pfl:80/node/a"}, "bad SPIFFE ID"},
        {"SPIFFE with an escape", {"subjectAltName=URI:spiffe://p2pfl/node/%61"}, "bad SPIFFE ID"},
        {"SPIFFE with a query", {"subjectAltName=URI:spiffe://p2pfl/node/a?b"}, "bad SPIFFE ID"},
        {"SPIFFE with a long name", {"subjectAltName=URI:spiffe://p2pfl/node/" LABEL64}, "bad SPIFFE ID"},
        {"SPIFFE with one slash", {"subjectAltName=URI:spiffe:/p2pfl/node/a"}, "bad SPIFFE ID"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_identity *id = NULL;
        struct pfl_err err = {0};
        enum pfl_rc rc = read_identity(&(struct test_cert_spec){.cn = "x", .exts = ROWS[i].exts}, &id, &err);
        if (rc != PFL_MALFORMED || id || !strstr(err.msg, ROWS[i].wanted))
            fail_msg("%s: rc %d, '%s'", ROWS[i].row, (int)rc, err.msg);
    }
}

static void test_identity__over_long_spiffe_id__refused(void **state)
{
    (void)state;
    char san[2200] = SPIFFE;
    struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    const char *exts[] = {san, NULL};
    size_t len = strlen(san);
    memset(san + len, 'a', 2100 - len);
    assert_int_equal(read_identity(&(struct test_cert_spec){.cn = "x", .exts = exts}, &id, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "URI subject alternative name"));
}

static void test_identity__too_many_names__refused(void **state)
{
    (void)state;
    struct pfl_buf san = {.limit = 8192};
    struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    pfl_buf_append_str(&san, "subjectAltName=DNS:n");
    for (int i = 0; i < PFL_SANS_MAX - 1; i++)
        pfl_buf_printf(&san, ",DNS:n%d", i);
    id = identity_with(pfl_buf_cstr(&san));
    assert_int_equal(id->sans.n, PFL_SANS_MAX);
    pfl_identity_unref(id);
    id = NULL;
    pfl_buf_append_str(&san, ",DNS:more");
    const char *exts[] = {pfl_buf_cstr(&san), NULL};
    assert_int_equal(read_identity(&(struct test_cert_spec){.cn = "x", .exts = exts}, &id, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "65 subject alternative names, the limit is 64"));
    pfl_buf_deinit(&san);
}

static void test_identity__control_characters_in_the_subject__refused(void **state)
{
    (void)state;
    static const char *const ROWS[] = {"a\0b", "a\nb", "a\033b", "a\177b"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_identity *id = NULL;
        struct pfl_err err = {0};
        struct test_cert_spec spec = {.raw_cn = ROWS[i], .raw_cn_len = 3};
        assert_int_equal(read_identity(&spec, &id, &err), PFL_MALFORMED);
        assert_non_null(strstr(err.msg, "control character"));
    }
}

static void test_identity__subject_that_is_not_utf8__refused(void **state)
{
    (void)state;
    struct test_cert c = test_cert_make(&(struct test_cert_spec){.cn = "abZcd"}, NULL);
    unsigned char *der = NULL;
    int len = i2d_X509(c.cert, &der);
    struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    assert_true(len > 0);
    for (int i = 0; i + 5 <= len; i++) /* in subject and issuer */
        if (memcmp(der + i, "abZcd", 5) == 0)
            der[i + 2] = 0xff;
    assert_int_equal(pfl_identity_of_der(pfl_bytes_of(der, (size_t)len), &id, &err), PFL_MALFORMED);
    assert_null(id);
    OPENSSL_free(der);
    test_cert_free(&c);
}

static void test_identity__der__every_length(void **state)
{
    (void)state;
    struct test_cert c = test_cert_make(&(struct test_cert_spec){.cn = "x"}, NULL);
    uint8_t big[PFL_DER_CERT_MAX + 1] = {0x30};
    unsigned char *at = big;
    int len = i2d_X509(c.cert, &at);
    struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    assert_true(len > 0);
    assert_int_equal(pfl_identity_of_der(pfl_bytes_of(NULL, 0), &id, &err), PFL_MALFORMED);
    assert_int_equal(pfl_identity_of_der(pfl_bytes_of(big, 1), &id, &err), PFL_MALFORMED);
    assert_int_equal(pfl_identity_of_der(pfl_bytes_of(big, (size_t)len - 1), &id, &err), PFL_MALFORMED);
    assert_int_equal(pfl_identity_of_der(pfl_bytes_of(big, (size_t)len + 1), &id, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "behind"));
    assert_int_equal(pfl_identity_of_der(pfl_bytes_of(big, sizeof big), &id, &err), PFL_TOO_BIG);
    assert_null(id);
    assert_int_equal(pfl_identity_of_der(pfl_bytes_of(big, (size_t)len), &id, &err), PFL_OK);
    assert_string_equal(id->subject, "CN=x");
    pfl_identity_unref(id);
    test_cert_free(&c);
}

static void test_identity__issued_certificate__all_parts(void **state)
{
    (void)state;
    struct pfl_identity *id =
        identity_with("subjectAltName=IP:127.0.0.1,DNS:A.Example,URI:spiffe://lab-1/coordinator/n.1,IP:::1,DNS:a.example");
    assert_string_equal(id->spiffe_id, "spiffe://lab-1/coordinator/n.1");
    assert_string_equal(id->federation, "lab-1");
    assert_string_equal(id->role, "coordinator");
    assert_string_equal(id->name, "n.1");
    assert_string_equal(id->issuer, "CN=holder");
    assert_int_equal(strlen(id->fingerprint), 64);
    assert_int_equal(id->not_before, 1577836800);
    assert_int_equal(id->not_after, 2208988800);
    assert_int_equal(id->sans.n, 4);
    assert_string_equal(id->sans.items[0], "DNS:a.example");
    assert_string_equal(id->sans.items[1], "IP:127.0.0.1");
    assert_string_equal(id->sans.items[2], "IP:::1");
    assert_string_equal(id->sans.items[3], "URI:spiffe://lab-1/coordinator/n.1");
    assert_string_equal(pfl_identity_text(id), "spiffe://lab-1/coordinator/n.1");
    struct pfl_identity *again = pfl_identity_ref(id);
    pfl_identity_unref(id);
    assert_string_equal(again->name, "n.1");
    pfl_identity_unref(again);
}

static void test_identity__made_by_hand__subject_and_first_name(void **state)
{
    (void)state;
    struct pfl_identity *id = identity_with("subjectAltName=IP:127.0.0.1,email:a@b.example");
    assert_null(id->spiffe_id);
    assert_null(id->name);
    assert_string_equal(pfl_identity_text(id), "holder (IP:127.0.0.1)");
    pfl_identity_unref(id);
}

static void test_identity__ca__federation_alone(void **state)
{
    (void)state;
    const char *exts[] = {"basicConstraints=critical,CA:TRUE", "subjectAltName=URI:spiffe://lab", NULL};
    struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    assert_int_equal(read_identity(&(struct test_cert_spec){.cn = "CA", .exts = exts}, &id, &err), PFL_OK);
    assert_string_equal(id->federation, "lab");
    assert_null(id->role);
    pfl_identity_unref(id);
}

static void test_identity__covers_host__as_rfc_6125(void **state)
{
    (void)state;
    static const struct {
        const char *san, *host;
        bool covered;
    } ROWS[] = {
        {"IP:127.0.0.1", "127.0.0.2", false},
        {"IP:127.0.0.1", "localhost", false},
        {"DNS:127.0.0.1", "127.0.0.1", false},
        {"DNS:localhost", "127.0.0.1", false},
        {"IP:127.0.0.1", "127.0.0.1 ", false},
        {"IP:127.0.0.1", "", false},
        {"IP:::1", "[::1", false},
        {"IP:::ffff:127.0.0.1", "127.0.0.1", false},
        {"DNS:a.example", "b.example", false},
        {"DNS:a.example", "a.example.org", false},
        {"DNS:a.example", "x.a.example", false},
        {"DNS:*.a.example", "a.example", false},
        {"DNS:*.a.example", "x.y.a.example", false},
        {"DNS:*.a.example", ".a.example", false},
        {"DNS:*.example", "a.example", false},
        {"DNS:*", "localhost", false},
        {"DNS:x*.a.example", "x1.a.example", false},
        {"DNS:a.*.example", "a.b.example", false},
        {"DNS:*.*.example", "a.b.example", false},
        {"URI:spiffe://p2pfl/node/a", "p2pfl", false},
        {"DNS:a.example", "[a.example]", false},
        {"IP:127.0.0.1", "127.0.0.1", true},
        {"IP:::1", "::1", true},
        {"IP:::1", "[::1]", true},
        {"IP:::1", "0:0:0:0:0:0:0:1", true},
        {"IP:2001:db8::a", "2001:0DB8:0::A", true},
        {"DNS:localhost", "localhost", true},
        {"DNS:A.Example", "a.eXAMPLE", true},
        {"DNS:a.example", "a.example.", true},
        {"DNS:*.a.example", "x.a.example", true},
        {"DNS:b.example,IP:10.0.0.1,DNS:a.example", "a.example", true},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        char san[200];
        snprintf(san, sizeof san, "subjectAltName=%s", ROWS[i].san);
        struct pfl_identity *id = identity_with(san);
        if (pfl_identity_covers_host(id, ROWS[i].host) != ROWS[i].covered)
            fail_msg("%s for '%s' is not %d", ROWS[i].san, ROWS[i].host, ROWS[i].covered);
        pfl_identity_unref(id);
    }
}

static void test_identity__over_long_host__not_covered(void **state)
{
    (void)state;
    char host[4000];
    struct pfl_identity *id = identity_with("subjectAltName=DNS:*.a.example");
    memset(host, 'x', sizeof host);
    memcpy(host + sizeof host - 11, ".a.example", 11);
    assert_false(pfl_identity_covers_host(id, host));
    host[0] = '[';
    host[sizeof host - 2] = ']';
    assert_false(pfl_identity_covers_host(id, host));
    pfl_identity_unref(id);
}

static void test_identity__same__by_spiffe_id_or_by_names(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } ROWS[] = {
        {SPIFFE, "subjectAltName=URI:spiffe://p2pfl/node/b", false},
        {SPIFFE, "subjectAltName=URI:spiffe://p2pfl/observer/a", false},
        {SPIFFE, "subjectAltName=URI:spiffe://other/node/a", false},
        {SPIFFE ",IP:127.0.0.1", "subjectAltName=IP:127.0.0.1", false},
        {"subjectAltName=IP:127.0.0.1", "subjectAltName=IP:127.0.0.1,IP:::1", false},
        {"subjectAltName=IP:127.0.0.1", "subjectAltName=IP:127.0.0.2", false},
        {SPIFFE ",IP:127.0.0.1", SPIFFE ",IP:10.0.0.1", true},
        {"subjectAltName=IP:::1,IP:127.0.0.1", "subjectAltName=IP:127.0.0.1,IP:::1", true},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_identity *a = identity_with(ROWS[i].a), *b = identity_with(ROWS[i].b);
        if (pfl_identity_same(a, b) != ROWS[i].same || pfl_identity_same(b, a) != ROWS[i].same)
            fail_msg("%s and %s", ROWS[i].a, ROWS[i].b);
        pfl_identity_unref(a);
        pfl_identity_unref(b);
    }
}

static void test_identity__same_names_of_another_issuer__same(void **state)
{
    (void)state;
    const char *exts[] = {"subjectAltName=IP:127.0.0.1", NULL};
    struct pfl_identity *a = NULL, *b = NULL;
    struct pfl_err err = {0};
    assert_int_equal(read_identity(&(struct test_cert_spec){.cn = "x", .exts = exts}, &a, &err), PFL_OK);
    assert_int_equal(read_identity(&(struct test_cert_spec){.cn = "y", .exts = exts}, &b, &err), PFL_OK);
    assert_string_not_equal(a->issuer, b->issuer);
    assert_true(pfl_identity_same(a, b)); /* a new root signs for the same party */
    pfl_identity_unref(a);
    pfl_identity_unref(b);
}

static void test_identity__no_names_at_all__same_as_nobody(void **state)
{
    (void)state;
    struct pfl_identity *a = NULL;
    struct pfl_err err = {0};
    assert_int_equal(read_identity(&(struct test_cert_spec){.cn = "x"}, &a, &err), PFL_OK);
    assert_false(pfl_identity_same(a, a));
    pfl_identity_unref(a);
}

static void test_name_valid__strict(void **state)
{
    (void)state;
    static const char *const BAD[] = {"", "A", "a/b", "a b", ".a", "a.", "-a", "a-", "..", "\xc3\xa4", "a\n", LABEL64};
    static const char *const GOOD[] = {"a", "0", "node-1", "a.b_c-d"};
    assert_false(pfl_name_valid(NULL));
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++)
        assert_false(pfl_name_valid(BAD[i]));
    for (size_t i = 0; i < PFL_ARRAY_LEN(GOOD); i++)
        assert_true(pfl_name_valid(GOOD[i]));
    assert_false(pfl_role_valid("root"));
    assert_true(pfl_role_valid("observer"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity__names_that_can_be_misread__refused),
        cmocka_unit_test(test_identity__over_long_spiffe_id__refused),
        cmocka_unit_test(test_identity__too_many_names__refused),
        cmocka_unit_test(test_identity__control_characters_in_the_subject__refused),
        cmocka_unit_test(test_identity__subject_that_is_not_utf8__refused),
        cmocka_unit_test(test_identity__der__every_length),
        cmocka_unit_test(test_identity__issued_certificate__all_parts),
        cmocka_unit_test(test_identity__made_by_hand__subject_and_first_name),
        cmocka_unit_test(test_identity__ca__federation_alone),
        cmocka_unit_test(test_identity__covers_host__as_rfc_6125),
        cmocka_unit_test(test_identity__over_long_host__not_covered),
        cmocka_unit_test(test_identity__same__by_spiffe_id_or_by_names),
        cmocka_unit_test(test_identity__same_names_of_another_issuer__same),
        cmocka_unit_test(test_identity__no_names_at_all__same_as_nobody),
        cmocka_unit_test(test_name_valid__strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
