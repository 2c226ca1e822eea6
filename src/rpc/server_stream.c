/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on the server: a stream assembles the request, a call is what the handler holds. A stream lives until nghttp2 closes it, a
 * call until it is answered; each forgets the other when it goes first. A request that is refused is refused as early as possible:
 * on its headers, or on the length prefix before its message has a byte of memory. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/http.h"
#include "rpc/server_impl.h"
#include "rpc/status.h"

struct pfl_server_stream {
    struct pfl_stream base; /* first: nghttp2's data source */
    struct pfl_server_conn *sc;
    struct pfl_server_stream *prev, *next;
    struct pfl_headers headers;
    const struct pfl_method *method; /* NULL until the headers are accepted */
    struct pfl_rpc_call *call;       /* the one that is being handled */
    struct pfl_msg_in in;
    size_t counted; /* its part of sc->in_bytes */
    pfl_ns deadline, progress;
    size_t fresh;                                         /* bytes of the request since its last progress */
    struct pfl_blob *waiting[PFL_RPC_STREAM_BACKLOG_MAX]; /* requests; owned. A unary one waits for the end of the stream */
    size_t n_waiting, n_messages;
    struct pfl_msg_out *replies[PFL_RPC_STREAM_BACKLOG_MAX]; /* behind base.out; owned */
    size_t n_replies;
    struct pfl_buf *http; /* owned: a plain HTTP request's body, then its answer's; NULL: gRPC */
    size_t http_sent;
    bool half_closed; /* the request is complete */
    bool begun;       /* response headers are submitted */
    bool finished;    /* the status below is the call's */
    bool reset;       /* RST_STREAM is submitted */
    size_t discarded; /* bytes of the request that came after the answer */
    int code;
    char message[PFL_RPC_MESSAGE_MAX];
};

struct pfl_rpc_call {
    struct pfl_server_stream *stream; /* NULL: gone */
    struct pfl_peer *peer;            /* owned reference */
    pfl_ns deadline;
};

static struct pfl_server_stream *stream_of(struct pfl_conn *c, int32_t id)
{
    return nghttp2_session_get_stream_user_data(c->h2, id);
}

static nghttp2_session *h2_of(const struct pfl_server_stream *st)
{
    return st->sc->conn->h2;
}

/* ---- life ---- */

static void uncount(struct pfl_server_stream *st)
{
    st->sc->in_bytes -= st->counted;
    st->counted = 0;
}

static void forget_call(struct pfl_server_stream *st)
{
    if (st->call)
        st->call->stream = NULL;
    st->call = NULL;
}

static void drop_request(struct pfl_server_stream *st)
{
    uncount(st);
    pfl_msg_in_deinit(&st->in);
    for (size_t i = 0; i < st->n_waiting; i++)
        pfl_blob_unref(st->waiting[i]);
    st->n_waiting = 0;
}

static void http_free(struct pfl_server_stream *st)
{
    if (!st->http)
        return;
    if (st->http->data)
        explicit_bzero(st->http->data, st->http->cap);
    pfl_buf_deinit(st->http);
    free(st->http);
    st->http = NULL;
    explicit_bzero(st->headers.authorization, sizeof st->headers.authorization);
}

static void stream_free(struct pfl_server_stream *st)
{
    if (st->prev)
        st->prev->next = st->next;
    else
        st->sc->streams = st->next;
    if (st->next)
        st->next->prev = st->prev;
    st->sc->conn->n_streams--;
    forget_call(st);
    drop_request(st);
    pfl_msg_out_unref(st->base.out);
    for (size_t i = 0; i < st->n_replies; i++)
        pfl_msg_out_unref(st->replies[i]);
    http_free(st);
    free(st);
}

void pfl_server_streams_free(struct pfl_server_conn *sc)
{
    struct pfl_server_stream *next;
    for (struct pfl_server_stream *st = sc->streams; st; st = next) {
        next = st->next;
        stream_free(st);
    }
}

