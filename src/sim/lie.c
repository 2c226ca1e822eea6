/* SPDX-License-Identifier: Apache-2.0 */
/* Byzantine nodes: a real core whose messages are changed on their way out, and some that it never meant to send. A liar lies in
 * its own name only: others' messages carry others' signatures. What it does to its neighbours is lie; what it believes itself is
 * nobody's business, so nothing is asked of it at the end. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"

static const pfl_ns lie_period = PFL_SEC / 3;
static const float poison_value = -1000.0F;
static const float false_value = -2000.0F;

/* A message of its own that says the same as m. */
static struct pfl_msg *copy_msg(const struct pfl_msg *m)
{
    struct pfl_msg *c = pfl_msg_new(m->source, m->round, m->cmd, m->kind);
    c->ttl = m->ttl;
    c->hash = m->hash;
    pfl_strs_copy(&c->args, &m->args);
    pfl_strs_copy(&c->contributors, &m->contributors);
    c->num_samples = m->num_samples;
    c->codec = m->codec ? pfl_xstrdup(m->codec) : NULL;
    c->has_digest = m->has_digest;
    c->has_model_digest = m->has_model_digest;
    memcpy(c->digest, m->digest, sizeof(c->digest));
    memcpy(c->model_digest, m->model_digest, sizeof(c->model_digest));
    c->has_contribution = m->has_contribution;
    c->contribution_samples = m->contribution_samples;
    memcpy(c->contribution, m->contribution, sizeof(c->contribution));
    c->computed = m->computed;
    c->sign_for = m->origin ? pfl_xstrdup(m->origin->experiment) : m->sign_for ? pfl_xstrdup(m->sign_for) : NULL;
    return c;
}

/* Takes m. */
static struct pfl_scatter *encode(struct pfl_sim *s, unsigned i, struct pfl_msg *m, const struct pfl_payload *p)
{
    struct pfl_scatter *body = NULL;
    enum pfl_rc rc = pfl_msg_encode(m, p, &body, NULL);
    PFL_ASSERT(rc == PFL_OK);
    pfl_sim_sign(s, i, body);
    pfl_msg_unref(m);
    return body;
}

/* A body that stands for itself: what it carries is decoded and judged by whoever gets it. */
static struct pfl_scatter *flat(struct pfl_scatter *body)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *taken = body;
    struct pfl_buf b = {0};
    for (size_t k = 0; k < taken->n; k++)
        pfl_buf_append(&b, taken->parts[k].data, taken->parts[k].len);
    struct pfl_scatter *out = pfl_scatter_of(b.data, b.len);
    pfl_buf_deinit(&b);
    return out;
}

/* ---- weights ---- */

static struct pfl_payload *nan_payload(struct pfl_sim *s)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    enum pfl_rc rc = pfl_model_new(s->layout, &m, NULL);
    PFL_ASSERT(rc == PFL_OK);
    memset(pfl_model_data_mut(m), 0xff, s->layout->bytes); /* every float of all ones is a NaN */
    return pfl_sim_payload(s, m);
}

static struct pfl_payload *other_layout(struct pfl_sim *s)
{
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {3}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    enum pfl_rc rc = pfl_layout_new(&desc, 1, &layout, NULL);
    PFL_ASSERT(rc == PFL_OK);
    rc = pfl_model_new(layout, &m, NULL);
    PFL_ASSERT(rc == PFL_OK);
    return pfl_sim_payload(s, m);
}

/* Finite numbers of the right shape, and nothing that anybody learned. */
static struct pfl_payload *poison(struct pfl_sim *s, float value)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    enum pfl_rc rc = pfl_model_new(s->layout, &m, NULL);
    PFL_ASSERT(rc == PFL_OK);
    float *w = (float *)(void *)pfl_model_data_mut(m);
    for (size_t k = 0; s->layout->tensors[0].dtype == PFL_F32 && k < s->layout->bytes / sizeof(*w); k++)
        w[k] = value;
    return pfl_sim_payload(s, m);
}

static struct pfl_payload *wrong_payload(struct pfl_sim *s, unsigned i, unsigned to)
{
    switch (s->nodes[i].lie) {
    case PFL_SIM_LIE_NAN:
        return nan_payload(s);
    case PFL_SIM_LIE_POISON:
        return poison(s, poison_value);
    case PFL_SIM_LIE_TWO_FACED:
        return poison(s, (float)to);
    default:
        return other_layout(s);
    }
}

