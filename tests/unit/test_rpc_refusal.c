/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tls rpc */
/* support: certs rpc_kit */
/* timeout: 120 */
/* Who is refused, by which side, and in which words: the refusing side says why, the refused side hears it, and the server goes on
 * serving the good. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/mem.h"
#include "base/str.h"
#include "support/rpc_kit.h"

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not contain '%s'", text, part);
}

static void assert_serves_the_good(struct kit *k)
{
    struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), k->tls);
    kit_call(k, ch, "/t.T/echo", "hello", 5, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_close_channel(k, ch);
}

enum { DAY = 86400 };
struct row {
    const char *name;
    struct kit_cert cert;
    bool other_ca;
    const char *refuser_says; /* part of its reason */
    const char *refused_hears;
};

/* A bad certificate on one side, good ones on the other. */
static void check_row(struct kit *k, const struct row *row, bool bad_client)
{
    struct kit_cert cert = row->cert;
    if (row->other_ca)
        cert.issuer = &k->other_ca;
    struct pfl_tls *bad = kit_tls(k, &cert, NULL, false);
    unsigned down = k->n_down, refused = k->n_refused, up = k->n_up;
    kit_serve(k, "127.0.0.1:0", bad_client ? k->tls : bad);
    struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), bad_client ? bad : k->tls);
    kit_call(k, ch, "/t.T/echo", "x", 1, 5 * PFL_SEC);
    kit_until(k, &k->n_down, down + 1);
    kit_until(k, &k->n_refused, refused + 1);
    print_message("%s %s:\n    server: %s: %s\n    client: %s\n", bad_client ? "bad client" : "bad server", row->name,
                  k->refused_peer, k->refused_reason, k->down_reason);
    assert_int_equal(k->n_up, up);
    assert_int_equal(k->n_handled, 0);
    assert_int_equal(k->status.code, PFL_GRPC_UNAUTHENTICATED);
    assert_int_equal(k->down_rc, PFL_AUTH);
    assert_string_equal(k->status.message, k->down_reason);
    assert_has(bad_client ? k->refused_reason : k->down_reason, row->refuser_says);
    assert_has(bad_client ? k->refused_reason : k->down_reason, "certificate refused: ");
    assert_has(bad_client ? k->down_reason : k->refused_reason, "the peer refused our certificate: ");
    assert_has(bad_client ? k->down_reason : k->refused_reason, row->refused_hears);
    kit_close_channel(k, ch);
    if (bad_client) {
        assert_has(k->refused_peer, "node");
        assert_serves_the_good(k);
        k->n_handled = 0;
    }
    kit_close_server(k, 0);
    pfl_tls_unref(bad);
}

static const struct row ROWS[] = {
    {"other CA", {0}, true, "not signed by the federation's CA", "unknown CA"},
    {"expired", {.from = 1577836800, .until = 1577836800 + DAY}, false, "expired on 2020-01-02", "certificate expired"},
    {"not yet valid", {.from = 4102444800, .until = 4102444800 + DAY}, false, "not valid before 2100-01-01", "bad certificate"},
    {"no EKU that fits", {.eku = "codeSigning"}, false, "another purpose", "certificate"},
};

static void test_bad_client__each_certificate__refused_with_its_reason(void **state)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++)
        check_row(*state, &ROWS[i], true);
    static const struct row SERVER_ONLY = {
        "serverAuth only", {.eku = "serverAuth"}, false, "clientAuth is needed", "unsupported certificate"};
    check_row(*state, &SERVER_ONLY, true);
}

static void test_bad_server__each_certificate__refused_with_its_reason(void **state)
{
    static const struct row MORE[] = {
        {"other host", {.san = "IP:192.0.2.1,DNS:else.example"}, false, "not '127.0.0.1'", "certificate"},
        {"clientAuth only", {.eku = "clientAuth"}, false, "serverAuth is needed", "unsupported certificate"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++)
        check_row(*state, &ROWS[i], false);
    for (size_t i = 0; i < PFL_ARRAY_LEN(MORE); i++)
        check_row(*state, &MORE[i], false);
}

static void test_check_peer__false__refused_before_any_call(void **state)
{
    struct kit *k = *state;
    k->refuse_peer = "the address belongs to somebody else";
    kit_serve(k, "127.0.0.1:0", k->tls);
    struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), k->tls);
    kit_call(k, ch, "/t.T/echo", "x", 1, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_UNAUTHENTICATED);
    assert_string_equal(k->status.message, "the address belongs to somebody else");
    assert_int_equal(k->n_up, 0);
    assert_int_equal(k->n_handled, 0);
    kit_close_channel(k, ch);
}

