/* SPDX-License-Identifier: Apache-2.0 */
/* The `simulation:` block. See simulate_scenario.h, docs/SIMULATION.md. */
#include "cli/simulate_scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "runtime/learner_setup.h"

#define TRY(expr)                                                                                                                  \
    do {                                                                                                                           \
        enum pfl_rc try_ = expr;                                                                                                   \
        if (try_ != PFL_OK)                                                                                                        \
            return try_;                                                                                                           \
    } while (0)

/* The same as examples/simulations/mixed-faults.yaml. */
static const char built_in[] = "network: {nodes: 8}\n"
                               "experiment: {name: mixed-faults, rounds: 5, epochs: 1, trainset_size: 4}\n"
                               "settings:\n"
                               "  training: {vote_timeout: 20, aggregation_timeout: 40}\n"
                               "simulation:\n"
                               "  nodes: [8, 20]\n"
                               "  topologies: [full, ring, star, random_3, random_4]\n"
                               "  mix: default\n";

struct reader {
    const struct pfl_yaml_doc *doc;
    struct pfl_simulation *s;
    struct pfl_err *err;
};

/* ---- small readers ---- */

static enum pfl_rc get_ns(struct reader *r, struct pfl_yaml *map, const char *key, double min, double max, double unit, pfl_ns *ret)
{
    if (!pfl_yaml_get(map, key))
        return PFL_OK;
    double v = 0;
    TRY(pfl_yaml_double(r->doc, map, key, min, max, &v, r->err));
    *ret = (pfl_ns)(v * unit + (v < 0 ? -0.5 : 0.5));
    return PFL_OK;
}

/* [low, high] of numbers. */
static enum pfl_rc get_range(struct reader *r, struct pfl_yaml *map, const char *key, double min, double max, double *lo,
                             double *hi)
{
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(r->doc, map, key, &list, r->err));
    if (!list)
        return PFL_OK;
    const struct pfl_yaml *a = list->first, *b = a ? a->next : NULL;
    bool pair = b && !b->next && a->kind == PFL_YAML_SCALAR && b->kind == PFL_YAML_SCALAR;
    double x, y;
    if (!pair || !pfl_parse_double(a->text, &x) || !pfl_parse_double(b->text, &y) || x < min || y > max || x > y)
        return pfl_yaml_fail(r->doc, list, PFL_INVALID, r->err, "must be the least and the most, from %g to %g, such as [1, 20]",
                             min, max);
    *lo = x;
    *hi = y;
    return PFL_OK;
}

static enum pfl_rc get_range_ms(struct reader *r, struct pfl_yaml *map, const char *key, pfl_ns *ret_lo, pfl_ns *ret_hi)
{
    double lo = (double)*ret_lo / (double)PFL_MS, hi = (double)*ret_hi / (double)PFL_MS;
    TRY(get_range(r, map, key, 0, 1e9, &lo, &hi));
    *ret_lo = (pfl_ns)(lo * (double)PFL_MS);
    *ret_hi = (pfl_ns)(hi * (double)PFL_MS);
    return PFL_OK;
}

/* A node by its number from 0, or by its name: node-1 is number 0. */
static enum pfl_rc parse_node(struct reader *r, const struct pfl_yaml *y, unsigned *ret)
{
    int64_t v;
    bool named = y->kind == PFL_YAML_SCALAR && pfl_str_has_prefix(y->text, "node-");
    if (y->kind != PFL_YAML_SCALAR || !pfl_parse_i64(named ? y->text + 5 : y->text, named, PFL_SIM_NODES_MAX, &v))
        return pfl_yaml_fail(r->doc, y, PFL_INVALID, r->err, "must be a node: its number from 0, or its name such as node-1");
    *ret = (unsigned)(named ? v - 1 : v);
    return PFL_OK;
}

/* ---- faults ---- */

