/* SPDX-License-Identifier: Apache-2.0 */
/* link: base node */
/* The node's core under events in any order: bytes become events, and what must hold after each step is looked at. What a driver
 * promises is kept (a call that is answered had been made, a job's end had a beginning), what peers and operators do is not. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "learning/learner.h"
#include "node/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PEERS = 6, STEPS_MAX = 400, ACTIONS_MAX = 4096, IDS_MAX = 512, CALLS_MAX = 1024, TICKS_MAX = 64 };

static const char self[] = "10.0.0.3:6666";
static const char *const addrs[PEERS] = {"10.0.0.1:6666", "10.0.0.2:6666", self, "10.0.0.4:6666", "10.0.0.5:6666", "[::1]:1"};

struct ids {
    uint64_t at[IDS_MAX];
    size_t n;
};

struct run {
    const uint8_t *in;
    size_t left;
    struct pfl_node_settings set;
    struct pfl_layout *layout;
    struct pfl_payload *models[3];
    struct pfl_node *node;
    struct pfl_durable *kept; /* the newest */
    pfl_ns now;
    uint64_t durable_seq, last_send;
    struct ids sends, jobs;
    bool opened[PEERS];
    bool waits[CALLS_MAX]; /* calls without an answer yet */
    uint64_t n_calls;
    bool learning, closing;
    int32_t round;
};

static unsigned next(struct run *r, unsigned below)
{
    if (r->left == 0)
        return 0;
    r->left--;
    return *r->in++ % below;
}

static uint64_t pick(struct run *r, struct ids *l)
{
    if (l->n == 0)
        return 0;
    size_t i = next(r, 255) % l->n;
    uint64_t id = l->at[i];
    l->at[i] = l->at[--l->n];
    return id;
}

static void put(struct ids *l, uint64_t id)
{
    if (l->n < IDS_MAX) /* of the others nothing is ever heard */
        l->at[l->n++] = id;
}

/* ---- what must hold ---- */

static void check_send(struct run *r, const struct pfl_action *a)
{
    struct pfl_msg *m = NULL;
    PFL_ASSERT(a->addr && a->addr[0] && a->timeout > 0 && a->id > r->last_send);
    r->last_send = a->id;
    put(&r->sends, a->id);
    if (!a->body) { /* for P2PFL's own nodes the driver encodes it */
        PFL_ASSERT(r->set.interop && a->msg && a->payload);
        return;
    }
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = pfl_blob_new(a->body->total);
    size_t off = 0;
    for (size_t k = 0; k < a->body->n; off += a->body->parts[k++].len)
        memcpy(b->data + off, a->body->parts[k].data, a->body->parts[k].len);
    PFL_ASSERT(pfl_msg_decode(b, &m, NULL) == PFL_OK);
    pfl_msg_unref(m);
}

static void check_note(struct run *r, const struct pfl_note *note)
{
    switch (note->kind) {
    case PFL_NOTE_LEARNING_STARTED:
    case PFL_NOTE_RESUMED:
        PFL_ASSERT(!r->learning);
        r->learning = true;
        r->round = -1;
        break;
    case PFL_NOTE_ROUND_STARTED:
        PFL_ASSERT(r->learning && note->round > r->round);
        r->round = note->round;
        break;
    case PFL_NOTE_LEARNING_FINISHED:
    case PFL_NOTE_LEARNING_STOPPED:
        PFL_ASSERT(r->learning && (note->kind == PFL_NOTE_LEARNING_FINISHED || (note->text && note->text[0])));
        r->learning = false;
        break;
    default:
        break;
    }
}

static void check_action(struct run *r, struct pfl_action *a)
{
    switch (a->kind) {
    case PFL_ACT_OPEN:
        for (unsigned i = 0; i < PEERS; i++)
            r->opened[i] = r->opened[i] || pfl_streq(a->addr, addrs[i]);
        break;
    case PFL_ACT_SEND:
        check_send(r, a);
        break;
    case PFL_ACT_REPLY:
        PFL_ASSERT(a->call > 0 && a->call <= r->n_calls && r->waits[a->call - 1]); /* once, and only what was asked */
        r->waits[a->call - 1] = false;
        break;
    case PFL_ACT_FIT:
    case PFL_ACT_EVALUATE:
        PFL_ASSERT(a->payload);
        put(&r->jobs, a->id);
        break;
    case PFL_ACT_AGGREGATE:
        PFL_ASSERT(a->n_in > 0);
        put(&r->jobs, a->id);
        break;
    case PFL_ACT_DURABLE:
        PFL_ASSERT(r->set.durable && a->durable->seq > r->durable_seq);
        r->durable_seq = a->durable->seq;
        pfl_durable_free(r->kept);
        r->kept = pfl_steal(&a->durable);
        break;
    case PFL_ACT_NOTE:
        check_note(r, a->note);
        break;
    default:
        break;
    }
}

