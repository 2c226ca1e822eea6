/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/credentials_impl.h"
#include "runtime/origins.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "pki/node_renew.h"
#include "runtime/revocation_impl.h"

static double wall(void)
{
    return (double)pfl_clock_wall() / 1e9;
}

/* ---- the context in use ---- */

void pfl_driver_set_tls(struct pfl_driver *d, struct pfl_tls *fresh)
{
    struct pfl_tls *old = d->tls;
    PFL_ASSERT(old);
    d->tls = pfl_revocation_prepare(d, fresh);
    pfl_tls_unref(old);
    pfl_origins_changed(d->origins);
    pfl_revocation_tls_changed(d); /* whom the new trust refuses is closed, not drained */
    pfl_rpc_server_set_tls(d->server, d->tls);
    for (struct pfl_link *l = d->links; l; l = l->next)
        pfl_rpc_channel_set_tls(l->channel, d->tls);
}

static struct pfl_renew_plan plan_of(const struct pfl_credentials *c)
{
    const struct pfl_identity *s = pfl_tls_server_identity(c->d->tls), *k = pfl_tls_client_identity(c->d->tls);
    const struct pfl_identity *first = s->not_after <= k->not_after ? s : k;
    return (struct pfl_renew_plan){.not_before = (double)first->not_before,
                                   .not_after = (double)first->not_after,
                                   .at = c->renew_at,
                                   .jitter = c->jitter,
                                   .failures = c->failures,
                                   .failed_at = c->failed_at};
}

void pfl_credentials_use(struct pfl_credentials *c, struct pfl_tls *fresh, const char *how)
{
    struct pfl_driver *d = c->d;
    char until[32];
    PFL_AUTO(pfl_tls_freep) struct pfl_tls *before = pfl_tls_ref(d->tls);
    const struct pfl_trust *was = pfl_tls_trust(before);
    pfl_driver_set_tls(d, fresh);
    if (!pfl_trust_same(was, pfl_tls_trust(d->tls)))
        pfl_warn("%s: trusted from now on: %s (before: %s)", d->name, pfl_trust_text(pfl_tls_trust(d->tls)), pfl_trust_text(was));
    struct pfl_renew_plan plan = plan_of(c);
    pfl_clock_format((pfl_ns)plan.not_after * PFL_SEC, until);
    c->warned = 0;
    pfl_info("%s: certificates %s: %s, valid until %s", d->name, how, pfl_identity_text(pfl_tls_server_identity(d->tls)), until);
    pfl_events_emit(d->events, "certificate",
                    json_pack("{s:s, s:s, s:s, s:s}", "how", how, "server_sha256", pfl_tls_server_identity(d->tls)->fingerprint,
                              "client_sha256", pfl_tls_client_identity(d->tls)->fingerprint, "valid_until", until));
}

/* ---- renewal ---- */

static void answer_waiters(struct pfl_credentials *c, const char *error)
{
    while (c->waiters) {
        struct pfl_renew_waiter *w = c->waiters;
        c->waiters = w->next;
        w->done(w->user, error);
        free(w);
    }
}

static void on_renewed(void *user, enum pfl_rc rc, const struct pfl_err *err, struct pfl_tls *fresh, const struct pfl_ders *crls)
{
    struct pfl_credentials *c = user;
    struct pfl_driver *d = c->d;
    c->renewal = NULL;
    if (rc == PFL_OK) {
        c->failures = 0;
        c->failure[0] = '\0';
        c->renewed++;
        c->look_again = true; /* somebody else may have replaced the files since */
        pfl_credentials_use(c, fresh, "renewed by the CA");
        for (size_t i = 0; i < crls->n; i++)
            pfl_driver_offer_crls(d, pfl_buf_view(&crls->items[i]), "the CA service");
    } else {
        c->failures++;
        c->failed_at = wall();
        (void)snprintf(c->failure, sizeof(c->failure), "%s", err->msg);
        struct pfl_renew_plan plan = plan_of(c);
        pfl_warn("%s: the certificates could not be renewed (attempt %u, the next in %.0f s): %s", d->name, c->failures,
                 pfl_renew_backoff(&plan), err->msg);
        pfl_events_emit(d->events, "renewal_failed",
                        json_pack("{s:i, s:s}", "attempt", (int)c->failures, "reason", pfl_q(err->msg)));
    }
    answer_waiters(c, rc == PFL_OK ? NULL : err->msg);
    if (c->look_again) {
        c->look_again = false;
        pfl_credentials_look_in(c, PFL_CREDENTIALS_SETTLE);
    }
    pfl_credentials_arm(c);
}

