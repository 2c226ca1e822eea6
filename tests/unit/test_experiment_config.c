/* SPDX-License-Identifier: Apache-2.0 */
/* link: base config pki */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "config/experiment.h"

static struct pfl_experiment_config load(const char *path)
{
    struct pfl_experiment_config c = {0};
    struct pfl_err err = {0};
    if (pfl_experiment_load(path, &c, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return c;
}

static struct pfl_experiment_config parse(const char *text)
{
    struct pfl_experiment_config c = {0};
    struct pfl_err err = {0};
    if (pfl_experiment_parse("e.yaml", text, strlen(text), &c, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return c;
}

/* ---- refused ---- */

#define EXP "experiment:\n  rounds: 3\n"

static const struct {
    const char *text;
    enum pfl_rc rc;
    const char *message;
} refusals[] = {
    {"network: {nodes: 4}\n", PFL_INVALID, "e.yaml: the block 'experiment:' is missing"},
    {"experiment: 5\n", PFL_INVALID, "e.yaml:1: experiment: must be a map"},
    {"experiment:\n  ruonds: 5\n", PFL_INVALID, "e.yaml:2: unknown key 'ruonds' in experiment: did you mean 'rounds'?"},
    {"experiment:\n  rounds: ten\n", PFL_INVALID, "e.yaml:2: experiment.rounds: 'ten' is not a whole number from 1 to 1000000"},
    {"experiment:\n  rounds: 0\n", PFL_INVALID, "e.yaml:2: experiment.rounds: '0'"},
    {"experiment:\n  seed: -1\n", PFL_INVALID, "experiment.seed: '-1'"},
    {"experiment:\n  name: a/b\n", PFL_INVALID, "experiment.name: must be"},
    {"experiment:\n  name: ..\n", PFL_INVALID, "experiment.name: must be"},
    {"experiment:\n  name: \"\"\n", PFL_INVALID, "experiment.name: must be"},
    {"experiment:\n  trainset_size: 0\n", PFL_INVALID, "experiment.trainset_size"},
    {"experiment:\n  wait_timeout: 0\n", PFL_INVALID, "experiment.wait_timeout"},
    {EXP "netwrok: {}\n", PFL_INVALID, "e.yaml:3: unknown key 'netwrok': did you mean 'network'?"},
    {EXP "profiling: {enable: true}\n", PFL_INVALID, "did you mean 'enabled'?"},
    /* network */
    {EXP "network: {nodes: 0}\n", PFL_INVALID, "network.nodes"},
    {EXP "network: {nodes: 1001}\n", PFL_INVALID, "network.nodes"},
    {EXP "network: {protocol: HttpProtocol}\n", PFL_INVALID, "e.yaml:3: network.protocol: must be"},
    {EXP "network: {topology: mesh}\n", PFL_INVALID, "network.topology: must be star, full"},
    {EXP "network: {topology: random_5}\n", PFL_INVALID, "network.topology: must be"},
    {EXP "network: {topology: [ring]}\n", PFL_INVALID, "network.topology: must be"},
    {EXP "network: {nodes: 3, additional_connections: [[0, 3]]}\n", PFL_INVALID, "additional_connections[0]: must be a pair"},
    {EXP "network: {nodes: 3, additional_connections: [[0, 1], [1, 1]]}\n", PFL_INVALID,
     "additional_connections[1]: must be a pair"},
    {EXP "network: {nodes: 3, additional_connections: [[0, 1, 2]]}\n", PFL_INVALID, "must be a pair"},
    {EXP "network: {nodes: 3, additional_connections: [[0]]}\n", PFL_INVALID, "must be a pair"},
    {EXP "network: {nodes: 3, additional_connections: [1]}\n", PFL_INVALID, "must be a pair"},
    {EXP "network: {nodes: 3, additional_connections: [[-1, 1]]}\n", PFL_INVALID, "must be a pair"},
    {EXP "network: {nodes: 3, additional_connections: 1}\n", PFL_INVALID, "must be a list"},
    /* data */
    {EXP "  dataset: {name: p2pfl/CIFAR100}\n", PFL_INVALID,
     "e.yaml:3: experiment.dataset.name: 'p2pfl/CIFAR100' is unknown; did you mean 'p2pfl/CIFAR10'"},
    {EXP "  dataset: {name: p2pfl/MNSIT}\n", PFL_INVALID, "'p2pfl/MNSIT' is unknown; did you mean 'p2pfl/MNIST'"},
    {EXP "  dataset: {name: [mnist]}\n", PFL_INVALID, "experiment.dataset.name: must be a single value"},
    {EXP "  dataset: {source: csv}\n", PFL_INVALID, "experiment.dataset.source: needs 'path'"},
    {EXP "  dataset: {source: parquet, path: x}\n", PFL_UNSUPPORTED, "'parquet' is not supported yet: write it as csv or npz"},
    {EXP "  dataset: {source: csv, path: x, normalise: yes}\n", PFL_INVALID, "must be none or standard"},
    {EXP "  dataset: {source: csv, path: x, mean: [0], std: [0]}\n", PFL_INVALID, "std: must be above 0"},
    {EXP "  dataset: {source: csv, path: x, classes: [a, a]}\n", PFL_INVALID, "different names"},
    {EXP "  dataset: {batch_size: 0}\n", PFL_INVALID, "experiment.dataset.batch_size"},
    {EXP "  dataset: {transforms: {fucntion: x}}\n", PFL_INVALID, "did you mean 'function'?"},
    {EXP "  dataset: {partitioning: {strategy: DirichletPartitionStrategi}}\n", PFL_INVALID,
     "did you mean 'DirichletPartitionStrategy'"},
    {EXP "  dataset: {partitioning: {strategy: dirichlet, params: {alpha: 0}}}\n", PFL_INVALID, "alpha"},
    {EXP "  dataset: {partitioning: {strategy: shards, params: {alpha: 1}}}\n", PFL_INVALID, "unknown key 'alpha'"},
    {EXP "  aggregator: {aggregator: FedMedian, params: {byzantine: 1}}\n", PFL_INVALID, "unknown key 'byzantine'"},
    {EXP "  aggregator: {aggregator: Krum, params: {byzantine: 1}}\n", PFL_INVALID,
     "'krum' against 1 hostile contributions needs a train set of at least 5, this one has 4"},
    {EXP "  aggregator: {aggregator: trimmed_mean, params: {trim: 0.5}}\n", PFL_INVALID, "trim"},
    {EXP "  dataset: {partitioning: {strategy: iid, params: {alpha: 0.3}}}\n", PFL_INVALID,
     "unknown key 'alpha' in experiment.dataset.partitioning.params"},
    {EXP "  dataset: {partitioning: {reduced_dataset: yes, reduction_factor: 0}}\n", PFL_INVALID, "reduction_factor"},
    /* model */
    {EXP "  model: {package: lenet}\n", PFL_INVALID, "'lenet' is unknown; did you mean 'lenet5'"},
    {EXP "  model: {package: cnn, params: {hidden_sizes: [5]}}\n", PFL_INVALID, "hidden_sizes"},
    {EXP "  model: {params: {optimizer: sdg}}\n", PFL_INVALID, "'sdg' is unknown; did you mean 'sgd'"},
    {EXP "  model: {params: {momentum: 0.9}}\n", PFL_INVALID, "say 'optimizer: sgd'"},
    {EXP "  model: {params: {optimizer: sgd, momentum: 1.5}}\n", PFL_INVALID, "momentum"},
    {EXP "  model: {package: my.own.model}\n", PFL_INVALID, "'my.own.model' is unknown"},
    {EXP "  model: {model_build_fn: other}\n", PFL_UNSUPPORTED, "experiment.model.model_build_fn: only"},
    {EXP "  model: {params: {lr: 0.1}}\n", PFL_INVALID, "unknown key 'lr' in experiment.model.params"},
    {EXP "  model: {params: {values: 5}}\n", PFL_INVALID, "unknown key 'values'"},
    {EXP "  model: {package: dummy, params: {lr_rate: 0.1}}\n", PFL_INVALID, "unknown key 'lr_rate'"},
    {EXP "  model: {params: {activation: tahn}}\n", PFL_INVALID, "'tahn' is unknown; did you mean 'tanh'"},
    {EXP "  model: {params: {hidden_sizes: [10, 0]}}\n", PFL_INVALID, "hidden_sizes[1]"},
    {EXP "  model: {params: {hidden_sizes: [1,2,3,4,5,6,7,8,9]}}\n", PFL_INVALID, "hidden_sizes[8]: must be at most 8"},
    {EXP "  model: {compression: ptq}\n", PFL_INVALID, "experiment.model.compression: must be a map of techniques"},
    {EXP "  model: {compression: {ptk: {}}}\n", PFL_INVALID, "did you mean 'ptq'"},
    {EXP "  model: {compression: {ptq: int8}}\n", PFL_INVALID, "compression.ptq: must be a map of parameters"},
    {EXP "  model: {compression: {ptq: {dtype: int4}}}\n", PFL_INVALID, "must be float16, bfloat16, int8, uint8 or int16"},
    {EXP "  model: {compression: {ptq: {k: 0.1}}}\n", PFL_INVALID, "unknown key 'k'"},
    {EXP "  model: {compression: {topk: {k: 0}}}\n", PFL_INVALID, "topk.k"},
    {EXP "  model: {compression: {ptq: {}, topk: {}}}\n", PFL_INVALID, "topk: cannot come behind 'ptq'"},
    {EXP "  model: {compression: {zlib: {}, zstd: {}}}\n", PFL_INVALID, "zstd: cannot come behind 'zlib'"},
    {EXP "  model: {compression: {topk: {}, dp: {}}}\n", PFL_INVALID, "dp: must come first"},
    {EXP "  model: {compression: {dp: {noise_type: uniform}}}\n", PFL_INVALID, "must be gaussian or laplace"},
    {EXP "  model: {compression: {topk: {}}, params: {compression: {topk: {}}}}\n", PFL_INVALID, "is given in the model too"},
    /* learner */
    {EXP "  learner: {folder: x}\n", PFL_INVALID, "experiment.learner.folder: belongs to a learner in another process"},
    {EXP "  learner: {nodes: [1]}\n", PFL_INVALID, "e.yaml:3: experiment.learner: 'command' is missing"},
    {EXP "  learner: {socket: /x}\n", PFL_INVALID, "unknown key 'socket' in experiment.learner"},
    {EXP "  learner: {command: [a], nodes: [4]}\n", PFL_INVALID, "experiment.learner.nodes[0]: must be nodes from 0 to 3"},
    {EXP "  attack: {kind: gauss}\n", PFL_INVALID, "kind must be gaussian or sign_flip"},
    {EXP "  attack: {kind: gaussian, nodes: [4]}\n", PFL_INVALID, "experiment.attack: names node 4; there are nodes 0 to 3"},
    {EXP "  attack: {kind: gaussian, nodes: [x]}\n", PFL_INVALID, "attack.nodes[0]: must be the number of a node"},
    /* aggregator */
    {EXP "  aggregator: {aggregator: Scaffold, params: {proximal_mu: 1}}\n", PFL_INVALID, "unknown key 'proximal_mu'"},
    {EXP "  aggregator: {aggregator: FedAvgg}\n", PFL_INVALID, "did you mean 'FedAvg'"},
    {EXP "  aggregator: {params: {beta: 1}}\n", PFL_INVALID, "unknown key 'beta'"},
    {EXP "  aggregator: {params: {disable_partial_aggregation: true}}\n", PFL_UNSUPPORTED,
     "disable_partial_aggregation: true is not supported yet"},
    /* settings */
    {EXP "settings: {genral: {}}\n", PFL_INVALID, "did you mean 'general'?"},
    {EXP "settings: {ssl: {}, SSL: {}}\n", PFL_MALFORMED, "the key 'SSL' is there twice"},
    {EXP "settings: {SSL: {USE_SLL: false}}\n", PFL_INVALID, "unknown key 'USE_SLL' in settings.SSL: did you mean 'use_ssl'?"},
    {EXP "settings: {ssl: {use_ssl: maybe}}\n", PFL_INVALID, "settings.ssl.use_ssl: 'maybe' is neither true nor false"},
    {EXP "settings: {ssl: {tls_min: 1.1}}\n", PFL_INVALID, "settings.ssl.tls_min: must be 1.3 or 1.2"},
    {EXP "settings: {general: {interop: [off]}}\n", PFL_INVALID, "must be off or p2pfl"},
    {EXP "settings: {general: {interop: yes}}\n", PFL_INVALID, "must be off or p2pfl"},
    {EXP "settings: {general: {interop_compression: {zip: {}}}}\n", PFL_INVALID, "unknown key 'zip'"},
    {EXP "settings: {general: {interop_compression: {ptq: {}, topk: {}}}}\n", PFL_INVALID, "behind ptq"},
    {EXP "settings: {general: {interop_compression: {topk: {k: 2}}}}\n", PFL_INVALID,
     "interop_compression.topk.k: '2' is not a number"},
    {EXP "settings: {general: {interop_compression: {zlib: {}, lzma: {}}}}\n", PFL_INVALID, "one of zlib and lzma"},
    {EXP "settings: {general: {log_level: loud}}\n", PFL_INVALID, "settings.general.log_level: 'loud' is not one of"},
    {EXP "settings: {general: {grpc_timeout: 0}}\n", PFL_INVALID, "settings.general.grpc_timeout"},
    {EXP "settings: {gossip: {ttl: 0}}\n", PFL_INVALID, "settings.gossip.ttl"},
    {EXP "settings: {heartbeat: {period: 5, timeout: 5}}\n", PFL_INVALID, "the timeout (5 s) must be longer than the period (5 s)"},
    {EXP "settings: {heartbeat: {period: 6}}\n", PFL_INVALID, "must be longer than the period"},
    {EXP "settings: {training: {threads: 0}}\n", PFL_INVALID, "settings.training.threads"},
};

static void test_experiment_parse__refused_with_file_line_and_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(refusals); i++) {
        struct pfl_experiment_config c = {.nodes = 77};
        struct pfl_err err = {0};
        enum pfl_rc rc = pfl_experiment_parse("e.yaml", refusals[i].text, strlen(refusals[i].text), &c, &err);
        if (rc != refusals[i].rc || !strstr(err.msg, refusals[i].message) || c.nodes != 77)
            fail_msg("row %zu %s: %s: %s", i, refusals[i].text, pfl_rc_text(rc), err.msg);
    }
}

static void test_experiment_load__cifar10_of_p2pfl__with_a_smaller_network_and_a_note(void **state)
{
    (void)state;
    PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config c = load(PFL_TEST_FIXTURES "/config/p2pfl_cifar10.yaml");
    assert_string_equal(c.learner.dataset, "cifar10");
    assert_string_equal(c.learner.partition, "dirichlet");
    assert_string_equal(c.learner.model, "resnet8");
    assert_true(c.learner.partition_params.alpha == 0.3 && c.learner.partition_params.min_size == 5);
    assert_true(c.rounds == 130 && c.learner.batch_size == 256 && c.topology == PFL_TOPO_STAR);
    assert_int_equal(c.settings.notes.n, 1);
    assert_non_null(strstr(c.settings.notes.items[0], "resnet8"));
}

/* ---- taken ---- */

static struct pfl_experiment_config parsed(const char *text)
{
    struct pfl_experiment_config c;
    struct pfl_err err = {0};
    if (pfl_experiment_parse("e.yaml", text, strlen(text), &c, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return c;
}

static void test_experiment_parse__transforms__what_they_do_or_a_note(void **state)
{
    (void)state;
    static const struct {
        const char *package, *more, *note;
        unsigned n_mean;
    } rows[] = {
        {"p2pfl.examples.cifar10.transforms", "", "experiment.dataset.transforms: images are normalised with the mean", 3},
        {"p2pfl.examples.cifar10.transforms", ", normalise: standard", "experiment.dataset.transforms has no effect: it names", 0},
        {"p2pfl.examples.mnist.transforms", "", "experiment.dataset.transforms has no effect: images are scaled", 0},
        {"my.own", "", "experiment.dataset.transforms has no effect: it names a function in Python", 0},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_freep)
        char *text = pfl_xasprintf(EXP "  dataset: {name: cifar10, transforms: {package: %s, function: f}%s}\n", rows[i].package,
                                   rows[i].more);
        PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config c = parsed(text);
        assert_int_equal(c.settings.notes.n, 1);
        assert_true(pfl_str_has_prefix(c.settings.notes.items[0], rows[i].note));
        assert_int_equal(c.learner.data.n_mean, rows[i].n_mean);
        assert_int_equal(c.learner.data.n_deviation, rows[i].n_mean);
    }
}

static void test_experiment_parse__warm_start__taken(void **state)
{
    (void)state;
    PFL_AUTO(pfl_experiment_deinit)
    struct pfl_experiment_config c = parsed(EXP "  model: {package: mlp, warm_start: a.safetensors}\n");
    assert_string_equal(c.learner.warm_start, "a.safetensors");
}

static void test_experiment_load__mnist_of_p2pfl__unchanged(void **state)
{
    (void)state;
    PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config c = load(PFL_TEST_FIXTURES "/config/p2pfl_mnist.yaml");
    assert_string_equal(c.name, "MNIST");
    assert_string_equal(c.description, "MNIST with 8 nodes in a ring");
    assert_true(c.memory_protocol);
    assert_int_equal(c.nodes, 8);
    assert_int_equal(c.topology, PFL_TOPO_RING);
    assert_int_equal(c.rounds, 10);
    assert_int_equal(c.epochs, 1);
    assert_int_equal(c.trainset_size, 4);
    assert_true(c.seed == 666);
    assert_true(c.wait_timeout == 3600 * PFL_SEC);
    assert_string_equal(c.learner.dataset, "mnist");
    assert_string_equal(c.learner.partition, "iid");
    assert_string_equal(c.learner.model, "mlp");
    assert_string_equal(c.learner.aggregator, "fedavg");
    assert_int_equal(c.learner.batch_size, 128);
    assert_true(c.learner.reduction_factor == 1.0);
    assert_int_equal(c.learner.n_hidden, 2);
    assert_int_equal(c.learner.hidden[0], 256);
    assert_true(c.settings.ssl.use_ssl);
    assert_int_equal(c.settings.ttl, 10);
    struct pfl_edge *e = NULL;
    size_t n = 0;
    assert_int_equal(pfl_topology_edges(&c, &e, &n, NULL), PFL_OK);
    assert_int_equal(n, 10); /* 8 of the ring and two more */
    assert_int_equal(e[1].a, 0);
    assert_int_equal(e[1].b, 2);
    free(e);
}

static void test_experiment_load__polling_periods__each_one_noted(void **state)
{
    (void)state;
    PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config c = load(PFL_TEST_FIXTURES "/config/p2pfl_mnist.yaml");
    static const char *const noted[] = {
        "settings.heartbeat.wait_convergence",
        "settings.gossip.PERIOD",
        "settings.gossip.MESSAGES_PER_PERIOD",
        "settings.gossip.MODELS_PERIOD",
        "settings.gossip.MODELS_PER_ROUND",
        "settings.gossip.EXIT_ON_X_EQUAL_ROUNDS",
        "settings.gossip.MODE_EXPECTATION_TIMEOUT",
        "experiment.dataset.transforms",
        "profiling",
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(noted); i++) {
        bool found = false;
        for (size_t j = 0; j < c.settings.notes.n; j++)
            found = found || pfl_str_has_prefix(c.settings.notes.items[j], noted[i]);
        if (!found)
            fail_msg("no note for %s", noted[i]);
    }
    assert_int_equal(c.settings.notes.n, PFL_ARRAY_LEN(noted));
}

static void test_experiment_load__examples__as_the_readme_says(void **state)
{
    (void)state;
    static const char *const names[] = {"fashion-mnist", "mnist"};
    for (size_t i = 0; i < 2; i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_xasprintf(PFL_SOURCE_DIR "/examples/experiments/%s.yaml", names[i]);
        PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config c = load(path);
        assert_string_equal(c.name, names[i]);
        assert_string_equal(c.learner.dataset, names[i]);
        assert_string_equal(c.learner.model, "mlp");
        assert_true(c.nodes == 4 && c.rounds == 5 && c.epochs == 1 && c.trainset_size == 4 && c.seed == 666);
        assert_true(c.topology == PFL_TOPO_FULL && !c.memory_protocol && c.settings.ssl.use_ssl && !c.settings.ssl.tls12_allowed);
        assert_int_equal(c.learner.batch_size, 128);
        assert_int_equal(c.settings.notes.n, 0);
    }
}

static void test_experiment_parse__little_said__defaults(void **state)
{
    (void)state;
    PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config c = parse("experiment: {rounds: 2}\n");
    const struct pfl_settings *s = &c.settings;
    assert_true(c.nodes == 4 && c.rounds == 2 && c.epochs == 1 && c.trainset_size == 4 && c.seed == 666);
    assert_string_equal(c.name, "experiment");
    assert_string_equal(c.learner.dataset, "fashion-mnist");
    assert_true(c.learner.learning_rate == 1e-3 && c.learner.batch_size == 128 && !c.learner.has_model_seed);
    assert_true(s->grpc_timeout == 10 * PFL_SEC && s->heartbeat_period == 2 * PFL_SEC && s->heartbeat_timeout == 5 * PFL_SEC);
    assert_true(s->vote_timeout == 60 * PFL_SEC && s->aggregation_timeout == 300 * PFL_SEC && s->ttl == 10 && s->seen_max == 100);
    assert_true(s->ssl.use_ssl && !s->ssl.tls12_allowed && !s->ssl.ca_crt && s->threads == 1 && !s->has_seed);
}

static void test_experiment_parse__all_said(void **state)
{
    (void)state;
    PFL_AUTO(pfl_experiment_deinit)
    struct pfl_experiment_config c =
        parse("network: {nodes: 6, topology: random_3, protocol: GrpcCommunicationProtocol}\n"
              "experiment:\n"
              "  name: e\n"
              "  wait_timeout: 0.5\n"
              "  seed: 18446744073709551615\n"
              "  dataset:\n"
              "    name: mnist\n"
              "    path: /data\n"
              "    partitioning: {strategy: iid, reduced_dataset: true, reduction_factor: 80, params: {seed: 5}}\n"
              "  model:\n"
              "    package: mlp\n"
              "    params: {seed: 6, lr_rate: 0.01, hidden_sizes: [300], activation: relu}\n"
              "settings:\n"
              "  general: {SEED: 3, INTEROP: off}\n"
              "  ssl: {use_ssl: no, tls_min: 1.2, ca_crt: ca.crt}\n"
              "  training: {THREADS: 2, default_batch_size: 64}\n");
    assert_true(c.nodes == 6 && c.topology == PFL_TOPO_RANDOM && c.random_degree == 3);
    assert_true(c.wait_timeout == 30 * PFL_SEC);
    assert_true(c.seed == UINT64_MAX); /* the experiment's own wins over settings.general.seed */
    assert_string_equal(c.learner.dataset_path, "/data");
    assert_true(c.learner.reduction_factor == 1.0 / 80);
    assert_true(c.learner.part_seed == 5 && c.learner.has_model_seed && c.learner.model_seed == 6);
    assert_true(c.learner.learning_rate == 0.01 && c.learner.n_hidden == 1 && c.learner.hidden[0] == 300);
    assert_true(!c.settings.ssl.use_ssl && c.settings.ssl.tls12_allowed && c.settings.threads == 2);
    assert_string_equal(c.settings.ssl.ca_crt, "ca.crt");
    assert_int_equal(c.learner.batch_size, 64); /* none in the data set's block */
}

static void test_experiment_parse__learner_of_some_nodes(void **state)
{
    (void)state;
    PFL_AUTO(pfl_experiment_deinit)
    struct pfl_experiment_config some = parse(EXP "  learner: {command: [python3, x.py], nodes: [0, 2], params: {a: 1}}\n");
    PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config all = parse(EXP "  learner: {command: [x]}\n");
    PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config none = parse(EXP);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(pfl_experiment_is_remote(&some, i) == (i % 2 == 0));
        assert_true(pfl_experiment_is_remote(&all, i));
        assert_false(pfl_experiment_is_remote(&none, i));
    }
}

static void test_experiment_parse__reduction__only_where_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double factor;
    } rows[] = {{"reduced_dataset: false, reduction_factor: 0.1", 1.0},
                {"reduction_factor: 10", 1.0},
                {"reduced_dataset: true, reduction_factor: 0.1", 0.1},
                {"reduced_dataset: true, reduction_factor: 10", 0.1},
                {"reduced_dataset: true", 1.0}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("experiment: {dataset: {partitioning: {%s}}}\n", rows[i].text);
        PFL_AUTO(pfl_experiment_deinit) struct pfl_experiment_config c = parse(text);
        assert_true(c.learner.reduction_factor == rows[i].factor);
    }
}

