/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: a heap of timed deliveries, and what a driver does with each action. See netsim.h. */
#include "support/netsim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

enum { PARAMS = 12, TICKS_AT_ONCE_MAX = 2000 };

enum call_kind { CALL_SEND, CALL_HANDSHAKE, CALL_DISCONNECT, CALL_CMD, CALL_INJECT };
struct call {
    enum call_kind kind;
    unsigned from, to;
    uint64_t send_id;
    bool done, replied, lose_answer;
};

/* Something that happens at a time. ev's pointers are owned here. */
struct item {
    pfl_ns at;
    uint64_t seq;
    unsigned to;
    enum { ITEM_EVENT, ITEM_TICK, ITEM_KILL, ITEM_ARRIVE, ITEM_TIMEOUT } kind;
    struct pfl_event ev;
    char *addr, *text;
    bool hello;
    uint64_t call; /* index + 1 in calls */
    uint64_t job_epoch;
    bool is_job;
    unsigned from;
    bool stale; /* for a node that was started anew since */
};

struct node {
    char addr[32];
    struct pfl_node *core;
    bool dead, down;
    pfl_ns tick_at;
    unsigned ticks_at_once;
    pfl_ns last_tick;
    uint64_t job_epoch;
    bool fail_fit;
    struct pfl_note **notes;
    size_t n_notes, cap_notes;
    int32_t round;
    bool ended, in_experiment;
    unsigned aggregated[NETSIM_ROUNDS_MAX];
    unsigned came_packed, came_whole; /* contributions */
};

struct netsim {
    struct netsim_opts o;
    struct pfl_rng rng;
    pfl_ns now;
    uint64_t seq;
    struct item **heap;
    size_t n_heap, cap_heap;
    struct node nodes[NETSIM_NODES_MAX];
    bool chan[NETSIM_NODES_MAX][NETSIM_NODES_MAX]; /* an OPEN of row to column succeeded */
    bool cut[NETSIM_NODES_MAX][NETSIM_NODES_MAX];
    struct call *calls;
    size_t n_calls, cap_calls;
    struct pfl_layout *layout;
    struct {
        char name[24];
        unsigned n;
    } sent[16];
    char *answer, *injected;
    uint64_t starts;
};

static void step(struct netsim *s, unsigned i, struct pfl_event *ev);

/* ---- failing ---- */

void netsim_dump(const struct netsim *s)
{
    fprintf(stderr, "seed=%" PRIu64 " n=%u at %.3f s\n", s->o.seed, s->o.n, (double)s->now / 1e9);
    for (unsigned i = 0; i < s->o.n; i++) {
        const struct node *x = &s->nodes[i];
        struct pfl_snapshot snap;
        pfl_node_snapshot(x->core, &snap);
        fprintf(stderr, "  %s%s %s round %d/%u done %u, %zu peers, waits for %s until %.3f\n", x->addr, x->dead ? " (dead)" : "",
                snap.stage, snap.round, snap.rounds, snap.rounds_done, snap.n_peers, snap.waiting_for ? snap.waiting_for : "-",
                snap.waiting_until == PFL_NEVER ? -1.0 : (double)snap.waiting_until / 1e9);
        for (size_t k = x->n_notes > 12 ? x->n_notes - 12 : 0; k < x->n_notes; k++)
            fprintf(stderr, "      %s r%d %s %s\n", pfl_note_name(x->notes[k]->kind), x->notes[k]->round,
                    x->notes[k]->addr ? x->notes[k]->addr : "", x->notes[k]->text ? x->notes[k]->text : "");
        pfl_snapshot_deinit(&snap);
    }
}

