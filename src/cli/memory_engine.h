/* SPDX-License-Identifier: Apache-2.0 */
/* Runs an experiment's nodes in this process: the simulator's driver on a network without faults, with the experiment's own
 * learners on all cores. Nothing is sent anywhere; the protocol is the whole one. */
#ifndef PFL_CLI_MEMORY_ENGINE_H
#define PFL_CLI_MEMORY_ENGINE_H

#include "runtime/run.h"

/** For pfl_run_in_memory. Takes over SIGINT, SIGTERM and SIGHUP while it runs: one of them ends the run in order. */
extern const struct pfl_run_engine pfl_memory_engine;

#endif
