/* SPDX-License-Identifier: Apache-2.0 */
/* Everything here runs on worker threads too: a context is immutable, and OpenSSL's keys and certificates are counted atomically.
 */
#include "tls/origin.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "pki/cert.h"
#include "pki/digest.h"
#include "pki/key.h"
#include "pki/sign.h"
#include "tls/impl.h"

enum pfl_rc pfl_tls_sign(const struct pfl_tls *t, struct pfl_bytes text, struct pfl_buf *out, struct pfl_err *err)
{
    return pfl_sign(SSL_CTX_get0_privatekey(t->client), text, out, err);
}

bool pfl_tls_signs_fast(const struct pfl_tls *t)
{
    return pfl_sign_is_fast(SSL_CTX_get0_privatekey(t->client));
}

size_t pfl_tls_client_chain(const struct pfl_tls *t, struct pfl_buf *certs, size_t max)
{
    STACK_OF(X509) *chain = NULL;
    size_t n = 0;
    SSL_CTX_get0_chain_certs(t->client, &chain);
    pfl_cert_der(SSL_CTX_get0_certificate(t->client), &certs[n++]);
    for (int i = 0; i < sk_X509_num(chain) && n < max; i++)
        pfl_cert_der(sk_X509_value(chain, i), &certs[n++]);
    return n;
}

static enum pfl_rc check(const struct pfl_tls *t, const struct pfl_buf *certs, size_t n, int64_t now, struct pfl_author *a,
                         struct pfl_err *err)
{
    PFL_AUTO(pfl_x509_freep) X509 *leaf = NULL;
    enum pfl_rc rc = pfl_cert_of_der(pfl_buf_view(&certs[0]), &leaf, err);
    STACK_OF(X509) *untrusted = sk_X509_new_null();
    PFL_ASSERT(untrusted != NULL);
    for (size_t i = 1; rc == PFL_OK && i < n; i++) {
        X509 *c = NULL;
        rc = pfl_cert_of_der(pfl_buf_view(&certs[i]), &c, err);
        if (rc == PFL_OK)
            PFL_ASSERT(sk_X509_push(untrusted, c) > 0);
    }
    const struct pfl_verify_opts opts = {.purpose = PFL_PURPOSE_CLIENT, .now = now, .crls = t->crls, .crl_policy = t->crl_policy};
    if (rc == PFL_OK)
        rc = pfl_verify_x509(t->trust, leaf, untrusted, &opts, err);
    if (rc == PFL_OK)
        rc = pfl_identity_of_x509(leaf, &a->identity, err);
    if (rc == PFL_OK && !(a->key = pfl_cert_key(leaf)))
        rc = pfl_err_set(err, PFL_AUTH, "its key cannot be read");
    sk_X509_pop_free(untrusted, X509_free);
    ERR_clear_error();
    return rc;
}

struct pfl_author *pfl_author_check(const struct pfl_tls *t, const struct pfl_buf *certs, size_t n, int64_t now)
{
    struct pfl_author *a = pfl_xcalloc(1, sizeof(*a));
    struct pfl_err err = {0};
    atomic_init(&a->refs, 1);
    pfl_sha256(pfl_buf_view(&certs[0]), a->fingerprint);
    a->checked_at = pfl_clock_mono();
    a->rc = check(t, certs, n, now, a, &err);
    if (a->rc != PFL_OK)
        snprintf(a->why, sizeof(a->why), "%s", err.msg);
    return a;
}

bool pfl_author_signed(const struct pfl_author *a, struct pfl_bytes text, struct pfl_bytes signature)
{
    return pfl_sign_verify(a->key, text, signature);
}

struct pfl_author *pfl_author_ref(struct pfl_author *a)
{
    if (a)
        atomic_fetch_add(&a->refs, 1);
    return a;
}

void pfl_author_unref(struct pfl_author *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    pfl_identity_unref(a->identity);
    pfl_key_free(a->key);
    free(a);
}
