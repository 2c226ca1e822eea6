/* SPDX-License-Identifier: Apache-2.0 */
/* P2PFL's experiment files. Names of its packages and classes are looked up in alias tables; a name that P2PFL has and this program
 * has not yet gets an error that says so, which is another one than for a misspelt name. */
#include "config/experiment.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"

#define TRY(expr)                                                                                                                  \
    do {                                                                                                                           \
        enum pfl_rc try_ = expr;                                                                                                   \
        if (try_ != PFL_OK)                                                                                                        \
            return try_;                                                                                                           \
    } while (0)

/* A name as it may stand in a file, and ours; ours NULL: known, not supported yet, with the reason where there is more to say. */
struct alias {
    const char *name, *ours, *why;
};

static const struct alias datasets[] = {
    {"fashion-mnist", "fashion-mnist", NULL},
    {"p2pfl/FashionMNIST", "fashion-mnist", NULL},
    {"zalando-datasets/fashion_mnist", "fashion-mnist", NULL},
    {"mnist", "mnist", NULL},
    {"p2pfl/MNIST", "mnist", NULL},
    {"ylecun/mnist", "mnist", NULL},
    {"dummy", "dummy", NULL},
    {"cifar10", "cifar10", NULL},
    {"p2pfl/CIFAR10", "cifar10", NULL},
};
static const struct alias partitions[] = {
    {"iid", "iid", NULL},
    {"RandomIIDPartitionStrategy", "iid", NULL},
    {"dirichlet", "dirichlet", NULL},
    {"DirichletPartitionStrategy", "dirichlet", NULL},
    {"label_skew", "label_skew", NULL},
    {"LabelSkewedPartitionStrategy", "label_skew", NULL},
    {"shards", "shards", NULL},
    {"percentage", "percentage", NULL},
    {"PercentageBasedNonIIDPartitionStrategy", "percentage", NULL},
    {"quantity", "quantity", NULL},
};
static const struct alias models[] = {
    {"mlp", "mlp", NULL},
    {"p2pfl.examples.mnist.model.mlp_pytorch", "mlp", NULL},
    {"p2pfl.examples.mnist.model.mlp_tensorflow", "mlp", NULL},
    {"p2pfl.examples.mnist.model.mlp_flax", "mlp", NULL},
    {"logistic", "logistic", NULL},
    {"cnn", "cnn", NULL},
    {"p2pfl.examples.mnist.model.cnn_pytorch", "cnn", NULL},
    {"lenet5", "lenet5", NULL},
    {"resnet8", "resnet8", NULL},
    {"p2pfl.examples.cifar10.model.resnet_pytorch", "resnet8", NULL},
    {"dummy", "dummy", NULL},
};
static const struct alias aggregators[] = {
    {"FedAvg", "fedavg", NULL},
    {"FedMedian", "fedmedian", NULL},
    {"trimmed_mean", "trimmed_mean", NULL},
    {"Krum", "krum", NULL},
    {"multi_krum", "multi_krum", NULL},
    {"krum_p2pfl", "krum_p2pfl", NULL},
    {"bulyan", "bulyan", NULL},
    {"geometric_median", "geometric_median", NULL},
    {"FedProx", "fedprox", NULL},
    {"Scaffold", "scaffold", NULL},
    {"ScaffoldAggregator", "scaffold", NULL},
    {"FedNova", "fednova", NULL},
    {"FedAdam", "fedadam", NULL},
    {"FedAdagrad", "fedadagrad", NULL},
    {"FedYogi", "fedyogi", NULL},
};