/* ---- topologies ---- */

static void test_topology_edges__regular_ones(void **state)
{
    (void)state;
    static const struct {
        enum pfl_topology t;
        unsigned nodes;
        const char *edges;
    } rows[] = {
        {PFL_TOPO_STAR, 4, "0-1 0-2 0-3 "},
        {PFL_TOPO_FULL, 4, "0-1 0-2 0-3 1-2 1-3 2-3 "},
        {PFL_TOPO_LINE, 4, "0-1 1-2 2-3 "},
        {PFL_TOPO_RING, 4, "0-1 0-3 1-2 2-3 "},
        {PFL_TOPO_RING, 3, "0-1 0-2 1-2 "},
        {PFL_TOPO_RING, 2, "0-1 "},
        {PFL_TOPO_FULL, 2, "0-1 "},
        {PFL_TOPO_STAR, 1, ""},
        {PFL_TOPO_FULL, 1, ""},
        {PFL_TOPO_LINE, 1, ""},
        {PFL_TOPO_RING, 1, ""},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        const struct pfl_experiment_config c = {.nodes = rows[i].nodes, .topology = rows[i].t};
        struct pfl_edge *e = NULL;
        size_t n = 0;
        assert_int_equal(pfl_topology_edges(&c, &e, &n, NULL), PFL_OK);
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        for (size_t j = 0; j < n; j++)
            pfl_buf_printf(&b, "%u-%u ", e[j].a, e[j].b);
        free(e);
        assert_string_equal(pfl_buf_cstr(&b), rows[i].edges);
    }
}

