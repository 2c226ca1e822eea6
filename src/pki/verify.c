/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL builds and checks the chain; this file sets its strictest sensible terms, adds what OpenSSL does not ask (the leaf is no
 * CA, has a name, belongs to the root's federation) and turns each refusal into a sentence that a person can act on.
 *
 * One case OpenSSL cannot build: a leaf with the same subject as its CA and no authority key identifier (OpenSSL 1.1's
 * `openssl x509 -req` makes such ones from P2PFL's openssl.cnf). It takes the leaf for self-signed from the names alone and never
 * looks for a root. For such a leaf the root that truly signed it is found by trying the roots' keys, and the two-certificate
 * chain then goes through the same checks. */
#include "pki/verify.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "pki/cert.h"
#include "pki/identity.h"

enum {
    SECURITY_LEVEL = 2,            /* 112 bits: RSA 2048, EC 224, SHA-224; our own check is stricter */
    CLOCK_HINT_S = 2 * 3600,       /* this near to an end of the validity a wrong clock is likely */
    UNTRUSTED_MAX = PFL_CERTS_MAX, /* certificates that a peer may send along */
};

struct job {
    const struct pfl_trust *trust;
    X509 *leaf;
    STACK_OF(X509) * untrusted; /* may be NULL */
    const struct pfl_verify_opts *opts;
    int64_t now;
    enum pfl_verify_why *why; /* never NULL */
};

PFL_DEFINE_FREEP(store_ctx, X509_STORE_CTX, X509_STORE_CTX_free)

/* How a reason begins: "" for the leaf, "the CA certificate 'CN=…': " for the others. Owned by the caller. */
static char *who(const struct job *job, X509 *cert)
{
    if (!cert || X509_cmp(cert, job->leaf) == 0)
        return pfl_xstrdup("");
    PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(cert);
    bool root = X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0;
    return pfl_xasprintf("the %s certificate '%.120s': ", root ? "root" : "CA", subject);
}

static enum pfl_rc check_time(const struct job *job, X509 *cert, struct pfl_err *err)
{
    char bound[32], now[32];
    int64_t from = pfl_cert_not_before(cert), until = pfl_cert_not_after(cert);
    if (job->now >= from && job->now <= until)
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *subject = who(job, cert);
    pfl_time_text(job->now, now);
    if (from == INT64_MAX || until == INT64_MIN)
        return pfl_err_set(err, PFL_AUTH, "%sits validity cannot be read", subject);
    if (job->now > until) {
        *job->why = PFL_WHY_EXPIRED;
        pfl_time_text(until, bound);
        return pfl_err_set(err, PFL_AUTH, "%sexpired on %s (now %s): issue a new one%s", subject, bound, now,
                           job->now - until <= CLOCK_HINT_S ? ", or set this machine's clock if it is fast" : "");
    }
    *job->why = PFL_WHY_NOT_YET_VALID;
    pfl_time_text(from, bound);
    if (from - job->now > CLOCK_HINT_S)
        return pfl_err_set(err, PFL_AUTH, "%snot valid before %s (now %s)", subject, bound, now);
    return pfl_err_set(err, PFL_AUTH, "%snot valid before %s; this machine's clock says %s: is it right? (or the CA's is fast)",
                       subject, bound, now);
}

static enum pfl_rc check_strength(const struct job *job, X509 *cert, struct pfl_err *err)
{
    struct pfl_err why = {0};
    if (pfl_trust_check_strength(cert, &why) == PFL_OK)
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *subject = who(job, cert);
    return pfl_err_set(err, PFL_AUTH, "%s%s", subject, why.msg);
}

static bool names_equal(const X509 *issuer, const X509 *cert)
{
    return X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(cert)) == 0;
}

static bool signed_by(const X509 *issuer, X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    bool ok = key && X509_verify(cert, key) == 1;
    ERR_clear_error();
    return ok;
}

static bool is_root(const struct job *job, const X509 *cert)
{
    for (size_t i = 0; i < pfl_trust_n_roots(job->trust); i++)
        if (X509_cmp(pfl_trust_root(job->trust, i), cert) == 0)
            return true;
    return false;
}

/* A certificate that the peer sent along as its issuer but that may not issue. NULL where there is none. */
static X509 *false_issuer(const struct job *job, const X509 *cert)
{
    for (int i = 0; i < sk_X509_num(job->untrusted); i++) {
        X509 *other = sk_X509_value(job->untrusted, i);
        if (X509_cmp(other, cert) == 0 || !names_equal(other, cert))
            continue;
        if (X509_check_ca(other) != 1 || !(X509_get_key_usage(other) & KU_KEY_CERT_SIGN))
            return other;
    }
    return NULL;
}

static enum pfl_rc explain_false_ca(const struct job *job, const X509 *fake, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(fake ? fake : job->leaf);
    return pfl_err_set(err, PFL_AUTH, "issued by '%.120s', which is not a CA: a node's certificate was used as one", subject);
}

static enum pfl_rc explain_no_issuer(const struct job *job, X509 *cert, struct pfl_err *err)
{
    if (!cert)
        cert = job->leaf;
    X509 *fake = false_issuer(job, cert);
    if (fake)
        return explain_false_ca(job, fake, err);
    PFL_AUTO(pfl_freep) char *issuer = pfl_cert_issuer(cert);
    for (size_t i = 0; i < pfl_trust_n_roots(job->trust); i++)
        if (names_equal(pfl_trust_root(job->trust, i), cert))
            return pfl_err_set(err, PFL_AUTH,
                               "not signed by the federation's CA: issued by another CA of the same name '%.120s' (its key is "
                               "not that of the trusted root)",
                               issuer);
    return pfl_err_set(err, PFL_AUTH,
                       "not signed by the federation's CA: issued by '%.120s', trusted is %.220s (or an intermediate between them "
                       "is missing from the chain)",
                       issuer, pfl_trust_text(job->trust));
}

static enum pfl_rc explain_self_signed(const struct job *job, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(job->leaf);
    return pfl_err_set(err, PFL_AUTH, "self-signed by '%.120s', not signed by the federation's CA: trusted is %.220s", subject,
                       pfl_trust_text(job->trust));
}

static int purpose_id(enum pfl_purpose purpose)
{
    return purpose == PFL_PURPOSE_SERVER ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT;
}

static bool fits(X509 *leaf, enum pfl_purpose purpose)
{
    bool server = X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) == 1;
    bool client = X509_check_purpose(leaf, X509_PURPOSE_SSL_CLIENT, 0) == 1;
    return purpose == PFL_PURPOSE_SERVER ? server : purpose == PFL_PURPOSE_CLIENT ? client : server || client;
}