/* Replaces *ret by our name for the text of y (NULL: *ret stays). */
static enum pfl_rc take_alias(const struct pfl_yaml_doc *doc, const struct pfl_yaml *y, const struct alias *table, size_t n,
                              char **ret, struct pfl_err *err)
{
    if (!y)
        return PFL_OK;
    if (y->kind != PFL_YAML_SCALAR)
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be a single value");
    const char *names[24];
    PFL_ASSERT(n <= PFL_ARRAY_LEN(names));
    for (size_t i = 0; i < n; i++) {
        names[i] = table[i].name;
        if (strcasecmp(y->text, table[i].name) != 0)
            continue;
        if (!table[i].ours)
            return pfl_yaml_fail(doc, y, PFL_UNSUPPORTED, err, "'%s' is not supported yet%s; supported is '%s'", pfl_q(y->text),
                                 table[i].why ? table[i].why : "", table[0].name);
        free(*ret);
        *ret = pfl_xstrdup(table[i].ours);
        return PFL_OK;
    }
    const char *near = pfl_nearest(y->text, names, n);
    return pfl_yaml_fail(doc, y, PFL_INVALID, err, "'%s' is unknown; %s '%s'", pfl_q(y->text),
                         near ? "did you mean" : "a valid name is", near ? near : table[0].name);
}

void pfl_experiment_default(struct pfl_experiment_config *c)
{
    *c = (struct pfl_experiment_config){.name = pfl_xstrdup("experiment"),
                                        .nodes = 4,
                                        .topology = PFL_TOPO_FULL,
                                        .rounds = 5,
                                        .epochs = 1,
                                        .trainset_size = 4,
                                        .seed = 666,
                                        .wait_timeout = 60 * 60 * PFL_SEC};
    pfl_learner_config_default(&c->learner);
    pfl_settings_default(&c->settings);
}

void pfl_experiment_deinit(struct pfl_experiment_config *c)
{
    free(c->description);
    free(c->name);
    free(c->additional);
    free(c->remote_nodes);
    pfl_learner_config_deinit(&c->learner);
    pfl_settings_deinit(&c->settings);
    *c = (struct pfl_experiment_config){0};
}

static enum pfl_rc get_unsigned(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, int64_t min, int64_t max,
                                unsigned *ret, struct pfl_err *err)
{
    int64_t v = -1;
    TRY(pfl_yaml_int(doc, map, key, min, max, &v, err));
    if (v >= 0)
        *ret = (unsigned)v;
    return PFL_OK;
}

/* ---- network ---- */

bool pfl_topology_parse(const char *text, enum pfl_topology *ret, unsigned *ret_degree)
{
    static const struct {
        const char *name;
        enum pfl_topology t;
        unsigned degree;
    } names[] = {{"star", PFL_TOPO_STAR, 0},      {"full", PFL_TOPO_FULL, 0},       {"line", PFL_TOPO_LINE, 0},
                 {"ring", PFL_TOPO_RING, 0},      {"random_2", PFL_TOPO_RANDOM, 2}, {"random_3", PFL_TOPO_RANDOM, 3},
                 {"random_4", PFL_TOPO_RANDOM, 4}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(names); i++) {
        if (strcasecmp(text, names[i].name) == 0) {
            *ret = names[i].t;
            *ret_degree = names[i].degree;
            return true;
        }
    }
    return false;
}

const char *pfl_topology_name(enum pfl_topology t)
{
    static const char *const names[] = {"star", "full", "line", "ring", "random"};
    return names[t];
}

static enum pfl_rc read_additional(const struct pfl_yaml_doc *doc, struct pfl_yaml *list, struct pfl_experiment_config *c,
                                   struct pfl_err *err)
{
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        int64_t a = 0, b = 0;
        const struct pfl_yaml *i = y->first, *j = i ? i->next : NULL;
        bool pair = y->kind == PFL_YAML_LIST && j && !j->next && i->kind == PFL_YAML_SCALAR && j->kind == PFL_YAML_SCALAR;
        if (!pair || !pfl_parse_i64(i->text, 0, (int64_t)c->nodes - 1, &a) ||
            !pfl_parse_i64(j->text, 0, (int64_t)c->nodes - 1, &b) || a == b)
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be a pair of two different nodes from 0 to %u, such as [0, 2]",
                                 c->nodes - 1);
        c->additional = pfl_xrealloc(c->additional, (c->n_additional + 1) * sizeof(*c->additional));
        c->additional[c->n_additional++] = (struct pfl_edge){(unsigned)(a < b ? a : b), (unsigned)(a < b ? b : a)};
    }
    return PFL_OK;
}

