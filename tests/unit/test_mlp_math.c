/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* Gradient and optimiser against NumPy in float64 (tests/fixtures/mlp), and the gradient against differences of the loss. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "learning/adam.h"
#include "learning/mlp_math.h"

enum { N_PARAMS_MAX = 256, BATCH_MAX = 16 };

/* The reference's net with its batch in place. */
struct fixture {
    json_t *json;
    struct pfl_mlp_net net;
    struct pfl_mlp_work work;
    float params[N_PARAMS_MAX], grad[N_PARAMS_MAX];
    uint8_t labels[BATCH_MAX];
    size_t batch;
};

static double number(const json_t *o, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(o, key), i));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->json = json_load_file(PFL_TEST_FIXTURES "/mlp/reference.json", 0, NULL);
    assert_non_null(f->json);
    size_t widths[4];
    for (size_t i = 0; i < 4; i++)
        widths[i] = (size_t)number(f->json, "widths", i);
    assert_int_equal(pfl_mlp_net_init(&f->net, widths, 4, NULL), PFL_OK);
    assert_true(f->net.n_params <= N_PARAMS_MAX);
    assert_int_equal(json_array_size(json_object_get(f->json, "start")), f->net.n_params);
    f->batch = (size_t)json_integer_value(json_object_get(f->json, "batch"));
    assert_true(f->batch <= BATCH_MAX);
    assert_int_equal(pfl_mlp_work_init(&f->work, &f->net, f->batch, true, NULL), PFL_OK);
    for (size_t i = 0; i < f->net.n_params; i++)
        f->params[i] = (float)number(f->json, "start", i);
    for (size_t i = 0; i < f->batch * widths[0]; i++)
        f->work.act[0][i] = (float)number(f->json, "pixels", i) / 255.0f;
    for (size_t i = 0; i < f->batch; i++)
        f->labels[i] = (uint8_t)number(f->json, "labels", i);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    json_decref(f->json);
    pfl_mlp_work_deinit(&f->work);
    free(f);
    return 0;
}

static void test_gradient__numpy__same_to_float_precision(void **state)
{
    struct fixture *f = *state;
    double loss = pfl_mlp_gradient(&f->net, f->params, &f->work, f->labels, f->batch, f->grad) / (double)f->batch, largest = 0.0;
    assert_true(fabs(loss - json_number_value(json_object_get(f->json, "loss"))) < 1e-6);
    for (size_t i = 0; i < f->net.n_params; i++) {
        double want = number(f->json, "gradient", i);
        largest = fmax(largest, fabs(want));
        if (fabs((double)f->grad[i] - want) > 1e-6)
            fail_msg("parameter %zu: gradient %g, NumPy's is %g", i, (double)f->grad[i], want);
    }
    assert_true(largest > 0.01); /* the reference is not all zeros */
}

static double mean_loss(struct fixture *f)
{
    struct pfl_mlp_score s;
    pfl_mlp_forward(&f->net, f->params, &f->work, f->batch);
    pfl_mlp_score(&f->net, &f->work, f->labels, f->batch, &s);
    return s.loss_sum / (double)f->batch;
}

static void test_gradient__differences_of_the_loss__agree(void **state)
{
    struct fixture *f = *state;
    const float h = 1e-3f;
    double loss = pfl_mlp_gradient(&f->net, f->params, &f->work, f->labels, f->batch, f->grad) / (double)f->batch;
    assert_true(fabs(loss - mean_loss(f)) < 1e-7);
    for (size_t i = 0; i < f->net.n_params; i++) {
        float kept = f->params[i];
        f->params[i] = kept + h;
        double up = mean_loss(f);
        f->params[i] = kept - h;
        double down = mean_loss(f);
        f->params[i] = kept;
        double slope = (up - down) / (2.0 * (double)h);
        if (fabs(slope - (double)f->grad[i]) > 5e-4)
            fail_msg("parameter %zu: gradient %g, the loss changes by %g", i, (double)f->grad[i], slope);
    }
}