static enum pfl_rc check_purpose(const struct job *job, struct pfl_err *err)
{
    static const char *const WANTED[] = {
        [PFL_PURPOSE_ANY] = "serverAuth or clientAuth",
        [PFL_PURPOSE_SERVER] = "serverAuth",
        [PFL_PURPOSE_CLIENT] = "clientAuth",
    };
    enum pfl_purpose purpose = job->opts->purpose;
    PFL_AUTO(pfl_cert_info_deinit) struct pfl_cert_info info = {0};
    pfl_cert_info_of(job->leaf, &info);
    /* OpenSSL also lets key agreement and encipherment pass, for key exchanges that TLS 1.3 does not have */
    bool may_sign = info.usages.n == 0 || pfl_strs_has(&info.usages, "digitalSignature");
    if (fits(job->leaf, purpose) && may_sign)
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *purposes = pfl_strs_join(&info.purposes, ", ");
    PFL_AUTO(pfl_freep) char *usages = pfl_strs_join(&info.usages, ", ");
    if (!may_sign)
        return pfl_err_set(err, PFL_AUTH, "for another use: its key usage is %.200s, digitalSignature is needed", usages);
    return pfl_err_set(err, PFL_AUTH, "for another purpose: its extended key usage is %.200s, %s is needed",
                       purposes[0] ? purposes : "absent", WANTED[purpose]);
}

/* What OpenSSL said, in words. Time and strength are told by our own checks, so that both roads give the same sentence. */
static enum pfl_rc explain(const struct job *job, X509_STORE_CTX *ctx, struct pfl_err *err)
{
    int code = X509_STORE_CTX_get_error(ctx);
    X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
    PFL_AUTO(pfl_freep) char *subject = who(job, cert);
    switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return explain_no_issuer(job, cert, err);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return explain_self_signed(job, err);
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE:
        return pfl_err_set(err, PFL_AUTH,
                           "%sits signature does not verify: it was altered after it was signed, or signed by another CA of the "
                           "same name",
                           subject);
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
        return explain_false_ca(job, cert, err);
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
        return pfl_err_set(err, PFL_AUTH, "its chain is too long: at most %d certificates are allowed, leaf and root included",
                           PFL_CHAIN_MAX);
    case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
        return pfl_err_set(err, PFL_AUTH, "%sit has a critical extension that is not known here", subject);
    case X509_V_ERR_INVALID_PURPOSE:
        if (!subject[0] && check_purpose(job, err) != PFL_OK)
            return PFL_AUTH;
        return pfl_err_set(err, PFL_AUTH, "%sits extended key usage does not allow this purpose", subject);
    default:
        return pfl_err_set(err, PFL_AUTH, "%srefused by OpenSSL: %s", subject, X509_verify_cert_error_string(code));
    }
}