static void begin_renewal(struct pfl_credentials *c)
{
    const struct pfl_renewal_opts opts = {
        .loop = c->d->loop, .files = &c->files, .tls = c->d->tls, .service = c->service, .same_keys = c->same_keys};
    if (!c->renewal)
        c->renewal = pfl_renewal_begin(&opts, on_renewed, c);
}

static const char *why_not_renewed(const struct pfl_credentials *c, bool force)
{
    if (!c || c->stopping)
        return "this node has no certificates to renew";
    if (!c->service)
        return "no CA service is configured (ca.service in node.yaml)";
    if (!c->renew && !force)
        return "renewal is off (ca.renew: false), somebody else writes these files: p2pfl cert renew --force does it all the same";
    return NULL;
}

void pfl_credentials_renew(struct pfl_driver *d, bool force, void (*done)(void *user, const char *error), void *user)
{
    struct pfl_credentials *c = d->credentials;
    const char *why_not = why_not_renewed(c, force);
    if (why_not) {
        done(user, why_not);
        return;
    }
    struct pfl_renew_waiter *w = pfl_xcalloc(1, sizeof(*w));
    w->done = done;
    w->user = user;
    w->next = c->waiters;
    c->waiters = w;
    begin_renewal(c);
}

/* Loud as the end comes near. */
static void warn_of_end(struct pfl_credentials *c, const struct pfl_renew_plan *p)
{
    double share = p->not_after > p->not_before ? (wall() - p->not_before) / (p->not_after - p->not_before) : 2.0;
    unsigned stage = share >= 1.0 ? 3 : share >= 0.95 ? 2 : share >= 0.8 ? 1 : 0;
    char until[32];
    if (stage <= c->warned)
        return;
    c->warned = stage;
    pfl_clock_format((pfl_ns)p->not_after * PFL_SEC, until);
    const char *todo = !c->service   ? "replace the files, or name a CA service"
                       : !c->renew   ? "renewal is off (ca.renew: false): replace the files"
                       : c->failures ? c->failure
                                     : "it is being renewed";
    if (stage == 3)
        pfl_error(
            "%s: this node's certificate EXPIRED at %s, peers refuse it: %s. Where the CA renews it no more: p2pfl join again",
            c->d->name, until, todo);
    else if (stage == 2)
        pfl_error("%s: this node's certificate expires at %s: %s", c->d->name, until, todo);
    else
        pfl_warn("%s: this node's certificate expires at %s: %s", c->d->name, until, todo);
}

/* ---- time ---- */

static void on_timer(uv_timer_t *t)
{
    struct pfl_credentials *c = t->data;
    pfl_ns now = pfl_clock_mono();
    if (c->stopping)
        return;
    if (now >= c->look_at) {
        c->look_at = now + c->look;
        pfl_credentials_look(c);
    }
    struct pfl_renew_plan plan = plan_of(c);
    warn_of_end(c, &plan);
    if (c->renew && c->service && wall() >= pfl_renew_due(&plan))
        begin_renewal(c);
    if (c->d->revocation && now >= c->revise_at) {
        c->revise_at = now + PFL_CREDENTIALS_REVISE;
        pfl_revocation_revise(c->d->revocation);
    }
    pfl_credentials_arm(c);
}

void pfl_credentials_arm(struct pfl_credentials *c)
{
    if (c->stopping)
        return;
    struct pfl_renew_plan plan = plan_of(c);
    pfl_ns now = pfl_clock_mono(), period = (pfl_ns)(pfl_renew_period(&plan) * 1e9);
    pfl_ns due = c->look_at < now + period ? c->look_at : now + period;
    uv_update_time(c->d->loop);
    uv_timer_start(&c->timer, on_timer, due <= now ? 0 : (uint64_t)((due - now + PFL_MS - 1) / PFL_MS), 0);
}

/* ---- begin and end ---- */

