/* SPDX-License-Identifier: Apache-2.0 */
/* Models on their way. Outgoing: a push asks with PRE_SEND_MODEL first and sends only on "true"; what it is good for is decided
 * anew whenever something happens (wanted), so a push that became pointless is never sent. Incoming: an offer that was answered
 * "true" keeps others from sending the same until it arrived, its sender is lost, or its time is over. */
#ifndef PFL_MESH_SPREAD_H
#define PFL_MESH_SPREAD_H

#include "base/clock.h"
#include "base/str.h"
#include "mesh/limits.h"
#include "wire/payload.h"

enum pfl_push_kind { PFL_PUSH_INIT, PFL_PUSH_PARTIAL, PFL_PUSH_ADD };
const char *pfl_push_command(enum pfl_push_kind k); /* "init_model", "partial_model", "add_model" */

enum pfl_push_state {
    PFL_PUSH_WAIT, /* asks at `at` */
    PFL_PUSH_ASK,  /* PRE_SEND_MODEL is out; given up at `at` */
    PFL_PUSH_SEND, /* the model is out; given up at `at` */
    PFL_PUSH_DONE, /* answered without an error; counts as delivered until `at`, then asks again if it is wanted still */
};
struct pfl_push {
    enum pfl_push_kind kind;
    enum pfl_push_state state;
    int32_t round;
    char *to;                     /* owned */
    struct pfl_strs contributors; /* sorted; partial only */
    struct pfl_payload *payload;  /* a reference */
    uint64_t n_samples;
    uint64_t id; /* of the SEND under way */
    pfl_ns at;
    bool wanted;
    bool whole; /* not compressed: it was refused so */
};
struct pfl_spread {
    struct pfl_push **items; /* owned, each owned, in order of creation */
    size_t n, cap;
};
void pfl_spread_deinit(struct pfl_spread *s);
/** The push of that kind, round, target and contributors (NULL: none), or NULL. */
struct pfl_push *pfl_spread_find(const struct pfl_spread *s, enum pfl_push_kind kind, int32_t round, const char *to,
                                 const struct pfl_strs *contributors);
struct pfl_push *pfl_spread_by_id(const struct pfl_spread *s, uint64_t id);
/** Finds or makes it (state WAIT, at now) and sets wanted. References and copies are taken of what is given. */
struct pfl_push *pfl_spread_want(struct pfl_spread *s, enum pfl_push_kind kind, int32_t round, const char *to,
                                 const struct pfl_strs *contributors, struct pfl_payload *payload, uint64_t n_samples, pfl_ns now);
/** Forgets what was delivered to this target, and what waits; what is under way stays. */
void pfl_spread_forget(struct pfl_spread *s, const char *to);
/** wanted = false on all: a plan begins. */
void pfl_spread_begin(struct pfl_spread *s);
/** Removes what is not wanted and not under way: a plan ends. */
void pfl_spread_sweep(struct pfl_spread *s);
/** Is a model with this contributor under way to, or delivered to, that target? */
bool pfl_spread_covers(const struct pfl_spread *s, int32_t round, const char *to, const char *contributor);
pfl_ns pfl_spread_deadline(const struct pfl_spread *s);

struct pfl_offer {
    enum pfl_push_kind kind;
    int32_t round;
    char *from;                   /* owned */
    struct pfl_strs contributors; /* partial only */
    pfl_ns until;
    bool contested; /* another one offered it, and was told that this one is sending */
    bool vacant;    /* its sender lost it on the way: kept for another one until `until` */
};
struct pfl_offers {
    struct pfl_offer *items; /* owned */
    size_t n, cap;
};
void pfl_offers_deinit(struct pfl_offers *o);
/** True: `from` may send, until then; the mark is made or renewed. False: somebody else is sending that or a part of it, or too
 * many are. Who asks again while it is marked has lost the model, or the answer, on the way: where others offered the same
 * meanwhile, it is one of them that may send, whoever asks first until `vacant_until`; so one bad link does not keep a model away
 * that others have. */
bool pfl_offers_take(struct pfl_offers *o, enum pfl_push_kind kind, int32_t round, const char *from,
                     const struct pfl_strs *contributors, pfl_ns now, pfl_ns until, pfl_ns vacant_until);
void pfl_offers_arrived(struct pfl_offers *o, enum pfl_push_kind kind, int32_t round, const char *from);
/** The same for who passed on what somebody else sent. */
void pfl_offers_fulfilled(struct pfl_offers *o, enum pfl_push_kind kind, int32_t round, const struct pfl_strs *contributors);
void pfl_offers_forget(struct pfl_offers *o, const char *from); /* the sender is lost */

#endif
