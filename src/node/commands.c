/* SPDX-License-Identifier: Apache-2.0 */
/* Messages in: a table of P2PFL's commands. A command that is unknown, of the wrong kind or with arguments that do not fit is
 * answered with an error and noted with its source; it changes nothing and is not passed on. */
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "node/core.h"
#include "node/vote.h"

struct command {
    const char *name;
    enum pfl_msg_kind kind;
    size_t args_min, args_max;
    bool introduces; /* its source becomes known by it */
    enum pfl_rc (*run)(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
};

/* ---- gossip ---- */

static enum pfl_rc cmd_beat(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    (void)err;
    if (in->peer) /* that it came is what it says; the sender's clock is not looked at */
        in->peer->last_beat = n->now;
    return PFL_OK;
}

static enum pfl_rc start_args(const struct pfl_strs *args, struct pfl_learn_args *ret, struct pfl_err *err)
{
    int64_t rounds, epochs, size;
    if (!pfl_parse_i64(args->items[0], 1, PFL_ROUNDS_MAX, &rounds))
        return pfl_err_set(err, PFL_MALFORMED, "start_learning: %s rounds, 1 to %d are possible", pfl_q(args->items[0]),
                           PFL_ROUNDS_MAX);
    if (!pfl_parse_i64(args->items[1], 0, PFL_EPOCHS_MAX, &epochs))
        return pfl_err_set(err, PFL_MALFORMED, "start_learning: %s epochs, 0 to %d are possible", pfl_q(args->items[1]),
                           PFL_EPOCHS_MAX);
    if (!pfl_parse_i64(args->items[2], 1, PFL_TRAINSET_MAX, &size))
        return pfl_err_set(err, PFL_MALFORMED, "start_learning: a train set of %s, 1 to %d are possible", pfl_q(args->items[2]),
                           PFL_TRAINSET_MAX);
    size_t len = strlen(args->items[3]);
    if (len == 0 || len > PFL_EXPERIMENT_NAME_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "start_learning: an experiment name of %zu bytes, 1 to %d are possible", len,
                           PFL_EXPERIMENT_NAME_MAX);
    *ret = (struct pfl_learn_args){
        .rounds = (unsigned)rounds, .epochs = (unsigned)epochs, .trainset_size = (unsigned)size, .name = args->items[3]};
    return PFL_OK;
}

/* With a ttl of 0: who gets it from here does not pass it on. And who said that this experiment runs is asked again where it is. */
static void keep_start(struct pfl_node *n, const struct pfl_msg *m)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    if (m->blob && pfl_msg_forward(m, 0, &body, NULL) == PFL_OK)
        pfl_core_keep_start(n, body);
    for (size_t i = 0; pfl_streq(n->told_of, n->experiment) && i < n->peers.n; i++)
        n->peers.items[i]->curious = n->peers.items[i]->states;
}

static enum pfl_rc cmd_start_learning(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    struct pfl_learn_args args;
    enum pfl_rc rc = start_args(&in->msg->args, &args, err);
    if (rc != PFL_OK)
        return rc;
    bool was_there = pfl_streq(args.name, n->left) || (pfl_streq(args.name, n->experiment) && (n->learning || n->over)) ||
                     (n->set.signatures && pfl_strs_has(&n->past, args.name));
    if (was_there) { /* a neighbour told it before; or does so now, after this node was started again */
        if (n->learning && !n->start_body && pfl_streq(args.name, n->experiment))
            keep_start(n, in->msg);
        return PFL_OK;
    }
    if (n->learning) {
        pfl_core_note_text(n, PFL_NOTE_WARNING, in->msg->source, "start_learning '%s' is ignored: '%s' is running",
                           pfl_q(args.name), pfl_q(n->experiment));
        return PFL_OK;
    }
    const char *over = pfl_core_over_policy(n, &args);
    if (over)
        return pfl_err_set(err, PFL_AUTH, "start_learning '%s': %s", pfl_q(args.name), over);
    pfl_core_begin(n, in->msg->source, &args);
    pfl_core_name_initial(n, in->msg);
    keep_start(n, in->msg);
    return PFL_OK;
}

static enum pfl_rc cmd_stop_learning(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    (void)err;
    if (n->learning)
        pfl_core_leave(n);
    if (n->learning)
        pfl_core_stop(n, "stopped by %s", in->msg->source);
    return PFL_OK;
}