static bool is_name(const struct pfl_yaml *y, const char *name)
{
    return y && y->kind == PFL_YAML_SCALAR && strcasecmp(y->text, name) == 0;
}

static enum pfl_rc read_network(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_experiment_config *c,
                                struct pfl_err *err)
{
    static const char *const keys[] = {"package", "protocol", "nodes", "topology", "additional_connections"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(get_unsigned(doc, m, "nodes", 1, PFL_EXPERIMENT_NODES_MAX, &c->nodes, err));
    const struct pfl_yaml *p = pfl_yaml_get(m, "protocol");
    c->memory_protocol = is_name(p, "MemoryCommunicationProtocol") || is_name(p, "memory");
    if (p && !c->memory_protocol && !is_name(p, "GrpcCommunicationProtocol") && !is_name(p, "grpc"))
        return pfl_yaml_fail(doc, p, PFL_INVALID, err, "must be GrpcCommunicationProtocol or MemoryCommunicationProtocol");
    const struct pfl_yaml *t = pfl_yaml_get(m, "topology");
    if (t && (t->kind != PFL_YAML_SCALAR || !pfl_topology_parse(t->text, &c->topology, &c->random_degree)))
        return pfl_yaml_fail(doc, t, PFL_INVALID, err, "must be star, full, line, ring, random_2, random_3 or random_4");
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(doc, m, "additional_connections", &list, err));
    return read_additional(doc, list, c, err);
}

/* ---- experiment ---- */

