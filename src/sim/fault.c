/* SPDX-License-Identifier: Apache-2.0 */
/* What the planned faults do when their time comes. */
#include <limits.h>
#include <stdlib.h>

#include "sim/impl.h"

bool pfl_sim_absent_at_start(const struct pfl_sim *s, unsigned i)
{
    for (size_t k = 0; k < s->sc->n_faults; k++) {
        if (s->sc->faults[k].kind == PFL_SIM_JOIN && s->sc->faults[k].node == i)
            return true;
    }
    return false;
}

bool pfl_sim_returns(const struct pfl_sim *s, unsigned i)
{
    for (size_t k = 0; k < s->sc->n_faults; k++) {
        const struct pfl_sim_fault *f = &s->sc->faults[k];
        if (f->kind == PFL_SIM_RESTART && f->disk && f->node == i)
            return true;
    }
    return false;
}

void pfl_sim_faults_plan(struct pfl_sim *s)
{
    s->faults_over = s->now;
    for (size_t k = 0; k < s->sc->n_faults; k++) {
        const struct pfl_sim_fault *f = &s->sc->faults[k];
        pfl_ns at = s->learn_at + f->at;
        pfl_sim_post(s, at > s->now ? at : s->now, PFL_SIM_IT_BEGIN, f->node)->id = k;
        s->faults_over = at > s->faults_over ? at : s->faults_over;
        if (f->until == PFL_NEVER)
            continue;
        pfl_sim_post(s, s->learn_at + f->until, PFL_SIM_IT_END, f->node)->id = k;
        s->faults_open++;
        if (s->learn_at + f->until > s->faults_over)
            s->faults_over = s->learn_at + f->until;
    }
}

/* ---- cuts ---- */

static bool in_group(const struct pfl_sim_fault *f, unsigned i)
{
    for (size_t k = 0; k < f->n_nodes; k++) {
        if (f->nodes[k] == i)
            return true;
    }
    return false;
}

static void cut(struct pfl_sim *s, unsigned a, unsigned b, bool mend)
{
    if (mend)
        pfl_sim_net_mend(s->net, a, b);
    else
        pfl_sim_net_cut(s->net, a, b);
}

static void cut_group(struct pfl_sim *s, const struct pfl_sim_fault *f, bool mend)
{
    for (size_t k = 0; k < f->n_nodes; k++) {
        for (unsigned i = 0; i < s->n; i++) {
            if (in_group(f, i))
                continue;
            cut(s, f->nodes[k], i, mend);
            if (f->kind == PFL_SIM_PARTITION)
                cut(s, i, f->nodes[k], mend);
        }
    }
}

static void reset(struct pfl_sim *s, const struct pfl_sim_fault *f)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (i != f->node && (!f->has_other || f->other == i))
            pfl_sim_reset(s, f->node, i);
    }
}

/* ---- beginning and end ---- */

static void describe(struct pfl_sim *s, const struct pfl_sim_fault *f, const char *what)
{
    struct pfl_buf b = {0};
    if (!s->o.trace)
        return;
    for (size_t k = 0; k < f->n_nodes; k++)
        pfl_buf_printf(&b, " %s", s->nodes[f->nodes[k]].name);
    if (f->has_other)
        pfl_buf_printf(&b, " %s", s->nodes[f->other].name);
    if (f->kind == PFL_SIM_BYZANTINE)
        pfl_buf_printf(&b, " %s", pfl_sim_lie_name(f->lie));
    if (f->factor > 1 || f->factor < 1)
        pfl_buf_printf(&b, " x%g", f->factor);
    pfl_sim_trace(s, f->n_nodes ? UINT_MAX : f->node, "FAULT %s %s%s", pfl_sim_fault_name(f->kind), what, pfl_buf_cstr(&b));
    pfl_buf_deinit(&b);
}

static void pause_node(struct pfl_sim *s, const struct pfl_sim_fault *f)
{
    struct pfl_sim_node *x = &s->nodes[f->node];
    pfl_ns until = s->learn_at + f->until;
    x->paused_until = until > x->paused_until ? until : x->paused_until;
}

static void lie(struct pfl_sim *s, const struct pfl_sim_fault *f)
{
    struct pfl_sim_node *x = &s->nodes[f->node];
    x->lies = x->lied = true;
    x->lie = f->lie;
    x->watch.disturbed = true;
    pfl_sim_post(s, s->now, PFL_SIM_IT_LIE, f->node);
}

