/* SPDX-License-Identifier: Apache-2.0 */
/* Calls between nodes: sends, handshakes, goodbyes, and their answers. A call that is lost on the way, or whose receiver does not
 * answer, ends for its caller with a timeout or a reset, as the network says. Weights are handed over by reference; everything
 * else is decoded from the bytes that were sent. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"

static const pfl_ns dial_timeout = 3 * PFL_SEC;

/* ---- the table of calls ---- */

uint64_t pfl_sim_call_new(struct pfl_sim *s, enum pfl_sim_call_kind kind, unsigned from, unsigned to, pfl_ns deadline)
{
    uint32_t slot = s->free_call;
    if (slot == 0) {
        if (s->n_calls == s->cap_calls) {
            s->cap_calls = s->cap_calls ? 2 * s->cap_calls : 256;
            s->calls = pfl_xrealloc(s->calls, s->cap_calls * sizeof(*s->calls));
        }
        s->calls[s->n_calls++] = (struct pfl_sim_call){0};
        slot = (uint32_t)s->n_calls;
    } else {
        s->free_call = s->calls[slot - 1].next_free;
    }
    struct pfl_sim_call *c = &s->calls[slot - 1];
    *c = (struct pfl_sim_call){.kind = kind,
                               .from = from,
                               .to = to,
                               .incarnation = s->nodes[from].incarnation,
                               .generation = c->generation + 1,
                               .deadline = deadline,
                               .used = true,
                               .unanswered = true,
                               .untold = kind == PFL_SIM_CALL_SEND || kind == PFL_SIM_CALL_HANDSHAKE};
    if (c->untold)
        s->nodes[from].calls++;
    return (uint64_t)c->generation << 32 | slot;
}

static struct pfl_sim_call *call_of(struct pfl_sim *s, uint64_t token)
{
    uint32_t slot = (uint32_t)token;
    if (slot == 0 || slot > s->n_calls)
        return NULL;
    struct pfl_sim_call *c = &s->calls[slot - 1];
    return c->used && c->generation == token >> 32 ? c : NULL;
}

static void release(struct pfl_sim *s, struct pfl_sim_call *c)
{
    if (c->unanswered || c->untold)
        return;
    c->used = false;
    c->next_free = s->free_call;
    s->free_call = (uint32_t)(c - s->calls) + 1;
}

/* The caller hears at `at` what became of its call. said: static text, or NULL for text (copied). */
static void tell(struct pfl_sim *s, struct pfl_sim_call *c, pfl_ns at, enum pfl_rc rc, const char *said, const char *text,
                 bool hello)
{
    if (!c->untold)
        return;
    c->untold = false;
    s->nodes[c->from].calls--;
    if (c->incarnation != s->nodes[c->from].incarnation)
        return;
    enum pfl_event_kind kind = c->kind == PFL_SIM_CALL_SEND ? PFL_EV_SENT : rc == PFL_OK ? PFL_EV_LINK_UP : PFL_EV_LINK_DOWN;
    struct pfl_sim_item *it = pfl_sim_post_event(s, at, kind, c->from, text);
    if (said)
        pfl_sim_set_text(it, said, true);
    it->rc = rc;
    it->id = c->send_id;
    it->from = c->to;
    it->hello = hello;
    if (c->kind == PFL_SIM_CALL_HANDSHAKE)
        pfl_sim_channel_set(s, c->from, c->to, rc == PFL_OK);
    else if (rc == PFL_UNAVAILABLE || rc == PFL_TIMEOUT)
        pfl_sim_check_undelivered(s, c->from, c->to, c->key);
}

/* The request or the answer is lost. */
static void tell_lost(struct pfl_sim *s, struct pfl_sim_call *c)
{
    if (s->sc->net.silent || !pfl_sim_net_reaches(s->net, c->from, c->to) || !pfl_sim_net_reaches(s->net, c->to, c->from))
        tell(s, c, c->deadline > s->now ? c->deadline : s->now, PFL_TIMEOUT, "deadline exceeded", NULL, false);
    else
        tell(s, c, s->now + pfl_sim_net_latency(s->net, c->to, c->from), PFL_UNAVAILABLE, "connection reset", NULL, false);
}

void pfl_sim_timeout(struct pfl_sim *s, const struct pfl_sim_item *it)
{
    struct pfl_sim_call *c = call_of(s, it->id);
    if (!c)
        return;
    tell(s, c, s->now, PFL_TIMEOUT, "deadline exceeded", NULL, false);
    release(s, c);
}

void pfl_sim_call_waits(struct pfl_sim *s, uint64_t token)
{
    const struct pfl_sim_call *c = call_of(s, token);
    if (c && c->untold)
        pfl_sim_post(s, c->deadline, PFL_SIM_IT_TIMEOUT, c->from)->id = token;
}

