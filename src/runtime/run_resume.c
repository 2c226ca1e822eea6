/* SPDX-License-Identifier: Apache-2.0 */
/* A run that goes on where it was cut off. Its folder has all that is needed: the experiment, each node's node.yaml and
 * certificates, and what each node kept (journal.h). run.json holds what the command line had changed; the report is made whole by
 * reading the nodes' event files again. A lock keeps two runners out of one folder. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs.h"
#include "config/node_config.h"
#include "runtime/run_impl.h"

enum { FORMAT = 1, EVENTS_BYTES_MAX = 1 << 30, NOTES_BYTES_MAX = 1 << 20 };

#define PORTS_LIMIT (10 * PFL_SEC)

/* ---- the lock ---- */

enum pfl_rc pfl_plan_lock(const char *dir, int *ret_fd, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "run.lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return pfl_err_errno(err, errno, "%s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int why = errno;
        close(fd);
        return why == EWOULDBLOCK ? pfl_err_set(err, PFL_UNAVAILABLE, "%s: this run is going on: another p2pfl run has it", dir)
                                  : pfl_err_errno(err, why, "%s: cannot be locked", path);
    }
    *ret_fd = fd;
    return PFL_OK;
}

/* ---- run.json ---- */

enum pfl_rc pfl_plan_note(const struct pfl_plan *p, const struct pfl_run_opts *o, struct pfl_err *err)
{
    const struct pfl_experiment_config *c = &p->cfg;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(p->dir, "run.json");
    json_t *j = json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:I, s:s?, s:b}", "format", FORMAT, "title", p->title, "nodes",
                          (int)c->nodes, "rounds", (int)c->rounds, "epochs", (int)c->epochs, "trainset_size", (int)c->trainset_size,
                          "seed", (json_int_t)c->seed, "topology", o->topology, "certs_made", p->certs_made);
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (!text)
        return pfl_err_set(err, PFL_INVALID, "%s: the experiment's name is not UTF-8", path);
    enum pfl_rc rc = pfl_fs_write_atomic(path, pfl_bytes_of(text, strlen(text)), 0644, err);
    free(text);
    return rc;
}

static enum pfl_rc not_a_run(const char *dir, const char *why, struct pfl_err *err)
{
    return pfl_err_set(err, PFL_NOT_FOUND, "%s: this is not the folder of a run: %s", dir, why);
}

static bool positive(const json_t *j, const char *key, unsigned *ret)
{
    json_int_t v = json_integer_value(json_object_get(j, key));
    if (v < 1 || v > INT32_MAX)
        return false;
    *ret = (unsigned)v;
    return true;
}

static bool take_notes(struct pfl_plan *p, const json_t *j)
{
    struct pfl_experiment_config *c = &p->cfg;
    const char *title = json_string_value(json_object_get(j, "title")),
               *topology = json_string_value(json_object_get(j, "topology"));
    const json_t *seed = json_object_get(j, "seed");
    if (json_integer_value(json_object_get(j, "format")) != FORMAT || !title || !json_is_integer(seed))
        return false;
    if (!positive(j, "nodes", &c->nodes) || c->nodes < 2 || c->nodes > PFL_EXPERIMENT_NODES_MAX ||
        !positive(j, "rounds", &c->rounds) || !positive(j, "trainset_size", &c->trainset_size) ||
        (topology && !pfl_topology_parse(topology, &c->topology, &c->random_degree)))
        return false;
    c->epochs = (unsigned)json_integer_value(json_object_get(j, "epochs"));
    c->seed = (uint64_t)json_integer_value(seed);
    p->certs_made = json_is_true(json_object_get(j, "certs_made"));
    free(p->title);
    p->title = pfl_xstrdup(title);
    return true;
}

static enum pfl_rc read_json(const char *dir, const char *name, json_t **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    struct pfl_blob *blob = NULL;
    enum pfl_rc rc = pfl_fs_read(path, NOTES_BYTES_MAX, &blob, err);
    if (rc != PFL_OK)
        return rc;
    *ret = json_loadb((const char *)blob->data, blob->len, 0, NULL);
    pfl_blob_unref(blob);
    return *ret ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "%s: no JSON", path);
}

static enum pfl_rc check_unfinished(const char *dir, struct pfl_err *err)
{
    json_t *summary = NULL;
    enum pfl_rc rc = read_json(dir, "summary.json", &summary, err);
    if (rc != PFL_OK) { /* it did not come to its end */
        pfl_err_clear(err);
        return PFL_OK;
    }
    bool finished = json_is_true(json_object_get(summary, "finished"));
    json_decref(summary);
    return finished
               ? pfl_err_set(err, PFL_STATE, "%s: this run is finished: nothing is left to go on with; see its report.html", dir)
               : PFL_OK;
}

/* ---- the plan ---- */

