/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's life and its one timer. Everything that can end a connection comes through end(): the first reason stands, the
 * owner hears of it once, from the loop, and memory goes when libuv has closed the handles. */
#include "rpc/conn.h"
#include "rpc/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

struct pfl_peer *pfl_peer_ref(struct pfl_peer *p)
{
    p->refs++;
    return p;
}

void pfl_peer_unref(struct pfl_peer *p)
{
    if (!p || --p->refs > 0)
        return;
    pfl_identity_unref(p->pub.identity);
    free(p);
}

bool pfl_conn_over(const struct pfl_conn *c)
{
    return c->state >= PFL_CONN_LINGER;
}

/* ---- the end ---- */

static void deliver_lost(struct pfl_conn *c)
{
    if (!c->ending || c->lost)
        return;
    c->lost = true;
    c->ops->lost(c, c->lost_rc, c->lost_reason);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct pfl_conn *c = h->data;
    if (--c->n_handles > 0)
        return;
    deliver_lost(c);
    c->ops->closed(c);
    nghttp2_session_del(c->h2);
    pfl_http1_free(c->http1);
    pfl_tls_session_free(c->tls);
    pfl_msg_out_unref(c->direct);
    pfl_peer_unref(c->peer);
    close(c->fd);
    free(c);
}

static void die(struct pfl_conn *c)
{
    if (c->state == PFL_CONN_DEAD)
        return;
    c->state = PFL_CONN_DEAD;
    uv_poll_stop(&c->poll);
    uv_close((uv_handle_t *)&c->poll, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    uv_close((uv_handle_t *)&c->turn, on_handle_closed);
}

static void linger(struct pfl_conn *c)
{
    if (c->tls && !c->write_blocked && !c->write_failed)
        pfl_tls_session_shutdown(c->tls);
    shutdown(c->fd, SHUT_WR);
    c->state = PFL_CONN_LINGER;
    c->linger_deadline = pfl_clock_mono() + PFL_RPC_LINGER;
    pfl_conn_due_at(c, 0); /* to deliver `lost` */
}

static void end(struct pfl_conn *c, bool lingers, enum pfl_rc rc, const char *fmt, va_list ap)
{
    if (pfl_conn_over(c))
        return;
    if (!c->closing && !c->draining) {
        c->lost_rc = rc;
        vsnprintf(c->lost_reason, sizeof c->lost_reason, fmt, ap);
    }
    c->ending = true;
    if (lingers)
        linger(c);
    else
        die(c);
}

void pfl_conn_fail(struct pfl_conn *c, enum pfl_rc rc, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    end(c, false, rc, fmt, ap);
    va_end(ap);
}

void pfl_conn_refuse(struct pfl_conn *c, enum pfl_rc rc, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    end(c, true, rc, fmt, ap);
    va_end(ap);
}

/* What the peer still sends is thrown away, until it closes or time is up. */
static void read_away(struct pfl_conn *c)
{
    char sink[4096];
    for (int i = 0; i < 64; i++) {
        ssize_t n = recv(c->fd, sink, sizeof sink, 0);
        if (n > 0)
            continue;
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            die(c);
        return;
    }
}

/* ---- handshake ---- */

static void begin_h2(struct pfl_conn *c)
{
    c->state = PFL_CONN_SETTLING;
    pfl_conn_h2_start(c);
    if (c->tls || !c->is_server) /* in plaintext the first bytes may be HTTP/1: look first, then speak */
        pfl_conn_write(c);
    pfl_conn_read(c); /* what came right behind the handshake lies in TLS, not in the socket */
    if (!pfl_conn_over(c))
        pfl_conn_write(c); /* the peer's settings may have been in it: calls that waited for them go out now */
}

/* For the listening side: who connected; for the dialling side: who listens. */
static int64_t uid_behind(int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid != (uid_t)-1;
    return known ? (int64_t)who.uid : -1;
}

static void admit(struct pfl_conn *c)
{
    struct pfl_err err = {0};
    c->peer->pub.uid = uid_behind(c->fd);
    if (c->tls) {
        c->peer->pub.identity = pfl_identity_ref(pfl_tls_session_peer(c->tls));
        c->peer->pub.tls_version = pfl_tls_session_version(c->tls);
        c->peer->pub.cipher = pfl_tls_session_cipher(c->tls);
    }
    if (!c->ops->admit(c, &err)) {
        pfl_conn_refuse(c, err.rc == PFL_OK ? PFL_AUTH : err.rc, "%s", err.msg);
        return;
    }
    if (c->tls && pfl_tls_session_http1(c->tls))
        pfl_conn_http1_start(c);
    else
        begin_h2(c);
}

static void say_not_tls(struct pfl_conn *c)
{
    static const char ANSWER[] =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 36\r\n\r\n"
        "This port speaks gRPC over TLS only\n";
    if (c->is_server && pfl_tls_session_saw_http1(c->tls))
        (void)!send(c->fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
}

static void handshake(struct pfl_conn *c)
{
    if (!c->tls) {
        admit(c);
        return;
    }
    enum pfl_tls_io io = pfl_tls_session_handshake(c->tls);
    c->write_blocked = io == PFL_TLS_AGAIN_WRITE;
    if (io == PFL_TLS_OK) {
        admit(c);
        return;
    }
    if (io == PFL_TLS_AGAIN_READ || io == PFL_TLS_AGAIN_WRITE)
        return;
    if (pfl_tls_session_peer(c->tls)) /* what it claimed, for the message */
        c->peer->pub.identity = pfl_identity_ref(pfl_tls_session_peer(c->tls));
    say_not_tls(c);
    pfl_conn_refuse(c, pfl_tls_session_rc(c->tls), "%s", pfl_tls_session_reason(c->tls));
}

static void connected(struct pfl_conn *c)
{
    int errnum = 0;
    socklen_t len = sizeof errnum;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) != 0)
        errnum = errno;
    if (errnum != 0) {
        pfl_conn_fail(c, PFL_UNAVAILABLE, "cannot connect: %s", strerror(errnum));
        return;
    }
    c->state = PFL_CONN_HANDSHAKE;
    handshake(c);
}

