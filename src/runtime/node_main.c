/* SPDX-License-Identifier: Apache-2.0 */
/* One node in the foreground. The first signal says goodbye and ends in order; a second one ends at once. */
#include "runtime/node_main.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "base/fs.h"
#include "base/log.h"
#include "config/node_config.h"
#include "runtime/driver.h"
#include "runtime/learner_setup.h"
#include "runtime/pickled.h"
#include "runtime/renewal.h"

enum { LOOK_MS = 4000, QUIET_MS = 40 }; /* a hundredth of a core */

struct program {
    uv_loop_t loop;
    uv_signal_t sigint, sigterm;
    uv_timer_t look;
    int64_t used_ms; /* processor time at the last look */
    struct pfl_driver *driver;
    struct pfl_node_config config;
    struct pfl_aggregator aggregator;
    struct pfl_compression compression;
    bool ending;
};

static int64_t processor_ms(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

/* What handshakes and rounds needed and let go of would stay with the process: a quiet node gives it back. */
static void on_look(uv_timer_t *t)
{
    struct program *p = t->data;
    int64_t now = processor_ms(), used = now - p->used_ms;
    p->used_ms = now;
    if (used < QUIET_MS) {
        pfl_blocks_trim();
        (void)malloc_trim(0);
    }
}

static void unwatch(struct program *p)
{
    uv_close((uv_handle_t *)&p->look, NULL);
    uv_close((uv_handle_t *)&p->sigint, NULL);
    uv_close((uv_handle_t *)&p->sigterm, NULL);
}

static void on_closed(void *user)
{
    struct program *p = user;
    p->driver = NULL;
    unwatch(p);
}

static void end(struct program *p)
{
    if (p->ending)
        return;
    p->ending = true;
    pfl_driver_shutdown(p->driver, on_closed, p);
}

static void on_signal(uv_signal_t *s, int signum)
{
    struct program *p = s->data;
    if (p->ending)
        _exit(128 + signum);
    pfl_info("%s: signal %d: ending", p->config.name, signum);
    end(p);
}

static void on_shutdown_request(void *user)
{
    end(user);
}

static void on_connected(void *user, const char *error)
{
    struct program *p = user;
    if (error && !p->ending)
        pfl_warn("%s: connect: %s", p->config.name, error);
}

struct pfl_tls_files pfl_node_tls_files(const struct pfl_settings *settings, const char *crl_kept)
{
    const struct pfl_ssl_config *s = &settings->ssl;
    return (struct pfl_tls_files){.ca_crt = s->ca_crt,
                                  .server_crt = s->server_crt,
                                  .server_key = s->server_key,
                                  .client_crt = s->client_crt,
                                  .client_key = s->client_key,
                                  .key_passphrase_file = s->passphrase_file,
                                  .key_pin_file = s->pin_file,
                                  .tls12_allowed = s->tls12_allowed,
                                  .crl = settings->crl.file,
                                  .crl_kept = crl_kept,
                                  .crl_policy = settings->crl.policy};
}

static enum pfl_rc load_tls(const struct pfl_settings *settings, const char *crl_kept, struct pfl_tls **ret, struct pfl_err *err)
{
    const struct pfl_tls_files files = pfl_node_tls_files(settings, crl_kept);
    if (!settings->ssl.use_ssl)
        return PFL_OK;
    enum pfl_rc rc = pfl_renewal_recover(&files, err);
    return rc == PFL_OK ? pfl_tls_new(&files, ret, err) : rc;
}

static void node_settings(const struct pfl_node_config *c, const struct pfl_aggregator *aggregator, struct pfl_node_settings *s)
{
    pfl_node_settings_default(s);
    s->heartbeat_period = c->settings.heartbeat_period;
    s->heartbeat_timeout = c->settings.heartbeat_timeout;
    s->vote_timeout = c->settings.vote_timeout;
    s->aggregation_timeout = c->settings.aggregation_timeout;
    s->fit_timeout = c->settings.fit_timeout;
    s->vote_quorum = c->settings.vote_quorum;
    s->aggregation_quorum = c->settings.aggregation_quorum;
    s->late_join = c->settings.late_join;
    s->call_timeout = c->settings.grpc_timeout;
    s->gossip_ttl = c->settings.ttl;
    s->seen_max = c->settings.seen_max > s->seen_max ? c->settings.seen_max : s->seen_max;
    s->seed = c->settings.has_seed ? c->settings.seed : 0;
    s->aggregator = aggregator;
    s->interop = c->settings.interop;
}

static void watch(struct program *p)
{
    uv_timer_init(&p->loop, &p->look);
    p->look.data = p;
    uv_timer_start(&p->look, on_look, LOOK_MS, LOOK_MS);
    uv_signal_init(&p->loop, &p->sigint);
    uv_signal_init(&p->loop, &p->sigterm);
    p->sigint.data = p->sigterm.data = p;
    uv_signal_start(&p->sigint, on_signal, SIGINT);
    uv_signal_start(&p->sigterm, on_signal, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error like a full disk, see journal.h */
}

static enum pfl_rc start(struct program *p, struct pfl_err *err)
{
    const struct pfl_node_config *c = &p->config;
    struct pfl_tls *tls = NULL;
    struct pfl_learner learner = {0};
    PFL_AUTO(pfl_freep) char *crl_kept = pfl_fs_join(c->state_dir, "crl-accepted.pem");
    enum pfl_rc rc = load_tls(&c->settings, crl_kept, &tls, err);
    if (rc == PFL_OK)
        rc = pfl_fs_mkdirs(c->state_dir, 0700, err);
    if (rc == PFL_OK)
        rc = pfl_aggregator_setup(&c->learner, &p->aggregator, err);
    if (rc == PFL_OK)
        rc = pfl_compression_setup(&c->learner, &p->compression, err);
    if (rc == PFL_OK)
        rc = pfl_learner_setup(&c->learner, &c->settings, c->name, &learner, err);
    const struct pfl_credentials_opts credentials = {.files = pfl_node_tls_files(&c->settings, crl_kept),
                                                     .look = c->ca.look,
                                                     .renew = c->ca.renew,
                                                     .renew_at = c->ca.renew_at,
                                                     .same_keys = c->ca.same_keys};
    const struct pfl_ledger_opts privacy = {.delta = c->learner.compression.delta, .budget = c->learner.compression.budget};
    struct pfl_driver_opts opts = {.loop = &p->loop,
                                   .name = c->name,
                                   .address = c->address,
                                   .federation = c->federation,
                                   .tls = tls,
                                   .learner = learner,
                                   .compression = &p->compression,
                                   .privacy = &privacy,
                                   .state_dir = c->state_dir,
                                   .journal = !c->no_journal,
                                   .crl = c->settings.crl.file,
                                   .crl_kept = crl_kept,
                                   .ca_service = c->ca.service,
                                   .ca_poll = c->ca.poll,
                                   .pickle = pfl_pickled_options(&c->settings.interop_compression),
                                   .policy = &c->policy,
                                   .credentials = &credentials};
    node_settings(c, &p->aggregator, &opts.settings);
    if (rc == PFL_OK) {
        watch(p); /* before anybody can know that the node is there; they are heard when the loop runs */
        rc = pfl_driver_new(&opts, &p->driver, err);
        if (rc != PFL_OK)
            unwatch(p);
    }
    if (rc != PFL_OK && learner.ops)
        learner.ops->free(learner.self);
    pfl_tls_unref(tls);
    return rc;
}

enum pfl_rc pfl_node_main(const char *config_path, struct pfl_err *err)
{
    struct program p = {0};
    enum pfl_log_level level;
    enum pfl_rc rc = pfl_node_config_load(config_path, &p.config, err);
    if (rc != PFL_OK)
        return rc;
    if (pfl_log_parse_level(p.config.settings.log_level, &level))
        pfl_log_set_level(level);
    for (size_t i = 0; i < p.config.settings.notes.n; i++)
        pfl_warn("%s: %s", config_path, p.config.settings.notes.items[i]);
    uv_loop_init(&p.loop);
    rc = start(&p, err);
    if (rc == PFL_OK) {
        pfl_driver_on_shutdown_request(p.driver, on_shutdown_request, &p);
        for (size_t i = 0; i < p.config.connect.n; i++)
            pfl_driver_command(p.driver, PFL_EV_CMD_CONNECT, p.config.connect.items[i], NULL, on_connected, &p);
    } else {
        pfl_err_wrap(err, "node '%s'", p.config.name);
    }
    uv_run(&p.loop, UV_RUN_DEFAULT); /* after an error too: what was opened closes in order */
    uv_loop_close(&p.loop);
    pfl_node_config_deinit(&p.config);
    return rc;
}
