/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PFL_RUNTIME_CA_MAIN_H
#define PFL_RUNTIME_CA_MAIN_H

#include "runtime/ca_server.h"

/** Serves until SIGTERM or SIGINT (opts->loop is not looked at). ready is told the address once it is listening. */
enum pfl_rc pfl_ca_serve(const struct pfl_ca_server_opts *opts, void (*ready)(void *user, const char *address), void *user,
                         struct pfl_err *err) PFL_WARN_UNUSED;

#endif
