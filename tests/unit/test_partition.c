/* SPDX-License-Identifier: Apache-2.0 */
/* link: base learning */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "learning/partition.h"

enum { N = 103 };

/* Sample i's two bytes are i and 255 - i, its class is i % 10: a part shows whose samples it has. */
static struct pfl_dataset *numbered(void)
{
    uint8_t images[2 * N], labels[N];
    for (unsigned i = 0; i < N; i++) {
        images[2 * i] = (uint8_t)i;
        images[2 * i + 1] = (uint8_t)(255 - i);
        labels[i] = (uint8_t)(i % 10);
    }
    struct pfl_dataset *d = NULL;
    assert_int_equal(pfl_dataset_new(images, labels, N, 2, 10, &d, NULL), PFL_OK);
    return d;
}

static struct pfl_partition of(enum pfl_partition_strategy strategy, uint64_t seed, unsigned index, unsigned count)
{
    struct pfl_partition p = pfl_partition_default();
    p.strategy = strategy;
    p.seed = seed;
    p.part_index = index;
    p.part_count = count;
    p.min_size = 2;
    return p;
}

static struct pfl_dataset *part(const struct pfl_dataset *full, uint64_t seed, unsigned index, unsigned count, double factor)
{
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    struct pfl_partition p = of(PFL_PARTITION_IID, seed, index, count);
    p.reduction_factor = factor;
    if (pfl_partition_take(full, &p, &d, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return d;
}

/* A learner in Python draws its own part: the same rows as in tests/integration/test_python_learner.py. */
static void test_partition__iid__as_the_python_package_draws_it(void **state)
{
    (void)state;
    static const uint8_t second_of_four[] = {79, 39, 14, 54, 43, 5, 6, 47}, tenth[] = {58, 74, 82, 67, 45, 42, 75, 0, 96, 91};
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = numbered();
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *a = part(full, 666, 1, 4, 1.0);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *b = part(full, 666, 0, 1, 0.1);
    assert_true(a->n == 26 && b->n == 10);
    for (size_t i = 0; i < sizeof(second_of_four); i++)
        assert_int_equal(a->images[2 * i], second_of_four[i]);
    for (size_t i = 0; i < sizeof(tenth); i++)
        assert_int_equal(b->images[2 * i], tenth[i]);
}

static const struct {
    const char *name;
    struct pfl_partition p;
} BAD[] = {
    {"no parts", {.part_count = 0, .reduction_factor = 1.0}},
    {"index at the count", {.part_index = 4, .part_count = 4, .reduction_factor = 1.0}},
    {"factor zero", {.part_count = 4, .reduction_factor = 0.0}},
    {"factor above one", {.part_count = 4, .reduction_factor = 1.01}},
    {"factor not a number", {.part_count = 4, .reduction_factor = __builtin_nan("")}},
    {"nothing left by the factor", {.part_count = 4, .reduction_factor = 0.001}},
    {"more parts than samples", {.part_index = 0, .part_count = N + 1, .reduction_factor = 1.0}},
};

static void test_iid__bad__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = numbered();
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++) {
        struct pfl_dataset *d = NULL;
        struct pfl_err err = {0};
        if (pfl_partition_take(full, &BAD[i].p, &d, &err) != PFL_INVALID || !err.msg[0] || d)
            fail_msg("%s: not refused", BAD[i].name);
    }
}

static void test_iid__parts__are_the_whole_and_do_not_overlap(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = numbered();
    for (unsigned count = 1; count <= 7; count++) {
        bool seen[N] = {false};
        size_t total = 0;
        for (unsigned k = 0; k < count; k++) {
            PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = part(full, 5, k, count, 1.0);
            assert_true(d->n == N / count || d->n == N / count + 1);
            for (size_t i = 0; i < d->n; i++) {
                unsigned id = d->images[2 * i];
                assert_true(id < N && !seen[id]);
                assert_int_equal(d->images[2 * i + 1], 255 - id);
                assert_int_equal(d->labels[i], id % 10);
                seen[id] = true;
            }
            total += d->n;
        }
        assert_int_equal(total, N);
    }
}

