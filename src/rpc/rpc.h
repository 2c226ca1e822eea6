/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC unary calls over HTTP/2 over mutual TLS on a libuv loop. Everything here is called on the loop's thread.
 * A connection that misbehaves costs itself, never the server. Each received message lies in one blob whose size was checked
 * against the limit before it was allocated; each sent message is a scatter list that is written without being joined. */
#ifndef PFL_RPC_RPC_H
#define PFL_RPC_RPC_H

#include <uv.h>

#include "base/addr.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "tls/context.h"

/** gRPC status codes, by their numbers in the gRPC specification. */
enum pfl_grpc_code {
    PFL_GRPC_OK = 0,
    PFL_GRPC_CANCELLED,
    PFL_GRPC_UNKNOWN,
    PFL_GRPC_INVALID_ARGUMENT,
    PFL_GRPC_DEADLINE_EXCEEDED,
    PFL_GRPC_NOT_FOUND,
    PFL_GRPC_ALREADY_EXISTS,
    PFL_GRPC_PERMISSION_DENIED,
    PFL_GRPC_RESOURCE_EXHAUSTED,
    PFL_GRPC_FAILED_PRECONDITION,
    PFL_GRPC_ABORTED,
    PFL_GRPC_OUT_OF_RANGE,
    PFL_GRPC_UNIMPLEMENTED,
    PFL_GRPC_INTERNAL,
    PFL_GRPC_UNAVAILABLE,
    PFL_GRPC_DATA_LOSS,
    PFL_GRPC_UNAUTHENTICATED,
};
const char *pfl_grpc_code_name(int code); /* "UNAVAILABLE" */
struct pfl_rpc_status {
    int code;
    char message[256]; /* decoded, not yet quoted when from a peer */
};

/** What is known of the other side of a connection. */
struct pfl_rpc_peer {
    char remote[PFL_ADDR_MAX + 16];   /* "127.0.0.1:53422" or "unix" */
    struct pfl_identity *identity;    /* borrowed for the connection's life; NULL on plaintext */
    const char *tls_version, *cipher; /* "TLSv1.3", "TLS_AES_128_GCM_SHA256"; NULL on plaintext */
    int64_t uid;                      /* on Unix sockets: whose process is at the other end, by the kernel's word; -1 elsewhere */
};

/** Bytes to send; what the parts point to stays valid until release(owner) is called, exactly once, when the transport is done with
 * it. The array itself is copied. At most 4 GiB together (gRPC's own limit); a longer one is released and the call fails. */
struct pfl_rpc_body {
    const struct pfl_bytes *parts;
    size_t n;
    void (*release)(void *owner); /* may be NULL */
    void *owner;
};

/* ---- server ---- */
struct pfl_rpc_server;
struct pfl_rpc_call; /* one request being answered; valid until reply or fail is called on it, also when its connection is gone by
                        then */

/** A plain HTTP request (no gRPC), whole; everything is borrowed for the call. Texts are "" where absent. */
struct pfl_http_request {
    const char *method, *path;                /* "POST", "/.well-known/est/simpleenroll" */
    const char *content_type, *authorization; /* as sent */
    struct pfl_bytes body;
};
/** What the handler fills in. */
struct pfl_http_response {
    int status;               /* 200, 202, 401 (with a challenge for Basic), 404, … */
    const char *content_type; /* static; NULL: none */
    bool base64;              /* Content-Transfer-Encoding: base64 */
    int retry_after_s;        /* 0: not said */
    struct pfl_buf body;      /* owned by the caller, limited */
};

typedef void (*pfl_rpc_handler)(void *user, struct pfl_rpc_call *call,
                                struct pfl_blob *request); /* request borrowed: ref to keep */
