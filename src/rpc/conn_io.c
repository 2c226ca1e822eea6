/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes in and out of a connection. Outgoing control frames and small messages are joined into one TLS record; the content of large
 * DATA frames is written from where it lies. Nothing is produced while the socket takes nothing, so at most one frame is cut and
 * waiting at any time, and nghttp2 picks the next stream only when there is room: that is what keeps small messages quick. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/conn.h"
#include "rpc/http.h"

enum pfl_tls_io pfl_conn_transport_read(struct pfl_conn *c, void *buf, size_t len, size_t *ret_n)
{
    if (c->tls)
        return pfl_tls_session_read(c->tls, buf, len, ret_n);
    ssize_t n = recv(c->fd, buf, len, 0);
    if (n > 0) {
        *ret_n = (size_t)n;
        return PFL_TLS_OK;
    }
    if (n == 0)
        return PFL_TLS_EOF;
    return errno == EAGAIN || errno == EINTR ? PFL_TLS_AGAIN_READ : PFL_TLS_FAILED;
}

enum pfl_tls_io pfl_conn_transport_write(struct pfl_conn *c, const void *buf, size_t len, size_t *ret_n)
{
    if (c->tls)
        return pfl_tls_session_write(c->tls, buf, len, ret_n);
    ssize_t n = send(c->fd, buf, len, MSG_NOSIGNAL);
    if (n >= 0) {
        *ret_n = (size_t)n;
        return PFL_TLS_OK;
    }
    return errno == EAGAIN || errno == EINTR ? PFL_TLS_AGAIN_WRITE : PFL_TLS_FAILED;
}

/* ---- in ---- */

static bool is_http1(const uint8_t *data, size_t len)
{
    return memmem(data, len, " HTTP/1.", 8) != NULL;
}

static void say_bad_request(struct pfl_conn *c)
{
    static const char ANSWER[] =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 27\r\n\r\n"
        "This port speaks gRPC only\n";
    size_t n;
    (void)pfl_conn_transport_write(c, ANSWER, sizeof ANSWER - 1, &n);
}

static void feed(struct pfl_conn *c, const uint8_t *data, size_t len)
{
    if (c->http1) {
        pfl_conn_http1_feed(c, data, len);
        return;
    }
    ssize_t rv = nghttp2_session_mem_recv(c->h2, data, len);
    if (rv == (ssize_t)len)
        return;
    if (rv == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
        bool http1 = is_http1(data, len);
        if (http1)
            say_bad_request(c);
        pfl_conn_refuse(c, PFL_MALFORMED, http1 ? "HTTP/1 instead of HTTP/2" : "the first bytes are not HTTP/2");
        return;
    }
    if (rv == NGHTTP2_ERR_FLOODED)
        pfl_conn_fail(c, PFL_TOO_BIG, "flooded with frames that ask for answers: %s", c->h2_error);
    else
        pfl_conn_fail(c, PFL_MALFORMED, "HTTP/2: %s%s%s", nghttp2_strerror((int)rv), c->h2_error[0] ? ": " : "", c->h2_error);
}

static void explain_end(struct pfl_conn *c, enum pfl_tls_io io)
{
    const char *before =
        c->state == PFL_CONN_SETTLING && !c->is_server ? " before HTTP/2 began (it may have refused our certificate)" : "";
    if (io == PFL_TLS_EOF)
        pfl_conn_fail(c, PFL_UNAVAILABLE, "the peer closed the connection%s", before);
    else if (c->tls)
        pfl_conn_fail(c, pfl_tls_session_rc(c->tls), "%s%s", pfl_tls_session_reason(c->tls),
                      pfl_tls_session_rc(c->tls) == PFL_UNAVAILABLE ? before : "");
    else
        pfl_conn_fail(c, PFL_UNAVAILABLE, "connection lost: %s", strerror(errno));
}

void pfl_conn_read(struct pfl_conn *c)
{
    uint8_t buf[PFL_RPC_RECORD] __attribute__((uninitialized)); /* the build zeroes variables: 16 KiB for each small message */
    size_t moved = 0, n = 0;
    while (!pfl_conn_over(c)) {
        enum pfl_tls_io io = pfl_conn_transport_read(c, buf, sizeof buf, &n);
        if (io == PFL_TLS_AGAIN_READ || io == PFL_TLS_AGAIN_WRITE)
            break;
        if (io != PFL_TLS_OK) {
            explain_end(c, io);
            return;
        }
        moved += n;
        c->counters->bytes_received += n;
        pfl_conn_earn(c, (double)n / PFL_H2_EMPTY_BYTES);
        feed(c, buf, n);
        if (moved >= PFL_RPC_TURN_BYTES) {
            pfl_conn_due_at(c, 0); /* TLS may hold records that the socket does not announce any more */
            break;
        }
    }
    if (moved > 0)
        c->last_alive = pfl_clock_mono();
}

/* ---- out ---- */

