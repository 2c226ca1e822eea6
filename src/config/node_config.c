/* SPDX-License-Identifier: Apache-2.0 */
/* node.yaml, read and written. The writer quotes every text, so that no value can become something else. */
#include "config/node_config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/fs.h"
#include "base/mem.h"

#define TRY(expr)                                                                                                                  \
    do {                                                                                                                           \
        enum pfl_rc try_ = expr;                                                                                                   \
        if (try_ != PFL_OK)                                                                                                        \
            return try_;                                                                                                           \
    } while (0)

void pfl_node_config_default(struct pfl_node_config *c)
{
    *c = (struct pfl_node_config){.name = pfl_xstrdup("node"), .federation = pfl_xstrdup("p2pfl")};
    c->ca = (struct pfl_ca_config){.poll = 60 * PFL_SEC, .renew = true, .renew_at = 0.67, .look = 10 * PFL_SEC};
    pfl_settings_default(&c->settings);
    pfl_learner_config_default(&c->learner);
}

void pfl_node_config_deinit(struct pfl_node_config *c)
{
    free(c->name);
    free(c->address);
    free(c->federation);
    free(c->state_dir);
    free(c->ca.service);
    pfl_strs_deinit(&c->connect);
    pfl_settings_deinit(&c->settings);
    pfl_learner_config_deinit(&c->learner);
    pfl_policy_deinit(&c->policy);
    *c = (struct pfl_node_config){0};
}

static enum pfl_rc check_id(const struct pfl_yaml_doc *doc, const char *key, const char *value, struct pfl_err *err)
{
    size_t len = strlen(value);
    bool ok = len > 0 && len <= 64 && value[0] != '.' && value[0] != '-';
    for (const char *p = value; *p && ok; p++)
        ok = isalnum((unsigned char)*p) || *p == '.' || *p == '_' || *p == '-';
    if (ok)
        return PFL_OK;
    return pfl_yaml_fail(doc, pfl_yaml_get(doc->root, key), PFL_INVALID, err,
                         "'%s' is not a name of 1 to 64 letters, digits and inner '.', '_', '-'", pfl_q(value));
}

static enum pfl_rc check_name(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, const char *value,
                              const char *const *ok, size_t n, struct pfl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (pfl_streq(value, ok[i]))
            return PFL_OK;
    }
    const char *near = pfl_nearest(value, ok, n);
    return pfl_yaml_fail(doc, pfl_yaml_get(map, key), PFL_INVALID, err, "'%s' is unknown; %s '%s'", pfl_q(value),
                         near ? "did you mean" : "a valid name is", near ? near : ok[0]);
}

static enum pfl_rc read_learner_numbers(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_learner_config *l,
                                        struct pfl_err *err)
{
    int64_t index = l->part_index, count = l->part_count, batch = 0, delay = -1, values = -1;
    TRY(pfl_yaml_int(doc, m, "part_count", 1, 1000000, &count, err));
    TRY(pfl_yaml_int(doc, m, "part_index", 0, count - 1, &index, err));
    TRY(pfl_yaml_int(doc, m, "batch_size", 1, 1000000, &batch, err));
    TRY(pfl_yaml_int(doc, m, "dummy_delay_ms", 0, 3600000, &delay, err));
    TRY(pfl_yaml_int(doc, m, "dummy_values", 1, (int64_t)1 << 31, &values, err));
    TRY(pfl_yaml_u64(doc, m, "model_seed", &l->model_seed, err));
    TRY(pfl_yaml_u64(doc, m, "part_seed", &l->part_seed, err));
    TRY(pfl_yaml_double(doc, m, "reduction_factor", 1e-6, 1.0, &l->reduction_factor, err));
    TRY(pfl_yaml_double(doc, m, "learning_rate", 1e-9, 1e3, &l->learning_rate, err));
    l->part_index = (unsigned)index;
    l->part_count = (unsigned)count;
    l->batch_size = (unsigned)batch;
    l->dummy_delay = delay >= 0 ? delay * PFL_MS : l->dummy_delay;
    l->dummy_values = values > 0 ? (uint64_t)values : l->dummy_values;
    l->has_model_seed = pfl_yaml_get(m, "model_seed") != NULL;
    return PFL_OK;
}

