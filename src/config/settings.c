/* SPDX-License-Identifier: Apache-2.0 */
/* P2PFL's settings. What only exists there because it polls is accepted and noted as having no effect. */
#include "config/settings.h"

#include <stdlib.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"

#define TRY(expr)                                                                                                                  \
    do {                                                                                                                           \
        enum pfl_rc try_ = expr;                                                                                                   \
        if (try_ != PFL_OK)                                                                                                        \
            return try_;                                                                                                           \
    } while (0)

void pfl_settings_default(struct pfl_settings *s)
{
    *s = (struct pfl_settings){
        .grpc_timeout = 10 * PFL_SEC,
        .log_level = pfl_xstrdup("INFO"),
        .heartbeat_period = 2 * PFL_SEC,
        .heartbeat_timeout = 5 * PFL_SEC,
        .ttl = 10,
        .seen_max = 100,
        .vote_timeout = 60 * PFL_SEC,
        .aggregation_timeout = 300 * PFL_SEC,
        .fit_timeout = 3600 * PFL_SEC,
        .late_join = true,
        .batch_size = 128,
        .threads = 1,
        .ssl = {.use_ssl = true},
    };
}

void pfl_settings_deinit(struct pfl_settings *s)
{
    free(s->log_level);
    free(s->ssl.ca_crt);
    free(s->ssl.server_crt);
    free(s->ssl.server_key);
    free(s->ssl.client_crt);
    free(s->ssl.client_key);
    free(s->ssl.passphrase_file);
    free(s->ssl.pin_file);
    free(s->crl.file);
    pfl_strs_deinit(&s->notes);
    *s = (struct pfl_settings){0};
}

bool pfl_ssl_key_in_token(const char *key)
{
    return key && strncasecmp(key, "pkcs11:", 7) == 0;
}