static void test_topology_edges__additional__joined_without_doubles_or_refused(void **state)
{
    (void)state;
    struct pfl_edge more[] = {{1, 3}, {0, 1}, {1, 3}};
    struct pfl_experiment_config c = {.nodes = 4, .topology = PFL_TOPO_LINE, .additional = more, .n_additional = 3};
    struct pfl_edge *e = NULL;
    size_t n = 0;
    assert_int_equal(pfl_topology_edges(&c, &e, &n, NULL), PFL_OK);
    assert_int_equal(n, 4);
    assert_true(e[2].a == 1 && e[2].b == 3);
    free(e);
    e = NULL;
    c.nodes = 3; /* as --nodes can make it */
    struct pfl_err err = {0};
    assert_int_equal(pfl_topology_edges(&c, &e, &n, &err), PFL_INVALID);
    assert_string_equal(err.msg, "additional connection [1, 3]: there are only 3 nodes");
    assert_null(e);
}

static unsigned root_of(const unsigned *parent, unsigned i)
{
    while (parent[i] != i)
        i = parent[i];
    return i;
}

static bool connected(const struct pfl_edge *e, size_t n, unsigned nodes)
{
    PFL_AUTO(pfl_freep) unsigned *parent = pfl_xcalloc(nodes, sizeof(*parent));
    unsigned parts = nodes;
    for (unsigned i = 0; i < nodes; i++)
        parent[i] = i;
    for (size_t i = 0; i < n; i++) {
        unsigned a = root_of(parent, e[i].a), b = root_of(parent, e[i].b);
        parts -= a != b;
        parent[a] = b;
    }
    return parts == 1;
}

