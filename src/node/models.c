/* SPDX-License-Identifier: Apache-2.0 */
/* Models in. The driver has decoded the payload and checked digest, layout and that all numbers are finite; here it is decided
 * whether the model is wanted. What comes too early is kept (one for each source and round), what comes too late is no error. */
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

/* ---- PRE_SEND_MODEL ---- */

static bool wants_partial(struct pfl_node *n, const struct pfl_incoming *in, const struct pfl_strs *who)
{
    struct pfl_round *r = n->learning && in->msg->round >= n->round ? pfl_core_round_get(n, in->msg->round) : NULL;
    if (!r || r->done || (r->round == n->round && n->stage == PFL_STAGE_AGGREGATING))
        return false;
    if (r->decided)
        return pfl_round_is_member(r, n->addr) && pfl_book_check(&r->book, &r->members, who, 1, NULL) == PFL_BOOK_FITS;
    return in->peer && !pfl_round_trainer(r, pfl_round_get(r, in->peer->addr))->early.payload &&
           pfl_book_check(&r->book, NULL, who, 1, NULL) == PFL_BOOK_FITS;
}

/* Nothing better than what was offered already is to be expected: the common result, or, while nobody knows which that is, what a
 * member vouches for. */
static bool is_good_offer(const struct pfl_node *n, const struct pfl_round *r)
{
    if (!r->offered || !r->offered->has_digest)
        return false;
    struct pfl_canon c = pfl_core_canonical(n, r);
    if (c.by)
        return memcmp(c.digest, r->offered->digest, PFL_DIGEST_LEN) == 0;
    return pfl_round_announced_by_member(r, r->offered->digest);
}

static bool wants_add(struct pfl_node *n, const struct pfl_incoming *in)
{
    struct pfl_round *r = in->peer ? pfl_core_round_get(n, in->msg->round) : NULL;
    if (!r || (r->done && !pfl_core_off_canon(n, r)))
        return false;
    bool last = r->round == (int32_t)n->rounds - 1;
    if (r->done && !last && !pfl_core_replaceable(n, r))
        return false; /* the next round is built on what there was */
    return !is_good_offer(n, r);
}

static bool wants_init(const struct pfl_node *n, const struct pfl_incoming *in)
{
    return in->peer && (n->learning ? !n->initial : !n->early_init);
}

enum pfl_rc pfl_core_cmd_pre_send(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    const struct pfl_strs *args = &in->msg->args;
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs who = {0};
    enum pfl_push_kind kind;
    bool wanted;
    if (strcmp(args->items[0], "partial_model") == 0) {
        kind = PFL_PUSH_PARTIAL;
        for (size_t i = 1; i < args->n; i++)
            pfl_strs_add(&who, args->items[i]);
        pfl_strs_sort(&who);
        wanted = wants_partial(n, in, &who);
    } else if (strcmp(args->items[0], "add_model") == 0) {
        kind = PFL_PUSH_ADD;
        wanted = wants_add(n, in);
    } else if (strcmp(args->items[0], "init_model") == 0) {
        kind = PFL_PUSH_INIT;
        wanted = wants_init(n, in);
    } else {
        return pfl_err_set(err, PFL_MALFORMED, "PRE_SEND_MODEL: '%s' is no model command", pfl_q(args->items[0]));
    }
    pfl_ns until = n->now + pfl_core_bulk_timeout(n) + n->set.retry_period;
    bool counts = !pfl_core_excluded(n, in->msg->source) && !pfl_core_barred(n, in->msg->source); /* else its model is refused */
    wanted =
        wanted && counts &&
        pfl_offers_take(&n->offers, kind, in->msg->round, in->msg->source, &who, n->now, until, n->now + 2 * n->set.retry_period);
    in->answer = wanted ? "true" : "false";
    in->hello = true; /* the asker may not be a neighbour, and know nothing of this node */
    return PFL_OK;
}

/* ---- weights ---- */

static enum pfl_rc need_payload(const struct pfl_incoming *in, struct pfl_err *err)
{
    if (in->ev->payload)
        return PFL_OK;
    return pfl_err_set(err, PFL_MALFORMED, "%s: %s", in->msg->cmd, in->ev->text ? in->ev->text : "no usable model");
}

