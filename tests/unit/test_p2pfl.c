/* SPDX-License-Identifier: Apache-2.0 */
/* link: api runtime */
/* The public library: what is refused, and the lives of nodes whose program calls at bad moments. Plaintext on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "p2pfl/p2pfl.h"

enum { N = 6 };
static const size_t shape[] = {2, 3};
static const struct p2pfl_tensor tensor = {"w", 2, shape};

struct trainer {
    atomic_bool slow, interrupted, fails;
    atomic_uint fits, events;
};

static int t_init(void *user, float *params, size_t n)
{
    (void)user;
    assert_int_equal(n, N);
    for (size_t i = 0; i < n; i++)
        params[i] = (float)i;
    return 0;
}

static int t_fit(void *user, float *params, size_t n, unsigned epochs, uint64_t seed, uint64_t *ret_samples, double *ret_loss)
{
    struct trainer *t = user;
    (void)seed;
    atomic_fetch_add(&t->fits, 1);
    for (int i = 0; atomic_load(&t->slow) && !atomic_load(&t->interrupted) && i < 2000; i++)
        uv_sleep(5);
    for (size_t i = 0; i < n; i++)
        params[i] += (float)epochs;
    *ret_samples = 10;
    *ret_loss = 1.0;
    return atomic_load(&t->fails) ? 1 : 0;
}

static int t_evaluate(void *user, const float *params, size_t n, double *ret_loss, double *ret_accuracy)
{
    (void)user;
    (void)n;
    *ret_loss = (double)params[0];
    *ret_accuracy = 0.5;
    return 0;
}

static void t_interrupt(void *user)
{
    atomic_store(&((struct trainer *)user)->interrupted, true);
}

static void t_event(void *user, const char *json)
{
    assert_non_null(strstr(json, "\"event\":"));
    assert_null(strchr(json, '\n'));
    atomic_fetch_add(&((struct trainer *)user)->events, 1);
}

static struct p2pfl_learner learner_of(struct trainer *t)
{
    return (struct p2pfl_learner){.tensors = &tensor,
                                  .n_tensors = 1,
                                  .user = t,
                                  .init = t_init,
                                  .fit = t_fit,
                                  .evaluate = t_evaluate,
                                  .interrupt = t_interrupt};
}

static struct p2pfl_node *start(struct trainer *t)
{
    char error[P2PFL_ERROR_MAX] = "";
    const struct p2pfl_config c = {.address = "127.0.0.1:0", .insecure_plaintext = true, .on_event = t_event, .user = t};
    const struct p2pfl_learner l = learner_of(t);
    struct p2pfl_node *n = p2pfl_node_start(&c, &l, error);
    if (!n)
        fail_msg("%s", error);
    return n;
}

/* ---- refused ---- */

static void refused(const struct p2pfl_config *c, const struct p2pfl_learner *l, const char *why)
{
    char error[P2PFL_ERROR_MAX] = "";
    struct p2pfl_node *n = p2pfl_node_start(c, l, error);
    assert_null(n);
    if (!strstr(error, why))
        fail_msg("'%s' does not say '%s'", error, why);
    assert_null(p2pfl_node_start(c, l, NULL));
}

static void test_start__wrong_config__refused(void **state)
{
    (void)state;
    struct trainer t = {0};
    const struct p2pfl_learner l = learner_of(&t);
    struct p2pfl_config c = {.insecure_plaintext = true};
    refused(NULL, &l, "address");
    refused(&c, &l, "address");
    c.address = "not:an:address";
    refused(&c, &l, "");
    c.address = "127.0.0.1:0";
    c.insecure_plaintext = false;
    refused(&c, &l, "ca_crt");
    c.ca_crt = c.server_crt = c.server_key = c.client_crt = c.client_key = "/nowhere/file.pem";
    refused(&c, &l, "/nowhere/file.pem");
    c.insecure_plaintext = true;
    c.address = "0.0.0.0:0";
    refused(&c, &l, "plaintext");
    c.address = "127.0.0.1:0";
    c.state_dir = "/dev/null/state";
    refused(&c, &l, "/dev/null");
}

