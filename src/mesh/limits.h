/* SPDX-License-Identifier: Apache-2.0 */
/* What neighbours may make the mesh hold, and why. */
#ifndef PFL_MESH_LIMITS_H
#define PFL_MESH_LIMITS_H

enum {
    PFL_GOSSIP_TTL_MAX = 64, /* a larger ttl is lowered to this before it is passed on: no federation is that wide */
    /* Gossip under way to one neighbour; what is beyond it waits. More than a small federation says at once; and a thousand votes
       are with a neighbour that is 50 ms away in 2 s. */
    PFL_WINDOW = 32,
    PFL_LANE_MAX = 128, /* the same, with what was lost and waits to be sent again, or whose answer stays away */
    /* Messages under way to all neighbours, and lost ones that wait to be sent again; the oldest of these give way. 32 neighbours'
       worth. */
    PFL_OUTBOX_MAX = 4096,
    PFL_OUTBOX_BYTES_MAX = 16 << 20, /* of them, each counted by itself: a message of the largest size 64 times */
    PFL_OUTBOX_ATTEMPTS_MAX = 40,    /* then the message is given up: longer than the heartbeat's timeout */
    /* Messages that some neighbour was not given yet; the oldest give way. Some rounds of a federation of a thousand: one that is
       cut off for the heartbeat's timeout misses fewer. */
    PFL_FLOODED_MAX = 8192,
    PFL_FLOODED_BYTES_MAX = 24 << 20,
    PFL_RECENT_MAX = 512,           /* of them the newest, kept for neighbours that come: some rounds of a small federation */
    PFL_RECENT_BYTES_MAX = 8 << 20, /* of them; with its signature a message is 1 KB, so the number counts first but in a flood */
    PFL_PEER_CALLS_MAX = 8,         /* callers that wait for one link; more are refused */
    PFL_CONTACTS_MAX = 65535,       /* their numbers have 16 bits; a node may know far fewer others */
    PFL_OFFERS_MAX = 256,           /* models that others said they would send: more than there are senders */
};

#endif
