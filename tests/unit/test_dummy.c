/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "learning/dummy.h"

static struct pfl_learner dummy(uint64_t n, pfl_ns delay, const char *name)
{
    struct pfl_learner l;
    assert_int_equal(pfl_dummy_learner_new(n, delay, name, &l, NULL), PFL_OK);
    return l;
}

static void test_new__out_of_range__refused(void **state)
{
    (void)state;
    struct pfl_learner l = {0};
    struct pfl_err err = {0};
    assert_int_equal(pfl_dummy_learner_new(0, 0, "a", &l, &err), PFL_INVALID);
    assert_int_equal(pfl_dummy_learner_new(1, -1, "a", &l, &err), PFL_INVALID);
    assert_int_not_equal(pfl_dummy_learner_new(UINT64_MAX, 0, "a", &l, &err), PFL_OK); /* the layout's bytes overflow */
    assert_null(l.self);
}

static void test_fit__model_of_another_layout__refused(void **state)
{
    (void)state;
    struct pfl_learner a = dummy(3, 0, "a"), b = dummy(4, 0, "b");
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_model *out = NULL;
    struct pfl_fit_result r;
    struct pfl_metrics metrics;
    assert_int_equal(b.ops->init(b.self, &m, NULL), PFL_OK);
    assert_int_equal(a.ops->fit(a.self, m, 1, 0, NULL, NULL, &out, &r, NULL), PFL_MALFORMED);
    assert_int_equal(a.ops->evaluate(a.self, m, &metrics, NULL), PFL_MALFORMED);
    assert_null(out);
    a.ops->free(a.self);
    b.ops->free(b.self);
}

static void test_fit__adds_the_step_and_evaluate_is_the_mean(void **state)
{
    (void)state;
    struct pfl_learner l = dummy(5, 0, "node-1");
    PFL_AUTO(pfl_model_freep) struct pfl_model *zero = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *one = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *two = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *same = NULL;
    struct pfl_fit_result r;
    struct pfl_metrics metrics;
    float step = pfl_dummy_step("node-1");
    assert_string_equal(l.ops->layout(l.self)->tensors[0].name, "values");
    assert_int_equal(l.ops->layout(l.self)->bytes, 20);
    assert_int_equal(l.ops->init(l.self, &zero, NULL), PFL_OK);
    assert_int_equal(l.ops->fit(l.self, zero, 1, 0, NULL, NULL, &one, &r, NULL), PFL_OK);
    assert_int_equal(l.ops->fit(l.self, one, 3, 0, NULL, NULL, &two, &r, NULL), PFL_OK);
    assert_int_equal(l.ops->fit(l.self, one, 0, 0, NULL, NULL, &same, &r, NULL), PFL_OK);
    assert_int_equal(r.n_samples, pfl_dummy_samples("node-1"));
    for (size_t i = 0; i < 5; i++) {
        assert_true(((const float *)(const void *)zero->data)[i] == 0.0f);
        assert_true(((const float *)(const void *)one->data)[i] == step);
        assert_true(((const float *)(const void *)two->data)[i] == 2.0f * step);
    }
    assert_memory_equal(one->data, same->data, 20);
    assert_int_equal(l.ops->evaluate(l.self, two, &metrics, NULL), PFL_OK);
    assert_true(metrics.loss == 2.0 * (double)step && metrics.accuracy == 0.5);
    l.ops->free(l.self);
}

static void test_step_and_samples__of_the_name(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "127.0.0.1:6666", "127.0.0.1:6667"};
    unsigned differ = 0;
    for (size_t i = 0; i < PFL_ARRAY_LEN(names); i++) {
        float k = pfl_dummy_step(names[i]) * 64.0f;
        assert_true(k >= 1.0f && k <= 64.0f && k == (float)(int)k);
        assert_in_range(pfl_dummy_samples(names[i]), 100, 131);
        differ += pfl_dummy_step(names[i]) != pfl_dummy_step(names[0]);
    }
    assert_true(differ > 0);
}

struct pest {
    struct pfl_learner l;
    atomic_bool done;
};

static void *pester(void *arg)
{
    struct pest *p = arg;
    while (!atomic_load(&p->done)) { /* again and again: one that comes before the wait has begun is forgotten */
        p->l.ops->interrupt(p->l.self);
        sched_yield();
    }
    return NULL;
}

static void test_fit__interrupted__ends_long_before_its_delay(void **state)
{
    (void)state;
    struct pest p = {.l = dummy(1, 3600 * PFL_SEC, "a")};
    struct pfl_learner l = p.l;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_model *out = NULL;
    struct pfl_fit_result r;
    struct pfl_err err = {0};
    pthread_t thread;
    assert_int_equal(l.ops->init(l.self, &m, NULL), PFL_OK);
    assert_int_equal(pthread_create(&thread, NULL, pester, &p), 0);
    enum pfl_rc rc = l.ops->fit(l.self, m, 1, 0, NULL, NULL, &out, &r, &err);
    atomic_store(&p.done, true);
    pthread_join(thread, NULL);
    assert_int_equal(rc, PFL_CANCELED);
    assert_null(out);
    l.ops->free(l.self);
}

static void test_fit__delay__is_kept(void **state)
{
    (void)state;
    struct pfl_learner l = dummy(1, 30 * PFL_MS, "a");
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *out = NULL;
    struct pfl_fit_result r;
    assert_int_equal(l.ops->init(l.self, &m, NULL), PFL_OK);
    l.ops->interrupt(l.self); /* between calls: forgotten */
    pfl_ns start = pfl_clock_mono();
    assert_int_equal(l.ops->fit(l.self, m, 1, 0, NULL, NULL, &out, &r, NULL), PFL_OK);
    assert_true(pfl_clock_mono() - start >= 30 * PFL_MS);
    l.ops->free(l.self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new__out_of_range__refused),
        cmocka_unit_test(test_fit__model_of_another_layout__refused),
        cmocka_unit_test(test_fit__adds_the_step_and_evaluate_is_the_mean),
        cmocka_unit_test(test_step_and_samples__of_the_name),
        cmocka_unit_test(test_fit__interrupted__ends_long_before_its_delay),
        cmocka_unit_test(test_fit__delay__is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
