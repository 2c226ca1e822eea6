/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of an experiment: start, stop, the table of stages, the records of its rounds. P2PFL's stages
 * (StartLearning, VoteTrainSet, Train, WaitAggregatedModels, GossipModel, RoundFinished) with the waits made explicit. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

static const char *waits_nothing(const struct pfl_node *n, struct pfl_strs *ret)
{
    (void)n;
    (void)ret;
    return NULL;
}

static const char *waits_init(const struct pfl_node *n, struct pfl_strs *ret)
{
    (void)n;
    (void)ret;
    return "the initial model";
}

static const char *waits_votes(const struct pfl_node *n, struct pfl_strs *ret)
{
    pfl_core_missing_votes(n, ret);
    if (ret->n == 0)
        return "more votes (training.vote_quorum)";
    return "its vote";
}

static const char *waits_job(const struct pfl_node *n, struct pfl_strs *ret)
{
    (void)ret;
    return n->stage == PFL_STAGE_AGGREGATING ? "its own aggregation" : "its own evaluation";
}

static const char *waits_contributions(const struct pfl_node *n, struct pfl_strs *ret)
{
    if (!n->fit_ended)
        return "its own training";
    pfl_core_missing_contributions(n, ret);
    return "its contribution";
}

static const char *waits_aggregate(const struct pfl_node *n, struct pfl_strs *ret)
{
    (void)n;
    (void)ret;
    return "the round's aggregate";
}

static const char *waits_ready(const struct pfl_node *n, struct pfl_strs *ret)
{
    pfl_core_missing_ready(n, ret);
    return ret->n > 0 ? "its result" : "the common result";
}

static bool advance_idle(struct pfl_node *n);
static bool advance_start(struct pfl_node *n);

static const struct stage {
    const char *name;
    bool (*advance)(struct pfl_node *n); /* true: it moved */
    const char *(*waits)(const struct pfl_node *n, struct pfl_strs *ret);
} stages[] = {
    [PFL_STAGE_IDLE] = {"idle", advance_idle, waits_nothing},
    [PFL_STAGE_STARTING] = {"starting", advance_start, waits_init},
    [PFL_STAGE_VOTING] = {"voting", pfl_core_advance_vote, waits_votes},
    [PFL_STAGE_SYNCING] = {"syncing", pfl_core_advance_sync, waits_ready},
    [PFL_STAGE_EVALUATING] = {"evaluating", pfl_core_advance_train, waits_job},
    [PFL_STAGE_TRAINING] = {"training", pfl_core_advance_train, waits_contributions},
    [PFL_STAGE_AGGREGATING] = {"aggregating", pfl_core_advance_train, waits_job},
    [PFL_STAGE_WAITING] = {"waiting", pfl_core_advance_wait, waits_aggregate},
    [PFL_STAGE_FINISHING] = {"finishing", pfl_core_advance_finish, waits_ready},
};

const char *pfl_stage_name(enum pfl_stage s)
{
    return stages[s].name;
}

void pfl_core_stage(struct pfl_node *n, enum pfl_stage s)
{
    n->stage = s;
    n->stage_since = n->now;
    n->dirty = true;
    pfl_core_note_text(n, PFL_NOTE_STAGE, NULL, "%s", pfl_stage_name(s));
}

void pfl_core_advance(struct pfl_node *n)
{
    enum { MOVES_MAX = 32 };
    pfl_core_recount(n);
    for (unsigned i = 0; i < MOVES_MAX; i++) {
        if (!stages[n->stage].advance(n))
            return;
    }
    n->dirty = true;
}

const char *pfl_core_waits_for(const struct pfl_node *n, struct pfl_strs *ret)
{
    return stages[n->stage].waits(n, ret);
}

