/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of what is being sent and of what is being received. Both are small (members times a few), so they are scanned. */
#include "mesh/spread.h"

#include <stdlib.h>
#include <string.h>

const char *pfl_push_command(enum pfl_push_kind k)
{
    static const char *const names[] = {"init_model", "partial_model", "add_model"};
    return names[k];
}

static bool same_list(const struct pfl_strs *a, const struct pfl_strs *b)
{
    size_t n_b = b ? b->n : 0;
    if (a->n != n_b)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    }
    return true;
}

static void push_free(struct pfl_push *p)
{
    free(p->to);
    pfl_strs_deinit(&p->contributors);
    pfl_payload_unref(p->payload);
    free(p);
}

void pfl_spread_deinit(struct pfl_spread *s)
{
    for (size_t i = 0; i < s->n; i++)
        push_free(s->items[i]);
    free(s->items);
    *s = (struct pfl_spread){0};
}

struct pfl_push *pfl_spread_find(const struct pfl_spread *s, enum pfl_push_kind kind, int32_t round, const char *to,
                                 const struct pfl_strs *contributors)
{
    for (size_t i = 0; i < s->n; i++) {
        struct pfl_push *p = s->items[i];
        if (p->kind == kind && p->round == round && strcmp(p->to, to) == 0 && same_list(&p->contributors, contributors))
            return p;
    }
    return NULL;
}

struct pfl_push *pfl_spread_by_id(const struct pfl_spread *s, uint64_t id)
{
    for (size_t i = 0; i < s->n; i++) {
        struct pfl_push *p = s->items[i];
        if (p->id == id && (p->state == PFL_PUSH_ASK || p->state == PFL_PUSH_SEND))
            return p;
    }
    return NULL;
}

struct pfl_push *pfl_spread_want(struct pfl_spread *s, enum pfl_push_kind kind, int32_t round, const char *to,
                                 const struct pfl_strs *contributors, struct pfl_payload *payload, uint64_t n_samples, pfl_ns now)
{
    struct pfl_push *p = pfl_spread_find(s, kind, round, to, contributors);
    if (!p) {
        if (s->n == s->cap) {
            s->cap = s->cap ? 2 * s->cap : 8;
            s->items = pfl_xrealloc(s->items, s->cap * sizeof(struct pfl_push *));
        }
        p = pfl_xcalloc(1, sizeof(*p));
        *p = (struct pfl_push){.kind = kind, .round = round, .to = pfl_xstrdup(to), .n_samples = n_samples, .at = now};
        if (contributors)
            pfl_strs_copy(&p->contributors, contributors);
        s->items[s->n++] = p;
    }
    /* The round's aggregate may have been replaced by the canonical one; what is under way keeps the old. */
    if (p->payload != payload && p->state != PFL_PUSH_SEND) {
        pfl_payload_unref(p->payload);
        p->payload = pfl_payload_ref(payload);
        if (p->state == PFL_PUSH_DONE)
            p->state = PFL_PUSH_WAIT;
    }
    p->wanted = true;
    return p;
}

void pfl_spread_forget(struct pfl_spread *s, const char *to)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct pfl_push *p = s->items[i];
        if (strcmp(p->to, to) != 0 || p->state == PFL_PUSH_ASK || p->state == PFL_PUSH_SEND)
            s->items[kept++] = p;
        else
            push_free(p);
    }
    s->n = kept;
}

void pfl_spread_begin(struct pfl_spread *s)
{
    for (size_t i = 0; i < s->n; i++)
        s->items[i]->wanted = false;
}

void pfl_spread_sweep(struct pfl_spread *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct pfl_push *p = s->items[i];
        if (p->wanted || p->state == PFL_PUSH_ASK || p->state == PFL_PUSH_SEND)
            s->items[kept++] = p;
        else
            push_free(p);
    }
    s->n = kept;
}

bool pfl_spread_covers(const struct pfl_spread *s, int32_t round, const char *to, const char *contributor)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct pfl_push *p = s->items[i];
        if (p->kind == PFL_PUSH_PARTIAL && p->round == round && p->state != PFL_PUSH_WAIT && strcmp(p->to, to) == 0 &&
            pfl_strs_has(&p->contributors, contributor))
            return true;
    }
    return false;
}

pfl_ns pfl_spread_deadline(const struct pfl_spread *s)
{
    pfl_ns t = PFL_NEVER;
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i]->at < t)
            t = s->items[i]->at;
    }
    return t;
}

