/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"

static void test_err_set__no_storage__still_the_class(void **state)
{
    (void)state;
    assert_int_equal(pfl_err_set(NULL, PFL_AUTH, "%s", "x"), PFL_AUTH);
    assert_int_equal(pfl_err_errno(NULL, ENOENT, "x"), PFL_NOT_FOUND);
    assert_int_equal(pfl_err_wrap(NULL, "x"), PFL_INVALID);
    pfl_err_clear(NULL);
}

static void test_err_set__long_text__cut_with_a_nul(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    char text[PFL_ERR_MAX + 100];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(pfl_err_set(&err, PFL_TOO_BIG, "%s", text), PFL_TOO_BIG);
    assert_int_equal(strlen(err.msg), PFL_ERR_MAX - 1);
    assert_int_equal(pfl_err_wrap(&err, "%s", text), PFL_TOO_BIG);
    assert_int_equal(strlen(err.msg), PFL_ERR_MAX - 1);
}

static void test_err_set__own_message_as_argument__is_read_before_it_is_written(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    pfl_err_set(&err, PFL_IO, "disk");
    assert_int_equal(pfl_err_set(&err, PFL_STATE, "node: %s", err.msg), PFL_STATE);
    assert_string_equal(err.msg, "node: disk");
}

static void test_err_wrap__puts_the_place_before_the_cause(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    pfl_err_set(&err, PFL_NOT_FOUND, "%s: no such file", "a.crt");
    assert_int_equal(pfl_err_wrap(&err, "node '%s'", "a"), PFL_NOT_FOUND);
    assert_string_equal(err.msg, "node 'a': a.crt: no such file");
}

static void test_err_wrap__nothing_set__is_invalid(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    assert_int_equal(pfl_err_wrap(&err, "node"), PFL_INVALID);
    assert_int_equal(err.rc, PFL_INVALID);
}

static void test_err_errno__class_follows_the_number(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        enum pfl_rc rc;
    } rows[] = {{ENOENT, PFL_NOT_FOUND}, {EEXIST, PFL_EXISTS}, {ETIMEDOUT, PFL_TIMEOUT}, {EACCES, PFL_IO}, {ENOSPC, PFL_IO}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_err err = {0};
        assert_int_equal(pfl_err_errno(&err, rows[i].errnum, "file %d", 7), rows[i].rc);
        assert_int_equal(err.rc, rows[i].rc);
        assert_true(strncmp(err.msg, "file 7: ", 8) == 0);
        assert_string_equal(err.msg + 8, strerror(rows[i].errnum));
    }
}

static void test_err_clear__ok_and_empty(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    pfl_err_set(&err, PFL_IO, "x");
    pfl_err_clear(&err);
    assert_int_equal(err.rc, PFL_OK);
    assert_string_equal(err.msg, "");
}

static void test_rc_text__every_code_has_its_own(void **state)
{
    (void)state;
    assert_string_equal(pfl_rc_text(PFL_OK), "ok");
    assert_string_equal(pfl_rc_text(PFL_UNSUPPORTED), "not supported");
    for (int i = PFL_OK; i <= PFL_UNSUPPORTED; i++) {
        assert_string_not_equal(pfl_rc_text((enum pfl_rc)i), "unknown");
        for (int j = PFL_OK; j < i; j++)
            assert_string_not_equal(pfl_rc_text((enum pfl_rc)i), pfl_rc_text((enum pfl_rc)j));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_set__no_storage__still_the_class),
        cmocka_unit_test(test_err_set__long_text__cut_with_a_nul),
        cmocka_unit_test(test_err_set__own_message_as_argument__is_read_before_it_is_written),
        cmocka_unit_test(test_err_wrap__puts_the_place_before_the_cause),
        cmocka_unit_test(test_err_wrap__nothing_set__is_invalid),
        cmocka_unit_test(test_err_errno__class_follows_the_number),
        cmocka_unit_test(test_err_clear__ok_and_empty),
        cmocka_unit_test(test_rc_text__every_code_has_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
