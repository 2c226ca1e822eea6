/* SPDX-License-Identifier: Apache-2.0 */
/* Many seeds on all cores: one process per core, each simulates one seed after the other. A process that dies (a failed assertion
 * of the core, say) costs its seed a failure and is replaced. */
#ifndef PFL_CLI_SIMULATE_POOL_H
#define PFL_CLI_SIMULATE_POOL_H

#include "sim/sim.h"

struct pfl_pool_row {
    uint64_t seed;
    bool begun; /* only this: the result comes in another row */
    double wall_s;
    long peak_rss_kb;
    unsigned faults;
    struct pfl_sim_result r;
};
struct pfl_pool_opts {
    uint64_t first, last; /* seeds */
    unsigned jobs;
    unsigned seed_limit_s; /* of real time: a seed that takes longer hangs; 0: none */
    /** In the worker: simulates one seed; r.failed says how it went. */
    void (*run)(void *user, uint64_t seed, struct pfl_pool_row *ret);
    /** In the parent: a row is there, in the order of their ends. */
    void (*row)(void *user, const struct pfl_pool_row *row);
    void *user;
};
/** Returns when all seeds are through. IO: no process can be started. */
enum pfl_rc pfl_pool_run(const struct pfl_pool_opts *o, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
