/* SPDX-License-Identifier: Apache-2.0 */
/* The heart of the driver: a queue of events, one step at a time, the actions of each step carried out in order. An action may
 * produce an event at once (a call that fails before it is sent); it waits in the queue until the running step is done, so the
 * core is never entered twice. */
#include "runtime/driver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "runtime/ca_rate.h"
#include "runtime/driver_impl.h"
#include "runtime/credentials.h"
#include "runtime/keeper.h"
#include "runtime/limits.h"
#include "runtime/node_audit.h"
#include "runtime/origins.h"
#include "runtime/pickled.h"
#include "runtime/revocation.h"

struct pfl_queued {
    struct pfl_queued *next;
    struct pfl_event ev;
    char *addr, *text; /* owned copies that ev points to */
    char *from, *forged, *experiment;
    struct pfl_signer signer;
    struct pfl_hello hello;
};

struct pfl_event pfl_driver_event(enum pfl_event_kind kind)
{
    return (struct pfl_event){.kind = kind, .now = pfl_clock_mono(), .wall = pfl_clock_wall()};
}

static struct pfl_queued *queued_new(const struct pfl_event *ev)
{
    struct pfl_queued *q = pfl_xcalloc(1, sizeof(*q));
    q->ev = *ev;
    q->addr = ev->addr ? pfl_xstrdup(ev->addr) : NULL;
    q->text = ev->text ? pfl_xstrdup(ev->text) : NULL;
    q->ev.addr = q->addr;
    q->ev.text = q->text;
    q->from = ev->from ? pfl_xstrdup(ev->from) : NULL;
    q->forged = ev->forged ? pfl_xstrdup(ev->forged) : NULL;
    q->ev.from = q->from;
    q->ev.forged = q->forged;
    q->experiment = ev->learn.name ? pfl_xstrdup(ev->learn.name) : NULL;
    q->ev.learn.name = q->experiment;
    if (ev->signer) {
        q->signer = (struct pfl_signer){.id = pfl_xstrdup(ev->signer->id), .may = ev->signer->may};
        q->ev.signer = &q->signer;
    }
    if (ev->hello) {
        q->hello.present = ev->hello->present;
        q->hello.version = ev->hello->version;
        pfl_strs_copy(&q->hello.codecs, &ev->hello->codecs);
        pfl_strs_copy(&q->hello.features, &ev->hello->features);
        q->hello.federation = ev->hello->federation ? pfl_xstrdup(ev->hello->federation) : NULL;
        q->ev.hello = &q->hello;
    }
    if (ev->msg)
        pfl_msg_ref(ev->msg);
    if (ev->payload)
        pfl_payload_ref(ev->payload);
    return q;
}

static void queued_free(struct pfl_queued *q)
{
    pfl_msg_unref(q->ev.msg);
    pfl_payload_unref(q->ev.payload);
    pfl_hello_deinit(&q->hello);
    free(q->addr);
    free(q->text);
    free(q->from);
    free(q->forged);
    free(q->experiment);
    pfl_signer_deinit(&q->signer);
    free(q);
}

uint64_t pfl_pending_add(struct pfl_driver *d, struct pfl_rpc_call *call, void (*done)(void *, const char *), void *user)
{
    struct pfl_pending *p = pfl_xcalloc(1, sizeof(*p));
    p->token = ++d->next_token;
    p->call = call;
    p->done = done;
    p->user = user;
    const struct pfl_rpc_peer *peer = call ? pfl_rpc_call_peer(call) : NULL;
    if (peer && peer->identity)
        p->caller = pfl_identity_ref(peer->identity);
    p->next = d->pendings;
    d->pendings = p;
    return p->token;
}

struct pfl_pending *pfl_pending_find(struct pfl_driver *d, uint64_t token)
{
    for (struct pfl_pending *p = d->pendings; p; p = p->next) {
        if (p->token == token)
            return p;
    }
    return NULL;
}

static void pending_remove(struct pfl_driver *d, struct pfl_pending *gone)
{
    for (struct pfl_pending **p = &d->pendings; *p; p = &(*p)->next) {
        if (*p == gone) {
            *p = gone->next;
            pfl_identity_unref(gone->caller);
            free(gone);
            return;
        }
    }
}

static void do_reply(struct pfl_driver *d, const struct pfl_action *a)
{
    struct pfl_pending *p = pfl_pending_find(d, a->call);
    if (!p)
        return;
    if (p->call)
        pfl_inbound_reply(d, p, a);
    else
        p->done(p->user, a->error);
    pending_remove(d, p);
}