static void check(const struct netsim *s, bool ok, const char *fmt, ...) PFL_PRINTF(3, 4);
static void check(const struct netsim *s, bool ok, const char *fmt, ...)
{
    if (ok)
        return;
    char why[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    netsim_dump(s);
    fail_msg("seed=%" PRIu64 ": %s", s->o.seed, why);
}

/* ---- the heap ---- */

static bool before(const struct item *a, const struct item *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void push(struct netsim *s, struct item *it)
{
    it->seq = ++s->seq;
    if (s->n_heap == s->cap_heap) {
        s->cap_heap = s->cap_heap ? 2 * s->cap_heap : 256;
        s->heap = pfl_xrealloc(s->heap, s->cap_heap * sizeof(struct item *));
    }
    size_t i = s->n_heap++;
    while (i > 0 && before(it, s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = it;
}

static struct item *pop(struct netsim *s)
{
    struct item *top = s->heap[0];
    struct item *last = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= s->n_heap)
            break;
        if (k + 1 < s->n_heap && before(s->heap[k + 1], s->heap[k]))
            k++;
        if (!before(s->heap[k], last))
            break;
        s->heap[i] = s->heap[k];
        i = k;
    }
    if (s->n_heap > 0)
        s->heap[i] = last;
    return top;
}

static struct item *item_new(unsigned to, pfl_ns at)
{
    struct item *it = pfl_xcalloc(1, sizeof(*it));
    it->to = to;
    it->at = at;
    return it;
}

static void item_free(struct item *it)
{
    pfl_msg_unref(it->ev.msg);
    pfl_payload_unref(it->ev.payload);
    free(it->addr);
    free(it->text);
    free(it);
}

static pfl_ns between(struct netsim *s, pfl_ns lo, pfl_ns hi)
{
    return lo + (pfl_ns)pfl_rng_below(&s->rng, (uint64_t)(hi - lo) + 1);
}

static pfl_ns latency(struct netsim *s)
{
    return between(s, s->o.latency_min, s->o.latency_max);
}

/* An event for a node, later. Strings are copied. */
static struct item *post(struct netsim *s, unsigned to, pfl_ns delay, enum pfl_event_kind kind, const char *addr, const char *text)
{
    struct item *it = item_new(to, s->now + delay);
    it->ev.kind = kind;
    it->addr = addr ? pfl_xstrdup(addr) : NULL;
    it->text = text ? pfl_xstrdup(text) : NULL;
    push(s, it);
    return it;
}

/* ---- models ---- */

static void fnv_digest(const struct pfl_payload *p, uint8_t out[PFL_DIGEST_LEN])
{
    for (unsigned k = 0; k < PFL_DIGEST_LEN / 8; k++) {
        uint64_t h = UINT64_C(0xcbf29ce484222325) + k;
        for (size_t i = 0; i < p->model->layout->bytes; i++)
            h = (h ^ p->model->data[i]) * UINT64_C(0x100000001b3);
        memcpy(out + 8 * k, &h, 8);
    }
}

static struct pfl_payload *payload_of(struct pfl_model *m)
{
    struct pfl_payload *p = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_payload_new(m, &p, &err), PFL_OK);
    fnv_digest(p, p->digest);
    p->has_digest = true;
    return p;
}

struct pfl_payload *netsim_payload(struct netsim *s, float v)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_model_new(s->layout, &m, &err), PFL_OK);
    float *x = (float *)(void *)pfl_model_data_mut(m);
    for (size_t i = 0; i < PARAMS; i++)
        x[i] = v;
    return payload_of(m);
}

/* start + something of this node's own, uneven enough that the order of sums shows in the last bits. */
static struct pfl_payload *fake_fit(const struct pfl_payload *start, unsigned i)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = pfl_model_copy(start->model);
    float *x = (float *)(void *)pfl_model_data_mut(m);
    for (size_t k = 0; k < PARAMS; k++)
        x[k] += 0.1F * (float)(i + 1) / (float)(k + 3);
    return payload_of(m);
}

enum { PACK_HEAD = 8 };

/* A stand-in for a compressed form: eight bytes, then the file itself. What undoing it needs is a matter of lacks_base. */
static void pack(struct pfl_payload *p)
{
    struct pfl_blob *blob = pfl_blob_new(PACK_HEAD + p->head.len + p->model->layout->bytes);
    uint8_t digest[PFL_DIGEST_LEN];
    memcpy(blob->data, "PACKPACK", PACK_HEAD);
    memcpy(blob->data + PACK_HEAD, p->head.data, p->head.len);
    memcpy(blob->data + PACK_HEAD + p->head.len, p->model->data, p->model->layout->bytes);
    memset(digest, p->digest[0], sizeof(digest));
    pfl_payload_set_packed(p, blob, pfl_bytes_of(blob->data, blob->len), digest);
    pfl_blob_unref(blob);
}

static struct pfl_payload *unpack(struct netsim *s, const struct pfl_msg *m)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_err err = {0};
    size_t off = (size_t)(m->weights.data - m->blob->data) + PACK_HEAD;
    check(s, pfl_safetensors_decode(m->blob, off, m->weights.len - PACK_HEAD, s->layout, &model, &err) == PFL_OK, "packed: %s",
          err.msg);
    struct pfl_payload *p = payload_of(model);
    check(s, m->has_model_digest && memcmp(p->digest, m->model_digest, PFL_DIGEST_LEN) == 0, "a packed model's digest is wrong");
    pfl_payload_set_packed(p, m->blob, m->weights, m->digest);
    return p;
}

static struct pfl_payload *decode_payload(struct netsim *s, const struct pfl_msg *m)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_err err = {0};
    size_t off = (size_t)(m->weights.data - m->blob->data);
    check(s, pfl_safetensors_decode(m->blob, off, m->weights.len, s->layout, &model, &err) == PFL_OK, "model: %s", err.msg);
    struct pfl_payload *p = payload_of(model);
    check(s, m->has_digest && memcmp(p->digest, m->digest, PFL_DIGEST_LEN) == 0, "a model's digest is wrong");
    return p;
}

/* ---- calls ---- */

