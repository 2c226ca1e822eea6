/* SPDX-License-Identifier: Apache-2.0 */
/* The roots of ca.crt. What is not a self-signed, strong CA certificate is refused when it is loaded, so that a node that was given
 * the wrong file says so at its start and not at its first handshake. */
#include "pki/trust.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"
#include "base/str.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"

struct pfl_trust {
    atomic_uint refs;
    STACK_OF(X509) * roots; /* owned */
    X509_STORE *store;      /* owned; the same roots; has a lock of its own */
    char **federations;     /* owned; by root; an item is NULL where the root names none */
    char *text;             /* owned */
};

static const char *unnamed_digest(X509 *cert)
{
    const char *name = OBJ_nid2ln(X509_get_signature_nid(cert));
    return name ? name : "an unknown algorithm";
}

enum pfl_rc pfl_trust_check_strength(X509 *cert, struct pfl_err *err)
{
    int digest = NID_undef, key = NID_undef, security_bits = -1;
    uint32_t flags;
    EVP_PKEY *pub = X509_get0_pubkey(cert);
    if (!pub) {
        ERR_clear_error();
        return pfl_err_set(err, PFL_AUTH, "its public key cannot be read");
    }
    if (pfl_key_check_strength(pub, err) != PFL_OK)
        return PFL_AUTH;
    if (X509_get_signature_info(cert, &digest, &key, &security_bits, &flags) != 1)
        return pfl_err_set(err, PFL_AUTH, "signed with %s, which is not known here: SHA-256 or better is needed",
                           unnamed_digest(cert));
    if (digest == NID_sha1 || digest == NID_md5 || digest == NID_md5_sha1 || security_bits < 128)
        return pfl_err_set(err, PFL_AUTH, "signed with %s (%s), SHA-256 or better is needed: issue it again",
                           digest == NID_sha1  ? "SHA-1"
                           : digest == NID_md5 ? "MD5"
                                               : "a weak digest",
                           unnamed_digest(cert));
    return PFL_OK;
}

static enum pfl_rc check_root(X509 *root, struct pfl_err *err)
{
    if (!(X509_get_extension_flags(root) & EXFLAG_CA))
        return pfl_err_set(err, PFL_AUTH, "is not a CA certificate (basicConstraints CA:TRUE is missing)");
    if (!(X509_get_key_usage(root) & KU_KEY_CERT_SIGN))
        return pfl_err_set(err, PFL_AUTH, "may not sign certificates (its key usage lacks keyCertSign)");
    if (X509_NAME_cmp(X509_get_subject_name(root), X509_get_issuer_name(root)) != 0)
        return pfl_err_set(err, PFL_AUTH,
                           "is not a root but an intermediate CA: put the root here, and the intermediate behind the "
                           "certificates that it issued");
    if (X509_self_signed(root, 1) != 1)
        return pfl_err_set(err, PFL_AUTH, "does not carry a valid signature of its own key: the file is damaged");
    return pfl_trust_check_strength(root, err);
}

/* The roots' subjects as "'CN=a' and 'CN=b'"; past four of them only how many more. */
static char *make_text(STACK_OF(X509) * roots)
{
    struct pfl_buf text = {.limit = 4096};
    int n = sk_X509_num(roots), shown = n > 4 ? 4 : n;
    for (int i = 0; i < shown; i++) {
        PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(sk_X509_value(roots, i));
        pfl_buf_printf(&text, "%s'%.100s'", i == 0 ? "" : i == n - 1 ? " and " : ", ", subject);
    }
    if (n > shown)
        pfl_buf_printf(&text, " and %d more", n - shown);
    char *copy = pfl_xstrdup(pfl_buf_cstr(&text));
    pfl_buf_deinit(&text);
    return copy;
}

static enum pfl_rc take_roots(struct pfl_trust *t, struct pfl_err *err)
{
    int n = sk_X509_num(t->roots);
    t->federations = pfl_xcalloc((size_t)n, sizeof *t->federations);
    for (int i = 0; i < n; i++) {
        PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
        X509 *root = sk_X509_value(t->roots, i);
        PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(root);
        enum pfl_rc rc = check_root(root, err);
        if (rc == PFL_OK)
            rc = pfl_identity_of_x509(root, &id, err);
        if (rc != PFL_OK)
            return pfl_err_wrap(err, "certificate %d ('%.100s')", i + 1, subject);
        t->federations[i] = id->federation ? pfl_xstrdup(id->federation) : NULL;
        if (X509_STORE_add_cert(t->store, root) != 1)
            return pfl_err_set(err, PFL_MALFORMED, "certificate %d cannot be used by OpenSSL", i + 1);
    }
    t->text = make_text(t->roots);
    return PFL_OK;
}

static struct pfl_trust *trust_new(void)
{
    struct pfl_trust *t = pfl_xcalloc(1, sizeof *t);
    atomic_init(&t->refs, 1);
    t->store = X509_STORE_new();
    PFL_ASSERT(t->store != NULL);
    return t;
}

enum pfl_rc pfl_trust_of_certs(const STACK_OF(X509) * roots, struct pfl_trust **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *t = trust_new();
    if (sk_X509_num(roots) < 1)
        return pfl_err_set(err, PFL_MALFORMED, "no root certificate");
    t->roots = X509_chain_up_ref((STACK_OF(X509) *)(uintptr_t)roots);
    PFL_ASSERT(t->roots != NULL);
    enum pfl_rc rc = take_roots(t, err);
    ERR_clear_error();
    if (rc == PFL_OK)
        *ret = pfl_steal(&t);
    return rc;
}

enum pfl_rc pfl_trust_load(const char *path, struct pfl_trust **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *t = trust_new();
    enum pfl_rc rc = pfl_certs_load(path, &t->roots, err);
    if (rc != PFL_OK)
        return rc;
    rc = take_roots(t, err);
    ERR_clear_error();
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "%s", path);
    *ret = pfl_steal(&t);
    return PFL_OK;
}

struct pfl_trust *pfl_trust_ref(struct pfl_trust *t)
{
    if (t)
        atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void pfl_trust_unref(struct pfl_trust *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; t->federations && i < sk_X509_num(t->roots); i++)
        free(t->federations[i]);
    free(t->federations);
    pfl_x509s_free(t->roots);
    X509_STORE_free(t->store);
    free(t->text);
    free(t);
}

size_t pfl_trust_n_roots(const struct pfl_trust *t)
{
    return (size_t)sk_X509_num(t->roots);
}

X509 *pfl_trust_root(const struct pfl_trust *t, size_t i)
{
    PFL_ASSERT(i < pfl_trust_n_roots(t));
    return sk_X509_value(t->roots, (int)i);
}

const char *pfl_trust_text(const struct pfl_trust *t)
{
    return t->text;
}

X509_STORE *pfl_trust_store(const struct pfl_trust *t)
{
    return t->store;
}

const char *pfl_trust_federation(const struct pfl_trust *t, const X509 *root)
{
    for (int i = 0; i < sk_X509_num(t->roots); i++)
        if (X509_cmp(sk_X509_value(t->roots, i), root) == 0)
            return t->federations[i];
    return NULL;
}

bool pfl_trust_same(const struct pfl_trust *a, const struct pfl_trust *b)
{
    bool same = pfl_trust_n_roots(a) == pfl_trust_n_roots(b);
    for (size_t i = 0; same && i < pfl_trust_n_roots(a); i++)
        same = X509_cmp(pfl_trust_root(a, i), pfl_trust_root(b, i)) == 0;
    return same;
}
