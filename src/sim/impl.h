/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's inside, shared by the files of this folder only.
 *
 * One queue of items, each due at a virtual time. Nothing steps a node but the main loop: what a step's actions cause is put into
 * the queue, so no node is entered while another one's actions are carried out. */
#ifndef PFL_SIM_IMPL_H
#define PFL_SIM_IMPL_H

#include "learning/method.h"
#include "sim/check.h"
#include "sim/queue.h"
#include "sim/sim.h"

enum pfl_sim_item_kind {
    PFL_SIM_IT_EVENT,   /* something that only concerns `node`: a call's end, a link's, a job's */
    PFL_SIM_IT_TICK,    /* `node` asked for it */
    PFL_SIM_IT_ARRIVE,  /* a call arrives */
    PFL_SIM_IT_TIMEOUT, /* a call's deadline */
    PFL_SIM_IT_BEGIN,   /* fault number `id` */
    PFL_SIM_IT_END,
    PFL_SIM_IT_CONNECT, /* the operator of `node` links it with node `from` */
    PFL_SIM_IT_LIE,     /* a Byzantine node does something by itself */
    PFL_SIM_IT_PROBE,   /* the checkers look around */
    PFL_SIM_IT_DISK,    /* a write of `node` has ended, or may be tried again */
};

/** What comes of a job. */
struct pfl_sim_outcome {
    struct pfl_payload *payload; /* a reference or NULL */
    struct pfl_metrics metrics;
    uint64_t n_samples;
    unsigned epoch;            /* of the node's jobs: those of another one were canceled */
    bool cancels;              /* it is one that can be */
    struct pfl_sim_work *work; /* owned: a learner's call that may still run */
};

/** One thing that will happen. Each message under way is one, so it is small. */
struct pfl_sim_item {
    enum pfl_sim_item_kind kind : 8;
    enum pfl_event_kind ev : 8;
    enum pfl_rc rc : 8;
    bool hello : 1;
    bool said : 1; /* text is static */
    unsigned node, from;
    unsigned incarnation; /* of node; of another one it is for nobody */
    uint64_t id;          /* of the SEND or the job that ends; the call that arrives or ends; the fault */
    union {
        struct {                         /* ARRIVE */
            struct pfl_msg *msg;         /* a reference or NULL */
            struct pfl_payload *payload; /* a reference or NULL */
        };
        struct {                             /* all others */
            const char *text;                /* owned unless said, or NULL */
            struct pfl_sim_outcome *outcome; /* owned: of a job; NULL: it is none */
        };
        uint32_t next_free; /* number + 1 */
    };
};
/** Items by their numbers, in blocks that stay where they are. Zero-initialised. */
enum { PFL_SIM_ITEMS_BLOCK = 512 };
struct pfl_sim_items {
    struct pfl_sim_item **blocks; /* owned, each owned */
    size_t n_blocks;
    uint32_t n, free; /* free: number + 1 of the first one; 0: none */
};

enum pfl_sim_call_kind {
    PFL_SIM_CALL_SEND,
    PFL_SIM_CALL_HANDSHAKE,
    PFL_SIM_CALL_DISCONNECT,
    PFL_SIM_CALL_OPERATOR,
    PFL_SIM_CALL_COPY
};
struct pfl_sim_call {
    enum pfl_sim_call_kind kind : 8;
    bool used : 1, unanswered : 1, untold : 1; /* the receiver may answer; the caller waits */
    uint32_t generation;                       /* of the slot: half of the token */
    unsigned from, to;
    unsigned incarnation; /* of from */
    uint32_t next_free;
    uint64_t send_id;
    int64_t key; /* see pfl_sim_msg_key */
    pfl_ns deadline;
};

/** What a node finds again after it was started anew, and what waits to get there. See disk.c. */
struct pfl_sim_disk {
    struct pfl_durable *kept;             /* owned; NULL: nothing was ever written */
    struct pfl_durable *writing, *newest; /* owned; newest: what is written next */
    uint64_t done;                        /* the newest state that nothing waits for any more */
    struct pfl_sim_held *head, **tail;    /* owned: actions that wait */
    bool lost, releasing;
    bool read_again; /* a fault starts the node with its disk */
};

