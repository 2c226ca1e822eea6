/* SPDX-License-Identifier: Apache-2.0 */
/* From names in a file to something that trains. */
#include "runtime/learner_setup.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "learning/attacker.h"
#include "learning/dataset.h"
#include "learning/dummy.h"
#include "learning/partition.h"
#include "learning/table.h"
#include "learning/trainer.h"
#include "learning/warm_start.h"
#include "runtime/remote_learner.h"

void pfl_data_cache_deinit(struct pfl_data_cache *c)
{
    pfl_dataset_unref(c->train);
    pfl_dataset_unref(c->test);
    *c = (struct pfl_data_cache){0};
}

/* ---- data ---- */

static bool own_data(const struct pfl_learner_config *c)
{
    return c->dataset_path && strstr(c->dataset_path, "{node}");
}

/* The path with the node's name in the place of "{node}". Owned; NULL for NULL. */
static char *path_of(const char *path, const char *node_name)
{
    const char *at = path ? strstr(path, "{node}") : NULL;
    if (!at)
        return path ? pfl_xstrdup(path) : NULL;
    return pfl_xasprintf("%.*s%s%s", (int)(at - path), path, node_name, at + strlen("{node}"));
}

static enum pfl_rc load_named(const char *name, const char *folder, struct pfl_data_cache *ret, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_dataset_load(name, folder, PFL_DATASET_TRAIN, &ret->train, err);
    return rc == PFL_OK ? pfl_dataset_load(name, folder, PFL_DATASET_TEST, &ret->test, err) : rc;
}

static enum pfl_rc load_table(const struct pfl_learner_config *c, uint64_t seed, const char *path, const char *test_path,
                              struct pfl_data_cache *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_table_deinit) struct pfl_table train = {0};
    PFL_AUTO(pfl_table_deinit) struct pfl_table test = {0};
    if (!path)
        return pfl_err_set(err, PFL_INVALID, "data set '%s' needs a path", c->dataset);
    enum pfl_rc rc = pfl_table_load(c->dataset, path, c->data.label, &train, err);
    if (rc == PFL_OK && test_path)
        rc = pfl_table_load(c->dataset, test_path, c->data.label, &test, err);
    else if (rc == PFL_OK)
        rc = pfl_table_split(&train, c->data.test_share, seed, &test, err);
    if (rc == PFL_OK)
        rc = pfl_table_datasets(&train, &test, &c->data.classes, &ret->train, &ret->test, err);
    return rc == PFL_OK ? rc : pfl_err_wrap(err, "data set '%s'", c->dataset);
}

static enum pfl_rc scale(const struct pfl_data_config *d, struct pfl_data_cache *x, struct pfl_err *err)
{
    size_t channels = x->train->shape.channels;
    if (!d->standardise && d->n_mean == 0)
        return PFL_OK;
    if (d->n_mean && d->n_mean != channels)
        return pfl_err_set(err, PFL_INVALID, "'mean' and 'std' have %u numbers, the data has %zu channels", d->n_mean, channels);
    PFL_AUTO(pfl_freep) float *mean = pfl_xcalloc(channels, sizeof(*mean));
    PFL_AUTO(pfl_freep) float *deviation = pfl_xcalloc(channels, sizeof(*deviation));
    if (!d->n_mean)
        pfl_dataset_moments(x->train, mean, deviation);
    for (unsigned i = 0; i < d->n_mean; i++) {
        mean[i] = (float)d->mean[i];
        deviation[i] = (float)d->deviation[i];
    }
    enum pfl_rc rc = pfl_dataset_normalise(x->train, mean, deviation, err);
    return rc == PFL_OK ? pfl_dataset_normalise(x->test, mean, deviation, err) : rc;
}

enum pfl_rc pfl_learner_data_load(const struct pfl_learner_config *c, uint64_t seed, const char *node_name,
                                  struct pfl_data_cache *cache, struct pfl_err *err)
{
    PFL_AUTO(pfl_data_cache_deinit) struct pfl_data_cache got = {0};
    PFL_AUTO(pfl_freep) char *path = path_of(c->dataset_path, node_name);
    PFL_AUTO(pfl_freep) char *test_path = path_of(c->data.test_path, node_name);
    if (cache->train)
        return PFL_OK;
    enum pfl_rc rc =
        pfl_table_format(c->dataset) ? load_table(c, seed, path, test_path, &got, err) : load_named(c->dataset, path, &got, err);
    if (rc == PFL_OK)
        rc = scale(&c->data, &got, err);
    if (rc != PFL_OK)
        return rc;
    *cache = got;
    got = (struct pfl_data_cache){0};
    return PFL_OK;
}

