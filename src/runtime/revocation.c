/* SPDX-License-Identifier: Apache-2.0 */
/* A newer CRL is accepted here, and what follows from it happens in one turn of the loop: the context is swapped, the neighbours
 * get the CRL (the revoked one too: it shall know why), every live connection is judged again, the core learns whose addresses are
 * barred. A revoked node cannot stop any of it: it is signed, and each neighbour passes it on by itself. */
#include "runtime/revocation.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pki/digest.h"
#include "runtime/origins.h"
#include "runtime/revocation_impl.h"

/* ---- to the neighbours ---- */

struct crl_send {
    struct pfl_driver *d;
    char *addr; /* owned */
};

/* The neighbour had no room for it just now, or was not reached: once more, soon. What it says against it is its own matter. */
static void on_sent(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct crl_send *s = user;
    (void)response;
    struct pfl_link *l = pfl_link_find(s->d, s->addr);
    bool again = status->code == PFL_GRPC_RESOURCE_EXHAUSTED || status->code == PFL_GRPC_DEADLINE_EXCEEDED;
    if (l && l->linked && again && s->d->revocation) {
        l->crl_owed = true;
        s->d->revocation->owed = true;
        pfl_revocation_arm(s->d->revocation);
    }
    free(s->addr);
    free(s);
}

static void send_one(struct pfl_link *l, struct pfl_scatter *body)
{
    struct crl_send *s = pfl_xmalloc(sizeof(*s));
    *s = (struct crl_send){.d = l->d, .addr = pfl_xstrdup(l->addr)};
    struct pfl_rpc_body b = pfl_rpc_body_of(pfl_scatter_ref(body));
    pfl_rpc_channel_call(l->channel, "/node.NodeServices/send", &b, l->d->call_timeout, on_sent, s);
}

static struct pfl_scatter *encode(const struct pfl_driver *d, const struct pfl_crl *c)
{
    struct pfl_scatter *body = NULL;
    struct pfl_bytes der = pfl_crl_der(c);
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(d->address, -1, "crl", PFL_MSG_WEIGHTS);
    m->codec = pfl_xstrdup("crl");
    m->blob = pfl_blob_copy(der.data, der.len);
    PFL_ASSERT(m->blob != NULL);
    m->weights = pfl_bytes_of(m->blob->data, m->blob->len);
    if (pfl_msg_encode(m, NULL, &body, NULL) != PFL_OK)
        return NULL;
    return body;
}

void pfl_revocation_flood(struct pfl_revocation *r, const char *from, bool owed_only)
{
    const struct pfl_crl_set *set = pfl_tls_crls(r->d->tls);
    for (size_t i = 0; i < pfl_crl_set_n(set); i++) {
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = encode(r->d, pfl_crl_set_at(set, i));
        for (struct pfl_link *l = r->d->links; body && l; l = l->next) {
            if (l->linked && l->up && !l->leaving && !l->plain && !pfl_streq(l->addr, from) && (!owed_only || l->crl_owed))
                send_one(l, body);
        }
    }
    for (struct pfl_link *l = r->d->links; l; l = l->next)
        l->crl_owed = false;
    r->owed = false;
}

void pfl_revocation_greet(struct pfl_driver *d, struct pfl_link *l)
{
    const struct pfl_crl_set *set = d->revocation && !l->plain ? pfl_tls_crls(d->tls) : NULL;
    for (size_t i = 0; i < pfl_crl_set_n(set); i++) {
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = encode(d, pfl_crl_set_at(set, i));
        if (body)
            send_one(l, body);
    }
}

/* ---- live connections ---- */

enum { DROPPED_MAX = 256 };
struct dropped {
    struct pfl_revocation *r;
    const struct pfl_link *link; /* whose channel is judged; NULL: the server's connections */
    size_t n;
    struct {
        struct pfl_identity *identity; /* a reference */
        char *addr;                    /* owned; NULL: it called us */
        char *reason;                  /* owned */
    } items[DROPPED_MAX];              /* the revoked */
};

