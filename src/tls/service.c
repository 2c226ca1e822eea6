/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts for the two sides of an enrolment: the CA's service, which strangers may call, and the stranger, who knows nothing of
 * the CA but the hash of its key. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "tls/impl.h"

static enum pfl_rc use_own(struct pfl_tls *t, const struct pfl_tls_service *o, struct pfl_err *err)
{
    bool ok = SSL_CTX_use_certificate(t->server, o->crt) == 1;
    for (int i = 0; ok && i < sk_X509_num(o->chain); i++)
        ok = SSL_CTX_add1_chain_cert(t->server, sk_X509_value(o->chain, i)) == 1;
    ok = ok && SSL_CTX_use_PrivateKey(t->server, o->key) == 1;
    const char *reason = ok ? NULL : ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    if (!ok)
        return pfl_err_set(err, PFL_AUTH, "the service's certificate cannot be used: %s", reason ? reason : "no reason");
    const struct pfl_verify_opts opts = {.purpose = PFL_PURPOSE_SERVER};
    enum pfl_rc rc = pfl_verify_x509(t->trust, o->crt, o->chain, &opts, err);
    return rc == PFL_OK ? pfl_identity_of_x509(o->crt, &t->server_identity, err) : rc;
}

enum pfl_rc pfl_tls_new_service(const struct pfl_tls_service *opts, struct pfl_tls **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_tls_freep) struct pfl_tls *t = pfl_xcalloc(1, sizeof *t);
    atomic_init(&t->refs, 1);
    t->tls12_allowed = t->guests = t->http1 = true;
    t->expired_window_s = opts->expired_window_s;
    t->trust = pfl_trust_ref(opts->trust);
    t->crls = pfl_crl_set_new(); /* the register says who is revoked: the handlers ask it */
    enum pfl_rc rc = pfl_tls_init_contexts(t, err);
    if (rc != PFL_OK)
        return rc;
    int mode = SSL_CTX_get_verify_mode(t->server);
    SSL_CTX_set_verify(t->server, mode & ~SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    rc = use_own(t, opts, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&t);
    return rc;
}

enum pfl_rc pfl_tls_new_pinned(const uint8_t spki_sha256[PFL_SHA256_LEN], struct pfl_tls **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_tls_freep) struct pfl_tls *t = pfl_xcalloc(1, sizeof *t);
    atomic_init(&t->refs, 1);
    t->pinned = true;
    memcpy(t->pin, spki_sha256, sizeof t->pin);
    t->crls = pfl_crl_set_new();
    enum pfl_rc rc = pfl_tls_init_contexts(t, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&t);
    return rc;
}

/* The one with the pinned key among what the server sent; NULL: none. Its own signature is checked when it becomes a trust. */
static X509 *find_pinned(const struct pfl_tls *t, const STACK_OF(X509) * sent)
{
    for (int i = 0; i < sk_X509_num(sent); i++) {
        uint8_t hash[PFL_SHA256_LEN];
        X509 *cert = sk_X509_value(sent, i);
        if (pfl_cert_spki_hash(cert, hash) && CRYPTO_memcmp(hash, t->pin, sizeof hash) == 0)
            return cert;
    }
    return NULL;
}

static enum pfl_rc check_role(X509 *leaf, struct pfl_err *err)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    enum pfl_rc rc = pfl_identity_of_x509(leaf, &id, err);
    if (rc == PFL_OK && (!id->role || strcmp(id->role, "ca") != 0))
        return pfl_err_set(err, PFL_AUTH, "'%s' is not a CA service: its certificate lacks the role 'ca'", pfl_identity_text(id));
    return rc;
}

enum pfl_rc pfl_tls_verify_pinned(const struct pfl_tls *t, X509 *leaf, STACK_OF(X509) * untrusted, const char *host,
                                  struct pfl_err *err)
{
    X509 *root = find_pinned(t, untrusted);
    if (!root)
        return pfl_err_set(err, PFL_AUTH,
                           "none of the %d certificates it sent has the CA's pinned key (--ca-hash): this is another CA, or "
                           "somebody between; nothing was sent to it",
                           sk_X509_num(untrusted) < 0 ? 0 : sk_X509_num(untrusted));
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *trust = NULL;
    STACK_OF(X509) *roots = sk_X509_new_null();
    PFL_ASSERT(roots && sk_X509_push(roots, root) > 0);
    enum pfl_rc rc = pfl_trust_of_certs(roots, &trust, err);
    sk_X509_free(roots);
    const struct pfl_verify_opts opts = {.purpose = PFL_PURPOSE_SERVER, .host = host};
    if (rc == PFL_OK)
        rc = pfl_verify_x509(trust, leaf, untrusted, &opts, err);
    return rc == PFL_OK ? check_role(leaf, err) : rc;
}

enum pfl_rc pfl_tls_forgive_expired(const struct pfl_tls *t, X509 *leaf, STACK_OF(X509) * untrusted, struct pfl_err *err)
{
    int64_t now = pfl_clock_wall() / PFL_SEC, until = pfl_cert_not_after(leaf);
    if (until > now || now - until > t->expired_window_s)
        return PFL_AUTH; /* err tells already: it may be the leaf, too long ago, or its issuer */
    const struct pfl_verify_opts then = {.purpose = PFL_PURPOSE_CLIENT, .now = until - 1}; /* its last second */
    return pfl_verify_x509(t->trust, leaf, untrusted, &then, err);
}
