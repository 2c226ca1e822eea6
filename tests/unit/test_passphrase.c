/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pki/passphrase.h"
#include "support/certs.h"

/* What a descriptor gives that holds these bytes and then ends. */
static enum pfl_rc from_pipe(const void *bytes, size_t len, struct pfl_passphrase **ret, struct pfl_err *err)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], bytes, len), (ssize_t)len);
    close(fd[1]);
    enum pfl_rc rc = pfl_passphrase_from_fd(fd[0], ret, err);
    close(fd[0]);
    return rc;
}

static void test_passphrase__unusable__refused(void **state)
{
    (void)state;
    char line[PFL_PASSPHRASE_MAX + 2];
    memset(line, 'x', sizeof line);
    const struct {
        const char *bytes;
        size_t len;
        const char *wanted;
    } rows[] = {{"", 0, "empty"},
                {"\n", 1, "empty"},
                {"\r\nx", 3, "empty"},
                {"a\0b\n", 4, "NUL"},
                {line, PFL_PASSPHRASE_MAX + 1, "longer than 1023"},
                {line, sizeof line, "longer than 1023"}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_passphrase *p = NULL;
        struct pfl_err err = {0};
        assert_int_equal(from_pipe(rows[i].bytes, rows[i].len, &p, &err), PFL_INVALID);
        assert_null(p);
        assert_non_null(strstr(err.msg, rows[i].wanted));
    }
}

static void test_passphrase__first_line__without_its_end(void **state)
{
    (void)state;
    static const char *const ROWS[] = {"one two", "one two\n", "one two\r\n", "one two\nthree\n"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_passphrase *p = NULL;
        assert_int_equal(from_pipe(ROWS[i], strlen(ROWS[i]), &p, NULL), PFL_OK);
        assert_string_equal(pfl_passphrase_text(p), "one two");
        assert_int_equal(pfl_passphrase_len(p), 7);
        pfl_passphrase_free(p);
    }
}

static void test_passphrase__longest__taken(void **state)
{
    (void)state;
    char line[PFL_PASSPHRASE_MAX + 1];
    struct pfl_passphrase *p = NULL;
    memset(line, 'x', sizeof line);
    line[PFL_PASSPHRASE_MAX] = '\n';
    assert_int_equal(from_pipe(line, sizeof line, &p, NULL), PFL_OK);
    assert_int_equal(pfl_passphrase_len(p), PFL_PASSPHRASE_MAX);
    pfl_passphrase_free(p);
}

static void test_passphrase__descriptor__rest_stays_unread(void **state)
{
    (void)state;
    int fd[2];
    char rest[8] = "";
    struct pfl_passphrase *p = NULL;
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "first\nrest", 10), 10);
    close(fd[1]);
    assert_int_equal(pfl_passphrase_from_fd(fd[0], &p, NULL), PFL_OK);
    assert_int_equal(read(fd[0], rest, sizeof rest), 4);
    assert_memory_equal(rest, "rest", 4);
    close(fd[0]);
    pfl_passphrase_free(p);
}

static void test_passphrase__closed_descriptor__refused(void **state)
{
    (void)state;
    struct pfl_passphrase *p = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_passphrase_from_fd(-1, &p, &err), PFL_IO);
    assert_null(p);
}

static void test_passphrase__file_that_others_can_read__refused(void **state)
{
    (void)state;
    char *dir = test_dir_new(), *path = pfl_fs_join(dir, "pw");
    struct pfl_passphrase *p = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_passphrase_from_file(path, &p, &err), PFL_NOT_FOUND);
    assert_int_equal(pfl_fs_write_new(path, pfl_bytes_of("secret words\n", 13), 0644, NULL), PFL_OK);
    assert_int_equal(pfl_passphrase_from_file(path, &p, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "chmod"));
    assert_null(strstr(err.msg, "secret"));
    assert_null(p);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(pfl_passphrase_from_file(path, &p, &err), PFL_OK);
    assert_string_equal(pfl_passphrase_text(p), "secret words");
    pfl_passphrase_free(p);
    free(path);
    test_dir_free(dir);
}

static void test_passphrase__new_key__at_least_eight_bytes(void **state)
{
    (void)state;
    struct pfl_passphrase *p = NULL;
    assert_int_equal(pfl_passphrase_of("1234567", 7, &p, NULL), PFL_OK);
    assert_int_equal(pfl_passphrase_check_new(p, NULL), PFL_INVALID);
    pfl_passphrase_free(p);
    assert_int_equal(pfl_passphrase_of("12345678", 8, &p, NULL), PFL_OK);
    assert_int_equal(pfl_passphrase_check_new(p, NULL), PFL_OK);
    pfl_passphrase_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passphrase__unusable__refused),
        cmocka_unit_test(test_passphrase__first_line__without_its_end),
        cmocka_unit_test(test_passphrase__longest__taken),
        cmocka_unit_test(test_passphrase__descriptor__rest_stays_unread),
        cmocka_unit_test(test_passphrase__closed_descriptor__refused),
        cmocka_unit_test(test_passphrase__file_that_others_can_read__refused),
        cmocka_unit_test(test_passphrase__new_key__at_least_eight_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
