/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* timeout: 240 */
/* Gradient and optimiser against NumPy in float64 (tests/fixtures/mlp), and the gradient against differences of the loss. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "learning/optimiser.h"
#include "learning/net.h"

enum { N_PARAMS_MAX = 256, BATCH_MAX = 16 };

/* The reference's net with its batch in place. */
struct fixture {
    json_t *json;
    struct pfl_net net;
    struct pfl_net_work work;
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
    struct pfl_net_spec spec = {.n_hidden = 2};
    for (size_t i = 0; i < 2; i++)
        spec.hidden[i] = (unsigned)number(f->json, "widths", i + 1);
    const struct pfl_shape3 input = {(size_t)number(f->json, "widths", 0), 1, 1};
    assert_int_equal(pfl_net_make(&spec, input, (size_t)number(f->json, "widths", 3), &f->net, NULL), PFL_OK);
    assert_true(f->net.n_params <= N_PARAMS_MAX);
    assert_int_equal(json_array_size(json_object_get(f->json, "start")), f->net.n_params);
    f->batch = (size_t)json_integer_value(json_object_get(f->json, "batch"));
    assert_true(f->batch <= BATCH_MAX);
    assert_int_equal(pfl_net_work_init(&f->work, &f->net, f->batch, true, NULL), PFL_OK);
    for (size_t i = 0; i < f->net.n_params; i++)
        f->params[i] = (float)number(f->json, "start", i);
    for (size_t i = 0; i < f->batch * f->net.n_features; i++)
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
    pfl_net_work_deinit(&f->work);
    free(f);
    return 0;
}

static void test_gradient__numpy__same_to_float_precision(void **state)
{
    struct fixture *f = *state;
    double loss = pfl_net_gradient(&f->net, f->params, &f->work, f->labels, f->batch, f->grad) / (double)f->batch, largest = 0.0;
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
    struct pfl_net_score s;
    pfl_net_forward(&f->net, f->params, &f->work, f->batch);
    pfl_net_score(&f->net, &f->work, f->labels, f->batch, &s);
    return s.loss_sum / (double)f->batch;
}

