/* SPDX-License-Identifier: Apache-2.0 */
/* A learner from its configuration: data set, partition, model; or another process. */
#ifndef PFL_RUNTIME_LEARNER_SETUP_H
#define PFL_RUNTIME_LEARNER_SETUP_H

#include "config/settings.h"
#include "learning/aggregator.h"
#include "learning/learner.h"

/** Loads this node's part of the data and makes its learner, or starts the one that the configuration names and waits for it. *ret
 * is owned. Errors name the file and the package that brings it, or the learner. Starting needs this program to be p2pfl itself. */
enum pfl_rc pfl_learner_setup(const struct pfl_learner_config *c, const struct pfl_settings *s, const char *node_name,
                              struct pfl_learner *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** The aggregator with its parameters. *ret is the caller's storage. */
enum pfl_rc pfl_aggregator_setup(const struct pfl_learner_config *c, struct pfl_aggregator *ret,
                                 struct pfl_err *err) PFL_WARN_UNUSED;

#endif
