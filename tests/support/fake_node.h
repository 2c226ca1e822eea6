/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for a node's process, for tests of the runner: it answers on the control socket and reports a made-up course of
 * events, well or badly as PFL_FAKE says, e.g. "node-2=die mallory=admitted". Behaviours: die (killed in its second round),
 * nostart, blind (never sees the others), othermodel, badfile (its file is not what it reports), stop (stops learning), hang (does
 * nothing any more), stubborn (must be killed). */
#ifndef PFL_TEST_SUPPORT_FAKE_NODE_H
#define PFL_TEST_SUPPORT_FAKE_NODE_H

/** Runs in the current folder, which holds a node.yaml. Returns the exit code. */
int fake_node_main(void);

#endif
