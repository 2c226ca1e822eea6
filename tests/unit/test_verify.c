/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pki/verify.h"
#include "support/certs.h"

/* A federation: one root in ca.crt, a time. */
static const int64_t NOW = 1800000000; /* 2027-01-15 08:00:00 UTC */
static const char *const ROOT_EXTS[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
                                        "subjectKeyIdentifier=hash", "subjectAltName=URI:spiffe://lab", NULL};
static const char *const LEAF_EXTS[] = {"basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
                                        "authorityKeyIdentifier=keyid", "subjectAltName=IP:127.0.0.1,DNS:a.example", NULL};
static const char *const SAN_ONLY[] = {"subjectAltName=IP:127.0.0.1", NULL};
static const char *const CA_ONLY[] = {"basicConstraints=CA:TRUE", NULL};

struct world {
    char *dir, *ca_crt;
    struct test_cert root;
    struct pfl_trust *trust;
};

static char *write_roots(const struct world *w, const char *name, X509 *const *certs)
{
    char *path = pfl_fs_join(w->dir, name);
    test_certs_write(path, certs);
    return path;
}

static struct pfl_trust *trust_of(const struct world *w, const char *name, X509 *a, X509 *b)
{
    struct pfl_trust *trust = NULL;
    struct pfl_err err = {0};
    X509 *certs[] = {a, b, NULL};
    char *path = write_roots(w, name, certs);
    if (pfl_trust_load(path, &trust, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    free(path);
    return trust;
}

static int set_up(void **state)
{
    struct world *w = pfl_xcalloc(1, sizeof *w);
    w->dir = test_dir_new();
    w->root = test_cert_make(&(struct test_cert_spec){.cn = "lab CA", .exts = ROOT_EXTS}, NULL);
    w->trust = trust_of(w, "ca.crt", w->root.cert, NULL);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    pfl_trust_unref(w->trust);
    test_cert_free(&w->root);
    test_dir_free(w->dir);
    free(w);
    return 0;
}

static void expect_by(const struct pfl_trust *trust, X509 *leaf, STACK_OF(X509) * sent, const struct pfl_verify_opts *opts,
                      const char *wanted, const char *row)
{
    struct pfl_err err = {0};
    struct pfl_verify_opts o = *opts;
    o.now = o.now ? o.now : NOW;
    enum pfl_rc rc = pfl_verify_x509(trust, leaf, sent, &o, &err);
    if (rc != (wanted ? PFL_AUTH : PFL_OK) || (wanted && !strstr(err.msg, wanted)))
        fail_msg("%s: rc %d, '%s', wanted '%s'", row, (int)rc, err.msg, wanted ? wanted : "yes");
    assert_int_equal(ERR_peek_error(), 0);
}

static const struct pfl_verify_opts SERVER = {.purpose = PFL_PURPOSE_SERVER, .host = "127.0.0.1"};

static void test_verify__one_thing_wrong__refused_with_its_reason(void **state)
{
    static const struct {
        const char *row;
        const char *exts[6]; /* NULL first: LEAF_EXTS */
        const char *key;
        const EVP_MD *(*md)(void);
        int64_t from, until;
        const char *wanted;
    } ROWS[] = {
        {"no names", {"keyUsage=digitalSignature"}, .wanted = "no subject alternative name"},
        {"other host", {"subjectAltName=IP:127.0.0.2"}, .wanted = "covers IP:127.0.0.2, not '127.0.0.1'"},
        {"client only",
         {"subjectAltName=IP:127.0.0.1", "extendedKeyUsage=clientAuth"},
         .wanted = "extended key usage is clientAuth, serverAuth is needed"},
        {"mail only", {"subjectAltName=IP:127.0.0.1", "extendedKeyUsage=emailProtection"}, .wanted = "serverAuth is needed"},
        {"no signing",
         {"subjectAltName=IP:127.0.0.1", "keyUsage=keyEncipherment"},
         .wanted = "key usage is keyEncipherment, digitalSignature is needed"},
        {"a CA", {"basicConstraints=CA:TRUE", "subjectAltName=IP:127.0.0.1"}, .wanted = "is a CA certificate"},
        {"a CA by name only",
         {"basicConstraints=CA:TRUE", "keyUsage=digitalSignature", "subjectAltName=IP:127.0.0.1"},
         .wanted = "is a CA certificate"},
        {"signs certificates",
         {"keyUsage=digitalSignature,keyCertSign", "subjectAltName=IP:127.0.0.1"},
         .wanted = "is a CA certificate"},
        {"unknown critical", {"subjectAltName=IP:127.0.0.1", "1.2.3.4=critical,DER:0500"}, .wanted = "critical"},
        {"other federation",
         {"subjectAltName=IP:127.0.0.1,URI:spiffe://other/node/a"},
         .wanted = "federation 'other', its root is for federation 'lab'"},
        {"two SPIFFE IDs",
         {"subjectAltName=IP:127.0.0.1,URI:spiffe://lab/node/a,URI:spiffe://lab/node/b"},
         .wanted = "more than one SPIFFE ID"},
        {"expired", .until = 1799999999, .wanted = "expired on 2027-01-15 07:59:59 UTC (now 2027-01-15 08:00:00 UTC)"},
        {"too early", .from = 1800000000 + 7201,
         .wanted = "not valid before 2027-01-15 10:00:01 UTC (now 2027-01-15 08:00:00 UTC)"},
        {"clock an hour slow", .from = 1800000000 + 3600,
         .wanted = "not valid before 2027-01-15 09:00:00 UTC; this machine's clock says 2027-01-15 08:00:00 UTC: is it right?"},
        {"clock an hour fast", .until = 1800000000 - 3600, .wanted = "issue a new one, or set this machine's clock if it is fast"},
        {"long gone", .until = 1800000000 - 864000, .wanted = "(now 2027-01-15 08:00:00 UTC): issue a new one"},
        {"RSA 1024", .key = "rsa:1024", .wanted = "RSA key of 1024 bits, at least 2048 needed"},
        {"EC 224", .key = "p224", .wanted = "EC key of 224 bits, at least 256 needed"},
        {"SHA-1", .md = EVP_sha1, .wanted = "signed with SHA-1"},
        {"SHA-224", .md = EVP_sha224, .wanted = "SHA-256 or better"},
    };
    const struct world *w = *state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct test_cert_spec spec = {.cn = "a", .key = ROWS[i].key, .from = ROWS[i].from, .until = ROWS[i].until};
        spec.exts = ROWS[i].exts[0] ? ROWS[i].exts : LEAF_EXTS;
        spec.md = ROWS[i].md ? ROWS[i].md() : NULL;
        struct test_cert leaf = test_cert_make(&spec, &w->root);
        expect_by(w->trust, leaf.cert, NULL, &SERVER, ROWS[i].wanted, ROWS[i].row);
        test_cert_free(&leaf);
        /* under the CA's own name and without key identifiers it takes the other road, to the same reason */
        spec.cn = "lab CA";
        spec.exts = ROWS[i].exts[0] ? ROWS[i].exts : SAN_ONLY;
        leaf = test_cert_make(&spec, &w->root);
        expect_by(w->trust, leaf.cert, NULL, &SERVER, ROWS[i].wanted, ROWS[i].row);
        test_cert_free(&leaf);
    }
}

static void test_verify__not_from_our_root__refused(void **state)
{
    const struct world *w = *state;
    struct test_cert mallory = test_cert_make(&(struct test_cert_spec){.cn = "Mallory CA", .exts = ROOT_EXTS}, NULL);
    struct test_cert twin = test_cert_make(&(struct test_cert_spec){.cn = "lab CA", .exts = ROOT_EXTS}, NULL);
    struct test_cert by_mallory = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, &mallory);
    struct test_cert by_twin = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, &twin);
    struct test_cert bare_twin = test_cert_make(&(struct test_cert_spec){.cn = "lab CA", .exts = SAN_ONLY}, &twin);
    struct test_cert alone = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = SAN_ONLY}, NULL);
    STACK_OF(X509) *sent = sk_X509_new_null();
    sk_X509_push(sent, by_mallory.cert);
    sk_X509_push(sent, mallory.cert);
    expect_by(w->trust, by_mallory.cert, NULL, &SERVER, "issued by 'CN=Mallory CA', trusted is 'CN=lab CA'", "other CA");
    expect_by(w->trust, by_mallory.cert, sent, &SERVER, "not signed by the federation's CA", "other CA, sent along");
    expect_by(w->trust, by_twin.cert, NULL, &SERVER, "another CA of the same name 'CN=lab CA'", "same name");
    expect_by(w->trust, bare_twin.cert, NULL, &SERVER, "signature does not verify", "same name for all");
    expect_by(w->trust, alone.cert, NULL, &SERVER, "self-signed by 'CN=a'", "self-signed");
    expect_by(w->trust, mallory.cert, NULL, &SERVER, "self-signed by 'CN=Mallory CA'", "other root");
    expect_by(w->trust, w->root.cert, NULL, &SERVER, "is a CA certificate", "our root");
    sk_X509_free(sent);
    struct test_cert *all[] = {&mallory, &twin, &by_mallory, &by_twin, &bare_twin, &alone};
    for (size_t i = 0; i < PFL_ARRAY_LEN(all); i++)
        test_cert_free(all[i]);
}

