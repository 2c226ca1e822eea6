/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/node_files.h"

#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/crl.h"
#include "pki/csr.h"
#include "pki/digest.h"
#include "pki/key.h"
#include "pki/passphrase.h"
#include "pki/trust.h"
#include "pki/verify.h"

void pfl_node_keys_deinit(struct pfl_node_keys *k)
{
    if (!k->kept) {
        pfl_key_unmake(k->server);
        pfl_key_unmake(k->client);
    }
    pfl_key_free(k->server);
    pfl_key_free(k->client);
    pfl_buf_deinit(&k->server_csr);
    pfl_buf_deinit(&k->client_csr);
    *k = (struct pfl_node_keys){0};
}

static enum pfl_rc make_pair(const char *name, const struct pfl_strs *sans, const char *spec, const char *purpose,
                             const char *pin_file, EVP_PKEY **ret_key, struct pfl_buf *ret_csr, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *own = NULL;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pin = NULL;
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    bool server = strcmp(purpose, "serverAuth") == 0;
    enum pfl_rc rc = pfl_key_spec_for(spec, name ? name : "node", server ? "server" : "client", pin_file, &own, err);
    if (rc == PFL_OK)
        rc = pfl_key_make(own, pin, &key, err);
    ret_csr->limit = PFL_CSR_MAX;
    if (rc == PFL_OK)
        rc = pfl_csr_make(name ? name : "", sans, purpose, key, ret_csr, err);
    if (rc == PFL_OK)
        *ret_key = pfl_steal(&key);
    return rc;
}

enum pfl_rc pfl_node_keys_make(const char *name, const struct pfl_strs *sans, const char *key, const char *pin_file,
                               struct pfl_node_keys *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_node_keys_deinit) struct pfl_node_keys k = {0};
    const char *spec = key ? key : "p256";
    enum pfl_rc rc = make_pair(name, sans, spec, "serverAuth", pin_file, &k.server, &k.server_csr, err);
    if (rc == PFL_OK)
        rc = make_pair(name, sans, spec, "clientAuth", pin_file, &k.client, &k.client_csr, err);
    if (rc != PFL_OK)
        return rc;
    *ret = k;
    memset(&k, 0, sizeof(k)); /* moved */
    return PFL_OK;
}

enum pfl_rc pfl_node_keys_fingerprint(struct pfl_bytes csr, char out[72], struct pfl_err *err)
{
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *parsed = NULL;
    enum pfl_rc rc = pfl_csr_parse(csr, &parsed, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("sha256:%s", pfl_csr_key_fingerprint(parsed));
    PFL_ASSERT(strlen(text) < 72);
    memcpy(out, text, strlen(text) + 1);
    return PFL_OK;
}

/* ---- looking at what came ---- */

static enum pfl_rc parse_list(const struct pfl_buf *ders, size_t n, const char *what, STACK_OF(X509) * *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_x509s_freep) STACK_OF(X509) *list = sk_X509_new_null();
    PFL_ASSERT(list);
    for (size_t i = 0; i < n; i++) {
        X509 *cert = NULL;
        if (pfl_cert_of_der(pfl_buf_view(&ders[i]), &cert, err) != PFL_OK)
            return pfl_err_wrap(err, "%s", what);
        PFL_ASSERT(sk_X509_push(list, cert) > 0);
    }
    if (n == 0)
        return pfl_err_set(err, PFL_MALFORMED, "%s: no certificate", what);
    *ret = pfl_steal(&list);
    return PFL_OK;
}

static enum pfl_rc check_pin(STACK_OF(X509) * roots, const uint8_t *pin, struct pfl_err *err)
{
    for (int i = 0; i < sk_X509_num(roots); i++) {
        uint8_t hash[PFL_SHA256_LEN];
        if (pfl_cert_spki_hash(sk_X509_value(roots, i), hash) && CRYPTO_memcmp(hash, pin, sizeof hash) == 0)
            return PFL_OK;
    }
    return pfl_err_set(err, PFL_AUTH, "none of the roots that the CA sent has the pinned key");
}

static enum pfl_rc check_names(const struct pfl_identity *id, const struct pfl_node_certs *c, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("spiffe://%s/%s/%s", c->federation, c->role, c->name);
    if (!id->spiffe_id || strcmp(id->spiffe_id, uri) != 0)
        return pfl_err_set(err, PFL_AUTH, "the certificate is for '%s', the CA said '%s'", pfl_q(pfl_identity_text(id)),
                           pfl_q(uri));
    for (size_t i = 0; i < c->sans->n; i++)
        if (!pfl_strs_has(&id->sans, c->sans->items[i]))
            return pfl_err_set(err, PFL_AUTH, "the certificate lacks the name '%s' that was granted", pfl_q(c->sans->items[i]));
    if (id->sans.n != c->sans->n + 1)
        return pfl_err_set(err, PFL_AUTH, "the certificate has %zu names, %zu were granted", id->sans.n - 1, c->sans->n);
    return PFL_OK;
}

