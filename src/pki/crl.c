/* SPDX-License-Identifier: Apache-2.0 */
/* One CRL: read with limits, refused where it says less than "all certificates of this issuer that are revoked", verified by the
 * key of a CA that is trusted here. OpenSSL sorts the entries at the first look-up; that look-up happens while it is read. */
#include "pki/crl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/str.h"
#include "pki/cert.h"
#include "pki/crl_impl.h"
#include "pki/digest.h"

PFL_DEFINE_FREEP(x509_crl, X509_CRL, X509_CRL_free)
PFL_DEFINE_FREEP(bio, BIO, BIO_free_all)
PFL_DEFINE_FREEP(store_ctx, X509_STORE_CTX, X509_STORE_CTX_free)

struct pfl_crl *pfl_crl_ref(struct pfl_crl *c)
{
    if (c)
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void pfl_crl_unref(struct pfl_crl *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    X509_CRL_free(c->crl);
    OPENSSL_free(c->der);
    free(c->issuer);
    free(c->number_hex);
    free(c->number_text);
    free(c);
}

/* ---- reading ---- */

static int no_passphrase(char *buf, int size, int rwflag, void *user)
{
    (void)buf, (void)size, (void)rwflag, (void)user;
    return -1;
}

static bool looks_like_pem(struct pfl_bytes in)
{
    return in.len > 0 && in.data[0] != (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED);
}

static enum pfl_rc read_crl(struct pfl_bytes in, X509_CRL **ret, struct pfl_err *err)
{
    if (looks_like_pem(in)) {
        PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new_mem_buf(in.data, (int)in.len);
        PFL_ASSERT(bio != NULL);
        *ret = PEM_read_bio_X509_CRL(bio, NULL, no_passphrase, NULL);
        return *ret ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "no CRL: neither DER nor PEM (\"-----BEGIN X509 CRL-----\")");
    }
    const unsigned char *p = in.data;
    PFL_AUTO(pfl_x509_crl_freep) X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long)in.len);
    if (!crl)
        return pfl_err_set(err, PFL_MALFORMED, "no CRL: it cannot be read as one");
    if (p != in.data + in.len)
        return pfl_err_set(err, PFL_MALFORMED, "%zu bytes stand behind the CRL", (size_t)(in.data + in.len - p));
    *ret = pfl_steal(&crl);
    return PFL_OK;
}

/* Every extension that is critical must be understood, and issuingDistributionPoint must leave nothing out. */
static enum pfl_rc check_scope(const X509_CRL *crl, struct pfl_err *err)
{
    for (int i = 0; i < X509_CRL_get_ext_count(crl); i++) {
        X509_EXTENSION *ext = X509_CRL_get_ext(crl, i);
        int nid = OBJ_obj2nid(X509_EXTENSION_get_object(ext));
        if (nid == NID_delta_crl)
            return pfl_err_set(err, PFL_MALFORMED, "a delta CRL, which is not supported: give the full one");
        if (X509_EXTENSION_get_critical(ext) && nid != NID_issuing_distribution_point && nid != NID_authority_key_identifier &&
            nid != NID_crl_number)
            return pfl_err_set(err, PFL_MALFORMED, "it has a critical extension that is not known here");
    }
    int critical = 0;
    ISSUING_DIST_POINT *idp = X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, &critical, NULL);
    if (!idp)
        return critical == -1 ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "its issuingDistributionPoint cannot be read");
    bool partial = idp->onlyuser > 0 || idp->onlyCA > 0 || idp->onlyattr > 0 || idp->onlysomereasons;
    bool indirect = idp->indirectCRL > 0;
    ISSUING_DIST_POINT_free(idp);
    if (partial || indirect)
        return pfl_err_set(err, PFL_MALFORMED, "%s, which is not supported: give the full one of the issuer",
                           indirect ? "an indirect CRL" : "a CRL for a part of the issuer's certificates");
    return PFL_OK;
}

/* An entry may not say that it is another issuer's, nor anything critical that is not known here. */
static enum pfl_rc check_entries(X509_CRL *crl, struct pfl_err *err)
{
    STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(crl);
    for (int i = 0; i < sk_X509_REVOKED_num(entries); i++) {
        const X509_REVOKED *entry = sk_X509_REVOKED_value(entries, i);
        for (int k = 0; k < X509_REVOKED_get_ext_count(entry); k++) {
            X509_EXTENSION *ext = X509_REVOKED_get_ext(entry, k);
            int nid = OBJ_obj2nid(X509_EXTENSION_get_object(ext));
            if (X509_EXTENSION_get_critical(ext) && nid != NID_crl_reason && nid != NID_invalidity_date)
                return pfl_err_set(err, PFL_MALFORMED, "entry %d has a critical extension that is not known here", i + 1);
        }
    }
    return PFL_OK;
}

