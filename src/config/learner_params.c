/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of partitions and aggregators, the same in experiments and in node files. A key that the strategy at hand does not
 * know is an error: whoever writes alpha for an IID partition believes something that is not so. */
#include <inttypes.h>
#include <string.h>

#include "config/settings.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

enum { KEYS_MAX = 4 };

const char *const pfl_partition_names[6] = {"iid", "dirichlet", "label_skew", "shards", "percentage", "quantity"};
const char *const pfl_aggregator_names[14] = {"fedavg",     "fedmedian", "trimmed_mean",     "krum",       "multi_krum",
                                              "krum_p2pfl", "bulyan",    "geometric_median", "fedadagrad", "fedadam",
                                              "fedyogi",    "fedprox",   "fednova",          "scaffold"};

struct keys {
    const char *name; /* the strategy's or the rule's */
    const char *keys[KEYS_MAX];
};
static const struct keys partition_keys[] = {
    {"dirichlet", {"alpha", "min_partition_size", "self_balancing"}},
    {"shards", {"shards_per_node"}},
    {"percentage", {"main_share", "main_classes"}},
    {"quantity", {"alpha", "min_partition_size"}},
};
static const struct keys aggregator_keys[] = {
    {"trimmed_mean", {"trim"}},
    {"krum", {"byzantine"}},
    {"multi_krum", {"byzantine", "selected"}},
    {"bulyan", {"byzantine"}},
    {"fedadagrad", {"eta", "beta_1", "tau"}},
    {"fedadam", {"eta", "beta_1", "beta_2", "tau"}},
    {"fedyogi", {"eta", "beta_1", "beta_2", "tau"}},
    {"fedprox", {"proximal_mu"}},
    {"scaffold", {"global_lr", "clients"}},
};

static enum pfl_rc only(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const struct keys *table, size_t n, const char *name,
                        const char *extra, struct pfl_err *err)
{
    const char *known[KEYS_MAX + 1];
    size_t n_known = 0;
    if (extra)
        known[n_known++] = extra;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; pfl_streq(table[i].name, name) && k < KEYS_MAX && table[i].keys[k]; k++)
            known[n_known++] = table[i].keys[k];
    }
    if (n_known == 0 && map && map->first)
        return pfl_yaml_fail(doc, map, PFL_INVALID, err, "'%s' has no parameters", pfl_q(name));
    return pfl_yaml_only(doc, map, known, n_known, err);
}

enum pfl_rc pfl_learner_config_read_partition(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                              const char *extra, struct pfl_err *err)
{
    struct pfl_partition_config *p = &l->partition_params;
    int64_t min_size = (int64_t)p->min_size, shards = p->shards_per_part, classes = p->main_classes;
    TRY(only(doc, map, partition_keys, PFL_ARRAY_LEN(partition_keys), l->partition, extra, err));
    TRY(pfl_yaml_double(doc, map, "alpha", 1e-6, 1e6, &p->alpha, err));
    TRY(pfl_yaml_int(doc, map, "min_partition_size", 0, UINT32_MAX, &min_size, err));
    TRY(pfl_yaml_bool(doc, map, "self_balancing", &p->self_balancing, err));
    TRY(pfl_yaml_int(doc, map, "shards_per_node", 1, 1000000, &shards, err));
    TRY(pfl_yaml_double(doc, map, "main_share", 0.0, 1.0, &p->main_share, err));
    TRY(pfl_yaml_int(doc, map, "main_classes", 1, 256, &classes, err));
    p->min_size = (uint64_t)min_size;
    p->shards_per_part = (unsigned)shards;
    p->main_classes = (unsigned)classes;
    return PFL_OK;
}

enum pfl_rc pfl_learner_config_read_aggregator(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                               const char *extra, struct pfl_err *err)
{
    struct pfl_aggregator_config *a = &l->aggregator_params;
    int64_t byzantine = a->byzantine, selected = a->selected;
    TRY(only(doc, map, aggregator_keys, PFL_ARRAY_LEN(aggregator_keys), l->aggregator, extra, err));
    TRY(pfl_yaml_int(doc, map, "byzantine", 0, 1000000, &byzantine, err));
    TRY(pfl_yaml_int(doc, map, "selected", 1, 1000000, &selected, err));
    TRY(pfl_yaml_double(doc, map, "trim", 0.0, 0.499999, &a->trim, err));
    TRY(pfl_yaml_double(doc, map, "eta", 1e-12, 1e6, &a->eta, err));
    TRY(pfl_yaml_double(doc, map, "beta_1", 0.0, 0.999999999, &a->beta_1, err));
    TRY(pfl_yaml_double(doc, map, "beta_2", 0.0, 0.999999999, &a->beta_2, err));
    TRY(pfl_yaml_double(doc, map, "tau", 1e-30, 1e6, &a->tau, err));
    int64_t clients = a->clients;
    TRY(pfl_yaml_double(doc, map, "proximal_mu", 0.0, 1e6, &a->proximal_mu, err));
    TRY(pfl_yaml_double(doc, map, "global_lr", 1e-9, 1e6, &a->global_lr, err));
    TRY(pfl_yaml_int(doc, map, "clients", 1, 1000000, &clients, err));
    a->clients = (unsigned)clients;
    a->byzantine = (int)byzantine;
    a->selected = (unsigned)selected;
    return PFL_OK;
}