static void test_topology_edges__random__connected_of_the_degree_and_by_the_seed(void **state)
{
    (void)state;
    for (unsigned k = 2; k <= 4; k++) {
        for (unsigned nodes = 1; nodes <= 40; nodes++) {
            struct pfl_experiment_config c = {.nodes = nodes, .topology = PFL_TOPO_RANDOM, .random_degree = k, .seed = nodes};
            struct pfl_edge *a = NULL, *b = NULL;
            size_t n = 0, m = 0, most = (size_t)nodes * (nodes - 1) / 2, want = (size_t)nodes * k / 2;
            assert_int_equal(pfl_topology_edges(&c, &a, &n, NULL), PFL_OK);
            assert_int_equal(pfl_topology_edges(&c, &b, &m, NULL), PFL_OK);
            assert_int_equal(n, want < most ? want : most);
            assert_true(connected(a, n, nodes));
            assert_int_equal(n, m);
            assert_true(n == 0 || memcmp(a, b, n * sizeof(*a)) == 0);
            for (size_t i = 0; i < n; i++)
                assert_true(a[i].a < a[i].b && a[i].b < nodes);
            free(b);
            b = NULL;
            c.seed += 1000;
            assert_int_equal(pfl_topology_edges(&c, &b, &m, NULL), PFL_OK);
            if (nodes == 40)
                assert_memory_not_equal(a, b, n * sizeof(*a));
            free(a);
            free(b);
        }
    }
}