static enum pfl_rc partition_of(const struct pfl_learner_config *c, const struct pfl_settings *s, struct pfl_partition *ret,
                                struct pfl_err *err)
{
    struct pfl_partition p = pfl_partition_default();
    if (!pfl_partition_parse(c->partition, &p.strategy))
        return pfl_err_set(err, PFL_INVALID, "unknown partition '%s'", pfl_q(c->partition));
    p.alpha = c->partition_params.alpha;
    p.min_size = c->partition_params.min_size;
    p.self_balancing = c->partition_params.self_balancing;
    p.shards_per_part = c->partition_params.shards_per_part;
    p.main_share = c->partition_params.main_share;
    p.main_classes = c->partition_params.main_classes;
    p.seed = c->part_seed ? c->part_seed : s->seed;
    p.part_index = c->part_index;
    p.part_count = c->part_count ? c->part_count : 1;
    p.reduction_factor = c->reduction_factor;
    *ret = p;
    return PFL_OK;
}

/* This node's samples, and the whole test set: every node is measured on the same one, but where each has data of its own. */
static enum pfl_rc take_data(struct pfl_data_cache *cache, const struct pfl_learner_config *c, const struct pfl_settings *s,
                             const char *node_name, struct pfl_dataset **ret_train, struct pfl_dataset **ret_test,
                             struct pfl_err *err)
{
    struct pfl_partition p;
    enum pfl_rc rc = partition_of(c, s, &p, err);
    if (rc == PFL_OK)
        rc = pfl_learner_data_load(c, p.seed, node_name, cache, err);
    if (rc != PFL_OK)
        return rc;
    if (own_data(c)) {
        p.part_index = 0;
        p.part_count = 1;
    }
    if (p.part_count == 1 && p.reduction_factor >= 1.0)
        *ret_train = pfl_dataset_ref(cache->train);
    else if ((rc = pfl_partition_take(cache->train, &p, ret_train, err)) != PFL_OK)
        return rc;
    *ret_test = pfl_dataset_ref(cache->test);
    return PFL_OK;
}

