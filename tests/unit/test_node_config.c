/* SPDX-License-Identifier: Apache-2.0 */
/* link: base config pki */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "config/node_config.h"

static char dir[64], path[96];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "%s", "/tmp/pfl-test-node-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof(path), "%s/node.yaml", dir);
    return 0;
}

static int remove_one(const char *p, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(p);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put_file(const char *text)
{
    assert_int_equal(pfl_fs_write_atomic(path, pfl_bytes_of(text, strlen(text)), 0600, NULL), PFL_OK);
}

static struct pfl_node_config load(const char *file)
{
    struct pfl_node_config c = {0};
    struct pfl_err err = {0};
    if (pfl_node_config_load(file, &c, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return c;
}

/* ---- refused ---- */

#define SSL  "  ssl: {ca_crt: a, server_crt: b, server_key: c, client_crt: d, client_key: e}\n"
#define NODE "address: 127.0.0.1:1\nsettings:\n" SSL

static const struct {
    const char *text;
    enum pfl_rc rc;
    const char *message;
} refusals[] = {
    {"name: a\n", PFL_INVALID, "node.yaml: 'address' is missing"},
    {"address: 127.0.0.1:99999\n", PFL_INVALID, "node.yaml:1: address: address '127.0.0.1:99999': the port must be"},
    {"adress: x\n", PFL_INVALID, "node.yaml:1: unknown key 'adress': did you mean 'address'?"},
    {NODE "name: a/../b\n", PFL_INVALID, "node.yaml:4: name: 'a/../b' is not a name"},
    {NODE "name: .hidden\n", PFL_INVALID, "name: '.hidden' is not a name"},
    {NODE "name: \"\"\n", PFL_INVALID, "name: '' is not a name"},
    {NODE "name: \"a\\nb\"\n", PFL_INVALID, "name: 'a\\x0ab' is not a name"},
    {NODE "learner: {command: [a], socket: b}\n", PFL_INVALID, "node.yaml:4: learner.socket: and command exclude each other"},
    {NODE "learner: {command: []}\n", PFL_INVALID, "learner.command: must name a program"},
    {NODE "learner: {command: python3 train.py}\n", PFL_INVALID, "learner.command"},
    {NODE "learner: {command: [a, \"\"]}\n", PFL_INVALID, "learner.command[1]: must be at most 64 words"},
    {NODE "learner: {folder: x}\n", PFL_INVALID, "learner.folder: belongs to a learner in another process"},
    {NODE "learner: {command: [a], start_timeout: 0}\n", PFL_INVALID, "learner.start_timeout"},
    {NODE "learner: {command: [a], params: {b: [1]}}\n", PFL_INVALID, "learner.params.b: must be a single value"},
    {NODE "federation: a b\n", PFL_INVALID, "federation: 'a b' is not a name"},
    {NODE "connect: 10.0.0.1:1\n", PFL_INVALID, "connect: must be a list"},
    {NODE "connect: ['10.0.0.1:x']\n", PFL_INVALID, "connect[0]: must be an address: address '10.0.0.1:x'"},
    {NODE "connect: [[a]]\n", PFL_INVALID, "connect[0]: must be an address"},
    /* no way to plaintext but by saying so, and then on this machine only */
    {"address: 127.0.0.1:1\n", PFL_NOT_FOUND, "settings.ssl.ca_crt is missing; there is no fall-back to plaintext"},
    {"address: 127.0.0.1:1\nsettings: {ssl: {use_ssl: true}}\n", PFL_NOT_FOUND, "settings.ssl.ca_crt is missing"},
    {"address: 127.0.0.1:1\nsettings: {ssl: {use_ssl: null}}\n", PFL_NOT_FOUND, "settings.ssl.ca_crt is missing"},
    {"address: 127.0.0.1:1\nsettings: {ssl: {use_ssl: 0}}\n", PFL_INVALID, "neither true nor false"},
    {"address: 127.0.0.1:1\nsettings:\n  ssl: {ca_crt: a, server_crt: b, server_key: c, client_crt: d}\n", PFL_NOT_FOUND,
     "settings.ssl.client_key is missing"},
    {"address: 127.0.0.1:1\nsettings:\n  ssl: {ca_crt: a, server_crt: b, client_crt: d, client_key: e}\n", PFL_NOT_FOUND,
     "settings.ssl.server_key is missing"},
    {"address: 0.0.0.0:1\nsettings: {ssl: {use_ssl: false}}\n", PFL_AUTH, "use_ssl is false, and '0.0.0.0:1' in address"},
    {"address: host.example:1\nsettings: {ssl: {use_ssl: false}}\n", PFL_AUTH, "is not on this machine"},
    {"address: \"[::]:1\"\nsettings: {ssl: {use_ssl: false}}\n", PFL_AUTH, "is not on this machine"},
    {"address: 127.0.0.1:1\nconnect: ['127.0.0.1:2', '10.0.0.1:2']\nsettings: {ssl: {use_ssl: false}}\n", PFL_AUTH,
     "'10.0.0.1:2' in connect"},
    /* learner */
    {NODE "learner: {dataset: cifar100}\n", PFL_INVALID,
     "node.yaml:4: learner.dataset: 'cifar100' is unknown; did you mean 'cifar10'"},
    {NODE "learner: {dataset: mnits}\n", PFL_INVALID, "did you mean 'mnist'"},
    {NODE "learner: {model: cn}\n", PFL_INVALID, "learner.model: 'cn' is unknown; did you mean 'cnn'"},
    {NODE "learner: {partition: dirichlett}\n", PFL_INVALID,
     "learner.partition: 'dirichlett' is unknown; did you mean 'dirichlet'"},
    {NODE "learner: {partition: iid, partition_params: {alpha: 1}}\n", PFL_INVALID, "'iid' has no parameters"},
    {NODE "learner: {aggregator: krum, aggregator_params: {trim: 0.1}}\n", PFL_INVALID, "unknown key 'trim'"},
    {NODE "learner: {aggregator: fedadagrad, aggregator_params: {beta_2: 0.9}}\n", PFL_INVALID, "unknown key 'beta_2'"},
    {NODE "learner: {aggregator: fedadam, aggregator_params: {beta_1: 1}}\n", PFL_INVALID, "beta_1"},
    {NODE "learner: {compression: {ptq: {}, low_rank: {}}}\n", PFL_INVALID,
     "learner.compression.low_rank: cannot come behind 'ptq'"},
    {NODE "learner: {aggregator: kram}\n", PFL_INVALID, "learner.aggregator: 'kram' is unknown; did you mean 'krum'"},
    {NODE "learner: {part_count: 4, part_index: 4}\n", PFL_INVALID, "learner.part_index: '4' is not a whole number from 0 to 3"},
    {NODE "learner: {reduction_factor: 2}\n", PFL_INVALID, "learner.reduction_factor"},
    {NODE "learner: {batch_size: 0}\n", PFL_INVALID, "learner.batch_size"},
    {NODE "learner: {model_seed: -1}\n", PFL_INVALID, "learner.model_seed: '-1'"},
    {NODE "learner: {hidden_sizes: [a]}\n", PFL_INVALID, "learner.hidden_sizes[0]"},
    {NODE "learner: {learnin_rate: 1}\n", PFL_INVALID, "did you mean 'learning_rate'?"},
};

static void test_node_config_load__refused_with_file_and_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(refusals); i++) {
        struct pfl_node_config c = {.name = dir};
        struct pfl_err err = {0};
        put_file(refusals[i].text);
        enum pfl_rc rc = pfl_node_config_load(path, &c, &err);
        if (rc != refusals[i].rc || !strstr(err.msg, refusals[i].message) || c.name != dir)
            fail_msg("row %zu %s: %s: %s", i, refusals[i].text, pfl_rc_text(rc), err.msg);
    }
}

static void test_node_config_load__plaintext_on_this_machine__taken(void **state)
{
    (void)state;
    static const char *const rows[] = {"127.0.0.1:0", "'[::1]:0'", "localhost:0", "unix:///run/p2pfl/a.sock"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("address: %s\nsettings: {ssl: {use_ssl: false}}\n", rows[i]);
        put_file(text);
        PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(path);
        assert_false(c.settings.ssl.use_ssl);
    }
}

/* ---- taken ---- */

static void test_node_config_load__little_said__defaults(void **state)
{
    (void)state;
    put_file(NODE);
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(path);
    PFL_AUTO(pfl_freep) char *ca = pfl_fs_join(dir, "a");
    assert_string_equal(c.name, "node");
    assert_string_equal(c.federation, "p2pfl");
    assert_string_equal(c.settings.ssl.ca_crt, ca);
    assert_true(pfl_str_has_prefix(c.state_dir, dir));
    assert_true(c.settings.ssl.use_ssl && !c.settings.ssl.tls12_allowed && !c.settings.ssl.passphrase_file);
    assert_int_equal(c.connect.n, 0);
    assert_string_equal(c.learner.dataset, "fashion-mnist");
    assert_int_equal(c.learner.batch_size, 128);
    assert_int_equal(c.learner.part_count, 1);
}

static void test_node_config_load__all_said__paths_beside_the_file(void **state)
{
    (void)state;
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(PFL_TEST_FIXTURES "/config/node.yaml");
    const struct pfl_settings *s = &c.settings;
    const struct pfl_learner_config *l = &c.learner;
    assert_string_equal(c.name, "hospital-a");
    assert_string_equal(c.address, "10.0.0.1:6666");
    assert_string_equal(c.federation, "clinics");
    assert_string_equal(c.state_dir, PFL_TEST_FIXTURES "/config/state");
    assert_int_equal(c.connect.n, 2);
    assert_string_equal(c.connect.items[1], "[2001:db8::2]:6666");
    assert_string_equal(s->ssl.ca_crt, PFL_TEST_FIXTURES "/config/certs/ca.crt");
    assert_string_equal(s->ssl.server_crt, PFL_TEST_FIXTURES "/config/certs/server.crt");
    assert_string_equal(s->ssl.server_key, "/etc/keys/server.key");
    assert_string_equal(s->ssl.client_crt, PFL_TEST_FIXTURES "/config/certs/client.crt");
    assert_string_equal(s->ssl.client_key, PFL_TEST_FIXTURES "/config/certs/client.key");
    assert_string_equal(s->ssl.passphrase_file, PFL_TEST_FIXTURES "/config/certs/pass");
    assert_true(s->ssl.use_ssl && s->ssl.tls12_allowed);
    assert_true(s->grpc_timeout == 2500 * PFL_MS && s->heartbeat_period == 500 * PFL_MS && s->heartbeat_timeout == 1750 * PFL_MS);
    assert_true(s->vote_timeout == 7 * PFL_SEC && s->aggregation_timeout == 8250 * PFL_MS);
    assert_true(s->ttl == 3 && s->seen_max == 500 && s->batch_size == 32 && s->threads == 2);
    assert_true(s->has_seed && s->seed == UINT64_MAX);
    assert_string_equal(s->log_level, "debug");
    assert_string_equal(l->dataset, "mnist");
    assert_string_equal(l->dataset_path, PFL_TEST_FIXTURES "/config/data");
    assert_true(l->part_index == 2 && l->part_count == 5 && l->part_seed == 9 && l->reduction_factor == 0.1);
    assert_true(l->n_hidden == 3 && l->hidden[0] == 64 && l->hidden[1] == 32 && l->hidden[2] == 16);
    assert_true(l->learning_rate == 0.002 && l->has_model_seed && l->model_seed == 11);
    assert_int_equal(l->batch_size, 32);
}

/* A key in a token is no path beside the file; where its PIN is, is one. */
static void test_node_config_load__key_in_a_token__is_no_path(void **state)
{
    (void)state;
    static const char URI[] = "pkcs11:token=t;object=server?module-path=/usr/lib/softhsm/libsofthsm2.so";
    struct pfl_err err = {0};
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(PFL_TEST_FIXTURES "/config/node.yaml");
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config again = {0};
    PFL_AUTO(pfl_freep) char *pin = pfl_fs_join(dir, "pin");
    free(c.settings.ssl.server_key);
    c.settings.ssl.server_key = pfl_xstrdup(URI);
    c.settings.ssl.pin_file = pfl_xstrdup("pin");
    assert_int_equal(pfl_node_config_write(path, &c, &err), PFL_OK);
    assert_int_equal(pfl_node_config_load(path, &again, &err), PFL_OK);
    assert_string_equal(again.settings.ssl.server_key, URI);
    assert_string_equal(again.settings.ssl.pin_file, pin);
}

static void test_node_config_load__revocation_and_the_ca_service__kept(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    put_file(
        "address: 127.0.0.1:1\nca: {service: \"ca.example:7443\", poll: 2.5, renew: false, renew_at: 0.5, key: same, look: 1.5}\n"
        "settings: {ssl: {ca_crt: a, server_crt: b, server_key: c, client_crt: d, client_key: e, crl: crl.pem, crl_policy: "
        "require}}\n");
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(path), again = {0};
    PFL_AUTO(pfl_freep) char *crl = pfl_fs_join(dir, "crl.pem");
    assert_int_equal(pfl_node_config_write(path, &c, &err), PFL_OK);
    assert_int_equal(pfl_node_config_load(path, &again, &err), PFL_OK);
    const struct pfl_node_config *both[] = {&c, &again};
    for (size_t i = 0; i < PFL_ARRAY_LEN(both); i++) {
        assert_string_equal(both[i]->settings.crl.file, crl);
        assert_int_equal(both[i]->settings.crl.policy, PFL_CRL_REQUIRE);
        assert_string_equal(both[i]->ca.service, "ca.example:7443");
        assert_true(both[i]->ca.poll == 2500 * PFL_MS && both[i]->ca.look == 1500 * PFL_MS);
        assert_true(!both[i]->ca.renew && both[i]->ca.same_keys && both[i]->ca.renew_at == 0.5);
    }
    put_file(NODE);
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config plain = load(path);
    assert_true(!plain.settings.crl.file && plain.settings.crl.policy == PFL_CRL_PREFER && !plain.ca.service);
    assert_true(plain.ca.poll == 60 * PFL_SEC && plain.ca.look == 10 * PFL_SEC);
    assert_true(plain.ca.renew && !plain.ca.same_keys && plain.ca.renew_at == 0.67);
}

static void test_node_config_load__revocation_misspelt__refused_with_line(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *wanted;
    } ROWS[] = {
        {"settings: {ssl: {crl_policy: strict}}\n", "must be prefer, require or off"},
        {"settings: {ssl: {crl_policy: [require]}}\n", "must be prefer, require or off"},
        {"ca: {service: \"unix:///tmp/x\"}\n", "must be HOST:PORT"},
        {"ca: {service: ca.example}\n", "must be HOST:PORT"},
        {"ca: {poll: 0}\n", "poll"},
        {"ca: {servise: x}\n", "service"},
        {"ca: {renew: sometimes}\n", "renew"},
        {"ca: {renew_at: 1.0}\n", "renew_at"},
        {"ca: {key: new}\n", "key"},
        {"ca: {look: 0}\n", "look"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_err err = {0};
        struct pfl_node_config c = {0};
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("address: 127.0.0.1:1\n%s", ROWS[i].lines);
        put_file(text);
        assert_int_not_equal(pfl_node_config_load(path, &c, &err), PFL_OK);
        if (!strstr(err.msg, ROWS[i].wanted))
            fail_msg("%s: '%s', wanted '%s'", ROWS[i].lines, err.msg, ROWS[i].wanted);
    }
}

/* ---- written ---- */

static void assert_same_settings(const struct pfl_settings *a, const struct pfl_settings *b)
{
    assert_true(a->grpc_timeout == b->grpc_timeout && a->heartbeat_period == b->heartbeat_period);
    assert_true(a->heartbeat_timeout == b->heartbeat_timeout && a->vote_timeout == b->vote_timeout);
    assert_true(a->aggregation_timeout == b->aggregation_timeout && a->ttl == b->ttl && a->seen_max == b->seen_max);
    assert_true(a->batch_size == b->batch_size && a->threads == b->threads && a->has_seed == b->has_seed && a->seed == b->seed);
    const struct pfl_interop_compression *x = &a->interop_compression, *y = &b->interop_compression;
    assert_true(a->interop == b->interop && x->n == y->n && pfl_streq(x->compressor, y->compressor) && x->level == y->level);
    for (size_t i = 0; i < x->n; i++) {
        const struct pfl_interop_technique *t = &x->techniques[i], *u = &y->techniques[i];
        assert_true(pfl_streq(t->name, u->name) && t->k == u->k && t->threshold == u->threshold && pfl_streq(t->dtype, u->dtype));
        assert_true(t->asymmetric == u->asymmetric && t->per_channel == u->per_channel && t->axis == u->axis);
    }
    assert_string_equal(a->log_level, b->log_level);
    assert_true(a->ssl.use_ssl == b->ssl.use_ssl && a->ssl.tls12_allowed == b->ssl.tls12_allowed);
    assert_true(pfl_streq(a->ssl.ca_crt, b->ssl.ca_crt) && pfl_streq(a->ssl.passphrase_file, b->ssl.passphrase_file));
    assert_true(pfl_streq(a->ssl.server_crt, b->ssl.server_crt) && pfl_streq(a->ssl.server_key, b->ssl.server_key));
    assert_true(pfl_streq(a->ssl.client_crt, b->ssl.client_crt) && pfl_streq(a->ssl.client_key, b->ssl.client_key));
}

static void assert_same(const struct pfl_node_config *a, const struct pfl_node_config *b)
{
    const struct pfl_learner_config *l = &a->learner, *m = &b->learner;
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->address, b->address);
    assert_string_equal(a->federation, b->federation);
    assert_string_equal(a->state_dir, b->state_dir);
    assert_int_equal(a->connect.n, b->connect.n);
    for (size_t i = 0; i < a->connect.n; i++)
        assert_string_equal(a->connect.items[i], b->connect.items[i]);
    assert_same_settings(&a->settings, &b->settings);
    assert_true(pfl_streq(l->dataset, m->dataset) && pfl_streq(l->dataset_path, m->dataset_path));
    assert_true(pfl_streq(l->partition, m->partition) && pfl_streq(l->model, m->model) && pfl_streq(l->aggregator, m->aggregator));
    assert_true(l->part_index == m->part_index && l->part_count == m->part_count && l->part_seed == m->part_seed);
    assert_true(l->reduction_factor == m->reduction_factor && l->learning_rate == m->learning_rate);
    assert_int_equal(l->n_hidden, m->n_hidden);
    assert_memory_equal(l->hidden, m->hidden, l->n_hidden * sizeof(l->hidden[0]));
    assert_true(l->has_model_seed == m->has_model_seed && l->model_seed == m->model_seed && l->batch_size == m->batch_size);
    assert_true(l->dummy_values == m->dummy_values && l->dummy_delay == m->dummy_delay);
    const struct pfl_partition_config *p = &l->partition_params, *q = &m->partition_params;
    assert_true(p->alpha == q->alpha && p->min_size == q->min_size && p->self_balancing == q->self_balancing);
    assert_true(p->shards_per_part == q->shards_per_part && p->main_share == q->main_share && p->main_classes == q->main_classes);
    assert_true(l->remote.command.n == m->remote.command.n && l->remote.params.n == m->remote.params.n);
    for (size_t i = 0; i < l->remote.command.n; i++)
        assert_string_equal(l->remote.command.items[i], m->remote.command.items[i]);
    for (size_t i = 0; i < l->remote.params.n; i++)
        assert_string_equal(l->remote.params.items[i], m->remote.params.items[i]);
    assert_true(pfl_streq(l->remote.socket, m->remote.socket) && pfl_streq(l->remote.folder, m->remote.folder));
    assert_true(l->remote.start_timeout == m->remote.start_timeout && l->remote.silence_timeout == m->remote.silence_timeout);
    assert_true(l->aggregator_params.byzantine == m->aggregator_params.byzantine);
    assert_true(l->aggregator_params.selected == m->aggregator_params.selected &&
                l->aggregator_params.trim == m->aggregator_params.trim);
    assert_true(l->aggregator_params.eta == m->aggregator_params.eta && l->aggregator_params.beta_1 == m->aggregator_params.beta_1);
    assert_true(l->aggregator_params.beta_2 == m->aggregator_params.beta_2 && l->aggregator_params.tau == m->aggregator_params.tau);
    assert_int_equal(l->compression.n, m->compression.n);
    assert_true(pfl_streq(l->attack.kind, m->attack.kind) && l->attack.sigma == m->attack.sigma &&
                l->attack.n_nodes == m->attack.n_nodes && memcmp(l->attack.nodes, m->attack.nodes, sizeof(l->attack.nodes)) == 0);
    assert_true(l->compression.epsilon == m->compression.epsilon && l->compression.delta == m->compression.delta &&
                l->compression.budget == m->compression.budget);
    for (size_t i = 0; i < l->compression.n; i++) {
        const struct pfl_compression_step_config *x = &l->compression.steps[i], *y = &m->compression.steps[i];
        assert_string_equal(x->technique, y->technique);
        assert_string_equal(x->dtype, y->dtype);
        assert_true(x->k == y->k && x->threshold == y->threshold && x->clip_norm == y->clip_norm && x->level == y->level &&
                    x->noise_multiplier == y->noise_multiplier && x->error_feedback == y->error_feedback &&
                    x->asymmetric == y->asymmetric && x->per_channel == y->per_channel && x->laplace == y->laplace);
    }
}

