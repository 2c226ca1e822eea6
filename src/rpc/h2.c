/* SPDX-License-Identifier: Apache-2.0 */
/* The nghttp2 session of a connection: its settings, its callbacks, and the account of frames that cost work and carry nothing. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/conn.h"

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    (void)h2;
    struct pfl_conn *c = user;
    return c->ops->begin_headers(c, frame);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                     size_t value_len, uint8_t flags, void *user)
{
    (void)h2;
    (void)flags;
    struct pfl_conn *c = user;
    return c->ops->header(c, frame, name, name_len, value, value_len);
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len, void *user)
{
    (void)h2;
    (void)flags;
    struct pfl_conn *c = user;
    return c->ops->data(c, stream_id, pfl_bytes_of(data, len));
}

static bool is_empty_work(const nghttp2_frame *f)
{
    switch (f->hd.type) {
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
        return !(f->hd.flags & NGHTTP2_FLAG_ACK);
    case NGHTTP2_PRIORITY:
    case NGHTTP2_WINDOW_UPDATE:
        return true;
    case NGHTTP2_DATA:
        return f->hd.length == 0 && !(f->hd.flags & NGHTTP2_FLAG_END_STREAM);
    default:
        return false;
    }
}

void pfl_conn_earn(struct pfl_conn *c, double tokens)
{
    c->empty_tokens += tokens;
    if (c->empty_tokens > PFL_H2_EMPTY_BURST)
        c->empty_tokens = PFL_H2_EMPTY_BURST;
}

static bool afford_empty(struct pfl_conn *c)
{
    c->empty_tokens -= 1;
    if (c->empty_tokens >= 0)
        return true;
    pfl_ns now = pfl_clock_mono();
    pfl_conn_earn(c, (double)(now - c->empty_at) / (double)PFL_SEC * PFL_H2_EMPTY_PER_S);
    c->empty_at = now;
    return c->empty_tokens >= 0;
}

static void on_settings(struct pfl_conn *c)
{
    if (c->state != PFL_CONN_SETTLING)
        return;
    c->state = PFL_CONN_OPEN;
    c->setup_deadline = PFL_NEVER;
    c->opened_at = pfl_clock_mono();
    pfl_conn_due_at(c, c->opened_at + c->ping_period);
    pfl_conn_watch_expiry(c);
    c->ops->ready(c);
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    struct pfl_conn *c = user;
    if (is_empty_work(frame) && !afford_empty(c)) {
        snprintf(c->h2_error, sizeof c->h2_error, "flooded with frames that carry nothing");
        return nghttp2_session_terminate_session(h2, NGHTTP2_ENHANCE_YOUR_CALM) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
        on_settings(c);
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        c->pinged = false;
        if (memcmp(frame->ping.opaque_data, PFL_H2_DRAIN_PING, sizeof PFL_H2_DRAIN_PING) == 0)
            pfl_conn_notice_heard(c);
    }
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code == NGHTTP2_NO_ERROR)
        c->peer_goaway = true;
    return c->ops->frame(c, frame);
}

static int on_stream_close(nghttp2_session *h2, int32_t stream_id, uint32_t error_code, void *user)
{
    (void)h2;
    struct pfl_conn *c = user;
    return c->ops->stream_closed(c, stream_id, error_code);
}

/* nghttp2's texts quote what the peer sent. */
static int on_error(nghttp2_session *h2, int code, const char *msg, size_t len, void *user)
{
    (void)h2;
    (void)code;
    struct pfl_conn *c = user;
    pfl_quote(msg, len, c->h2_error, sizeof c->h2_error);
    return 0;
}

static int on_invalid_frame(nghttp2_session *h2, const nghttp2_frame *frame, int code, void *user)
{
    (void)h2;
    struct pfl_conn *c = user;
    snprintf(c->h2_error, sizeof c->h2_error, "invalid frame of type %u: %s", frame->hd.type, nghttp2_strerror(code));
    return 0;
}

static ssize_t read_length(nghttp2_session *h2, uint8_t type, int32_t stream_id, int32_t connection_window, int32_t stream_window,
                           uint32_t frame_max, void *user)
{
    (void)h2;
    (void)type;
    (void)stream_id;
    (void)user;
    int64_t len = frame_max < PFL_H2_FRAME_MAX ? frame_max : PFL_H2_FRAME_MAX;
    len = connection_window < len ? connection_window : len;
    return (ssize_t)(stream_window < len ? stream_window : len);
}

static int on_send_data(nghttp2_session *h2, nghttp2_frame *frame, const uint8_t *framehd, size_t len, nghttp2_data_source *source,
                        void *user)
{
    (void)h2;
    (void)frame;
    const struct pfl_stream *s = source->ptr;
    return pfl_conn_send_data(user, framehd, len, s->out);
}

static nghttp2_session_callbacks *callbacks_new(void)
{
    nghttp2_session_callbacks *cb = NULL;
    PFL_ASSERT(nghttp2_session_callbacks_new(&cb) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_error_callback2(cb, on_error);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_data_source_read_length_callback(cb, read_length);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    return cb;
}

static nghttp2_option *option_new(bool is_server)
{
    nghttp2_option *o = NULL;
    PFL_ASSERT(nghttp2_option_new(&o) == 0);
    nghttp2_option_set_max_outbound_ack(o, PFL_H2_OUTBOUND_ACKS_MAX);
    nghttp2_option_set_max_settings(o, PFL_H2_SETTINGS_MAX);
    nghttp2_option_set_max_continuations(o, PFL_H2_CONTINUATIONS_MAX);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_reserved_remote_streams(o, 0);
    if (is_server)
        nghttp2_option_set_stream_reset_rate_limit(o, PFL_H2_RESETS_BURST, PFL_H2_RESETS_PER_S);
    return o;
}

static void submit_settings(struct pfl_conn *c)
{
    nghttp2_settings_entry entries[5];
    size_t n = 0;
    entries[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, PFL_H2_STREAM_WINDOW};
    entries[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_FRAME_SIZE, PFL_H2_FRAME_MAX};
    entries[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, PFL_H2_HEADER_LIST_MAX};
    entries[n++] = c->is_server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->streams_max}
                                : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    int rv = nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, entries, n);
    if (rv == 0)
        rv = nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0, PFL_H2_CONNECTION_WINDOW);
    PFL_ASSERT(rv == 0); /* only memory can fail */
}

void pfl_conn_h2_start(struct pfl_conn *c)
{
    nghttp2_session_callbacks *cb = callbacks_new();
    nghttp2_option *o = option_new(c->is_server);
    int rv = c->is_server ? nghttp2_session_server_new2(&c->h2, cb, c, o) : nghttp2_session_client_new2(&c->h2, cb, c, o);
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(cb);
    PFL_ASSERT(rv == 0);
    c->empty_tokens = PFL_H2_EMPTY_BURST;
    c->empty_at = pfl_clock_mono();
    submit_settings(c);
}
