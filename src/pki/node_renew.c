/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/node_renew.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/key.h"

enum { CA_FILE_MAX = 1 << 20 };

/* ---- keys ---- */

static enum pfl_rc load_passphrase(const char *file, struct pfl_passphrase **ret, struct pfl_err *err)
{
    return file ? pfl_passphrase_from_file(file, ret, err) : PFL_OK;
}

/* What --key would be for a key such as the certificate's. */
static enum pfl_rc kind_of(const char *path, char spec[16], struct pfl_err *err)
{
    PFL_AUTO(pfl_x509s_freep) STACK_OF(X509) *certs = NULL;
    enum pfl_rc rc = pfl_certs_load(path, &certs, err);
    if (rc != PFL_OK)
        return rc;
    EVP_PKEY *key = X509_get0_pubkey(pfl_x509s_at(certs, 0));
    int bits = key ? EVP_PKEY_get_bits(key) : 0;
    switch (key ? EVP_PKEY_get_base_id(key) : 0) {
    case EVP_PKEY_RSA:
        (void)snprintf(spec, 16, "rsa:%d", bits);
        return PFL_OK;
    case EVP_PKEY_EC:
        (void)snprintf(spec, 16, "%s", bits == 384 ? "p384" : "p256");
        return PFL_OK;
    case EVP_PKEY_ED25519:
        (void)snprintf(spec, 16, "ed25519");
        return PFL_OK;
    default:
        return pfl_err_set(err, PFL_UNSUPPORTED, "%s: a kind of key that cannot be made here", path);
    }
}

static bool kept(const char *key_path, bool same_keys)
{
    return same_keys || pfl_key_file_in_token(key_path);
}

static enum pfl_rc one_key(const struct pfl_node_pairs *p, const char *crt, const char *path, bool same, EVP_PKEY **ret,
                           struct pfl_err *err)
{
    char spec[16];
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *secret = NULL;
    bool token = pfl_key_file_in_token(path);
    if (!kept(path, same)) {
        enum pfl_rc rc = kind_of(crt, spec, err);
        return rc == PFL_OK ? pfl_key_generate(spec, ret, err) : rc;
    }
    enum pfl_rc rc = load_passphrase(token && p->pin_file ? p->pin_file : p->passphrase_file, &secret, err);
    return rc == PFL_OK ? pfl_key_load(path, secret, ret, err) : rc;
}

static enum pfl_rc request(EVP_PKEY *key, const char *purpose, struct pfl_buf *out, struct pfl_err *err)
{
    out->limit = PFL_CSR_MAX;
    return pfl_csr_make("", NULL, purpose, key, out, err);
}

enum pfl_rc pfl_node_renew_keys(const struct pfl_node_pairs *p, bool same_keys, struct pfl_node_keys *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_node_keys_deinit) struct pfl_node_keys k = {.kept = true};
    enum pfl_rc rc = one_key(p, p->server_crt, p->server_key, same_keys, &k.server, err);
    if (rc == PFL_OK)
        rc = one_key(p, p->client_crt, p->client_key, same_keys, &k.client, err);
    if (rc == PFL_OK)
        rc = request(k.server, "serverAuth", &k.server_csr, err);
    if (rc == PFL_OK)
        rc = request(k.client, "clientAuth", &k.client_csr, err);
    if (rc != PFL_OK)
        return rc;
    *ret = k;
    memset(&k, 0, sizeof(k)); /* moved */
    return PFL_OK;
}

/* ---- contents ---- */

void pfl_node_contents_deinit(struct pfl_node_contents *c)
{
    pfl_key_pem_wipe(&c->server_key);
    pfl_key_pem_wipe(&c->client_key);
    pfl_buf_deinit(&c->ca_crt);
    pfl_buf_deinit(&c->server_crt);
    pfl_buf_deinit(&c->client_crt);
}

