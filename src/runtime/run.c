/* SPDX-License-Identifier: Apache-2.0 */
/* The runner. Its phases read from top to bottom; each waits by running the loop until what it waits for is true. However it ends,
 * the nodes are ended in order and the report is written with what there is. */
#include "runtime/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/run_impl.h"

enum { REDRAW_MS = 250, STATUS_EVERY = 4 /* redraws */ };

bool pfl_run_alive(const struct pfl_run *run, unsigned node)
{
    return run->children[node] && pfl_child_running(run->children[node]);
}

size_t pfl_run_index(const struct pfl_run *run, const struct pfl_child *c)
{
    size_t i = 0;
    while (i < run->plan.cfg.nodes && run->children[i] != c)
        i++;
    PFL_ASSERT(i < run->plan.cfg.nodes);
    return i;
}

void pfl_run_fail(struct pfl_run *run, const char *fmt, ...)
{
    char text[PFL_ERR_MAX + 128];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    pfl_record_failure(run->record, (double)pfl_clock_wall() / 1e9, text);
    pfl_progress_say(run->progress, "failed: %s", text);
}

static void on_alarm(uv_timer_t *t)
{
    (void)t; /* it woke the loop: that is all it is for */
}

bool pfl_run_wait(struct pfl_run *run, bool (*done)(struct pfl_run *run), pfl_ns limit)
{
    unsigned interrupts = run->shutting_down ? run->interrupts : 0;
    pfl_ns start = pfl_clock_mono();
    bool ok;
    while (!(ok = done(run)) && run->interrupts == interrupts) {
        pfl_ns from = run->last_progress > start ? run->last_progress : start, left = from + limit - pfl_clock_mono();
        if (left <= 0)
            break;
        uv_update_time(&run->loop);
        uv_timer_start(&run->alarm, on_alarm, (uint64_t)(left / PFL_MS) + 1, 0);
        uv_run(&run->loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&run->alarm);
    return ok;
}

static void on_signal(uv_signal_t *s, int signum)
{
    struct pfl_run *run = s->data;
    run->interrupts++;
    run->record->interrupted = true;
    if (run->interrupts == 1)
        pfl_progress_say(run->progress, "%s: ending the nodes (once more ends them at once)", strsignal(signum));
}

static void on_redraw(uv_timer_t *t)
{
    struct pfl_run *run = t->data;
    if (run->status_asks == 0 && !run->shutting_down && run->learning && uv_now(&run->loop) / REDRAW_MS % STATUS_EVERY == 0)
        pfl_run_ask_status(run);
    pfl_progress_draw(run->progress);
}

static void open_loop(struct pfl_run *run, bool table)
{
    static const int signums[] = {SIGINT, SIGTERM, SIGHUP};
    PFL_ASSERT(uv_loop_init(&run->loop) == 0);
    uv_timer_init(&run->loop, &run->alarm);
    uv_timer_init(&run->loop, &run->redraw);
    run->redraw.data = run;
    if (table)
        uv_timer_start(&run->redraw, on_redraw, REDRAW_MS, REDRAW_MS);
    for (size_t i = 0; i < PFL_ARRAY_LEN(signums); i++) {
        uv_signal_init(&run->loop, &run->signals[i]);
        run->signals[i].data = run;
        uv_signal_start(&run->signals[i], on_signal, signums[i]);
    }
}

static void close_loop(struct pfl_run *run)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++)
        pfl_child_free(run->children[i]);
    pfl_child_free(run->impostor.child);
    for (size_t i = 0; i < PFL_ARRAY_LEN(run->signals); i++)
        uv_close((uv_handle_t *)&run->signals[i], NULL);
    uv_close((uv_handle_t *)&run->alarm, NULL);
    uv_close((uv_handle_t *)&run->redraw, NULL);
    uv_run(&run->loop, UV_RUN_DEFAULT);
    uv_loop_close(&run->loop);
}

