/* SPDX-License-Identifier: Apache-2.0 */
/* The register's statements in one call each: prepared, bound by type, stepped, with SQLite's result as our error. Values are
 * always bound, never pasted into the text. For the files of pki that keep tables in ca.db. */
#ifndef PFL_PKI_SQL_H
#define PFL_PKI_SQL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"

struct pfl_register;
struct sqlite3_stmt;

/** Runs a statement that gives no rows. `types` says what follows: 't' const char * (NULL: SQL NULL), 'i' int64_t,
 *  'b' struct pfl_bytes. EXISTS for a broken constraint; IO for a full disk or a read-only file; UNAVAILABLE where another process
 *  holds the register for too long; MALFORMED for a damaged file. Messages start with the register's path. */
enum pfl_rc pfl_sql_run(struct pfl_register *r, struct pfl_err *err, const char *sql, const char *types, ...) PFL_WARN_UNUSED;

/** A query: what is bound is copied. *ret is owned, stepped with pfl_sql_next. */
enum pfl_rc pfl_sql_query(struct pfl_register *r, struct pfl_err *err, struct sqlite3_stmt **ret, const char *sql,
                          const char *types, ...) PFL_WARN_UNUSED;
/** The next row: *ret_row says whether there is one. */
enum pfl_rc pfl_sql_next(struct pfl_register *r, struct sqlite3_stmt *stmt, bool *ret_row, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_sql_done(struct sqlite3_stmt *stmt); /* accepts NULL */
PFL_DEFINE_FREEP(sql, struct sqlite3_stmt, pfl_sql_done)

/** Columns of the present row, borrowed until the next step; NULL gives "" and the empty view. */
const char *pfl_sql_text(struct sqlite3_stmt *stmt, int column);
int64_t pfl_sql_int(struct sqlite3_stmt *stmt, int column);
struct pfl_bytes pfl_sql_blob(struct sqlite3_stmt *stmt, int column);

/** A query for one number; `otherwise` where there is no row. */
enum pfl_rc pfl_sql_get_int(struct pfl_register *r, struct pfl_err *err, int64_t otherwise, int64_t *ret, const char *sql,
                            const char *types, ...) PFL_WARN_UNUSED;

#endif