struct pfl_sim_node {
    char addr[40], name[16];
    struct pfl_node *core; /* NULL while it is down */
    struct pfl_learner learner;
    struct pfl_method method;
    struct pfl_compressor compressor;
    struct pfl_sim_disk disk;
    unsigned incarnation;
    pfl_ns paused_until;
    /* clocks: mono = mono_base + (now - since) * (1 + ppm / 1e6) */
    pfl_ns since, mono_base, wall_off;
    int64_t ppm;
    pfl_ns tick_at;
    /* jobs */
    unsigned job_epoch, jobs;
    double slow_learner, slow_disk;
    unsigned failing, disk_full; /* how many faults want it so */
    struct pfl_rng rng;          /* of its jobs' times */
    unsigned calls, degree;      /* under way; links that it is configured to have */
    uint64_t samples;            /* of its last fit */
    bool lies, lied;             /* now; ever */
    enum pfl_sim_lie lie;
    struct pfl_scatter *kept[16]; /* what a liar saw and may send again: references */
    size_t n_kept;
    struct pfl_sim_watch watch;
    struct pfl_sim_traffic traffic;
    struct pfl_sim_work *work; /* its learner's latest call, borrowed from the item; NULL: has ended */
};

enum { PFL_SIM_LATELY = 1 << 13 };

struct pfl_sim {
    const struct pfl_sim_scenario *sc;
    struct pfl_sim_opts o;
    pfl_ns now;
    struct pfl_sim_queue queue;
    struct pfl_sim_items items;
    struct pfl_sim_net *net;
    struct pfl_rng rng; /* for what is neither network nor node */
    struct pfl_sim_node *nodes;
    unsigned n;
    struct pfl_layout *layout;
    struct pfl_sim_call *calls;
    size_t n_calls, cap_calls;
    uint32_t free_call; /* index + 1 */
    uint8_t *channels;  /* (n, n) bits: an OPEN of row to column succeeded */
    struct pfl_actions actions;
    /* the message sent last: one body often goes to several neighbours */
    struct pfl_scatter *last_body;
    struct pfl_msg *last_msg;
    /* gossip that was sent lately, by its bytes: as many hops away from its author all nodes send the same, and it is decoded and
     * held once. Owned, PFL_SIM_LATELY slots of references or NULL. */
    struct pfl_msg **lately;
    bool learning; /* the start was given */
    pfl_ns learn_at, last_end, faults_over;
    size_t faults_open;
    struct pfl_sim_checks checks;
    bool has_false_result; /* somebody said that it computed this */
    uint8_t false_result[PFL_DIGEST_LEN];
    struct pfl_sim_result *result;
};

/* ---- sim.c ---- */
struct pfl_sim_item *pfl_sim_post(struct pfl_sim *s, pfl_ns at, enum pfl_sim_item_kind kind, unsigned node);
/** An event for the present incarnation of node. text copied, may be NULL. */
struct pfl_sim_item *pfl_sim_post_event(struct pfl_sim *s, pfl_ns at, enum pfl_event_kind ev, unsigned node, const char *text);
/** What its event says; copied unless static. */
void pfl_sim_set_text(struct pfl_sim_item *it, const char *text, bool is_static);
unsigned pfl_sim_index(const struct pfl_sim *s, const char *addr); /* UINT_MAX: none of ours */
bool pfl_sim_up(const struct pfl_sim *s, unsigned i);
bool pfl_sim_paused(const struct pfl_sim *s, unsigned i);

/* ---- trace.c ---- */
/** A line about node (UINT_MAX: about the simulation); addresses become names. */
void pfl_sim_trace(struct pfl_sim *s, unsigned node, const char *fmt, ...) PFL_PRINTF(3, 4);
void pfl_sim_trace_note(struct pfl_sim *s, unsigned node, const struct pfl_note *note);
/** The same replacement of addresses, for other texts; owned by the caller. */
char *pfl_sim_names(const struct pfl_sim *s, const char *text);

/* ---- sign.c ---- */
/** As node i, what waits in body for a signature. */
void pfl_sim_sign(struct pfl_sim *s, unsigned i, struct pfl_scatter *body);
/** Tells node i who signed the MESSAGE that node `from` delivered. signer: the caller's, for the event. */
void pfl_sim_verify(const struct pfl_sim *s, unsigned i, unsigned from, struct pfl_event *ev, struct pfl_signer *signer);

/* ---- disk.c ---- */
/** True: the action waits for the disk, and what it owned was taken from it. */
bool pfl_sim_disk_holds(struct pfl_sim *s, unsigned i, struct pfl_action *a);
/** The link with that address ends: what waits for it is dropped. */
void pfl_sim_disk_forget(struct pfl_sim *s, unsigned i, const char *addr);
/** Takes the state of a DURABLE action. */
void pfl_sim_disk_take(struct pfl_sim *s, unsigned i, struct pfl_durable *state);
void pfl_sim_disk_written(struct pfl_sim *s, const struct pfl_sim_item *it);
void pfl_sim_disk_crash(struct pfl_sim *s, unsigned i);
/** What a process that starts finds; borrowed until its first write. NULL: nothing. */
const struct pfl_durable *pfl_sim_disk_open(struct pfl_sim *s, unsigned i, bool with_disk);
void pfl_sim_disk_deinit(struct pfl_sim_disk *d);

