/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a client. A call waits for a connection, has a stream, or is finished and waits for its `done`. Streams and calls forget
 * each other like on the server: a stream stays until nghttp2 closes it, since its frames may be on their way. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/channel_impl.h"
#include "rpc/status.h"

struct pfl_client_stream {
    struct pfl_stream base; /* first: nghttp2's data source */
    struct pfl_client_conn *cc;
    struct pfl_client_stream *prev, *next;
    struct pfl_client_call *call; /* NULL: finished before the stream was */
};

struct pfl_client_call {
    struct pfl_rpc_channel *channel;
    struct pfl_client_call *prev, *next;
    struct pfl_client_stream *stream; /* NULL: waits */
    char *path;                       /* owned */
    pfl_ns timeout, deadline;
    struct pfl_msg_out *out; /* owned reference, kept for a second try */
    bool retried;
    struct pfl_headers headers;
    struct pfl_msg_in in;
    struct pfl_blob *response; /* owned */
    size_t n_messages;
    struct pfl_rpc_status status;
    pfl_rpc_done done;
    void *user;
};

/* ---- the end of a call ---- */

static void unlink_call(struct pfl_client_call *call)
{
    if (call->prev)
        call->prev->next = call->next;
    else
        call->channel->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    else
        call->channel->calls_last = call->prev;
    call->prev = call->next = NULL;
}

static void finish(struct pfl_client_call *call, int code, const char *fmt, ...) PFL_PRINTF(3, 4);
static void finish(struct pfl_client_call *call, int code, const char *fmt, ...)
{
    struct pfl_rpc_channel *ch = call->channel;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(call->status.message, sizeof call->status.message, fmt, ap);
    va_end(ap);
    call->status.code = code;
    if (call->stream)
        call->stream->call = NULL;
    call->stream = NULL;
    pfl_msg_out_unref(call->out);
    call->out = NULL;
    unlink_call(call);
    *ch->finished_tail = call;
    ch->finished_tail = &call->next;
}

/* The stream still lives: the server is told that nobody waits. */
static void abandon(struct pfl_client_call *call, int code, const char *fmt, ...) PFL_PRINTF(3, 4);
static void abandon(struct pfl_client_call *call, int code, const char *fmt, ...)
{
    char message[PFL_RPC_MESSAGE_MAX];
    struct pfl_client_stream *st = call->stream;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (st)
        (void)nghttp2_submit_rst_stream(st->cc->conn->h2, NGHTTP2_FLAG_NONE, st->base.id, NGHTTP2_CANCEL);
    finish(call, code, "%s", message);
}

static void call_free(struct pfl_client_call *call)
{
    pfl_msg_in_deinit(&call->in);
    pfl_blob_unref(call->response);
    free(call->path);
    free(call);
}

void pfl_client_deliver(struct pfl_rpc_channel *ch)
{
    while (ch->finished) {
        struct pfl_client_call *call = ch->finished;
        ch->finished = call->next;
        if (!ch->finished)
            ch->finished_tail = &ch->finished;
        call->done(call->user, &call->status, call->status.code == PFL_GRPC_OK ? call->response : NULL);
        call_free(call);
    }
}

/* Outside of the loop's callbacks nothing may call back: the timer does. */
static void deliver_soon(struct pfl_rpc_channel *ch)
{
    if (ch->finished)
        pfl_channel_due_at(ch, 0);
}

/* ---- streams ---- */

static struct pfl_client_call *call_of(struct pfl_conn *c, int32_t id)
{
    struct pfl_client_stream *st = nghttp2_session_get_stream_user_data(c->h2, id);
    return st ? st->call : NULL;
}

static void stream_free(struct pfl_client_stream *st)
{
    if (st->prev)
        st->prev->next = st->next;
    else
        st->cc->streams = st->next;
    if (st->next)
        st->next->prev = st->prev;
    st->cc->conn->n_streams--;
    pfl_msg_out_unref(st->base.out);
    free(st);
}