/* ---- the loop ---- */

static void poll_update(struct pfl_conn *c);

static void after_io(struct pfl_conn *c)
{
    c->in_io = false;
    c->ops->after_io(c);
    if (c->state == PFL_CONN_LINGER)
        deliver_lost(c);
    poll_update(c);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
    struct pfl_conn *c = h->data;
    if (c->state == PFL_CONN_DEAD)
        return;
    c->in_io = true;
    if (events & UV_WRITABLE)
        c->write_blocked = false;
    if (status < 0) { /* the socket has an error, and libuv has stopped polling: reading tells what it is, or what came before it */
        c->poll_events = 0;
        events = UV_READABLE;
    }
    switch (c->state) {
    case PFL_CONN_CONNECTING:
        connected(c);
        break;
    case PFL_CONN_HANDSHAKE:
        handshake(c);
        break;
    case PFL_CONN_SETTLING:
    case PFL_CONN_OPEN:
        if (events & UV_READABLE)
            pfl_conn_read(c);
        break;
    case PFL_CONN_LINGER:
        read_away(c);
        break;
    case PFL_CONN_DEAD:
        break;
    }
    if (status < 0)
        pfl_conn_fail(c, PFL_UNAVAILABLE, "connection lost: %s", uv_strerror(status));
    if (c->state == PFL_CONN_SETTLING || c->state == PFL_CONN_OPEN)
        pfl_conn_write(c); /* what reading has led to */
    after_io(c);
}

static void poll_update(struct pfl_conn *c)
{
    int events = c->state == PFL_CONN_CONNECTING ? UV_WRITABLE : UV_READABLE;
    if (c->write_blocked && c->state != PFL_CONN_LINGER)
        events |= UV_WRITABLE;
    if (c->state == PFL_CONN_DEAD || events == c->poll_events)
        return;
    c->poll_events = events;
    uv_poll_start(&c->poll, events, on_poll);
}

static void on_timer(uv_timer_t *h);
static void on_turn(uv_idle_t *h);

void pfl_conn_due_at(struct pfl_conn *c, pfl_ns when)
{
    if (c->state == PFL_CONN_DEAD || when >= c->timer_due)
        return;
    c->timer_due = when;
    if (when == 0) { /* no timer: libuv runs those that are due until there are none, and the other sockets would wait */
        uv_idle_start(&c->turn, on_turn);
        return;
    }
    pfl_ns wait = when - pfl_clock_mono();
    uv_update_time(c->loop);
    uv_timer_start(&c->timer, on_timer, wait <= 0 ? 0 : (uint64_t)((wait + PFL_MS - 1) / PFL_MS), 0);
}

