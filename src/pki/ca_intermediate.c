/* SPDX-License-Identifier: Apache-2.0 */
/* An online CA under a root that is kept elsewhere: its request, the root's signature, and what comes back. Everything that comes
 * back is checked against the folder's own key and the roots before the register takes it. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/ca_admin.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/crl.h"
#include "pki/csr.h"
#include "pki/identity.h"
#include "pki/key.h"
#include "pki/sql.h"
#include "pki/trust.h"

PFL_DEFINE_FREEP(bio, BIO, BIO_free_all)

static void free_crls(STACK_OF(X509_CRL) * crls)
{
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
}

/* ---- the request ---- */

static enum pfl_rc check_no_ca(const char *dir, struct pfl_err *err)
{
    static const char *const NAMES[] = {"ca.key", "ca.crt", "ca.csr", "ca.db"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(NAMES); i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, NAMES[i]);
        if (pfl_fs_exists(path))
            return pfl_err_set(err, PFL_EXISTS, "%s exists already and is not overwritten: choose another folder", path);
    }
    return PFL_OK;
}

static enum pfl_rc fill_request(struct pfl_new_file *key_file, struct pfl_new_file *csr_file, const struct pfl_ca_opts *opts,
                                const struct pfl_passphrase *passphrase, struct pfl_err *err)
{
    const char *federation = opts->federation ? opts->federation : "p2pfl";
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {0};
    PFL_AUTO(pfl_freep) char *name = opts->name ? pfl_xstrdup(opts->name) : pfl_xasprintf("%.52s issuing CA", federation);
    if (!pfl_name_valid(federation))
        return pfl_err_set(err, PFL_INVALID, "federation '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(federation),
                           PFL_NAME_MAX);
    if (!pfl_common_name_valid(name))
        return pfl_err_set(err, PFL_INVALID, "name '%s': 1 to 64 visible characters are wanted", pfl_q(name));
    enum pfl_rc rc = PFL_OK;
    if (passphrase && !pfl_key_spec_in_token(opts->key))
        rc = pfl_passphrase_check_new(passphrase, err);
    if (rc == PFL_OK)
        rc = pfl_key_make(opts->key ? opts->key : "p256", passphrase, &key, err);
    if (rc == PFL_OK)
        rc = pfl_key_pem(key, passphrase, &key_file->content, err);
    if (rc == PFL_OK)
        rc = pfl_csr_make(name, NULL, "ca", key, &der, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) char *pem = pfl_csr_pem(pfl_buf_view(&der));
    pfl_buf_append_str(&csr_file->content, pem);
    return PFL_OK;
}

enum pfl_rc pfl_ca_init_intermediate(const char *dir, const struct pfl_ca_opts *opts, const struct pfl_passphrase *passphrase,
                                     struct pfl_err *err)
{
    struct pfl_new_file files[] = {{"ca.key", 0600, {0}}, {"ca.csr", 0644, {0}}};
    PFL_AUTO(pfl_freep) char *stage = NULL;
    enum pfl_rc rc = check_no_ca(dir, err);
    if (rc == PFL_OK)
        rc = fill_request(&files[0], &files[1], opts, passphrase, err);
    if (rc == PFL_OK)
        rc = pfl_stage_open(dir, &stage, err);
    if (rc == PFL_OK)
        rc = pfl_new_files_write(stage, files, PFL_ARRAY_LEN(files), err);
    if (rc == PFL_OK)
        rc = pfl_stage_commit(dir, stage, err);
    if (rc != PFL_OK)
        pfl_stage_drop(dir, stage);
    pfl_new_files_wipe(files, PFL_ARRAY_LEN(files));
    return rc;
}

/* ---- the root's signature ---- */