static void test_iid__same_seed__same_part__other_seed__another(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = numbered();
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *a = part(full, 5, 1, 4, 1.0);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *b = part(full, 5, 1, 4, 1.0);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *c = part(full, 6, 1, 4, 1.0);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->images, b->images, a->n * 2);
    assert_int_equal(a->n, c->n);
    assert_memory_not_equal(a->images, c->images, a->n * 2);
    assert_memory_not_equal(a->images, full->images, a->n * 2);
}

static void test_iid__reduced__the_first_samples_of_the_part(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = numbered();
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *whole = part(full, 5, 2, 4, 1.0);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *half = part(full, 5, 2, 4, 0.5);
    assert_int_equal(half->n, whole->n / 2);
    assert_memory_equal(half->images, whole->images, half->n * 2);
}

/* ---- the divisions that look at labels ---- */

static const enum pfl_partition_strategy ALL[] = {PFL_PARTITION_IID,    PFL_PARTITION_DIRICHLET,  PFL_PARTITION_LABEL_SKEW,
                                                  PFL_PARTITION_SHARDS, PFL_PARTITION_PERCENTAGE, PFL_PARTITION_QUANTITY};

static void test_every_strategy__parts__are_the_whole_and_do_not_overlap(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = numbered();
    for (size_t s = 0; s < PFL_ARRAY_LEN(ALL); s++) {
        for (unsigned count = 1; count <= 9; count += 2) {
            bool seen[N] = {false};
            size_t total = 0, table[9 * 10];
            struct pfl_partition p = of(ALL[s], 3, 0, count);
            assert_int_equal(pfl_partition_table(full, &p, table, NULL), PFL_OK);
            for (p.part_index = 0; p.part_index < count; p.part_index++) {
                PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = NULL;
                assert_int_equal(pfl_partition_take(full, &p, &d, NULL), PFL_OK);
                size_t by_class[10] = {0};
                for (size_t i = 0; i < d->n; i++) {
                    unsigned id = d->images[2 * i];
                    assert_false(seen[id]);
                    assert_int_equal(d->labels[i], id % 10);
                    seen[id] = true;
                    by_class[d->labels[i]]++;
                }
                assert_memory_equal(by_class, table + (size_t)p.part_index * 10, sizeof(by_class));
                total += d->n;
            }
            assert_int_equal(total, N);
        }
    }
}

/* Balanced classes, enough samples for statistics. */
static struct pfl_dataset *large(size_t n)
{
    PFL_AUTO(pfl_freep) uint8_t *images = pfl_xcalloc(n, 1);
    PFL_AUTO(pfl_freep) uint8_t *labels = pfl_xcalloc(n, 1);
    for (size_t i = 0; i < n; i++)
        labels[i] = (uint8_t)(i % 10);
    struct pfl_dataset *d = NULL;
    assert_int_equal(pfl_dataset_new(images, labels, n, 1, 10, &d, NULL), PFL_OK);
    return d;
}

/* Mean over the parts of the largest class's share. */
static double concentration(const size_t *table, unsigned parts)
{
    double sum = 0.0;
    for (unsigned k = 0; k < parts; k++) {
        size_t most = 0, total = 0;
        for (unsigned c = 0; c < 10; c++) {
            most = table[k * 10 + c] > most ? table[k * 10 + c] : most;
            total += table[k * 10 + c];
        }
        sum += total ? (double)most / (double)total : 1.0;
    }
    return sum / parts;
}

static void table_of(const struct pfl_dataset *full, const struct pfl_partition *p, size_t *table)
{
    struct pfl_err err = {0};
    if (pfl_partition_table(full, p, table, &err) != PFL_OK)
        fail_msg("%s", err.msg);
}

