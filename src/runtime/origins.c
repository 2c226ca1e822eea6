/* SPDX-License-Identifier: Apache-2.0 */
/* The caches here are bounded by their size alone: a slot that is taken is overwritten, and costs a verification again. Refused
 * certificates have slots of their own, so that nobody can push good ones out with bad ones. */
#include "runtime/origins.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/addr.h"
#include "base/log.h"
#include "pki/digest.h"

struct item {
    struct item *next;
    struct pfl_check check;
    uint64_t call;
    char *caller; /* owned: fingerprint */
};

struct held {
    struct held *next;
    struct pfl_action action;
};

struct address {
    char *addr;              /* owned */
    struct pfl_identity *id; /* a reference */
    bool met, lost;
};

struct pfl_origins {
    struct pfl_driver *d;
    struct pfl_author *good[PFL_ORIGINS_AUTHORS], *bad[PFL_ORIGINS_BAD_AUTHORS]; /* references */
    unsigned generation;
    bool federated;
    struct address *addresses; /* owned; sorted */
    size_t n_addresses;
    /* in */
    struct item *head, **tail, *batch;
    size_t n_waiting;
    uv_work_t work;
    bool working;
    /* out */
    struct held *held, **held_tail;
    uv_work_t signing;
    bool signs;
    struct pfl_scatter *body; /* a reference: what is being signed */
    struct pfl_origin *made;
    struct pfl_tls *tls; /* a reference, of the signing */
    struct pfl_err err;
    enum pfl_rc rc;
    /* for status */
    uint64_t n_signed, n_verified, n_chains, n_refused;
    pfl_ns signing_time, verifying_time;
};

/* Of this thread: what it costs, whatever else the machine does. */
static pfl_ns cpu_time(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * PFL_SEC + t.tv_nsec;
}

static bool federated(const struct pfl_tls *t)
{
    const struct pfl_trust *trust = pfl_tls_trust(t);
    for (size_t i = 0; i < pfl_trust_n_roots(trust); i++) {
        if (pfl_trust_federation(trust, pfl_trust_root(trust, i)))
            return true;
    }
    return false;
}

struct pfl_origins *pfl_origins_new(struct pfl_driver *d)
{
    struct pfl_origins *o = pfl_xcalloc(1, sizeof(*o));
    o->d = d;
    o->tail = &o->head;
    o->held_tail = &o->held;
    o->federated = federated(d->tls);
    return o;
}

static void flush(struct pfl_origins *o)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(o->good); i++) {
        pfl_author_unref(o->good[i]);
        o->good[i] = NULL;
    }
    for (size_t i = 0; i < PFL_ARRAY_LEN(o->bad); i++) {
        pfl_author_unref(o->bad[i]);
        o->bad[i] = NULL;
    }
    o->generation++;
}

void pfl_origins_changed(struct pfl_origins *o)
{
    if (!o)
        return;
    flush(o);
    o->federated = federated(o->d->tls);
}

static void item_free(struct item *i)
{
    pfl_check_deinit(&i->check);
    free(i->caller);
    free(i);
}

static void held_free(struct held *h)
{
    struct pfl_actions one = {.items = &h->action, .n = 1};
    pfl_actions_clear(&one);
    free(h);
}

void pfl_origins_free(struct pfl_origins *o)
{
    if (!o)
        return;
    flush(o);
    for (struct item *i = o->head, *next; i; i = next) {
        next = i->next;
        item_free(i);
    }
    for (struct held *h = o->held, *next; h; h = next) {
        next = h->next;
        held_free(h);
    }
    for (size_t i = 0; i < o->n_addresses; i++) {
        free(o->addresses[i].addr);
        pfl_identity_unref(o->addresses[i].id);
    }
    free(o->addresses);
    free(o);
}

/* ---- rights ---- */

unsigned pfl_driver_rights(const struct pfl_driver *d, const struct pfl_identity *id)
{
    return pfl_policy_rights(&d->policy, id, d->origins->federated);
}

