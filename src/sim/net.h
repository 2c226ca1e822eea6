/* SPDX-License-Identifier: Apache-2.0 */
/* The network between simulated nodes: how long a message takes from one node to another, and whether it gets there at all. It
 * knows nodes by number and messages by size; what is in them is none of its business.
 *
 * A link is one direction between two nodes. Messages of one link arrive in the order of sending, as on one connection, but for the
 * share that `reorder` says. Time on a link: what is sent before has to be through (bandwidth), then the message's own bytes, then
 * the latency. */
#ifndef PFL_SIM_NET_H
#define PFL_SIM_NET_H

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

struct pfl_sim_net_opts {
    pfl_ns latency_min, latency_max; /* one way, uniform; max >= min */
    pfl_ns latency_tail;             /* mean of an exponential part on top; 0: none */
    uint64_t bandwidth;              /* bytes per second of each link; 0: without limit */
    double loss;                     /* share of calls whose request never arrives */
    double reply_loss;               /* share of calls that are carried out, but the caller hears of a failure */
    double duplicate;                /* share of messages that arrive twice */
    double reorder;                  /* share of messages that others overtake */
    bool silent;                     /* what is lost shows as a timeout; else as a connection reset */
};
void pfl_sim_net_opts_default(struct pfl_sim_net_opts *o); /* 1 to 20 ms, nothing lost */

struct pfl_sim_net;
struct pfl_sim_net *pfl_sim_net_new(const struct pfl_sim_net_opts *o, unsigned n, uint64_t seed);
void pfl_sim_net_free(struct pfl_sim_net *net);

/** What becomes of a message sent now. */
struct pfl_sim_fate {
    bool lost, duplicated;
    pfl_ns arrives, arrives_again; /* PFL_NEVER where it does not */
};
struct pfl_sim_fate pfl_sim_net_send(struct pfl_sim_net *net, unsigned from, unsigned to, size_t bytes, pfl_ns now);
/** When an answer arrives at `to`. *ret_lost: it does not. */
pfl_ns pfl_sim_net_reply(struct pfl_sim_net *net, unsigned from, unsigned to, pfl_ns now, bool *ret_lost);
/** A latency, for what is no message. */
pfl_ns pfl_sim_net_latency(struct pfl_sim_net *net, unsigned from, unsigned to);

/** One way: what `from` sends does not reach `to`. Cuts count: two faults may cut the same link, each is mended by itself. */
void pfl_sim_net_cut(struct pfl_sim_net *net, unsigned from, unsigned to);
void pfl_sim_net_mend(struct pfl_sim_net *net, unsigned from, unsigned to);
bool pfl_sim_net_reaches(const struct pfl_sim_net *net, unsigned from, unsigned to);
/** From now on nothing is lost, doubled or overtaken. */
void pfl_sim_net_calm(struct pfl_sim_net *net);
/** All that this node sends and gets takes `factor` times as long; 1: as usual. */
void pfl_sim_net_slow(struct pfl_sim_net *net, unsigned node, double factor);

#endif