static void test_verify__leaf_used_as_ca__refused(void **state)
{
    const struct world *w = *state;
    for (int restricted = 0; restricted < 2; restricted++) { /* OpenSSL takes two ways here */
        struct test_cert node =
            test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = restricted ? LEAF_EXTS : SAN_ONLY}, &w->root);
        struct test_cert fake = test_cert_make(&(struct test_cert_spec){.cn = "b", .exts = SAN_ONLY}, &node);
        STACK_OF(X509) *sent = sk_X509_new_null();
        sk_X509_push(sent, fake.cert);
        sk_X509_push(sent, node.cert);
        expect_by(w->trust, fake.cert, sent, &SERVER, "issued by 'CN=a', which is not a CA", "with its issuer");
        expect_by(w->trust, fake.cert, NULL, &SERVER, "not signed by the federation's CA", "alone");
        sk_X509_free(sent);
        test_cert_free(&node);
        test_cert_free(&fake);
    }
}

static void test_verify__altered_after_signing__refused(void **state)
{
    const struct world *w = *state;
    for (int same_name = 0; same_name < 2; same_name++) {
        struct test_cert_spec spec = {.cn = same_name ? "lab CA" : "a", .exts = same_name ? SAN_ONLY : LEAF_EXTS};
        struct test_cert leaf = test_cert_make(&spec, &w->root);
        unsigned char *der = NULL;
        int len = i2d_X509(leaf.cert, &der);
        for (int i = 0; i + 4 <= len; i++)
            if (memcmp(der + i, "\x7f\0\0\1", 4) == 0)
                der[i + 3] = 2; /* 127.0.0.2 */
        const unsigned char *at = der;
        X509 *altered = d2i_X509(NULL, &at, len);
        assert_non_null(altered);
        expect_by(w->trust, leaf.cert, NULL, &SERVER, NULL, "unaltered");
        expect_by(w->trust, altered, NULL, &(struct pfl_verify_opts){.host = "127.0.0.2"}, "signature does not verify", "altered");
        X509_free(altered);
        OPENSSL_free(der);
        test_cert_free(&leaf);
    }
}

