/* SPDX-License-Identifier: Apache-2.0 */
/* Who may say what. The driver has verified who signed a message and that the address of its source is the signer's; here it is
 * decided whether the signer may say that, and whether it belongs to this experiment. What a node may say once only, its vote and
 * its own contribution to a round and the result that it computed, is kept with its signature: two that differ are evidence against
 * it, whoever passed them on, and it is out for the experiment.
 *
 * Without a driver that verifies (plaintext, tests of other things) nothing of this happens. P2PFL's own nodes do not sign: with
 * interop their messages count by their address alone, but never in the name of a node that is known to be one of ours. */
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

static const pfl_ns start_age_max = 600 * PFL_SEC; /* of a start_learning that nobody says is running: a replay, or a wrong clock */

static bool needs_signature(const struct pfl_node *n, const struct pfl_msg *m)
{
    bool beat = m->kind == PFL_MSG_GOSSIP && strcmp(m->cmd, "beat") == 0;
    return n->set.signatures && m->kind != PFL_MSG_DIRECT && !(beat && n->set.interop);
}

static const char *via(const struct pfl_event *ev)
{
    return ev->from ? ev->from : "an unknown caller";
}

/* ---- rights ---- */

static bool commands_others(const char *cmd)
{
    return strcmp(cmd, "start_learning") == 0 || strcmp(cmd, "stop_learning") == 0;
}

static enum pfl_rc check_rights(const struct pfl_event *ev, struct pfl_err *err)
{
    const struct pfl_signer *s = ev->signer;
    if (commands_others(ev->msg->cmd) && !(s->may & PFL_MAY_START))
        return pfl_err_set(err, PFL_AUTH, "%s: %s may not start or stop learning: %s", ev->msg->cmd, pfl_q(s->id),
                           "its certificate's role is not coordinator, or the policy here says no");
    if (!(s->may & (PFL_MAY_TRAIN | PFL_MAY_START)))
        return pfl_err_set(err, PFL_AUTH, "%s: %s may not take part in learning: %s", pfl_q(ev->msg->cmd), pfl_q(s->id),
                           "its certificate's role is observer, or the policy here says no");
    return PFL_OK;
}

const char *pfl_core_own_right(const struct pfl_node *n, const struct pfl_event *ev)
{
    if (!n->set.signatures || !ev->signer || (ev->signer->may & PFL_MAY_START))
        return NULL;
    return "this node's own certificate does not let it start or stop learning: the others would refuse it. Do it at a node with "
           "the role coordinator, or issue this one a certificate with --role coordinator";
}

const char *pfl_core_over_policy(const struct pfl_node *n, const struct pfl_learn_args *a)
{
    if (n->set.max_rounds && a->rounds > n->set.max_rounds)
        return "more rounds than this node's policy allows (policy.max_rounds)";
    if (n->set.max_epochs && a->epochs > n->set.max_epochs)
        return "more epochs than this node's policy allows (policy.max_epochs)";
    if (n->set.max_model_bytes && n->layout->bytes > n->set.max_model_bytes)
        return "the model is larger than this node's policy allows (policy.max_model_bytes)";
    return NULL;
}

/* ---- replay ---- */

bool pfl_core_foreign(const struct pfl_node *n, const struct pfl_msg *m)
{
    return n->set.signatures && m->origin && !pfl_streq(m->origin->experiment, n->experiment);
}

bool pfl_core_is_past(const struct pfl_node *n, const struct pfl_msg *m)
{
    return !n->learning && n->over && m->origin && pfl_streq(m->origin->experiment, n->experiment);
}

static enum pfl_rc check_start(const struct pfl_node *n, const struct pfl_msg *m, struct pfl_err *err)
{
    const char *name = m->origin->experiment;
    pfl_ns age = n->wall - m->origin->sent_at_ms * PFL_MS;
    if (m->args.n == 4 && !pfl_streq(m->args.items[3], name))
        return pfl_err_set(err, PFL_AUTH, "start_learning: signed for experiment '%s', but it starts '%s'", pfl_q(name),
                           pfl_q(m->args.items[3]));
    if (!pfl_streq(n->told_of, name) && (age > start_age_max || age < -start_age_max))
        return pfl_err_set(err, PFL_AUTH,
                           "start_learning: signed %.0f s %s by this node's clock: an old message that is sent again, or a clock "
                           "that is wrong",
                           (double)(age < 0 ? -age : age) / (double)PFL_SEC, age < 0 ? "in the future" : "ago");
    return PFL_OK;
}