static void test_unix_target__host_is_not_checked__chain_is(void **state)
{
    struct kit *k = *state;
    char address[300];
    snprintf(address, sizeof address, "unix://%s/s.sock", k->dir);
    struct pfl_tls *elsewhere = kit_tls(k, &(struct kit_cert){.san = "DNS:else.example"}, NULL, false);
    struct pfl_tls *foreign = kit_tls(k, &(struct kit_cert){.issuer = &k->other_ca}, NULL, false);
    kit_serve(k, address, elsewhere);
    struct pfl_rpc_channel *ch = kit_channel(k, address, k->tls);
    kit_call(k, ch, "/t.T/echo", "x", 1, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_close_channel(k, ch);
    kit_close_server(k, 0);
    kit_serve(k, address, foreign);
    ch = kit_channel(k, address, k->tls);
    kit_call(k, ch, "/t.T/echo", "x", 1, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_UNAUTHENTICATED);
    kit_close_channel(k, ch);
    pfl_tls_unref(elsewhere);
    pfl_tls_unref(foreign);
}

/* ---- what is not TLS ---- */

static void say_and_wait(struct kit *k, const void *data, size_t len, char *answer, size_t answer_size)
{
    unsigned refused = k->n_refused;
    int fd = kit_connect(k);
    assert_int_equal(write(fd, data, len), len);
    kit_until(k, &k->n_refused, refused + 1);
    struct timeval tv = {.tv_usec = 200000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    ssize_t n = read(fd, answer, answer_size - 1);
    answer[n > 0 ? n : 0] = '\0';
    close(fd);
    kit_run_for(k, 20 * PFL_MS);
}

static void test_not_tls__each_is_named(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *reason, *answer;
    } WORDS[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, "not TLS: the first bytes look like plain HTTP/1", "HTTP/1.1 400 "},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, "not TLS: the first bytes look like plain HTTP/2 (gRPC without TLS)", ""},
        {"hello, is there anybody?\n", 25, "not TLS: the first bytes are 'hello, is there", ""},
        {"\0\1\2\3\4\5\6\7\0\1\2\3", 12, "not TLS: the first bytes are '\\x00\\x01", ""},
    };
    struct kit *k = *state;
    char answer[512];
    kit_serve(k, "127.0.0.1:0", k->tls);
    for (size_t i = 0; i < PFL_ARRAY_LEN(WORDS); i++) {
        say_and_wait(k, WORDS[i].bytes, WORDS[i].len, answer, sizeof answer);
        assert_has(k->refused_reason, WORDS[i].reason);
        assert_string_equal(k->refused_peer, k->refused_remote);
        assert_has(answer, WORDS[i].answer);
    }
    assert_serves_the_good(k);
}

static void test_connect_and_close__the_reason_says_so(void **state)
{
    struct kit *k = *state;
    kit_serve(k, "127.0.0.1:0", k->tls);
    close(kit_connect(k));
    kit_until(k, &k->n_refused, 1);
    assert_string_equal(k->refused_reason, "the peer closed the connection during the TLS handshake");
    assert_serves_the_good(k);
}

static void test_connect_and_be_silent__handshake_times_out(void **state)
{
    struct kit *k = *state;
    k->handshake_timeout = 100 * PFL_MS;
    kit_serve(k, "127.0.0.1:0", k->tls);
    int fd = kit_connect(k);
    pfl_ns from = pfl_clock_mono();
    kit_until(k, &k->n_refused, 1);
    assert_true(pfl_clock_mono() - from >= 90 * PFL_MS);
    assert_string_equal(k->refused_reason, "the TLS handshake did not end in time");
    assert_serves_the_good(k);
    close(fd);
}

static void test_limits__too_many_connections__the_next_is_refused(void **state)
{
    struct kit *k = *state;
    k->connections_max = 2;
    kit_serve(k, "127.0.0.1:0", k->tls);
    struct pfl_rpc_channel *a = kit_channel(k, pfl_rpc_server_address(k->server), k->tls);
    kit_call(k, a, "/t.T/empty", "", 0, PFL_SEC);
    int second = kit_connect(k), third = kit_connect(k);
    kit_until(k, &k->n_refused, 1);
    assert_string_equal(k->refused_reason, "too many connections to this node");
    close(second);
    close(third);
    kit_until(k, &k->n_refused, 2);
    kit_run_for(k, 20 * PFL_MS);
    assert_serves_the_good(k);
    kit_close_channel(k, a);
}

/* ---- raw OpenSSL as the other side, in a thread with a blocking socket ---- */