/* Who is still in the round before cannot vote yet: the time for it runs from when its last member has ended that. */
static pfl_ns vote_until(const struct pfl_node *n)
{
    const struct pfl_round *before = pfl_core_round(n, n->round - 1);
    if (before && before->done && !pfl_core_all_ended(n, before))
        return n->stage_since + n->set.aggregation_timeout + n->set.vote_timeout;
    return (n->progress_at > n->stage_since ? n->progress_at : n->stage_since) + n->set.vote_timeout;
}

pfl_ns pfl_core_stage_until(const struct pfl_node *n)
{
    switch (n->stage) {
    case PFL_STAGE_VOTING:
        return vote_until(n);
    case PFL_STAGE_STARTING:
    case PFL_STAGE_SYNCING:
        return n->stage_since + n->set.aggregation_timeout;
    case PFL_STAGE_TRAINING: /* others wait for us with a deadline of their own; a fit takes as long as it takes */
        return n->fit_ended ? n->progress_at + n->set.aggregation_timeout : PFL_NEVER;
    case PFL_STAGE_WAITING: /* the members may use up their deadline first */
        return n->progress_at + 2 * n->set.aggregation_timeout;
    case PFL_STAGE_FINISHING:
        return n->progress_at + n->set.aggregation_timeout;
    case PFL_STAGE_IDLE:
    case PFL_STAGE_EVALUATING:
    case PFL_STAGE_AGGREGATING:
        break;
    }
    return PFL_NEVER;
}

/* ---- rounds ---- */

struct pfl_round *pfl_core_round(const struct pfl_node *n, int32_t round)
{
    struct pfl_round *r = round >= 0 ? n->kept[round % PFL_ROUNDS_KEPT] : NULL;
    return r && r->round == round ? r : NULL;
}

struct pfl_round *pfl_core_round_get(struct pfl_node *n, int32_t round)
{
    struct pfl_round *r = pfl_core_round(n, round);
    if (r || !n->learning || round < 0 || round >= (int32_t)n->rounds)
        return r;
    if (round > n->round + 1 || round < n->round - 2)
        return NULL;
    struct pfl_round **slot = &n->kept[round % PFL_ROUNDS_KEPT];
    pfl_round_free(*slot);
    *slot = pfl_round_new(round, &n->peers);
    return *slot;
}

void pfl_core_gone(struct pfl_node *n, const char *addr, const char *why)
{
    if (!n->learning || n->n_gone == PFL_GONE_MAX || pfl_core_gone_why(n, addr))
        return;
    n->gone = pfl_xrealloc(n->gone, (n->n_gone + 1) * sizeof(*n->gone));
    n->gone[n->n_gone++] = (struct pfl_gone){.addr = pfl_xstrdup(addr), .why = pfl_xstrdup(why)};
}

const char *pfl_core_gone_why(const struct pfl_node *n, const char *addr)
{
    for (size_t i = 0; i < n->n_gone; i++) {
        if (strcmp(n->gone[i].addr, addr) == 0)
            return n->gone[i].why;
    }
    return NULL;
}

/* ---- start ---- */

void pfl_core_set_model(struct pfl_node *n, struct pfl_payload *p)
{
    struct pfl_payload *old = n->model;
    n->model = pfl_payload_ref(p);
    pfl_payload_unref(old);
}

static void forget_experiment(struct pfl_node *n)
{
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++) {
        pfl_round_free(n->kept[i]);
        n->kept[i] = NULL;
    }
    for (size_t i = 0; i < n->n_gone; i++) {
        free(n->gone[i].addr);
        free(n->gone[i].why);
    }
    n->n_gone = 0;
    pfl_payload_unref(n->initial);
    n->initial = NULL;
    n->initialized = false;
    pfl_core_forget_contribution(n);
    pfl_flooded_close(&n->flooded);
}

