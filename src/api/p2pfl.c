/* SPDX-License-Identifier: Apache-2.0 */
/* The public library: one driver on a loop on a thread of its own. Calls from other threads are handed to the loop as requests
 * through one uv_async and waited for; the loop never waits for a caller. */
#include "p2pfl/p2pfl.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "runtime/driver.h"

enum { LEARN_TIMEOUT_S = 10 };

struct request {
    struct request *next;
    void (*run)(struct p2pfl_node *n, struct request *r);
    enum pfl_event_kind cmd;
    char address[PFL_ADDR_MAX + 16]; /* a copy: the request may outlive its caller */
    struct pfl_learn_args learn;
    struct pfl_model *model; /* a reference for the caller, who copies it without the loop waiting */
    size_t count;
    char error[P2PFL_ERROR_MAX];
    bool done, ok;
    bool abandoned; /* its caller gave up: the loop frees it */
};

struct adapter {
    struct p2pfl_learner l;
    struct pfl_layout *layout;
    size_t n_params;
};

struct p2pfl_node {
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_mutex_t lock; /* guards everything below */
    uv_cond_t changed;
    struct request *head, **tail;
    bool running, failed, stop;
    unsigned started, ended, reported; /* how often learning began and ended, how many ends p2pfl_node_wait_finished has told */
    bool last_stopped;
    char stop_reason[P2PFL_ERROR_MAX];
    char error[P2PFL_ERROR_MAX];
    /* loop thread only */
    struct pfl_driver *driver;
    bool ending;
    struct pfl_driver_opts opts;
    struct pfl_credentials_opts credentials; /* paths are borrowed until the node has started */
    struct pfl_tls *tls;
    void (*on_event)(void *user, const char *json);
    void *user;
    char *name, *listen, *address, *federation, *state_dir; /* owned */
};

const char *p2pfl_version(void)
{
    return P2PFL_VERSION;
}

static void fill_error(char *out, const char *text)
{
    if (out)
        snprintf(out, P2PFL_ERROR_MAX, "%s", text);
}

/* ---- the learner's adapter ---- */

static struct pfl_layout *ad_layout(void *self)
{
    return ((struct adapter *)self)->layout;
}

static enum pfl_rc ad_init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct adapter *a = self;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    enum pfl_rc rc = pfl_model_new(a->layout, &m, err);
    if (rc != PFL_OK)
        return rc;
    if (a->l.init(a->l.user, (float *)(void *)pfl_model_data_mut(m), a->n_params) != 0)
        return pfl_err_set(err, PFL_IO, "the learner's init failed");
    *ret = pfl_steal(&m);
    return PFL_OK;
}

static enum pfl_rc ad_fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed, void (*progress)(void *, double),
                          void *user, struct pfl_model **ret_model, struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct adapter *a = self;
    (void)progress;
    (void)user;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = pfl_model_copy(start);
    if (!m)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a copy of the model");
    uint64_t samples = 0;
    double loss = NAN;
    if (a->l.fit(a->l.user, (float *)(void *)pfl_model_data_mut(m), a->n_params, epochs, seed, &samples, &loss) != 0)
        return pfl_err_set(err, PFL_IO, "the learner's fit failed");
    if (samples == 0 || samples > INT32_MAX)
        return pfl_err_set(err, PFL_INVALID, "the learner's fit used %llu samples, 1 to 2147483647 can be weighed",
                           (unsigned long long)samples);
    *ret = (struct pfl_fit_result){.loss = loss, .n_samples = samples};
    *ret_model = pfl_steal(&m);
    return PFL_OK;
}

static enum pfl_rc ad_evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct adapter *a = self;
    double loss = 0, accuracy = 0;
    if (a->l.evaluate(a->l.user, (const float *)(const void *)model->data, a->n_params, &loss, &accuracy) != 0)
        return pfl_err_set(err, PFL_IO, "the learner's evaluate failed");
    *ret = (struct pfl_metrics){.loss = loss, .accuracy = accuracy};
    return PFL_OK;
}

static void ad_interrupt(void *self)
{
    struct adapter *a = self;
    if (a->l.interrupt)
        a->l.interrupt(a->l.user);
}

static void ad_free(void *self)
{
    struct adapter *a = self;
    pfl_layout_unref(a->layout);
    free(a);
}