void pfl_sim_calls_break(struct pfl_sim *s, unsigned a, unsigned b)
{
    for (size_t i = 0; i < s->n_calls; i++) {
        struct pfl_sim_call *c = &s->calls[i];
        if (!c->used || !c->untold || !((c->from == a && c->to == b) || (c->from == b && c->to == a)))
            continue;
        tell_lost(s, c);
        c->unanswered = c->unanswered && pfl_sim_up(s, c->to);
        release(s, c);
    }
}

void pfl_sim_calls_forget(struct pfl_sim *s, unsigned caller)
{
    for (size_t i = 0; i < s->n_calls; i++) {
        struct pfl_sim_call *c = &s->calls[i];
        if (!c->used)
            continue;
        if (c->from == caller && c->untold) {
            c->untold = false;
            s->nodes[caller].calls--;
        }
        unsigned receiver = c->kind == PFL_SIM_CALL_OPERATOR ? c->from : c->to;
        if (receiver == caller && !c->untold)
            c->unanswered = false;
        release(s, c);
    }
}

/* ---- sending ---- */

/* The slot of these bytes. */
static struct pfl_msg **lately_of(struct pfl_sim *s, const struct pfl_blob *body)
{
    uint64_t h = body->len;
    for (size_t at = 0; at < body->len; at += sizeof(h)) {
        uint64_t v = 0;
        memcpy(&v, body->data + at, body->len - at < sizeof(v) ? body->len - at : sizeof(v));
        h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    if (!s->lately)
        s->lately = pfl_xcalloc(PFL_SIM_LATELY, sizeof(struct pfl_msg *));
    return &s->lately[h & (PFL_SIM_LATELY - 1)];
}

static void remember(struct pfl_sim *s, struct pfl_scatter *body, struct pfl_msg *m)
{
    pfl_msg_unref(s->last_msg);
    pfl_scatter_unref(s->last_body);
    s->last_body = pfl_scatter_ref(body);
    s->last_msg = pfl_msg_ref(m);
}

struct pfl_msg *pfl_sim_msg_of(struct pfl_sim *s, unsigned i, struct pfl_scatter *body)
{
    if (body == s->last_body)
        return pfl_msg_ref(s->last_msg);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_new(body->total);
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    struct pfl_err err = {0};
    size_t off = 0;
    for (size_t k = 0; k < body->n; k++) {
        memcpy(blob->data + off, body->parts[k].data, body->parts[k].len);
        off += body->parts[k].len;
    }
    struct pfl_msg **lately = body->keep ? NULL : lately_of(s, blob); /* no models: those are not gossip */
    if (lately && *lately && (*lately)->blob->len == blob->len && memcmp((*lately)->blob->data, blob->data, blob->len) == 0) {
        remember(s, body, *lately);
        return pfl_msg_ref(*lately);
    }
    if (pfl_msg_decode(blob, &m, &err) != PFL_OK) {
        pfl_sim_fail(s, "codec", i, "sends what cannot be decoded: %s", err.msg);
        return NULL;
    }
    remember(s, body, m);
    if (lately && m->kind == PFL_MSG_GOSSIP) {
        pfl_msg_unref(*lately);
        *lately = pfl_msg_ref(m);
    }
    return pfl_steal(&m);
}

static void count(struct pfl_sim *s, unsigned from, unsigned to, const struct pfl_msg *m, size_t bytes)
{
    struct pfl_sim_result *r = s->result;
    if (!s->learning)
        return;
    s->nodes[from].traffic.messages_sent++;
    s->nodes[from].traffic.bytes_sent += bytes;
    s->nodes[to].traffic.messages_received++;
    s->nodes[to].traffic.bytes_received += bytes;
    r->messages++;
    r->bytes += bytes;
    r->beats += strncmp(m->cmd, "beat", 4) == 0;
    size_t k = 0;
    while (k < r->n_commands && strcmp(r->commands[k].name, m->cmd) != 0)
        k++;
    if (k == r->n_commands) {
        if (k == PFL_SIM_COMMANDS_MAX || strlen(m->cmd) >= sizeof(r->commands[k].name))
            return;
        memcpy(r->commands[k].name, m->cmd, strlen(m->cmd) + 1);
        r->n_commands++;
    }
    r->commands[k].n++;
    r->commands[k].bytes += bytes;
}

static void post_arrival(struct pfl_sim *s, pfl_ns at, unsigned to, uint64_t token, struct pfl_msg *m, struct pfl_payload *payload)
{
    struct pfl_sim_item *it = pfl_sim_post(s, at, PFL_SIM_IT_ARRIVE, to);
    const struct pfl_sim_call *c = call_of(s, token);
    it->from = c->from;
    it->id = token;
    it->ev = PFL_EV_MESSAGE;
    it->msg = pfl_msg_ref(m);
    it->payload = payload ? pfl_payload_ref(payload) : NULL;
}

/* A body goes to its node. The model it carries goes by reference where it is one of the sender's core. */
static void transmit(struct pfl_sim *s, uint64_t token, struct pfl_msg *m, const struct pfl_scatter *body)
{
    struct pfl_sim_call *c = call_of(s, token);
    unsigned from = c->from, to = c->to;
    struct pfl_payload *payload = m->kind == PFL_MSG_WEIGHTS ? body->keep : NULL;
    struct pfl_sim_fate f = pfl_sim_net_send(s->net, from, to, body->total, s->now);
    if (s->o.trace_messages && strncmp(m->cmd, "beat", 4) != 0)
        pfl_sim_trace(s, from, "-> %s %s r%d of %s%s", s->nodes[to].addr, m->cmd, m->round, m->source,
                      f.lost         ? " LOST"
                      : f.duplicated ? " TWICE"
                                     : "");
    if (f.lost) {
        c->unanswered = false;
        tell_lost(s, c);
        release(s, c);
        return;
    }
    if (f.arrives >= c->deadline)
        pfl_sim_call_waits(s, token);
    post_arrival(s, f.arrives, to, token, m, payload);
    if (f.duplicated) {
        uint64_t copy = pfl_sim_call_new(s, PFL_SIM_CALL_COPY, from, to, PFL_NEVER);
        post_arrival(s, f.arrives_again, to, copy, m, payload);
    }
}

void pfl_sim_send(struct pfl_sim *s, unsigned i, const struct pfl_action *a)
{
    unsigned to = pfl_sim_index(s, a->addr);
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_sim_msg_of(s, i, a->body);
    if (!m)
        return;
    if (to == UINT_MAX || to == i) {
        struct pfl_sim_item *it = pfl_sim_post_event(s, s->now + dial_timeout, PFL_EV_SENT, i, "no route to host");
        it->id = a->id;
        it->rc = PFL_UNAVAILABLE;
        return;
    }
    count(s, i, to, m, a->body->total);
    pfl_sim_check_send(s, i, m);
    uint64_t token = pfl_sim_call_new(s, PFL_SIM_CALL_SEND, i, to, s->now + a->timeout);
    struct pfl_sim_call *c = call_of(s, token);
    c->send_id = a->id;
    c->key = pfl_sim_msg_key(s, m);
    PFL_AUTO(pfl_scatter_freep)
    struct pfl_scatter *body = s->nodes[i].lies ? pfl_sim_lie(s, i, to, m, a->body) : pfl_scatter_ref(a->body);
    if (!body) { /* it only pretends to have sent it */
        c->unanswered = false;
        tell(s, c, s->now, PFL_OK, "", NULL, false);
        release(s, c);
        return;
    }
    if (body == a->body) {
        transmit(s, token, m, body);
        return;
    }
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *other = pfl_sim_msg_of(s, i, body);
    if (other)
        transmit(s, token, other, body);
}

void pfl_sim_send_body(struct pfl_sim *s, unsigned i, unsigned to, struct pfl_scatter *body)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_sim_msg_of(s, i, body);
    if (!m)
        return;
    count(s, i, to, m, body->total);
    transmit(s, pfl_sim_call_new(s, PFL_SIM_CALL_COPY, i, to, PFL_NEVER), m, body);
}