/* The most useful reason first: an expired or weak certificate is told as such even where OpenSSL met another problem earlier. */
static enum pfl_rc explain_refusal(const struct job *job, X509_STORE_CTX *ctx, struct pfl_err *err)
{
    X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
    switch (X509_STORE_CTX_get_error(ctx)) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
    case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD:
        if (cert && check_time(job, cert, err) != PFL_OK)
            return PFL_AUTH;
        break;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
        if (cert && check_strength(job, cert, err) != PFL_OK)
            return PFL_AUTH;
        break;
    default:
        break;
    }
    return explain(job, ctx, err);
}

static enum pfl_rc check_revocation(const struct job *job, X509 *cert, const X509 *issuer, struct pfl_err *err)
{
    struct pfl_err why = {0};
    enum pfl_crl_found found;
    if (pfl_crl_set_check(job->opts->crls, cert, issuer, job->opts->crl_policy, job->now, &found, &why) == PFL_OK)
        return PFL_OK;
    *job->why = found == PFL_CRL_REVOKED ? PFL_WHY_REVOKED : PFL_WHY_NO_CRL;
    PFL_AUTO(pfl_freep) char *subject = who(job, cert);
    return pfl_err_set(err, PFL_AUTH, "%s%s", subject, why.msg);
}

static enum pfl_rc check_chain(const struct job *job, STACK_OF(X509) * chain, struct pfl_err *err)
{
    int n = sk_X509_num(chain);
    for (int i = 0; i < n; i++) {
        X509 *cert = sk_X509_value(chain, i);
        enum pfl_rc rc = check_strength(job, cert, err);
        if (rc == PFL_OK)
            rc = check_time(job, cert, err);
        if (rc == PFL_OK && i + 1 < n) /* nobody can revoke a root: it is trusted or it is not */
            rc = check_revocation(job, cert, sk_X509_value(chain, i + 1), err);
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}

/* OpenSSL's own road. *ret_root is borrowed from the trust (an equal certificate lies there). */
static enum pfl_rc verify_by_store(const struct job *job, X509 **ret_root, struct pfl_err *err)
{
    PFL_AUTO(pfl_store_ctx_freep) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    PFL_ASSERT(ctx != NULL);
    if (X509_STORE_CTX_init(ctx, pfl_trust_store(job->trust), job->leaf, job->untrusted) != 1)
        return pfl_err_set(err, PFL_AUTH, "OpenSSL could not start the verification");
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)job->now);
    X509_VERIFY_PARAM_set_depth(param, PFL_CHAIN_MAX - 2); /* it counts what is between leaf and root */
    X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
    if (job->opts->purpose != PFL_PURPOSE_ANY)
        X509_VERIFY_PARAM_set_purpose(param, purpose_id(job->opts->purpose));
    /* a foreign root of our own root's name must not hide it */
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_TRUSTED_FIRST);
    if (X509_verify_cert(ctx) != 1)
        return explain_refusal(job, ctx, err);
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    X509 *root = sk_X509_value(chain, sk_X509_num(chain) - 1);
    for (size_t i = 0; i < pfl_trust_n_roots(job->trust); i++)
        if (X509_cmp(pfl_trust_root(job->trust, i), root) == 0)
            *ret_root = pfl_trust_root(job->trust, i);
    return check_chain(job, chain, err);
}

/* Looks self-signed by its names and identifiers and is not. */
static bool only_seems_self_signed(X509 *leaf)
{
    bool seems = X509_self_signed(leaf, 0) == 1, is = X509_self_signed(leaf, 1) == 1;
    ERR_clear_error();
    return seems && !is;
}

