/* SPDX-License-Identifier: Apache-2.0 */
/* Between threads: one question at a time lies in r->op. The worker waits on the condition, the loop's thread is woken by the
 * async handle; what both touch is touched under the lock. */
#include "runtime/remote_learner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "runtime/remote_impl.h"

static pfl_ns or_default(pfl_ns t, pfl_ns otherwise)
{
    return t > 0 ? t : otherwise;
}

/* ---- the loop's thread ---- */

void pfl_remote_finish(struct pfl_remote *r, enum pfl_rc rc, const struct pfl_err *err)
{
    struct pfl_remote_op *op = r->current;
    if (!op)
        return;
    r->current = NULL;
    r->calling = false;
    uv_timer_stop(&r->t_ask);
    if (r->state == PFL_REMOTE_READY) {
        uv_timer_stop(&r->t_limit);
        uv_timer_stop(&r->t_end);
    }
    uv_mutex_lock(&r->lock);
    op->rc = r->canceled ? PFL_CANCELED : rc;
    if (r->canceled)
        pfl_err_set(&op->err, PFL_CANCELED, "canceled");
    else if (rc != PFL_OK)
        pfl_err_set(&op->err, rc, "learner '%s' %s", r->label, err->msg);
    op->done = true;
    r->op = NULL;
    uv_cond_broadcast(&r->changed);
    uv_mutex_unlock(&r->lock);
    r->canceled = false;
}

static void on_wake(uv_async_t *a)
{
    struct pfl_remote *r = a->data;
    uv_mutex_lock(&r->lock);
    bool stop = r->stop, interrupt = r->interrupt;
    struct pfl_remote_op *op = r->op;
    r->interrupt = false;
    uv_mutex_unlock(&r->lock);
    if (stop) {
        pfl_remote_stop(r);
        return;
    }
    if (op && op != r->current) {
        r->current = op;
        r->canceled = r->calling = false;
        pfl_remote_advance(r);
    }
    if (interrupt && r->current)
        pfl_remote_interrupt(r);
}

static void on_thread(void *arg)
{
    struct pfl_remote *r = arg;
    pfl_remote_start(r);
    (void)uv_run(&r->loop, UV_RUN_DEFAULT); /* until stop has closed everything */
}

/* ---- workers ---- */

/* Hands the question over and waits for its end. */
static enum pfl_rc ask(struct pfl_remote *r, struct pfl_remote_op *op, void (*progress)(void *user, double done), void *user,
                       struct pfl_err *err)
{
    uv_mutex_lock(&r->lock);
    PFL_ASSERT(!r->op); /* one call at a time: the learner's contract */
    r->op = op;
    r->interrupt = false;
    (void)uv_async_send(&r->wake);
    while (!op->done) {
        uv_cond_wait(&r->changed, &r->lock);
        if (op->progressed && progress) {
            double share = op->share;
            op->progressed = false;
            uv_mutex_unlock(&r->lock);
            progress(user, share);
            uv_mutex_lock(&r->lock);
        }
    }
    uv_mutex_unlock(&r->lock);
    if (op->rc != PFL_OK && err)
        *err = op->err;
    return op->rc;
}

static struct pfl_layout *remote_layout(void *self)
{
    return ((struct pfl_remote *)self)->layout;
}

static enum pfl_rc remote_init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct pfl_remote_op op = {.kind = PFL_REMOTE_INIT};
    enum pfl_rc rc = ask(self, &op, NULL, NULL, err);
    if (rc == PFL_OK)
        *ret = op.out;
    return rc;
}

