/* SPDX-License-Identifier: Apache-2.0 */
/* The command `state` (direct, between our nodes): "I am in that round of that experiment; where are you?" A node asks whoever it
 * gets a link with, and its neighbours when it seems to be behind. Round -1: it is in none; the experiment's name, where it gives
 * one, is then that of the one that it ended in order, whose result it knows. The answer is a text:
 *
 *   ROUND ROUNDS EPOCHS SIZE STAGE DIGEST NAME
 *   MEMBER
 *   ...
 *
 * STAGE is v (the round's votes are not counted yet), t (its train set is known, and follows where it fits into an answer) or e
 * (the experiment has ended; ROUND is its last one). DIGEST (hex) is that of the model that the round began with, "-" where it is
 * not known. No experiment: an empty answer. Where the asker is behind, the one that answers pushes that model to it; see join.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "node/join.h"
#include "wire/limits.h"

enum { MEMBERS_BYTES_MAX = 3000 };

/* ---- answering ---- */

static const struct pfl_payload *model_before(const struct pfl_node *n, int32_t round)
{
    const struct pfl_round *before = round > 0 ? pfl_core_round(n, round - 1) : NULL;
    if (round == 0)
        return n->initial;
    return before && before->done ? before->aggregate : NULL;
}

static void put_members(const struct pfl_round *r, struct pfl_buf *b)
{
    size_t bytes = 0;
    for (size_t i = 0; i < r->members.n; i++) {
        bytes += strlen(r->members.items[i]) + 1;
        if (strchr(r->members.items[i], '\n'))
            return;
    }
    for (size_t i = 0; bytes <= MEMBERS_BYTES_MAX && i < r->members.n; i++) {
        (void)pfl_buf_append_str(b, "\n");
        (void)pfl_buf_append_str(b, r->members.items[i]);
    }
}

static void put_digest(const struct pfl_payload *p, struct pfl_buf *b)
{
    for (size_t i = 0; p && p->has_digest && i < sizeof(p->digest); i++)
        (void)pfl_buf_printf(b, "%02x", p->digest[i]);
    if (!p || !p->has_digest)
        (void)pfl_buf_append_str(b, "-");
}

static char *describe(const struct pfl_node *n, int32_t round)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {.limit = PFL_WIRE_RESPONSE_MAX};
    const struct pfl_round *r = pfl_core_round(n, round);
    char stage = n->over ? 'e' : r && (r->decided || r->done) ? 't' : 'v';
    (void)pfl_buf_printf(&b, "%d %u %u %u %c ", round, n->rounds, n->epochs, n->trainset_size, stage);
    put_digest(model_before(n, round), &b);
    (void)pfl_buf_printf(&b, " %s", n->experiment);
    if (r && r->decided)
        put_members(r, &b);
    return pfl_xstrdup(pfl_buf_cstr(&b));
}

/* What this node believed of the asker is of its former life: models are pushed to it anew. Whether it has ended a round it says
 * again itself where it still knows that. */
static void forget_former_life(struct pfl_node *n, struct pfl_peer *p, bool knows_rounds)
{
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++) {
        struct pfl_round_peer *row = n->kept[i] ? pfl_round_find(n->kept[i], p->addr) : NULL;
        if (!row)
            continue;
        struct pfl_trainer *t = pfl_round_trainer_of(n->kept[i], row);
        if (t)
            pfl_strs_deinit(&t->holds);
        if (!knows_rounds)
            pfl_round_unset_ready(n->kept[i], row);
    }
    p->initialized = p->initialized && knows_rounds;
    pfl_spread_forget(&n->spread, p->addr);
    pfl_offers_forget(&n->offers, p->addr);
}

/* All there is: it may have lost what it had. Megabytes at most, so not at each question. */
static void hand_evidence(struct pfl_node *n, struct pfl_peer *p)
{
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    if (n->evidence.n_bodies == 0 || (c->proof_at > 0 && n->now - c->proof_at < n->set.heartbeat_period))
        return;
    c->proof_at = n->now;
    pfl_core_hand_evidence(n, p);
}

