/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the register and its transactions. The schema is made in one transaction, so two processes that open a new register at
 * once, or a crash in the middle, end with one whole schema. */
#include "pki/register.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "pki/register_private.h"
#include "pki/sql.h"

enum { SCHEMA_VERSION = 1, APPLICATION_ID = 0x70326661 /* "p2fa" */, WAL_TRIES = 200 };

struct pfl_register {
    sqlite3 *db; /* owned */
    char *path;  /* owned */
    pfl_audit_sign_fn sign;
    void *sign_user;
    bool appended; /* to the audit log, in the present transaction */
};

/* sans: one a line. crls.number: upper-case hex. audit_head.seal: the CA key's signature over number and hash of entry `sealed`. */
static const char SCHEMA[] =
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE issuers (fingerprint TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('root', 'intermediate')),"
    " state TEXT NOT NULL CHECK (state IN ('next', 'active', 'retiring', 'retired')), key_file TEXT,"
    " cert BLOB NOT NULL, added_at INTEGER NOT NULL);"
    "CREATE TABLE certificates (id INTEGER PRIMARY KEY, serial TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,"
    " subject TEXT NOT NULL, purpose TEXT NOT NULL, sans TEXT NOT NULL, key_fingerprint TEXT NOT NULL,"
    " issuer TEXT NOT NULL, asked_by TEXT NOT NULL, token_id INTEGER NOT NULL, not_before INTEGER NOT NULL,"
    " not_after INTEGER NOT NULL, status TEXT NOT NULL CHECK (status IN ('reserved', 'valid', 'revoked')),"
    " revoked_at INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', der BLOB NOT NULL DEFAULT x'',"
    " CHECK (status = 'reserved' OR length(der) > 0));"
    "CREATE INDEX certificates_name ON certificates (name);"
    "CREATE INDEX certificates_issuer ON certificates (issuer, status);"
    "CREATE TABLE crls (issuer TEXT PRIMARY KEY, number TEXT NOT NULL, this_update INTEGER NOT NULL,"
    " next_update INTEGER NOT NULL, der BLOB NOT NULL);"
    "CREATE TABLE audit (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,"
    " subject TEXT NOT NULL, detail TEXT NOT NULL, hash BLOB NOT NULL);"
    "CREATE INDEX audit_subject ON audit (subject);"
    "CREATE TABLE audit_head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL,"
    " sealed INTEGER NOT NULL, sealed_by TEXT NOT NULL, seal BLOB NOT NULL);"
    "INSERT INTO audit_head VALUES (1, 0, x'', 0, '', x'');"
    /* against accidents; whoever means harm can drop them, and that is what the hashes are for */
    "CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); "
    "END;"
    "CREATE TRIGGER audit_keeps_all BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END;";

sqlite3 *pfl_register_db(struct pfl_register *r)
{
    return r->db;
}

const char *pfl_register_path(const struct pfl_register *r)
{
    return r->path;
}

void pfl_register_mark_appended(struct pfl_register *r)
{
    r->appended = true;
}

bool pfl_register_in_transaction(const struct pfl_register *r)
{
    return sqlite3_get_autocommit(r->db) == 0;
}

void pfl_register_set_sealer(struct pfl_register *r, pfl_audit_sign_fn sign, void *user)
{
    r->sign = sign;
    r->sign_user = user;
}

enum pfl_rc pfl_register_begin(struct pfl_register *r, struct pfl_err *err)
{
    PFL_ASSERT(!pfl_register_in_transaction(r));
    r->appended = false;
    return pfl_sql_run(r, err, "BEGIN IMMEDIATE", "");
}

enum pfl_rc pfl_register_commit(struct pfl_register *r, struct pfl_err *err)
{
    enum pfl_rc rc = r->appended && r->sign ? pfl_audit_seal(r, r->sign, r->sign_user, err) : PFL_OK;
    if (rc == PFL_OK)
        rc = pfl_sql_run(r, err, "COMMIT", "");
    if (rc != PFL_OK)
        pfl_register_rollback(r);
    return rc;
}

void pfl_register_rollback(struct pfl_register *r)
{
    r->appended = false;
    if (pfl_register_in_transaction(r))
        (void)sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL); /* where it fails SQLite has rolled back by itself */
}

enum pfl_rc pfl_register_get(struct pfl_register *r, const char *key, char **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool row = false;
    enum pfl_rc rc = pfl_sql_query(r, err, &stmt, "SELECT value FROM settings WHERE key = ?", "t", key);
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &row, err);
    if (rc == PFL_OK)
        *ret = row ? pfl_xstrdup(pfl_sql_text(stmt, 0)) : NULL;
    return rc;
}

