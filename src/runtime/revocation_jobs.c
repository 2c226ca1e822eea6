/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, verifying and writing CRLs on worker threads, one after the other: a large one costs the loop nothing, and a flood of
 * them costs one worker, not all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/digest.h"
#include "runtime/revocation_impl.h"

struct pfl_crl_job *pfl_crl_job_new(struct pfl_revocation *r, const char *from)
{
    struct pfl_crl_job *j = pfl_xcalloc(1, sizeof(*j));
    j->d = r->d;
    j->from = pfl_xstrdup(from);
    return j;
}

void pfl_crl_job_free(struct pfl_crl_job *j)
{
    pfl_blob_unref(j->bytes);
    pfl_tls_unref(j->tls);
    pfl_crl_set_unref(j->set);
    free(j->path);
    free(j->from);
    free(j);
}

/* ---- on a worker ---- */

static void verify(uv_work_t *w)
{
    struct pfl_crl_job *j = w->data;
    if (j->path && !j->bytes)
        j->rc = pfl_fs_read(j->path, PFL_CRL_FILE_MAX, &j->bytes, &j->err);
    if (j->rc != PFL_OK)
        return;
    struct pfl_bytes in = pfl_bytes_of(j->bytes->data, j->bytes->len);
    j->rc = pfl_tls_crls_accept(j->tls, in, pfl_clock_wall() / PFL_SEC, &j->set, &j->err);
}

/* ---- on the loop ---- */

static void start_next(struct pfl_revocation *r);

static void remember_refused(struct pfl_revocation *r, const struct pfl_crl_job *j)
{
    memcpy(r->refused[r->n_refused_kept % PFL_CRL_REFUSED_KEPT], j->digest, sizeof(j->digest));
    r->n_refused_kept++;
}

static bool may_note(struct pfl_revocation *r)
{
    pfl_ns now = pfl_clock_mono();
    if (r->notes_since == 0 || now - r->notes_since > PFL_CRL_NOTES_WINDOW) {
        r->notes_since = now;
        r->n_notes = 0;
    }
    return ++r->n_notes <= PFL_CRL_NOTES_MAX;
}

/* What is bad for ever is not looked at again. What may be good later (a date in the future, a CA that is not known yet, an older
 * number that a roll-over makes new) is. */
static void refuse(struct pfl_revocation *r, const struct pfl_crl_job *j)
{
    struct pfl_driver *d = r->d;
    r->n.refused++;
    if (j->call && (j->rc == PFL_MALFORMED || j->rc == PFL_TOO_BIG))
        remember_refused(r, j);
    if (!may_note(r))
        return;
    char reason[2 * PFL_ERR_MAX];
    pfl_quote(j->err.msg, strlen(j->err.msg), reason, sizeof(reason));
    pfl_warn("%s: a CRL from %s is refused: %s", d->name, j->from, reason);
    pfl_events_emit(d->events, "crl_refused", json_pack("{s:s, s:s}", "from", j->from, "reason", reason));
}

/* The context may have been replaced while the worker looked: what it found is put to the one in use now. */
static void finish(struct pfl_revocation *r, struct pfl_crl_job *j)
{
    unsigned n_new = 0;
    struct pfl_err older = {0};
    if (j->rc == PFL_OK) {
        PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *set = pfl_crl_set_merge(pfl_tls_crls(r->d->tls), j->set, &n_new, &older);
        if (n_new > 0)
            pfl_revocation_accept(r, set, j->from);
    } else if (j->rc != PFL_EXISTS)
        refuse(r, j);
    const char *error = j->rc == PFL_OK || j->rc == PFL_EXISTS ? NULL : j->err.msg;
    if (j->call) {
        struct pfl_pending p = {.call = j->call};
        const struct pfl_action a = {.kind = PFL_ACT_REPLY, .error = (char *)(uintptr_t)error};
        pfl_inbound_reply(r->d, &p, &a);
    }
    if (j->done)
        j->done(j->user, error);
}

static void give_up(struct pfl_crl_job *j)
{
    if (j->call)
        pfl_rpc_call_fail(j->call, PFL_GRPC_UNAVAILABLE, "the node is shutting down");
    if (j->done)
        j->done(j->user, "the node is shutting down");
    pfl_crl_job_free(j);
}

static void on_verified(uv_work_t *w, int status)
{
    struct pfl_crl_job *j = w->data;
    struct pfl_driver *d = j->d;
    struct pfl_revocation *r = d->revocation;
    r->queue = j->next;
    if (!r->queue)
        r->queue_tail = &r->queue;
    r->n_queue--;
    if (status == 0 && !r->stopping) {
        finish(r, j);
        pfl_crl_job_free(j);
    } else
        give_up(j);
    start_next(r);
    pfl_revocation_maybe_gone(r);
}

static void start_next(struct pfl_revocation *r)
{
    while (r->stopping && r->queue) {
        struct pfl_crl_job *j = r->queue;
        r->queue = j->next;
        r->n_queue--;
        give_up(j);
    }
    if (!r->queue) {
        r->queue_tail = &r->queue;
        return;
    }
    struct pfl_crl_job *j = r->queue;
    j->tls = pfl_tls_ref(r->d->tls);
    j->work.data = j;
    PFL_ASSERT(uv_queue_work(r->d->loop, &j->work, verify, on_verified) == 0); /* fails for bad arguments only */
}

bool pfl_revocation_queue(struct pfl_revocation *r, struct pfl_crl_job *job)
{
    if (r->n_queue >= PFL_CRL_QUEUE_MAX || r->stopping)
        return false;
    bool idle = !r->queue;
    *r->queue_tail = job;
    r->queue_tail = &job->next;
    r->n_queue++;
    if (idle)
        start_next(r);
    return true;
}

/* ---- writing ---- */

/* The operator's file may be a link into a folder that something else swaps: it is left to its owner then. */
static bool is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static void write_down(uv_work_t *w)
{
    struct pfl_crl_save *s = w->data;
    for (size_t i = 0; i < PFL_ARRAY_LEN(s->paths); i++) {
        if (s->paths[i] && (i == 0 || !is_link(s->paths[i])))
            s->errs[i].rc = pfl_crl_set_save(s->set, s->paths[i], &s->errs[i]);
    }
}

static void on_written(uv_work_t *w, int status)
{
    struct pfl_crl_save *s = w->data;
    struct pfl_revocation *r = s->d->revocation;
    for (size_t i = 0; i < PFL_ARRAY_LEN(s->paths); i++) {
        if (status == 0 && s->errs[i].rc != PFL_OK)
            pfl_warn("%s: the CRLs in use could not be written down%s: %s", s->d->name,
                     i == 0 ? ", so an older one may be believed after a restart" : "", s->errs[i].msg);
        free(s->paths[i]);
    }
    pfl_crl_set_unref(s->set);
    free(s);
    r->saving = false;
    if (r->save_again)
        pfl_revocation_save(r);
    pfl_revocation_maybe_gone(r);
}

void pfl_revocation_save(struct pfl_revocation *r)
{
    if (r->saving) {
        r->save_again = true;
        return;
    }
    r->save_again = false;
    r->saving = true;
    struct pfl_crl_save *s = pfl_xcalloc(1, sizeof(*s));
    s->d = r->d;
    s->set = pfl_crl_set_ref(pfl_tls_crls(r->d->tls));
    s->paths[0] = r->kept ? pfl_xstrdup(r->kept) : NULL;
    s->paths[1] = r->file ? pfl_xstrdup(r->file) : NULL;
    s->work.data = s;
    PFL_ASSERT(uv_queue_work(r->d->loop, &s->work, write_down, on_written) == 0);
}
