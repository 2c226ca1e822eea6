/* SPDX-License-Identifier: Apache-2.0 */
/* Listening and the life of a server's connections. Each limit refuses the connection that goes past it, never one that is there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "rpc/server_impl.h"

/* ---- connections ---- */

static bool on_admit(struct pfl_conn *c, struct pfl_err *err)
{
    (void)c;
    (void)err;
    return true; /* TLS has checked the certificate; what its holder may do is for the handlers */
}

static const char REPLACED[] = "this node's certificates were replaced";

static void on_ready(struct pfl_conn *c)
{
    struct pfl_server_conn *sc = c->owner;
    sc->open = true;
    sc->server->n_setup--;
    if (sc->stale)
        pfl_conn_drain(c, PFL_RPC_DRAIN, PFL_UNAVAILABLE, REPLACED);
}

static void refused(struct pfl_rpc_server *s, const char *peer, const char *remote, const char *reason)
{
    if (s->on_refused)
        s->on_refused(s->user, peer, remote, reason);
    else
        pfl_info("%s: refused %s (%s): %s", s->address, peer, remote, reason);
}

static void on_lost(struct pfl_conn *c, enum pfl_rc rc, const char *reason)
{
    struct pfl_server_conn *sc = c->owner;
    struct pfl_rpc_server *s = sc->server;
    const struct pfl_rpc_peer *peer = &c->peer->pub;
    const char *text = peer->identity ? pfl_identity_text(peer->identity) : peer->remote;
    pfl_server_streams_free(sc);
    if ((!sc->open || c->expired) && !s->closing)
        refused(s, text, peer->remote, reason);
    else if (!s->closing)
        pfl_log(rc == PFL_UNAVAILABLE ? PFL_LOG_DEBUG : PFL_LOG_INFO, "%s: connection of %s (%s) is over: %s", s->address, text,
                peer->remote, reason);
}

static void maybe_closed(struct pfl_rpc_server *s);

static void on_closed(struct pfl_conn *c)
{
    struct pfl_server_conn *sc = c->owner;
    struct pfl_rpc_server *s = sc->server;
    if (sc->prev)
        sc->prev->next = sc->next;
    else
        s->conns = sc->next;
    if (sc->next)
        sc->next->prev = sc->prev;
    s->n_conns--;
    s->n_setup -= !sc->open;
    free(sc);
    maybe_closed(s);
}

static void on_after_io(struct pfl_conn *c)
{
    (void)c;
}

static void on_http(struct pfl_conn *c, const struct pfl_http_request *request, struct pfl_http_response *ret)
{
    struct pfl_server_conn *sc = c->owner;
    if (sc->server->http)
        sc->server->http(sc->server->user, &c->peer->pub, request, ret);
    else
        ret->status = 404;
}

static const struct pfl_conn_ops OPS = {
    .admit = on_admit,
    .ready = on_ready,
    .begin_headers = pfl_server_begin_headers,
    .header = pfl_server_header,
    .data = pfl_server_data,
    .frame = pfl_server_frame,
    .stream_closed = pfl_server_stream_closed,
    .http = on_http,
    .after_io = on_after_io,
    .due = pfl_server_due,
    .lost = on_lost,
    .closed = on_closed,
};

/* ---- accepting ---- */

void pfl_server_ip_of(const struct sockaddr_storage *sa, char *out, size_t out_size)
{
    char text[PFL_ADDR_MAX];
    struct sockaddr_storage of = *sa;
    struct in6_addr *v6 = &((struct sockaddr_in6 *)(void *)&of)->sin6_addr;
    if (of.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(v6))
        memset(v6->s6_addr + 8, 0, 8);
    pfl_sockaddr_text((const void *)&of, text, sizeof text);
    char *port = of.ss_family == AF_UNIX ? NULL : strrchr(text, ':');
    if (port)
        *port = '\0';
    snprintf(out, out_size, "%.*s", (int)out_size - 1, text);
}

static unsigned count_of_ip(const struct pfl_rpc_server *s, const char *ip)
{
    unsigned n = 0;
    for (const struct pfl_server_conn *sc = s->conns; sc; sc = sc->next)
        n += pfl_streq(sc->ip, ip);
    return n;
}

_Static_assert(PFL_RPC_HANDSHAKES_MAX >= 2 * PFL_RPC_CONNECTIONS_PER_IP_MAX, "one address could keep all others out");

/* NULL: welcome. */
static const char *over_limit(const struct pfl_rpc_server *s, const char *ip)
{
    if (s->n_conns >= s->connections_max)
        return "too many connections to this node";
    if (count_of_ip(s, ip) >= s->connections_per_ip_max)
        return "too many connections from this address";
    if (s->n_setup >= PFL_RPC_HANDSHAKES_MAX)
        return "too many TLS handshakes under way";
    return NULL;
}

