/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens in the register's own table. The number finds the row, the secret is compared in constant time. */
#include "pki/token.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "pki/identity.h"
#include "pki/register.h"
#include "pki/sql.h"

enum { SECRET_LEN = 32 };

static const char TABLE[] = "CREATE TABLE IF NOT EXISTS tokens (id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL,"
                            " name TEXT NOT NULL, role TEXT NOT NULL, sans TEXT NOT NULL, lifetime_s INTEGER NOT NULL,"
                            " made_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, made_by TEXT NOT NULL,"
                            " used_at INTEGER NOT NULL DEFAULT 0, revoked_at INTEGER NOT NULL DEFAULT 0,"
                            " server_key TEXT NOT NULL DEFAULT '', client_key TEXT NOT NULL DEFAULT '') STRICT";
#define COLUMNS "id, name, role, sans, lifetime_s, made_at, expires_at, made_by, used_at, revoked_at, server_key, client_key, hash"

static int64_t now_or(int64_t now)
{
    return now ? now : pfl_clock_wall() / PFL_SEC;
}

char *pfl_secret_text(void)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t bytes[SECRET_LEN + 1] = {0}; /* 43 digits of 6 bits reach two bits past the secret */
    char text[44] = "";
    pfl_random_bytes(bytes, SECRET_LEN);
    for (size_t i = 0; i < 43; i++) {
        size_t bit = i * 6;
        unsigned two = (unsigned)bytes[bit / 8] << 8 | (bit / 8 + 1 < sizeof bytes ? bytes[bit / 8 + 1] : 0U);
        text[i] = DIGITS[two >> (10 - bit % 8) & 63];
    }
    char *copy = pfl_xstrdup(text);
    OPENSSL_cleanse(bytes, sizeof bytes);
    OPENSSL_cleanse(text, sizeof text);
    return copy;
}

void pfl_token_deinit(struct pfl_token *t)
{
    free(t->name);
    free(t->role);
    free(t->made_by);
    free(t->server_key);
    free(t->client_key);
    pfl_strs_deinit(&t->sans);
    *t = (struct pfl_token){0};
}

/* ---- making ---- */

static enum pfl_rc check_opts(const struct pfl_token_opts *o, struct pfl_err *err)
{
    if (!pfl_name_valid(o->name))
        return pfl_err_set(err, PFL_INVALID, "name '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(o->name), PFL_NAME_MAX);
    if (o->role && !pfl_role_valid(o->role))
        return pfl_err_set(err, PFL_INVALID, "role '%s': node, coordinator or observer is wanted", pfl_q(o->role));
    if (o->sans.n == 0 || o->sans.n >= PFL_SANS_MAX)
        return pfl_err_set(err, PFL_INVALID, "%zu subject alternative names: 1 to %d are wanted, the addresses that peers dial",
                           o->sans.n, PFL_SANS_MAX - 1);
    if (o->ttl_s < 0 || o->ttl_s > PFL_TOKEN_TTL_MAX_S)
        return pfl_err_set(err, PFL_INVALID, "a token for %lld s: at most %d days are allowed", (long long)o->ttl_s,
                           PFL_TOKEN_TTL_MAX_S / 86400);
    if (o->lifetime_s < 0 || o->lifetime_s > (int64_t)PFL_DAYS_MAX * 86400)
        return pfl_err_set(err, PFL_INVALID, "certificates for %lld s: at most %d days are allowed", (long long)o->lifetime_s,
                           PFL_DAYS_MAX);
    return PFL_OK;
}

static enum pfl_rc join_sans(const struct pfl_strs *sans, char **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs canonical = {0};
    for (size_t i = 0; i < sans->n; i++) {
        PFL_AUTO(pfl_freep) char *one = NULL;
        enum pfl_rc rc = pfl_san_parse(sans->items[i], &one, err);
        if (rc != PFL_OK)
            return rc;
        pfl_strs_add_once(&canonical, one);
    }
    *ret = pfl_strs_join(&canonical, ",");
    return PFL_OK;
}

static void hash_of(const char *secret, uint8_t out[PFL_SHA256_LEN])
{
    pfl_sha256(pfl_bytes_of(secret, strlen(secret)), out);
}

static enum pfl_rc insert(struct pfl_register *r, const struct pfl_token_opts *o, const char *sans, const char *secret,
                          int64_t *ret_id, struct pfl_err *err)
{
    uint8_t hash[PFL_SHA256_LEN];
    int64_t now = now_or(o->now), until = now + (o->ttl_s ? o->ttl_s : PFL_TOKEN_TTL_DEFAULT_S);
    char until_text[32];
    pfl_time_text(until, until_text);
    hash_of(secret, hash);
    enum pfl_rc rc = pfl_sql_run(r, err, TABLE, "");
    if (rc == PFL_OK)
        rc = pfl_sql_run(r, err,
                         "INSERT INTO tokens (hash, name, role, sans, lifetime_s, made_at, expires_at, made_by)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                         "btttiiit", pfl_bytes_of(hash, sizeof hash), o->name, o->role ? o->role : "node", sans, o->lifetime_s, now,
                         until, o->actor);
    if (rc == PFL_OK)
        rc = pfl_sql_get_int(r, err, 0, ret_id, "SELECT last_insert_rowid()", "");
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep)
    char *detail = pfl_xasprintf("token %lld for role %s, names %s, until %s", (long long)*ret_id, o->role ? o->role : "node", sans,
                                 until_text);
    return pfl_audit_append(r, o->actor, "token", o->name, detail, err);
}

