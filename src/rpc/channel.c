/* SPDX-License-Identifier: Apache-2.0 */
/* A channel's state: idle until somebody wants it, dialling (one address after the other), ready, or in back-off after a failure.
 * It dials when asked or when a call comes, not by itself, but for one case: a server that says GOAWAY in good order is replaced
 * quietly, so that new certificates over there cost no call. Whatever fails, fails from the loop: dialling starts in the timer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/channel_impl.h"
#include "rpc/listen.h"

enum { JITTER_PERCENT = 20 };
/* A connection that ends sooner has not worked out. Some in a row are a server whose files change one after the other; more mean
 * back-off. */
static const pfl_ns SHORT_LIFE = PFL_SEC;
enum { SHORT_LIVES_MAX = 4 };

/* ---- states ---- */

static bool usable(const struct pfl_client_conn *cc)
{
    return cc && cc->conn->state == PFL_CONN_OPEN && !cc->conn->closing;
}

struct pfl_client_conn *pfl_channel_serving(const struct pfl_rpc_channel *ch)
{
    return ch->state == PFL_CHANNEL_READY ? ch->current : ch->old;
}

static void went_down(struct pfl_rpc_channel *ch, enum pfl_rc rc, const char *reason)
{
    ch->last_rc = rc;
    snprintf(ch->last_reason, sizeof ch->last_reason, "%s", reason);
    pfl_client_fail_waiting(ch, rc == PFL_AUTH ? PFL_GRPC_UNAUTHENTICATED : PFL_GRPC_UNAVAILABLE, ch->last_reason);
    if (ch->on_state && !ch->closing)
        ch->on_state(ch->user, false, NULL, rc, ch->last_reason);
}

static void back_off(struct pfl_rpc_channel *ch)
{
    pfl_ns next = ch->backoff == 0 ? ch->backoff_min : ch->backoff * 2;
    ch->backoff = next < ch->backoff_max ? next : ch->backoff_max;
    double jitter = 1 + (2 * pfl_rng_unit(&ch->rng) - 1) * JITTER_PERCENT / 100;
    ch->backoff_until = pfl_clock_mono() + (pfl_ns)((double)ch->backoff * jitter);
    ch->state = PFL_CHANNEL_BACKOFF;
}

void pfl_channel_want(struct pfl_rpc_channel *ch)
{
    if (ch->closing || ch->state == PFL_CHANNEL_READY || ch->state == PFL_CHANNEL_DIALLING)
        return;
    ch->state = PFL_CHANNEL_DIALLING;
    ch->dial_pending = true;
    ch->dial_deadline = pfl_clock_mono() + ch->connect_timeout;
    pfl_channel_due_at(ch, 0);
}

/* Another certificate is not to be expected at another address of the same name. */
static bool next_may_work(const struct pfl_rpc_channel *ch, enum pfl_rc rc)
{
    return rc != PFL_AUTH && ch->next_addr < ch->n_addrs && pfl_clock_mono() < ch->dial_deadline;
}

void pfl_channel_attempt_failed(struct pfl_rpc_channel *ch, enum pfl_rc rc, const char *reason)
{
    if (next_may_work(ch, rc)) {
        pfl_channel_attempt(ch);
        return;
    }
    back_off(ch);
    if (!ch->old) {
        went_down(ch, rc, reason);
        return;
    }
    pfl_channel_due_at(ch, ch->backoff_until); /* nobody else asks: the calls go over the old one */
    if (ch->on_not_replaced)
        ch->on_not_replaced(ch->user, reason);
}

/* ---- connections ---- */

static bool on_admit(struct pfl_conn *c, struct pfl_err *err)
{
    const struct pfl_client_conn *cc = c->owner;
    const struct pfl_rpc_channel *ch = cc->channel;
    return !ch->check_peer || ch->check_peer(ch->user, &c->peer->pub, err);
}

static const char REPLACED[] = "this node's certificates were replaced";

/* The connection in use is of another context: it takes calls until its successor is ready, so that none waits and none fails. */
static void replace(struct pfl_rpc_channel *ch)
{
    if (!usable(ch->current))
        return; /* its end is on its way, and will be told */
    ch->old = pfl_steal(&ch->current);
    ch->state = PFL_CHANNEL_IDLE;
    pfl_channel_want(ch);
}

