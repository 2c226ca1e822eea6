/* SPDX-License-Identifier: Apache-2.0 */
/* The node: a state machine without I/O. Events go in, actions come out; the time comes with each event and randomness from a
 * seed. The same core runs under libuv (runtime) and in virtual time (tests, simulator).
 *
 * Protocol: P2PFL 0.4.4's commands and stages (node/stages), event-driven: a round moves on when something happened; timers
 * are for failures and retries only. Every wait has a deadline and says what it waits for (pfl_node_snapshot).
 *
 * Ownership: what an event points to is borrowed for the step, the core takes references to what it keeps. What an action points to
 * is owned by the action until pfl_node_actions_clear; the driver takes references to what it needs longer. */
#ifndef PFL_NODE_NODE_H
#define PFL_NODE_NODE_H

#include "base/clock.h"
#include "learning/aggregator.h"
#include "learning/learner.h"
#include "node/durable.h"
#include "wire/msg.h"
#include "wire/origin.h"
#include "wire/payload.h"

struct pfl_node_settings {
    pfl_ns heartbeat_period, heartbeat_timeout; /* 2 s, 5 s */
    pfl_ns vote_timeout, aggregation_timeout;   /* 60 s, 300 s */
    pfl_ns call_timeout;                        /* 10 s: GRPC_TIMEOUT */
    pfl_ns retry_period;                        /* 1 s: how soon an unanswered model push is tried again or relayed */
    int32_t gossip_ttl;                         /* 10 */
    unsigned seen_max;                          /* 100 per P2PFL; we keep at least 4096 */
    unsigned neighbours_max, known_max;         /* 64, 4096: more are refused */
    pfl_ns fit_timeout;                         /* 3600 s: how long a member is waited for while its beats say that it trains */
    double vote_quorum, aggregation_quorum; /* 0: shares of the last voters, of the train set; with less a round does not go on */
    bool late_join;                         /* true: takes part in an experiment that a neighbour is in */
    uint64_t seed;                          /* votes and the order of samples: equal seeds give equal runs */
    uint64_t
        entropy; /* other at each start: message hashes, which a node that comes back must not repeat and nobody should guess */
    const char *federation; /* copied; goes into our Hello */
    const struct pfl_aggregator *aggregator;
    bool signatures; /* the driver verifies who signed a message; what must be signed and is not does not count: see origin.c */
    unsigned max_rounds, max_epochs; /* of an experiment that this node takes part in; 0: no limit but the protocol's */
    uint64_t max_model_bytes;
    bool interop; /* links with P2PFL's own nodes are taken: see interop.c */
    bool durable; /* tells by DURABLE actions what is to be kept */
};
void pfl_node_settings_default(struct pfl_node_settings *s);
/** What this core says of itself in a Hello: version, codecs, features. Static; the driver adds what it can do itself to a copy. */
const struct pfl_hello *pfl_node_hello(void);

/* ---- who signed ---- */
enum pfl_may {
    PFL_MAY_TRAIN = 1, /* vote, train, tell of it */
    PFL_MAY_START = 2, /* start and stop learning */
};
/** The signer of a message: its signature is good, its certificate is, and the address of the source is its own. */
struct pfl_signer {
    char *id;     /* its identity in words, for notes */
    unsigned may; /* enum pfl_may, by role and policy */
};