static enum pfl_rc read_partitioning(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_learner_config *l,
                                     struct pfl_err *err)
{
    static const char *const keys[] = {"package", "strategy", "reduced_dataset", "reduction_factor", "params"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(take_alias(doc, pfl_yaml_get(m, "strategy"), partitions, PFL_ARRAY_LEN(partitions), &l->partition, err));
    bool reduced = false;
    double factor = 1.0;
    TRY(pfl_yaml_bool(doc, m, "reduced_dataset", &reduced, err));
    TRY(pfl_yaml_double(doc, m, "reduction_factor", 1e-6, 1e6, &factor, err));
    factor = factor > 1.0 ? 1.0 / factor : factor;
    l->reduction_factor = reduced ? factor : 1.0;
    struct pfl_yaml *params = NULL;
    TRY(pfl_yaml_map(doc, m, "params", &params, err));
    TRY(pfl_learner_config_read_partition(doc, params, l, "seed", err));
    return pfl_yaml_u64(doc, params, "seed", &l->part_seed, err);
}

/* Where the samples come from: a name that is known, or a file, which P2PFL names with 'name', too. */
static enum pfl_rc read_source(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_learner_config *l,
                               struct pfl_err *err)
{
    static const struct alias sources[] = {
        {"huggingface", "", NULL},
        {"csv", "csv", NULL},
        {"json", "jsonl", NULL},
        {"jsonl", "jsonl", NULL},
        {"npy", "npy", NULL},
        {"npz", "npz", NULL},
        {"parquet", NULL, ": write it as csv or npz"},
        {"pandas", NULL, ": write it as csv or npz"},
        {"custom", NULL, ": write it as csv or npz"},
    };
    PFL_AUTO(pfl_freep) char *format = pfl_xstrdup("");
    TRY(take_alias(doc, pfl_yaml_get(m, "source"), sources, PFL_ARRAY_LEN(sources), &format, err));
    if (!format[0])
        return take_alias(doc, pfl_yaml_get(m, "name"), datasets, PFL_ARRAY_LEN(datasets), &l->dataset, err);
    free(l->dataset);
    l->dataset = pfl_steal(&format);
    TRY(pfl_yaml_str(doc, m, "name", &l->dataset_path, err));
    if (!pfl_yaml_get(m, "name") && !pfl_yaml_get(m, "path"))
        return pfl_yaml_fail(doc, pfl_yaml_get(m, "source"), PFL_INVALID, err, "needs 'path', the file with the samples");
    return PFL_OK;
}

/* Functions in Python do not run here. What those of P2PFL's examples do to the values is known. */
static void take_transforms(const struct pfl_yaml *package, struct pfl_learner_config *l, struct pfl_strs *notes)
{
    static const double mean[] = {0.4914, 0.4822, 0.4465}, deviation[] = {0.2470, 0.2435, 0.2616};
    struct pfl_data_config *d = &l->data;
    bool scaled = d->standardise || d->n_mean > 0;
    if (is_name(package, "p2pfl.examples.mnist.transforms") && !scaled) {
        pfl_strs_add(notes, "experiment.dataset.transforms has no effect: images are scaled to [0, 1], as P2PFL's MNIST "
                            "transform does");
        return;
    }
    if (is_name(package, "p2pfl.examples.cifar10.transforms") && pfl_streq(l->dataset, "cifar10") && !scaled) {
        memcpy(d->mean, mean, sizeof(mean));
        memcpy(d->deviation, deviation, sizeof(deviation));
        d->n_mean = d->n_deviation = PFL_ARRAY_LEN(mean);
        pfl_strs_add(notes, "experiment.dataset.transforms: images are normalised with the mean and deviation of P2PFL's CIFAR-10 "
                            "transform; its random crops and flips of the training images are left out");
        return;
    }
    pfl_strs_add(notes, "experiment.dataset.transforms has no effect: it names a function in Python, which does not run here; how "
                        "samples are scaled is said by 'normalise', or 'mean' and 'std', in experiment.dataset");
}

static enum pfl_rc read_dataset(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_experiment_config *c,
                                struct pfl_err *err)
{
    static const char *const keys[] = {"source",     "name",  "path",    "batch_size", "transforms", "partitioning", "test_path",
                                       "test_share", "label", "classes", "normalise",  "mean",       "std"};
    struct pfl_learner_config *l = &c->learner;
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(read_source(doc, m, l, err));
    TRY(pfl_learner_config_read_data(doc, m, &l->data, err));
    TRY(pfl_yaml_str(doc, m, "path", &l->dataset_path, err));
    TRY(get_unsigned(doc, m, "batch_size", 1, 1000000, &l->batch_size, err));
    struct pfl_yaml *transforms = NULL, *partitioning = NULL;
    static const char *const transform_keys[] = {"package", "function", "params"};
    TRY(pfl_yaml_map(doc, m, "transforms", &transforms, err));
    TRY(pfl_yaml_only(doc, transforms, transform_keys, PFL_ARRAY_LEN(transform_keys), err));
    if (transforms && pfl_yaml_get(transforms, "function"))
        take_transforms(pfl_yaml_get(transforms, "package"), l, &c->settings.notes);
    TRY(pfl_yaml_map(doc, m, "partitioning", &partitioning, err));
    return partitioning ? read_partitioning(doc, partitioning, l, err) : PFL_OK;
}

static enum pfl_rc read_model_params(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_learner_config *l,
                                     struct pfl_err *err)
{
    static const char *const net[] = {"seed",         "lr_rate",     "optimizer",    "momentum",
                                      "weight_decay", "compression", "hidden_sizes", "activation"}; /* the last two: of the MLP */
    static const char *const dummy[] = {"seed", "values", "delay_ms", "compression"};
    bool is_dummy = pfl_streq(l->model, "dummy");
    size_t n_net = PFL_ARRAY_LEN(net) - (pfl_streq(l->model, "mlp") ? 0 : 2);
    TRY(pfl_yaml_only(doc, m, is_dummy ? dummy : net, is_dummy ? PFL_ARRAY_LEN(dummy) : n_net, err));
    int64_t values = -1, delay = -1;
    TRY(pfl_yaml_u64(doc, m, "seed", &l->model_seed, err));
    l->has_model_seed = pfl_yaml_get(m, "seed") != NULL;
    TRY(pfl_yaml_double(doc, m, "lr_rate", 1e-9, 1e3, &l->learning_rate, err));
    TRY(pfl_yaml_int(doc, m, "values", 1, (int64_t)1 << 31, &values, err));
    TRY(pfl_yaml_int(doc, m, "delay_ms", 0, 3600000, &delay, err));
    if (values > 0)
        l->dummy_values = (uint64_t)values;
    if (delay >= 0)
        l->dummy_delay = delay * PFL_MS;
    return pfl_learner_config_read_model(doc, m, l, err);
}

/* P2PFL takes it in both places. */
static enum pfl_rc read_compression(const struct pfl_yaml_doc *doc, struct pfl_yaml *model, struct pfl_yaml *params,
                                    struct pfl_learner_config *l, struct pfl_err *err)
{
    struct pfl_yaml *inner = pfl_yaml_get(params, "compression");
    if (inner && pfl_yaml_get(model, "compression"))
        return pfl_yaml_fail(doc, inner, PFL_INVALID, err, "is given in the model too; one of them is wanted");
    return pfl_learner_config_read_compression(doc, inner ? params : model, l, err);
}

static enum pfl_rc read_model(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_learner_config *l,
                              struct pfl_strs *notes, struct pfl_err *err)
{
    static const char *const keys[] = {"package", "model_build_fn", "params", "compression", "warm_start"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_str(doc, m, "warm_start", &l->warm_start, err));
    TRY(take_alias(doc, pfl_yaml_get(m, "package"), models, PFL_ARRAY_LEN(models), &l->model, err));
    const struct pfl_yaml *fn = pfl_yaml_get(m, "model_build_fn");
    if (fn && (fn->kind != PFL_YAML_SCALAR || !pfl_streq(fn->text, "model_build_fn")))
        return pfl_yaml_fail(doc, fn, PFL_UNSUPPORTED, err, "only 'model_build_fn' is supported: models are built in");
    struct pfl_yaml *params = NULL;
    TRY(pfl_yaml_map(doc, m, "params", &params, err));
    const struct pfl_yaml *package = pfl_yaml_get(m, "package");
    if (package && pfl_streq(l->model, "resnet8") && strcasecmp(package->text, "resnet8") != 0)
        pfl_strs_add(notes,
                     "experiment.model.package: in place of P2PFL's ResNet-18 trains resnet8: 7 convolutions of 16 to 64 channels "
                     "instead of 20 of 64 to 512, 75,050 parameters instead of 11.2 million, no batch normalisation, and Adam "
                     "with 0.001 where lr_rate says nothing (there 0.01). A processor can train it; its accuracy is not that of "
                     "ResNet-18, and the two cannot exchange models");
    TRY(read_compression(doc, m, params, l, err));
    return params ? read_model_params(doc, params, l, err) : PFL_OK;
}

static enum pfl_rc read_aggregator(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_learner_config *l,
                                   struct pfl_err *err)
{
    static const char *const keys[] = {"package", "aggregator", "params"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(take_alias(doc, pfl_yaml_get(m, "aggregator"), aggregators, PFL_ARRAY_LEN(aggregators), &l->aggregator, err));
    static const char no_partial_key[] = "disable_partial_aggregation";
    struct pfl_yaml *params = NULL;
    bool no_partial = false;
    TRY(pfl_yaml_map(doc, m, "params", &params, err));
    TRY(pfl_learner_config_read_aggregator(doc, params, l, no_partial_key, err));
    TRY(pfl_yaml_bool(doc, params, no_partial_key, &no_partial, err));
    if (no_partial)
        return pfl_yaml_fail(doc, pfl_yaml_get(params, no_partial_key), PFL_UNSUPPORTED, err, "true is not supported yet");
    return PFL_OK;
}

/* A learner in another process, for all nodes or for some of them. */
static enum pfl_rc read_remote(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_experiment_config *c,
                               struct pfl_err *err)
{
    static const char *const keys[] = {"command", "folder", "start_timeout", "silence_timeout", "params", "nodes"};
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_remote_config_read(doc, m, &c->learner.remote, err));
    if (c->learner.remote.command.n == 0)
        return pfl_yaml_fail(doc, m, PFL_INVALID, err, "'command' is missing, such as [python3, train.py]");
    TRY(pfl_yaml_list(doc, m, "nodes", &list, err));
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        int64_t i = 0;
        if (y->kind != PFL_YAML_SCALAR || !pfl_parse_i64(y->text, 0, (int64_t)c->nodes - 1, &i) ||
            c->n_remote_nodes == PFL_EXPERIMENT_NODES_MAX)
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be nodes from 0 to %u, such as [0, 2]", c->nodes - 1);
        c->remote_nodes = pfl_xrealloc(c->remote_nodes, (c->n_remote_nodes + 1) * sizeof(*c->remote_nodes));
        c->remote_nodes[c->n_remote_nodes++] = (unsigned)i;
    }
    return PFL_OK;
}

