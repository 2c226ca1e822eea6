/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP/2 connection over TLS (or plain) on a non-blocking socket: what server and client have in common. It owns the socket,
 * the TLS session, the nghttp2 session and one timer; what streams mean is its owner's.
 *
 * Life: CONNECTING (client) -> HANDSHAKE -> SETTLING (HTTP/2 has begun, the peer's SETTINGS are awaited) -> OPEN -> LINGER -> DEAD.
 * Every callback comes from the loop (I/O, timer, close), none from within a call into this file. A connection never fails its
 * caller: trouble becomes `lost` a moment later. After `lost` it may linger for a while, so that the peer can read what was said
 * last; `closed` comes when its handles are closed, and the memory is freed behind it. */
#ifndef PFL_RPC_CONN_H
#define PFL_RPC_CONN_H

#include <nghttp2/nghttp2.h>

#include "rpc/limits.h"
#include "rpc/message.h"
#include "rpc/rpc.h"
#include "tls/session.h"

/** What is known of a peer; shared by the connection and by calls that outlive it. */
struct pfl_peer {
    unsigned refs;
    struct pfl_rpc_peer pub; /* first for nobody: convert with the member */
};
struct pfl_peer *pfl_peer_ref(struct pfl_peer *p);
void pfl_peer_unref(struct pfl_peer *p); /* accepts NULL */

/** The part of a stream that the connection needs to write DATA: set as nghttp2's data source. Owner's types embed it first. */
struct pfl_stream {
    int32_t id;
    struct pfl_msg_out *out; /* what DATA frames are cut from; owned reference */
};

struct pfl_conn;
struct pfl_conn_ops {
    /** The TLS handshake is over and the certificate checked: false with *err refuses the peer. */
    bool (*admit)(struct pfl_conn *c, struct pfl_err *err);
    /** The peer's SETTINGS are in. */
    void (*ready)(struct pfl_conn *c);
    /** nghttp2's events; the return values are nghttp2's. */
    int (*begin_headers)(struct pfl_conn *c, const nghttp2_frame *frame);
    int (*header)(struct pfl_conn *c, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                  size_t value_len);
    int (*data)(struct pfl_conn *c, int32_t stream_id, struct pfl_bytes data);
    int (*frame)(struct pfl_conn *c, const nghttp2_frame *frame); /* received */
    int (*stream_closed)(struct pfl_conn *c, int32_t stream_id, uint32_t error_code);
    /** Servers only, may be NULL: a plain request over HTTP/1.1. */
    void (*http)(struct pfl_conn *c, const struct pfl_http_request *request, struct pfl_http_response *ret);
    /** Some I/O is over: deliver what was put off. */
    void (*after_io)(struct pfl_conn *c);
    /** Do what is due; returns when the next thing is. */
    pfl_ns (*due)(struct pfl_conn *c, pfl_ns now);
    /** Over: streams that the owner still knows have ended with it. Comes once. reason is never NULL. */
    void (*lost)(struct pfl_conn *c, enum pfl_rc rc, const char *reason);
    /** The last one: freed behind this. */
    void (*closed)(struct pfl_conn *c);
};

enum pfl_conn_state { PFL_CONN_CONNECTING, PFL_CONN_HANDSHAKE, PFL_CONN_SETTLING, PFL_CONN_OPEN, PFL_CONN_LINGER, PFL_CONN_DEAD };

struct pfl_conn_opts {
    uv_loop_t *loop;
    int fd; /* taken: closed with the connection */
    bool is_server;
    bool connecting;      /* connect() is under way */
    struct pfl_tls *tls;  /* NULL: plaintext */
    const char *host;     /* client: to be covered by the peer's certificate; NULL: not checked */
    const char *remote;   /* the peer's address, copied */
    pfl_ns setup_timeout; /* until OPEN */
    pfl_ns ping_period;
    pfl_ns read_stall, write_stall; /* 0: defaults */
    unsigned streams_max;
    const struct pfl_conn_ops *ops;
    void *owner;
    struct pfl_rpc_counters *counters; /* the owner's, counted up */
};

struct pfl_conn {
    enum pfl_conn_state state;
    bool is_server, in_io, write_blocked, write_failed;
    bool peer_goaway;  /* the peer closes in good order */
    bool pinged;       /* a PING of ours is not answered yet */
    bool draining;     /* no new streams; closes when the last has ended */
    bool closing;      /* GOAWAY is on its way out, the end follows; the reason stands already */
    bool expired;      /* closed for that */
    bool ending, lost; /* over: `lost` is to be called; was called */
    int fd;
    int n_handles; /* not closed yet */
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_idle_t turn; /* what is due at once, after the other handles had their turn */
    int poll_events;
    pfl_ns timer_due;
    struct pfl_tls_session *tls; /* NULL: plaintext */
    nghttp2_session *h2;         /* NULL before the handshake is over, and where http1 is not */
    struct pfl_http1 *http1;     /* owned; NULL but on servers for old EST clients */
    struct pfl_peer *peer;
    const struct pfl_conn_ops *ops;
    void *owner;
    struct pfl_conn *prev, *next; /* the owner's list */
    struct pfl_rpc_counters *counters;
    size_t n_streams; /* kept by the owner: pings as a client and draining look at it */
    unsigned streams_max;

    pfl_ns setup_deadline, drain_deadline, goaway_at, linger_deadline, ping_period, pinged_at, opened_at;
    pfl_ns last_alive;    /* the peer was heard, or took bytes from us */
    pfl_ns blocked_since; /* PFL_NEVER: not blocked */
    pfl_ns read_stall, write_stall;
    double empty_tokens; /* see PFL_H2_EMPTY_BURST */
    pfl_ns empty_at;

    uint8_t wbuf[PFL_RPC_RECORD]; /* small frames, joined into one record */
    size_t wpos, wlen;
    struct pfl_msg_out *direct; /* the frame whose content is written straight from the message */
    size_t direct_left;
    struct pfl_bytes tail; /* nghttp2's bytes that come behind it */

    enum pfl_rc lost_rc;
    char lost_reason[PFL_ERR_MAX];
    char h2_error[128]; /* what nghttp2 said last of the peer's frames */
};

/** NULL where the system gives no poll handle (the socket is closed then). */
struct pfl_conn *pfl_conn_new(const struct pfl_conn_opts *opts);
/** Write what was submitted to c->h2, unless that happens anyway. */
void pfl_conn_kick(struct pfl_conn *c);
/** The timer looks at `due` not later than then. */
void pfl_conn_due_at(struct pfl_conn *c, pfl_ns when);
/** Ends the connection at once; `lost` follows with this reason. The first reason given stays. */
void pfl_conn_fail(struct pfl_conn *c, enum pfl_rc rc, const char *fmt, ...) PFL_PRINTF(3, 4);
/** The same, but the peer gets time to read what was sent to it last. */
void pfl_conn_refuse(struct pfl_conn *c, enum pfl_rc rc, const char *fmt, ...) PFL_PRINTF(3, 4);
/** Judges the peer by another context (see pfl_tls_session_revise) and closes the connection where it is refused: GOAWAY with the
 *  reason, and nothing is read any more. True where it was closed. */
bool pfl_conn_revise(struct pfl_conn *c, struct pfl_tls *tls, enum pfl_verify_why *ret_why, struct pfl_err *ret_reason);
/** GOAWAY, then the bytes on their way, then the end. */
void pfl_conn_close(struct pfl_conn *c, enum pfl_rc rc, const char *fmt, ...) PFL_PRINTF(3, 4);
/** GOAWAY; closes by itself when no stream is left, at the latest after grace. */
void pfl_conn_drain(struct pfl_conn *c, pfl_ns grace, enum pfl_rc rc, const char *reason);
/** The owner calls this when a stream of c has ended, with n_streams up to date. */
void pfl_conn_stream_ended(struct pfl_conn *c);
/** A call or bytes went over: the peer may send some more control frames. */
void pfl_conn_earn(struct pfl_conn *c, double tokens);

bool pfl_conn_over(const struct pfl_conn *c); /* LINGER or DEAD: nothing is read or written any more */

/** What a server's PING says behind the GOAWAY that asks for no new calls; the answer means that the peer has read it. For h2.c. */
extern const uint8_t PFL_H2_DRAIN_PING[8];
void pfl_conn_notice_heard(struct pfl_conn *c);
/** The timer looks when the peer's certificate ends. For h2.c. */
void pfl_conn_watch_expiry(struct pfl_conn *c);

/* ---- conn_io.c: bytes in and out; for conn.c ---- */
void pfl_conn_read(struct pfl_conn *c);
void pfl_conn_write(struct pfl_conn *c);
int pfl_conn_send_data(struct pfl_conn *c, const uint8_t *framehd, size_t len, struct pfl_msg_out *out);

enum pfl_tls_io pfl_conn_transport_read(struct pfl_conn *c, void *buf, size_t len, size_t *ret_n);
enum pfl_tls_io pfl_conn_transport_write(struct pfl_conn *c, const void *buf, size_t len, size_t *ret_n);

/* ---- h2.c: the nghttp2 session; for conn.c ---- */
void pfl_conn_h2_start(struct pfl_conn *c);

#endif