static uint64_t call_new(struct netsim *s, enum call_kind kind, unsigned from, unsigned to, uint64_t send_id)
{
    if (s->n_calls == s->cap_calls) {
        s->cap_calls = s->cap_calls ? 2 * s->cap_calls : 256;
        s->calls = pfl_xrealloc(s->calls, s->cap_calls * sizeof(*s->calls));
    }
    s->calls[s->n_calls++] = (struct call){.kind = kind, .from = from, .to = to, .send_id = send_id};
    return s->n_calls;
}

static bool reachable(const struct netsim *s, unsigned a, unsigned b)
{
    return !s->nodes[b].dead && !s->nodes[b].down && !s->cut[a][b];
}

static unsigned index_of(const struct netsim *s, const char *addr)
{
    for (unsigned i = 0; i < s->o.n; i++) {
        if (strcmp(s->nodes[i].addr, addr) == 0)
            return i;
    }
    return UINT32_MAX;
}

/* The caller's side of a call ends. */
static void call_end(struct netsim *s, uint64_t token, pfl_ns delay, enum pfl_rc rc, const char *text, bool hello)
{
    struct call *c = &s->calls[token - 1];
    if (c->done)
        return;
    c->done = true;
    if (c->kind == CALL_SEND) {
        struct item *it = post(s, c->from, delay, PFL_EV_SENT, NULL, text);
        it->ev.id = c->send_id;
        it->ev.rc = rc;
    } else if (c->kind == CALL_HANDSHAKE) {
        struct item *it = post(s, c->from, delay, rc == PFL_OK ? PFL_EV_LINK_UP : PFL_EV_LINK_DOWN, s->nodes[c->to].addr, text);
        it->hello = hello;
        it->from = c->to;
        it->ev.rc = rc;
        s->chan[c->from][c->to] = rc == PFL_OK;
    }
}

static void on_reply(struct netsim *s, unsigned i, const struct pfl_action *a)
{
    check(s, a->call >= 1 && a->call <= s->n_calls, "node %u answers a call that is none", i);
    struct call *c = &s->calls[a->call - 1];
    check(s, !c->replied && c->to == i, "node %u answers call %" PRIu64 " twice", i, a->call);
    c->replied = true;
    if (c->kind == CALL_CMD || c->kind == CALL_INJECT) {
        char **slot = c->kind == CALL_CMD ? &s->answer : &s->injected;
        free(*slot);
        *slot = c->kind == CALL_CMD ? pfl_xstrdup(a->error ? a->error : "")
                                    : pfl_xasprintf("%s:%s", a->error ? "error" : "ok",
                                                    a->error  ? a->error
                                                    : a->text ? a->text
                                                              : "");
        return;
    }
    if (c->lose_answer)
        call_end(s, a->call, latency(s), PFL_UNAVAILABLE, "connection reset", false);
    else
        call_end(s, a->call, latency(s), a->error ? PFL_STATE : PFL_OK, a->error ? a->error : a->text ? a->text : "", a->hello);
}

static pfl_ns outage_delay(struct netsim *s, pfl_ns timeout)
{
    return s->o.silent_death ? timeout : latency(s);
}

static void count_sent(struct netsim *s, const char *cmd)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(s->sent); i++) {
        if (s->sent[i].name[0] == '\0')
            snprintf(s->sent[i].name, sizeof(s->sent[i].name), "%s", cmd);
        if (strcmp(s->sent[i].name, cmd) == 0) {
            s->sent[i].n++;
            return;
        }
    }
}

static void do_send(struct netsim *s, unsigned i, const struct pfl_action *a)
{
    unsigned to = index_of(s, a->addr);
    uint64_t token = call_new(s, CALL_SEND, i, to, a->id);
    struct pfl_blob *blob = pfl_blob_new(a->body->total);
    size_t off = 0;
    for (size_t k = 0; k < a->body->n; k++) {
        memcpy(blob->data + off, a->body->parts[k].data, a->body->parts[k].len);
        off += a->body->parts[k].len;
    }
    struct pfl_msg *m = NULL;
    struct pfl_err err = {0};
    check(s, pfl_msg_decode(blob, &m, &err) == PFL_OK, "node %u sends what cannot be decoded: %s", i, err.msg);
    pfl_blob_unref(blob);
    count_sent(s, m->cmd);
    bool lost = s->o.drop > 0 && pfl_rng_unit(&s->rng) < s->o.drop;
    bool unheard = lost && pfl_rng_below(&s->rng, 2) == 0;
    if (to == UINT32_MAX || !reachable(s, i, to) || unheard) {
        s->calls[token - 1].to = to == UINT32_MAX ? i : to;
        call_end(s, token, unheard ? latency(s) : outage_delay(s, a->timeout), PFL_UNAVAILABLE, "unreachable", false);
        pfl_msg_unref(m);
        return;
    }
    s->calls[token - 1].lose_answer = lost;
    pfl_ns bulk = m->kind == PFL_MSG_WEIGHTS ? 3 * latency(s) : 0;
    struct item *it = item_new(to, s->now + latency(s) + bulk);
    it->kind = ITEM_ARRIVE;
    it->from = i;
    it->call = token;
    it->ev.kind = PFL_EV_MESSAGE;
    it->ev.msg = m;
    push(s, it);
    it = item_new(i, s->now + a->timeout);
    it->kind = ITEM_TIMEOUT;
    it->call = token;
    push(s, it);
}

