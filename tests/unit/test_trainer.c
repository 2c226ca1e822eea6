/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "learning/trainer.h"

enum { FEATURES = 16, CLASSES = 4 };

/* Noise with four bright pixels that give the class away. */
static struct pfl_dataset *blobs(size_t n, uint64_t seed)
{
    uint8_t *images = calloc(n, FEATURES), *labels = calloc(n, 1);
    struct pfl_rng rng;
    pfl_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        labels[i] = (uint8_t)pfl_rng_below(&rng, CLASSES);
        for (unsigned p = 0; p < FEATURES; p++)
            images[i * FEATURES + p] = (uint8_t)(pfl_rng_below(&rng, 100) + (p / 4 == labels[i] ? 120 : 0));
    }
    struct pfl_dataset *d = NULL;
    assert_int_equal(pfl_dataset_new(images, labels, n, FEATURES, CLASSES, &d, NULL), PFL_OK);
    free(images);
    free(labels);
    return d;
}

static const struct pfl_trainer_opts OPTS = {
    .net = {.hidden = {12, 8}, .n_hidden = 2}, .optimiser = {.learning_rate = 0.01}, .batch_size = 32, .threads = 1, .seed = 3};

static struct pfl_learner learner(const struct pfl_trainer_opts *o, size_t n_train)
{
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *train = blobs(n_train, 1);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *test = blobs(1500, 2); /* a whole batch of evaluation and a part of one */
    struct pfl_learner l;
    struct pfl_err err = {0};
    if (pfl_trainer_new(o, train, test, &l, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return l;
}

static struct pfl_model *init(const struct pfl_learner *l)
{
    struct pfl_model *m = NULL;
    assert_int_equal(l->ops->init(l->self, &m, NULL), PFL_OK);
    return m;
}

static struct pfl_model *fit(const struct pfl_learner *l, struct pfl_model *start, unsigned epochs, uint64_t seed,
                             struct pfl_fit_result *r)
{
    struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    if (l->ops->fit(l->self, start, epochs, seed, NULL, NULL, &m, r, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return m;
}

static bool same(const struct pfl_model *a, const struct pfl_model *b)
{
    return a->layout->bytes == b->layout->bytes && memcmp(a->data, b->data, a->layout->bytes) == 0;
}

static void test_new__options_out_of_range__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = blobs(10, 1);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *other = NULL;
    assert_int_equal(pfl_dataset_new((const uint8_t[]){1, 2}, (const uint8_t[]){0}, 1, 2, CLASSES, &other, NULL), PFL_OK);
    struct pfl_trainer_opts bad[8];
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++)
        bad[i] = OPTS;
    bad[0].optimiser.learning_rate = 0.0;
    bad[1].optimiser.learning_rate = NAN;
    bad[2].batch_size = 0;
    bad[3].batch_size = PFL_NET_BATCH_MAX + 1;
    bad[4].net.n_hidden = PFL_NET_HIDDEN_MAX + 1;
    bad[5].net.hidden[1] = 0;
    bad[6].net.hidden[0] = PFL_NET_WIDTH_MAX + 1;
    bad[7].threads = 100000;
    struct pfl_learner l = {0};
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        struct pfl_err err = {0};
        if (pfl_trainer_new(&bad[i], d, d, &l, &err) != PFL_INVALID || !err.msg[0])
            fail_msg("row %zu is not refused", i);
    }
    assert_int_equal(pfl_trainer_new(&OPTS, d, other, &l, NULL), PFL_INVALID);
    assert_null(l.self);
    assert_int_equal(atomic_load(&d->refs), 1);
}

static void test_layout__names_and_shapes_of_pytorch(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned rank;
        size_t shape[2];
    } want[] = {{"layers.0.weight", 2, {12, 16}}, {"layers.0.bias", 1, {12}},     {"layers.1.weight", 2, {8, 12}},
                {"layers.1.bias", 1, {8}},        {"layers.2.weight", 2, {4, 8}}, {"layers.2.bias", 1, {4}}};
    struct pfl_learner l = learner(&OPTS, 100);
    const struct pfl_layout *layout = l.ops->layout(l.self);
    assert_int_equal(layout->n, PFL_ARRAY_LEN(want));
    for (size_t i = 0; i < layout->n; i++) {
        assert_string_equal(layout->tensors[i].name, want[i].name);
        assert_int_equal(layout->tensors[i].dtype, PFL_F32);
        assert_int_equal(layout->tensors[i].rank, want[i].rank);
        for (unsigned k = 0; k < want[i].rank; k++)
            assert_int_equal(layout->tensors[i].shape[k], want[i].shape[k]);
    }
    l.ops->free(l.self);
}

