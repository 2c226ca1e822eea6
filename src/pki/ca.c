/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's folder: coming into being and being opened. A new folder is filled beside its place and renamed into it; in a folder
 * that is there already the keys come first, and whatever is missing behind them is made at the next open. */
#include "pki/ca.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"
#include "pki/sql.h"
#include "pki/trust.h"

enum { SEAL_SIGNATURE_MAX = 1024 };

/* How a register begins: with a new CA, or for a folder from before there was one. */
struct beginning {
    const char *action, *actor;
    int64_t now;
    bool offline;
};

/* The files that pki/ca.h names, for "exists already" and for taking back what was begun. */
static const char *const FILES[] = {"ca.key", "ca.crt", "ca.db", "ca.db-wal", "ca.db-shm", "bundle.pem", "crl.pem"};

static enum pfl_rc check_no_ca(const char *dir, struct pfl_err *err)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(FILES); i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, FILES[i]);
        if (pfl_fs_exists(path))
            return pfl_err_set(err, PFL_EXISTS, "%s exists already and is not overwritten: choose another folder", path);
    }
    return PFL_OK;
}

static void take_back(const char *dir)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(FILES); i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, FILES[i]);
        unlink(path);
    }
}

/* For the seal of the audit log. */
static enum pfl_rc sign_seal(void *user, struct pfl_bytes in, struct pfl_buf *out, char key_fingerprint[65], struct pfl_err *err)
{
    const struct pfl_ca *ca = user;
    const struct pfl_issuer *signer = ca->keys->signer;
    unsigned char signature[SEAL_SIGNATURE_MAX];
    size_t len = sizeof signature;
    bool ed25519 = EVP_PKEY_get_base_id(signer->key) == EVP_PKEY_ED25519;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    PFL_ASSERT(ctx != NULL);
    bool ok = EVP_DigestSignInit(ctx, NULL, ed25519 ? NULL : EVP_sha256(), NULL, signer->key) == 1 &&
              EVP_DigestSign(ctx, signature, &len, in.data, in.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    if (!ok || !pfl_buf_append(out, signature, len))
        return pfl_err_set(err, PFL_IO, "the CA's key could not sign the audit log");
    memcpy(key_fingerprint, signer->fingerprint, sizeof signer->fingerprint);
    return PFL_OK;
}

static struct pfl_passphrase *copy_of(const struct pfl_passphrase *passphrase)
{
    struct pfl_passphrase *copy = NULL;
    if (passphrase && pfl_passphrase_of(pfl_passphrase_text(passphrase), pfl_passphrase_len(passphrase), &copy, NULL) != PFL_OK)
        pfl_assert_failed("a passphrase that was good stays good", __FILE__, __LINE__);
    return copy;
}

/* ca.crt and ca.key of a folder without a register: sound, and each other's. *ret_root is owned. */
static enum pfl_rc check_old_folder(const struct pfl_ca *ca, X509 **ret_root, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *crt = pfl_fs_join(ca->dir, "ca.crt");
    PFL_AUTO(pfl_freep) char *key_path = pfl_fs_join(ca->dir, "ca.key");
    PFL_AUTO(pfl_freep) char *csr = pfl_fs_join(ca->dir, "ca.csr");
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *trust = NULL;
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    if (!pfl_fs_exists(crt) && pfl_fs_exists(csr))
        return pfl_err_set(err, PFL_STATE,
                           "%s waits for its certificate: have %s signed by the root (p2pfl ca sign-intermediate), "
                           "then run p2pfl ca install",
                           ca->dir, csr);
    enum pfl_rc rc = pfl_trust_load(crt, &trust, err); /* which also says that it is a sound root */
    if (rc == PFL_OK && pfl_trust_n_roots(trust) != 1)
        rc = pfl_err_set(err, PFL_INVALID, "%s: %zu certificates, a CA has one", crt, pfl_trust_n_roots(trust));
    if (rc == PFL_OK)
        rc = pfl_key_load(key_path, ca->passphrase, &key, err);
    if (rc != PFL_OK)
        return rc;
    if (!pfl_key_matches(key, pfl_trust_root(trust, 0)))
        return pfl_err_set(err, PFL_AUTH, "%s is not the key of %s", key_path, crt);
    *ret_root = pfl_trust_root(trust, 0);
    X509_up_ref(*ret_root);
    return PFL_OK;
}

/* The register's first entries; inside a transaction. Another process may have been first. */
static enum pfl_rc begin_register(struct pfl_ca *ca, X509 *root, const struct beginning *b, struct pfl_err *err)
{
    int64_t issuers = 0;
    char fingerprint[65];
    enum pfl_rc rc = pfl_sql_get_int(ca->reg, err, 0, &issuers, "SELECT count(*) FROM issuers", "");
    if (rc != PFL_OK || issuers > 0)
        return rc;
    pfl_spki_fingerprint(X509_get0_pubkey(root), fingerprint);
    rc = pfl_issuer_add(ca->reg, root, false, PFL_ISSUER_ACTIVE, "ca.key", err);
    if (rc == PFL_OK)
        rc = pfl_register_set(ca->reg, "kind", b->offline ? "offline" : "online", err);
    if (rc == PFL_OK)
        rc = pfl_ca_enter(ca->reg, root, "ca", "root", fingerprint, b->actor, b->action, err);
    if (rc == PFL_OK)
        rc = pfl_ca_keys_load(ca->dir, ca->passphrase, ca->reg, &ca->keys, err);
    if (rc == PFL_OK)
        rc = pfl_ca_crls_renew(ca, ca->keys, b->offline ? PFL_CRL_LIFETIME_OFFLINE_S : 0, b->now, b->actor, err);
    if (rc == PFL_OK && pfl_streq(b->action, "adopt"))
        pfl_info("%s has a register now (ca.db): certificates that were issued before are not in it", ca->dir);
    return rc;
}

enum pfl_rc pfl_ca_open_register(struct pfl_ca *ca, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(ca->dir, "ca.db");
    enum pfl_rc rc = pfl_register_open(path, &ca->reg, err);
    if (rc == PFL_OK)
        pfl_register_set_sealer(ca->reg, sign_seal, ca);
    return rc;
}

static enum pfl_rc open_register(struct pfl_ca *ca, X509 *root, const struct beginning *b, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_ca_open_register(ca, err);
    if (rc != PFL_OK || !root)
        return rc;
    rc = pfl_register_begin(ca->reg, err);
    if (rc == PFL_OK)
        rc = begin_register(ca, root, b, err);
    if (rc == PFL_OK)
        rc = pfl_register_commit(ca->reg, err);
    pfl_register_rollback(ca->reg);
    return rc;
}

/* ca.crt says to people and scripts whose CA this is: another one's there is no file to be overwritten in silence. */
static enum pfl_rc check_ca_crt(const struct pfl_ca *ca, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *crt = pfl_fs_join(ca->dir, "ca.crt");
    PFL_AUTO(pfl_x509s_freep) STACK_OF(X509) *certs = NULL;
    int64_t known = 0;
    char fingerprint[65] = "";
    if (!pfl_fs_exists(crt))
        return PFL_OK;
    enum pfl_rc rc = pfl_certs_load(crt, &certs, err);
    if (rc != PFL_OK)
        return rc;
    if (X509_get0_pubkey(pfl_x509s_at(certs, 0)))
        pfl_spki_fingerprint(X509_get0_pubkey(pfl_x509s_at(certs, 0)), fingerprint);
    rc = pfl_sql_get_int(ca->reg, err, 0, &known, "SELECT count(*) FROM issuers WHERE fingerprint = ?", "t", fingerprint);
    if (rc == PFL_OK && known == 0)
        return pfl_err_set(err, PFL_AUTH, "%s is not the certificate of this CA's register (%s/ca.db): bring the right one back",
                           crt, ca->dir);
    return rc;
}

static enum pfl_rc take_names(struct pfl_ca *ca, struct pfl_err *err)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    PFL_AUTO(pfl_freep) char *kind = NULL;
    enum pfl_rc rc = pfl_identity_of_x509(ca->keys->root->cert, &id, err);
    if (rc == PFL_OK)
        rc = pfl_register_get(ca->reg, "kind", &kind, err);
    if (rc != PFL_OK)
        return rc;
    ca->federation = pfl_xstrdup(id->federation ? id->federation : "p2pfl");
    ca->offline = pfl_streq(kind, "offline");
    return PFL_OK;
}