static void test_dirichlet__small_alpha_concentrates__large_is_even(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = large(20000);
    size_t table[20 * 10];
    struct pfl_partition p = of(PFL_PARTITION_DIRICHLET, 1, 0, 20);
    double last = 1.0;
    static const double alphas[] = {0.05, 0.5, 5.0, 1000.0};
    for (size_t i = 0; i < PFL_ARRAY_LEN(alphas); i++) {
        p.alpha = alphas[i];
        table_of(full, &p, table);
        double now = concentration(table, 20);
        assert_true(now < last);
        last = now;
    }
    assert_true(last < 0.13); /* of ten classes in even parts: a tenth */
}

static void test_dirichlet__shares_have_the_distribution_s_moments(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = large(10000);
    size_t table[10 * 10];
    double sum = 0.0, sum_squares = 0.0;
    unsigned n = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct pfl_partition p = of(PFL_PARTITION_DIRICHLET, seed, 0, 10);
        p.alpha = 0.7;
        p.min_size = 0;
        table_of(full, &p, table);
        for (unsigned i = 0; i < 100; i++, n++) {
            double share = (double)table[i] / 1000.0; /* of its class */
            sum += share;
            sum_squares += share * share;
        }
    }
    double mean = sum / n, variance = sum_squares / n - mean * mean;
    /* Dirichlet(alpha, K): mean 1/K, variance (1/K)(1 - 1/K) / (K alpha + 1) */
    assert_true(mean > 0.0999 && mean < 0.1001);
    assert_true(variance > 0.01025 && variance < 0.01225); /* 0.01125 */
}

static void test_dirichlet__minimum_and_balance_hold(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = large(10000);
    size_t table[10 * 10];
    for (int balanced = 0; balanced < 2; balanced++) {
        struct pfl_partition p = of(PFL_PARTITION_DIRICHLET, 4, 0, 10);
        p.alpha = 0.3;
        p.min_size = 200;
        p.self_balancing = balanced == 1;
        table_of(full, &p, table);
        for (unsigned k = 0; k < 10; k++) {
            size_t size = 0;
            for (unsigned c = 0; c < 10; c++)
                size += table[k * 10 + c];
            assert_true(size >= 200);
        }
    }
    struct pfl_err err = {0};
    struct pfl_partition p = of(PFL_PARTITION_DIRICHLET, 4, 0, 10);
    p.alpha = 0.001;
    p.min_size = 900;
    assert_int_equal(pfl_partition_table(full, &p, table, &err), PFL_INVALID);
    assert_non_null(strstr(err.msg, "use a larger alpha"));
}

static void test_label_skew_and_shards__few_classes_each(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = large(6000);
    size_t table[100 * 10];
    struct pfl_partition p = of(PFL_PARTITION_LABEL_SKEW, 1, 0, 10);
    table_of(full, &p, table);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(table[i], i / 10 == i % 10 ? 600 : 0);
    p = of(PFL_PARTITION_SHARDS, 1, 0, 100); /* McMahan: 200 shards, two each */
    table_of(full, &p, table);
    unsigned alone = 0;
    for (unsigned k = 0; k < 100; k++) {
        unsigned classes = 0;
        size_t size = 0;
        for (unsigned c = 0; c < 10; c++) {
            classes += table[k * 10 + c] > 0;
            size += table[k * 10 + c];
        }
        assert_true(classes == 1 || classes == 2);
        assert_int_equal(size, 60);
        alone += classes == 1;
    }
    assert_in_range(alone, 1, 30); /* about a tenth: two shards of one class */
}

static void test_percentage__the_main_classes_have_their_share(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = large(10000);
    size_t table[10 * 10];
    struct pfl_partition p = of(PFL_PARTITION_PERCENTAGE, 1, 0, 10);
    p.main_share = 0.7;
    table_of(full, &p, table);
    for (unsigned k = 0; k < 10; k++) {
        size_t others = 0;
        for (unsigned c = 0; c < 10; c++)
            others += c == k ? 0 : table[k * 10 + c];
        assert_int_equal(table[k * 10 + k], 700);
        assert_int_equal(others, 300);
    }
    p.main_classes = 2;
    p.main_share = 1.0;
    table_of(full, &p, table);
    for (unsigned i = 0; i < 100; i++)
        assert_true(table[i] == 0 || (i % 10) / 2 == (i / 10) % 5);
}

