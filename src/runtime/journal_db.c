/* SPDX-License-Identifier: Apache-2.0 */
/* node.db: the row of the running state, and the experiments that are over. Lists are JSON arrays of strings. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/journal_impl.h"

enum { SCHEMA_VERSION = 2, APPLICATION_ID = 0x7032666e /* "p2fn" */, WAL_PAGES = 64, WAL_BYTES = 256 << 10, BUSY_MS = 1000 };

static const char schema[] =
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, experiment TEXT, learning INTEGER NOT NULL,"
    " over INTEGER NOT NULL, rounds INTEGER NOT NULL, epochs INTEGER NOT NULL, trainset_size INTEGER NOT NULL,"
    " rounds_done INTEGER NOT NULL, round INTEGER NOT NULL, members TEXT NOT NULL, voted INTEGER NOT NULL, ballot TEXT NOT NULL,"
    " contributed INTEGER NOT NULL, samples INTEGER NOT NULL, neighbours TEXT NOT NULL, others TEXT NOT NULL,"
    " model TEXT, model_digest BLOB, previous TEXT, previous_digest BLOB, contribution TEXT, contribution_digest BLOB,"
    " computed INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE finished (experiment TEXT PRIMARY KEY, rounds INTEGER NOT NULL, digest BLOB NOT NULL,"
    " at INTEGER NOT NULL DEFAULT (unixepoch()));";

static enum pfl_rc failed(sqlite3 *db, const char *path, int code, struct pfl_err *err)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return pfl_err_set(err, PFL_IO, "%s: the disk is full", path);
    case SQLITE_READONLY:
        return pfl_err_set(err, PFL_IO, "%s: the file, its folder or the file system is read-only", path);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return pfl_err_set(err, PFL_IO, "%s: cannot be opened: may this user write in its folder?", path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return pfl_err_set(err, PFL_UNAVAILABLE, "%s: another process uses this state folder: is the node running already?", path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return pfl_err_set(err, PFL_MALFORMED,
                           "%s: is damaged, or no journal of a node; move it away to start without what it holds", path);
    default:
        return pfl_err_set(err, PFL_IO, "%s: %s (SQLite's code %d)", path, sqlite3_errmsg(db), code);
    }
}

static int make_schema(sqlite3 *db)
{
    char marks[96];
    sqlite3_snprintf(sizeof(marks), marks, "PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION_ID, SCHEMA_VERSION);
    int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, schema, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, marks, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    if (code != SQLITE_OK)
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

/* A journal of version 1 does not say whether the last result was computed here. */
static int migrate(sqlite3 *db)
{
    return sqlite3_exec(db,
                        "BEGIN IMMEDIATE; ALTER TABLE state ADD COLUMN computed INTEGER NOT NULL DEFAULT 0;"
                        " PRAGMA user_version = 2; COMMIT",
                        NULL, NULL, NULL);
}

/* The first column of the first row; -1 as number and text "" where it fails. */
static int one_int(sqlite3 *db, const char *sql, int64_t *ret)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (code == SQLITE_OK && (code = sqlite3_step(s)) == SQLITE_ROW) {
        *ret = sqlite3_column_int64(s, 0);
        code = SQLITE_OK;
    }
    sqlite3_finalize(s);
    return code;
}

/* quick_check's first row says "ok". */
static int whole(sqlite3 *db)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (code == SQLITE_OK && (code = sqlite3_step(s)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        code = pfl_streq(text, "ok") ? SQLITE_OK : SQLITE_CORRUPT;
    }
    sqlite3_finalize(s);
    return code;
}

/* Exclusive locking keeps a second process out, and spares the shared-memory file. */
static int settings(sqlite3 *db)
{
    char bounds[96];
    int code = sqlite3_exec(db,
                            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                            " PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
                            NULL, NULL, NULL);
    sqlite3_snprintf(sizeof(bounds), bounds, "PRAGMA wal_autocheckpoint = %d; PRAGMA journal_size_limit = %d;", WAL_PAGES,
                     WAL_BYTES);
    return code == SQLITE_OK ? sqlite3_exec(db, bounds, NULL, NULL, NULL) : code;
}

static enum pfl_rc check(sqlite3 *db, const char *path, struct pfl_err *err)
{
    int64_t version = -1, application = -1, tables = -1;
    int code = settings(db);
    if (code == SQLITE_OK)
        code = whole(db);
    if (code == SQLITE_OK)
        code = one_int(db, "PRAGMA user_version", &version);
    if (code == SQLITE_OK)
        code = one_int(db, "PRAGMA application_id", &application);
    if (code == SQLITE_OK)
        code = one_int(db, "SELECT count(*) FROM sqlite_schema", &tables);
    if (code == SQLITE_OK && version == 0 && application == 0 && tables == 0) {
        code = make_schema(db);
        application = APPLICATION_ID;
        version = SCHEMA_VERSION;
    }
    if (code == SQLITE_OK && application == APPLICATION_ID && version == 1) {
        code = migrate(db);
        version = SCHEMA_VERSION;
    }
    if (code != SQLITE_OK)
        return failed(db, path, code, err);
    if (application != APPLICATION_ID)
        return pfl_err_set(err, PFL_MALFORMED, "%s: an SQLite file, but not a node's journal", path);
    if (version != SCHEMA_VERSION)
        return pfl_err_set(err, PFL_MALFORMED, "%s: made by a newer p2pfl (schema %lld, this one knows %d)", path,
                           (long long)version, SCHEMA_VERSION);
    return PFL_OK;
}

/* SQLite would make the file with the umask's mode; its log takes the mode of the database. */
static enum pfl_rc make_private(const char *path, struct pfl_err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
        return PFL_OK;
    }
    return errno == EEXIST ? pfl_fs_check_private(path, err)
                           : pfl_err_errno(err, errno, "%s: cannot make the node's journal", path);
}