static enum pfl_rc read_learner(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_learner_config *l,
                                struct pfl_err *err)
{
    static const char *const keys[] = {"dataset",
                                       "dataset_path",
                                       "partition",
                                       "part_index",
                                       "part_count",
                                       "part_seed",
                                       "reduction_factor",
                                       "model",
                                       "hidden_sizes",
                                       "learning_rate",
                                       "model_seed",
                                       "warm_start",
                                       "batch_size",
                                       "aggregator",
                                       "dummy_values",
                                       "dummy_delay_ms",
                                       "partition_params",
                                       "aggregator_params",
                                       "activation",
                                       "optimizer",
                                       "momentum",
                                       "weight_decay",
                                       "command",
                                       "socket",
                                       "folder",
                                       "start_timeout",
                                       "silence_timeout",
                                       "params",
                                       "test_path",
                                       "test_share",
                                       "label",
                                       "classes",
                                       "normalise",
                                       "mean",
                                       "std",
                                       "compression",
                                       "attack"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_remote_config_read(doc, m, &l->remote, err));
    TRY(pfl_yaml_str(doc, m, "dataset", &l->dataset, err));
    if (!pfl_remote_is_set(&l->remote)) /* whose data are its own affair */
        TRY(check_name(doc, m, "dataset", l->dataset, pfl_dataset_names, PFL_ARRAY_LEN(pfl_dataset_names), err));
    TRY(pfl_yaml_str(doc, m, "dataset_path", &l->dataset_path, err));
    TRY(pfl_learner_config_read_data(doc, m, &l->data, err));
    TRY(pfl_yaml_str(doc, m, "partition", &l->partition, err));
    TRY(check_name(doc, m, "partition", l->partition, pfl_partition_names, PFL_ARRAY_LEN(pfl_partition_names), err));
    TRY(pfl_yaml_str(doc, m, "model", &l->model, err));
    TRY(check_name(doc, m, "model", l->model, pfl_model_names, PFL_ARRAY_LEN(pfl_model_names), err));
    TRY(pfl_yaml_str(doc, m, "warm_start", &l->warm_start, err));
    TRY(pfl_yaml_str(doc, m, "aggregator", &l->aggregator, err));
    TRY(check_name(doc, m, "aggregator", l->aggregator, pfl_aggregator_names, PFL_ARRAY_LEN(pfl_aggregator_names), err));
    struct pfl_yaml *partition = NULL, *aggregator = NULL;
    TRY(pfl_yaml_map(doc, m, "partition_params", &partition, err));
    TRY(pfl_yaml_map(doc, m, "aggregator_params", &aggregator, err));
    TRY(pfl_learner_config_read_partition(doc, partition, l, NULL, err));
    TRY(pfl_learner_config_read_aggregator(doc, aggregator, l, NULL, err));
    TRY(pfl_learner_config_read_compression(doc, m, l, err));
    TRY(pfl_attack_config_read(doc, m, &l->attack, err));
    TRY(read_learner_numbers(doc, m, l, err));
    return pfl_learner_config_read_model(doc, m, l, err);
}

static void resolve(const char *dir, char **path)
{
    if (!*path || pfl_ssl_key_in_token(*path))
        return;
    char *full = pfl_fs_join(dir, *path);
    free(*path);
    *path = full;
}

static void resolve_all(const char *dir, struct pfl_node_config *c)
{
    struct pfl_ssl_config *s = &c->settings.ssl;
    char **paths[] = {&s->ca_crt,     &s->server_crt,           &s->server_key,
                      &s->client_crt, &s->client_key,           &s->passphrase_file,
                      &s->pin_file,   &c->learner.dataset_path, &c->learner.data.test_path,
                      &c->state_dir,  &c->learner.warm_start};
    for (size_t i = 0; i < PFL_ARRAY_LEN(paths); i++)
        resolve(dir, paths[i]);
    resolve(dir, &c->settings.crl.file);
    struct pfl_remote_config *r = &c->learner.remote;
    resolve(dir, &r->socket);
    resolve(dir, &r->folder);
    if (r->command.n > 0 && !r->folder)
        r->folder = pfl_xstrdup(dir);
}

