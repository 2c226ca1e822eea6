/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in the register's own table. */
#include "pki/request.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "pki/csr.h"
#include "pki/digest.h"
#include "pki/register.h"
#include "pki/sql.h"
#include "pki/token.h"

static const char TABLE[] =
    "CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY AUTOINCREMENT, secret BLOB NOT NULL UNIQUE,"
    " token_id INTEGER NOT NULL, server_csr BLOB NOT NULL, client_csr BLOB, address TEXT NOT NULL,"
    " made_at INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0, decided_at INTEGER NOT NULL DEFAULT 0,"
    " decided_by TEXT NOT NULL DEFAULT '') STRICT";
#define SELECT                                                                                                                     \
    "SELECT id, token_id, made_at, decided_at, state, server_csr, client_csr, address, decided_by FROM requests WHERE made_at > "  \
    "? "

const char *pfl_request_state_text(enum pfl_request_state s)
{
    return s == PFL_REQUEST_PENDING ? "pending" : s == PFL_REQUEST_APPROVED ? "approved" : "denied";
}

void pfl_request_deinit(struct pfl_request *q)
{
    pfl_buf_deinit(&q->server_csr);
    pfl_buf_deinit(&q->client_csr);
    free(q->address);
    free(q->decided_by);
    *q = (struct pfl_request){0};
}

static void take_blob(struct pfl_buf *b, struct pfl_bytes v)
{
    *b = (struct pfl_buf){.limit = PFL_CSR_MAX};
    pfl_buf_append(b, v.data, v.len);
}

static void take_row(struct sqlite3_stmt *stmt, struct pfl_request *q)
{
    *q = (struct pfl_request){
        .id = pfl_sql_int(stmt, 0),
        .token_id = pfl_sql_int(stmt, 1),
        .made_at = pfl_sql_int(stmt, 2),
        .decided_at = pfl_sql_int(stmt, 3),
        .state = (enum pfl_request_state)pfl_sql_int(stmt, 4),
        .address = pfl_xstrdup(pfl_sql_text(stmt, 7)),
        .decided_by = pfl_xstrdup(pfl_sql_text(stmt, 8)),
    };
    take_blob(&q->server_csr, pfl_sql_blob(stmt, 5));
    take_blob(&q->client_csr, pfl_sql_blob(stmt, 6));
}

/* The one row of a query, which is done with here. */
static enum pfl_rc take_one(struct pfl_register *r, struct sqlite3_stmt *stmt, struct pfl_request *ret, struct pfl_err *err)
{
    bool row = false;
    enum pfl_rc rc = pfl_sql_next(r, stmt, &row, err);
    if (rc == PFL_OK && !row)
        rc = pfl_err_set(err, PFL_NOT_FOUND, "there is no such request: it may be older than %d h", PFL_REQUEST_LIFE_S / 3600);
    if (rc == PFL_OK)
        take_row(stmt, ret);
    return rc;
}

static enum pfl_rc by_number(struct pfl_register *r, const char *sql, int64_t number, int64_t now, struct pfl_request *ret,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    enum pfl_rc rc = pfl_sql_run(r, err, TABLE, "");
    if (rc == PFL_OK)
        rc = pfl_sql_query(r, err, &stmt, sql, "ii", now - PFL_REQUEST_LIFE_S, number);
    return rc == PFL_OK ? take_one(r, stmt, ret, err) : rc;
}

enum pfl_rc pfl_request_get(struct pfl_register *r, int64_t id, int64_t now, struct pfl_request *ret, struct pfl_err *err)
{
    return by_number(r, SELECT "AND id = ?", id, now, ret, err);
}

enum pfl_rc pfl_request_by_token(struct pfl_register *r, int64_t token_id, int64_t now, struct pfl_request *ret,
                                 struct pfl_err *err)
{
    return by_number(r, SELECT "AND token_id = ?", token_id, now, ret, err);
}

static void hash_of(const char *secret, uint8_t out[PFL_SHA256_LEN])
{
    pfl_sha256(pfl_bytes_of(secret, strlen(secret)), out);
}

enum pfl_rc pfl_request_by_secret(struct pfl_register *r, const char *secret, int64_t now, struct pfl_request *ret,
                                  struct pfl_err *err)
{
    /* Found by its hash: how long the index takes tells of the hash, from which nobody comes back to 256 random bits. */
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    uint8_t hash[PFL_SHA256_LEN];
    hash_of(secret, hash);
    enum pfl_rc rc = pfl_sql_run(r, err, TABLE, "");
    if (rc == PFL_OK)
        rc = pfl_sql_query(r, err, &stmt, SELECT "AND secret = ?", "ib", now - PFL_REQUEST_LIFE_S, pfl_bytes_of(hash, sizeof hash));
    return rc == PFL_OK ? take_one(r, stmt, ret, err) : rc;
}

