/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning */
/* Rounds of federated learning in one process, without a network: real learners, data, aggregators and compression, for the tables
 * of bench/learning.py. One line of JSON for each round.
 *
 * federate key=value ...
 *   data=FOLDER name=fashion-mnist nodes=100 rounds=20 part=dirichlet|iid|shards share=0.2 (of each part) seed=1
 *   hidden=256,128 optimiser=adam|sgd lr=0.001 momentum=0 batch=32 epochs=1
 *   aggregator=fedavg byzantine=-1 trim=0.2 eta=0.1 tau=1e-9 mu=0.01
 *   attack=none|gaussian|lie|lie-flanders bad=0 (how many nodes, the first ones) sigma=10 (gaussian) z=0 (lie; 0: as large as
 *   Baruch et al. 2019 find to be safe)
 *   steps=topk:0.1,ptq:I8,zstd   compression of each contribution */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/str.h"
#include "learning/compression.h"
#include "learning/method.h"
#include "learning/partition.h"
#include "learning/trainer.h"

enum { NODES_MAX = 256 };

struct args {
    int n;
    char **items;
};

static const char *text(const struct args *a, const char *key, const char *otherwise)
{
    size_t len = strlen(key);
    for (int i = 0; i < a->n; i++) {
        if (strncmp(a->items[i], key, len) == 0 && a->items[i][len] == '=')
            return a->items[i] + len + 1;
    }
    return otherwise;
}

static double number(const struct args *a, const char *key, double otherwise)
{
    const char *t = text(a, key, NULL);
    return t ? strtod(t, NULL) : otherwise;
}

struct world {
    unsigned n, n_bad;
    struct pfl_aggregator aggregator;
    struct pfl_learner learners[NODES_MAX];
    struct pfl_method methods[NODES_MAX];
    struct pfl_compressor compressors[NODES_MAX];
    struct pfl_compression spec;
    struct pfl_model *model;
    struct pfl_rng rng;
};

/* ---- setting up ---- */

static void parse_hidden(const char *list, struct pfl_net_spec *spec)
{
    char *end;
    for (spec->n_hidden = 0; *list && spec->n_hidden < PFL_ARRAY_LEN(spec->hidden); list = *end ? end + 1 : end)
        spec->hidden[spec->n_hidden++] = (unsigned)strtoul(list, &end, 10);
}

static bool parse_steps(const char *steps, struct pfl_compression *ret)
{
    PFL_AUTO(pfl_freep) char *copy = pfl_xstrdup(steps);
    char *save = NULL;
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *value = strchr(word, ':');
        enum pfl_technique t;
        if (value)
            *value++ = '\0';
        if (ret->n == PFL_TECHNIQUES || !pfl_technique_parse(word, &t))
            return false;
        struct pfl_compression_step *s = &ret->steps[ret->n++];
        *s = pfl_compression_step_default(t);
        s->error_feedback = !pfl_streq(value, "forget");
        if (value && s->error_feedback && !pfl_dtype_parse(value, &s->dtype))
            s->k = s->threshold = s->noise_multiplier = strtod(value, NULL);
    }
    return true;
}

static enum pfl_rc make_nodes(const struct args *a, struct world *w, struct pfl_err *err)
{
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = NULL;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *test = NULL;
    const char *name = text(a, "name", "fashion-mnist"), *folder = text(a, "data", NULL);
    enum pfl_rc rc = pfl_dataset_load(name, folder, PFL_DATASET_TRAIN, &full, err);
    if (rc == PFL_OK)
        rc = pfl_dataset_load(name, folder, PFL_DATASET_TEST, &test, err);
    struct pfl_partition p = pfl_partition_default();
    if (rc == PFL_OK && !pfl_partition_parse(text(a, "part", "iid"), &p.strategy))
        rc = pfl_err_set(err, PFL_INVALID, "part");
    p.part_count = w->n;
    p.seed = (uint64_t)number(a, "seed", 1);
    p.reduction_factor = number(a, "share", 1.0);
    struct pfl_trainer_opts o = {
        .net = {.kind = PFL_NET_MLP},
        .optimiser = {.kind = pfl_streq(text(a, "optimiser", "adam"), "sgd") ? PFL_OPTIMISER_SGD : PFL_OPTIMISER_ADAM,
                      .learning_rate = number(a, "lr", 0.001),
                      .momentum = number(a, "momentum", 0.0)},
        .batch_size = (unsigned)number(a, "batch", 32),
        .threads = 1,
        .seed = p.seed};
    parse_hidden(text(a, "hidden", "256,128"), &o.net);
    for (unsigned i = 0; i < w->n && rc == PFL_OK; i++) {
        PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *mine = NULL;
        p.part_index = i;
        rc = pfl_partition_take(full, &p, &mine, err);
        if (rc == PFL_OK)
            rc = pfl_trainer_new(&o, mine, test, &w->learners[i], err);
        if (rc == PFL_OK)
            rc = pfl_method_init(&w->methods[i], &w->aggregator, w->learners[i], err);
        w->compressors[i].spec = w->spec;
    }
    return rc;
}