static struct pfl_scatter *wrong_weights(struct pfl_sim *s, unsigned i, unsigned to, const struct pfl_msg *m)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = wrong_payload(s, i, to);
    struct pfl_msg *c = copy_msg(m);
    memcpy(c->digest, p->digest, sizeof(c->digest));
    c->has_digest = true;
    return flat(encode(s, i, c, p));
}

/* Who poisons everybody with the same announces that. */
static struct pfl_scatter *poison_announced(struct pfl_sim *s, unsigned i, const struct pfl_msg *m)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = poison(s, poison_value);
    struct pfl_msg *c = copy_msg(m);
    memcpy(c->contribution, p->digest, sizeof(c->contribution));
    return encode(s, i, c, NULL);
}

/* It ends every round with what suits it: says that it computed that, and pushes it to who asks for the round's aggregate. */
static struct pfl_scatter *false_result(struct pfl_sim *s, unsigned i, const struct pfl_msg *m)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = poison(s, false_value);
    struct pfl_msg *c = copy_msg(m);
    bool weights = m->kind == PFL_MSG_WEIGHTS;
    memcpy(s->false_result, p->digest, sizeof(s->false_result));
    s->has_false_result = true;
    c->has_model_digest = true;
    memcpy(c->model_digest, p->digest, sizeof(c->model_digest));
    c->computed = !weights;
    if (!weights)
        return encode(s, i, c, NULL);
    c->has_digest = true;
    memcpy(c->digest, p->digest, sizeof(c->digest));
    return flat(encode(s, i, c, p));
}

static struct pfl_scatter *forged(struct pfl_sim *s, unsigned i, const struct pfl_msg *m, const struct pfl_scatter *body)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_msg *c = copy_msg(m);
    switch (pfl_rng_below(&x->rng, 4)) {
    case 0: /* everybody's work is its own */
        for (unsigned k = 0; k < s->n; k++)
            pfl_strs_add_once(&c->contributors, s->nodes[k].addr);
        break;
    case 1: /* twice the same */
        pfl_strs_add(&c->contributors, x->addr);
        break;
    case 2:
        pfl_strs_deinit(&c->contributors);
        pfl_strs_add(&c->contributors, "10.9.9.9:6666"); /* nobody's */
        break;
    default:
        c->num_samples = -5;
        break;
    }
    return encode(s, i, c, body->keep);
}

/* ---- votes ---- */

static struct pfl_scatter *another_vote(struct pfl_sim *s, unsigned i, unsigned to, const struct pfl_msg *m)
{
    struct pfl_msg *c = copy_msg(m);
    pfl_strs_deinit(&c->args);
    for (unsigned k = 0; k < 3 && k < s->n; k++) {
        char votes[16];
        snprintf(votes, sizeof(votes), "%u", 1000 - 100 * k);
        pfl_strs_add(&c->args, s->nodes[(to + i + k) % s->n].addr);
        pfl_strs_add(&c->args, votes);
    }
    return encode(s, i, c, NULL);
}

static struct pfl_scatter *stuffed_vote(struct pfl_sim *s, unsigned i, const struct pfl_msg *m)
{
    static const char *const counts[] = {"1000000000", "-1", "1000", "1e9"};
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_msg *c = copy_msg(m);
    pfl_strs_deinit(&c->args);
    for (unsigned k = 0; k < 1 + (unsigned)pfl_rng_below(&x->rng, 3); k++) {
        pfl_strs_add(&c->args, x->addr);
        pfl_strs_add(&c->args, counts[pfl_rng_below(&x->rng, PFL_ARRAY_LEN(counts))]);
    }
    return encode(s, i, c, NULL);
}

