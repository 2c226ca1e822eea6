/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* The CA service's messages: what is refused, and that what is encoded comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/ca_msg.h"
#include "wire/limits.h"

/* A field of bytes: tag, length, content. */
static void put(struct pfl_buf *b, unsigned tag, const void *data, size_t len)
{
    pfl_buf_varint(b, tag << 3 | 2);
    pfl_buf_varint(b, len);
    pfl_buf_append(b, data, len);
}

static void put_n(struct pfl_buf *b, unsigned tag, size_t len)
{
    uint8_t *fill = pfl_xcalloc(1, len);
    memset(fill, 'x', len);
    put(b, tag, fill, len);
    free(fill);
}

static void expect_request(const char *name, enum pfl_ca_request_kind kind, struct pfl_buf *in, enum pfl_rc rc, const char *says)
{
    struct pfl_ca_request r = {0};
    struct pfl_err err = {0};
    enum pfl_rc got = pfl_ca_request_decode(kind, pfl_buf_view(in), &r, &err);
    if (got != rc || !strstr(err.msg, says))
        fail_msg("%s: %s: %s", name, pfl_rc_text(got), err.msg);
    assert_null(r.token);
    assert_null(r.request_id);
    assert_int_equal(r.server_csr.len, 0);
    pfl_buf_deinit(in);
}

static void test_request_decode__hostile_bytes__refused_and_nothing_written(void **state)
{
    (void)state;
    struct pfl_buf b = {0};
    expect_request("empty", PFL_CA_ENROL, &b, PFL_MALFORMED, "without a token");
    expect_request("empty renewal", PFL_CA_RENEW, &b, PFL_MALFORMED, "without a server_csr");
    expect_request("empty poll", PFL_CA_POLL, &b, PFL_MALFORMED, "without a request_id");

    put(&b, 1, "t", 1);
    put(&b, 2, "s", 1);
    expect_request("no client CSR", PFL_CA_ENROL, &b, PFL_MALFORMED, "without a client_csr");

    put_n(&b, 1, PFL_WIRE_CA_TOKEN_MAX + 1);
    expect_request("long token", PFL_CA_ENROL, &b, PFL_TOO_BIG, "token is 129 bytes");

    put(&b, 1, "a\0b", 3);
    expect_request("NUL in the token", PFL_CA_ENROL, &b, PFL_MALFORMED, "NUL");

    put(&b, 1, "t", 1);
    put(&b, 2, "s", 1);
    put_n(&b, 3, PFL_WIRE_CA_CSR_MAX + 1);
    expect_request("large CSR", PFL_CA_ENROL, &b, PFL_TOO_BIG, "client_csr is 16385 bytes");

    put_n(&b, 99, PFL_WIRE_CA_REQUEST_MAX);
    expect_request("large unknown field", PFL_CA_ENROL, &b, PFL_TOO_BIG, "the limit is");

    pfl_buf_append(&b, "\x0a\x05t", 3);
    expect_request("cut", PFL_CA_ENROL, &b, PFL_MALFORMED, "not a valid");

    pfl_buf_append(&b, "\x10\x07", 2);
    expect_request("a number as CSR", PFL_CA_ENROL, &b, PFL_MALFORMED, "");
}

static void expect_credentials(const char *name, struct pfl_buf *in, enum pfl_rc rc, const char *says)
{
    struct pfl_ca_credentials c = {0};
    struct pfl_err err = {0};
    enum pfl_rc got = pfl_ca_credentials_decode(pfl_buf_view(in), &c, &err);
    if (got != rc || !strstr(err.msg, says))
        fail_msg("%s: %s: %s", name, pfl_rc_text(got), err.msg);
    assert_int_equal(c.server_chain.n, 0);
    assert_int_equal(c.bundle.roots.n, 0);
    pfl_buf_deinit(in);
}

static void test_credentials_decode__hostile_bytes__refused_and_nothing_written(void **state)
{
    (void)state;
    struct pfl_buf b = {0};
    expect_credentials("empty", &b, PFL_MALFORMED, "without a server_chain");

    pfl_buf_append(&b, "\x08\x01", 2);
    expect_credentials("pending, no id", &b, PFL_MALFORMED, "pending without a request_id");

    pfl_buf_append(&b, "\x08\x07", 2);
    expect_credentials("state 7", &b, PFL_MALFORMED, "state 7 is not known");

    for (int i = 0; i <= PFL_WIRE_CA_CHAIN_MAX; i++)
        put(&b, 2, "c", 1);
    expect_credentials("long chain", &b, PFL_TOO_BIG, "server_chain has more than 4 items");

    put_n(&b, 2, PFL_WIRE_CA_CERT_MAX + 1);
    expect_credentials("large certificate", &b, PFL_TOO_BIG, "server_chain is 32769 bytes");

    put(&b, 2, "s", 1);
    put(&b, 3, "c", 1);
    expect_credentials("no root", &b, PFL_MALFORMED, "without a root");

    struct pfl_buf inner = {0};
    for (int i = 0; i <= PFL_WIRE_CA_ROOTS_MAX; i++)
        put(&inner, 1, "r", 1);
    put(&b, 2, "s", 1);
    put(&b, 3, "c", 1);
    put(&b, 4, inner.data, 15);
    put(&b, 4, inner.data, 12); /* the same field again: protobuf merges, the limit holds for both together */
    pfl_buf_deinit(&inner);
    expect_credentials("many roots in two pieces", &b, PFL_TOO_BIG, "roots has more than 8 items");

    put_n(&b, 99, PFL_WIRE_CA_ANSWER_MAX);
    expect_credentials("large", &b, PFL_TOO_BIG, "the limit is");
}

