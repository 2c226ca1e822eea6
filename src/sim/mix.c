/* SPDX-License-Identifier: Apache-2.0 */
/* The default fault mix: what goes wrong, drawn from the seed. Each seed is another bad day. */
#include <stdlib.h>

#include "sim/scenario.h"

struct draw {
    struct pfl_rng rng;
    struct pfl_sim_scenario *s;
    pfl_ns span;   /* faults begin within it */
    unsigned lost; /* how many more may crash for good, or lie */
    bool *taken;   /* n: nodes that another fault has */
};

static double unit(struct draw *d)
{
    return pfl_rng_unit(&d->rng);
}

static bool chance(struct draw *d, double p)
{
    return unit(d) < p;
}

static pfl_ns between(struct draw *d, pfl_ns lo, pfl_ns hi)
{
    return lo + (pfl_ns)pfl_rng_below(&d->rng, (uint64_t)(hi - lo) + 1);
}

/* ---- the network's ordinary weather ---- */

static void draw_network(struct draw *d)
{
    struct pfl_sim_net_opts *o = &d->s->net;
    o->latency_min = between(d, PFL_MS / 10, 10 * PFL_MS);
    o->latency_max = o->latency_min + between(d, PFL_MS, 100 * PFL_MS);
    o->latency_tail = chance(d, 0.3) ? between(d, PFL_MS, 40 * PFL_MS) : 0;
    o->bandwidth = chance(d, 0.3) ? 10000 + pfl_rng_below(&d->rng, 1000000) : 0;
    o->loss = chance(d, 0.5) ? 0.05 * unit(d) : 0;
    o->reply_loss = chance(d, 0.5) ? 0.05 * unit(d) : 0;
    o->duplicate = chance(d, 0.5) ? 0.1 * unit(d) : 0;
    o->reorder = chance(d, 0.5) ? 0.2 * unit(d) : 0;
    o->silent = chance(d, 0.5);
}

/* ---- nodes ---- */

/* A node that no other fault has; n where there is none. The first one starts the learning and is spared. */
static unsigned pick(struct draw *d)
{
    for (unsigned tries = 0; tries < 50; tries++) {
        unsigned i = 1 + (unsigned)pfl_rng_below(&d->rng, d->s->n - 1);
        if (!d->taken[i])
            return i;
    }
    return d->s->n;
}

static pfl_ns length_of(struct draw *d, enum pfl_sim_fault_kind kind)
{
    const pfl_ns timeout = d->s->settings.heartbeat_timeout;
    switch (kind) {
    case PFL_SIM_RESTART:
    case PFL_SIM_PAUSE:
    case PFL_SIM_PARTITION:
    case PFL_SIM_ONE_WAY:
    case PFL_SIM_LINK_CUT: /* short ones nobody should notice; long ones everybody */
        return chance(d, 0.5) ? between(d, PFL_SEC / 5, timeout / 2) : between(d, timeout, 4 * timeout);
    default:
        return between(d, PFL_SEC, 20 * PFL_SEC);
    }
}

static void draw_group(struct draw *d, struct pfl_sim_fault *f)
{
    unsigned n = d->s->n;
    f->n_nodes = 1 + (size_t)pfl_rng_below(&d->rng, n / 2);
    uint32_t *order = pfl_xcalloc(n, sizeof(*order));
    for (unsigned i = 0; i < n; i++)
        order[i] = i;
    pfl_rng_shuffle_u32(&d->rng, order, n);
    f->nodes = pfl_xcalloc(f->n_nodes, sizeof(*f->nodes));
    for (size_t k = 0; k < f->n_nodes; k++)
        f->nodes[k] = order[k];
    free(order);
}

static void draw_edge(struct draw *d, struct pfl_sim_fault *f)
{
    if (d->s->n_edges == 0)
        return;
    const struct pfl_sim_edge *e = &d->s->edges[pfl_rng_below(&d->rng, d->s->n_edges)];
    f->node = e->a;
    f->other = e->b;
    f->has_other = true;
}

static bool lasts(enum pfl_sim_fault_kind k)
{
    return k != PFL_SIM_CRASH && k != PFL_SIM_JOIN && k != PFL_SIM_RESET && k != PFL_SIM_CLOCK_JUMP && k != PFL_SIM_BYZANTINE;
}

static bool of_link(enum pfl_sim_fault_kind k)
{
    return k == PFL_SIM_PARTITION || k == PFL_SIM_ONE_WAY || k == PFL_SIM_LINK_CUT || k == PFL_SIM_RESET;
}

/* The last of them came later. It is drawn from the seed by itself, so that what the others found is found again. */
static enum pfl_sim_lie draw_lie(struct draw *d, unsigned node)
{
    struct pfl_rng rng;
    enum pfl_sim_lie lie = (enum pfl_sim_lie)pfl_rng_below(&d->rng, PFL_SIM_LIE_FALSE_RESULT);
    pfl_rng_seed_named(&rng, d->s->seed * 4096 + node, "false-result");
    return pfl_rng_below(&rng, 4) == 0 ? PFL_SIM_LIE_FALSE_RESULT : lie;
}

static void draw_fault(struct draw *d)
{
    enum pfl_sim_fault_kind kind = (enum pfl_sim_fault_kind)pfl_rng_below(&d->rng, PFL_SIM_FAULT_KINDS);
    bool loses = kind == PFL_SIM_CRASH || kind == PFL_SIM_BYZANTINE;
    unsigned node = pick(d);
    if ((loses && d->lost == 0) || node == d->s->n || (kind == PFL_SIM_LINK_CUT && d->s->n_edges == 0))
        return;
    pfl_ns at = between(d, 0, d->span);
    struct pfl_sim_fault *f = pfl_sim_scenario_fault(d->s, kind, at, lasts(kind) ? at + length_of(d, kind) : PFL_NEVER);
    f->node = node;
    if (!of_link(kind))
        d->taken[node] = true;
    d->lost -= loses;
    if (kind == PFL_SIM_PARTITION || kind == PFL_SIM_ONE_WAY)
        draw_group(d, f);
    else if (kind == PFL_SIM_LINK_CUT || (kind == PFL_SIM_RESET && chance(d, 0.5)))
        draw_edge(d, f);
    else if (kind == PFL_SIM_SLOW_NODE)
        f->factor = 2 + 48 * unit(d);
    else if (kind == PFL_SIM_SLOW_LEARNER)
        f->factor = chance(d, 0.5) ? 10 : 100;
    else if (kind == PFL_SIM_SLOW_DISK)
        f->factor = 2 + 198 * unit(d);
    else if (kind == PFL_SIM_CLOCK_DRIFT)
        f->factor = 0.999 + 0.002 * unit(d);
    f->amount = kind == PFL_SIM_CLOCK_JUMP ? between(d, -3600 * PFL_SEC, 3600 * PFL_SEC) : 0;
    f->disk = chance(d, 0.5);
    f->lie = draw_lie(d, node);
}

void pfl_sim_mix(struct pfl_sim_scenario *s)
{
    struct draw d = {.s = s, .lost = s->n / 3, .span = (pfl_ns)s->rounds * 3 * PFL_SEC};
    pfl_rng_seed_named(&d.rng, s->seed, "faults");
    if (s->n < 3)
        return;
    d.taken = pfl_xcalloc(s->n, sizeof(*d.taken));
    draw_network(&d);
    unsigned n_faults = (unsigned)pfl_rng_below(&d.rng, 7);
    for (unsigned i = 0; i < n_faults; i++)
        draw_fault(&d);
    free(d.taken);
}