void pfl_driver_carry_out(struct pfl_driver *d, struct pfl_action *a)
{
    if ((a->kind == PFL_ACT_SEND || a->kind == PFL_ACT_NOTE) && pfl_keeper_holds(d->keeper, a))
        return;
    if (a->kind == PFL_ACT_SEND && pfl_origins_holds(d->origins, a))
        return;
    switch (a->kind) {
    case PFL_ACT_OPEN:
        pfl_link_open(d, a->addr, a->handshake, a->call);
        break;
    case PFL_ACT_CLOSE:
        pfl_keeper_forget(d->keeper, a->addr);
        pfl_origins_forget(d->origins, a->addr);
        pfl_link_close(d, a->addr);
        break;
    case PFL_ACT_SEND:
        if (a->body)
            pfl_link_send(d, a->addr, a->id, a->body, a->timeout);
        else
            pfl_pickled_send(d, a);
        break;
    case PFL_ACT_GOODBYE:
        pfl_keeper_forget(d->keeper, a->addr);
        pfl_origins_forget(d->origins, a->addr);
        pfl_link_goodbye(d, a->addr);
        break;
    case PFL_ACT_REPLY:
        do_reply(d, a);
        break;
    case PFL_ACT_FIT:
    case PFL_ACT_EVALUATE:
        pfl_job_learner(d, a);
        break;
    case PFL_ACT_AGGREGATE:
        pfl_job_aggregate(d, a);
        break;
    case PFL_ACT_CANCEL:
        pfl_job_cancel(d);
        break;
    case PFL_ACT_DURABLE:
        pfl_keeper_take(d->keeper, pfl_steal(&a->durable));
        break;
    case PFL_ACT_EVIDENCE:
        pfl_driver_evidence(d, a);
        break;
    case PFL_ACT_NOTE:
        pfl_driver_note(d, a->note);
        break;
    }
}

static void on_timer(uv_timer_t *t)
{
    struct pfl_driver *d = t->data;
    struct pfl_event ev = pfl_driver_event(PFL_EV_TICK);
    pfl_driver_post(d, &ev);
}

static void arm_timer(struct pfl_driver *d)
{
    if (d->shutting_down)
        return;
    pfl_ns at = pfl_node_deadline(d->node);
    if (at == PFL_NEVER) {
        uv_timer_stop(&d->timer);
        return;
    }
    pfl_ns left = at - pfl_clock_mono();
    uint64_t ms = left <= 0 ? 0 : (uint64_t)((left + PFL_MS - 1) / PFL_MS);
    uv_update_time(d->loop);
    uv_timer_start(&d->timer, on_timer, ms, 0);
}

/* Contributions come as differences to the model that a round began with. */
static void remember_base(struct pfl_driver *d)
{
    struct pfl_payload *p = pfl_node_model(d->node);
    for (size_t i = 0; i < PFL_DRIVER_BASES; i++) {
        if (!p || p == d->bases[i])
            return;
    }
    pfl_payload_unref(d->bases[PFL_DRIVER_BASES - 1]);
    memmove(d->bases + 1, d->bases, (PFL_DRIVER_BASES - 1) * sizeof(*d->bases));
    d->bases[0] = pfl_payload_ref(p);
}

/* Takes q. */
static void post_queued(struct pfl_driver *d, struct pfl_queued *q)
{
    *d->queue_tail = q;
    d->queue_tail = &q->next;
    if (d->draining)
        return;
    d->draining = true;
    struct pfl_actions out = {0};
    while ((q = d->queue_head)) {
        d->queue_head = q->next;
        if (!d->queue_head)
            d->queue_tail = &d->queue_head;
        pfl_node_step(d->node, &q->ev, &out);
        remember_base(d);
        for (size_t i = 0; i < out.n; i++)
            pfl_driver_carry_out(d, &out.items[i]);
        pfl_actions_clear(&out);
        queued_free(q);
    }
    pfl_actions_deinit(&out);
    d->draining = false;
    pfl_keeper_look(d->keeper);
    arm_timer(d);
}

void pfl_driver_post(struct pfl_driver *d, const struct pfl_event *ev)
{
    post_queued(d, queued_new(ev));
}

void pfl_driver_model_made(struct pfl_driver *d)
{
    d->making_model = false;
    if (!d->held_learn)
        return;
    d->held_learn->ev.now = pfl_clock_mono(); /* time does not run backwards for the core */
    d->held_learn->ev.wall = pfl_clock_wall();
    post_queued(d, pfl_steal(&d->held_learn));
}