static unsigned may_of(const struct pfl_driver *d, const struct pfl_identity *id)
{
    unsigned rights = pfl_driver_rights(d, id);
    return (rights & PFL_RIGHT_TRAIN ? PFL_MAY_TRAIN : 0U) | (rights & PFL_RIGHT_START ? PFL_MAY_START : 0U);
}

void pfl_origins_self(const struct pfl_driver *d, struct pfl_signer *ret)
{
    const struct pfl_identity *id = pfl_tls_client_identity(d->tls);
    *ret = (struct pfl_signer){.id = pfl_xstrdup(pfl_identity_text(id)), .may = may_of(d, id)};
}

void pfl_signer_deinit(struct pfl_signer *s)
{
    free(s->id);
    *s = (struct pfl_signer){0};
}

/* ---- whose an address is ---- */

static size_t address_at(const struct pfl_origins *o, const char *addr, bool *ret_there)
{
    size_t lo = 0, hi = o->n_addresses;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(o->addresses[mid].addr, addr) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_there = lo < o->n_addresses && strcmp(o->addresses[lo].addr, addr) == 0;
    return lo;
}

static void address_remove(struct pfl_origins *o, size_t i)
{
    free(o->addresses[i].addr);
    pfl_identity_unref(o->addresses[i].id);
    memmove(&o->addresses[i], &o->addresses[i + 1], (o->n_addresses - i - 1) * sizeof(*o->addresses));
    o->n_addresses--;
}

/* One of a lost node makes room; where none is lost, this one is not remembered: it is checked by its certificate alone. */
static bool make_room(struct pfl_origins *o)
{
    for (size_t i = 0; o->n_addresses == PFL_ORIGINS_ADDRESSES_MAX && i < o->n_addresses; i++) {
        if (o->addresses[i].lost)
            address_remove(o, i);
    }
    return o->n_addresses < PFL_ORIGINS_ADDRESSES_MAX;
}

static void hold_address(struct pfl_origins *o, const char *addr, struct pfl_identity *id, bool met)
{
    bool there;
    if (!make_room(o))
        return;
    size_t i = address_at(o, addr, &there);
    if (there) {
        pfl_identity_unref(o->addresses[i].id);
        o->addresses[i].id = pfl_identity_ref(id);
        o->addresses[i].met = met || o->addresses[i].met;
        o->addresses[i].lost = false;
        return;
    }
    o->addresses = pfl_xrealloc(o->addresses, (o->n_addresses + 1) * sizeof(*o->addresses));
    memmove(&o->addresses[i + 1], &o->addresses[i], (o->n_addresses - i) * sizeof(*o->addresses));
    o->addresses[i] = (struct address){.addr = pfl_xstrdup(addr), .id = pfl_identity_ref(id), .met = met};
    o->n_addresses++;
}

void pfl_origins_met(struct pfl_origins *o, const char *addr, struct pfl_identity *id)
{
    bool there;
    if (!o || !id)
        return;
    size_t i = address_at(o, addr, &there);
    if (there && !pfl_identity_same(o->addresses[i].id, id))
        pfl_warn("%s: %s signed messages in the name of %s, but there answers %s: the address is the latter's", o->d->name,
                 pfl_q(pfl_identity_text(o->addresses[i].id)), pfl_q(addr), pfl_q(pfl_identity_text(id)));
    hold_address(o, addr, id, true);
}

const struct pfl_identity *pfl_origins_holder(const struct pfl_driver *d, const char *addr)
{
    const struct pfl_link *l = pfl_link_find(d, addr);
    bool there = false;
    if (l && l->bound)
        return l->bound;
    size_t i = d->origins ? address_at(d->origins, addr, &there) : 0;
    return there && !d->origins->addresses[i].lost ? d->origins->addresses[i].id : NULL;
}

void pfl_origins_lost(struct pfl_origins *o, const char *addr)
{
    bool there;
    size_t i = o ? address_at(o, addr, &there) : 0;
    if (o && there)
        o->addresses[i].lost = true;
}