void pfl_core_begin(struct pfl_node *n, const char *by, const struct pfl_learn_args *args)
{
    forget_experiment(n);
    pfl_core_remember(n, n->experiment);
    free(n->experiment);
    n->experiment = pfl_xstrdup(args->name);
    n->rounds = args->rounds;
    n->epochs = args->epochs;
    n->trainset_size = args->trainset_size;
    n->rounds_done = 0;
    n->learning = true;
    n->over = false;
    n->round = 0;
    n->voters = 0;
    n->ahead = 0;
    n->started_at = n->now;
    n->progress_at = n->now;
    n->kept[0] = pfl_steal(&n->early_round);
    n->initial = pfl_steal(&n->early_init);
    n->early_until = PFL_NEVER;
    pfl_core_evidence_in(n, n->experiment); /* who was found out before it began here stays out */
    n->has_initial_digest = false;
    pfl_core_keep_start(n, NULL);
    pfl_core_sift_early(n);
    for (size_t i = 0; i < n->peers.n; i++) {
        struct pfl_peer *p = n->peers.items[i];
        const char *of = pfl_contact_of(&n->peers, p)->initialized_for; /* it came early, and may be of another one */
        if (n->set.signatures && of && !pfl_streq(of, n->experiment))
            p->initialized = false;
        pfl_peer_initialized_for(&n->peers, p, NULL);
        p->takes_part =
            !pfl_core_excluded(n, p->addr); /* also one whose link is being made: the start waits for it in the outbox */
        p->lapsed = false;
        p->joins = false;
        pfl_peer_set_from(&n->peers, p, 0);
    }
    struct pfl_note *note = pfl_core_note_text(n, PFL_NOTE_LEARNING_STARTED, by, "%s", n->experiment);
    note->rounds = n->rounds;
    note->epochs = n->epochs;
    note->trainset_size = n->trainset_size;
    pfl_core_stage(n, PFL_STAGE_STARTING);
}

static bool advance_start(struct pfl_node *n)
{
    if (!n->initial) {
        if (pfl_core_stage_until(n) > n->now)
            return false;
        pfl_core_stop(n, "no initial model came within %.0f s", (double)n->set.aggregation_timeout / (double)PFL_SEC);
        return true;
    }
    n->initialized = true;
    pfl_core_set_model(n, n->initial);
    pfl_core_gossip(n, "model_initialized", -1, NULL);
    pfl_core_enter_vote(n, 0);
    return true;
}

static const char *learn_wrong(const struct pfl_node *n, const struct pfl_learn_args *a)
{
    if (n->learning)
        return "this node is learning already; stop that first";
    if (!n->model)
        return "this node has no model yet";
    if (a->rounds < 1 || a->rounds > PFL_ROUNDS_MAX)
        return "rounds: 1 to 1000000 are possible";
    if (a->epochs > PFL_EPOCHS_MAX)
        return "epochs: 0 to 10000 are possible";
    if (a->trainset_size < 1 || a->trainset_size > PFL_TRAINSET_MAX)
        return "train-set size: 1 to 4096 are possible";
    if (a->name && strlen(a->name) > PFL_EXPERIMENT_NAME_MAX - 24)
        return "the experiment's name is too long: 104 bytes are possible";
    return NULL;
}

/* A name says which run is meant: two within one second do not share it. */
static char *name_of_run(const struct pfl_node *n, const char *base, int64_t seconds)
{
    char *name = pfl_xasprintf("%s-%lld", base, (long long)seconds);
    if (!pfl_streq(name, n->experiment) && !pfl_streq(name, n->left))
        return name;
    free(name);
    return name_of_run(n, base, seconds + 1);
}

