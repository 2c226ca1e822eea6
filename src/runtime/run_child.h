/* SPDX-License-Identifier: Apache-2.0 */
/* One node as a child process: started, watched, listened to and ended. It cannot outlive the runner: the kernel kills it when the
 * runner is gone, however that came about. */
#ifndef PFL_RUNTIME_RUN_CHILD_H
#define PFL_RUNTIME_RUN_CHILD_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <uv.h>

#include "base/clock.h"
#include "base/err.h"

struct pfl_child;
struct pfl_child_opts {
    uv_loop_t *loop;
    const char *name; /* copied */
    const char *dir;  /* holds node.yaml; becomes the child's current folder; log.txt goes there. Copied */
    void (*on_event)(void *user, struct pfl_child *c, const json_t *event); /* from the first event on */
    void (*on_exit)(void *user, struct pfl_child *c);                       /* once; pfl_child_ending tells how */
    void *user;
};
enum pfl_rc pfl_child_start(const struct pfl_child_opts *opts, struct pfl_child **ret, struct pfl_err *err) PFL_WARN_UNUSED;
const char *pfl_child_name(const struct pfl_child *c);
const char *pfl_child_dir(const struct pfl_child *c);
bool pfl_child_running(const struct pfl_child *c);
bool pfl_child_listening(const struct pfl_child *c);  /* its control socket has answered */
bool pfl_child_ended_well(const struct pfl_child *c); /* exit code 0 */
/** "killed by signal 9 (Killed)" or "exited with code 1: <the last line of its log>". Owned by the caller. */
char *pfl_child_ending(const struct pfl_child *c);
/** As pfl_run_conn_ask. */
void pfl_child_ask(struct pfl_child *c, json_t *request, pfl_ns timeout,
                   void (*done)(void *user, json_t *answer, const char *error), void *user);
void pfl_child_kill(struct pfl_child *c, int signum); /* harmless where it has ended */
/** Closes what is open; memory goes when the loop has run the closing callbacks. The process must have ended. */
void pfl_child_free(struct pfl_child *c);

/** What a child is started as: asks the kernel to be killed with its parent, then becomes `p2pfl node start -c node.yaml`. Returns
 * only where that failed. */
int pfl_child_main(int argc, char **argv);

#endif