static void test_start__wrong_learner__refused(void **state)
{
    (void)state;
    struct trainer t = {0};
    const struct p2pfl_config c = {.address = "127.0.0.1:0", .insecure_plaintext = true};
    const struct p2pfl_tensor deep = {"w", 9, shape}, shapeless = {"w", 1, NULL}, nameless = {NULL, 2, shape};
    struct p2pfl_learner l = learner_of(&t);
    refused(&c, NULL, "learner");
    l.fit = NULL;
    refused(&c, &l, "fit");
    l = learner_of(&t);
    l.n_tensors = 0;
    refused(&c, &l, "0 tensors");
    l.n_tensors = 1;
    const struct p2pfl_tensor *wrong[] = {&deep, &shapeless, &nameless};
    for (size_t i = 0; i < 3; i++) {
        l.tensors = wrong[i];
        refused(&c, &l, "tensor 0");
    }
    l.tensors = (const struct p2pfl_tensor[]){tensor, tensor};
    l.n_tensors = 2;
    refused(&c, &l, "w");
}

static void test_start__port_taken_or_control_socket_impossible__nothing_left(void **state)
{
    (void)state;
    struct trainer t = {0};
    const struct p2pfl_learner l = learner_of(&t);
    struct p2pfl_node *n = start(&t);
    struct p2pfl_config c = {.address = p2pfl_node_address(n), .insecure_plaintext = true};
    refused(&c, &l, p2pfl_node_address(n));
    p2pfl_node_free(n);
    char base[] = "/tmp/pfl-api-XXXXXX", deep[256];
    assert_non_null(mkdtemp(base));
    snprintf(deep, sizeof(deep), "%s/%0150d", base, 0);
    c = (struct p2pfl_config){.address = "127.0.0.1:0", .insecure_plaintext = true, .state_dir = deep};
    refused(&c, &l, "shorter path");
    static const char *const made[] = {"/events.jsonl", "/node.db", "/models", ""};
    for (size_t i = 0; i < 4; i++) {
        char path[320];
        snprintf(path, sizeof(path), "%s%s", deep, made[i]);
        assert_int_equal(remove(path), 0);
    }
    assert_int_equal(remove(base), 0);
}

/* ---- lives ---- */

static void test_free__right_after_anything__ends(void **state)
{
    (void)state;
    struct trainer t = {0};
    float params[N];
    char error[P2PFL_ERROR_MAX];
    p2pfl_node_free(NULL);
    for (int i = 0; i < 40; i++) {
        struct p2pfl_node *n = start(&t);
        if (i % 4 == 1)
            assert_int_equal(p2pfl_node_peers(n), 0);
        if (i % 4 == 2)
            (void)p2pfl_node_model(n, params, N, error);
        if (i % 4 == 3)
            assert_false(p2pfl_node_connect(n, "127.0.0.1:1", 0, error)); /* its caller gave up: the answer comes to nobody */
        p2pfl_node_free(n);
    }
}

static void test_calls__that_cannot_be__false_with_a_text(void **state)
{
    (void)state;
    struct trainer t = {0};
    struct p2pfl_node *n = start(&t);
    float params[N];
    char error[P2PFL_ERROR_MAX] = "";
    assert_false(p2pfl_node_connect(n, NULL, 5, error));
    assert_false(p2pfl_node_connect(n, "127.0.0.1:1", 5, error));
    assert_non_null(strstr(error, "refused"));
    assert_false(p2pfl_node_wait_finished(n, 0.05, error));
    assert_non_null(strstr(error, "timed out"));
    for (int i = 0; i < 500 && !p2pfl_node_model(n, params, N, error); i++)
        uv_sleep(10);
    assert_true(p2pfl_node_model(n, params, N, error));
    assert_true(params[5] == 5.0f);
    assert_false(p2pfl_node_model(n, params, N - 1, error));
    assert_string_equal(error, "the model has 6 parameters, not 5");
    p2pfl_node_free(n);
    assert_true(atomic_load(&t.events) >= 2); /* started, stopped */
}