struct pfl_rpc_method {
    const char *path; /* "/node.NodeServices/send" */
    pfl_rpc_handler handler;
    bool stream; /* every request message of the stream is given to the handler by itself and each gets one reply (reflection) */
};
struct pfl_rpc_server_opts {
    uv_loop_t *loop;
    const char *address; /* parsed by pfl_addr_parse; port 0 or a bare host picks a free port */
    struct pfl_tls *tls; /* a reference is taken. NULL: plaintext, allowed on loopback and unix only (else INVALID) */
    const struct pfl_rpc_method *methods; /* copied */
    size_t n_methods;
    void *user;
    /** A connection has come and its TLS begins when this returns: the last moment to give it another context. May be NULL. */
    void (*on_connection)(void *user);
    /** Largest request for this method from this peer, bytes; asked on the length prefix, before anything is allocated. */
    size_t (*request_limit)(void *user, const char *path, const struct pfl_rpc_peer *peer);
    /** A connection or handshake that was refused: who (certificate text or remote address) and why, in words. Both are quoted. */
    void (*on_refused)(void *user, const char *peer, const char *remote, const char *reason);
    unsigned connections_max, connections_per_ip_max, streams_max; /* 0: defaults in rpc/limits.h */
    pfl_ns handshake_timeout, idle_ping_period;                    /* 0: defaults. A peer that answers no PING is dropped */
    pfl_ns read_stall, write_stall; /* 0: defaults. A request of which no byte comes, a peer that takes no byte: see rpc/limits.h */
    /** Plain HTTP requests, answered at once; NULL: refused (405, 415). Over HTTP/1.1 too where tls allows that. */
    void (*http)(void *user, const struct pfl_rpc_peer *peer, const struct pfl_http_request *request,
                 struct pfl_http_response *ret);
    bool health, reflection; /* serve grpc.health.v1 and grpc.reflection.v1/v1alpha */
};
enum pfl_rc pfl_rpc_server_new(const struct pfl_rpc_server_opts *opts, struct pfl_rpc_server **ret,
                               struct pfl_err *err) PFL_WARN_UNUSED;
const char *pfl_rpc_server_address(const struct pfl_rpc_server *s); /* with the real port */
void pfl_rpc_server_set_tls(struct pfl_rpc_server *s,
                            struct pfl_tls *tls); /* for new connections; old ones are drained with GOAWAY, handshakes under way
                                                     too, when they are through */
/** GOAWAY, calls in flight get `grace` to end, then everything is closed; `closed` is called last and frees are done. */
void pfl_rpc_server_close(struct pfl_rpc_server *s, pfl_ns grace, void (*closed)(void *user), void *user);
/** Closes every connection of peers for which match() says so, with a reason for the log. Returns how many. */
unsigned pfl_rpc_server_drop(struct pfl_rpc_server *s, bool (*match)(void *user, const struct pfl_rpc_peer *), void *user,
                             const char *reason);

/** Another context with newer CRLs or another trust: new connections use it, handshakes under way are judged by it, and each live
 *  connection whose peer it would refuse is closed at once, with nothing read from it any more. dropped (may be NULL) is told of
 * each open one with the reason; peer is borrowed for the call. Nothing is drained. Returns how many open ones were closed. */
typedef void (*pfl_rpc_dropped)(void *user, const struct pfl_rpc_peer *peer, enum pfl_verify_why why, const char *reason);
unsigned pfl_rpc_server_revise(struct pfl_rpc_server *s, struct pfl_tls *tls, pfl_rpc_dropped dropped, void *user);

const struct pfl_rpc_peer *pfl_rpc_call_peer(const struct pfl_rpc_call *c);
pfl_ns pfl_rpc_call_deadline(const struct pfl_rpc_call *c); /* monotonic; PFL_NEVER where none */
bool pfl_rpc_call_alive(
    const struct pfl_rpc_call *c); /* false: the caller is gone; reply or fail must still be called, it only frees */
/** Each ends the call (the handler must end with one of them, at once or later). body may be NULL for an empty message. */
void pfl_rpc_call_reply(struct pfl_rpc_call *c, const struct pfl_rpc_body *body);
void pfl_rpc_call_fail(struct pfl_rpc_call *c, int code, const char *fmt, ...) PFL_PRINTF(3, 4);

/* ---- client ---- */

