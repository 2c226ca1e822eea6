/* SPDX-License-Identifier: Apache-2.0 */
/* Prepare, bind, step. Every failure of SQLite leaves through sql_error, which says in an operator's words what it means. */
#include "pki/sql.h"

#include <sqlite3.h>
#include <stdarg.h>

#include "base/str.h"
#include "pki/register.h"
#include "pki/register_private.h"

enum pfl_rc pfl_sql_error(struct pfl_register *r, int code, struct pfl_err *err)
{
    const char *path = pfl_register_path(r);
    switch (code & 0xff) {
    case SQLITE_FULL:
        return pfl_err_set(err, PFL_IO, "%s: the disk is full: nothing was changed, make room and try again", path);
    case SQLITE_READONLY:
        return pfl_err_set(err, PFL_IO, "%s: cannot be written: the file, its folder or the file system is read-only", path);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return pfl_err_set(err, PFL_IO, "%s: cannot be opened: is its folder there, and may this user write in it?", path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return pfl_err_set(err, PFL_UNAVAILABLE, "%s: another process has held it for %d s: try again", path,
                           PFL_REGISTER_WAIT_MS / 1000);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return pfl_err_set(err, PFL_MALFORMED, "%s: is no register, or damaged: bring it back from a backup", path);
    case SQLITE_CONSTRAINT:
        return pfl_err_set(err, PFL_EXISTS, "%s: %s", path, sqlite3_errmsg(pfl_register_db(r)));
    default:
        return pfl_err_set(err, PFL_IO, "%s: %s (SQLite's code %d): nothing was changed; is the disk full?", path,
                           sqlite3_errmsg(pfl_register_db(r)), code);
    }
}

static int bind_one(sqlite3_stmt *stmt, int at, char type, va_list *ap)
{
    if (type == 'i')
        return sqlite3_bind_int64(stmt, at, va_arg(*ap, int64_t));
    if (type == 't') {
        const char *text = va_arg(*ap, const char *);
        return text ? sqlite3_bind_text(stmt, at, text, -1, SQLITE_TRANSIENT) : sqlite3_bind_null(stmt, at);
    }
    PFL_ASSERT(type == 'b');
    struct pfl_bytes b = va_arg(*ap, struct pfl_bytes);
    return sqlite3_bind_blob64(stmt, at, b.len ? (const void *)b.data : "", b.len, SQLITE_TRANSIENT);
}

static enum pfl_rc prepare(struct pfl_register *r, struct pfl_err *err, sqlite3_stmt **ret, const char *sql, const char *types,
                           va_list *ap)
{
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(pfl_register_db(r), sql, -1, &stmt, NULL);
    for (int i = 0; code == SQLITE_OK && types[i]; i++)
        code = bind_one(stmt, i + 1, types[i], ap);
    if (code != SQLITE_OK) {
        enum pfl_rc rc = pfl_sql_error(r, code, err);
        sqlite3_finalize(stmt);
        return rc;
    }
    *ret = stmt;
    return PFL_OK;
}

enum pfl_rc pfl_sql_query(struct pfl_register *r, struct pfl_err *err, sqlite3_stmt **ret, const char *sql, const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    enum pfl_rc rc = prepare(r, err, ret, sql, types, &ap);
    va_end(ap);
    return rc;
}

enum pfl_rc pfl_sql_next(struct pfl_register *r, sqlite3_stmt *stmt, bool *ret_row, struct pfl_err *err)
{
    int code = sqlite3_step(stmt);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return pfl_sql_error(r, code, err);
    *ret_row = code == SQLITE_ROW;
    return PFL_OK;
}

void pfl_sql_done(sqlite3_stmt *stmt)
{
    sqlite3_finalize(stmt);
}

enum pfl_rc pfl_sql_run(struct pfl_register *r, struct pfl_err *err, const char *sql, const char *types, ...)
{
    PFL_AUTO(pfl_sql_freep) sqlite3_stmt *stmt = NULL;
    bool row = true;
    va_list ap;
    va_start(ap, types);
    enum pfl_rc rc = prepare(r, err, &stmt, sql, types, &ap);
    va_end(ap);
    while (rc == PFL_OK && row)
        rc = pfl_sql_next(r, stmt, &row, err);
    return rc;
}

const char *pfl_sql_text(sqlite3_stmt *stmt, int column)
{
    const unsigned char *text = sqlite3_column_text(stmt, column);
    return text ? (const char *)text : "";
}

int64_t pfl_sql_int(sqlite3_stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt, column);
}

struct pfl_bytes pfl_sql_blob(sqlite3_stmt *stmt, int column)
{
    const void *data = sqlite3_column_blob(stmt, column);
    int len = sqlite3_column_bytes(stmt, column);
    return pfl_bytes_of(data, len > 0 ? (size_t)len : 0);
}

enum pfl_rc pfl_sql_get_int(struct pfl_register *r, struct pfl_err *err, int64_t otherwise, int64_t *ret, const char *sql,
                            const char *types, ...)
{
    PFL_AUTO(pfl_sql_freep) sqlite3_stmt *stmt = NULL;
    bool row = false;
    va_list ap;
    va_start(ap, types);
    enum pfl_rc rc = prepare(r, err, &stmt, sql, types, &ap);
    va_end(ap);
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &row, err);
    if (rc == PFL_OK)
        *ret = row ? pfl_sql_int(stmt, 0) : otherwise;
    return rc;
}
