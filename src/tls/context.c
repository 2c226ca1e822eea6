/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the two SSL_CTXs of a node. Everything that could weaken a link is decided here, once: versions, ALPN, no tickets, no
 * resumption (a resumed session would skip the certificate checks), no renegotiation, no compression, a certificate from both
 * sides. Any failure refuses the context. */
#include "tls/context.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "pki/cert.h"
#include "pki/key.h"
#include "tls/impl.h"

/* No finite fields: the smallest has the strength of 112 bits, and the largest let a stranger keep a server computing. */
static const char GROUPS[] = "X25519:P-256:X448:P-384:P-521";
/* AES-128-GCM first: it is the fastest where the processor has AES, and as good as the others. */
static const char CIPHERSUITES_13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char CIPHERS_12[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
                                 "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const unsigned char ALPN_H2[] = {2, 'h', '2'};

/* One of the node's two identities, as the files name it. */
struct own {
    const char *crt, *key;    /* paths */
    enum pfl_purpose purpose; /* what the certificate must be good for */
};

static enum pfl_rc openssl_err(struct pfl_err *err, const char *path, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return pfl_err_set(err, PFL_AUTH, "%s: %s: %s", path, what, reason ? reason : "OpenSSL gives no reason");
}

static enum pfl_rc ctx_init(SSL_CTX *ctx, bool tls12_allowed, struct pfl_err *err)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_clear_options(ctx, SSL_OP_ENABLE_MIDDLEBOX_COMPAT | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS |
                              SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, PFL_TLS_READ_AHEAD);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, pfl_tls_session_verify, NULL);
    bool ok = SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
              SSL_CTX_set_min_proto_version(ctx, tls12_allowed ? TLS1_2_VERSION : TLS1_3_VERSION) == 1 &&
              SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 && SSL_CTX_set_ciphersuites(ctx, CIPHERSUITES_13) == 1 &&
              SSL_CTX_set_cipher_list(ctx, CIPHERS_12) == 1 && SSL_CTX_set1_groups_list(ctx, GROUPS) == 1;
    return ok ? PFL_OK : openssl_err(err, "TLS", "the settings were refused");
}

/* The roots go into the context's own store too: only to tell which alert fits a refusal, and whom a server asks certificates of.
 */
static void ctx_set_roots(SSL_CTX *ctx, const struct pfl_trust *trust, bool server)
{
    for (size_t i = 0; i < pfl_trust_n_roots(trust); i++) {
        X509 *root = pfl_trust_root(trust, i);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root);
        if (server)
            SSL_CTX_add_client_CA(ctx, root);
    }
    ERR_clear_error();
}

static enum pfl_rc use_chain(SSL_CTX *ctx, const struct own *own, STACK_OF(X509) * certs, EVP_PKEY *key, struct pfl_err *err)
{
    if (SSL_CTX_use_certificate(ctx, sk_X509_value(certs, 0)) != 1)
        return openssl_err(err, own->crt, "the certificate cannot be used");
    for (int i = 1; i < sk_X509_num(certs); i++)
        if (SSL_CTX_add1_chain_cert(ctx, sk_X509_value(certs, i)) != 1)
            return openssl_err(err, own->crt, "a certificate behind the first cannot be used");
    if (SSL_CTX_use_PrivateKey(ctx, key) != 1)
        return openssl_err(err, own->key, "the key cannot be used");
    return PFL_OK;
}

/* What peers will say of this node's own certificate. */
static enum pfl_rc verify_own(const struct pfl_tls *t, enum pfl_purpose purpose, STACK_OF(X509) * certs, struct pfl_err *why)
{
    const struct pfl_verify_opts opts = {.purpose = purpose};
    return pfl_verify_x509(t->trust, sk_X509_value(certs, 0), certs, &opts, why);
}

/* Either may be NULL. */
struct secrets {
    const struct pfl_passphrase *passphrase, *pin; /* of key files, of tokens */
};

static enum pfl_rc load_own(const struct pfl_tls *t, SSL_CTX *ctx, const struct own *own, const struct secrets *secrets,
                            struct pfl_identity **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_x509s_freep) STACK_OF(X509) *certs = NULL;
    enum pfl_rc rc = pfl_certs_load(own->crt, &certs, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    rc = pfl_key_load(own->key, secrets->pin && pfl_key_file_in_token(own->key) ? secrets->pin : secrets->passphrase, &key, err);
    if (rc != PFL_OK)
        return rc;
    X509 *leaf = sk_X509_value(certs, 0);
    if (!pfl_key_matches(key, leaf))
        return pfl_err_set(err, PFL_AUTH,
                           "%s: the key does not belong to the certificate in %s: use the pair that was issued together", own->key,
                           own->crt);
    rc = use_chain(ctx, own, certs, key, err);
    struct pfl_err why = {0};
    if (rc != PFL_OK && verify_own(t, own->purpose, certs, &why) != PFL_OK) /* OpenSSL's words for it are terse: "ca md too weak" */
        return pfl_err_set(err, rc, "%s: the certificate cannot be used: %s", own->crt, why.msg);
    if (rc != PFL_OK)
        return rc;
    if (pfl_identity_of_x509(leaf, ret, err) != PFL_OK)
        return pfl_err_wrap(err, "%s", own->crt);
    return PFL_OK;
}