static enum pfl_rc verify_directly(const struct job *job, X509 **ret_root, struct pfl_err *err)
{
    X509 *root = NULL;
    bool same_name = false;
    for (size_t i = 0; i < pfl_trust_n_roots(job->trust) && !root; i++) {
        X509 *candidate = pfl_trust_root(job->trust, i);
        if (!names_equal(candidate, job->leaf))
            continue;
        same_name = true;
        if (signed_by(candidate, job->leaf))
            root = candidate;
    }
    if (!root && same_name)
        return pfl_err_set(err, PFL_AUTH,
                           "its signature does not verify: it was altered after it was signed, or signed by another CA of the "
                           "same name");
    if (!root)
        return explain_no_issuer(job, job->leaf, err);
    /* what the store's road would look at beyond strength and time */
    uint32_t flags = X509_get_extension_flags(job->leaf);
    if (flags & (EXFLAG_INVALID | EXFLAG_CRITICAL | EXFLAG_PROXY))
        return pfl_err_set(err, PFL_AUTH, "it has an extension that is broken, or critical and not known here");
    if (X509_get_ext_by_NID(root, NID_name_constraints, -1) >= 0)
        return pfl_err_set(err, PFL_AUTH,
                           "it has its CA's name and no authority key identifier, which name constraints do not allow: issue it "
                           "again with authorityKeyIdentifier");
    if (job->opts->purpose != PFL_PURPOSE_ANY && X509_check_purpose(root, purpose_id(job->opts->purpose), 1) == 0)
        return pfl_err_set(err, PFL_AUTH, "its CA's extended key usage does not allow this purpose");
    *ret_root = root;
    enum pfl_rc rc = check_strength(job, job->leaf, err);
    if (rc == PFL_OK)
        rc = check_time(job, job->leaf, err);
    if (rc == PFL_OK)
        rc = check_revocation(job, job->leaf, root, err);
    return rc == PFL_OK ? check_time(job, root, err) : rc;
}

static enum pfl_rc check_names(const struct job *job, const X509 *root, struct pfl_err *err)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    struct pfl_err why = {0};
    if (pfl_identity_of_x509(job->leaf, &id, &why) != PFL_OK)
        return pfl_err_set(err, PFL_AUTH, "its names are malformed: %s", why.msg);
    if (id->sans.n == 0)
        return pfl_err_set(err, PFL_AUTH,
                           "it has no subject alternative name, at least one is needed: issue it with --san IP:…,DNS:…");
    const char *federation = pfl_trust_federation(job->trust, root);
    if (federation && id->federation && strcmp(federation, id->federation) != 0)
        return pfl_err_set(err, PFL_AUTH, "it is for federation '%s', its root is for federation '%s'", id->federation, federation);
    if (!job->opts->host || pfl_identity_covers_host(id, job->opts->host))
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *sans = pfl_strs_join(&id->sans, ", ");
    char quoted[300];
    return pfl_err_set(err, PFL_AUTH, "covers %s, not '%s': issue it with the host among its names",
                       pfl_quote(sans, strlen(sans), quoted, sizeof quoted), pfl_q(job->opts->host));
}

static enum pfl_rc verify(const struct job *job, struct pfl_err *err)
{
    X509 *root = NULL;
    if (sk_X509_num(job->untrusted) > UNTRUSTED_MAX)
        return pfl_err_set(err, PFL_AUTH, "%d certificates were sent along, the limit is %d", sk_X509_num(job->untrusted),
                           UNTRUSTED_MAX);
    bool known = is_root(job, job->leaf);
    if (!known && X509_self_signed(job->leaf, 1) == 1)
        return explain_self_signed(job, err);
    enum pfl_rc rc = PFL_OK;
    if (!known)
        rc = only_seems_self_signed(job->leaf) ? verify_directly(job, &root, err) : verify_by_store(job, &root, err);
    if (rc != PFL_OK)
        return rc;
    if (known || (X509_get_extension_flags(job->leaf) & EXFLAG_CA) || X509_check_ca(job->leaf) != 0)
        return pfl_err_set(err, PFL_AUTH, "it is a CA certificate, which no node may present: issue the node one of its own");
    rc = check_purpose(job, err);
    return rc == PFL_OK ? check_names(job, root, err) : rc;
}

enum pfl_rc pfl_verify_x509(const struct pfl_trust *trust, X509 *leaf, STACK_OF(X509) * untrusted,
                            const struct pfl_verify_opts *opts, struct pfl_err *err)
{
    enum pfl_verify_why unused, *why = opts->ret_why ? opts->ret_why : &unused;
    struct job job = {.trust = trust, .leaf = leaf, .untrusted = untrusted, .opts = opts, .why = why};
    *why = PFL_WHY_OTHER;
    job.now = opts->now ? opts->now : pfl_clock_wall() / PFL_SEC;
    enum pfl_rc rc = verify(&job, err);
    ERR_clear_error();
    return rc;
}
