/* SPDX-License-Identifier: Apache-2.0 */
/* One simulated node as a process on a machine: start, crash, clocks, and the step with what a driver does with its actions. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"

static const pfl_ns reconnect_after = 2 * PFL_SEC;

/* ---- clocks ---- */

static pfl_ns scaled(pfl_ns d, int64_t ppm)
{
    return d + (pfl_ns)((__int128)d * ppm / 1000000);
}

pfl_ns pfl_sim_mono(const struct pfl_sim *s, unsigned i)
{
    const struct pfl_sim_node *x = &s->nodes[i];
    return x->mono_base + scaled(s->now - x->since, x->ppm);
}

pfl_ns pfl_sim_wall(const struct pfl_sim *s, unsigned i)
{
    static const pfl_ns epoch = 1790000000 * PFL_SEC;
    return epoch + pfl_sim_mono(s, i) - s->nodes[i].mono_base + s->nodes[i].since + s->nodes[i].wall_off;
}

void pfl_sim_drift(struct pfl_sim *s, unsigned i, int64_t ppm)
{
    struct pfl_sim_node *x = &s->nodes[i];
    pfl_ns mono = pfl_sim_mono(s, i), wall = pfl_sim_wall(s, i);
    x->mono_base = mono;
    x->since = s->now;
    x->ppm = ppm;
    x->wall_off += wall - pfl_sim_wall(s, i);
}

/* The first virtual time at which the node's clock shows at least `mono`. */
static pfl_ns virtual_of(const struct pfl_sim *s, unsigned i, pfl_ns mono)
{
    const struct pfl_sim_node *x = &s->nodes[i];
    pfl_ns d = (pfl_ns)((__int128)(mono - x->mono_base) * 1000000 / (1000000 + x->ppm));
    while (x->mono_base + scaled(d, x->ppm) < mono)
        d++;
    return x->since + d;
}

/* ---- channels ---- */

bool pfl_sim_channel(const struct pfl_sim *s, unsigned from, unsigned to)
{
    size_t bit = (size_t)from * s->n + to;
    return (s->channels[bit / 8] >> (bit % 8)) & 1;
}

void pfl_sim_channel_set(struct pfl_sim *s, unsigned from, unsigned to, bool there)
{
    size_t bit = (size_t)from * s->n + to;
    uint8_t mask = (uint8_t)(1U << (bit % 8));
    s->channels[bit / 8] = (uint8_t)(there ? s->channels[bit / 8] | mask : s->channels[bit / 8] & ~mask);
}

/* What a reset does to the channel of a to b: its driver reports it. */
static void break_channel(struct pfl_sim *s, unsigned a, unsigned b)
{
    if (!pfl_sim_channel(s, a, b))
        return;
    pfl_sim_channel_set(s, a, b, false);
    if (!pfl_sim_up(s, a) || s->sc->net.silent)
        return;
    struct pfl_sim_item *it =
        pfl_sim_post_event(s, s->now + pfl_sim_net_latency(s->net, b, a), PFL_EV_LINK_DOWN, a, "connection reset");
    it->from = b;
    it->rc = PFL_UNAVAILABLE;
}

void pfl_sim_reset(struct pfl_sim *s, unsigned a, unsigned b)
{
    break_channel(s, a, b);
    break_channel(s, b, a);
    pfl_sim_calls_break(s, a, b);
}

/* ---- life ---- */

static struct pfl_payload *initial_model(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    if (pfl_method_init_model(&x->method, &m, &err) != PFL_OK) {
        pfl_sim_fail(s, "learner", i, "no initial model: %s", err.msg);
        return NULL;
    }
    struct pfl_payload *p = pfl_sim_payload(s, m);
    pfl_model_unref(m);
    return p;
}

void pfl_sim_node_start(struct pfl_sim *s, unsigned i, bool with_disk)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_node_settings set = s->sc->settings;
    set.seed = s->sc->seed;
    set.entropy = pfl_rng_u64(&s->rng);
    set.federation = NULL;
    set.durable = true;
    set.signatures = s->sc->signatures;
    PFL_ASSERT(!x->core);
    x->incarnation++;
    x->job_epoch++;
    x->jobs = 0;
    x->tick_at = 0;
    const struct pfl_durable *kept = pfl_sim_disk_open(s, i, with_disk);
    pfl_sim_check_start(s, i, kept);
    x->core = pfl_node_new(x->addr, x->method.model, &set);
    pfl_sim_trace(s, i, "starts%s", kept ? " with what its disk holds" : "");
    if (kept) {
        struct pfl_event ev = {.kind = PFL_EV_RESTORE, .durable = kept};
        pfl_sim_step(s, i, &ev);
    }
    if (pfl_node_model(x->core))
        return;
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = initial_model(s, i);
    struct pfl_event ev = {.kind = PFL_EV_MODEL, .payload = p};
    pfl_sim_step(s, i, &ev);
}

void pfl_sim_node_connect(struct pfl_sim *s, unsigned i)
{
    for (size_t k = 0; k < s->sc->n_edges; k++) {
        const struct pfl_sim_edge *e = &s->sc->edges[k];
        if (e->a != i && e->b != i)
            continue;
        unsigned other = e->a == i ? e->b : e->a;
        if (!s->learning && other > i && !pfl_sim_absent_at_start(s, other))
            continue; /* the other one does it when it starts */
        pfl_ns at = s->now + (pfl_ns)pfl_rng_below(&s->rng, (uint64_t)PFL_SEC / 5);
        struct pfl_sim_item *it = pfl_sim_post(s, at, PFL_SIM_IT_CONNECT, i);
        it->from = other;
        it->incarnation = s->nodes[i].incarnation;
    }
}