static enum pfl_rc make(const struct args *a, struct world *w, struct pfl_err *err)
{
    struct pfl_aggregator_params p = pfl_aggregator_params_default();
    w->n = (unsigned)number(a, "nodes", 10);
    w->n_bad = (unsigned)number(a, "bad", 0);
    if (w->n == 0 || w->n > NODES_MAX || w->n_bad > w->n)
        return pfl_err_set(err, PFL_INVALID, "nodes: 1 to %d, bad no more than those", NODES_MAX);
    p.byzantine = (int)number(a, "byzantine", PFL_BYZANTINE_AUTO);
    p.trim = number(a, "trim", 0.2);
    p.eta = number(a, "eta", p.eta);
    p.tau = number(a, "tau", p.tau);
    p.proximal_mu = number(a, "mu", p.proximal_mu);
    pfl_rng_seed(&w->rng, (uint64_t)number(a, "seed", 1) + 1000);
    if (!parse_steps(text(a, "steps", ""), &w->spec))
        return pfl_err_set(err, PFL_INVALID, "steps");
    enum pfl_rc rc = pfl_compression_check(&w->spec, err);
    if (rc == PFL_OK)
        rc = pfl_aggregator_make(text(a, "aggregator", "fedavg"), &p, &w->aggregator, err);
    if (rc == PFL_OK)
        rc = make_nodes(a, w, err);
    return rc == PFL_OK ? pfl_method_init_model(&w->methods[0], &w->model, err) : rc;
}

static void unmake(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        pfl_method_deinit(&w->methods[i]);
        pfl_compressor_deinit(&w->compressors[i]);
        if (w->learners[i].ops)
            w->learners[i].ops->free(w->learners[i].self);
    }
    pfl_model_unref(w->model);
}

/* ---- attacks ---- */

static double inverse_normal(double p)
{
    double lo = -8.0, hi = 8.0;
    for (unsigned i = 0; i < 60; i++) {
        double mid = (lo + hi) / 2.0;
        *(0.5 * erfc(-mid / sqrt(2.0)) < p ? &lo : &hi) = mid;
    }
    return lo;
}

static struct pfl_model *own_copy(struct pfl_contribution *c)
{
    struct pfl_model *m = pfl_model_copy(c->model);
    PFL_ASSERT(m);
    pfl_model_unref(c->model);
    c->model = m;
    return m;
}

/* "Gaussian": noise on an honest model. */
static void attack_gaussian(struct world *w, struct pfl_contribution *in, double sigma)
{
    for (unsigned k = 0; k < w->n_bad; k++) {
        struct pfl_model *m = own_copy(&in[k]);
        float *x = (float *)(void *)pfl_model_data_mut(m);
        for (size_t i = 0; i < m->layout->bytes / sizeof(float); i++)
            x[i] = (float)((double)x[i] + sigma * pfl_rng_normal(&w->rng));
    }
}

/* Mean and standard deviation of value i over the contributions from `first` on. */
static void moments(const struct pfl_contribution *in, unsigned first, unsigned n, size_t i, double *mean, double *deviation)
{
    double sum = 0.0, squares = 0.0, count = n - first;
    for (unsigned k = first; k < n; k++) {
        double v = (double)((const float *)(const void *)in[k].model->data)[i];
        sum += v;
        squares += v * v;
    }
    *mean = sum / count;
    double variance = squares / count - *mean * *mean;
    *deviation = sqrt(variance > 0.0 ? variance : 0.0);
}

/* The share of honest clients that need not be won over: Baruch et al. 2019, Algorithm 3. */
static double safe_share(const struct world *w)
{
    unsigned good = w->n - w->n_bad, supporters = w->n / 2 + 1 - w->n_bad;
    return (double)(good - supporters) / (double)good;
}

/* All attackers send the same model. */
static void send_all(const struct world *w, struct pfl_contribution *in, struct pfl_model *m)
{
    for (unsigned k = 0; k < w->n_bad; k++) {
        pfl_model_unref(in[k].model);
        in[k].model = pfl_model_ref(m);
    }
}