static void on_ready(struct pfl_conn *c)
{
    struct pfl_client_conn *cc = c->owner;
    struct pfl_rpc_channel *ch = cc->channel;
    if (ch->current != cc || ch->closing)
        return;
    ch->state = PFL_CHANNEL_READY;
    ch->backoff = 0;
    if (ch->old)
        pfl_conn_drain(pfl_steal(&ch->old)->conn, PFL_RPC_DRAIN, PFL_UNAVAILABLE, REPLACED);
    if (ch->on_state)
        ch->on_state(ch->user, true, &c->peer->pub, PFL_OK, "");
    if (ch->closing || ch->current != cc)
        return;
    pfl_client_submit_waiting(ch);
    if (cc->generation != ch->generation) /* the context has changed while this one was dialled */
        replace(ch);
}

/* The current connection takes no more calls. Short lives are counted so that no server can make us dial in a circle. */
static void retire(struct pfl_rpc_channel *ch, bool quietly, enum pfl_rc rc, const char *reason)
{
    bool is_short = pfl_clock_mono() - ch->current->conn->opened_at < SHORT_LIFE;
    ch->n_short = is_short ? ch->n_short + 1 : 0;
    bool again = ch->n_short >= SHORT_LIVES_MAX;
    ch->current = NULL;
    ch->state = PFL_CHANNEL_IDLE;
    if (quietly && !again) {
        pfl_channel_want(ch);
        return;
    }
    if (again)
        back_off(ch);
    went_down(ch, rc, reason);
}

static int on_frame(struct pfl_conn *c, const nghttp2_frame *frame)
{
    struct pfl_client_conn *cc = c->owner;
    struct pfl_rpc_channel *ch = cc->channel;
    if (frame->hd.type == NGHTTP2_HEADERS)
        pfl_client_headers_done(c, frame);
    if (frame->hd.type != NGHTTP2_GOAWAY || ch->closing)
        return 0;
    char reason[320], said[160];
    bool has_text = frame->goaway.opaque_data_len > 0;
    snprintf(reason, sizeof reason, "the peer ended the connection (GOAWAY, %s%s%s)",
             nghttp2_http2_strerror(frame->goaway.error_code), has_text ? ": " : "",
             has_text ? pfl_quote(frame->goaway.opaque_data, frame->goaway.opaque_data_len, said, sizeof said) : "");
    if (frame->goaway.error_code == NGHTTP2_ENHANCE_YOUR_CALM)
        ch->ping_period *= 2; /* our PINGs were too many for it */
    pfl_conn_drain(c, PFL_RPC_DRAIN, PFL_UNAVAILABLE, reason);
    if (ch->old == cc) { /* it takes no more calls: they wait for the successor */
        ch->old = NULL;
        pfl_channel_want(ch);
    } else if (ch->current == cc && ch->state == PFL_CHANNEL_READY)
        retire(ch, frame->goaway.error_code == NGHTTP2_NO_ERROR, PFL_UNAVAILABLE, reason);
    return 0;
}

static void on_after_io(struct pfl_conn *c)
{
    struct pfl_client_conn *cc = c->owner;
    pfl_client_deliver(cc->channel);
}

static pfl_ns on_due(struct pfl_conn *c, pfl_ns now)
{
    (void)c;
    (void)now;
    return PFL_NEVER; /* deadlines are the channel's: calls that wait for a connection have them too */
}

static void on_lost(struct pfl_conn *c, enum pfl_rc rc, const char *reason)
{
    struct pfl_client_conn *cc = c->owner;
    struct pfl_rpc_channel *ch = cc->channel;
    ch->told_revoked = c->tls && pfl_tls_session_told_revoked(c->tls);
    pfl_client_streams_free(cc, rc == PFL_AUTH ? PFL_GRPC_UNAUTHENTICATED : PFL_GRPC_UNAVAILABLE, reason);
    if (ch->old == cc) {
        ch->old = NULL;
        if (ch->state == PFL_CHANNEL_BACKOFF && !ch->closing)
            went_down(ch, rc, reason);
    }
    if (ch->current == cc && !ch->closing) {
        if (ch->state == PFL_CHANNEL_READY)
            retire(ch, false, rc, reason);
        else {
            ch->current = NULL;
            pfl_channel_attempt_failed(ch, rc, reason);
        }
    }
    pfl_client_deliver(ch);
}

static void on_closed(struct pfl_conn *c)
{
    struct pfl_client_conn *cc = c->owner;
    struct pfl_rpc_channel *ch = cc->channel;
    if (cc->prev)
        cc->prev->next = cc->next;
    else
        ch->conns = cc->next;
    if (cc->next)
        cc->next->prev = cc->prev;
    free(cc);
    pfl_channel_maybe_closed(ch);
}