enum pfl_rc pfl_core_cmd_state(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    const char *name = in->msg->args.items[0];
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, in->msg->source);
    bool started = n->learning && n->stage != PFL_STAGE_STARTING;
    bool anew = in->msg->args.n > 2 && strcmp(in->msg->args.items[2], "anew") == 0;
    int64_t theirs;
    if (!pfl_parse_i64(in->msg->args.items[1], -1, PFL_ROUNDS_MAX, &theirs))
        return pfl_err_set(err, PFL_MALFORMED, "state: round %s", pfl_q(in->msg->args.items[1]));
    if (!p || p->link == PFL_LINK_NONE)
        return pfl_err_set(err, PFL_STATE, "state: %s is no neighbour of this node", pfl_q(in->msg->source));
    if (!started && !n->over)
        return PFL_OK;
    int32_t round = n->over ? (int32_t)n->rounds - 1 : n->round;
    struct pfl_round *last = n->over ? pfl_core_round(n, round) : NULL;
    bool same = theirs >= 0 && pfl_streq(name, n->experiment);
    bool ended = theirs < 0 && pfl_streq(name, n->experiment); /* there, in order: it needs nothing, and what it said holds */
    in->text = describe(n, round);
    /* It was somewhere else when this was said: nobody should wait for it at the end. Not at each question: a flood is dearer than
     * one. */
    if (same && last && last->done && n->said_again_at + n->set.heartbeat_period <= n->now) {
        n->said_again_at = n->now;
        pfl_core_announce_ready(n, last);
    }
    if ((theirs < 0 && !ended) || anew)
        forget_former_life(n, p, same);
    /* The words of who started it; ours are no proof. One that was started anew needs them for those who ask it in turn. */
    if (((!same && !ended) || (anew && n->set.signatures)) && n->learning && n->start_body)
        pfl_outbox_add(&n->outbox, p->addr, n->start_body, 0, n->now, false);
    if (n->learning && (!same || theirs < round || anew))
        hand_evidence(n, p);
    if (same ? theirs < round || n->over : theirs < 0 && !ended && !n->over) {
        p->joins = true;
        n->dirty = true;
    }
    return PFL_OK;
}

/* ---- reading an answer ---- */

static bool take_word(const char **at, char *out, size_t size)
{
    const char *end = strchr(*at, ' ');
    if (!end || (size_t)(end - *at) >= size || end == *at)
        return false;
    memcpy(out, *at, (size_t)(end - *at));
    out[end - *at] = '\0';
    *at = end + 1;
    return true;
}

static bool take_number(const char **at, int64_t min, int64_t max, int64_t *ret)
{
    char word[16];
    return take_word(at, word, sizeof(word)) && pfl_parse_i64(word, min, max, ret);
}

static bool take_digest(const char **at, struct pfl_state *ret)
{
    char word[2 * PFL_DIGEST_LEN + 1];
    if (!take_word(at, word, sizeof(word)))
        return false;
    ret->has_digest = strcmp(word, "-") != 0;
    if (!ret->has_digest)
        return true;
    if (strlen(word) != 2 * PFL_DIGEST_LEN || strspn(word, "0123456789abcdef") != 2 * PFL_DIGEST_LEN)
        return false;
    for (size_t i = 0; i < PFL_DIGEST_LEN; i++) {
        const char byte[3] = {word[2 * i], word[2 * i + 1], '\0'};
        ret->digest[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    return true;
}

static bool take_members(const char *line, struct pfl_strs *ret)
{
    for (const char *end; *line; line = *end ? end + 1 : end) {
        end = strchrnul(line, '\n');
        size_t len = (size_t)(end - line);
        if (len == 0 || len >= PFL_ADDR_MAX || ret->n >= PFL_TRAINSET_MAX)
            return false;
        pfl_strs_addn(ret, line, len);
    }
    pfl_strs_sort(ret);
    for (size_t i = 1; i < ret->n; i++) {
        if (strcmp(ret->items[i - 1], ret->items[i]) == 0)
            return false;
    }
    return true;
}

void pfl_state_deinit(struct pfl_state *s)
{
    pfl_strs_deinit(&s->members);
    *s = (struct pfl_state){0};
}

bool pfl_state_parse(const char *text, struct pfl_state *ret)
{
    int64_t round, rounds, epochs, size;
    char stage[2];
    *ret = (struct pfl_state){0};
    if (!take_number(&text, 0, PFL_ROUNDS_MAX, &round) || !take_number(&text, 1, PFL_ROUNDS_MAX, &rounds) ||
        !take_number(&text, 0, PFL_EPOCHS_MAX, &epochs) || !take_number(&text, 1, PFL_TRAINSET_MAX, &size) || round >= rounds ||
        !take_word(&text, stage, sizeof(stage)) || !strchr("vte", stage[0]) || !take_digest(&text, ret))
        return false;
    const char *end = strchrnul(text, '\n');
    size_t len = (size_t)(end - text);
    if (len == 0 || len > PFL_EXPERIMENT_NAME_MAX)
        return false;
    memcpy(ret->name, text, len);
    ret->name[len] = '\0';
    ret->round = (int32_t)round;
    ret->rounds = (unsigned)rounds;
    ret->epochs = (unsigned)epochs;
    ret->trainset_size = (unsigned)size;
    ret->ended = stage[0] == 'e';
    if (take_members(*end ? end + 1 : end, &ret->members))
        return true;
    pfl_state_deinit(ret);
    return false;
}