static enum pfl_rc read_connect(const struct pfl_yaml_doc *doc, struct pfl_node_config *c, struct pfl_err *err)
{
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(doc, doc->root, "connect", &list, err));
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        struct pfl_addr a;
        struct pfl_err why = {0};
        if (y->kind != PFL_YAML_SCALAR || pfl_addr_parse(y->text, &a, &why) != PFL_OK)
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be an address%s%s", why.msg[0] ? ": " : "", why.msg);
        pfl_strs_add(&c->connect, y->text);
    }
    return PFL_OK;
}

static bool stays_here(const char *address)
{
    struct pfl_addr a;
    return pfl_addr_parse(address, &a, NULL) == PFL_OK && pfl_addr_is_loopback(&a);
}

static enum pfl_rc refuse_plaintext(const struct pfl_yaml_doc *doc, const char *key, const char *address, struct pfl_err *err)
{
    return pfl_err_set(err, PFL_AUTH,
                       "%s: use_ssl is false, and '%s' in %s is not on this machine: plaintext goes over loopback and "
                       "unix sockets only",
                       doc->file, pfl_q(address), key);
}

/* Plaintext must be asked for, and stays on this machine. */
static enum pfl_rc check_ssl(const struct pfl_yaml_doc *doc, const struct pfl_node_config *c, struct pfl_err *err)
{
    const struct pfl_ssl_config *s = &c->settings.ssl;
    const struct {
        const char *name, *value;
    } needed[] = {{"ca_crt", s->ca_crt},
                  {"server_crt", s->server_crt},
                  {"server_key", s->server_key},
                  {"client_crt", s->client_crt},
                  {"client_key", s->client_key}};
    if (!s->use_ssl && !stays_here(c->address))
        return refuse_plaintext(doc, "address", c->address, err);
    for (size_t i = 0; !s->use_ssl && i < c->connect.n; i++) {
        if (!stays_here(c->connect.items[i]))
            return refuse_plaintext(doc, "connect", c->connect.items[i], err);
    }
    for (size_t i = 0; s->use_ssl && i < PFL_ARRAY_LEN(needed); i++) {
        if (!needed[i].value)
            return pfl_err_set(err, PFL_NOT_FOUND, "%s: settings.ssl.%s is missing; there is no fall-back to plaintext", doc->file,
                               needed[i].name);
    }
    return PFL_OK;
}

static enum pfl_rc read_ca(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_ca_config *ca, struct pfl_err *err)
{
    static const char *const keys[] = {"service", "poll", "renew", "renew_at", "key", "look"};
    struct pfl_addr a;
    struct pfl_err why = {0};
    double poll = -1;
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_str(doc, m, "service", &ca->service, err));
    if (ca->service && (pfl_addr_parse(ca->service, &a, &why) != PFL_OK || a.is_unix || a.port == 0))
        return pfl_yaml_fail(doc, pfl_yaml_get(m, "service"), PFL_INVALID, err, "must be HOST:PORT%s%s", why.msg[0] ? ": " : "",
                             why.msg);
    TRY(pfl_yaml_double(doc, m, "poll", 0.1, 86400, &poll, err));
    if (poll > 0)
        ca->poll = (pfl_ns)(poll * 1e9 + 0.5);
    double look = -1;
    TRY(pfl_yaml_bool(doc, m, "renew", &ca->renew, err));
    TRY(pfl_yaml_double(doc, m, "renew_at", 0.05, 0.95, &ca->renew_at, err));
    TRY(pfl_yaml_double(doc, m, "look", 0.1, 86400, &look, err));
    if (look > 0)
        ca->look = (pfl_ns)(look * 1e9 + 0.5);
    const struct pfl_yaml *key = pfl_yaml_get(m, "key");
    if (key && (key->kind != PFL_YAML_SCALAR || !(pfl_streq(key->text, "fresh") || pfl_streq(key->text, "same"))))
        return pfl_yaml_fail(doc, key, PFL_INVALID, err, "must be fresh or same");
    ca->same_keys = key && pfl_streq(key->text, "same");
    return PFL_OK;
}

