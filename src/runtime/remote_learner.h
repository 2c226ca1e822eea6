/* SPDX-License-Identifier: Apache-2.0 */
/* A learner in another process: started by the node, or found at a Unix socket of the same user (proto/learner.proto).
 *
 * It has a thread with a loop of its own, on which everything happens: the process, its output, the connection, the calls. The
 * worker that calls fit or evaluate hands its question over and waits, so the contract of learning/learner.h holds, and a learner
 * that hangs holds up neither the node's loop nor its end.
 *
 * It fails as any learner does, with an error that names it: when it ends, when it gives no sign of life, when what it says makes
 * no sense. It is ended then and started again after a back-off; until then calls fail at once (or wait, where that is short). What
 * is wrong with one result alone (an exception in its fit, a NaN) costs that result, not the process. */
#ifndef PFL_RUNTIME_REMOTE_LEARNER_H
#define PFL_RUNTIME_REMOTE_LEARNER_H

#include "base/clock.h"
#include "base/str.h"
#include "learning/learner.h"
#include "wire/learner_msg.h"

/** Seconds: what imports a large framework on a slow, busy machine takes long, and one that has failed has ended before. */
enum { PFL_REMOTE_START_S = 180 };

/** All copied. */
struct pfl_remote_opts {
    const struct pfl_strs *command;            /* program and arguments; n 0: there is none, then socket */
    const char *socket;                        /* path of a Unix socket where it listens; NULL: there is none, then command */
    const char *folder;                        /* where the command runs; NULL: here */
    const char *launcher;                      /* see runtime/remote_process.h */
    const char *exchange;                      /* the parent of the folder with its files; NULL: see runtime/remote_exchange.h */
    const struct pfl_learner_describe *config; /* version and folder are filled in */
    pfl_ns start_timeout;                      /* until it has described itself; 0: PFL_REMOTE_START_S */
    pfl_ns silence_timeout;                    /* without a sign of life while it works; 0: 120 s */
    pfl_ns interrupt_timeout;                  /* until an interrupted job has ended; 0: 5 s */
    pfl_ns backoff_min, backoff_max;           /* before it is started again; 0: 500 ms, doubled each time, to 60 s */
};

/** Starts it or connects to it, and waits until it has described itself. *ret is owned. Errors name it and the reason: IO, TIMEOUT,
 *  UNAVAILABLE, AUTH (a socket of somebody else), MALFORMED, TOO_BIG, UNSUPPORTED.
 *
 *  Of the learner: init is what it holds when it is asked, which before any fit or evaluate is its initial model. fit and evaluate:
 *  CANCELED after interrupt(), which ends the process where it does not heed it in time. free ends the process. */
enum pfl_rc pfl_remote_learner_new(const struct pfl_remote_opts *opts, struct pfl_learner *ret,
                                   struct pfl_err *err) PFL_WARN_UNUSED;

#endif