static ssize_t read_request(nghttp2_session *h2, int32_t stream_id, uint8_t *buf, size_t len, uint32_t *flags,
                            nghttp2_data_source *source, void *user)
{
    (void)h2;
    (void)stream_id;
    (void)buf;
    (void)user;
    struct pfl_client_stream *st = source->ptr;
    size_t n = pfl_msg_out_unclaimed(st->base.out);
    if (n <= len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    n = n < len ? n : len;
    pfl_msg_out_claim(st->base.out, n);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return (ssize_t)n;
}

static struct pfl_client_stream *stream_new(struct pfl_client_conn *cc, struct pfl_client_call *call)
{
    struct pfl_client_stream *st = pfl_xcalloc(1, sizeof *st);
    st->cc = cc;
    st->call = call;
    st->base.out = pfl_msg_out_ref(call->out);
    st->next = cc->streams;
    if (cc->streams)
        cc->streams->prev = st;
    cc->streams = st;
    cc->conn->n_streams++;
    call->stream = st;
    return st;
}

static void submit(struct pfl_rpc_channel *ch, struct pfl_client_call *call)
{
    char timeout[16];
    nghttp2_nv nva[10];
    size_t n = 0;
    nva[n++] = pfl_nv(":method", "POST");
    nva[n++] = pfl_nv(":scheme", ch->tls ? "https" : "http");
    nva[n++] = pfl_nv(":path", call->path);
    nva[n++] = pfl_nv(":authority", ch->target.is_unix ? "localhost" : ch->text);
    nva[n++] = pfl_nv("te", "trailers");
    nva[n++] = pfl_nv("content-type", "application/grpc");
    nva[n++] = pfl_nv("user-agent", "p2pfl-c");
    nva[n++] = pfl_nv("grpc-accept-encoding", "identity");
    if (call->timeout > 0) {
        pfl_grpc_timeout_format(call->timeout, timeout);
        nva[n++] = pfl_nv("grpc-timeout", timeout);
    }
    struct pfl_client_conn *cc = pfl_channel_serving(ch);
    struct pfl_client_stream *st = stream_new(cc, call);
    const nghttp2_data_provider body = {.source.ptr = &st->base, .read_callback = read_request};
    st->base.id = nghttp2_submit_request(cc->conn->h2, NULL, nva, n, &body, st);
    if (st->base.id < 0) { /* stream numbers used up, or memory */
        finish(call, PFL_GRPC_UNAVAILABLE, "HTTP/2: %s", nghttp2_strerror(st->base.id));
        stream_free(st);
        return;
    }
    ch->counters.messages_sent++;
}

void pfl_client_submit_waiting(struct pfl_rpc_channel *ch)
{
    struct pfl_client_call *next;
    for (struct pfl_client_call *call = ch->calls; call; call = next) {
        next = call->next;
        if (!call->stream)
            submit(ch, call);
    }
    if (pfl_channel_serving(ch))
        pfl_conn_kick(pfl_channel_serving(ch)->conn);
}

void pfl_client_fail_waiting(struct pfl_rpc_channel *ch, int code, const char *reason)
{
    struct pfl_client_call *next;
    for (struct pfl_client_call *call = ch->calls; call; call = next) {
        next = call->next;
        if (!call->stream)
            finish(call, code, "%s", reason);
    }
    deliver_soon(ch);
}

void pfl_client_streams_free(struct pfl_client_conn *cc, int code, const char *reason)
{
    struct pfl_client_stream *next;
    for (struct pfl_client_stream *st = cc->streams; st; st = next) {
        next = st->next;
        if (st->call)
            finish(st->call, code, "%s", reason);
        stream_free(st);
    }
}

void pfl_client_cancel_all(struct pfl_rpc_channel *ch)
{
    while (ch->calls)
        abandon(ch->calls, PFL_GRPC_CANCELLED, "the channel was closed");
}

pfl_ns pfl_client_due(struct pfl_rpc_channel *ch, pfl_ns now)
{
    pfl_ns due = PFL_NEVER;
    struct pfl_client_call *next;
    for (struct pfl_client_call *call = ch->calls; call; call = next) {
        next = call->next;
        if (now < call->deadline) {
            due = call->deadline < due ? call->deadline : due;
            continue;
        }
        struct pfl_conn *conn = call->stream ? call->stream->cc->conn : NULL;
        abandon(call, PFL_GRPC_DEADLINE_EXCEEDED, "%s",
                conn ? "no answer before the deadline" : "no connection before the deadline");
        if (conn)
            pfl_conn_kick(conn);
    }
    return due;
}

/* ---- responses ---- */

int pfl_client_begin_headers(struct pfl_conn *c, const nghttp2_frame *frame)
{
    struct pfl_client_call *call = call_of(c, frame->hd.stream_id);
    if (call)
        call->headers.list_len = 0; /* the limit is for one list: headers and trailers are two */
    return 0;
}

int pfl_client_header(struct pfl_conn *c, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                      size_t value_len)
{
    struct pfl_client_call *call = call_of(c, frame->hd.stream_id);
    if (!call || pfl_headers_add(&call->headers, name, name_len, value, value_len))
        return 0;
    abandon(call, PFL_GRPC_RESOURCE_EXHAUSTED, "the response's header fields are past %d bytes", PFL_H2_HEADER_LIST_MAX);
    return 0;
}

static bool accept_message(struct pfl_client_call *call)
{
    size_t len = pfl_msg_in_len(&call->in), limit = call->channel->response_limit;
    if (pfl_msg_in_flag(&call->in) != 0)
        abandon(call, PFL_GRPC_INTERNAL, "the response is compressed, which was not asked for");
    else if (call->n_messages > 0)
        abandon(call, PFL_GRPC_UNIMPLEMENTED, "more than one response message to a unary call");
    else if (len > limit)
        abandon(call, PFL_GRPC_RESOURCE_EXHAUSTED, "the response is %zu bytes, the limit is %zu", len, limit);
    else if (!pfl_msg_in_begin(&call->in))
        abandon(call, PFL_GRPC_RESOURCE_EXHAUSTED, "no memory for a response of %zu bytes", len);
    else
        return true;
    return false;
}

int pfl_client_data(struct pfl_conn *c, int32_t stream_id, struct pfl_bytes data)
{
    struct pfl_client_call *call = call_of(c, stream_id);
    if (!call || call->headers.http_status != 200 || !pfl_headers_is_grpc(&call->headers))
        return 0; /* an error page of something that is not gRPC */
    for (;;) {
        enum pfl_msg_state state = pfl_msg_in_feed(&call->in, &data);
        if (state == PFL_MSG_MORE || (state == PFL_MSG_PREFIX && !accept_message(call)))
            return 0;
        if (state == PFL_MSG_DONE) {
            call->response = pfl_msg_in_take(&call->in);
            call->n_messages++;
            call->channel->counters.messages_received++;
        }
    }
}

/* The server has said its last word while the request is still going out: stop sending. */
void pfl_client_headers_done(struct pfl_conn *c, const nghttp2_frame *frame)
{
    const struct pfl_client_stream *st = nghttp2_session_get_stream_user_data(c->h2, frame->hd.stream_id);
    if (st && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && nghttp2_session_get_stream_local_close(c->h2, st->base.id) == 0)
        (void)nghttp2_submit_rst_stream(c->h2, NGHTTP2_FLAG_NONE, st->base.id, NGHTTP2_CANCEL);
}

/* The server says that it has not looked at the call: a second try cannot run it twice. */
static bool try_again(struct pfl_client_call *call)
{
    struct pfl_rpc_channel *ch = call->channel;
    if (call->retried || ch->closing || pfl_clock_mono() >= call->deadline)
        return false;
    call->retried = true;
    call->stream->call = NULL;
    call->stream = NULL;
    call->out = pfl_msg_out_again(call->out);
    pfl_msg_in_deinit(&call->in);
    call->headers = (struct pfl_headers){0};
    if (pfl_channel_serving(ch))
        submit(ch, call);
    else
        pfl_channel_want(ch);
    return true;
}

static void finish_ok(struct pfl_client_call *call)
{
    if (call->n_messages == 1 && !pfl_msg_in_partial(&call->in))
        finish(call, PFL_GRPC_OK, "%s", "");
    else if (pfl_msg_in_partial(&call->in))
        finish(call, PFL_GRPC_INTERNAL, "the response ended inside a message");
    else
        finish(call, PFL_GRPC_UNIMPLEMENTED, "no response message to a unary call");
}

/* In gRPC's order: its own status, then HTTP's, then what is missing. */
static void conclude(struct pfl_client_call *call, uint32_t error_code)
{
    const struct pfl_headers *h = &call->headers;
    int code = h->grpc_status >= 0 && h->grpc_status <= PFL_GRPC_UNAUTHENTICATED ? h->grpc_status : PFL_GRPC_UNKNOWN;
    bool is_grpc = pfl_headers_is_grpc(h);
    if (h->has_grpc_status && h->http_status != 0 && (is_grpc || h->http_status == 200)) {
        if (h->grpc_status_bad)
            finish(call, PFL_GRPC_UNKNOWN, "the response's grpc-status is no number");
        else if (code == PFL_GRPC_OK)
            finish_ok(call);
        else
            finish(call, code, "%s", h->message);
    } else if (h->http_status != 0 && h->http_status != 200)
        finish(call, pfl_grpc_code_of_http(h->http_status), "HTTP status %d instead of gRPC", h->http_status);
    else if (error_code != NGHTTP2_NO_ERROR)
        finish(call, pfl_grpc_code_of_h2(error_code), "the stream was reset (%s)", nghttp2_http2_strerror(error_code));
    else if (!is_grpc)
        finish(call, PFL_GRPC_UNKNOWN, "the response is not gRPC: its content-type is '%s'", h->content_type);
    else
        finish(call, PFL_GRPC_UNKNOWN, "the response ended without a grpc-status");
}

int pfl_client_stream_closed(struct pfl_conn *c, int32_t stream_id, uint32_t error_code)
{
    struct pfl_client_stream *st = nghttp2_session_get_stream_user_data(c->h2, stream_id);
    if (!st)
        return 0;
    struct pfl_client_call *call = st->call;
    if (call && !(error_code == NGHTTP2_REFUSED_STREAM && try_again(call)))
        conclude(call, error_code);
    stream_free(st);
    pfl_conn_earn(c, PFL_H2_EMPTY_PER_CALL);
    pfl_conn_stream_ended(c);
    return 0;
}

/* ---- for the application ---- */

static struct pfl_client_call *call_new(struct pfl_rpc_channel *ch, const char *path, const struct pfl_rpc_body *body,
                                        pfl_ns timeout)
{
    struct pfl_client_call *call = pfl_xcalloc(1, sizeof *call);
    pfl_ns now = pfl_clock_mono();
    call->channel = ch;
    call->path = pfl_xstrdup(path);
    call->timeout = timeout;
    call->deadline = timeout > 0 && timeout < PFL_NEVER - now ? now + timeout : PFL_NEVER;
    call->out = pfl_msg_out_new(body);
    call->prev = ch->calls_last; /* in order: calls that wait go out as they came */
    if (ch->calls_last)
        ch->calls_last->next = call;
    else
        ch->calls = call;
    ch->calls_last = call;
    return call;
}

void pfl_rpc_channel_call(struct pfl_rpc_channel *ch, const char *path, const struct pfl_rpc_body *body, pfl_ns timeout,
                          pfl_rpc_done done, void *user)
{
    struct pfl_client_call *call = call_new(ch, path, body, timeout);
    call->done = done;
    call->user = user;
    if (!call->out)
        finish(call, PFL_GRPC_RESOURCE_EXHAUSTED, "the request is past 4 GiB");
    else if (ch->closing)
        finish(call, PFL_GRPC_CANCELLED, "the channel was closed");
    else if (!pfl_channel_serving(ch) && ch->state == PFL_CHANNEL_BACKOFF && pfl_clock_mono() < ch->backoff_until)
        finish(call, ch->last_rc == PFL_AUTH ? PFL_GRPC_UNAUTHENTICATED : PFL_GRPC_UNAVAILABLE, "%s", ch->last_reason);
    else if (pfl_channel_serving(ch)) {
        struct pfl_conn *conn = pfl_channel_serving(ch)->conn;
        pfl_channel_due_at(ch, call->deadline);
        submit(ch, call);
        pfl_conn_kick(conn);
    } else {
        pfl_channel_due_at(ch, call->deadline);
        pfl_channel_want(ch);
    }
    deliver_soon(ch);
}
