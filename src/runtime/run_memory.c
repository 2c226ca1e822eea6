/* SPDX-License-Identifier: Apache-2.0 */
/* A run of the memory protocol: the same folder, record and report as of a run with processes; who drives the nodes comes from
 * above. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/run_impl.h"

struct memory {
    struct pfl_run run;
    pfl_ns drawn; /* when the table was drawn last */
};

static const pfl_ns redraw_after = 250 * PFL_MS;

static void emit(void *to, unsigned node, const char *event, json_t *fields)
{
    struct memory *m = to;
    struct pfl_run *run = &m->run;
    json_t *e = fields ? fields : json_object();
    json_object_set_new(e, "t", json_real((double)pfl_clock_wall() / 1e9));
    json_object_set_new(e, "node", json_string(run->record->nodes[node].name));
    json_object_set_new(e, "event", json_string(event));
    if (pfl_record_event(run->record, e))
        pfl_progress_event(run->progress, e);
    json_decref(e);
    pfl_ns now = pfl_clock_mono();
    if (now - m->drawn < redraw_after)
        return;
    m->drawn = now;
    pfl_progress_draw(run->progress);
}

static enum pfl_rc open_progress(struct pfl_run *run, struct pfl_err *err)
{
    FILE *out = run->opts->quiet ? NULL : run->opts->json ? stderr : stdout;
    const char *term = getenv("TERM");
    PFL_AUTO(pfl_freep) char *log = pfl_fs_join(run->plan.dir, "run.log");
    bool table = out && isatty(fileno(out)) && term && strcmp(term, "dumb") != 0;
    return pfl_progress_new(&(struct pfl_progress_opts){.out = out, .log_path = log, .record = run->record, .table = table},
                            &run->progress, err);
}

static void say_plan(struct pfl_run *run)
{
    const struct pfl_experiment_config *c = &run->plan.cfg;
    pfl_progress_say(run->progress, "%s: %u nodes in one process (memory protocol), %s, %u round%s, folder %s", c->name, c->nodes,
                     run->record->topology, c->rounds, c->rounds == 1 ? "" : "s", run->plan.dir);
    for (size_t i = 0; i < c->settings.notes.n; i++)
        pfl_progress_say(run->progress, "note: %s", c->settings.notes.items[i]);
}

static void keep_model(struct pfl_run *run, const struct pfl_buf *model)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(run->plan.dir, "model.safetensors");
    if (model->len == 0)
        return;
    if (model->failed)
        pfl_run_fail(run, "%s: no memory to write the model", path);
    else if (pfl_fs_write_atomic(path, pfl_buf_view(model), 0600, &err) != PFL_OK)
        pfl_run_fail(run, "%s", err.msg);
    else
        run->record->final_model = pfl_xstrdup("model.safetensors");
}

static enum pfl_rc check_opts(const struct pfl_run_opts *o, struct pfl_err *err)
{
    const char *no = o->impostor ? "--impostor" : o->certs ? "--certs" : o->keep_going ? "--keep-going" : NULL;
    if (no)
        return pfl_err_set(err, PFL_INVALID,
                           "%s is for nodes that are processes; this experiment has 'protocol: MemoryCommunicationProtocol'", no);
    return PFL_OK;
}

static void run_deinit(struct pfl_run *run)
{
    pfl_progress_free(run->progress);
    pfl_record_free(run->record);
    pfl_plan_deinit(&run->plan);
}

enum pfl_rc pfl_run_in_memory(const struct pfl_run_opts *opts, const struct pfl_run_engine *engine, int *ret_exit,
                              struct pfl_err *err)
{
    struct memory m = {.run = {.opts = opts}};
    struct pfl_run *run = &m.run;
    double start_t = (double)pfl_clock_wall() / 1e9;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf model = {.limit = SIZE_MAX}; /* as large as the model in memory is */
    struct pfl_err failure = {0};
    enum pfl_rc rc = check_opts(opts, err);
    if (rc == PFL_OK)
        rc = pfl_plan_make(opts, &run->plan, err);
    if (rc != PFL_OK)
        return rc;
    run->record = pfl_record_new(run->plan.cfg.name);
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++)
        pfl_record_add_node(run->record, run->plan.nodes[i].name, "");
    pfl_run_describe(run);
    run->record->start_t = start_t;
    rc = open_progress(run, err);
    if (rc == PFL_OK) {
        say_plan(run);
        if (engine->run(engine->user, &run->plan, emit, &m, &model, &run->record->interrupted, &failure) != PFL_OK)
            pfl_run_fail(run, "%s", failure.msg);
        keep_model(run, &model);
        pfl_progress_draw(run->progress);
        pfl_run_write_results(run);
        *ret_exit = run->record->interrupted ? PFL_RUN_INTERRUPTED : run->record->finished ? PFL_RUN_FINISHED : PFL_RUN_FAILED;
    }
    run_deinit(run);
    return rc;
}
