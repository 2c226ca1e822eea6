/* SPDX-License-Identifier: Apache-2.0 */
/* One session: start or dial, describe, ready, end. Whatever ends it goes through pfl_remote_fail; who has ended by itself is asked
 * for the reason first, because "the connection was closed" says less than "ended with code 1: ModuleNotFoundError". */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "runtime/remote_impl.h"

enum {
    REDIAL_MS = 100, /* a socket that is bound but does not listen yet */
    LOST_MS = 1000,  /* how long a learner whose connection ended may take to end itself */
    STOP_MS = 3000,  /* SIGTERM to SIGKILL, when the node ends */
};
/* An interpreter that computes may not come to answer a PING; it is judged by its progress. */
static const pfl_ns NO_PINGS = 365 * 24 * 3600 * PFL_SEC;
/* A model goes out in one message between nodes, of at most 4 GiB. */
static const uint64_t PARAMETERS_MAX = (UINT64_C(4) << 30) - (UINT64_C(2) << 20);

void pfl_remote_timer(uv_timer_t *t, uv_timer_cb fn, pfl_ns after)
{
    uv_update_time(t->loop);
    uv_timer_start(t, fn, (uint64_t)((after + PFL_MS - 1) / PFL_MS), 0);
}

/* ---- calls ---- */

struct call {
    struct pfl_remote *r;
    unsigned generation;
    pfl_remote_answer done;
};

static void release(void *owner)
{
    pfl_buf_deinit(owner);
    free(owner);
}

static void on_answer(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct call *c = user;
    struct pfl_remote *r = c->r;
    pfl_remote_answer done = c->done;
    bool heard = c->generation == r->generation && r->state != PFL_REMOTE_ENDING && r->state != PFL_REMOTE_DOWN;
    free(c);
    if (!heard)
        return;
    if (status->code == PFL_GRPC_UNAVAILABLE) {
        pfl_remote_fail(r, true, PFL_UNAVAILABLE, "is gone: %s", pfl_q(status->message));
        return;
    }
    done(r, status, response ? pfl_bytes_of(response->data, response->len) : pfl_bytes_of(NULL, 0));
}

void pfl_remote_call(struct pfl_remote *r, const char *path, struct pfl_buf *request, pfl_ns timeout, pfl_remote_answer done)
{
    struct pfl_buf *owned = pfl_xmalloc(sizeof(*owned));
    struct call *c = pfl_xmalloc(sizeof(*c));
    *owned = *request;
    *request = (struct pfl_buf){0};
    *c = (struct call){r, r->generation, done};
    const struct pfl_bytes part = pfl_buf_view(owned);
    const struct pfl_rpc_body body = {&part, 1, release, owned};
    pfl_rpc_channel_call(r->channel, path, &body, timeout, on_answer, c);
}

/* ---- the end of a session ---- */

static void on_restart(uv_timer_t *t)
{
    pfl_remote_start(t->data);
}

/* Nothing of it is left. */
static void session_over(struct pfl_remote *r)
{
    r->state = PFL_REMOTE_DOWN;
    if (r->stopping)
        return;
    pfl_ns wait = r->backoff_min;
    for (unsigned i = 0; i < r->failures && wait < r->backoff_max; i++)
        wait *= 2;
    wait = wait < r->backoff_max ? wait : r->backoff_max;
    r->failures++;
    pfl_remote_timer(&r->t_retry, on_restart, wait);
    if (r->layout) /* else the node does not start, and says why itself */
        pfl_warn("%s: '%s' %s; it is %s again in %.1f s", r->prefix, r->label, r->why.msg, r->command.n ? "started" : "dialled",
                 (double)wait / (double)PFL_SEC);
    pfl_remote_finish(r, r->why.rc, &r->why);
}

static void on_ended(void *user, const char *how)
{
    struct pfl_remote *r = user;
    r->process = NULL;
    if (r->stopping) {
        r->state = PFL_REMOTE_DOWN;
        pfl_remote_stop(r);
        return;
    }
    if (r->state != PFL_REMOTE_ENDING) /* the connection has not noticed yet */
        pfl_remote_fail(r, false, PFL_UNAVAILABLE, "%s", how);
    else {
        if (!r->killed)
            pfl_err_set(&r->why, PFL_UNAVAILABLE, "%s", how);
        uv_timer_stop(&r->t_end);
        session_over(r);
    }
}

static void end_process(struct pfl_remote *r)
{
    r->killed = true;
    pfl_process_end(r->process, 0);
}

static void on_not_ended(uv_timer_t *t)
{
    struct pfl_remote *r = t->data;
    if (r->process)
        end_process(r);
}