bool pfl_experiment_is_remote(const struct pfl_experiment_config *c, unsigned node)
{
    bool found = c->n_remote_nodes == 0;
    for (size_t i = 0; i < c->n_remote_nodes && !found; i++)
        found = c->remote_nodes[i] == node;
    return found && pfl_remote_is_set(&c->learner.remote);
}

static enum pfl_rc read_experiment(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_experiment_config *c,
                                   struct pfl_err *err)
{
    static const char *const keys[] = {"name",    "rounds", "epochs",     "trainset_size", "seed",  "wait_timeout",
                                       "dataset", "model",  "aggregator", "learner",       "attack"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_str(doc, m, "name", &c->name, err));
    if (c->name[0] == '\0' || c->name[0] == '.' || strlen(c->name) > 128 || strchr(c->name, '/'))
        return pfl_yaml_fail(doc, pfl_yaml_get(m, "name"), PFL_INVALID, err,
                             "must be 1 to 128 bytes, without '/' and without a leading dot");
    TRY(get_unsigned(doc, m, "rounds", 1, 1000000, &c->rounds, err));
    TRY(get_unsigned(doc, m, "epochs", 0, 10000, &c->epochs, err));
    TRY(get_unsigned(doc, m, "trainset_size", 1, 4096, &c->trainset_size, err));
    double minutes = -1;
    TRY(pfl_yaml_u64(doc, m, "seed", &c->seed, err));
    TRY(pfl_yaml_double(doc, m, "wait_timeout", 0.01, 1e6, &minutes, err));
    if (minutes > 0)
        c->wait_timeout = (pfl_ns)(minutes * 60e9);
    struct pfl_yaml *dataset = NULL, *model = NULL, *aggregator = NULL, *remote = NULL;
    TRY(pfl_yaml_map(doc, m, "learner", &remote, err));
    TRY(pfl_yaml_map(doc, m, "dataset", &dataset, err));
    TRY(pfl_yaml_map(doc, m, "model", &model, err));
    TRY(pfl_yaml_map(doc, m, "aggregator", &aggregator, err));
    if (dataset)
        TRY(read_dataset(doc, dataset, c, err));
    if (model)
        TRY(read_model(doc, model, &c->learner, &c->settings.notes, err));
    if (remote)
        TRY(read_remote(doc, remote, c, err));
    TRY(pfl_attack_config_read(doc, m, &c->learner.attack, err));
    for (size_t i = 0; i < c->learner.attack.n_nodes; i++) {
        if (c->learner.attack.nodes[i] >= c->nodes)
            return pfl_yaml_fail(doc, pfl_yaml_get(m, "attack"), PFL_INVALID, err, "names node %u; there are nodes 0 to %u",
                                 c->learner.attack.nodes[i], c->nodes - 1);
    }
    return aggregator ? read_aggregator(doc, aggregator, &c->learner, err) : PFL_OK;
}

