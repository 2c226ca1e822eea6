/* SPDX-License-Identifier: Apache-2.0 */
/* The `settings:` block of experiments and node files: P2PFL's names and defaults, lower or upper case. */
#ifndef PFL_CONFIG_SETTINGS_H
#define PFL_CONFIG_SETTINGS_H

#include "base/clock.h"
#include "base/str.h"
#include "config/yaml.h"
#include "pki/crl.h"

struct pfl_ssl_config {
    bool use_ssl;                                                     /* default true */
    char *ca_crt, *server_crt, *server_key, *client_crt, *client_key; /* owned; NULL: not named. As written, not resolved */
    char *passphrase_file;                                            /* owned; for key files that are encrypted */
    char *pin_file;     /* owned; for keys in a token (pkcs11: URIs) that do not say themselves where their PIN is */
    bool tls12_allowed; /* tls_min: "1.2" */
};

/** Revocation: settings.ssl.crl and settings.ssl.crl_policy. */
struct pfl_crl_config {
    char *file;                 /* owned or NULL: none is named; a path like those above */
    enum pfl_crl_policy policy; /* default: prefer */
};

/** What is done to models on their way to P2PFL's own nodes; what each means: learning/p2pfl_payload.h. All zero: nothing. Texts
 * are static. */
enum { PFL_INTEROP_TECHNIQUES = 3 };
struct pfl_interop_technique {
    const char *name;    /* "low_rank", "topk", "ptq" */
    double k, threshold; /* topk, low_rank */
    const char *dtype;   /* ptq: "int8", "uint8", "int16", "float16" */
    bool asymmetric, per_channel;
    unsigned axis;
};
struct pfl_interop_compression {
    struct pfl_interop_technique techniques[PFL_INTEROP_TECHNIQUES]; /* in the order of their application; ptq is the last */
    size_t n;
    const char *compressor; /* "zlib", "lzma" or NULL */
    int level;
};
enum pfl_rc pfl_interop_compression_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_interop_compression *ret,
                                         struct pfl_err *err) PFL_WARN_UNUSED;
/** Appends it to YAML as `interop_compression:` under `indent`; nothing where it is all zero. */
void pfl_interop_compression_write(const struct pfl_interop_compression *c, const char *indent, struct pfl_buf *out);

struct pfl_settings {
    pfl_ns grpc_timeout;                        /* general.grpc_timeout, 10 s */
    char *log_level;                            /* general.log_level, "INFO"; owned */
    pfl_ns heartbeat_period, heartbeat_timeout; /* 2 s, 5 s */
    int32_t ttl;                                /* gossip.ttl, 10 */
    unsigned seen_max;                          /* gossip.amount_last_messages_saved, 100 */
    pfl_ns vote_timeout, aggregation_timeout;   /* training, 60 s, 300 s */
    pfl_ns fit_timeout;                         /* training.fit_timeout, 3600 s */
    double vote_quorum, aggregation_quorum;     /* training: shares, 0 */
    bool late_join;                             /* training.late_join, true */
    unsigned batch_size;                        /* training.default_batch_size, 128 */
    unsigned threads;                           /* training.threads: BLAS threads of one node, 1 */
    bool has_seed;
    uint64_t seed;                                      /* general.seed */
    bool interop;                                       /* general.interop: p2pfl */
    struct pfl_interop_compression interop_compression; /* general.interop_compression */
    struct pfl_ssl_config ssl;
    struct pfl_crl_config crl;
    struct pfl_strs notes; /* "settings.gossip.period has no effect: ..." */
};
/** Is what a key setting names no path but a key in a token? */
bool pfl_ssl_key_in_token(const char *key);
void pfl_settings_default(struct pfl_settings *s);
void pfl_settings_deinit(struct pfl_settings *s);
/** Reads the block (NULL: nothing to read). */
enum pfl_rc pfl_settings_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *block, struct pfl_settings *s,
                              struct pfl_err *err) PFL_WARN_UNUSED;

/** How a set is divided; what each means: learning/partition.h. */
struct pfl_partition_config {
    double alpha;
    uint64_t min_size;
    bool self_balancing;
    unsigned shards_per_part, main_classes;
    double main_share;
};
/** Data of one's own (csv, jsonl, npy, npz) and how samples are scaled. */
struct pfl_data_config {
    char *test_path;         /* owned or NULL: test_share of the samples */
    char *label;             /* which column or array has the labels; owned or NULL: see learning/table.h */
    double test_share;       /* 0.2 */
    struct pfl_strs classes; /* names in their order; empty: found in the data */
    bool standardise;        /* mean 0 and deviation 1 of each channel (column) over the whole training set */
    double mean[4], deviation[4];
    unsigned n_mean, n_deviation; /* one per channel instead; 0: none */
};

/** Parameters of aggregators; what each means: learning/aggregator.h. */
struct pfl_aggregator_config {
    int byzantine; /* -1: as many as the rule can bear */
    unsigned selected;
    double trim;
    double eta, beta_1, beta_2, tau; /* beta_1 -1: the rule's own default */
    double proximal_mu, global_lr;
    unsigned clients;
};

enum {
    PFL_REMOTE_COMMAND_MAX = 64, /* words */
    PFL_REMOTE_PARAMS_MAX = 32,
    PFL_REMOTE_KEY_MAX = 63, /* bytes */
    PFL_REMOTE_VALUE_MAX = 511,
};
/** A learner in another process (runtime/remote_learner.h): command or socket is set, or neither where the learner is built in. */
struct pfl_remote_config {
    struct pfl_strs command;               /* program and arguments */
    char *socket, *folder;                 /* owned or NULL; folder: where command runs */
    pfl_ns start_timeout, silence_timeout; /* 0: default */
    struct pfl_strs params;                /* "name=value": for the learner alone */
};
extern const char *const pfl_remote_keys[6];
bool pfl_remote_is_set(const struct pfl_remote_config *r);
void pfl_remote_config_deinit(struct pfl_remote_config *r);
/** Reads its keys from a map, which may have others too. */
enum pfl_rc pfl_remote_config_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_remote_config *r,
                                   struct pfl_err *err) PFL_WARN_UNUSED;