static void test_fit__model_of_another_layout__refused(void **state)
{
    (void)state;
    struct pfl_trainer_opts o = OPTS;
    o.net.hidden[0] = 13;
    struct pfl_learner a = learner(&OPTS, 100), b = learner(&o, 100);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = init(&b);
    struct pfl_model *out = NULL;
    struct pfl_fit_result r;
    struct pfl_metrics metrics;
    struct pfl_err err = {0};
    assert_int_equal(a.ops->fit(a.self, m, 1, 0, NULL, NULL, &out, &r, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "layers.0.weight"));
    assert_int_equal(a.ops->evaluate(a.self, m, &metrics, &err), PFL_MALFORMED);
    assert_null(out);
    a.ops->free(a.self);
    b.ops->free(b.self);
}

static void test_fit__diverges__refused(void **state)
{
    (void)state;
    struct pfl_trainer_opts o = OPTS;
    o.optimiser.learning_rate = 1e38;
    struct pfl_learner l = learner(&o, 200);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = init(&l);
    struct pfl_model *out = NULL;
    struct pfl_fit_result r;
    struct pfl_err err = {0};
    assert_int_equal(l.ops->fit(l.self, m, 3, 0, NULL, NULL, &out, &r, &err), PFL_INVALID);
    assert_non_null(strstr(err.msg, "learning rate"));
    assert_null(out);
    l.ops->free(l.self);
}

static void test_init__by_seed(void **state)
{
    (void)state;
    struct pfl_trainer_opts o = OPTS;
    o.seed = 4;
    struct pfl_learner a = learner(&OPTS, 100), b = learner(&OPTS, 50), c = learner(&o, 100);
    PFL_AUTO(pfl_model_freep) struct pfl_model *ma = init(&a);
    PFL_AUTO(pfl_model_freep) struct pfl_model *mb = init(&b);
    PFL_AUTO(pfl_model_freep) struct pfl_model *mc = init(&c);
    assert_true(same(ma, mb)); /* the data does not matter */
    assert_false(same(ma, mc));
    a.ops->free(a.self);
    b.ops->free(b.self);
    c.ops->free(c.self);
}

static void test_fit__learns_and_leaves_the_start_alone(void **state)
{
    (void)state;
    struct pfl_learner l = learner(&OPTS, 1001);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&l);
    PFL_AUTO(pfl_model_freep) struct pfl_model *kept = pfl_model_copy(start);
    struct pfl_metrics before, after;
    struct pfl_fit_result first, r;
    assert_int_equal(l.ops->evaluate(l.self, start, &before, NULL), PFL_OK);
    pfl_model_unref(fit(&l, start, 1, 9, &first));
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = fit(&l, start, 4, 9, &r);
    assert_int_equal(l.ops->evaluate(l.self, m, &after, NULL), PFL_OK);
    assert_true(same(start, kept));
    assert_true(before.accuracy < 0.6 && after.accuracy > 0.95 && after.loss < before.loss / 2.0);
    assert_true(r.loss < first.loss);
    assert_int_equal(r.n_samples, 1001);
    assert_int_equal(r.n_steps, 4 * 32); /* the 32nd batch of each epoch has 9 samples */
    assert_int_equal(after.n_samples, 1500);
    l.ops->free(l.self);
}

static void test_fit__same_seed__same_bytes(void **state)
{
    (void)state;
    struct pfl_learner a = learner(&OPTS, 500), b = learner(&OPTS, 500);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&a);
    struct pfl_fit_result ra, rb, rc;
    PFL_AUTO(pfl_model_freep) struct pfl_model *warm = fit(&a, start, 1, 5, &ra); /* a fit before leaves nothing behind */
    PFL_AUTO(pfl_model_freep) struct pfl_model *ma = fit(&a, start, 2, 7, &ra);
    PFL_AUTO(pfl_model_freep) struct pfl_model *mb = fit(&b, start, 2, 7, &rb);
    PFL_AUTO(pfl_model_freep) struct pfl_model *mc = fit(&b, start, 2, 8, &rc);
    assert_true(same(ma, mb));
    assert_true(ra.loss == rb.loss);
    assert_false(same(ma, mc));
    assert_false(same(ma, warm));
    a.ops->free(a.self);
    b.ops->free(b.self);
}

static void test_fit__no_epochs__the_start(void **state)
{
    (void)state;
    struct pfl_learner l = learner(&OPTS, 100);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&l);
    struct pfl_fit_result r;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = fit(&l, start, 0, 1, &r);
    assert_true(same(start, m));
    assert_int_equal(r.n_steps, 0);
    l.ops->free(l.self);
}

/* Progress that interrupts at 10 percent. */
struct watch {
    const struct pfl_learner *l;
    double last;
    unsigned n;
    bool interrupt;
};

