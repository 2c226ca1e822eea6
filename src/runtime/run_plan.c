/* SPDX-License-Identifier: Apache-2.0 */
/* From an example's name or a file to a folder that could be started by hand: every node's folder holds a node.yaml for
 * `p2pfl node start`, with paths relative to itself. */
#include "runtime/run_plan.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "config/node_config.h"
#include "runtime/examples.h"
#include "runtime/learner_setup.h"

static const struct pfl_example *find_example(const char *name)
{
    for (const struct pfl_example *e = pfl_examples; e->name; e++)
        if (pfl_streq(e->name, name))
            return e;
    return NULL;
}

static enum pfl_rc unknown_example(const char *name, struct pfl_err *err)
{
    struct pfl_strs names = {0};
    for (const struct pfl_example *e = pfl_examples; e->name; e++)
        pfl_strs_add(&names, e->name);
    const char *near = pfl_nearest(name, (const char *const *)names.items, names.n);
    enum pfl_rc rc = pfl_err_set(err, PFL_NOT_FOUND, "'%s' is neither a file nor an example%s%s%s; 'p2pfl examples' lists them",
                                 pfl_q(name), near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
    pfl_strs_deinit(&names);
    return rc;
}

static char *stem_of(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    const char *dot = strrchr(base, '.');
    return pfl_xstrndup(base, dot && dot != base ? (size_t)(dot - base) : strlen(base));
}

/* A file wins over an example of the same name. */
static enum pfl_rc read_experiment(const char *what, struct pfl_plan *p, struct pfl_err *err)
{
    const struct pfl_example *example = find_example(what);
    if (example && !pfl_fs_exists(what)) {
        p->title = pfl_xstrdup(example->name);
        p->source_dir = pfl_xstrdup(".");
        p->text = pfl_xstrdup(example->text);
        return pfl_experiment_parse(example->name, example->text, strlen(example->text), &p->cfg, err);
    }
    if (!pfl_fs_exists(what))
        return unknown_example(what, err);
    struct pfl_blob *blob = NULL;
    enum pfl_rc rc = pfl_fs_read(what, PFL_YAML_FILE_MAX, &blob, err);
    if (rc != PFL_OK)
        return rc;
    p->title = stem_of(what);
    p->source_dir = pfl_fs_dirname(what);
    p->text = pfl_xstrndup((const char *)blob->data, blob->len);
    rc = pfl_experiment_parse(what, p->text, strlen(p->text), &p->cfg, err);
    pfl_blob_unref(blob);
    return rc;
}

/* An option changes the configuration, and the copy of the experiment says so. */
static void override(struct pfl_plan *p, const char *option, const char *value)
{
    size_t len = strlen(p->text);
    char *text = pfl_xasprintf("%s%s# run with %s %s\n", p->text, len && p->text[len - 1] != '\n' ? "\n" : "", option, value);
    free(p->text);
    p->text = text;
}

static void override_count(struct pfl_plan *p, const char *option, bool given, unsigned value, unsigned *field)
{
    char text[16];
    if (!given)
        return;
    *field = value;
    (void)snprintf(text, sizeof(text), "%u", value);
    override(p, option, text);
}

static enum pfl_rc apply_options(struct pfl_plan *p, const struct pfl_run_opts *o, struct pfl_err *err)
{
    struct pfl_experiment_config *c = &p->cfg;
    override_count(p, "--rounds", o->rounds > 0, o->rounds, &c->rounds);
    override_count(p, "--epochs", o->has_epochs, o->epochs, &c->epochs);
    override_count(p, "--nodes", o->nodes > 0, o->nodes, &c->nodes);
    override_count(p, "--trainset-size", o->trainset_size > 0, o->trainset_size, &c->trainset_size);
    if (o->has_seed) {
        char text[24];
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)o->seed);
        c->seed = o->seed;
        c->learner.part_seed = 0;
        c->learner.has_model_seed = false;
        override(p, "--seed", text);
    }
    if (o->topology) {
        if (!pfl_topology_parse(o->topology, &c->topology, &c->random_degree))
            return pfl_err_set(err, PFL_INVALID, "--topology '%s': star, full, line, ring or random_K", pfl_q(o->topology));
        override(p, "--topology", o->topology);
    }
    if (o->data) {
        char *full = realpath(o->data, NULL);
        if (!full)
            return pfl_err_errno(err, errno, "--data %s", o->data);
        free(c->learner.dataset_path);
        c->learner.dataset_path = full;
        override(p, "--data", o->data);
    }
    if (c->nodes < 2 || c->nodes > PFL_EXPERIMENT_NODES_MAX)
        return pfl_err_set(err, PFL_INVALID, "%u nodes: a run has 2 to %d", c->nodes, PFL_EXPERIMENT_NODES_MAX);
    return PFL_OK;
}