static void on_dropped(void *user, const struct pfl_rpc_peer *peer, enum pfl_verify_why why, const char *reason)
{
    struct dropped *d = user;
    struct pfl_driver *driver = d->r->d;
    const char *who = peer->identity ? pfl_identity_text(peer->identity) : peer->remote;
    pfl_warn("%s: closed the connection of %s (%s): its certificate was %s%s", driver->name, pfl_q(who), pfl_q(peer->remote),
             why == PFL_WHY_REVOKED ? "" : "refused: ", reason);
    pfl_events_emit(driver->events, "connection_closed",
                    json_pack("{s:s, s:s, s:s}", "peer", pfl_q(who), "remote", pfl_q(peer->remote), "reason", reason));
    d->r->n.closed += why == PFL_WHY_REVOKED;
    d->r->n.stale_closed += why == PFL_WHY_NO_CRL;
    if (why != PFL_WHY_REVOKED || d->n == DROPPED_MAX || !peer->identity)
        return;
    d->items[d->n].identity = pfl_identity_ref(peer->identity);
    d->items[d->n].addr = d->link ? pfl_xstrdup(d->link->addr) : NULL;
    d->items[d->n++].reason = pfl_xstrdup(reason);
}

static void post_revoked(struct pfl_driver *d, const char *addr, const char *why)
{
    struct pfl_event ev = pfl_driver_event(PFL_EV_REVOKED);
    ev.addr = addr;
    ev.text = why;
    pfl_driver_post(d, &ev);
}

/* Is this the address of who held the certificate? Its channel was closed for it; or the holder called us under the SPIFFE ID that
 * answers there. Without one the same names may be several nodes' (see pfl_identity_same), and nobody is barred for another. */
static bool is_holders(const struct dropped *dropped, size_t i, const struct pfl_link *l)
{
    const struct pfl_identity *id = dropped->items[i].identity;
    if (dropped->items[i].addr)
        return pfl_streq(dropped->items[i].addr, l->addr);
    return id->spiffe_id && l->bound && pfl_identity_same(l->bound, id);
}

/* Collected first, since the core's answer changes the links. */
static void bar_addresses(struct pfl_driver *d, const struct dropped *dropped)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs addrs = {0}, whys = {0};
    for (size_t i = 0; i < dropped->n; i++) {
        for (const struct pfl_link *l = d->links; l; l = l->next) {
            if (is_holders(dropped, i, l) && pfl_strs_add_once(&addrs, l->addr))
                pfl_strs_add(&whys, dropped->items[i].reason);
        }
    }
    for (size_t i = 0; i < addrs.n; i++)
        post_revoked(d, addrs.items[i], whys.items[i]);
}

static void remember_redial(struct pfl_revocation *r, const struct pfl_link *l)
{
    if (l->linked && r->redial.n < PFL_CRL_REDIAL_MAX)
        (void)pfl_strs_add_once(&r->redial, l->addr);
}

void pfl_revocation_revise(struct pfl_revocation *r)
{
    struct pfl_driver *d = r->d;
    struct dropped *dropped = pfl_xcalloc(1, sizeof(*dropped));
    dropped->r = r;
    (void)pfl_rpc_server_revise(d->server, d->tls, on_dropped, dropped);
    for (struct pfl_link *l = d->links; l; l = l->next) {
        uint64_t stale = r->n.stale_closed;
        dropped->link = l;
        if (pfl_rpc_channel_revise(l->channel, d->tls, on_dropped, dropped) && r->n.stale_closed > stale)
            remember_redial(r, l);
    }
    bar_addresses(d, dropped);
    for (size_t i = 0; i < dropped->n; i++) {
        pfl_identity_unref(dropped->items[i].identity);
        free(dropped->items[i].addr);
        free(dropped->items[i].reason);
    }
    free(dropped);
}