static const struct pfl_conn_ops OPS = {
    .admit = on_admit,
    .ready = on_ready,
    .begin_headers = pfl_client_begin_headers,
    .header = pfl_client_header,
    .data = pfl_client_data,
    .frame = on_frame,
    .stream_closed = pfl_client_stream_closed,
    .after_io = on_after_io,
    .due = on_due,
    .lost = on_lost,
    .closed = on_closed,
};

static struct pfl_client_conn *client_conn_new(struct pfl_rpc_channel *ch, int fd, const struct sockaddr_storage *sa)
{
    char remote[PFL_ADDR_MAX];
    pfl_sockaddr_text((const void *)sa, remote, sizeof remote);
    struct pfl_client_conn *cc = pfl_xcalloc(1, sizeof *cc);
    const struct pfl_conn_opts opts = {
        .loop = ch->loop,
        .fd = fd,
        .connecting = true,
        .tls = ch->tls,
        .host = ch->target.is_unix ? NULL : ch->target.host,
        .remote = remote,
        /* an address that swallows packets must leave time for the others */
        .setup_timeout = (ch->dial_deadline - pfl_clock_mono()) / (pfl_ns)(ch->n_addrs - ch->next_addr + 1),
        .ping_period = ch->ping_period,
        .ops = &OPS,
        .owner = cc,
        .counters = &ch->counters,
    };
    cc->channel = ch;
    cc->generation = ch->generation;
    cc->conn = pfl_conn_new(&opts);
    if (!cc->conn) {
        free(cc);
        return NULL;
    }
    cc->next = ch->conns;
    if (ch->conns)
        ch->conns->prev = cc;
    ch->conns = cc;
    return cc;
}

void pfl_channel_attempt(struct pfl_rpc_channel *ch)
{
    const struct sockaddr_storage *sa = &ch->addrs[ch->next_addr++];
    char reason[128];
    int fd = pfl_channel_socket(sa);
    if (fd >= 0)
        ch->current = client_conn_new(ch, fd, sa);
    if (fd >= 0 && ch->current)
        return;
    snprintf(reason, sizeof reason, "cannot connect: %s", strerror(errno));
    pfl_channel_attempt_failed(ch, PFL_UNAVAILABLE, reason);
}

/* ---- the timer ---- */

static void on_timer(uv_timer_t *h)
{
    struct pfl_rpc_channel *ch = h->data;
    ch->timer_due = PFL_NEVER;
    if (ch->dial_pending && !ch->closing) {
        ch->dial_pending = false;
        pfl_channel_resolve(ch);
    }
    pfl_ns now = pfl_clock_mono();
    if (!ch->closing && ch->old && ch->state == PFL_CHANNEL_BACKOFF) {
        if (now >= ch->backoff_until)
            pfl_channel_want(ch);
        else
            pfl_channel_due_at(ch, ch->backoff_until);
    }
    if (!ch->closing)
        pfl_channel_due_at(ch, pfl_client_due(ch, now));
    pfl_client_deliver(ch);
}

void pfl_channel_due_at(struct pfl_rpc_channel *ch, pfl_ns when)
{
    if (ch->closing || when >= ch->timer_due)
        return;
    ch->timer_due = when;
    pfl_ns wait = when == 0 ? 0 : when - pfl_clock_mono();
    uv_update_time(ch->loop);
    uv_timer_start(&ch->timer, on_timer, wait <= 0 ? 0 : (uint64_t)((wait + PFL_MS - 1) / PFL_MS), 0);
}

/* ---- the channel ---- */