/* ---- opening, closing ---- */

void pfl_sim_open(struct pfl_sim *s, unsigned i, const struct pfl_action *a)
{
    unsigned to = pfl_sim_index(s, a->addr);
    bool there = to != UINT_MAX && to != i && pfl_sim_up(s, to);
    bool path = to != UINT_MAX && pfl_sim_net_reaches(s->net, i, to) && pfl_sim_net_reaches(s->net, to, i);
    pfl_ns delay = to == UINT_MAX ? 0 : pfl_sim_net_latency(s->net, i, to) + pfl_sim_net_latency(s->net, to, i);
    if (!there || !path || pfl_sim_paused(s, to)) {
        bool refused = path && !s->sc->net.silent && !(there && pfl_sim_paused(s, to));
        struct pfl_sim_item *it = pfl_sim_post_event(s, s->now + (refused ? delay : dial_timeout), PFL_EV_LINK_DOWN, i,
                                                     refused ? "connection refused" : "the connection could not be made in time");
        it->from = to;
        it->rc = PFL_UNAVAILABLE;
        if (to == UINT_MAX)
            pfl_sim_set_text(it, a->addr, false); /* see run_event */
        return;
    }
    if (!a->handshake) {
        pfl_sim_post_event(s, s->now + delay, PFL_EV_LINK_UP, i, NULL)->from = to;
        pfl_sim_channel_set(s, i, to, true);
        return;
    }
    uint64_t token = pfl_sim_call_new(s, PFL_SIM_CALL_HANDSHAKE, i, to, s->now + delay + s->sc->settings.call_timeout);
    struct pfl_sim_fate f = pfl_sim_net_send(s->net, i, to, 64, s->now + delay);
    struct pfl_sim_call *c = call_of(s, token);
    if (f.lost) {
        c->unanswered = false;
        tell_lost(s, c);
        release(s, c);
        return;
    }
    struct pfl_sim_item *it = pfl_sim_post(s, f.arrives, PFL_SIM_IT_ARRIVE, to);
    it->from = i;
    it->id = token;
    it->ev = PFL_EV_HANDSHAKE;
    it->hello = true;
}

