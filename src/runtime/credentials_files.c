/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate files that somebody else replaces. A look compares what stat says with what is in use; what has changed is loaded on
 * a worker as a context of its own and used if it fits together. Their folders are watched to look soon; the period is for file
 * systems that tell nothing. */
#include "runtime/credentials_impl.h"

#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "runtime/revocation_impl.h"

/* ---- files that change ---- */

static const char *path_of(const struct pfl_credentials *c, unsigned i)
{
    const char *const paths[PFL_CREDENTIALS_FILES] = {c->files.ca_crt, c->files.server_crt, c->files.server_key,
                                                      c->files.client_crt, c->files.client_key};
    return paths[i];
}

static void stamp_of(const char *path, struct pfl_stamp *ret)
{
    struct stat st;
    *ret = (struct pfl_stamp){0};
    if (stat(path, &st) == 0)
        *ret = (struct pfl_stamp){true, st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

static void take_stamps(const struct pfl_credentials *c, struct pfl_stamp *ret)
{
    for (unsigned i = 0; i < PFL_CREDENTIALS_FILES; i++)
        stamp_of(path_of(c, i), &ret[i]);
}

static bool same_stamp(const struct pfl_stamp *a, const struct pfl_stamp *b)
{
    return a->there == b->there && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static bool same_stamps(const struct pfl_stamp *a, const struct pfl_stamp *b)
{
    for (unsigned i = 0; i < PFL_CREDENTIALS_FILES; i++) {
        if (!same_stamp(&a[i], &b[i]))
            return false;
    }
    return true;
}

void pfl_credentials_look_in(struct pfl_credentials *c, pfl_ns in)
{
    pfl_ns at = pfl_clock_mono() + in;
    c->look_at = at < c->look_at ? at : c->look_at;
    pfl_credentials_arm(c);
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
    struct pfl_stamp now[PFL_CREDENTIALS_FILES];
    take_stamps(c, now);
    if (c->load_rc == PFL_OK && !same_stamps(now, c->trying)) {
        pfl_credentials_look_in(c, PFL_CREDENTIALS_SETTLE); /* changed while they were read */
        return;
    }
    if (c->load_rc != PFL_OK) {
        say_failure(c, c->load_err.msg);
        c->retry = c->retry * 2 < PFL_CREDENTIALS_RETRY_MAX ? c->retry * 2 : PFL_CREDENTIALS_RETRY_MAX;
        pfl_credentials_look_in(c, c->retry);
        return;
    }
    memcpy(c->seen, c->trying, sizeof(c->seen));
    c->said[0] = '\0';
    c->retry = PFL_CREDENTIALS_RETRY / 2;
    if (!differs(c->loaded, c->d->tls))
        return;
    c->replaced++;
    pfl_credentials_use(c, c->loaded, "taken from the files that changed");
}

static void on_loaded(uv_work_t *w, int status)
{
    struct pfl_credentials *c = w->data;
    (void)status;
    c->loading = false;
    if (!c->stopping)
        take_loaded(c);
    pfl_tls_unref(pfl_steal(&c->loaded));
    if (c->stopping)
        pfl_credentials_maybe_gone(c);
    else if (c->look_again) {
        c->look_again = false;
        pfl_credentials_look_in(c, PFL_CREDENTIALS_SETTLE);
    }
}

/* The operator's CRL file: what in it is newer comes into use; the driver's own writing of it changes nothing. */
static void look_at_crl(struct pfl_credentials *c)
{
    struct pfl_stamp now;
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
    struct pfl_stamp now[PFL_CREDENTIALS_FILES];
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

static bool is_named(const char *path, const char *name)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return path && pfl_streq(slash ? slash + 1 : path, name);
}

/* The node's own events may be written in the same folder, many a second. */
static bool concerns(const struct pfl_credentials *c, const char *name)
{
    if (!name || pfl_str_has_prefix(name, "..")) /* not told; the folder behind a mounted secret's links */
        return true;
    for (unsigned i = 0; i < PFL_CREDENTIALS_FILES; i++) {
        if (is_named(path_of(c, i), name))
            return true;
    }
    return is_named(c->crl, name);
}

static void on_change(uv_fs_event_t *w, const char *name, int events, int status)
{
    (void)events;
    if (status < 0 || concerns(w->data, name))
        pfl_credentials_look_in(w->data, PFL_CREDENTIALS_SETTLE);
}

/* A folder whose link is turned to another (`..data` of a mounted secret) changes in the folder that the file's path names. */
void pfl_credentials_watch(struct pfl_credentials *c)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs dirs = {0};
    for (unsigned i = 0; i < PFL_CREDENTIALS_FILES; i++) {
        PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(path_of(c, i));
        pfl_strs_add_once(&dirs, dir);
    }
    if (c->crl) {
        stamp_of(c->crl, &c->crl_seen);
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

void pfl_credentials_look(struct pfl_credentials *c)
{
    look_at_files(c);
    look_at_crl(c);
}