/* n CAs between root and leaf. */
static void check_depth(const struct world *w, int n, const char *wanted)
{
    struct test_cert ca[4] = {0};
    STACK_OF(X509) *sent = sk_X509_new_null();
    const struct test_cert *issuer = &w->root;
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "middle %d", i);
        ca[i] = test_cert_make(&(struct test_cert_spec){.cn = name, .exts = ROOT_EXTS}, issuer);
        sk_X509_push(sent, ca[i].cert);
        issuer = &ca[i];
    }
    struct test_cert leaf = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, issuer);
    expect_by(w->trust, leaf.cert, sent, &SERVER, wanted, "depth");
    sk_X509_free(sent);
    test_cert_free(&leaf);
    for (int i = 0; i < n; i++)
        test_cert_free(&ca[i]);
}

static void test_verify__chain__at_most_four_certificates(void **state)
{
    check_depth(*state, 3, "chain is too long");
    check_depth(*state, 2, NULL);
    check_depth(*state, 1, NULL);
}

static void test_verify__flood_of_certificates__refused(void **state)
{
    const struct world *w = *state;
    struct test_cert leaf = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, &w->root);
    STACK_OF(X509) *sent = sk_X509_new_null();
    for (int i = 0; i < 9; i++)
        sk_X509_push(sent, leaf.cert);
    expect_by(w->trust, leaf.cert, sent, &SERVER, "9 certificates were sent along, the limit is 8", "nine");
    sk_X509_pop(sent);
    expect_by(w->trust, leaf.cert, sent, &SERVER, NULL, "eight");
    sk_X509_free(sent);
    test_cert_free(&leaf);
}