/** Appends what read reads. */
void pfl_remote_config_write(const struct pfl_remote_config *r, const char *indent, struct pfl_buf *out);

/** A node that is hostile on purpose; what each kind does: learning/attacker.h. */
struct pfl_attack_config {
    const char *kind; /* static; NULL: nobody is */
    double sigma;
    unsigned nodes[64]; /* which nodes of an experiment, or parts; n_nodes 0: whoever has this configuration */
    size_t n_nodes;
};
/** attack: of map, where it is there. */
enum pfl_rc pfl_attack_config_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_attack_config *ret,
                                   struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_attack_config_write(const struct pfl_attack_config *a, const char *indent, struct pfl_buf *out);

/** One technique of compression; what each means: learning/compression.h. */
struct pfl_compression_step_config {
    const char *technique;                            /* static */
    const char *dtype;                                /* static: "float16", "bfloat16", "int8", "uint8", "int16" */
    double k, threshold, clip_norm, noise_multiplier; /* noise_multiplier 0: from epsilon and delta */
    bool error_feedback, asymmetric, per_channel, laplace;
    unsigned channel_axis;
    int level; /* -1: the technique's own default */
};
struct pfl_compression_config {
    size_t n;
    struct pfl_compression_step_config steps[7];
    double epsilon, delta, budget; /* of dp; budget 0: none */
};

/** Data, model and aggregator by our names; shared by experiments and node files. */
struct pfl_learner_config {
    char *dataset;      /* one of pfl_dataset_names; owned */
    char *dataset_path; /* folder or file; owned or NULL: where the package puts it. "{node}" in it stands for the
                         * node's name: each node has data of its own */
    struct pfl_data_config data;
    char *partition;                 /* "iid" */
    unsigned part_index, part_count; /* which of how many parts is this node's; node files only */
    uint64_t part_seed;
    struct pfl_partition_config partition_params;
    double reduction_factor;       /* 1.0: all samples; 0.1: a tenth */
    char *model;                   /* one of pfl_model_names */
    unsigned hidden[8], n_hidden;  /* MLP: 256, 128 */
    char *activation;              /* MLP: "relu", "tanh", "sigmoid"; owned */
    char *optimizer;               /* "adam", "sgd"; owned */
    double learning_rate;          /* 1e-3 */
    double momentum, weight_decay; /* momentum: sgd's; 0 */
    bool has_model_seed;
    uint64_t model_seed;
    char *warm_start; /* a safetensors file with the initial parameters; owned or NULL: random ones */
    unsigned batch_size;
    char *aggregator; /* "fedavg" */
    struct pfl_aggregator_config aggregator_params;
    struct pfl_compression_config compression;
    struct pfl_attack_config attack;
    uint64_t dummy_values;           /* model "dummy": float32 values, default 1000 */
    pfl_ns dummy_delay;              /* how long its fit takes */
    struct pfl_remote_config remote; /* where it is set, the rest is told to that learner */
};
void pfl_learner_config_default(struct pfl_learner_config *l);
void pfl_learner_config_deinit(struct pfl_learner_config *l);
/** The parameters of l->partition and l->aggregator from a map (may be NULL): only keys that the strategy or the rule knows.
 * `extra` is one more key that the caller reads itself, or NULL. */
enum pfl_rc pfl_learner_config_read_partition(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                              const char *extra, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_learner_config_read_aggregator(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                               const char *extra, struct pfl_err *err) PFL_WARN_UNUSED;
/** compression: of map, where it is there: techniques in order, each with its parameters. INVALID for an order that cannot be. */
enum pfl_rc pfl_learner_config_read_compression(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                                struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_learner_config_write_compression(const struct pfl_learner_config *l, const char *indent, struct pfl_buf *out);
/** Adds the parameters that l->partition has, defaults too, as "alpha=0.5". */
void pfl_learner_config_partition_list(const struct pfl_learner_config *l, struct pfl_strs *to);
/** Appends what the two read to YAML, as flow maps under `indent`. */
void pfl_learner_config_write_params(const struct pfl_learner_config *l, const char *indent, struct pfl_buf *out);
/** The names of all models, partitions and aggregators, for messages. */
extern const char *const pfl_dataset_names[8];
extern const char *const pfl_model_names[6];
extern const char *const pfl_partition_names[6];
extern const char *const pfl_aggregator_names[14];
/** test_path, test_share, label, classes, normalise, mean and std of map, where they are there. */
enum pfl_rc pfl_learner_config_read_data(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_data_config *d,
                                         struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_learner_config_write_data(const struct pfl_data_config *d, const char *indent, struct pfl_buf *out);
void pfl_data_config_deinit(struct pfl_data_config *d);
/** What the model is and how it is trained, of map, where it is there: hidden_sizes, activation, optimizer, momentum,
 *  weight_decay. */
enum pfl_rc pfl_learner_config_read_model(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                          struct pfl_err *err) PFL_WARN_UNUSED;
/** Appends them to YAML, a line each, under `indent`. */
void pfl_learner_config_write_model(const struct pfl_learner_config *l, const char *indent, struct pfl_buf *out);

#endif