/* ---- incoming ---- */

static void offer_remove(struct pfl_offers *o, size_t i)
{
    free(o->items[i].from);
    pfl_strs_deinit(&o->items[i].contributors);
    memmove(&o->items[i], &o->items[i + 1], (o->n - i - 1) * sizeof(*o->items));
    o->n--;
}

void pfl_offers_deinit(struct pfl_offers *o)
{
    while (o->n > 0)
        offer_remove(o, o->n - 1);
    free(o->items);
    *o = (struct pfl_offers){0};
}

static bool overlap(const struct pfl_strs *a, const struct pfl_strs *b)
{
    for (size_t i = 0; i < a->n; i++) {
        if (pfl_strs_has(b, a->items[i]))
            return true;
    }
    return false;
}

static void expire(struct pfl_offers *o, pfl_ns now)
{
    for (size_t i = o->n; i > 0; i--) {
        if (o->items[i - 1].until <= now)
            offer_remove(o, i - 1);
    }
}

/* Its sender asks again: it lost the model, or our answer, on the way. */
static bool renew(struct pfl_offer *x, pfl_ns until, pfl_ns vacant_until)
{
    if (x->vacant)
        return false;
    x->vacant = x->contested;
    x->until = x->vacant ? vacant_until : until;
    return !x->vacant;
}

static bool conflicts(const struct pfl_offer *x, enum pfl_push_kind kind, int32_t round, const struct pfl_strs *who)
{
    return x->kind == kind && x->round == round && (kind != PFL_PUSH_PARTIAL || overlap(&x->contributors, who));
}

/* Is somebody else sending that? */
static bool is_taken(struct pfl_offers *o, enum pfl_push_kind kind, int32_t round, const struct pfl_strs *who)
{
    bool taken = false;
    for (size_t i = 0; i < o->n; i++) {
        if (!conflicts(&o->items[i], kind, round, who) || o->items[i].vacant)
            continue;
        o->items[i].contested = true;
        taken = true;
    }
    return taken;
}

bool pfl_offers_take(struct pfl_offers *o, enum pfl_push_kind kind, int32_t round, const char *from,
                     const struct pfl_strs *contributors, pfl_ns now, pfl_ns until, pfl_ns vacant_until)
{
    static const struct pfl_strs none = {0};
    const struct pfl_strs *who = contributors ? contributors : &none;
    expire(o, now);
    for (size_t i = 0; i < o->n; i++) {
        struct pfl_offer *x = &o->items[i];
        if (x->kind == kind && x->round == round && strcmp(x->from, from) == 0 && same_list(&x->contributors, who))
            return renew(x, until, vacant_until);
    }
    if (is_taken(o, kind, round, who))
        return false;
    for (size_t i = o->n; i > 0; i--) { /* what is left of them is vacant */
        if (conflicts(&o->items[i - 1], kind, round, who))
            offer_remove(o, i - 1);
    }
    if (o->n == PFL_OFFERS_MAX)
        return false;
    if (o->n == o->cap) {
        o->cap = o->cap ? 2 * o->cap : 8;
        o->items = pfl_xrealloc(o->items, o->cap * sizeof(*o->items));
    }
    struct pfl_offer *x = &o->items[o->n++];
    *x = (struct pfl_offer){.kind = kind, .round = round, .from = pfl_xstrdup(from), .until = until};
    pfl_strs_copy(&x->contributors, who);
    return true;
}

void pfl_offers_arrived(struct pfl_offers *o, enum pfl_push_kind kind, int32_t round, const char *from)
{
    for (size_t i = o->n; i > 0; i--) {
        const struct pfl_offer *x = &o->items[i - 1];
        if (x->kind == kind && x->round == round && strcmp(x->from, from) == 0)
            offer_remove(o, i - 1);
    }
}

void pfl_offers_fulfilled(struct pfl_offers *o, enum pfl_push_kind kind, int32_t round, const struct pfl_strs *contributors)
{
    for (size_t i = o->n; i > 0; i--) {
        const struct pfl_offer *x = &o->items[i - 1];
        if (x->kind == kind && x->round == round && same_list(&x->contributors, contributors))
            offer_remove(o, i - 1);
    }
}

void pfl_offers_forget(struct pfl_offers *o, const char *from)
{
    for (size_t i = o->n; i > 0; i--) {
        if (strcmp(o->items[i - 1].from, from) == 0)
            offer_remove(o, i - 1);
    }
}