enum pfl_rc pfl_journal_db_open(const char *path, sqlite3 **ret, struct pfl_err *err)
{
    sqlite3 *db = NULL;
    enum pfl_rc rc = make_private(path, err);
    if (rc != PFL_OK)
        return rc;
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL);
    if (code == SQLITE_OK) /* the process that had it may be on its way out */
        code = sqlite3_busy_timeout(db, BUSY_MS);
    rc = code == SQLITE_OK ? check(db, path, err) : failed(db, path, code, err);
    if (rc != PFL_OK) {
        sqlite3_close(db);
        return rc;
    }
    *ret = db;
    return PFL_OK;
}

void pfl_journal_db_close(sqlite3 *db)
{
    sqlite3_close(db);
}

/* ---- the row ---- */

static char *list_text(const struct pfl_strs *l)
{
    json_t *a = json_array();
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(a, json_string(l->items[i]));
    char *text = json_dumps(a, JSON_COMPACT);
    json_decref(a);
    return text ? text : pfl_xstrdup("[]");
}

static void bind_list(sqlite3_stmt *s, int at, const struct pfl_strs *l)
{
    (void)sqlite3_bind_text(s, at, list_text(l), -1, free); /* a failure shows when it is stepped: NOT NULL */
}

static void bind_file(sqlite3_stmt *s, int at, const struct pfl_journal_file *f)
{
    if (!f->name)
        return;
    (void)sqlite3_bind_text(s, at, f->name, -1, SQLITE_TRANSIENT);
    (void)sqlite3_bind_blob(s, at + 1, f->digest, sizeof(f->digest), SQLITE_TRANSIENT);
}

static void bind_state(sqlite3_stmt *s, const struct pfl_durable *d)
{
    const int64_t numbers[] = {(int64_t)d->seq,       d->learning,    d->over,  d->rounds, d->epochs,
                               d->trainset_size,      d->rounds_done, d->round, d->voted,  d->contributed,
                               (int64_t)d->n_samples, d->computed};
    static const int at[] = {1, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 23};
    for (size_t i = 0; i < PFL_ARRAY_LEN(at); i++)
        (void)sqlite3_bind_int64(s, at[i], numbers[i]);
    if (d->experiment)
        (void)sqlite3_bind_text(s, 2, d->experiment, -1, SQLITE_TRANSIENT);
    bind_list(s, 10, &d->members);
    bind_list(s, 12, &d->ballot);
    bind_list(s, 15, &d->neighbours);
    bind_list(s, 16, &d->others);
}

static int step_once(sqlite3_stmt *s)
{
    int code = sqlite3_step(s);
    sqlite3_finalize(s);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int write_state(sqlite3 *db, const struct pfl_durable *d, const struct pfl_journal_file *model,
                       const struct pfl_journal_file *previous, const struct pfl_journal_file *contribution)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(
        db, "REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", -1, &s, NULL);
    if (code != SQLITE_OK)
        return code;
    bind_state(s, d);
    bind_file(s, 17, model);
    bind_file(s, 19, previous);
    bind_file(s, 21, contribution);
    return step_once(s);
}

static int write_finished(sqlite3 *db, const struct pfl_durable *d, const struct pfl_journal_file *model)
{
    sqlite3_stmt *s = NULL;
    if (!d->over || d->learning || !d->experiment || !model->name)
        return SQLITE_OK;
    int code = sqlite3_prepare_v2(db,
                                  "INSERT INTO finished (experiment, rounds, digest) VALUES (?, ?, ?)"
                                  " ON CONFLICT (experiment) DO UPDATE SET digest = excluded.digest",
                                  -1, &s, NULL);
    if (code != SQLITE_OK)
        return code;
    (void)sqlite3_bind_text(s, 1, d->experiment, -1, SQLITE_TRANSIENT);
    (void)sqlite3_bind_int64(s, 2, d->rounds_done);
    (void)sqlite3_bind_blob(s, 3, model->digest, sizeof(model->digest), SQLITE_TRANSIENT);
    code = step_once(s);
    if (code != SQLITE_OK || sqlite3_prepare_v2(db,
                                                "DELETE FROM finished WHERE rowid NOT IN"
                                                " (SELECT rowid FROM finished ORDER BY rowid DESC LIMIT ?)",
                                                -1, &s, NULL) != SQLITE_OK)
        return code;
    (void)sqlite3_bind_int64(s, 1, PFL_JOURNAL_FINISHED_MAX);
    return step_once(s);
}