static enum pfl_rc read_fault_nodes(struct reader *r, struct pfl_yaml *m, struct pfl_sim_fault *f)
{
    struct pfl_yaml *list = NULL;
    const struct pfl_yaml *node = pfl_yaml_get(m, "node"), *other = pfl_yaml_get(m, "other");
    if (node)
        TRY(parse_node(r, node, &f->node));
    if (other)
        TRY(parse_node(r, other, &f->other));
    f->has_other = other != NULL;
    TRY(pfl_yaml_list(r->doc, m, "nodes", &list, r->err));
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        f->nodes = pfl_xrealloc(f->nodes, (f->n_nodes + 1) * sizeof(*f->nodes));
        TRY(parse_node(r, y, &f->nodes[f->n_nodes]));
        f->n_nodes++;
    }
    bool group = f->kind == PFL_SIM_PARTITION || f->kind == PFL_SIM_ONE_WAY;
    if (group != (list != NULL) || group == (node != NULL))
        return pfl_yaml_fail(r->doc, m, PFL_INVALID, r->err,
                             group ? "'nodes' must say which side is cut off" : "'node' must say whom it hits");
    return PFL_OK;
}

static enum pfl_rc read_fault(struct reader *r, struct pfl_yaml *m)
{
    static const char *const keys[] = {"kind", "node", "other", "nodes", "at_s", "until_s", "factor", "amount_s", "disk", "lie"};
    if (m->kind != PFL_YAML_MAP)
        return pfl_yaml_fail(r->doc, m, PFL_INVALID, r->err, "must be a map such as {kind: crash, node: 2, at_s: 1.5}");
    TRY(pfl_yaml_only(r->doc, m, keys, PFL_ARRAY_LEN(keys), r->err));
    const struct pfl_yaml *kind = pfl_yaml_get(m, "kind"), *lie = pfl_yaml_get(m, "lie");
    enum pfl_sim_fault_kind k;
    if (!kind || kind->kind != PFL_YAML_SCALAR || !pfl_sim_fault_parse(kind->text, &k))
        return pfl_yaml_fail(r->doc, kind ? kind : m, PFL_INVALID, r->err, "'kind' is none that is known; see docs/SIMULATION.md");
    struct pfl_sim_fault *f = pfl_sim_scenario_fault(&r->s->scenario, k, 0, PFL_NEVER);
    TRY(read_fault_nodes(r, m, f));
    TRY(get_ns(r, m, "at_s", 0, 1e6, 1e9, &f->at));
    TRY(get_ns(r, m, "until_s", 0, 1e6, 1e9, &f->until));
    TRY(get_ns(r, m, "amount_s", -1e6, 1e6, 1e9, &f->amount));
    TRY(pfl_yaml_double(r->doc, m, "factor", 1e-3, 1e6, &f->factor, r->err));
    TRY(pfl_yaml_bool(r->doc, m, "disk", &f->disk, r->err));
    if ((k == PFL_SIM_BYZANTINE) != (lie != NULL) ||
        (lie && (lie->kind != PFL_YAML_SCALAR || !pfl_sim_lie_parse(lie->text, &f->lie))))
        return pfl_yaml_fail(r->doc, lie ? lie : m, PFL_INVALID, r->err,
                             "a byzantine node, and no other, has a 'lie'; see "
                             "docs/SIMULATION.md");
    return PFL_OK;
}

/* ---- network, learner ---- */

static enum pfl_rc read_network(struct reader *r, struct pfl_yaml *m)
{
    static const char *const keys[] = {"latency_ms", "latency_tail_ms", "bandwidth_bytes_per_s", "loss", "reply_loss", "duplicate",
                                       "reorder",    "silent"};
    struct pfl_sim_net_opts *o = &r->s->scenario.net;
    int64_t bandwidth = (int64_t)o->bandwidth;
    TRY(pfl_yaml_only(r->doc, m, keys, PFL_ARRAY_LEN(keys), r->err));
    TRY(get_range_ms(r, m, "latency_ms", &o->latency_min, &o->latency_max));
    TRY(get_ns(r, m, "latency_tail_ms", 0, 1e9, 1e6, &o->latency_tail));
    TRY(pfl_yaml_int(r->doc, m, "bandwidth_bytes_per_s", 0, INT64_MAX, &bandwidth, r->err));
    o->bandwidth = (uint64_t)bandwidth;
    TRY(pfl_yaml_double(r->doc, m, "loss", 0, 0.9, &o->loss, r->err));
    TRY(pfl_yaml_double(r->doc, m, "reply_loss", 0, 0.9, &o->reply_loss, r->err));
    TRY(pfl_yaml_double(r->doc, m, "duplicate", 0, 1, &o->duplicate, r->err));
    TRY(pfl_yaml_double(r->doc, m, "reorder", 0, 1, &o->reorder, r->err));
    return pfl_yaml_bool(r->doc, m, "silent", &o->silent, r->err);
}