enum pfl_rc pfl_token_make(struct pfl_register *r, const struct pfl_token_opts *opts, char **ret_text, int64_t *ret_id,
                           struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *sans = NULL;
    enum pfl_rc rc = check_opts(opts, err);
    if (rc == PFL_OK)
        rc = join_sans(&opts->sans, &sans, err);
    if (rc == PFL_OK)
        rc = pfl_register_begin(r, err);
    if (rc != PFL_OK)
        return rc;
    char *secret = pfl_secret_text();
    int64_t id = 0;
    rc = insert(r, opts, sans, secret, &id, err);
    if (rc == PFL_OK)
        rc = pfl_register_commit(r, err);
    if (rc == PFL_OK) {
        *ret_text = pfl_xasprintf("%lld.%s", (long long)id, secret);
        *ret_id = id;
    } else
        pfl_register_rollback(r);
    OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
    return rc;
}

/* ---- finding ---- */

static void take_row(struct sqlite3_stmt *stmt, struct pfl_token *t)
{
    *t = (struct pfl_token){
        .id = pfl_sql_int(stmt, 0),
        .name = pfl_xstrdup(pfl_sql_text(stmt, 1)),
        .role = pfl_xstrdup(pfl_sql_text(stmt, 2)),
        .lifetime_s = pfl_sql_int(stmt, 4),
        .made_at = pfl_sql_int(stmt, 5),
        .expires_at = pfl_sql_int(stmt, 6),
        .made_by = pfl_xstrdup(pfl_sql_text(stmt, 7)),
        .used_at = pfl_sql_int(stmt, 8),
        .revoked_at = pfl_sql_int(stmt, 9),
        .server_key = pfl_xstrdup(pfl_sql_text(stmt, 10)),
        .client_key = pfl_xstrdup(pfl_sql_text(stmt, 11)),
    };
    pfl_strs_split(&t->sans, pfl_sql_text(stmt, 3), ',');
}

/* The row with this number and its hash; zeros where there is none, so that both cases take the same way. */
static enum pfl_rc load(struct pfl_register *r, int64_t id, struct pfl_token *ret, uint8_t hash[PFL_SHA256_LEN], bool *ret_found,
                        struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool row = false;
    memset(hash, 0, PFL_SHA256_LEN);
    enum pfl_rc rc = pfl_sql_run(r, err, TABLE, "");
    if (rc == PFL_OK)
        rc = pfl_sql_query(r, err, &stmt, "SELECT " COLUMNS " FROM tokens WHERE id = ?", "i", id);
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &row, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_bytes stored = row ? pfl_sql_blob(stmt, 12) : pfl_bytes_of(NULL, 0);
    *ret_found = stored.len == PFL_SHA256_LEN;
    if (*ret_found) {
        memcpy(hash, stored.data, PFL_SHA256_LEN);
        take_row(stmt, ret);
    }
    return PFL_OK;
}

static enum pfl_rc check_state(const struct pfl_token *t, int64_t now, struct pfl_err *err)
{
    char when[32];
    pfl_time_text(t->revoked_at ? t->revoked_at : t->expires_at, when);
    if (t->revoked_at)
        return pfl_err_set(err, PFL_AUTH, "token %lld was revoked on %s: ask the operator for a new one", (long long)t->id, when);
    if (now >= t->expires_at)
        return pfl_err_set(err, PFL_AUTH, "token %lld expired on %s: ask the operator for a new one", (long long)t->id, when);
    return PFL_OK;
}