enum pfl_rc pfl_learner_parts(struct pfl_data_cache *cache, const struct pfl_learner_config *c, const struct pfl_settings *s,
                              unsigned parts, size_t **ret, unsigned *ret_classes, struct pfl_err *err)
{
    struct pfl_partition p;
    *ret = NULL;
    *ret_classes = 0;
    if (pfl_streq(c->dataset, "dummy") || pfl_streq(c->model, "dummy") || own_data(c))
        return PFL_OK;
    enum pfl_rc rc = partition_of(c, s, &p, err);
    if (rc == PFL_OK)
        rc = pfl_learner_data_load(c, p.seed, "", cache, err);
    if (rc != PFL_OK)
        return rc;
    p.part_index = 0;
    p.part_count = parts;
    PFL_AUTO(pfl_freep) size_t *table = pfl_xcalloc((size_t)parts * cache->train->n_classes, sizeof(*table));
    rc = pfl_partition_table(cache->train, &p, table, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_steal(&table);
    *ret_classes = cache->train->n_classes;
    return PFL_OK;
}

static enum pfl_rc net_of(const struct pfl_learner_config *c, struct pfl_trainer_opts *o, struct pfl_err *err)
{
    static_assert(sizeof(o->net.hidden) == sizeof(c->hidden), "the configuration's limit of hidden layers is the learner's");
    if (!pfl_net_kind_parse(c->model, &o->net.kind))
        return pfl_err_set(err, PFL_INVALID, "unknown model '%s'; there are mlp, logistic, cnn, lenet5, resnet8 and dummy",
                           pfl_q(c->model));
    if (c->activation && !pfl_activation_parse(c->activation, &o->net.activation))
        return pfl_err_set(err, PFL_INVALID, "unknown activation '%s'; there are relu, tanh and sigmoid", pfl_q(c->activation));
    if (c->optimizer && !pfl_optimiser_parse(c->optimizer, &o->optimiser.kind))
        return pfl_err_set(err, PFL_INVALID, "unknown optimizer '%s'; there are adam and sgd", pfl_q(c->optimizer));
    memcpy(o->net.hidden, c->hidden, sizeof(o->net.hidden));
    o->net.n_hidden = c->n_hidden;
    o->optimiser.learning_rate = c->learning_rate;
    o->optimiser.momentum = c->momentum;
    o->optimiser.weight_decay = c->weight_decay;
    return PFL_OK;
}

static size_t split_params(const struct pfl_strs *from, struct pfl_learner_param *to)
{
    for (size_t i = 0; i < from->n; i++) {
        const char *key = from->items[i], *value = strchr(key, '=');
        (void)snprintf(to[i].key, sizeof(to[i].key), "%.*s", (int)(value - key), key);
        (void)snprintf(to[i].value, sizeof(to[i].value), "%s", value + 1);
    }
    return from->n;
}

/* What the configuration says, for a learner in another process. */
static enum pfl_rc describe(const struct pfl_learner_config *c, const struct pfl_settings *s, const char *node_name,
                            struct pfl_learner_describe *ret, struct pfl_err *err)
{
    static_assert((int)PFL_REMOTE_PARAMS_MAX <= (int)PFL_LEARNER_PARAMS_MAX && (int)PFL_REMOTE_KEY_MAX < (int)PFL_LEARNER_KEY_MAX &&
                      (int)PFL_REMOTE_VALUE_MAX < (int)PFL_LEARNER_VALUE_MAX && PFL_ARRAY_LEN(c->hidden) <= PFL_LEARNER_HIDDEN_MAX,
                  "the configuration's limits are within the message's");
    const char *path = c->dataset_path ? c->dataset_path : "";
    if (strlen(path) >= sizeof(ret->dataset_path) || strlen(c->dataset) >= sizeof(ret->dataset))
        return pfl_err_set(err, PFL_TOO_BIG, "learner.dataset_path or learner.dataset is too long");
    *ret = (struct pfl_learner_describe){
        .part_index = c->part_index,
        .part_count = c->part_count ? c->part_count : 1,
        .part_seed = c->part_seed ? c->part_seed : s->seed,
        .seed = c->has_model_seed ? c->model_seed : s->seed,
        .reduction_factor = c->reduction_factor,
        .learning_rate = c->learning_rate,
        .batch_size = c->batch_size ? c->batch_size : s->batch_size,
        .threads = s->threads,
        .n_hidden = c->n_hidden,
    };
    (void)snprintf(ret->node, sizeof(ret->node), "%s", node_name);
    (void)snprintf(ret->dataset, sizeof(ret->dataset), "%s", c->dataset);
    (void)snprintf(ret->dataset_path, sizeof(ret->dataset_path), "%s", path);
    (void)snprintf(ret->partition, sizeof(ret->partition), "%s", c->partition);
    for (size_t i = 0; i < c->n_hidden; i++)
        ret->hidden[i] = c->hidden[i];
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs partition = {0};
    pfl_learner_config_partition_list(c, &partition);
    PFL_ASSERT(partition.n <= PFL_LEARNER_PARTITION_PARAMS_MAX);
    ret->n_partition_params = split_params(&partition, ret->partition_params);
    ret->n_params = split_params(&c->remote.params, ret->params);
    return PFL_OK;
}

static enum pfl_rc setup_remote(const struct pfl_learner_config *c, const struct pfl_settings *s, const char *node_name,
                                struct pfl_learner *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) struct pfl_learner_describe *config = pfl_xmalloc(sizeof(*config));
    enum pfl_rc rc = describe(c, s, node_name, config, err);
    const struct pfl_remote_opts opts = {
        .command = &c->remote.command,
        .socket = c->remote.socket,
        .folder = c->remote.folder,
        .launcher = "/proc/self/exe",
        .config = config,
        .start_timeout = c->remote.start_timeout,
        .silence_timeout = c->remote.silence_timeout,
    };
    return rc == PFL_OK ? pfl_remote_learner_new(&opts, ret, err) : rc;
}

static enum pfl_rc setup(struct pfl_data_cache *cache, const struct pfl_learner_config *c, const struct pfl_settings *s,
                         const char *node_name, struct pfl_learner *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_data_cache_deinit) struct pfl_data_cache own = {0};
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *train = NULL;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *test = NULL;
    if (pfl_remote_is_set(&c->remote))
        return setup_remote(c, s, node_name, ret, err);
    if (pfl_streq(c->dataset, "dummy") || pfl_streq(c->model, "dummy"))
        return pfl_dummy_learner_new(c->dummy_values, c->dummy_delay, node_name, ret, err);
    struct pfl_trainer_opts o = {
        .batch_size = c->batch_size ? c->batch_size : s->batch_size,
        .threads = s->threads,
        .seed = c->has_model_seed ? c->model_seed : s->seed, /* the run's, the same on all nodes */
    };
    enum pfl_rc rc = net_of(c, &o, err);
    if (rc == PFL_OK)
        rc = take_data(cache && !own_data(c) ? cache : &own, c, s, node_name, &train, &test, err);
    if (rc != PFL_OK)
        return rc;
    return pfl_trainer_new(&o, train, test, ret, err);
}

static bool is_hostile(const struct pfl_learner_config *c)
{
    const struct pfl_attack_config *a = &c->attack;
    bool named = a->n_nodes == 0;
    for (size_t i = 0; i < a->n_nodes; i++)
        named = named || a->nodes[i] == c->part_index;
    return a->kind && named;
}