void pfl_sim_node_crash(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    if (!x->core)
        return;
    pfl_sim_trace(s, i, "CRASHES");
    pfl_node_free(x->core);
    x->core = NULL;
    pfl_sim_disk_crash(s, i);
    x->incarnation++;
    x->paused_until = 0;
    pfl_sim_calls_forget(s, i);
    for (unsigned k = 0; k < s->n; k++) {
        pfl_sim_channel_set(s, i, k, false);
        break_channel(s, k, i);
        if (k != i)
            pfl_sim_calls_break(s, k, i);
    }
}

/* ---- what a driver does ---- */

static void on_note(struct pfl_sim *s, unsigned i, const struct pfl_note *note)
{
    pfl_sim_trace_note(s, i, note);
    pfl_sim_check_note(s, i, note);
    if (s->o.note)
        s->o.note(s->o.user, i, note, &s->nodes[i].traffic);
}

void pfl_sim_carry_out(struct pfl_sim *s, unsigned i, struct pfl_action *a)
{
    unsigned to;
    if (a->kind == PFL_ACT_CLOSE || a->kind == PFL_ACT_GOODBYE)
        pfl_sim_disk_forget(s, i, a->addr);
    switch (a->kind) {
    case PFL_ACT_OPEN:
        pfl_sim_open(s, i, a);
        break;
    case PFL_ACT_CLOSE:
        to = pfl_sim_index(s, a->addr);
        if (to != UINT_MAX)
            pfl_sim_channel_set(s, i, to, false);
        break;
    case PFL_ACT_SEND:
        pfl_sim_send(s, i, a);
        break;
    case PFL_ACT_GOODBYE:
        pfl_sim_goodbye(s, i, a);
        break;
    case PFL_ACT_REPLY:
        pfl_sim_reply(s, i, a);
        break;
    case PFL_ACT_FIT:
    case PFL_ACT_EVALUATE:
    case PFL_ACT_AGGREGATE:
        pfl_sim_job(s, i, a);
        break;
    case PFL_ACT_CANCEL:
        s->nodes[i].job_epoch++;
        break;
    case PFL_ACT_DURABLE:
        pfl_sim_disk_take(s, i, pfl_steal(&a->durable));
        break;
    case PFL_ACT_EVIDENCE:
        pfl_sim_trace(s, i, "evidence against %s", a->addr);
        break;
    case PFL_ACT_NOTE:
        on_note(s, i, a->note);
        break;
    }
}

void pfl_sim_schedule_tick(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    pfl_ns deadline = pfl_node_deadline(x->core);
    if (s->o.deadline)
        deadline = s->o.deadline(s->o.user, i, deadline);
    if (deadline == PFL_NEVER)
        return;
    pfl_ns at = virtual_of(s, i, deadline);
    at = at < s->now ? s->now : at;
    if (x->tick_at >= s->now && x->tick_at != 0 && x->tick_at <= at)
        return; /* that one looks again */
    x->tick_at = at;
    pfl_sim_post(s, at, PFL_SIM_IT_TICK, i);
}

void pfl_sim_step(struct pfl_sim *s, unsigned i, struct pfl_event *ev)
{
    struct pfl_sim_node *x = &s->nodes[i];
    if (!x->core || pfl_sim_failed(s))
        return;
    ev->now = pfl_sim_mono(s, i);
    ev->wall = pfl_sim_wall(s, i);
    if (s->o.before && !s->o.before(s->o.user, i, ev)) {
        pfl_sim_schedule_tick(s, i);
        return;
    }
    s->result->steps++;
    pfl_sim_check_before(s, i, ev);
    pfl_node_step(x->core, ev, &s->actions);
    if (s->o.after)
        s->o.after(s->o.user, i, ev, &s->actions);
    pfl_sim_check_after(s, i, ev, &s->actions);
    for (size_t k = 0; k < s->actions.n; k++) {
        struct pfl_action *a = &s->actions.items[k];
        if (a->kind == PFL_ACT_SEND)
            pfl_sim_sign(s, i, a->body);
        if (a->kind == PFL_ACT_SEND)
            pfl_sim_check_forwards(s, i, a);
        if (!pfl_sim_disk_holds(s, i, a))
            pfl_sim_carry_out(s, i, a);
    }
    pfl_actions_clear(&s->actions);
    pfl_sim_check_carried(s, i);
    pfl_sim_schedule_tick(s, i);
}

/* The operator of a node tries again while a neighbour cannot be reached: as a service manager would. */
void pfl_sim_operator_failed(struct pfl_sim *s, unsigned i, unsigned other, const char *why)
{
    pfl_sim_trace(s, i, "connect to %s: %s", s->nodes[other].addr, why);
    struct pfl_sim_item *it = pfl_sim_post(s, s->now + reconnect_after, PFL_SIM_IT_CONNECT, i);
    it->from = other;
    it->incarnation = s->nodes[i].incarnation;
}
