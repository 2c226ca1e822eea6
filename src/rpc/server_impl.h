/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's files share: server.c (listening, connections), server_stream.c (calls), health.c and reflection.c. */
#ifndef PFL_RPC_SERVER_IMPL_H
#define PFL_RPC_SERVER_IMPL_H

#include "rpc/conn.h"
#include "rpc/headers.h"
#include "rpc/listen.h"

struct pfl_method {
    char *path; /* owned */
    pfl_rpc_handler handler;
    void *user;
    bool stream, builtin;
};

struct pfl_rpc_server {
    uv_loop_t *loop;
    struct pfl_listener listener;
    char address[PFL_ADDR_MAX + 16];
    uv_poll_t accept_poll;
    uv_timer_t accept_timer; /* accepts again when descriptors had run out */
    int n_handles;
    struct pfl_tls *tls;        /* owned reference; NULL: plaintext */
    struct pfl_method *methods; /* owned */
    size_t n_methods;
    void *user;
    size_t (*request_limit)(void *user, const char *path, const struct pfl_rpc_peer *peer);
    void (*on_connection)(void *user);
    void (*on_refused)(void *user, const char *peer, const char *remote, const char *reason);
    void (*http)(void *user, const struct pfl_rpc_peer *peer, const struct pfl_http_request *request,
                 struct pfl_http_response *ret);
    unsigned connections_max, connections_per_ip_max, streams_max;
    pfl_ns handshake_timeout, ping_period, read_stall, write_stall;
    struct pfl_server_conn *conns;
    unsigned n_conns, n_setup; /* n_setup of them are not OPEN yet */
    struct pfl_rpc_counters counters;
    bool closing;
    void (*closed)(void *user);
    void *closed_user;
};

struct pfl_server_conn {
    struct pfl_rpc_server *server;
    struct pfl_conn *conn;
    struct pfl_server_conn *prev, *next;
    struct pfl_server_stream *streams;
    size_t in_bytes; /* announced by messages that are not complete */
    bool open;
    bool stale;                    /* its handshake began with a certificate that was replaced since */
    char ip[INET6_ADDRSTRLEN + 2]; /* see pfl_server_ip_of */
};

/* ---- server.c ---- */
/** The key under which connections of an address are counted: its text without the port, of IPv6 that of its /64, which is what one
 *  customer has at least. Unix sockets: their path. Cut to out_size. */
void pfl_server_ip_of(const struct sockaddr_storage *sa, char *out, size_t out_size);

/* ---- server_stream.c: the part of struct pfl_conn_ops that is about streams ---- */
int pfl_server_begin_headers(struct pfl_conn *c, const nghttp2_frame *frame);
int pfl_server_header(struct pfl_conn *c, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                      size_t value_len);
int pfl_server_data(struct pfl_conn *c, int32_t stream_id, struct pfl_bytes data);
int pfl_server_frame(struct pfl_conn *c, const nghttp2_frame *frame);
int pfl_server_stream_closed(struct pfl_conn *c, int32_t stream_id, uint32_t error_code);
pfl_ns pfl_server_due(struct pfl_conn *c, pfl_ns now);
void pfl_server_streams_free(struct pfl_server_conn *sc); /* the connection is gone */

/* ---- built-in services ---- */
void pfl_server_add_method(struct pfl_rpc_server *s, const struct pfl_method *m); /* path copied */
void pfl_health_add(struct pfl_rpc_server *s);
void pfl_reflection_add(struct pfl_rpc_server *s);

#endif