static enum pfl_rc check_experiment(const struct pfl_node *n, const struct pfl_msg *m, struct pfl_err *err)
{
    if (strcmp(m->cmd, "start_learning") == 0 && !(n->learning && pfl_streq(m->origin->experiment, n->experiment)))
        return check_start(n, m, err);
    if (n->learning && pfl_core_foreign(n, m))
        return pfl_err_set(err, PFL_AUTH, "%s is of experiment '%s', here runs '%s': sent again from another one", pfl_q(m->cmd),
                           pfl_q(m->origin->experiment), pfl_q(n->experiment));
    return PFL_OK;
}

/* ---- contributors ---- */

/* A contribution travels as its trainer signed it, also through relays. An aggregate of several is taken from P2PFL's own nodes,
 * and from one of ours that passes theirs on, only. */
static enum pfl_rc check_contributors(const struct pfl_node *n, const struct pfl_msg *m, struct pfl_err *err)
{
    if (strcmp(m->cmd, "partial_model") != 0 || (m->contributors.n == 1 && strcmp(m->contributors.items[0], m->source) == 0))
        return PFL_OK;
    for (size_t i = 0; n->set.interop && i < m->contributors.n; i++) {
        const struct pfl_peer *p = pfl_neighbours_find(&n->peers, m->contributors.items[i]);
        if (pfl_core_plain(n, p) && !(p && p->signs))
            return PFL_OK;
    }
    return pfl_err_set(err, PFL_AUTH, "partial_model: %s names %zu contributors, %s first, and shows no signature of theirs",
                       pfl_q(m->source), m->contributors.n, m->contributors.n ? pfl_q(m->contributors.items[0]) : "nobody");
}

/* ---- equivocation ---- */

bool pfl_core_excluded(const struct pfl_node *n, const char *addr)
{
    return n->excluded.n > 0 && pfl_strs_has(&n->excluded, addr);
}

static void void_ballot(struct pfl_round *r, const char *addr)
{
    struct pfl_round_peer *row = r && !r->settled ? pfl_round_find(r, addr) : NULL;
    if (!row)
        return;
    pfl_round_set_voted(r, row, false);
    pfl_round_drop_ballot(r, row);
}

/* Everybody comes to void them, whenever it hears of it: so all come to the same train sets. */
static void void_ballots(struct pfl_node *n, const char *addr)
{
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++)
        void_ballot(n->kept[i], addr);
    void_ballot(n->early_round, addr);
}

static void forget_results(struct pfl_node *n, const char *addr)
{
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++) {
        struct pfl_round_peer *row = n->kept[i] ? pfl_round_find(n->kept[i], addr) : NULL;
        if (!row)
            continue;
        pfl_round_unset_ready(n->kept[i], row);
        pfl_round_unset_computed(n->kept[i], row);
    }
}

void pfl_core_exclude(struct pfl_node *n, const char *addr, struct pfl_statement said[2], const char *by)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, addr);
    struct pfl_origin_said about = {0};
    enum pfl_rc rc = pfl_origin_said_parse(pfl_buf_view(&said[0].text), &about, NULL);
    PFL_ASSERT(rc == PFL_OK);
    if (!pfl_strs_add_once(&n->excluded, addr)) {
        pfl_origin_said_deinit(&about);
        return;
    }
    struct pfl_note *note = pfl_core_note_text(
        n, PFL_NOTE_EXCLUDED, addr,
        "it signed two different %s for round %d of this experiment: it is out, and the pair is kept as evidence%s%s",
        pfl_once_name(pfl_origin_once(&about)), about.round, by ? ", as told by " : "", by ? by : "");
    note->round = about.round;
    struct pfl_action *a = pfl_core_act(n, PFL_ACT_EVIDENCE, addr);
    a->said = pfl_xcalloc(2, sizeof(*a->said));
    for (size_t i = 0; i < 2; i++) {
        a->said[i] = said[i];
        said[i] = (struct pfl_statement){0};
    }
    pfl_origin_said_deinit(&about);
    if (p)
        p->takes_part = false;
    void_ballots(n, addr);
    forget_results(n, addr);
    pfl_core_drop_contribution(n, addr, "it equivocated");
    n->dirty = true;
}