enum pfl_rc pfl_core_cmd_init_model(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    pfl_offers_arrived(&n->offers, PFL_PUSH_INIT, in->msg->round, in->msg->source);
    enum pfl_rc rc = need_payload(in, err);
    if (rc != PFL_OK || !wants_init(n, in))
        return rc;
    if (n->learning && !pfl_core_is_initial(n, in->ev->payload))
        return pfl_err_set(err, PFL_AUTH, "init_model: %s sent another model than start_learning of '%s' names (signed by %s)",
                           pfl_q(in->msg->source), pfl_q(n->experiment), in->ev->signer ? pfl_q(in->ev->signer->id) : "nobody");
    if (n->learning) {
        n->initial = pfl_payload_ref(in->ev->payload);
        n->dirty = true;
        return PFL_OK;
    }
    n->early_init = pfl_payload_ref(in->ev->payload);
    free(n->early_init_of);
    n->early_init_of = in->msg->origin ? pfl_xstrdup(in->msg->origin->experiment) : NULL;
    if (n->early_until == PFL_NEVER)
        n->early_until = n->now + n->set.aggregation_timeout;
    return PFL_OK;
}

static enum pfl_rc keep_early(struct pfl_incoming *in, struct pfl_round *r, struct pfl_err *err)
{
    const struct pfl_msg *m = in->msg;
    if (!in->peer)
        return pfl_err_set(err, PFL_STATE, "partial_model: %s is not known here yet", pfl_q(m->source));
    struct pfl_early *e = &pfl_round_trainer(r, pfl_round_get(r, m->source))->early;
    if (pfl_book_check(&r->book, NULL, &m->contributors, m->num_samples, err) == PFL_BOOK_REFUSED)
        return err->rc;
    if (e->payload)
        return pfl_err_set(err, PFL_STATE, "partial_model: one early model of a node is kept, not two");
    e->payload = pfl_payload_ref(in->ev->payload);
    e->n_samples = (uint64_t)m->num_samples;
    pfl_strs_copy(&e->who, &m->contributors);
    return PFL_OK;
}

enum pfl_rc pfl_core_cmd_partial_model(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    const struct pfl_msg *m = in->msg;
    pfl_offers_arrived(&n->offers, PFL_PUSH_PARTIAL, m->round, m->source);
    pfl_offers_fulfilled(&n->offers, PFL_PUSH_PARTIAL, m->round, &m->contributors);
    enum pfl_rc rc = need_payload(in, err);
    if (rc != PFL_OK)
        return rc;
    if (!n->learning)
        return pfl_err_set(err, PFL_STATE, "partial_model: this node is not learning");
    if (m->round >= 0 && m->round < n->round)
        return PFL_OK;
    struct pfl_round *r = pfl_core_round_get(n, m->round);
    if (!r)
        return pfl_err_set(err, PFL_STATE, "partial_model: round %d is far from this node's %d", m->round, n->round);
    if (!r->decided && !r->done)
        return keep_early(in, r, err);
    if (!pfl_round_is_member(r, n->addr))
        return pfl_err_set(err, PFL_INVALID, "partial_model: this node is not in the train set of round %d", m->round);
    enum pfl_book_verdict v = pfl_book_check(&r->book, &r->members, &m->contributors, m->num_samples, err);
    if (v == PFL_BOOK_REFUSED && pfl_core_plain_overtaken(n, in, r))
        return PFL_OK;
    if (v == PFL_BOOK_REFUSED)
        return err->rc;
    if (v == PFL_BOOK_FITS && !r->done && n->stage != PFL_STAGE_AGGREGATING)
        pfl_core_contribute(n, r, m->source, &m->contributors, in->ev->payload, (uint64_t)m->num_samples);
    return PFL_OK;
}

enum pfl_rc pfl_core_cmd_add_model(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    pfl_offers_arrived(&n->offers, PFL_PUSH_ADD, in->msg->round, in->msg->source);
    enum pfl_rc rc = need_payload(in, err);
    if (rc != PFL_OK)
        return rc;
    if ((!n->learning && !n->over) || pfl_core_foreign(n, in->msg))
        return pfl_err_set(err, PFL_STATE, "add_model: this node is not learning%s", n->over ? " in that experiment" : "");
    if (wants_add(n, in)) {
        pfl_round_set_offer(pfl_core_round_get(n, in->msg->round), in->ev->payload, in->msg->source);
        n->dirty = true;
    }
    return PFL_OK;
}
