/* SPDX-License-Identifier: Apache-2.0 */
/* link: base learning */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/fs.h"
#include "learning/dataset.h"

enum { N = 3, PIXELS = PFL_DATASET_SIDE * PFL_DATASET_SIDE };

static const char *const FILES[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                    "t10k-labels-idx1-ubyte"};

static int setup(void **state)
{
    char *dir = strdup("/tmp/pfl-dataset-XXXXXX");
    *state = dir;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(FILES); i++) {
        PFL_AUTO(pfl_freep) char *plain = pfl_fs_join(*state, FILES[i]);
        PFL_AUTO(pfl_freep) char *packed = pfl_xasprintf("%s.gz", plain);
        unlink(plain);
        unlink(packed);
    }
    rmdir(*state);
    free(*state);
    return 0;
}

static void write_file(const char *dir, const char *name, const struct pfl_buf *b)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    assert_int_equal(pfl_fs_write_atomic(path, pfl_buf_view(b), 0600, NULL), PFL_OK);
}

/* n images of side x side; pixel p of image i is (i + p) % 251. */
static void write_images(const char *dir, const char *name, uint32_t n, uint32_t side)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    pfl_buf_u32be(&b, 0x0803);
    pfl_buf_u32be(&b, n);
    pfl_buf_u32be(&b, side);
    pfl_buf_u32be(&b, side);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t p = 0; p < side * side; p++)
            pfl_buf_u8(&b, (uint8_t)((i + p) % 251));
    }
    write_file(dir, name, &b);
}

static void write_labels(const char *dir, const char *name, const uint8_t *labels, uint32_t n)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    pfl_buf_u32be(&b, 0x0801);
    pfl_buf_u32be(&b, n);
    pfl_buf_append(&b, labels, n);
    write_file(dir, name, &b);
}

static void expect_refused(const char *dir, enum pfl_rc rc, const char *says)
{
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    enum pfl_rc got = pfl_dataset_load("mnist", dir, PFL_DATASET_TRAIN, &d, &err);
    if (got != rc || !strstr(err.msg, says) || d)
        fail_msg("code %d, \"%s\"; code %d with \"%s\" is expected", (int)got, err.msg, (int)rc, says);
}

static void test_load__unknown_name__refused(void **state)
{
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_dataset_load("cifar\n10", *state, PFL_DATASET_TRAIN, &d, &err), PFL_INVALID);
    assert_non_null(strstr(err.msg, "fashion-mnist, mnist and cifar10"));
    assert_null(strchr(err.msg, '\n'));
    assert_null(d);
}

static void test_load__missing__names_file_and_command(void **state)
{
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    expect_refused(*state, PFL_NOT_FOUND, "train-labels-idx1-ubyte");
    expect_refused(*state, PFL_NOT_FOUND, "make mnist");
    assert_int_equal(pfl_dataset_load("fashion-mnist", *state, PFL_DATASET_TEST, &d, &err), PFL_NOT_FOUND);
    assert_non_null(strstr(err.msg, "apt-get install dataset-fashion-mnist"));
    assert_non_null(strstr(err.msg, "t10k-labels-idx1-ubyte"));
}

static void test_load__images_missing__refused(void **state)
{
    write_labels(*state, FILES[1], (const uint8_t[]){0, 1, 2}, N);
    expect_refused(*state, PFL_NOT_FOUND, "train-images-idx3-ubyte");
}

static void test_load__pairs_that_do_not_fit__refused(void **state)
{
    write_images(*state, FILES[0], N, PFL_DATASET_SIDE);
    write_labels(*state, FILES[1], (const uint8_t[]){0, 1}, 2);
    expect_refused(*state, PFL_MALFORMED, "3 images but 2 labels");
    write_labels(*state, FILES[1], (const uint8_t[]){0, 10, 2}, N);
    expect_refused(*state, PFL_MALFORMED, "label 1 is 10");
    write_labels(*state, FILES[1], (const uint8_t[]){0, 9, 2}, N);
    write_images(*state, FILES[0], N, 27);
    expect_refused(*state, PFL_MALFORMED, "27 x 27");
    write_labels(*state, FILES[0], (const uint8_t[]){0, 9, 2}, N);
    expect_refused(*state, PFL_MALFORMED, "1 dimensions where 3");
}

