/* SPDX-License-Identifier: Apache-2.0 */
/* What the runner's parts share. Only src/runtime/run{,_phases,_impostor,_results,_memory}.c include this. */
#ifndef PFL_RUNTIME_RUN_IMPL_H
#define PFL_RUNTIME_RUN_IMPL_H

#include <uv.h>

#include "runtime/run.h"
#include "runtime/run_child.h"
#include "runtime/run_progress.h"
#include "runtime/run_record.h"

struct pfl_run {
    const struct pfl_run_opts *opts;
    struct pfl_plan plan;
    struct pfl_record *record;
    struct pfl_progress *progress;
    uv_loop_t loop;
    uv_timer_t alarm, redraw; /* alarm: wakes a wait at its deadline */
    uv_signal_t signals[3];
    unsigned interrupts;
    struct pfl_child **children; /* owned, plan.cfg.nodes of them; NULL: not started */
    bool *knows;                 /* owned: node i knows node j at [i * nodes + j] */
    pfl_ns last_progress;
    bool learning, shutting_down;
    unsigned asks; /* requests to nodes whose answers are waited for */
    size_t next_edge;
    unsigned status_asks;
    struct {
        struct pfl_child *child; /* NULL: none */
        bool started, asked, answered, admitted, refused;
        char *error; /* owned: what its connect command said */
    } impostor;
};

/* run.c */
/** Runs the loop until done(run). False past `limit` after the start or the last progress, or where the run was interrupted. */
bool pfl_run_wait(struct pfl_run *run, bool (*done)(struct pfl_run *run), pfl_ns limit);
void pfl_run_fail(struct pfl_run *run, const char *fmt, ...) PFL_PRINTF(2, 3);
bool pfl_run_alive(const struct pfl_run *run, unsigned node);
size_t pfl_run_index(const struct pfl_run *run, const struct pfl_child *c);

/* run_phases.c: each says what failed and returns false then */
bool pfl_run_start_nodes(struct pfl_run *run);
bool pfl_run_link_nodes(struct pfl_run *run);
bool pfl_run_learn(struct pfl_run *run);
/** A resumed run whose nodes are in the experiment, or through with it. */
bool pfl_run_has_begun(const struct pfl_run *run);
void pfl_run_final_status(struct pfl_run *run);
void pfl_run_shutdown(struct pfl_run *run);
void pfl_run_ask_status(struct pfl_run *run);
/** Which nodes know which, from an event of node i. */
void pfl_run_note_known(struct pfl_run *run, unsigned i, const json_t *event);

/* run_resume.c */
/** What the nodes of a run that is gone on with did before, into the record. */
void pfl_run_recall(struct pfl_run *run);

/* run_impostor.c */
bool pfl_impostor_start(struct pfl_run *run, struct pfl_err *err);
bool pfl_impostor_ready(const struct pfl_run *run); /* or not asked for */
/** An event of an honest node: may be the moment to attack, or show that the attack came through. */
void pfl_impostor_watch(struct pfl_run *run, const json_t *event);
/** After learning: waits for the outcome and fails the run where it is not a refusal. */
void pfl_impostor_verdict(struct pfl_run *run);

/* run_results.c */
void pfl_run_check_models(struct pfl_run *run);
void pfl_run_write_results(struct pfl_run *run);
void pfl_run_describe(struct pfl_run *run); /* fills what the record says about the plan */

#endif