static void start_node(struct pfl_sim *s, unsigned i, bool disk)
{
    if (pfl_sim_up(s, i))
        return; /* another fault started it */
    pfl_sim_node_start(s, i, disk);
    pfl_sim_node_connect(s, i);
}

static int64_t ppm_of(double factor)
{
    return (int64_t)((factor - 1.0) * 1e6);
}

void pfl_sim_fault_begin(struct pfl_sim *s, size_t k)
{
    const struct pfl_sim_fault *f = &s->sc->faults[k];
    struct pfl_sim_node *x = &s->nodes[f->node];
    describe(s, f, "begins:");
    switch (f->kind) {
    case PFL_SIM_CRASH:
    case PFL_SIM_RESTART:
        x->watch.disturbed = x->watch.disturbed || f->kind == PFL_SIM_CRASH || !f->disk;
        pfl_sim_node_crash(s, f->node);
        break;
    case PFL_SIM_PAUSE:
        pause_node(s, f);
        break;
    case PFL_SIM_JOIN:
        x->watch.disturbed = true;
        start_node(s, f->node, false);
        break;
    case PFL_SIM_PARTITION:
    case PFL_SIM_ONE_WAY:
        cut_group(s, f, false);
        break;
    case PFL_SIM_LINK_CUT:
        cut(s, f->node, f->other, false);
        cut(s, f->other, f->node, false);
        break;
    case PFL_SIM_RESET:
        reset(s, f);
        break;
    case PFL_SIM_SLOW_NODE:
        pfl_sim_net_slow(s->net, f->node, f->factor);
        break;
    case PFL_SIM_SLOW_LEARNER:
        x->slow_learner = f->factor;
        break;
    case PFL_SIM_SLOW_DISK:
        x->slow_disk = f->factor;
        break;
    case PFL_SIM_FAIL_FIT:
        x->failing++;
        break;
    case PFL_SIM_CLOCK_JUMP:
        x->wall_off += f->amount;
        break;
    case PFL_SIM_CLOCK_DRIFT:
        pfl_sim_drift(s, f->node, ppm_of(f->factor));
        break;
    case PFL_SIM_DISK_FULL:
        x->disk_full++;
        break;
    case PFL_SIM_BYZANTINE:
        lie(s, f);
        break;
    case PFL_SIM_FAULT_KINDS:
        break;
    }
    if (x->core && (f->kind == PFL_SIM_CLOCK_JUMP || f->kind == PFL_SIM_CLOCK_DRIFT)) {
        x->tick_at = 0;
        pfl_sim_schedule_tick(s, f->node);
    }
}

void pfl_sim_fault_end(struct pfl_sim *s, size_t k)
{
    const struct pfl_sim_fault *f = &s->sc->faults[k];
    struct pfl_sim_node *x = &s->nodes[f->node];
    describe(s, f, "ends:");
    s->faults_open--;
    switch (f->kind) {
    case PFL_SIM_RESTART:
        start_node(s, f->node, f->disk);
        break;
    case PFL_SIM_PARTITION:
    case PFL_SIM_ONE_WAY:
        cut_group(s, f, true);
        break;
    case PFL_SIM_LINK_CUT:
        cut(s, f->node, f->other, true);
        cut(s, f->other, f->node, true);
        break;
    case PFL_SIM_SLOW_NODE:
        pfl_sim_net_slow(s->net, f->node, 1.0);
        break;
    case PFL_SIM_SLOW_LEARNER:
        x->slow_learner = 1.0;
        break;
    case PFL_SIM_SLOW_DISK:
        x->slow_disk = 1.0;
        break;
    case PFL_SIM_FAIL_FIT:
        x->failing--;
        break;
    case PFL_SIM_CLOCK_DRIFT:
        pfl_sim_drift(s, f->node, 0);
        x->tick_at = 0;
        if (x->core)
            pfl_sim_schedule_tick(s, f->node);
        break;
    case PFL_SIM_DISK_FULL:
        x->disk_full--;
        break;
    case PFL_SIM_BYZANTINE:
        x->lies = false;
        break;
    case PFL_SIM_CRASH:
    case PFL_SIM_PAUSE:
    case PFL_SIM_JOIN:
    case PFL_SIM_RESET:
    case PFL_SIM_CLOCK_JUMP:
    case PFL_SIM_FAULT_KINDS:
        break;
    }
}