static void check_state(struct run *r)
{
    struct pfl_snapshot s;
    pfl_node_snapshot_at(r->node, r->now, NULL, NULL, &s);
    PFL_ASSERT(s.learning == r->learning);
    PFL_ASSERT(!s.learning || s.waiting_for); /* what it waits for is said */
    pfl_snapshot_deinit(&s);
}

static void step(struct run *r, struct pfl_event *ev)
{
    struct pfl_actions out = {0};
    uint64_t after = 0;
    unsigned n_durable = 0;
    ev->now = r->now;
    ev->wall = r->now + 1790000000 * PFL_SEC;
    pfl_node_step(r->node, ev, &out);
    PFL_ASSERT(out.n <= ACTIONS_MAX);
    for (size_t i = 0; i < out.n; i++) {
        after = out.items[i].after > after ? out.items[i].after : after;
        n_durable += out.items[i].kind == PFL_ACT_DURABLE;
        check_action(r, &out.items[i]);
    }
    PFL_ASSERT(n_durable <= 1 && (r->closing || !r->set.durable || after <= r->durable_seq + (r->learning ? 1 : 0)));
    pfl_actions_deinit(&out);
    check_state(r);
}

/* As the timer does; a node that asks for its tick at one moment again and again spins. */
static void ticks(struct run *r)
{
    for (unsigned i = 0; pfl_node_deadline(r->node) <= r->now; i++) {
        PFL_ASSERT(i < TICKS_MAX);
        step(r, &(struct pfl_event){.kind = PFL_EV_TICK});
    }
}

/* ---- messages ---- */

static void add_number(struct run *r, struct pfl_strs *args, unsigned below)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", next(r, below));
    pfl_strs_add(args, text);
}

static void add_args(struct run *r, struct pfl_msg *m)
{
    if (strcmp(m->cmd, "start_learning") == 0) {
        static const char *const names[] = {"one-1", "two-2"};
        for (unsigned i = 0; i < 3; i++)
            add_number(r, &m->args, 6);
        pfl_strs_add(&m->args, names[next(r, 2)]);
        return;
    }
    if (strcmp(m->cmd, "state") == 0)
        pfl_strs_add(&m->args, next(r, 2) ? "one-1" : "");
    if (strcmp(m->cmd, "PRE_SEND_MODEL") == 0)
        pfl_strs_add(&m->args, next(r, 2) ? "partial_model" : "add_model");
    for (unsigned n = next(r, 5), i = 0; i < n; i++) {
        pfl_strs_add(&m->args, addrs[next(r, PEERS)]);
        if (next(r, 4) > 0)
            add_number(r, &m->args, 255);
    }
}

/* Two votes of one node or of two, for one round or two, in this experiment or another; or a few bytes that are no evidence. */
static void add_evidence(struct run *r, struct pfl_msg *m)
{
    struct pfl_statement said[2] = {0};
    struct pfl_snapshot s;
    unsigned how = next(r, 16), who = next(r, PEERS);
    pfl_node_snapshot(r->node, &s);
    for (unsigned i = 0; i < 2; i++) {
        PFL_AUTO(pfl_msg_freep)
        struct pfl_msg *v = pfl_msg_new(addrs[(who + (how == 1 ? i : 0)) % PEERS], how == 2 ? (int32_t)i : m->round,
                                        "vote_train_set", PFL_MSG_GOSSIP);
        pfl_strs_add(&v->args, addrs[0]);
        pfl_strs_add(&v->args, i == 0 || how == 3 ? "1" : "2");
        v->origin = pfl_origin_new(how == 4 || !s.experiment ? "two-2" : s.experiment, 1);
        pfl_buf_append(&v->origin->certs[0], "leaf", 4);
        v->origin->n_certs = 1;
        pfl_buf_append(&v->origin->signature, "signed", 6);
        (void)pfl_statement_of(v, &said[i]);
    }
    pfl_snapshot_deinit(&s);
    if (pfl_statements_pack(said, &m->evidence, NULL) == PFL_OK && how == 5)
        m->evidence.len = next(r, 255);
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
}