static enum pfl_rc check_request(const struct pfl_ca *ca, const struct pfl_csr *csr, struct pfl_err *err)
{
    const char *cn = pfl_csr_common_name(csr);
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("URI:spiffe://%s", ca->federation);
    PFL_AUTO(pfl_freep) char *sans = pfl_strs_join(pfl_csr_sans(csr), ", ");
    if (ca->keys->signer->intermediate)
        return pfl_err_set(err, PFL_STATE, "%s is an intermediate CA itself: only a root signs intermediates", ca->dir);
    if (!pfl_csr_asks_ca(csr))
        return pfl_err_set(err, PFL_AUTH, "the request does not ask to be a CA: a node's is signed with p2pfl ca sign");
    if (*sans && !pfl_streq(sans, uri))
        return pfl_err_set(err, PFL_AUTH, "the request asks for names (%s): an intermediate CA has none", pfl_q(sans));
    if (pfl_csr_purposes(csr)->n > 0)
        return pfl_err_set(err, PFL_AUTH, "the request asks for purposes: an intermediate CA has none");
    if (!pfl_common_name_valid(cn))
        return pfl_err_set(err, PFL_INVALID, "the request's common name '%s': 1 to 64 visible characters are wanted", pfl_q(cn));
    PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(ca->keys->root->cert);
    if (pfl_str_has_prefix(subject, "CN=") && pfl_streq(subject + 3, cn))
        return pfl_err_set(err, PFL_INVALID, "the request's common name '%s' is the root's own: an intermediate needs another",
                           pfl_q(cn));
    return PFL_OK;
}

static enum pfl_rc sign_it(const struct pfl_ca *ca, const struct pfl_csr *csr, int64_t lifetime_s, const char *actor, X509 **ret,
                           struct pfl_err *err)
{
    const struct pfl_issuer *root = ca->keys->root;
    int64_t now = pfl_now_or(0), from = pfl_cert_not_before(root->cert), until = pfl_cert_not_after(root->cert);
    if (now < from || now > until)
        return pfl_err_set(err, PFL_STATE, "the root is out of time: it can sign nothing now");
    lifetime_s = lifetime_s ? lifetime_s : (int64_t)PFL_CA_DAYS_DEFAULT * PFL_DAY_S;
    struct pfl_signing how = {.issuer = root, .role = "ca", .asked_by = actor, .action = "sign-intermediate"};
    struct pfl_cert_spec spec = {.common_name = pfl_csr_common_name(csr), .is_ca = true, .path_len = 0};
    spec.not_before = now - PFL_BACKDATE_S < from ? from : now - PFL_BACKDATE_S;
    spec.not_after = now + lifetime_s > until ? until : now + lifetime_s;
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("URI:spiffe://%s", ca->federation);
    pfl_strs_add(&spec.sans, uri);
    enum pfl_rc rc = pfl_ca_sign_spec(ca->reg, &spec, &how, pfl_csr_key(csr), ret, err);
    pfl_strs_deinit(&spec.sans);
    return rc;
}

static enum pfl_rc put_crl_file(const struct pfl_ca *ca, struct pfl_buf *out, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *crls = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(ca->dir, "crl.pem");
    enum pfl_rc rc = pfl_fs_read(path, PFL_BUF_LIMIT_DEFAULT / 2, &crls, err);
    if (rc == PFL_OK)
        pfl_buf_append(out, crls->data, crls->len);
    return rc;
}

enum pfl_rc pfl_ca_sign_intermediate(const struct pfl_ca *ca, const struct pfl_csr *csr, int64_t lifetime_s, const char *actor,
                                     struct pfl_buf *ret_pem, struct pfl_err *err)
{
    PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
    if (lifetime_s < 0 || lifetime_s > (int64_t)PFL_DAYS_MAX * PFL_DAY_S)
        return pfl_err_set(err, PFL_INVALID, "a lifetime of %lld s: at most %d days are allowed", (long long)lifetime_s,
                           PFL_DAYS_MAX);
    enum pfl_rc rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_ca_refresh(ca, err);
    if (rc == PFL_OK)
        rc = check_request(ca, csr, err);
    if (rc == PFL_OK)
        rc = sign_it(ca, csr, lifetime_s, actor, &cert, err);
    if (rc == PFL_OK)
        rc = pfl_register_commit(ca->reg, err);
    pfl_register_rollback(ca->reg);
    if (rc != PFL_OK)
        return rc;
    pfl_put_certs(ret_pem, cert, ca->keys->bundle);
    return put_crl_file(ca, ret_pem, err);
}

/* ---- what comes back ---- */

struct incoming {
    X509 *own;                 /* owned; the certificate of our key; NULL: none */
    STACK_OF(X509) * roots;    /* owned */
    STACK_OF(X509_CRL) * crls; /* owned */
    const char *actor;
    struct pfl_install_report *report;
};

static void incoming_deinit(struct incoming *in)
{
    pfl_x509_free(in->own);
    pfl_x509s_free(in->roots);
    free_crls(in->crls);
}

