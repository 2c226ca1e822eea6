/* SPDX-License-Identifier: Apache-2.0 */
/* TrainStage of a train set member: evaluate, fit, collect the others' contributions, aggregate. A contribution is waited for
 * while it can still come: from its living trainer, or from a living node that announced that it has it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

static struct pfl_action *start_job(struct pfl_node *n, enum pfl_action_kind kind, enum pfl_job_kind job)
{
    struct pfl_action *a = pfl_core_act(n, kind, NULL);
    a->id = ++n->next_id;
    n->job = job;
    n->job_id = a->id;
    return a;
}

void pfl_core_enter_train(struct pfl_node *n)
{
    n->progress_at = n->now;
    if (!pfl_round_is_member(pfl_core_round(n, n->round), n->addr)) {
        pfl_core_stage(n, PFL_STAGE_WAITING);
        return;
    }
    if (pfl_core_take_up(n, pfl_core_round(n, n->round)))
        return;
    pfl_core_stage(n, PFL_STAGE_EVALUATING);
    start_job(n, PFL_ACT_EVALUATE, PFL_JOB_EVALUATE)->payload = pfl_payload_ref(n->model);
}

void pfl_core_publish_metrics(struct pfl_node *n, int32_t round, const struct pfl_metrics *m)
{
    n->metrics = *m;
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_METRICS, n->addr);
    note->round = round;
    note->metrics = *m;
    if (!isfinite(m->loss) || !isfinite(m->accuracy)) {
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "the evaluation gave no finite number; it is not sent");
        return;
    }
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs args = {0};
    char loss[40], accuracy[40];
    snprintf(loss, sizeof(loss), "%.17g", m->loss);
    snprintf(accuracy, sizeof(accuracy), "%.17g", m->accuracy);
    const char *const texts[] = {"test_loss", loss, "test_metric", accuracy};
    for (size_t i = 0; i < PFL_ARRAY_LEN(texts); i++)
        pfl_strs_add(&args, texts[i]);
    pfl_core_gossip(n, "metrics", round, &args);
}

void pfl_core_evaluated(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_rng rng;
    if (ev->rc == PFL_OK)
        pfl_core_publish_metrics(n, n->round, &ev->metrics);
    else
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "evaluation failed: %s", ev->text ? ev->text : pfl_rc_text(ev->rc));
    pfl_core_stage(n, PFL_STAGE_TRAINING);
    struct pfl_action *a = start_job(n, PFL_ACT_FIT, PFL_JOB_FIT);
    a->payload = pfl_payload_ref(n->model);
    a->epochs = n->epochs;
    pfl_rng_seed_named(&rng, n->set.seed + (uint64_t)n->round * UINT64_C(0x9e3779b97f4a7c15), n->addr);
    a->seed = pfl_rng_u64(&rng);
}

/* Tells everybody what is held, so that they send only what is missing; and what the own contribution is, so that nobody can be
 * given another one unnoticed. */
static void announce_holdings(struct pfl_node *n, struct pfl_round *r)
{
    struct pfl_round_peer *me = pfl_round_get(r, n->addr);
    struct pfl_strs *holds = &pfl_round_trainer(r, me)->holds;
    pfl_book_union(&r->book, holds);
    struct pfl_msg *m = pfl_msg_new(n->addr, r->round, "models_aggregated", PFL_MSG_GOSSIP);
    pfl_strs_copy(&m->args, holds);
    for (size_t i = 0; n->set.signatures && i < r->book.n; i++) {
        const struct pfl_entry *e = &r->book.items[i];
        if (e->who.n != 1 || strcmp(e->who.items[0], n->addr) != 0 || !e->payload->has_digest)
            continue;
        m->has_contribution = true;
        m->contribution_samples = (int32_t)e->n_samples;
        memcpy(m->contribution, e->payload->digest, sizeof(m->contribution));
    }
    pfl_core_flood(n, m);
}

void pfl_core_contribute(struct pfl_node *n, struct pfl_round *r, const char *from, const struct pfl_strs *who,
                         struct pfl_payload *payload, uint64_t n_samples)
{
    pfl_book_add(&r->book, who, payload, n_samples, n->now);
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_CONTRIBUTION, from);
    note->round = r->round;
    note->n_samples = n_samples;
    pfl_strs_copy(&note->list, who);
    pfl_strs_sort(&note->list);
    n->progress_at = n->now;
    n->dirty = true;
    announce_holdings(n, r);
}