static struct pfl_msg *make_message(struct run *r, struct pfl_payload **ret_payload)
{
    static const struct {
        const char *cmd;
        enum pfl_msg_kind kind;
    } table[] = {
        {"vote_train_set", PFL_MSG_GOSSIP}, {"models_ready", PFL_MSG_GOSSIP},   {"models_aggregated", PFL_MSG_GOSSIP},
        {"partial_model", PFL_MSG_WEIGHTS}, {"add_model", PFL_MSG_WEIGHTS},     {"init_model", PFL_MSG_WEIGHTS},
        {"beat", PFL_MSG_GOSSIP},           {"start_learning", PFL_MSG_GOSSIP}, {"model_initialized", PFL_MSG_GOSSIP},
        {"stop_learning", PFL_MSG_GOSSIP},  {"metrics", PFL_MSG_GOSSIP},        {"PRE_SEND_MODEL", PFL_MSG_DIRECT},
        {"beats", PFL_MSG_DIRECT},          {"state", PFL_MSG_DIRECT},          {"hear", PFL_MSG_DIRECT},
        {"evidence", PFL_MSG_GOSSIP},
    };
    unsigned k = next(r, PFL_ARRAY_LEN(table));
    const char *source = addrs[next(r, PEERS)];
    int32_t round = (int32_t)next(r, 8) - 1;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(source, round, table[k].cmd, table[k].kind);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_msg *out = NULL;
    m->ttl = (int32_t)next(r, 4);
    m->hash = (int64_t)next(r, 255) + 1;
    add_args(r, m);
    for (unsigned n = table[k].kind == PFL_MSG_WEIGHTS ? next(r, 4) : 0; n > 0; n--)
        pfl_strs_add(&m->contributors, addrs[next(r, PEERS)]);
    m->num_samples = (int32_t)next(r, 255) - 1;
    m->has_contribution = r->set.signatures && strcmp(m->cmd, "models_aggregated") == 0 && next(r, 2);
    if (m->has_contribution) {
        m->contribution_samples = (int32_t)next(r, 3);
        memcpy(m->contribution, r->models[next(r, 3)]->digest, PFL_DIGEST_LEN);
    }
    if (strcmp(m->cmd, "evidence") == 0)
        add_evidence(r, m);
    struct pfl_payload *p = table[k].kind == PFL_MSG_WEIGHTS ? r->models[next(r, 3)] : NULL;
    if ((p || next(r, 2)) && !(table[k].kind == PFL_MSG_WEIGHTS && !p)) {
        const struct pfl_payload *of = p ? p : r->models[next(r, 3)];
        m->has_model_digest = true;
        memcpy(m->model_digest, of->digest, PFL_DIGEST_LEN);
    }
    if (pfl_msg_encode(m, p, &body, NULL) != PFL_OK)
        return NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = pfl_blob_new(body->total);
    size_t off = 0;
    for (size_t i = 0; i < body->n; off += body->parts[i++].len)
        memcpy(b->data + off, body->parts[i].data, body->parts[i].len);
    *ret_payload = p && next(r, 8) ? p : NULL;
    return pfl_msg_decode(b, &out, NULL) == PFL_OK ? out : NULL;
}

/* ---- events ---- */

static uint64_t new_call(struct run *r)
{
    PFL_ASSERT(r->n_calls < CALLS_MAX);
    r->waits[r->n_calls] = true;
    return ++r->n_calls;
}

