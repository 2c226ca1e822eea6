/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the driver share. Only src/runtime/{driver,links,inbound,jobs,notes,control}.c include this. */
#ifndef PFL_RUNTIME_DRIVER_IMPL_H
#define PFL_RUNTIME_DRIVER_IMPL_H

#include <stdatomic.h>

#include "learning/method.h"
#include "pki/policy.h"
#include "runtime/driver.h"
#include "runtime/events.h"
#include "runtime/ledger.h"

struct pfl_control;
struct pfl_revocation;
struct pfl_credentials;
struct pfl_keeper;
struct pfl_origins;
struct pfl_node_audit;

/** A channel to one address, and who must be at its end. */
struct pfl_link {
    struct pfl_link *next;
    struct pfl_driver *d;
    char *addr; /* owned */
    struct pfl_rpc_channel *channel;
    struct pfl_identity *bound;     /* who holds this address (a reference), NULL: nobody yet */
    bool up;                        /* TLS is made and the peer was checked */
    bool opening, handshake;        /* an OPEN waits for the channel; it ends with the handshake call */
    bool linked;                    /* LINK_UP was reported and no LINK_DOWN since */
    char reason[PFL_ERR_MAX + 320]; /* why it is down */
    bool leaving;                   /* a disconnect is under way; the channel closes behind it */
    bool crl_owed;                  /* it did not take a CRL that it should have */
    bool plain;                     /* one of P2PFL's own nodes: knows none of our extensions */
    bool noted;                     /* the "neighbour" event of this connection was written */
};

/** A question that the core answers with REPLY: a gRPC call or an operator's command. */
struct pfl_pending {
    struct pfl_pending *next;
    uint64_t token;
    struct pfl_rpc_call *call; /* or */
    void (*done)(void *user, const char *error);
    void *user;
    bool disconnect;             /* the answer is an Empty */
    bool plain;                  /* a handshake without a Hello */
    struct pfl_identity *caller; /* a reference; whom a dial back must meet */
};

struct pfl_job;
struct pfl_pickling;
struct pfl_queued; /* an event that waits for its step */

enum { PFL_DRIVER_BASES = 3 };

struct pfl_driver {
    uv_loop_t *loop;
    char *name, *address, *federation, *state_dir; /* owned; state_dir may be NULL */
    struct pfl_tls *tls;
    struct pfl_rpc_server *server;
    struct pfl_learner learner;
    struct pfl_node *node;
    struct pfl_method method;                    /* of the learner and the aggregator */
    struct pfl_compressor compressor;            /* of this node's contributions; used by the learner's jobs */
    struct pfl_ledger *ledger;                   /* owned; NULL: no differential privacy */
    struct pfl_payload *bases[PFL_DRIVER_BASES]; /* references: the models it had last, newest first */
    pfl_ns call_timeout;
    bool interop;
    struct pfl_p2pfl_options pickle;
    uv_timer_t timer;
    struct pfl_events *events;
    struct pfl_control *control;
    struct pfl_revocation *revocation;   /* NULL: plaintext, or gone */
    struct pfl_credentials *credentials; /* the same, or not watched */
    struct pfl_keeper *keeper;           /* NULL: nothing is kept */
    struct pfl_origins *origins;         /* NULL: plaintext */
    struct pfl_policy policy;
    struct pfl_rate *gossip_rate; /* by caller */
    pfl_ns gossip_flood_said;
    uint64_t refused; /* connections and calls, before the core saw them */
    unsigned refused_said;
    pfl_ns refused_window;
    struct pfl_node_audit *audit; /* NULL: no state folder */
    unsigned n_evidence;          /* pairs written since the start */

    struct pfl_queued *queue_head, **queue_tail;
    bool draining;
    bool making_model;             /* the learner is at the initial model */
    struct pfl_queued *held_learn; /* owned: came meanwhile; NULL: none */

    struct pfl_link *links;
    struct pfl_rpc_counters closed_links; /* of channels that are gone */
    struct pfl_pending *pendings;
    uint64_t next_token;

    struct pfl_job *learner_queue; /* jobs for the learner, one at a time, in order */
    bool learner_busy;
    atomic_uint fit_progress; /* 0: no fit is under way; else 1 and the percent that are done */
    unsigned jobs_running;
    struct pfl_pickling *picklings; /* of models for P2PFL's own nodes */
    uint64_t cancel_before;         /* learner jobs with a lower sequence number are answered CANCELED */
    uint64_t job_seq;