static void round_trip(const struct pfl_node_config *c);
/* A file with these lines under learner: is read to what it says and written back to the same. */
static struct pfl_node_config learner_lines(const char *lines)
{
    PFL_AUTO(pfl_freep) char *text = pfl_xasprintf(NODE "learner: {%s}\n", lines);
    put_file(text);
    struct pfl_node_config c = load(path);
    round_trip(&c);
    return c;
}

static void test_node_config__learner_in_another_process__kept_and_its_folder_is_the_file_s(void **state)
{
    (void)state;
    PFL_AUTO(pfl_node_config_deinit)
    struct pfl_node_config a = learner_lines("command: [python3, \"a b.py\", '--x=\"1\"'], dataset: of-its-own, start_timeout: 5, "
                                             "silence_timeout: 0.5, params: {data: \"/x: y\", n: 3}");
    assert_string_equal(a.learner.remote.folder, dir);
    assert_string_equal(a.learner.remote.command.items[1], "a b.py");
    assert_string_equal(a.learner.remote.params.items[0], "data=/x: y");
    assert_true(a.learner.remote.silence_timeout == PFL_SEC / 2 && pfl_remote_is_set(&a.learner.remote));
    PFL_AUTO(pfl_freep) char *beside = pfl_fs_join(dir, "run/l.sock");
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config b = learner_lines("socket: run/l.sock");
    assert_string_equal(b.learner.remote.socket, beside);
    assert_null(b.learner.remote.folder);
}