static void do_open(struct netsim *s, unsigned i, const struct pfl_action *a)
{
    unsigned to = index_of(s, a->addr);
    pfl_ns delay = 2 * latency(s);
    if (to == UINT32_MAX || !reachable(s, i, to)) {
        pfl_ns wait = outage_delay(s, 3 * PFL_SEC);
        post(s, i, wait, PFL_EV_LINK_DOWN, a->addr, "connection refused")->ev.rc = PFL_UNAVAILABLE;
        return;
    }
    if (!a->handshake) {
        post(s, i, delay, PFL_EV_LINK_UP, a->addr, NULL);
        s->chan[i][to] = true;
        return;
    }
    struct item *it = item_new(to, s->now + delay);
    it->kind = ITEM_ARRIVE;
    it->from = i;
    it->addr = pfl_xstrdup(s->nodes[i].addr);
    it->hello = true;
    it->ev.kind = PFL_EV_HANDSHAKE;
    it->call = call_new(s, CALL_HANDSHAKE, i, to, 0);
    push(s, it);
    struct item *end = item_new(i, s->now + delay + s->o.set.call_timeout);
    end->kind = ITEM_TIMEOUT;
    end->call = it->call;
    push(s, end);
}

/* ---- jobs ---- */

static void do_job(struct netsim *s, unsigned i, const struct pfl_action *a)
{
    struct node *x = &s->nodes[i];
    pfl_ns took = between(s, PFL_MS, 20 * PFL_MS);
    if (a->kind == PFL_ACT_FIT)
        took = s->o.fit_of[i] ? s->o.fit_of[i] : between(s, s->o.fit_min, s->o.fit_max);
    struct item *it = post(s, i, took, PFL_EV_JOB, NULL, NULL);
    it->ev.id = a->id;
    it->is_job = a->kind != PFL_ACT_AGGREGATE;
    it->job_epoch = x->job_epoch;
    if (a->kind == PFL_ACT_FIT && x->fail_fit) {
        x->fail_fit = false;
        it->ev.rc = PFL_IO;
        it->text = pfl_xstrdup("the learner failed");
    } else if (a->kind == PFL_ACT_FIT) {
        it->ev.payload = fake_fit(a->payload, i);
        if (s->o.packed)
            pack(it->ev.payload);
        it->ev.n_samples = 100 + 7 * i;
        it->ev.metrics.loss = 0.5;
    } else if (a->kind == PFL_ACT_EVALUATE) {
        it->ev.metrics = (struct pfl_metrics){
            .loss = (double)*(const float *)(const void *)a->payload->model->data, .accuracy = 0.5, .n_samples = 10};
    } else {
        struct pfl_model *m = NULL;
        struct pfl_err err = {0};
        check(s, s->o.set.aggregator->aggregate(s->o.set.aggregator, a->in, a->n_in, &m, &err) == PFL_OK, "aggregate: %s", err.msg);
        it->ev.payload = payload_of(m);
        pfl_model_unref(m);
    }
}

/* ---- notes and what must hold ---- */

static struct pfl_note *note_copy(const struct pfl_note *from)
{
    struct pfl_note *note = pfl_xmalloc(sizeof(*note));
    *note = *from;
    note->addr = from->addr ? pfl_xstrdup(from->addr) : NULL;
    note->text = from->text ? pfl_xstrdup(from->text) : NULL;
    note->list = (struct pfl_strs){0};
    pfl_strs_copy(&note->list, &from->list);
    return note;
}

static void check_skew(const struct netsim *s, unsigned i, int32_t round)
{
    for (unsigned k = 0; s->o.skew_check && k < s->o.n; k++) {
        const struct node *y = &s->nodes[k];
        check(s, y->dead || y->ended || y->round >= round - 1, "node %u begins round %d, node %u is in %d", i, round, k, y->round);
    }
}