static const struct pfl_learner_ops adapter_ops = {
    .name = "embedded",
    .layout = ad_layout,
    .init = ad_init,
    .fit = ad_fit,
    .evaluate = ad_evaluate,
    .interrupt = ad_interrupt,
    .free = ad_free,
};

static enum pfl_rc adapter_new(const struct p2pfl_learner *l, struct pfl_learner *ret, struct pfl_err *err)
{
    if (!l || !l->init || !l->fit || !l->evaluate)
        return pfl_err_set(err, PFL_INVALID, "the learner needs init, fit and evaluate");
    if (!l->tensors || l->n_tensors == 0 || l->n_tensors > PFL_LAYOUT_TENSORS_MAX)
        return pfl_err_set(err, PFL_INVALID, "the learner has %zu tensors, 1 to %d are possible", l->n_tensors,
                           PFL_LAYOUT_TENSORS_MAX);
    PFL_AUTO(pfl_freep) struct pfl_tensor_desc *descs = pfl_xcalloc(l->n_tensors, sizeof(*descs));
    for (size_t i = 0; i < l->n_tensors; i++) {
        const struct p2pfl_tensor *t = &l->tensors[i];
        if (!t->name || strlen(t->name) >= sizeof(descs[i].name) || t->rank > PFL_TENSOR_RANK_MAX || (t->rank > 0 && !t->shape))
            return pfl_err_set(err, PFL_INVALID, "tensor %zu: a name of at most %zu bytes and a rank of at most %d are needed", i,
                               sizeof(descs[i].name) - 1, PFL_TENSOR_RANK_MAX);
        memcpy(descs[i].name, t->name, strlen(t->name) + 1);
        descs[i].dtype = PFL_F32;
        descs[i].rank = (unsigned)t->rank;
        if (t->rank > 0)
            memcpy(descs[i].shape, t->shape, t->rank * sizeof(size_t));
    }
    struct pfl_layout *layout = NULL;
    enum pfl_rc rc = pfl_layout_new(descs, l->n_tensors, &layout, err);
    if (rc != PFL_OK)
        return rc;
    struct adapter *a = pfl_xcalloc(1, sizeof(*a));
    a->l = *l;
    a->layout = layout;
    a->n_params = layout->bytes / sizeof(float);
    *ret = (struct pfl_learner){&adapter_ops, a};
    return PFL_OK;
}

/* ---- on the loop's thread ---- */

static void finish_request(struct p2pfl_node *n, struct request *r, bool ok, const char *error)
{
    uv_mutex_lock(&n->lock);
    r->ok = ok;
    r->done = true;
    if (!ok)
        fill_error(r->error, error ? error : "failed");
    bool abandoned = r->abandoned;
    uv_cond_broadcast(&n->changed);
    uv_mutex_unlock(&n->lock);
    if (abandoned)
        free(r);
}

struct command_ctx {
    struct p2pfl_node *n;
    struct request *r;
};

static void on_command_done(void *user, const char *error)
{
    struct command_ctx c = *(struct command_ctx *)user;
    free(user);
    finish_request(c.n, c.r, error == NULL, error);
}

static void run_command(struct p2pfl_node *n, struct request *r)
{
    struct command_ctx *c = pfl_xmalloc(sizeof(*c));
    *c = (struct command_ctx){n, r};
    pfl_driver_command(n->driver, r->cmd, r->address, r->cmd == PFL_EV_CMD_LEARN ? &r->learn : NULL, on_command_done, c);
}

static void run_peers(struct p2pfl_node *n, struct request *r)
{
    json_t *s = pfl_driver_status(n->driver);
    r->count = json_array_size(json_object_get(s, "peers"));
    json_decref(s);
    finish_request(n, r, true, NULL);
}

static void run_model(struct p2pfl_node *n, struct request *r)
{
    struct pfl_model *m = (struct pfl_model *)pfl_driver_model(n->driver); /* only the count of its references changes */
    r->model = m ? pfl_model_ref(m) : NULL;
    finish_request(n, r, r->model != NULL, "there is no model yet");
}

static void on_driver_closed(void *user)
{
    struct p2pfl_node *n = user;
    n->driver = NULL;
    uv_close((uv_handle_t *)&n->wake, NULL);
}

