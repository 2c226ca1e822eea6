/* SPDX-License-Identifier: Apache-2.0 */
/* A learner from its configuration: data set, partition, model; or another process. */
#ifndef PFL_RUNTIME_LEARNER_SETUP_H
#define PFL_RUNTIME_LEARNER_SETUP_H

#include "config/settings.h"
#include "learning/aggregator.h"
#include "learning/compression.h"
#include "learning/dataset.h"
#include "learning/learner.h"

/** The data sets that all learners of one process share: each is loaded once. Not for two threads at a time. */
struct pfl_data_cache {
    struct pfl_dataset *train, *test; /* references, NULL before the first learner */
};
void pfl_data_cache_deinit(struct pfl_data_cache *c);

/** Loads this node's part of the data and makes its learner, or starts the one that the configuration names and waits for it. *ret
 * is owned. cache may be NULL: then the whole set is in memory only while the part is taken. Errors name the file and the package
 * that brings it, or the learner. Starting needs this program to be p2pfl itself. */
enum pfl_rc pfl_learner_setup_in(struct pfl_data_cache *cache, const struct pfl_learner_config *c, const struct pfl_settings *s,
                                 const char *node_name, struct pfl_learner *ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_setup(const struct pfl_learner_config *c, const struct pfl_settings *s, const char *node_name,
                              struct pfl_learner *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** How contributions are compressed; n 0: not at all. dp's noise is made of epsilon and delta where it is not given. */
enum pfl_rc pfl_compression_setup(const struct pfl_learner_config *c, struct pfl_compression *ret,
                                  struct pfl_err *err) PFL_WARN_UNUSED;
/** The aggregator with its parameters. *ret is the caller's storage. */
enum pfl_rc pfl_aggregator_setup(const struct pfl_learner_config *c, struct pfl_aggregator *ret,
                                 struct pfl_err *err) PFL_WARN_UNUSED;

/** Both data sets of the configuration into the cache, for the node of that name; seed is the partition's. */
enum pfl_rc pfl_learner_data_load(const struct pfl_learner_config *c, uint64_t seed, const char *node_name,
                                  struct pfl_data_cache *cache, struct pfl_err *err) PFL_WARN_UNUSED;

/** Who gets what of the training set (see pfl_partition_table): *ret is owned, (parts, *ret_classes). NULL without an error where
 *  there is no data set to divide. */
enum pfl_rc pfl_learner_parts(struct pfl_data_cache *cache, const struct pfl_learner_config *c, const struct pfl_settings *s,
                              unsigned parts, size_t **ret, unsigned *ret_classes, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
