/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "learning/dummy.h"
#include "learning/wrapper.h"

static const char name[] = "node-1";
static unsigned steered, interrupted;

static enum pfl_rc steer(void *self, const struct pfl_fit_steer *s, struct pfl_err *err)
{
    assert_non_null(self);
    steered += s->proximal_mu == 0.5;
    return err ? PFL_OK : PFL_INVALID;
}

static void interrupt(void *self)
{
    assert_non_null(self);
    interrupted++;
}

static struct pfl_learner inner_learner(void)
{
    struct pfl_learner l;
    assert_int_equal(pfl_dummy_learner_new(4, 0, name, &l, NULL), PFL_OK);
    return l;
}

static void test_wrapper__nothing_replaced__is_the_inner_learner(void **state)
{
    (void)state;
    struct pfl_learner l = inner_learner();
    const struct pfl_learner inner = l;
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *end = NULL;
    struct pfl_fit_result r;
    struct pfl_metrics m;
    pfl_wrapper_init(pfl_xcalloc(1, sizeof(struct pfl_wrapper)), &l);
    assert_ptr_not_equal(l.self, inner.self);
    assert_string_equal(l.ops->name, inner.ops->name);
    assert_ptr_equal(l.ops->layout(l.self), inner.ops->layout(inner.self));
    assert_null(l.ops->steer); /* as the inner one has none */
    assert_int_equal(l.ops->init(l.self, &start, NULL), PFL_OK);
    assert_int_equal(l.ops->fit(l.self, start, 1, 7, NULL, NULL, &end, &r, NULL), PFL_OK);
    assert_int_equal(r.n_samples, pfl_dummy_samples(name));
    assert_int_equal(l.ops->evaluate(l.self, end, &m, NULL), PFL_OK);
    assert_true(m.loss == (double)pfl_dummy_step(name));
    l.ops->free(l.self);
}

static void test_wrapper__inner_one_can_be_steered__so_can_the_outer(void **state)
{
    (void)state;
    struct pfl_learner l = inner_learner();
    struct pfl_learner_ops ops = *l.ops;
    struct pfl_err err = {0};
    ops.steer = steer;
    ops.interrupt = interrupt;
    l.ops = &ops;
    pfl_wrapper_init(pfl_xcalloc(1, sizeof(struct pfl_wrapper)), &l);
    assert_non_null(l.ops->steer);
    assert_int_equal(l.ops->steer(l.self, &(struct pfl_fit_steer){.proximal_mu = 0.5}, &err), PFL_OK);
    l.ops->interrupt(l.self);
    assert_int_equal(steered, 1);
    assert_int_equal(interrupted, 1);
    l.ops->free(l.self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrapper__nothing_replaced__is_the_inner_learner),
        cmocka_unit_test(test_wrapper__inner_one_can_be_steered__so_can_the_outer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