static enum pfl_rc check_same(const struct pfl_request *q, struct pfl_bytes server_csr, struct pfl_bytes client_csr,
                              struct pfl_err *err)
{
    if (pfl_bytes_eq(pfl_buf_view(&q->server_csr), server_csr) && pfl_bytes_eq(pfl_buf_view(&q->client_csr), client_csr))
        return PFL_OK;
    return pfl_err_set(err, PFL_STATE,
                       "token %lld has request %lld already, for other keys, from %s: the operator denies it or makes "
                       "a new token",
                       (long long)q->token_id, (long long)q->id, q->address);
}

enum pfl_rc pfl_request_open(struct pfl_register *r, int64_t token_id, struct pfl_bytes server_csr, struct pfl_bytes client_csr,
                             const char *address, int64_t now, char **ret_secret, int64_t *ret_id, struct pfl_err *err)
{
    PFL_AUTO(pfl_request_deinit) struct pfl_request old = {0};
    uint8_t hash[PFL_SHA256_LEN];
    PFL_AUTO(pfl_freep) char *secret = pfl_secret_text();
    const struct pfl_bytes hashed = pfl_bytes_of(hash, sizeof hash);
    PFL_ASSERT(pfl_register_in_transaction(r));
    hash_of(secret, hash);
    enum pfl_rc rc = pfl_request_by_token(r, token_id, now, &old, err);
    if (rc == PFL_OK) {
        rc = check_same(&old, server_csr, client_csr, err);
        if (rc == PFL_OK)
            rc = pfl_sql_run(r, err, "UPDATE requests SET secret = ? WHERE id = ?", "bi", hashed, old.id);
        *ret_id = old.id;
    } else if (rc == PFL_NOT_FOUND) {
        rc = pfl_sql_run(r, err, "DELETE FROM requests WHERE made_at <= ?", "i", now - PFL_REQUEST_LIFE_S);
        if (rc == PFL_OK)
            rc = pfl_sql_run(r, err,
                             "INSERT INTO requests (secret, token_id, server_csr, client_csr, address, made_at)"
                             " VALUES (?, ?, ?, ?, ?, ?)",
                             "bibbti", hashed, token_id, server_csr, client_csr, address, now);
        if (rc == PFL_OK)
            rc = pfl_sql_get_int(r, err, 0, ret_id, "SELECT last_insert_rowid()", "");
    }
    if (rc == PFL_OK)
        *ret_secret = pfl_steal(&secret);
    return rc;
}

enum pfl_rc pfl_request_each(struct pfl_register *r, int64_t now, pfl_request_fn fn, void *user, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    enum pfl_rc rc = pfl_sql_run(r, err, TABLE, "");
    if (rc == PFL_OK)
        rc = pfl_sql_query(r, err, &stmt, SELECT "ORDER BY id", "i", now - PFL_REQUEST_LIFE_S);
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &more, err);
    while (rc == PFL_OK && more) {
        PFL_AUTO(pfl_request_deinit) struct pfl_request q = {0};
        take_row(stmt, &q);
        more = fn(user, &q);
        if (more)
            rc = pfl_sql_next(r, stmt, &more, err);
    }
    return rc;
}

static enum pfl_rc decide(struct pfl_register *r, int64_t id, bool approve, const char *name, const char *actor, int64_t now,
                          struct pfl_err *err)
{
    PFL_AUTO(pfl_request_deinit) struct pfl_request q = {0};
    enum pfl_rc rc = pfl_request_get(r, id, now, &q, err);
    if (rc == PFL_OK && q.state != PFL_REQUEST_PENDING)
        rc = pfl_err_set(err, PFL_STATE, "request %lld was %s already by %s", (long long)id, pfl_request_state_text(q.state),
                         q.decided_by);
    if (rc == PFL_OK)
        rc = pfl_sql_run(r, err, "UPDATE requests SET state = ?, decided_at = ?, decided_by = ? WHERE id = ?", "iiti",
                         (int64_t)(approve ? PFL_REQUEST_APPROVED : PFL_REQUEST_DENIED), now, actor, id);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep)
    char *detail = pfl_xasprintf("request %lld of token %lld from %s", (long long)id, (long long)q.token_id, q.address);
    return pfl_audit_append(r, actor, approve ? "approve" : "deny", name, detail, err);
}

enum pfl_rc pfl_request_decide(struct pfl_register *r, int64_t id, bool approve, const char *name, const char *actor, int64_t now,
                               struct pfl_err *err)
{
    enum pfl_rc rc = pfl_register_begin(r, err);
    if (rc != PFL_OK)
        return rc;
    rc = decide(r, id, approve, name, actor, now, err);
    if (rc == PFL_OK)
        return pfl_register_commit(r, err);
    pfl_register_rollback(r);
    return rc;
}
