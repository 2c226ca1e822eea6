/* SPDX-License-Identifier: Apache-2.0 */
/* What a node keeps on disk (node/durable.h): one row in `node.db` (SQLite, WAL, synchronous FULL, 0600) and the models that it
 * names, in `models/`:
 *
 *   checkpoint-<experiment>-<round>.safetensors    what that round began with; the last two are kept
 *   contribution-<experiment>-<round>.safetensors  what this node trained in the running round
 *
 * A model is written to a temporary file, synced and renamed, and its folder synced, before the row that names it is committed; a
 * file is removed only after no row names it any more. So whenever the process or the machine stops, a start finds one whole state:
 * the one before the last write or the one after it. Digests are checked when it is read.
 *
 * One process at a time: the database is locked as long as the journal is open (UNAVAILABLE for the second one). */
#ifndef PFL_RUNTIME_JOURNAL_H
#define PFL_RUNTIME_JOURNAL_H

#include "base/err.h"
#include "node/durable.h"

enum {
    PFL_JOURNAL_FINISHED_MAX = 64, /* experiments of the past that it remembers; older ones are forgotten */
    /* node.db and its log (node.db-wal) together: a row is rewritten in place, the log is cut back. A state with a thousand names
     * is 100 KiB. The models are not in it. */
    PFL_JOURNAL_BYTES_MAX = 4 << 20,
};

struct pfl_journal;
/** Opens or makes `dir`/node.db and removes leftovers of writes that were cut off. *ret_kept: what it holds, owned; NULL where it
 *  holds nothing. layout: of the node's models, contribution: of its contributions (learning/method.h); borrowed.
 *  UNAVAILABLE: another process has it. IO: it cannot be written. AUTH: others may read it. MALFORMED: it is damaged, or names a
 * model that is missing, damaged or of another layout while an experiment runs: to go on without it might contradict what this node
 * said before, so the operator decides. Where no experiment runs, such a model is only a warning and not restored. */
enum pfl_rc pfl_journal_open(const char *dir, struct pfl_layout *layout, struct pfl_layout *contribution, struct pfl_journal **ret,
                             struct pfl_durable **ret_kept, struct pfl_err *err) PFL_WARN_UNUSED;
/** On disk when it returns OK; else what was there before still is, and a later write is possible. From one thread at a time. */
enum pfl_rc pfl_journal_write(struct pfl_journal *j, const struct pfl_durable *d, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_journal_close(struct pfl_journal *j);
PFL_DEFINE_FREEP(journal, struct pfl_journal, pfl_journal_close)

#endif