/* Who signed it, and for which experiment: what its driver found out. */
static void sign(struct run *r, struct pfl_msg *m, struct pfl_event *ev, struct pfl_signer *signer)
{
    static const unsigned rights[] = {PFL_MAY_TRAIN | PFL_MAY_START, PFL_MAY_TRAIN, 0};
    unsigned how = next(r, 16);
    struct pfl_snapshot s;
    if (how == 0) /* nobody */
        return;
    pfl_node_snapshot(r->node, &s);
    const char *const names[] = {s.experiment ? s.experiment : "one-1", "one-1", "two-2"};
    m->origin = pfl_origin_new(names[how < 10 ? 0 : next(r, 3)], ev->now / PFL_MS + (int64_t)1790000000 * 1000);
    pfl_snapshot_deinit(&s);
    if (how == 1) {
        ev->forged = "the signature is another's";
        return;
    }
    *signer = (struct pfl_signer){.id = m->source, .may = rights[how < 12 ? 0 : next(r, 3)]};
    ev->signer = signer;
    ev->relayed = how % 2 == 1;
    if (m->evidence.len > 0 && how != 3)
        ev->accused = how < 8 ? "one party" : "another one";
}

static void message(struct run *r)
{
    struct pfl_payload *p = NULL;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = make_message(r, &p);
    if (!m)
        return;
    struct pfl_event ev = {.kind = PFL_EV_MESSAGE, .msg = m, .payload = p, .call = new_call(r)};
    ev.rc = m->kind == PFL_MSG_WEIGHTS && !p ? PFL_MALFORMED : PFL_OK;
    ev.text = ev.rc ? "it cannot be decoded" : NULL;
    ev.now = r->now;
    struct pfl_signer signer = {0};
    if (r->set.signatures && m->kind != PFL_MSG_DIRECT)
        sign(r, m, &ev, &signer);
    step(r, &ev);
    PFL_ASSERT(!r->waits[ev.call - 1]); /* answered at once */
}

static void sent(struct run *r)
{
    static const enum pfl_rc codes[] = {PFL_OK, PFL_OK, PFL_UNAVAILABLE, PFL_TIMEOUT, PFL_STATE};
    static const char trains[] = "3 5 1 3 t 0202020202020202020202020202020202020202020202020202020202020202 one-1\n"
                                 "10.0.0.1:6666\n10.0.0.3:6666";
    static const char *const texts[] = {"", "true", "false", "0 5 1 3 v - one-1", "2 5 1 3 v - one-1", "4 5 1 3 e - one-1", trains};
    uint64_t id = pick(r, &r->sends);
    if (id == 0)
        return;
    struct pfl_event ev = {.kind = PFL_EV_SENT, .id = id, .rc = codes[next(r, PFL_ARRAY_LEN(codes))]};
    ev.text = texts[next(r, PFL_ARRAY_LEN(texts))];
    ev.hello = next(r, 2) ? pfl_node_hello() : NULL;
    step(r, &ev);
}

static void job(struct run *r)
{
    uint64_t id = pick(r, &r->jobs);
    if (id == 0)
        return;
    struct pfl_event ev = {.kind = PFL_EV_JOB, .id = id, .rc = next(r, 4) ? PFL_OK : PFL_IO, .n_samples = next(r, 16)};
    ev.payload = ev.rc == PFL_OK ? r->models[next(r, 3)] : NULL;
    ev.text = ev.rc == PFL_OK ? NULL : "it failed";
    step(r, &ev);
}

static void link(struct run *r, bool up)
{
    unsigned i = next(r, PEERS);
    if (!r->opened[i])
        return;
    r->opened[i] = up;
    struct pfl_event ev = {.kind = up ? PFL_EV_LINK_UP : PFL_EV_LINK_DOWN, .addr = addrs[i], .text = up ? NULL : "it is gone"};
    ev.rc = up ? PFL_OK : next(r, 4) ? PFL_UNAVAILABLE : PFL_AUTH;
    ev.hello = up && next(r, 4) ? pfl_node_hello() : NULL;
    step(r, &ev);
}

static void called(struct run *r, enum pfl_event_kind kind)
{
    struct pfl_event ev = {.kind = kind, .addr = addrs[next(r, PEERS)], .call = new_call(r)};
    ev.learn = (struct pfl_learn_args){next(r, 6), next(r, 3), next(r, 6), "mine"};
    ev.hello = next(r, 4) ? pfl_node_hello() : NULL;
    step(r, &ev);
}

