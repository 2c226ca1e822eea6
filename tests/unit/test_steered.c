/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* FedProx, FedNova and SCAFFOLD on quadratic losses h/2 (w - t)^2, whose optimum and whose biases under FedAvg are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "learning/method.h"

enum { NODES = 4, DIM = 3 };

struct quadratic {
    struct pfl_layout *layout;
    double h, t[DIM], lr, mu;
    unsigned steps;
    float correction[DIM];
};

static struct pfl_layout *layout_of(void *self)
{
    return ((struct quadratic *)self)->layout;
}

static enum pfl_rc steer(void *self, const struct pfl_fit_steer *s, struct pfl_err *err)
{
    struct quadratic *q = self;
    (void)err;
    q->mu = s ? s->proximal_mu : 0.0;
    memset(q->correction, 0, sizeof(q->correction));
    if (s && s->correction)
        memcpy(q->correction, s->correction->data, sizeof(q->correction));
    return PFL_OK;
}

static enum pfl_rc fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed, void (*progress)(void *, double),
                       void *user, struct pfl_model **ret_model, struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct quadratic *q = self;
    (void)seed, (void)progress, (void)user, (void)err;
    const float *x = (const float *)(const void *)start->data;
    struct pfl_model *m = pfl_model_copy(start);
    float *out = (float *)(void *)pfl_model_data_mut(m);
    for (unsigned i = 0; i < DIM; i++) {
        double w = (double)x[i];
        for (unsigned k = 0; k < epochs * q->steps; k++)
            w -= q->lr * (q->h * (w - q->t[i]) + q->mu * (w - (double)x[i]) + (double)q->correction[i]);
        out[i] = (float)w;
    }
    *ret = (struct pfl_fit_result){
        .n_samples = 10, .n_steps = epochs * q->steps, .learning_rate = q->lr, .normaliser = epochs * q->steps};
    *ret_model = m;
    return PFL_OK;
}

static const struct pfl_learner_ops ops = {.name = "quadratic", .layout = layout_of, .fit = fit, .steer = steer};
static const struct pfl_learner_ops rigid = {.name = "rigid", .layout = layout_of, .fit = fit};

struct world {
    struct pfl_layout *layout;
    struct quadratic q[NODES];
    struct pfl_aggregator aggregator;
    struct pfl_method m[NODES];
    struct pfl_model *model;
};

static void begin(struct world *w, const char *name, double lr, bool curved)
{
    *w = (struct world){0};
    const struct pfl_tensor_desc d = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {DIM}};
    assert_int_equal(pfl_layout_new(&d, 1, &w->layout, NULL), PFL_OK);
    struct pfl_aggregator_params p = pfl_aggregator_params_default();
    p.proximal_mu = 2.0;
    assert_int_equal(pfl_aggregator_make(name, &p, &w->aggregator, NULL), PFL_OK);
    for (unsigned i = 0; i < NODES; i++) {
        w->q[i] = (struct quadratic){.layout = w->layout, .h = curved ? 0.5 + i : 1.0, .lr = lr, .steps = curved ? 10 : 1 + 6 * i};
        for (unsigned k = 0; k < DIM; k++)
            w->q[i].t[k] = (double)((i * 7 + k * 3) % 5) - 1.0;
        assert_int_equal(pfl_method_init(&w->m[i], &w->aggregator, (struct pfl_learner){&ops, &w->q[i]}, NULL), PFL_OK);
    }
    assert_int_equal(pfl_model_new(w->m[0].model, &w->model, NULL), PFL_OK);
}

static void end(struct world *w)
{
    for (unsigned i = 0; i < NODES; i++)
        pfl_method_deinit(&w->m[i]);
    pfl_model_unref(w->model);
    pfl_layout_unref(w->layout);
}

static void contribute(struct world *w, struct pfl_contribution *in)
{
    struct pfl_fit_result r;
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(pfl_method_fit(&w->m[i], w->model, 1, 1, &in[i].model, &r, NULL), PFL_OK);
        in[i].n_samples = r.n_samples;
    }
}