/* Is this address the signer's? Takes it where it was nobody's. */
static bool takes_address(struct pfl_origins *o, const char *addr, struct pfl_identity *id, char *why)
{
    struct pfl_addr a;
    bool there;
    const struct pfl_link *l = pfl_link_find(o->d, addr);
    if (pfl_addr_parse(addr, &a, NULL) != PFL_OK || (!a.is_unix && !pfl_identity_covers_host(id, a.host))) {
        snprintf(why, PFL_ERR_MAX, "it is signed by %s, whose certificate does not cover that address",
                 pfl_q(pfl_identity_text(id)));
        return false;
    }
    size_t i = address_at(o, addr, &there);
    const struct pfl_identity *holder = l && l->bound ? l->bound : there ? o->addresses[i].id : NULL;
    bool free_again = !(l && l->bound) && there && o->addresses[i].lost && !pfl_node_is_learning(o->d->node);
    if (holder && !free_again && !pfl_identity_same(holder, id)) {
        snprintf(why, PFL_ERR_MAX, "it is signed by %s, and that address is %s's", pfl_q(pfl_identity_text(id)),
                 pfl_q(pfl_identity_text(holder)));
        return false;
    }
    if (!there || !pfl_identity_same(o->addresses[i].id, id) || o->addresses[i].lost)
        hold_address(o, addr, id, false);
    return true;
}

/* ---- one check ---- */

static struct pfl_author **slot_of(struct pfl_origins *o, const uint8_t fp[32], bool good)
{
    size_t k = (size_t)fp[0] | (size_t)fp[1] << 8;
    return good ? &o->good[k % PFL_ARRAY_LEN(o->good)] : &o->bad[k % PFL_ARRAY_LEN(o->bad)];
}

static struct pfl_author *author_known(struct pfl_origins *o, const struct pfl_origin *origin)
{
    uint8_t fp[32];
    pfl_sha256(pfl_buf_view(&origin->certs[0]), fp);
    for (int good = 0; good < 2; good++) {
        struct pfl_author *a = *slot_of(o, fp, good);
        if (a && memcmp(a->fingerprint, fp, sizeof(fp)) == 0 && pfl_clock_mono() - a->checked_at < PFL_ORIGINS_AUTHOR_AGE)
            return pfl_author_ref(a);
    }
    return NULL;
}

static void author_keep(struct pfl_origins *o, struct pfl_author *a, unsigned generation)
{
    struct pfl_author **slot = slot_of(o, a->fingerprint, a->rc == PFL_OK);
    if (generation != o->generation || *slot == a)
        return;
    pfl_author_unref(*slot);
    *slot = pfl_author_ref(a);
}

/* ---- evidence in a message ---- */

struct pfl_accusation {
    struct pfl_identity *who; /* a reference: whose both statements are; NULL: they prove nothing */
    char *addr;               /* owned: in whose name they are */
    struct pfl_err why;
};

static void accusation_free(struct pfl_accusation *a)
{
    if (!a)
        return;
    pfl_identity_unref(a->who);
    free(a->addr);
    free(a);
}

static enum pfl_rc prove(struct pfl_tls *tls, const struct pfl_statement said[2], struct pfl_author *by[2], struct pfl_err *err)
{
    for (size_t i = 0; i < 2; i++) {
        const struct pfl_origin *o = said[i].origin;
        bool same = i == 1 && pfl_bytes_eq(pfl_buf_view(&o->certs[0]), pfl_buf_view(&said[0].origin->certs[0]));
        by[i] = same ? pfl_author_ref(by[0]) : pfl_author_check(tls, o->certs, o->n_certs, pfl_clock_wall() / PFL_SEC);
        if (by[i]->rc != PFL_OK)
            return pfl_err_set(err, by[i]->rc, "the certificate of statement %zu is refused: %.300s", i + 1, by[i]->why);
        if (!pfl_author_signed(by[i], pfl_buf_view(&said[i].text), pfl_buf_view(&o->signature)))
            return pfl_err_set(err, PFL_AUTH, "statement %zu is not signed by the key of its certificate", i + 1);
    }
    if (!pfl_identity_same(by[0]->identity, by[1]->identity))
        return pfl_err_set(err, PFL_AUTH, "the statements are of two parties, %s and %s", pfl_q(pfl_identity_text(by[0]->identity)),
                           pfl_q(pfl_identity_text(by[1]->identity)));
    return PFL_OK;
}

