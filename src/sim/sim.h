/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator: many node cores in virtual time, on a modelled network, with planned faults. It is the second driver of the node
 * (the first is runtime/driver.h): events in, actions out, real encoding and decoding of every message. One thread, one clock, one
 * seed: the same scenario gives the same run, on every machine with the same floating point.
 *
 * While it runs, checkers look at what must hold in every run (sim/check.h). The first thing that does not hold ends the run; its
 * name, its time and what was seen stand in the result. */
#ifndef PFL_SIM_SIM_H
#define PFL_SIM_SIM_H

#include "learning/compression.h"
#include "sim/scenario.h"

enum { PFL_SIM_COMMANDS_MAX = 24 };

/** Of one node, from the start of the learning. */
struct pfl_sim_traffic {
    uint64_t messages_sent, bytes_sent, messages_received, bytes_received;
};

struct pfl_sim_opts {
    const struct pfl_sim_scenario *scenario; /* borrowed until pfl_sim_free; checked by the caller */
    /** What node trains with; NULL: the stand-in. Owned by the simulator on success. */
    enum pfl_rc (*learner)(void *user, unsigned node, struct pfl_learner *ret, struct pfl_err *err);
    /** What is done to contributions: nodes count what is left of them after that; messages carry it uncompressed. NULL: nothing.
     * Not dp, whose noise no seed gives: INVALID. Borrowed for pfl_sim_new. */
    const struct pfl_compression *compression;
    /** Digest of a model's bytes. NULL: a fast one of the simulator's own, which nobody outside can compare. */
    void (*digest)(const struct pfl_bytes *parts, size_t n, uint8_t out[PFL_DIGEST_LEN]);
    /** Each line of the trace, without a newline, borrowed for the call. NULL: no trace. */
    void (*trace)(void *user, const char *line);
    bool trace_messages; /* each message sent, not only what became of it */
    /** A wrapper around every node, with which tests plant faults that no scenario has. before: false swallows the event. after:
     * may change what the node wants done. deadline: when it is to be woken. Each may be NULL. */
    bool (*before)(void *user, unsigned node, struct pfl_event *ev);
    void (*after)(void *user, unsigned node, const struct pfl_event *ev, struct pfl_actions *out);
    pfl_ns (*deadline)(void *user, unsigned node, pfl_ns at);
    /** Each note of a node, borrowed for the call. NULL: nobody asks. */
    void (*note)(void *user, unsigned node, const struct pfl_note *note, const struct pfl_sim_traffic *traffic);
    /** Calls of learners on other threads: start runs fn(arg) at some time and returns a handle, wait comes back when it has run.
     *  Of one node, one call runs at a time. NULL: they run at once. What comes of a run is the same. */
    void *(*start)(void *user, void (*fn)(void *arg), void *arg);
    void (*wait)(void *user, void *handle);
    /** True, from then on: the run ends here, as if it had been cut off. A call of a learner that is under way is waited for: who
     *  says true interrupts it. May be NULL. */
    bool (*stop)(void *user);
    void *user;
};

struct pfl_sim_result {
    bool failed;
    bool cut_off;      /* opts->stop said so */
    char checker[24];  /* which one: "deadline", "one-model", ... */
    char failure[512]; /* "12.345 s: node-3: ..." */
    unsigned nodes, rounds;
    /* Nodes that were up at the end. */
    unsigned finished, stopped, idle; /* idle: took no part, for instance started again */
    bool one_model;                   /* all that finished have the same */
    bool excused;                     /* they need not: the network was apart for longer than its timeouts */
    uint8_t digest[PFL_DIGEST_LEN];   /* of the first that finished */
    double loss;                      /* of its model, by its own last evaluation */
    unsigned evictions;               /* how often a node gave up another one that was up */
    double virtual_s;                 /* from the start of the learning to the last end */
    uint64_t steps, events;
    /* Of the learning, calls that carry models included, answers not. */
    uint64_t messages, bytes, beats;
    double messages_per_node_round, bytes_per_node_round;
    size_t calls_most; /* calls under way at once, of one node */
    struct {
        char name[24];
        uint64_t n, bytes;
    } commands[PFL_SIM_COMMANDS_MAX];
    size_t n_commands;
};

struct pfl_sim;
/** INVALID, UNAVAILABLE, or the learner's error. */
enum pfl_rc pfl_sim_new(const struct pfl_sim_opts *opts, struct pfl_sim **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_sim_free(struct pfl_sim *s);
/** To the end, or to the first broken invariant. */
void pfl_sim_run(struct pfl_sim *s, struct pfl_sim_result *ret);
/** A node's address, borrowed until the simulator is freed. */
const char *pfl_sim_address(const struct pfl_sim *s, unsigned node);
/** The learner's part of it: a node's model as it is exported. *ret owned. STATE where there is none. */
enum pfl_rc pfl_sim_export(const struct pfl_sim *s, unsigned node, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The final model of a node that is up, borrowed until the simulator is freed; NULL. */
const struct pfl_payload *pfl_sim_model(const struct pfl_sim *s, unsigned node);

#endif