static void welcome(struct pfl_rpc_server *s, int fd, const struct sockaddr_storage *sa)
{
    char remote[PFL_ADDR_MAX], ip[INET6_ADDRSTRLEN + 2];
    pfl_sockaddr_text((const void *)sa, remote, sizeof remote);
    pfl_server_ip_of(sa, ip, sizeof ip);
    const char *why_not = over_limit(s, ip);
    if (why_not) {
        close(fd);
        refused(s, remote, remote, why_not);
        return;
    }
    if (s->on_connection)
        s->on_connection(s->user);
    struct pfl_server_conn *sc = pfl_xcalloc(1, sizeof *sc);
    sc->server = s;
    memcpy(sc->ip, ip, sizeof ip);
    const struct pfl_conn_opts opts = {
        .loop = s->loop,
        .fd = fd,
        .is_server = true,
        .tls = s->tls,
        .remote = remote,
        .setup_timeout = s->handshake_timeout,
        .read_stall = s->read_stall,
        .write_stall = s->write_stall,
        .ping_period = s->ping_period,
        .streams_max = s->streams_max,
        .ops = &OPS,
        .owner = sc,
        .counters = &s->counters,
    };
    sc->conn = pfl_conn_new(&opts);
    if (!sc->conn) {
        free(sc);
        return;
    }
    sc->next = s->conns;
    if (s->conns)
        s->conns->prev = sc;
    s->conns = sc;
    s->n_conns++;
    s->n_setup++;
}

static void on_accept(uv_poll_t *h, int status, int events);

static void on_accept_timer(uv_timer_t *h)
{
    struct pfl_rpc_server *s = h->data;
    uv_poll_start(&s->accept_poll, UV_READABLE, on_accept);
}