static void test_quantity__sizes_differ__labels_do_not(void **state)
{
    (void)state;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = large(20000);
    size_t table[5 * 10], smallest = SIZE_MAX, largest = 0;
    struct pfl_partition p = of(PFL_PARTITION_QUANTITY, 1, 0, 5);
    p.min_size = 100;
    table_of(full, &p, table);
    for (unsigned k = 0; k < 5; k++) {
        size_t size = 0;
        for (unsigned c = 0; c < 10; c++)
            size += table[k * 10 + c];
        smallest = size < smallest ? size : smallest;
        largest = size > largest ? size : largest;
    }
    assert_true(smallest >= 100 && largest > 2 * smallest);
    assert_true(concentration(table, 5) < 0.2);
}

static void test_strategies__bad_parameters__are_named(void **state)
{
    (void)state;
    static const struct {
        enum pfl_partition_strategy strategy;
        double alpha, main_share;
        unsigned shards, main_classes;
        size_t min_size;
        const char *word;
    } bad[] = {
        {PFL_PARTITION_DIRICHLET, 0.0, 0.5, 2, 1, 1, "alpha 0"},
        {PFL_PARTITION_DIRICHLET, __builtin_nan(""), 0.5, 2, 1, 1, "alpha"},
        {PFL_PARTITION_QUANTITY, -1.0, 0.5, 2, 1, 1, "alpha -1"},
        {PFL_PARTITION_QUANTITY, 1.0, 0.5, 2, 1, 60, "at least 60"},
        {PFL_PARTITION_SHARDS, 1.0, 0.5, 0, 1, 1, "0 shards"},
        {PFL_PARTITION_SHARDS, 1.0, 0.5, 99, 1, 1, "99 shards"},
        {PFL_PARTITION_PERCENTAGE, 1.0, 1.5, 2, 1, 1, "main share 1.5"},
        {PFL_PARTITION_PERCENTAGE, 1.0, 0.5, 2, 11, 1, "11 main classes"},
    };
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = numbered();
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        struct pfl_partition p = of(bad[i].strategy, 1, 0, 2);
        p.alpha = bad[i].alpha;
        p.main_share = bad[i].main_share;
        p.shards_per_part = bad[i].shards;
        p.main_classes = bad[i].main_classes;
        p.min_size = bad[i].min_size;
        struct pfl_dataset *d = NULL;
        struct pfl_err err = {0};
        assert_int_equal(pfl_partition_take(full, &p, &d, &err), PFL_INVALID);
        if (!strstr(err.msg, bad[i].word))
            fail_msg("'%s' is not in '%s'", bad[i].word, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partition__iid__as_the_python_package_draws_it),
        cmocka_unit_test(test_iid__bad__refused),
        cmocka_unit_test(test_iid__parts__are_the_whole_and_do_not_overlap),
        cmocka_unit_test(test_iid__same_seed__same_part__other_seed__another),
        cmocka_unit_test(test_iid__reduced__the_first_samples_of_the_part),
        cmocka_unit_test(test_every_strategy__parts__are_the_whole_and_do_not_overlap),
        cmocka_unit_test(test_dirichlet__small_alpha_concentrates__large_is_even),
        cmocka_unit_test(test_dirichlet__shares_have_the_distribution_s_moments),
        cmocka_unit_test(test_dirichlet__minimum_and_balance_hold),
        cmocka_unit_test(test_label_skew_and_shards__few_classes_each),
        cmocka_unit_test(test_percentage__the_main_classes_have_their_share),
        cmocka_unit_test(test_quantity__sizes_differ__labels_do_not),
        cmocka_unit_test(test_strategies__bad_parameters__are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