/* What this message says once only: the row of its source, where that is remembered, and what must agree with it. */
struct once {
    struct pfl_round_peer *row; /* NULL: it says nothing of that kind, or of no round that is kept */
    struct pfl_statement *same, *other;
};

static struct once once_of(struct pfl_node *n, const struct pfl_msg *m)
{
    bool vote = m->kind == PFL_MSG_GOSSIP && strcmp(m->cmd, "vote_train_set") == 0;
    bool announced = n->learning && m->kind == PFL_MSG_GOSSIP && strcmp(m->cmd, "models_aggregated") == 0 && m->has_contribution;
    bool ready = (n->learning || n->over) && m->kind == PFL_MSG_GOSSIP && strcmp(m->cmd, "models_ready") == 0 && m->computed;
    bool sent = m->kind == PFL_MSG_WEIGHTS && strcmp(m->cmd, "partial_model") == 0 && m->contributors.n == 1;
    if (!vote && !announced && !sent && !ready)
        return (struct once){0};
    struct pfl_round *r = n->learning || ready ? pfl_core_round_get(n, m->round) : n->early_round;
    struct pfl_round_peer *row = r && (n->learning || ready || m->round == 0) ? pfl_round_get(r, m->source) : NULL;
    if (!row || vote)
        return (struct once){row, row ? pfl_round_said_vote(r, row) : NULL, NULL};
    struct pfl_trainer *t = pfl_round_trainer(r, row);
    if (ready)
        return (struct once){row, &t->said_ready, NULL};
    return announced ? (struct once){row, &t->said_own, &t->said_model} : (struct once){row, &t->said_model, &t->said_own};
}

static bool contradicts(const struct pfl_statement *before, const struct pfl_statement *now)
{
    return before && before->origin && pfl_origin_contradict(pfl_buf_view(&before->text), pfl_buf_view(&now->text));
}

/* Takes what contradicts `now`, whoever else has seen it or not: the pair goes to everybody, for all have to come to the same
 * train set and the same contributions. */
static void convict(struct pfl_node *n, const struct pfl_event *ev, struct pfl_statement *before, struct pfl_statement *now)
{
    struct pfl_statement said[2] = {*before, *now};
    *before = *now = (struct pfl_statement){0};
    pfl_core_evidence_in(n, ev->msg->origin->experiment);
    if (ev->msg->kind == PFL_MSG_GOSSIP) { /* as it is for those who take no evidence */
        (void)pfl_core_seen_add(n, ev->msg);
        pfl_core_forward(n, ev->msg, ev->addr);
    }
    pfl_core_accuse(n, said, ev->signer ? ev->signer->id : ev->msg->source);
    pfl_core_exclude(n, ev->msg->source, said, NULL);
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
}

static enum pfl_rc check_said(struct pfl_node *n, const struct pfl_event *ev, struct pfl_err *err)
{
    const struct pfl_msg *m = ev->msg;
    struct once o = m->origin ? once_of(n, m) : (struct once){0};
    PFL_AUTO(pfl_statement_deinit) struct pfl_statement now = {0};
    if (!o.row || (m->kind == PFL_MSG_WEIGHTS && !ev->payload) || !pfl_statement_of(m, &now))
        return PFL_OK;
    if (contradicts(o.other, &now)) {
        convict(n, ev, o.other, &now);
        return pfl_err_set(err, PFL_AUTH, "%s: %s announced another contribution to round %d than %s", pfl_q(m->cmd),
                           pfl_q(m->source), m->round, m->kind == PFL_MSG_WEIGHTS ? "this one" : "it sent");
    }
    if (contradicts(o.same, &now)) {
        convict(n, ev, o.same, &now);
        return pfl_err_set(err, PFL_AUTH, "%s: the second of %s for round %d, and another than the first", pfl_q(m->cmd),
                           pfl_q(m->source), m->round);
    }
    if (!o.same->origin) {
        *o.same = now;
        now = (struct pfl_statement){0};
    }
    return PFL_OK;
}

/* ---- all of it ---- */