/* ---- this node itself ---- */

static void own_is_out(struct pfl_revocation *r, const char *why)
{
    if (r->own)
        return;
    r->own = pfl_xstrdup(why);
    pfl_error("%s: this node is out: its %s. It takes part no more: have a new certificate issued", r->d->name, why);
    post_revoked(r->d, NULL, why);
}

void pfl_revocation_check_own(struct pfl_revocation *r)
{
    enum pfl_verify_why kind;
    struct pfl_err why = {0};
    if (pfl_tls_check_own(r->d->tls, pfl_clock_wall() / PFL_SEC, &kind, &why) == PFL_AUTH && kind == PFL_WHY_REVOKED)
        own_is_out(r, why.msg);
    else if (r->own && r->told.n == 0) {
        free(pfl_steal(&r->own)); /* another certificate is in use by now */
        pfl_info("%s: this node's certificate is not a revoked one any more", r->d->name);
    }
}

static bool has_other_link(const struct pfl_driver *d, const struct pfl_link *but)
{
    for (const struct pfl_link *l = d->links; l; l = l->next)
        if (l != but && l->linked && l->up)
            return true;
    return false;
}

/* One peer's word is no proof: it costs the link with that peer, which is gone anyway. When nobody else is left, there is nothing
 * to take part in. */
void pfl_revocation_told(struct pfl_driver *d, struct pfl_link *l)
{
    struct pfl_revocation *r = d->revocation;
    if (!r || r->own)
        return;
    if (pfl_strs_add_once(&r->told, l->addr)) {
        pfl_error("%s: %s says that this node's certificate is revoked", d->name, l->addr);
        pfl_events_emit(d->events, "told_revoked", json_pack("{s:s}", "address", l->addr));
    }
    if (has_other_link(d, l))
        return;
    PFL_AUTO(pfl_freep) char *who = pfl_strs_join(&r->told, ", ");
    PFL_AUTO(pfl_freep)
    char *why =
        pfl_xasprintf("certificate is revoked, as %.300s sa%s, and no other neighbour is left", who, r->told.n == 1 ? "ys" : "y");
    own_is_out(r, why);
}

/* ---- accepting ---- */

static void on_redialled(void *user, const char *error)
{
    (void)user;
    (void)error; /* the link's own events say it */
}

static void redial(struct pfl_revocation *r)
{
    struct pfl_strs addrs = r->redial;
    r->redial = (struct pfl_strs){0};
    for (size_t i = 0; i < addrs.n; i++)
        pfl_driver_command(r->d, PFL_EV_CMD_CONNECT, addrs.items[i], NULL, on_redialled, NULL);
    pfl_strs_deinit(&addrs);
}

static void say_accepted(struct pfl_revocation *r, const struct pfl_crl *c, const char *from)
{
    struct pfl_driver *d = r->d;
    char until[32] = "for ever";
    if (pfl_crl_next_update(c) != INT64_MAX)
        pfl_clock_format(pfl_crl_next_update(c) * PFL_SEC, until);
    pfl_info("%s: CRL number %s of '%s' is in use: %zu revoked, good until %s, from %s", d->name, pfl_crl_number_text(c),
             pfl_crl_issuer(c), pfl_crl_n_revoked(c), until, from);
    pfl_events_emit(d->events, "crl_accepted",
                    json_pack("{s:s, s:s, s:I, s:s}", "issuer", pfl_crl_issuer(c), "number", pfl_crl_number_text(c), "revoked",
                              (json_int_t)pfl_crl_n_revoked(c), "from", from));
}

