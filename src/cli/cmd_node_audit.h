/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PFL_CLI_CMD_NODE_AUDIT_H
#define PFL_CLI_CMD_NODE_AUDIT_H

#include <stdbool.h>

/** Prints a node's audit log, or (verify) proves that it is untouched; head: one that was noted another day, or NULL. The exit
 * code: 1 where there is no log, or it was tampered with. */
int pfl_cmd_node_audit(const char *state, bool verify, const char *head, bool json);

#endif