static enum pfl_rc take_cert(struct incoming *in, const EVP_PKEY *key, X509 *cert, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(cert);
    bool ca = X509_check_ca(cert) > 0 && (X509_get_key_usage(cert) & KU_KEY_CERT_SIGN);
    enum pfl_rc rc = pfl_trust_check_strength(cert, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "certificate '%.100s'", subject);
    if (!ca)
        return pfl_err_set(err, PFL_AUTH, "certificate '%.100s' is no CA's", subject);
    if (X509_self_signed(cert, 1) == 1) {
        X509_up_ref(cert);
        PFL_ASSERT(sk_X509_push(in->roots, cert) > 0);
        return PFL_OK;
    }
    if (!pfl_key_matches(key, cert))
        return pfl_err_set(err, PFL_AUTH,
                           "certificate '%.100s' is neither a root nor for this folder's key (ca.key): was the request "
                           "of another CA signed?",
                           subject);
    if (in->own)
        return pfl_err_set(err, PFL_INVALID, "more than one certificate for this folder's key: give the newest only");
    X509_up_ref(cert);
    in->own = cert;
    return PFL_OK;
}

/* Nothing in such a file is encrypted; without this OpenSSL would ask on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *user)
{
    (void)buf, (void)size, (void)rwflag, (void)user;
    return -1;
}

static enum pfl_rc sort_out(struct incoming *in, const EVP_PKEY *key, struct pfl_bytes pem, struct pfl_err *err)
{
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    PFL_ASSERT(bio != NULL);
    STACK_OF(X509_INFO) *infos = PEM_X509_INFO_read_bio(bio, NULL, no_passphrase, NULL);
    enum pfl_rc rc = infos ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "cannot be read as PEM");
    for (int i = 0; rc == PFL_OK && i < sk_X509_INFO_num(infos); i++) {
        X509_INFO *info = sk_X509_INFO_value(infos, i);
        if (info->x_pkey)
            rc = pfl_err_set(err, PFL_INVALID, "there is a private key in it: a root's key never leaves its folder");
        if (rc == PFL_OK && info->x509)
            rc = take_cert(in, key, info->x509, err);
        if (rc == PFL_OK && info->crl) {
            X509_CRL_up_ref(info->crl);
            PFL_ASSERT(sk_X509_CRL_push(in->crls, info->crl) > 0);
        }
    }
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
    ERR_clear_error();
    if (rc == PFL_OK && !in->own && sk_X509_num(in->roots) == 0 && sk_X509_CRL_num(in->crls) == 0)
        return pfl_err_set(err, PFL_MALFORMED, "neither a certificate nor a revocation list is in it");
    return rc;
}

/* The root among `roots` that signed the certificate, its time and path length included. */
static X509 *root_of(STACK_OF(X509) * roots, X509 *cert, struct pfl_err *err)
{
    X509 *root = NULL;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    PFL_ASSERT(store && ctx);
    for (int i = 0; i < sk_X509_num(roots); i++)
        X509_STORE_add_cert(store, sk_X509_value(roots, i));
    int ok = X509_STORE_CTX_init(ctx, store, cert, NULL) == 1 ? X509_verify_cert(ctx) : -1;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    if (ok == 1 && sk_X509_num(chain) == 2)
        root = sk_X509_value(chain, 1);
    else
        (void)pfl_err_set(err, PFL_AUTH, "this CA's certificate does not lead to a root that is there: %s",
                          X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    for (int i = 0; root && i < sk_X509_num(roots); i++) /* the caller's own, which outlives the store */
        if (X509_cmp(sk_X509_value(roots, i), root) == 0) {
            root = sk_X509_value(roots, i);
            break;
        }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return root;
}

static enum pfl_rc enter_once(struct pfl_register *reg, X509 *cert, const char *purpose, const X509 *issuer, const char *actor,
                              struct pfl_err *err)
{
    char fingerprint[65];
    struct pfl_err why = {0};
    pfl_spki_fingerprint(X509_get0_pubkey(issuer), fingerprint);
    enum pfl_rc rc = pfl_ca_enter(reg, cert, "ca", purpose, fingerprint, actor, "install", &why);
    return rc == PFL_OK || rc == PFL_EXISTS ? PFL_OK : pfl_err_set(err, rc, "%s", why.msg);
}

/* The roots as the bundle says: that of our certificate is the active one, a younger one is coming, an older one is going. */
static enum pfl_rc store_roots(struct pfl_register *reg, const struct incoming *in, STACK_OF(X509) * roots, X509 *active,
                               struct pfl_err *err)
{
    bool replace = sk_X509_num(in->roots) > 0;
    enum pfl_rc rc = PFL_OK;
    if (replace)
        rc = pfl_sql_run(reg, err, "UPDATE issuers SET state = 'retired' WHERE kind = 'root'", "");
    for (int i = 0; rc == PFL_OK && i < sk_X509_num(roots); i++) {
        X509 *root = sk_X509_value(roots, i);
        bool younger = pfl_cert_not_before(root) > pfl_cert_not_before(active);
        enum pfl_issuer_state state = root == active ? PFL_ISSUER_ACTIVE : younger ? PFL_ISSUER_NEXT : PFL_ISSUER_RETIRING;
        rc = pfl_issuer_add(reg, root, false, state, NULL, err);
        if (rc == PFL_OK)
            rc = enter_once(reg, root, "root", root, in->actor, err);
    }
    return rc;
}

static X509 *signer_of_crl(STACK_OF(X509) * roots, X509_CRL *crl)
{
    for (int i = 0; i < sk_X509_num(roots); i++) {
        X509 *root = sk_X509_value(roots, i);
        int ok = X509_CRL_verify(crl, X509_get0_pubkey(root));
        ERR_clear_error();
        if (ok == 1 && X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(root)) == 0)
            return root;
    }
    return NULL;
}

