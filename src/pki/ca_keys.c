/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's issuers: which roots and intermediates there are, which of them signs, and their keys. A number in the register grows
 * with every change; who has the CA open for long (the service) sees it in the next transaction and loads anew. */
#include <openssl/err.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "pki/key.h"
#include "pki/sql.h"

static const char *const STATES[] = {"next", "active", "retiring", "retired"};

const char *pfl_issuer_state_text(enum pfl_issuer_state state)
{
    return STATES[state];
}

void pfl_spki_fingerprint(const EVP_PKEY *key, char out[65])
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    PFL_ASSERT(len > 0);
    pfl_sha256_hex(pfl_bytes_of(der, (size_t)len), out);
    OPENSSL_free(der);
}

char *pfl_ca_key_path(const char *dir, const char *key_file)
{
    return pfl_str_has_prefix(key_file, "pkcs11:") ? pfl_xstrdup(key_file) : pfl_fs_join(dir, key_file);
}

void pfl_ca_keys_free(struct pfl_ca_keys *keys)
{
    while (keys) {
        struct pfl_ca_keys *older = keys->older;
        for (size_t i = 0; i < keys->n; i++) {
            pfl_x509_free(keys->items[i].cert);
            pfl_key_free(keys->items[i].key);
            free(keys->items[i].key_file);
        }
        pfl_x509s_free(keys->bundle);
        pfl_x509s_free(keys->chain);
        free(keys);
        keys = older;
    }
}

static enum pfl_rc take_issuer(struct pfl_ca_keys *keys, struct sqlite3_stmt *stmt, struct pfl_err *err)
{
    if (keys->n == PFL_ISSUERS_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "more than %d roots and intermediates in use", PFL_ISSUERS_MAX);
    struct pfl_issuer *i = &keys->items[keys->n];
    struct pfl_bytes der = pfl_sql_blob(stmt, 4);
    const unsigned char *at = der.data;
    i->cert = der.len ? d2i_X509(NULL, &at, (long)der.len) : NULL;
    if (!i->cert || !X509_get0_pubkey(i->cert)) {
        ERR_clear_error();
        pfl_x509_free(i->cert);
        i->cert = NULL;
        return pfl_err_set(err, PFL_MALFORMED, "the register's certificate of issuer %s cannot be read",
                           pfl_q(pfl_sql_text(stmt, 0)));
    }
    keys->n++;
    pfl_spki_fingerprint(X509_get0_pubkey(i->cert), i->fingerprint);
    i->intermediate = pfl_streq(pfl_sql_text(stmt, 1), "intermediate");
    while (i->state < PFL_ISSUER_RETIRED && !pfl_streq(STATES[i->state], pfl_sql_text(stmt, 2)))
        i->state++;
    i->key_file = *pfl_sql_text(stmt, 3) ? pfl_xstrdup(pfl_sql_text(stmt, 3)) : NULL;
    return PFL_OK;
}

static enum pfl_rc read_issuers(struct pfl_ca_keys *keys, struct pfl_register *reg, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    enum pfl_rc rc = pfl_sql_get_int(reg, err, 0, &keys->generation, "SELECT value FROM settings WHERE key = 'generation'", "");
    if (rc == PFL_OK)
        rc = pfl_sql_query(reg, err, &stmt,
                           "SELECT fingerprint, kind, state, key_file, cert FROM issuers WHERE state <> 'retired'"
                           " ORDER BY rowid",
                           "");
    if (rc == PFL_OK)
        rc = pfl_sql_next(reg, stmt, &more, err);
    while (rc == PFL_OK && more) {
        rc = take_issuer(keys, stmt, err);
        if (rc == PFL_OK)
            rc = pfl_sql_next(reg, stmt, &more, err);
    }
    return rc;
}

static void push_cert(STACK_OF(X509) * certs, X509 *cert)
{
    PFL_ASSERT(X509_up_ref(cert) && sk_X509_push(certs, cert) > 0);
}

static void choose(struct pfl_ca_keys *keys)
{
    keys->bundle = sk_X509_new_null();
    keys->chain = sk_X509_new_null();
    PFL_ASSERT(keys->bundle && keys->chain);
    for (size_t n = 0; n < keys->n; n++) {
        struct pfl_issuer *i = &keys->items[n];
        if (i->state == PFL_ISSUER_ACTIVE && !i->intermediate)
            keys->root = i;
        if (i->state == PFL_ISSUER_ACTIVE && (i->intermediate || !keys->signer))
            keys->signer = i;
        if (!i->intermediate)
            push_cert(keys->bundle, i->cert);
    }
    if (keys->signer && keys->signer->intermediate)
        push_cert(keys->chain, keys->signer->cert);
}

