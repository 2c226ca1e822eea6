/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
/* timeout: 120 */
/* Signing as the CA's service does it: within a transaction of its own, while other processes change the CA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "base/fs.h"
#include "pki/ca.h"
#include "pki/ca_admin.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/identity.h"
#include "pki/key.h"
#include "support/certs.h"

struct world {
    char *dir, *ca_dir;
    struct pfl_ca *ca;
    struct pfl_csr *csr;
    struct pfl_grant grant;
};

static void must(enum pfl_rc rc, const struct pfl_err *err)
{
    if (rc != PFL_OK)
        fail_msg("%s", err->msg);
}

static struct pfl_csr *make_csr(const char *cn, const char *san, const char *purpose)
{
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {0};
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs sans = {0};
    struct pfl_csr *csr = NULL;
    struct pfl_err err = {0};
    if (san)
        pfl_strs_add(&sans, san);
    must(pfl_key_generate("p256", &key, &err), &err);
    must(pfl_csr_make(cn, &sans, purpose, key, &der, &err), &err);
    must(pfl_csr_parse(pfl_buf_view(&der), &csr, &err), &err);
    return csr;
}

static int set_up(void **state)
{
    struct world *w = pfl_xcalloc(1, sizeof *w);
    struct pfl_err err = {0};
    w->dir = test_dir_new();
    w->ca_dir = pfl_fs_join(w->dir, "ca");
    must(pfl_ca_init(w->ca_dir, &(struct pfl_ca_opts){.federation = "lab"}, NULL, &err), &err);
    must(pfl_ca_open(w->ca_dir, NULL, &w->ca, &err), &err);
    w->csr = make_csr("n", "DNS:n.example", "serverAuth");
    w->grant = (struct pfl_grant){
        .name = "n", .role = "node", .purpose = "serverAuth", .actor = "token 1", .action = "enrol", .token_id = 1};
    pfl_strs_add(&w->grant.sans, "DNS:n.example");
    pfl_strs_add(&w->grant.sans, "IP:127.0.0.1");
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    pfl_ca_close(w->ca);
    pfl_csr_free(w->csr);
    pfl_strs_deinit(&w->grant.sans);
    test_dir_free(w->dir);
    free(w->ca_dir);
    free(w);
    return 0;
}

static bool count_row(void *user, const struct pfl_cert_row *row)
{
    (void)row;
    *(size_t *)user += 1;
    return true;
}

static size_t count(const struct pfl_ca *ca)
{
    size_t n = 0;
    assert_int_equal(pfl_register_each(pfl_ca_register(ca), NULL, count_row, &n, NULL), PFL_OK);
    return n;
}

static void test_csr_make__read_again__as_asked(void **state)
{
    const struct world *w = *state;
    assert_string_equal(pfl_csr_common_name(w->csr), "n");
    assert_int_equal(pfl_csr_sans(w->csr)->n, 1);
    assert_string_equal(pfl_csr_sans(w->csr)->items[0], "DNS:n.example");
    assert_string_equal(pfl_csr_purposes(w->csr)->items[0], "serverAuth");
    assert_false(pfl_csr_asks_ca(w->csr));
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *ca = make_csr("x CA", NULL, "ca");
    assert_true(pfl_csr_asks_ca(ca));
    assert_int_equal(pfl_csr_sans(ca)->n, 0);
}

static void test_ca_sign__bad_grants__refused(void **state)
{
    const struct world *w = *state;
    struct pfl_strs none = {0}, bad = {0};
    pfl_strs_add(&bad, "URI:spiffe://lab/node/m");
    const struct {
        const char *name, *role, *purpose;
        const struct pfl_strs *sans;
        int64_t lifetime_s;
        const char *wanted;
    } rows[] = {
        {"N", "node", "serverAuth", &w->grant.sans, 0, "name 'N'"},
        {"n", "root", "serverAuth", &w->grant.sans, 0, "role 'root'"},
        {"n", "node", "codeSigning", &w->grant.sans, 0, "purpose 'codeSigning'"},
        {"n", "node", "serverAuth", &none, 0, "no subject alternative name"},
        {"n", "node", "serverAuth", &w->grant.sans, -1, "a lifetime of -1"},
        {"n", "node", "serverAuth", &w->grant.sans, INT64_MAX, "a lifetime of"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_grant g = w->grant;
        struct pfl_err err = {0};
        X509 *cert = NULL;
        g.name = rows[i].name;
        g.role = rows[i].role;
        g.purpose = rows[i].purpose;
        g.sans = *rows[i].sans;
        g.lifetime_s = rows[i].lifetime_s;
        assert_int_equal(pfl_ca_sign(w->ca, w->csr, &g, &cert, &err), PFL_INVALID);
        if (!strstr(err.msg, rows[i].wanted))
            fail_msg("'%s', wanted '%s'", err.msg, rows[i].wanted);
        assert_null(cert);
    }
    struct pfl_grant g = w->grant;
    X509 *cert = NULL;
    g.sans = bad;
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *plain = make_csr("n", NULL, NULL);
    assert_int_equal(pfl_ca_sign(w->ca, plain, &g, &cert, NULL), PFL_INVALID); /* a grant cannot name another's SPIFFE ID */
    assert_int_equal(count(w->ca), 1);
    pfl_strs_deinit(&bad);
}

static void test_ca_sign__role_of_the_grant__not_of_the_request(void **state)
{
    const struct world *w = *state;
    struct pfl_err err = {0};
    X509 *cert = NULL;
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *csr = make_csr("n", "URI:spiffe://lab/coordinator/n", NULL);
    assert_int_equal(pfl_ca_sign(w->ca, csr, &w->grant, &cert, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "URI:spiffe://lab/coordinator/n"));
    assert_null(cert);
}