static enum pfl_rc remote_fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                              void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                              struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct pfl_remote *r = self;
    struct pfl_remote_op op = {.kind = PFL_REMOTE_FIT, .model = start, .epochs = epochs, .seed = seed, .steer = &r->steer};
    enum pfl_rc rc = pfl_layout_check_same(start->layout, r->layout, err);
    if (rc == PFL_OK)
        rc = ask(r, &op, progress, user, err);
    if (rc != PFL_OK)
        return rc;
    *ret_model = op.out;
    *ret = (struct pfl_fit_result){.loss = op.result.loss,
                                   .n_samples = op.result.n_samples,
                                   .n_steps = op.result.n_steps,
                                   .learning_rate = op.result.learning_rate,
                                   .normaliser = op.result.normaliser};
    return PFL_OK;
}

static enum pfl_rc remote_evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct pfl_remote *r = self;
    struct pfl_remote_op op = {.kind = PFL_REMOTE_EVALUATE, .model = model};
    enum pfl_rc rc = pfl_layout_check_same(model->layout, r->layout, err);
    if (rc == PFL_OK)
        rc = ask(r, &op, NULL, NULL, err);
    if (rc != PFL_OK)
        return rc;
    *ret = (struct pfl_metrics){.loss = op.result.loss, .accuracy = op.result.accuracy, .n_samples = op.result.n_samples};
    return PFL_OK;
}

static enum pfl_rc remote_steer(void *self, const struct pfl_fit_steer *steer, struct pfl_err *err)
{
    static const struct pfl_fit_steer plain;
    struct pfl_remote *r = self;
    steer = steer ? steer : &plain;
    if (!(steer->proximal_mu >= 0.0 && isfinite(steer->proximal_mu)))
        return pfl_err_set(err, PFL_INVALID, "a proximal term of %g: it has to be 0 or more", steer->proximal_mu);
    enum pfl_rc rc = steer->correction ? pfl_layout_check_same(steer->correction->layout, r->layout, err) : PFL_OK;
    if (rc != PFL_OK)
        return rc;
    struct pfl_model *old = r->steer.correction;
    r->steer = (struct pfl_fit_steer){steer->proximal_mu, steer->correction ? pfl_model_ref(steer->correction) : NULL};
    pfl_model_unref(old);
    return PFL_OK;
}

static void remote_interrupt(void *self)
{
    struct pfl_remote *r = self;
    uv_mutex_lock(&r->lock);
    r->interrupt = true;
    (void)uv_async_send(&r->wake);
    uv_mutex_unlock(&r->lock);
}

static void remote_free(void *self)
{
    struct pfl_remote *r = self;
    uv_mutex_lock(&r->lock);
    r->stop = true;
    (void)uv_async_send(&r->wake);
    uv_mutex_unlock(&r->lock);
    (void)uv_thread_join(&r->thread);
    PFL_ASSERT(uv_loop_close(&r->loop) == 0);
    uv_cond_destroy(&r->changed);
    uv_mutex_destroy(&r->lock);
    pfl_exchange_free(r->exchange);
    pfl_layout_unref(r->layout);
    pfl_model_unref(r->steer.correction);
    pfl_strs_deinit(&r->command);
    pfl_strs_deinit(&r->env);
    free(r->socket);
    free(r->folder);
    free(r->launcher);
    free(r->label);
    free(r->prefix);
    free(r->config);
    free(r);
}

#define PLAIN_OPS                                                                                                                  \
    .name = "remote", .layout = remote_layout, .init = remote_init, .fit = remote_fit, .evaluate = remote_evaluate,                \
    .interrupt = remote_interrupt, .free = remote_free
static const struct pfl_learner_ops plain_ops = {PLAIN_OPS};
static const struct pfl_learner_ops steerable_ops = {PLAIN_OPS, .steer = remote_steer};

/* ---- the beginning ---- */

static char *label_of(const struct pfl_remote_opts *o)
{
    char quoted[120];
    PFL_AUTO(pfl_freep) char *text = o->command->n ? pfl_strs_join(o->command, " ") : pfl_xasprintf("unix://%s", o->socket);
    return pfl_xstrdup(pfl_quote(text, strlen(text), quoted, sizeof(quoted)));
}

