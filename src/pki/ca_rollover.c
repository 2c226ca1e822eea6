/* SPDX-License-Identifier: Apache-2.0 */
/* A new root without a flag day: prepared (both are trusted), active (the new one signs), finished (the old one is gone). Which
 * of them a root is in stands in the register only, so each step has happened or has not. */
#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "pki/ca_admin.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/key.h"
#include "pki/pkcs11.h"
#include "pki/sql.h"

enum { NAMES_SHOWN = 5 };

static const struct pfl_issuer *root_in(const struct pfl_ca *ca, enum pfl_issuer_state state)
{
    for (size_t i = 0; i < ca->keys->n; i++)
        if (!ca->keys->items[i].intermediate && ca->keys->items[i].state == state)
            return &ca->keys->items[i];
    return NULL;
}

static enum pfl_rc check_is_root(const struct pfl_ca *ca, struct pfl_err *err)
{
    if (ca->keys->signer->intermediate)
        return pfl_err_set(err, PFL_STATE,
                           "%s is an intermediate CA: roll its root over where the root's key is, then bring bundle.pem and a new "
                           "intermediate certificate here with p2pfl ca install",
                           ca->dir);
    return PFL_OK;
}

/* ---- prepare ---- */

struct prepare {
    const struct pfl_ca_opts *opts;
    const char *actor;
    EVP_PKEY *key;  /* owned */
    X509 *root;     /* owned */
    char *key_file; /* owned */
};

/* Lists of revoked certificates are told apart by their issuer's name, so the two roots may not share one. */
static enum pfl_rc check_new_name(const struct pfl_ca *ca, X509 *root, struct pfl_err *err)
{
    for (size_t i = 0; i < ca->keys->n; i++)
        if (X509_NAME_cmp(X509_get_subject_name(root), X509_get_subject_name(ca->keys->items[i].cert)) == 0) {
            PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(root);
            return pfl_err_set(err, PFL_INVALID, "the new root would be called '%.100s' as the present one: give another --name",
                               subject);
        }
    return PFL_OK;
}

static enum pfl_rc may_prepare(const struct pfl_ca *ca, struct pfl_err *err)
{
    enum pfl_rc rc = check_is_root(ca, err);
    if (rc == PFL_OK && root_in(ca, PFL_ISSUER_NEXT))
        rc = pfl_err_set(err, PFL_STATE, "a new root is prepared already: p2pfl ca rollover activate is the next step");
    if (rc == PFL_OK && root_in(ca, PFL_ISSUER_RETIRING))
        rc = pfl_err_set(err, PFL_STATE, "the last roll-over is not over: p2pfl ca rollover finish comes first");
    return rc;
}

static enum pfl_rc add_next(const struct pfl_ca *ca, void *user, struct pfl_err *err)
{
    const struct prepare *p = user;
    char fingerprint[65];
    enum pfl_rc rc = may_prepare(ca, err); /* again: another process may have been first */
    pfl_spki_fingerprint(p->key, fingerprint);
    if (rc == PFL_OK)
        rc = check_new_name(ca, p->root, err);
    if (rc == PFL_OK)
        rc = pfl_issuer_add(ca->reg, p->root, false, PFL_ISSUER_NEXT, p->key_file, err);
    if (rc == PFL_OK)
        rc = pfl_ca_enter(ca->reg, p->root, "ca", "root", fingerprint, p->actor, "rollover-prepare", err);
    return rc;
}

/* The key's file is written before the register knows of it; what is left of an attempt that died in between has a name of its own
 * and hurts nobody. */
static enum pfl_rc save_key(const struct pfl_ca *ca, struct prepare *p, struct pfl_err *err)
{
    char fingerprint[65];
    pfl_spki_fingerprint(p->key, fingerprint);
    p->key_file = pfl_xasprintf("ca-%.16s.key", fingerprint);
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(ca->dir, p->key_file);
    return pfl_key_save_new(path, p->key, ca->passphrase, err);
}