static bool has_key(const struct keys *table, size_t n, const char *name, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; pfl_streq(table[i].name, name) && k < KEYS_MAX && table[i].keys[k]; k++) {
            if (pfl_streq(table[i].keys[k], key))
                return true;
        }
    }
    return false;
}

/* Writes "<indent><name>: {a: 1, b: 2}", or nothing where there is nothing to say. */
struct flow {
    struct pfl_buf *out;
    const char *indent, *name;
    bool open;
};

static void flow_put(struct flow *f, const char *fmt, ...) PFL_PRINTF(2, 3);
static void flow_put(struct flow *f, const char *fmt, ...)
{
    if (f->open)
        pfl_buf_append_str(f->out, ", ");
    else
        pfl_buf_printf(f->out, "%s%s: {", f->indent, f->name);
    f->open = true;
    va_list args;
    va_start(args, fmt);
    pfl_buf_vprintf(f->out, fmt, args);
    va_end(args);
}

static void flow_end(const struct flow *f)
{
    if (f->open)
        pfl_buf_append_str(f->out, "}\n");
}

void pfl_learner_config_partition_list(const struct pfl_learner_config *l, struct pfl_strs *to)
{
    const struct pfl_partition_config *p = &l->partition_params;
    PFL_AUTO(pfl_freep) char *alpha = pfl_xasprintf("alpha=%.17g", p->alpha);
    PFL_AUTO(pfl_freep) char *min = pfl_xasprintf("min_partition_size=%" PRIu64, p->min_size);
    PFL_AUTO(pfl_freep) char *balance = pfl_xasprintf("self_balancing=%s", p->self_balancing ? "true" : "false");
    PFL_AUTO(pfl_freep) char *shards = pfl_xasprintf("shards_per_node=%u", p->shards_per_part);
    PFL_AUTO(pfl_freep) char *share = pfl_xasprintf("main_share=%.17g", p->main_share);
    PFL_AUTO(pfl_freep) char *classes = pfl_xasprintf("main_classes=%u", p->main_classes);
    const char *const all[] = {alpha, min, balance, shards, share, classes};
    for (size_t i = 0; i < PFL_ARRAY_LEN(all); i++) {
        PFL_AUTO(pfl_freep) char *key = pfl_xstrdup(all[i]);
        *strchr(key, '=') = '\0';
        if (has_key(partition_keys, PFL_ARRAY_LEN(partition_keys), l->partition, key))
            pfl_strs_add(to, all[i]);
    }
}

void pfl_learner_config_write_params(const struct pfl_learner_config *l, const char *indent, struct pfl_buf *out)
{
    const struct pfl_partition_config *p = &l->partition_params;
    const struct pfl_aggregator_config *a = &l->aggregator_params;
#define HAS(table, name, key) has_key(table, PFL_ARRAY_LEN(table), name, key)
    struct flow f = {.out = out, .indent = indent, .name = "partition_params"};
    if (HAS(partition_keys, l->partition, "alpha"))
        flow_put(&f, "alpha: %.17g, min_partition_size: %" PRIu64, p->alpha, p->min_size);
    if (HAS(partition_keys, l->partition, "self_balancing"))
        flow_put(&f, "self_balancing: %s", p->self_balancing ? "true" : "false");
    if (HAS(partition_keys, l->partition, "shards_per_node"))
        flow_put(&f, "shards_per_node: %u", p->shards_per_part);
    if (HAS(partition_keys, l->partition, "main_share"))
        flow_put(&f, "main_share: %.17g, main_classes: %u", p->main_share, p->main_classes);
    flow_end(&f);
    f = (struct flow){.out = out, .indent = indent, .name = "aggregator_params"};
    if (HAS(aggregator_keys, l->aggregator, "byzantine") && a->byzantine >= 0)
        flow_put(&f, "byzantine: %d", a->byzantine);
    if (HAS(aggregator_keys, l->aggregator, "selected") && a->selected)
        flow_put(&f, "selected: %u", a->selected);
    if (HAS(aggregator_keys, l->aggregator, "trim"))
        flow_put(&f, "trim: %.17g", a->trim);
    if (HAS(aggregator_keys, l->aggregator, "proximal_mu"))
        flow_put(&f, "proximal_mu: %.17g", a->proximal_mu);
    if (HAS(aggregator_keys, l->aggregator, "global_lr"))
        flow_put(&f, "global_lr: %.17g", a->global_lr);
    if (HAS(aggregator_keys, l->aggregator, "clients") && a->clients)
        flow_put(&f, "clients: %u", a->clients);
    if (HAS(aggregator_keys, l->aggregator, "eta"))
        flow_put(&f, "eta: %.17g, tau: %.17g", a->eta, a->tau);
    if (HAS(aggregator_keys, l->aggregator, "beta_1") && a->beta_1 >= 0.0)
        flow_put(&f, "beta_1: %.17g", a->beta_1);
    if (HAS(aggregator_keys, l->aggregator, "beta_2"))
        flow_put(&f, "beta_2: %.17g", a->beta_2);
    flow_end(&f);
#undef HAS
}