static enum pfl_rc cmd_model_initialized(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    (void)err;
    if (!in->peer)
        return PFL_OK;
    in->peer->initialized = true;
    if (!n->learning) /* what comes later was checked to be of this one */
        pfl_peer_initialized_for(&n->peers, in->peer, in->msg->origin ? in->msg->origin->experiment : NULL);
    in->peer->takes_part = true;
    if (in->msg->round > pfl_peer_from(&n->peers, in->peer) || in->msg->round > n->round)
        pfl_peer_set_from(&n->peers, in->peer, in->msg->round); /* it came late, or came back: nobody waits for it before */
    n->dirty = true;
    return PFL_OK;
}

/* Known, or evicted during this experiment: what the latter says is kept, because it may only have been cut off. */
static bool is_one_of_us(const struct pfl_node *n, const struct pfl_incoming *in)
{
    return in->peer || pfl_core_gone_why(n, in->msg->source);
}

/* The record where a ballot belongs: while idle, one for round 0 is kept for the start that is still under way to us. */
static struct pfl_round *ballot_box(struct pfl_node *n, int32_t round)
{
    if (n->learning)
        return pfl_core_round_get(n, round);
    if (round != 0)
        return NULL;
    if (!n->early_round)
        n->early_round = pfl_round_new(0, &n->peers);
    if (n->early_until == PFL_NEVER)
        n->early_until = n->now + n->set.aggregation_timeout;
    return n->early_round;
}

static enum pfl_rc cmd_vote_train_set(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_vote_check(&in->msg->args, err);
    if (rc != PFL_OK)
        return rc;
    if (is_one_of_us(n, in))
        pfl_core_ahead(n, in->msg->round);
    if (pfl_core_is_past(n, in->msg))
        return PFL_OK;
    struct pfl_round *r = is_one_of_us(n, in) ? ballot_box(n, in->msg->round) : NULL;
    if (!r)
        return pfl_core_put_off(n, in);
    struct pfl_round_peer *p = pfl_round_get(r, in->msg->source);
    if (p->voted)
        return PFL_OK; /* the first ballot counts */
    if (!r->settled)   /* with signatures it may come to be void */
        rc = n->set.signatures ? pfl_round_set_ballot(r, p, &in->msg->args, err) : pfl_round_count_ballot(r, &in->msg->args, err);
    if (rc != PFL_OK)
        return rc;
    pfl_round_set_voted(r, p, true); /* else that alone matters */
    pfl_core_plain_progress(n, in, false);
    if (n->learning && in->peer) {
        in->peer->takes_part = true;
        in->peer->joins = false;
        if (pfl_peer_from(&n->peers, in->peer) == r->round + 1) /* an older ballot was overtaken by its going to a later round */
            pfl_peer_set_from(&n->peers, in->peer, r->round);
        in->peer->lapsed = in->peer->lapsed && r->round < n->round;
    }
    n->dirty = true;
    return PFL_OK;
}

static enum pfl_rc cmd_metrics(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    const struct pfl_strs *args = &in->msg->args;
    struct pfl_metrics m = {0};
    pfl_core_plain_progress(n, in, true);
    for (size_t i = 0; i + 1 < args->n; i += 2) {
        double v;
        if (!pfl_parse_double(args->items[i + 1], &v) && pfl_core_plain(n, in->peer))
            return PFL_OK; /* Python says "nan" and "None", and others wait for the message itself */
        if (!pfl_parse_double(args->items[i + 1], &v))
            return pfl_err_set(err, PFL_MALFORMED, "metrics: %s is '%s', a finite number is expected", pfl_q(args->items[i]),
                               pfl_q(args->items[i + 1]));
        if (strcmp(args->items[i], "test_loss") == 0)
            m.loss = v;
        else if (strcmp(args->items[i], "test_metric") == 0)
            m.accuracy = v;
    }
    if (args->n % 2 != 0)
        return pfl_err_set(err, PFL_MALFORMED, "metrics: %zu arguments, pairs of name and value are expected", args->n);
    if ((!n->learning && !n->over) || pfl_core_foreign(n, in->msg))
        return PFL_OK;
    struct pfl_note *note = pfl_core_note(n, PFL_NOTE_METRICS, in->msg->source);
    note->round = in->msg->round;
    note->metrics = m;
    return PFL_OK;
}