/* On a worker, after the reporter's own signature was found good. */
static struct pfl_accusation *accusation_of(struct pfl_tls *tls, struct pfl_bytes evidence)
{
    struct pfl_accusation *a = pfl_xcalloc(1, sizeof(*a));
    struct pfl_statement said[2] = {0};
    struct pfl_author *by[2] = {0};
    struct pfl_origin_said about = {0};
    enum pfl_rc rc = pfl_statements_unpack(evidence, said, &a->why);
    if (rc == PFL_OK)
        rc = pfl_origin_said_parse(pfl_buf_view(&said[0].text), &about, &a->why);
    if (rc == PFL_OK && prove(tls, said, by, &a->why) == PFL_OK) {
        a->who = pfl_identity_ref(by[0]->identity);
        a->addr = pfl_steal(&about.source);
    }
    pfl_origin_said_deinit(&about);
    for (size_t i = 0; i < 2; i++) {
        pfl_statement_deinit(&said[i]);
        pfl_author_unref(by[i]);
    }
    return a;
}

/* why: PFL_ERR_MAX bytes. */
static void judge_accusation(struct pfl_driver *d, const struct pfl_accusation *a, struct pfl_event *ev, char *why)
{
    ev->unproven = a->why.msg;
    if (!a->who)
        return;
    if (!takes_address(d->origins, a->addr, a->who, why)) {
        ev->unproven = why;
        return;
    }
    ev->accused = pfl_identity_text(a->who);
}

void pfl_check_init(struct pfl_driver *d, struct pfl_msg *msg, struct pfl_check *ret)
{
    *ret = (struct pfl_check){.msg = pfl_msg_ref(msg)};
    if (!d->origins || !msg->origin)
        return;
    ret->tls = pfl_tls_ref(d->tls);
    ret->author = author_known(d->origins, msg->origin);
    ret->generation = d->origins->generation;
}

void pfl_check_run(struct pfl_check *c)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0};
    if (!c->tls)
        return;
    pfl_ns start = cpu_time();
    const struct pfl_origin *origin = c->msg->origin;
    if (!c->author)
        c->author = pfl_author_check(c->tls, origin->certs, origin->n_certs, pfl_clock_wall() / PFL_SEC);
    c->good = c->author->rc == PFL_OK && pfl_origin_text(c->msg, origin->experiment, origin->sent_at_ms, &text, NULL) == PFL_OK &&
              pfl_author_signed(c->author, pfl_buf_view(&text), pfl_buf_view(&origin->signature));
    if (c->good && c->msg->evidence.len > 0) {
        accusation_free(c->accusation);
        c->accusation = accusation_of(c->tls, pfl_buf_view(&c->msg->evidence));
    }
    c->spent = cpu_time() - start;
}

/* Why it does not count; false: it does. */
static bool is_forged(struct pfl_driver *d, const struct pfl_check *c, char *why)
{
    const struct pfl_author *a = c->author;
    if (a->rc != PFL_OK) {
        snprintf(why, PFL_ERR_MAX, "its signer's certificate is refused: %.400s", a->why);
        return true;
    }
    if (!c->good) {
        snprintf(why, PFL_ERR_MAX, "the signature is not %s's over these words", pfl_q(pfl_identity_text(a->identity)));
        return true;
    }
    return !takes_address(d->origins, c->msg->source, a->identity, why);
}

