/* SPDX-License-Identifier: Apache-2.0 */
/* What is simulated: nodes and links, the experiment, the network, and what goes wrong when. Plain data; who makes it (a file, a
 * test, a seed) frees it with pfl_sim_scenario_deinit. */
#ifndef PFL_SIM_SCENARIO_H
#define PFL_SIM_SCENARIO_H

#include "node/node.h"
#include "sim/net.h"

enum {
    PFL_SIM_NODES_MAX = 4096,
    PFL_SIM_FAULTS_MAX = 1024,
};

/* Kinds of faults by the names that a file uses. */
#define PFL_SIM_FAULT_LIST(X)                                                                                                      \
    X(CRASH, "crash")               /* the process is gone, for good */                                                            \
    X(RESTART, "restart")           /* gone at `at`, started again at `until`, with its disk or without */                         \
    X(PAUSE, "pause")               /* runs no instruction from `at` to `until`; what is sent to it waits */                       \
    X(JOIN, "join")                 /* is not there before `at`: a newcomer */                                                     \
    X(PARTITION, "partition")       /* `nodes` and the rest do not reach each other */                                             \
    X(ONE_WAY, "one-way")           /* what `nodes` send does not reach the rest */                                                \
    X(LINK_CUT, "link-cut")         /* `node` and `other` do not reach each other */                                               \
    X(RESET, "reset")               /* the connections of `node` break once, all or that to `other` */                             \
    X(SLOW_NODE, "slow-node")       /* its network takes `factor` times as long */                                                 \
    X(SLOW_LEARNER, "slow-learner") /* its jobs take `factor` times as long */                                                     \
    X(FAIL_FIT, "failing-learner")  /* its fits fail */                                                                            \
    X(CLOCK_JUMP, "clock-jump")     /* its wall clock moves by `amount`; its monotonic clock does not */                           \
    X(CLOCK_DRIFT, "clock-drift")   /* both clocks run `factor` times as fast */                                                   \
    X(DISK_FULL, "disk-full")       /* what it keeps is not kept; what is on disk stays */                                         \
    X(SLOW_DISK, "slow-disk")       /* its writes take `factor` times as long */                                                   \
    X(BYZANTINE, "byzantine")       /* it lies: `lie` */
enum pfl_sim_fault_kind {
#define X(id, name) PFL_SIM_##id,
    PFL_SIM_FAULT_LIST(X)
#undef X
        PFL_SIM_FAULT_KINDS
};
const char *pfl_sim_fault_name(enum pfl_sim_fault_kind k);
bool pfl_sim_fault_parse(const char *name, enum pfl_sim_fault_kind *ret);

/* How a Byzantine node lies. Its certificate is good: it is one of us. What only its certificate's key could sign it signs. */
#define PFL_SIM_LIE_LIST(X)                                                                                                        \
    X(NAN, "nan-weights")                  /* its contribution is full of NaN */                                                   \
    X(LAYOUT, "wrong-layout")              /* its contribution has another shape */                                                \
    X(POISON, "wrong-weights")             /* its contribution leads away from where it should go */                               \
    X(TWO_FACED, "two-contributions")      /* it sends each member another contribution */                                         \
    X(CONTRIBUTORS, "forged-contributors") /* its contribution claims to be that of others, too */                                 \
    X(EQUIVOCATE, "equivocation")          /* it sends each neighbour another vote */                                              \
    X(REPLAY, "replay")                    /* it sends what it saw again, later, as it came and with new hashes */                 \
    X(STUFF, "vote-stuffing")              /* it votes many times, with more votes than there are */                               \
    X(IMPERSONATE, "impersonation")        /* it votes in others' names, and ends the experiment in the name of the first */       \
    X(SILENCE, "silence")                  /* it beats, and says nothing else */                                                   \
    X(FALSE_RESULT, "false-result")        /* it announces, and hands out, another result than it computed */
enum pfl_sim_lie {
#define X(id, name) PFL_SIM_LIE_##id,
    PFL_SIM_LIE_LIST(X)
#undef X
        PFL_SIM_LIES
};
const char *pfl_sim_lie_name(enum pfl_sim_lie l);
bool pfl_sim_lie_parse(const char *name, enum pfl_sim_lie *ret);

struct pfl_sim_fault {
    enum pfl_sim_fault_kind kind;
    pfl_ns at, until; /* since the learning started; until PFL_NEVER: to the end */
    unsigned node;
    bool has_other;
    unsigned other;
    unsigned *nodes; /* owned; partition, one-way */
    size_t n_nodes;
    double factor;
    pfl_ns amount;
    bool disk; /* restart: with its disk */
    enum pfl_sim_lie lie;
};

struct pfl_sim_edge {
    unsigned a, b;
};

struct pfl_sim_scenario {
    char *name; /* owned; for people */
    uint64_t seed;
    unsigned n;
    struct pfl_sim_edge *edges; /* owned */
    size_t n_edges;
    unsigned rounds, epochs, trainset_size;
    struct pfl_node_settings settings; /* seed, entropy and federation are the simulator's */
    struct pfl_sim_net_opts net;
    pfl_ns fit_min, fit_max;      /* how long a fit takes; uniform */
    bool signatures;              /* messages are signed and verified; else nobody looks who wrote them */
    pfl_ns disk_min, disk_max;    /* how long a write to a node's disk takes; uniform */
    size_t values;                /* of the stand-in learner's vector */
    struct pfl_sim_fault *faults; /* owned */
    size_t n_faults;
    pfl_ns start_limit; /* the nodes have to know each other by then; else the learning starts with those who do */
    pfl_ns limit;       /* of the learning, in virtual time: whoever has not ended by then hangs. 0: from the settings */
    pfl_ns settle;      /* how long the network has to agree on who is there, after all ended and all faults are over */
};
/** 4 nodes without links, 3 rounds, no faults. */
void pfl_sim_scenario_default(struct pfl_sim_scenario *s);
void pfl_sim_scenario_deinit(struct pfl_sim_scenario *s);
void pfl_sim_scenario_link(struct pfl_sim_scenario *s, unsigned a, unsigned b);
/** A fault at the end of the list, zeroed but for kind, at and until; borrowed until the next one is added. */
struct pfl_sim_fault *pfl_sim_scenario_fault(struct pfl_sim_scenario *s, enum pfl_sim_fault_kind kind, pfl_ns at, pfl_ns until);
/** INVALID: a node that does not exist, an `until` that is missing or before `at`, a factor that is not positive, too much of
 * something. */
enum pfl_rc pfl_sim_scenario_check(const struct pfl_sim_scenario *s, struct pfl_err *err) PFL_WARN_UNUSED;

/** Adds faults drawn from the seed: the default mix. What it promises, so that the checkers can demand that the network comes
 *  through: at most a third of the nodes crash for good or lie, the cuts are mended, the first node (which starts the learning) is
 *  left alone until the start has spread, and the links are those of a network that somebody would build (n_edges is not
 *  changed). */
void pfl_sim_mix(struct pfl_sim_scenario *s);

#endif