static void test_learn__stopped_then_again__each_end_is_told_once(void **state)
{
    (void)state;
    struct trainer ta = {.slow = true}, tb = {.slow = true};
    struct p2pfl_node *a = start(&ta), *b = start(&tb);
    char error[P2PFL_ERROR_MAX] = "";
    float of_a[N], of_b[N];
    assert_true(p2pfl_node_connect(a, p2pfl_node_address(b), 10, error));
    assert_true(p2pfl_node_learn(a, 1, 1, 2, error));
    assert_false(p2pfl_node_learn(a, 1, 1, 2, error));
    for (int i = 0; i < 1000 && atomic_load(&ta.fits) + atomic_load(&tb.fits) < 2; i++)
        uv_sleep(10);
    assert_true(p2pfl_node_stop_learning(b, error));
    assert_false(p2pfl_node_wait_finished(a, 20, error));
    assert_non_null(strstr(error, "stopped"));
    assert_false(p2pfl_node_wait_finished(b, 20, error));
    assert_false(p2pfl_node_wait_finished(b, 0.05, error));
    assert_non_null(strstr(error, "timed out"));
    atomic_store(&ta.slow, false);
    atomic_store(&tb.slow, false);
    assert_true(p2pfl_node_learn(b, 2, 3, 2, error));
    assert_true(p2pfl_node_wait_finished(a, 20, error));
    assert_true(p2pfl_node_wait_finished(b, 20, error));
    assert_true(p2pfl_node_model(a, of_a, N, error) && p2pfl_node_model(b, of_b, N, error));
    assert_memory_equal(of_a, of_b, sizeof(of_a));
    assert_true(of_a[1] == 7.0f); /* 1, and 3 in each of 2 rounds */
    p2pfl_node_free(a);
    p2pfl_node_free(b);
}

static void test_free__during_a_fit__interrupts_it(void **state)
{
    (void)state;
    struct trainer t = {.slow = true};
    struct p2pfl_node *n = start(&t);
    char error[P2PFL_ERROR_MAX] = "";
    assert_true(p2pfl_node_learn(n, 1, 1, 1, error));
    for (int i = 0; i < 1000 && atomic_load(&t.fits) == 0; i++)
        uv_sleep(10);
    p2pfl_node_free(n);
    assert_true(atomic_load(&t.interrupted));
}

static void test_fit__fails__contributes_nothing_and_learning_ends(void **state)
{
    (void)state;
    struct trainer t = {.fails = true};
    struct p2pfl_node *n = start(&t);
    char error[P2PFL_ERROR_MAX] = "";
    assert_true(p2pfl_node_learn(n, 1, 1, 1, error));
    assert_true(p2pfl_node_wait_finished(n, 20, error));
    float params[N];
    assert_true(p2pfl_node_model(n, params, N, error));
    for (size_t i = 0; i < N; i++)
        assert_true(params[i] == (float)i); /* as init made it */
    p2pfl_node_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start__wrong_config__refused),
        cmocka_unit_test(test_start__wrong_learner__refused),
        cmocka_unit_test(test_start__port_taken_or_control_socket_impossible__nothing_left),
        cmocka_unit_test(test_free__right_after_anything__ends),
        cmocka_unit_test(test_calls__that_cannot_be__false_with_a_text),
        cmocka_unit_test(test_learn__stopped_then_again__each_end_is_told_once),
        cmocka_unit_test(test_free__during_a_fit__interrupts_it),
        cmocka_unit_test(test_fit__fails__contributes_nothing_and_learning_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