static void test_adam__numpy__same_three_steps(void **state)
{
    struct fixture *f = *state;
    float m[N_PARAMS_MAX], v[N_PARAMS_MAX];
    struct pfl_adam adam;
    pfl_adam_init(&adam, json_number_value(json_object_get(f->json, "learning_rate")), m, v, f->net.n_params);
    for (size_t t = 0; t < 3; t++) {
        pfl_mlp_gradient(&f->net, f->params, &f->work, f->labels, f->batch, f->grad);
        pfl_adam_step(&adam, f->params, f->grad);
        const json_t *want = json_array_get(json_object_get(f->json, "steps"), t);
        for (size_t i = 0; i < f->net.n_params; i++) {
            double w = json_number_value(json_array_get(want, i));
            if (fabs((double)f->params[i] - w) > 1e-5)
                fail_msg("step %zu, parameter %zu: %g, NumPy's is %g", t + 1, i, (double)f->params[i], w);
        }
    }
}

static void test_score__large_logits__finite_loss_and_first_of_equals(void **state)
{
    (void)state;
    struct pfl_mlp_net net;
    struct pfl_mlp_work w;
    struct pfl_mlp_score s;
    assert_int_equal(pfl_mlp_net_init(&net, (const size_t[]){1, 3}, 2, NULL), PFL_OK);
    assert_int_equal(pfl_mlp_work_init(&w, &net, 2, false, NULL), PFL_OK);
    const float logits[] = {3e38f, -3e38f, 0.0f, 5.0f, 5.0f, 5.0f};
    memcpy(w.act[1], logits, sizeof(logits));
    pfl_mlp_score(&net, &w, (const uint8_t[]){0, 0}, 2, &s);
    assert_int_equal(s.n_right, 2);
    assert_true(fabs(s.loss_sum - log(3.0)) < 1e-9);
    pfl_mlp_score(&net, &w, (const uint8_t[]){1, 1}, 2, &s);
    assert_int_equal(s.n_right, 0);
    pfl_mlp_work_deinit(&w);
}

static void test_init__uniform_within_the_bound(void **state)
{
    (void)state;
    struct pfl_mlp_net net;
    assert_int_equal(pfl_mlp_net_init(&net, (const size_t[]){100, 50, 10}, 3, NULL), PFL_OK);
    assert_int_equal(net.n_params, 100 * 50 + 50 + 50 * 10 + 10);
    PFL_AUTO(pfl_freep) float *p = calloc(net.n_params, sizeof(*p));
    struct pfl_rng rng;
    pfl_rng_seed(&rng, 1);
    pfl_mlp_init_params(&net, &rng, p);
    for (unsigned l = 0; l < 2; l++) {
        double bound = 1.0 / sqrt((double)net.width[l]), low = 0.0, high = 0.0, sum = 0.0;
        size_t end = net.bias[l] + net.width[l + 1], n = end - net.weight[l];
        for (size_t i = net.weight[l]; i < end; i++) {
            low = fmin(low, (double)p[i]);
            high = fmax(high, (double)p[i]);
            sum += (double)p[i];
        }
        assert_true(low >= -bound && low < -0.95 * bound && high <= bound && high > 0.95 * bound);
        assert_true(fabs(sum / (double)n) < 0.1 * bound);
    }
}

static void test_net__widths_out_of_range__refused(void **state)
{
    (void)state;
    const size_t one[] = {5}, zero[] = {5, 0, 3}, wide[] = {5, PFL_MLP_WIDTH_MAX + 1}, many[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                 heavy[] = {PFL_MLP_WIDTH_MAX, PFL_MLP_WIDTH_MAX};
    struct pfl_mlp_net net = {.n_layers = 77};
    struct pfl_err err = {0};
    assert_int_equal(pfl_mlp_net_init(&net, one, 1, &err), PFL_INVALID);
    assert_int_equal(pfl_mlp_net_init(&net, zero, 3, &err), PFL_INVALID);
    assert_non_null(strstr(err.msg, "width 1 of the MLP is 0"));
    assert_int_equal(pfl_mlp_net_init(&net, wide, 2, &err), PFL_INVALID);
    assert_int_equal(pfl_mlp_net_init(&net, many, 11, &err), PFL_INVALID);
    assert_int_equal(pfl_mlp_net_init(&net, heavy, 2, &err), PFL_TOO_BIG);
    assert_int_equal(net.n_layers, 77);
}

#define WITH_REFERENCE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_net__widths_out_of_range__refused),
        WITH_REFERENCE(test_gradient__numpy__same_to_float_precision),
        WITH_REFERENCE(test_gradient__differences_of_the_loss__agree),
        WITH_REFERENCE(test_adam__numpy__same_three_steps),
        cmocka_unit_test(test_score__large_logits__finite_loss_and_first_of_equals),
        cmocka_unit_test(test_init__uniform_within_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