void pfl_revocation_accept(struct pfl_revocation *r, struct pfl_crl_set *set, const char *from)
{
    struct pfl_driver *d = r->d;
    struct pfl_tls *old = d->tls;
    for (size_t i = 0; i < pfl_crl_set_n(set); i++)
        if (!pfl_crl_set_has(pfl_tls_crls(old), pfl_crl_der(pfl_crl_set_at(set, i))))
            say_accepted(r, pfl_crl_set_at(set, i), from);
    d->tls = pfl_tls_with_crls(old, set);
    pfl_tls_unref(old);
    pfl_origins_changed(d->origins);
    r->n.accepted++;
    pfl_revocation_flood(r, from, false);
    pfl_revocation_revise(r);
    pfl_revocation_check_own(r);
    redial(r);
    pfl_revocation_save(r);
    pfl_revocation_arm(r);
}

/* ---- in ---- */

static bool was_refused(const struct pfl_revocation *r, const uint8_t digest[32])
{
    unsigned n = r->n_refused_kept < PFL_CRL_REFUSED_KEPT ? r->n_refused_kept : PFL_CRL_REFUSED_KEPT;
    for (unsigned i = 0; i < n; i++)
        if (memcmp(r->refused[i], digest, 32) == 0)
            return true;
    return false;
}

static void answer(struct pfl_driver *d, struct pfl_rpc_call *call, const char *error)
{
    struct pfl_pending p = {.call = call};
    const struct pfl_action a = {.kind = PFL_ACT_REPLY, .error = (char *)(uintptr_t)error};
    pfl_inbound_reply(d, &p, &a);
}

void pfl_revocation_on_message(struct pfl_driver *d, struct pfl_rpc_call *call, const struct pfl_msg *msg)
{
    struct pfl_revocation *r = d->revocation;
    if (!r || pfl_tls_crl_policy(d->tls) == PFL_CRL_OFF || pfl_crl_set_has(pfl_tls_crls(d->tls), msg->weights)) {
        answer(d, call, NULL);
        return;
    }
    struct pfl_crl_job *job = pfl_crl_job_new(r, msg->source);
    pfl_sha256(msg->weights, job->digest);
    if (was_refused(r, job->digest)) {
        pfl_crl_job_free(job);
        r->n.refused++;
        answer(d, call, "this CRL was refused before");
        return;
    }
    job->call = call;
    job->bytes = pfl_blob_copy(msg->weights.data, msg->weights.len);
    if (job->bytes && pfl_revocation_queue(r, job))
        return;
    pfl_crl_job_free(job);
    pfl_rpc_call_fail(call, PFL_GRPC_RESOURCE_EXHAUSTED, "other CRLs are looked at: send it again");
}

void pfl_driver_offer_crls(struct pfl_driver *d, struct pfl_bytes crls, const char *from)
{
    struct pfl_revocation *r = d->revocation;
    if (!r || r->stopping || pfl_tls_crl_policy(d->tls) == PFL_CRL_OFF || crls.len > PFL_CRL_FILE_MAX)
        return;
    struct pfl_crl_job *job = pfl_crl_job_new(r, from);
    job->bytes = pfl_blob_copy(crls.data, crls.len);
    if (!job->bytes || !pfl_revocation_queue(r, job))
        pfl_crl_job_free(job); /* it comes again */
}

void pfl_driver_reload_crl(struct pfl_driver *d, const char *path, void (*done)(void *user, const char *error), void *user)
{
    struct pfl_revocation *r = d->revocation;
    const char *why_not = !r || r->stopping                           ? "this node has no TLS, so it has no use for a CRL"
                          : pfl_tls_crl_policy(d->tls) == PFL_CRL_OFF ? "crl_policy is off"
                          : !path && !r->file                         ? "no CRL file is named in settings.ssl.crl"
                                                                      : NULL;
    if (!why_not) {
        struct pfl_crl_job *job = pfl_crl_job_new(r, path ? path : r->file);
        job->path = pfl_xstrdup(job->from);
        job->done = done;
        job->user = user;
        if (pfl_revocation_queue(r, job))
            return;
        job->done = NULL;
        pfl_crl_job_free(job);
        why_not = "other CRLs are looked at: try again";
    }
    if (done)
        done(user, why_not);
}