static enum pfl_rc check_algorithm(const X509_CRL *crl, struct pfl_err *err)
{
    int digest = NID_undef, nid = X509_CRL_get_signature_nid(crl);
    if (OBJ_find_sigid_algs(nid, &digest, NULL) != 1)
        return pfl_err_set(err, PFL_MALFORMED, "signed with an algorithm that is not known here");
    const EVP_MD *md = digest == NID_undef ? NULL : EVP_get_digestbynid(digest);
    bool ok = nid == NID_ED25519 || nid == NID_ED448 || nid == NID_rsassaPss || (md && EVP_MD_get_size(md) >= 32);
    return ok ? PFL_OK
              : pfl_err_set(err, PFL_MALFORMED, "signed with %s, SHA-256 or better is needed: issue it again", OBJ_nid2ln(nid));
}

static bool unix_time(const ASN1_TIME *t, int64_t *ret)
{
    struct tm tm;
    if (!t || ASN1_TIME_check(t) != 1 || ASN1_TIME_to_tm(t, &tm) != 1)
        return false;
    *ret = (int64_t)timegm(&tm);
    return true;
}

static enum pfl_rc take_times(struct pfl_crl *c, struct pfl_err *err)
{
    if (!unix_time(X509_CRL_get0_lastUpdate(c->crl), &c->this_update))
        return pfl_err_set(err, PFL_MALFORMED, "its thisUpdate cannot be read");
    c->next_update = INT64_MAX;
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(c->crl);
    if (next && !unix_time(next, &c->next_update))
        return pfl_err_set(err, PFL_MALFORMED, "its nextUpdate cannot be read");
    if (c->next_update < c->this_update)
        return pfl_err_set(err, PFL_MALFORMED, "its nextUpdate is before its thisUpdate");
    return PFL_OK;
}

static enum pfl_rc take_number(struct pfl_crl *c, struct pfl_err *err)
{
    int critical = 0;
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(c->crl, NID_crl_number, &critical, NULL);
    if (!number && critical != -1)
        return pfl_err_set(err, PFL_MALFORMED, "its cRLNumber cannot be read");
    if (!number) {
        c->number_hex = pfl_xstrdup("0");
        c->number_text = pfl_xstrdup("0 (it has none)");
        return PFL_OK;
    }
    uint64_t small;
    bool fits = ASN1_INTEGER_get_uint64(&small, number) == 1;
    BIGNUM *bn = ASN1_INTEGER_to_BN(number, NULL);
    ASN1_INTEGER_free(number);
    char *hex = bn && !BN_is_negative(bn) && BN_num_bytes(bn) * 2 <= PFL_CRL_NUMBER_HEX_MAX ? BN_bn2hex(bn) : NULL;
    BN_free(bn);
    if (!hex)
        return pfl_err_set(err, PFL_MALFORMED, "its cRLNumber is negative or longer than 20 octets");
    const char *digits = hex;
    while (digits[0] == '0' && digits[1] != '\0')
        digits++;
    c->number_hex = pfl_xstrdup(digits);
    c->number_text = fits ? pfl_xasprintf("%llu", (unsigned long long)small) : pfl_xasprintf("0x%s", digits);
    OPENSSL_free(hex);
    return PFL_OK;
}

/* The first look-up sorts, and must not happen in two threads' sight. */
static void sort_now(struct pfl_crl *c)
{
    X509_REVOKED *unused = NULL;
    ASN1_INTEGER *zero = ASN1_INTEGER_new();
    PFL_ASSERT(zero != NULL);
    (void)X509_CRL_get0_by_serial(c->crl, &unused, zero);
    ASN1_INTEGER_free(zero);
}

static enum pfl_rc take(struct pfl_crl *c, struct pfl_err *err)
{
    enum pfl_rc rc = check_scope(c->crl, err);
    if (rc == PFL_OK)
        rc = check_algorithm(c->crl, err);
    if (rc == PFL_OK)
        rc = check_entries(c->crl, err);
    if (rc == PFL_OK)
        rc = take_times(c, err);
    if (rc == PFL_OK)
        rc = take_number(c, err);
    if (rc != PFL_OK)
        return rc;
    int len = i2d_X509_CRL(c->crl, &c->der);
    if (len <= 0 || len > PFL_CRL_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "it cannot be written as DER again");
    c->der_len = (size_t)len;
    c->issuer = pfl_x509_name_text(X509_CRL_get_issuer(c->crl));
    sort_now(c);
    return PFL_OK;
}

enum pfl_rc pfl_crl_parse(struct pfl_bytes in, struct pfl_crl **ret, struct pfl_err *err)
{
    size_t max = looks_like_pem(in) ? PFL_CRL_FILE_MAX : PFL_CRL_MAX;
    if (in.len > max)
        return pfl_err_set(err, PFL_TOO_BIG, "a CRL of %zu bytes, the limit is %zu", in.len, max);
    PFL_AUTO(pfl_crl_freep) struct pfl_crl *c = pfl_xcalloc(1, sizeof *c);
    atomic_init(&c->refs, 1);
    enum pfl_rc rc = read_crl(in, &c->crl, err);
    if (rc == PFL_OK)
        rc = take(c, err);
    ERR_clear_error();
    if (rc == PFL_OK)
        *ret = pfl_steal(&c);
    return rc;
}