static enum pfl_rc get_seconds(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, pfl_ns *ret,
                               struct pfl_err *err)
{
    double s = -1;
    TRY(pfl_yaml_double(doc, map, key, 0.001, 1e6, &s, err));
    if (s > 0)
        *ret = (pfl_ns)(s * 1e9 + 0.5); /* nearest: what was written with nine decimals comes back the same */
    return PFL_OK;
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

static const char polled[] = "nothing is polled here, a round moves on when something happened";
static const char logging[] = "the log goes to standard error";
static const char scheduling[] = "each node is a process of its own";

static void note_no_effect(struct pfl_yaml *map, const char *key, const char *why, struct pfl_settings *s)
{
    const struct pfl_yaml *y = pfl_yaml_get(map, key);
    if (!y)
        return;
    PFL_AUTO(pfl_freep) char *note = pfl_xasprintf("%s has no effect: %s", y->path, why);
    pfl_strs_add(&s->notes, note);
}

static enum pfl_rc read_interop(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, bool *ret, struct pfl_err *err)
{
    const struct pfl_yaml *y = pfl_yaml_get(m, "interop");
    bool on = y && y->kind == PFL_YAML_SCALAR && strcasecmp(y->text, "p2pfl") == 0;
    if (y && !on && (y->kind != PFL_YAML_SCALAR || strcasecmp(y->text, "off") != 0))
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be off or p2pfl");
    *ret = on;
    return PFL_OK;
}

static enum pfl_rc read_general(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_settings *s, struct pfl_err *err)
{
    static const char *const keys[] = {
        "grpc_timeout", "log_level", "seed",          "interop",           "interop_compression", "resource_monitor_period",
        "disable_ray",  "log_dir",   "max_log_files", "exclude_beat_logs", "file_log_size"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(get_seconds(doc, m, "grpc_timeout", &s->grpc_timeout, err));
    TRY(pfl_yaml_str(doc, m, "log_level", &s->log_level, err));
    enum pfl_log_level level;
    if (!pfl_log_parse_level(s->log_level, &level))
        return pfl_yaml_fail(doc, pfl_yaml_get(m, "log_level"), PFL_INVALID, err, "'%s' is not one of DEBUG, INFO, WARNING, ERROR",
                             pfl_q(s->log_level));
    TRY(pfl_yaml_u64(doc, m, "seed", &s->seed, err));
    s->has_seed = pfl_yaml_get(m, "seed") != NULL;
    TRY(read_interop(doc, m, &s->interop, err));
    struct pfl_yaml *compression = NULL;
    TRY(pfl_yaml_map(doc, m, "interop_compression", &compression, err));
    TRY(pfl_interop_compression_read(doc, compression, &s->interop_compression, err));
    if (!s->interop)
        note_no_effect(m, "interop_compression", "it is for P2PFL's own nodes, and interop is off", s);
    note_no_effect(m, "resource_monitor_period", polled, s);
    note_no_effect(m, "disable_ray", scheduling, s);
    static const char *const log_keys[] = {"log_dir", "max_log_files", "exclude_beat_logs", "file_log_size"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(log_keys); i++)
        note_no_effect(m, log_keys[i], logging, s);
    return PFL_OK;
}

static enum pfl_rc read_gossip(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_settings *s, struct pfl_err *err)
{
    static const char *const keys[] = {"period",
                                       "ttl",
                                       "messages_per_period",
                                       "amount_last_messages_saved",
                                       "models_period",
                                       "models_per_round",
                                       "exit_on_x_equal_rounds",
                                       "mode_expectation_timeout"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    int64_t ttl = s->ttl;
    TRY(pfl_yaml_int(doc, m, "ttl", 1, 1000, &ttl, err));
    s->ttl = (int32_t)ttl;
    TRY(get_unsigned(doc, m, "amount_last_messages_saved", 1, 10000000, &s->seen_max, err));
    static const char *const no_effect[] = {"period",           "messages_per_period",    "models_period",
                                            "models_per_round", "exit_on_x_equal_rounds", "mode_expectation_timeout"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(no_effect); i++)
        note_no_effect(m, no_effect[i], polled, s);
    return PFL_OK;
}

static enum pfl_rc read_heartbeat(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_settings *s, struct pfl_err *err)
{
    static const char *const keys[] = {"period", "timeout", "wait_convergence"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(get_seconds(doc, m, "period", &s->heartbeat_period, err));
    TRY(get_seconds(doc, m, "timeout", &s->heartbeat_timeout, err));
    note_no_effect(m, "wait_convergence", polled, s);
    if (s->heartbeat_timeout <= s->heartbeat_period)
        return pfl_yaml_fail(doc, m, PFL_INVALID, err, "the timeout (%g s) must be longer than the period (%g s)",
                             (double)s->heartbeat_timeout / 1e9, (double)s->heartbeat_period / 1e9);
    return PFL_OK;
}

static enum pfl_rc read_training(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_settings *s, struct pfl_err *err)
{
    static const char *const keys[] = {"vote_timeout",       "aggregation_timeout", "fit_timeout",        "vote_quorum",
                                       "aggregation_quorum", "late_join",           "default_batch_size", "threads",
                                       "ray_actor_pool_size"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(get_seconds(doc, m, "vote_timeout", &s->vote_timeout, err));
    TRY(get_seconds(doc, m, "aggregation_timeout", &s->aggregation_timeout, err));
    TRY(get_seconds(doc, m, "fit_timeout", &s->fit_timeout, err));
    TRY(pfl_yaml_double(doc, m, "vote_quorum", 0, 1, &s->vote_quorum, err));
    TRY(pfl_yaml_double(doc, m, "aggregation_quorum", 0, 1, &s->aggregation_quorum, err));
    TRY(pfl_yaml_bool(doc, m, "late_join", &s->late_join, err));
    TRY(get_unsigned(doc, m, "default_batch_size", 1, 1000000, &s->batch_size, err));
    TRY(get_unsigned(doc, m, "threads", 1, 1024, &s->threads, err));
    note_no_effect(m, "ray_actor_pool_size", scheduling, s);
    return PFL_OK;
}

static enum pfl_rc read_ssl(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_ssl_config *s, struct pfl_err *err)
{
    static const char *const keys[] = {"use_ssl",         "ca_crt",   "server_crt", "server_key", "client_crt", "client_key",
                                       "passphrase_file", "pin_file", "tls_min",    "crl",        "crl_policy"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_bool(doc, m, "use_ssl", &s->use_ssl, err));
    TRY(pfl_yaml_str(doc, m, "ca_crt", &s->ca_crt, err));
    TRY(pfl_yaml_str(doc, m, "server_crt", &s->server_crt, err));
    TRY(pfl_yaml_str(doc, m, "server_key", &s->server_key, err));
    TRY(pfl_yaml_str(doc, m, "client_crt", &s->client_crt, err));
    TRY(pfl_yaml_str(doc, m, "client_key", &s->client_key, err));
    TRY(pfl_yaml_str(doc, m, "passphrase_file", &s->passphrase_file, err));
    TRY(pfl_yaml_str(doc, m, "pin_file", &s->pin_file, err));
    const struct pfl_yaml *min = pfl_yaml_get(m, "tls_min");
    if (!min)
        return PFL_OK;
    bool is12 = min->kind == PFL_YAML_SCALAR && pfl_streq(min->text, "1.2");
    if (!is12 && !(min->kind == PFL_YAML_SCALAR && pfl_streq(min->text, "1.3")))
        return pfl_yaml_fail(doc, min, PFL_INVALID, err, "must be 1.3 or 1.2");
    s->tls12_allowed = is12;
    return PFL_OK;
}

static enum pfl_rc read_crl(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_crl_config *c, struct pfl_err *err)
{
    static const enum pfl_crl_policy policies[] = {PFL_CRL_PREFER, PFL_CRL_REQUIRE, PFL_CRL_OFF};
    TRY(pfl_yaml_str(doc, m, "crl", &c->file, err));
    const struct pfl_yaml *policy = pfl_yaml_get(m, "crl_policy");
    if (!policy)
        return PFL_OK;
    for (size_t i = 0; policy->kind == PFL_YAML_SCALAR && i < PFL_ARRAY_LEN(policies); i++) {
        if (!pfl_streq(policy->text, pfl_crl_policy_name(policies[i])))
            continue;
        c->policy = policies[i];
        return PFL_OK;
    }
    return pfl_yaml_fail(doc, policy, PFL_INVALID, err, "must be prefer, require or off");
}

enum pfl_rc pfl_settings_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *block, struct pfl_settings *s, struct pfl_err *err)
{
    static const char *const keys[] = {"general", "ssl", "heartbeat", "gossip", "training"};
    TRY(pfl_yaml_only(doc, block, keys, PFL_ARRAY_LEN(keys), err));
    struct pfl_yaml *m[PFL_ARRAY_LEN(keys)] = {NULL};
    for (size_t i = 0; i < PFL_ARRAY_LEN(keys); i++)
        TRY(pfl_yaml_map(doc, block, keys[i], &m[i], err));
    if (m[0])
        TRY(read_general(doc, m[0], s, err));
    if (m[1])
        TRY(read_ssl(doc, m[1], &s->ssl, err));
    if (m[1])
        TRY(read_crl(doc, m[1], &s->crl, err));
    if (m[2])
        TRY(read_heartbeat(doc, m[2], s, err));
    if (m[3])
        TRY(read_gossip(doc, m[3], s, err));
    if (m[4])
        TRY(read_training(doc, m[4], s, err));
    return PFL_OK;
}

void pfl_learner_config_default(struct pfl_learner_config *l)
{
    *l = (struct pfl_learner_config){
        .dataset = pfl_xstrdup("fashion-mnist"),
        .data = {.test_share = 0.2},
        .partition = pfl_xstrdup("iid"),
        .part_count = 1,
        .reduction_factor = 1.0,
        .model = pfl_xstrdup("mlp"),
        .hidden = {256, 128},
        .n_hidden = 2,
        .activation = pfl_xstrdup("relu"),
        .optimizer = pfl_xstrdup("adam"),
        .learning_rate = 1e-3,
        .aggregator = pfl_xstrdup("fedavg"),
        .partition_params = {.alpha = 0.5, .min_size = 10, .shards_per_part = 2, .main_classes = 1, .main_share = 0.8},
        .aggregator_params = {.byzantine = -1,
                              .trim = 0.1,
                              .eta = 0.1,
                              .beta_1 = -1.0,
                              .beta_2 = 0.99,
                              .tau = 1e-9,
                              .proximal_mu = 0.01,
                              .global_lr = 1.0},
        .dummy_values = 1000,
    };
}

void pfl_learner_config_deinit(struct pfl_learner_config *l)
{
    free(l->dataset);
    free(l->dataset_path);
    pfl_data_config_deinit(&l->data);
    free(l->partition);
    free(l->model);
    free(l->activation);
    free(l->optimizer);
    free(l->warm_start);
    free(l->aggregator);
    pfl_remote_config_deinit(&l->remote);
    *l = (struct pfl_learner_config){0};
}
