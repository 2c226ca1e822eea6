/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal's parts share. Only src/runtime/journal{,_db,_files}.c include this. */
#ifndef PFL_RUNTIME_JOURNAL_IMPL_H
#define PFL_RUNTIME_JOURNAL_IMPL_H

#include "runtime/journal.h"

struct sqlite3;

/** A model file that a row names. */
struct pfl_journal_file {
    char *name; /* owned, inside models/; NULL: none */
    uint8_t digest[PFL_DIGEST_LEN];
};
void pfl_journal_file_set(struct pfl_journal_file *f, const char *name, const uint8_t digest[PFL_DIGEST_LEN]); /* NULL: none */

/** A row as it is on disk: the state without its models, and where those are. */
struct pfl_journal_row {
    struct pfl_durable *state; /* owned */
    struct pfl_journal_file model, previous, contribution;
};
void pfl_journal_row_deinit(struct pfl_journal_row *row);

/* journal_db.c */
enum pfl_rc pfl_journal_db_open(const char *path, struct sqlite3 **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** *ret_found: false where no row was written yet. */
enum pfl_rc pfl_journal_db_read(struct sqlite3 *db, const char *path, struct pfl_journal_row *ret, bool *ret_found,
                                struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_journal_db_write(struct sqlite3 *db, const char *path, const struct pfl_durable *d,
                                 const struct pfl_journal_file *model, const struct pfl_journal_file *previous,
                                 const struct pfl_journal_file *contribution, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_journal_db_close(struct sqlite3 *db);

/* journal_files.c */
/** "<kind>-<experiment>-<round>.safetensors", with what is no letter, digit, '.', '-' or '_' replaced: the experiment's name comes
 *  from a peer. version: 0, or 1 to 25 for another name of the same. Owned by the caller. */
char *pfl_journal_file_name(const char *kind, const char *experiment, int64_t round, unsigned version);
enum pfl_rc pfl_journal_file_write(const char *models, const char *name, struct pfl_payload *p,
                                   struct pfl_err *err) PFL_WARN_UNUSED;
/** A payload with its digest, checked; *ret owned. */
enum pfl_rc pfl_journal_file_read(const char *models, const struct pfl_journal_file *f, struct pfl_layout *layout,
                                  struct pfl_payload **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Removes checkpoints, contributions and temporary files of them that are not in `named` (n of them, NULLs are skipped). */
void pfl_journal_files_sweep(const char *models, const char *const *named, size_t n);

#endif