static enum pfl_rc read_ids(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, const char *key, struct pfl_strs *ret,
                            struct pfl_err *err)
{
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(doc, m, key, &list, err));
    if (list && !list->first)
        return pfl_yaml_fail(doc, list, PFL_INVALID, err, "names nobody: leave it out to let everybody whose role may");
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        if (y->kind != PFL_YAML_SCALAR || !pfl_policy_pattern_valid(y->text))
            return pfl_yaml_fail(doc, y, PFL_INVALID, err,
                                 "must be a SPIFFE ID, as spiffe://lab/coordinator/a; a \"*\" may stand at its end");
        pfl_strs_add(ret, y->text);
    }
    return PFL_OK;
}

static enum pfl_rc read_policy(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_policy *p, struct pfl_err *err)
{
    static const char *const keys[] = {"without_role", "connect", "train", "start", "max_rounds", "max_epochs", "max_model_bytes"};
    static const char *const roles[] = {"node", "coordinator", "observer", "none"};
    int64_t rounds = 0, epochs = 0, bytes = 0;
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_str(doc, m, "without_role", &p->without_role, err));
    if (p->without_role)
        TRY(check_name(doc, m, "without_role", p->without_role, roles, PFL_ARRAY_LEN(roles), err));
    TRY(read_ids(doc, m, "connect", &p->connect, err));
    TRY(read_ids(doc, m, "train", &p->train, err));
    TRY(read_ids(doc, m, "start", &p->start, err));
    TRY(pfl_yaml_int(doc, m, "max_rounds", 1, 1000000, &rounds, err));
    TRY(pfl_yaml_int(doc, m, "max_epochs", 1, 10000, &epochs, err));
    TRY(pfl_yaml_int(doc, m, "max_model_bytes", 1, (int64_t)1 << 40, &bytes, err));
    p->max_rounds = (uint64_t)rounds;
    p->max_epochs = (uint64_t)epochs;
    p->max_model_bytes = (uint64_t)bytes;
    return PFL_OK;
}

