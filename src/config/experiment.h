/* SPDX-License-Identifier: Apache-2.0 */
/* An experiment: P2PFL's YAML file. Its package and class names are aliases of ours; what is not supported is refused with file and
 * line, never ignored. */
#ifndef PFL_CONFIG_EXPERIMENT_H
#define PFL_CONFIG_EXPERIMENT_H

#include "config/settings.h"

enum pfl_topology { PFL_TOPO_STAR, PFL_TOPO_FULL, PFL_TOPO_LINE, PFL_TOPO_RING, PFL_TOPO_RANDOM };
enum { PFL_EXPERIMENT_NODES_MAX = 1000 };

struct pfl_edge {
    unsigned a, b; /* a < b */
};

struct pfl_experiment_config {
    char *description;    /* owned or NULL */
    char *name;           /* experiment.name, default "experiment"; owned */
    bool memory_protocol; /* MemoryCommunicationProtocol: all nodes in one process, without sockets */
    unsigned nodes;
    enum pfl_topology topology;
    unsigned random_degree;      /* topology random_k */
    struct pfl_edge *additional; /* owned */
    size_t n_additional;
    unsigned rounds, epochs, trainset_size;
    uint64_t seed;       /* experiment.seed, default 666 */
    pfl_ns wait_timeout; /* minutes in the file; default 60 */
    struct pfl_learner_config learner;
    unsigned *remote_nodes; /* owned; whose learner is learner.remote, where that is set; none: all nodes' */
    size_t n_remote_nodes;
    struct pfl_settings settings; /* notes: what has no effect */
};
void pfl_experiment_default(struct pfl_experiment_config *c);
void pfl_experiment_deinit(struct pfl_experiment_config *c);
/** file names the source in errors. *ret is initialised on success only. */
enum pfl_rc pfl_experiment_parse(const char *file, const char *text, size_t len, struct pfl_experiment_config *ret,
                                 struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_experiment_load(const char *path, struct pfl_experiment_config *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** Does this node (from 0) have its learner in another process? */
bool pfl_experiment_is_remote(const struct pfl_experiment_config *c, unsigned node);

bool pfl_topology_parse(const char *text, enum pfl_topology *ret, unsigned *ret_degree);
const char *pfl_topology_name(enum pfl_topology t); /* "random" for random_k */
/** The links to make: owned array, sorted, no doubles. Star: node 0 is the centre. random_k: a connected graph of mean degree about
 * k, from the seed. INVALID where additional names a node outside. */
enum pfl_rc pfl_topology_edges(const struct pfl_experiment_config *c, struct pfl_edge **ret, size_t *ret_n,
                               struct pfl_err *err) PFL_WARN_UNUSED;

#endif