static void put_env(struct pfl_remote *r, const char *name, const char *value)
{
    PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("%s=%s", name, value);
    pfl_strs_add(&r->env, text);
}

/* Where it is to listen, and how many threads it may take where the user has not said so. */
static void fill_env(struct pfl_remote *r)
{
    static const char *const threads[] = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"};
    char number[16];
    (void)snprintf(number, sizeof(number), "%u", r->config->threads ? r->config->threads : 1);
    put_env(r, "P2PFL_LEARNER_SOCKET", pfl_exchange_socket(r->exchange));
    put_env(r, "PYTHONUNBUFFERED", "1");
    for (size_t i = 0; i < PFL_ARRAY_LEN(threads); i++)
        if (!getenv(threads[i]))
            put_env(r, threads[i], number);
}

static struct pfl_remote *remote_new(const struct pfl_remote_opts *o, struct pfl_exchange *exchange)
{
    struct pfl_remote *r = pfl_xcalloc(1, sizeof(*r));
    pfl_strs_copy(&r->command, o->command);
    r->socket = pfl_xstrdup(o->command->n ? pfl_exchange_socket(exchange) : o->socket);
    r->folder = o->folder ? pfl_xstrdup(o->folder) : NULL;
    r->launcher = o->launcher ? pfl_xstrdup(o->launcher) : NULL;
    r->label = label_of(o);
    r->prefix = pfl_xasprintf("%s: learner", o->config->node);
    r->config = pfl_xmalloc(sizeof(*r->config));
    *r->config = *o->config;
    r->config->version = PFL_LEARNER_VERSION;
    (void)snprintf(r->config->folder, sizeof(r->config->folder), "%s", pfl_exchange_dir(exchange));
    r->start_timeout = or_default(o->start_timeout, PFL_REMOTE_START_S * PFL_SEC);
    r->silence_timeout = or_default(o->silence_timeout, 120 * PFL_SEC);
    r->interrupt_timeout = or_default(o->interrupt_timeout, 5 * PFL_SEC);
    r->backoff_min = or_default(o->backoff_min, PFL_SEC / 2);
    r->backoff_max = or_default(o->backoff_max, 60 * PFL_SEC);
    r->exchange = exchange;
    fill_env(r);
    return r;
}

static void init_handles(struct pfl_remote *r)
{
    uv_timer_t *const timers[] = {&r->t_limit, &r->t_retry, &r->t_ask, &r->t_end};
    PFL_ASSERT(uv_loop_init(&r->loop) == 0 && uv_mutex_init(&r->lock) == 0 && uv_cond_init(&r->changed) == 0);
    PFL_ASSERT(uv_async_init(&r->loop, &r->wake, on_wake) == 0 && uv_fs_event_init(&r->loop, &r->watch) == 0);
    r->wake.data = r->watch.data = r;
    for (size_t i = 0; i < PFL_ARRAY_LEN(timers); i++) {
        PFL_ASSERT(uv_timer_init(&r->loop, timers[i]) == 0);
        timers[i]->data = r;
    }
}

enum pfl_rc pfl_remote_learner_new(const struct pfl_remote_opts *o, struct pfl_learner *ret, struct pfl_err *err)
{
    struct pfl_exchange *exchange = NULL;
    PFL_ASSERT((o->command->n > 0) != (o->socket != NULL));
    enum pfl_rc rc = pfl_exchange_new(o->exchange, &exchange, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_remote *r = remote_new(o, exchange);
    struct pfl_remote_op op = {.kind = PFL_REMOTE_START};
    init_handles(r);
    PFL_ASSERT(uv_thread_create(&r->thread, on_thread, r) == 0);
    rc = ask(r, &op, NULL, NULL, err);
    if (rc != PFL_OK) {
        remote_free(r);
        return rc;
    }
    *ret = (struct pfl_learner){r->steerable ? &steerable_ops : &plain_ops, r};
    return PFL_OK;
}