/* A node.yaml lies elsewhere than the experiment, so what was relative to the experiment (or, as with P2PFL, to the current folder)
 * is made absolute. */
static enum pfl_rc resolve_path(const struct pfl_plan *p, const char *key, char **path, struct pfl_err *err)
{
    if (!*path)
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *beside = pfl_fs_join(p->source_dir, *path);
    if (strstr(*path, "{node}")) { /* each node has its own: they are looked for when it starts */
        PFL_AUTO(pfl_freep) char *dir = realpath(p->source_dir, NULL);
        if (!dir)
            return pfl_err_errno(err, errno, "%s", p->source_dir);
        char *full = pfl_fs_join(dir, *path);
        free(*path);
        *path = full;
        return PFL_OK;
    }
    char *full = realpath(beside, NULL);
    if (!full)
        full = realpath(*path, NULL);
    if (!full)
        return pfl_err_errno(err, errno, "%s: %s", key, *path);
    free(*path);
    *path = full;
    return PFL_OK;
}

/* A command runs where `p2pfl run` was called, as in a shell, or in its `folder`. */
static enum pfl_rc resolve_command(struct pfl_plan *p, struct pfl_err *err)
{
    struct pfl_remote_config *r = &p->cfg.learner.remote;
    if (!pfl_remote_is_set(r))
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *beside = r->folder ? pfl_fs_join(p->source_dir, r->folder) : pfl_xstrdup(".");
    char *full = realpath(beside, NULL);
    if (!full)
        return pfl_err_errno(err, errno, "experiment.learner.folder: %s", beside);
    free(r->folder);
    r->folder = full;
    return PFL_OK;
}

static enum pfl_rc resolve_data(struct pfl_plan *p, struct pfl_err *err)
{
    struct pfl_learner_config *l = &p->cfg.learner;
    enum pfl_rc rc = resolve_path(p, "experiment.dataset.path", &l->dataset_path, err);
    if (rc == PFL_OK)
        rc = resolve_path(p, "experiment.dataset.test_path", &l->data.test_path, err);
    return rc == PFL_OK ? resolve_path(p, "experiment.model.warm_start", &l->warm_start, err) : rc;
}

/* ---- the folder ---- */

static bool dir_is_empty(const char *path)
{
    DIR *d = opendir(path);
    size_t n = 0;
    if (!d)
        return false;
    while (readdir(d))
        n++;
    closedir(d);
    return n <= 2; /* "." and ".." */
}

/* runs/<name>-20261123T040506Z, and -2, -3, ... behind it where two runs begin in the same second. */
static enum pfl_rc default_dir(const struct pfl_plan *p, char **ret, struct pfl_err *err)
{
    char when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm))
        (void)strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
    PFL_AUTO(pfl_freep) char *stem = pfl_xstrdup(p->title);
    for (char *s = stem; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("-_.", *s))
            *s = '-';
    for (unsigned i = 1; i < 1000; i++) {
        char suffix[16] = "";
        if (i > 1)
            (void)snprintf(suffix, sizeof(suffix), "-%u", i);
        PFL_AUTO(pfl_freep) char *dir = pfl_xasprintf("runs/%s-%s%s", stem, when, suffix);
        if (!pfl_fs_exists(dir)) {
            *ret = pfl_steal(&dir);
            return PFL_OK;
        }
    }
    return pfl_err_set(err, PFL_EXISTS, "runs/: no free name for %s", stem);
}