static void test_request__encoded_and_decoded__the_same(void **state)
{
    (void)state;
    PFL_AUTO(pfl_ca_request_deinit) struct pfl_ca_request r = {.token = pfl_xstrdup("p2pfl-abc")}, back = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    pfl_buf_append(&r.server_csr, "one", 3);
    pfl_buf_append(&r.client_csr, "two\0", 4);
    assert_int_equal(pfl_ca_request_encode(PFL_CA_ENROL, &r, &out, NULL), PFL_OK);
    assert_int_equal(pfl_ca_request_decode(PFL_CA_ENROL, pfl_buf_view(&out), &back, NULL), PFL_OK);
    assert_string_equal(back.token, "p2pfl-abc");
    assert_true(pfl_bytes_eq(pfl_buf_view(&r.server_csr), pfl_buf_view(&back.server_csr)));
    assert_true(pfl_bytes_eq(pfl_buf_view(&r.client_csr), pfl_buf_view(&back.client_csr)));
}

static void test_credentials__encoded_and_decoded__the_same(void **state)
{
    (void)state;
    PFL_AUTO(pfl_ca_credentials_deinit) struct pfl_ca_credentials c = {0}, back = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    pfl_ders_add(&c.server_chain, pfl_bytes_of("leaf", 4));
    pfl_ders_add(&c.server_chain, pfl_bytes_of("intermediate", 12));
    pfl_ders_add(&c.client_chain, pfl_bytes_of("client", 6));
    pfl_ders_add(&c.bundle.roots, pfl_bytes_of("root", 4));
    pfl_ders_add(&c.bundle.crls, pfl_bytes_of("crl", 3));
    c.federation.name = pfl_xstrdup("hospitals");
    c.federation.node_name = pfl_xstrdup("a");
    c.federation.role = pfl_xstrdup("node");
    c.federation.settings_yaml = pfl_xstrdup("ssl:\n  crl: require\n");
    pfl_strs_add(&c.federation.sans, "IP:127.0.0.1");
    pfl_strs_add(&c.federation.connect, "10.0.0.1:6666");
    c.federation.lifetime_s = 86400;
    assert_int_equal(pfl_ca_credentials_encode(&c, &out, NULL), PFL_OK);
    assert_int_equal(pfl_ca_credentials_decode(pfl_buf_view(&out), &back, NULL), PFL_OK);
    assert_false(back.pending);
    assert_int_equal(back.server_chain.n, 2);
    assert_int_equal(back.server_chain.items[1].len, 12);
    assert_int_equal(back.client_chain.n, 1);
    assert_int_equal(back.bundle.roots.n, 1);
    assert_int_equal(back.bundle.crls.n, 1);
    assert_string_equal(back.federation.name, "hospitals");
    assert_string_equal(back.federation.settings_yaml, "ssl:\n  crl: require\n");
    assert_string_equal(back.federation.sans.items[0], "IP:127.0.0.1");
    assert_string_equal(back.federation.connect.items[0], "10.0.0.1:6666");
    assert_int_equal(back.federation.lifetime_s, 86400);
}

static void test_credentials__pending__keeps_the_request_id(void **state)
{
    (void)state;
    PFL_AUTO(pfl_ca_credentials_deinit)
    struct pfl_ca_credentials c = {.pending = true, .request_id = pfl_xstrdup("r"), .retry_after_s = 5}, back = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    assert_int_equal(pfl_ca_credentials_encode(&c, &out, NULL), PFL_OK);
    assert_int_equal(pfl_ca_credentials_decode(pfl_buf_view(&out), &back, NULL), PFL_OK);
    assert_true(back.pending);
    assert_string_equal(back.request_id, "r");
    assert_int_equal(back.retry_after_s, 5);
}

static void test_bundle__empty__is_a_bundle(void **state)
{
    (void)state;
    PFL_AUTO(pfl_ca_bundle_deinit) struct pfl_ca_bundle b = {0};
    assert_int_equal(pfl_ca_bundle_decode(pfl_bytes_of(NULL, 0), &b, NULL), PFL_OK);
    assert_int_equal(b.roots.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_decode__hostile_bytes__refused_and_nothing_written),
        cmocka_unit_test(test_credentials_decode__hostile_bytes__refused_and_nothing_written),
        cmocka_unit_test(test_request__encoded_and_decoded__the_same),
        cmocka_unit_test(test_credentials__encoded_and_decoded__the_same),
        cmocka_unit_test(test_credentials__pending__keeps_the_request_id),
        cmocka_unit_test(test_bundle__empty__is_a_bundle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
