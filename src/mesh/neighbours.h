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

struct pfl_peer {
    enum pfl_link_state link; /* set by pfl_neighbours_link */
    bool alive;               /* counts as a node of the network: linked or heard of, not evicted */
    bool ours;                /* sent a Hello: speaks what our nodes add */
    bool states;              /* its Hello says that it answers `state` */
    bool proves;              /* its Hello says that it takes evidence against others */
    bool signs;               /* a message of its was signed: nothing that is not counts in its name */
    bool unpacks;             /* its Hello says that it takes compressed contributions */
    bool plain;               /* shook hands or answered without one: P2PFL's own node */
    bool beats;               /* its Hello says that it takes digests of beats; the others get each beat by itself */
    bool opening;             /* an OPEN is under way */
    bool asked;               /* that OPEN asks for the link by a handshake of ours */
    bool accepted;            /* its own handshake was granted while ours was under way */
    pfl_ns last_heard, alive_since;
    pfl_ns last_direct;       /* a call or an answer of its own, not by way of others */
    pfl_ns last_beat;         /* which comes by way of others; a call of its own does not show that gossip reaches us */
    pfl_ns retry_at, backoff; /* SUSPECT and not opening: when to dial again */
    pfl_ns granted_at;        /* when a handshake of its was granted last; 0: never */
    unsigned failures;        /* sends that failed in a row */
    /* Its beats, see mesh/beats.h. Digests of this node are numbered. */
    uint64_t count;             /* the newest of its; 0: it sent none that is counted */
    uint64_t count_digest;      /* the digest of this node that is the first to tell it */
    struct pfl_peer *count_by;  /* the neighbour that told it, which need not be told; borrowed */
    int32_t fits;               /* the round that it trained in at its newest beat, or PFL_BEAT_IDLE */
    uint64_t told, told_surely; /* a neighbour: the first digest that it has not been given, and that surely arrived */
    uint64_t digest_id;         /* the SEND of the last digest to it */
    /* It is silent since asked_since: neighbours were asked whether they hear it, their answers count until asked_until. */
    pfl_ns asked_since, asked_until;
    unsigned questions, unheard; /* how many have not answered, and have said no */
    bool curious;                /* a neighbour that is to be asked for its state */
    bool joins;                  /* it asked for ours and is behind: it is given models */
    bool anew;                   /* it shook hands while there was a link: it lost its side */
    struct pfl_peer_call *calls; /* owned, PFL_PEER_CALLS_MAX; NULL: nobody ever waited */
    size_t n_calls;
    /* What the experiment knows of it; reset when one starts. */
    bool takes_part;       /* was there at the start, or showed since that it learns too */
    bool initialized;      /* announced its initial model */
    char *initialized_for; /* owned: of the experiment that it signed for; NULL: it did not sign */
    int32_t from;          /* the round from which on it takes part */
    bool lapsed;           /* let a vote time out; not waited for until it votes again */
    char addr[];
};

struct pfl_neighbours {
    struct pfl_peer **items; /* owned, each owned; sorted by addr; a peer stays where it is until it is removed */
    size_t n, cap;
    struct pfl_peer **linked; /* owned: those of them with a link, in whatever state but NONE, in the same order: with a thousand
                                 known nodes, who looks at each of them at each message does nothing else */
    size_t n_linked, cap_linked;
};
void pfl_neighbours_deinit(struct pfl_neighbours *t);
/** NULL where there is none. */
struct pfl_peer *pfl_neighbours_find(const struct pfl_neighbours *t, const char *addr);
/** The same among those with a link only, which are few. */
struct pfl_peer *pfl_neighbours_find_linked(const struct pfl_neighbours *t, const char *addr);
/** The one that is there, or a new one with all fields zero. */
struct pfl_peer *pfl_neighbours_get(struct pfl_neighbours *t, const char *addr);
void pfl_neighbours_remove(struct pfl_neighbours *t, struct pfl_peer *p); /* frees p */
/** Its link is in that state from now on; keeps `linked`. */
void pfl_neighbours_link(struct pfl_neighbours *t, struct pfl_peer *p, enum pfl_link_state link);
bool pfl_neighbours_alive(const struct pfl_neighbours *t, const char *addr);
/** False where PFL_PEER_CALLS_MAX wait already. */
bool pfl_peer_wait(struct pfl_peer *p, uint64_t call, bool handshake);

/** The pause before the next dial: 200 ms, doubled up to 5 s. */
pfl_ns pfl_peer_backoff(struct pfl_peer *p);

#endif
