/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping and restoring. A node that was restored is in the same stage of the same round with the same model, and believes that
 * those it worked with are still there: it waits for them as it would for a living node that is slow, and they are evicted where
 * they do not come. It dials its neighbours again by itself. */
#include "node/durable.h"

#include <stdlib.h>

#include "node/core.h"

struct pfl_durable *pfl_durable_new(void)
{
    struct pfl_durable *d = pfl_xcalloc(1, sizeof(*d));
    d->round = d->voted = d->contributed = -1;
    return d;
}

void pfl_durable_free(struct pfl_durable *d)
{
    if (!d)
        return;
    free(d->experiment);
    pfl_payload_unref(d->model);
    pfl_payload_unref(d->contribution);
    pfl_strs_deinit(&d->members);
    pfl_strs_deinit(&d->ballot);
    pfl_strs_deinit(&d->neighbours);
    pfl_strs_deinit(&d->others);
    free(d);
}

/* ---- keeping ---- */

void pfl_core_keep(struct pfl_node *n)
{
    if (!n->set.durable || n->keep == PFL_KEEP_FIRST)
        return;
    n->keep = PFL_KEEP_FIRST;
    n->durable_seq++;
}

void pfl_core_keep_soon(struct pfl_node *n)
{
    if (n->set.durable && n->keep == PFL_KEEP_NOTHING)
        n->keep = PFL_KEEP_SOON;
}

void pfl_core_forget_contribution(struct pfl_node *n)
{
    pfl_payload_unref(n->contribution);
    n->contribution = NULL;
    n->contributed = -1;
}

void pfl_core_keep_contribution(struct pfl_node *n, struct pfl_payload *p, uint64_t n_samples)
{
    if (!n->set.durable)
        return;
    pfl_payload_unref(n->contribution);
    n->contribution = p ? pfl_payload_ref(p) : NULL;
    n->contributed = n->round;
    n->contribution_samples = n_samples;
    pfl_core_keep(n);
}

static struct pfl_payload *ref_or_null(struct pfl_payload *p)
{
    return p ? pfl_payload_ref(p) : NULL;
}

static void keep_round(const struct pfl_node *n, struct pfl_durable *d)
{
    int32_t last = (int32_t)n->rounds_done - 1;
    const struct pfl_round *done = pfl_core_round(n, last), *now = pfl_core_round(n, n->round);
    const struct pfl_round_peer *me = now ? pfl_round_find(now, n->addr) : NULL;
    const struct pfl_round_peer *then = done ? pfl_round_find(done, n->addr) : NULL;
    if (done)
        pfl_strs_copy(&d->members, pfl_round_authors(done));
    d->computed = then && done->aggregate && pfl_round_peer_computed(done, then, done->aggregate);
    if (me && me->voted && !now->done) {
        d->voted = n->round;
        pfl_round_ballot(now, me, &d->ballot);
    }
    if (n->contributed == n->round && n->learning && !(now && now->done)) {
        d->contributed = n->contributed;
        d->contribution = ref_or_null(n->contribution);
        d->n_samples = n->contribution_samples;
    }
}

static void keep_peers(const struct pfl_node *n, struct pfl_durable *d)
{
    for (size_t i = 0; i < n->peers.n; i++) {
        const struct pfl_peer *p = n->peers.items[i];
        if (p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT)
            pfl_strs_add(&d->neighbours, p->addr);
        else if (p->alive && p->takes_part && n->learning)
            pfl_strs_add(&d->others, p->addr);
    }
}

void pfl_core_keep_run(struct pfl_node *n)
{
    if (n->keep == PFL_KEEP_NOTHING || n->stage == PFL_STAGE_STARTING) /* a start without its initial model is not resumed */
        return;
    if (n->keep == PFL_KEEP_SOON)
        n->durable_seq++;
    n->keep = PFL_KEEP_NOTHING;
    struct pfl_durable *d = pfl_durable_new();
    d->seq = n->durable_seq;
    d->experiment = n->experiment ? pfl_xstrdup(n->experiment) : NULL;
    d->learning = n->learning;
    d->over = n->over;
    d->rounds = n->rounds;
    d->epochs = n->epochs;
    d->trainset_size = n->trainset_size;
    d->rounds_done = n->rounds_done;
    d->round = n->round;
    d->model = n->experiment ? ref_or_null(n->model) : NULL;
    if (n->learning || n->over)
        keep_round(n, d);
    keep_peers(n, d);
    pfl_core_act(n, PFL_ACT_DURABLE, NULL)->durable = d;
}

/* ---- restoring ---- */

/* They have until the vote's time is up to show themselves: all nodes of a run may have to be started again, one after the other.
 */