static void rounds(struct world *w, unsigned n)
{
    struct pfl_err err = {0};
    for (unsigned r = 0; r < n; r++) {
        struct pfl_contribution in[NODES];
        struct pfl_model *next = NULL;
        contribute(w, in);
        if (pfl_method_aggregate(&w->m[0], w->model, false, in, NODES, &next, &err) != PFL_OK)
            fail_msg("%s", err.msg);
        for (unsigned i = 0; i < NODES; i++)
            pfl_model_unref(in[i].model);
        pfl_model_unref(w->model);
        w->model = next;
    }
}

static double value(const struct world *w, unsigned k)
{
    return (double)((const float *)(const void *)w->model->data)[k];
}

/* How far from the optimum of the mean loss. */
static double distance(const struct world *w)
{
    double most = 0.0;
    for (unsigned k = 0; k < DIM; k++) {
        double a = 0.0, b = 0.0;
        for (unsigned i = 0; i < NODES; i++) {
            a += w->q[i].h * w->q[i].t[k];
            b += w->q[i].h;
        }
        most = fmax(most, fabs(value(w, k) - a / b));
    }
    return most;
}

static double distance_after(const char *name, double lr, bool curved, unsigned n)
{
    struct world w;
    begin(&w, name, lr, curved);
    rounds(&w, n);
    double d = distance(&w);
    end(&w);
    return d;
}

static void test_scaffold__other_data_on_each_node__no_drift(void **state)
{
    (void)state;
    assert_true(distance_after("fedavg", 0.1, true, 400) > 0.1); /* client drift */
    assert_true(distance_after("scaffold", 0.1, true, 400) < 1e-3);
}

static void test_fednova__other_numbers_of_steps__no_bias(void **state)
{
    (void)state;
    double avg = distance_after("fedavg", 0.005, false, 2000), nova = distance_after("fednova", 0.005, false, 2000);
    assert_true(avg > 0.3 && nova < 0.1 * avg);
}

static void test_fedprox__pull_to_the_start(void **state)
{
    (void)state;
    struct world w;
    struct pfl_contribution far[NODES], near[NODES];
    begin(&w, "fedavg", 0.1, true);
    contribute(&w, far);
    end(&w);
    begin(&w, "fedprox", 0.1, true);
    contribute(&w, near);
    end(&w);
    for (unsigned i = 0; i < NODES; i++) {
        for (unsigned k = 0; k < DIM; k++) {
            float f = ((const float *)(const void *)far[i].model->data)[k],
                  n = ((const float *)(const void *)near[i].model->data)[k];
            assert_true(fabsf(n) < fabsf(f) || f == 0.0F);
        }
        pfl_model_unref(far[i].model);
        pfl_model_unref(near[i].model);
    }
}

/* Option II, after one round from zero: c_i is the mean gradient on the way, c their mean. */
static void test_scaffold__first_round__variates(void **state)
{
    (void)state;
    struct world w;
    struct pfl_contribution in[NODES];
    begin(&w, "scaffold", 0.1, true);
    contribute(&w, in);
    struct pfl_model *next = NULL;
    assert_int_equal(pfl_method_aggregate(&w.m[0], w.model, false, in, NODES, &next, NULL), PFL_OK);
    const float *x = (const float *)(const void *)next->data;
    for (unsigned k = 0; k < DIM; k++) {
        double mean = 0.0, moved = 0.0;
        for (unsigned i = 0; i < NODES; i++) {
            const float *c = (const float *)(const void *)in[i].model->data;
            assert_true(fabs((double)c[DIM + k] + (double)c[k] / (10 * 0.1)) < 1e-6);
            assert_true(((const float *)(const void *)w.m[i].variate->data)[k] == c[DIM + k]);
            mean += (double)c[DIM + k] / NODES;
            moved += (double)c[k] / NODES;
        }
        assert_true(fabs((double)x[k] - moved) < 1e-6 && fabs((double)x[DIM + k] - mean) < 1e-6);
    }
    assert_string_equal(next->layout->tensors[1].name, "@c.w");
    assert_string_equal(in[0].model->layout->tensors[1].name, "@delta_c.w");
    for (unsigned i = 0; i < NODES; i++)
        pfl_model_unref(in[i].model);
    pfl_model_unref(next);
    end(&w);
}

