/* SPDX-License-Identifier: Apache-2.0 */
/* Who is there: the nodes that this one has a link with, and those it only hears of. Sorted by address, so that whatever
 * iterates over it does so in the same order on every node and in every run. */
#ifndef PFL_MESH_NEIGHBOURS_H
#define PFL_MESH_NEIGHBOURS_H

#include "base/clock.h"
#include "base/str.h"
#include "mesh/limits.h"

enum pfl_link_state {
    PFL_LINK_NONE,     /* known by its beats at most */
    PFL_LINK_DIALLING, /* an OPEN is under way and there was no link before */
    PFL_LINK_UP,
    PFL_LINK_SUSPECT, /* was up, the channel failed; tried again until the heartbeat timeout evicts the peer */
};

/** Somebody who waits to hear whether the link came up. */
struct pfl_peer_call {
    uint64_t call;
    bool handshake; /* a peer's handshake; else an operator's command */
};

/** What only those need that this node deals with itself: neighbours, those it dials or asks about, those that call it. */
struct pfl_contact {
    bool opening;               /* an OPEN is under way */
    bool asked;                 /* that OPEN asks for the link by a handshake of ours */
    bool accepted;              /* its own handshake was granted while ours was under way */
    bool anew;                  /* it shook hands while there was a link: it lost its side */
    unsigned failures;          /* sends that failed in a row */
    pfl_ns alive_since;         /* its link showed that it lives, and nothing else had before; 0: something had */
    pfl_ns last_direct;         /* a call or an answer of its own, not by way of others */
    pfl_ns retry_at, backoff;   /* SUSPECT and not opening: when to dial again */
    pfl_ns granted_at;          /* when a handshake of its was granted last; 0: never */
    uint32_t told, told_surely; /* a neighbour: the first digest that it has not been given, and that surely arrived */
    uint64_t digest_id;         /* the SEND of the last digest to it */
    /* It is silent since asked_since: neighbours were asked whether they hear it, their answers count until asked_until. */
    pfl_ns asked_since, asked_until;
    unsigned questions, unheard; /* how many have not answered, and have said no */
    pfl_ns proof_at;             /* when it was handed evidence for its question last; 0: never */
    int32_t from;                /* the round from which on it takes part in the experiment, where that is not the first */
    char *initialized_for;       /* owned: of the experiment that it signed for; NULL: it did not sign, or that is over */
    struct pfl_peer_call *calls; /* owned, PFL_PEER_CALLS_MAX; NULL: nobody ever waited */
    size_t n_calls;
};

/** Kept small: there is one for each node of the network. Counted: the table has it, and whoever keeps the address that it holds
 * for longer. Out of the table it is an address and nothing else. */
struct pfl_peer {
    pfl_ns last_heard; /* at all */
    pfl_ns last_beat;  /* which comes by way of others; a call of its own does not show that gossip reaches us */
    /* Its beats, see mesh/beats.h. Digests of this node are numbered. */
    uint64_t count;               /* the newest of its; 0: it sent none that is counted */
    uint32_t count_digest;        /* the digest of this node that is the first to tell `count` */
    int32_t fits;                 /* the round that it trained in at its newest beat, or PFL_BEAT_IDLE */
    uint16_t count_by;            /* the contact of the neighbour that told `count`, which need not be told; 0: none */
    uint16_t contact;             /* its number in the table, from 1; 0: none was needed yet */
    uint16_t refs;                /* the table's, and one of each round that is kept */
    enum pfl_link_state link : 2; /* set by pfl_neighbours_link */
    bool alive : 1;               /* counts as a node of the network: linked or heard of, not evicted */
    bool ours : 1;                /* sent a Hello: speaks what our nodes add */
    bool states : 1;              /* its Hello says that it answers `state` */
    bool proves : 1;              /* its Hello says that it takes evidence against others */
    bool signs : 1;               /* a message of its was signed: nothing that is not counts in its name */
    bool unpacks : 1;             /* its Hello says that it takes compressed contributions */
    bool plain : 1;               /* shook hands or answered without one: P2PFL's own node */
    bool beats : 1;               /* its Hello says that it takes digests of beats; the others get each beat by itself */
    bool curious : 1;             /* a neighbour that is to be asked for its state */
    bool joins : 1;               /* it asked for ours and is behind: it is given models */
    /* What the experiment knows of it; reset when one starts. */
    bool takes_part : 1;  /* was there at the start, or showed since that it learns too */
    bool initialized : 1; /* announced its initial model */
    bool lapsed : 1;      /* let a vote time out; not waited for until it votes again */
    char addr[];
};
/** One reference, in no table. */
struct pfl_peer *pfl_neighbour_new(const char *addr);
struct pfl_peer *pfl_neighbour_ref(struct pfl_peer *p);
void pfl_neighbour_unref(struct pfl_peer *p); /* NULL: nothing */

struct pfl_neighbours {
    struct pfl_peer **items; /* owned, a reference each; sorted by addr; a peer stays where it is until it is removed */
    size_t n, cap;
    struct pfl_peer **linked; /* owned: those of them with a link, in whatever state but NONE, in the same order: with a thousand
                                 known nodes, who looks at each of them at each message does nothing else */
    size_t n_linked, cap_linked;
    struct pfl_contact **contacts; /* owned, each owned; NULL: the number is free */
    size_t n_contacts;             /* PFL_CONTACTS_MAX at most */
};
void pfl_neighbours_deinit(struct pfl_neighbours *t);
/** NULL where there is none. */
struct pfl_peer *pfl_neighbours_find(const struct pfl_neighbours *t, const char *addr);
/** The same among those with a link only, which are few. */
struct pfl_peer *pfl_neighbours_find_linked(const struct pfl_neighbours *t, const char *addr);
/** The one that is there, or a new one with all fields zero. */
struct pfl_peer *pfl_neighbours_get(struct pfl_neighbours *t, const char *addr);
/** Frees p, or leaves its address alone to those who have a reference. */
void pfl_neighbours_remove(struct pfl_neighbours *t, struct pfl_peer *p);
/** Its link is in that state from now on; keeps `linked`. */
void pfl_neighbours_link(struct pfl_neighbours *t, struct pfl_peer *p, enum pfl_link_state link);
bool pfl_neighbours_alive(const struct pfl_neighbours *t, const char *addr);
/** Never NULL: all zero where there is none. Borrowed until p is removed. */
const struct pfl_contact *pfl_contact_of(const struct pfl_neighbours *t, const struct pfl_peer *p);
/** Made where there is none yet. */
struct pfl_contact *pfl_contact_get(struct pfl_neighbours *t, struct pfl_peer *p);
/** False where PFL_PEER_CALLS_MAX wait already. */
bool pfl_contact_wait(struct pfl_contact *c, uint64_t call, bool handshake);
/** The experiment that it signed its model_initialized for; NULL: none. Copied. */
void pfl_peer_initialized_for(struct pfl_neighbours *t, struct pfl_peer *p, const char *experiment);
/** The round from which on it takes part in the experiment. */
int32_t pfl_peer_from(const struct pfl_neighbours *t, const struct pfl_peer *p);
void pfl_peer_set_from(struct pfl_neighbours *t, struct pfl_peer *p, int32_t round);

/** The pause before the next dial: 200 ms, doubled up to 5 s. */
pfl_ns pfl_contact_backoff(struct pfl_contact *c);

#endif
