/* SPDX-License-Identifier: Apache-2.0 */
/* The runner's end of a node's control socket: JSON lines, without blocking. The socket is reached through the state folder's
 * descriptor, so the length of the run folder's path does not matter. */
#ifndef PFL_RUNTIME_RUN_CONN_H
#define PFL_RUNTIME_RUN_CONN_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "base/clock.h"

struct pfl_run_conn;
/** Connects to control.sock in the folder that dir_fd is open on and sends one request (the reference is taken). on_line is called
 * for each object that comes back (borrowed), on_end once when the connection is gone, with the reason; after pfl_run_conn_close
 * too. The connection frees itself after on_end. NULL where the node does not listen (yet): nothing was sent, nothing is called. */
struct pfl_run_conn *pfl_run_conn_open(uv_loop_t *loop, int dir_fd, json_t *request, void (*on_line)(void *user, json_t *object),
                                       void (*on_end)(void *user, const char *reason), void *user);
void pfl_run_conn_close(struct pfl_run_conn *c); /* once is enough; more often is harmless until on_end */

/** One request, one answer: done is called exactly once; answer NULL where there was none or it says "ok": false, with the error
 * then. Where the node does not listen, done is called before this returns. */
void pfl_run_conn_ask(uv_loop_t *loop, int dir_fd, json_t *request, pfl_ns timeout,
                      void (*done)(void *user, json_t *answer, const char *error), void *user);

#endif
