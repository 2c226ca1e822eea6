/* SPDX-License-Identifier: Apache-2.0 */
/* Renews a node's certificates while no node runs: `p2pfl cert renew`. Blocking, with a loop of its own. */
#ifndef PFL_RUNTIME_RENEW_MAIN_H
#define PFL_RUNTIME_RENEW_MAIN_H

#include "config/node_config.h"

/** Replaces the files that the configuration names. INVALID where it names no service, or plaintext; else as the service says.
 *  After an error the files are as they were. A node that runs all the same takes them as files that somebody changed. */
enum pfl_rc pfl_renew_main(const struct pfl_node_config *c, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