struct raw {
    int fd;
    bool is_server, with_cert, no_alpn;
    int version_max;
    const char *alpn; /* NULL: h2 */
    struct test_cert cert;
    char outcome[256];
};

static int alpn_any(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len,
                    void *arg)
{
    (void)ssl;
    (void)arg;
    *out = in + 1;
    *out_len = in_len > 0 ? in[0] : 0;
    return SSL_TLSEXT_ERR_OK;
}

static void *raw_run(void *arg)
{
    struct raw *r = arg;
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, r->version_max);
    SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
    if (r->with_cert) {
        SSL_CTX_use_certificate(ctx, r->cert.cert);
        SSL_CTX_use_PrivateKey(ctx, r->cert.key);
    }
    SSL_CTX_set_alpn_select_cb(ctx, alpn_any, NULL);
    int fd = r->fd;
    if (r->is_server)
        fd = accept(r->fd, NULL, NULL);
    SSL *ssl = SSL_new(ctx);
    if (!r->is_server && !r->no_alpn)
        SSL_set_alpn_protos(ssl, (const unsigned char *)(r->alpn ? r->alpn : "\x02h2"), r->alpn ? (unsigned)strlen(r->alpn) : 3);
    SSL_set_fd(ssl, fd);
    char byte;
    int rv = r->is_server ? SSL_accept(ssl) : SSL_connect(ssl);
    if (rv == 1)
        rv = SSL_read(ssl, &byte, 1);
    ERR_error_string_n(ERR_peek_error(), r->outcome, sizeof r->outcome);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    return NULL;
}

static void check_raw_client(struct kit *k, struct raw *r, const char *reason, const char *hears)
{
    pthread_t thread;
    unsigned refused = k->n_refused;
    r->fd = kit_connect(k);
    assert_int_equal(pthread_create(&thread, NULL, raw_run, r), 0);
    kit_until(k, &k->n_refused, refused + 1);
    kit_run_for(k, 100 * PFL_MS);
    pthread_join(thread, NULL);
    assert_has(k->refused_reason, reason);
    assert_has(r->outcome, hears);
}

static void test_raw_client__no_certificate_old_tls_no_alpn__refused(void **state)
{
    struct kit *k = *state;
    static const char *const EXTS[] = {"subjectAltName=IP:127.0.0.1", NULL};
    struct test_cert good = test_cert_make(&(struct test_cert_spec){.cn = "raw", .exts = EXTS}, &k->ca);
    kit_serve(k, "127.0.0.1:0", k->tls);
    check_raw_client(k, &(struct raw){.version_max = TLS1_3_VERSION}, "no client certificate", "certificate required");
    check_raw_client(k, &(struct raw){.version_max = TLS1_1_VERSION},
                     "TLS version too old: the peer offers TLS 1.1, TLS 1.3 is needed", "protocol version");
    check_raw_client(k, &(struct raw){.version_max = TLS1_2_VERSION},
                     "TLS version too old: the peer offers TLS 1.2, TLS 1.3 is needed", "protocol version");
    check_raw_client(k, &(struct raw){.version_max = TLS1_3_VERSION, .no_alpn = true, .with_cert = true, .cert = good},
                     "no ALPN in its TLS hello", "no application protocol");
    check_raw_client(k, &(struct raw){.version_max = TLS1_3_VERSION, .alpn = "\x08http/1.1", .with_cert = true, .cert = good},
                     "its TLS hello offers 'http/1.1' by ALPN", "no application protocol");
    assert_serves_the_good(k);
    test_cert_free(&good);
}

static void test_tls12__refused_unless_allowed(void **state)
{
    struct kit *k = *state;
    static const char *const EXTS[] = {"subjectAltName=IP:127.0.0.1", NULL};
    struct test_cert good = test_cert_make(&(struct test_cert_spec){.cn = "raw", .exts = EXTS}, &k->ca);
    struct pfl_tls *both = kit_tls(k, NULL, NULL, true);
    kit_serve(k, "127.0.0.1:0", both);
    struct raw r = {.version_max = TLS1_2_VERSION, .with_cert = true, .cert = good};
    pthread_t thread;
    r.fd = kit_connect(k);
    assert_int_equal(pthread_create(&thread, NULL, raw_run, &r), 0);
    kit_run_for(k, 300 * PFL_MS);
    pthread_join(thread, NULL);
    assert_has(r.outcome, "error:00000000"); /* it read a byte of our SETTINGS: none */
    check_raw_client(k, &(struct raw){.version_max = TLS1_2_VERSION}, "no client certificate", "handshake failure");
    test_cert_free(&good);
    pfl_tls_unref(both);
}