static void say_plan(struct pfl_run *run)
{
    const struct pfl_experiment_config *c = &run->plan.cfg;
    if (run->opts->resume)
        pfl_progress_say(run->progress, "going on with the run in %s", run->plan.dir);
    pfl_progress_say(run->progress, "%s: %u nodes, %s, %u round%s, folder %s", c->name, c->nodes, run->record->topology, c->rounds,
                     c->rounds == 1 ? "" : "s", run->plan.dir);
    for (size_t i = 0; i < c->settings.notes.n; i++)
        pfl_progress_say(run->progress, "note: %s", c->settings.notes.items[i]);
    if (c->settings.interop)
        pfl_progress_say(run->progress,
                         "WARNING: interop: p2pfl: the nodes take P2PFL's own nodes as neighbours; their messages are "
                         "not signed and their models carry no digest.");
    if (!c->settings.ssl.use_ssl)
        pfl_progress_say(run->progress,
                         "WARNING: the experiment says use_ssl: false. Links are PLAINTEXT and nobody's identity is checked.");
    else if (run->plan.certs_made && !run->opts->resume)
        pfl_progress_say(run->progress,
                         "certificates issued to every node by an authority made for this run; its key is gone again");
}

static void phases(struct pfl_run *run)
{
    if (!pfl_run_start_nodes(run))
        return;
    pfl_progress_say(run->progress, "all nodes are up; linking them over %s", run->record->tls ? "mutual TLS" : "plaintext");
    if (!pfl_run_link_nodes(run))
        return;
    pfl_progress_say(run->progress, pfl_run_has_begun(run) ? "learning goes on" : "every node knows every other; learning starts");
    bool learned = pfl_run_learn(run);
    if (learned)
        pfl_impostor_verdict(run);
    if (!run->interrupts)
        pfl_run_final_status(run);
}

static enum pfl_rc open_progress(struct pfl_run *run, bool *ret_table, struct pfl_err *err)
{
    FILE *out = run->opts->quiet ? NULL : run->opts->json ? stderr : stdout;
    const char *term = getenv("TERM");
    PFL_AUTO(pfl_freep) char *log = pfl_fs_join(run->plan.dir, "run.log");
    bool table = out && isatty(fileno(out)) && term && strcmp(term, "dumb") != 0;
    *ret_table = table;
    return pfl_progress_new(&(struct pfl_progress_opts){.out = out, .log_path = log, .record = run->record, .table = table},
                            &run->progress, err);
}

static void run_deinit(struct pfl_run *run)
{
    pfl_progress_free(run->progress);
    pfl_record_free(run->record);
    pfl_plan_deinit(&run->plan);
    free(run->children);
    free(run->knows);
    free(run->impostor.error);
}

enum pfl_rc pfl_run(const struct pfl_run_opts *opts, int *ret_exit, struct pfl_err *err)
{
    struct pfl_run run = {.opts = opts};
    bool table = false;
    double start_t = (double)pfl_clock_wall() / 1e9;
    enum pfl_rc rc = opts->resume ? pfl_plan_resume(opts, &run.plan, err) : pfl_plan_make(opts, &run.plan, err);
    if (rc != PFL_OK)
        return rc;
    run.record = pfl_record_new(run.plan.cfg.name);
    for (unsigned i = 0; i < run.plan.cfg.nodes; i++)
        pfl_record_add_node(run.record, run.plan.nodes[i].name, run.plan.nodes[i].address);
    run.children = pfl_xcalloc(run.plan.cfg.nodes, sizeof(struct pfl_child *));
    run.knows = pfl_xcalloc((size_t)run.plan.cfg.nodes * run.plan.cfg.nodes, sizeof(*run.knows));
    pfl_run_describe(&run);
    run.record->start_t = start_t;
    if (opts->resume)
        pfl_run_recall(&run);
    rc = open_progress(&run, &table, err);
    if (rc == PFL_OK) {
        open_loop(&run, table);
        say_plan(&run);
        phases(&run);
        uv_timer_stop(&run.redraw);
        pfl_run_shutdown(&run);
        pfl_run_check_models(&run);
        close_loop(&run);
        pfl_progress_draw(run.progress);
        pfl_run_write_results(&run);
        *ret_exit = run.record->interrupted ? PFL_RUN_INTERRUPTED : run.record->finished ? PFL_RUN_FINISHED : PFL_RUN_FAILED;
    }
    run_deinit(&run);
    return rc;
}