static void on_wake(uv_async_t *a)
{
    struct p2pfl_node *n = a->data;
    for (;;) {
        uv_mutex_lock(&n->lock);
        struct request *r = n->head;
        if (r) {
            n->head = r->next;
            if (!n->head)
                n->tail = &n->head;
        }
        bool stop = n->stop && !r;
        uv_mutex_unlock(&n->lock);
        if (r) {
            r->run(n, r);
            continue;
        }
        if (stop && !n->ending) { /* a wake-up may come twice */
            n->ending = true;
            pfl_driver_shutdown(n->driver, on_driver_closed, n);
        }
        return;
    }
}

static void note_end(struct p2pfl_node *n, const char *line)
{
    json_error_t e;
    json_t *o = json_loads(line, 0, &e);
    const char *kind = json_string_value(json_object_get(o, "event"));
    const char *reason = json_string_value(json_object_get(o, "reason"));
    uv_mutex_lock(&n->lock);
    if (kind && strcmp(kind, "learning_started") == 0)
        n->started++;
    bool finished = kind && strcmp(kind, "learning_finished") == 0, stopped = kind && strcmp(kind, "learning_stopped") == 0;
    if (finished || stopped) {
        n->ended++;
        n->last_stopped = stopped;
    }
    if (stopped) {
        snprintf(n->stop_reason, sizeof(n->stop_reason), "learning was stopped: %s", reason ? reason : "no reason given");
    }
    uv_cond_broadcast(&n->changed);
    uv_mutex_unlock(&n->lock);
    json_decref(o);
}

static void on_event(void *user, const char *line, size_t len)
{
    struct p2pfl_node *n = user;
    PFL_AUTO(pfl_freep) char *text = pfl_xstrndup(line, len > 0 && line[len - 1] == '\n' ? len - 1 : len);
    if (strstr(text, "\"event\":\"learning_"))
        note_end(n, text);
    if (n->on_event)
        n->on_event(n->user, text);
}

static void thread_main(void *arg)
{
    struct p2pfl_node *n = arg;
    struct pfl_err err = {0};
    sigset_t all;
    sigfillset(&all); /* signals are the program's: its handlers run on its own threads */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    enum pfl_rc rc = pfl_driver_new(&n->opts, &n->driver, &err);
    uv_mutex_lock(&n->lock);
    n->running = rc == PFL_OK;
    n->failed = rc != PFL_OK;
    if (n->failed)
        fill_error(n->error, err.msg);
    else
        n->address = pfl_xstrdup(pfl_driver_address(n->driver));
    uv_cond_broadcast(&n->changed);
    uv_mutex_unlock(&n->lock);
    if (rc != PFL_OK)
        uv_close((uv_handle_t *)&n->wake, NULL);
    uv_run(&n->loop, UV_RUN_DEFAULT);
}

/* ---- for callers ---- */

static void node_free(struct p2pfl_node *n)
{
    pfl_tls_unref(n->tls);
    uv_mutex_destroy(&n->lock);
    uv_cond_destroy(&n->changed);
    free(n->name);
    free(n->address);
    free(n->federation);
    free(n->state_dir);
    free(n->listen);
    free(n);
}

static struct pfl_tls_files tls_files(const struct p2pfl_config *c)
{
    return (struct pfl_tls_files){.ca_crt = c->ca_crt,
                                  .server_crt = c->server_crt,
                                  .server_key = c->server_key,
                                  .client_crt = c->client_crt,
                                  .client_key = c->client_key,
                                  .key_passphrase_file = c->key_passphrase_file};
}

static enum pfl_rc load_tls(const struct p2pfl_config *c, struct pfl_tls **ret, struct pfl_err *err)
{
    if (c->insecure_plaintext)
        return PFL_OK;
    const struct pfl_tls_files f = tls_files(c);
    if (!f.ca_crt || !f.server_crt || !f.server_key || !f.client_crt || !f.client_key)
        return pfl_err_set(err, PFL_INVALID, "ca_crt, server_crt, server_key, client_crt and client_key are all needed");
    return pfl_tls_new(&f, ret, err);
}