/* ---- events ---- */
enum pfl_event_kind {
    PFL_EV_TICK,       /* a deadline has passed */
    PFL_EV_MODEL,      /* payload: the node's initial model is there (once, at the start; also a warm start while idle) */
    PFL_EV_HANDSHAKE,  /* addr, hello, call: a peer whose certificate covers addr's host asks for a link */
    PFL_EV_DISCONNECT, /* addr, call: a peer (checked: addr is bound to its identity) takes its link back */
    PFL_EV_LINK_UP,    /* addr, hello: OPEN succeeded (certificate, identity and, where asked, the handshake) */
    PFL_EV_LINK_DOWN,  /* addr, text: OPEN failed or the channel was lost; rc AUTH means: refused, do not try again by itself.
                        * An OPEN of an address that is linked already (a peer that lost its side shakes hands again) is answered
                        * by LINK_UP, or by LINK_DOWN with AUTH when the caller is somebody else: then the link itself stays. */
    PFL_EV_MESSAGE, /* msg, call, from; addr of the neighbour that delivered it, where that is known; signer or forged (both NULL:
                       not signed); weights: payload (decoded, digest checked, finite, right layout) or rc/text why not */
    PFL_EV_SENT,    /* id, rc, text: a SEND ended; text is the peer's response ("true", "false", "") or the error.
                     * rc UNAVAILABLE, TIMEOUT, IO, CANCELED: the call failed, it may have arrived or not; STATE and others: the
                     * peer answered with an error. hello: that of the answer, absent where a P2PFL node answered; NULL: not known */
    PFL_EV_JOB,     /* id, rc, text: a job ended; payload (fit, aggregate: with digest), metrics, samples. A fit that failed (or
                     * gave no samples) costs the round this node's contribution, nothing else: the node announces an empty
                     * models_aggregated, on which nobody waits for it, collects the others' models and goes on with them */
    PFL_EV_CMD_CONNECT,    /* addr, call: an operator's commands; answered by one REPLY each */
    PFL_EV_CMD_DISCONNECT, /* addr, call */
    PFL_EV_CMD_LEARN,      /* learn, call */
    PFL_EV_CMD_STOP,       /* call */
    PFL_EV_REVOKED,  /* addr, text: the certificate of who holds this address was revoked, and text says how. addr NULL: this node's
                      * own  was: it ends its experiment and dials nobody by itself until a link comes up again */
    PFL_EV_RESTORE,  /* durable: what the node kept; once, before everything else, instead of MODEL where it holds a model */
    PFL_EV_SHUTDOWN, /* say goodbye: disconnect to every neighbour, then nothing more */
};
struct pfl_learn_args {
    unsigned rounds, epochs, trainset_size;
    const char *name; /* experiment name, at most 104 bytes; the core adds "-<seconds since the epoch>" */
};
struct pfl_event {
    enum pfl_event_kind kind;
    pfl_ns now;  /* monotonic */
    pfl_ns wall; /* since the epoch; only for what goes on the wire and into logs */
    const char *addr;
    const struct pfl_hello *hello;
    uint64_t call; /* token to answer with REPLY; 0: none */
    struct pfl_msg *msg;
    struct pfl_payload *payload;
    uint64_t id;
    enum pfl_rc rc;
    const char *text;
    struct pfl_metrics metrics;
    uint64_t n_samples;
    struct pfl_learn_args learn;
    const struct pfl_durable *durable;
    const char *from;                /* MESSAGE: who delivered it, in words; NULL: not known */
    bool relayed;                    /* MESSAGE: that was somebody else than who signed it */
    const struct pfl_signer *signer; /* MESSAGE; CMD_LEARN, CMD_STOP: this node itself; NULL: nobody, or nobody looked */
    const char *accused;             /* MESSAGE with evidence: the identity, in words, that signed both statements, which are in the
                                        name of an address of its own. NULL: `unproven` says why that is not so */
    const char *unproven;
    const char *forged; /* MESSAGE: why its signature does not count; NULL: it does, or has none */
};

/* ---- actions ---- */
enum pfl_action_kind {
    PFL_ACT_OPEN,  /* addr, handshake (we ask for the link) or not (answering: the identity must be that of the caller `call`) */
    PFL_ACT_CLOSE, /* addr, text: forget the channel and what is bound to the address */
    PFL_ACT_SEND,  /* addr, id, body, timeout, after: rpc send; opens a channel without a handshake where there is none. Not before
                    * the state `after` is on disk (see durable.h). body NULL: msg with payload as P2PFL's pickle, which the driver
                    * encodes (only with interop) */
    PFL_ACT_GOODBYE,   /* addr: rpc disconnect, then close */
    PFL_ACT_REPLY,     /* call, text or error (each may be NULL); hello: put ours in (handshake); denied: the caller may not */
    PFL_ACT_FIT,       /* id, payload, epochs, seed */
    PFL_ACT_EVALUATE,  /* id, payload */
    PFL_ACT_AGGREGATE, /* id, payload (what the round began with), contributions in order: n_in, in (models with references held by
                        * the action); partial: they become one contribution, else the round's result */
    PFL_ACT_CANCEL,    /* jobs that run: interrupt them; their events are ignored */
    PFL_ACT_DURABLE,   /* durable: to be kept, at most one in a step, behind the sends that wait for it */
    PFL_ACT_EVIDENCE,  /* addr, said: two statements of one node that contradict each other, to be kept */
    PFL_ACT_NOTE,      /* note: what happened, for log, event stream and report */
};

/* What a note is about; the names are those of the event stream. */
#define PFL_NOTE_LIST(X)                                                                                                           \
    X(NEIGHBOUR, "neighbour")                 /* addr */                                                                           \
    X(NEIGHBOUR_LOST, "neighbour_lost")       /* addr, text */                                                                     \
    X(KNOWN, "known")                         /* addr: heard of, not a direct neighbour */                                         \
    X(KNOWN_LOST, "known_lost")               /* addr, text */                                                                     \
    X(LEARNING_STARTED, "learning_started")   /* addr = who started it, text = experiment, learn */                                \
    X(RESUMED, "resumed")                     /* round, text = experiment: after a crash or a restart */                           \
    X(JOINED, "joined")                       /* round, addr = from whom, text = experiment: goes to that round, which runs */     \
    X(ROUND_STARTED, "round_started")         /* round */                                                                          \
    X(STAGE, "stage")                         /* round, text */                                                                    \
    X(TRAIN_SET, "train_set")                 /* round, list */                                                                    \
    X(FIT, "fit")                             /* round, metrics.loss, n_samples */                                                 \
    X(METRICS, "metrics")                     /* round, addr = whose, metrics */                                                   \
    X(CONTRIBUTION, "contribution")           /* round, addr = from whom, list = contributors, n_samples */                        \
    X(REVOKED, "revoked")                     /* addr (its own: this node), text */                                                \
    X(EXCLUDED, "excluded")                   /* round, addr, text */                                                              \
    X(AGGREGATED, "aggregated")               /* round, list = contributors, n_samples, digest */                                  \
    X(ADOPTED, "adopted")                     /* round, addr = from whom, digest */                                                \
    X(ROUND_FINISHED, "round_finished")       /* round, digest */                                                                  \
    X(LEARNING_FINISHED, "learning_finished") /* round = rounds done, metrics, digest */                                           \
    X(LEARNING_STOPPED, "learning_stopped")   /* text */                                                                           \
    X(REFUSED, "refused")                     /* addr, text: a message or link the core refused */                                 \
    X(WARNING, "warning")                     /* addr or NULL, text */