/* A register that is there but knows no issuer was cut off while it was made. */
static enum pfl_rc needs_beginning(const char *db, bool *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    int64_t issuers = 0;
    *ret = true;
    if (!pfl_fs_exists(db))
        return PFL_OK;
    enum pfl_rc rc = pfl_register_open(db, &reg, err);
    if (rc == PFL_OK)
        rc = pfl_sql_get_int(reg, err, 0, &issuers, "SELECT count(*) FROM issuers", "");
    *ret = issuers == 0;
    return rc;
}

struct pfl_ca *pfl_ca_new(const char *dir, const struct pfl_passphrase *passphrase)
{
    struct pfl_ca *ca = pfl_xcalloc(1, sizeof *ca);
    ca->dir = pfl_xstrdup(dir);
    ca->passphrase = copy_of(passphrase);
    return ca;
}

static enum pfl_rc open_at(const char *dir, const struct pfl_passphrase *passphrase, const struct beginning *b, struct pfl_ca **ret,
                           struct pfl_err *err)
{
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = pfl_ca_new(dir, passphrase);
    PFL_AUTO(pfl_x509_freep) X509 *root = NULL;
    PFL_AUTO(pfl_freep) char *db = pfl_fs_join(dir, "ca.db");
    bool old = false;
    enum pfl_rc rc = needs_beginning(db, &old, err);
    if (rc == PFL_OK && old)
        rc = check_old_folder(ca, &root, err);
    if (rc == PFL_OK)
        rc = open_register(ca, root, b, err);
    if (rc == PFL_OK && !ca->keys)
        rc = pfl_ca_keys_load(dir, passphrase, ca->reg, &ca->keys, err);
    if (rc == PFL_OK)
        rc = check_ca_crt(ca, err);
    if (rc == PFL_OK)
        rc = take_names(ca, err);
    if (rc == PFL_OK)
        rc = pfl_ca_write_files(ca, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&ca);
    return rc;
}