static void expect(struct pfl_node *n, const struct pfl_strs *addrs, bool linked, bool learning)
{
    pfl_ns patience = n->set.vote_timeout > n->set.heartbeat_timeout ? n->set.vote_timeout - n->set.heartbeat_timeout : 0;
    for (size_t i = 0; i < addrs->n; i++) {
        if (pfl_streq(addrs->items[i], n->addr) || pfl_core_barred(n, addrs->items[i]))
            continue;
        if (n->peers.n >= n->set.known_max + n->set.neighbours_max) /* never that many were kept */
            break;
        if (!learning) {
            pfl_core_lost(n, addrs->items[i], linked);
            continue;
        }
        struct pfl_peer *p = pfl_neighbours_get(&n->peers, addrs->items[i]);
        p->alive = true;
        p->takes_part = true;
        p->initialized = n->rounds_done > 0;
        p->last_heard = p->last_beat = n->now + patience;
        pfl_contact_get(&n->peers, p)->last_direct = p->last_heard;
        pfl_neighbours_link(&n->peers, p, linked ? PFL_LINK_SUSPECT : PFL_LINK_NONE);
        pfl_contact_get(&n->peers, p)->retry_at = n->now;
        pfl_core_note(n, PFL_NOTE_KNOWN, p->addr); /* it is taken for alive: whoever follows the events is told */
    }
    n->members_at = 0;
}

/* The round that `model` is the result of, as far as others may still ask for it. */
static struct pfl_round *restore_done(struct pfl_node *n, const struct pfl_durable *d)
{
    int32_t round = (int32_t)d->rounds_done - 1;
    if (round < 0)
        return NULL;
    struct pfl_round **slot = &n->kept[round % PFL_ROUNDS_KEPT];
    pfl_round_free(*slot);
    struct pfl_round *r = *slot = pfl_round_new(round, &n->peers);
    pfl_strs_copy(&r->train_set, &d->members);
    pfl_strs_copy(&r->members, &d->members);
    pfl_strs_copy(&r->vouchers, &d->members);
    r->decided = r->done = true;
    r->done_at = n->now;
    r->aggregate = pfl_payload_ref(d->model);
    if (d->computed && d->model->has_digest)
        (void)pfl_round_set_computed(r, pfl_round_get(r, n->addr), d->model->digest);
    return r;
}

static void resume(struct pfl_node *n, const struct pfl_durable *d)
{
    n->learning = n->restored = true;
    n->round = n->ahead = d->round;
    n->started_at = n->progress_at = n->now;
    n->initial = pfl_payload_ref(d->model); /* others' are not wanted any more */
    n->initialized = d->rounds_done == 0;   /* ours is, in the first round */
    struct pfl_round *before = restore_done(n, d);
    if (d->contributed == d->round) {
        n->contributed = d->contributed;
        n->contribution = ref_or_null(d->contribution);
        n->contribution_samples = d->n_samples;
    }
    expect(n, &d->neighbours, true, true);
    expect(n, &d->others, false, true);
    pfl_core_note_text(n, PFL_NOTE_RESUMED, NULL, "%s", n->experiment);
    if (n->initialized)
        pfl_core_gossip(n, "model_initialized", -1, NULL);
    if (before)
        pfl_core_announce_ready(n, before);
    if (d->rounds_done >= d->rounds) {
        pfl_core_stage(n, PFL_STAGE_FINISHING);
        return;
    }
    if (d->voted == d->round) {
        struct pfl_round *r = pfl_core_round_get(n, d->round);
        struct pfl_round_peer *me = pfl_round_get(r, n->addr);
        pfl_round_set_voted(r, me, true);
        enum pfl_rc rc = pfl_round_set_ballot(r, me, &d->ballot, NULL);
        PFL_ASSERT(rc == PFL_OK); /* the first of its round */
    }
    pfl_core_enter_vote(n, d->round);
}

static bool sound(const struct pfl_durable *d)
{
    bool numbers = d->rounds >= 1 && d->rounds <= PFL_ROUNDS_MAX && d->epochs <= PFL_EPOCHS_MAX && d->trainset_size >= 1 &&
                   d->trainset_size <= PFL_TRAINSET_MAX && d->rounds_done <= d->rounds;
    int32_t round = d->rounds_done < d->rounds ? (int32_t)d->rounds_done : (int32_t)d->rounds - 1;
    return d->experiment && d->model && numbers && (!d->learning || d->round == round);
}

void pfl_core_on_restore(struct pfl_node *n, const struct pfl_event *ev)
{
    const struct pfl_durable *d = ev->durable;
    PFL_ASSERT(d && !n->learning && !n->model && n->peers.n == 0);
    n->durable_seq = d->seq;
    if (d->model)
        pfl_core_set_model(n, d->model);
    if (!sound(d)) {
        if (d->learning)
            pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "what was kept of the experiment does not hold together; it is left");
        expect(n, &d->neighbours, true, false);
        return;
    }
    n->experiment = pfl_xstrdup(d->experiment);
    pfl_core_evidence_in(n, n->experiment);
    n->rounds = d->rounds;
    n->epochs = d->epochs;
    n->trainset_size = d->trainset_size;
    n->rounds_done = d->rounds_done;
    if (d->learning) {
        resume(n, d);
        return;
    }
    n->over = d->over;
    struct pfl_round *last = n->over ? restore_done(n, d) : NULL;
    if (last)
        pfl_round_set_ready(last, pfl_round_get(last, n->addr), d->model->has_digest ? d->model->digest : NULL, n->now);
    expect(n, &d->neighbours, true, false);
}

bool pfl_core_take_up(struct pfl_node *n, struct pfl_round *r)
{
    if (n->contributed != r->round)
        return false;
    n->fit_ended = true;
    pfl_core_stage(n, PFL_STAGE_TRAINING);
    if (n->contribution)
        pfl_core_contribute_own(n, r, n->contribution, n->contribution_samples);
    else
        pfl_core_withdraw(n, r, "it did not succeed before this node was started again");
    return true;
}
