/* SPDX-License-Identifier: Apache-2.0 */
/* What neighbours may make the mesh hold, and why. */
#ifndef PFL_MESH_LIMITS_H
#define PFL_MESH_LIMITS_H

enum {
    PFL_GOSSIP_TTL_MAX = 64, /* a larger ttl is lowered to this before it is passed on: no federation is that wide */
    /* Undelivered messages over all neighbours; the oldest give way. A neighbour that is cut off for the heartbeat's timeout misses
       fewer. */
    PFL_OUTBOX_MAX = 1024,
    PFL_OUTBOX_BYTES_MAX = 32 << 20, /* of them, each counted by itself: a message of the largest size 128 times */
    PFL_OUTBOX_ATTEMPTS_MAX = 40,    /* then the message is given up: longer than the heartbeat's timeout */
    PFL_HISTORY_MAX = 512,           /* recent messages kept for neighbours that come: some rounds of a small federation */
    PFL_HISTORY_BYTES_MAX = 8 << 20, /* of them; with its signature a message is 1 KB, so the number counts first but in a flood */
    PFL_PEER_CALLS_MAX = 8,          /* callers that wait for one link; more are refused */
    PFL_OFFERS_MAX = 256,            /* models that others said they would send: more than there are senders */
};

#endif
