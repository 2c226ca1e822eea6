/* SPDX-License-Identifier: Apache-2.0 */
/* Flooding: which gossip messages were here already, and which did not reach a neighbour yet.
 * P2PFL floods without acknowledgement beyond the call's own; what a call could not deliver is offered again from the outbox,
 * so that one lost vote does not make two nodes see two train sets. */
#ifndef PFL_MESH_GOSSIP_H
#define PFL_MESH_GOSSIP_H

#include "base/clock.h"
#include "mesh/limits.h"
#include "wire/msg.h"

/** A message on its way to one neighbour, or waiting to be sent to it again. */
struct pfl_parcel {
    uint64_t id;              /* of the SEND; 0: waiting */
    const char *to;           /* borrowed until it is forgotten */
    struct pfl_scatter *body; /* a reference */
    unsigned attempts;
    uint32_t bytes;  /* of body, when it was added: a signature comes later */
    pfl_ns due;      /* waiting: not before */
    bool expendable; /* not sent again: the next beat replaces a lost one */
};
struct pfl_outbox {
    struct pfl_parcel *items; /* oldest first; within block */
    struct pfl_parcel *block; /* owned, cap: the oldest are answered first, and what is behind them does not move then */
    size_t n, cap;
    size_t n_waiting; /* of them with id 0 */
    size_t bytes;     /* of all bodies, PFL_OUTBOX_BYTES_MAX at most or one */
    uint64_t dropped; /* gave way or were given up */
};
void pfl_outbox_deinit(struct pfl_outbox *o);
/** A waiting parcel is sent. */
static inline void pfl_parcel_send(struct pfl_outbox *o, struct pfl_parcel *p, uint64_t id)
{
    o->n_waiting -= p->id == 0 && id != 0;
    p->attempts++;
    p->id = id;
}
/** Takes a reference to body; borrows `to` until pfl_outbox_forget of the same. id 0: waits until due. */
void pfl_outbox_add(struct pfl_outbox *o, const char *to, struct pfl_scatter *body, uint64_t id, pfl_ns due, bool expendable);
/** The SEND ended. Delivered (or expendable, or tried too often): forgotten; else it waits until retry_at.
 *  False where the id is none of ours. *ret_to: to whom, borrowed as before. *ret_attempts: how often it was tried. */
bool pfl_outbox_sent(struct pfl_outbox *o, uint64_t id, bool delivered, pfl_ns retry_at, const char **ret_to,
                     unsigned *ret_attempts);
/** Forgets all that is for this address. */
void pfl_outbox_forget(struct pfl_outbox *o, const char *to);

/** What was flooded lately, our own and others': a neighbour that comes is given it, so that two halves of a network that was
 *  torn apart learn what they missed. Whoever has it already drops it by its hash. */
struct pfl_history {
    struct pfl_past {
        struct pfl_scatter *body; /* a reference: of our own, which may wait for its signature; else NULL */
        struct pfl_blob *blob;    /* a reference: another's as it came, held once by all who were given the same bytes */
        int32_t ttl;              /* with which that is passed on */
        uint32_t bytes;           /* as it was added */
        pfl_ns at;
    } * items; /* owned: a ring of cap, PFL_HISTORY_MAX at most */
    size_t n, next, cap;
    size_t bytes; /* of all, PFL_HISTORY_BYTES_MAX at most or one message */
};
/** Our own. Takes a reference. */
void pfl_history_add(struct pfl_history *h, struct pfl_scatter *body, pfl_ns now);
/** Gossip that was decoded from blob, and passed on with that ttl. Takes a reference. */
void pfl_history_add_blob(struct pfl_history *h, struct pfl_blob *blob, int32_t ttl, pfl_ns now);
/** Lets go of what was flooded before that time. */
void pfl_history_expire(struct pfl_history *h, pfl_ns before);
/** The i-th, oldest first, or NULL where there are not as many. */
const struct pfl_past *pfl_history_at(const struct pfl_history *h, size_t i);
/** What was flooded; a new reference. NULL: it cannot be encoded any more, which does not happen to what was flooded. */
struct pfl_scatter *pfl_past_body(const struct pfl_past *p);
void pfl_history_clear(struct pfl_history *h);

#endif
