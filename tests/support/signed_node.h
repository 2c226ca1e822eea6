/* SPDX-License-Identifier: Apache-2.0 */
/* One node that takes signed messages, driven by hand: events say who signed, so there are no keys and no sockets. */
#ifndef PFL_TESTS_SIGNED_NODE_H
#define PFL_TESTS_SIGNED_NODE_H

#include "node/node.h"

#define ME "10.0.0.1:1"
#define A  "10.0.0.2:1"
#define B  "10.0.0.3:1"
#define C  "10.0.0.4:1"

struct world {
    struct pfl_node *node; /* at ME; has its model */
    struct pfl_layout *layout;
    struct pfl_payload *payload;
    struct pfl_actions out; /* of the last step */
    pfl_ns now;
};

/** What the wall clock says when the node's own clock is at 0. */
extern const pfl_ns epoch;

struct world *world_new(bool interop);
void world_free(struct world *w);
/** A millisecond later; sets the event's times. */
void step(struct world *w, struct pfl_event *ev);
/** MESSAGE; takes ev->msg. The answer: "" for success, else the error; borrowed until the next step. */
const char *deliver(struct world *w, struct pfl_event *ev);
/** Actions of the last step; of notes those of that kind. */
unsigned count(const struct world *w, enum pfl_action_kind kind, enum pfl_note_kind note);
/** What a SEND carries, decoded; a reference. */
struct pfl_msg *sent_msg(const struct pfl_action *a);

#endif
