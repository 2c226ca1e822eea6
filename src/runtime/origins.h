/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of messages in a running node. Out: what the core wants signed is signed once, whoever it goes to; at once with a key
 * that takes microseconds, else on a worker, and the message waits. In: gossip is verified on a worker, in the order in which it
 * came, many at a time; models by the job that decodes them. A certificate's chain is verified once a minute and whenever trust or
 * CRLs change, and remembered by its fingerprint in between.
 *
 * An address belongs to the identity that was first seen to hold it: the one that a dial met there, else the first that signed for
 * it. It stays its own until the node behind it is lost, and through the experiment that runs. Loop thread only, but for
 * pfl_check_run. */
#ifndef PFL_RUNTIME_ORIGINS_H
#define PFL_RUNTIME_ORIGINS_H

#include "runtime/driver_impl.h"
#include "tls/origin.h"

enum {
    PFL_ORIGINS_WAITING_MAX = 4096, /* gossip that waits to be verified; more is answered UNAVAILABLE, and sent again */
    PFL_ORIGINS_CALLER_MAX = 256,   /* of one neighbour: as many as it may have under way on two connections */
    PFL_ORIGINS_BATCH = 64,         /* by one job: some 5 ms with ECDSA */
    PFL_ORIGINS_AUTHORS = 8192,     /* slots of the cache: twice the nodes of the largest network */
    PFL_ORIGINS_BAD_AUTHORS = 256,  /* refused certificates that are known again */
    PFL_ORIGINS_ADDRESSES_MAX = 4096,
};
#define PFL_ORIGINS_AUTHOR_AGE (60 * PFL_SEC)

struct pfl_origins *pfl_origins_new(struct pfl_driver *d); /* for a driver with TLS */
void pfl_origins_free(struct pfl_origins *o);              /* nothing runs any more; accepts NULL */
/** Trust, CRLs or own certificates are others from here on. */
void pfl_origins_changed(struct pfl_origins *o);

/** Gossip, or a direct message that has to stay behind gossip that waits: posted now or later. False: too many wait. o NULL: now.
 */
bool pfl_origins_receive(struct pfl_driver *d, struct pfl_msg *msg, struct pfl_rpc_call *call);
/** True: the SEND waits for its signature, and what it owned was taken from it. Else it is signed, or needs none. o NULL: false. */
bool pfl_origins_holds(struct pfl_origins *o, struct pfl_action *a);
/** The link with that address ends: what waits for it is dropped. */
void pfl_origins_forget(struct pfl_origins *o, const char *addr);

/** A dial met this identity at this address. */
void pfl_origins_met(struct pfl_origins *o, const char *addr, struct pfl_identity *id);
/** Who holds this address: whom a dial met there, or whose signed messages come from there. Borrowed; NULL: nobody is known. */
const struct pfl_identity *pfl_origins_holder(const struct pfl_driver *d, const char *addr);
/** The node at this address is lost. */
void pfl_origins_lost(struct pfl_origins *o, const char *addr);
/** Adds what was signed and verified to a status. */
void pfl_origins_status(const struct pfl_driver *d, json_t *status);
/** What this identity may do here: enum pfl_right. */
unsigned pfl_driver_rights(const struct pfl_driver *d, const struct pfl_identity *id);
/** This node as the signer of its operator's commands; freed by pfl_signer_deinit. */
void pfl_origins_self(const struct pfl_driver *d, struct pfl_signer *ret);
void pfl_signer_deinit(struct pfl_signer *s);

/** One message on its way through a worker. */
struct pfl_check {
    struct pfl_msg *msg;       /* a reference */
    struct pfl_tls *tls;       /* the same; NULL: nothing is to be checked */
    struct pfl_author *author; /* the same; NULL until it is known */
    unsigned generation;
    bool good;                         /* the signature is the author's */
    struct pfl_accusation *accusation; /* owned: what became of the evidence in it; NULL: there is none, or it was not looked at */
    pfl_ns spent;
};
void pfl_check_init(struct pfl_driver *d, struct pfl_msg *msg, struct pfl_check *ret);
void pfl_check_run(struct pfl_check *c); /* on a worker */
/** What the event says of its signer; *ret and why (PFL_ERR_MAX bytes) are what it then points to. call: the token of who sent it.
 */
void pfl_check_judge(struct pfl_driver *d, struct pfl_check *c, uint64_t call, struct pfl_event *ev, struct pfl_signer *ret,
                     char *why);
void pfl_check_deinit(struct pfl_check *c);

#endif