void pfl_check_judge(struct pfl_driver *d, struct pfl_check *c, uint64_t call, struct pfl_event *ev, struct pfl_signer *ret,
                     char *why)
{
    struct pfl_origins *o = d->origins;
    const struct pfl_pending *p = pfl_pending_find(d, call);
    ev->from = p && p->caller ? pfl_identity_text(p->caller) : NULL;
    ev->addr = p && p->caller ? pfl_link_held_by(d, p->caller) : NULL;
    if (!c->tls)
        return;
    o->n_verified++;
    o->verifying_time += c->spent;
    o->n_chains += c->generation == o->generation && *slot_of(o, c->author->fingerprint, c->author->rc == PFL_OK) != c->author;
    author_keep(o, c->author, c->generation);
    if (c->generation != o->generation) { /* by other roots or CRLs than those that are in use now: look again */
        pfl_author_unref(c->author);
        pfl_tls_unref(c->tls);
        c->author = NULL;
        c->tls = pfl_tls_ref(d->tls);
        c->generation = o->generation;
        pfl_check_run(c);
    }
    if (is_forged(d, c, why)) {
        o->n_refused++;
        ev->forged = why;
        return;
    }
    *ret = (struct pfl_signer){.id = pfl_xstrdup(pfl_identity_text(c->author->identity)), .may = may_of(d, c->author->identity)};
    ev->signer = ret;
    ev->relayed = p && p->caller && !pfl_identity_same(p->caller, c->author->identity);
    if (c->accusation)
        judge_accusation(d, c->accusation, ev, why);
}

void pfl_check_deinit(struct pfl_check *c)
{
    pfl_msg_unref(c->msg);
    pfl_tls_unref(c->tls);
    pfl_author_unref(c->author);
    accusation_free(c->accusation);
    *c = (struct pfl_check){0};
}

/* ---- gossip in ---- */

static void post(struct pfl_driver *d, struct pfl_check *c, uint64_t call)
{
    struct pfl_signer signer = {0};
    char why[PFL_ERR_MAX];
    struct pfl_event ev = pfl_driver_event(PFL_EV_MESSAGE);
    ev.msg = c->msg;
    ev.call = call;
    pfl_check_judge(d, c, call, &ev, &signer, why);
    pfl_driver_post(d, &ev);
    pfl_signer_deinit(&signer);
}

/* The same message by way of several neighbours is looked at once. */
static struct item *twin_of(struct item *head, const struct item *of)
{
    const struct pfl_msg *m = of->check.msg;
    for (struct item *i = head; i != of; i = i->next) {
        const struct pfl_msg *x = i->check.msg;
        if (i->check.good && x->hash == m->hash && x->origin && pfl_streq(x->source, m->source) &&
            pfl_bytes_eq(pfl_buf_view(&x->origin->signature), pfl_buf_view(&m->origin->signature)))
            return i;
    }
    return NULL;
}

static void on_work(uv_work_t *w)
{
    struct pfl_origins *o = w->data;
    for (struct item *i = o->batch; i; i = i->next) {
        bool evidence = i->check.msg->evidence.len > 0; /* rare, and what it holds is looked at for each */
        const struct item *twin = i->check.tls && !evidence ? twin_of(o->batch, i) : NULL;
        if (twin) {
            pfl_author_unref(i->check.author);
            i->check.author = pfl_author_ref(twin->check.author);
            i->check.good = true;
        }
        if (twin || !i->check.tls)
            continue;
        for (const struct item *k = o->batch; !i->check.author && k != i; k = k->next) {
            if (k->check.author && k->check.generation == i->check.generation && k->check.msg->origin &&
                pfl_bytes_eq(pfl_buf_view(&k->check.msg->origin->certs[0]), pfl_buf_view(&i->check.msg->origin->certs[0])))
                i->check.author = pfl_author_ref(k->check.author);
        }
        pfl_check_run(&i->check);
    }
}

static void start_batch(struct pfl_origins *o);

static void on_done(uv_work_t *w, int status)
{
    struct pfl_origins *o = w->data;
    struct pfl_driver *d = o->d;
    (void)status; /* is never canceled */
    o->working = false;
    d->jobs_running--;
    struct item *batch = o->batch;
    o->batch = NULL;
    for (struct item *i = batch, *next; i; i = next) {
        next = i->next;
        if (!d->shutting_down)
            post(d, &i->check, i->call);
        item_free(i);
    }
    if (!d->shutting_down)
        start_batch(o);
    pfl_driver_maybe_closed(d);
}