static enum pfl_rc read_topologies(struct reader *r, struct pfl_yaml *list)
{
    struct pfl_simulation *s = r->s;
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        if (s->n_topologies == PFL_SIMULATE_TOPOLOGIES_MAX || y->kind != PFL_YAML_SCALAR ||
            !pfl_topology_parse(y->text, &s->topologies[s->n_topologies].topology, &s->topologies[s->n_topologies].degree))
            return pfl_yaml_fail(r->doc, y, PFL_INVALID, r->err,
                                 "must be at most %d of star, full, line, ring, random_2, random_3, random_4",
                                 PFL_SIMULATE_TOPOLOGIES_MAX);
        s->n_topologies++;
    }
    return PFL_OK;
}

/* One of two words; what: false for the first. */
static enum pfl_rc read_choice(struct reader *r, struct pfl_yaml *m, const char *key, const char *no, const char *yes, bool *ret)
{
    const struct pfl_yaml *y = pfl_yaml_get(m, key);
    if (!y)
        return PFL_OK;
    bool is_no = y->kind == PFL_YAML_SCALAR && strcmp(y->text, no) == 0;
    bool is_yes = y->kind == PFL_YAML_SCALAR && strcmp(y->text, yes) == 0;
    if (!is_no && !is_yes)
        return pfl_yaml_fail(r->doc, y, PFL_INVALID, r->err, "must be %s or %s", no, yes);
    *ret = is_yes;
    return PFL_OK;
}

static enum pfl_rc read_block(struct reader *r, struct pfl_yaml *m)
{
    static const char *const keys[] = {"nodes", "topologies", "learner", "fit_ms",   "values",  "network",
                                       "mix",   "faults",     "limit_s", "settle_s", "disk_ms", "signatures"};
    struct pfl_simulation *s = r->s;
    struct pfl_yaml *network = NULL, *topologies = NULL, *faults = NULL;
    TRY(pfl_yaml_only(r->doc, m, keys, PFL_ARRAY_LEN(keys), r->err));
    double lo = s->nodes_min, hi = s->nodes_max;
    TRY(get_range(r, m, "nodes", 2, PFL_SIM_NODES_MAX, &lo, &hi));
    s->nodes_min = (unsigned)lo;
    s->nodes_max = (unsigned)hi;
    TRY(pfl_yaml_list(r->doc, m, "topologies", &topologies, r->err));
    TRY(read_topologies(r, topologies));
    TRY(read_choice(r, m, "learner", "stand-in", "real", &s->real_learner));
    TRY(read_choice(r, m, "mix", "none", "default", &s->mix));
    TRY(get_range_ms(r, m, "fit_ms", &s->scenario.fit_min, &s->scenario.fit_max));
    TRY(get_range_ms(r, m, "disk_ms", &s->scenario.disk_min, &s->scenario.disk_max));
    TRY(pfl_yaml_bool(r->doc, m, "signatures", &s->scenario.signatures, r->err));
    int64_t values = (int64_t)s->scenario.values;
    TRY(pfl_yaml_int(r->doc, m, "values", 1, 100000000, &values, r->err));
    s->scenario.values = (size_t)values;
    TRY(get_ns(r, m, "limit_s", 1, 1e7, 1e9, &s->scenario.limit));
    TRY(get_ns(r, m, "settle_s", 0, 1e6, 1e9, &s->scenario.settle));
    TRY(pfl_yaml_map(r->doc, m, "network", &network, r->err));
    if (network)
        TRY(read_network(r, network));
    TRY(pfl_yaml_list(r->doc, m, "faults", &faults, r->err));
    for (struct pfl_yaml *y = faults ? faults->first : NULL; y; y = y->next)
        TRY(read_fault(r, y));
    return PFL_OK;
}

