/* SPDX-License-Identifier: Apache-2.0 */
/* Every limit of a connection and why it is what it is. A peer that goes past one loses the call or the connection. */
#ifndef PFL_RPC_LIMITS_H
#define PFL_RPC_LIMITS_H

#include "base/clock.h"

enum {
    /* gRPC's framing: one byte of flags, four of length. */
    PFL_RPC_PREFIX_LEN = 5,
    /* Longest method path; longer ones are no method of anybody's. */
    PFL_RPC_PATH_MAX = 256,
    /* Longest status message that is kept or sent, decoded. */
    PFL_RPC_MESSAGE_MAX = 256,
    /* Response that a client takes where its options name no limit: gRPC's own default. */
    PFL_RPC_RESPONSE_MAX = 4 << 20,
    /* Requests of built-in services: a service or symbol name. */
    PFL_RPC_BUILTIN_REQUEST_MAX = 4 << 10,

    /* Names and values of one header block, with 32 bytes for each field as HTTP/2 counts: gRPC's is 8 KiB, and long metadata
       exists. */
    PFL_H2_HEADER_LIST_MAX = 16 << 10,
    /* Calls at once on a connection: a neighbour has a few under way; each costs about 1 KiB before its message begins. */
    PFL_H2_STREAMS_MAX = 128,
    /* What a peer may have under way: a stream, so that one large model is never held up by round trips (1 GB/s at 8 ms) ... */
    PFL_H2_STREAM_WINDOW = 16 << 20,
    /* ... and all of them together. Nothing is buffered behind the window: bytes go straight into the message that they belong to.
     */
    PFL_H2_CONNECTION_WINDOW = 64 << 20,
    /* Largest frame sent or taken. A small message waits for at most one frame of another stream: 1 MiB is about 1 ms. */
    PFL_H2_FRAME_MAX = 1 << 20,
    /* SETTINGS and PING answers waiting to be written: a peer that asks and never reads is cut (CVE-2019-9512, -9515). */
    PFL_H2_OUTBOUND_ACKS_MAX = 256,
    PFL_H2_SETTINGS_MAX = 16,     /* entries in one SETTINGS frame: nine are defined */
    PFL_H2_CONTINUATIONS_MAX = 4, /* frames behind one HEADERS: the list limit fits in one (CVE-2024-28182) */
    /* Streams that a peer resets: at first, and per second (CVE-2023-44487). */
    PFL_H2_RESETS_BURST = 1000,
    PFL_H2_RESETS_PER_S = 50,
    /* Frames that cost work and carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA): at first, and per second.
     * Every call and every 2 KiB moved allow some more, since honest peers send them in proportion. */
    PFL_H2_EMPTY_BURST = 4000,
    PFL_H2_EMPTY_PER_S = 500,
    PFL_H2_EMPTY_PER_CALL = 8,
    PFL_H2_EMPTY_BYTES = 2 << 10,

    /* Replies of a streaming method that its client has not read. */
    PFL_RPC_STREAM_BACKLOG_MAX = 32,

    /* Bytes of a request that are read away behind its early answer before the client is asked to stop. */
    PFL_RPC_DISCARD_MAX = 64 << 10,

    /* Bytes of a request that are progress, within PFL_RPC_READ_STALL: a TLS record, some 550 bytes a second. Who sends a byte now
       and then to keep its call (and the memory that its length prefix was given) is no slow network: honest calls have a deadline
       long before. What we write is progress by the record anyway. */
    PFL_RPC_READ_PROGRESS = 16 << 10,

    PFL_RPC_CONNECTIONS_MAX = 1024,
    PFL_RPC_CONNECTIONS_PER_IP_MAX = 256, /* of IPv6 per /64; many nodes share a machine in experiments */
    /* TLS handshakes under way: each costs a signature and holds about 100 KiB. Twice what one address may have, so that nobody
       keeps all others out with one. */
    PFL_RPC_HANDSHAKES_MAX = 512,
    PFL_RPC_BACKLOG = 511,

    /* Bytes in the kernel that are not sent yet: whatever is small and new waits behind at most these and one frame. */
    PFL_RPC_NOTSENT_LOWAT = 256 << 10,
    PFL_RPC_RECORD = 16 << 10, /* plaintext of one TLS record */
    /* Bytes moved for one connection before others get their turn. */
    PFL_RPC_TURN_BYTES = 1 << 20,
    PFL_RPC_ACCEPTS_PER_TURN = 64,
};

/* From the first byte to HTTP/2 settings. */
#define PFL_RPC_HANDSHAKE_TIMEOUT (10 * PFL_SEC)
#define PFL_RPC_CONNECT_TIMEOUT   (10 * PFL_SEC)
/* A quiet connection is asked with a PING; then the answer, or any sign of life, has to come (within the period, where that is
 * less). */
#define PFL_RPC_PING_PERIOD  (30 * PFL_SEC)
#define PFL_RPC_PING_TIMEOUT (10 * PFL_SEC)
/* Bytes wait to be written and the peer takes none. */
#define PFL_RPC_WRITE_STALL (30 * PFL_SEC)
/* A request has begun, and neither its end nor PFL_RPC_READ_PROGRESS of its bytes come. */
#define PFL_RPC_READ_STALL (30 * PFL_SEC)
/* After our last byte the peer's are read away for this long: closing a socket with unread bytes resets it, and a reset destroys
 * what was sent before it (the alert that says why). */
#define PFL_RPC_LINGER      (500 * PFL_MS)
#define PFL_RPC_BACKOFF_MIN (200 * PFL_MS)
#define PFL_RPC_BACKOFF_MAX (10 * PFL_SEC)
/* Time between the GOAWAY that asks for no new calls and the one that refuses them: until the peer answers a PING, at most this. */
#define PFL_RPC_GOAWAY_NOTICE PFL_SEC
/* How often the wall clock is compared with the end of the peer's certificate, beside at that time itself. */
#define PFL_RPC_EXPIRY_LOOK (60 * PFL_SEC)
/* Calls of a connection that is being replaced have this long to end. */
#define PFL_RPC_DRAIN (60 * PFL_SEC)

#endif