static void on_accept(uv_poll_t *h, int status, int events)
{
    struct pfl_rpc_server *s = h->data;
    (void)status;
    (void)events;
    for (int i = 0; i < PFL_RPC_ACCEPTS_PER_TURN && !s->closing; i++) {
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof sa;
        int fd = accept4(s->listener.fd, (void *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(s, fd, &sa);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        /* No descriptors or memory: the queue stays full, so polling on would spin. */
        pfl_warn("%s: cannot accept connections for now: %s", s->address, strerror(errno));
        uv_poll_stop(&s->accept_poll);
        uv_timer_start(&s->accept_timer, on_accept_timer, 100, 0);
        return;
    }
}

/* ---- the server ---- */

void pfl_server_add_method(struct pfl_rpc_server *s, const struct pfl_method *m)
{
    s->methods = pfl_xrealloc(s->methods, (s->n_methods + 1) * sizeof *s->methods);
    s->methods[s->n_methods] = *m;
    s->methods[s->n_methods++].path = pfl_xstrdup(m->path);
}

static void server_free(struct pfl_rpc_server *s)
{
    for (size_t i = 0; i < s->n_methods; i++)
        free(s->methods[i].path);
    free(s->methods);
    pfl_tls_unref(s->tls);
    free(s);
}

static struct pfl_rpc_server *server_of(const struct pfl_rpc_server_opts *o)
{
    struct pfl_rpc_server *s = pfl_xcalloc(1, sizeof *s);
    s->loop = o->loop;
    s->tls = pfl_tls_ref(o->tls);
    s->user = o->user;
    s->request_limit = o->request_limit;
    s->on_connection = o->on_connection;
    s->on_refused = o->on_refused;
    s->http = o->http;
    s->connections_max = o->connections_max ? o->connections_max : PFL_RPC_CONNECTIONS_MAX;
    s->connections_per_ip_max = o->connections_per_ip_max ? o->connections_per_ip_max : PFL_RPC_CONNECTIONS_PER_IP_MAX;
    s->streams_max = o->streams_max ? o->streams_max : PFL_H2_STREAMS_MAX;
    s->handshake_timeout = o->handshake_timeout ? o->handshake_timeout : PFL_RPC_HANDSHAKE_TIMEOUT;
    s->read_stall = o->read_stall;
    s->write_stall = o->write_stall;
    s->ping_period = o->idle_ping_period ? o->idle_ping_period : PFL_RPC_PING_PERIOD;
    for (size_t i = 0; i < o->n_methods; i++) {
        char *path = pfl_xstrdup(o->methods[i].path);
        pfl_server_add_method(s, &(struct pfl_method){path, o->methods[i].handler, o->user, o->methods[i].stream, false});
        free(path);
    }
    if (o->health)
        pfl_health_add(s);
    if (o->reflection)
        pfl_reflection_add(s);
    return s;
}

static enum pfl_rc server_listen(struct pfl_rpc_server *s, const struct pfl_addr *addr, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_listen(addr, &s->listener, err);
    if (rc != PFL_OK)
        return rc;
    pfl_addr_format(&s->listener.addr, s->address);
    int rv = uv_poll_init(s->loop, &s->accept_poll, s->listener.fd);
    if (rv != 0) {
        pfl_listener_close(&s->listener);
        return pfl_err_set(err, PFL_IO, "%s: cannot listen: %s", s->address, uv_strerror(rv));
    }
    uv_timer_init(s->loop, &s->accept_timer);
    s->accept_poll.data = s->accept_timer.data = s;
    s->n_handles = 2;
    uv_poll_start(&s->accept_poll, UV_READABLE, on_accept);
    return PFL_OK;
}

enum pfl_rc pfl_rpc_server_new(const struct pfl_rpc_server_opts *opts, struct pfl_rpc_server **ret, struct pfl_err *err)
{
    struct pfl_addr addr;
    enum pfl_rc rc = pfl_addr_parse(opts->address, &addr, err);
    if (rc != PFL_OK)
        return rc;
    if (!opts->tls && !pfl_addr_is_loopback(&addr))
        return pfl_err_set(err, PFL_INVALID, "%s: plaintext is served on loopback and unix sockets only", opts->address);
    struct pfl_rpc_server *s = server_of(opts);
    rc = server_listen(s, &addr, err);
    if (rc == PFL_OK)
        *ret = s;
    else
        server_free(s);
    return rc;
}

const char *pfl_rpc_server_address(const struct pfl_rpc_server *s)
{
    return s->address;
}

void pfl_rpc_server_set_tls(struct pfl_rpc_server *s, struct pfl_tls *tls)
{
    PFL_ASSERT(s->tls && tls); /* never from or to plaintext */
    struct pfl_tls *old = s->tls;
    s->tls = pfl_tls_ref(tls);
    pfl_tls_unref(old);
    for (struct pfl_server_conn *sc = s->conns; sc; sc = sc->next) {
        enum pfl_verify_why why;
        struct pfl_err reason = {0};
        sc->stale = true;
        if (sc->open)
            pfl_conn_drain(sc->conn, PFL_RPC_DRAIN, PFL_UNAVAILABLE, REPLACED);
        else /* to end a handshake would be a failed call of a client that cannot know why; it is judged by the new trust */
            (void)pfl_conn_revise(sc->conn, tls, &why, &reason);
    }
}

static void maybe_closed(struct pfl_rpc_server *s)
{
    if (!s->closing || s->n_conns > 0 || s->n_handles > 0)
        return;
    void (*closed)(void *) = s->closed;
    void *user = s->closed_user;
    server_free(s);
    if (closed)
        closed(user);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct pfl_rpc_server *s = h->data;
    if (--s->n_handles == 0) {
        pfl_listener_close(&s->listener);
        maybe_closed(s);
    }
}

void pfl_rpc_server_close(struct pfl_rpc_server *s, pfl_ns grace, void (*closed)(void *user), void *user)
{
    if (s->closing)
        return;
    s->closing = true;
    s->closed = closed;
    s->closed_user = user;
    uv_poll_stop(&s->accept_poll);
    uv_close((uv_handle_t *)&s->accept_poll, on_handle_closed);
    uv_close((uv_handle_t *)&s->accept_timer, on_handle_closed);
    for (struct pfl_server_conn *sc = s->conns; sc; sc = sc->next)
        pfl_conn_drain(sc->conn, grace, PFL_CANCELED, "this node is shutting down");
}

unsigned pfl_rpc_server_drop(struct pfl_rpc_server *s, bool (*match)(void *user, const struct pfl_rpc_peer *), void *user,
                             const char *reason)
{
    unsigned n = 0;
    for (struct pfl_server_conn *sc = s->conns; sc; sc = sc->next) {
        if (!sc->open || pfl_conn_over(sc->conn) || !match(user, &sc->conn->peer->pub))
            continue;
        pfl_conn_close(sc->conn, PFL_AUTH, "%s", reason);
        n++;
    }
    return n;
}

unsigned pfl_rpc_server_revise(struct pfl_rpc_server *s, struct pfl_tls *tls, pfl_rpc_dropped dropped, void *user)
{
    unsigned n = 0;
    PFL_ASSERT(s->tls && tls);
    struct pfl_tls *old = s->tls;
    s->tls = pfl_tls_ref(tls);
    pfl_tls_unref(old);
    for (struct pfl_server_conn *sc = s->conns; sc; sc = sc->next) {
        enum pfl_verify_why why;
        struct pfl_err reason = {0};
        if (!pfl_conn_revise(sc->conn, tls, &why, &reason) || !sc->open)
            continue;
        n++;
        if (dropped)
            dropped(user, &sc->conn->peer->pub, why, reason.msg);
    }
    return n;
}

void pfl_rpc_server_counters(const struct pfl_rpc_server *s, struct pfl_rpc_counters *ret)
{
    *ret = s->counters;
}