static enum pfl_rc cmd_models_aggregated(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    (void)err;
    bool ours = is_one_of_us(n, in) && !pfl_core_foreign(n, in->msg);
    struct pfl_round *r = ours ? pfl_core_round_get(n, in->msg->round) : NULL;
    if (!r)
        return pfl_core_put_off(n, in);
    struct pfl_round_peer *p = pfl_round_get(r, in->msg->source);
    pfl_core_plain_progress(n, in, true);
    if (in->msg->args.n == 0)
        p->withdrawn = true;
    /* Lists only grow; an older one that was overtaken must not hide what came after it. */
    if (in->msg->args.n > pfl_round_holds(r, p)->n) {
        pfl_strs_copy(&pfl_round_trainer(r, p)->holds, &in->msg->args);
        n->progress_at = n->now;
    }
    n->dirty = true;
    return PFL_OK;
}

static enum pfl_rc cmd_models_ready(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    (void)err;
    if (is_one_of_us(n, in))
        pfl_core_ahead(n, in->msg->round < PFL_ROUNDS_MAX ? in->msg->round + 1 : in->msg->round);
    bool ours = is_one_of_us(n, in) && !pfl_core_foreign(n, in->msg);
    struct pfl_round *r = ours ? pfl_core_round_get(n, in->msg->round) : NULL;
    if (!r)
        return pfl_core_put_off(n, in);
    struct pfl_round_peer *p = pfl_round_get(r, in->msg->source);
    const uint8_t *digest = in->msg->has_model_digest ? in->msg->model_digest : NULL;
    /* Where others sign, the word of who does not is nobody's. */
    bool computed = digest && in->msg->computed && (!n->set.signatures || in->msg->origin);
    int before = p->ready + p->n_results;
    bool news = pfl_round_set_ready(r, p, digest, n->now);
    bool progress = p->ready + p->n_results > before; /* not for ever: who announces one after the other does not hold us up */
    if (computed && pfl_round_set_computed(r, p, digest)) {
        news = progress = true;
        r->ended_at = r->ended_at ? r->ended_at : n->now;
        pfl_core_note_result(n, r, p);
    }
    if (progress && n->stage != PFL_STAGE_TRAINING) /* there only a contribution is */
        n->progress_at = n->now;
    n->dirty = n->dirty || news;
    return PFL_OK;
}

/* ---- the table ---- */

static const size_t any = SIZE_MAX; /* the codec has its own limit */

