/* SPDX-License-Identifier: Apache-2.0 */
/* A network of node cores in virtual time: one heap of events, latencies from a seed, real encoding and decoding of every
 * message, jobs that take virtual time. Links can be cut, messages lost, nodes killed. The same seed gives the same run.
 * While it runs it checks what must hold in every run: rounds go up by one, one aggregate per round, each call is answered
 * once, no node spins. A failed check prints seed, time and what each node waits for, and ends the test. */
#ifndef PFL_TESTS_NETSIM_H
#define PFL_TESTS_NETSIM_H

#include "node/node.h"

enum { NETSIM_NODES_MAX = 40, NETSIM_ROUNDS_MAX = 64 };

struct netsim_opts {
    unsigned n;
    uint64_t seed;
    pfl_ns latency_min, latency_max;   /* of one way; default 1 to 20 ms */
    pfl_ns fit_min, fit_max;           /* default 100 to 900 ms */
    pfl_ns fit_of[NETSIM_NODES_MAX];   /* of one node; 0: from the range */
    double drop;                       /* share of calls that fail: half of them unheard, half heard but the answer is lost */
    bool silent_death;                 /* a killed node's peers see time-outs, not resets */
    bool plain[NETSIM_NODES_MAX];      /* this node and its neighbours know none of our extensions of each other */
    bool packed;                       /* contributions go out "compressed" ... */
    bool lacks_base[NETSIM_NODES_MAX]; /* ... and this node has not what they are a difference to: it cannot undo them */
    bool skew_check;                   /* nobody is more than one round ahead of another (not where votes may time out) */
    struct pfl_node_settings set;      /* zero: defaults */
};
struct netsim;
struct netsim *netsim_new(const struct netsim_opts *opts);
void netsim_free(struct netsim *s);

const char *netsim_addr(const struct netsim *s, unsigned i);
pfl_ns netsim_now(const struct netsim *s);
struct pfl_node *netsim_node(struct netsim *s, unsigned i);

/** Each command is an event at the present time; the answer is counted. */
void netsim_connect(struct netsim *s, unsigned a, unsigned b);
void netsim_disconnect(struct netsim *s, unsigned a, unsigned b);
void netsim_topology(struct netsim *s, const char *name); /* full, line, star, ring */
void netsim_learn(struct netsim *s, unsigned i, unsigned rounds, unsigned epochs, unsigned trainset_size);
void netsim_stop(struct netsim *s, unsigned i);
void netsim_shutdown(struct netsim *s, unsigned i);
/** Answer of the last command: NULL while there is none, "" for success, else the error. */
const char *netsim_last_answer(const struct netsim *s);

/** Node i learns that the certificate of `victim` (which may be itself) was revoked. */
void netsim_revoke(struct netsim *s, unsigned i, unsigned victim);

void netsim_kill(struct netsim *s, unsigned i);
void netsim_kill_at(struct netsim *s, unsigned i, pfl_ns at);
/** A killed node is started anew, with nothing of what it knew; the test links it again. */
void netsim_restart(struct netsim *s, unsigned i);
void netsim_cut(struct netsim *s, unsigned a, unsigned b); /* both ways */
void netsim_mend(struct netsim *s, unsigned a, unsigned b);
/** The n-th fit from now on of node i fails. */
void netsim_fail_fit(struct netsim *s, unsigned i);
bool netsim_dead(const struct netsim *s, unsigned i);

/** A message from nowhere: it reaches `to` at once. payload NULL for weights: "not decoded". Taken. Returns the reply: "ok:<text>"
 * or "error:<text>", owned by the simulator until the next call. */
const char *netsim_inject(struct netsim *s, unsigned to, struct pfl_msg *msg, struct pfl_payload *payload);
/** A peer that is not simulated shakes hands; reply as above. LINK_UP of a dial back is given at once when `up`. */
const char *netsim_handshake(struct netsim *s, unsigned to, const char *addr, const struct pfl_hello *hello, bool up);

void netsim_run(struct netsim *s, pfl_ns until);
/** Until every live node ended its experiment (finished or stopped); fails the test at `until`. */
void netsim_run_to_end(struct netsim *s, pfl_ns until);
/** Until node i is in that stage ("training"), or until; true where it was reached. */
bool netsim_run_to_stage(struct netsim *s, unsigned i, const char *stage, pfl_ns until);
/** Until every live node knows every other live node. */
void netsim_run_to_membership(struct netsim *s, pfl_ns until);

unsigned netsim_count(const struct netsim *s, unsigned i, enum pfl_note_kind kind);
/** The last note of that kind (and about that address, unless NULL); NULL: none. */
const struct pfl_note *netsim_note(const struct netsim *s, unsigned i, enum pfl_note_kind kind, const char *addr);
/** The k-th note of that kind, from 0; NULL: there are not as many. */
const struct pfl_note *netsim_note_at(const struct netsim *s, unsigned i, enum pfl_note_kind kind, unsigned k);
bool netsim_finished(const struct netsim *s, unsigned i);
/** All live nodes finished with the same model, byte for byte, after `rounds` rounds. */
void netsim_check_equal(struct netsim *s, unsigned rounds);
/** How many messages of this command were sent in all (forwarded ones too). */
unsigned netsim_sent(const struct netsim *s, const char *cmd);
/** How many contributions came to node i compressed, or whole. */
unsigned netsim_came_packed(const struct netsim *s, unsigned i);
unsigned netsim_came_whole(const struct netsim *s, unsigned i);
/** A payload of the simulated layout, all values v, with its digest. */
struct pfl_payload *netsim_payload(struct netsim *s, float v);
void netsim_dump(const struct netsim *s);

#endif