static void test_gradient__differences_of_the_loss__agree(void **state)
{
    struct fixture *f = *state;
    const float h = 1e-3f;
    double loss = pfl_net_gradient(&f->net, f->params, &f->work, f->labels, f->batch, f->grad) / (double)f->batch;
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
    PFL_AUTO(pfl_optimiser_deinit) struct pfl_optimiser adam = {0};
    const struct pfl_optimiser_opts o = {.learning_rate = json_number_value(json_object_get(f->json, "learning_rate"))};
    assert_int_equal(pfl_optimiser_init(&adam, &o, f->net.n_params, NULL), PFL_OK);
    for (size_t t = 0; t < 3; t++) {
        pfl_net_gradient(&f->net, f->params, &f->work, f->labels, f->batch, f->grad);
        pfl_optimiser_step(&adam, f->params, f->grad);
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
    struct pfl_net net;
    struct pfl_net_work w;
    struct pfl_net_score s;
    assert_int_equal(pfl_net_make(&(struct pfl_net_spec){0}, (struct pfl_shape3){1, 1, 1}, 3, &net, NULL), PFL_OK);
    assert_int_equal(pfl_net_work_init(&w, &net, 2, false, NULL), PFL_OK);
    const float logits[] = {3e38f, -3e38f, 0.0f, 5.0f, 5.0f, 5.0f};
    memcpy(w.act[1], logits, sizeof(logits));
    pfl_net_score(&net, &w, (const uint8_t[]){0, 0}, 2, &s);
    assert_int_equal(s.n_right, 2);
    assert_true(fabs(s.loss_sum - log(3.0)) < 1e-9);
    pfl_net_score(&net, &w, (const uint8_t[]){1, 1}, 2, &s);
    assert_int_equal(s.n_right, 0);
    pfl_net_work_deinit(&w);
}

static void test_init__uniform_within_the_bound(void **state)
{
    (void)state;
    struct pfl_net net;
    assert_int_equal(
        pfl_net_make(&(struct pfl_net_spec){.hidden = {50}, .n_hidden = 1}, (struct pfl_shape3){100, 1, 1}, 10, &net, NULL),
        PFL_OK);
    assert_int_equal(net.n_params, 100 * 50 + 50 + 50 * 10 + 10);
    PFL_AUTO(pfl_freep) float *p = calloc(net.n_params, sizeof(*p));
    struct pfl_rng rng;
    pfl_rng_seed(&rng, 1);
    pfl_net_init_params(&net, &rng, p);
    for (unsigned l = 0; l < 2; l++) {
        const struct pfl_layer *y = &net.layers[l];
        double bound = 1.0 / sqrt((double)y->in.channels), low = 0.0, high = 0.0, sum = 0.0;
        size_t end = y->bias + y->out.channels, n = end - y->weight;
        for (size_t i = y->weight; i < end; i++) {
            low = fmin(low, (double)p[i]);
            high = fmax(high, (double)p[i]);
            sum += (double)p[i];
        }
        assert_true(low >= -bound && low < -0.95 * bound && high <= bound && high > 0.95 * bound);
        assert_true(fabs(sum / (double)n) < 0.1 * bound);
    }
}

static void test_make__out_of_range__refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct pfl_net_spec spec;
        struct pfl_shape3 input;
        size_t classes;
        enum pfl_rc rc;
        const char *says;
    } rows[] = {
        {"hidden layer of nothing", {.hidden = {5, 0}, .n_hidden = 2}, {3, 1, 1}, 2, PFL_INVALID, "'layers.1' has 0 values"},
        {"too wide", {.hidden = {PFL_NET_WIDTH_MAX + 1}, .n_hidden = 1}, {3, 1, 1}, 2, PFL_INVALID, "layers.0"},
        {"too many layers", {.n_hidden = PFL_NET_HIDDEN_MAX + 1}, {3, 1, 1}, 2, PFL_INVALID, "9 hidden layers"},
        {"too heavy", {.hidden = {1 << 20}, .n_hidden = 1}, {1 << 20, 1, 1}, 2, PFL_TOO_BIG, "parameters"},
        {"no features", {0}, {0, 1, 1}, 2, PFL_INVALID, "samples of 0 values"},
        {"no classes", {0}, {3, 1, 1}, 0, PFL_INVALID, "0 classes"},
        {"a CNN of rows", {.kind = PFL_NET_CNN}, {784, 1, 1}, 10, PFL_INVALID, "needs images"},
        {"images too small", {.kind = PFL_NET_LENET5}, {1, 6, 6}, 10, PFL_INVALID, "too small for layer 'conv2'"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_net net = {.n_layers = 77};
        struct pfl_err err = {0};
        enum pfl_rc rc = pfl_net_make(&rows[i].spec, rows[i].input, rows[i].classes, &net, &err);
        if (rc != rows[i].rc || !strstr(err.msg, rows[i].says) || net.n_layers != 77)
            fail_msg("%s: %d \"%s\"", rows[i].name, (int)rc, err.msg);
    }
}

static void test_layouts__names_shapes_and_sizes_of_pytorch(void **state)
{
    (void)state;
    static const struct {
        enum pfl_net_kind kind;
        struct pfl_shape3 input;
        size_t n_params, n_tensors;
        const char *first, *last;
        size_t shape[4];
    } rows[] = {
        {PFL_NET_CNN, {1, 28, 28}, 1663370, 8, "conv1.weight", "fc2.bias", {32, 1, 5, 5}}, /* McMahan et al. 2017, section 3 */
        {PFL_NET_LENET5, {1, 28, 28}, 61706, 10, "conv1.weight", "fc3.bias", {6, 1, 5, 5}},
        {PFL_NET_LENET5, {3, 32, 32}, 62006, 10, "conv1.weight", "fc3.bias", {6, 3, 5, 5}},
        {PFL_NET_LOGISTIC, {1, 28, 28}, 7850, 2, "linear.weight", "linear.bias", {10, 784}},
        {PFL_NET_RESNET8, {3, 32, 32}, 75050, 16, "conv1.weight", "fc.bias", {16, 3, 3, 3}},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_net net;
        PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = NULL;
        const struct pfl_net_spec spec = {.kind = rows[i].kind};
        assert_int_equal(pfl_net_make(&spec, rows[i].input, 10, &net, NULL), PFL_OK);
        assert_int_equal(net.n_params, rows[i].n_params);
        assert_int_equal(pfl_net_layout(&net, &l, NULL), PFL_OK);
        assert_int_equal(l->n, rows[i].n_tensors);
        assert_int_equal(l->bytes, 4 * net.n_params);
        assert_string_equal(l->tensors[0].name, rows[i].first);
        assert_string_equal(l->tensors[l->n - 1].name, rows[i].last);
        for (unsigned k = 0; k < l->tensors[0].rank; k++)
            assert_int_equal(l->tensors[0].shape[k], rows[i].shape[k]);
    }
}