/* Peers would refuse it, but that is theirs to say: a clock may be wrong here, and a node must be able to start to be renewed. */
static void warn_of_own(const struct pfl_tls *t, const struct pfl_tls_files *files)
{
    struct pfl_err why = {0};
    if (pfl_tls_check_own(t, pfl_clock_wall() / PFL_SEC, NULL, &why) != PFL_OK)
        pfl_warn("%s, %s: peers will refuse this node's certificate: %s", files->server_crt, files->client_crt, why.msg);
}

enum pfl_rc pfl_tls_init_contexts(struct pfl_tls *t, struct pfl_err *err)
{
    t->bio = pfl_tls_bio_method_new();
    t->server = SSL_CTX_new(TLS_server_method());
    t->client = SSL_CTX_new(TLS_client_method());
    if (!t->server || !t->client)
        return openssl_err(err, "TLS", "no context");
    enum pfl_rc rc = ctx_init(t->server, t->tls12_allowed, err);
    if (rc == PFL_OK)
        rc = ctx_init(t->client, t->tls12_allowed, err);
    if (rc != PFL_OK)
        return rc;
    if (t->trust) {
        ctx_set_roots(t->server, t->trust, true);
        ctx_set_roots(t->client, t->trust, false);
    }
    SSL_CTX_set_client_hello_cb(t->server, pfl_tls_session_client_hello, NULL);
    SSL_CTX_set_alpn_select_cb(t->server, pfl_tls_session_alpn, NULL);
    if (SSL_CTX_set_alpn_protos(t->client, ALPN_H2, sizeof ALPN_H2) != 0) /* 0 is success here */
        return openssl_err(err, "TLS", "ALPN was refused");
    return PFL_OK;
}

static enum pfl_rc init(struct pfl_tls *t, const struct pfl_tls_files *files, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_trust_load(files->ca_crt, &t->trust, err);
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *passphrase = NULL;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pin = NULL;
    if (rc == PFL_OK && files->key_passphrase_file)
        rc = pfl_passphrase_from_file(files->key_passphrase_file, &passphrase, err);
    if (rc == PFL_OK && files->key_pin_file)
        rc = pfl_passphrase_from_file(files->key_pin_file, &pin, err);
    if (rc != PFL_OK)
        return rc;
    const struct secrets secrets = {passphrase, pin};
    rc = pfl_tls_init_contexts(t, err);
    if (rc != PFL_OK)
        return rc;
    const struct own server = {files->server_crt, files->server_key, PFL_PURPOSE_SERVER};
    const struct own client = {files->client_crt, files->client_key, PFL_PURPOSE_CLIENT};
    rc = load_own(t, t->server, &server, &secrets, &t->server_identity, err);
    if (rc == PFL_OK)
        rc = load_own(t, t->client, &client, &secrets, &t->client_identity, err);
    if (rc == PFL_OK)
        rc = pfl_tls_load_crls(t, files, err);
    if (rc == PFL_OK)
        warn_of_own(t, files);
    return rc;
}

enum pfl_rc pfl_tls_new(const struct pfl_tls_files *files, struct pfl_tls **ret, struct pfl_err *err)
{
    if (!files->ca_crt || !files->server_crt || !files->server_key || !files->client_crt || !files->client_key)
        return pfl_err_set(err, PFL_INVALID, "TLS needs five files, %s is not named",
                           !files->ca_crt       ? "ca_crt"
                           : !files->server_crt ? "server_crt"
                           : !files->server_key ? "server_key"
                           : !files->client_crt ? "client_crt"
                                                : "client_key");
    PFL_AUTO(pfl_tls_freep) struct pfl_tls *t = pfl_xcalloc(1, sizeof *t);
    atomic_init(&t->refs, 1);
    t->crls = pfl_crl_set_new();
    t->crl_policy = files->crl_policy;
    t->tls12_allowed = files->tls12_allowed;
    enum pfl_rc rc = init(t, files, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&t);
    return rc;
}

struct pfl_tls *pfl_tls_ref(struct pfl_tls *t)
{
    if (t)
        atomic_fetch_add(&t->refs, 1);
    return t;
}

void pfl_tls_unref(struct pfl_tls *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    pfl_crl_set_unref(t->crls);
    if (t->base) {
        pfl_tls_unref(t->base);
        free(t);
        return;
    }
    SSL_CTX_free(t->server);
    SSL_CTX_free(t->client);
    BIO_meth_free(t->bio);
    pfl_trust_unref(t->trust);
    pfl_identity_unref(t->server_identity);
    pfl_identity_unref(t->client_identity);
    free(t);
}

struct pfl_identity *pfl_tls_server_identity(const struct pfl_tls *t)
{
    return t->server_identity;
}

struct pfl_identity *pfl_tls_client_identity(const struct pfl_tls *t)
{
    return t->client_identity;
}