/** A channel dials when it is asked to or when a call comes, every address of a name in turn, and goes into back-off when none
 * works out. It is up when the server's HTTP/2 settings are in: by then the server has accepted our certificate. A server that says
 * GOAWAY in good order is dialled again at once and quietly; calls on the old connection end there. A call that the server says it
 * has not looked at is sent once more. The certificate must cover the dialled host; on unix sockets only the chain is checked, and
 * check_peer has the word. */
struct pfl_rpc_channel;
struct pfl_rpc_channel_opts {
    uv_loop_t *loop;
    const char *target;  /* address to dial */
    struct pfl_tls *tls; /* a reference; NULL: plaintext, loopback and unix only */
    void *user;
    /** After TLS and certificate checks, before the first call: false with *err refuses the peer (wrong identity). May be NULL. */
    bool (*check_peer)(void *user, const struct pfl_rpc_peer *peer, struct pfl_err *err);
    /** up true: ready; false: lost or could not be made, with the reason in words (certificate reasons included). */
    void (*on_state)(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason);
    /** The connection that set_tls wants is not to be had: calls go over the old one, another attempt follows. May be NULL. */
    void (*on_not_replaced)(void *user, const char *reason);
    size_t response_limit;                            /* 0: 4 MiB */
    pfl_ns connect_timeout, backoff_min, backoff_max; /* 0: 10 s, 200 ms, 10 s; jitter 20 % */
    pfl_ns idle_ping_period;                          /* 0: default. A server that answers no PING is given up */
};
enum pfl_rc pfl_rpc_channel_new(const struct pfl_rpc_channel_opts *opts, struct pfl_rpc_channel **ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_rpc_channel_connect(struct pfl_rpc_channel *c); /* dial now, also out of back-off; else the first call dials */
const struct pfl_rpc_peer *pfl_rpc_channel_peer(const struct pfl_rpc_channel *c); /* NULL while not connected */
/** For new connections. One that stands takes the calls until its successor is ready (on_state says up a second time then) and is
 *  drained behind that. Where no successor is to be had (the peer takes the old certificate and not the new one), it goes on. */
void pfl_rpc_channel_set_tls(struct pfl_rpc_channel *c, struct pfl_tls *tls);
/** As pfl_rpc_server_revise, for the one peer of a channel. on_state says so too (false, AUTH), later. True where the open
 * connection was closed. */
bool pfl_rpc_channel_revise(struct pfl_rpc_channel *c, struct pfl_tls *tls, pfl_rpc_dropped dropped, void *user);
/** The server's last refusal was the alert that our certificate is revoked (which any server can say). */
bool pfl_rpc_channel_told_revoked(const struct pfl_rpc_channel *c);
/** response is a blob (borrowed, NULL unless status is OK). Called exactly once for each call, never from within pfl_rpc_call. */
typedef void (*pfl_rpc_done)(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response);
/** Unary. timeout > 0 becomes grpc-timeout and is kept here too. A call while disconnected dials and waits for that one attempt; in
 * back-off it fails at once with UNAVAILABLE and the last reason. */
void pfl_rpc_channel_call(struct pfl_rpc_channel *c, const char *path, const struct pfl_rpc_body *body, pfl_ns timeout,
                          pfl_rpc_done done, void *user);
/** Calls in flight end with CANCELLED; GOAWAY; closed last. */
void pfl_rpc_channel_close(struct pfl_rpc_channel *c, void (*closed)(void *user), void *user);

/** Bytes and messages since the start, over all connections of the process's loop object (plain counters for the report). */
struct pfl_rpc_counters {
    uint64_t bytes_sent, bytes_received;       /* TLS payload bytes: HTTP/2 frames */
    uint64_t messages_sent, messages_received; /* gRPC messages */
};
void pfl_rpc_server_counters(const struct pfl_rpc_server *s, struct pfl_rpc_counters *ret);
void pfl_rpc_channel_counters(const struct pfl_rpc_channel *c, struct pfl_rpc_counters *ret);

#endif