static void test_load__plain__samples(void **state)
{
    write_images(*state, FILES[0], N, PFL_DATASET_SIDE);
    write_labels(*state, FILES[1], (const uint8_t[]){7, 9, 0}, N);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_dataset_load("mnist", *state, PFL_DATASET_TRAIN, &d, &err), PFL_OK);
    assert_int_equal(d->n, N);
    assert_int_equal(d->n_features, PIXELS);
    assert_int_equal(d->n_classes, 10);
    assert_int_equal(d->labels[0], 7);
    assert_int_equal(d->labels[1], 9);
    for (size_t p = 0; p < PIXELS; p++)
        assert_int_equal(d->images[2 * PIXELS + p], (2 + p) % 251);
}

static void test_load__gzip_of_the_test_split__samples(void **state)
{
    write_images(*state, FILES[2], N, PFL_DATASET_SIDE);
    PFL_AUTO(pfl_freep) char *plain = pfl_fs_join(*state, FILES[2]);
    PFL_AUTO(pfl_freep) char *packed = pfl_xasprintf("%s.gz", plain);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *content = NULL;
    assert_int_equal(pfl_fs_read(plain, 1 << 20, &content, NULL), PFL_OK);
    gzFile gz = gzopen(packed, "wb");
    assert_int_equal(gzwrite(gz, content->data, (unsigned)content->len), (int)content->len);
    gzclose(gz);
    unlink(plain);
    write_labels(*state, FILES[3], (const uint8_t[]){7, 9, 0}, N);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_dataset_load("mnist", *state, PFL_DATASET_TEST, &d, &err), PFL_OK);
    assert_memory_equal(d->images, content->data + 16, N * PIXELS);
}

static void test_new__bad__refused(void **state)
{
    (void)state;
    struct pfl_dataset *d = NULL;
    struct pfl_err err = {0};
    const uint8_t bytes[4] = {0, 1, 2, 3};
    assert_int_equal(pfl_dataset_new(bytes, bytes, 0, 1, 10, &d, &err), PFL_INVALID);
    assert_int_equal(pfl_dataset_new(bytes, bytes, 4, 0, 10, &d, &err), PFL_INVALID);
    assert_int_equal(pfl_dataset_new(bytes, bytes, 4, 1, 3, &d, &err), PFL_INVALID);
    assert_non_null(strstr(err.msg, "label 3 is 3"));
    assert_null(d);
}

static void test_pick__copies_in_the_order_asked(void **state)
{
    (void)state;
    const uint8_t images[8] = {10, 11, 20, 21, 30, 31, 40, 41}, labels[4] = {0, 1, 2, 3}, want[4] = {40, 41, 20, 21};
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *part = NULL;
    struct pfl_dataset *d = NULL;
    assert_int_equal(pfl_dataset_new(images, labels, 4, 2, 4, &d, NULL), PFL_OK);
    assert_int_equal(pfl_dataset_pick(d, (const uint32_t[]){3, 1}, 0, &part, NULL), PFL_INVALID);
    assert_int_equal(pfl_dataset_pick(d, (const uint32_t[]){3, 1}, 2, &part, NULL), PFL_OK);
    pfl_dataset_unref(d); /* the part stands on its own */
    assert_int_equal(part->n, 2);
    assert_memory_equal(part->images, want, 4);
    assert_int_equal(part->labels[0], 3);
    assert_int_equal(part->labels[1], 1);
}

#define WITH_FOLDER(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_load__unknown_name__refused),   WITH_FOLDER(test_load__missing__names_file_and_command),
        WITH_FOLDER(test_load__images_missing__refused), WITH_FOLDER(test_load__pairs_that_do_not_fit__refused),
        WITH_FOLDER(test_load__plain__samples),          WITH_FOLDER(test_load__gzip_of_the_test_split__samples),
        cmocka_unit_test(test_new__bad__refused),        cmocka_unit_test(test_pick__copies_in_the_order_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