/* A federation's CA says how its nodes learn, not which programs run on them. */
static void test_node_config_federation__names_a_program__refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"learner: {command: [sh, -c, id]}\n", "learner: {socket: /tmp/x}\n"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(texts); i++) {
        struct pfl_node_config c;
        struct pfl_err err = {0};
        assert_int_equal(pfl_node_config_federation("f", texts[i], strlen(texts[i]), &c, &err), PFL_INVALID);
        assert_non_null(strstr(err.msg, "have no place in a federation's settings"));
    }
}

static void test_node_config__parameters_of_partition_and_aggregator__kept(void **state)
{
    (void)state;
    PFL_AUTO(pfl_node_config_deinit)
    struct pfl_node_config a = learner_lines(
        "partition: dirichlet, partition_params: {alpha: 0.3, min_partition_size: 7, self_balancing: yes}, aggregator: krum");
    assert_true(a.learner.partition_params.alpha == 0.3 && a.learner.partition_params.min_size == 7);
    assert_true(a.learner.partition_params.self_balancing && a.learner.aggregator_params.byzantine == -1);
    PFL_AUTO(pfl_node_config_deinit)
    struct pfl_node_config b = learner_lines("partition: shards, partition_params: {shards_per_node: 5}, aggregator: multi_krum, "
                                             "aggregator_params: {byzantine: 2, selected: 3}");
    assert_int_equal(b.learner.partition_params.shards_per_part, 5);
    assert_true(b.learner.aggregator_params.byzantine == 2 && b.learner.aggregator_params.selected == 3);
    PFL_AUTO(pfl_node_config_deinit)
    struct pfl_node_config c =
        learner_lines("partition: percentage, partition_params: {main_share: 0.6, main_classes: 2}, aggregator: trimmed_mean, "
                      "aggregator_params: {trim: 0.2}");
    assert_true(c.learner.partition_params.main_share == 0.6 && c.learner.partition_params.main_classes == 2);
    assert_true(c.learner.aggregator_params.trim == 0.2);
    PFL_AUTO(pfl_node_config_deinit)
    struct pfl_node_config d = learner_lines("aggregator: fedyogi, aggregator_params: {eta: 0.01, beta_1: 0.5, tau: 0.001}, "
                                             "attack: {kind: sign_flip, sigma: 3, nodes: [0, 2]}, compression: {dp: "
                                             "{noise_multiplier: 2, noise_type: laplace}, low_rank: {threshold: "
                                             "0.9}, ptq: {dtype: uint8}, zstd: {level: 9}}");
    assert_true(d.learner.aggregator_params.eta == 0.01 && d.learner.aggregator_params.beta_1 == 0.5);
    assert_true(d.learner.compression.n == 4 && d.learner.compression.steps[0].laplace);
    assert_true(d.learner.compression.steps[3].level == 9);
    assert_string_equal(d.learner.attack.kind, "sign_flip");
    assert_true(d.learner.attack.sigma == 3.0 && d.learner.attack.n_nodes == 2 && d.learner.attack.nodes[1] == 2);
}