static void on_note(struct netsim *s, unsigned i, const struct pfl_note *note)
{
    struct node *x = &s->nodes[i];
    if (x->n_notes == x->cap_notes) {
        x->cap_notes = x->cap_notes ? 2 * x->cap_notes : 64;
        x->notes = pfl_xrealloc(x->notes, x->cap_notes * sizeof(struct pfl_note *));
    }
    x->notes[x->n_notes++] = note_copy(note);
    if (getenv("NETSIM_TRACE"))
        fprintf(stderr, "%.3f %s %s r%d %s %s\n", (double)s->now / 1e9, x->addr, pfl_note_name(note->kind), note->round,
                note->addr ? note->addr : "", note->text ? note->text : "");
    switch (note->kind) {
    case PFL_NOTE_LEARNING_STARTED:
        check(s, !x->in_experiment, "node %u starts twice", i);
        x->in_experiment = true;
        x->ended = false;
        x->round = -1;
        memset(x->aggregated, 0, sizeof(x->aggregated));
        break;
    case PFL_NOTE_JOINED:
        x->round = note->round - 1 > x->round ? note->round - 1 : x->round;
        break;
    case PFL_NOTE_ROUND_STARTED:
        check(s, note->round == x->round + 1, "node %u goes from round %d to %d", i, x->round, note->round);
        check_skew(s, i, note->round);
        x->round = note->round;
        break;
    case PFL_NOTE_AGGREGATED:
        check(s, note->round == x->round && note->round < NETSIM_ROUNDS_MAX && x->aggregated[note->round]++ == 0,
              "node %u: aggregate of round %d in round %d", i, note->round, x->round);
        break;
    case PFL_NOTE_LEARNING_FINISHED:
    case PFL_NOTE_LEARNING_STOPPED:
        check(s, x->in_experiment, "node %u ends what it did not start", i);
        x->in_experiment = false;
        x->ended = true;
        break;
    default:
        break;
    }
}

/* ---- carrying out ---- */

static void carry_out(struct netsim *s, unsigned i, const struct pfl_action *a)
{
    unsigned to = a->addr ? index_of(s, a->addr) : UINT32_MAX;
    switch (a->kind) {
    case PFL_ACT_OPEN:
        do_open(s, i, a);
        break;
    case PFL_ACT_CLOSE:
        if (to != UINT32_MAX)
            s->chan[i][to] = false;
        break;
    case PFL_ACT_SEND:
        do_send(s, i, a);
        break;
    case PFL_ACT_GOODBYE:
        if (to != UINT32_MAX) {
            s->chan[i][to] = false;
            struct item *it = item_new(to, s->now + latency(s));
            it->kind = ITEM_ARRIVE;
            it->from = i;
            it->addr = pfl_xstrdup(s->nodes[i].addr);
            it->ev.kind = PFL_EV_DISCONNECT;
            it->call = call_new(s, CALL_DISCONNECT, i, to, 0);
            push(s, it);
        }
        break;
    case PFL_ACT_REPLY:
        on_reply(s, i, a);
        break;
    case PFL_ACT_FIT:
    case PFL_ACT_EVALUATE:
    case PFL_ACT_AGGREGATE:
        do_job(s, i, a);
        break;
    case PFL_ACT_CANCEL:
        s->nodes[i].job_epoch++;
        break;
    case PFL_ACT_DURABLE: /* not asked for */
        break;
    case PFL_ACT_EVIDENCE:
        break;
    case PFL_ACT_NOTE:
        on_note(s, i, a->note);
        break;
    }
}

static void schedule_tick(struct netsim *s, unsigned i)
{
    struct node *x = &s->nodes[i];
    pfl_ns at = pfl_node_deadline(x->core);
    if (at == PFL_NEVER)
        return;
    at = at < s->now ? s->now : at;
    if (x->tick_at > s->now && x->tick_at <= at)
        return;
    x->tick_at = at;
    struct item *it = item_new(i, at);
    it->kind = ITEM_TICK;
    push(s, it);
}

static void step(struct netsim *s, unsigned i, struct pfl_event *ev)
{
    struct node *x = &s->nodes[i];
    struct pfl_actions acts = {0};
    if (x->dead || x->down)
        return;
    ev->now = s->now;
    ev->wall = 1790000000 * PFL_SEC + s->now;
    pfl_node_step(x->core, ev, &acts);
    for (size_t k = 0; k < acts.n; k++)
        carry_out(s, i, &acts.items[k]);
    pfl_actions_deinit(&acts);
    x->down = ev->kind == PFL_EV_SHUTDOWN;
    if (!x->down)
        schedule_tick(s, i);
}

/* Between plain nodes and others no extension is known. */
static const struct pfl_hello *hello_of(const struct netsim *s, unsigned a, unsigned b)
{
    static const struct pfl_hello plain = {.present = true, .version = 1};
    return s->o.plain[a] || s->o.plain[b] ? &plain : pfl_node_hello();
}

static void model_arrives(struct netsim *s, struct item *it)
{
    static const char lacks[] = "it is a difference to a model that this node does not have";
    struct node *x = &s->nodes[it->to];
    bool packed = pfl_streq(it->ev.msg->codec, "compressed"), partial = pfl_streq(it->ev.msg->cmd, "partial_model");
    check(s, !packed || partial, "a compressed %s", it->ev.msg->cmd);
    x->came_packed += packed;
    x->came_whole += partial && !packed;
    if (!packed) {
        it->ev.payload = decode_payload(s, it->ev.msg);
    } else if (!s->o.lacks_base[it->to]) {
        it->ev.payload = unpack(s, it->ev.msg);
    } else {
        it->ev.rc = PFL_STATE;
        it->ev.text = lacks;
    }
}