int pfl_server_begin_headers(struct pfl_conn *c, const nghttp2_frame *frame)
{
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct pfl_server_conn *sc = c->owner;
    struct pfl_server_stream *st = pfl_xcalloc(1, sizeof *st);
    st->base.id = frame->hd.stream_id;
    st->sc = sc;
    st->deadline = PFL_NEVER;
    st->progress = pfl_clock_mono();
    st->next = sc->streams;
    if (sc->streams)
        sc->streams->prev = st;
    sc->streams = st;
    c->n_streams++;
    pfl_conn_due_at(c, st->progress + c->read_stall);
    return nghttp2_session_set_stream_user_data(c->h2, st->base.id, st) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

int pfl_server_stream_closed(struct pfl_conn *c, int32_t stream_id, uint32_t error_code)
{
    (void)error_code;
    struct pfl_server_stream *st = stream_of(c, stream_id);
    if (!st)
        return 0;
    stream_free(st);
    pfl_conn_stream_ended(c);
    return 0;
}

/* ---- answers ---- */

static void submit_trailers(struct pfl_server_stream *st)
{
    char code[12], message[3 * PFL_RPC_MESSAGE_MAX];
    snprintf(code, sizeof code, "%d", st->code);
    pfl_grpc_percent_encode(st->message, message, sizeof message);
    const nghttp2_nv nva[] = {pfl_nv("grpc-status", code), pfl_nv("grpc-message", message)};
    (void)nghttp2_submit_trailer(h2_of(st), st->base.id, nva, message[0] ? 2 : 1);
}

static bool next_reply(struct pfl_server_stream *st)
{
    if (st->base.out && pfl_msg_out_unclaimed(st->base.out) > 0)
        return true;
    if (st->n_replies == 0)
        return false;
    pfl_msg_out_unref(st->base.out);
    st->base.out = st->replies[0];
    st->n_replies--;
    memmove(st->replies, st->replies + 1, st->n_replies * sizeof st->replies[0]);
    return true;
}

static ssize_t read_reply(nghttp2_session *h2, int32_t stream_id, uint8_t *buf, size_t len, uint32_t *flags,
                          nghttp2_data_source *source, void *user)
{
    (void)h2;
    (void)stream_id;
    (void)buf;
    (void)user;
    struct pfl_server_stream *st = source->ptr;
    size_t n = 0;
    if (next_reply(st)) {
        n = pfl_msg_out_unclaimed(st->base.out);
        n = n < len ? n : len;
        pfl_msg_out_claim(st->base.out, n);
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    }
    bool all = st->n_replies == 0 && (!st->base.out || pfl_msg_out_unclaimed(st->base.out) == 0);
    if (all && st->finished) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_trailers(st);
    } else if (n == 0)
        return NGHTTP2_ERR_DEFERRED;
    return (ssize_t)n;
}

static void begin_response(struct pfl_server_stream *st)
{
    const nghttp2_nv nva[] = {pfl_nv(":status", "200"), pfl_nv("content-type", "application/grpc")};
    const nghttp2_data_provider body = {.source.ptr = &st->base, .read_callback = read_reply};
    st->begun = true;
    (void)nghttp2_submit_response(h2_of(st), st->base.id, nva, PFL_ARRAY_LEN(nva), &body);
}

static void trailers_only(struct pfl_server_stream *st)
{
    char code[12], message[3 * PFL_RPC_MESSAGE_MAX];
    snprintf(code, sizeof code, "%d", st->code);
    pfl_grpc_percent_encode(st->message, message, sizeof message);
    const nghttp2_nv nva[] = {pfl_nv(":status", "200"), pfl_nv("content-type", "application/grpc"), pfl_nv("grpc-status", code),
                              pfl_nv("grpc-message", message), pfl_nv("grpc-accept-encoding", "identity")};
    st->begun = true;
    (void)nghttp2_submit_response(h2_of(st), st->base.id, nva, PFL_ARRAY_LEN(nva), NULL);
}

static void finish(struct pfl_server_stream *st, int code, const char *fmt, ...) PFL_PRINTF(3, 4);
static void finish(struct pfl_server_stream *st, int code, const char *fmt, ...)
{
    if (st->finished)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(st->message, sizeof st->message, fmt, ap);
    va_end(ap);
    st->finished = true;
    st->code = code;
    forget_call(st);
    drop_request(st);
    if (!st->begun)
        trailers_only(st);
    else
        (void)nghttp2_session_resume_data(h2_of(st), st->base.id);
}