static void copy_files(struct pfl_credentials *c, const struct pfl_tls_files *f)
{
    const char *from[] = {f->ca_crt,     f->server_crt,          f->server_key,  f->client_crt,
                          f->client_key, f->key_passphrase_file, f->key_pin_file};
    for (size_t i = 0; i < PFL_ARRAY_LEN(from); i++)
        c->owned[i] = from[i] ? pfl_xstrdup(from[i]) : NULL;
    c->files = (struct pfl_tls_files){.ca_crt = c->owned[0],
                                      .server_crt = c->owned[1],
                                      .server_key = c->owned[2],
                                      .client_crt = c->owned[3],
                                      .client_key = c->owned[4],
                                      .key_passphrase_file = c->owned[5],
                                      .key_pin_file = c->owned[6],
                                      .tls12_allowed = f->tls12_allowed}; /* CRLs and their policy are the present context's */
}

struct pfl_credentials *pfl_credentials_start(struct pfl_driver *d, const struct pfl_driver_opts *opts)
{
    const struct pfl_credentials_opts *o = opts->credentials;
    struct pfl_rng rng;
    if (!o || !d->tls)
        return NULL;
    struct pfl_credentials *c = pfl_xcalloc(1, sizeof(*c));
    c->d = d;
    copy_files(c, &o->files);
    c->service = opts->ca_service ? pfl_xstrdup(opts->ca_service) : NULL;
    c->crl = opts->crl ? pfl_xstrdup(opts->crl) : NULL;
    c->renew = o->renew;
    c->same_keys = o->same_keys;
    c->renew_at = o->renew_at > 0.0 ? o->renew_at : 2.0 / 3.0;
    c->look = o->look > 0 ? o->look : 10 * PFL_SEC;
    c->retry = PFL_CREDENTIALS_RETRY / 2;
    pfl_rng_seed(&rng, pfl_rng_entropy());
    c->jitter = 2.0 * pfl_rng_unit(&rng) - 1.0;
    uv_timer_init(d->loop, &c->timer);
    c->timer.data = c;
    c->open_handles = 1;
    pfl_credentials_watch(c);
    c->look_at = pfl_clock_mono(); /* files may have changed since they were loaded */
    pfl_credentials_arm(c);
    return c;
}

void pfl_credentials_maybe_gone(struct pfl_credentials *c)
{
    struct pfl_driver *d = c->d;
    if (!c->stopping || c->open_handles > 0 || c->loading || c->renewal)
        return;
    for (size_t i = 0; i < PFL_ARRAY_LEN(c->owned); i++)
        free(c->owned[i]);
    free(c->service);
    free(c->crl);
    free(c);
    d->credentials = NULL;
    pfl_driver_maybe_closed(d);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct pfl_credentials *c = h->data;
    c->open_handles--;
    pfl_credentials_maybe_gone(c);
}

static void on_renewal_gone(void *user)
{
    struct pfl_credentials *c = user;
    c->renewal = NULL;
    pfl_credentials_maybe_gone(c);
}

void pfl_credentials_stop(struct pfl_credentials *c)
{
    if (!c || c->stopping)
        return;
    c->stopping = true;
    answer_waiters(c, "the node is shutting down");
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    for (unsigned i = 0; i < c->n_watches; i++)
        uv_close((uv_handle_t *)&c->watches[i], on_handle_closed);
    if (c->renewal)
        pfl_renewal_cancel(c->renewal, on_renewal_gone, c);
}

void pfl_credentials_status(const struct pfl_driver *d, json_t *status)
{
    const struct pfl_credentials *c = d->credentials;
    if (!d->tls || !c)
        return;
    char until[32], due[32];
    struct pfl_renew_plan plan = plan_of(c);
    pfl_clock_format((pfl_ns)plan.not_after * PFL_SEC, until);
    pfl_clock_format((pfl_ns)(pfl_renew_due(&plan) * 1e9), due);
    json_t *o = json_pack("{s:s, s:s, s:f, s:i, s:i, s:i}", "identity", pfl_identity_text(pfl_tls_server_identity(d->tls)),
                          "valid_until", until, "left_s", plan.not_after - wall(), "renewed", (int)c->renewed, "replaced",
                          (int)c->replaced, "failures", (int)c->failures);
    PFL_ASSERT(o);
    if (c->renew && c->service)
        json_object_set_new(o, "renews_at", json_string(due));
    if (c->failure[0])
        json_object_set_new(o, "last_failure", json_string(pfl_q(c->failure)));
    if (c->said[0])
        json_object_set_new(o, "files_refused", json_string(pfl_q(c->said)));
    json_object_set_new(status, "certificate", o);
}
