/* SPDX-License-Identifier: Apache-2.0 */
/* Runs an experiment: one process per node, linked as the topology says, learning together; then says and writes what came of it.
 */
#ifndef PFL_RUNTIME_RUN_H
#define PFL_RUNTIME_RUN_H

#include <jansson.h>

#include "runtime/run_plan.h"

enum {
    PFL_RUN_FINISHED = 0,     /* every node that was not lost finished, with one and the same model */
    PFL_RUN_FAILED = 1,       /* something else came of it; the report says what */
    PFL_RUN_INTERRUPTED = 130 /* by SIGINT, SIGTERM or SIGHUP; the report says how far it came */
};

/** Blocks until the run is over and all its processes are gone. PFL_OK where there was a run: *ret_exit says how it ended, its
 * folder holds experiment.yaml, run.log, metrics.jsonl, summary.json, model.safetensors and report.html. An error means that there
 * was none: no such experiment, no usable folder or certificates. */
enum pfl_rc pfl_run(const struct pfl_run_opts *opts, int *ret_exit, struct pfl_err *err) PFL_WARN_UNUSED;

/** What drives the nodes of a memory run: it is not known in this layer. */
struct pfl_run_engine {
    /** Runs the plan from start to end; each event of a node goes to `emit` (fields taken, NULL: none). True where all went as it
     *  should. *ret_model: the final model as a whole safetensors file, owned; stays empty where there is none. */
    enum pfl_rc (*run)(void *user, const struct pfl_plan *plan,
                       void (*emit)(void *to, unsigned node, const char *event, json_t *fields), void *to,
                       struct pfl_buf *ret_model, bool *ret_interrupted, struct pfl_err *err);
    void *user;
};
/** As pfl_run, for an experiment that wants the memory protocol. */
enum pfl_rc pfl_run_in_memory(const struct pfl_run_opts *opts, const struct pfl_run_engine *engine, int *ret_exit,
                              struct pfl_err *err) PFL_WARN_UNUSED;

#endif