static enum pfl_rc prepare(const struct pfl_ca *ca, struct prepare *p, struct pfl_err *err)
{
    int64_t n_roots = 0;
    struct pfl_ca_opts opts = *p->opts;
    enum pfl_rc rc = may_prepare(ca, err);
    if (rc == PFL_OK)
        rc = pfl_sql_get_int(ca->reg, err, 0, &n_roots, "SELECT count(*) FROM issuers WHERE kind = 'root'", "");
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) char *name = pfl_xasprintf("%.56s CA %lld", ca->federation, (long long)n_roots + 1);
    opts.federation = ca->federation;
    opts.offline = ca->offline;
    opts.name = opts.name ? opts.name : name;
    bool in_token = pfl_pkcs11_uri_of(ca->keys->root->key) != NULL;
    if (in_token && !pfl_key_spec_in_token(opts.key))
        return pfl_err_set(
            err, PFL_INVALID,
            "the present root's key is in a token, and the new one's would be in a file: say with --key pkcs11:… where "
            "in a token it is to be");
    if (!pfl_key_spec_in_token(opts.key) && ca->passphrase) /* the present key's may be a token's short PIN */
        rc = pfl_passphrase_check_new(ca->passphrase, err);
    if (rc == PFL_OK)
        rc = pfl_root_make(&opts, ca->passphrase, &p->key, &p->root, err);
    if (rc == PFL_OK)
        rc = check_new_name(ca, p->root, err);
    if (rc == PFL_OK)
        rc = save_key(ca, p, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_ca_change(ca, add_next, p, p->actor, err);
    if (rc != PFL_OK && !root_in(ca, PFL_ISSUER_NEXT)) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(ca->dir, p->key_file);
        unlink(path);
    }
    return rc;
}

enum pfl_rc pfl_ca_rollover_prepare(const struct pfl_ca *ca, const struct pfl_ca_opts *opts, const char *actor, struct pfl_err *err)
{
    struct prepare p = {.opts = opts, .actor = actor};
    enum pfl_rc rc = prepare(ca, &p, err);
    if (rc != PFL_OK && !root_in(ca, PFL_ISSUER_NEXT))
        pfl_key_unmake(p.key);
    pfl_key_free(p.key);
    pfl_x509_free(p.root);
    free(p.key_file);
    return rc;
}

/* ---- activate ---- */

static enum pfl_rc switch_over(const struct pfl_ca *ca, void *user, struct pfl_err *err)
{
    const struct pfl_issuer *next = root_in(ca, PFL_ISSUER_NEXT);
    enum pfl_rc rc = check_is_root(ca, err);
    if (rc == PFL_OK && !next)
        rc = pfl_err_set(err, PFL_STATE, "no new root is prepared: p2pfl ca rollover prepare comes first");
    if (rc == PFL_OK && !next->key)
        rc = pfl_err_set(err, PFL_STATE, "the new root's key (%s) cannot be used: is it there, under the same passphrase?",
                         next->key_file);
    if (rc == PFL_OK)
        rc = pfl_issuer_set_state(ca->reg, ca->keys->root->fingerprint, PFL_ISSUER_RETIRING, err);
    if (rc == PFL_OK)
        rc = pfl_issuer_set_state(ca->reg, next->fingerprint, PFL_ISSUER_ACTIVE, err);
    return rc == PFL_OK
               ? pfl_audit_append(ca->reg, user, "rollover-activate", next->fingerprint, "the new root signs from now on", err)
               : rc;
}

enum pfl_rc pfl_ca_rollover_activate(const struct pfl_ca *ca, const char *actor, struct pfl_err *err)
{
    return pfl_ca_change(ca, switch_over, (void *)(uintptr_t)actor, actor, err);
}

/* ---- finish ---- */

struct finish {
    bool force;
    const char *actor;
};

static const char VALID_OF[] = "FROM certificates WHERE issuer = ? AND status = 'valid' AND purpose <> 'root' AND not_after > ?";

/* The first names, for the message. */
static enum pfl_rc names_left(const struct pfl_ca *ca, const struct pfl_issuer *old, char **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs names = {0};
    PFL_AUTO(pfl_freep) char *sql = pfl_xasprintf("SELECT DISTINCT name %s ORDER BY name LIMIT %d", VALID_OF, NAMES_SHOWN);
    bool more = false;
    enum pfl_rc rc = pfl_sql_query(ca->reg, err, &stmt, sql, "ti", old->fingerprint, pfl_now_or(0));
    if (rc == PFL_OK)
        rc = pfl_sql_next(ca->reg, stmt, &more, err);
    while (rc == PFL_OK && more) {
        pfl_strs_add(&names, pfl_sql_text(stmt, 0));
        rc = pfl_sql_next(ca->reg, stmt, &more, err);
    }
    *ret = pfl_strs_join(&names, ", ");
    return rc;
}