/* ---- from settings to the core's ---- */

static void take_settings(struct pfl_simulation *s)
{
    const struct pfl_settings *from = &s->cfg.settings;
    struct pfl_node_settings *to = &s->scenario.settings;
    to->heartbeat_period = from->heartbeat_period;
    to->heartbeat_timeout = from->heartbeat_timeout;
    to->vote_timeout = from->vote_timeout;
    to->aggregation_timeout = from->aggregation_timeout;
    to->fit_timeout = from->fit_timeout;
    to->vote_quorum = from->vote_quorum;
    to->aggregation_quorum = from->aggregation_quorum;
    to->late_join = from->late_join;
    to->call_timeout = from->grpc_timeout;
    to->gossip_ttl = from->ttl;
    to->seen_max = from->seen_max > to->seen_max ? from->seen_max : to->seen_max;
    if (pfl_streq(s->cfg.learner.model, "dummy") && s->real_learner) {
        s->scenario.fit_min = s->scenario.fit_max = s->cfg.learner.dummy_delay;
        s->cfg.learner.dummy_delay = 0; /* it passes in virtual time */
    }
}

static enum pfl_rc parse(const char *file, const char *text, size_t len, struct pfl_simulation *s, struct pfl_err *err)
{
    struct pfl_yaml_doc doc = {0};
    struct pfl_yaml *block = NULL;
    TRY(pfl_yaml_parse(file, text, len, &doc, err));
    struct reader r = {.doc = &doc, .s = s, .err = err};
    enum pfl_rc rc = pfl_yaml_map(&doc, doc.root, "simulation", &block, err);
    if (rc == PFL_OK && block)
        rc = read_block(&r, block);
    pfl_yaml_deinit(&doc);
    return rc;
}

static enum pfl_rc load(const char *path, struct pfl_blob **ret, struct pfl_err *err)
{
    if (path)
        return pfl_fs_read(path, PFL_YAML_FILE_MAX, ret, err);
    *ret = pfl_blob_copy(built_in, sizeof(built_in) - 1);
    return *ret ? PFL_OK : pfl_err_set(err, PFL_UNAVAILABLE, "no memory");
}

enum pfl_rc pfl_simulation_load(const char *path, struct pfl_simulation *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *text = NULL;
    struct pfl_simulation s = {0};
    const char *file = path ? path : "(built in)";
    TRY(load(path, &text, err));
    TRY(pfl_experiment_parse(file, (const char *)text->data, text->len, &s.cfg, err));
    pfl_sim_scenario_default(&s.scenario);
    s.nodes_min = s.nodes_max = s.cfg.nodes;
    enum pfl_rc rc = parse(file, (const char *)text->data, text->len, &s, err);
    if (rc == PFL_OK)
        rc = pfl_aggregator_setup(&s.cfg.learner, &s.aggregator, err);
    if (rc == PFL_OK)
        rc = pfl_compression_setup(&s.cfg.learner, &s.compression, err);
    if (rc != PFL_OK) {
        pfl_simulation_deinit(&s);
        return rc;
    }
    take_settings(&s);
    *ret = s;
    return PFL_OK;
}

enum pfl_rc pfl_simulation_of(const struct pfl_experiment_config *cfg, struct pfl_simulation *ret, struct pfl_err *err)
{
    struct pfl_simulation s = {.cfg = *cfg, .real_learner = true, .nodes_min = cfg->nodes, .nodes_max = cfg->nodes};
    pfl_sim_scenario_default(&s.scenario);
    enum pfl_rc rc = pfl_aggregator_setup(&s.cfg.learner, &s.aggregator, err);
    if (rc == PFL_OK)
        rc = pfl_compression_setup(&s.cfg.learner, &s.compression, err);
    if (rc != PFL_OK) {
        pfl_simulation_end(&s);
        return rc;
    }
    take_settings(&s);
    *ret = s;
    return PFL_OK;
}

