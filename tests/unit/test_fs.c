/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"

#define VIEW(s) pfl_bytes_of(s, sizeof(s) - 1)

static char dir[64];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "%s", "/tmp/pfl-test-fs-XXXXXX");
    return mkdtemp(dir) ? 0 : 1;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *in_dir(const char *name)
{
    return pfl_fs_join(dir, name);
}

static size_t files_in_dir(void)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void assert_content(const char *path, const char *want)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
    struct pfl_err err = {0};
    if (pfl_fs_read(path, 4096, &b, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(b->len, strlen(want));
    assert_string_equal((const char *)b->data, want); /* the NUL behind is there too */
}

static void test_fs_read__refused_with_the_path(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *missing = in_dir("missing");
    PFL_AUTO(pfl_freep) char *big = in_dir("big");
    PFL_AUTO(pfl_freep) char *fifo = in_dir("fifo");
    assert_int_equal(pfl_fs_write_atomic(big, VIEW("12345"), 0600, NULL), PFL_OK);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        enum pfl_rc rc;
    } rows[] = {{missing, PFL_NOT_FOUND}, {big, PFL_TOO_BIG}, {fifo, PFL_INVALID}, {dir, PFL_INVALID}, {"/dev/zero", PFL_INVALID}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_blob *b = NULL;
        struct pfl_err err = {0};
        assert_int_equal(pfl_fs_read(rows[i].path, 4, &b, &err), rows[i].rc);
        assert_null(b);
        assert_ptr_equal(strstr(err.msg, rows[i].path), err.msg);
    }
    struct pfl_blob *b = NULL;
    assert_int_equal(pfl_fs_read(big, 5, &b, NULL), PFL_OK);
    assert_int_equal(b->len, 5);
    pfl_blob_unref(b);
}

static void test_fs_write_atomic__replaces_with_the_mode(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *path = in_dir("a");
    mode_t before = umask(077);
    assert_int_equal(pfl_fs_write_atomic(path, VIEW("old"), 0644, NULL), PFL_OK);
    umask(before);
    assert_int_equal(mode_of(path), 0644);
    assert_int_equal(pfl_fs_write_atomic(path, VIEW(""), 0600, NULL), PFL_OK);
    assert_content(path, "");
    assert_int_equal(mode_of(path), 0600);
    const struct pfl_bytes parts[] = {VIEW("one "), VIEW(""), VIEW("two")};
    assert_int_equal(pfl_fs_write_atomic_parts(path, parts, 3, 0600, NULL), PFL_OK);
    assert_content(path, "one two");
    assert_int_equal(files_in_dir(), 1);
}

static void test_fs_write_atomic__fails__nothing_left_behind(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *folder = in_dir("folder");
    PFL_AUTO(pfl_freep) char *inner = in_dir("folder/x");
    PFL_AUTO(pfl_freep) char *nowhere = in_dir("no/where");
    struct pfl_err err = {0};
    assert_int_equal(pfl_fs_mkdirs(folder, 0700, NULL), PFL_OK);
    assert_int_equal(pfl_fs_write_atomic(inner, VIEW("x"), 0600, NULL), PFL_OK);
    assert_int_equal(pfl_fs_write_atomic(folder, VIEW("x"), 0600, &err), PFL_IO); /* a folder is there: rename refuses */
    assert_non_null(strstr(err.msg, folder));
    assert_int_equal(pfl_fs_write_atomic(nowhere, VIEW("x"), 0600, NULL), PFL_NOT_FOUND);
    assert_int_equal(files_in_dir(), 1);
    assert_content(inner, "x");
}

static void test_fs_write_new__exists__left_alone(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *path = in_dir("ca.key");
    PFL_AUTO(pfl_freep) char *link = in_dir("dangling");
    assert_int_equal(pfl_fs_write_new(path, VIEW("first"), 0600, NULL), PFL_OK);
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(pfl_fs_write_new(path, VIEW("second"), 0644, NULL), PFL_EXISTS);
    assert_content(path, "first");
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(symlink("elsewhere", link), 0);
    assert_int_equal(pfl_fs_write_new(link, VIEW("second"), 0600, NULL), PFL_EXISTS);
    assert_true(pfl_fs_exists(link));
    assert_int_equal(files_in_dir(), 2);
}

