/* SPDX-License-Identifier: Apache-2.0 */
/* The client side of a node's control socket, blocking: what the command line uses. */
#ifndef PFL_RUNTIME_CONTROL_H
#define PFL_RUNTIME_CONTROL_H

#include <jansson.h>

#include "base/clock.h"
#include "base/err.h"

/** Sends one request (a reference is taken) to <state_dir>/control.sock and reads one answer. *ret_answer is a new reference; an
 *  answer with "ok": false becomes an error with its text. UNAVAILABLE where no node runs there, TIMEOUT. */
enum pfl_rc pfl_control_ask(const char *state_dir, json_t *request, pfl_ns timeout, json_t **ret_answer,
                            struct pfl_err *err) PFL_WARN_UNUSED;

#endif
