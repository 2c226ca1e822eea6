/* SPDX-License-Identifier: Apache-2.0 */
/* What a run leaves behind: the checked models, metrics, summary and report. A file that cannot be written fails the run, not the
 * other files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fs.h"
#include "pki/digest.h"
#include "runtime/run_impl.h"
#include "runtime/run_report.h"
#include "runtime/run_summary.h"

#ifndef PFL_VERSION
#define PFL_VERSION "0.1.0"
#endif

enum { CHUNK_BYTES = 256 << 10 };

static void set(char **field, char *value)
{
    free(*field);
    *field = value;
}

void pfl_run_describe(struct pfl_run *run)
{
    const struct pfl_experiment_config *c = &run->plan.cfg;
    struct pfl_record *r = run->record;
    struct utsname u = {0};
    (void)uname(&u);
    set(&r->experiment, pfl_xstrdup(c->name));
    set(&r->topology, c->topology == PFL_TOPO_RANDOM ? pfl_xasprintf("random, %u links per node", c->random_degree)
                                                     : pfl_xasprintf("%s topology", pfl_topology_name(c->topology)));
    set(&r->config_text, pfl_xstrdup(run->plan.text));
    set(&r->versions, pfl_xasprintf("p2pfl %s · libuv %s · %s %s %s · %u cores", PFL_VERSION, uv_version_string(), u.sysname,
                                    u.release, u.machine, uv_available_parallelism()));
    set(&r->run_dir, pfl_xstrdup(run->plan.dir));
    r->parts = pfl_steal(&run->plan.parts);
    r->n_classes = run->plan.n_classes;
    set(&r->partition, pfl_xstrdup(c->learner.partition));
    r->rounds = c->rounds;
    r->epochs = c->epochs;
    r->trainset_size = c->trainset_size;
    r->seed = c->seed;
    r->memory = c->memory_protocol;
    r->tls = c->settings.ssl.use_ssl && !r->memory;
    r->interop = c->settings.interop;
    r->start_t = (double)pfl_clock_wall() / 1e9;
}

/* ---- models ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static bool hash_file(const char *path, char hex[PFL_RECORD_DIGEST_MAX])
{
    PFL_AUTO(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    PFL_AUTO(pfl_sha256_freep) struct pfl_sha256 *h = pfl_sha256_new();
    PFL_AUTO(pfl_freep) uint8_t *chunk = pfl_xmalloc(CHUNK_BYTES);
    uint8_t digest[PFL_SHA256_LEN];
    ssize_t n = -1;
    while (fd >= 0 && ((n = read(fd, chunk, CHUNK_BYTES)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0)
            pfl_sha256_add(h, pfl_bytes_of(chunk, (size_t)n));
    if (n != 0)
        return false;
    pfl_sha256_end(h, digest);
    pfl_hex(pfl_bytes_of(digest, sizeof(digest)), hex);
    return true;
}

void pfl_run_check_models(struct pfl_run *run)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        struct pfl_rec_node *n = &run->record->nodes[i];
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(run->plan.nodes[i].dir, "models/final.safetensors");
        if (!n->finished || n->lost)
            continue;
        if (!hash_file(path, n->file_digest))
            pfl_run_fail(run, "%s: cannot read its final model: %s: %s", n->name, path, strerror(errno));
        else if (!pfl_streq(n->file_digest, n->digest))
            pfl_run_fail(run, "%s: its final model file has SHA-256 %s, but it reported %s", n->name, n->file_digest,
                         n->digest[0] ? n->digest : "none");
    }
}

static bool copy_file(const char *from, const char *to)
{
    PFL_AUTO(close_fd) int in = open(from, O_RDONLY | O_CLOEXEC);
    PFL_AUTO(close_fd) int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    PFL_AUTO(pfl_freep) char *chunk = pfl_xmalloc(CHUNK_BYTES);
    ssize_t n = -1;
    while (in >= 0 && out >= 0 && (n = read(in, chunk, CHUNK_BYTES)) > 0)
        if (write(out, chunk, (size_t)n) != n)
            return false;
    return n == 0;
}

/* The first node's that finished; on the same file system it costs no second copy. */
static void keep_model(struct pfl_run *run)
{
    PFL_AUTO(pfl_freep) char *to = pfl_fs_join(run->plan.dir, "model.safetensors");
    if (run->record->final_model)
        return;
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        PFL_AUTO(pfl_freep) char *from = pfl_fs_join(run->plan.nodes[i].dir, "models/final.safetensors");
        if (!run->record->nodes[i].finished || run->record->nodes[i].lost)
            continue;
        if (link(from, to) != 0 && !copy_file(from, to))
            pfl_run_fail(run, "%s: cannot be written: %s", to, strerror(errno));
        else
            set(&run->record->final_model, pfl_xstrdup("model.safetensors"));
        return;
    }
}

/* ---- files ---- */

static void write_file(struct pfl_run *run, const char *name, struct pfl_buf *content)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(run->plan.dir, name);
    if (content->failed)
        pfl_run_fail(run, "%s: too big to be written", path);
    else if (pfl_fs_write_atomic(path, pfl_buf_view(content), 0644, &err) != PFL_OK)
        pfl_run_fail(run, "%s", err.msg);
}

static void write_summary(struct pfl_run *run)
{
    json_t *summary = pfl_summary_json(run->record);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    PFL_AUTO(pfl_freep) char *pretty = json_dumps(summary, JSON_INDENT(2));
    PFL_AUTO(pfl_freep) char *line = json_dumps(summary, JSON_COMPACT);
    json_decref(summary);
    PFL_ASSERT(pretty && line);
    pfl_buf_printf(&out, "%s\n", pretty);
    write_file(run, "summary.json", &out);
    if (run->opts->json) {
        printf("%s\n", line);
        fflush(stdout);
    }
}

void pfl_run_write_results(struct pfl_run *run)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf metrics = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf page = {0};
    keep_model(run);
    pfl_summary_metrics(run->record, &metrics);
    write_file(run, "metrics.jsonl", &metrics);
    pfl_record_close(run->record, (double)pfl_clock_wall() / 1e9);
    pfl_report_html(run->record, &page);
    write_file(run, "report.html", &page);
    pfl_record_close(run->record, run->record->end_t); /* a file that could not be written counts */
    pfl_summary_text(run->record, &text);
    if (text.len > 0)
        text.data[--text.len] = '\0'; /* the line end that say() adds itself */
    pfl_progress_say(run->progress, "%s", pfl_buf_cstr(&text));
    if (run->opts->quiet && !run->opts->json)
        printf("%s\n", pfl_buf_cstr(&text));
    write_summary(run);
}
