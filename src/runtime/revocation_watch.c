/* SPDX-License-Identifier: Apache-2.0 */
/* What time does to CRLs: they lapse, they are fetched from the CA service before that, and what a neighbour did not take is sent
 * again. One timer, set to what is due next; the wall clock may jump, so it is looked at once a minute at least. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "runtime/ca_client.h"
#include "runtime/revocation_impl.h"

static pfl_ns earlier(pfl_ns a, pfl_ns b)
{
    return a < b ? a : b;
}

static int64_t wall_s(void)
{
    return pfl_clock_wall() / PFL_SEC;
}

/* ---- stale CRLs ---- */

/* Unix seconds of the next moment at which a CRL in use lapses, or should be replaced: nextUpdate less a third of its life. */
static int64_t next_refresh(const struct pfl_crl_set *set)
{
    int64_t at = INT64_MAX;
    for (size_t i = 0; i < pfl_crl_set_n(set); i++) {
        const struct pfl_crl *c = pfl_crl_set_at(set, i);
        int64_t until = pfl_crl_next_update(c);
        int64_t refresh = until == INT64_MAX ? until : until - (until - pfl_crl_this_update(c)) / 3;
        at = refresh < at ? refresh : at;
    }
    return at;
}

static void warn_of_stale(struct pfl_revocation *r, pfl_ns now)
{
    const struct pfl_crl_set *set = pfl_tls_crls(r->d->tls);
    bool require = pfl_tls_crl_policy(r->d->tls) == PFL_CRL_REQUIRE;
    char when[32];
    if (now < r->warn_at)
        return;
    r->warn_at = now + PFL_CRL_WARN_AGAIN;
    for (size_t i = 0; i < pfl_crl_set_n(set); i++) {
        const struct pfl_crl *c = pfl_crl_set_at(set, i);
        if (pfl_crl_next_update(c) >= wall_s())
            continue;
        pfl_clock_format(pfl_crl_next_update(c) * PFL_SEC, when);
        pfl_warn("%s: CRL number %s of '%s' lapsed at %s: %s", r->d->name, pfl_crl_number_text(c), pfl_crl_issuer(c), when,
                 require ? "crl_policy is require, so its links end until a newer one comes"
                         : "links stay (crl_policy is prefer), but who was revoked since is not known here");
        pfl_events_emit(r->d->events, "crl_stale",
                        json_pack("{s:s, s:s}", "issuer", pfl_crl_issuer(c), "number", pfl_crl_number_text(c)));
    }
}

static void look_for_stale(struct pfl_revocation *r, pfl_ns now)
{
    if (pfl_tls_crl_policy(r->d->tls) == PFL_CRL_OFF)
        return;
    if (pfl_crl_set_next_update(pfl_tls_crls(r->d->tls)) >= wall_s()) {
        r->warn_at = 0;
        return;
    }
    warn_of_stale(r, now);
    if (pfl_tls_crl_policy(r->d->tls) == PFL_CRL_REQUIRE)
        pfl_revocation_revise(r);
}

/* ---- the CA service ---- */

static void on_bundle(void *user, enum pfl_rc rc, const struct pfl_err *err, const struct pfl_ca_bundle *bundle)
{
    struct pfl_driver *d = user;
    struct pfl_revocation *r = d->revocation;
    r->poll = NULL;
    if (rc != PFL_OK && !r->poll_failed)
        pfl_warn("%s: no CRL could be fetched from the CA service %s: %s", d->name, r->service, err->msg);
    if (rc == PFL_OK && r->poll_failed)
        pfl_info("%s: the CA service %s answers again", d->name, r->service);
    r->poll_failed = rc != PFL_OK;
    bool newer = rc == PFL_OK && (!r->has_bundle || memcmp(r->bundle, bundle->digest, sizeof(r->bundle)) != 0);
    bool waited = rc == PFL_OK && pfl_clock_mono() - r->polled_at >= PFL_SEC;
    if (rc == PFL_OK)
        memcpy(r->bundle, bundle->digest, sizeof(r->bundle));
    r->has_bundle = r->has_bundle || rc == PFL_OK;
    if (newer || waited) /* it lets us wait for the next: be there when it comes */
        r->poll_at = pfl_clock_mono() + earlier(r->poll_period, PFL_SEC / 10);
    for (size_t i = 0; rc == PFL_OK && i < bundle->crls.n; i++)
        pfl_driver_offer_crls(d, pfl_buf_view(&bundle->crls.items[i]), "the CA service");
    pfl_revocation_arm(r);
}