static void arrive(struct netsim *s, struct item *it)
{
    if (!reachable(s, it->from, it->to)) {
        call_end(s, it->call, outage_delay(s, s->o.set.call_timeout), PFL_UNAVAILABLE, "connection reset", false);
        return;
    }
    if (it->ev.msg && it->ev.msg->kind == PFL_MSG_WEIGHTS)
        model_arrives(s, it);
    it->ev.addr = it->addr;
    it->ev.call = it->call;
    it->ev.hello = it->hello ? hello_of(s, it->from, it->to) : NULL;
    step(s, it->to, &it->ev);
}

static void run_item(struct netsim *s, struct item *it)
{
    struct node *x = &s->nodes[it->to];
    switch (it->kind) {
    case ITEM_ARRIVE:
        arrive(s, it);
        return;
    case ITEM_TIMEOUT:
        call_end(s, it->call, 0, PFL_TIMEOUT, "deadline exceeded", false);
        return;
    case ITEM_KILL:
        netsim_kill(s, it->to);
        return;
    case ITEM_TICK:
        if (x->tick_at != it->at || x->dead)
            return;
        x->tick_at = 0;
        x->ticks_at_once = x->last_tick == s->now ? x->ticks_at_once + 1 : 0;
        x->last_tick = s->now;
        check(s, x->ticks_at_once < TICKS_AT_ONCE_MAX, "node %u spins", it->to);
        it->ev.kind = PFL_EV_TICK;
        break;
    case ITEM_EVENT:
        break;
    }
    if (it->is_job && it->job_epoch != x->job_epoch) { /* it was canceled */
        pfl_payload_unref(it->ev.payload);
        it->ev.payload = NULL;
        it->ev.rc = PFL_CANCELED;
    }
    it->ev.addr = it->addr;
    it->ev.text = it->text;
    it->ev.hello = it->hello ? hello_of(s, it->from, it->to) : NULL;
    if (it->call)
        it->ev.call = it->call;
    step(s, it->to, &it->ev);
}

/* ---- from outside ---- */

static bool run_one(struct netsim *s, pfl_ns until)
{
    if (s->n_heap == 0 || s->heap[0]->at > until) {
        s->now = until > s->now ? until : s->now;
        return false;
    }
    struct item *it = pop(s);
    s->now = it->at;
    if (!it->stale || it->kind == ITEM_KILL)
        run_item(s, it);
    item_free(it);
    return true;
}

void netsim_run(struct netsim *s, pfl_ns until)
{
    while (run_one(s, until)) {
    }
}

static bool all_ended(const struct netsim *s)
{
    for (unsigned i = 0; i < s->o.n; i++) {
        if (!s->nodes[i].dead && !s->nodes[i].down && !s->nodes[i].ended)
            return false;
    }
    return true;
}

void netsim_run_to_end(struct netsim *s, pfl_ns until)
{
    while (!all_ended(s))
        check(s, run_one(s, until), "not ended by %.1f s", (double)until / 1e9);
}

bool netsim_run_to_stage(struct netsim *s, unsigned i, const char *stage, pfl_ns until)
{
    for (;;) {
        struct pfl_snapshot snap;
        pfl_node_snapshot(s->nodes[i].core, &snap);
        bool there = strcmp(snap.stage, stage) == 0;
        pfl_snapshot_deinit(&snap);
        if (there || !run_one(s, until))
            return there;
    }
}

static bool membership_complete(const struct netsim *s)
{
    size_t live = 0;
    for (unsigned i = 0; i < s->o.n; i++)
        live += !s->nodes[i].dead;
    for (unsigned i = 0; i < s->o.n; i++) {
        struct pfl_snapshot snap;
        pfl_node_snapshot(s->nodes[i].core, &snap);
        size_t n = snap.n_peers;
        pfl_snapshot_deinit(&snap);
        if (!s->nodes[i].dead && n + 1 != live)
            return false;
    }
    return true;
}

void netsim_run_to_membership(struct netsim *s, pfl_ns until)
{
    while (!membership_complete(s))
        check(s, run_one(s, until), "membership not complete by %.1f s", (double)until / 1e9);
}

static void command(struct netsim *s, unsigned i, struct pfl_event ev)
{
    free(s->answer);
    s->answer = NULL;
    if (ev.kind != PFL_EV_SHUTDOWN)
        ev.call = call_new(s, CALL_CMD, i, i, 0);
    step(s, i, &ev);
}

void netsim_connect(struct netsim *s, unsigned a, unsigned b)
{
    command(s, a, (struct pfl_event){.kind = PFL_EV_CMD_CONNECT, .addr = s->nodes[b].addr});
}

void netsim_disconnect(struct netsim *s, unsigned a, unsigned b)
{
    command(s, a, (struct pfl_event){.kind = PFL_EV_CMD_DISCONNECT, .addr = s->nodes[b].addr});
}

void netsim_topology(struct netsim *s, const char *name)
{
    for (unsigned i = 0; i < s->o.n; i++) {
        for (unsigned k = i + 1; k < s->o.n; k++) {
            bool line = k == i + 1;
            bool ring = line || (i == 0 && k == s->o.n - 1);
            if (strcmp(name, "full") == 0 || (strcmp(name, "line") == 0 && line) || (strcmp(name, "ring") == 0 && ring) ||
                (strcmp(name, "star") == 0 && i == 0))
                netsim_connect(s, k, i);
        }
    }
}

