/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/credentials.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "pki/node_renew.h"
#include "runtime/renewal.h"
#include "runtime/revocation_impl.h"

enum { N_FILES = 5 };

/* What a look at a file remembers of it. */
struct stamp {
    bool there;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

/* Somebody who waits for the end of a renewal. */
struct waiter {
    struct waiter *next;
    void (*done)(void *user, const char *error);
    void *user;
};

struct pfl_credentials {
    struct pfl_driver *d;
    char *owned[8];             /* the texts that files points to */
    struct pfl_tls_files files; /* paths */
    char *service, *crl;        /* owned or NULL */
    struct stamp crl_seen;
    bool renew, same_keys;
    double renew_at, jitter;
    pfl_ns look;

    uv_fs_event_t watches[PFL_CREDENTIALS_WATCHES];
    unsigned n_watches;
    uv_timer_t timer;
    bool stopping;
    unsigned open_handles;

    uv_work_t load;
    bool loading, look_again;
    struct pfl_tls *loaded; /* a worker's result */
    enum pfl_rc load_rc;
    struct pfl_err load_err;
    struct stamp seen[N_FILES], trying[N_FILES]; /* in use; being loaded */
    pfl_ns look_at, retry, revise_at;
    char said[PFL_ERR_MAX]; /* the last failure that was told */

