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
#include "learning/idx.h"

#define HEAD3 0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3
static const uint8_t GOOD[] = {HEAD3, 1, 2, 3, 4, 5, 6};

/* A gzip member of the bytes; its trailer (CRC and size) is the last 8. */
static struct pfl_blob *packed(const void *data, size_t len)
{
    uint8_t out[4096];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)len, .next_out = out, .avail_out = sizeof(out)};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = sizeof(out) - z.avail_out;
    deflateEnd(&z);
    return pfl_blob_copy(out, n);
}

static const struct {
    const char *name;
    uint8_t bytes[24];
    size_t len;
    unsigned rank;
    enum pfl_rc rc;
    const char *says;
} BAD[] = {
    {"empty", {0}, 0, 3, PFL_MALFORMED, "too few"},
    {"three bytes", {0, 0, 8}, 3, 3, PFL_MALFORMED, "too few"},
    {"other magic", {1, 0, 8, 1, 0, 0, 0, 1, 9}, 9, 1, PFL_MALFORMED, "not an IDX file"},
    {"float values", {0, 0, 0x0d, 1, 0, 0, 0, 1, 9}, 9, 1, PFL_UNSUPPORTED, "0x0d"},
    {"labels where images are expected", {0, 0, 8, 1, 0, 0, 0, 1, 9}, 9, 3, PFL_MALFORMED, "1 dimensions where 3"},
    {"images where labels are expected", {HEAD3, 1, 2, 3, 4, 5, 6}, 22, 1, PFL_MALFORMED, "3 dimensions where 1"},
    {"head cut short", {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0}, 11, 3, PFL_MALFORMED, "within the IDX head"},
    {"a dimension of zero", {0, 0, 8, 1, 0, 0, 0, 0}, 8, 1, PFL_MALFORMED, "dimension 0"},
    {"no values", {HEAD3}, 16, 3, PFL_MALFORMED, "cut short"},
    {"one value short", {HEAD3, 1, 2, 3, 4, 5}, 21, 3, PFL_MALFORMED, "cut short"},
    {"one value more", {HEAD3, 1, 2, 3, 4, 5, 6, 7}, 23, 3, PFL_MALFORMED, "behind the end"},
    {"over the limit", {0, 0, 8, 1, 0x20, 0, 0, 1}, 8, 1, PFL_TOO_BIG, "announces more than"},
    {"product overflows 64 bits",
     {0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
     16,
     3,
     PFL_TOO_BIG,
     "announces more than"},
};

static void expect_refused(struct pfl_blob *in, unsigned rank, const char *name, enum pfl_rc rc, const char *says)
{
    struct pfl_idx x = {.rank = 77};
    struct pfl_err err = {0};
    enum pfl_rc got = pfl_idx_decode(in, rank, &x, &err);
    if (got != rc || (says && !strstr(err.msg, says)) || x.rank != 77 || x.blob)
        fail_msg("%s: code %d, \"%s\"; code %d with \"%s\" is expected and nothing returned", name, (int)got, err.msg, (int)rc,
                 says);
}

static void test_idx__bad_plain__refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *in = pfl_blob_copy(BAD[i].bytes, BAD[i].len);
        expect_refused(in, BAD[i].rank, BAD[i].name, BAD[i].rc, BAD[i].says);
    }
}

static void test_idx__bad_content_in_gzip__refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *in = packed(BAD[i].bytes, BAD[i].len);
        expect_refused(in, BAD[i].rank, BAD[i].name, BAD[i].rc, NULL);
    }
}

static void test_idx__gzip_cut_at_every_byte__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *whole = packed(GOOD, sizeof(GOOD));
    for (size_t len = 2; len < whole->len; len++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *in = pfl_blob_copy(whole->data, len);
        expect_refused(in, 3, "cut gzip", PFL_MALFORMED, NULL);
    }
}

static void test_idx__gzip_damaged__refused(void **state)
{
    (void)state;
    for (size_t back = 1; back <= 8; back++) { /* CRC and size */
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *in = packed(GOOD, sizeof(GOOD));
        in->data[in->len - back] ^= 0x40;
        expect_refused(in, 3, "damaged trailer", PFL_MALFORMED, "damaged gzip");
    }
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *whole = packed(GOOD, sizeof(GOOD));
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *longer = pfl_blob_new(whole->len + 1);
    memcpy(longer->data, whole->data, whole->len);
    longer->data[whole->len] = 0;
    expect_refused(longer, 3, "a byte behind gzip", PFL_MALFORMED, "behind the end of the gzip stream");
}

static void test_idx__gzip_that_announces_more_than_it_can_hold__refused_before_allocating(void **state)
{
    (void)state;
    static const uint8_t head[] = {0, 0, 8, 1, 0x1f, 0, 0, 0}; /* 496 MiB, below the limit */
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *in = packed(head, sizeof(head));
    expect_refused(in, 1, "bomb", PFL_MALFORMED, "which no gzip file of");
}

static void expect_good(const struct pfl_idx *x)
{
    assert_int_equal(x->rank, 3);
    assert_int_equal(x->dims[0], 2);
    assert_int_equal(x->dims[1], 1);
    assert_int_equal(x->dims[2], 3);
    assert_int_equal(x->values.len, 6);
    assert_memory_equal(x->values.data, GOOD + 16, 6);
}

static void test_idx__plain_and_gzip__same_values(void **state)
{
    (void)state;
    for (int gzip = 0; gzip < 2; gzip++) {
        struct pfl_blob *in = gzip ? packed(GOOD, sizeof(GOOD)) : pfl_blob_copy(GOOD, sizeof(GOOD));
        PFL_AUTO(pfl_idx_deinit) struct pfl_idx x = {0};
        struct pfl_err err = {0};
        assert_int_equal(pfl_idx_decode(in, 3, &x, &err), PFL_OK);
        pfl_blob_unref(in); /* the result has its own reference */
        expect_good(&x);
    }
}

static void test_idx_load__file__read_or_named(void **state)
{
    (void)state;
    char dir[] = "/tmp/pfl-idx-XXXXXX";
    assert_non_null(mkdtemp(dir));
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "some-idx3-ubyte");
    struct pfl_err err = {0};
    PFL_AUTO(pfl_idx_deinit) struct pfl_idx x = {0};
    assert_int_equal(pfl_idx_load(path, 3, &x, &err), PFL_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(pfl_fs_write_atomic(path, pfl_bytes_of(GOOD, sizeof(GOOD) - 1), 0600, &err), PFL_OK);
    assert_int_equal(pfl_idx_load(path, 3, &x, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(pfl_fs_write_atomic(path, pfl_bytes_of(GOOD, sizeof(GOOD)), 0600, &err), PFL_OK);
    assert_int_equal(pfl_idx_load(path, 3, &x, &err), PFL_OK);
    expect_good(&x);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx__bad_plain__refused),
        cmocka_unit_test(test_idx__bad_content_in_gzip__refused),
        cmocka_unit_test(test_idx__gzip_cut_at_every_byte__refused),
        cmocka_unit_test(test_idx__gzip_damaged__refused),
        cmocka_unit_test(test_idx__gzip_that_announces_more_than_it_can_hold__refused_before_allocating),
        cmocka_unit_test(test_idx__plain_and_gzip__same_values),
        cmocka_unit_test(test_idx_load__file__read_or_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