static void on_progress(void *user, double done)
{
    struct watch *w = user;
    assert_true(done > w->last && done <= 1.0);
    w->last = done;
    w->n++;
    if (w->interrupt && done >= 0.1)
        w->l->ops->interrupt(w->l->self);
}

static void test_fit__interrupted__canceled_and_the_next_call_starts_fresh(void **state)
{
    (void)state;
    struct pfl_learner l = learner(&OPTS, 3200);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&l);
    struct pfl_model *out = NULL;
    struct pfl_fit_result r;
    struct pfl_err err = {0};
    struct watch w = {.l = &l, .interrupt = true};
    assert_int_equal(l.ops->fit(l.self, start, 5, 1, on_progress, &w, &out, &r, &err), PFL_CANCELED);
    assert_null(out);
    assert_true(w.last < 0.12);
    l.ops->interrupt(l.self); /* between calls: forgotten */
    struct watch rest = {.l = &l};
    assert_int_equal(l.ops->fit(l.self, start, 1, 1, on_progress, &rest, &out, &r, &err), PFL_OK);
    assert_true(rest.last == 1.0 && rest.n == 100);
    pfl_model_unref(out);
    struct pfl_metrics metrics;
    l.ops->interrupt(l.self);
    assert_int_equal(l.ops->evaluate(l.self, start, &metrics, &err), PFL_OK);
    l.ops->free(l.self);
}

struct pest {
    struct pfl_learner l;
    atomic_bool done;
};

static void *interrupt_until_told(void *arg)
{
    struct pest *x = arg;
    while (!atomic_load(&x->done))
        x->l.ops->interrupt(x->l.self);
    return NULL;
}

static void test_fit_and_evaluate__interrupted_from_another_thread__canceled(void **state)
{
    (void)state;
    struct pest x = {.l = learner(&OPTS, 3200)};
    pthread_t thread;
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&x.l);
    struct pfl_model *out = NULL;
    struct pfl_fit_result r;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_until_told, &x), 0);
    enum pfl_rc rc = x.l.ops->fit(x.l.self, start, 100000, 1, NULL, NULL, &out, &r, NULL);
    enum pfl_rc eval_rc = PFL_OK;
    struct pfl_metrics metrics;
    for (int i = 0; i < 100000 && eval_rc == PFL_OK; i++) /* one evaluation may be over before an interrupt meets it */
        eval_rc = x.l.ops->evaluate(x.l.self, start, &metrics, NULL);
    atomic_store(&x.done, true);
    pthread_join(thread, NULL);
    assert_int_equal(rc, PFL_CANCELED);
    assert_int_equal(eval_rc, PFL_CANCELED);
    assert_null(out);
    x.l.ops->free(x.l.self);
}

static void test_fit__no_hidden_layer_and_a_batch_larger_than_the_data__learns(void **state)
{
    (void)state;
    struct pfl_trainer_opts o = OPTS;
    o.net.n_hidden = 0;
    o.batch_size = 5000;
    o.optimiser.learning_rate = 0.1;
    struct pfl_learner l = learner(&o, 300);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&l);
    struct pfl_fit_result r;
    struct pfl_metrics metrics;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = fit(&l, start, 30, 1, &r);
    assert_int_equal(l.ops->layout(l.self)->n, 2);
    assert_int_equal(r.n_steps, 30);
    assert_int_equal(l.ops->evaluate(l.self, m, &metrics, NULL), PFL_OK);
    assert_true(metrics.accuracy > 0.95);
    l.ops->free(l.self);
}

static const struct pfl_trainer_opts SGD = {.net = {.hidden = {12}, .n_hidden = 1},
                                            .optimiser = {.kind = PFL_OPTIMISER_SGD, .learning_rate = 0.05, .momentum = 0.5},
                                            .batch_size = 64,
                                            .threads = 1,
                                            .seed = 3};

static void steer(const struct pfl_learner *l, double mu, struct pfl_model *correction)
{
    const struct pfl_fit_steer s = {.proximal_mu = mu, .correction = correction};
    assert_int_equal(l->ops->steer(l->self, &s, NULL), PFL_OK);
}

static double distance(const struct pfl_model *a, const struct pfl_model *b)
{
    const float *x = (const float *)(const void *)a->data, *y = (const float *)(const void *)b->data;
    double sum = 0.0;
    for (size_t i = 0; i < a->layout->bytes / 4; i++)
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sqrt(sum);
}

