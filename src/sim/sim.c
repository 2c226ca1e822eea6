/* SPDX-License-Identifier: Apache-2.0 */
/* The main loop and the life of a simulation. See sim.h and impl.h.
 *
 * Phases: all nodes start and are linked; when they know each other (or start_limit is over) the first node starts the learning,
 * and the planned faults count from there; when all have ended and all faults are over the network has time to settle. */
#include "sim/sim.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"
#include "sim/standin.h"

static const pfl_ns started_at = PFL_SEC;

/* ---- items ---- */

static struct pfl_sim_item *item_at(const struct pfl_sim *s, uint32_t k)
{
    return &s->items.blocks[k / PFL_SIM_ITEMS_BLOCK][k % PFL_SIM_ITEMS_BLOCK];
}

static uint32_t free_item(struct pfl_sim *s)
{
    struct pfl_sim_items *t = &s->items;
    if (t->free) {
        uint32_t k = t->free - 1;
        t->free = item_at(s, k)->next_free;
        return k;
    }
    if (t->n == t->n_blocks * PFL_SIM_ITEMS_BLOCK) {
        t->blocks = pfl_xrealloc(t->blocks, (t->n_blocks + 1) * sizeof(struct pfl_sim_item *));
        t->blocks[t->n_blocks++] = pfl_xmalloc(PFL_SIM_ITEMS_BLOCK * sizeof(struct pfl_sim_item));
    }
    return t->n++;
}

struct pfl_sim_item *pfl_sim_post(struct pfl_sim *s, pfl_ns at, enum pfl_sim_item_kind kind, unsigned node)
{
    uint32_t k = free_item(s);
    struct pfl_sim_item *it = item_at(s, k);
    *it = (struct pfl_sim_item){.kind = kind, .node = node};
    pfl_sim_queue_push(&s->queue, at, k);
    return it;
}

struct pfl_sim_item *pfl_sim_post_event(struct pfl_sim *s, pfl_ns at, enum pfl_event_kind ev, unsigned node, const char *text)
{
    struct pfl_sim_item *it = pfl_sim_post(s, at, PFL_SIM_IT_EVENT, node);
    it->ev = ev;
    it->incarnation = s->nodes[node].incarnation;
    pfl_sim_set_text(it, text, false);
    return it;
}

void pfl_sim_set_text(struct pfl_sim_item *it, const char *text, bool is_static)
{
    if (!it->said)
        free((char *)(uintptr_t)it->text); /* its own copy */
    it->said = is_static;
    it->text = text && !is_static ? pfl_xstrdup(text) : text;
}

static void item_done(struct pfl_sim *s, uint32_t k)
{
    struct pfl_sim_item *it = item_at(s, k);
    if (it->kind == PFL_SIM_IT_ARRIVE) {
        pfl_msg_unref(it->msg);
        pfl_payload_unref(it->payload);
    } else {
        pfl_sim_work_end(s, it);
        if (it->outcome)
            pfl_payload_unref(it->outcome->payload);
        free(it->outcome);
        pfl_sim_set_text(it, NULL, true);
    }
    it->next_free = s->items.free;
    s->items.free = k + 1;
}

/* ---- small questions ---- */

/* Addresses are "10.H.M.L:6666" with the node's number + 1 in base 250. */
unsigned pfl_sim_index(const struct pfl_sim *s, const char *addr)
{
    unsigned part[3] = {0}, n = 0;
    if (strncmp(addr, "10.", 3) != 0)
        return UINT_MAX;
    for (const char *p = addr + 3; *p && *p != ':'; p++) {
        if (*p == '.')
            n++;
        else if (*p >= '0' && *p <= '9' && n < 3 && part[n] < 1000)
            part[n] = 10 * part[n] + (unsigned)(*p - '0');
        else
            return UINT_MAX;
    }
    unsigned i = part[0] * 62500 + part[1] * 250 + part[2] - 1;
    return i < s->n && strcmp(s->nodes[i].addr, addr) == 0 ? i : UINT_MAX;
}

bool pfl_sim_up(const struct pfl_sim *s, unsigned i)
{
    return s->nodes[i].core != NULL;
}