/* Every parameter's gradient (or each of a sample of them) against the difference of the loss, in a net of this kind. Max pooling
 * and ReLU have kinks, so a few differences may be off; a wrong gradient is off everywhere. */
static void check_numerically(enum pfl_net_kind kind, enum pfl_activation a, struct pfl_shape3 input)
{
    enum { BATCH = 3, CHECKS = 300 };
    struct pfl_net net;
    struct pfl_net_work w;
    struct pfl_rng rng;
    const uint8_t labels[BATCH] = {0, 2, 1};
    const struct pfl_net_spec spec = {.kind = kind, .hidden = {9, 7}, .n_hidden = 2, .activation = a};
    assert_int_equal(pfl_net_make(&spec, input, 3, &net, NULL), PFL_OK);
    assert_int_equal(pfl_net_work_init(&w, &net, BATCH, true, NULL), PFL_OK);
    PFL_AUTO(pfl_freep) float *p = calloc(net.n_params, sizeof(*p));
    PFL_AUTO(pfl_freep) float *grad = calloc(net.n_params, sizeof(*grad));
    pfl_rng_seed(&rng, 5);
    pfl_net_init_params(&net, &rng, p);
    for (size_t i = 0; i < net.n_params; i++)
        p[i] += 0.05f * (float)pfl_rng_normal(&rng); /* what begins at zero is looked at, too */
    for (size_t i = 0; i < BATCH * net.n_features; i++)
        w.act[0][i] = (float)pfl_rng_normal(&rng);
    pfl_net_gradient(&net, p, &w, labels, BATCH, grad);
    unsigned off = 0, layer = 0, checked = 0;
    double seen = 0.0;
    for (unsigned i = 0; i < CHECKS; i++) {
        while (net.layers[layer = (layer + 1) % net.n_layers].fan_in == 0) {
        } /* all layers alike, however small */
        const struct pfl_layer *l = &net.layers[layer];
        size_t end = l->bias + (l->kind == PFL_LAYER_CONV ? l->out.channels : pfl_shape3_size(l->out));
        size_t at = i % 5 == 0 ? l->bias + pfl_rng_below(&rng, end - l->bias) : l->weight + pfl_rng_below(&rng, end - l->weight);
        const float h = 2e-3f, kept = p[at];
        struct pfl_net_score up, down;
        p[at] = kept + h;
        pfl_net_forward(&net, p, &w, BATCH);
        pfl_net_score(&net, &w, labels, BATCH, &up);
        p[at] = kept - h;
        pfl_net_forward(&net, p, &w, BATCH);
        pfl_net_score(&net, &w, labels, BATCH, &down);
        p[at] = kept;
        double slope = (up.loss_sum - down.loss_sum) / (2.0 * (double)h * BATCH), got = (double)grad[at];
        seen = fmax(seen, fabs(got));
        off += fabs(slope - got) > 2e-3 + 0.02 * fabs(slope);
        checked++;
    }
    if (off > checked / 20 || seen < 0.01)
        fail_msg("kind %d, %s: %u of %u gradients differ from the differences of the loss (largest %g)", (int)kind,
                 pfl_activation_name(a), off, checked, seen);
    pfl_net_work_deinit(&w);
}

static void test_gradients__every_model__as_the_loss_changes(void **state)
{
    (void)state;
    check_numerically(PFL_NET_MLP, PFL_ACT_RELU, (struct pfl_shape3){11, 1, 1});
    check_numerically(PFL_NET_MLP, PFL_ACT_TANH, (struct pfl_shape3){11, 1, 1});
    check_numerically(PFL_NET_MLP, PFL_ACT_SIGMOID, (struct pfl_shape3){11, 1, 1});
    check_numerically(PFL_NET_LOGISTIC, PFL_ACT_RELU, (struct pfl_shape3){1, 4, 4});
    check_numerically(PFL_NET_CNN, PFL_ACT_RELU, (struct pfl_shape3){1, 9, 10});
    check_numerically(PFL_NET_LENET5, PFL_ACT_RELU, (struct pfl_shape3){2, 17, 16});
    check_numerically(PFL_NET_LENET5, PFL_ACT_RELU, (struct pfl_shape3){3, 32, 33}); /* not padded, a column is left over */
    check_numerically(PFL_NET_RESNET8, PFL_ACT_RELU, (struct pfl_shape3){3, 13, 10});
}