static enum pfl_rc store_crl(struct pfl_register *reg, const struct incoming *in, X509_CRL *raw, STACK_OF(X509) * roots, X509 *own,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    PFL_AUTO(pfl_crl_freep) struct pfl_crl *crl = NULL;
    unsigned char *der = NULL;
    char fingerprint[65];
    bool row = false;
    X509_REVOKED *entry = NULL;
    X509 *root = signer_of_crl(roots, raw);
    int len = i2d_X509_CRL(raw, &der);
    enum pfl_rc rc = len > 0 ? pfl_crl_parse(pfl_bytes_of(der, (size_t)len), &crl, err)
                             : pfl_err_set(err, PFL_MALFORMED, "a revocation list cannot be read");
    OPENSSL_free(der);
    if (rc != PFL_OK)
        return rc;
    if (!root)
        return pfl_err_set(err, PFL_AUTH, "the revocation list of '%.100s' is not signed by a root that is here",
                           pfl_crl_issuer(crl));
    if (pfl_crl_this_update(crl) > pfl_now_or(0) + PFL_CRL_FUTURE_S)
        return pfl_err_set(err, PFL_AUTH, "the revocation list of '%.100s' is from the future: is one of the clocks wrong?",
                           pfl_crl_issuer(crl));
    pfl_spki_fingerprint(X509_get0_pubkey(root), fingerprint);
    rc = pfl_sql_query(reg, err, &stmt, "SELECT number FROM crls WHERE issuer = ?", "t", fingerprint);
    if (rc == PFL_OK)
        rc = pfl_sql_next(reg, stmt, &row, err);
    if (rc != PFL_OK)
        return rc;
    const char *number = pfl_crl_number_hex(crl), *last = row ? pfl_sql_text(stmt, 0) : "";
    if (row && (strlen(number) < strlen(last) || (strlen(number) == strlen(last) && strcmp(number, last) < 0)))
        return pfl_err_set(err, PFL_STATE, "the revocation list of '%.100s' has number %s: an older one than the one here (%s)",
                           pfl_crl_issuer(crl), number, pfl_q(last));
    if (X509_CRL_get0_by_cert(raw, &entry, own) == 1)
        in->report->revoked = true;
    return pfl_ca_crl_store(reg, fingerprint, number, pfl_crl_this_update(crl), pfl_crl_next_update(crl), pfl_crl_der(crl),
                            in->actor, err);
}

/* All of it into the register; inside a transaction. `present` (may be NULL): the folder's issuers so far. */
static enum pfl_rc store_all(struct pfl_register *reg, const struct incoming *in, const struct pfl_ca_keys *present,
                             struct pfl_err *err)
{
    STACK_OF(X509) *roots = sk_X509_num(in->roots) > 0 || !present ? in->roots : present->bundle;
    X509 *own = in->own ? in->own : present ? present->signer->cert : NULL;
    if (!own || sk_X509_num(roots) == 0)
        return pfl_err_set(err, PFL_STATE,
                           "the first time this CA's certificate and its root are needed, as p2pfl ca "
                           "sign-intermediate writes them");
    X509 *active = root_of(roots, own, err);
    if (!active)
        return PFL_AUTH;
    enum pfl_rc rc = store_roots(reg, in, roots, active, err);
    if (rc == PFL_OK && in->own)
        rc = pfl_issuer_add(reg, own, true, PFL_ISSUER_ACTIVE, "ca.key", err);
    if (rc == PFL_OK && in->own)
        rc = enter_once(reg, own, "ca", active, in->actor, err);
    for (int i = 0; rc == PFL_OK && i < sk_X509_CRL_num(in->crls); i++)
        rc = store_crl(reg, in, sk_X509_CRL_value(in->crls, i), roots, own, err);
    return rc == PFL_OK ? pfl_register_set(reg, "kind", "intermediate", err) : rc;
}