enum pfl_rc pfl_ca_open(const char *dir, const struct pfl_passphrase *passphrase, struct pfl_ca **ret, struct pfl_err *err)
{
    char operator[80];
    pfl_ca_operator(operator);
    return open_at(dir, passphrase, &(struct beginning){.action = "adopt", .actor = operator, .now = pfl_now_or(0)}, ret, err);
}

static enum pfl_rc fill_folder(const char *dir, const struct pfl_ca_opts *opts, const struct pfl_passphrase *passphrase,
                               EVP_PKEY *key, X509 *root, struct pfl_err *err)
{
    char operator[80];
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    struct pfl_new_file files[] = {{"ca.key", 0600, {0}}, {"ca.crt", 0644, {0}}};
    pfl_ca_operator(operator);
    struct beginning b = {"ca-init", opts->actor ? opts->actor : operator, pfl_now_or(opts->now), opts->offline};
    enum pfl_rc rc = pfl_key_pem(key, passphrase, &files[0].content, err);
    if (rc == PFL_OK) {
        pfl_put_certs(&files[1].content, root, NULL);
        rc = pfl_new_files_write(dir, files, PFL_ARRAY_LEN(files), err);
    }
    pfl_new_files_wipe(files, PFL_ARRAY_LEN(files));
    return rc == PFL_OK ? open_at(dir, passphrase, &b, &ca, err) : rc;
}