static enum pfl_rc read_root(const struct pfl_yaml_doc *doc, struct pfl_node_config *c, struct pfl_err *err)
{
    static const char *const keys[] = {"name",    "address",  "federation", "state_dir", "journal",
                                       "connect", "settings", "ca",         "learner",   "policy"};
    bool journal = true;
    struct pfl_yaml *root = doc->root, *settings = NULL, *ca = NULL, *learner = NULL, *policy = NULL;
    TRY(pfl_yaml_only(doc, root, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_str(doc, root, "name", &c->name, err));
    TRY(pfl_yaml_str(doc, root, "address", &c->address, err));
    TRY(check_id(doc, "name", c->name, err));
    TRY(pfl_yaml_str(doc, root, "federation", &c->federation, err));
    TRY(check_id(doc, "federation", c->federation, err));
    TRY(pfl_yaml_str(doc, root, "state_dir", &c->state_dir, err));
    TRY(pfl_yaml_bool(doc, root, "journal", &journal, err));
    c->no_journal = !journal;
    if (!c->address)
        return pfl_err_set(err, PFL_INVALID, "%s: 'address' is missing (host:port, [v6]:port, or unix:///path)", doc->file);
    struct pfl_addr a;
    struct pfl_err why = {0};
    if (pfl_addr_parse(c->address, &a, &why) != PFL_OK)
        return pfl_yaml_fail(doc, pfl_yaml_get(root, "address"), PFL_INVALID, err, "%s", why.msg);
    TRY(read_connect(doc, c, err));
    TRY(pfl_yaml_map(doc, root, "settings", &settings, err));
    TRY(pfl_yaml_map(doc, root, "ca", &ca, err));
    TRY(pfl_yaml_map(doc, root, "learner", &learner, err));
    if (settings)
        TRY(pfl_settings_read(doc, settings, &c->settings, err));
    TRY(pfl_yaml_map(doc, root, "policy", &policy, err));
    if (ca)
        TRY(read_ca(doc, ca, &c->ca, err));
    if (policy)
        TRY(read_policy(doc, policy, &c->policy, err));
    if (learner)
        TRY(read_learner(doc, learner, &c->learner, err));
    if (c->learner.batch_size == 0)
        c->learner.batch_size = c->settings.batch_size;
    return check_ssl(doc, c, err);
}

static enum pfl_rc check_federation(const struct pfl_yaml_doc *doc, const struct pfl_node_config *c, struct pfl_err *err)
{
    const struct pfl_ssl_config *s = &c->settings.ssl;
    if (!s->use_ssl)
        return pfl_err_set(err, PFL_INVALID, "%s: settings.ssl.use_ssl: false has no place in a federation's settings", doc->file);
    if (pfl_remote_is_set(&c->learner.remote))
        return pfl_err_set(err, PFL_INVALID,
                           "%s: learner.command and learner.socket have no place in a federation's settings: what "
                           "runs on a machine is decided there",
                           doc->file);
    if (s->ca_crt || s->server_crt || s->server_key || s->client_crt || s->client_key || s->passphrase_file || s->pin_file ||
        c->settings.crl.file)
        return pfl_err_set(err, PFL_INVALID, "%s: settings.ssl names files: each node has its own, made when it joins", doc->file);
    return PFL_OK;
}

static enum pfl_rc read_federation(const struct pfl_yaml_doc *doc, struct pfl_node_config *c, struct pfl_err *err)
{
    static const char *const keys[] = {"settings", "learner"};
    struct pfl_yaml *settings = NULL, *learner = NULL;
    TRY(pfl_yaml_only(doc, doc->root, keys, PFL_ARRAY_LEN(keys), err));
    TRY(pfl_yaml_map(doc, doc->root, "settings", &settings, err));
    TRY(pfl_yaml_map(doc, doc->root, "learner", &learner, err));
    if (settings)
        TRY(pfl_settings_read(doc, settings, &c->settings, err));
    if (learner)
        TRY(read_learner(doc, learner, &c->learner, err));
    if (c->learner.batch_size == 0)
        c->learner.batch_size = c->settings.batch_size;
    return check_federation(doc, c, err);
}

enum pfl_rc pfl_node_config_federation(const char *file, const char *text, size_t len, struct pfl_node_config *ret,
                                       struct pfl_err *err)
{
    struct pfl_yaml_doc doc = {0};
    struct pfl_node_config c;
    TRY(pfl_yaml_parse(file, text, len, &doc, err));
    pfl_node_config_default(&c);
    enum pfl_rc rc = read_federation(&doc, &c, err);
    pfl_yaml_deinit(&doc);
    if (rc == PFL_OK)
        *ret = c;
    else
        pfl_node_config_deinit(&c);
    return rc;
}

enum pfl_rc pfl_node_config_load(const char *path, struct pfl_node_config *ret, struct pfl_err *err)
{
    struct pfl_yaml_doc doc = {0};
    TRY(pfl_yaml_load(path, &doc, err));
    struct pfl_node_config c;
    pfl_node_config_default(&c);
    enum pfl_rc rc = read_root(&doc, &c, err);
    pfl_yaml_deinit(&doc);
    if (rc != PFL_OK) {
        pfl_node_config_deinit(&c);
        return rc;
    }
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(path);
    if (!c.state_dir)
        c.state_dir = pfl_xstrdup(".");
    resolve_all(dir, &c);
    *ret = c;
    return PFL_OK;
}

/* ---- writing ---- */

static void put_quoted(struct pfl_buf *b, const char *value)
{
    pfl_buf_append_str(b, "\"");
    for (const char *p = value; *p; p++) {
        if (*p == '"' || *p == '\\')
            pfl_buf_printf(b, "\\%c", *p);
        else if ((unsigned char)*p < 0x20 || *p == 0x7f)
            pfl_buf_printf(b, "\\x%02x", (unsigned)(unsigned char)*p);
        else
            pfl_buf_append(b, p, 1);
    }
    pfl_buf_append_str(b, "\"\n");
}

static void put_str(struct pfl_buf *b, const char *indent, const char *key, const char *value)
{
    if (!value)
        return;
    pfl_buf_printf(b, "%s%s: ", indent, key);
    put_quoted(b, value);
}

static void put_item(struct pfl_buf *b, const char *value)
{
    pfl_buf_append_str(b, "  - ");
    put_quoted(b, value);
}

static void put_seconds(struct pfl_buf *b, const char *key, pfl_ns t)
{
    pfl_buf_printf(b, "    %s: %" PRId64 ".%09" PRId64 "\n", key, t / PFL_SEC, t % PFL_SEC);
}

static void put_settings(struct pfl_buf *b, const struct pfl_settings *s)
{
    pfl_buf_append_str(b, "settings:\n  general:\n");
    put_seconds(b, "grpc_timeout", s->grpc_timeout);
    put_str(b, "    ", "log_level", s->log_level);
    if (s->has_seed)
        pfl_buf_printf(b, "    seed: %" PRIu64 "\n", s->seed);
    if (s->interop)
        pfl_buf_append_str(b, "    interop: p2pfl\n");
    pfl_interop_compression_write(&s->interop_compression, "    ", b);
    pfl_buf_append_str(b, "  heartbeat:\n");
    put_seconds(b, "period", s->heartbeat_period);
    put_seconds(b, "timeout", s->heartbeat_timeout);
    pfl_buf_printf(b, "  gossip:\n    ttl: %" PRId32 "\n    amount_last_messages_saved: %u\n", s->ttl, s->seen_max);
    pfl_buf_append_str(b, "  training:\n");
    put_seconds(b, "vote_timeout", s->vote_timeout);
    put_seconds(b, "aggregation_timeout", s->aggregation_timeout);
    put_seconds(b, "fit_timeout", s->fit_timeout);
    pfl_buf_printf(b, "    vote_quorum: %.17g\n    aggregation_quorum: %.17g\n    late_join: %s\n", s->vote_quorum,
                   s->aggregation_quorum, s->late_join ? "true" : "false");
    pfl_buf_printf(b, "    default_batch_size: %u\n    threads: %u\n", s->batch_size, s->threads);
    pfl_buf_printf(b, "  ssl:\n    use_ssl: %s\n    tls_min: \"%s\"\n", s->ssl.use_ssl ? "true" : "false",
                   s->ssl.tls12_allowed ? "1.2" : "1.3");
    put_str(b, "    ", "ca_crt", s->ssl.ca_crt);
    put_str(b, "    ", "server_crt", s->ssl.server_crt);
    put_str(b, "    ", "server_key", s->ssl.server_key);
    put_str(b, "    ", "client_crt", s->ssl.client_crt);
    put_str(b, "    ", "client_key", s->ssl.client_key);
    put_str(b, "    ", "passphrase_file", s->ssl.passphrase_file);
    put_str(b, "    ", "pin_file", s->ssl.pin_file);
    put_str(b, "    ", "crl", s->crl.file);
    put_str(b, "    ", "crl_policy", pfl_crl_policy_name(s->crl.policy));
}

static void put_learner(struct pfl_buf *b, const struct pfl_learner_config *l)
{
    pfl_buf_append_str(b, "learner:\n");
    put_str(b, "  ", "dataset", l->dataset);
    put_str(b, "  ", "dataset_path", l->dataset_path);
    pfl_learner_config_write_data(&l->data, "  ", b);
    put_str(b, "  ", "partition", l->partition);
    pfl_buf_printf(b, "  part_index: %u\n  part_count: %u\n  part_seed: %" PRIu64 "\n  reduction_factor: %.17g\n", l->part_index,
                   l->part_count, l->part_seed, l->reduction_factor);
    put_str(b, "  ", "model", l->model);
    pfl_learner_config_write_model(l, "  ", b);
    if (l->has_model_seed)
        pfl_buf_printf(b, "  model_seed: %" PRIu64 "\n", l->model_seed);
    put_str(b, "  ", "warm_start", l->warm_start);
    if (l->batch_size)
        pfl_buf_printf(b, "  batch_size: %u\n", l->batch_size);
    put_str(b, "  ", "aggregator", l->aggregator);
    pfl_learner_config_write_params(l, "  ", b);
    pfl_learner_config_write_compression(l, "  ", b);
    pfl_attack_config_write(&l->attack, "  ", b);
    pfl_remote_config_write(&l->remote, "  ", b);
    pfl_buf_printf(b, "  dummy_values: %" PRIu64 "\n  dummy_delay_ms: %lld\n", l->dummy_values,
                   (long long)(l->dummy_delay / PFL_MS));
}

static void put_ids(struct pfl_buf *b, const char *key, const struct pfl_strs *ids)
{
    if (ids->n > 0)
        pfl_buf_printf(b, "  %s:\n", key);
    for (size_t i = 0; i < ids->n; i++) {
        pfl_buf_append_str(b, "  ");
        put_item(b, ids->items[i]);
    }
}

static void put_policy(struct pfl_buf *b, const struct pfl_policy *p)
{
    bool any = p->without_role || p->connect.n || p->train.n || p->start.n || p->max_rounds || p->max_epochs || p->max_model_bytes;
    if (!any)
        return;
    pfl_buf_append_str(b, "policy:\n");
    put_str(b, "  ", "without_role", p->without_role);
    put_ids(b, "connect", &p->connect);
    put_ids(b, "train", &p->train);
    put_ids(b, "start", &p->start);
    const struct {
        const char *key;
        uint64_t value;
    } limits[] = {{"max_rounds", p->max_rounds}, {"max_epochs", p->max_epochs}, {"max_model_bytes", p->max_model_bytes}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(limits); i++) {
        if (limits[i].value)
            pfl_buf_printf(b, "  %s: %" PRIu64 "\n", limits[i].key, limits[i].value);
    }
}

enum pfl_rc pfl_node_config_write(const char *path, const struct pfl_node_config *c, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {.limit = PFL_YAML_FILE_MAX};
    put_str(&b, "", "name", c->name);
    put_str(&b, "", "address", c->address);
    put_str(&b, "", "federation", c->federation);
    put_str(&b, "", "state_dir", c->state_dir);
    pfl_buf_append_str(&b, c->no_journal ? "journal: false\n" : "");
    pfl_buf_append_str(&b, c->connect.n ? "connect:\n" : "");
    for (size_t i = 0; i < c->connect.n; i++)
        put_item(&b, c->connect.items[i]);
    put_settings(&b, &c->settings);
    const struct pfl_ca_config *ca = &c->ca;
    bool other = !ca->renew || ca->same_keys || ca->renew_at != 0.67 || ca->look != 10 * PFL_SEC;
    if (ca->poll > 0 && (ca->service || other)) { /* all zero: a configuration that was put together without defaults */
        pfl_buf_append_str(&b, "ca:\n");
        put_str(&b, "  ", "service", c->ca.service);
        pfl_buf_printf(&b, "  poll: %" PRId64 ".%09" PRId64 "\n", c->ca.poll / PFL_SEC, c->ca.poll % PFL_SEC);
        pfl_buf_printf(&b, "  renew: %s\n  renew_at: %.17g\n  key: %s\n", ca->renew ? "true" : "false", ca->renew_at,
                       ca->same_keys ? "same" : "fresh");
        pfl_buf_printf(&b, "  look: %" PRId64 ".%09" PRId64 "\n", ca->look / PFL_SEC, ca->look % PFL_SEC);
    }
    put_policy(&b, &c->policy);
    put_learner(&b, &c->learner);
    if (b.failed)
        return pfl_err_set(err, PFL_TOO_BIG, "%s: over %d bytes", path, PFL_YAML_FILE_MAX);
    struct pfl_yaml_doc doc = {0}; /* a path of bytes that YAML cannot hold is found here, not when the node starts */
    TRY(pfl_yaml_parse(path, (const char *)b.data, b.len, &doc, err));
    pfl_yaml_deinit(&doc);
    return pfl_fs_write_atomic(path, pfl_buf_view(&b), 0600, err);
}