void pfl_core_on_learn(struct pfl_node *n, const struct pfl_event *ev)
{
    const char *why = learn_wrong(n, &ev->learn);
    if (!why)
        why = pfl_core_own_right(n, ev);
    if (!why)
        why = pfl_core_over_policy(n, &ev->learn);
    pfl_core_reply(n, ev->call, NULL, why);
    if (why)
        return;
    const char *base = ev->learn.name && ev->learn.name[0] ? ev->learn.name : "experiment";
    PFL_AUTO(pfl_freep) char *name = name_of_run(n, base, ev->wall / PFL_SEC);
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs args = {0};
    const unsigned numbers[] = {ev->learn.rounds, ev->learn.epochs, ev->learn.trainset_size};
    for (size_t i = 0; i < PFL_ARRAY_LEN(numbers); i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", numbers[i]);
        pfl_strs_add(&args, text);
    }
    pfl_strs_add(&args, name);
    struct pfl_learn_args learn = ev->learn;
    learn.name = name;
    pfl_core_begin(n, n->addr, &learn);
    struct pfl_msg *m = pfl_msg_new(n->addr, -1, "start_learning", PFL_MSG_GOSSIP);
    pfl_strs_copy(&m->args, &args);
    m->has_model_digest = n->set.signatures && n->model->has_digest;
    if (m->has_model_digest)
        memcpy(m->model_digest, n->model->digest, sizeof(m->model_digest));
    pfl_payload_unref(n->initial); /* an early one of somebody else's start: ours counts here */
    n->initial = pfl_payload_ref(n->model);
    pfl_core_name_initial(n, m);
    pfl_core_flood(n, m);
}

void pfl_core_on_model(struct pfl_node *n, const struct pfl_event *ev)
{
    if (n->learning)
        pfl_core_note_text(n, PFL_NOTE_WARNING, NULL, "a new initial model is ignored while learning");
    else if (ev->payload)
        pfl_core_set_model(n, ev->payload);
}

/* ---- stop ---- */

void pfl_core_cancel_jobs(struct pfl_node *n)
{
    if (n->job != PFL_JOB_NONE || n->partial_id)
        pfl_core_act(n, PFL_ACT_CANCEL, NULL);
    n->job = PFL_JOB_NONE;
    n->partial_id = 0;
}

