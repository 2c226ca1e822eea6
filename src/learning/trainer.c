/* SPDX-License-Identifier: Apache-2.0 */
/* The learner's calls around the arithmetic: batches out of the data set, epochs, cancelling, results. Working memory lives for
 * one call, so that an idle node holds only its samples. */
#include "learning/trainer.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/blas.h"

enum {
    EVALUATE_BATCH = 1000,
    EVALUATE_FLOATS = 4 << 20, /* of activations, at most */
};

struct trainer {
    struct pfl_net net;
    struct pfl_layout *layout;
    struct pfl_dataset *train, *test;
    struct pfl_optimiser_opts optimiser;
    unsigned batch_size, threads;
    uint64_t seed;
    double proximal_mu;           /* how fits are steered */
    struct pfl_model *correction; /* a reference or NULL */
    atomic_bool stop;
};

static struct pfl_layout *trainer_layout(void *self)
{
    struct trainer *m = self;
    return m->layout;
}

static enum pfl_rc trainer_init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct trainer *m = self;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    enum pfl_rc rc = pfl_model_new(m->layout, &model, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, m->seed, "init");
    pfl_net_init_params(&m->net, &rng, (float *)(void *)pfl_model_data_mut(model));
    *ret = pfl_steal(&model);
    return PFL_OK;
}

/* Clears an interrupt from before this call, and sets OpenBLAS's number of threads, which belongs to the process: a second
 * learner may have changed it. */
static void call_begin(struct trainer *m)
{
    atomic_store(&m->stop, false);
    openblas_set_num_threads((int)m->threads);
}

static bool stopped(struct trainer *m)
{
    return atomic_load_explicit(&m->stop, memory_order_relaxed);
}

/* What one fit works with. */
struct fit {
    struct pfl_optimiser optimiser;
    struct pfl_net_work work;
    const float *start; /* the parameters that it began with, borrowed */
    float *grad;        /* owned, n_params */
    uint32_t *order;    /* owned, train->n */
    uint8_t *labels;    /* owned, of one batch */
};

static void fit_deinit(struct fit *f)
{
    pfl_net_work_deinit(&f->work);
    pfl_optimiser_deinit(&f->optimiser);
    free(f->grad);
    free(f->order);
    free(f->labels);
}

static enum pfl_rc fit_alloc(struct trainer *m, struct fit *f, struct pfl_err *err)
{
    size_t n = m->net.n_params, batch = m->batch_size < m->train->n ? m->batch_size : m->train->n;
    f->grad = pfl_try_malloc(n * sizeof(float));
    f->order = pfl_try_malloc(m->train->n * sizeof(*f->order));
    f->labels = pfl_try_malloc(batch);
    if (!f->grad || !f->order || !f->labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory to train %zu parameters on %zu samples", n, m->train->n);
    for (uint32_t i = 0; i < m->train->n; i++)
        f->order[i] = i;
    enum pfl_rc rc = pfl_optimiser_init(&f->optimiser, &m->optimiser, n, err);
    if (rc != PFL_OK)
        return rc;
    return pfl_net_work_init(&f->work, &m->net, batch, true, err);
}

/* What the aggregation rule adds to the gradient: FedProx' pull to the start (Li et al. 2020), SCAFFOLD's correction (Karimireddy
 * et al. 2020). */
static void steer_gradient(const struct trainer *m, const struct fit *f, const float *params)
{
    const float mu = (float)m->proximal_mu;
    for (size_t i = 0; mu > 0.0f && i < m->net.n_params; i++)
        f->grad[i] += mu * (params[i] - f->start[i]);
    const float *c = m->correction ? (const float *)(const void *)m->correction->data : NULL;
    for (size_t i = 0; c && i < m->net.n_params; i++)
        f->grad[i] += c[i];
}

/* One step on the samples order[from ...]; returns the sum of their losses. */
static double fit_batch(struct trainer *m, struct fit *f, float *params, size_t from, size_t batch)
{
    pfl_dataset_read(m->train, f->order + from, batch, f->work.act[0]);
    for (size_t b = 0; b < batch; b++)
        f->labels[b] = m->train->labels[f->order[from + b]];
    double loss = pfl_net_gradient(&m->net, params, &f->work, f->labels, batch, f->grad);
    steer_gradient(m, f, params);
    pfl_optimiser_step(&f->optimiser, params, f->grad);
    return loss;
}

/* What one more step adds to FedNova's normaliser (Wang et al. 2020): how much of a gradient ends up in the result, with momentum
 * and the pull to the start. */
static void count_step(const struct trainer *m, double *counter, struct pfl_fit_result *r)
{
    double rho = m->optimiser.kind == PFL_OPTIMISER_SGD ? m->optimiser.momentum : 0.0;
    *counter = rho * *counter + 1.0;
    r->normaliser = r->normaliser * (1.0 - m->optimiser.learning_rate * m->proximal_mu) + *counter;
    r->n_steps++;
}

struct progress {
    void (*fn)(void *user, double done);
    void *user;
    double total, shown;
};

/* At most a hundred calls in one fit. */
static void progress_report(struct progress *p, double done)
{
    double share = floor(100.0 * done / p->total) / 100.0;
    if (!p->fn || share <= p->shown)
        return;
    p->shown = share;
    p->fn(p->user, share);
}

static enum pfl_rc fit_epochs(struct trainer *m, struct fit *f, float *params, unsigned epochs, uint64_t seed, struct progress *p,
                              struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, seed, "order");
    size_t n = m->train->n;
    struct pfl_fit_result r = {.n_samples = n, .learning_rate = m->optimiser.learning_rate};
    double counter = 0.0;
    for (unsigned epoch = 0; epoch < epochs; epoch++) {
        pfl_rng_shuffle_u32(&rng, f->order, n);
        double loss = 0.0;
        for (size_t from = 0; from < n; from += f->work.batch_max) {
            if (stopped(m))
                return pfl_err_set(err, PFL_CANCELED, "training was interrupted in epoch %u of %u", epoch + 1, epochs);
            size_t batch = n - from < f->work.batch_max ? n - from : f->work.batch_max;
            loss += fit_batch(m, f, params, from, batch);
            count_step(m, &counter, &r);
            progress_report(p, (double)epoch * (double)n + (double)(from + batch));
        }
        r.loss = loss / (double)n;
    }
    *ret = r;
    return PFL_OK;
}