static const char *command_name(enum pfl_event_kind cmd)
{
    switch (cmd) {
    case PFL_EV_CMD_CONNECT:
        return "connect";
    case PFL_EV_CMD_DISCONNECT:
        return "disconnect";
    case PFL_EV_CMD_LEARN:
        return "learn";
    case PFL_EV_CMD_STOP:
        return "stop";
    default:
        return "command";
    }
}

void pfl_driver_command(struct pfl_driver *d, enum pfl_event_kind cmd, const char *addr, const struct pfl_learn_args *learn,
                        void (*done)(void *user, const char *error), void *user)
{
    struct pfl_event ev = pfl_driver_event(cmd);
    ev.addr = addr;
    if (learn)
        ev.learn = *learn;
    ev.call = pfl_pending_add(d, NULL, done, user);
    pfl_node_audit_add(d->audit, "operator", command_name(cmd), addr ? addr : learn ? learn->name : NULL, NULL);
    struct pfl_signer self = {0};
    if (d->origins) {
        pfl_origins_self(d, &self);
        ev.signer = &self;
    }
    if (cmd == PFL_EV_CMD_LEARN && d->making_model && !d->held_learn)
        d->held_learn = queued_new(&ev); /* a large model takes its time, and whoever starts the nodes cannot know how long */
    else
        pfl_driver_post(d, &ev);
    pfl_signer_deinit(&self);
}

const char *pfl_driver_address(const struct pfl_driver *d)
{
    return d->address;
}

const struct pfl_model *pfl_driver_model(const struct pfl_driver *d)
{
    const struct pfl_payload *p = pfl_node_model(d->node);
    return p ? p->model : NULL;
}

void pfl_driver_on_shutdown_request(struct pfl_driver *d, void (*fn)(void *user), void *user)
{
    d->on_shutdown_request = fn;
    d->shutdown_user = user;
}

static void on_event_line(void *user, const char *line, size_t len)
{
    struct pfl_driver *d = user;
    if (d->control)
        pfl_control_event(d->control, line, len);
    if (d->on_event)
        d->on_event(d->on_event_user, line, len);
}

static enum pfl_rc open_state(struct pfl_driver *d, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = NULL;
    if (d->state_dir) {
        PFL_AUTO(pfl_freep) char *models = pfl_fs_join(d->state_dir, "models");
        if (pfl_fs_mkdirs(models, 0700, err) != PFL_OK)
            return pfl_err_wrap(err, "state folder");
        path = pfl_fs_join(d->state_dir, "events.jsonl");
    }
    if (pfl_events_open(path, d->name, &d->events, err) != PFL_OK)
        return pfl_err_wrap(err, "state folder");
    pfl_events_set_listener(d->events, on_event_line, d);
    return PFL_OK;
}

/* What was kept comes first: nobody can reach the node before it knows again what it said. */
static enum pfl_rc open_journal(struct pfl_driver *d, const struct pfl_driver_opts *opts, struct pfl_durable **ret_kept,
                                struct pfl_err *err)
{
    struct pfl_journal *journal = NULL;
    if (!opts->journal || !d->state_dir)
        return PFL_OK;
    enum pfl_rc rc = pfl_journal_open(d->state_dir, d->method.model, d->method.contribution, &journal, ret_kept, err);
    if (rc == PFL_OK)
        d->keeper = pfl_keeper_new(d, journal, *ret_kept ? (*ret_kept)->seq : 0);
    return rc;
}

/* A ledger that cannot be read keeps the node from starting: it would not know what it has revealed. */
static enum pfl_rc open_compression(struct pfl_driver *d, const struct pfl_driver_opts *opts, struct pfl_err *err)
{
    if (!opts->compression || opts->compression->n == 0)
        return PFL_OK;
    d->compressor.spec = *opts->compression;
    const struct pfl_compression_step *first = &opts->compression->steps[0];
    if (first->technique != PFL_TECHNIQUE_DP)
        return PFL_OK;
    if (opts->settings.aggregator->variates)
        return pfl_err_set(err, PFL_INVALID, "dp with aggregator '%s': its control variates would go out without noise",
                           opts->settings.aggregator->name);
    PFL_AUTO(pfl_freep) char *path = d->state_dir ? pfl_fs_join(d->state_dir, "privacy.json") : NULL;
    struct pfl_ledger_opts o = opts->privacy ? *opts->privacy : (struct pfl_ledger_opts){.delta = 1e-5};
    o.noise_multiplier = first->noise_multiplier;
    o.laplace = first->laplace;
    return pfl_ledger_open(path, &o, &d->ledger, err);
}