static void test_fs_mkdirs__nested_existing_and_in_the_way(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *deep = in_dir("a/b//c/");
    PFL_AUTO(pfl_freep) char *a = in_dir("a");
    PFL_AUTO(pfl_freep) char *file = in_dir("file");
    PFL_AUTO(pfl_freep) char *under = in_dir("file/x");
    assert_int_equal(pfl_fs_mkdirs(deep, 0700, NULL), PFL_OK);
    assert_int_equal(mode_of(deep), 0700);
    assert_int_equal(pfl_fs_mkdirs(a, 0755, NULL), PFL_OK);
    assert_int_equal(mode_of(a), 0700);
    assert_int_equal(pfl_fs_write_atomic(file, VIEW("x"), 0600, NULL), PFL_OK);
    assert_int_equal(pfl_fs_mkdirs(file, 0700, NULL), PFL_EXISTS);
    assert_int_equal(pfl_fs_mkdirs(under, 0700, NULL), PFL_IO);
    assert_int_equal(pfl_fs_mkdirs("", 0700, NULL), PFL_NOT_FOUND);
}

static void test_fs_check_private__rows(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        enum pfl_rc rc;
    } rows[] = {{0644, PFL_AUTH}, {0640, PFL_AUTH}, {0601, PFL_AUTH}, {0620, PFL_AUTH},
                {0666, PFL_AUTH}, {0600, PFL_OK},   {0400, PFL_OK}};
    PFL_AUTO(pfl_freep) char *path = in_dir("server.key");
    struct pfl_err err = {0};
    assert_int_equal(pfl_fs_check_private(path, &err), PFL_NOT_FOUND);
    assert_int_equal(pfl_fs_write_atomic(path, VIEW("k"), 0600, NULL), PFL_OK);
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        pfl_err_clear(&err);
        assert_int_equal(chmod(path, rows[i].mode), 0);
        assert_int_equal(pfl_fs_check_private(path, &err), rows[i].rc);
        if (rows[i].rc != PFL_OK && (!strstr(err.msg, path) || !strstr(err.msg, "chmod 600")))
            fail_msg("%s", err.msg);
    }
}

static void test_fs_check_private__of_another_user__refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* only root can give a file away */
    PFL_AUTO(pfl_freep) char *path = in_dir("server.key");
    struct pfl_err err = {0};
    assert_int_equal(pfl_fs_write_atomic(path, VIEW("k"), 0600, NULL), PFL_OK);
    assert_int_equal(chown(path, 12345, 12345), 0);
    assert_int_equal(pfl_fs_check_private(path, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "12345"));
}

static void test_fs_join__and_dirname(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *name, *joined, *dirname;
    } rows[] = {{"a", "b", "a/b", "a"}, {"a/", "b", "a/b", "a"},     {"", "b", "b", "."},
                {"/", "b", "/b", "/"},  {"a", "/b/c", "/b/c", "/b"}, {".", "x/y", "./x/y", "./x"}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_freep) char *joined = pfl_fs_join(rows[i].dir, rows[i].name);
        PFL_AUTO(pfl_freep) char *parent = pfl_fs_dirname(joined);
        assert_string_equal(joined, rows[i].joined);
        assert_string_equal(parent, rows[i].dirname);
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_fs_read__refused_with_the_path),
        T(test_fs_write_atomic__replaces_with_the_mode),
        T(test_fs_write_atomic__fails__nothing_left_behind),
        T(test_fs_write_new__exists__left_alone),
        T(test_fs_mkdirs__nested_existing_and_in_the_way),
        T(test_fs_check_private__rows),
        T(test_fs_check_private__of_another_user__refused),
        T(test_fs_join__and_dirname),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