void pfl_core_stop(struct pfl_node *n, const char *fmt, ...)
{
    char why[PFL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    pfl_core_cancel_jobs(n);
    pfl_core_note_text(n, PFL_NOTE_LEARNING_STOPPED, NULL, "%s", why);
    n->learning = false;
    n->over = false;
    n->round = -1;
    forget_experiment(n);
    pfl_core_keep(n);
    for (size_t i = 0; i < n->peers.n; i++)
        n->peers.items[i]->initialized = false;
    pfl_core_stage(n, PFL_STAGE_IDLE);
}

void pfl_core_leave(struct pfl_node *n)
{
    free(n->left);
    n->left = pfl_xstrdup(n->experiment);
}

void pfl_core_on_stop(struct pfl_node *n, const struct pfl_event *ev)
{
    if (!n->learning) {
        pfl_core_reply(n, ev->call, NULL, "this node is not learning");
        return;
    }
    if (pfl_core_own_right(n, ev)) {
        pfl_core_reply(n, ev->call, NULL, pfl_core_own_right(n, ev));
        return;
    }
    pfl_core_gossip(n, "stop_learning", -1, NULL);
    pfl_core_leave(n);
    pfl_core_stop(n, "stopped by the operator");
    pfl_core_reply(n, ev->call, NULL, NULL);
}

/* ---- the end of a round, and of jobs ---- */

void pfl_core_computed(struct pfl_node *n, struct pfl_round *r, const struct pfl_payload *p)
{
    if (p->has_digest)
        (void)pfl_round_set_computed(r, pfl_round_get(r, n->addr), p->digest);
}

void pfl_core_announce_ready(struct pfl_node *n, struct pfl_round *r)
{
    const struct pfl_payload *p = r->aggregate;
    struct pfl_round_peer *me = pfl_round_get(r, n->addr);
    pfl_round_set_ready(r, me, p->has_digest ? p->digest : NULL, n->now);
    struct pfl_msg *m = pfl_msg_new(n->addr, r->round, "models_ready", PFL_MSG_GOSSIP);
    m->has_model_digest = p->has_digest;
    if (p->has_digest)
        memcpy(m->model_digest, p->digest, sizeof(m->model_digest));
    m->computed = pfl_round_peer_computed(r, me, p);
    pfl_core_flood(n, m);
}

static void set_aggregate(struct pfl_node *n, struct pfl_round *r, struct pfl_payload *aggregate)
{
    pfl_round_set_aggregate(r, aggregate);
    pfl_core_set_model(n, r->aggregate);
    n->dirty = true;
}

void pfl_core_round_done(struct pfl_node *n, struct pfl_round *r, struct pfl_payload *aggregate)
{
    pfl_core_cancel_jobs(n);
    set_aggregate(n, r, aggregate);
    r->done = true;
    r->done_at = n->now;
    n->rounds_done = (unsigned)r->round + 1;
    n->progress_at = n->now;
    pfl_core_keep(n);
    pfl_core_announce_ready(n, r);
    pfl_note_set_digest(pfl_core_note(n, PFL_NOTE_ROUND_FINISHED, NULL), r->aggregate);
    pfl_core_after_round(n);
}

/* The common result replaces this node's own. Where both are said to be of the same contributions, they should be the same bytes:
 * with P2PFL's own nodes they are not. */
static void note_other_result(struct pfl_node *n, const struct pfl_round *r)
{
    const struct pfl_round_peer *c = pfl_core_canonical(n, r).by;
    if (!r->done || n->set.interop || !c || pfl_streq(r->offered_by, n->addr) || /* the last: it had this one before */
        !pfl_round_same_contributors(r, n->addr, pfl_round_addr(c)))
        return;
    pfl_core_note_text(
        n, PFL_NOTE_WARNING, pfl_round_addr(c),
        "its result of round %d counts and is another than this node's, of the same contributors: it computes otherwise, "
        "was sent other contributions, or lies",
        r->round);
}

void pfl_core_adopt(struct pfl_node *n, struct pfl_round *r)
{
    note_other_result(n, r);
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = pfl_payload_ref(r->offered);
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_ADOPTED, r->offered_by);
    note->round = r->round;
    pfl_note_set_digest(note, p);
    pfl_round_set_offer(r, NULL, NULL);
    if (!r->done) {
        pfl_core_round_done(n, r, p);
        return;
    }
    set_aggregate(n, r, p);
    pfl_core_keep(n);
    pfl_core_announce_ready(n, r);
}

/* A result that turns out not to be the common one is still replaced after the end. */
static bool advance_idle(struct pfl_node *n)
{
    struct pfl_round *r = n->over ? pfl_core_round(n, (int32_t)n->rounds - 1) : NULL;
    if (r)
        pfl_core_recall(n, r);
    if (!r || !r->offered || !pfl_core_off_canon(n, r))
        return false;
    struct pfl_canon c = pfl_core_canonical(n, r);
    if (!r->offered->has_digest || memcmp(r->offered->digest, c.digest, PFL_DIGEST_LEN) != 0 || !pfl_core_decided(n, r))
        return false;
    pfl_core_adopt(n, r);
    return true;
}

void pfl_core_on_job(struct pfl_node *n, const struct pfl_event *ev)
{
    if (n->partial_id && ev->id == n->partial_id) {
        pfl_core_partial_made(n, ev);
        return;
    }
    if (n->job == PFL_JOB_NONE || ev->id != n->job_id)
        return; /* of something that was given up meanwhile */
    enum pfl_job_kind kind = n->job;
    n->job = PFL_JOB_NONE;
    n->dirty = true;
    switch (kind) {
    case PFL_JOB_EVALUATE:
        pfl_core_evaluated(n, ev);
        break;
    case PFL_JOB_FIT:
        pfl_core_fitted(n, ev);
        break;
    case PFL_JOB_AGGREGATE:
        pfl_core_aggregated(n, ev);
        break;
    case PFL_JOB_EVALUATE_LAST:
        pfl_core_finished(n, ev);
        break;
    case PFL_JOB_NONE:
        break;
    }
}