static enum pfl_rc check_none_left(const struct pfl_ca *ca, const struct pfl_issuer *old, const struct finish *f,
                                   struct pfl_err *err)
{
    int64_t left = 0;
    PFL_AUTO(pfl_freep) char *names = NULL;
    PFL_AUTO(pfl_freep) char *sql = pfl_xasprintf("SELECT count(*) %s", VALID_OF);
    enum pfl_rc rc = pfl_sql_get_int(ca->reg, err, 0, &left, sql, "ti", old->fingerprint, pfl_now_or(0));
    if (rc != PFL_OK || left == 0 || f->force)
        return rc;
    rc = names_left(ca, old, &names, err);
    if (rc != PFL_OK)
        return rc;
    return pfl_err_set(
        err, PFL_STATE,
        "%lld certificates of the old root are still valid (%.200s%s): renew or revoke them first; --force drops the "
        "old root all the same, and their holders are refused from then on",
        (long long)left, names, left > NAMES_SHOWN ? ", …" : "");
}

static enum pfl_rc drop_old(const struct pfl_ca *ca, void *user, struct pfl_err *err)
{
    const struct finish *f = user;
    const struct pfl_issuer *old = root_in(ca, PFL_ISSUER_RETIRING);
    enum pfl_rc rc = check_is_root(ca, err);
    if (rc == PFL_OK && !old)
        rc = pfl_err_set(err, PFL_STATE, "%s",
                         root_in(ca, PFL_ISSUER_NEXT) ? "the new root does not sign yet: p2pfl ca rollover activate comes first"
                                                      : "no roll-over is under way");
    if (rc == PFL_OK)
        rc = check_none_left(ca, old, f, err);
    if (rc == PFL_OK)
        rc = pfl_issuer_set_state(ca->reg, old->fingerprint, PFL_ISSUER_RETIRED, err);
    return rc == PFL_OK ? pfl_audit_append(ca->reg, f->actor, "rollover-finish", old->fingerprint,
                                           f->force ? "the old root is out, by force" : "the old root is out", err)
                        : rc;
}

enum pfl_rc pfl_ca_rollover_finish(const struct pfl_ca *ca, bool force, const char *actor, struct pfl_err *err)
{
    return pfl_ca_change(ca, drop_old, &(struct finish){force, actor}, actor, err);
}

/* ---- showing ---- */

static bool show_one(struct pfl_register *reg, struct sqlite3_stmt *stmt,
                     bool (*fn)(void *user, const struct pfl_issuer_info *info), void *user, struct pfl_err *err, enum pfl_rc *rc)
{
    struct pfl_bytes der = pfl_sql_blob(stmt, 4);
    const unsigned char *at = der.data;
    PFL_AUTO(pfl_x509_freep) X509 *cert = der.len ? d2i_X509(NULL, &at, (long)der.len) : NULL;
    ERR_clear_error();
    if (!cert) {
        *rc =
            pfl_err_set(err, PFL_MALFORMED, "the register's certificate of issuer %s cannot be read", pfl_q(pfl_sql_text(stmt, 0)));
        return false;
    }
    struct pfl_issuer_info info = {.fingerprint = pfl_sql_text(stmt, 0),
                                   .kind = pfl_sql_text(stmt, 1),
                                   .state = pfl_sql_text(stmt, 2),
                                   .key_file = pfl_sql_text(stmt, 3),
                                   .cert = cert};
    PFL_AUTO(pfl_freep) char *sql = pfl_xasprintf("SELECT count(*) %s", VALID_OF);
    *rc = pfl_sql_get_int(reg, err, 0, &info.n_valid, sql, "ti", info.fingerprint, pfl_now_or(0));
    return *rc == PFL_OK && fn(user, &info);
}

enum pfl_rc pfl_ca_issuers_each(struct pfl_register *reg, bool (*fn)(void *user, const struct pfl_issuer_info *info), void *user,
                                struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    enum pfl_rc rc =
        pfl_sql_query(reg, err, &stmt, "SELECT fingerprint, kind, state, key_file, cert FROM issuers ORDER BY rowid", "");
    if (rc == PFL_OK)
        rc = pfl_sql_next(reg, stmt, &more, err);
    while (rc == PFL_OK && more) {
        more = show_one(reg, stmt, fn, user, err, &rc);
        if (more)
            rc = pfl_sql_next(reg, stmt, &more, err);
    }
    return rc;
}