/* For those who do not speak gRPC: plain HTTP. */
static void finish_http(struct pfl_server_stream *st, const char *status)
{
    const nghttp2_nv nva[] = {pfl_nv(":status", status), pfl_nv(strcmp(status, "405") == 0 ? "allow" : "accept-post",
                                                                strcmp(status, "405") == 0 ? "POST" : "application/grpc")};
    st->finished = st->begun = true;
    (void)nghttp2_submit_response(h2_of(st), st->base.id, nva, PFL_ARRAY_LEN(nva), NULL);
}

static ssize_t read_http(nghttp2_session *h2, int32_t stream_id, uint8_t *buf, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    (void)h2;
    (void)stream_id;
    (void)user;
    struct pfl_server_stream *st = source->ptr;
    size_t left = st->http->len - st->http_sent, n = left < len ? left : len;
    memcpy(buf, st->http->data + st->http_sent, n);
    st->http_sent += n;
    if (n == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* Takes the response's body. */
static void submit_http(struct pfl_server_stream *st, struct pfl_http_response *r)
{
    char status[12], retry[12];
    nghttp2_nv nva[5];
    size_t n = 0;
    snprintf(status, sizeof status, "%d", r->status);
    snprintf(retry, sizeof retry, "%d", r->retry_after_s);
    nva[n++] = pfl_nv(":status", status);
    if (r->content_type)
        nva[n++] = pfl_nv("content-type", r->content_type);
    if (r->base64)
        nva[n++] = pfl_nv("content-transfer-encoding", "base64");
    if (r->retry_after_s > 0)
        nva[n++] = pfl_nv("retry-after", retry);
    if (r->status == 401)
        nva[n++] = pfl_nv("www-authenticate", PFL_HTTP_CHALLENGE);
    http_free(st);
    st->http = pfl_xcalloc(1, sizeof *st->http);
    *st->http = r->body;
    r->body = (struct pfl_buf){0};
    st->finished = st->begun = true;
    const nghttp2_data_provider body = {.source.ptr = st, .read_callback = read_http};
    (void)nghttp2_submit_response(h2_of(st), st->base.id, nva, n, st->http->len > 0 ? &body : NULL);
}

static void answer_http(struct pfl_server_stream *st)
{
    struct pfl_rpc_server *s = st->sc->server;
    struct pfl_http_response r = {.body = {.limit = PFL_HTTP_ANSWER_MAX}};
    const struct pfl_http_request request = {
        .method = st->headers.method,
        .path = st->headers.path,
        .content_type = st->headers.content_type,
        .authorization = st->headers.authorization,
        .body = pfl_buf_view(st->http),
    };
    s->http(s->user, &st->sc->conn->peer->pub, &request, &r);
    submit_http(st, &r);
}

static void http_data(struct pfl_server_stream *st, struct pfl_bytes data)
{
    if (pfl_buf_append(st->http, data.data, data.len))
        return;
    struct pfl_http_response r = {.status = 413};
    submit_http(st, &r);
}

/* A plain request where somebody answers those: its body is collected. */
static bool begin_http(struct pfl_server_stream *st)
{
    const struct pfl_headers *h = &st->headers;
    if (!st->sc->server->http || pfl_headers_is_grpc(h) || (strcmp(h->method, "POST") != 0 && strcmp(h->method, "GET") != 0))
        return false;
    st->http = pfl_xcalloc(1, sizeof *st->http);
    st->http->limit = PFL_HTTP_BODY_MAX;
    return true;
}

/* The answer is out and the request still comes in. A little more is let pass, since some clients take a reset for an error even
 * behind an answer; then the client is asked to stop. */
static void discard(struct pfl_server_stream *st, size_t len)
{
    st->discarded += len;
    if (st->discarded > PFL_RPC_DISCARD_MAX && !st->reset && nghttp2_session_get_stream_local_close(h2_of(st), st->base.id) == 1)
        st->reset = nghttp2_submit_rst_stream(h2_of(st), NGHTTP2_FLAG_NONE, st->base.id, NGHTTP2_NO_ERROR) == 0;
}

/* ---- requests ---- */

int pfl_server_header(struct pfl_conn *c, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                      size_t value_len)
{
    struct pfl_server_stream *st = stream_of(c, frame->hd.stream_id);
    if (st)
        (void)pfl_headers_add(&st->headers, name, name_len, value, value_len); /* past the limit: on_request() answers */
    return 0;
}

static const struct pfl_method *method_find(const struct pfl_rpc_server *s, const char *path)
{
    for (size_t i = 0; i < s->n_methods; i++)
        if (strcmp(s->methods[i].path, path) == 0)
            return &s->methods[i];
    return NULL;
}

static void on_request(struct pfl_server_stream *st)
{
    const struct pfl_headers *h = &st->headers;
    if (h->list_len > PFL_H2_HEADER_LIST_MAX) {
        finish(st, PFL_GRPC_RESOURCE_EXHAUSTED, "the header fields are past %d bytes", PFL_H2_HEADER_LIST_MAX);
        return;
    }
    if (begin_http(st))
        return;
    if (strcmp(h->method, "POST") != 0) {
        finish_http(st, "405");
        return;
    }
    if (!pfl_headers_is_grpc(h)) {
        finish_http(st, "415");
        return;
    }
    const struct pfl_method *m = method_find(st->sc->server, h->path);
    if (!m)
        finish(st, PFL_GRPC_UNIMPLEMENTED, "unknown method '%s'", pfl_q(h->path));
    else if (h->encoding_unknown)
        finish(st, PFL_GRPC_UNIMPLEMENTED, "grpc-encoding '%s' is not supported, only identity is", pfl_q(h->encoding));
    else if (h->timeout_bad)
        finish(st, PFL_GRPC_INTERNAL, "malformed grpc-timeout");
    if (st->finished)
        return;
    st->method = m;
    if (h->has_timeout) {
        pfl_ns now = pfl_clock_mono();
        st->deadline = h->timeout < PFL_NEVER - now ? now + h->timeout : PFL_NEVER;
        pfl_conn_due_at(st->sc->conn, st->deadline);
    }
}

static size_t limit_of(const struct pfl_server_stream *st)
{
    const struct pfl_rpc_server *s = st->sc->server;
    if (st->method->builtin)
        return PFL_RPC_BUILTIN_REQUEST_MAX;
    return s->request_limit ? s->request_limit(s->user, st->method->path, &st->sc->conn->peer->pub) : PFL_RPC_RESPONSE_MAX;
}

/* The length prefix is in; nothing is allocated before it passes. False: refused. */
static bool accept_message(struct pfl_server_stream *st)
{
    size_t len = pfl_msg_in_len(&st->in), limit = limit_of(st);
    if (pfl_msg_in_flag(&st->in) != 0)
        finish(st, PFL_GRPC_INTERNAL, "the compressed flag is %u without a grpc-encoding", pfl_msg_in_flag(&st->in));
    else if (!st->method->stream && st->n_messages > 0)
        finish(st, PFL_GRPC_UNIMPLEMENTED, "more than one request message in a unary call");
    else if (len > limit)
        finish(st, PFL_GRPC_RESOURCE_EXHAUSTED, "the message is %zu bytes, the limit is %zu", len, limit);
    else if (st->sc->in_bytes > 0 && len > limit * 2 - (st->sc->in_bytes < limit * 2 ? st->sc->in_bytes : limit * 2))
        finish(st, PFL_GRPC_RESOURCE_EXHAUSTED, "%zu bytes of messages are under way on this connection, %zu more are too many",
               st->sc->in_bytes, len);
    else if (!pfl_msg_in_begin(&st->in))
        finish(st, PFL_GRPC_RESOURCE_EXHAUSTED, "no memory for a message of %zu bytes", len);
    if (st->finished)
        return false;
    st->counted = len;
    st->sc->in_bytes += len;
    return true;
}

static void dispatch(struct pfl_server_stream *st)
{
    struct pfl_blob *request = st->waiting[0];
    st->n_waiting--;
    memmove(st->waiting, st->waiting + 1, st->n_waiting * sizeof st->waiting[0]);
    struct pfl_rpc_call *call = pfl_xcalloc(1, sizeof *call);
    call->stream = st;
    call->peer = pfl_peer_ref(st->sc->conn->peer);
    call->deadline = st->deadline;
    st->call = call;
    st->method->handler(st->method->user, call, request);
    pfl_blob_unref(request);
}

/* What can go on, goes on: a unary call when its stream has ended, a streaming one message by message. */
static void proceed(struct pfl_server_stream *st)
{
    if (st->finished || st->call)
        return;
    if (st->n_waiting > 0 && (st->half_closed || st->method->stream)) {
        dispatch(st);
        return;
    }
    if (!st->half_closed)
        return;
    if (!st->method->stream)
        finish(st, PFL_GRPC_UNIMPLEMENTED, "no request message in a unary call");
    else {
        if (!st->begun)
            begin_response(st);
        finish(st, PFL_GRPC_OK, "%s", "");
    }
}

static void message_done(struct pfl_server_stream *st)
{
    uncount(st);
    struct pfl_blob *message = pfl_msg_in_take(&st->in);
    if (st->n_waiting == PFL_ARRAY_LEN(st->waiting)) {
        pfl_blob_unref(message);
        finish(st, PFL_GRPC_RESOURCE_EXHAUSTED, "too many requests at once on one stream");
        return;
    }
    st->waiting[st->n_waiting++] = message;
    st->n_messages++;
    st->sc->server->counters.messages_received++;
    proceed(st);
}

int pfl_server_data(struct pfl_conn *c, int32_t stream_id, struct pfl_bytes data)
{
    struct pfl_server_stream *st = stream_of(c, stream_id);
    if (!st)
        return 0;
    st->fresh += data.len;
    if (st->fresh >= PFL_RPC_READ_PROGRESS) {
        st->progress = pfl_clock_mono();
        st->fresh = 0;
    }
    if (st->finished)
        discard(st, data.len);
    else if (st->http)
        http_data(st, data);
    while (!st->finished && st->method) {
        enum pfl_msg_state state = pfl_msg_in_feed(&st->in, &data);
        if (state == PFL_MSG_PREFIX && !accept_message(st))
            break;
        if (state == PFL_MSG_DONE)
            message_done(st);
        if (state == PFL_MSG_MORE)
            break;
    }
    return 0;
}

static void on_half_close(struct pfl_server_stream *st)
{
    st->half_closed = true;
    pfl_conn_earn(st->sc->conn, PFL_H2_EMPTY_PER_CALL);
    if (st->finished)
        return;
    if (st->http) {
        answer_http(st);
        return;
    }
    if (pfl_msg_in_partial(&st->in)) {
        finish(st, PFL_GRPC_INTERNAL, "the stream ended inside a message: %zu of %zu bytes", st->in.got,
               st->in.blob ? st->in.blob->len : 0);
        return;
    }
    proceed(st);
}

int pfl_server_frame(struct pfl_conn *c, const nghttp2_frame *frame)
{
    bool headers = frame->hd.type == NGHTTP2_HEADERS, data = frame->hd.type == NGHTTP2_DATA;
    struct pfl_server_stream *st = headers || data ? stream_of(c, frame->hd.stream_id) : NULL;
    if (!st)
        return 0;
    if (headers && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        st->half_closed = frame->hd.flags & NGHTTP2_FLAG_END_STREAM; /* an early answer then needs no reset */
        on_request(st);
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        on_half_close(st);
    return 0;
}

/* ---- time ---- */

static void check_deadline(struct pfl_server_stream *st, pfl_ns now)
{
    if (now < st->deadline)
        return;
    st->deadline = PFL_NEVER;
    if (st->finished) /* its reply is not read: who waited for it has given up */
        (void)nghttp2_submit_rst_stream(h2_of(st), NGHTTP2_FLAG_NONE, st->base.id, NGHTTP2_CANCEL);
    else
        finish(st, PFL_GRPC_DEADLINE_EXCEEDED, "the deadline passed before the call was answered");
}

static pfl_ns stall_of(const struct pfl_server_stream *st)
{
    bool reads = !st->half_closed && !st->reset && (st->finished || !(st->method && st->method->stream));
    return reads ? st->progress + st->sc->conn->read_stall : PFL_NEVER;
}

static void check_stall(struct pfl_server_stream *st, pfl_ns now)
{
    if (now < stall_of(st))
        return;
    if (st->finished)
        st->reset = nghttp2_submit_rst_stream(h2_of(st), NGHTTP2_FLAG_NONE, st->base.id, NGHTTP2_NO_ERROR) == 0;
    else
        finish(st, PFL_GRPC_DEADLINE_EXCEEDED, "%zu bytes of the request came within %lld ms, and not its end: %d are the least",
               st->fresh, (long long)(st->sc->conn->read_stall / PFL_MS), PFL_RPC_READ_PROGRESS);
    st->progress = now;
    st->fresh = 0;
}

pfl_ns pfl_server_due(struct pfl_conn *c, pfl_ns now)
{
    struct pfl_server_conn *sc = c->owner;
    pfl_ns due = PFL_NEVER;
    for (struct pfl_server_stream *st = sc->streams; st; st = st->next) {
        check_deadline(st, now);
        check_stall(st, now);
        due = st->deadline < due ? st->deadline : due;
        due = stall_of(st) < due ? stall_of(st) : due;
    }
    return due;
}

/* ---- for handlers ---- */

const struct pfl_rpc_peer *pfl_rpc_call_peer(const struct pfl_rpc_call *c)
{
    return &c->peer->pub;
}

pfl_ns pfl_rpc_call_deadline(const struct pfl_rpc_call *c)
{
    return c->deadline;
}

bool pfl_rpc_call_alive(const struct pfl_rpc_call *c)
{
    return c->stream && !pfl_conn_over(c->stream->sc->conn);
}

/* The call ends here in any case. NULL: nobody waits for the answer. */
static struct pfl_server_stream *end_call(struct pfl_rpc_call *c)
{
    struct pfl_server_stream *st = pfl_rpc_call_alive(c) ? c->stream : NULL;
    if (c->stream)
        c->stream->call = NULL;
    pfl_peer_unref(c->peer);
    free(c);
    return st;
}

static void add_reply(struct pfl_server_stream *st, struct pfl_msg_out *reply)
{
    st->replies[st->n_replies++] = reply;
    st->sc->server->counters.messages_sent++;
    if (!st->method->stream) {
        st->finished = true;
        st->code = PFL_GRPC_OK;
    }
    if (!st->begun)
        begin_response(st);
    else
        (void)nghttp2_session_resume_data(h2_of(st), st->base.id);
}

void pfl_rpc_call_reply(struct pfl_rpc_call *c, const struct pfl_rpc_body *body)
{
    struct pfl_msg_out *reply = pfl_msg_out_new(body);
    struct pfl_server_stream *st = end_call(c);
    if (!st) {
        pfl_msg_out_unref(reply);
        return;
    }
    struct pfl_conn *conn = st->sc->conn;
    if (!reply)
        finish(st, PFL_GRPC_INTERNAL, "the response is past 4 GiB");
    else if (st->n_replies == PFL_ARRAY_LEN(st->replies)) {
        pfl_msg_out_unref(reply);
        finish(st, PFL_GRPC_RESOURCE_EXHAUSTED, "the responses are not read");
    } else {
        add_reply(st, reply);
        proceed(st);
    }
    pfl_conn_kick(conn);
}

void pfl_rpc_call_fail(struct pfl_rpc_call *c, int code, const char *fmt, ...)
{
    struct pfl_server_stream *st = end_call(c);
    if (!st)
        return;
    char message[PFL_RPC_MESSAGE_MAX];
    struct pfl_conn *conn = st->sc->conn;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    finish(st, code, "%s", message);
    pfl_conn_kick(conn);
}
