/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a write: new models whole on disk, then the row that names them, then what nothing names any more goes. */
#include "runtime/journal.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "runtime/journal_impl.h"

struct pfl_journal {
    sqlite3 *db;
    char *path, *models; /* owned */
    /* what the row on disk names */
    struct pfl_journal_file model, previous, contribution;
};

void pfl_journal_file_set(struct pfl_journal_file *f, const char *name, const uint8_t digest[PFL_DIGEST_LEN])
{
    char *copy = name ? pfl_xstrdup(name) : NULL;
    if (name)
        memmove(f->digest, digest, sizeof(f->digest));
    free(f->name);
    f->name = copy;
}

static void file_deinit(struct pfl_journal_file *f)
{
    pfl_freep(&f->name);
}

void pfl_journal_row_deinit(struct pfl_journal_row *row)
{
    pfl_durable_free(row->state);
    file_deinit(&row->model);
    file_deinit(&row->previous);
    file_deinit(&row->contribution);
    *row = (struct pfl_journal_row){0};
}

static void sweep(const struct pfl_journal *j)
{
    const char *const named[] = {j->model.name, j->previous.name, j->contribution.name};
    pfl_journal_files_sweep(j->models, named, PFL_ARRAY_LEN(named));
}

/* ---- reading ---- */

static enum pfl_rc read_models(struct pfl_journal *j, struct pfl_layout *layout, struct pfl_layout *contribution,
                               struct pfl_journal_row *row, struct pfl_err *err)
{
    struct pfl_durable *d = row->state;
    enum pfl_rc rc = PFL_OK;
    if (row->model.name)
        rc = pfl_journal_file_read(j->models, &row->model, layout, &d->model, err);
    if (rc == PFL_OK && row->contribution.name)
        rc = pfl_journal_file_read(j->models, &row->contribution, contribution, &d->contribution, err);
    if (rc == PFL_OK)
        return rc;
    if (d->learning)
        return pfl_err_set(err, PFL_MALFORMED, "%s; the experiment '%s' cannot be gone on with: move node.db away to leave it",
                           err->msg, pfl_q(d->experiment));
    pfl_warn("%s; the node starts with its initial model", err->msg);
    pfl_err_clear(err);
    pfl_payload_unref(d->model);
    d->model = NULL;
    return PFL_OK;
}

static enum pfl_rc load(struct pfl_journal *j, struct pfl_layout *layout, struct pfl_layout *contribution, struct pfl_durable **ret,
                        struct pfl_err *err)
{
    PFL_AUTO(pfl_journal_row_deinit) struct pfl_journal_row row = {0};
    bool found = false;
    enum pfl_rc rc = pfl_journal_db_read(j->db, j->path, &row, &found, err);
    if (rc == PFL_OK && found)
        rc = read_models(j, layout, contribution, &row, err);
    if (rc != PFL_OK || !found)
        return rc;
    pfl_journal_file_set(&j->model, row.model.name, row.model.digest);
    pfl_journal_file_set(&j->previous, row.previous.name, row.previous.digest);
    pfl_journal_file_set(&j->contribution, row.contribution.name, row.contribution.digest);
    *ret = pfl_steal(&row.state);
    return PFL_OK;
}

enum pfl_rc pfl_journal_open(const char *dir, struct pfl_layout *layout, struct pfl_layout *contribution, struct pfl_journal **ret,
                             struct pfl_durable **ret_kept, struct pfl_err *err)
{
    PFL_AUTO(pfl_journal_freep) struct pfl_journal *j = pfl_xcalloc(1, sizeof(*j));
    PFL_AUTO(pfl_durable_freep) struct pfl_durable *kept = NULL;
    j->path = pfl_fs_join(dir, "node.db");
    j->models = pfl_fs_join(dir, "models");
    enum pfl_rc rc = pfl_fs_mkdirs(j->models, 0700, err);
    if (rc == PFL_OK)
        rc = pfl_journal_db_open(j->path, &j->db, err);
    if (rc == PFL_OK)
        rc = load(j, layout, contribution, &kept, err);
    if (rc != PFL_OK)
        return rc;
    sweep(j);
    *ret = pfl_steal(&j);
    *ret_kept = pfl_steal(&kept);
    return PFL_OK;
}

/* ---- writing ---- */

static bool is_written(const struct pfl_journal_file *f, const struct pfl_payload *p)
{
    return f->name && p->has_digest && memcmp(f->digest, p->digest, PFL_DIGEST_LEN) == 0;
}

static bool is_named(const struct pfl_journal *j, const char *name)
{
    return pfl_streq(name, j->model.name) || pfl_streq(name, j->previous.name) || pfl_streq(name, j->contribution.name);
}

/* Never over a file that a row names: until the new row is there the old one holds. */
static enum pfl_rc write_model(const struct pfl_journal *j, const char *kind, const struct pfl_durable *d, int64_t round,
                               struct pfl_payload *p, struct pfl_journal_file *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *name = pfl_journal_file_name(kind, d->experiment, round, 0);
    for (unsigned version = 1; is_named(j, name); version++) { /* three names are taken at most */
        free(name);
        name = pfl_journal_file_name(kind, d->experiment, round, version);
    }
    enum pfl_rc rc = pfl_journal_file_write(j->models, name, p, err);
    if (rc == PFL_OK)
        pfl_journal_file_set(ret, name, p->digest);
    return rc;
}

static void copy(struct pfl_journal_file *to, const struct pfl_journal_file *from)
{
    pfl_journal_file_set(to, from->name, from->digest);
}

static enum pfl_rc next_files(const struct pfl_journal *j, const struct pfl_durable *d, struct pfl_journal_row *next,
                              struct pfl_err *err)
{
    enum pfl_rc rc = PFL_OK;
    copy(&next->previous, &j->previous);
    if (d->model && is_written(&j->model, d->model)) {
        copy(&next->model, &j->model);
    } else if (d->model) {
        rc = write_model(j, "checkpoint", d, d->rounds_done, d->model, &next->model, err);
        copy(&next->previous, &j->model);
    }
    if (rc != PFL_OK || !d->contribution)
        return rc;
    if (is_written(&j->contribution, d->contribution))
        copy(&next->contribution, &j->contribution);
    else
        rc = write_model(j, "contribution", d, d->contributed, d->contribution, &next->contribution, err);
    return rc;
}

static void move(struct pfl_journal_file *to, struct pfl_journal_file *from)
{
    free(to->name);
    *to = *from;
    from->name = NULL;
}

enum pfl_rc pfl_journal_write(struct pfl_journal *j, const struct pfl_durable *d, struct pfl_err *err)
{
    PFL_AUTO(pfl_journal_row_deinit) struct pfl_journal_row next = {0};
    PFL_ASSERT(d->experiment || (!d->model && !d->contribution));
    enum pfl_rc rc = next_files(j, d, &next, err);
    if (rc == PFL_OK)
        rc = pfl_journal_db_write(j->db, j->path, d, &next.model, &next.previous, &next.contribution, err);
    if (rc == PFL_OK) {
        move(&j->model, &next.model);
        move(&j->previous, &next.previous);
        move(&j->contribution, &next.contribution);
    }
    if (rc == PFL_OK)
        sweep(j); /* not after a failed commit: it may be found committed after a crash, with the files that it names */
    return rc;
}

void pfl_journal_close(struct pfl_journal *j)
{
    if (!j)
        return;
    pfl_journal_db_close(j->db);
    file_deinit(&j->model);
    file_deinit(&j->previous);
    file_deinit(&j->contribution);
    free(j->path);
    free(j->models);
    free(j);
}