struct pfl_scatter *pfl_sim_lie(struct pfl_sim *s, unsigned i, unsigned to, const struct pfl_msg *m, struct pfl_scatter *body)
{
    const struct pfl_sim_node *x = &s->nodes[i];
    bool own = pfl_streq(m->source, x->addr);
    bool partial = own && m->kind == PFL_MSG_WEIGHTS && pfl_streq(m->cmd, "partial_model");
    bool vote = own && pfl_streq(m->cmd, "vote_train_set");
    switch (x->lie) {
    case PFL_SIM_LIE_POISON:
        if (own && m->has_contribution)
            return poison_announced(s, i, m);
        return partial ? wrong_weights(s, i, to, m) : pfl_scatter_ref(body);
    case PFL_SIM_LIE_NAN:
    case PFL_SIM_LIE_LAYOUT:
    case PFL_SIM_LIE_TWO_FACED:
        return partial ? wrong_weights(s, i, to, m) : pfl_scatter_ref(body);
    case PFL_SIM_LIE_CONTRIBUTORS:
        return partial ? forged(s, i, m, body) : pfl_scatter_ref(body);
    case PFL_SIM_LIE_EQUIVOCATE:
        return vote ? another_vote(s, i, to, m) : pfl_scatter_ref(body);
    case PFL_SIM_LIE_STUFF:
        return vote ? stuffed_vote(s, i, m) : pfl_scatter_ref(body);
    case PFL_SIM_LIE_SILENCE: /* of its own only: it would be found out by what does not come through it otherwise */
        return own && strncmp(m->cmd, "beat", 4) != 0 ? NULL : pfl_scatter_ref(body);
    case PFL_SIM_LIE_FALSE_RESULT:
        return own && (pfl_streq(m->cmd, "models_ready") || pfl_streq(m->cmd, "add_model")) ? false_result(s, i, m)
                                                                                            : pfl_scatter_ref(body);
    case PFL_SIM_LIE_REPLAY:
    case PFL_SIM_LIE_IMPERSONATE:
    case PFL_SIM_LIES:
        break;
    }
    return pfl_scatter_ref(body);
}

/* ---- what it says by itself ---- */

void pfl_sim_lie_saw(struct pfl_sim *s, unsigned i, const struct pfl_msg *m)
{
    struct pfl_sim_node *x = &s->nodes[i];
    if (x->lie != PFL_SIM_LIE_REPLAY || !m->blob || m->kind != PFL_MSG_GOSSIP || strncmp(m->cmd, "beat", 4) == 0)
        return;
    size_t k = x->n_kept < PFL_ARRAY_LEN(x->kept) ? x->n_kept++ : (size_t)pfl_rng_below(&x->rng, PFL_ARRAY_LEN(x->kept));
    pfl_scatter_unref(x->kept[k]);
    x->kept[k] = pfl_scatter_of(m->blob->data, m->blob->len);
}

static void tell_neighbours(struct pfl_sim *s, unsigned i, struct pfl_scatter *body)
{
    for (unsigned k = 0; k < s->n; k++) {
        if (k != i && pfl_sim_channel(s, i, k) && pfl_sim_up(s, k))
            pfl_sim_send_body(s, i, k, body);
    }
}

/* Its own vote, or one in another's name, which it can sign only as itself. */
static void stuff(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    bool forges = x->lie == PFL_SIM_LIE_IMPERSONATE, stops = forges && pfl_rng_below(&x->rng, 4) == 0;
    const struct pfl_sim_node *as = forges ? &s->nodes[stops ? 0 : pfl_rng_below(&x->rng, s->n)] : x;
    const char *cmd = stops ? "stop_learning" : "vote_train_set";
    struct pfl_msg m = {.source = (char *)(uintptr_t)as->addr,
                        .round = stops ? -1 : x->watch.round,
                        .cmd = (char *)(uintptr_t)cmd,
                        .kind = PFL_MSG_GOSSIP};
    m.ttl = 10;
    m.hash = (int64_t)pfl_rng_u64(&x->rng); /* anew each time: no hash betrays it */
    struct pfl_snapshot snap;
    pfl_node_snapshot(x->core, &snap);
    m.sign_for = snap.experiment;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = stops ? encode(s, i, copy_msg(&m), NULL) : stuffed_vote(s, i, &m);
    tell_neighbours(s, i, body);
    pfl_snapshot_deinit(&snap);
}

void pfl_sim_lie_now(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    bool speaks = x->lie == PFL_SIM_LIE_STUFF || x->lie == PFL_SIM_LIE_IMPERSONATE;
    if (!x->lies || !s->learning || (!speaks && x->lie != PFL_SIM_LIE_REPLAY))
        return;
    if (x->core && speaks && x->watch.running)
        stuff(s, i);
    else if (x->core && x->n_kept > 0)
        tell_neighbours(s, i, x->kept[pfl_rng_below(&x->rng, x->n_kept)]);
    pfl_sim_post(s, s->now + lie_period, PFL_SIM_IT_LIE, i);
}