/* The copy in the folder is the experiment with the options as comments behind it. */
static enum pfl_rc check_same_experiment(const struct pfl_plan *p, const char *file, struct pfl_err *err)
{
    struct pfl_blob *blob = NULL;
    enum pfl_rc rc = pfl_fs_read(file, PFL_YAML_FILE_MAX, &blob, err);
    if (rc != PFL_OK)
        return rc;
    bool same = strlen(p->text) >= blob->len && memcmp(p->text, blob->data, blob->len) == 0;
    pfl_blob_unref(blob);
    return same ? PFL_OK
                : pfl_err_set(err, PFL_INVALID, "%s: %s is the run of another experiment, or of an older version of this file",
                              file, p->dir);
}

static enum pfl_rc read_experiment(struct pfl_plan *p, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(p->dir, "experiment.yaml");
    struct pfl_blob *blob = NULL;
    if (pfl_fs_read(path, PFL_YAML_FILE_MAX, &blob, err) != PFL_OK)
        return not_a_run(p->dir, "it has no experiment.yaml", err);
    p->text = pfl_xstrndup((const char *)blob->data, blob->len);
    p->source_dir = pfl_xstrdup(p->dir);
    p->title = pfl_xstrdup("");
    pfl_blob_unref(blob);
    return pfl_experiment_parse(path, p->text, strlen(p->text), &p->cfg, err);
}

static enum pfl_rc read_node(struct pfl_plan *p, unsigned i, struct pfl_err *err)
{
    struct pfl_plan_node *n = &p->nodes[i];
    struct pfl_node_config c;
    n->name = pfl_xasprintf("node-%u", i + 1);
    n->dir = pfl_xasprintf("%s/nodes/%s", p->dir, n->name);
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(n->dir, "node.yaml");
    enum pfl_rc rc = pfl_node_config_load(path, &c, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "%s cannot be gone on with", p->dir);
    n->address = pfl_xstrdup(c.address);
    p->cfg.settings.ssl.use_ssl = c.settings.ssl.use_ssl;
    pfl_node_config_deinit(&c);
    return PFL_OK;
}

static enum pfl_rc read_plan(struct pfl_plan *p, const struct pfl_run_opts *opts, struct pfl_err *err)
{
    json_t *notes = NULL;
    if (read_json(p->dir, "run.json", &notes, err) != PFL_OK)
        return not_a_run(p->dir, "it has no run.json that can be read", err);
    enum pfl_rc rc = read_experiment(p, err);
    if (rc == PFL_OK && !take_notes(p, notes))
        rc = pfl_err_set(err, PFL_MALFORMED, "%s/run.json: not what p2pfl writes there", p->dir);
    json_decref(notes);
    if (rc == PFL_OK && opts->experiment)
        rc = check_same_experiment(p, opts->experiment, err);
    if (rc == PFL_OK)
        rc = pfl_plan_lock(p->dir, &p->lock_fd, err);
    if (rc == PFL_OK)
        rc = check_unfinished(p->dir, err);
    if (rc == PFL_OK)
        rc = pfl_topology_edges(&p->cfg, &p->edges, &p->n_edges, err);
    if (rc != PFL_OK)
        return rc;
    p->nodes = pfl_xcalloc(p->cfg.nodes, sizeof(*p->nodes));
    for (unsigned i = 0; rc == PFL_OK && i < p->cfg.nodes; i++)
        rc = read_node(p, i, err);
    return rc;
}

enum pfl_rc pfl_plan_resume(const struct pfl_run_opts *opts, struct pfl_plan *ret, struct pfl_err *err)
{
    struct pfl_plan p = {.port_lock = -1, .lock_fd = -1};
    p.dir = realpath(opts->resume, NULL);
    if (!p.dir)
        return pfl_err_errno(err, errno, "%s", opts->resume);
    enum pfl_rc rc = read_plan(&p, opts, err);
    if (rc != PFL_OK) {
        pfl_plan_deinit(&p);
        return rc;
    }
    pfl_plan_await_ports(&p, PORTS_LIMIT);
    (void)!pfl_plan_parts(&p, NULL); /* for the report alone: the nodes have their data, or say themselves that they do not */
    *ret = p;
    return PFL_OK;
}

/* ---- what was before ---- */

static void recall_node(struct pfl_run *run, const struct pfl_plan_node *n)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(n->dir, "events.jsonl");
    struct pfl_blob *blob = NULL;
    if (pfl_fs_read(path, EVENTS_BYTES_MAX, &blob, NULL) != PFL_OK)
        return; /* it never started */
    const char *at = (const char *)blob->data, *end = at + blob->len;
    for (const char *nl; at < end && (nl = memchr(at, '\n', (size_t)(end - at))); at = nl + 1) {
        json_t *event = json_loadb(at, (size_t)(nl - at), 0, NULL); /* a line that was cut off is skipped */
        if (json_is_object(event))
            (void)pfl_record_event(run->record, event);
        json_decref(event);
    }
    pfl_blob_unref(blob);
}

void pfl_run_recall(struct pfl_run *run)
{
    PFL_AUTO(pfl_freep) char *model = pfl_fs_join(run->plan.dir, "model.safetensors");
    (void)unlink(model); /* of the nodes that had finished; the end makes it anew */
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        struct pfl_rec_node *n = &run->record->nodes[i];
        recall_node(run, &run->plan.nodes[i]);
        n->started = n->learning = n->stopped = false;
        n->pid = 0;
    }
}