static void check_setup(struct pfl_conn *c, pfl_ns now)
{
    if (c->state >= PFL_CONN_OPEN)
        return;
    if (now >= c->setup_deadline)
        pfl_conn_refuse(c, PFL_TIMEOUT, "%s",
                        c->state == PFL_CONN_CONNECTING  ? "cannot connect: no answer in time"
                        : c->state == PFL_CONN_HANDSHAKE ? "the TLS handshake did not end in time"
                                                         : "HTTP/2 did not begin in time");
    else
        pfl_conn_due_at(c, c->setup_deadline);
}

/* As a client only while a call waits: servers of gRPC end connections that are pinged while idle. */
static void check_alive(struct pfl_conn *c, pfl_ns now)
{
    if (c->blocked_since != PFL_NEVER && now >= c->blocked_since + c->write_stall) {
        pfl_conn_fail(c, PFL_TIMEOUT, "the peer takes no bytes for %lld ms", (long long)(c->write_stall / PFL_MS));
        return;
    }
    if (c->blocked_since != PFL_NEVER)
        pfl_conn_due_at(c, c->blocked_since + c->write_stall);
    pfl_ns timeout = c->ping_period < PFL_RPC_PING_TIMEOUT ? c->ping_period : PFL_RPC_PING_TIMEOUT;
    if (c->pinged && now >= c->pinged_at + timeout && c->last_alive <= c->pinged_at) {
        pfl_conn_fail(c, PFL_TIMEOUT, "no answer to a keepalive PING for %lld ms", (long long)(timeout / PFL_MS));
        return;
    }
    bool asks = c->is_server || c->n_streams > 0;
    if (asks && !c->pinged && now >= c->last_alive + c->ping_period && nghttp2_submit_ping(c->h2, NGHTTP2_FLAG_NONE, NULL) == 0) {
        pfl_conn_write(c);
        c->pinged = true;
        c->pinged_at = pfl_clock_mono();
    }
    if (c->pinged && c->last_alive > c->pinged_at)
        c->pinged = false;
    pfl_conn_due_at(c, c->pinged ? c->pinged_at + timeout : (asks ? c->last_alive : now) + c->ping_period + PFL_MS);
}

/* Its certificate is not what it was when the connection was made. */
static void say_refused(struct pfl_conn *c, const char *why)
{
    c->closing = true; /* this reason stands, whatever sending it leads to */
    c->lost_rc = PFL_AUTH;
    snprintf(c->lost_reason, sizeof c->lost_reason, "certificate refused: %.480s", why);
    if (c->h2)
        (void)nghttp2_submit_goaway(c->h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->h2),
                                    NGHTTP2_INADEQUATE_SECURITY, (const uint8_t *)why, strlen(why));
}

/* The wall clock may jump: it is looked at in between, too. */
void pfl_conn_watch_expiry(struct pfl_conn *c)
{
    if (!c->tls || !c->peer->pub.identity)
        return;
    int64_t left_s = c->peer->pub.identity->not_after + 1 - pfl_clock_wall() / PFL_SEC;
    bool soon = left_s > 0 && left_s < PFL_RPC_EXPIRY_LOOK / PFL_SEC;
    pfl_conn_due_at(c, pfl_clock_mono() + (soon ? left_s * PFL_SEC : PFL_RPC_EXPIRY_LOOK));
}

/* A certificate that has expired ends its connection too. */
static void check_expiry(struct pfl_conn *c)
{
    struct pfl_err why = {0};
    bool expired = c->tls && c->peer->pub.identity && c->peer->pub.identity->not_after < pfl_clock_wall() / PFL_SEC;
    if (!expired || pfl_tls_session_recheck(c->tls, &why) == PFL_OK) { /* a CA service takes expired ones, for a while */
        pfl_conn_watch_expiry(c);
        return;
    }
    c->expired = true;
    say_refused(c, why.msg);
    pfl_conn_write(c);
    pfl_conn_refuse(c, PFL_AUTH, "%s", c->lost_reason);
}

