/* SPDX-License-Identifier: Apache-2.0 */
/* Scenarios: defaults, names, checks. See scenario.h. */
#include "sim/scenario.h"

#include <stdlib.h>

#include "base/str.h"

static bool find_name(const char *const *names, size_t n, const char *name, size_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (pfl_streq(names[i], name)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static const char *const fault_names[] = {
#define X(id, name) name,
    PFL_SIM_FAULT_LIST(X)
#undef X
};
static const char *const lie_names[] = {
#define X(id, name) name,
    PFL_SIM_LIE_LIST(X)
#undef X
};

const char *pfl_sim_fault_name(enum pfl_sim_fault_kind k)
{
    return fault_names[k];
}

bool pfl_sim_fault_parse(const char *name, enum pfl_sim_fault_kind *ret)
{
    size_t i;
    bool found = find_name(fault_names, PFL_ARRAY_LEN(fault_names), name, &i);
    if (found)
        *ret = (enum pfl_sim_fault_kind)i;
    return found;
}

const char *pfl_sim_lie_name(enum pfl_sim_lie l)
{
    return lie_names[l];
}

bool pfl_sim_lie_parse(const char *name, enum pfl_sim_lie *ret)
{
    size_t i;
    bool found = find_name(lie_names, PFL_ARRAY_LEN(lie_names), name, &i);
    if (found)
        *ret = (enum pfl_sim_lie)i;
    return found;
}

void pfl_sim_scenario_default(struct pfl_sim_scenario *s)
{
    *s = (struct pfl_sim_scenario){
        .name = pfl_xstrdup("simulation"),
        .seed = 666,
        .n = 4,
        .rounds = 3,
        .epochs = 1,
        .trainset_size = 4,
        .fit_min = 100 * PFL_MS,
        .fit_max = 900 * PFL_MS,
        .signatures = true,
        .disk_min = PFL_MS,
        .disk_max = 10 * PFL_MS,
        .values = 12,
        .start_limit = 30 * PFL_SEC,
    };
    pfl_node_settings_default(&s->settings);
    pfl_sim_net_opts_default(&s->net);
}

void pfl_sim_scenario_deinit(struct pfl_sim_scenario *s)
{
    for (size_t i = 0; i < s->n_faults; i++)
        free(s->faults[i].nodes);
    free(s->faults);
    free(s->edges);
    free(s->name);
    *s = (struct pfl_sim_scenario){0};
}

void pfl_sim_scenario_link(struct pfl_sim_scenario *s, unsigned a, unsigned b)
{
    s->edges = pfl_xrealloc(s->edges, (s->n_edges + 1) * sizeof(*s->edges));
    s->edges[s->n_edges++] = (struct pfl_sim_edge){a, b};
}

struct pfl_sim_fault *pfl_sim_scenario_fault(struct pfl_sim_scenario *s, enum pfl_sim_fault_kind kind, pfl_ns at, pfl_ns until)
{
    s->faults = pfl_xrealloc(s->faults, (s->n_faults + 1) * sizeof(*s->faults));
    struct pfl_sim_fault *f = &s->faults[s->n_faults++];
    *f = (struct pfl_sim_fault){.kind = kind, .at = at, .until = until, .factor = 1.0};
    return f;
}

static bool must_end(enum pfl_sim_fault_kind k)
{
    return k == PFL_SIM_RESTART || k == PFL_SIM_PAUSE;
}

static bool has_group(enum pfl_sim_fault_kind k)
{
    return k == PFL_SIM_PARTITION || k == PFL_SIM_ONE_WAY;
}

static enum pfl_rc check_fault(const struct pfl_sim_scenario *s, size_t i, struct pfl_err *err)
{
    const struct pfl_sim_fault *f = &s->faults[i];
    const char *name = pfl_sim_fault_name(f->kind);
    if (f->node >= s->n || (f->has_other && f->other >= s->n))
        return pfl_err_set(err, PFL_INVALID, "fault %zu (%s): node %u, there are 0 to %u", i, name,
                           f->node >= s->n ? f->node : f->other, s->n - 1);
    if (f->kind == PFL_SIM_LINK_CUT && (!f->has_other || f->other == f->node))
        return pfl_err_set(err, PFL_INVALID, "fault %zu (%s): 'node' and 'other' must be two nodes", i, name);
    for (size_t k = 0; k < f->n_nodes; k++) {
        if (f->nodes[k] >= s->n)
            return pfl_err_set(err, PFL_INVALID, "fault %zu (%s): node %u, there are 0 to %u", i, name, f->nodes[k], s->n - 1);
    }
    if (has_group(f->kind) && (f->n_nodes == 0 || f->n_nodes >= s->n))
        return pfl_err_set(err, PFL_INVALID, "fault %zu (%s): 'nodes' must name some of the nodes, not all", i, name);
    if (must_end(f->kind) && f->until == PFL_NEVER)
        return pfl_err_set(err, PFL_INVALID, "fault %zu (%s): 'until_s' is missing", i, name);
    if (f->until <= f->at)
        return pfl_err_set(err, PFL_INVALID, "fault %zu (%s): it ends before it begins", i, name);
    bool drifts = f->kind == PFL_SIM_CLOCK_DRIFT;
    if (!(f->factor > 0) || f->factor > 1e6 || (drifts && (f->factor < 0.5 || f->factor > 2)))
        return pfl_err_set(err, PFL_INVALID, "fault %zu (%s): a factor of %g", i, name, f->factor);
    return PFL_OK;
}

enum pfl_rc pfl_sim_scenario_check(const struct pfl_sim_scenario *s, struct pfl_err *err)
{
    if (s->n < 1 || s->n > PFL_SIM_NODES_MAX)
        return pfl_err_set(err, PFL_INVALID, "%u nodes: 1 to %d can be simulated", s->n, PFL_SIM_NODES_MAX);
    for (size_t i = 0; i < s->n_edges; i++) {
        if (s->edges[i].a >= s->n || s->edges[i].b >= s->n || s->edges[i].a == s->edges[i].b)
            return pfl_err_set(err, PFL_INVALID, "link %zu: %u to %u, there are nodes 0 to %u", i, s->edges[i].a, s->edges[i].b,
                               s->n - 1);
    }
    if (s->n_faults > PFL_SIM_FAULTS_MAX)
        return pfl_err_set(err, PFL_INVALID, "%zu faults: %d are possible", s->n_faults, PFL_SIM_FAULTS_MAX);
    if (s->disk_min < 0 || s->disk_max < s->disk_min)
        return pfl_err_set(err, PFL_INVALID, "the disk: a write must take 0 or more, from the shortest to the longest");
    if (s->fit_min < 0 || s->fit_max < s->fit_min || s->values == 0)
        return pfl_err_set(err, PFL_INVALID, "the learner: a fit must take 0 or more, from the shortest to the longest");
    for (size_t i = 0; i < s->n_faults; i++) {
        enum pfl_rc rc = check_fault(s, i, err);
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}
