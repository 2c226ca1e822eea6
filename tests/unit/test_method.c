/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* The layouts of a method: what travels beside the learner's tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "learning/method.h"

static struct pfl_layout *layout_of(void *self)
{
    return self;
}

static const struct pfl_learner_ops ops = {.name = "none", .layout = layout_of};

static struct pfl_layout *two_tensors(const char *first)
{
    struct pfl_tensor_desc d[] = {{.dtype = PFL_F32, .rank = 2, .shape = {2, 3}},
                                  {.name = "n", .dtype = PFL_I32, .rank = 1, .shape = {1}}};
    memcpy(d[0].name, first, strlen(first) + 1);
    struct pfl_layout *l = NULL;
    assert_int_equal(pfl_layout_new(d, 2, &l, NULL), PFL_OK);
    return l;
}

static void test_method__plain_aggregator__one_layout(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = two_tensors("w");
    struct pfl_method m = {0};
    assert_int_equal(pfl_method_init(&m, pfl_aggregator_find("krum"), (struct pfl_learner){&ops, l}, NULL), PFL_OK);
    assert_int_equal(pfl_layout_check_same(m.model, l, NULL), PFL_OK);
    assert_ptr_equal(pfl_method_layout(&m, "partial_model"), m.contribution);
    pfl_method_deinit(&m);
}

static void test_method__fedadam__two_sets_behind_the_floats(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = two_tensors("w");
    struct pfl_method m = {0};
    assert_int_equal(pfl_method_init(&m, pfl_aggregator_find("FedAdam"), (struct pfl_learner){&ops, l}, NULL), PFL_OK);
    assert_int_equal(m.model->n, 4);
    assert_string_equal(m.model->tensors[2].name, "@m.w");
    assert_string_equal(m.model->tensors[3].name, "@v.w");
    assert_int_equal(m.contribution->n, 2);
    assert_ptr_equal(pfl_method_layout(&m, "add_model"), m.model);
    assert_ptr_equal(pfl_method_layout(&m, "init_model"), m.model);
    assert_non_null(pfl_method_find(m.model, "v", "w"));
    assert_null(pfl_method_find(m.model, "v", "n"));
    pfl_method_deinit(&m);
}

static void test_method__name_too_long__refused(void **state)
{
    (void)state;
    char name[PFL_TENSOR_NAME_MAX];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = two_tensors(name);
    struct pfl_method m = {0};
    struct pfl_err err = {0};
    assert_int_equal(pfl_method_init(&m, pfl_aggregator_find("fedadam"), (struct pfl_learner){&ops, l}, &err), PFL_INVALID);
    assert_non_null(strstr(err.msg, "aggregator 'fedadam'"));
    assert_non_null(strstr(err.msg, "too long"));
}

static void test_fit_layout__longer_and_shorter__zeros_and_cut(void **state)
{
    (void)state;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = two_tensors("w");
    struct pfl_method m = {0};
    assert_int_equal(pfl_method_init(&m, pfl_aggregator_find("fedyogi"), (struct pfl_learner){&ops, l}, NULL), PFL_OK);
    struct pfl_model *small = NULL, *large = NULL, *again = NULL;
    assert_int_equal(pfl_model_new(l, &small, NULL), PFL_OK);
    memset(pfl_model_data_mut(small), 7, l->bytes);
    assert_int_equal(pfl_method_fit_layout(small, m.model, &large, NULL), PFL_OK);
    assert_memory_equal(large->data, small->data, l->bytes);
    for (size_t i = l->bytes; i < m.model->bytes; i++)
        assert_int_equal(large->data[i], 0);
    assert_int_equal(pfl_method_fit_layout(large, l, &again, NULL), PFL_OK);
    assert_memory_equal(again->data, small->data, l->bytes);
    pfl_model_unref(again);
    pfl_model_unref(large);
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *other = two_tensors("other");
    struct pfl_err err = {0};
    assert_int_equal(pfl_method_fit_layout(small, other, &again, &err), PFL_INVALID);
    pfl_model_unref(small);
    pfl_method_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_method__plain_aggregator__one_layout),
        cmocka_unit_test(test_method__fedadam__two_sets_behind_the_floats),
        cmocka_unit_test(test_method__name_too_long__refused),
        cmocka_unit_test(test_fit_layout__longer_and_shorter__zeros_and_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