static pfl_ns jittered(pfl_ns period)
{
    struct pfl_rng rng;
    pfl_rng_seed(&rng, pfl_rng_entropy());
    return (pfl_ns)((double)period * (0.9 + 0.2 * pfl_rng_unit(&rng)));
}

static void poll_service(struct pfl_revocation *r, pfl_ns now)
{
    if (!r->service || r->poll || now < r->poll_at)
        return;
    uint32_t wait_s = (uint32_t)(r->poll_period / PFL_SEC);
    const struct pfl_ca_client_opts opts = {
        .loop = r->d->loop, .target = r->service, .tls = r->d->tls, .timeout = r->poll_period + PFL_CRL_FETCH};
    r->polled_at = now;
    r->poll_at = now + jittered(r->poll_period);
    r->poll = pfl_ca_client_bundle_newer(&opts, r->has_bundle ? r->bundle : NULL, wait_s, on_bundle, r->d);
}

/* When the service is asked next: the period, or sooner where a CRL would lapse before it; never more often than each tenth of the
 * period. */
static pfl_ns poll_due(const struct pfl_revocation *r, pfl_ns now)
{
    if (!r->service || r->poll)
        return PFL_NEVER;
    int64_t refresh = next_refresh(pfl_tls_crls(r->d->tls)), today = wall_s();
    if (refresh == INT64_MAX)
        return r->poll_at;
    pfl_ns in = refresh <= today ? r->poll_period / 10 : refresh - today > 3600 ? 3600 * PFL_SEC : (refresh - today) * PFL_SEC;
    return earlier(r->poll_at, now + in);
}

/* ---- the timer ---- */

static void on_timer(uv_timer_t *t)
{
    struct pfl_driver *d = t->data;
    struct pfl_revocation *r = d->revocation;
    pfl_ns now = pfl_clock_mono();
    if (r->stopping)
        return;
    if (r->owed && now >= r->resend_at)
        pfl_revocation_flood(r, NULL, true);
    look_for_stale(r, now);
    if (r->service && next_refresh(pfl_tls_crls(d->tls)) <= wall_s())
        r->poll_at = earlier(r->poll_at, now);
    poll_service(r, now);
    pfl_revocation_arm(r);
}

void pfl_revocation_arm(struct pfl_revocation *r)
{
    if (r->stopping)
        return;
    pfl_ns now = pfl_clock_mono(), due = now + PFL_CRL_LOOK;
    int64_t lapses = pfl_crl_set_next_update(pfl_tls_crls(r->d->tls)), today = wall_s();
    if (lapses >= today && lapses - today < 60)
        due = earlier(due, now + (lapses - today + 1) * PFL_SEC);
    if (r->owed) {
        r->resend_at = now + PFL_CRL_RESEND;
        due = earlier(due, r->resend_at);
    }
    due = earlier(due, poll_due(r, now));
    uint64_t ms = due <= now ? 0 : (uint64_t)((due - now + PFL_MS - 1) / PFL_MS);
    uv_update_time(r->d->loop);
    uv_timer_start(&r->timer, on_timer, ms, 0);
}

void pfl_revocation_watch_start(struct pfl_revocation *r)
{
    uv_timer_init(r->d->loop, &r->timer);
    r->timer.data = r->d;
    pfl_revocation_arm(r);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct pfl_driver *d = h->data;
    d->revocation->timer_closed = true;
    pfl_revocation_maybe_gone(d->revocation);
}

void pfl_revocation_stop(struct pfl_revocation *r)
{
    if (!r || r->stopping)
        return;
    r->stopping = true;
    if (r->poll)
        pfl_ca_client_cancel(r->poll);
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}
