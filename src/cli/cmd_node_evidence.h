/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PFL_CLI_CMD_NODE_EVIDENCE_H
#define PFL_CLI_CMD_NODE_EVIDENCE_H

#include <stdbool.h>

/** Shows the evidence in a node's state folder, or one file (file NULL: all). The exit code: 1 where one of them proves nothing. */
int pfl_cmd_node_evidence(const char *state, const char *file, bool json);

#endif