static void test_verify__weak_or_expired_issuer__named(void **state)
{
    const struct world *w = *state;
    struct test_cert middle =
        test_cert_make(&(struct test_cert_spec){.cn = "middle", .exts = ROOT_EXTS, .until = NOW - 1}, &w->root);
    struct test_cert leaf = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, &middle);
    struct test_cert old = test_cert_make(&(struct test_cert_spec){.cn = "old CA", .exts = ROOT_EXTS, .until = NOW - 1}, NULL);
    struct test_cert of_old = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, &old);
    struct test_cert like_old = test_cert_make(&(struct test_cert_spec){.cn = "old CA", .exts = SAN_ONLY}, &old);
    struct pfl_trust *trust = trust_of(w, "old.crt", old.cert, NULL);
    STACK_OF(X509) *sent = sk_X509_new_null();
    sk_X509_push(sent, middle.cert);
    expect_by(w->trust, leaf.cert, sent, &SERVER, "the CA certificate 'CN=middle': expired on", "intermediate");
    expect_by(trust, of_old.cert, NULL, &SERVER, "the root certificate 'CN=old CA': expired on", "root");
    expect_by(trust, like_old.cert, NULL, &SERVER, "the root certificate 'CN=old CA': expired on", "root of the same name");
    sk_X509_free(sent);
    pfl_trust_unref(trust);
    struct test_cert *all[] = {&middle, &leaf, &old, &of_old, &like_old};
    for (size_t i = 0; i < PFL_ARRAY_LEN(all); i++)
        test_cert_free(all[i]);
}