enum pfl_rc pfl_token_find(struct pfl_register *r, const char *text, int64_t now, struct pfl_token *ret, struct pfl_err *err)
{
    uint8_t stored[PFL_SHA256_LEN], given[PFL_SHA256_LEN];
    struct pfl_token t = {0};
    char number[24] = "", written[24];
    const char *dot = strchr(text, '.');
    int64_t id = 0;
    bool found = false;
    if (dot && (size_t)(dot - text) < sizeof number)
        memcpy(number, text, (size_t)(dot - text));
    if (!pfl_parse_i64(number, 1, INT64_MAX, &id))
        id = 0;
    (void)snprintf(written, sizeof written, "%lld", (long long)id);
    if (strcmp(number, written) != 0) /* a token has one text */
        id = 0;
    enum pfl_rc rc = load(r, id, &t, stored, &found, err);
    if (rc != PFL_OK)
        return rc;
    hash_of(dot ? dot + 1 : "", given);
    bool right = CRYPTO_memcmp(stored, given, sizeof given) == 0 && found;
    rc = right ? check_state(&t, now_or(now), err)
               : pfl_err_set(err, PFL_NOT_FOUND, "this CA knows no such token: is it complete, and from this CA?");
    if (rc == PFL_OK)
        *ret = t;
    else
        pfl_token_deinit(&t);
    return rc;
}

enum pfl_rc pfl_token_get(struct pfl_register *r, int64_t id, struct pfl_token *ret, struct pfl_err *err)
{
    uint8_t hash[PFL_SHA256_LEN];
    bool found = false;
    enum pfl_rc rc = load(r, id, ret, hash, &found, err);
    if (rc == PFL_OK && !found)
        rc = pfl_err_set(err, PFL_NOT_FOUND, "there is no token %lld", (long long)id);
    return rc;
}

enum pfl_rc pfl_token_use(struct pfl_register *r, int64_t id, const char *server_key, const char *client_key, int64_t now,
                          struct pfl_err *err)
{
    int64_t n = 0;
    PFL_ASSERT(pfl_register_in_transaction(r));
    enum pfl_rc rc =
        pfl_sql_run(r, err, "UPDATE tokens SET used_at = ?, server_key = ?, client_key = ? WHERE id = ? AND used_at = 0", "itti",
                    now_or(now), server_key, client_key, id);
    if (rc == PFL_OK)
        rc = pfl_sql_get_int(r, err, 0, &n, "SELECT changes()", "");
    if (rc == PFL_OK && n != 1)
        rc = pfl_err_set(err, PFL_STATE, "token %lld was used already", (long long)id);
    return rc;
}

static enum pfl_rc revoke(struct pfl_register *r, const struct pfl_token *t, const char *actor, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *detail = pfl_xasprintf("token %lld revoked", (long long)t->id);
    enum pfl_rc rc = pfl_sql_run(r, err, "UPDATE tokens SET revoked_at = ? WHERE id = ?", "ii", now_or(0), t->id);
    if (rc == PFL_OK)
        rc = pfl_audit_append(r, actor, "token", t->name, detail, err);
    return rc;
}

enum pfl_rc pfl_token_revoke(struct pfl_register *r, int64_t id, const char *actor, struct pfl_err *err)
{
    PFL_AUTO(pfl_token_deinit) struct pfl_token t = {0};
    enum pfl_rc rc = pfl_register_begin(r, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_token_get(r, id, &t, err);
    if (rc == PFL_OK && (t.used_at || t.revoked_at))
        rc = pfl_err_set(err, PFL_STATE, "token %lld was %s already%s", (long long)id, t.revoked_at ? "revoked" : "used",
                         t.used_at ? ": revoke the certificates with 'p2pfl ca revoke'" : "");
    if (rc == PFL_OK)
        rc = revoke(r, &t, actor, err);
    if (rc == PFL_OK)
        return pfl_register_commit(r, err);
    pfl_register_rollback(r);
    return rc;
}

enum pfl_rc pfl_token_each(struct pfl_register *r, pfl_token_fn fn, void *user, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    enum pfl_rc rc = pfl_sql_run(r, err, TABLE, "");
    if (rc == PFL_OK)
        rc = pfl_sql_query(r, err, &stmt, "SELECT " COLUMNS " FROM tokens ORDER BY id", "");
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &more, err);
    while (rc == PFL_OK && more) {
        PFL_AUTO(pfl_token_deinit) struct pfl_token t = {0};
        take_row(stmt, &t);
        more = fn(user, &t);
        if (more)
            rc = pfl_sql_next(r, stmt, &more, err);
    }
    return rc;
}