static void check_drain(struct pfl_conn *c, pfl_ns now)
{
    if (now >= c->goaway_at) {
        c->goaway_at = PFL_NEVER;
        nghttp2_submit_goaway(c->h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->h2), NGHTTP2_NO_ERROR, NULL, 0);
        pfl_conn_write(c);
    }
    if (c->goaway_at == PFL_NEVER && (c->n_streams == 0 || now >= c->drain_deadline))
        pfl_conn_close(c, c->lost_rc, "%s", c->lost_reason);
    pfl_conn_due_at(c, c->goaway_at < c->drain_deadline ? c->goaway_at : c->drain_deadline);
}

/* One request, one deadline. */
static void run_http1(struct pfl_conn *c, pfl_ns now)
{
    pfl_conn_read(c);
    if (!pfl_conn_over(c))
        pfl_conn_http1_write(c);
    if (!pfl_conn_over(c) && now >= c->setup_deadline)
        pfl_conn_fail(c, PFL_TIMEOUT, "the HTTP/1.1 request did not come in time");
    pfl_conn_due_at(c, pfl_conn_over(c) ? c->linger_deadline : c->setup_deadline);
}

static void run_due(struct pfl_conn *c, pfl_ns now)
{
    if (c->http1 && !pfl_conn_over(c)) {
        run_http1(c, now);
        return;
    }
    check_setup(c, now);
    if (c->state == PFL_CONN_SETTLING || c->state == PFL_CONN_OPEN) {
        if (c->write_failed) { /* an alert may say why */
            pfl_conn_read(c);
            pfl_conn_read(c); /* the first may have been spared the look at the socket */
            pfl_conn_fail(c, PFL_UNAVAILABLE, "connection lost: the peer closed it");
            return;
        }
        pfl_conn_read(c);
        if (!pfl_conn_over(c))
            pfl_conn_write(c);
    }
    if (c->state == PFL_CONN_OPEN) {
        pfl_conn_due_at(c, c->ops->due(c, now));
        pfl_conn_write(c);
    }
    if (c->state == PFL_CONN_OPEN && !c->closing)
        check_alive(c, now);
    if (c->state == PFL_CONN_OPEN && c->draining && !c->closing)
        check_drain(c, now);
    if (c->state == PFL_CONN_OPEN && !c->closing)
        check_expiry(c);
    if (pfl_conn_over(c) || c->closing) {
        if (now >= c->linger_deadline) {
            c->ending = true;
            die(c);
        } else
            pfl_conn_due_at(c, c->linger_deadline);
    }
}

static void due(struct pfl_conn *c)
{
    uv_idle_stop(&c->turn);
    uv_timer_stop(&c->timer);
    c->timer_due = PFL_NEVER;
    c->in_io = true;
    run_due(c, pfl_clock_mono());
    after_io(c);
}

static void on_timer(uv_timer_t *h)
{
    due(h->data);
}

static void on_turn(uv_idle_t *h)
{
    due(h->data);
}

const uint8_t PFL_H2_DRAIN_PING[8] = {'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'};

/* ---- for the owner ---- */

static void set_socket_options(int fd)
{
    int one = 1, lowat = PFL_RPC_NOTSENT_LOWAT, idle = 60;
    /* they fail on unix sockets, where none is needed */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
}

static struct pfl_peer *peer_new(const char *remote)
{
    struct pfl_peer *p = pfl_xcalloc(1, sizeof *p);
    p->refs = 1;
    p->pub.uid = -1;
    snprintf(p->pub.remote, sizeof p->pub.remote, "%s", remote);
    return p;
}

struct pfl_conn *pfl_conn_new(const struct pfl_conn_opts *o)
{
    struct pfl_conn *c = pfl_xcalloc(1, sizeof *c);
    if (uv_poll_init(o->loop, &c->poll, o->fd) != 0) {
        close(o->fd);
        free(c);
        return NULL;
    }
    c->loop = o->loop;
    c->fd = o->fd;
    c->is_server = o->is_server;
    c->state = o->connecting ? PFL_CONN_CONNECTING : PFL_CONN_HANDSHAKE;
    c->ops = o->ops;
    c->owner = o->owner;
    c->counters = o->counters;
    c->ping_period = o->ping_period;
    c->read_stall = o->read_stall ? o->read_stall : PFL_RPC_READ_STALL;
    c->write_stall = o->write_stall ? o->write_stall : PFL_RPC_WRITE_STALL;
    c->streams_max = o->streams_max;
    c->peer = peer_new(o->remote);
    c->timer_due = c->blocked_since = c->goaway_at = c->drain_deadline = c->linger_deadline = PFL_NEVER;
    c->last_alive = pfl_clock_mono();
    c->setup_deadline = c->last_alive + o->setup_timeout;
    set_socket_options(c->fd);
    if (o->tls)
        c->tls = c->is_server ? pfl_tls_session_new_server(o->tls, c->fd) : pfl_tls_session_new_client(o->tls, c->fd, o->host);
    PFL_ASSERT(uv_timer_init(c->loop, &c->timer) == 0 && uv_idle_init(c->loop, &c->turn) == 0); /* cannot fail */
    c->poll.data = c->timer.data = c->turn.data = c;
    c->n_handles = 3;
    pfl_conn_due_at(c, c->setup_deadline);
    if (!c->is_server && !o->connecting)
        c->write_blocked = true; /* a client speaks first: be called when the socket takes bytes, that is at once */
    poll_update(c);
    return c;
}