static void test_verify__certificates_as_people_make_them__accepted(void **state)
{
    const struct world *w = *state;
    static const struct {
        const char *row, *cn, *key, *exts[6];
        struct pfl_verify_opts opts;
    } ROWS[] = {
        {"server",
         "a",
         NULL,
         {"subjectAltName=IP:127.0.0.1", "extendedKeyUsage=serverAuth"},
         {.purpose = PFL_PURPOSE_SERVER, .host = "127.0.0.1"}},
        {"client", "a", NULL, {"subjectAltName=IP:127.0.0.1", "extendedKeyUsage=clientAuth"}, {.purpose = PFL_PURPOSE_CLIENT}},
        {"any of two", "a", NULL, {"subjectAltName=IP:127.0.0.1", "extendedKeyUsage=clientAuth"}, {.purpose = PFL_PURPOSE_ANY}},
        {"no usages", "a", NULL, {"subjectAltName=DNS:*.a.example"}, {.purpose = PFL_PURPOSE_SERVER, .host = "x.a.example"}},
        {"Ed25519", "a", "ed25519", {"subjectAltName=IP:127.0.0.1"}, {.purpose = PFL_PURPOSE_SERVER, .host = "127.0.0.1"}},
        {"RSA", "a", "rsa:2048", {"subjectAltName=IP:::1"}, {.purpose = PFL_PURPOSE_SERVER, .host = "[::1]"}},
        {"empty subject", NULL, NULL, {"subjectAltName=IP:::1"}, {.purpose = PFL_PURPOSE_CLIENT, .host = "::1"}},
        {"CA's name, no key identifiers",
         "lab CA",
         NULL,
         {"subjectAltName=IP:127.0.0.1"},
         {.purpose = PFL_PURPOSE_SERVER, .host = "127.0.0.1"}},
        {"CA's name, key identifiers",
         "lab CA",
         NULL,
         {"subjectAltName=IP:127.0.0.1", "authorityKeyIdentifier=keyid"},
         {.purpose = PFL_PURPOSE_SERVER, .host = "127.0.0.1"}},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct test_cert_spec spec = {.cn = ROWS[i].cn, .key = ROWS[i].key, .exts = ROWS[i].exts};
        struct test_cert leaf = test_cert_make(&spec, &w->root);
        expect_by(w->trust, leaf.cert, NULL, &ROWS[i].opts, NULL, ROWS[i].row);
        test_cert_free(&leaf);
    }
}

/* RSA everywhere: there OpenSSL's own chain builder takes the leaf for self-signed. */
static void test_verify__rsa_ca_and_leaf_of_one_name__accepted(void **state)
{
    const struct world *w = *state;
    struct test_cert root = test_cert_make(&(struct test_cert_spec){.cn = "one name", .key = "rsa:2048", .exts = CA_ONLY}, NULL);
    struct test_cert leaf = test_cert_make(&(struct test_cert_spec){.cn = "one name", .key = "rsa:2048", .exts = SAN_ONLY}, &root);
    struct test_cert other =
        test_cert_make(&(struct test_cert_spec){.cn = "one name", .key = "rsa:2048", .exts = SAN_ONLY}, &w->root);
    struct test_cert md5 = test_cert_make(&(struct test_cert_spec){.cn = "a", .md = EVP_md5(), .exts = SAN_ONLY}, &root);
    struct pfl_trust *trust = trust_of(w, "rsa.crt", w->root.cert, root.cert);
    expect_by(trust, leaf.cert, NULL, &SERVER, NULL, "two roots");
    expect_by(w->trust, leaf.cert, NULL, &SERVER, "issued by 'CN=one name', trusted is 'CN=lab CA'", "the other root");
    expect_by(trust, other.cert, NULL, &SERVER, NULL, "the first root's");
    expect_by(trust, md5.cert, NULL, &SERVER, "signed with MD5", "MD5");
    pfl_trust_unref(trust);
    test_cert_free(&root);
    test_cert_free(&leaf);
    test_cert_free(&other);
    test_cert_free(&md5);
}

