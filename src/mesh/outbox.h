/* SPDX-License-Identifier: Apache-2.0 */
/* Gossip on its way to neighbours. P2PFL floods without acknowledgement beyond the call's own; what a call could not deliver is
 * offered again from the outbox, so that one lost vote does not make two nodes see two train sets.
 *
 * When a thousand nodes vote, each of them has a thousand votes for each neighbour. A neighbour is given PFL_WINDOW of them at a
 * time; the others wait in what was flooded (mesh/flooded.h), where each lane knows which is its next. */
#ifndef PFL_MESH_OUTBOX_H
#define PFL_MESH_OUTBOX_H

#include "mesh/flooded.h"

/** A message on its way to one neighbour, or waiting to be sent to it again. */
struct pfl_parcel {
    uint64_t id;    /* of the SEND; 0: waiting */
    const char *to; /* borrowed until it is forgotten */
    struct pfl_past what;
    pfl_ns due; /* waiting: not before. Under way: since when */
    uint16_t attempts;
    bool expendable; /* not sent again: the next beat replaces a lost one */
    bool in_lane;    /* of what was flooded */
    bool in_window;  /* a call under way that its lane counts */
};
/** How far a neighbour was given what was flooded. */
struct pfl_lane {
    const char *to;    /* borrowed until it is forgotten */
    uint64_t next;     /* the number of the message that it is given next */
    uint32_t bit;      /* its own in pfl_past.has; 0: it is one of more than 32 */
    unsigned n;        /* parcels of this lane, PFL_LANE_MAX at most */
    unsigned n_window; /* of them under way, and not for so long that their answer is hardly still to come */
};
struct pfl_outbox {
    struct pfl_parcel *items; /* oldest first; within block */
    struct pfl_parcel *block; /* owned, cap: the oldest are answered first, and what is behind them does not move then */
    size_t n, cap;
    size_t n_waiting;       /* of them with id 0 */
    size_t bytes;           /* of all bodies, PFL_OUTBOX_BYTES_MAX at most or one */
    uint64_t dropped;       /* gave way, here or in what was flooded, or were given up */
    struct pfl_lane *lanes; /* owned, sorted by address */
    size_t n_lanes, cap_lanes;
};
void pfl_outbox_deinit(struct pfl_outbox *o);
/** A waiting parcel is sent. */
void pfl_parcel_send(struct pfl_outbox *o, struct pfl_parcel *p, uint64_t id, pfl_ns now);
/** Takes a reference to body; borrows `to` until pfl_outbox_forget of the same. id 0: waits until due. */
void pfl_outbox_add(struct pfl_outbox *o, const char *to, struct pfl_scatter *body, uint64_t id, pfl_ns due, bool expendable);
/** The SEND ended. Delivered (or expendable, or tried too often): forgotten; else it waits until retry_at.
 *  False where the id is none of ours. *ret_to: to whom, borrowed as before. *ret_attempts: how often it was tried. */
bool pfl_outbox_sent(struct pfl_outbox *o, uint64_t id, bool delivered, pfl_ns retry_at, const char **ret_to,
                     unsigned *ret_attempts);
/** Forgets all that is for this address, and its lane. */
void pfl_outbox_forget(struct pfl_outbox *o, const char *to);

/** The lane of this address (borrowed until pfl_outbox_forget), which stays where it is until there is another one; made where
 *  there is none, and given what comes from `next` on. */
struct pfl_lane *pfl_outbox_lane(struct pfl_outbox *o, const char *to, uint64_t next);
/** What the lane is given next, or NULL: there is nothing, or as much under way as may be. Moves it on. What its neighbour has is
 *  passed over, and what is not there any more, which is counted as dropped. */
const struct pfl_past *pfl_outbox_next(struct pfl_outbox *o, struct pfl_lane *lane, const struct pfl_flooded *f);
/** The same message was sent. */
void pfl_outbox_add_past(struct pfl_outbox *o, const struct pfl_lane *lane, const struct pfl_past *what, uint64_t id, pfl_ns now);
struct pfl_lane *pfl_outbox_find_lane(const struct pfl_outbox *o, const char *to); /* NULL: there is none */
/** Its neighbour sent the message with that tag itself. */
void pfl_outbox_has(const struct pfl_lane *lane, struct pfl_flooded *f, uint32_t tag);
/** It is given everything from there on, also what it sent: it came, and may have lost that. */
void pfl_outbox_again(struct pfl_lane *lane, struct pfl_flooded *f, uint64_t from);
/** The number before which all lanes were given everything. */
uint64_t pfl_outbox_given(const struct pfl_outbox *o);
/** Calls that are under way since then or for longer keep nothing else waiting. */
void pfl_outbox_age(struct pfl_outbox *o, pfl_ns since);
/** Since when (about) the oldest call is under way that keeps others waiting; PFL_NEVER: none does. */
pfl_ns pfl_outbox_oldest(const struct pfl_outbox *o);

#endif