enum pfl_rc pfl_register_set(struct pfl_register *r, const char *key, const char *value, struct pfl_err *err)
{
    return pfl_sql_run(r, err, "INSERT INTO settings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", "tt",
                       key, value);
}

/* SQLite would make the file with the umask's mode; WAL and shared-memory files take the mode of the database. */
static enum pfl_rc make_private(const char *path, struct pfl_err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
        return PFL_OK;
    }
    return errno == EEXIST ? pfl_fs_check_private(path, err) : pfl_err_errno(err, errno, "%s: cannot make the CA's register", path);
}

/* Switching to WAL does not wait for another process by itself. */
static enum pfl_rc use_wal(struct pfl_register *r, struct pfl_err *err)
{
    enum pfl_rc rc = PFL_UNAVAILABLE;
    for (int i = 0; rc == PFL_UNAVAILABLE && i < WAL_TRIES; i++) {
        rc = pfl_sql_run(r, err, "PRAGMA journal_mode = WAL", "");
        if (rc == PFL_UNAVAILABLE)
            sqlite3_sleep(10);
    }
    return rc;
}

static enum pfl_rc make_schema(struct pfl_register *r, struct pfl_err *err)
{
    int64_t version = 0;
    enum pfl_rc rc = pfl_sql_get_int(r, err, 0, &version, "PRAGMA user_version", "");
    if (rc != PFL_OK || version == SCHEMA_VERSION) /* another process was first */
        return rc;
    PFL_AUTO(pfl_freep)
    char *marks = pfl_xasprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION_ID, SCHEMA_VERSION);
    int code = sqlite3_exec(r->db, SCHEMA, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(r->db, marks, NULL, NULL, NULL);
    return code == SQLITE_OK ? PFL_OK : pfl_sql_error(r, code, err);
}

static enum pfl_rc check_schema(struct pfl_register *r, struct pfl_err *err)
{
    int64_t version = 0, application = 0, tables = 0;
    enum pfl_rc rc = pfl_sql_get_int(r, err, 0, &version, "PRAGMA user_version", "");
    if (rc == PFL_OK)
        rc = pfl_sql_get_int(r, err, 0, &application, "PRAGMA application_id", "");
    if (rc == PFL_OK)
        rc = pfl_sql_get_int(r, err, 0, &tables, "SELECT count(*) FROM sqlite_schema", "");
    if (rc != PFL_OK)
        return rc;
    if (version == 0 && application == 0 && tables == 0) {
        rc = pfl_register_begin(r, err);
        if (rc == PFL_OK)
            rc = make_schema(r, err);
        if (rc == PFL_OK)
            return pfl_register_commit(r, err);
        pfl_register_rollback(r);
        return rc;
    }
    if (application != APPLICATION_ID)
        return pfl_err_set(err, PFL_MALFORMED, "%s: an SQLite file, but not a CA's register", r->path);
    if (version != SCHEMA_VERSION)
        return pfl_err_set(err, PFL_MALFORMED, "%s: made by a newer p2pfl (schema %lld, this one knows %d)", r->path,
                           (long long)version, SCHEMA_VERSION);
    return PFL_OK;
}

static enum pfl_rc open_db(struct pfl_register *r, struct pfl_err *err)
{
    int code = sqlite3_open_v2(r->path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL);
    if (code != SQLITE_OK)
        return pfl_sql_error(r, code, err);
    sqlite3_extended_result_codes(r->db, 1);
    sqlite3_busy_timeout(r->db, PFL_REGISTER_WAIT_MS);
    enum pfl_rc rc = use_wal(r, err);
    if (rc == PFL_OK)
        rc = pfl_sql_run(r, err, "PRAGMA synchronous = FULL", "");
    if (rc == PFL_OK) /* a damaged or planted schema must not run functions */
        rc = pfl_sql_run(r, err, "PRAGMA trusted_schema = OFF", "");
    return rc == PFL_OK ? check_schema(r, err) : rc;
}

enum pfl_rc pfl_register_open(const char *path, struct pfl_register **ret, struct pfl_err *err)
{
    enum pfl_rc rc = make_private(path, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_register_freep) struct pfl_register *r = pfl_xcalloc(1, sizeof *r);
    r->path = pfl_xstrdup(path);
    rc = open_db(r, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_steal(&r);
    return PFL_OK;
}

void pfl_register_close(struct pfl_register *r)
{
    if (!r)
        return;
    if (r->db) {
        pfl_register_rollback(r);
        sqlite3_close(r->db);
    }
    free(r->path);
    free(r);
}
