/* SPDX-License-Identifier: Apache-2.0 */
/* A node's disk, as runtime/keeper.c and runtime/journal.c have it: one write at a time, each of a whole state; the newest one
 * replaces those that wait; what depends on a state waits until it is there. A write that a crash interrupts is there or is not,
 * never half. A disk that is full keeps what it has. */
#include <limits.h>
#include <stdlib.h>

#include "sim/impl.h"

static const pfl_ns retry_after = 5 * PFL_SEC;

struct pfl_sim_held {
    struct pfl_sim_held *next;
    struct pfl_actions actions; /* one */
};

static void held_free(struct pfl_sim_held *h)
{
    pfl_actions_deinit(&h->actions);
    free(h);
}

static void let_go(struct pfl_sim_disk *d)
{
    for (struct pfl_sim_held *h = d->head, *next; h; h = next) {
        next = h->next;
        held_free(h);
    }
    d->head = NULL;
    d->tail = &d->head;
    pfl_durable_free(pfl_steal(&d->newest));
    pfl_durable_free(pfl_steal(&d->writing));
}

void pfl_sim_disk_deinit(struct pfl_sim_disk *d)
{
    let_go(d);
    pfl_durable_free(pfl_steal(&d->kept));
}

/* ---- what waits ---- */

bool pfl_sim_disk_holds(struct pfl_sim *s, unsigned i, struct pfl_action *a)
{
    struct pfl_sim_disk *d = &s->nodes[i].disk;
    if ((a->kind != PFL_ACT_SEND && a->kind != PFL_ACT_NOTE) || d->releasing || a->after <= d->done)
        return false;
    struct pfl_sim_held *h = pfl_xcalloc(1, sizeof(*h));
    h->actions = (struct pfl_actions){.items = pfl_xcalloc(1, sizeof(*a)), .n = 1, .cap = 1};
    h->actions.items[0] = *a;
    *a = (struct pfl_action){.kind = a->kind};
    *d->tail = h;
    d->tail = &h->next;
    return true;
}

void pfl_sim_disk_forget(struct pfl_sim *s, unsigned i, const char *addr)
{
    struct pfl_sim_disk *d = &s->nodes[i].disk;
    for (struct pfl_sim_held **h = &d->head; *h;) {
        struct pfl_sim_held *x = *h;
        if (x->actions.items[0].kind != PFL_ACT_SEND || !pfl_streq(x->actions.items[0].addr, addr)) {
            h = &x->next;
            continue;
        }
        *h = x->next;
        if (!x->next)
            d->tail = h;
        held_free(x);
    }
}

static void release(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_disk *d = &s->nodes[i].disk;
    while (d->head && d->head->actions.items[0].after <= d->done) {
        struct pfl_sim_held *h = d->head;
        d->head = h->next;
        if (!d->head)
            d->tail = &d->head;
        d->releasing = true;
        pfl_sim_carry_out(s, i, &h->actions.items[0]);
        d->releasing = false;
        held_free(h);
    }
}

/* ---- writing ---- */

static void write_newest(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_sim_disk *d = &x->disk;
    if (d->writing || !d->newest)
        return;
    d->writing = pfl_steal(&d->newest);
    pfl_ns lo = s->sc->disk_min, t = lo + (pfl_ns)pfl_rng_below(&x->rng, (uint64_t)(s->sc->disk_max - lo) + 1);
    pfl_sim_post(s, s->now + (pfl_ns)((double)t * x->slow_disk), PFL_SIM_IT_DISK, i)->incarnation = x->incarnation;
}

void pfl_sim_disk_take(struct pfl_sim *s, unsigned i, struct pfl_durable *state)
{
    struct pfl_sim_disk *d = &s->nodes[i].disk;
    if (!d->read_again) { /* a thousand disks in one memory: nobody asks for what is on this one */
        pfl_strs_deinit(&state->neighbours);
        pfl_strs_deinit(&state->others);
        pfl_payload_unref(pfl_steal(&state->model));
        pfl_payload_unref(pfl_steal(&state->contribution));
    }
    pfl_durable_free(d->newest);
    d->newest = state;
    write_newest(s, i);
}

void pfl_sim_disk_written(struct pfl_sim *s, const struct pfl_sim_item *it)
{
    struct pfl_sim_node *x = &s->nodes[it->node];
    struct pfl_sim_disk *d = &x->disk;
    if (!x->core || it->incarnation != x->incarnation)
        return;
    if (!d->writing) { /* time to try again */
        write_newest(s, it->node);
        return;
    }
    bool was_lost = d->lost;
    d->lost = x->disk_full > 0;
    if (d->lost != was_lost)
        pfl_sim_trace(s, it->node, d->lost ? "durability_lost: the disk is full" : "durability_regained");
    d->done = d->writing->seq;
    if (!d->lost) {
        pfl_durable_free(d->kept);
        d->kept = pfl_steal(&d->writing);
    } else if (!d->newest) {
        d->newest = pfl_steal(&d->writing);
        pfl_sim_post(s, s->now + retry_after, PFL_SIM_IT_DISK, it->node)->incarnation = x->incarnation;
        release(s, it->node);
        return;
    }
    pfl_durable_free(pfl_steal(&d->writing));
    release(s, it->node);
    write_newest(s, it->node);
}

/* ---- the end of a process, and the next one ---- */

void pfl_sim_disk_crash(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_sim_disk *d = &x->disk;
    x->watch.forgot = x->watch.forgot || d->lost;
    if (d->writing && x->disk_full == 0 && pfl_rng_below(&x->rng, 2) == 0) { /* it got there all the same */
        pfl_durable_free(d->kept);
        d->kept = pfl_steal(&d->writing);
    }
    let_go(d);
    d->lost = false;
}

const struct pfl_durable *pfl_sim_disk_open(struct pfl_sim *s, unsigned i, bool with_disk)
{
    struct pfl_sim_disk *d = &s->nodes[i].disk;
    let_go(d);
    if (!with_disk)
        pfl_durable_free(pfl_steal(&d->kept));
    d->done = d->kept ? d->kept->seq : 0;
    return d->kept;
}
