/* SPDX-License-Identifier: Apache-2.0 */
/* What the client's files share: channel.c (state, connections), dial.c (names and sockets), channel_call.c (calls). */
#ifndef PFL_RPC_CHANNEL_IMPL_H
#define PFL_RPC_CHANNEL_IMPL_H

#include "base/rng.h"
#include "rpc/conn.h"
#include "rpc/headers.h"

enum { PFL_DIAL_ADDRS_MAX = 8 };

enum pfl_channel_state {
    PFL_CHANNEL_IDLE,
    PFL_CHANNEL_DIALLING,
    PFL_CHANNEL_READY,
    PFL_CHANNEL_BACKOFF,
};

struct pfl_rpc_channel {
    uv_loop_t *loop;
    struct pfl_addr target;
    char text[PFL_ADDR_MAX + 16]; /* the target, also what goes into :authority */
    struct pfl_tls *tls;          /* owned reference; NULL: plaintext */
    void *user;
    bool (*check_peer)(void *user, const struct pfl_rpc_peer *peer, struct pfl_err *err);
    void (*on_state)(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason);
    void (*on_not_replaced)(void *user, const char *reason);
    size_t response_limit;
    pfl_ns connect_timeout, backoff_min, backoff_max, ping_period;

    enum pfl_channel_state state;
    bool closing, dial_pending, resolving;
    unsigned n_short;                /* connections in a row that the server ended soon */
    bool told_revoked;               /* the connection that was lost last ended with that alert */
    struct pfl_client_conn *current; /* dialling or ready; NULL else */
    struct pfl_client_conn *old;     /* of the context before, takes the calls until its successor is ready; NULL else */
    unsigned generation;             /* of tls */
    struct pfl_client_conn *conns;   /* all, those that drain or linger too */
    struct sockaddr_storage addrs[PFL_DIAL_ADDRS_MAX];
    size_t n_addrs, next_addr;
    pfl_ns dial_deadline, backoff, backoff_until;
    struct pfl_rng rng;
    enum pfl_rc last_rc;
    char last_reason[PFL_ERR_MAX];

    struct pfl_client_call *calls, *calls_last;        /* not finished */
    struct pfl_client_call *finished, **finished_tail; /* done is to be called */
    uv_timer_t timer;
    pfl_ns timer_due;
    bool timer_closed;
    uv_getaddrinfo_t resolve;
    struct pfl_rpc_counters counters;
    void (*closed)(void *user);
    void *closed_user;
};

struct pfl_client_conn {
    struct pfl_rpc_channel *channel;
    struct pfl_conn *conn;
    unsigned generation; /* of the context that it was made with */
    struct pfl_client_conn *prev, *next;
    struct pfl_client_stream *streams;
};

/* ---- channel.c ---- */
void pfl_channel_due_at(struct pfl_rpc_channel *ch, pfl_ns when);
/** An address did not work out (or name resolution): the next one, or the end of this attempt. */
void pfl_channel_attempt_failed(struct pfl_rpc_channel *ch, enum pfl_rc rc, const char *reason);
/** Connects to addrs[next_addr]. */
void pfl_channel_attempt(struct pfl_rpc_channel *ch);
void pfl_channel_maybe_closed(struct pfl_rpc_channel *ch);
/** The connection that takes calls now; NULL: they wait. */
struct pfl_client_conn *pfl_channel_serving(const struct pfl_rpc_channel *ch);
/** Dials soon unless it does already. */
void pfl_channel_want(struct pfl_rpc_channel *ch);

/* ---- dial.c ---- */
void pfl_channel_resolve(struct pfl_rpc_channel *ch); /* ends in attempt or attempt_failed, at once or later */
/** A socket with connect() under way; -1 with errno. */
int pfl_channel_socket(const struct sockaddr_storage *sa);

/* ---- channel_call.c ---- */
int pfl_client_begin_headers(struct pfl_conn *c, const nghttp2_frame *frame);
int pfl_client_header(struct pfl_conn *c, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                      size_t value_len);
int pfl_client_data(struct pfl_conn *c, int32_t stream_id, struct pfl_bytes data);
void pfl_client_headers_done(struct pfl_conn *c, const nghttp2_frame *frame);
int pfl_client_stream_closed(struct pfl_conn *c, int32_t stream_id, uint32_t error_code);
void pfl_client_streams_free(struct pfl_client_conn *cc, int code,
                             const char *reason); /* the connection is gone: their calls fail */
void pfl_client_submit_waiting(struct pfl_rpc_channel *ch);
void pfl_client_fail_waiting(struct pfl_rpc_channel *ch, int code, const char *reason); /* those without a stream */
void pfl_client_cancel_all(struct pfl_rpc_channel *ch);
void pfl_client_deliver(struct pfl_rpc_channel *ch);
pfl_ns pfl_client_due(struct pfl_rpc_channel *ch, pfl_ns now); /* deadlines */

#endif