static void round_trip(const struct pfl_node_config *c)
{
    struct pfl_err err = {0};
    struct stat st;
    if (pfl_node_config_write(path, c, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config again = load(path);
    assert_same(c, &again);
}

static void test_node_config_write__reads_back_the_same(void **state)
{
    (void)state;
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(PFL_TEST_FIXTURES "/config/node.yaml");
    round_trip(&c);
    c.settings.vote_timeout = 123456 * PFL_SEC + 123456789; /* to the nanosecond */
    c.settings.heartbeat_period = 290000001;
    c.learner.learning_rate = 1.0 / 3;
    c.learner.reduction_factor = 1.0 / 80;
    c.learner.part_seed = c.learner.model_seed = UINT64_MAX;
    c.learner.dummy_values = (uint64_t)1 << 31;
    c.learner.dummy_delay = 1234 * PFL_MS;
    c.learner.n_hidden = 0;
    c.settings.ssl.tls12_allowed = false;
    c.settings.has_seed = false;
    c.settings.seed = 0;
    c.settings.interop = true;
    c.settings.interop_compression = (struct pfl_interop_compression){
        .techniques =
            {{.name = "low_rank", .k = 0.1, .threshold = 1.0 / 3, .dtype = "float16"},
             {.name = "topk", .k = 1.0 / 7, .threshold = 0.95, .dtype = "float16"},
             {.name = "ptq", .k = 0.1, .threshold = 0.95, .dtype = "int8", .asymmetric = true, .per_channel = true, .axis = 2}},
        .n = 3,
        .compressor = "lzma",
        .level = 9};
    round_trip(&c);
}

static void replace(char **s, const char *by)
{
    free(*s);
    *s = pfl_xstrdup(by);
}

static void test_node_config_write__texts_that_look_like_yaml__stay_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "/a \"quoted\" folder/x",        "/back\\slash\\n", "/new\nline: {a: 1}",   "/tab\tand\x01\x7f",
        "/caf\xc3\xa9/\xf0\x9f\x98\x80", "/# no comment",   "/*alias &anchor !tag", "/%s%n"};
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(PFL_TEST_FIXTURES "/config/node.yaml");
    for (size_t i = 0; i < PFL_ARRAY_LEN(texts); i++) {
        replace(&c.settings.ssl.ca_crt, texts[i]);
        replace(&c.state_dir, texts[i]);
        replace(&c.learner.dataset_path, texts[i]);
        round_trip(&c);
    }
    replace(&c.name, "null"); /* quoted: a name, and not an unset one */
    replace(&c.federation, "no");
    pfl_strs_add(&c.connect, "unix:///a \"b\" \\c");
    round_trip(&c);
}