static void start_batch(struct pfl_origins *o)
{
    if (o->working || !o->head)
        return;
    struct item **last = &o->batch;
    for (size_t n = 0; n < PFL_ORIGINS_BATCH && o->head; n++) {
        struct item *i = o->head;
        o->head = i->next;
        i->next = NULL;
        o->n_waiting--;
        if (i->check.tls && pfl_node_knows(o->d->node, i->check.msg)) { /* it came by another way meanwhile */
            pfl_tls_unref(i->check.tls);
            i->check.tls = NULL;
        }
        *last = i;
        last = &i->next;
    }
    if (!o->head)
        o->tail = &o->head;
    o->working = true;
    o->d->jobs_running++;
    o->work.data = o;
    int rc = uv_queue_work(o->d->loop, &o->work, on_work, on_done);
    PFL_ASSERT(rc == 0);
}

static size_t waiting_of(const struct pfl_origins *o, const char *caller)
{
    size_t n = 0;
    for (const struct item *i = o->head; i; i = i->next)
        n += pfl_streq(i->caller, caller);
    return n;
}

bool pfl_origins_receive(struct pfl_driver *d, struct pfl_msg *msg, struct pfl_rpc_call *call)
{
    struct pfl_origins *o = d->origins;
    const struct pfl_rpc_peer *peer = pfl_rpc_call_peer(call);
    bool check = o && msg->kind == PFL_MSG_GOSSIP && msg->origin && !pfl_node_knows(d->node, msg);
    bool behind = o && (o->head || o->working) && msg->kind == PFL_MSG_DIRECT && !pfl_streq(msg->cmd, "beats") &&
                  !pfl_streq(msg->cmd, "hear"); /* signs of life wait for nothing */
    if (!check && !behind) {
        struct pfl_check none = {.msg = msg};
        post(d, &none, pfl_pending_add(d, call, NULL, NULL));
        return true;
    }
    const char *caller = peer->identity->fingerprint;
    if (o->n_waiting >= PFL_ORIGINS_WAITING_MAX || waiting_of(o, caller) >= PFL_ORIGINS_CALLER_MAX)
        return false;
    struct item *i = pfl_xcalloc(1, sizeof(*i));
    if (check)
        pfl_check_init(d, msg, &i->check);
    else
        i->check.msg = pfl_msg_ref(msg);
    i->caller = pfl_xstrdup(caller);
    i->call = pfl_pending_add(d, call, NULL, NULL);
    *o->tail = i;
    o->tail = &i->next;
    o->n_waiting++;
    start_batch(o);
    return true;
}

/* ---- out ---- */

static struct pfl_origin *origin_for(const struct pfl_tls *t, const struct pfl_msg *m)
{
    struct pfl_origin *origin = pfl_origin_new(m->sign_for, pfl_clock_wall() / PFL_MS);
    origin->n_certs = pfl_tls_client_chain(t, origin->certs, PFL_ARRAY_LEN(origin->certs));
    return origin;
}

static enum pfl_rc sign(const struct pfl_tls *t, const struct pfl_msg *m, struct pfl_origin *origin, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0};
    enum pfl_rc rc = pfl_origin_text(m, origin->experiment, origin->sent_at_ms, &text, err);
    return rc == PFL_OK ? pfl_tls_sign(t, pfl_buf_view(&text), &origin->signature, err) : rc;
}

static void failed(struct pfl_origins *o, const struct pfl_action *a, const struct pfl_err *err)
{
    pfl_error("%s: a message is not sent, for it cannot be signed: %s", o->d->name, err->msg);
    struct pfl_event ev = pfl_driver_event(PFL_EV_SENT);
    ev.id = a->id;
    ev.rc = PFL_UNAVAILABLE;
    ev.text = err->msg;
    if (!o->d->shutting_down)
        pfl_driver_post(o->d, &ev);
}

static void sign_next(struct pfl_origins *o);

