/* SPDX-License-Identifier: Apache-2.0 */
/* A child process on a libuv loop whose output goes to the log, line by line, with a prefix and within bounds. The child leads a
 * session of its own, so that what it starts ends with it. It must not outlive this process: its standard input is a pipe that ends
 * when we do, and with a launcher the kernel kills it too. Everything is called on the loop's thread. */
#ifndef PFL_RUNTIME_REMOTE_PROCESS_H
#define PFL_RUNTIME_REMOTE_PROCESS_H

#include <uv.h>

#include "base/str.h"

struct pfl_process;
struct pfl_process_opts {
    uv_loop_t *loop;
    const struct pfl_strs *command; /* program and arguments */
    const char *folder;             /* its working folder; NULL: ours */
    /** A program that is started as `LAUNCHER node as-learner-of PID COMMAND...`, asks the kernel to be killed when we end, and
     * then becomes COMMAND (pfl_process_launch). NULL: COMMAND is started itself. */
    const char *launcher;
    const struct pfl_strs *env; /* "NAME=value", above our own environment */
    const char *prefix;         /* of its lines in the log; copied */
    /** Once: it has ended and its output was read. how: "ended with code 1: ImportError: ...", "was killed by signal 9 (Killed)".
     *  The process object is gone behind this. */
    void (*on_ended)(void *user, const char *how);
    void *user;
};
/** IO: it could not be started (which a launcher says by ending). */
enum pfl_rc pfl_process_start(const struct pfl_process_opts *o, struct pfl_process **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Ends it: standard input ends and SIGTERM goes to the whole session, SIGKILL after grace_ms (0: at once). on_ended follows. */
void pfl_process_end(struct pfl_process *p, unsigned grace_ms);
/** What the launcher runs: argv is {"as-learner-of", PID, COMMAND...}. Comes back only where that fails: the exit code. */
int pfl_process_launch(int argc, char **argv);

#endif
