/* SPDX-License-Identifier: Apache-2.0 */
/* The file is opened for each batch and closed behind it: it is needed seldom, and an open database would cost an idle node memory.
 */
#include "runtime/node_audit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/register.h"

struct entry {
    struct entry *next;
    char *actor, *action, *subject, *detail; /* owned */
};

struct pfl_node_audit {
    struct pfl_driver *d;
    char *path; /* owned */
    struct entry *head, **tail, *writing;
    size_t n_waiting, n_writing;
    uint64_t lost, lost_told; /* entries that are not in the log */
    uv_work_t work;
    bool working, failing;
    enum pfl_rc rc;
    struct pfl_err err;
    pfl_ns window;
    unsigned refusals;
};

struct pfl_node_audit *pfl_node_audit_new(struct pfl_driver *d)
{
    struct pfl_node_audit *a = pfl_xcalloc(1, sizeof(*a));
    a->d = d;
    a->path = pfl_fs_join(d->state_dir, "audit.db");
    a->tail = &a->head;
    return a;
}

static void entries_free(struct entry *e)
{
    for (struct entry *next; e; e = next) {
        next = e->next;
        free(e->actor);
        free(e->action);
        free(e->subject);
        free(e->detail);
        free(e);
    }
}

void pfl_node_audit_free(struct pfl_node_audit *a)
{
    if (!a)
        return;
    entries_free(a->head);
    free(a->path);
    free(a);
}

/* ---- on a worker ---- */

static enum pfl_rc write_all(struct pfl_node_audit *a, struct pfl_register *r)
{
    enum pfl_rc rc = pfl_register_begin(r, &a->err);
    if (rc == PFL_OK && a->lost > a->lost_told) {
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("%llu entries", (unsigned long long)(a->lost - a->lost_told));
        rc = pfl_audit_append(r, "this node", "lost", "", text, &a->err);
    }
    for (const struct entry *e = a->writing; rc == PFL_OK && e; e = e->next)
        rc = pfl_audit_append(r, e->actor, e->action, e->subject, e->detail, &a->err);
    if (rc == PFL_OK)
        rc = pfl_register_commit(r, &a->err);
    if (rc != PFL_OK)
        pfl_register_rollback(r);
    return rc;
}

static void on_work(uv_work_t *w)
{
    struct pfl_node_audit *a = w->data;
    PFL_AUTO(pfl_register_freep) struct pfl_register *r = NULL;
    pfl_err_clear(&a->err);
    a->rc = pfl_register_open(a->path, &r, &a->err);
    if (a->rc == PFL_OK)
        a->rc = write_all(a, r);
}

/* ---- on the loop ---- */

static void write_next(struct pfl_node_audit *a);

static void on_done(uv_work_t *w, int status)
{
    struct pfl_node_audit *a = w->data;
    struct pfl_driver *d = a->d;
    (void)status; /* is never canceled */
    a->working = false;
    d->jobs_running--;
    if (a->rc == PFL_OK)
        a->lost_told = a->lost;
    else
        a->lost += a->n_writing;
    if (a->rc != PFL_OK && !a->failing)
        pfl_error("%s: the audit log is not written: %s", d->name, a->err.msg);
    a->failing = a->rc != PFL_OK;
    entries_free(a->writing);
    a->writing = NULL;
    write_next(a);
    pfl_driver_maybe_closed(d);
}

static void write_next(struct pfl_node_audit *a)
{
    if (a->working || !a->head)
        return;
    a->writing = a->head;
    a->n_writing = a->n_waiting;
    a->head = NULL;
    a->tail = &a->head;
    a->n_waiting = 0;
    a->working = true;
    a->d->jobs_running++;
    a->work.data = a;
    int rc = uv_queue_work(a->d->loop, &a->work, on_work, on_done);
    PFL_ASSERT(rc == 0);
}

void pfl_node_audit_add(struct pfl_node_audit *a, const char *actor, const char *action, const char *subject, const char *detail)
{
    if (!a)
        return;
    if (a->n_waiting == PFL_NODE_AUDIT_QUEUE_MAX) {
        a->lost++;
        return;
    }
    struct entry *e = pfl_xcalloc(1, sizeof(*e));
    *e = (struct entry){.actor = pfl_xstrdup(actor ? actor : ""),
                        .action = pfl_xstrdup(action),
                        .subject = pfl_xstrdup(subject ? subject : ""),
                        .detail = pfl_xstrdup(detail ? detail : "")};
    *a->tail = e;
    a->tail = &e->next;
    a->n_waiting++;
    write_next(a);
}

void pfl_node_audit_refusal(struct pfl_node_audit *a, const char *peer, const char *remote, const char *reason)
{
    pfl_ns now = pfl_clock_mono();
    if (!a)
        return;
    if (a->window == 0 || now - a->window >= PFL_NODE_AUDIT_WINDOW) {
        char text[64];
        snprintf(text, sizeof(text), "%u more in the minute before", a->refusals - PFL_NODE_AUDIT_REFUSALS);
        if (a->refusals > PFL_NODE_AUDIT_REFUSALS)
            pfl_node_audit_add(a, "", "refuse", "", text);
        a->window = now;
        a->refusals = 0;
    }
    if (++a->refusals <= PFL_NODE_AUDIT_REFUSALS)
        pfl_node_audit_add(a, peer, "refuse", remote, reason);
}

void pfl_node_audit_note(struct pfl_node_audit *a, const struct pfl_note *note)
{
    PFL_AUTO(pfl_freep) char *text = NULL;
    if (!a)
        return;
    switch (note->kind) {
    case PFL_NOTE_REFUSED:
        pfl_node_audit_refusal(a, note->addr, "", note->text);
        break;
    case PFL_NOTE_LEARNING_STARTED:
        text = pfl_xasprintf("%u rounds of %u epochs, train set of %u", note->rounds, note->epochs, note->trainset_size);
        pfl_node_audit_add(a, note->addr, "start", note->text, text);
        break;
    case PFL_NOTE_LEARNING_STOPPED:
        pfl_node_audit_add(a, "", "stop", "", note->text);
        break;
    case PFL_NOTE_LEARNING_FINISHED: {
        char hex[2 * PFL_DIGEST_LEN + 1] = "";
        if (note->has_digest)
            pfl_hex(pfl_bytes_of(note->digest, sizeof(note->digest)), hex);
        text = pfl_xasprintf("%d rounds, model %s", note->round, hex);
        pfl_node_audit_add(a, "", "finish", "", text);
        break;
    }
    case PFL_NOTE_EXCLUDED:
        pfl_node_audit_add(a, note->addr, "exclude", "", note->text);
        break;
    case PFL_NOTE_REVOKED:
        pfl_node_audit_add(a, note->addr, "revoked", "", note->text);
        break;
    default:
        break;
    }
}