/* ---- another context ---- */

struct pfl_tls *pfl_revocation_prepare(const struct pfl_driver *d, struct pfl_tls *fresh)
{
    return d->tls ? pfl_tls_inherit_crls(fresh, d->tls) : pfl_tls_ref(fresh);
}

void pfl_revocation_tls_changed(struct pfl_driver *d)
{
    struct pfl_revocation *r = d->revocation;
    if (!r || r->stopping)
        return;
    pfl_strs_deinit(&r->told); /* it was said of another certificate */
    pfl_revocation_revise(r);
    pfl_revocation_check_own(r);
    redial(r);
    pfl_revocation_arm(r);
}

/* ---- status ---- */

static json_t *crl_json(const struct pfl_crl *c)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "issuer", pfl_crl_issuer(c), "number", pfl_crl_number_text(c), "this_update",
                          (json_int_t)pfl_crl_this_update(c), "revoked", (json_int_t)pfl_crl_n_revoked(c));
    if (pfl_crl_next_update(c) != INT64_MAX)
        json_object_set_new(o, "next_update", json_integer(pfl_crl_next_update(c)));
    return o;
}

void pfl_revocation_status(const struct pfl_driver *d, json_t *status)
{
    const struct pfl_revocation *r = d->revocation;
    if (!r)
        return;
    const struct pfl_crl_set *set = pfl_tls_crls(d->tls);
    json_t *crls = json_array();
    for (size_t i = 0; i < pfl_crl_set_n(set); i++)
        json_array_append_new(crls, crl_json(pfl_crl_set_at(set, i)));
    bool stale = pfl_crl_set_next_update(set) < pfl_clock_wall() / PFL_SEC;
    json_object_set_new(status, "crl_policy", json_string(pfl_crl_policy_name(pfl_tls_crl_policy(d->tls))));
    json_object_set_new(status, "crls", crls);
    json_object_set_new(status, "crl_stale", json_boolean(stale));
    if (r->own)
        json_object_set_new(status, "revoked", json_string(r->own));
    json_object_set_new(status, "crl_counters",
                        json_pack("{s:I, s:I, s:I, s:I}", "accepted", (json_int_t)r->n.accepted, "refused",
                                  (json_int_t)r->n.refused, "connections_revoked", (json_int_t)r->n.closed,
                                  "connections_without_crl", (json_int_t)r->n.stale_closed));
}

/* ---- start and stop ---- */

struct pfl_revocation *pfl_revocation_start(struct pfl_driver *d, const struct pfl_driver_opts *opts)
{
    if (!d->tls)
        return NULL;
    struct pfl_revocation *r = pfl_xcalloc(1, sizeof(*r));
    r->d = d;
    r->file = opts->crl ? pfl_xstrdup(opts->crl) : NULL;
    r->kept = opts->crl_kept ? pfl_xstrdup(opts->crl_kept) : NULL;
    r->service = opts->ca_service ? pfl_xstrdup(opts->ca_service) : NULL;
    r->poll_period = opts->ca_poll > 0 ? opts->ca_poll : 60 * PFL_SEC;
    r->queue_tail = &r->queue;
    pfl_revocation_watch_start(r);
    if (pfl_crl_set_n(pfl_tls_crls(d->tls)) > 0)
        pfl_revocation_save(r); /* what the file brought is remembered: an older file is not believed from now on */
    return r;
}

void pfl_revocation_maybe_gone(struct pfl_revocation *r)
{
    struct pfl_driver *d = r->d;
    if (!r->stopping || !r->timer_closed || r->queue || r->saving)
        return;
    pfl_strs_deinit(&r->redial);
    pfl_strs_deinit(&r->told);
    free(r->own);
    free(r->file);
    free(r->kept);
    free(r->service);
    free(r);
    d->revocation = NULL;
    pfl_driver_maybe_closed(d);
}