bool pfl_sim_paused(const struct pfl_sim *s, unsigned i)
{
    return s->nodes[i].paused_until > s->now;
}

/* ---- running an item ---- */

static void take_outcome(struct pfl_sim_node *x, const struct pfl_sim_outcome *o, struct pfl_event *ev)
{
    x->jobs -= x->jobs > 0;
    ev->metrics = o->metrics;
    ev->n_samples = o->n_samples;
    ev->payload = o->payload;
    if (!o->cancels || o->epoch == x->job_epoch)
        return;
    ev->payload = NULL;
    ev->rc = PFL_CANCELED;
    ev->text = "canceled";
}

static void run_event(struct pfl_sim *s, struct pfl_sim_item *it)
{
    struct pfl_sim_node *x = &s->nodes[it->node];
    if (it->incarnation != x->incarnation || !x->core)
        return;
    pfl_sim_work_end(s, it);
    if (s->o.stop && s->o.stop(s->o.user)) /* what an interrupted call of a learner says is no news of the run */
        return;
    struct pfl_event ev = {.kind = it->ev, .id = it->id, .rc = it->rc, .text = it->text};
    if (it->ev == PFL_EV_LINK_UP || it->ev == PFL_EV_LINK_DOWN)
        ev.addr = it->from == UINT_MAX ? it->text : s->nodes[it->from].addr;
    if (it->ev == PFL_EV_LINK_DOWN && it->from == UINT_MAX) /* nobody of ours: its address has no number, and is the text */
        ev.text = "no route to host";
    ev.hello = it->hello ? pfl_node_hello() : NULL;
    if (it->outcome)
        take_outcome(x, it->outcome, &ev);
    pfl_sim_step(s, it->node, &ev);
}

static void run_tick(struct pfl_sim *s, unsigned i, pfl_ns at)
{
    struct pfl_sim_node *x = &s->nodes[i];
    if (x->tick_at != at || !x->core)
        return;
    x->tick_at = 0;
    if (pfl_node_deadline(x->core) > pfl_sim_mono(s, i)) { /* it does not need it any more */
        pfl_sim_schedule_tick(s, i);
        return;
    }
    pfl_sim_check_tick(s, i);
    struct pfl_event ev = {.kind = PFL_EV_TICK};
    pfl_sim_step(s, i, &ev);
}

static void run_connect(struct pfl_sim *s, const struct pfl_sim_item *it)
{
    struct pfl_sim_node *x = &s->nodes[it->node];
    if (!x->core || it->incarnation != x->incarnation)
        return;
    struct pfl_event ev = {.kind = PFL_EV_CMD_CONNECT, .addr = s->nodes[it->from].addr};
    ev.call = pfl_sim_call_new(s, PFL_SIM_CALL_OPERATOR, it->node, it->from, PFL_NEVER);
    pfl_sim_step(s, it->node, &ev);
}

static void probe_later(struct pfl_sim *s)
{
    pfl_ns period = s->checks.deep ? PFL_SEC / 2 : 5 * PFL_SEC;
    pfl_sim_post(s, s->now + period, PFL_SIM_IT_PROBE, 0);
}

/* What a node that does not run is sent waits for it; what its machine does by itself (a timer of a call, a cut) does not. */
static bool waits_for_node(const struct pfl_sim *s, const struct pfl_sim_item *it)
{
    switch (it->kind) {
    case PFL_SIM_IT_EVENT:
    case PFL_SIM_IT_TICK:
    case PFL_SIM_IT_CONNECT:
    case PFL_SIM_IT_LIE:
    case PFL_SIM_IT_DISK:
        return pfl_sim_paused(s, it->node);
    case PFL_SIM_IT_ARRIVE:
    case PFL_SIM_IT_TIMEOUT:
    case PFL_SIM_IT_BEGIN:
    case PFL_SIM_IT_END:
    case PFL_SIM_IT_PROBE:
        break;
    }
    return false;
}

