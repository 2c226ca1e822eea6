/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a remote learner share: remote_learner.c (the contract; threads), remote_session.c (from start to end of one
 * connection), remote_job.c (the calls of one job). Nobody else includes this. */
#ifndef PFL_RUNTIME_REMOTE_IMPL_H
#define PFL_RUNTIME_REMOTE_IMPL_H

#include "rpc/rpc.h"
#include "runtime/remote_exchange.h"
#include "runtime/remote_learner.h"
#include "runtime/remote_process.h"

enum pfl_remote_kind { PFL_REMOTE_START, PFL_REMOTE_INIT, PFL_REMOTE_FIT, PFL_REMOTE_EVALUATE };

/** A worker's question. It lies on the worker's stack; the loop's thread writes what is below `lock` under the lock. */
struct pfl_remote_op {
    enum pfl_remote_kind kind;
    struct pfl_model *model; /* borrowed: fit, evaluate */
    unsigned epochs;
    uint64_t seed;
    const struct pfl_fit_steer *steer; /* borrowed: fit */
    /* lock */
    bool done, progressed;
    double share;
    enum pfl_rc rc;
    struct pfl_err err;
    struct pfl_model *out; /* owned by the worker when done */
    struct pfl_learner_result result;
};

enum pfl_remote_state {
    PFL_REMOTE_DOWN,       /* nothing runs; t_retry says when it is started again */
    PFL_REMOTE_STARTING,   /* it is started, or dialled */
    PFL_REMOTE_DESCRIBING, /* the connection is there */
    PFL_REMOTE_READY,
    PFL_REMOTE_ENDING, /* given up; its process has not ended yet */
};

struct pfl_remote {
    /* for life */
    struct pfl_strs command, env;
    char *socket, *folder, *launcher, *label, *prefix; /* owned; label: for messages */
    struct pfl_learner_describe *config;               /* owned */
    pfl_ns start_timeout, silence_timeout, interrupt_timeout, backoff_min, backoff_max;
    uv_thread_t thread;
    uv_async_t wake;
    uv_mutex_t lock;
    uv_cond_t changed;
    struct pfl_layout *layout;  /* owned; written once, before new() returns */
    bool steerable;             /* the same */
    struct pfl_fit_steer steer; /* the workers'; correction: a reference or NULL */
    /* under the lock */
    struct pfl_remote_op *op; /* handed over, not done */
    bool interrupt, stop;
    /* the loop's thread alone */
    uv_loop_t loop;
    struct pfl_exchange *exchange;
    enum pfl_remote_state state;
    struct pfl_process *process;
    struct pfl_rpc_channel *channel;
    uv_fs_event_t watch; /* of the folder: the socket is there */
    uv_timer_t t_limit, t_retry, t_ask,
        t_end;             /* start and silence; restart and redial; the next question for progress; interrupt and kill */
    unsigned generation;   /* of the session: answers of older ones are not heard */
    unsigned failures;     /* in a row, for the back-off */
    bool stopping, killed; /* killed: its end is our doing */
    struct pfl_err why;    /* the session ended */
    /* of the job under way */
    struct pfl_remote_op *current;
    bool calling, canceled;
    uint64_t job, beat;
    uint64_t asked; /* the job for whose progress a question is under way; 0: none */
};

/* remote_learner.c */
/** Ends the current question. The error's text gets the learner's name in front. */
void pfl_remote_finish(struct pfl_remote *r, enum pfl_rc rc, const struct pfl_err *err);

/* remote_session.c */
void pfl_remote_start(struct pfl_remote *r);
/** Gives up on the session: the current job fails with this, the process ends, another is started later. lost: it may be about to
 *  end by itself, and to say why. */
void pfl_remote_fail(struct pfl_remote *r, bool lost, enum pfl_rc rc, const char *fmt, ...) PFL_PRINTF(4, 5);
void pfl_remote_stop(struct pfl_remote *r); /* for good */
/** A call of this session. done is not called when the session has ended by then; failed calls that mean so have been dealt with.
 */
typedef void (*pfl_remote_answer)(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer);
void pfl_remote_call(struct pfl_remote *r, const char *path, struct pfl_buf *request, pfl_ns timeout, pfl_remote_answer done);
void pfl_remote_timer(uv_timer_t *t, uv_timer_cb fn, pfl_ns after);

/* remote_job.c */
void pfl_remote_advance(struct pfl_remote *r); /* the current job goes on where it can */
void pfl_remote_interrupt(struct pfl_remote *r);

#endif