void netsim_learn(struct netsim *s, unsigned i, unsigned rounds, unsigned epochs, unsigned trainset_size)
{
    command(s, i, (struct pfl_event){.kind = PFL_EV_CMD_LEARN, .learn = {rounds, epochs, trainset_size, "test"}});
}

void netsim_stop(struct netsim *s, unsigned i)
{
    command(s, i, (struct pfl_event){.kind = PFL_EV_CMD_STOP});
}

void netsim_shutdown(struct netsim *s, unsigned i)
{
    command(s, i, (struct pfl_event){.kind = PFL_EV_SHUTDOWN});
}

void netsim_revoke(struct netsim *s, unsigned i, unsigned victim)
{
    const char *addr = i == victim ? NULL : netsim_addr(s, victim);
    struct pfl_event ev = {.kind = PFL_EV_REVOKED, .addr = addr, .text = "revoked on a Monday (keyCompromise)"};
    step(s, i, &ev);
}

const char *netsim_last_answer(const struct netsim *s)
{
    return s->answer;
}

/* What a reset does to a channel of a to b: the driver reports it. */
static void break_channel(struct netsim *s, unsigned a, unsigned b)
{
    if (s->chan[a][b] && !s->o.silent_death)
        post(s, a, latency(s), PFL_EV_LINK_DOWN, s->nodes[b].addr, "connection reset")->ev.rc = PFL_UNAVAILABLE;
    s->chan[a][b] = false;
}

void netsim_kill(struct netsim *s, unsigned i)
{
    s->nodes[i].dead = true;
    for (unsigned k = 0; k < s->o.n; k++)
        break_channel(s, k, i);
}

void netsim_kill_at(struct netsim *s, unsigned i, pfl_ns at)
{
    struct item *it = item_new(i, at);
    it->kind = ITEM_KILL;
    push(s, it);
}

void netsim_cut(struct netsim *s, unsigned a, unsigned b)
{
    s->cut[a][b] = s->cut[b][a] = true;
    break_channel(s, a, b);
    break_channel(s, b, a);
}

void netsim_mend(struct netsim *s, unsigned a, unsigned b)
{
    s->cut[a][b] = s->cut[b][a] = false;
}

void netsim_fail_fit(struct netsim *s, unsigned i)
{
    s->nodes[i].fail_fit = true;
}

bool netsim_dead(const struct netsim *s, unsigned i)
{
    return s->nodes[i].dead;
}

static const char *inject(struct netsim *s, unsigned to, struct pfl_event *ev)
{
    free(s->injected);
    s->injected = NULL;
    ev->call = call_new(s, CALL_INJECT, to, to, 0);
    step(s, to, ev);
    return s->injected;
}

const char *netsim_inject(struct netsim *s, unsigned to, struct pfl_msg *msg, struct pfl_payload *payload)
{
    struct pfl_event ev = {.kind = PFL_EV_MESSAGE, .msg = msg, .payload = payload, .text = "the model cannot be decoded"};
    const char *r = inject(s, to, &ev);
    pfl_msg_unref(msg);
    pfl_payload_unref(payload);
    return r;
}

const char *netsim_handshake(struct netsim *s, unsigned to, const char *addr, const struct pfl_hello *hello, bool up)
{
    struct pfl_event ev = {.kind = PFL_EV_HANDSHAKE, .addr = addr, .hello = hello};
    (void)inject(s, to, &ev);
    if (up && !s->injected) {
        struct pfl_event link = {.kind = PFL_EV_LINK_UP, .addr = addr};
        step(s, to, &link);
    }
    return s->injected;
}

/* ---- looking ---- */

const char *netsim_addr(const struct netsim *s, unsigned i)
{
    return s->nodes[i].addr;
}

pfl_ns netsim_now(const struct netsim *s)
{
    return s->now;
}

struct pfl_node *netsim_node(struct netsim *s, unsigned i)
{
    return s->nodes[i].core;
}

unsigned netsim_count(const struct netsim *s, unsigned i, enum pfl_note_kind kind)
{
    unsigned n = 0;
    for (size_t k = 0; k < s->nodes[i].n_notes; k++)
        n += s->nodes[i].notes[k]->kind == kind;
    return n;
}

const struct pfl_note *netsim_note(const struct netsim *s, unsigned i, enum pfl_note_kind kind, const char *addr)
{
    const struct node *x = &s->nodes[i];
    for (size_t k = x->n_notes; k > 0; k--) {
        const struct pfl_note *note = x->notes[k - 1];
        if (note->kind == kind && (!addr || pfl_streq(note->addr, addr)))
            return note;
    }
    return NULL;
}