    struct pfl_renewal *renewal; /* under way */
    struct waiter *waiters;
    unsigned failures;
    double failed_at; /* Unix seconds */
    char failure[PFL_ERR_MAX];
    unsigned renewed, replaced;
    unsigned warned; /* tenths of the life at which a warning was given */
};

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

static void use(struct pfl_credentials *c, struct pfl_tls *fresh, const char *how)
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

/* ---- files that change ---- */

static const char *path_of(const struct pfl_credentials *c, unsigned i)
{
    const char *const paths[N_FILES] = {c->files.ca_crt, c->files.server_crt, c->files.server_key, c->files.client_crt,
                                        c->files.client_key};
    return paths[i];
}

static void stamp_of(const char *path, struct stamp *ret)
{
    struct stat st;
    *ret = (struct stamp){0};
    if (stat(path, &st) == 0)
        *ret = (struct stamp){true, st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

static void take_stamps(const struct pfl_credentials *c, struct stamp *ret)
{
    for (unsigned i = 0; i < N_FILES; i++)
        stamp_of(path_of(c, i), &ret[i]);
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->there == b->there && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static bool same_stamps(const struct stamp *a, const struct stamp *b)
{
    for (unsigned i = 0; i < N_FILES; i++) {
        if (!same_stamp(&a[i], &b[i]))
            return false;
    }
    return true;
}

static void arm(struct pfl_credentials *c);

static void look_in(struct pfl_credentials *c, pfl_ns in)
{
    pfl_ns at = pfl_clock_mono() + in;
    c->look_at = at < c->look_at ? at : c->look_at;
    arm(c);
}

/* Said once, until something else is wrong or all is well. */
static void say_failure(struct pfl_credentials *c, const char *why)
{
    if (strcmp(c->said, why) == 0)
        return;
    (void)snprintf(c->said, sizeof(c->said), "%s", why);
    pfl_warn("%s: changed certificate files are not used, the ones from before stay in use: %s", c->d->name, why);
    pfl_events_emit(c->d->events, "certificate_refused", json_pack("{s:s}", "reason", pfl_q(why)));
}

static void on_worker_load(uv_work_t *w)
{
    struct pfl_credentials *c = w->data;
    c->load_err = (struct pfl_err){0};
    c->load_rc = pfl_tls_new(&c->files, &c->loaded, &c->load_err);
    if (c->load_rc == PFL_OK)
        c->load_rc = pfl_tls_check_own(c->loaded, pfl_clock_wall() / PFL_SEC, NULL, &c->load_err);
}

static bool differs(const struct pfl_tls *a, const struct pfl_tls *b)
{
    return strcmp(pfl_tls_server_identity(a)->fingerprint, pfl_tls_server_identity(b)->fingerprint) != 0 ||
           strcmp(pfl_tls_client_identity(a)->fingerprint, pfl_tls_client_identity(b)->fingerprint) != 0 ||
           !pfl_trust_same(pfl_tls_trust(a), pfl_tls_trust(b));
}

static void take_loaded(struct pfl_credentials *c)
{
    struct stamp now[N_FILES];
    take_stamps(c, now);
    if (c->load_rc == PFL_OK && !same_stamps(now, c->trying)) {
        look_in(c, PFL_CREDENTIALS_SETTLE); /* changed while they were read */
        return;
    }
    if (c->load_rc != PFL_OK) {
        say_failure(c, c->load_err.msg);
        c->retry = c->retry * 2 < PFL_CREDENTIALS_RETRY_MAX ? c->retry * 2 : PFL_CREDENTIALS_RETRY_MAX;
        look_in(c, c->retry);
        return;
    }
    memcpy(c->seen, c->trying, sizeof(c->seen));
    c->said[0] = '\0';
    c->retry = PFL_CREDENTIALS_RETRY / 2;
    if (!differs(c->loaded, c->d->tls))
        return;
    c->replaced++;
    use(c, c->loaded, "taken from the files that changed");
}

static void maybe_gone(struct pfl_credentials *c);

static void on_loaded(uv_work_t *w, int status)
{
    struct pfl_credentials *c = w->data;
    (void)status;
    c->loading = false;
    if (!c->stopping)
        take_loaded(c);
    pfl_tls_unref(pfl_steal(&c->loaded));
    if (c->stopping)
        maybe_gone(c);
    else if (c->look_again) {
        c->look_again = false;
        look_in(c, PFL_CREDENTIALS_SETTLE);
    }
}

/* The operator's CRL file: what in it is newer comes into use; the driver's own writing of it changes nothing. */
static void look_at_crl(struct pfl_credentials *c)
{
    struct stamp now;
    if (!c->crl)
        return;
    stamp_of(c->crl, &now);
    if (same_stamp(&now, &c->crl_seen))
        return;
    c->crl_seen = now;
    if (now.there)
        pfl_driver_reload_crl(c->d, NULL, NULL, NULL);
}

static void look_at_files(struct pfl_credentials *c)
{
    struct stamp now[N_FILES];
    if (c->loading || c->renewal) { /* a renewal writes them itself */
        c->look_again = true;
        return;
    }
    take_stamps(c, now);
    if (same_stamps(now, c->seen))
        return;
    memcpy(c->trying, now, sizeof(now));
    c->load.data = c;
    c->loading = uv_queue_work(c->d->loop, &c->load, on_worker_load, on_loaded) == 0;
}

static void on_change(uv_fs_event_t *w, const char *name, int events, int status)
{
    (void)name;
    (void)events;
    (void)status;
    look_in(w->data, PFL_CREDENTIALS_SETTLE);
}

/* A folder whose link is turned to another (`..data` of a mounted secret) changes in the folder that the file's path names. */
static void watch(struct pfl_credentials *c)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs dirs = {0};
    for (unsigned i = 0; i < N_FILES; i++) {
        PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(path_of(c, i));
        pfl_strs_add_once(&dirs, dir);
    }
    if (c->crl) {
        PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(c->crl);
        pfl_strs_add_once(&dirs, dir);
    }
    for (size_t i = 0; i < dirs.n && i < PFL_CREDENTIALS_WATCHES; i++) {
        uv_fs_event_t *w = &c->watches[c->n_watches];
        uv_fs_event_init(c->d->loop, w);
        w->data = c;
        c->n_watches++;
        c->open_handles++;
        if (uv_fs_event_start(w, on_change, dirs.items[i], 0) != 0)
            pfl_debug("%s: '%s' cannot be watched; it is looked at instead", c->d->name, dirs.items[i]);
    }
}

/* ---- renewal ---- */

static void answer_waiters(struct pfl_credentials *c, const char *error)
{
    while (c->waiters) {
        struct waiter *w = c->waiters;
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
        take_stamps(c, c->seen);
        use(c, fresh, "renewed by the CA");
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
        look_in(c, PFL_CREDENTIALS_SETTLE);
    }
    arm(c);
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
    struct waiter *w = pfl_xcalloc(1, sizeof(*w));
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
        look_at_files(c);
        look_at_crl(c);
    }
    struct pfl_renew_plan plan = plan_of(c);
    warn_of_end(c, &plan);
    if (c->renew && c->service && wall() >= pfl_renew_due(&plan))
        begin_renewal(c);
    if (c->d->revocation && now >= c->revise_at) {
        c->revise_at = now + PFL_CREDENTIALS_REVISE;
        pfl_revocation_revise(c->d->revocation);
    }
    arm(c);
}

static void arm(struct pfl_credentials *c)
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
    if (c->crl)
        stamp_of(c->crl, &c->crl_seen);
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
    watch(c);
    c->look_at = pfl_clock_mono(); /* files may have changed since they were loaded */
    arm(c);
    return c;
}

static void maybe_gone(struct pfl_credentials *c)
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
    maybe_gone(c);
}

static void on_renewal_gone(void *user)
{
    struct pfl_credentials *c = user;
    c->renewal = NULL;
    maybe_gone(c);
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