static struct p2pfl_node *node_new(const struct p2pfl_config *c, struct pfl_tls *tls, struct pfl_learner learner)
{
    struct p2pfl_node *n = pfl_xcalloc(1, sizeof(*n));
    n->tail = &n->head;
    n->tls = tls;
    n->credentials = (struct pfl_credentials_opts){.files = tls_files(c)};
    n->on_event = c->on_event;
    n->user = c->user;
    n->name = pfl_xstrdup(c->name ? c->name : "node");
    n->federation = pfl_xstrdup(c->federation ? c->federation : "p2pfl");
    n->state_dir = c->state_dir ? pfl_xstrdup(c->state_dir) : NULL;
    n->listen = pfl_xstrdup(c->address);
    n->opts = (struct pfl_driver_opts){.loop = &n->loop,
                                       .name = n->name,
                                       .address = n->listen,
                                       .federation = n->federation,
                                       .tls = tls,
                                       .learner = learner,
                                       .state_dir = n->state_dir,
                                       .journal = true,
                                       .credentials = tls ? &n->credentials : NULL,
                                       .on_event = on_event,
                                       .user = n};
    pfl_node_settings_default(&n->opts.settings);
    n->opts.settings.seed = c->seed;
    n->opts.settings.aggregator = pfl_aggregator_find("fedavg");
    PFL_ASSERT(uv_mutex_init(&n->lock) == 0 && uv_cond_init(&n->changed) == 0);
    return n;
}

/* The loop and its thread. On error neither is left. */
static enum pfl_rc node_run(struct p2pfl_node *n, struct pfl_err *err)
{
    int rv = uv_loop_init(&n->loop);
    if (rv != 0)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no event loop: %s", uv_strerror(rv));
    rv = uv_async_init(&n->loop, &n->wake, on_wake);
    n->wake.data = n;
    bool has_wake = rv == 0;
    if (rv == 0)
        rv = uv_thread_create(&n->thread, thread_main, n);
    if (rv != 0) {
        if (has_wake)
            uv_close((uv_handle_t *)&n->wake, NULL);
        uv_run(&n->loop, UV_RUN_DEFAULT);
        uv_loop_close(&n->loop);
        return pfl_err_set(err, PFL_UNAVAILABLE, "no thread for the node: %s", uv_strerror(rv));
    }
    uv_mutex_lock(&n->lock);
    while (!n->running && !n->failed)
        uv_cond_wait(&n->changed, &n->lock);
    uv_mutex_unlock(&n->lock);
    if (n->running)
        return PFL_OK;
    uv_thread_join(&n->thread);
    uv_loop_close(&n->loop);
    return pfl_err_set(err, PFL_IO, "%s", n->error);
}

struct p2pfl_node *p2pfl_node_start(const struct p2pfl_config *c, const struct p2pfl_learner *learner, char *error)
{
    struct pfl_err err = {0};
    struct pfl_tls *tls = NULL;
    struct pfl_learner l = {0};
    if (!c || !c->address) {
        fill_error(error, "an address is needed");
        return NULL;
    }
    if (load_tls(c, &tls, &err) != PFL_OK || adapter_new(learner, &l, &err) != PFL_OK) {
        pfl_tls_unref(tls);
        fill_error(error, err.msg);
        return NULL;
    }
    struct p2pfl_node *n = node_new(c, tls, l);
    if (node_run(n, &err) != PFL_OK) {
        l.ops->free(l.self);
        fill_error(error, err.msg);
        node_free(n);
        return NULL;
    }
    return n;
}

const char *p2pfl_node_address(const struct p2pfl_node *node)
{
    return node->address;
}

/* Waits until pred() or until the time is over. With the lock held. */
static bool wait_until(struct p2pfl_node *n, double timeout_s, bool (*pred)(struct p2pfl_node *, void *), void *arg)
{
    double s = timeout_s > 0 ? timeout_s : 0; /* also where it is NaN */
    pfl_ns until = pfl_clock_mono() + (pfl_ns)((s < 1e9 ? s : 1e9) * 1e9);
    while (!pred(n, arg)) {
        pfl_ns left = until - pfl_clock_mono();
        if (left <= 0)
            return false;
        uv_cond_timedwait(&n->changed, &n->lock, (uint64_t)left);
    }
    return true;
}

static bool request_done(struct p2pfl_node *n, void *arg)
{
    (void)n;
    return ((struct request *)arg)->done;
}

static bool ask(struct p2pfl_node *n, struct request *r, double timeout_s, char *error)
{
    uv_mutex_lock(&n->lock);
    *n->tail = r;
    n->tail = &r->next;
    uv_async_send(&n->wake);
    if (!wait_until(n, timeout_s, request_done, r)) {
        r->abandoned = true; /* the loop frees it */
        uv_mutex_unlock(&n->lock);
        fill_error(error, "timed out");
        return false;
    }
    uv_mutex_unlock(&n->lock);
    bool ok = r->ok;
    if (!ok)
        fill_error(error, r->error);
    free(r);
    return ok;
}

