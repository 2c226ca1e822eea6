/* SPDX-License-Identifier: Apache-2.0 */
/* From an experiment's file with a `simulation:` block to a scenario for each seed. */
#ifndef PFL_CLI_SIMULATE_SCENARIO_H
#define PFL_CLI_SIMULATE_SCENARIO_H

#include "config/experiment.h"
#include "runtime/learner_setup.h"
#include "sim/sim.h"

enum { PFL_SIMULATE_TOPOLOGIES_MAX = 8 };

/** What the file says; what it leaves open is drawn from each seed. */
struct pfl_simulation {
    struct pfl_data_cache data; /* what the learners of one process share */
    struct pfl_experiment_config cfg;
    unsigned nodes_min, nodes_max;
    struct {
        enum pfl_topology topology;
        unsigned degree;
    } topologies[PFL_SIMULATE_TOPOLOGIES_MAX];
    size_t n_topologies;              /* 0: the experiment's */
    bool mix;                         /* faults and the network are drawn, too */
    bool real_learner;                /* the experiment's, not the stand-in */
    struct pfl_aggregator aggregator; /* with its parameters */
    struct pfl_compression compression;
    struct pfl_sim_scenario scenario; /* network, learner and faults as the file gives them; copied for each seed */
};
/** path NULL: the built-in one, 8 to 20 nodes with the default fault mix. Errors as of experiments: file, line, key. */
enum pfl_rc pfl_simulation_load(const char *path, struct pfl_simulation *ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_simulation_deinit(struct pfl_simulation *s);
/** An experiment as it is, with its own learner, on a network without faults. Borrows cfg. */
enum pfl_rc pfl_simulation_of(const struct pfl_experiment_config *cfg, struct pfl_simulation *ret,
                              struct pfl_err *err) PFL_WARN_UNUSED;
/** Frees what pfl_simulation_of made; cfg stays. */
void pfl_simulation_end(struct pfl_simulation *s);
/** nodes 0: as the file says. *ret is the caller's to deinit. INVALID for faults of nodes that are not there. */
enum pfl_rc pfl_simulation_scenario(const struct pfl_simulation *s, uint64_t seed, unsigned nodes, struct pfl_sim_scenario *ret,
                                    struct pfl_err *err) PFL_WARN_UNUSED;
/** The experiment's learner for a node of a scenario of n nodes. */
enum pfl_rc pfl_simulation_learner(struct pfl_simulation *s, uint64_t seed, unsigned node, unsigned n, struct pfl_learner *ret,
                                   struct pfl_err *err) PFL_WARN_UNUSED;

#endif