/* The initial model, or what was there before the node was started again. */
static void begin(struct pfl_driver *d, const struct pfl_durable *kept)
{
    if (kept) {
        struct pfl_event ev = pfl_driver_event(PFL_EV_RESTORE);
        ev.durable = kept;
        pfl_driver_post(d, &ev);
    }
    d->making_model = !pfl_node_model(d->node);
    if (d->making_model)
        pfl_job_init_model(d);
}

static void free_now(struct pfl_driver *d)
{
    if (d->held_learn)
        queued_free(d->held_learn);
    pfl_node_free(d->node);
    pfl_keeper_free(d->keeper);
    pfl_origins_free(d->origins);
    pfl_node_audit_free(d->audit);
    pfl_policy_deinit(&d->policy);
    pfl_events_close(d->events);
    pfl_tls_unref(d->tls);
    pfl_method_deinit(&d->method);
    pfl_compressor_deinit(&d->compressor);
    pfl_ledger_close(d->ledger);
    for (size_t i = 0; i < PFL_DRIVER_BASES; i++)
        pfl_payload_unref(d->bases[i]);
    if (d->learner.ops)
        d->learner.ops->free(d->learner.self);
    free(d->name);
    free(d->address);
    free(d->federation);
    free(d->state_dir);
    pfl_rate_free(d->gossip_rate);
    free(d);
    pfl_blocks_trim();
}

static enum pfl_rc open_method(struct pfl_driver *d, const struct pfl_driver_opts *opts, struct pfl_err *err)
{
    d->method.progress = pfl_job_fit_progress;
    d->method.progress_user = d;
    if (d->interop && d->method.contribution->n > d->method.params->n)
        return pfl_err_set(err, PFL_UNSUPPORTED,
                           "settings.general.interop: aggregator '%s' needs more of each contribution than P2PFL's own nodes send; "
                           "another aggregator, or 'interop: off'",
                           opts->settings.aggregator->name);
    enum pfl_rc rc = pfl_p2pfl_options_check(&d->pickle, d->method.params, err);
    return rc == PFL_OK ? rc : pfl_err_wrap(err, "settings.general.interop_compression");
}

/* What the node is to do, with what only its driver knows. */
static struct pfl_node_settings settings_of(const struct pfl_driver *d, const struct pfl_driver_opts *opts)
{
    struct pfl_node_settings s = opts->settings;
    s.federation = d->federation;
    s.entropy = pfl_rng_entropy();
    s.durable = d->keeper != NULL;
    s.signatures = d->origins != NULL;
    s.max_rounds = (unsigned)d->policy.max_rounds;
    s.max_epochs = (unsigned)d->policy.max_epochs;
    s.max_model_bytes = d->policy.max_model_bytes;
    return s;
}

static void say_started(struct pfl_driver *d)
{
    const char *tls = d->tls ? "mutual TLS" : "none: PLAINTEXT";
    pfl_events_emit(d->events, "started",
                    json_pack("{s:s, s:i, s:s, s:s}", "address", d->address, "pid", (int)uv_os_getpid(), "tls", tls, "interop",
                              d->interop ? "p2pfl" : "off"));
    pfl_info("%s listens on %s (%s)", d->name, d->address, tls);
    if (!d->tls)
        pfl_warn("%s: use_ssl is false: everything is sent in PLAINTEXT and nobody's identity is checked", d->name);
    if (d->interop)
        pfl_warn("%s: interop: p2pfl: %s", d->name, pfl_driver_interop_weaker);
    if (d->state_dir)
        d->audit = pfl_node_audit_new(d);
    pfl_node_audit_add(d->audit, d->tls ? pfl_identity_text(pfl_tls_client_identity(d->tls)) : d->name, "node-start", d->address,
                       d->interop ? "mutual TLS, interop with P2PFL" : tls);
}

enum pfl_rc pfl_driver_new(const struct pfl_driver_opts *opts, struct pfl_driver **ret, struct pfl_err *err)
{
    struct pfl_driver *d = pfl_xcalloc(1, sizeof(*d));
    d->loop = opts->loop;
    d->queue_tail = &d->queue_head;
    d->gossip_rate = pfl_rate_new(PFL_GOSSIP_BURST, PFL_GOSSIP_PER_S * 60.0, PFL_GOSSIP_CALLERS_MAX);
    d->name = pfl_xstrdup(opts->name);
    d->federation = opts->federation ? pfl_xstrdup(opts->federation) : NULL;
    d->state_dir = opts->state_dir ? pfl_xstrdup(opts->state_dir) : NULL;
    d->tls = opts->tls ? pfl_tls_ref(opts->tls) : NULL;
    if (opts->policy)
        pfl_policy_copy(&d->policy, opts->policy);
    d->origins = d->tls ? pfl_origins_new(d) : NULL;
    d->call_timeout = opts->settings.call_timeout;
    d->interop = opts->settings.interop;
    d->pickle = opts->pickle;
    if (opts->settings.aggregator && opts->settings.aggregator->proximal)
        d->pickle.proximal_mu = opts->settings.aggregator->params.proximal_mu;
    d->on_event = opts->on_event;
    d->on_event_user = opts->user;
    d->learner = opts->learner; /* given back on error: see below */