    unsigned closing_links;
    bool shutting_down, server_closed, control_closed, timer_closed;
    void (*closed)(void *user);
    void *closed_user;
    void (*on_shutdown_request)(void *user);
    void *shutdown_user;
    void (*on_event)(void *user, const char *line, size_t len);
    void *on_event_user;
};

/* driver.c */
struct pfl_event pfl_driver_event(enum pfl_event_kind kind);            /* with the times filled in */
void pfl_driver_post(struct pfl_driver *d, const struct pfl_event *ev); /* copies; steps now or after the running step */
void pfl_driver_model_made(struct pfl_driver *d);                       /* or not: it was tried. What waited for it goes on */
void pfl_driver_carry_out(struct pfl_driver *d, struct pfl_action *a);
void pfl_driver_maybe_closed(struct pfl_driver *d);
uint64_t pfl_pending_add(struct pfl_driver *d, struct pfl_rpc_call *call, void (*done)(void *, const char *), void *user);
struct pfl_pending *pfl_pending_find(struct pfl_driver *d, uint64_t token);

/* links.c */
struct pfl_link *pfl_link_find(const struct pfl_driver *d, const char *addr);
/** The address whose link this identity holds; NULL: none, or several. Borrowed until the link ends. */
const char *pfl_link_held_by(const struct pfl_driver *d, const struct pfl_identity *id);
void pfl_link_open(struct pfl_driver *d, const char *addr, bool handshake, uint64_t call);
void pfl_link_send(struct pfl_driver *d, const char *addr, uint64_t id, struct pfl_scatter *body, pfl_ns timeout);
void pfl_link_goodbye(struct pfl_driver *d, const char *addr);
void pfl_link_close(struct pfl_driver *d, const char *addr);
void pfl_links_close_all(struct pfl_driver *d);
void pfl_links_counters(const struct pfl_driver *d, struct pfl_rpc_counters *ret);
struct pfl_rpc_body pfl_rpc_body_of(struct pfl_scatter *s); /* takes the reference */

/* inbound.c */
enum pfl_rc pfl_inbound_start(struct pfl_driver *d, const char *address, struct pfl_err *err);
void pfl_inbound_reply(struct pfl_driver *d, struct pfl_pending *p, const struct pfl_action *a);

/* jobs.c */
void pfl_job_init_model(struct pfl_driver *d);
void pfl_job_learner(struct pfl_driver *d, const struct pfl_action *a); /* FIT, EVALUATE */
void pfl_job_fit_progress(void *driver, double done);                   /* of its method's fits, from a worker */
void pfl_job_aggregate(struct pfl_driver *d, const struct pfl_action *a);
void pfl_job_cancel(struct pfl_driver *d);
/** Decodes a weights message on a worker and posts it as PFL_EV_MESSAGE. */
void pfl_job_decode(struct pfl_driver *d, struct pfl_msg *msg, uint64_t call);
/** Writes models/final.safetensors, then emits the event. Takes the reference to fields. */
void pfl_job_save_final(struct pfl_driver *d, struct pfl_payload *payload, json_t *fields);

/* notes.c */
extern const char pfl_driver_interop_weaker[]; /* what is weaker with interop, in one line */
void pfl_driver_note(struct pfl_driver *d, const struct pfl_note *note);
json_t *pfl_driver_counters_json(struct pfl_driver *d);
void pfl_driver_refused(struct pfl_driver *d, const char *peer, const char *remote, const char *reason);
void pfl_driver_note_link(struct pfl_driver *d, struct pfl_link *l);

/* evidence.c */
/** Keeps two statements that contradict each other in the state folder. */
void pfl_driver_evidence(struct pfl_driver *d, const struct pfl_action *a);

/* control.c */
enum pfl_rc pfl_control_start(struct pfl_driver *d, struct pfl_err *err);
void pfl_control_event(struct pfl_control *c, const char *line, size_t len);
void pfl_control_stop(struct pfl_control *c); /* sets d->control_closed and calls pfl_driver_maybe_closed in the end */

#endif