/* False: blocked, or over. */
static bool put(struct pfl_conn *c, const void *data, size_t len, size_t *ret_n)
{
    enum pfl_tls_io io = pfl_conn_transport_write(c, data, len, ret_n);
    if (io == PFL_TLS_OK) {
        c->counters->bytes_sent += *ret_n;
        c->blocked_since = PFL_NEVER;
        return true;
    }
    if (io == PFL_TLS_AGAIN_READ || io == PFL_TLS_AGAIN_WRITE) {
        c->write_blocked = true;
        if (c->blocked_since == PFL_NEVER) {
            c->blocked_since = pfl_clock_mono();
            pfl_conn_due_at(c, c->blocked_since + c->write_stall);
        }
        return false;
    }
    /* The peer closed: why may lie in what it sent before (an alert). */
    c->write_failed = true;
    pfl_conn_due_at(c, 0);
    return false;
}

static bool flush(struct pfl_conn *c)
{
    size_t n = 0;
    while (c->wpos < c->wlen) {
        if (!put(c, c->wbuf + c->wpos, c->wlen - c->wpos, &n))
            return false;
        c->wpos += n;
    }
    c->wpos = c->wlen = 0;
    return true;
}

/* Copies what fits behind what waits; returns how much that is. */
static size_t join(struct pfl_conn *c, const uint8_t *data, size_t len)
{
    size_t room = sizeof c->wbuf - c->wlen, n = len < room ? len : room;
    memcpy(c->wbuf + c->wlen, data, n);
    c->wlen += n;
    return n;
}

static bool write_direct(struct pfl_conn *c)
{
    while (c->direct_left > 0) {
        struct pfl_bytes b = pfl_msg_out_peek(c->direct);
        size_t n = b.len < c->direct_left ? b.len : c->direct_left;
        PFL_ASSERT(n > 0);
        if (c->wlen == sizeof c->wbuf && !flush(c))
            return false;
        if (c->wlen > 0 || n < sizeof c->wbuf)
            n = join(c, b.data, n);
        else if (!put(c, b.data, n, &n))
            return false;
        pfl_msg_out_advance(c->direct, n);
        c->direct_left -= n;
    }
    pfl_msg_out_unref(c->direct);
    c->direct = NULL;
    return true;
}

static bool write_tail(struct pfl_conn *c)
{
    while (c->tail.len > 0) {
        if (c->wlen == sizeof c->wbuf && !flush(c))
            return false;
        size_t n = join(c, c->tail.data, c->tail.len);
        c->tail = pfl_bytes_sub(c->tail, n, c->tail.len - n);
    }
    return true;
}

/* nghttp2 has decided on a DATA frame: small ones are copied, of large ones only the head is. */
int pfl_conn_send_data(struct pfl_conn *c, const uint8_t *framehd, size_t len, struct pfl_msg_out *out)
{
    enum { FRAME_HEAD = 9 };
    if (c->direct || c->wlen + FRAME_HEAD > sizeof c->wbuf)
        return NGHTTP2_ERR_WOULDBLOCK;
    (void)join(c, framehd, FRAME_HEAD);
    if (len == 0)
        return 0;
    c->direct = pfl_msg_out_ref(out);
    c->direct_left = len;
    if (len <= sizeof c->wbuf - c->wlen)
        (void)write_direct(c); /* fits: copies only */
    return 0;
}

/* True while there may be more to do at once. */
static bool write_some(struct pfl_conn *c)
{
    const uint8_t *data = NULL;
    if ((c->direct && !write_direct(c)) || !write_tail(c))
        return false;
    ssize_t n = nghttp2_session_mem_send(c->h2, &data);
    if (n < 0) {
        pfl_conn_fail(c, PFL_MALFORMED, "HTTP/2: %s", nghttp2_strerror((int)n));
        return false;
    }
    if (n > 0)
        c->tail = pfl_bytes_of(data, (size_t)n);
    if (n > 0 || c->direct)
        return true;
    /* nothing came: there is nothing, or there was no room behind what waits */
    return c->wlen > 0 && flush(c);
}

void pfl_conn_write(struct pfl_conn *c)
{
    uint64_t before = c->counters->bytes_sent, *sent = &c->counters->bytes_sent;
    if (c->write_blocked || c->write_failed)
        return;
    if (c->http1) {
        pfl_conn_http1_write(c);
        return;
    }
    while (!pfl_conn_over(c) && write_some(c)) {
        if (*sent - before >= PFL_RPC_TURN_BYTES) {
            pfl_conn_due_at(c, 0);
            break;
        }
    }
    if (*sent > before) {
        c->last_alive = pfl_clock_mono();
        pfl_conn_earn(c, (double)(*sent - before) / PFL_H2_EMPTY_BYTES);
    }
    bool done = !c->write_blocked && !c->write_failed && c->wlen == 0 && !c->direct && c->tail.len == 0;
    if (pfl_conn_over(c) || !done || nghttp2_session_want_read(c->h2) || nghttp2_session_want_write(c->h2))
        return;
    if (c->peer_goaway)
        pfl_conn_refuse(c, PFL_UNAVAILABLE, "the peer closed the connection");
    else
        pfl_conn_refuse(c, PFL_MALFORMED, "HTTP/2: %s", c->h2_error[0] ? c->h2_error : "the session is over");
}