static void test_ca_sign__in_the_callers_transaction__rolled_back_with_it(void **state)
{
    const struct world *w = *state;
    struct pfl_register *reg = pfl_ca_register(w->ca);
    struct pfl_err err = {0};
    PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
    must(pfl_register_begin(reg, &err), &err);
    must(pfl_ca_sign(w->ca, w->csr, &w->grant, &cert, &err), &err);
    assert_true(pfl_register_in_transaction(reg));
    pfl_register_rollback(reg);
    assert_int_equal(count(w->ca), 1);
    struct pfl_audit_report report;
    must(pfl_ca_audit_verify(reg, NULL, &report, &err), &err);
    assert_int_equal(report.n, 2);
}

static void test_ca_sign__both_purposes__for_clients_that_want_one(void **state)
{
    struct world *w = *state;
    struct pfl_err err = {0};
    PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
    struct pfl_grant g = w->grant;
    g.purpose = "serverAuth,clientAuth";
    must(pfl_ca_sign(w->ca, w->csr, &g, &cert, &err), &err);
    PFL_AUTO(pfl_cert_info_deinit) struct pfl_cert_info info = {0};
    pfl_cert_info_of(cert, &info);
    assert_int_equal(info.purposes.n, 2);
}

static void test_ca_sign__short_lifetime__begins_a_tenth_earlier(void **state)
{
    struct world *w = *state;
    static const struct {
        int64_t lifetime_s, backdate_s;
    } ROWS[] = {{10, 1}, {600, 60}, {3000, 300}, {86400, 300}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_err err = {0};
        PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
        struct pfl_grant g = w->grant;
        g.now = pfl_cert_not_before(pfl_ca_root(w->ca)) + 100000;
        g.lifetime_s = ROWS[i].lifetime_s;
        must(pfl_ca_sign(w->ca, w->csr, &g, &cert, &err), &err);
        assert_int_equal(pfl_cert_not_before(cert), g.now - ROWS[i].backdate_s);
        assert_int_equal(pfl_cert_not_after(cert), g.now + ROWS[i].lifetime_s);
    }
}

static void test_ca_sign__another_process_rolled_over__signs_with_the_new_root(void **state)
{
    struct world *w = *state;
    struct pfl_ca *other = NULL;
    struct pfl_err err = {0};
    PFL_AUTO(pfl_x509_freep) X509 *before = NULL;
    PFL_AUTO(pfl_x509_freep) X509 *after = NULL;
    X509 *old_root = pfl_ca_root(w->ca);
    STACK_OF(X509) *old_bundle = pfl_ca_bundle(w->ca);
    must(pfl_ca_sign(w->ca, w->csr, &w->grant, &before, &err), &err);
    must(pfl_ca_open(w->ca_dir, NULL, &other, &err), &err);
    must(pfl_ca_rollover_prepare(other, &(struct pfl_ca_opts){0}, "operator test", &err), &err);
    must(pfl_ca_rollover_activate(other, "operator test", &err), &err);
    pfl_ca_close(other);
    must(pfl_ca_sign(w->ca, w->csr, &w->grant, &after, &err), &err);
    assert_int_equal(X509_verify(before, X509_get0_pubkey(old_root)), 1);
    assert_int_equal(X509_verify(after, X509_get0_pubkey(old_root)), 0);
    assert_int_equal(X509_verify(after, X509_get0_pubkey(pfl_ca_root(w->ca))), 1);
    assert_int_equal(pfl_x509s_n(pfl_ca_bundle(w->ca)), 2);
    assert_int_equal(pfl_x509s_n(old_bundle), 1); /* what was borrowed before is still good */
}

static void test_ca_revoke__another_process_issued__list_has_all(void **state)
{
    struct world *w = *state;
    struct pfl_ca *other = NULL;
    struct pfl_err err = {0};
    size_t n = 0;
    PFL_AUTO(pfl_x509_freep) X509 *a = NULL;
    PFL_AUTO(pfl_x509_freep) X509 *b = NULL;
    must(pfl_ca_open(w->ca_dir, NULL, &other, &err), &err);
    must(pfl_ca_sign(other, w->csr, &w->grant, &a, &err), &err);
    must(pfl_ca_sign(w->ca, w->csr, &w->grant, &b, &err), &err);
    must(pfl_ca_revoke(other, "n", "keyCompromise", "operator test", &n, &err), &err);
    assert_int_equal(n, 2);
    assert_int_equal(pfl_ca_revoke(w->ca, "n", "keyCompromise", "operator test", &n, &err), PFL_STATE);
    assert_int_equal(pfl_ca_revoke(w->ca, "n", "because", "operator test", &n, &err), PFL_INVALID);
    assert_int_equal(pfl_ca_make_crl(w->ca, -1, "operator test", &err), PFL_INVALID);
    pfl_ca_close(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_csr_make__read_again__as_asked),
        TEST(test_ca_sign__bad_grants__refused),
        TEST(test_ca_sign__role_of_the_grant__not_of_the_request),
        TEST(test_ca_sign__in_the_callers_transaction__rolled_back_with_it),
        TEST(test_ca_sign__both_purposes__for_clients_that_want_one),
        TEST(test_ca_sign__short_lifetime__begins_a_tenth_earlier),
        TEST(test_ca_sign__another_process_rolled_over__signs_with_the_new_root),
        TEST(test_ca_revoke__another_process_issued__list_has_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