enum pfl_rc pfl_rpc_channel_new(const struct pfl_rpc_channel_opts *o, struct pfl_rpc_channel **ret, struct pfl_err *err)
{
    struct pfl_addr target;
    enum pfl_rc rc = pfl_addr_parse(o->target, &target, err);
    if (rc != PFL_OK)
        return rc;
    if (!target.is_unix && target.port == 0)
        return pfl_err_set(err, PFL_INVALID, "'%s' names no port to dial", pfl_q(o->target));
    if (!o->tls && !pfl_addr_is_loopback(&target))
        return pfl_err_set(err, PFL_INVALID, "%s: plaintext goes to loopback and unix sockets only", o->target);
    struct pfl_rpc_channel *ch = pfl_xcalloc(1, sizeof *ch);
    ch->loop = o->loop;
    ch->target = target;
    pfl_addr_format(&target, ch->text);
    ch->tls = pfl_tls_ref(o->tls);
    ch->user = o->user;
    ch->check_peer = o->check_peer;
    ch->on_state = o->on_state;
    ch->on_not_replaced = o->on_not_replaced;
    ch->response_limit = o->response_limit ? o->response_limit : PFL_RPC_RESPONSE_MAX;
    ch->connect_timeout = o->connect_timeout ? o->connect_timeout : PFL_RPC_CONNECT_TIMEOUT;
    ch->backoff_min = o->backoff_min ? o->backoff_min : PFL_RPC_BACKOFF_MIN;
    ch->backoff_max = o->backoff_max ? o->backoff_max : PFL_RPC_BACKOFF_MAX;
    ch->ping_period = o->idle_ping_period ? o->idle_ping_period : PFL_RPC_PING_PERIOD;
    ch->timer_due = PFL_NEVER;
    ch->finished_tail = &ch->finished;
    pfl_rng_seed(&ch->rng, pfl_rng_entropy());
    uv_timer_init(ch->loop, &ch->timer);
    ch->timer.data = ch;
    *ret = ch;
    return PFL_OK;
}

void pfl_rpc_channel_connect(struct pfl_rpc_channel *ch)
{
    pfl_channel_want(ch);
}

const struct pfl_rpc_peer *pfl_rpc_channel_peer(const struct pfl_rpc_channel *ch)
{
    const struct pfl_client_conn *cc = pfl_channel_serving(ch);
    return cc ? &cc->conn->peer->pub : NULL;
}

void pfl_rpc_channel_set_tls(struct pfl_rpc_channel *ch, struct pfl_tls *tls)
{
    PFL_ASSERT(ch->tls && tls); /* never from or to plaintext */
    struct pfl_tls *old = ch->tls;
    ch->tls = pfl_tls_ref(tls);
    pfl_tls_unref(old);
    ch->generation++;
    ch->n_short = 0;
    if (ch->closing)
        return;
    if (ch->state == PFL_CHANNEL_READY)
        replace(ch);
    else if (ch->old)
        pfl_channel_want(ch); /* out of back-off: the new context may be the better one */
}

bool pfl_rpc_channel_revise(struct pfl_rpc_channel *ch, struct pfl_tls *tls, pfl_rpc_dropped dropped, void *user)
{
    bool any = false;
    PFL_ASSERT(ch->tls && tls);
    struct pfl_tls *old = ch->tls;
    ch->tls = pfl_tls_ref(tls);
    pfl_tls_unref(old);
    for (struct pfl_client_conn *cc = ch->conns; cc; cc = cc->next) {
        enum pfl_verify_why why;
        struct pfl_err reason = {0};
        bool open = cc->conn->state == PFL_CONN_OPEN;
        if (!pfl_conn_revise(cc->conn, tls, &why, &reason) || !open)
            continue;
        any = true;
        if (dropped)
            dropped(user, &cc->conn->peer->pub, why, reason.msg);
    }
    return any;
}

bool pfl_rpc_channel_told_revoked(const struct pfl_rpc_channel *ch)
{
    return ch->told_revoked;
}

void pfl_channel_maybe_closed(struct pfl_rpc_channel *ch)
{
    if (!ch->closing || !ch->timer_closed || ch->conns || ch->resolving)
        return;
    void (*closed)(void *) = ch->closed;
    void *user = ch->closed_user;
    pfl_tls_unref(ch->tls);
    free(ch);
    if (closed)
        closed(user);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct pfl_rpc_channel *ch = h->data;
    pfl_client_deliver(ch);
    ch->timer_closed = true;
    pfl_channel_maybe_closed(ch);
}

void pfl_rpc_channel_close(struct pfl_rpc_channel *ch, void (*closed)(void *user), void *user)
{
    if (ch->closing)
        return;
    ch->closing = true;
    ch->closed = closed;
    ch->closed_user = user;
    ch->state = PFL_CHANNEL_IDLE;
    ch->current = ch->old = NULL;
    pfl_client_cancel_all(ch);
    for (struct pfl_client_conn *cc = ch->conns; cc; cc = cc->next)
        pfl_conn_close(cc->conn, PFL_CANCELED, "the channel was closed");
    if (ch->resolving)
        uv_cancel((uv_req_t *)&ch->resolve); /* its callback comes in any case */
    uv_close((uv_handle_t *)&ch->timer, on_timer_closed);
}

void pfl_rpc_channel_counters(const struct pfl_rpc_channel *ch, struct pfl_rpc_counters *ret)
{
    *ret = ch->counters;
}