/* False where the item was put back into the queue. */
static bool run_item(struct pfl_sim *s, uint32_t k)
{
    struct pfl_sim_item *it = item_at(s, k);
    if (waits_for_node(s, it) || (it->kind == PFL_SIM_IT_ARRIVE && pfl_sim_paused(s, it->node))) {
        pfl_ns at = s->nodes[it->node].paused_until;
        if (it->kind == PFL_SIM_IT_TICK && s->nodes[it->node].tick_at == s->now)
            s->nodes[it->node].tick_at = at;
        if (it->kind == PFL_SIM_IT_ARRIVE)
            pfl_sim_call_waits(s, it->id);
        pfl_sim_queue_push(&s->queue, at, k);
        return false;
    }
    switch (it->kind) {
    case PFL_SIM_IT_EVENT:
        run_event(s, it);
        break;
    case PFL_SIM_IT_TICK:
        run_tick(s, it->node, s->now);
        break;
    case PFL_SIM_IT_ARRIVE:
        pfl_sim_arrive(s, it);
        break;
    case PFL_SIM_IT_TIMEOUT:
        pfl_sim_timeout(s, it);
        break;
    case PFL_SIM_IT_BEGIN:
        pfl_sim_fault_begin(s, (size_t)it->id);
        break;
    case PFL_SIM_IT_END:
        pfl_sim_fault_end(s, (size_t)it->id);
        break;
    case PFL_SIM_IT_CONNECT:
        run_connect(s, it);
        break;
    case PFL_SIM_IT_LIE:
        pfl_sim_lie_now(s, it->node);
        break;
    case PFL_SIM_IT_PROBE:
        pfl_sim_check_probe(s);
        probe_later(s);
        break;
    case PFL_SIM_IT_DISK:
        pfl_sim_disk_written(s, it);
        break;
    }
    return true;
}

/* False where nothing is left before `until`, or a checker found something. */
static bool run_one(struct pfl_sim *s, pfl_ns until)
{
    pfl_ns at = pfl_sim_queue_next(&s->queue);
    if (pfl_sim_failed(s) || s->result->cut_off)
        return false;
    if (s->o.stop && s->o.stop(s->o.user)) {
        s->result->cut_off = true;
        return false;
    }
    if (at > until) {
        s->now = until > s->now ? until : s->now;
        return false;
    }
    s->now = at > s->now ? at : s->now;
    uint32_t k = pfl_sim_queue_pop(&s->queue);
    s->result->events++;
    if (run_item(s, k))
        item_done(s, k);
    return true;
}

/* ---- phases ---- */

static bool all_know_all(const struct pfl_sim *s)
{
    unsigned up = 0;
    for (unsigned i = 0; i < s->n; i++)
        up += pfl_sim_up(s, i);
    for (unsigned i = 0; i < s->n; i++) {
        if (pfl_sim_up(s, i) && s->nodes[i].watch.known + 1 < up)
            return false;
    }
    return true;
}

static void meet(struct pfl_sim *s)
{
    pfl_ns limit = s->now + s->sc->start_limit;
    for (unsigned i = 0; i < s->n; i++) {
        if (pfl_sim_absent_at_start(s, i))
            continue;
        pfl_sim_node_start(s, i, false);
        pfl_sim_node_connect(s, i);
    }
    probe_later(s);
    while (!all_know_all(s) && s->now < limit && !pfl_sim_failed(s) && !s->result->cut_off) {
        pfl_ns until = s->now + PFL_SEC / 20;
        while (run_one(s, until)) {
        }
    }
}

static void learn(struct pfl_sim *s)
{
    const struct pfl_sim_scenario *sc = s->sc;
    s->learn_at = s->now;
    s->last_end = s->now;
    s->learning = true;
    pfl_sim_check_learn(s);
    pfl_sim_faults_plan(s);
    struct pfl_event ev = {.kind = PFL_EV_CMD_LEARN, .learn = {sc->rounds, sc->epochs, sc->trainset_size, sc->name}};
    ev.call = pfl_sim_call_new(s, PFL_SIM_CALL_OPERATOR, 0, 0, PFL_NEVER);
    pfl_sim_step(s, 0, &ev);
}