enum pfl_rc pfl_core_check_origin(struct pfl_node *n, const struct pfl_event *ev, struct pfl_err *err)
{
    const struct pfl_msg *m = ev->msg;
    if (!needs_signature(n, m))
        return PFL_OK;
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, m->source);
    if (ev->forged)
        return pfl_err_set(err, PFL_AUTH, "%s in the name of %s does not count: %s (passed on by %s)", pfl_q(m->cmd),
                           pfl_q(m->source), ev->forged, pfl_q(via(ev)));
    if (!ev->signer && n->set.interop && pfl_core_plain(n, p) && !(p && p->signs))
        return PFL_OK;
    if (!ev->signer)
        return pfl_err_set(err, PFL_AUTH, "%s in the name of %s is not signed%s (passed on by %s)", pfl_q(m->cmd), pfl_q(m->source),
                           n->set.interop ? ", and that node is known to sign" : "", pfl_q(via(ev)));
    if (p)
        p->signs = true;
    if (pfl_core_excluded(n, m->source))
        return pfl_err_set(err, PFL_AUTH, "%s: %s said two different things in this experiment and is out (signed by %s)",
                           pfl_q(m->cmd), pfl_q(m->source), pfl_q(ev->signer->id));
    struct pfl_err why = {0};
    enum pfl_rc rc = check_rights(ev, &why);
    if (rc == PFL_OK)
        rc = check_experiment(n, m, &why);
    if (rc == PFL_OK)
        rc = check_contributors(n, m, &why);
    if (rc == PFL_OK)
        rc = check_said(n, ev, &why);
    if (rc == PFL_OK)
        return rc;
    return pfl_err_set(err, rc, "%s (signed by %s, passed on by %s)", why.msg, pfl_q(ev->signer->id), pfl_q(via(ev)));
}

/* What came before start_learning counts in this experiment only if it was signed for it. */
void pfl_core_sift_early(struct pfl_node *n)
{
    struct pfl_round *r = n->kept[0];
    for (size_t i = 0; n->set.signatures && r && i < r->n_peers; i++) {
        struct pfl_round_peer *row = pfl_round_at(r, i);
        struct pfl_statement *said = row->more ? pfl_round_said_vote(r, row) : NULL;
        if (!said || !said->origin || pfl_streq(said->origin->experiment, n->experiment))
            continue;
        pfl_round_set_voted(r, row, false);
        pfl_round_drop_ballot(r, row);
        pfl_statement_deinit(said);
    }
    if (n->set.signatures && n->early_init_of && n->initial && !pfl_streq(n->early_init_of, n->experiment)) {
        pfl_payload_unref(n->initial);
        n->initial = NULL;
    }
    free(n->early_init_of);
    n->early_init_of = NULL;
}

/* ---- the initial model ---- */

/* Not with interop: P2PFL's own nodes pass on what their framework made of it. */
void pfl_core_name_initial(struct pfl_node *n, const struct pfl_msg *start)
{
    n->has_initial_digest = n->set.signatures && !n->set.interop && start->has_model_digest;
    memcpy(n->initial_digest, start->model_digest, sizeof(n->initial_digest));
    if (!n->initial || pfl_core_is_initial(n, n->initial))
        return;
    pfl_core_note_text(n, PFL_NOTE_WARNING, start->source,
                       "an initial model that came early is not the one that start_learning names");
    pfl_payload_unref(n->initial);
    n->initial = NULL;
}

bool pfl_core_is_initial(const struct pfl_node *n, const struct pfl_payload *p)
{
    return !n->has_initial_digest || (p->has_digest && memcmp(p->digest, n->initial_digest, sizeof(n->initial_digest)) == 0);
}

/* ---- who shows a newcomer that an experiment was started by somebody who may ---- */

void pfl_core_keep_start(struct pfl_node *n, struct pfl_scatter *body)
{
    pfl_scatter_unref(n->start_body);
    n->start_body = body ? pfl_scatter_ref(body) : NULL;
}

void pfl_core_remember(struct pfl_node *n, const char *experiment)
{
    if (!experiment || pfl_strs_has(&n->past, experiment))
        return;
    if (n->past.n == PFL_PAST_MAX) {
        PFL_AUTO(pfl_freep) char *oldest = pfl_xstrdup(n->past.items[0]);
        (void)pfl_strs_remove(&n->past, oldest);
    }
    pfl_strs_add(&n->past, experiment);
}
