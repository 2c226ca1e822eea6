/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "learning/cifar.h"

static struct pfl_bytes records(uint8_t *buf, size_t n, uint8_t label)
{
    for (size_t i = 0; i < n; i++) {
        memset(buf + i * PFL_CIFAR_RECORD, (int)(i + 1), PFL_CIFAR_RECORD);
        buf[i * PFL_CIFAR_RECORD] = label;
    }
    return pfl_bytes_of(buf, n * PFL_CIFAR_RECORD);
}

static void test_decode__two_files__their_records_in_order(void **state)
{
    (void)state;
    uint8_t *a = malloc(2 * PFL_CIFAR_RECORD), *b = malloc(PFL_CIFAR_RECORD);
    const struct pfl_bytes files[] = {records(a, 2, 3), records(b, 1, 9)};
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = NULL;
    assert_int_equal(pfl_cifar_decode(files, 2, &d, NULL), PFL_OK);
    assert_int_equal(d->n, 3);
    assert_int_equal(d->n_features, 3072);
    assert_true(d->shape.channels == 3 && d->shape.height == 32 && d->shape.width == 32);
    assert_true(d->labels[0] == 3 && d->labels[2] == 9);
    assert_true(d->images[0] == 1 && d->images[3072] == 2 && d->images[2 * 3072] == 1);
    free(a);
    free(b);
}

static void test_decode__malformed__refused(void **state)
{
    (void)state;
    uint8_t *a = malloc(2 * PFL_CIFAR_RECORD + 1);
    records(a, 2, 3);
    a[PFL_CIFAR_RECORD] = 10;
    const struct {
        const char *name;
        size_t len;
        const char *says;
    } rows[] = {
        {"empty", 0, "0 bytes"},
        {"short", PFL_CIFAR_RECORD - 1, "3072 bytes"},
        {"trailing", PFL_CIFAR_RECORD + 1, "3074 bytes"},
        {"label out of range", 2 * PFL_CIFAR_RECORD, "record 1 has label 10"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        const struct pfl_bytes file = pfl_bytes_of(a, rows[i].len);
        struct pfl_dataset *d = NULL;
        struct pfl_err err = {0};
        if (pfl_cifar_decode(&file, 1, &d, &err) != PFL_MALFORMED || d || !strstr(err.msg, rows[i].says))
            fail_msg("%s: %s", rows[i].name, err.msg);
    }
    struct pfl_dataset *d = NULL;
    assert_int_equal(pfl_cifar_decode(NULL, 0, &d, NULL), PFL_MALFORMED);
    free(a);
}

static void test_load__nothing_there__says_what_to_do(void **state)
{
    (void)state;
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_dataset_load("cifar10", "/nonexistent", PFL_DATASET_TRAIN, &d, &err), PFL_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nonexistent/data_batch_1.bin"));
    assert_non_null(strstr(err.msg, "--data DIR"));
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode__two_files__their_records_in_order),
        cmocka_unit_test(test_decode__malformed__refused),
        cmocka_unit_test(test_load__nothing_there__says_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