void pfl_simulation_end(struct pfl_simulation *s)
{
    pfl_sim_scenario_deinit(&s->scenario);
    pfl_data_cache_deinit(&s->data);
}

void pfl_simulation_deinit(struct pfl_simulation *s)
{
    pfl_data_cache_deinit(&s->data);
    pfl_sim_scenario_deinit(&s->scenario);
    pfl_experiment_deinit(&s->cfg);
}

/* ---- one seed ---- */

static void copy_faults(struct pfl_sim_scenario *to, const struct pfl_sim_scenario *from)
{
    to->faults = NULL;
    to->n_faults = 0;
    for (size_t i = 0; i < from->n_faults; i++) {
        struct pfl_sim_fault *f = pfl_sim_scenario_fault(to, from->faults[i].kind, 0, PFL_NEVER);
        *f = from->faults[i];
        if (f->n_nodes) {
            f->nodes = pfl_xcalloc(f->n_nodes, sizeof(*f->nodes));
            memcpy(f->nodes, from->faults[i].nodes, f->n_nodes * sizeof(*f->nodes));
        }
    }
}

static enum pfl_rc make_links(const struct pfl_simulation *s, struct pfl_rng *rng, struct pfl_sim_scenario *sc, struct pfl_err *err)
{
    struct pfl_experiment_config c = s->cfg; /* borrows all that it points to */
    struct pfl_edge *edges = NULL;
    size_t n_edges = 0;
    c.nodes = sc->n;
    c.seed = sc->seed;
    if (s->n_topologies > 0) {
        size_t k = (size_t)pfl_rng_below(rng, s->n_topologies);
        c.topology = s->topologies[k].topology;
        c.random_degree = s->topologies[k].degree;
    }
    TRY(pfl_topology_edges(&c, &edges, &n_edges, err));
    for (size_t i = 0; i < n_edges; i++)
        pfl_sim_scenario_link(sc, edges[i].a, edges[i].b);
    free(edges);
    return PFL_OK;
}

enum pfl_rc pfl_simulation_scenario(const struct pfl_simulation *s, uint64_t seed, unsigned nodes, struct pfl_sim_scenario *ret,
                                    struct pfl_err *err)
{
    struct pfl_sim_scenario sc = s->scenario;
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, seed, "scenario");
    sc.name = pfl_xstrdup(s->cfg.name);
    sc.edges = NULL;
    sc.n_edges = 0;
    copy_faults(&sc, &s->scenario);
    sc.seed = seed;
    unsigned drawn = s->nodes_min + (unsigned)pfl_rng_below(&rng, s->nodes_max - s->nodes_min + 1);
    sc.n = nodes ? nodes : drawn;
    sc.rounds = s->cfg.rounds;
    sc.epochs = s->cfg.epochs;
    sc.trainset_size = s->cfg.trainset_size;
    sc.settings.aggregator = &s->aggregator;
    enum pfl_rc rc = make_links(s, &rng, &sc, err);
    if (rc == PFL_OK && s->mix)
        pfl_sim_mix(&sc);
    if (rc == PFL_OK)
        rc = pfl_sim_scenario_check(&sc, err);
    if (rc != PFL_OK) {
        pfl_sim_scenario_deinit(&sc);
        return rc;
    }
    *ret = sc;
    return PFL_OK;
}

enum pfl_rc pfl_simulation_learner(struct pfl_simulation *s, uint64_t seed, unsigned node, unsigned n, struct pfl_learner *ret,
                                   struct pfl_err *err)
{
    struct pfl_learner_config c = s->cfg.learner; /* borrows all that it points to */
    char name[24];
    snprintf(name, sizeof(name), "node-%u", node + 1);
    c.part_index = node;
    c.part_count = n;
    if (!pfl_experiment_is_remote(&s->cfg, node))
        c.remote = (struct pfl_remote_config){0};
    c.part_seed = c.part_seed ? c.part_seed : seed;
    c.model_seed = c.has_model_seed ? c.model_seed : seed;
    c.has_model_seed = true;
    return pfl_learner_setup_in(&s->data, &c, &s->cfg.settings, name, ret, err);
}
