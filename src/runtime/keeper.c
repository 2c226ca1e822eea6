/* SPDX-License-Identifier: Apache-2.0 */
/* One write at a time. What waits is kept in order, so that a message never overtakes one that was said before it. */
#include "runtime/keeper.h"

#include <stdlib.h>

#include "base/log.h"

#define RETRY (5 * PFL_SEC)
#define SLOW  (5 * PFL_SEC)

struct held {
    struct held *next;
    struct pfl_action action; /* owned */
};

struct pfl_keeper {
    struct pfl_driver *d;
    struct pfl_journal *journal; /* owned; the worker's while it writes */
    uv_work_t work;
    struct pfl_durable *writing, *newest; /* owned; newest: what is written next, NULL: nothing */
    uint64_t done;                        /* the newest state that nothing waits for any more */
    struct held *head, **tail;
    bool lost, said_slow, releasing;
    unsigned pauses;
    pfl_ns started, retry_at;
    uint64_t writes;
    pfl_ns spent; /* writing, over all */
    enum pfl_rc rc;
    struct pfl_err err;
};

struct pfl_keeper *pfl_keeper_new(struct pfl_driver *d, struct pfl_journal *journal, uint64_t seq)
{
    struct pfl_keeper *k = pfl_xcalloc(1, sizeof(*k));
    k->d = d;
    k->journal = journal;
    k->done = seq;
    k->tail = &k->head;
    return k;
}

static void held_free(struct held *h)
{
    struct pfl_actions one = {.items = pfl_xcalloc(1, sizeof(*one.items)), .n = 1, .cap = 1};
    one.items[0] = h->action;
    pfl_actions_deinit(&one);
    free(h);
}

void pfl_keeper_free(struct pfl_keeper *k)
{
    if (!k)
        return;
    for (struct held *h = k->head, *next; h; h = next) {
        next = h->next;
        held_free(h);
    }
    pfl_durable_free(k->writing);
    pfl_durable_free(k->newest);
    pfl_journal_close(k->journal);
    free(k);
}

/* ---- what waits ---- */

bool pfl_keeper_holds(struct pfl_keeper *k, struct pfl_action *a)
{
    if (!k || k->releasing || a->after <= k->done || k->d->shutting_down)
        return false;
    struct held *h = pfl_xcalloc(1, sizeof(*h));
    h->action = *a;
    *a = (struct pfl_action){.kind = a->kind};
    *k->tail = h;
    k->tail = &h->next;
    return true;
}

void pfl_keeper_forget(struct pfl_keeper *k, const char *addr)
{
    for (struct held **h = k ? &k->head : NULL; h && *h;) {
        struct held *x = *h;
        if (x->action.kind != PFL_ACT_SEND || !pfl_streq(x->action.addr, addr)) {
            h = &x->next;
            continue;
        }
        *h = x->next;
        if (!x->next)
            k->tail = h;
        held_free(x);
    }
}

static void release(struct pfl_keeper *k)
{
    while (k->head && (k->head->action.after <= k->done || k->d->shutting_down)) {
        struct held *h = k->head;
        k->head = h->next;
        if (!k->head)
            k->tail = &k->head;
        k->releasing = true;
        if (!k->d->shutting_down || h->action.kind == PFL_ACT_NOTE)
            pfl_driver_carry_out(k->d, &h->action);
        k->releasing = false;
        held_free(h);
    }
}

/* ---- writing ---- */

static void on_work(uv_work_t *w)
{
    struct pfl_keeper *k = w->data;
    pfl_err_clear(&k->err);
    k->rc = pfl_journal_write(k->journal, k->writing, &k->err);
}

static void write_newest(struct pfl_keeper *k);

static void say_outcome(struct pfl_keeper *k)
{
    if (k->rc != PFL_OK && !k->lost) {
        pfl_error("%s: what this node must know after a restart is not on disk: %s; it goes on, and tries again", k->d->name,
                  k->err.msg);
        pfl_events_emit(k->d->events, "durability_lost", json_pack("{s:s}", "reason", k->err.msg));
    } else if (k->rc == PFL_OK && k->lost) {
        pfl_info("%s: on disk again is what it must know after a restart", k->d->name);
        pfl_events_emit(k->d->events, "durability_regained", NULL);
    }
    k->lost = k->rc != PFL_OK;
}

static void on_done(uv_work_t *w, int status)
{
    struct pfl_keeper *k = w->data;
    struct pfl_driver *d = k->d;
    (void)status; /* is never canceled */
    d->jobs_running--;
    k->writes++;
    k->spent += pfl_clock_mono() - k->started;
    k->done = k->writing->seq;
    say_outcome(k);
    if (k->lost && !k->newest && !d->shutting_down) {
        k->newest = pfl_steal(&k->writing);
        k->retry_at = pfl_clock_mono() + RETRY;
    }
    pfl_durable_free(pfl_steal(&k->writing));
    release(k);
    if (!k->lost || k->newest == NULL || k->newest->seq > k->done)
        write_newest(k);
    pfl_driver_maybe_closed(d);
}

static void write_newest(struct pfl_keeper *k)
{
    if (k->writing || !k->newest || k->pauses > 0)
        return;
    k->writing = pfl_steal(&k->newest);
    k->said_slow = false;
    k->started = pfl_clock_mono();
    k->d->jobs_running++;
    k->work.data = k;
    int rc = uv_queue_work(k->d->loop, &k->work, on_work, on_done);
    PFL_ASSERT(rc == 0);
}

void pfl_keeper_take(struct pfl_keeper *k, struct pfl_durable *state)
{
    pfl_durable_free(k->newest);
    k->newest = state;
    write_newest(k);
}

void pfl_keeper_pause(struct pfl_keeper *k)
{
    if (k)
        k->pauses++;
}

void pfl_keeper_go_on(struct pfl_keeper *k)
{
    if (k && --k->pauses == 0 && (!k->lost || k->retry_at <= pfl_clock_mono()))
        write_newest(k);
}

void pfl_keeper_look(struct pfl_keeper *k)
{
    if (!k)
        return;
    if (k->lost && k->newest && k->retry_at <= pfl_clock_mono())
        write_newest(k);
    if (!k->writing || k->said_slow || pfl_clock_mono() - k->started < SLOW)
        return;
    k->said_slow = true;
    const char *text = "the disk is slow: what depends on it has waited for 5 s";
    pfl_warn("%s: %s", k->d->name, text);
    pfl_events_emit(k->d->events, "warning", json_pack("{s:n, s:s}", "address", "text", text));
}

json_t *pfl_keeper_status(const struct pfl_keeper *k)
{
    if (!k)
        return json_pack("{s:s}", "state", "off");
    json_t *o = json_pack("{s:s, s:I, s:f}", "state", k->lost ? "lost" : "on", "writes", (json_int_t)k->writes, "write_ms",
                          k->writes ? (double)k->spent / 1e6 / (double)k->writes : 0.0);
    if (k->lost)
        json_object_set_new(o, "reason", json_string(k->err.msg));
    return o;
}