enum pfl_rc pfl_learner_setup_in(struct pfl_data_cache *cache, const struct pfl_learner_config *c, const struct pfl_settings *s,
                                 const char *node_name, struct pfl_learner *ret, struct pfl_err *err)
{
    struct pfl_learner l;
    enum pfl_rc rc = setup(cache, c, s, node_name, &l, err);
    if (rc == PFL_OK && c->warm_start && (rc = pfl_warm_start_wrap(&l, c->warm_start, err)) != PFL_OK)
        l.ops->free(l.self);
    if (rc != PFL_OK)
        return rc;
    *ret = l;
    if (!is_hostile(c))
        return PFL_OK;
    pfl_warn("%s: attack: this node gives away something else than what it trained (%s, %g)", node_name, c->attack.kind,
             c->attack.sigma);
    pfl_attacker_wrap(ret, pfl_streq(c->attack.kind, "gaussian") ? PFL_ATTACK_GAUSSIAN : PFL_ATTACK_SIGN_FLIP, c->attack.sigma);
    return PFL_OK;
}

enum pfl_rc pfl_learner_setup(const struct pfl_learner_config *c, const struct pfl_settings *s, const char *node_name,
                              struct pfl_learner *ret, struct pfl_err *err)
{
    return pfl_learner_setup_in(NULL, c, s, node_name, ret, err);
}

enum pfl_rc pfl_aggregator_setup(const struct pfl_learner_config *c, struct pfl_aggregator *ret, struct pfl_err *err)
{
    const struct pfl_aggregator_config *p = &c->aggregator_params;
    const struct pfl_aggregator_params params = {.byzantine = p->byzantine,
                                                 .selected = p->selected,
                                                 .trim = p->trim,
                                                 .eta = p->eta,
                                                 .beta_1 = p->beta_1,
                                                 .beta_2 = p->beta_2,
                                                 .tau = p->tau,
                                                 .proximal_mu = p->proximal_mu,
                                                 .global_lr = p->global_lr,
                                                 .clients = p->clients};
    bool built_in = !pfl_remote_is_set(&c->remote) && !pfl_streq(c->model, "dummy") && !pfl_streq(c->dataset, "dummy");
    if (pfl_streq(c->aggregator, "scaffold") && built_in && !(pfl_streq(c->optimizer, "sgd") && c->momentum <= 0.0))
        return pfl_err_set(err, PFL_INVALID,
                           "aggregator 'scaffold' needs 'optimizer: sgd' without momentum: its control variates are "
                           "mean gradients, which it reads off the steps");
    return pfl_aggregator_make(c->aggregator, &params, ret, err);
}

static void set_noise(const struct pfl_compression_config *c, const struct pfl_compression_step_config *from,
                      struct pfl_compression_step *to)
{
    to->noise_multiplier = from->noise_multiplier;
    if (from->noise_multiplier <= 0.0) /* P2PFL's epsilon is that of one contribution */
        to->noise_multiplier = (from->laplace ? 1.0 : sqrt(2.0 * log(1.25 / c->delta))) / c->epsilon;
}

enum pfl_rc pfl_compression_setup(const struct pfl_learner_config *l, struct pfl_compression *ret, struct pfl_err *err)
{
    const struct pfl_compression_config *c = &l->compression;
    static const struct {
        const char *name;
        enum pfl_dtype type;
    } types[] = {{"float16", PFL_F16}, {"bfloat16", PFL_BF16}, {"int8", PFL_I8}, {"uint8", PFL_U8}, {"int16", PFL_I16}};
    static_assert(sizeof(c->steps) / sizeof(c->steps[0]) == PFL_TECHNIQUES, "each technique once");
    struct pfl_compression r = {.n = c->n};
    for (size_t i = 0; i < c->n; i++) {
        const struct pfl_compression_step_config *from = &c->steps[i];
        struct pfl_compression_step *to = &r.steps[i];
        enum pfl_technique t;
        if (!pfl_technique_parse(from->technique, &t))
            return pfl_err_set(err, PFL_INVALID, "compression '%s' is unknown", pfl_q(from->technique));
        *to = pfl_compression_step_default(t);
        to->k = from->k;
        to->error_feedback = from->error_feedback;
        to->threshold = from->threshold;
        to->asymmetric = from->asymmetric;
        to->per_channel = from->per_channel;
        to->channel_axis = from->channel_axis;
        to->clip_norm = from->clip_norm;
        to->laplace = from->laplace;
        to->level = from->level >= 0 ? from->level : to->level;
        for (size_t k = 0; k < PFL_ARRAY_LEN(types); k++)
            to->dtype = pfl_streq(from->dtype, types[k].name) ? types[k].type : to->dtype;
        set_noise(c, from, to);
    }
    enum pfl_rc rc = pfl_compression_check(&r, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "compression");
    *ret = r;
    return PFL_OK;
}