void pfl_sim_goodbye(struct pfl_sim *s, unsigned i, const struct pfl_action *a)
{
    unsigned to = pfl_sim_index(s, a->addr);
    if (to == UINT_MAX)
        return;
    pfl_sim_channel_set(s, i, to, false);
    struct pfl_sim_fate f = pfl_sim_net_send(s->net, i, to, 32, s->now);
    if (f.lost)
        return;
    struct pfl_sim_item *it = pfl_sim_post(s, f.arrives, PFL_SIM_IT_ARRIVE, to);
    it->from = i;
    it->id = pfl_sim_call_new(s, PFL_SIM_CALL_DISCONNECT, i, to, PFL_NEVER);
    it->ev = PFL_EV_DISCONNECT;
}

/* ---- answers ---- */

static void answer_operator(struct pfl_sim *s, struct pfl_sim_call *c, const char *error)
{
    unsigned from = c->from, to = c->to;
    c->unanswered = false;
    release(s, c);
    if (error && from == to)
        pfl_sim_fail(s, "started", from, "the learning cannot be started: %s", error);
    else if (error)
        pfl_sim_operator_failed(s, from, to, error);
}

void pfl_sim_reply(struct pfl_sim *s, unsigned i, const struct pfl_action *a)
{
    struct pfl_sim_call *c = call_of(s, a->call);
    if (!c || !c->unanswered || (c->kind == PFL_SIM_CALL_OPERATOR ? c->from : c->to) != i) {
        pfl_sim_fail(s, "answer", i, "answers a call twice, or one that is not its");
        return;
    }
    if (c->kind == PFL_SIM_CALL_OPERATOR) {
        answer_operator(s, c, a->error);
        return;
    }
    c->unanswered = false;
    if (c->untold) {
        bool lost;
        pfl_ns at = pfl_sim_net_reply(s->net, i, c->from, s->now, &lost);
        const char *text = a->error ? a->error : a->text;
        if (lost)
            tell_lost(s, c);
        else if (at > c->deadline)
            tell(s, c, c->deadline, PFL_TIMEOUT, "deadline exceeded", NULL, false);
        else
            tell(s, c, at, a->error ? PFL_STATE : PFL_OK, text && text[0] ? NULL : "", text && text[0] ? text : NULL, a->hello);
    }
    release(s, c);
}

/* ---- arriving ---- */

static void arrive_nowhere(struct pfl_sim *s, struct pfl_sim_call *c)
{
    c->unanswered = false;
    tell_lost(s, c);
    release(s, c);
}

void pfl_sim_arrive(struct pfl_sim *s, struct pfl_sim_item *it)
{
    struct pfl_sim_call *c = call_of(s, it->id);
    struct pfl_err err = {0};
    if (!c)
        return; /* the receiver died meanwhile */
    if (!pfl_sim_up(s, it->node) || !pfl_sim_net_reaches(s->net, it->from, it->node)) {
        arrive_nowhere(s, c);
        return;
    }
    struct pfl_event ev = {.kind = it->ev, .msg = it->msg, .payload = it->payload, .call = it->id};
    if (it->ev != PFL_EV_MESSAGE)
        ev.addr = s->nodes[it->from].addr;
    ev.hello = it->hello ? pfl_node_hello() : NULL;
    if (it->msg && it->msg->kind == PFL_MSG_WEIGHTS && !it->payload) {
        ev.payload = it->payload = pfl_sim_decode(s, it->msg, &err);
        ev.rc = err.rc;
        ev.text = ev.payload ? NULL : err.msg;
    }
    struct pfl_signer signer = {0};
    if (it->msg)
        pfl_sim_verify(s, it->node, it->from, &ev, &signer);
    if (s->nodes[it->node].lies && it->msg)
        pfl_sim_lie_saw(s, it->node, it->msg);
    pfl_sim_step(s, it->node, &ev);
    pfl_sim_call_waits(s, it->id);
}
