/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold in every run. Each checker has a name, which a failure states:
 *
 *   rounds      a node's rounds only go up, it starts an experiment once and ends what it started
 *   aggregate   a node makes one aggregate per round
 *   counted     an aggregate counts each contributor once, and weighs as much as its contributors do together
 *   twice       no gossip message is processed twice by one node
 *   answer      a node answers each call once, and none that is not its
 *   spin        a node that was given its tick does not ask for it again and again at the same moment
 *   limits      actions of one step, calls under way, sends per second and memory stay within bounds
 *   codec       what is sent can be decoded
 *   kept        who comes back with its disk is where it was: no round that it said was finished is lost
 *   contradicts a node has one ballot, one contribution and one computed result for a round, also after it was started again
 *   deadline    a node that learns says what it waits for; a wait for others has an end, at which the node goes on; all have ended
 *               by the scenario's limit
 *   reason      who stops says why; without any fault nobody stops
 *   started     who was there at the start takes part
 *   one-model   nodes that could talk to each other end with one model
 *   one-result  the same for the results of the rounds before
 *   false-result  nobody honest keeps a result that a liar announced, where more honest nodes computed one than there are liars
 *   converged   after all faults, those who can reach each other know each other
 *   learning    the common model is nearer to the nodes' data than the initial one (the stand-in only) */
#ifndef PFL_SIM_CHECK_H
#define PFL_SIM_CHECK_H

#include "node/node.h"

/** What is remembered of one node. */
struct pfl_sim_watch {
    bool was_there; /* up and known when the learning started */
    bool disturbed; /* crashed, was started anew, joined late, lies */
    bool started, running, finished, stopped;
    int32_t round, aggregated;
    pfl_ns last_round_at; /* when the last round of the experiment began here */
    uint8_t *company;     /* owned, n bits: whom it knew then */
    uint64_t *results;    /* owned, per round: the first bytes of its result's digest, 0: none */
    uint64_t *computed;   /* owned, per round: the same of the result that it computed itself, whether it kept that or not */
    double loss;
    uint8_t digest[PFL_DIGEST_LEN];
    int32_t promised;               /* the last round that it said was finished, with a disk that works; -1 */
    bool again;                     /* it comes back in the round that it was in */
    bool forgot;                    /* it may not know any more what it said */
    uint64_t *votes, *works, *said; /* owned, per round: of the ballot, the contribution and the result that it sent; 0: none */
    /* gossip that it processed: a set of keys, open addressing */
    int64_t *seen; /* owned */
    size_t n_seen, cap_seen;
    struct pfl_sim_failed {
        unsigned to;
        int64_t key;
    } * failed; /* owned: gossip that could not be delivered, and may be sent again */
    size_t n_failed, cap_failed;
    pfl_ns last_tick;
    unsigned ticks;
    pfl_ns second;
    unsigned sends; /* in that second */
    unsigned calls_most;
    unsigned known;
};

struct pfl_sim_checks {
    bool deep;       /* few enough nodes for what costs memory per message */
    uint8_t *knows;  /* owned, (n, n) bits */
    pfl_ns apart_at; /* when a node last lost another that was up */
    bool any_apart;
    /* of the running step */
    bool of_message, forwarded;
    int64_t key;
    size_t memory_start; /* allocated before there were nodes */
};

struct pfl_sim;
void pfl_sim_checks_init(struct pfl_sim *s);
void pfl_sim_checks_deinit(struct pfl_sim *s);
/** The first failure counts. node UINT_MAX: of the network. */
void pfl_sim_fail(struct pfl_sim *s, const char *checker, unsigned node, const char *fmt, ...) PFL_PRINTF(4, 5);
bool pfl_sim_failed(const struct pfl_sim *s);

/** A node begins its life, again (kept: with that) or for the first time. */
void pfl_sim_check_start(struct pfl_sim *s, unsigned i, const struct pfl_durable *kept);
void pfl_sim_check_before(struct pfl_sim *s, unsigned i, const struct pfl_event *ev);
void pfl_sim_check_after(struct pfl_sim *s, unsigned i, const struct pfl_event *ev, const struct pfl_actions *out);
void pfl_sim_check_carried(struct pfl_sim *s, unsigned i); /* the step's actions were carried out */
void pfl_sim_check_note(struct pfl_sim *s, unsigned i, const struct pfl_note *note);
void pfl_sim_check_forwards(struct pfl_sim *s, unsigned i, const struct pfl_action *a); /* a SEND of a step, before it goes out */
/** What tells this gossip from all other: its hash and what it says, for a liar says different things under one hash. 0: no gossip,
 *  or not looked at. */
int64_t pfl_sim_msg_key(const struct pfl_sim *s, const struct pfl_msg *m);
void pfl_sim_check_send(struct pfl_sim *s, unsigned i, const struct pfl_msg *m);
void pfl_sim_check_undelivered(struct pfl_sim *s, unsigned i, unsigned to, int64_t key);
void pfl_sim_check_memory_from(struct pfl_sim *s); /* what is allocated now is not the nodes' */
void pfl_sim_check_tick(struct pfl_sim *s, unsigned i);
void pfl_sim_check_probe(struct pfl_sim *s);
void pfl_sim_check_learn(struct pfl_sim *s); /* the learning starts */
/** All ended and settled: what must hold now. Fills in the result. */
void pfl_sim_check_end(struct pfl_sim *s);
/** Everybody that is up has ended, or takes no part. */
bool pfl_sim_all_ended(const struct pfl_sim *s);
bool pfl_sim_knows(const struct pfl_sim *s, unsigned i, unsigned k);

#endif
