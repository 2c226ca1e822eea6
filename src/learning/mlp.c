/* SPDX-License-Identifier: Apache-2.0 */
/* The learner's calls around the arithmetic: batches out of the data set, epochs, cancelling, results. Working memory lives for
 * one call, so that an idle node holds only its samples. */
#include "learning/mlp.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learning/adam.h"

enum { EVALUATE_BATCH = 1000 };

struct mlp {
    struct pfl_mlp_net net;
    struct pfl_layout *layout;
    struct pfl_dataset *train, *test;
    double learning_rate;
    unsigned batch_size, threads;
    uint64_t seed;
    atomic_bool stop;
};

static struct pfl_layout *mlp_layout(void *self)
{
    struct mlp *m = self;
    return m->layout;
}

static enum pfl_rc mlp_init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct mlp *m = self;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    enum pfl_rc rc = pfl_model_new(m->layout, &model, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, m->seed, "init");
    pfl_mlp_init_params(&m->net, &rng, (float *)(void *)pfl_model_data_mut(model));
    *ret = pfl_steal(&model);
    return PFL_OK;
}

/* Clears an interrupt from before this call, and sets OpenBLAS's number of threads, which belongs to the process: a second
 * learner may have changed it. */
static void call_begin(struct mlp *m)
{
    atomic_store(&m->stop, false);
    openblas_set_num_threads((int)m->threads);
}

static bool stopped(struct mlp *m)
{
    return atomic_load_explicit(&m->stop, memory_order_relaxed);
}

static void scale_pixels(float *restrict out, const uint8_t *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)in[i] / 255.0f;
}

/* What one fit works with. */
struct fit {
    struct pfl_adam adam;
    struct pfl_mlp_work work;
    float *grad, *m, *v; /* owned, n_params each */
    uint32_t *order;     /* owned, train->n */
    uint8_t *labels;     /* owned, of one batch */
};

static void fit_deinit(struct fit *f)
{
    pfl_mlp_work_deinit(&f->work);
    free(f->grad);
    free(f->m);
    free(f->v);
    free(f->order);
    free(f->labels);
}

static enum pfl_rc fit_alloc(struct mlp *m, struct fit *f, struct pfl_err *err)
{
    size_t n = m->net.n_params, batch = m->batch_size < m->train->n ? m->batch_size : m->train->n;
    f->grad = pfl_try_malloc(n * sizeof(float));
    f->m = pfl_try_malloc(n * sizeof(float));
    f->v = pfl_try_malloc(n * sizeof(float));
    f->order = pfl_try_malloc(m->train->n * sizeof(*f->order));
    f->labels = pfl_try_malloc(batch);
    if (!f->grad || !f->m || !f->v || !f->order || !f->labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory to train %zu parameters on %zu samples", n, m->train->n);
    for (uint32_t i = 0; i < m->train->n; i++)
        f->order[i] = i;
    pfl_adam_init(&f->adam, m->learning_rate, f->m, f->v, n);
    return pfl_mlp_work_init(&f->work, &m->net, batch, true, err);
}

/* One step on the samples order[from ...]; returns the sum of their losses. */
static double fit_batch(struct mlp *m, struct fit *f, float *params, size_t from, size_t batch)
{
    size_t n_features = m->train->n_features;
    for (size_t b = 0; b < batch; b++) {
        size_t i = f->order[from + b];
        scale_pixels(f->work.act[0] + b * n_features, m->train->images + i * n_features, n_features);
        f->labels[b] = m->train->labels[i];
    }
    double loss = pfl_mlp_gradient(&m->net, params, &f->work, f->labels, batch, f->grad);
    pfl_adam_step(&f->adam, params, f->grad);
    return loss;
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

static enum pfl_rc fit_epochs(struct mlp *m, struct fit *f, float *params, unsigned epochs, uint64_t seed, struct progress *p,
                              struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, seed, "order");
    size_t n = m->train->n;
    struct pfl_fit_result r = {.n_samples = n};
    for (unsigned epoch = 0; epoch < epochs; epoch++) {
        pfl_rng_shuffle_u32(&rng, f->order, n);
        double loss = 0.0;
        for (size_t from = 0; from < n; from += f->work.batch_max) {
            if (stopped(m))
                return pfl_err_set(err, PFL_CANCELED, "training was interrupted in epoch %u of %u", epoch + 1, epochs);
            size_t batch = n - from < f->work.batch_max ? n - from : f->work.batch_max;
            loss += fit_batch(m, f, params, from, batch);
            r.n_steps++;
            progress_report(p, (double)epoch * (double)n + (double)(from + batch));
        }
        r.loss = loss / (double)n;
    }
    *ret = r;
    return PFL_OK;
}

static enum pfl_rc mlp_fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                           void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                           struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct mlp *m = self;
    call_begin(m);
    enum pfl_rc rc = pfl_layout_check_same(start->layout, m->layout, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = pfl_model_copy(start);
    if (!model)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model of %zu bytes", m->layout->bytes);
    PFL_AUTO(fit_deinit) struct fit f = {0};
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
                           m->learning_rate);
    *ret_model = pfl_steal(&model);
    *ret = r;
    return PFL_OK;
}