/* "A little is enough": the honest mean less z standard deviations, value by value; the attackers know what the honest send. */
static void attack_lie(struct world *w, struct pfl_contribution *in, double z)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = pfl_model_copy(in[0].model);
    PFL_ASSERT(m);
    float *x = (float *)(void *)pfl_model_data_mut(m);
    z = z > 0.0 ? z : inverse_normal(safe_share(w));
    for (size_t i = 0; i < m->layout->bytes / sizeof(float); i++) {
        double mean, deviation;
        moments(in, w->n_bad, w->n, i, &mean, &deviation);
        x[i] = (float)(mean - z * deviation);
    }
    send_all(w, in, m);
}

/* What the code behind FLANDERS' tables calls LIE: the mean of all clients less Phi(share) times the square root of the standard
 * deviation. Deviations of weights are far below 1, so that it is a far larger step than Baruch et al.'s. */
static void attack_lie_flanders(struct world *w, struct pfl_contribution *in)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = pfl_model_copy(in[0].model);
    PFL_ASSERT(m);
    float *x = (float *)(void *)pfl_model_data_mut(m);
    double z = 0.5 * erfc(-safe_share(w) / sqrt(2.0));
    for (size_t i = 0; i < m->layout->bytes / sizeof(float); i++) {
        double mean, deviation;
        moments(in, 0, w->n, i, &mean, &deviation);
        x[i] = (float)(mean - z * sqrt(deviation));
    }
    send_all(w, in, m);
}

static void attack(const struct args *a, struct world *w, struct pfl_contribution *in)
{
    const char *kind = text(a, "attack", "none");
    if (pfl_streq(kind, "gaussian"))
        attack_gaussian(w, in, number(a, "sigma", 10.0));
    else if (pfl_streq(kind, "lie"))
        attack_lie(w, in, number(a, "z", 0.0));
    else if (pfl_streq(kind, "lie-flanders"))
        attack_lie_flanders(w, in);
}

/* ---- rounds ---- */

static enum pfl_rc contribute(struct world *w, unsigned i, unsigned epochs, uint64_t seed, struct pfl_contribution *ret,
                              size_t *bytes, struct pfl_err *err)
{
    struct pfl_fit_result r;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    enum pfl_rc rc = pfl_method_fit(&w->methods[i], w->model, epochs, seed, &m, &r, err);
    if (rc != PFL_OK)
        return rc;
    ret->n_samples = r.n_samples;
    if (w->spec.n == 0) {
        *bytes += m->layout->bytes;
        ret->model = pfl_steal(&m);
        return PFL_OK;
    }
    static const uint8_t digest[PFL_BASE_DIGEST_LEN] = {1};
    rc = pfl_compress(&w->compressors[i], w->model, digest, m, &blob, &ret->model, err);
    *bytes += rc == PFL_OK ? blob->len : 0;
    return rc;
}

static enum pfl_rc one_round(const struct args *a, struct world *w, unsigned round, struct pfl_err *err)
{
    struct pfl_contribution in[NODES_MAX] = {0};
    struct pfl_model *next = NULL;
    struct pfl_metrics metrics = {0};
    size_t bytes = 0;
    enum pfl_rc rc = PFL_OK;
    for (unsigned i = 0; i < w->n && rc == PFL_OK; i++)
        rc = contribute(w, i, (unsigned)number(a, "epochs", 1), (uint64_t)round * 1000 + i, &in[i], &bytes, err);
    if (rc == PFL_OK)
        attack(a, w, in);
    if (rc == PFL_OK)
        rc = pfl_method_aggregate(&w->methods[0], w->model, false, in, w->n, &next, err);
    if (rc == PFL_OK)
        rc = pfl_method_evaluate(&w->methods[0], next, &metrics, err);
    for (unsigned i = 0; i < w->n; i++)
        pfl_model_unref(in[i].model);
    if (rc != PFL_OK)
        return rc;
    pfl_model_unref(w->model);
    w->model = next;
    printf("{\"round\": %u, \"accuracy\": %.4f, \"loss\": %.4f, \"bytes\": %.0f}\n", round + 1, metrics.accuracy, metrics.loss,
           (double)bytes / w->n);
    return fflush(stdout) == 0 ? PFL_OK : pfl_err_set(err, PFL_IO, "standard output");
}

int main(int argc, char **argv)
{
    const struct args a = {argc - 1, argv + 1};
    static struct world w;
    struct pfl_err err = {0};
    enum pfl_rc rc = make(&a, &w, &err);
    for (unsigned r = 0; r < (unsigned)number(&a, "rounds", 10) && rc == PFL_OK; r++)
        rc = one_round(&a, &w, r, &err);
    unmake(&w);
    if (rc != PFL_OK)
        (void)fprintf(stderr, "federate: %s\n", err.msg);
    return rc == PFL_OK ? 0 : 1;
}