enum pfl_note_kind {
#define X(id, name) PFL_NOTE_##id,
    PFL_NOTE_LIST(X)
#undef X
};
const char *pfl_note_name(enum pfl_note_kind k);
struct pfl_note {
    enum pfl_note_kind kind;
    int32_t round;
    char *addr, *text; /* owned or NULL */
    struct pfl_strs list;
    struct pfl_metrics metrics;
    uint64_t n_samples;
    bool has_digest;
    uint8_t digest[PFL_DIGEST_LEN];
    unsigned rounds, epochs, trainset_size; /* LEARNING_STARTED */
};

struct pfl_action {
    enum pfl_action_kind kind;
    char *addr; /* owned */
    bool handshake, hello, denied;
    uint64_t call, id;
    struct pfl_scatter *body;
    struct pfl_msg *msg; /* a reference */
    pfl_ns timeout;
    uint64_t after;
    struct pfl_durable *durable; /* owned */
    char *text, *error;          /* owned */
    struct pfl_payload *payload;
    unsigned epochs;
    uint64_t seed;
    bool partial;
    struct pfl_contribution *in; /* owned array; each model is a reference of the action's */
    size_t n_in;
    struct pfl_statement *said; /* owned: two, or NULL */
    struct pfl_note *note;
};
struct pfl_actions {
    struct pfl_action *items;
    size_t n, cap;
};
void pfl_actions_clear(struct pfl_actions *a);
void pfl_actions_deinit(struct pfl_actions *a);

/* ---- the node ---- */
struct pfl_node;
/** addr: our own address, copied. layout: of the model (a reference is taken). */
struct pfl_node *pfl_node_new(const char *addr, struct pfl_layout *layout, const struct pfl_node_settings *s);
void pfl_node_free(struct pfl_node *n);
/** Appends to out, in the order in which they are to be carried out. Never fails: what is wrong with an event becomes a reply or a
 * note. */
void pfl_node_step(struct pfl_node *n, const struct pfl_event *ev, struct pfl_actions *out);
/** Is this gossip known already, or nothing that is looked at? Then whoever signed it need not be looked at again. */
bool pfl_node_knows(const struct pfl_node *n, const struct pfl_msg *m);
bool pfl_node_is_learning(const struct pfl_node *n);
/** Monotonic time at which a TICK is due; PFL_NEVER where nothing is pending. */
pfl_ns pfl_node_deadline(const struct pfl_node *n);

/* ---- snapshot: read-only, for status, web and the experiment runner ---- */
struct pfl_peer_view {
    char *addr;        /* owned */
    bool direct, ours; /* ours: sent a Hello */
    bool plain;        /* P2PFL's own */
    pfl_ns last_heard; /* monotonic */
};
struct pfl_snapshot {
    const char *stage; /* idle, starting, voting, evaluating, training, aggregating, waiting, syncing, finishing: static */
    bool learning;
    char *experiment; /* owned or NULL */
    int32_t round;    /* current; -1 when idle */
    unsigned rounds, rounds_done;
    char *waiting_for;    /* owned or NULL: "node 127.0.0.1:6667 (fit, last sign of life 1.2 s ago)", or with names: "berlin at
                             127.0.0.1:6667 (...)" */
    pfl_ns waiting_until; /* monotonic; PFL_NEVER */
    struct pfl_strs train_set;
    struct pfl_peer_view *peers; /* owned */
    size_t n_peers;
    bool has_digest;
    uint8_t digest[PFL_DIGEST_LEN]; /* of the model it has now */
    struct pfl_metrics metrics;     /* last own evaluation */
    uint64_t refused;               /* messages and links that the core refused */
};
void pfl_node_snapshot(const struct pfl_node *n, struct pfl_snapshot *ret); /* as of the last step */
/** name_of: what the node at this address is called, borrowed for the call; NULL where that is not known, or for no names at all.
 */
void pfl_node_snapshot_at(const struct pfl_node *n, pfl_ns now, const char *(*name_of)(void *user, const char *addr), void *user,
                          struct pfl_snapshot *ret);
void pfl_snapshot_deinit(struct pfl_snapshot *s);
/** The model that the node has now; borrowed until the next step. NULL before the first. */
struct pfl_payload *pfl_node_model(const struct pfl_node *n);

#endif