/* The padded convolution by its definition: six loops in double. */
static void test_convolution__by_definition__same(void **state)
{
    (void)state;
    enum { C = 2, H = 7, W = 6, K = 5 };
    struct pfl_net net;
    struct pfl_net_work w;
    struct pfl_rng rng;
    const struct pfl_net_spec spec = {.kind = PFL_NET_CNN};
    assert_int_equal(pfl_net_make(&spec, (struct pfl_shape3){C, H, W}, 2, &net, NULL), PFL_OK);
    assert_int_equal(pfl_net_work_init(&w, &net, 2, false, NULL), PFL_OK);
    PFL_AUTO(pfl_freep) float *p = calloc(net.n_params, sizeof(*p));
    pfl_rng_seed(&rng, 6);
    pfl_net_init_params(&net, &rng, p);
    for (size_t i = 0; i < 2 * net.n_features; i++)
        w.act[0][i] = (float)pfl_rng_normal(&rng);
    pfl_net_forward(&net, p, &w, 2);
    const struct pfl_layer *l = &net.layers[0];
    for (size_t o = 0; o < 2 * pfl_shape3_size(l->out); o++) {
        size_t b = o / pfl_shape3_size(l->out), out = o / (H * W) % 32, y = o / W % H, x = o % W;
        double sum = (double)p[l->bias + out];
        for (size_t k = 0; k < (size_t)C * K * K; k++) {
            size_t c = k / (K * K), py = y + k / K % K, px = x + k % K; /* in the padded image */
            if (py >= 2 && px >= 2 && py < H + 2 && px < W + 2)
                sum += (double)p[l->weight + out * C * K * K + k] *
                       (double)w.act[0][b * net.n_features + c * H * W + (py - 2) * W + px - 2];
        }
        if (fabs(fmax(sum, 0.0) - (double)w.act[1][o]) > 1e-5)
            fail_msg("output %zu: %g, by definition %g", o, (double)w.act[1][o], fmax(sum, 0.0));
    }
    pfl_net_work_deinit(&w);
}

static void test_sgd__momentum_and_decay__torch_s_rule(void **state)
{
    (void)state;
    float p[] = {1.0f, -2.0f};
    double want[] = {1.0, -2.0}, buffer[] = {0.0, 0.0};
    PFL_AUTO(pfl_optimiser_deinit) struct pfl_optimiser sgd = {0};
    const struct pfl_optimiser_opts o = {.kind = PFL_OPTIMISER_SGD, .learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.01};
    assert_int_equal(pfl_optimiser_init(&sgd, &o, 2, NULL), PFL_OK);
    for (int t = 0; t < 5; t++) {
        float g[] = {0.5f + (float)t, -0.25f * (float)t};
        for (int i = 0; i < 2; i++) {
            buffer[i] = 0.9 * buffer[i] + (double)g[i] + 0.01 * want[i];
            want[i] -= 0.1 * buffer[i];
        }
        pfl_optimiser_step(&sgd, p, g);
        for (int i = 0; i < 2; i++)
            assert_true(fabs((double)p[i] - want[i]) < 1e-5);
    }
}

static void test_optimiser__options_out_of_range__refused(void **state)
{
    (void)state;
    const struct pfl_optimiser_opts bad[] = {
        {.learning_rate = 0.0},
        {.learning_rate = NAN},
        {.kind = PFL_OPTIMISER_SGD, .learning_rate = 0.1, .momentum = 1.0},
        {.kind = PFL_OPTIMISER_SGD, .learning_rate = 0.1, .momentum = -0.1},
        {.kind = PFL_OPTIMISER_ADAM, .learning_rate = 0.1, .momentum = 0.9},
        {.kind = PFL_OPTIMISER_SGD, .learning_rate = 0.1, .weight_decay = -1.0},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        struct pfl_err err = {0};
        if (pfl_optimiser_check(&bad[i], &err) != PFL_INVALID || !err.msg[0])
            fail_msg("row %zu is not refused", i);
    }
}

#define WITH_REFERENCE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make__out_of_range__refused),
        cmocka_unit_test(test_layouts__names_shapes_and_sizes_of_pytorch),
        cmocka_unit_test(test_gradients__every_model__as_the_loss_changes),
        cmocka_unit_test(test_convolution__by_definition__same),
        cmocka_unit_test(test_sgd__momentum_and_decay__torch_s_rule),
        cmocka_unit_test(test_optimiser__options_out_of_range__refused),
        WITH_REFERENCE(test_gradient__numpy__same_to_float_precision),
        WITH_REFERENCE(test_gradient__differences_of_the_loss__agree),
        WITH_REFERENCE(test_adam__numpy__same_three_steps),
        cmocka_unit_test(test_score__large_logits__finite_loss_and_first_of_equals),
        cmocka_unit_test(test_init__uniform_within_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
