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

static struct pfl_dataset *part(const struct pfl_dataset *full, uint64_t seed, unsigned index, unsigned count, double factor)
{
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    struct pfl_partition p = {.seed = seed, .part_index = index, .part_count = count, .reduction_factor = factor};
    if (pfl_partition_iid(full, &p, &d, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return d;
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
        if (pfl_partition_iid(full, &BAD[i].p, &d, &err) != PFL_INVALID || !err.msg[0] || d)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_iid__bad__refused),
        cmocka_unit_test(test_iid__parts__are_the_whole_and_do_not_overlap),
        cmocka_unit_test(test_iid__same_seed__same_part__other_seed__another),
        cmocka_unit_test(test_iid__reduced__the_first_samples_of_the_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