static enum pfl_rc mlp_evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct mlp *m = self;
    call_begin(m);
    enum pfl_rc rc = pfl_layout_check_same(model->layout, m->layout, err);
    if (rc != PFL_OK)
        return rc;
    size_t n = m->test->n, n_features = m->test->n_features, n_right = 0;
    PFL_AUTO(pfl_mlp_work_deinit) struct pfl_mlp_work work = {0};
    rc = pfl_mlp_work_init(&work, &m->net, n < EVALUATE_BATCH ? n : EVALUATE_BATCH, false, err);
    if (rc != PFL_OK)
        return rc;
    double loss = 0.0;
    for (size_t from = 0; from < n; from += work.batch_max) {
        if (stopped(m))
            return pfl_err_set(err, PFL_CANCELED, "evaluation was interrupted");
        size_t batch = n - from < work.batch_max ? n - from : work.batch_max;
        struct pfl_mlp_score score;
        scale_pixels(work.act[0], m->test->images + from * n_features, batch * n_features);
        pfl_mlp_forward(&m->net, (const float *)(const void *)model->data, &work, batch);
        pfl_mlp_score(&m->net, &work, m->test->labels + from, batch, &score);
        loss += score.loss_sum;
        n_right += score.n_right;
    }
    *ret = (struct pfl_metrics){.loss = loss / (double)n, .accuracy = (double)n_right / (double)n, .n_samples = n};
    return PFL_OK;
}

static void mlp_interrupt(void *self)
{
    struct mlp *m = self;
    atomic_store(&m->stop, true);
}

static void mlp_free(void *self)
{
    struct mlp *m = self;
    if (!m)
        return;
    pfl_layout_unref(m->layout);
    pfl_dataset_unref(m->train);
    pfl_dataset_unref(m->test);
    free(m);
}

static const struct pfl_learner_ops mlp_ops = {
    .name = "mlp",
    .layout = mlp_layout,
    .init = mlp_init,
    .fit = mlp_fit,
    .evaluate = mlp_evaluate,
    .interrupt = mlp_interrupt,
    .free = mlp_free,
};

static enum pfl_rc layout_of_net(const struct pfl_mlp_net *net, struct pfl_layout **ret, struct pfl_err *err)
{
    struct pfl_tensor_desc descs[2 * PFL_MLP_LAYERS_MAX] = {0};
    for (unsigned l = 0; l < net->n_layers; l++) {
        struct pfl_tensor_desc *weight = &descs[2 * l], *bias = weight + 1;
        *weight = (struct pfl_tensor_desc){.dtype = PFL_F32, .rank = 2, .shape = {net->width[l + 1], net->width[l]}};
        *bias = (struct pfl_tensor_desc){.dtype = PFL_F32, .rank = 1, .shape = {net->width[l + 1]}};
        (void)snprintf(weight->name, sizeof(weight->name), "layers.%u.weight", l);
        (void)snprintf(bias->name, sizeof(bias->name), "layers.%u.bias", l);
    }
    return pfl_layout_new(descs, 2 * (size_t)net->n_layers, ret, err);
}

static enum pfl_rc check_opts(const struct pfl_mlp_opts *o, const struct pfl_dataset *train, const struct pfl_dataset *test,
                              struct pfl_err *err)
{
    if (o->n_hidden > PFL_MLP_HIDDEN_MAX)
        return pfl_err_set(err, PFL_INVALID, "%u hidden layers, the limit is %d", o->n_hidden, PFL_MLP_HIDDEN_MAX);
    if (!(o->learning_rate > 0.0 && isfinite(o->learning_rate)))
        return pfl_err_set(err, PFL_INVALID, "learning rate %g: it has to be above 0", o->learning_rate);
    if (o->batch_size == 0 || o->batch_size > PFL_MLP_BATCH_MAX)
        return pfl_err_set(err, PFL_INVALID, "batch size %u, 1 to %d are possible", o->batch_size, PFL_MLP_BATCH_MAX);
    if (o->threads > 1024)
        return pfl_err_set(err, PFL_INVALID, "%u threads, the limit is 1024", o->threads);
    if (train->n_features != test->n_features || train->n_classes != test->n_classes)
        return pfl_err_set(err, PFL_INVALID, "training data of %zu features and %u classes, test data of %zu and %u",
                           train->n_features, train->n_classes, test->n_features, test->n_classes);
    if (train->n > UINT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%zu training samples, the limit is %u", train->n, UINT32_MAX);
    return PFL_OK;
}

enum pfl_rc pfl_mlp_learner_new(const struct pfl_mlp_opts *opts, struct pfl_dataset *train, struct pfl_dataset *test,
                                struct pfl_learner *ret, struct pfl_err *err)
{
    enum pfl_rc rc = check_opts(opts, train, test, err);
    if (rc != PFL_OK)
        return rc;
    size_t widths[PFL_MLP_LAYERS_MAX + 1], n = 0;
    widths[n++] = train->n_features;
    for (unsigned i = 0; i < opts->n_hidden; i++)
        widths[n++] = opts->hidden[i];
    widths[n++] = train->n_classes;
    struct pfl_mlp_net net;
    rc = pfl_mlp_net_init(&net, widths, n, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    rc = layout_of_net(&net, &layout, err);
    if (rc != PFL_OK)
        return rc;
    struct mlp *m = pfl_xcalloc(1, sizeof(*m));
    m->net = net;
    m->layout = pfl_steal(&layout);
    m->train = pfl_dataset_ref(train);
    m->test = pfl_dataset_ref(test);
    m->learning_rate = opts->learning_rate;
    m->batch_size = opts->batch_size;
    m->threads = opts->threads ? opts->threads : 1;
    m->seed = opts->seed;
    atomic_init(&m->stop, false);
    *ret = (struct pfl_learner){.ops = &mlp_ops, .self = m};
    return PFL_OK;
}