const char *pfl_crl_issuer(const struct pfl_crl *c)
{
    return c->issuer;
}

const char *pfl_crl_number_hex(const struct pfl_crl *c)
{
    return c->number_hex;
}

const char *pfl_crl_number_text(const struct pfl_crl *c)
{
    return c->number_text;
}

int64_t pfl_crl_this_update(const struct pfl_crl *c)
{
    return c->this_update;
}

int64_t pfl_crl_next_update(const struct pfl_crl *c)
{
    return c->next_update;
}

size_t pfl_crl_n_revoked(const struct pfl_crl *c)
{
    int n = sk_X509_REVOKED_num(X509_CRL_get_REVOKED(c->crl));
    return n > 0 ? (size_t)n : 0;
}

struct pfl_bytes pfl_crl_der(const struct pfl_crl *c)
{
    return pfl_bytes_of(c->der, c->der_len);
}

/* ---- verifying ---- */

bool pfl_crl_key_digest(const X509 *cert, uint8_t out[32])
{
    unsigned len = 0;
    X509_PUBKEY *key = X509_get_X509_PUBKEY(cert);
    unsigned char *der = NULL;
    int der_len = key ? i2d_X509_PUBKEY(key, &der) : -1;
    bool ok = der_len > 0 && EVP_Digest(der, (size_t)der_len, out, &len, EVP_sha256(), NULL) == 1 && len == 32;
    OPENSSL_free(der);
    ERR_clear_error();
    return ok;
}

static bool may_be_issuer(const struct pfl_crl *c, const X509 *ca)
{
    return X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(c->crl)) == 0;
}

static bool signature_is_by(const struct pfl_crl *c, const X509 *ca)
{
    EVP_PKEY *key = X509_get0_pubkey(ca);
    bool ok = key && X509_CRL_verify(c->crl, key) == 1;
    ERR_clear_error();
    return ok;
}

/* An intermediate counts only while a chain leads from it to a root. */
static bool leads_to_root(X509 *ca, const struct pfl_trust *trust, STACK_OF(X509) * untrusted, int64_t now)
{
    PFL_AUTO(pfl_store_ctx_freep) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    PFL_ASSERT(ctx != NULL);
    if (X509_check_ca(ca) != 1 || X509_STORE_CTX_init(ctx, pfl_trust_store(trust), ca, untrusted) != 1)
        return false;
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)now);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_TRUSTED_FIRST);
    bool ok = X509_verify_cert(ctx) == 1;
    ERR_clear_error();
    return ok;
}

static enum pfl_rc accept_issuer(struct pfl_crl *c, const X509 *ca, struct pfl_err *err)
{
    if (!(X509_get_key_usage((X509 *)ca) & KU_CRL_SIGN))
        return pfl_err_set(err, PFL_AUTH, "its issuer '%.120s' may not sign CRLs (its key usage lacks cRLSign)", c->issuer);
    c->verified = pfl_crl_key_digest(ca, c->signer);
    return c->verified ? PFL_OK : pfl_err_set(err, PFL_AUTH, "its issuer's key cannot be read");
}

static enum pfl_rc find_issuer(struct pfl_crl *c, const struct pfl_trust *trust, STACK_OF(X509) * untrusted, int64_t now,
                               struct pfl_err *err)
{
    bool known = false;
    for (size_t i = 0; i < pfl_trust_n_roots(trust); i++) {
        const X509 *root = pfl_trust_root(trust, i);
        if (may_be_issuer(c, root) && signature_is_by(c, root))
            return accept_issuer(c, root, err);
        known = known || may_be_issuer(c, root);
    }
    for (int i = 0; i < sk_X509_num(untrusted); i++) {
        X509 *ca = sk_X509_value(untrusted, i);
        if (!may_be_issuer(c, ca) || !leads_to_root(ca, trust, untrusted, now))
            continue;
        if (signature_is_by(c, ca))
            return accept_issuer(c, ca, err);
        known = true;
    }
    if (known)
        return pfl_err_set(err, PFL_AUTH,
                           "its signature does not verify: it was altered after it was signed, or signed by another CA of the name "
                           "'%.120s'",
                           c->issuer);
    return pfl_err_set(err, PFL_NOT_FOUND, "its issuer '%.120s' is no CA that is known here: trusted is %.220s", c->issuer,
                       pfl_trust_text(trust));
}

enum pfl_rc pfl_crl_verify(struct pfl_crl *c, const struct pfl_trust *trust, STACK_OF(X509) * untrusted, int64_t now,
                           struct pfl_err *err)
{
    char from[32], clock[32];
    enum pfl_rc rc = find_issuer(c, trust, untrusted, now, err);
    if (rc != PFL_OK || c->this_update - now <= PFL_CRL_FUTURE_S)
        return rc;
    c->verified = false;
    pfl_time_text(c->this_update, from);
    pfl_time_text(now, clock);
    return pfl_err_set(err, PFL_AUTH,
                       "CRL number %s of '%.120s' is from the future: thisUpdate %s; this machine's clock says %s: is it right?",
                       c->number_text, c->issuer, from, clock);
}