/* ---- node.c: life and clocks ---- */
void pfl_sim_carry_out(struct pfl_sim *s, unsigned i, struct pfl_action *a);
pfl_ns pfl_sim_mono(const struct pfl_sim *s, unsigned i);
pfl_ns pfl_sim_wall(const struct pfl_sim *s, unsigned i);
void pfl_sim_drift(struct pfl_sim *s, unsigned i, int64_t ppm);
void pfl_sim_node_start(struct pfl_sim *s, unsigned i, bool with_disk);
void pfl_sim_node_crash(struct pfl_sim *s, unsigned i);
/** The operator's commands that link it with its configured neighbours. */
void pfl_sim_node_connect(struct pfl_sim *s, unsigned i);
/** A connect command of node i failed: its operator tries again later. */
void pfl_sim_operator_failed(struct pfl_sim *s, unsigned i, unsigned other, const char *why);
/** One step; the event's now and wall are set here. */
void pfl_sim_step(struct pfl_sim *s, unsigned i, struct pfl_event *ev);
void pfl_sim_schedule_tick(struct pfl_sim *s, unsigned i);
bool pfl_sim_channel(const struct pfl_sim *s, unsigned from, unsigned to);
void pfl_sim_channel_set(struct pfl_sim *s, unsigned from, unsigned to, bool there);
/** The connections between a and b break: both hear of it. */
void pfl_sim_reset(struct pfl_sim *s, unsigned a, unsigned b);

/* ---- call.c ---- */
/** What a body says: a reference. NULL: it cannot be decoded, which has failed the run. */
struct pfl_msg *pfl_sim_msg_of(struct pfl_sim *s, unsigned i, struct pfl_scatter *body);
uint64_t pfl_sim_call_new(struct pfl_sim *s, enum pfl_sim_call_kind kind, unsigned from, unsigned to, pfl_ns deadline);
void pfl_sim_open(struct pfl_sim *s, unsigned i, const struct pfl_action *a);
void pfl_sim_send(struct pfl_sim *s, unsigned i, const struct pfl_action *a);
/** Sends a body as node i, for a liar: nobody is told what became of it. */
void pfl_sim_send_body(struct pfl_sim *s, unsigned i, unsigned to, struct pfl_scatter *body);
void pfl_sim_goodbye(struct pfl_sim *s, unsigned i, const struct pfl_action *a);
void pfl_sim_reply(struct pfl_sim *s, unsigned i, const struct pfl_action *a);
void pfl_sim_arrive(struct pfl_sim *s, struct pfl_sim_item *it);
/** Its caller gets a timeout at its deadline, unless it hears before. */
void pfl_sim_call_waits(struct pfl_sim *s, uint64_t token);
void pfl_sim_timeout(struct pfl_sim *s, const struct pfl_sim_item *it);
/** All calls under way between a and b fail. */
void pfl_sim_calls_break(struct pfl_sim *s, unsigned a, unsigned b);
/** The caller is gone. */
void pfl_sim_calls_forget(struct pfl_sim *s, unsigned caller);

/* ---- job.c ---- */
void pfl_sim_job(struct pfl_sim *s, unsigned i, const struct pfl_action *a);
/** Waits for the learner's call of an item, if there is one, and puts what came of it into the item. */
void pfl_sim_work_end(struct pfl_sim *s, struct pfl_sim_item *it);
struct pfl_payload *pfl_sim_payload(struct pfl_sim *s, struct pfl_model *m); /* with its digest; takes nothing */
/** As the driver does it: codec, digest, layout, finite. NULL with an error. */
struct pfl_payload *pfl_sim_decode(struct pfl_sim *s, const struct pfl_msg *m, struct pfl_err *err);

/* ---- fault.c ---- */
void pfl_sim_faults_plan(struct pfl_sim *s); /* when the learning starts */
bool pfl_sim_absent_at_start(const struct pfl_sim *s, unsigned i);
bool pfl_sim_returns(const struct pfl_sim *s, unsigned i); /* with its disk */
void pfl_sim_fault_begin(struct pfl_sim *s, size_t k);
void pfl_sim_fault_end(struct pfl_sim *s, size_t k);

/* ---- lie.c ---- */
/** What a Byzantine node sends to `to` instead of body: NULL for nothing, else a reference. */
struct pfl_scatter *pfl_sim_lie(struct pfl_sim *s, unsigned i, unsigned to, const struct pfl_msg *m, struct pfl_scatter *body);
/** Time for a lie that answers to nothing. */
void pfl_sim_lie_now(struct pfl_sim *s, unsigned i);
/** It saw this message. */
void pfl_sim_lie_saw(struct pfl_sim *s, unsigned i, const struct pfl_msg *m);

#endif