enum pfl_rc pfl_ca_init(const char *dir, const struct pfl_ca_opts *opts, const struct pfl_passphrase *passphrase,
                        struct pfl_err *err)
{
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    PFL_AUTO(pfl_x509_freep) X509 *root = NULL;
    PFL_AUTO(pfl_freep) char *stage = NULL;
    enum pfl_rc rc = check_no_ca(dir, err);
    if (rc == PFL_OK && passphrase && !pfl_key_spec_in_token(opts->key)) /* a PIN is as long as its token wants it */
        rc = pfl_passphrase_check_new(passphrase, err);
    if (rc == PFL_OK)
        rc = pfl_root_make(opts, passphrase, &key, &root, err);
    if (rc == PFL_OK)
        rc = pfl_stage_open(dir, &stage, err);
    if (rc != PFL_OK) {
        pfl_key_unmake(key);
        return rc;
    }
    rc = fill_folder(stage, opts, passphrase, key, root, err);
    if (rc == PFL_OK)
        rc = pfl_stage_commit(dir, stage, err);
    if (rc != PFL_OK) {
        pfl_key_unmake(key);
        take_back(stage);
        pfl_stage_drop(dir, stage);
    }
    return rc;
}

enum pfl_rc pfl_ca_change(const struct pfl_ca *ca, pfl_ca_change_fn change, void *user, const char *actor, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_ca_refresh(ca, err);
    const struct pfl_ca_keys *before = ca->keys;
    if (rc == PFL_OK)
        rc = change(ca, user, err);
    if (rc == PFL_OK)
        rc = pfl_ca_refresh(ca, err);
    if (rc == PFL_OK)
        rc = pfl_ca_crls_renew(ca, ca->keys, 0, pfl_now_or(0), actor, err);
    if (rc == PFL_OK)
        rc = pfl_register_commit(ca->reg, err);
    pfl_register_rollback(ca->reg);
    if (rc != PFL_OK && ca->keys != before)
        ca->keys->generation = -1; /* what was loaded was never committed: the next transaction loads anew */
    return rc == PFL_OK ? pfl_ca_write_files(ca, err) : rc;
}

void pfl_ca_close(struct pfl_ca *ca)
{
    if (!ca)
        return;
    pfl_register_close(ca->reg);
    pfl_ca_keys_free(ca->keys);
    pfl_passphrase_free(ca->passphrase);
    free(ca->federation);
    free(ca->dir);
    free(ca);
}

const char *pfl_ca_federation(const struct pfl_ca *ca)
{
    return ca->federation;
}

X509 *pfl_ca_root(const struct pfl_ca *ca)
{
    return ca->keys->root->cert;
}

struct pfl_register *pfl_ca_register(const struct pfl_ca *ca)
{
    return ca->reg;
}

STACK_OF(X509) * pfl_ca_bundle(const struct pfl_ca *ca)
{
    return ca->keys->bundle;
}

STACK_OF(X509) * pfl_ca_chain(const struct pfl_ca *ca)
{
    return ca->keys->chain;
}

bool pfl_ca_key_encrypted(const char *dir)
{
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    PFL_AUTO(pfl_freep) char *db = pfl_fs_join(dir, "ca.db");
    bool row = false;
    if (pfl_fs_exists(db) && pfl_register_open(db, &reg, NULL) == PFL_OK &&
        pfl_sql_query(reg, NULL, &stmt,
                      "SELECT key_file FROM issuers WHERE state = 'active' AND key_file IS NOT NULL ORDER BY kind LIMIT 1",
                      "") == PFL_OK &&
        pfl_sql_next(reg, stmt, &row, NULL) != PFL_OK)
        return false;
    PFL_AUTO(pfl_freep) char *path = pfl_ca_key_path(dir, row ? pfl_sql_text(stmt, 0) : "ca.key");
    return pfl_key_file_encrypted(path);
}
