/* SPDX-License-Identifier: Apache-2.0 */
/* The delay waits on a condition variable, so that an interrupt ends it at once. */
#include "learning/dummy.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"

struct dummy {
    struct pfl_layout *layout;
    pfl_ns delay;
    float step;
    uint64_t n_samples;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop; /* under lock */
};

static uint64_t name_draw(const char *node_name, const char *what, uint64_t n)
{
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, 0, node_name);
    pfl_rng_seed_named(&rng, pfl_rng_u64(&rng), what);
    return pfl_rng_below(&rng, n);
}

float pfl_dummy_step(const char *node_name)
{
    return (float)(1 + name_draw(node_name, "step", 64)) / 64.0f;
}

uint64_t pfl_dummy_samples(const char *node_name)
{
    return 100 + name_draw(node_name, "samples", 32);
}

static struct pfl_layout *dummy_layout(void *self)
{
    struct dummy *d = self;
    return d->layout;
}

static enum pfl_rc dummy_init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct dummy *d = self;
    return pfl_model_new(d->layout, ret, err);
}

static enum pfl_rc wait_delay(struct dummy *d, struct pfl_err *err)
{
    pfl_ns until = pfl_clock_mono() + d->delay;
    struct timespec ts = {.tv_sec = (time_t)(until / PFL_SEC), .tv_nsec = (long)(until % PFL_SEC)};
    pthread_mutex_lock(&d->lock);
    d->stop = false;
    int rc = 0;
    while (!d->stop && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&d->wake, &d->lock, &ts);
    bool stop = d->stop;
    pthread_mutex_unlock(&d->lock);
    return stop ? pfl_err_set(err, PFL_CANCELED, "training was interrupted") : PFL_OK;
}

static enum pfl_rc dummy_fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                             void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                             struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct dummy *d = self;
    (void)seed;
    enum pfl_rc rc = pfl_layout_check_same(start->layout, d->layout, err);
    if (rc == PFL_OK)
        rc = wait_delay(d, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_model *model = pfl_model_copy(start);
    if (!model)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model of %zu bytes", d->layout->bytes);
    float *values = (float *)(void *)pfl_model_data_mut(model);
    for (size_t i = 0; epochs > 0 && i < d->layout->bytes / sizeof(float); i++)
        values[i] += d->step;
    if (progress)
        progress(user, 1.0);
    *ret_model = model;
    *ret = (struct pfl_fit_result){.loss = 1.0, .n_samples = d->n_samples, .n_steps = epochs};
    return PFL_OK;
}

static enum pfl_rc dummy_evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct dummy *d = self;
    enum pfl_rc rc = pfl_layout_check_same(model->layout, d->layout, err);
    if (rc != PFL_OK)
        return rc;
    const float *values = (const float *)(const void *)model->data;
    size_t n = d->layout->bytes / sizeof(float);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)values[i];
    *ret = (struct pfl_metrics){.loss = sum / (double)n, .accuracy = 0.5, .n_samples = d->n_samples};
    return PFL_OK;
}

static void dummy_interrupt(void *self)
{
    struct dummy *d = self;
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_broadcast(&d->wake);
    pthread_mutex_unlock(&d->lock);
}

static void dummy_free(void *self)
{
    struct dummy *d = self;
    if (!d)
        return;
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    pfl_layout_unref(d->layout);
    free(d);
}

static const struct pfl_learner_ops dummy_ops = {
    .name = "dummy",
    .layout = dummy_layout,
    .init = dummy_init,
    .fit = dummy_fit,
    .evaluate = dummy_evaluate,
    .interrupt = dummy_interrupt,
    .free = dummy_free,
};

/* On the monotonic clock: a change of the wall clock must not lengthen a delay. */
static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    PFL_ASSERT(pthread_condattr_init(&attr) == 0 && pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    PFL_ASSERT(pthread_cond_init(cond, &attr) == 0);
    pthread_condattr_destroy(&attr);
}

enum pfl_rc pfl_dummy_learner_new(uint64_t n_values, pfl_ns delay, const char *node_name, struct pfl_learner *ret,
                                  struct pfl_err *err)
{
    if (n_values == 0)
        return pfl_err_set(err, PFL_INVALID, "a dummy model needs at least one value");
    if (delay < 0)
        return pfl_err_set(err, PFL_INVALID, "the dummy learner's delay is negative");
    struct pfl_tensor_desc desc = {.name = "values", .dtype = PFL_F32, .rank = 1, .shape = {n_values}};
    struct pfl_layout *layout = NULL;
    enum pfl_rc rc = pfl_layout_new(&desc, 1, &layout, err);
    if (rc != PFL_OK)
        return rc;
    struct dummy *d = pfl_xcalloc(1, sizeof(*d));
    d->layout = layout;
    d->delay = delay;
    d->step = pfl_dummy_step(node_name);
    d->n_samples = pfl_dummy_samples(node_name);
    PFL_ASSERT(pthread_mutex_init(&d->lock, NULL) == 0);
    cond_init(&d->wake);
    *ret = (struct pfl_learner){.ops = &dummy_ops, .self = d};
    return PFL_OK;
}