static void test_topology_parse__names(void **state)
{
    (void)state;
    static const char *const good[] = {"star", "full", "line", "ring", "RANDOM_2", "random_3", "random_4"};
    static const char *const bad[] = {"", "random", "random_1", "random_5", "rings", "mesh"};
    enum pfl_topology t = PFL_TOPO_LINE;
    unsigned degree = 9;
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++)
        assert_false(pfl_topology_parse(bad[i], &t, &degree));
    assert_true(t == PFL_TOPO_LINE && degree == 9);
    for (size_t i = 0; i < PFL_ARRAY_LEN(good); i++)
        assert_true(pfl_topology_parse(good[i], &t, &degree));
    assert_true(t == PFL_TOPO_RANDOM && degree == 4);
    assert_string_equal(pfl_topology_name(t), "random");
}

static void test_experiment__compression__in_order(void **state)
{
    (void)state;
    static const char text[] =
        EXP "  model: {params: {compression: {dp: {clip_norm: 2, epsilon: 1, budget: 8}, topk: {k: 0.2}, ptq: {dtype: int8, "
            "scheme: asymmetric, granularity: per_channel}, lzma: {preset: 2}}}}\n";
    struct pfl_experiment_config c;
    struct pfl_err err = {0};
    assert_int_equal(pfl_experiment_parse("e.yaml", text, sizeof(text) - 1, &c, &err), PFL_OK);
    const struct pfl_compression_config *k = &c.learner.compression;
    assert_int_equal(k->n, 4);
    assert_string_equal(k->steps[0].technique, "dp");
    assert_true(k->steps[0].clip_norm == 2.0 && k->epsilon == 1.0 && k->delta == 1e-5 && k->budget == 8.0);
    assert_true(k->steps[1].k == 0.2 && k->steps[1].error_feedback);
    assert_string_equal(k->steps[2].dtype, "int8");
    assert_true(k->steps[2].asymmetric && k->steps[2].per_channel);
    assert_int_equal(k->steps[3].level, 2);
    pfl_experiment_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_experiment__compression__in_order),
        cmocka_unit_test(test_experiment_parse__refused_with_file_line_and_key),
        cmocka_unit_test(test_experiment_parse__transforms__what_they_do_or_a_note),
        cmocka_unit_test(test_experiment_parse__warm_start__taken),
        cmocka_unit_test(test_experiment_load__cifar10_of_p2pfl__with_a_smaller_network_and_a_note),
        cmocka_unit_test(test_experiment_load__mnist_of_p2pfl__unchanged),
        cmocka_unit_test(test_experiment_load__polling_periods__each_one_noted),
        cmocka_unit_test(test_experiment_load__examples__as_the_readme_says),
        cmocka_unit_test(test_experiment_parse__little_said__defaults),
        cmocka_unit_test(test_experiment_parse__all_said),
        cmocka_unit_test(test_experiment_parse__learner_of_some_nodes),
        cmocka_unit_test(test_experiment_parse__reduction__only_where_asked_for),
        cmocka_unit_test(test_topology_edges__regular_ones),
        cmocka_unit_test(test_topology_edges__additional__joined_without_doubles_or_refused),
        cmocka_unit_test(test_topology_edges__random__connected_of_the_degree_and_by_the_seed),
        cmocka_unit_test(test_topology_parse__names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