/* The sum of all deadlines that one node may use up, with the extensions that progress gives: whoever is not through by then hangs.
 */
static pfl_ns limit_of(const struct pfl_sim *s)
{
    const struct pfl_node_settings *set = &s->sc->settings;
    pfl_ns round = set->vote_timeout + 4 * set->aggregation_timeout + s->sc->fit_max * 100;
    pfl_ns limit = s->sc->limit ? s->sc->limit : 2 * set->aggregation_timeout + (pfl_ns)s->sc->rounds * round;
    return s->learn_at + limit + (s->faults_over - s->learn_at);
}

static void run_to_end(struct pfl_sim *s)
{
    pfl_ns settle = s->sc->settle ? s->sc->settle : 6 * s->sc->settings.heartbeat_timeout;
    pfl_ns limit = limit_of(s);
    do { /* again where a node heard of the learning only now */
        s->learning = true;
        while (run_one(s, limit)) {
            if (s->faults_open == 0 && s->now >= s->faults_over && pfl_sim_all_ended(s))
                break;
        }
        s->learning = false; /* what is sent from here on is not the learning's */
        pfl_sim_net_calm(s->net);
        pfl_ns until = s->now + settle;
        while (s->now < limit && run_one(s, until)) {
        }
    } while (s->now < limit && !pfl_sim_failed(s) && !s->result->cut_off && !pfl_sim_all_ended(s));
    s->result->virtual_s = (double)(s->last_end - s->learn_at) / 1e9;
    if (!pfl_sim_failed(s) && !s->result->cut_off)
        pfl_sim_check_end(s);
}

void pfl_sim_run(struct pfl_sim *s, struct pfl_sim_result *ret)
{
    *ret = (struct pfl_sim_result){.nodes = s->n, .rounds = s->sc->rounds};
    s->result = ret;
    meet(s);
    if (!pfl_sim_failed(s) && !ret->cut_off)
        learn(s);
    if (!pfl_sim_failed(s) && !ret->cut_off)
        run_to_end(s);
    double node_rounds = (double)s->n * (double)s->sc->rounds;
    ret->messages_per_node_round = (double)ret->messages / node_rounds;
    ret->bytes_per_node_round = (double)ret->bytes / node_rounds;
    for (unsigned i = 0; i < s->n; i++)
        ret->calls_most = s->nodes[i].watch.calls_most > ret->calls_most ? s->nodes[i].watch.calls_most : ret->calls_most;
}

/* ---- life ---- */

static enum pfl_rc make_node(struct pfl_sim *s, unsigned i, struct pfl_err *err)
{
    struct pfl_sim_node *x = &s->nodes[i];
    unsigned k = i + 1;
    snprintf(x->addr, sizeof(x->addr), "10.%u.%u.%u:6666", k / 62500 % 250, k / 250 % 250, k % 250);
    snprintf(x->name, sizeof(x->name), "node-%u", k);
    x->slow_learner = x->slow_disk = 1.0;
    x->disk.tail = &x->disk.head;
    x->disk.read_again = pfl_sim_returns(s, i);
    x->mono_base = (pfl_ns)pfl_rng_below(&s->rng, 1000000) * PFL_MS + PFL_SEC; /* each machine counts from its own start */
    x->wall_off = (pfl_ns)pfl_rng_below(&s->rng, 20 * (uint64_t)PFL_SEC) - 10 * PFL_SEC;
    pfl_rng_seed_named(&x->rng, s->sc->seed, x->addr);
    if (s->o.learner) {
        enum pfl_rc rc = s->o.learner(s->o.user, i, &x->learner, err);
        if (rc != PFL_OK)
            return rc;
    } else {
        pfl_standin_learner_new(i, s->sc->values, &x->learner);
    }
    const struct pfl_layout *layout = x->learner.ops->layout(x->learner.self);
    if (s->o.compression)
        x->compressor.spec = *s->o.compression;
    if (pfl_compression_has(&x->compressor.spec, PFL_TECHNIQUE_DP))
        return pfl_err_set(err, PFL_INVALID, "dp draws noise that no seed gives again: not in a simulation");
    enum pfl_rc rc = pfl_method_init(&x->method, s->sc->settings.aggregator, x->learner, err);
    return rc == PFL_OK && s->layout ? pfl_layout_check_same(layout, s->layout, err) : rc;
}