static void drop_connection(struct pfl_remote *r)
{
    r->generation++;
    r->asked = 0;
    uv_timer_stop(&r->t_limit);
    uv_timer_stop(&r->t_retry);
    uv_timer_stop(&r->t_ask);
    uv_timer_stop(&r->t_end);
    (void)uv_fs_event_stop(&r->watch);
    if (r->channel)
        pfl_rpc_channel_close(r->channel, NULL, NULL);
    r->channel = NULL;
}

void pfl_remote_fail(struct pfl_remote *r, bool lost, enum pfl_rc rc, const char *fmt, ...)
{
    char text[PFL_ERR_MAX];
    va_list args;
    if (r->state == PFL_REMOTE_ENDING || r->state == PFL_REMOTE_DOWN)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    pfl_err_set(&r->why, rc, "%s", text);
    r->state = PFL_REMOTE_ENDING;
    r->killed = false;
    drop_connection(r);
    if (!r->process)
        session_over(r);
    else if (lost)
        pfl_remote_timer(&r->t_end, on_not_ended, LOST_MS * PFL_MS);
    else
        end_process(r);
}

void pfl_remote_stop(struct pfl_remote *r)
{
    bool again = r->stopping;
    r->stopping = true;
    if (!again)
        drop_connection(r);
    if (r->process) {
        if (!again)
            pfl_process_end(r->process, STOP_MS);
        return; /* comes back when it has ended */
    }
    if (uv_is_closing((uv_handle_t *)&r->wake))
        return;
    const struct pfl_err err = {PFL_CANCELED, "is ended"};
    pfl_remote_finish(r, PFL_CANCELED, &err);
    uv_handle_t *const handles[] = {(uv_handle_t *)&r->wake,    (uv_handle_t *)&r->watch, (uv_handle_t *)&r->t_limit,
                                    (uv_handle_t *)&r->t_retry, (uv_handle_t *)&r->t_ask, (uv_handle_t *)&r->t_end};
    for (size_t i = 0; i < PFL_ARRAY_LEN(handles); i++)
        uv_close(handles[i], NULL);
}

/* ---- describe ---- */

static enum pfl_rc check_layout(const struct pfl_layout *l, struct pfl_err *err)
{
    if (l->bytes > PARAMETERS_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "its parameters are %zu bytes, a message between nodes carries %llu", l->bytes,
                           (unsigned long long)PARAMETERS_MAX);
    for (size_t i = 0; i < l->n; i++) {
        const struct pfl_tensor_desc *t = &l->tensors[i];
        if (t->dtype == PFL_F64 || t->dtype == PFL_F16 || t->dtype == PFL_BF16)
            return pfl_err_set(err, PFL_UNSUPPORTED, "tensor '%s' is %s: F32 and integers can be averaged, convert it",
                               pfl_q(t->name), pfl_dtype_name(t->dtype));
    }
    return PFL_OK;
}

static void on_description(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer)
{
    struct pfl_err err = {0};
    struct pfl_learner_description d = {0};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    if (status->code != PFL_GRPC_OK) {
        pfl_remote_fail(r, false, PFL_UNAVAILABLE, "does not describe itself: %s: %s", pfl_grpc_code_name(status->code),
                        pfl_q(status->message));
        return;
    }
    enum pfl_rc rc = pfl_learner_description_decode(answer, &d, &layout, &err);
    if (rc == PFL_OK)
        rc = check_layout(layout, &err);
    if (rc == PFL_OK && r->layout)
        rc = pfl_layout_check_same(layout, r->layout, &err);
    if (rc == PFL_OK && r->layout && d.steerable != r->steerable)
        rc = pfl_err_set(&err, PFL_MALFORMED, "before, it was %sto be steered", r->steerable ? "" : "not ");
    if (rc != PFL_OK) {
        pfl_remote_fail(r, false, rc, "describes itself wrongly: %s", err.msg);
        return;
    }
    pfl_info("%s: '%s' is ready: %s, %zu tensors, %zu bytes", r->prefix, r->label, pfl_q(d.name), layout->n, layout->bytes);
    if (!r->layout) {
        r->steerable = d.steerable;
        r->layout = pfl_steal(&layout);
    }
    uv_timer_stop(&r->t_limit);
    r->state = PFL_REMOTE_READY;
    if (r->current && r->current->kind == PFL_REMOTE_START)
        pfl_remote_finish(r, PFL_OK, NULL);
    pfl_remote_advance(r);
}

/* ---- the beginning ---- */