static void check_raw_server(struct kit *k, struct raw *r, const char *reason)
{
    pthread_t thread;
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    char target[64];
    unsigned down = k->n_down;
    r->is_server = true;
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(listen(r->fd, 4), 0);
    getsockname(r->fd, (void *)&sa, &len);
    const uint8_t *p = (const uint8_t *)&sa + 2;
    snprintf(target, sizeof target, "127.0.0.1:%u", (unsigned)p[0] << 8 | p[1]);
    assert_int_equal(pthread_create(&thread, NULL, raw_run, r), 0);
    struct pfl_rpc_channel *ch = kit_channel(k, target, k->tls);
    kit_call(k, ch, "/t.T/echo", "x", 1, 5 * PFL_SEC);
    kit_until(k, &k->n_down, down + 1);
    kit_close_channel(k, ch);
    pthread_join(thread, NULL);
    close(r->fd);
    assert_has(k->down_reason, reason);
    assert_int_not_equal(k->status.code, PFL_GRPC_OK);
}

static void test_raw_server__old_tls_or_no_http2__refused(void **state)
{
    struct kit *k = *state;
    static const char *const EXTS[] = {"subjectAltName=IP:127.0.0.1", NULL};
    struct test_cert good = test_cert_make(&(struct test_cert_spec){.cn = "raw", .exts = EXTS}, &k->ca);
    check_raw_server(k, &(struct raw){.version_max = TLS1_1_VERSION, .with_cert = true, .cert = good},
                     "the peer speaks no TLS version that is allowed here (1.3)");
    check_raw_server(k, &(struct raw){.version_max = TLS1_2_VERSION, .with_cert = true, .cert = good},
                     "the peer speaks no TLS version that is allowed here (1.3)");
    test_cert_free(&good);
}

/* ---- own files ---- */

static void test_context__missing_mismatched_or_open_files__no_context(void **state)
{
    struct kit *k = *state;
    char ca[200], crt[200], key[200], other[200];
    struct pfl_err err = {0};
    struct pfl_tls *tls = NULL;
    pfl_tls_unref(kit_tls(k, NULL, NULL, false)); /* for its files */
    unsigned n = 1;
    do
        snprintf(crt, sizeof crt, "%s/node%u.crt", k->dir, n);
    while (access(crt, R_OK) != 0 && n++ < 1000);
    snprintf(ca, sizeof ca, "%s/node%u-ca.crt", k->dir, n);
    snprintf(key, sizeof key, "%s/node%u.key", k->dir, n);
    snprintf(other, sizeof other, "%s/node%u.key", k->dir, n + 1);
    struct pfl_tls_files files = {.ca_crt = ca, .server_crt = crt, .server_key = key, .client_crt = crt, .client_key = key};
    files.ca_crt = "/nonexistent/ca.crt";
    assert_int_equal(pfl_tls_new(&files, &tls, &err), PFL_NOT_FOUND);
    assert_has(err.msg, "/nonexistent/ca.crt");
    files.ca_crt = NULL;
    assert_int_equal(pfl_tls_new(&files, &tls, &err), PFL_INVALID);
    assert_has(err.msg, "ca_crt");
    files.ca_crt = ca;
    files.client_key = other;
    assert_int_equal(pfl_tls_new(&files, &tls, &err), PFL_AUTH);
    assert_has(err.msg, "does not belong to the certificate");
    files.client_key = key;
    assert_int_equal(chmod(key, 0640), 0);
    assert_int_equal(pfl_tls_new(&files, &tls, &err), PFL_AUTH);
    assert_has(err.msg, "chmod");
    assert_int_equal(chmod(key, 0600), 0);
    assert_int_equal(pfl_tls_new(&files, &tls, &err), PFL_OK);
    pfl_tls_unref(tls);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, kit_set_up, kit_tear_down)
    const struct CMUnitTest tests[] = {
        T(test_bad_client__each_certificate__refused_with_its_reason),
        T(test_bad_server__each_certificate__refused_with_its_reason),
        T(test_check_peer__false__refused_before_any_call),
        T(test_unix_target__host_is_not_checked__chain_is),
        T(test_not_tls__each_is_named),
        T(test_connect_and_close__the_reason_says_so),
        T(test_connect_and_be_silent__handshake_times_out),
        T(test_limits__too_many_connections__the_next_is_refused),
        T(test_raw_client__no_certificate_old_tls_no_alpn__refused),
        T(test_tls12__refused_unless_allowed),
        T(test_raw_server__old_tls_or_no_http2__refused),
        T(test_context__missing_mismatched_or_open_files__no_context),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