static void test_node_config_write__bytes_that_yaml_cannot_hold__refused_and_the_old_file_stays(void **state)
{
    (void)state;
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = load(PFL_TEST_FIXTURES "/config/node.yaml");
    round_trip(&c);
    char *good = pfl_steal(&c.state_dir);
    c.state_dir = pfl_xstrdup("/not\xffutf8");
    struct pfl_err err = {0};
    assert_int_equal(pfl_node_config_write(path, &c, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, path));
    replace(&c.state_dir, good);
    free(good);
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config old = load(path);
    assert_same(&c, &old);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_node_config_load__refused_with_file_and_key),
        T(test_node_config_load__plaintext_on_this_machine__taken),
        T(test_node_config_load__little_said__defaults),
        T(test_node_config__parameters_of_partition_and_aggregator__kept),
        T(test_node_config__learner_in_another_process__kept_and_its_folder_is_the_file_s),
        T(test_node_config_federation__names_a_program__refused),
        T(test_node_config_load__all_said__paths_beside_the_file),
        T(test_node_config_load__revocation_and_the_ca_service__kept),
        T(test_node_config_load__revocation_misspelt__refused_with_line),
        T(test_node_config_load__key_in_a_token__is_no_path),
        T(test_node_config_write__reads_back_the_same),
        T(test_node_config_write__texts_that_look_like_yaml__stay_texts),
        T(test_node_config_write__bytes_that_yaml_cannot_hold__refused_and_the_old_file_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
