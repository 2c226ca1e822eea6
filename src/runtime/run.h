/* SPDX-License-Identifier: Apache-2.0 */
/* Runs an experiment: one process per node, linked as the topology says, learning together; then says and writes what came of it.
 */
#ifndef PFL_RUNTIME_RUN_H
#define PFL_RUNTIME_RUN_H

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

#endif