static enum pfl_rc make_run_dir(struct pfl_plan *p, const struct pfl_run_opts *o, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *dir = o->out ? pfl_xstrdup(o->out) : NULL;
    if (!dir) {
        enum pfl_rc rc = default_dir(p, &dir, err);
        if (rc != PFL_OK)
            return rc;
    } else if (pfl_fs_exists(dir) && !dir_is_empty(dir)) {
        return pfl_err_set(err, PFL_EXISTS, "%s is there and not empty; a run needs a folder of its own", dir);
    }
    enum pfl_rc rc = pfl_fs_mkdirs(dir, 0700, err);
    if (rc != PFL_OK)
        return rc;
    p->dir = realpath(dir, NULL);
    if (!p->dir)
        return pfl_err_errno(err, errno, "%s", dir);
    PFL_AUTO(pfl_freep) char *copy = pfl_fs_join(p->dir, "experiment.yaml");
    return pfl_fs_write_new(copy, pfl_bytes_of(p->text, strlen(p->text)), 0644, err);
}

/* ---- the nodes ---- */

static enum pfl_rc plan_node(struct pfl_plan *p, struct pfl_plan_node *n, const char *folder, unsigned port, struct pfl_err *err)
{
    n->address = pfl_xasprintf("127.0.0.1:%u", port);
    n->dir = pfl_xasprintf("%s/%s/%s", p->dir, folder, n->name);
    PFL_AUTO(pfl_freep) char *models = pfl_fs_join(n->dir, "models");
    return pfl_fs_mkdirs(models, 0700, err);
}

/* Nodes that are no processes: their addresses are their driver's. */
static void plan_nodes_in_memory(struct pfl_plan *p)
{
    p->nodes = pfl_xcalloc(p->cfg.nodes, sizeof(*p->nodes));
    for (unsigned i = 0; i < p->cfg.nodes; i++) {
        p->nodes[i].name = pfl_xasprintf("node-%u", i + 1);
        p->nodes[i].address = pfl_xstrdup("");
        p->nodes[i].dir = pfl_xstrdup(p->dir);
    }
}

static enum pfl_rc plan_nodes(struct pfl_plan *p, const struct pfl_run_opts *o, struct pfl_err *err)
{
    uint16_t first;
    enum pfl_rc rc = pfl_plan_ports(p->cfg.seed, p->cfg.nodes + o->impostor, &first, &p->port_lock, err);
    if (rc != PFL_OK)
        return rc;
    p->nodes = pfl_xcalloc(p->cfg.nodes, sizeof(*p->nodes));
    for (unsigned i = 0; i < p->cfg.nodes && rc == PFL_OK; i++) {
        p->nodes[i].name = pfl_xasprintf("node-%u", i + 1);
        rc = plan_node(p, &p->nodes[i], "nodes", first + i, err);
    }
    if (rc == PFL_OK && o->impostor) {
        p->impostor.name = pfl_xstrdup("mallory");
        rc = plan_node(p, &p->impostor, "impostor", (unsigned)first + p->cfg.nodes, err);
    }
    return rc;
}

/* The impostor does not need the data: it is not meant to come that far. */
static void impostor_learner(struct pfl_learner_config *l)
{
    static char dummy[] = "dummy";
    l->dataset = dummy;
    l->dataset_path = NULL;
    l->data = (struct pfl_data_config){.test_share = 0.2};
    l->model = dummy;
    l->warm_start = NULL;
    l->dummy_values = 1000;
    l->part_index = 0;
    l->part_count = 1;
    l->remote = (struct pfl_remote_config){0};
}

static enum pfl_rc write_node(const struct pfl_plan *p, const struct pfl_run_opts *o, const struct pfl_plan_node *n, unsigned index,
                              struct pfl_err *err)
{
    struct pfl_ssl_config ssl;
    enum pfl_rc rc = pfl_plan_ssl(p, o, n, &ssl, err);
    if (rc != PFL_OK)
        return rc;
    static char federation[] = "p2pfl", here[] = ".";
    /* Everything in here is borrowed for the write. */
    struct pfl_node_config c = {.name = n->name,
                                .address = n->address,
                                .federation = federation,
                                .state_dir = here,
                                .settings = p->cfg.settings,
                                .learner = p->cfg.learner};
    c.settings.ssl = ssl;
    c.settings.has_seed = true;
    c.settings.seed = p->cfg.seed;
    c.learner.part_index = index;
    c.learner.part_count = p->cfg.nodes;
    if (c.learner.part_seed == 0)
        c.learner.part_seed = p->cfg.seed;
    if (!c.learner.has_model_seed) {
        c.learner.has_model_seed = true;
        c.learner.model_seed = p->cfg.seed;
    }
    if (!pfl_experiment_is_remote(&p->cfg, index))
        c.learner.remote = (struct pfl_remote_config){0};
    if (n == &p->impostor)
        impostor_learner(&c.learner);
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(n->dir, "node.yaml");
    rc = pfl_node_config_write(path, &c, err);
    pfl_plan_ssl_deinit(&ssl);
    return rc;
}