static void begin(struct run *r)
{
    struct pfl_event model = {.kind = PFL_EV_MODEL, .payload = r->models[0]};
    r->set.entropy++;
    r->node = pfl_node_new(self, r->layout, &r->set);
    r->learning = false;
    r->last_send = 0;
    r->sends.n = r->jobs.n = 0;
    memset(r->opened, 0, sizeof(r->opened));
    memset(r->waits, 0, sizeof(r->waits)); /* whoever called the old one hears of a reset */
    if (r->kept) {
        PFL_AUTO(pfl_durable_freep) struct pfl_durable *kept = pfl_steal(&r->kept);
        step(r, &(struct pfl_event){.kind = PFL_EV_RESTORE, .durable = kept});
        if (!r->kept)
            r->kept = pfl_steal(&kept);
    }
    if (!pfl_node_model(r->node))
        step(r, &model);
}

static void revoke(struct run *r)
{
    unsigned i = next(r, PEERS);
    step(r, &(struct pfl_event){.kind = PFL_EV_REVOKED,
                                .addr = strcmp(addrs[i], self) == 0 ? NULL : addrs[i],
                                .text = "its certificate was revoked"});
}

static void one(struct run *r)
{
    static const enum pfl_event_kind calls[] = {PFL_EV_HANDSHAKE,      PFL_EV_DISCONNECT, PFL_EV_CMD_CONNECT,
                                                PFL_EV_CMD_DISCONNECT, PFL_EV_CMD_LEARN,  PFL_EV_CMD_STOP};
    unsigned what = next(r, 32);
    if (what < 12)
        message(r);
    else if (what < 16)
        sent(r);
    else if (what < 19)
        job(r);
    else if (what < 22)
        link(r, what < 21);
    else if (what < 27)
        called(r, calls[next(r, PFL_ARRAY_LEN(calls))]);
    else if (what < 29)
        r->now += (pfl_ns)(1 + next(r, 255)) * (what == 27 ? 10 * PFL_MS : PFL_SEC);
    else if (what == 29 && pfl_node_deadline(r->node) != PFL_NEVER && pfl_node_deadline(r->node) > r->now)
        r->now = pfl_node_deadline(r->node);
    else if (what == 30)
        revoke(r);
    else if (what == 31) { /* the process is killed and started again */
        pfl_node_free(r->node);
        begin(r);
    }
}

/* ---- one input ---- */

static void make_models(struct run *r)
{
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {2}};
    PFL_ASSERT(pfl_layout_new(&desc, 1, &r->layout, NULL) == PFL_OK);
    for (unsigned i = 0; i < PFL_ARRAY_LEN(r->models); i++) {
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
        PFL_ASSERT(pfl_model_new(r->layout, &m, NULL) == PFL_OK);
        ((float *)(void *)pfl_model_data_mut(m))[0] = (float)i;
        PFL_ASSERT(pfl_payload_new(m, &r->models[i], NULL) == PFL_OK);
        memset(r->models[i]->digest, (int)i + 1, PFL_DIGEST_LEN);
        r->models[i]->has_digest = true;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run *r = pfl_xcalloc(1, sizeof(*r));
    r->in = data;
    r->left = size;
    r->now = 1000 * PFL_SEC;
    pfl_node_settings_default(&r->set);
    unsigned flags = next(r, 255);
    r->set.durable = (flags & 1) != 0;
    r->set.interop = (flags & 2) != 0;
    r->set.late_join = (flags & 4) != 0;
    r->set.signatures = (flags & 32) != 0;
    r->set.vote_quorum = flags & 8 ? 0.6 : 0;
    r->set.aggregation_quorum = flags & 16 ? 0.6 : 0;
    make_models(r);
    begin(r);
    for (unsigned i = 0; r->left > 0 && i < STEPS_MAX; i++) {
        ticks(r);
        one(r);
    }
    r->closing = true;
    step(r, &(struct pfl_event){.kind = PFL_EV_SHUTDOWN});
    PFL_ASSERT(pfl_node_deadline(r->node) == PFL_NEVER);
    pfl_node_free(r->node);
    pfl_durable_free(r->kept);
    for (unsigned i = 0; i < PFL_ARRAY_LEN(r->models); i++)
        pfl_payload_unref(r->models[i]);
    pfl_layout_unref(r->layout);
    free(r);
    return 0;
}