static enum pfl_rc change_installed(const struct pfl_ca *ca, void *user, struct pfl_err *err)
{
    return store_all(ca->reg, user, ca->keys, err);
}

static enum pfl_rc install_first(const char *dir, const struct incoming *in, const struct pfl_passphrase *passphrase,
                                 struct pfl_err *err)
{
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = pfl_ca_new(dir, passphrase);
    enum pfl_rc rc = pfl_ca_open_register(ca, err);
    if (rc == PFL_OK)
        rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = store_all(ca->reg, in, NULL, err);
    if (rc == PFL_OK)
        rc = pfl_ca_keys_load(dir, passphrase, ca->reg, &ca->keys, err);
    if (rc == PFL_OK)
        rc = pfl_ca_crls_renew(ca, ca->keys, 0, pfl_now_or(0), in->actor, err);
    if (rc == PFL_OK)
        rc = pfl_register_commit(ca->reg, err);
    pfl_register_rollback(ca->reg);
    return rc == PFL_OK ? pfl_ca_write_files(ca, err) : rc;
}

static enum pfl_rc install(const char *dir, bool first, struct incoming *in, const struct pfl_passphrase *passphrase,
                           struct pfl_err *err)
{
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    if (first)
        return install_first(dir, in, passphrase, err);
    enum pfl_rc rc = pfl_ca_open(dir, passphrase, &ca, err);
    if (rc == PFL_OK && !ca->keys->signer->intermediate)
        rc = pfl_err_set(err, PFL_STATE, "%s holds a root's own key: p2pfl ca install is for an intermediate's folder", dir);
    return rc == PFL_OK ? pfl_ca_change(ca, change_installed, in, in->actor, err) : rc;
}

enum pfl_rc pfl_ca_install(const char *dir, struct pfl_bytes pem, const struct pfl_passphrase *passphrase, const char *actor,
                           struct pfl_install_report *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *crt = pfl_fs_join(dir, "ca.crt");
    PFL_AUTO(pfl_freep) char *csr = pfl_fs_join(dir, "ca.csr");
    PFL_AUTO(pfl_freep) char *intermediate = pfl_fs_join(dir, "intermediate.crt");
    PFL_AUTO(pfl_freep) char *key_path = pfl_fs_join(dir, "ca.key");
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    PFL_AUTO(incoming_deinit) struct incoming in = {.actor = actor, .report = ret};
    if (pem.len > PFL_BUF_LIMIT_DEFAULT)
        return pfl_err_set(err, PFL_TOO_BIG, "%zu bytes, the limit is %zu", pem.len, PFL_BUF_LIMIT_DEFAULT);
    if (pfl_fs_exists(crt) && !pfl_fs_exists(csr) && !pfl_fs_exists(intermediate))
        return pfl_err_set(err, PFL_STATE, "%s holds a root's own key: p2pfl ca install is for an intermediate's folder", dir);
    enum pfl_rc rc = pfl_key_load(key_path, passphrase, &key, err);
    if (rc != PFL_OK)
        return rc;
    *ret = (struct pfl_install_report){0};
    in.roots = sk_X509_new_null();
    in.crls = sk_X509_CRL_new_null();
    PFL_ASSERT(in.roots && in.crls);
    rc = sort_out(&in, key, pem, err);
    if (rc == PFL_OK)
        rc = install(dir, !pfl_fs_exists(crt), &in, passphrase, err);
    ret->n_intermediates = in.own != NULL;
    ret->n_roots = (size_t)sk_X509_num(in.roots);
    ret->n_crls = (size_t)sk_X509_CRL_num(in.crls);
    if (rc == PFL_OK && ret->revoked)
        pfl_warn("%s: the root's revocation list names this CA's own certificate: what it signs is refused", dir);
    return rc;
}