enum pfl_rc pfl_sim_new(const struct pfl_sim_opts *opts, struct pfl_sim **ret, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_sim_scenario_check(opts->scenario, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_sim *s = pfl_xcalloc(1, sizeof(*s));
    s->sc = opts->scenario;
    s->o = *opts;
    s->n = s->sc->n;
    s->now = started_at;
    s->faults_over = PFL_NEVER;
    pfl_rng_seed_named(&s->rng, s->sc->seed, "simulator");
    s->net = pfl_sim_net_new(&s->sc->net, s->n, s->sc->seed);
    s->nodes = pfl_xcalloc(s->n, sizeof(*s->nodes));
    s->channels = pfl_xcalloc(((size_t)s->n * s->n + 7) / 8, 1);
    pfl_sim_checks_init(s);
    for (unsigned i = 0; rc == PFL_OK && i < s->n; i++) {
        rc = make_node(s, i, err);
        if (rc == PFL_OK && !s->layout)
            s->layout = pfl_layout_ref(s->nodes[i].learner.ops->layout(s->nodes[i].learner.self));
    }
    pfl_sim_check_memory_from(s);
    for (size_t k = 0; k < s->sc->n_edges; k++) {
        s->nodes[s->sc->edges[k].a].degree++;
        s->nodes[s->sc->edges[k].b].degree++;
    }
    if (rc != PFL_OK) {
        pfl_sim_free(s);
        return rc;
    }
    *ret = s;
    return PFL_OK;
}

static void node_free(struct pfl_sim_node *x)
{
    pfl_node_free(x->core);
    pfl_method_deinit(&x->method);
    pfl_compressor_deinit(&x->compressor);
    if (x->learner.ops)
        x->learner.ops->free(x->learner.self);
    pfl_sim_disk_deinit(&x->disk);
    for (size_t k = 0; k < x->n_kept; k++)
        pfl_scatter_unref(x->kept[k]);
}

void pfl_sim_free(struct pfl_sim *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->n; i++) {
        if (s->nodes[i].work)
            s->nodes[i].learner.ops->interrupt(s->nodes[i].learner.self);
    }
    for (uint32_t k; (k = pfl_sim_queue_pop(&s->queue)) != PFL_SIM_QUEUE_NONE;)
        item_done(s, k);
    for (size_t b = 0; b < s->items.n_blocks; b++)
        free(s->items.blocks[b]);
    free(s->items.blocks);
    pfl_sim_checks_deinit(s);
    for (unsigned i = 0; i < s->n; i++)
        node_free(&s->nodes[i]);
    free(s->nodes);
    pfl_sim_queue_deinit(&s->queue);
    pfl_sim_net_free(s->net);
    for (size_t i = 0; s->lately && i < PFL_SIM_LATELY; i++)
        pfl_msg_unref(s->lately[i]);
    free(s->lately);
    pfl_msg_unref(s->last_msg);
    pfl_scatter_unref(s->last_body);
    pfl_actions_deinit(&s->actions);
    pfl_layout_unref(s->layout);
    free(s->channels);
    free(s->calls);
    free(s);
}

const char *pfl_sim_address(const struct pfl_sim *s, unsigned node)
{
    return s->nodes[node].addr;
}

enum pfl_rc pfl_sim_export(const struct pfl_sim *s, unsigned node, struct pfl_model **ret, struct pfl_err *err)
{
    const struct pfl_payload *p = pfl_sim_model(s, node);
    if (!p)
        return pfl_err_set(err, PFL_STATE, "node %u has no model", node);
    return pfl_method_fit_layout(p->model, s->nodes[node].method.params, ret, err);
}

const struct pfl_payload *pfl_sim_model(const struct pfl_sim *s, unsigned node)
{
    return node < s->n && s->nodes[node].core ? pfl_node_model(s->nodes[node].core) : NULL;
}