static enum pfl_rc check_leaf(const struct pfl_node_certs *c, const struct pfl_trust *trust, const struct pfl_crl_set *crls,
                              STACK_OF(X509) * chain, EVP_PKEY *key, enum pfl_purpose purpose, struct pfl_err *err)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    const struct pfl_verify_opts opts = {.purpose = purpose, .now = c->now, .crls = crls};
    X509 *leaf = sk_X509_value(chain, 0);
    if (!pfl_key_matches(key, leaf))
        return pfl_err_set(err, PFL_AUTH, "the certificate is for another key than the one that was made here");
    enum pfl_rc rc = pfl_verify_x509(trust, leaf, chain, &opts, err);
    if (rc == PFL_OK)
        rc = pfl_identity_of_x509(leaf, &id, err);
    return rc == PFL_OK ? check_names(id, c, err) : rc;
}

static enum pfl_rc take_crls(const struct pfl_node_certs *c, const struct pfl_trust *trust, STACK_OF(X509) * chain,
                             struct pfl_crl_set **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *set = pfl_crl_set_new();
    for (size_t i = 0; i < c->n_crls; i++) {
        PFL_AUTO(pfl_crl_freep) struct pfl_crl *crl = NULL;
        struct pfl_crl_set *with = NULL;
        enum pfl_rc rc = pfl_crl_parse(pfl_buf_view(&c->crls[i]), &crl, err);
        if (rc == PFL_OK)
            rc = pfl_crl_verify(crl, trust, chain, c->now, err);
        if (rc == PFL_OK)
            rc = pfl_crl_set_with(set, crl, &with, err);
        if (rc != PFL_OK)
            return pfl_err_wrap(err, "CRL %zu", i + 1);
        pfl_crl_set_unref(set);
        set = with;
    }
    *ret = pfl_steal(&set);
    return PFL_OK;
}

struct checked {
    STACK_OF(X509) * roots, *server, *client;
    struct pfl_trust *trust;
    struct pfl_crl_set *crls;
};

static void checked_deinit(struct checked *k)
{
    pfl_x509s_free(k->roots);
    pfl_x509s_free(k->server);
    pfl_x509s_free(k->client);
    pfl_trust_unref(k->trust);
    pfl_crl_set_unref(k->crls);
}

static enum pfl_rc load_all(const struct pfl_node_certs *c, struct checked *k, struct pfl_err *err)
{
    enum pfl_rc rc = parse_list(c->roots, c->n_roots, "the CA's roots", &k->roots, err);
    if (rc == PFL_OK)
        rc = parse_list(c->server_chain, c->n_server_chain, "server certificate", &k->server, err);
    if (rc == PFL_OK)
        rc = parse_list(c->client_chain, c->n_client_chain, "client certificate", &k->client, err);
    if (rc == PFL_OK)
        rc = pfl_trust_of_certs(k->roots, &k->trust, err);
    if (rc == PFL_OK)
        rc = take_crls(c, k->trust, k->server, &k->crls, err);
    return rc;
}

enum pfl_rc pfl_node_certs_check(const struct pfl_node_keys *keys, const struct pfl_node_certs *c, struct pfl_err *err)
{
    PFL_AUTO(checked_deinit) struct checked k = {0};
    if (!pfl_name_valid(c->name ? c->name : "") || !pfl_role_valid(c->role ? c->role : "") ||
        !pfl_name_valid(c->federation ? c->federation : ""))
        return pfl_err_set(err, PFL_MALFORMED, "the CA gave no proper name, role or federation");
    enum pfl_rc rc = load_all(c, &k, err);
    if (rc == PFL_OK)
        rc = check_pin(k.roots, c->pin, err);
    if (rc != PFL_OK)
        return rc;
    if (check_leaf(c, k.trust, k.crls, k.server, keys->server, PFL_PURPOSE_SERVER, err) != PFL_OK)
        return pfl_err_wrap(err, "server certificate");
    if (check_leaf(c, k.trust, k.crls, k.client, keys->client, PFL_PURPOSE_CLIENT, err) != PFL_OK)
        return pfl_err_wrap(err, "client certificate");
    return PFL_OK;
}

int64_t pfl_node_certs_clock_ahead(const struct pfl_node_certs *c)
{
    PFL_AUTO(pfl_x509_freep) X509 *leaf = NULL;
    if (c->n_server_chain == 0 || pfl_cert_of_der(pfl_buf_view(&c->server_chain[0]), &leaf, NULL) != PFL_OK)
        return 0;
    int64_t from = pfl_cert_not_before(leaf), life = pfl_cert_not_after(leaf) - from;
    int64_t backdate = life / 11 < PFL_BACKDATE_S ? life / 11 : PFL_BACKDATE_S; /* a tenth of the lifetime behind it at most */
    return c->now - (from + backdate);
}