static void test_steer__correction__each_step_moves_against_it(void **state)
{
    (void)state;
    struct pfl_trainer_opts o = SGD;
    o.optimiser.momentum = 0.0;
    o.batch_size = 5000;
    struct pfl_learner l = learner(&o, 200);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&l);
    PFL_AUTO(pfl_model_freep) struct pfl_model *c = NULL;
    struct pfl_fit_result r;
    assert_int_equal(pfl_model_new(start->layout, &c, NULL), PFL_OK);
    float *v = (float *)(void *)pfl_model_data_mut(c);
    for (size_t i = 0; i < c->layout->bytes / 4; i++)
        v[i] = (float)(i % 7) - 3.0f;
    PFL_AUTO(pfl_model_freep) struct pfl_model *plain = fit(&l, start, 1, 1, &r);
    steer(&l, 0.0, c);
    PFL_AUTO(pfl_model_freep) struct pfl_model *steered = fit(&l, start, 1, 1, &r); /* one step */
    const float *a = (const float *)(const void *)plain->data, *b = (const float *)(const void *)steered->data;
    for (size_t i = 0; i < c->layout->bytes / 4; i++)
        assert_true(fabs((double)(a[i] - b[i]) - 0.05 * (double)v[i]) < 1e-6);
    assert_int_equal(l.ops->steer(l.self, NULL, NULL), PFL_OK);
    PFL_AUTO(pfl_model_freep) struct pfl_model *again = fit(&l, start, 1, 1, &r);
    assert_true(same(plain, again));
    l.ops->free(l.self);
}

static void test_steer__proximal_term__stays_nearer_the_start(void **state)
{
    (void)state;
    struct pfl_learner l = learner(&SGD, 640);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&l);
    double last = 1e9;
    static const double mus[] = {0.0, 0.1, 1.0, 5.0};
    for (size_t i = 0; i < PFL_ARRAY_LEN(mus); i++) {
        struct pfl_fit_result r;
        steer(&l, mus[i], NULL);
        PFL_AUTO(pfl_model_freep) struct pfl_model *m = fit(&l, start, 5, 1, &r);
        double d = distance(m, start);
        assert_true(d > 0.0 && d < last);
        last = d;
    }
    l.ops->free(l.self);
}

/* FedNova's a for momentum rho is the sum over the steps of (1 - rho^k) / (1 - rho); Wang et al. 2020, section 4. */
static void test_fit__normaliser__as_in_fednova(void **state)
{
    (void)state;
    struct pfl_learner l = learner(&SGD, 640), adam = learner(&OPTS, 640);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = init(&l);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start_adam = init(&adam);
    struct pfl_fit_result r;
    double want = 0.0;
    pfl_model_unref(fit(&l, start, 2, 1, &r));
    for (int k = 1; k <= 20; k++)
        want += (1.0 - pow(0.5, k)) / 0.5;
    assert_int_equal(r.n_steps, 20);
    assert_true(fabs(r.normaliser - want) < 1e-9);
    assert_true(r.learning_rate == 0.05);
    pfl_model_unref(fit(&adam, start_adam, 2, 1, &r));
    assert_true(r.normaliser == 40.0);
    l.ops->free(l.self);
    adam.ops->free(adam.self);
}

static void test_steer__out_of_range_or_another_layout__refused(void **state)
{
    (void)state;
    struct pfl_learner l = learner(&SGD, 100), other = learner(&OPTS, 100);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = init(&other);
    assert_int_equal(l.ops->steer(l.self, &(struct pfl_fit_steer){.proximal_mu = -1.0}, NULL), PFL_INVALID);
    assert_int_equal(l.ops->steer(l.self, &(struct pfl_fit_steer){.proximal_mu = NAN}, NULL), PFL_INVALID);
    assert_int_equal(l.ops->steer(l.self, &(struct pfl_fit_steer){.correction = m}, NULL), PFL_MALFORMED);
    assert_int_equal(atomic_load(&m->refs), 1);
    l.ops->free(l.self);
    other.ops->free(other.self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steer__correction__each_step_moves_against_it),
        cmocka_unit_test(test_steer__proximal_term__stays_nearer_the_start),
        cmocka_unit_test(test_fit__normaliser__as_in_fednova),
        cmocka_unit_test(test_steer__out_of_range_or_another_layout__refused),
        cmocka_unit_test(test_new__options_out_of_range__refused),
        cmocka_unit_test(test_fit__model_of_another_layout__refused),
        cmocka_unit_test(test_fit__diverges__refused),
        cmocka_unit_test(test_layout__names_and_shapes_of_pytorch),
        cmocka_unit_test(test_init__by_seed),
        cmocka_unit_test(test_fit__learns_and_leaves_the_start_alone),
        cmocka_unit_test(test_fit__same_seed__same_bytes),
        cmocka_unit_test(test_fit__no_epochs__the_start),
        cmocka_unit_test(test_fit__interrupted__canceled_and_the_next_call_starts_fresh),
        cmocka_unit_test(test_fit_and_evaluate__interrupted_from_another_thread__canceled),
        cmocka_unit_test(test_fit__no_hidden_layer_and_a_batch_larger_than_the_data__learns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