/* An empty list says that nothing will come from here; the round goes on without. */
void pfl_core_withdraw(struct pfl_node *n, struct pfl_round *r, const char *why)
{
    pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "training failed: %s; this node contributes nothing to round %d", why, r->round);
    pfl_round_get(r, n->addr)->withdrawn = true;
    pfl_core_gossip(n, "models_aggregated", r->round, NULL);
    if (r->book.n > 0)
        announce_holdings(n, r);
}

void pfl_core_contribute_own(struct pfl_node *n, struct pfl_round *r, struct pfl_payload *payload, uint64_t n_samples)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs me = {0};
    pfl_strs_add(&me, n->addr);
    if (pfl_book_check(&r->book, &r->members, &me, (int64_t)n_samples, NULL) == PFL_BOOK_FITS)
        pfl_core_contribute(n, r, n->addr, &me, payload, n_samples);
}

void pfl_core_fitted(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_round *r = pfl_core_round(n, n->round);
    n->fit_ended = true;
    n->progress_at = n->now;
    if (ev->rc != PFL_OK || !ev->payload || ev->n_samples == 0) {
        pfl_core_keep_contribution(n, NULL, 0);
        pfl_core_withdraw(n, r, ev->rc != PFL_OK && ev->text ? ev->text : "no model or no samples came of it");
        return;
    }
    uint64_t n_samples = ev->n_samples < PFL_SAMPLES_MAX ? ev->n_samples : PFL_SAMPLES_MAX; /* others refuse more */
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_FIT, NULL);
    note->metrics = ev->metrics;
    note->n_samples = n_samples;
    pfl_core_keep_contribution(n, ev->payload, n_samples);
    pfl_core_contribute_own(n, r, ev->payload, n_samples);
}

/* Until when this one may bring a contribution that we lack. Who has ended the round has sent what it has, its own or others', and
 * goes on to send it where that failed; but it may have sent it to others only, and then all who lack it give it up together. */
static pfl_ns brings_until(const struct pfl_node *n, const struct pfl_round *r, const char *addr, const struct pfl_round_peer *row)
{
    const struct pfl_peer *p = pfl_neighbours_find(&n->peers, addr);
    if (!p || !p->alive || pfl_peer_from(&n->peers, p) > r->round) /* dead, or gone on to a later round */
        return 0;
    if (!row || !row->ready || pfl_core_plain_addr(n, addr))
        return PFL_NEVER;
    return pfl_round_ready_at(r, row) + pfl_core_bulk_timeout(n) + 4 * n->set.retry_period;
}

/* Until when a contribution that this node lacks is still to be expected; PFL_NEVER: nobody knows. */
static pfl_ns comes_until(const struct pfl_node *n, const struct pfl_round *r, const char *member)
{
    const struct pfl_round_peer *row = pfl_round_find(r, member);
    bool withdrawn = row && row->withdrawn;
    if (pfl_core_barred(n, member) || pfl_core_excluded(n, member))
        return 0;
    const struct pfl_peer *p = pfl_neighbours_find(&n->peers, member);
    pfl_ns until = withdrawn ? 0 : brings_until(n, r, member, row);
    pfl_ns shows = p && !pfl_core_plain(n, p) ? pfl_core_shows_until(n, r, p) : PFL_NEVER;
    until = shows < until ? shows : until;
    for (size_t i = 0; until != PFL_NEVER && i < r->n_peers; i++) {
        const struct pfl_round_peer *o = pfl_round_at(r, i);
        pfl_ns its = pfl_strs_has(pfl_round_holds(r, o), member) ? brings_until(n, r, pfl_round_addr(o), o) : 0;
        until = its > until ? its : until;
    }
    return until;
}

void pfl_core_missing_contributions(const struct pfl_node *n, struct pfl_strs *ret)
{
    const struct pfl_round *r = pfl_core_round(n, n->round);
    for (size_t i = 0; r && i < r->members.n; i++) {
        const char *m = r->members.items[i];
        if (strcmp(m, n->addr) != 0 && !pfl_book_has(&r->book, m) && comes_until(n, r, m) > n->now)
            pfl_strs_add(ret, m);
    }
}

static bool trains(const struct pfl_node *n, const char *addr)
{
    const struct pfl_peer *p = pfl_neighbours_find(&n->peers, addr);
    return p && p->alive && p->fits == n->round;
}

void pfl_core_fits(struct pfl_node *n, const struct pfl_peer *p)
{
    bool waits = n->stage == PFL_STAGE_TRAINING || n->stage == PFL_STAGE_WAITING;
    const struct pfl_round *r = n->learning && waits && p->fits == n->round ? pfl_core_round(n, n->round) : NULL;
    if (r && pfl_round_is_member(r, p->addr) && n->now - n->stage_since < n->set.fit_timeout)
        n->progress_at = n->now;
}