/* A socket's path can be foreseen, its owner cannot be chosen. */
static bool check_peer(void *user, const struct pfl_rpc_peer *peer, struct pfl_err *err)
{
    (void)user;
    if (peer->uid == (int64_t)geteuid() || peer->uid == 0)
        return true;
    pfl_err_set(err, PFL_AUTH, "the process that listens there is user %lld's, this node is user %lld's", (long long)peer->uid,
                (long long)geteuid());
    return false;
}

static void on_redial(uv_timer_t *t)
{
    struct pfl_remote *r = t->data;
    if (r->state == PFL_REMOTE_STARTING && r->channel)
        pfl_rpc_channel_connect(r->channel);
}

static void on_state(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason)
{
    struct pfl_remote *r = user;
    struct pfl_err err = {0};
    (void)peer;
    if (up && r->state == PFL_REMOTE_STARTING) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        r->state = PFL_REMOTE_DESCRIBING;
        if (pfl_learner_describe_encode(r->config, &b, &err) != PFL_OK)
            pfl_remote_fail(r, false, err.rc, "cannot be told its configuration: %s", err.msg);
        else
            pfl_remote_call(r, PFL_LEARNER_METHOD("Describe"), &b, 0, on_description);
        return;
    }
    if (up)
        return;
    if (rc == PFL_AUTH)
        pfl_remote_fail(r, false, PFL_AUTH, "is not trusted: %s", reason);
    else if (r->state == PFL_REMOTE_STARTING) {
        pfl_err_set(&r->why, PFL_UNAVAILABLE, "%s", reason);
        pfl_remote_timer(&r->t_retry, on_redial, REDIAL_MS * PFL_MS);
    } else
        pfl_remote_fail(r, true, PFL_UNAVAILABLE, "is gone: %s", reason);
}

static void on_folder(uv_fs_event_t *w, const char *name, int events, int status)
{
    struct pfl_remote *r = w->data;
    (void)name;
    (void)events;
    (void)status;
    if (r->state == PFL_REMOTE_STARTING && r->channel && access(r->socket, F_OK) == 0)
        pfl_rpc_channel_connect(r->channel);
}

static void on_not_started(uv_timer_t *t)
{
    struct pfl_remote *r = t->data;
    double s = (double)r->start_timeout / (double)PFL_SEC;
    if (r->state == PFL_REMOTE_DESCRIBING)
        pfl_remote_fail(r, false, PFL_TIMEOUT, "has not described itself within %.1f s (learner.start_timeout)", s);
    else
        pfl_remote_fail(r, false, PFL_TIMEOUT, "does not listen on %s within %.1f s (learner.start_timeout)%s%s", r->socket, s,
                        r->why.msg[0] ? ": " : "", r->why.msg);
}

static enum pfl_rc begin(struct pfl_remote *r, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *target = pfl_xasprintf("unix://%s", r->socket);
    const struct pfl_rpc_channel_opts channel = {.loop = &r->loop,
                                                 .target = target,
                                                 .user = r,
                                                 .check_peer = check_peer,
                                                 .on_state = on_state,
                                                 .idle_ping_period = NO_PINGS,
                                                 .response_limit = PFL_LEARNER_MESSAGE_MAX};
    enum pfl_rc rc = pfl_rpc_channel_new(&channel, &r->channel, err);
    if (rc != PFL_OK || r->command.n == 0)
        return rc;
    int rv = uv_fs_event_start(&r->watch, on_folder, pfl_exchange_dir(r->exchange), 0);
    if (rv != 0)
        return pfl_err_set(err, PFL_IO, "cannot be waited for: %s: %s", pfl_exchange_dir(r->exchange), uv_strerror(rv));
    const struct pfl_process_opts process = {.loop = &r->loop,
                                             .command = &r->command,
                                             .folder = r->folder,
                                             .launcher = r->launcher,
                                             .env = &r->env,
                                             .prefix = r->prefix,
                                             .on_ended = on_ended,
                                             .user = r};
    return pfl_process_start(&process, &r->process, err);
}

void pfl_remote_start(struct pfl_remote *r)
{
    struct pfl_err err = {0};
    r->state = PFL_REMOTE_STARTING;
    pfl_err_clear(&r->why);
    pfl_exchange_reset(r->exchange);
    if (begin(r, &err) != PFL_OK) {
        pfl_remote_fail(r, false, err.rc, "%s", err.msg);
        return;
    }
    pfl_remote_timer(&r->t_limit, on_not_started, r->start_timeout);
    if (r->command.n == 0)
        pfl_rpc_channel_connect(r->channel);
}