void pfl_conn_kick(struct pfl_conn *c)
{
    if (c->in_io || (c->state != PFL_CONN_SETTLING && c->state != PFL_CONN_OPEN))
        return;
    c->in_io = true; /* nothing may call back into the owner from here */
    pfl_conn_write(c);
    c->in_io = false;
    poll_update(c);
}

void pfl_conn_close(struct pfl_conn *c, enum pfl_rc rc, const char *fmt, ...)
{
    if (pfl_conn_over(c) || c->closing)
        return;
    va_list ap;
    char reason[sizeof c->lost_reason];
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    if (c->state < PFL_CONN_SETTLING || c->http1) {
        pfl_conn_fail(c, rc, "%s", reason);
        return;
    }
    c->closing = true;
    c->lost_rc = rc;
    memcpy(c->lost_reason, reason, sizeof reason);
    c->linger_deadline = pfl_clock_mono() + PFL_RPC_LINGER;
    pfl_conn_due_at(c, c->linger_deadline);
    (void)nghttp2_session_terminate_session(c->h2, NGHTTP2_NO_ERROR); /* fails without memory only; the deadline stands */
    pfl_conn_kick(c);
}

bool pfl_conn_revise(struct pfl_conn *c, struct pfl_tls *tls, enum pfl_verify_why *ret_why, struct pfl_err *ret_reason)
{
    if (pfl_conn_over(c) || !c->tls || pfl_tls_session_revise(c->tls, tls, ret_why, ret_reason) == PFL_OK)
        return false;
    say_refused(c, ret_reason->msg);
    pfl_conn_kick(c);
    pfl_conn_refuse(c, PFL_AUTH, "%s", c->lost_reason);
    return true;
}

void pfl_conn_drain(struct pfl_conn *c, pfl_ns grace, enum pfl_rc rc, const char *reason)
{
    if (pfl_conn_over(c) || c->closing || c->draining)
        return;
    if (c->state < PFL_CONN_OPEN || c->http1) {
        pfl_conn_close(c, rc, "%s", reason);
        return;
    }
    pfl_ns now = pfl_clock_mono();
    c->draining = true;
    c->drain_deadline = now + grace;
    c->goaway_at = now; /* a client asks nothing of the server's streams */
    c->lost_rc = rc;
    snprintf(c->lost_reason, sizeof c->lost_reason, "%s", reason);
    bool notice = c->is_server && grace > 0 && nghttp2_submit_shutdown_notice(c->h2) == 0;
    if (notice)
        c->goaway_at = now + (grace < PFL_RPC_GOAWAY_NOTICE ? grace : PFL_RPC_GOAWAY_NOTICE);
    pfl_conn_due_at(c, c->goaway_at == now ? 0 : c->goaway_at);
    pfl_conn_kick(c);
    if (notice && nghttp2_submit_ping(c->h2, NGHTTP2_FLAG_NONE, PFL_H2_DRAIN_PING) == 0) /* behind the notice: it overtakes */
        pfl_conn_kick(c);
}

void pfl_conn_notice_heard(struct pfl_conn *c)
{
    if (!c->draining || c->goaway_at == PFL_NEVER)
        return;
    c->goaway_at = pfl_clock_mono();
    pfl_conn_due_at(c, 0);
}

void pfl_conn_stream_ended(struct pfl_conn *c)
{
    if (c->draining && c->n_streams == 0 && c->goaway_at == PFL_NEVER)
        pfl_conn_due_at(c, 0);
}