static enum pfl_rc trainer_fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                               void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                               struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct trainer *m = self;
    call_begin(m);
    enum pfl_rc rc = pfl_layout_check_same(start->layout, m->layout, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = pfl_model_copy(start);
    if (!model)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model of %zu bytes", m->layout->bytes);
    PFL_AUTO(fit_deinit) struct fit f = {.start = (const float *)(const void *)start->data};
    rc = fit_alloc(m, &f, err);
    if (rc != PFL_OK)
        return rc;
    struct progress p = {.fn = progress, .user = user, .total = (double)epochs * (double)m->train->n};
    struct pfl_fit_result r;
    rc = fit_epochs(m, &f, (float *)(void *)pfl_model_data_mut(model), epochs, seed, &p, &r, err);
    if (rc != PFL_OK)
        return rc;
    if (pfl_model_check_finite(model, NULL) != PFL_OK)
        return pfl_err_set(err, PFL_INVALID, "training diverged to NaN or infinity; the learning rate is %g, try a smaller one",
                           m->optimiser.learning_rate);
    *ret_model = pfl_steal(&model);
    *ret = r;
    return PFL_OK;
}

static size_t evaluate_batch(const struct trainer *m)
{
    size_t fits = EVALUATE_FLOATS / pfl_net_work_floats(&m->net, false), most = m->test->n;
    most = most < EVALUATE_BATCH ? most : EVALUATE_BATCH;
    fits = fits > 0 ? fits : 1;
    return fits < most ? fits : most;
}

static enum pfl_rc trainer_evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct trainer *m = self;
    call_begin(m);
    enum pfl_rc rc = pfl_layout_check_same(model->layout, m->layout, err);
    if (rc != PFL_OK)
        return rc;
    size_t n = m->test->n, n_right = 0;
    PFL_AUTO(pfl_net_work_deinit) struct pfl_net_work work = {0};
    rc = pfl_net_work_init(&work, &m->net, evaluate_batch(m), false, err);
    if (rc != PFL_OK)
        return rc;
    double loss = 0.0;
    for (size_t from = 0; from < n; from += work.batch_max) {
        if (stopped(m))
            return pfl_err_set(err, PFL_CANCELED, "evaluation was interrupted");
        size_t batch = n - from < work.batch_max ? n - from : work.batch_max;
        struct pfl_net_score score;
        pfl_dataset_read_run(m->test, from, batch, work.act[0]);
        pfl_net_forward(&m->net, (const float *)(const void *)model->data, &work, batch);
        pfl_net_score(&m->net, &work, m->test->labels + from, batch, &score);
        loss += score.loss_sum;
        n_right += score.n_right;
    }
    *ret = (struct pfl_metrics){.loss = loss / (double)n, .accuracy = (double)n_right / (double)n, .n_samples = n};
    return PFL_OK;
}