/* ---- writing ---- */

static enum pfl_rc write_key(const char *dir, const char *name, const EVP_PKEY *key, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    return pfl_key_save_new(path, key, NULL, err);
}

static enum pfl_rc put_certs(const char *name, const struct pfl_buf *ders, size_t n, struct pfl_buf *out, struct pfl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
        if (pfl_cert_of_der(pfl_buf_view(&ders[i]), &cert, err) != PFL_OK)
            return pfl_err_wrap(err, "%s", name);
        PFL_AUTO(pfl_freep) char *one = pfl_cert_pem(cert);
        pfl_buf_append_str(out, one);
    }
    return PFL_OK;
}

static enum pfl_rc write_certs(const char *dir, const char *name, const struct pfl_buf *ders, size_t n, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf pem = {0};
    enum pfl_rc rc = put_certs(name, ders, n, &pem, err);
    return rc == PFL_OK ? pfl_fs_write_new(path, pfl_buf_view(&pem), 0644, err) : rc;
}

static const char ROOTS_BEGIN[] =
    "# The CA's roots. A renewal replaces what stands between this line and the next of its kind; others may stand around.\n";
static const char ROOTS_END[] = "# End of the CA's roots.\n";

enum pfl_rc pfl_node_roots_pem(struct pfl_bytes present, const struct pfl_buf *roots, size_t n, struct pfl_buf *out,
                               struct pfl_err *err)
{
    const uint8_t *begin = NULL, *end = NULL, *stop = present.data + present.len;
    if (present.len > 0)
        begin = memmem(present.data, present.len, ROOTS_BEGIN, strlen(ROOTS_BEGIN));
    if (begin)
        end = memmem(begin, (size_t)(stop - begin), ROOTS_END, strlen(ROOTS_END));
    if (end) {
        end += strlen(ROOTS_END);
        (void)pfl_buf_append(out, present.data, (size_t)(begin - present.data));
    }
    pfl_buf_append_str(out, ROOTS_BEGIN);
    enum pfl_rc rc = put_certs("ca.crt", roots, n, out, err);
    if (rc != PFL_OK)
        return rc;
    pfl_buf_append_str(out, ROOTS_END);
    if (end)
        (void)pfl_buf_append(out, end, (size_t)(stop - end));
    return out->failed ? pfl_err_set(err, PFL_TOO_BIG, "ca.crt: too many roots") : PFL_OK;
}

static enum pfl_rc write_roots(const char *dir, const struct pfl_node_certs *c, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "ca.crt");
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf pem = {0};
    enum pfl_rc rc = pfl_node_roots_pem((struct pfl_bytes){0}, c->roots, c->n_roots, &pem, err);
    return rc == PFL_OK ? pfl_fs_write_new(path, pfl_buf_view(&pem), 0644, err) : rc;
}

static enum pfl_rc write_crls(const char *dir, const struct pfl_node_certs *c, struct pfl_err *err)
{
    PFL_AUTO(checked_deinit) struct checked k = {0};
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "crl.pem");
    enum pfl_rc rc = load_all(c, &k, err);
    return rc == PFL_OK ? pfl_crl_set_save(k.crls, path, err) : rc;
}

enum pfl_rc pfl_node_files_write(const char *dir, const struct pfl_node_keys *keys, const struct pfl_node_certs *c,
                                 struct pfl_err *err)
{
    enum pfl_rc rc = write_roots(dir, c, err);
    if (rc == PFL_OK)
        rc = write_certs(dir, "server.crt", c->server_chain, c->n_server_chain, err);
    if (rc == PFL_OK)
        rc = write_certs(dir, "client.crt", c->client_chain, c->n_client_chain, err);
    if (rc == PFL_OK)
        rc = write_key(dir, "server.key", keys->server, err);
    if (rc == PFL_OK)
        rc = write_key(dir, "client.key", keys->client, err);
    return rc == PFL_OK ? write_crls(dir, c, err) : rc;
}

static enum pfl_rc write_csr(const char *dir, const char *name, const struct pfl_buf *der, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    PFL_AUTO(pfl_freep) char *pem = pfl_csr_pem(pfl_buf_view(der));
    return pfl_fs_write_new(path, pfl_bytes_of(pem, strlen(pem)), 0644, err);
}

enum pfl_rc pfl_node_requests_write(const char *dir, const struct pfl_node_keys *keys, struct pfl_err *err)
{
    enum pfl_rc rc = write_key(dir, "server.key", keys->server, err);
    if (rc == PFL_OK)
        rc = write_key(dir, "client.key", keys->client, err);
    if (rc == PFL_OK)
        rc = write_csr(dir, "server.csr", &keys->server_csr, err);
    return rc == PFL_OK ? write_csr(dir, "client.csr", &keys->client_csr, err) : rc;
}