enum pfl_rc pfl_plan_parts(struct pfl_plan *p, struct pfl_err *err)
{
    PFL_AUTO(pfl_data_cache_deinit) struct pfl_data_cache data = {0};
    struct pfl_learner_config l = p->cfg.learner; /* borrows all that it points to */
    l.part_seed = l.part_seed ? l.part_seed : p->cfg.seed;
    if (pfl_remote_is_set(&l.remote) && p->cfg.n_remote_nodes == 0)
        return PFL_OK; /* the data are the learners' own affair */
    return pfl_learner_parts(&data, &l, &p->cfg.settings, p->cfg.nodes, &p->parts, &p->n_classes, err);
}

enum pfl_rc pfl_plan_in_memory(const struct pfl_run_opts *opts, bool *ret, struct pfl_err *err)
{
    struct pfl_plan p = {.port_lock = -1, .lock_fd = -1};
    enum pfl_rc rc = opts->resume ? PFL_OK : read_experiment(opts->experiment, &p, err);
    if (rc == PFL_OK)
        *ret = p.cfg.memory_protocol;
    pfl_plan_deinit(&p);
    return rc;
}

enum pfl_rc pfl_plan_make(const struct pfl_run_opts *opts, struct pfl_plan *ret, struct pfl_err *err)
{
    struct pfl_plan p = {.port_lock = -1, .lock_fd = -1};
    enum pfl_rc rc = read_experiment(opts->experiment, &p, err);
    if (rc == PFL_OK)
        rc = apply_options(&p, opts, err);
    if (rc == PFL_OK)
        rc = resolve_data(&p, err);
    if (rc == PFL_OK)
        rc = resolve_command(&p, err);
    if (rc == PFL_OK)
        rc = pfl_plan_parts(&p, err);
    if (rc == PFL_OK)
        rc = pfl_topology_edges(&p.cfg, &p.edges, &p.n_edges, err);
    if (rc == PFL_OK)
        rc = make_run_dir(&p, opts, err);
    if (rc == PFL_OK)
        rc = pfl_plan_lock(p.dir, &p.lock_fd, err);
    if (rc == PFL_OK && p.cfg.memory_protocol) {
        plan_nodes_in_memory(&p);
        *ret = p;
        return PFL_OK;
    }
    if (rc == PFL_OK)
        rc = plan_nodes(&p, opts, err);
    if (rc == PFL_OK)
        rc = pfl_plan_certs(&p, opts, err);
    for (unsigned i = 0; rc == PFL_OK && i < p.cfg.nodes; i++)
        rc = write_node(&p, opts, &p.nodes[i], i, err);
    if (rc == PFL_OK && opts->impostor)
        rc = write_node(&p, opts, &p.impostor, 0, err);
    if (rc == PFL_OK) /* last: a folder that has it is whole */
        rc = pfl_plan_note(&p, opts, err);
    if (rc != PFL_OK) {
        pfl_plan_deinit(&p);
        return rc;
    }
    *ret = p;
    return PFL_OK;
}

static void node_deinit(struct pfl_plan_node *n)
{
    free(n->name);
    free(n->address);
    free(n->dir);
}

void pfl_plan_deinit(struct pfl_plan *p)
{
    for (unsigned i = 0; p->nodes && i < p->cfg.nodes; i++)
        node_deinit(&p->nodes[i]);
    node_deinit(&p->impostor);
    free(p->nodes);
    free(p->edges);
    free(p->parts);
    free(p->title);
    free(p->dir);
    free(p->text);
    free(p->source_dir);
    if (p->port_lock >= 0)
        close(p->port_lock);
    if (p->lock_fd >= 0)
        close(p->lock_fd);
    pfl_experiment_deinit(&p->cfg);
    memset(p, 0, sizeof(*p));
    p->port_lock = p->lock_fd = -1;
}