    PFL_AUTO(pfl_durable_freep) struct pfl_durable *kept = NULL;
    enum pfl_rc rc = pfl_method_init(&d->method, opts->settings.aggregator, d->learner, err);
    if (rc == PFL_OK)
        rc = open_method(d, opts, err);
    if (rc == PFL_OK)
        rc = open_state(d, err);
    if (rc == PFL_OK)
        rc = open_compression(d, opts, err);
    if (rc == PFL_OK)
        rc = open_journal(d, opts, &kept, err);
    if (rc == PFL_OK)
        rc = pfl_inbound_start(d, opts->address, err);
    if (rc != PFL_OK) {
        d->learner.ops = NULL;
        free_now(d);
        return rc;
    }
    const struct pfl_node_settings s = settings_of(d, opts);
    d->address = pfl_xstrdup(pfl_rpc_server_address(d->server));
    d->node = pfl_node_new(d->address, d->method.model, &s);
    uv_timer_init(d->loop, &d->timer);
    d->timer.data = d;
    d->revocation = pfl_revocation_start(d, opts);
    d->credentials = pfl_credentials_start(d, opts);
    d->control_closed = true;
    if (d->state_dir && (rc = pfl_control_start(d, err)) != PFL_OK) {
        /* The server listens already: close it in the ordinary way, the owner's loop runs on. */
        d->learner.ops = NULL;
        pfl_driver_shutdown(d, NULL, NULL);
        return rc;
    }
    if (d->state_dir)
        d->control_closed = false;
    say_started(d);
    begin(d, kept);
    *ret = d;
    return PFL_OK;
}

/* ---- the end ---- */

static void on_timer_closed(uv_handle_t *h)
{
    struct pfl_driver *d = h->data;
    d->timer_closed = true;
    pfl_driver_maybe_closed(d);
}

static void on_server_closed(void *user)
{
    struct pfl_driver *d = user;
    d->server_closed = true;
    d->server = NULL;
    pfl_driver_maybe_closed(d);
}

void pfl_driver_maybe_closed(struct pfl_driver *d)
{
    if (!d->shutting_down || d->links || d->closing_links || d->jobs_running || d->draining)
        return;
    if (!d->server_closed || !d->control_closed || !d->timer_closed || d->revocation || d->credentials)
        return;
    void (*closed)(void *) = d->closed;
    void *user = d->closed_user;
    pfl_events_emit(d->events, "stopped", NULL);
    free_now(d);
    if (closed)
        closed(user);
}

static void answer_all(struct pfl_driver *d)
{
    const struct pfl_action bye = {.kind = PFL_ACT_REPLY, .error = (char *)"the node is shutting down"};
    while (d->pendings) {
        struct pfl_pending *p = d->pendings;
        if (p->call)
            pfl_inbound_reply(d, p, &bye);
        else
            p->done(p->user, bye.error);
        pending_remove(d, p);
    }
}

void pfl_driver_shutdown(struct pfl_driver *d, void (*closed)(void *user), void *user)
{
    PFL_ASSERT(!d->shutting_down);
    d->closed = closed;
    d->closed_user = user;
    struct pfl_event ev = pfl_driver_event(PFL_EV_SHUTDOWN);
    pfl_node_audit_add(d->audit, d->name, "node-end", d->address, NULL);
    pfl_driver_post(d, &ev); /* GOODBYE to the neighbours */
    d->shutting_down = true;
    pfl_job_cancel(d);
    answer_all(d);
    uv_timer_stop(&d->timer);
    uv_close((uv_handle_t *)&d->timer, on_timer_closed);
    pfl_revocation_stop(d->revocation);
    pfl_credentials_stop(d->credentials);
    pfl_links_close_all(d);
    if (d->control)
        pfl_control_stop(d->control);
    pfl_rpc_server_close(d->server, PFL_SEC / 2, on_server_closed, d);
    pfl_driver_maybe_closed(d);
}