enum pfl_rc pfl_journal_db_write(sqlite3 *db, const char *path, const struct pfl_durable *d, const struct pfl_journal_file *model,
                                 const struct pfl_journal_file *previous, const struct pfl_journal_file *contribution,
                                 struct pfl_err *err)
{
    int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = write_state(db, d, model, previous, contribution);
    if (code == SQLITE_OK)
        code = write_finished(db, d, model);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        return PFL_OK;
    enum pfl_rc rc = failed(db, path, code, err);
    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* ---- reading ---- */

static bool get_list(sqlite3_stmt *s, int at, struct pfl_strs *ret)
{
    const char *text = (const char *)sqlite3_column_text(s, at);
    json_t *a = text ? json_loads(text, 0, NULL) : NULL, *item;
    size_t i;
    bool ok = json_is_array(a);
    json_array_foreach (a, i, item) {
        ok = ok && json_is_string(item);
        if (ok)
            pfl_strs_add(ret, json_string_value(item));
    }
    json_decref(a);
    return ok;
}

static bool get_file(sqlite3_stmt *s, int at, struct pfl_journal_file *ret)
{
    const char *name = (const char *)sqlite3_column_text(s, at);
    if (!name)
        return true;
    if (strchr(name, '/') || name[0] == '.' || sqlite3_column_bytes(s, at + 1) != PFL_DIGEST_LEN)
        return false;
    pfl_journal_file_set(ret, name, sqlite3_column_blob(s, at + 1));
    return true;
}

static bool in_u31(int64_t v)
{
    return v >= -1 && v <= INT32_MAX;
}

static bool get_numbers(sqlite3_stmt *s, struct pfl_durable *d)
{
    int64_t v[17];
    for (int i = 0; i < 17; i++)
        v[i] = sqlite3_column_int64(s, i);
    if (v[0] < 0 || !in_u31(v[4]) || !in_u31(v[5]) || !in_u31(v[6]) || !in_u31(v[7]) || !in_u31(v[8]) || !in_u31(v[10]) ||
        !in_u31(v[12]) || !in_u31(v[13]) || v[4] < 0 || v[5] < 0 || v[6] < 0 || v[7] < 0 || v[13] < 0)
        return false;
    d->seq = (uint64_t)v[0];
    d->learning = v[2] != 0;
    d->over = v[3] != 0;
    d->rounds = (unsigned)v[4];
    d->epochs = (unsigned)v[5];
    d->trainset_size = (unsigned)v[6];
    d->rounds_done = (unsigned)v[7];
    d->round = (int32_t)v[8];
    d->voted = (int32_t)v[10];
    d->contributed = (int32_t)v[12];
    d->n_samples = (uint64_t)v[13];
    return true;
}

static bool get_row(sqlite3_stmt *s, struct pfl_journal_row *row)
{
    struct pfl_durable *d = row->state;
    const char *experiment = (const char *)sqlite3_column_text(s, 1);
    d->experiment = experiment ? pfl_xstrdup(experiment) : NULL;
    d->computed = sqlite3_column_int64(s, 22) != 0;
    return get_numbers(s, d) && get_list(s, 9, &d->members) && get_list(s, 11, &d->ballot) && get_list(s, 14, &d->neighbours) &&
           get_list(s, 15, &d->others) && get_file(s, 16, &row->model) && get_file(s, 18, &row->previous) &&
           get_file(s, 20, &row->contribution);
}

enum pfl_rc pfl_journal_db_read(sqlite3 *db, const char *path, struct pfl_journal_row *ret, bool *ret_found, struct pfl_err *err)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(db,
                                  "SELECT seq, experiment, learning, over, rounds, epochs, trainset_size, rounds_done, round,"
                                  " members, voted, ballot, contributed, samples, neighbours, others, model, model_digest,"
                                  " previous, previous_digest, contribution, contribution_digest, computed FROM state",
                                  -1, &s, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    *ret_found = code == SQLITE_ROW;
    ret->state = pfl_durable_new();
    bool sound = code != SQLITE_ROW || get_row(s, ret);
    sqlite3_finalize(s);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return failed(db, path, code, err);
    return sound ? PFL_OK : failed(db, path, SQLITE_CORRUPT, err);
}
