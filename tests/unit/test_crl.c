/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs crls */
/* timeout: 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pki/crl.h"
#include "pki/verify.h"
#include "support/certs.h"
#include "support/crls.h"

static const int64_t NOW = 1800000000; /* 2027-01-15 08:00:00 UTC */
static const int64_t HOUR = 3600;
static const char *const ROOT_EXTS[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
                                        "subjectKeyIdentifier=hash", NULL};
static const char *const NO_CRL_SIGN[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign", NULL};
static const char *const LEAF_EXTS[] = {"basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
                                        "authorityKeyIdentifier=keyid", "subjectAltName=IP:127.0.0.1", NULL};
static const char *const SAN_ONLY[] = {"subjectAltName=IP:127.0.0.1", NULL};

/* One root in ca.crt, an intermediate of it, and two leaves: one of each. */
struct world {
    char *dir;
    struct test_cert root, twin, weak_root, other, intermediate, leaf, deep;
    struct pfl_trust *trust;
    STACK_OF(X509) * chain; /* the intermediate, borrowed */
};

static struct pfl_trust *trust_of(const struct world *w, X509 *const *certs)
{
    struct pfl_trust *trust = NULL;
    struct pfl_err err = {0};
    char *path = pfl_fs_join(w->dir, "ca.crt");
    test_certs_write(path, certs);
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
    w->twin = test_cert_make(&(struct test_cert_spec){.cn = "lab CA", .exts = ROOT_EXTS}, NULL);
    w->weak_root = test_cert_make(&(struct test_cert_spec){.cn = "no crls CA", .exts = NO_CRL_SIGN}, NULL);
    w->other = test_cert_make(&(struct test_cert_spec){.cn = "other CA", .exts = ROOT_EXTS}, NULL);
    w->intermediate = test_cert_make(&(struct test_cert_spec){.cn = "lab online CA", .exts = ROOT_EXTS}, &w->root);
    w->leaf = test_cert_make(&(struct test_cert_spec){.cn = "a", .exts = LEAF_EXTS}, &w->root);
    w->deep = test_cert_make(&(struct test_cert_spec){.cn = "b", .exts = LEAF_EXTS}, &w->intermediate);
    X509 *roots[] = {w->root.cert, w->weak_root.cert, NULL};
    w->trust = trust_of(w, roots);
    w->chain = sk_X509_new_null();
    sk_X509_push(w->chain, w->intermediate.cert);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    struct test_cert *certs[] = {&w->root, &w->twin, &w->weak_root, &w->other, &w->intermediate, &w->leaf, &w->deep};
    for (size_t i = 0; i < PFL_ARRAY_LEN(certs); i++)
        test_cert_free(certs[i]);
    sk_X509_free(w->chain);
    pfl_trust_unref(w->trust);
    test_dir_free(w->dir);
    free(w);
    return 0;
}

/* Good in each respect; rows change one thing. */
static struct test_crl_spec good_spec(void)
{
    return (struct test_crl_spec){.number = "5", .this_update = NOW - HOUR, .next_update = NOW + HOUR, .reason = -1};
}

static struct pfl_crl *crl_of(const struct pfl_buf *der)
{
    struct pfl_crl *c = NULL;
    struct pfl_err err = {0};
    if (pfl_crl_parse(pfl_buf_view(der), &c, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(ERR_peek_error(), 0);
    return c;
}

static struct pfl_crl *verified(const struct world *w, const struct test_crl_spec *spec, const struct test_cert *issuer)
{
    struct pfl_err err = {0};
    struct pfl_buf der = test_crl_make(spec, issuer);
    struct pfl_crl *c = crl_of(&der);
    pfl_buf_deinit(&der);
    if (pfl_crl_verify(c, w->trust, w->chain, NOW, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return c;
}

static struct pfl_crl_set *set_of(const struct world *w, const struct test_crl_spec *spec, const struct test_cert *issuer)
{
    struct pfl_crl_set *s = NULL;
    struct pfl_crl *c = verified(w, spec, issuer);
    assert_int_equal(pfl_crl_set_with(NULL, c, &s, NULL), PFL_OK);
    pfl_crl_unref(c);
    return s;
}

static void expect(enum pfl_rc rc, const struct pfl_err *err, enum pfl_rc wanted_rc, const char *wanted, const char *row)
{
    if (rc != wanted_rc || (wanted && !strstr(err->msg, wanted)))
        fail_msg("%s: rc %d, '%s', wanted %d '%s'", row, (int)rc, err->msg, (int)wanted_rc, wanted ? wanted : "");
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_parse__what_is_no_full_crl__refused_with_its_reason(void **state)
{
    static const struct {
        const char *row, *exts[2], *entry_exts[2];
        const char *number;
        const EVP_MD *(*md)(void);
        int64_t lasts;
        const char *wanted;
    } ROWS[] = {
        {"delta", {"deltaCRL=critical,DER:020105"}, .wanted = "delta CRL"},
        {"unknown critical", {"1.2.3.4=critical,DER:0500"}, .wanted = "critical extension that is not known"},
        {"only users", {"issuingDistributionPoint=critical,DER:30038101FF"}, .wanted = "a part of the issuer's"},
        {"indirect", {"issuingDistributionPoint=critical,DER:30038401FF"}, .wanted = "indirect"},
        {"broken scope", {"issuingDistributionPoint=critical,DER:0401FF"}, .wanted = "issuingDistributionPoint cannot be read"},
        {"entry", {NULL}, {"1.2.3.4=critical,DER:0500"}, .wanted = "entry 1 has a critical extension"},
        {"entry of another issuer", {NULL}, {"certificateIssuer=critical,DER:3000"}, .wanted = "entry 1 has a critical extension"},
        {"number of 21 octets", .number = "1461501637330902918203684832716283019655932542976", .wanted = "longer than 20 octets"},
        {"negative number", .number = "-5", .wanted = "negative"},
        {"SHA-1", .md = EVP_sha1, .wanted = "SHA-256 or better"},
        {"ends before it begins", .lasts = -1, .wanted = "nextUpdate is before its thisUpdate"},
    };
    const struct world *w = *state;
    X509 *revoked[] = {w->leaf.cert, NULL};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_crl *c = NULL;
        struct pfl_err err = {0};
        struct test_crl_spec spec = good_spec();
        spec.exts = ROWS[i].exts;
        spec.entry_exts = ROWS[i].entry_exts;
        spec.revoked = revoked;
        spec.number = ROWS[i].number ? ROWS[i].number : spec.number;
        spec.md = ROWS[i].md ? ROWS[i].md() : NULL;
        if (ROWS[i].lasts)
            spec.next_update = spec.this_update + ROWS[i].lasts;
        struct pfl_buf der = test_crl_make(&spec, &w->root);
        expect(pfl_crl_parse(pfl_buf_view(&der), &c, &err), &err, PFL_MALFORMED, ROWS[i].wanted, ROWS[i].row);
        pfl_buf_deinit(&der);
    }
}

static void test_parse__bytes_that_are_no_crl__refused(void **state)
{
    const struct world *w = *state;
    struct test_crl_spec spec = good_spec();
    struct pfl_buf der = test_crl_make(&spec, &w->root);
    struct pfl_err err = {0};
    struct pfl_crl *c = NULL;
    expect(pfl_crl_parse(pfl_bytes_of("", 0), &c, &err), &err, PFL_MALFORMED, "no CRL", "empty");
    expect(pfl_crl_parse(pfl_bytes_of("garbage", 7), &c, &err), &err, PFL_MALFORMED, "no CRL", "garbage");
    for (size_t cut = 0; cut < der.len; cut++)
        expect(pfl_crl_parse(pfl_bytes_of(der.data, cut), &c, &err), &err, PFL_MALFORMED, "no CRL", "cut");
    pfl_buf_u8(&der, 0);
    expect(pfl_crl_parse(pfl_buf_view(&der), &c, &err), &err, PFL_MALFORMED, "1 bytes stand behind", "trailing");
    struct pfl_blob *big = pfl_blob_new((size_t)PFL_CRL_FILE_MAX + 1);
    memset(big->data, '0', big->len); /* 0x30: like DER */
    expect(pfl_crl_parse(pfl_bytes_of(big->data, (size_t)PFL_CRL_MAX + 1), &c, &err), &err, PFL_TOO_BIG, "the limit is", "DER");
    big->data[0] = '-';
    expect(pfl_crl_parse(pfl_bytes_of(big->data, big->len), &c, &err), &err, PFL_TOO_BIG, "the limit is", "PEM");
    pfl_blob_unref(big);
    pfl_buf_deinit(&der);
}

static void test_parse__a_good_one__says_what_is_in_it(void **state)
{
    const struct world *w = *state;
    X509 *revoked[] = {w->leaf.cert, w->deep.cert, NULL};
    struct test_crl_spec spec = good_spec();
    spec.revoked = revoked;
    spec.number = "255";
    struct pfl_buf der = test_crl_make(&spec, &w->root);
    struct pfl_crl *c = crl_of(&der);
    assert_string_equal(pfl_crl_issuer(c), "CN=lab CA");
    assert_string_equal(pfl_crl_number_hex(c), "FF");
    assert_string_equal(pfl_crl_number_text(c), "255");
    assert_int_equal(pfl_crl_this_update(c), NOW - HOUR);
    assert_int_equal(pfl_crl_next_update(c), NOW + HOUR);
    assert_int_equal(pfl_crl_n_revoked(c), 2);
    assert_true(pfl_bytes_eq(pfl_crl_der(c), pfl_buf_view(&der)));
    pfl_crl_unref(c);
    pfl_buf_deinit(&der);
    spec = good_spec();
    spec.number = NULL;
    spec.next_update = 0;
    der = test_crl_make(&spec, &w->root);
    c = crl_of(&der);
    assert_string_equal(pfl_crl_number_hex(c), "0");
    assert_true(pfl_crl_next_update(c) == INT64_MAX);
    assert_int_equal(pfl_crl_n_revoked(c), 0);
    pfl_crl_unref(c);
    pfl_buf_deinit(&der);
}

static void test_verify__one_thing_wrong__refused_with_its_reason(void **state)
{
    const struct world *w = *state;
    const struct {
        const char *row;
        const struct test_cert *issuer;
        EVP_PKEY *key;
        int64_t this_update;
        enum pfl_rc rc;
        const char *wanted;
    } rows[] = {
        {"another's key", &w->root, w->other.key, 0, PFL_AUTH, "its signature does not verify"},
        {"a CA of the same name", &w->twin, NULL, 0, PFL_AUTH, "its signature does not verify"},
        {"an unknown CA", &w->other, NULL, 0, PFL_NOT_FOUND, "'CN=other CA' is no CA that is known here"},
        {"a node's certificate", &w->leaf, NULL, 0, PFL_NOT_FOUND, "is no CA that is known here"},
        {"a CA without the right", &w->weak_root, NULL, 0, PFL_AUTH, "lacks cRLSign"},
        {"from the future", &w->root, NULL, NOW + HOUR, PFL_AUTH,
         "is from the future: thisUpdate 2027-01-15 09:00:00 UTC; this machine's clock says 2027-01-15 08:00:00 UTC: is it right?"},
        {"a little early", &w->root, NULL, NOW + PFL_CRL_FUTURE_S, PFL_OK, NULL},
        {"an intermediate", &w->intermediate, NULL, 0, PFL_OK, NULL},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_err err = {0};
        struct test_crl_spec spec = good_spec();
        spec.key = rows[i].key;
        if (rows[i].this_update) {
            spec.this_update = rows[i].this_update;
            spec.next_update = rows[i].this_update + HOUR;
        }
        struct pfl_buf der = test_crl_make(&spec, rows[i].issuer);
        struct pfl_crl *c = crl_of(&der);
        expect(pfl_crl_verify(c, w->trust, w->chain, NOW, &err), &err, rows[i].rc, rows[i].wanted, rows[i].row);
        pfl_crl_unref(c);
        pfl_buf_deinit(&der);
    }
}

static void test_verify__each_byte_changed__never_accepted(void **state)
{
    const struct world *w = *state;
    X509 *revoked[] = {w->leaf.cert, NULL};
    struct test_crl_spec spec = good_spec();
    spec.revoked = revoked;
    struct pfl_buf der = test_crl_make(&spec, &w->root);
    for (size_t i = 0; i < der.len; i++) {
        struct pfl_crl *c = NULL;
        struct pfl_err err = {0};
        der.data[i] ^= 1;
        if (pfl_crl_parse(pfl_buf_view(&der), &c, &err) == PFL_OK && pfl_crl_verify(c, w->trust, w->chain, NOW, &err) == PFL_OK)
            fail_msg("byte %zu of %zu may be changed", i, der.len);
        pfl_crl_unref(c);
        der.data[i] ^= 1;
    }
    pfl_buf_deinit(&der);
}

static void test_verify__an_intermediate_out_of_reach__refused(void **state)
{
    const struct world *w = *state;
    struct pfl_err err = {0};
    struct test_crl_spec spec = good_spec();
    struct pfl_buf der = test_crl_make(&spec, &w->intermediate);
    struct pfl_crl *c = crl_of(&der);
    expect(pfl_crl_verify(c, w->trust, NULL, NOW, &err), &err, PFL_NOT_FOUND, "no CA that is known", "not sent along");
    X509 *roots[] = {w->other.cert, NULL};
    struct pfl_trust *foreign = trust_of(w, roots);
    expect(pfl_crl_verify(c, foreign, w->chain, NOW, &err), &err, PFL_NOT_FOUND, "no CA that is known", "another root");
    pfl_trust_unref(foreign);
    pfl_crl_unref(c);
    pfl_buf_deinit(&der);
}

static void test_set__older_equal_and_newer__only_newer_replaces(void **state)
{
    const struct world *w = *state;
    static const struct {
        const char *row, *number;
        int64_t later;
        enum pfl_rc rc;
        const char *wanted;
    } ROWS[] = {
        {"the same", "16", 0, PFL_EXISTS, "in use already"},
        {"older", "9", HOUR / 2, PFL_STATE, "older than the one in use: number 9 of 'CN=lab CA', in use is 16"},
        {"none", NULL, HOUR / 2, PFL_STATE, "older than the one in use"},
        {"same number, older", "16", -1, PFL_STATE, "older than the one in use"},
        {"same number, newer", "16", 1, PFL_OK, NULL},
        {"newer", "17", -1, PFL_OK, NULL},
        {"newer by a digit", "100000000000000000000000000000000000000000000000", 0, PFL_OK, NULL},
    };
    X509 *revoked[] = {w->leaf.cert, NULL};
    struct test_crl_spec spec = good_spec();
    spec.number = "16";
    struct pfl_crl_set *in_use = set_of(w, &spec, &w->root);
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_err err = {0};
        struct pfl_crl_set *with = NULL;
        spec.number = ROWS[i].number;
        spec.this_update = NOW - HOUR + ROWS[i].later;
        struct pfl_crl *c = NULL;
        if (ROWS[i].rc == PFL_EXISTS) /* signatures with ECDSA differ each time: take the very one */
            c = pfl_crl_ref(pfl_crl_set_at(in_use, 0));
        else
            c = verified(w, &spec, &w->root);
        expect(pfl_crl_set_with(in_use, c, &with, &err), &err, ROWS[i].rc, ROWS[i].wanted, ROWS[i].row);
        assert_int_equal(pfl_crl_set_n(with), ROWS[i].rc == PFL_OK ? 1 : 0);
        pfl_crl_set_unref(with);
        pfl_crl_unref(c);
    }
    spec = good_spec();
    spec.number = "16";
    spec.revoked = revoked;
    struct pfl_err err = {0};
    struct pfl_crl_set *with = NULL;
    struct pfl_crl *c = verified(w, &spec, &w->root);
    expect(pfl_crl_set_with(in_use, c, &with, &err), &err, PFL_STATE, "another CRL of the same number", "a fork");
    pfl_crl_unref(c);
    /* another issuer's stands beside it */
    c = verified(w, &spec, &w->intermediate);
    assert_int_equal(pfl_crl_set_with(in_use, c, &with, &err), PFL_OK);
    assert_int_equal(pfl_crl_set_n(with), 2);
    assert_true(pfl_crl_set_has(with, pfl_crl_der(c)) && !pfl_crl_set_has(in_use, pfl_crl_der(c)));
    pfl_crl_set_unref(with);
    pfl_crl_unref(c);
    pfl_crl_set_unref(in_use);
}

static void test_check__revoked_stale_missing__by_policy(void **state)
{
    const struct world *w = *state;
    X509 *revoked[] = {w->leaf.cert, NULL};
    struct test_crl_spec spec = good_spec();
    spec.revoked = revoked;
    spec.reason = CRL_REASON_KEY_COMPROMISE;
    struct pfl_crl_set *set = set_of(w, &spec, &w->root);
    const int64_t late = NOW + 2 * HOUR;
    const struct {
        const char *row;
        const struct pfl_crl_set *set;
        X509 *cert, *issuer;
        enum pfl_crl_policy policy;
        int64_t now;
        enum pfl_crl_found found;
        const char *wanted; /* NULL: good */
    } rows[] = {
        {"revoked", set, w->leaf.cert, w->root.cert, PFL_CRL_PREFER, NOW, PFL_CRL_REVOKED,
         "revoked on 2027-01-15 07:00:00 UTC (keyCompromise) by CRL number 5 of 'CN=lab CA'"},
        {"revoked by a stale one", set, w->leaf.cert, w->root.cert, PFL_CRL_PREFER, late, PFL_CRL_REVOKED, "revoked on"},
        {"revoked, off", set, w->leaf.cert, w->root.cert, PFL_CRL_OFF, NOW, PFL_CRL_GOOD, NULL},
        {"not in it", set, w->deep.cert, w->root.cert, PFL_CRL_REQUIRE, NOW, PFL_CRL_GOOD, NULL},
        {"stale, prefer", set, w->deep.cert, w->root.cert, PFL_CRL_PREFER, late, PFL_CRL_STALE, NULL},
        {"stale, require", set, w->deep.cert, w->root.cert, PFL_CRL_REQUIRE, late, PFL_CRL_STALE,
         "lapsed on 2027-01-15 09:00:00 UTC (now 2027-01-15 10:00:00 UTC)"},
        {"missing, prefer", set, w->deep.cert, w->intermediate.cert, PFL_CRL_PREFER, NOW, PFL_CRL_MISSING, NULL},
        {"missing, require", set, w->deep.cert, w->intermediate.cert, PFL_CRL_REQUIRE, NOW, PFL_CRL_MISSING,
         "no CRL of its issuer 'CN=lab online CA' is here"},
        {"no set, require", NULL, w->leaf.cert, w->root.cert, PFL_CRL_REQUIRE, NOW, PFL_CRL_MISSING, "no CRL of its issuer"},
        {"no set, prefer", NULL, w->leaf.cert, w->root.cert, PFL_CRL_PREFER, NOW, PFL_CRL_MISSING, NULL},
        {"of a CA of the same name", set, w->leaf.cert, w->twin.cert, PFL_CRL_PREFER, NOW, PFL_CRL_MISSING, NULL},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_err err = {0};
        enum pfl_crl_found found = PFL_CRL_GOOD;
        enum pfl_rc rc = pfl_crl_set_check(rows[i].set, rows[i].cert, rows[i].issuer, rows[i].policy, rows[i].now, &found, &err);
        expect(rc, &err, rows[i].wanted ? PFL_AUTH : PFL_OK, rows[i].wanted, rows[i].row);
        assert_int_equal(found, rows[i].found);
    }
    assert_true(pfl_crl_set_next_update(set) == NOW + HOUR && pfl_crl_set_next_update(NULL) == INT64_MAX);
    pfl_crl_set_unref(set);
}

static void expect_chain(const struct world *w, X509 *leaf, const struct pfl_crl_set *crls, enum pfl_crl_policy policy,
                         const char *wanted, enum pfl_verify_why wanted_why)
{
    struct pfl_err err = {0};
    enum pfl_verify_why why;
    const struct pfl_verify_opts opts = {.now = NOW, .crls = crls, .crl_policy = policy, .ret_why = &why};
    enum pfl_rc rc = pfl_verify_x509(w->trust, leaf, w->chain, &opts, &err);
    expect(rc, &err, wanted ? PFL_AUTH : PFL_OK, wanted, "chain");
    assert_int_equal(why, wanted_why);
}

static void test_verify_x509__crls_of_the_chain__each_certificate_is_looked_for(void **state)
{
    struct world *w = *state;
    X509 *revoked[] = {w->leaf.cert, w->intermediate.cert, NULL};
    struct test_crl_spec spec = good_spec();
    struct pfl_crl_set *clean = set_of(w, &spec, &w->root);
    spec.number = "6";
    spec.revoked = revoked;
    struct pfl_crl_set *dirty = set_of(w, &spec, &w->root);
    expect_chain(w, w->leaf.cert, NULL, PFL_CRL_PREFER, NULL, PFL_WHY_OTHER);
    expect_chain(w, w->leaf.cert, NULL, PFL_CRL_REQUIRE, "no CRL of its issuer", PFL_WHY_NO_CRL);
    expect_chain(w, w->leaf.cert, clean, PFL_CRL_REQUIRE, NULL, PFL_WHY_OTHER);
    expect_chain(w, w->leaf.cert, dirty, PFL_CRL_PREFER, "revoked on", PFL_WHY_REVOKED);
    expect_chain(w, w->leaf.cert, dirty, PFL_CRL_OFF, NULL, PFL_WHY_OTHER);
    expect_chain(w, w->deep.cert, clean, PFL_CRL_PREFER, NULL, PFL_WHY_OTHER);
    expect_chain(w, w->deep.cert, clean, PFL_CRL_REQUIRE, "no CRL of its issuer 'CN=lab online CA'", PFL_WHY_NO_CRL);
    expect_chain(w, w->deep.cert, dirty, PFL_CRL_PREFER, "the CA certificate 'CN=lab online CA': revoked on", PFL_WHY_REVOKED);
    /* with its CA's name and no key identifier: the other road of the verification */
    struct test_cert same = test_cert_make(&(struct test_cert_spec){.cn = "lab CA", .exts = SAN_ONLY}, &w->root);
    X509 *other[] = {same.cert, NULL};
    spec.revoked = other;
    struct pfl_crl_set *of_same = set_of(w, &spec, &w->root);
    expect_chain(w, same.cert, clean, PFL_CRL_REQUIRE, NULL, PFL_WHY_OTHER);
    expect_chain(w, same.cert, of_same, PFL_CRL_PREFER, "revoked on", PFL_WHY_REVOKED);
    expect_chain(w, same.cert, NULL, PFL_CRL_REQUIRE, "no CRL of its issuer", PFL_WHY_NO_CRL);
    test_cert_free(&same);
    pfl_crl_set_unref(of_same);
    pfl_crl_set_unref(clean);
    pfl_crl_set_unref(dirty);
}

static void test_load__files__the_newest_of_each_issuer(void **state)
{
    const struct world *w = *state;
    struct pfl_err err = {0};
    struct pfl_crl_set *set = NULL, *again = NULL;
    char *path = pfl_fs_join(w->dir, "crl.pem"), *saved = pfl_fs_join(w->dir, "saved.pem");
    expect(pfl_crl_set_load(path, w->trust, w->chain, NOW, &set, &err), &err, PFL_NOT_FOUND, "crl.pem", "missing");
    struct test_crl_spec spec = good_spec();
    struct pfl_buf foreign = test_crl_make(&spec, &w->other), deep = test_crl_make(&spec, &w->intermediate);
    test_crl_append(path, &foreign);
    expect(pfl_crl_set_load(path, w->trust, w->chain, NOW, &set, &err), &err, PFL_AUTH, "no CRL of a CA that is trusted",
           "foreign");
    for (const char *const *number = (const char *const[]){"5", "7", "6", NULL}; *number; number++) {
        spec.number = *number;
        struct pfl_buf der = test_crl_make(&spec, &w->root);
        test_crl_append(path, &der);
        pfl_buf_deinit(&der);
    }
    test_crl_append(path, &deep);
    expect(pfl_crl_set_load(path, w->trust, w->chain, NOW, &set, &err), &err, PFL_OK, NULL, "many");
    assert_int_equal(pfl_crl_set_n(set), 2);
    assert_string_equal(pfl_crl_number_hex(pfl_crl_set_at(set, 0)), "7");
    assert_int_equal(pfl_crl_set_save(set, saved, &err), PFL_OK);
    assert_int_equal(pfl_crl_set_load(saved, w->trust, w->chain, NOW, &again, &err), PFL_OK);
    assert_int_equal(pfl_crl_set_n(again), 2);
    assert_true(pfl_bytes_eq(pfl_crl_der(pfl_crl_set_at(set, 0)), pfl_crl_der(pfl_crl_set_at(again, 0))));
    pfl_crl_set_unref(set);
    pfl_crl_set_unref(again);
    spec.key = w->other.key;
    struct pfl_buf bad = test_crl_make(&spec, &w->root);
    test_crl_append(path, &bad);
    expect(pfl_crl_set_load(path, w->trust, w->chain, NOW, &set, &err), &err, PFL_AUTH, "CRL 6: its signature", "bad");
    pfl_buf_deinit(&bad);
    pfl_buf_deinit(&foreign);
    pfl_buf_deinit(&deep);
    free(path);
    free(saved);
}

static void test_parse__a_hundred_thousand_entries__found_by_serial(void **state)
{
    const struct world *w = *state;
    X509 *revoked[] = {w->leaf.cert, NULL};
    struct test_crl_spec spec = good_spec();
    spec.revoked = revoked;
    spec.n_filler = 100000;
    struct pfl_crl_set *set = set_of(w, &spec, &w->root);
    struct pfl_err err = {0};
    assert_int_equal(pfl_crl_n_revoked(pfl_crl_set_at(set, 0)), 100001);
    expect(pfl_crl_set_check(set, w->leaf.cert, w->root.cert, PFL_CRL_PREFER, NOW, NULL, &err), &err, PFL_AUTH,
           "revoked on 2027-01-15 07:00:00 UTC (unspecified)", "many");
    expect(pfl_crl_set_check(set, w->deep.cert, w->root.cert, PFL_CRL_REQUIRE, NOW, NULL, &err), &err, PFL_OK, NULL, "none");
    pfl_crl_set_unref(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse__what_is_no_full_crl__refused_with_its_reason),
        cmocka_unit_test(test_parse__bytes_that_are_no_crl__refused),
        cmocka_unit_test(test_parse__a_good_one__says_what_is_in_it),
        cmocka_unit_test(test_verify__one_thing_wrong__refused_with_its_reason),
        cmocka_unit_test(test_verify__each_byte_changed__never_accepted),
        cmocka_unit_test(test_verify__an_intermediate_out_of_reach__refused),
        cmocka_unit_test(test_set__older_equal_and_newer__only_newer_replaces),
        cmocka_unit_test(test_check__revoked_stale_missing__by_policy),
        cmocka_unit_test(test_verify_x509__crls_of_the_chain__each_certificate_is_looked_for),
        cmocka_unit_test(test_load__files__the_newest_of_each_issuer),
        cmocka_unit_test(test_parse__a_hundred_thousand_entries__found_by_serial),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