static const struct command *find_command(const char *name)
{
    static const struct command commands[] = {
        {"beat", PFL_MSG_GOSSIP, 1, 1, true, cmd_beat},
        {"start_learning", PFL_MSG_GOSSIP, 4, 4, true, cmd_start_learning},
        {"stop_learning", PFL_MSG_GOSSIP, 0, 0, false, cmd_stop_learning},
        {"model_initialized", PFL_MSG_GOSSIP, 0, 0, true, cmd_model_initialized},
        {"vote_train_set", PFL_MSG_GOSSIP, 2, any, true, cmd_vote_train_set},
        {"metrics", PFL_MSG_GOSSIP, 0, 64, false, cmd_metrics},
        {"models_aggregated", PFL_MSG_GOSSIP, 0, PFL_TRAINSET_MAX, false, cmd_models_aggregated},
        {"evidence", PFL_MSG_GOSSIP, 0, 0, false, pfl_core_cmd_evidence},
        {"models_ready", PFL_MSG_GOSSIP, 0, 0, false, cmd_models_ready},
        {"beats", PFL_MSG_DIRECT, 0, any, false, pfl_core_cmd_beats},
        {"state", PFL_MSG_DIRECT, 2, 3, false, pfl_core_cmd_state},
        {"hear", PFL_MSG_DIRECT, 2, 2, false, pfl_core_cmd_hear},
        {"PRE_SEND_MODEL", PFL_MSG_DIRECT, 1, PFL_TRAINSET_MAX + 1, false, pfl_core_cmd_pre_send},
        {"init_model", PFL_MSG_WEIGHTS, 0, 0, false, pfl_core_cmd_init_model},
        {"partial_model", PFL_MSG_WEIGHTS, 0, 0, false, pfl_core_cmd_partial_model},
        {"add_model", PFL_MSG_WEIGHTS, 0, 0, false, pfl_core_cmd_add_model},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static enum pfl_rc check(const struct command *c, const struct pfl_msg *m, struct pfl_err *err)
{
    static const char *const kinds[] = {"empty", "gossip", "direct", "weights"};
    if (!c)
        return pfl_err_set(err, PFL_UNSUPPORTED, "Unknown command: %s", pfl_q(m->cmd));
    if (m->kind != c->kind)
        return pfl_err_set(err, PFL_MALFORMED, "%s came as a %s message, %s is expected", c->name, kinds[m->kind], kinds[c->kind]);
    if (m->args.n < c->args_min || m->args.n > c->args_max)
        return pfl_err_set(err, PFL_MALFORMED, "%s: %zu arguments, %zu to %zu are expected", c->name, m->args.n, c->args_min,
                           c->args_max);
    if (strlen(m->source) == 0 || strlen(m->source) >= PFL_ADDR_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "%s: a source of %zu bytes", c->name, strlen(m->source));
    return PFL_OK;
}

/* Only a beat brings back a node that was evicted during the experiment: other messages of it may have been long under way. */
static struct pfl_peer *hear(struct pfl_node *n, const struct command *c, const char *source)
{
    bool beat = strcmp(c->name, "beat") == 0;
    return pfl_core_heard(n, source, c->introduces && (beat || !pfl_core_gone_why(n, source)));
}

void pfl_core_on_message(struct pfl_node *n, const struct pfl_event *ev)
{
    struct pfl_msg *m = ev->msg;
    struct pfl_err err = {0};
    const struct command *c = find_command(m->cmd);
    enum pfl_rc rc = check(c, m, &err);
    bool gossip = m->kind == PFL_MSG_GOSSIP;
    if (rc == PFL_OK && (pfl_streq(m->source, n->addr) || pfl_node_knows(n, m))) {
        if (gossip)
            pfl_core_came_again(n, m, ev->addr);
        pfl_core_reply(n, ev->call, NULL, NULL); /* our own echo, or known already */
        return;
    }
    bool plain_beats = !n->set.signatures || n->set.interop;
    if (rc == PFL_OK && plain_beats && pfl_core_beat_counted(n, m)) {
        pfl_core_reply(n, ev->call, NULL, NULL);
        return;
    }
    struct pfl_incoming in = {.ev = ev, .msg = m};
    const char *barred = rc == PFL_OK ? pfl_core_barred_message(n, m) : NULL;
    if (barred) { /* not even passed on */
        pfl_core_refused(n, m->source, barred);
        pfl_core_reply(n, ev->call, NULL, barred);
        return;
    }
    if (rc == PFL_OK)
        rc = pfl_core_check_origin(n, ev, &err);
    if (rc == PFL_OK) {
        if (gossip)
            (void)pfl_core_seen_add(n, m);
        in.peer = hear(n, c, m->source);
        if (in.peer && ev->signer)
            in.peer->signs = true;
        if (in.peer && !gossip && !ev->relayed)
            pfl_contact_get(&n->peers, in.peer)->last_direct = n->now;
        rc = c->run(n, &in, &err);
    }
    if (rc != PFL_OK && rc != PFL_STATE)
        pfl_core_refused(n, m->source, err.msg);
    PFL_AUTO(pfl_freep) char *text = in.text;
    const char *answer = text ? text : in.answer;
    bool silent = rc == PFL_OK || pfl_core_no_error(n, &in, rc);
    pfl_core_reply(n, ev->call, rc == PFL_OK ? answer : NULL, silent ? NULL : err.msg);
    if (ev->call && in.hello)
        n->out->items[n->out->n - 1].hello = true;
    if (ev->call && !silent && rc == PFL_AUTH)
        n->out->items[n->out->n - 1].denied = true;
    if (rc == PFL_OK && gossip)
        pfl_core_forward(n, m, ev->addr);
}

void pfl_core_again(struct pfl_node *n, struct pfl_msg *m)
{
    struct pfl_err err = {0};
    const struct command *c = find_command(m->cmd);
    struct pfl_incoming in = {.msg = m, .peer = pfl_neighbours_find(&n->peers, m->source)};
    if (in.peer && !in.peer->alive)
        in.peer = NULL;
    if (n->set.signatures && (pfl_core_foreign(n, m) || pfl_core_excluded(n, m->source)))
        return;
    if (c->run(n, &in, &err) != PFL_OK)
        pfl_core_refused(n, m->source, err.msg);
}