/* The share of the train set that aggregation_quorum asks for. */
static bool is_quorate(const struct pfl_node *n, const struct pfl_round *r)
{
    size_t contributors = 0;
    for (size_t i = 0; i < r->book.n; i++)
        contributors += r->book.items[i].who.n;
    return (double)contributors >= n->set.aggregation_quorum * (double)r->members.n;
}

static void note_excluded(struct pfl_node *n, const struct pfl_round *r)
{
    for (size_t i = 0; i < r->members.n; i++) {
        const char *m = r->members.items[i];
        if (pfl_book_has(&r->book, m))
            continue;
        const struct pfl_round_peer *row = pfl_round_find(r, m);
        const char *why = pfl_core_gone_why(n, m);
        if (row && row->withdrawn)
            why = "its training failed";
        if (why)
            pfl_core_note_text(n, PFL_NOTE_EXCLUDED, m, "%s", why);
        else if (!pfl_core_alive(n, m))
            pfl_core_note_text(n, PFL_NOTE_EXCLUDED, m, "it was never heard of");
        else if (trains(n, m))
            pfl_core_note_text(n, PFL_NOTE_EXCLUDED, m, "it still trains after %.0f s (training.fit_timeout)",
                               (double)(n->now - n->stage_since) / (double)PFL_SEC);
        else
            pfl_core_note_text(n, PFL_NOTE_EXCLUDED, m, "no contribution came within %.0f s of the last progress",
                               (double)n->set.aggregation_timeout / (double)PFL_SEC);
    }
}

static void aggregate(struct pfl_node *n, struct pfl_round *r)
{
    pfl_core_stage(n, PFL_STAGE_AGGREGATING);
    struct pfl_action *a = start_job(n, PFL_ACT_AGGREGATE, PFL_JOB_AGGREGATE);
    a->payload = pfl_payload_ref(n->model);
    a->in = pfl_xcalloc(r->book.n, sizeof(*a->in));
    a->n_in = r->book.n;
    for (size_t i = 0; i < r->book.n; i++)
        a->in[i] = (struct pfl_contribution){.model = pfl_model_ref(r->book.items[i].payload->model),
                                             .n_samples = r->book.items[i].n_samples};
}

bool pfl_core_advance_train(struct pfl_node *n)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs missing = {0};
    struct pfl_round *r = pfl_core_round(n, n->round);
    if (r->done || n->stage == PFL_STAGE_AGGREGATING)
        return false;
    if (pfl_core_adoptable(n, r)) {
        pfl_core_adopt(n, r);
        return true;
    }
    if (n->stage == PFL_STAGE_EVALUATING || !n->fit_ended)
        return false;
    pfl_core_missing_contributions(n, &missing);
    if (missing.n > 0 && pfl_core_stage_until(n) > n->now) {
        for (size_t i = 0; i < missing.n; i++)
            pfl_core_wake(n, comes_until(n, r, missing.items[i]));
        return false;
    }
    note_excluded(n, r);
    if (!is_quorate(n, r)) {
        pfl_core_note_text(
            n, PFL_NOTE_WARNING, NULL,
            "%zu of %zu contributions to round %d are not enough (training.aggregation_quorum): waiting for others' result",
            r->book.n, r->members.n, r->round);
        n->progress_at = n->now;
        pfl_core_stage(n, PFL_STAGE_WAITING);
        return true;
    }
    if (r->book.n > 0) {
        aggregate(n, r);
        return true;
    }
    pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "nobody contributed to round %d: the model stays as it is", r->round);
    pfl_core_computed(n, r, n->model);
    pfl_core_round_done(n, r, n->model);
    return true;
}

void pfl_core_aggregated(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_round *r = pfl_core_round(n, n->round);
    if (ev->rc != PFL_OK || !ev->payload) {
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "aggregation failed: %s; waiting for the others' result",
                           ev->text ? ev->text : pfl_rc_text(ev->rc));
        n->progress_at = n->now;
        pfl_core_stage(n, PFL_STAGE_WAITING);
        return;
    }
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_AGGREGATED, NULL);
    pfl_book_union(&r->book, &note->list);
    note->n_samples = pfl_book_samples(&r->book);
    pfl_note_set_digest(note, ev->payload);
    pfl_core_computed(n, r, ev->payload);
    pfl_core_round_done(n, r, ev->payload);
}
