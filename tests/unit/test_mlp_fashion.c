/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* timeout: 120 */
/* The MLP of the main example on the real Fashion-MNIST: one epoch reaches the accuracy below. Under sanitizers it learns from
 * 10,000 of the samples. PFL_TEST_EPOCHS=5 trains for longer and prints what each epoch reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "learning/trainer.h"
#include "learning/partition.h"

#ifdef __has_feature
#define FEATURE(x) __has_feature(x)
#else
#define FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || FEATURE(address_sanitizer) || FEATURE(thread_sanitizer)
static const double SHARE = 1.0 / 6.0, WANTED = 0.70;
#else
static const double SHARE = 1.0, WANTED = 0.80;
#endif

static struct pfl_dataset *load(enum pfl_dataset_split split)
{
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    if (pfl_dataset_load("fashion-mnist", NULL, split, &d, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return d;
}

static void test_mlp__fashion_mnist__reaches_the_accuracy(void **state)
{
    (void)state;
    if (!pfl_fs_exists("/usr/share/datasets/fashion-mnist")) {
        print_message("Fashion-MNIST is not there (apt-get install dataset-fashion-mnist brings it): skipped\n");
        skip();
    }
    struct pfl_err err = {0};
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = load(PFL_DATASET_TRAIN);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *test = load(PFL_DATASET_TEST);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *train = NULL;
    assert_int_equal(full->n, 60000);
    assert_int_equal(test->n, 10000);
    struct pfl_partition part = {.seed = 666, .part_count = 1, .reduction_factor = SHARE};
    assert_int_equal(pfl_partition_take(full, &part, &train, &err), PFL_OK);
    struct pfl_trainer_opts opts = {.net = {.hidden = {256, 128}, .n_hidden = 2},
                                    .optimiser = {.learning_rate = 1e-3},
                                    .batch_size = 128,
                                    .threads = 1,
                                    .seed = 666};
    struct pfl_learner l;
    assert_int_equal(pfl_trainer_new(&opts, train, test, &l, &err), PFL_OK);

    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    assert_int_equal(l.ops->init(l.self, &model, &err), PFL_OK);
    const char *text = getenv("PFL_TEST_EPOCHS");
    int64_t epochs = 1;
    assert_true(!text || pfl_parse_i64(text, 1, 1000, &epochs));
    for (int64_t e = 0; e < epochs; e++) {
        struct pfl_model *next = NULL;
        struct pfl_fit_result fit;
        struct pfl_metrics metrics;
        pfl_ns start = pfl_clock_mono();
        assert_int_equal(l.ops->fit(l.self, model, 1, (uint64_t)e, NULL, NULL, &next, &fit, &err), PFL_OK);
        pfl_ns fitted = pfl_clock_mono();
        pfl_model_unref(model);
        model = next;
        assert_int_equal(l.ops->evaluate(l.self, model, &metrics, &err), PFL_OK);
        print_message("epoch %d: %zu samples in %.2f s, training loss %.4f; test loss %.4f, accuracy %.4f in %.2f s\n", (int)e + 1,
                      train->n, (double)(fitted - start) / 1e9, fit.loss, metrics.loss, metrics.accuracy,
                      (double)(pfl_clock_mono() - fitted) / 1e9);
        assert_int_equal(fit.n_samples, train->n);
        assert_int_equal(metrics.n_samples, 10000);
        assert_true(metrics.accuracy >= WANTED);
    }
    l.ops->free(l.self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlp__fashion_mnist__reaches_the_accuracy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