static struct request *request_new(void (*run)(struct p2pfl_node *, struct request *))
{
    struct request *r = pfl_xcalloc(1, sizeof(*r));
    r->run = run;
    return r;
}

bool p2pfl_node_connect(struct p2pfl_node *n, const char *address, double timeout_s, char *error)
{
    struct pfl_addr a;
    struct pfl_err err = {0};
    if (!address || pfl_addr_parse(address, &a, &err) != PFL_OK) {
        fill_error(error, address ? err.msg : "an address is needed");
        return false;
    }
    struct request *r = request_new(run_command);
    r->cmd = PFL_EV_CMD_CONNECT;
    pfl_addr_format(&a, r->address);
    return ask(n, r, timeout_s, error);
}

bool p2pfl_node_stop_learning(struct p2pfl_node *n, char *error)
{
    struct request *r = request_new(run_command);
    r->cmd = PFL_EV_CMD_STOP;
    return ask(n, r, 10.0, error);
}

static bool ended(struct p2pfl_node *n, void *arg)
{
    (void)arg;
    return n->ended > n->reported && n->ended >= n->started;
}

bool p2pfl_node_wait_finished(struct p2pfl_node *n, double timeout_s, char *error)
{
    uv_mutex_lock(&n->lock);
    bool in_time = wait_until(n, timeout_s, ended, NULL);
    bool ok = in_time && !n->last_stopped;
    if (!in_time)
        fill_error(error, "timed out: learning is not finished");
    else if (!ok)
        fill_error(error, n->stop_reason);
    if (in_time)
        n->reported = n->ended;
    uv_mutex_unlock(&n->lock);
    return ok;
}

/* For what the loop answers at once. */
static void ask_now(struct p2pfl_node *n, struct request *r)
{
    uv_mutex_lock(&n->lock);
    *n->tail = r;
    n->tail = &r->next;
    uv_async_send(&n->wake);
    while (!r->done)
        uv_cond_wait(&n->changed, &n->lock);
    uv_mutex_unlock(&n->lock);
}

size_t p2pfl_node_peers(struct p2pfl_node *n)
{
    struct request r = {.run = run_peers};
    ask_now(n, &r);
    return r.count;
}

bool p2pfl_node_model(struct p2pfl_node *n, float *params, size_t n_params, char *error)
{
    struct request r = {.run = run_model};
    ask_now(n, &r);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = r.model;
    if (!m) {
        fill_error(error, r.error);
        return false;
    }
    if (m->layout->bytes / sizeof(float) != n_params) {
        char text[P2PFL_ERROR_MAX];
        snprintf(text, sizeof(text), "the model has %zu parameters, not %zu", m->layout->bytes / sizeof(float), n_params);
        fill_error(error, text);
        return false;
    }
    memcpy(params, m->data, m->layout->bytes);
    return true;
}

/* The initial model is made on a worker while the node runs already; a program that learns at once has nothing to begin with. */
static bool wait_model(struct p2pfl_node *n, double timeout_s)
{
    pfl_ns until = pfl_clock_mono() + (pfl_ns)(timeout_s * 1e9);
    for (;;) {
        struct request r = {.run = run_model};
        ask_now(n, &r);
        pfl_model_unref(r.model);
        if (r.ok || pfl_clock_mono() >= until)
            return r.ok;
        uv_sleep(2);
    }
}

bool p2pfl_node_learn(struct p2pfl_node *n, unsigned rounds, unsigned epochs, unsigned trainset_size, char *error)
{
    if (!wait_model(n, LEARN_TIMEOUT_S)) {
        fill_error(error, "there is no initial model: the learner's init has failed or is not done");
        return false;
    }
    struct request *r = request_new(run_command);
    r->cmd = PFL_EV_CMD_LEARN;
    r->learn = (struct pfl_learn_args){rounds, epochs, trainset_size, "experiment"};
    return ask(n, r, LEARN_TIMEOUT_S, error);
}

void p2pfl_node_free(struct p2pfl_node *n)
{
    if (!n)
        return;
    uv_mutex_lock(&n->lock);
    n->stop = true;
    uv_async_send(&n->wake);
    uv_mutex_unlock(&n->lock);
    uv_thread_join(&n->thread);
    uv_loop_close(&n->loop);
    node_free(n);
}