/* Several contributions as one, and then the rest: the same as all at once. */
static void test_fednova__partial__same_result(void **state)
{
    (void)state;
    struct world w;
    struct pfl_contribution in[NODES], two[3];
    struct pfl_model *all = NULL, *some = NULL, *again = NULL;
    begin(&w, "fednova", 0.05, false);
    contribute(&w, in);
    in[1].n_samples = 35;
    assert_int_equal(pfl_method_aggregate(&w.m[0], w.model, false, in, NODES, &all, NULL), PFL_OK);
    assert_int_equal(pfl_method_aggregate(&w.m[0], w.model, true, in + 1, 2, &some, NULL), PFL_OK);
    assert_int_equal(pfl_layout_check_same(some->layout, w.m[0].contribution, NULL), PFL_OK);
    two[0] = in[0];
    two[1] = (struct pfl_contribution){some, in[1].n_samples + in[2].n_samples};
    two[2] = in[3];
    assert_int_equal(pfl_method_aggregate(&w.m[0], w.model, false, two, 3, &again, NULL), PFL_OK);
    for (unsigned k = 0; k < DIM; k++) {
        double a = (double)((const float *)(const void *)all->data)[k], b = (double)((const float *)(const void *)again->data)[k];
        assert_true(fabs(a - b) < 2e-6);
    }
    assert_int_equal(all->layout->n, 1);
    for (unsigned i = 0; i < NODES; i++)
        pfl_model_unref(in[i].model);
    pfl_model_unref(all);
    pfl_model_unref(some);
    pfl_model_unref(again);
    end(&w);
}

static void test_method__learner_that_cannot_be_steered__refused(void **state)
{
    (void)state;
    struct world w;
    struct pfl_method m = {0};
    struct pfl_err err = {0};
    begin(&w, "scaffold", 0.1, true);
    assert_int_equal(pfl_method_init(&m, pfl_aggregator_find("FedProx"), (struct pfl_learner){&rigid, &w.q[0]}, &err),
                     PFL_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "aggregator 'fedprox' needs a learner whose training it can change; 'rigid' is none"));
    assert_int_equal(pfl_method_init(&m, pfl_aggregator_find("FedAvg"), (struct pfl_learner){&rigid, &w.q[0]}, &err), PFL_OK);
    pfl_method_deinit(&m);
    end(&w);
}

static void test_scaffold__another_experiment__begins_anew(void **state)
{
    (void)state;
    struct world w;
    begin(&w, "scaffold", 0.1, true);
    rounds(&w, 3);
    assert_non_null(w.m[0].variate);
    memset(pfl_model_data_mut(w.model), 0, w.model->layout->bytes);
    struct pfl_contribution in[NODES];
    contribute(&w, in);
    const float *c = (const float *)(const void *)in[1].model->data;
    assert_true(fabs((double)c[DIM] + (double)c[0] / (10 * 0.1)) < 1e-6); /* as in a first round */
    for (unsigned i = 0; i < NODES; i++)
        pfl_model_unref(in[i].model);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scaffold__other_data_on_each_node__no_drift),
        cmocka_unit_test(test_fednova__other_numbers_of_steps__no_bias),
        cmocka_unit_test(test_fedprox__pull_to_the_start),
        cmocka_unit_test(test_scaffold__first_round__variates),
        cmocka_unit_test(test_fednova__partial__same_result),
        cmocka_unit_test(test_method__learner_that_cannot_be_steered__refused),
        cmocka_unit_test(test_scaffold__another_experiment__begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