static enum pfl_rc trainer_steer(void *self, const struct pfl_fit_steer *steer, struct pfl_err *err)
{
    static const struct pfl_fit_steer plain;
    struct trainer *m = self;
    steer = steer ? steer : &plain;
    if (!(steer->proximal_mu >= 0.0 && isfinite(steer->proximal_mu)))
        return pfl_err_set(err, PFL_INVALID, "a proximal term of %g: it has to be 0 or more", steer->proximal_mu);
    if (steer->correction) {
        enum pfl_rc rc = pfl_layout_check_same(steer->correction->layout, m->layout, err);
        if (rc != PFL_OK)
            return rc;
        pfl_model_ref(steer->correction);
    }
    pfl_model_unref(m->correction);
    m->correction = steer->correction;
    m->proximal_mu = steer->proximal_mu;
    return PFL_OK;
}

static void trainer_interrupt(void *self)
{
    struct trainer *m = self;
    atomic_store(&m->stop, true);
}

static void trainer_free(void *self)
{
    struct trainer *m = self;
    if (!m)
        return;
    pfl_model_unref(m->correction);
    pfl_layout_unref(m->layout);
    pfl_dataset_unref(m->train);
    pfl_dataset_unref(m->test);
    free(m);
}

static const struct pfl_learner_ops trainer_ops = {
    .name = "trainer",
    .layout = trainer_layout,
    .init = trainer_init,
    .fit = trainer_fit,
    .evaluate = trainer_evaluate,
    .interrupt = trainer_interrupt,
    .steer = trainer_steer,
    .free = trainer_free,
};

static enum pfl_rc check_opts(const struct pfl_trainer_opts *o, const struct pfl_dataset *train, const struct pfl_dataset *test,
                              struct pfl_err *err)
{
    enum pfl_rc rc = pfl_optimiser_check(&o->optimiser, err);
    if (rc != PFL_OK)
        return rc;
    if (o->batch_size == 0 || o->batch_size > PFL_NET_BATCH_MAX)
        return pfl_err_set(err, PFL_INVALID, "batch size %u, 1 to %d are possible", o->batch_size, PFL_NET_BATCH_MAX);
    if (o->threads > 1024)
        return pfl_err_set(err, PFL_INVALID, "%u threads, the limit is 1024", o->threads);
    if (train->n_features != test->n_features || train->n_classes != test->n_classes)
        return pfl_err_set(err, PFL_INVALID, "training data of %zu features and %u classes, test data of %zu and %u",
                           train->n_features, train->n_classes, test->n_features, test->n_classes);
    if (train->n > UINT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%zu training samples, the limit is %u", train->n, UINT32_MAX);
    return PFL_OK;
}

enum pfl_rc pfl_trainer_new(const struct pfl_trainer_opts *opts, struct pfl_dataset *train, struct pfl_dataset *test,
                            struct pfl_learner *ret, struct pfl_err *err)
{
    struct pfl_net net;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    enum pfl_rc rc = check_opts(opts, train, test, err);
    if (rc == PFL_OK)
        rc = pfl_blas_load(err);
    if (rc == PFL_OK)
        rc = pfl_net_make(&opts->net, train->shape, train->n_classes, &net, err);
    if (rc == PFL_OK)
        rc = pfl_net_layout(&net, &layout, err);
    if (rc != PFL_OK)
        return rc;
    struct trainer *m = pfl_xcalloc(1, sizeof(*m));
    m->net = net;
    m->layout = pfl_steal(&layout);
    m->train = pfl_dataset_ref(train);
    m->test = pfl_dataset_ref(test);
    m->optimiser = opts->optimiser;
    m->batch_size = opts->batch_size;
    m->threads = opts->threads ? opts->threads : 1;
    m->seed = opts->seed;
    atomic_init(&m->stop, false);
    *ret = (struct pfl_learner){.ops = &trainer_ops, .self = m};
    return PFL_OK;
}