static enum pfl_rc put_certs(const struct pfl_buf *ders, size_t n, const char *what, struct pfl_buf *out, struct pfl_err *err)
{
    if (n == 0)
        return pfl_err_set(err, PFL_MALFORMED, "the CA's answer has no %s", what);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *at = ders[i].data;
        PFL_AUTO(pfl_x509_freep) X509 *cert = d2i_X509(NULL, &at, (long)ders[i].len);
        if (!cert || at != ders[i].data + ders[i].len)
            return pfl_err_set(err, PFL_MALFORMED, "the CA's answer has a %s that cannot be read", what);
        PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(cert);
        (void)pfl_buf_append_str(out, pem);
    }
    return PFL_OK;
}

static enum pfl_rc put_roots(const char *path, const struct pfl_node_certs *certs, struct pfl_buf *out, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *present = NULL;
    if (certs->n_roots == 0)
        return pfl_err_set(err, PFL_MALFORMED, "the CA's answer has no root");
    enum pfl_rc rc = pfl_fs_read(path, CA_FILE_MAX, &present, err);
    return rc == PFL_OK ? pfl_node_roots_pem(pfl_bytes_of(present->data, present->len), certs->roots, certs->n_roots, out, err)
                        : rc;
}

static enum pfl_rc put_key(const struct pfl_node_pairs *p, const char *path, const EVP_PKEY *key, bool same, struct pfl_buf *out,
                           struct pfl_err *err)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *secret = NULL;
    if (kept(path, same))
        return PFL_OK;
    enum pfl_rc rc = pfl_key_file_encrypted(path) ? load_passphrase(p->passphrase_file, &secret, err) : PFL_OK;
    if (rc == PFL_OK && pfl_key_file_encrypted(path) && !secret)
        return pfl_err_set(err, PFL_AUTH, "%s is encrypted and settings.ssl.key_passphrase_file is not set", path);
    return rc == PFL_OK ? pfl_key_pem(key, secret, out, err) : rc;
}

enum pfl_rc pfl_node_renew_contents(const struct pfl_node_pairs *p, const struct pfl_node_keys *keys, bool same_keys,
                                    const struct pfl_node_certs *certs, struct pfl_node_contents *ret, struct pfl_err *err)
{
    enum pfl_rc rc = put_certs(certs->server_chain, certs->n_server_chain, "server certificate", &ret->server_crt, err);
    if (rc == PFL_OK)
        rc = put_certs(certs->client_chain, certs->n_client_chain, "client certificate", &ret->client_crt, err);
    if (rc == PFL_OK)
        rc = put_roots(p->ca_crt, certs, &ret->ca_crt, err);
    if (rc == PFL_OK)
        rc = put_key(p, p->server_key, keys->server, same_keys, &ret->server_key, err);
    if (rc == PFL_OK)
        rc = put_key(p, p->client_key, keys->client, same_keys, &ret->client_key, err);
    return rc;
}

/* ---- the plan ---- */

static double life(const struct pfl_renew_plan *p)
{
    return p->not_after > p->not_before ? p->not_after - p->not_before : 0.0;
}

static double within(double x, double least, double most)
{
    return x < least ? least : x > most ? most : x;
}

double pfl_renew_backoff(const struct pfl_renew_plan *p)
{
    double wait = life(p) / 100.0;
    for (unsigned i = 1; i < p->failures && i < 20; i++)
        wait *= 2.0;
    return within(wait, 0.2, within(life(p) / 20.0, 0.2, 3600.0));
}

double pfl_renew_due(const struct pfl_renew_plan *p)
{
    double due = p->not_before + life(p) * (p->at + p->jitter / 20.0);
    if (p->failures == 0)
        return due;
    double again = p->failed_at + pfl_renew_backoff(p);
    return again > due ? again : due;
}

double pfl_renew_period(const struct pfl_renew_plan *p)
{
    return within(life(p) / 50.0, 0.2, 60.0);
}