static void test_trust__not_a_root__refused(void **state)
{
    const struct world *w = *state;
    static const char *const NO_SIGN[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,cRLSign", NULL};
    struct test_cert leaf = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, &w->root);
    struct test_cert middle = test_cert_make(&(struct test_cert_spec){.cn = "middle", .exts = ROOT_EXTS}, &w->root);
    struct test_cert alone = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = SAN_ONLY}, NULL);
    struct test_cert weak = test_cert_make(&(struct test_cert_spec){.cn = "weak", .key = "rsa:1024", .exts = ROOT_EXTS}, NULL);
    struct test_cert sha1 = test_cert_make(&(struct test_cert_spec){.cn = "sha1", .md = EVP_sha1(), .exts = ROOT_EXTS}, NULL);
    struct test_cert mute = test_cert_make(&(struct test_cert_spec){.cn = "mute", .exts = NO_SIGN}, NULL);
    const struct {
        struct test_cert c;
        const char *wanted;
    } rows[] = {{leaf, "is not a CA certificate"},  {middle, "is not a root but an intermediate CA"},
                {alone, "is not a CA certificate"}, {weak, "RSA key of 1024 bits"},
                {sha1, "signed with SHA-1"},        {mute, "lacks keyCertSign"}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_trust *trust = NULL;
        struct pfl_err err = {0};
        X509 *certs[] = {w->root.cert, rows[i].c.cert, NULL};
        char *path = write_roots(w, "bad.crt", certs);
        assert_int_equal(pfl_trust_load(path, &trust, &err), PFL_AUTH);
        if (!strstr(err.msg, rows[i].wanted) || !strstr(err.msg, "bad.crt: certificate 2"))
            fail_msg("'%s', wanted '%s'", err.msg, rows[i].wanted);
        free(path);
        X509_free(rows[i].c.cert);
        EVP_PKEY_free(rows[i].c.key);
    }
}

static void test_trust__bad_file__says_which(void **state)
{
    const struct world *w = *state;
    static const struct {
        const char *content;
        enum pfl_rc rc;
        const char *wanted;
    } ROWS[] = {
        {NULL, PFL_NOT_FOUND, "ca-file"},
        {"", PFL_MALFORMED, "no certificate in PEM"},
        {"hello\n", PFL_MALFORMED, "no certificate in PEM"},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", PFL_MALFORMED, "damaged"},
        {"-----BEGIN CERTIFICATE-----\nMIIB", PFL_MALFORMED, "damaged"},
    };
    char *path = pfl_fs_join(w->dir, "ca-file");
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_trust *trust = NULL;
        struct pfl_err err = {0};
        if (ROWS[i].content) {
            struct pfl_bytes content = pfl_bytes_of(ROWS[i].content, strlen(ROWS[i].content));
            assert_int_equal(pfl_fs_write_atomic(path, content, 0644, NULL), PFL_OK);
        }
        assert_int_equal(pfl_trust_load(path, &trust, &err), ROWS[i].rc);
        assert_non_null(strstr(err.msg, ROWS[i].wanted));
        assert_non_null(strstr(err.msg, path));
    }
    free(path);
}

static void test_trust__too_many_or_too_big__refused(void **state)
{
    const struct world *w = *state;
    struct pfl_trust *trust = NULL;
    struct pfl_err err = {0};
    X509 *certs[10] = {0};
    for (size_t i = 0; i < 9; i++)
        certs[i] = w->root.cert;
    char *path = write_roots(w, "many.crt", certs);
    assert_int_equal(pfl_trust_load(path, &trust, &err), PFL_TOO_BIG);
    assert_non_null(strstr(err.msg, "more than 8 certificates"));
    assert_int_equal(truncate(path, 65537), 0);
    assert_int_equal(pfl_trust_load(path, &trust, &err), PFL_TOO_BIG);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verify__one_thing_wrong__refused_with_its_reason),
        cmocka_unit_test(test_verify__not_from_our_root__refused),
        cmocka_unit_test(test_verify__leaf_used_as_ca__refused),
        cmocka_unit_test(test_verify__altered_after_signing__refused),
        cmocka_unit_test(test_verify__chain__at_most_four_certificates),
        cmocka_unit_test(test_verify__flood_of_certificates__refused),
        cmocka_unit_test(test_verify__weak_or_expired_issuer__named),
        cmocka_unit_test(test_verify__certificates_as_people_make_them__accepted),
        cmocka_unit_test(test_verify__rsa_ca_and_leaf_of_one_name__accepted),
        cmocka_unit_test(test_trust__not_a_root__refused),
        cmocka_unit_test(test_trust__bad_file__says_which),
        cmocka_unit_test(test_trust__too_many_or_too_big__refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