/* The signer's key must be there; one that is only needed for its CRL may be gone, which is said. */
static enum pfl_rc load_keys(struct pfl_ca_keys *keys, const char *dir, const struct pfl_passphrase *passphrase,
                             struct pfl_err *err)
{
    for (size_t n = 0; n < keys->n; n++) {
        struct pfl_issuer *i = &keys->items[n];
        struct pfl_err why = {0};
        if (!i->key_file)
            continue;
        PFL_AUTO(pfl_freep) char *path = pfl_ca_key_path(dir, i->key_file);
        enum pfl_rc rc = pfl_key_load(path, passphrase, &i->key, &why);
        if (rc == PFL_OK && !pfl_key_matches(i->key, i->cert))
            rc = pfl_err_set(&why, PFL_AUTH, "%s is not the key of %s/%s", path, dir,
                             i->intermediate ? "intermediate.crt" : "ca.crt");
        if (rc != PFL_OK && i == keys->signer)
            return pfl_err_set(err, rc, "%s", why.msg);
        if (rc != PFL_OK) {
            PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(i->cert);
            pfl_warn("the key of %s '%s' cannot be used, so its revocation list is not renewed: %s", STATES[i->state], subject,
                     why.msg);
            pfl_key_free(i->key);
            i->key = NULL;
        }
    }
    return PFL_OK;
}

enum pfl_rc pfl_ca_keys_load(const char *dir, const struct pfl_passphrase *passphrase, struct pfl_register *reg,
                             struct pfl_ca_keys **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_ca_keys_freep) struct pfl_ca_keys *keys = pfl_xcalloc(1, sizeof *keys);
    enum pfl_rc rc = read_issuers(keys, reg, err);
    if (rc != PFL_OK)
        return rc;
    choose(keys);
    if (!keys->root)
        return pfl_err_set(err, PFL_NOT_FOUND, "%s: its register names no root", dir);
    if (!keys->signer->key_file)
        return pfl_err_set(err, PFL_STATE, "%s: waits for its intermediate certificate: p2pfl ca install", dir);
    rc = load_keys(keys, dir, passphrase, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_steal(&keys);
    return PFL_OK;
}

enum pfl_rc pfl_ca_refresh(const struct pfl_ca *ca, struct pfl_err *err)
{
    int64_t generation = 0;
    struct pfl_ca_keys *keys = NULL;
    enum pfl_rc rc = pfl_sql_get_int(ca->reg, err, 0, &generation, "SELECT value FROM settings WHERE key = 'generation'", "");
    if (rc != PFL_OK || generation == ca->keys->generation)
        return rc;
    rc = pfl_ca_keys_load(ca->dir, ca->passphrase, ca->reg, &keys, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_ca *mutable = (struct pfl_ca *)(uintptr_t)ca; /* what a caller sees of it does not change: older views stay */
    keys->older = mutable->keys;
    mutable->keys = keys;
    return PFL_OK;
}

enum pfl_rc pfl_ca_check_issuer(const struct pfl_ca *ca, const char *issuer_fingerprint, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_ca_refresh(ca, err);
    if (rc != PFL_OK)
        return rc;
    for (size_t i = 0; i < ca->keys->n; i++)
        if (pfl_streq(ca->keys->items[i].fingerprint, issuer_fingerprint))
            return PFL_OK;
    return pfl_err_set(err, PFL_AUTH, "its root has been rolled over and is not trusted any more: enrol with a token");
}

static enum pfl_rc next_generation(struct pfl_register *reg, struct pfl_err *err)
{
    return pfl_sql_run(reg, err,
                       "INSERT INTO settings VALUES ('generation', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1", "");
}

enum pfl_rc pfl_issuer_add(struct pfl_register *reg, X509 *cert, bool intermediate, enum pfl_issuer_state state,
                           const char *key_file, struct pfl_err *err)
{
    char fingerprint[65];
    unsigned char *der = NULL;
    pfl_spki_fingerprint(X509_get0_pubkey(cert), fingerprint);
    int len = i2d_X509(cert, &der);
    PFL_ASSERT(len > 0);
    enum pfl_rc rc = pfl_sql_run(reg, err,
                                 "INSERT INTO issuers VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (fingerprint) DO UPDATE SET"
                                 " state = excluded.state, cert = excluded.cert, key_file = coalesce(excluded.key_file, key_file)",
                                 "ttttbi", fingerprint, intermediate ? "intermediate" : "root", STATES[state], key_file,
                                 pfl_bytes_of(der, (size_t)len), (int64_t)(pfl_clock_wall() / PFL_SEC));
    OPENSSL_free(der);
    return rc == PFL_OK ? next_generation(reg, err) : rc;
}

enum pfl_rc pfl_issuer_set_state(struct pfl_register *reg, const char *fingerprint, enum pfl_issuer_state state,
                                 struct pfl_err *err)
{
    enum pfl_rc rc = pfl_sql_run(reg, err, "UPDATE issuers SET state = ? WHERE fingerprint = ?", "tt", STATES[state], fingerprint);
    return rc == PFL_OK ? next_generation(reg, err) : rc;
}