/* A rule that can never work with so few members would stop the first round of every run. */
static enum pfl_rc check_byzantine(const struct pfl_yaml_doc *doc, const struct pfl_experiment_config *c,
                                   const struct pfl_yaml *experiment, struct pfl_err *err)
{
    unsigned members = c->trainset_size < c->nodes ? c->trainset_size : c->nodes;
    int64_t f = c->learner.aggregator_params.byzantine, per_f = pfl_streq(c->learner.aggregator, "bulyan") ? 4 : 2;
    if (f < 0 || members >= per_f * f + 3)
        return PFL_OK;
    return pfl_yaml_fail(doc, experiment, PFL_INVALID, err,
                         "aggregator '%s' against %d hostile contributions needs a train set of at least %d, this one has %u",
                         c->learner.aggregator, (int)f, (int)(per_f * f + 3), members);
}

static enum pfl_rc read_root(const struct pfl_yaml_doc *doc, struct pfl_experiment_config *c, struct pfl_err *err)
{
    static const char *const keys[] = {"description", "remote_loggers", "network",   "experiment",
                                       "settings",    "profiling",      "simulation"}; /* the last is read by simulate alone */
    struct pfl_yaml *network = NULL, *experiment = NULL, *settings = NULL, *root = doc->root;
    TRY(pfl_yaml_only(doc, root, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_str(doc, root, "description", &c->description, err));
    TRY(pfl_yaml_map(doc, root, "settings", &settings, err));
    TRY(pfl_yaml_map(doc, root, "network", &network, err));
    TRY(pfl_yaml_map(doc, root, "experiment", &experiment, err));
    if (settings)
        TRY(pfl_settings_read(doc, settings, &c->settings, err));
    if (network)
        TRY(read_network(doc, network, c, err));
    if (!experiment)
        return pfl_err_set(err, PFL_INVALID, "%s: the block 'experiment:' is missing", doc->file);
    c->seed = c->settings.has_seed ? c->settings.seed : c->seed;
    TRY(read_experiment(doc, experiment, c, err));
    TRY(check_byzantine(doc, c, experiment, err));
    if (pfl_yaml_get(root, "remote_loggers"))
        pfl_strs_add(&c->settings.notes, "remote_loggers has no effect: metrics are written to the run's folder");
    static const char *const profiling_keys[] = {"enabled", "measure_time", "output_dir"};
    struct pfl_yaml *profiling = NULL;
    TRY(pfl_yaml_map(doc, root, "profiling", &profiling, err));
    TRY(pfl_yaml_only(doc, profiling, profiling_keys, PFL_ARRAY_LEN(profiling_keys), err));
    if (profiling)
        pfl_strs_add(&c->settings.notes,
                     "profiling has no effect: there is no profiler; how long rounds and fits take stands in the report and "
                     "in metrics.jsonl in any case");
    return PFL_OK;
}

enum pfl_rc pfl_experiment_parse(const char *file, const char *text, size_t len, struct pfl_experiment_config *ret,
                                 struct pfl_err *err)
{
    struct pfl_yaml_doc doc = {0};
    TRY(pfl_yaml_parse(file, text, len, &doc, err));
    struct pfl_experiment_config c;
    pfl_experiment_default(&c);
    enum pfl_rc rc = read_root(&doc, &c, err);
    pfl_yaml_deinit(&doc);
    if (rc != PFL_OK) {
        pfl_experiment_deinit(&c);
        return rc;
    }
    if (c.learner.batch_size == 0)
        c.learner.batch_size = c.settings.batch_size;
    *ret = c;
    return PFL_OK;
}

enum pfl_rc pfl_experiment_load(const char *path, struct pfl_experiment_config *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
    TRY(pfl_fs_read(path, PFL_YAML_FILE_MAX, &b, err));
    return pfl_experiment_parse(path, (const char *)b->data, b->len, ret, err);
}