const struct pfl_note *netsim_note_at(const struct netsim *s, unsigned i, enum pfl_note_kind kind, unsigned k)
{
    const struct node *x = &s->nodes[i];
    for (size_t j = 0; j < x->n_notes; j++) {
        if (x->notes[j]->kind == kind && k-- == 0)
            return x->notes[j];
    }
    return NULL;
}

bool netsim_finished(const struct netsim *s, unsigned i)
{
    return s->nodes[i].ended && netsim_count(s, i, PFL_NOTE_LEARNING_FINISHED) > 0 &&
           netsim_count(s, i, PFL_NOTE_LEARNING_STOPPED) == 0;
}

void netsim_check_equal(struct netsim *s, unsigned rounds)
{
    const struct pfl_payload *first = NULL;
    for (unsigned i = 0; i < s->o.n; i++) {
        if (s->nodes[i].dead || s->nodes[i].down)
            continue;
        const struct pfl_note *done = netsim_note(s, i, PFL_NOTE_LEARNING_FINISHED, NULL);
        check(s, netsim_finished(s, i) && done->round == (int32_t)rounds, "node %u did not finish %u rounds", i, rounds);
        const struct pfl_payload *p = pfl_node_model(s->nodes[i].core);
        check(s, memcmp(done->digest, p->digest, PFL_DIGEST_LEN) == 0, "node %u: its model is not the one that it announced", i);
        if (!first)
            first = p;
        check(s, memcmp(first->model->data, p->model->data, s->layout->bytes) == 0, "node %u has another model than the first", i);
    }
}

unsigned netsim_came_packed(const struct netsim *s, unsigned i)
{
    return s->nodes[i].came_packed;
}

unsigned netsim_came_whole(const struct netsim *s, unsigned i)
{
    return s->nodes[i].came_whole;
}

unsigned netsim_sent(const struct netsim *s, const char *cmd)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(s->sent); i++) {
        if (strcmp(s->sent[i].name, cmd) == 0)
            return s->sent[i].n;
    }
    return 0;
}

/* ---- life ---- */

static void start_node(struct netsim *s, unsigned i)
{
    struct node *x = &s->nodes[i];
    x->round = -1;
    x->core = pfl_node_new(x->addr, s->layout, &s->o.set);
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = netsim_payload(s, (float)(i + 1));
    struct pfl_event ev = {.kind = PFL_EV_MODEL, .payload = p};
    step(s, i, &ev);
}

void netsim_restart(struct netsim *s, unsigned i)
{
    struct node *x = &s->nodes[i];
    check(s, x->dead, "node %u is started anew while it runs", i);
    pfl_node_free(x->core);
    for (uint64_t k = 0; k < s->n_calls; k++) { /* what it called and was called for is nobody's matter any more */
        struct call *c = &s->calls[k];
        c->done = c->done || c->from == i;
        c->replied = c->replied || c->to == i;
    }
    for (size_t k = 0; k < s->n_heap; k++)
        s->heap[k]->stale = s->heap[k]->stale || s->heap[k]->to == i;
    x->dead = x->down = x->in_experiment = x->ended = false;
    x->tick_at = 0;
    s->o.set.entropy = ++s->starts;
    start_node(s, i);
}

struct netsim *netsim_new(const struct netsim_opts *opts)
{
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {PARAMS}};
    struct pfl_err err = {0};
    struct netsim *s = pfl_xcalloc(1, sizeof(*s));
    s->o = *opts;
    assert_true(s->o.n > 0 && s->o.n <= NETSIM_NODES_MAX);
    if (s->o.latency_max == 0) {
        s->o.latency_min = PFL_MS;
        s->o.latency_max = 20 * PFL_MS;
    }
    if (s->o.fit_max == 0) {
        s->o.fit_min = 100 * PFL_MS;
        s->o.fit_max = 900 * PFL_MS;
    }
    if (!s->o.set.aggregator)
        pfl_node_settings_default(&s->o.set);
    s->o.set.seed = opts->seed;
    s->now = PFL_SEC;
    pfl_rng_seed_named(&s->rng, opts->seed, "netsim");
    assert_int_equal(pfl_layout_new(&desc, 1, &s->layout, &err), PFL_OK);
    for (unsigned i = 0; i < s->o.n; i++) {
        struct node *x = &s->nodes[i];
        snprintf(x->addr, sizeof(x->addr), "10.0.0.%u:6666", i + 1);
        start_node(s, i);
    }
    return s;
}

void netsim_free(struct netsim *s)
{
    while (s->n_heap > 0)
        item_free(pop(s));
    for (unsigned i = 0; i < s->o.n; i++) {
        struct node *x = &s->nodes[i];
        for (size_t k = 0; k < x->n_notes; k++) {
            free(x->notes[k]->addr);
            free(x->notes[k]->text);
            pfl_strs_deinit(&x->notes[k]->list);
            free(x->notes[k]);
        }
        free(x->notes);
        pfl_node_free(x->core);
    }
    pfl_layout_unref(s->layout);
    free(s->heap);
    free(s->calls);
    free(s->answer);
    free(s->injected);
    free(s);
}