static void on_signed(uv_work_t *w, int status)
{
    struct pfl_origins *o = w->data;
    struct pfl_driver *d = o->d;
    (void)status;
    d->jobs_running--;
    if (o->rc == PFL_OK && o->body->to_sign)
        o->rc = pfl_scatter_put_origin(o->body, o->made, &o->err);
    bool bad = o->rc != PFL_OK;
    struct pfl_scatter *body = o->body;
    pfl_origin_unref(o->made);
    pfl_tls_unref(o->tls);
    while (o->held && (!o->held->action.body->to_sign || (bad && o->held->action.body == body))) {
        struct held *h = o->held;
        o->held = h->next;
        if (!o->held)
            o->held_tail = &o->held;
        if (h->action.body->to_sign)
            failed(o, &h->action, &o->err);
        else if (!d->shutting_down)
            pfl_driver_carry_out(d, &h->action);
        held_free(h);
    }
    pfl_scatter_unref(body);
    o->signs = false;
    sign_next(o);
    pfl_driver_maybe_closed(d);
}

static void on_sign(uv_work_t *w)
{
    struct pfl_origins *o = w->data;
    pfl_ns start = cpu_time();
    pfl_err_clear(&o->err);
    o->rc = sign(o->tls, o->body->to_sign, o->made, &o->err);
    o->signing_time += cpu_time() - start;
    o->n_signed++;
}

static void sign_next(struct pfl_origins *o)
{
    if (o->signs || !o->held || o->d->shutting_down)
        return;
    o->signs = true;
    o->body = pfl_scatter_ref(o->held->action.body);
    o->tls = pfl_tls_ref(o->d->tls);
    o->made = origin_for(o->tls, o->body->to_sign);
    o->d->jobs_running++;
    o->signing.data = o;
    int rc = uv_queue_work(o->d->loop, &o->signing, on_sign, on_signed);
    PFL_ASSERT(rc == 0);
}

bool pfl_origins_holds(struct pfl_origins *o, struct pfl_action *a)
{
    if (!o || !a->body || !a->body->to_sign || o->d->shutting_down)
        return false;
    if (pfl_tls_signs_fast(o->d->tls) && !o->held) {
        struct pfl_err err = {0};
        pfl_ns start = cpu_time();
        PFL_AUTO(pfl_origin_freep) struct pfl_origin *origin = origin_for(o->d->tls, a->body->to_sign);
        enum pfl_rc rc = sign(o->d->tls, a->body->to_sign, origin, &err);
        if (rc == PFL_OK)
            rc = pfl_scatter_put_origin(a->body, origin, &err);
        o->signing_time += cpu_time() - start;
        o->n_signed++;
        if (rc != PFL_OK)
            failed(o, a, &err);
        return rc != PFL_OK;
    }
    struct held *h = pfl_xcalloc(1, sizeof(*h));
    h->action = *a;
    *a = (struct pfl_action){.kind = a->kind};
    *o->held_tail = h;
    o->held_tail = &h->next;
    sign_next(o);
    return true;
}

void pfl_origins_forget(struct pfl_origins *o, const char *addr)
{
    for (struct held **h = o ? &o->held : NULL; h && *h;) {
        struct held *x = *h;
        if (!pfl_streq(x->action.addr, addr)) {
            h = &x->next;
            continue;
        }
        *h = x->next;
        if (!x->next)
            o->held_tail = h;
        held_free(x);
    }
}

/* ---- status ---- */

void pfl_origins_status(const struct pfl_driver *d, json_t *status)
{
    const struct pfl_origins *o = d->origins;
    if (!o) {
        json_object_set_new(status, "signatures", json_string("none: PLAINTEXT"));
        return;
    }
    json_object_set_new(status, "signatures",
                        json_pack("{s:I, s:I, s:I, s:I, s:f, s:f}", "signed", (json_int_t)o->n_signed, "verified",
                                  (json_int_t)o->n_verified, "chains_verified", (json_int_t)o->n_chains, "refused",
                                  (json_int_t)o->n_refused, "sign_ms", (double)o->signing_time / 1e6, "verify_ms",
                                  (double)o->verifying_time / 1e6));
}
