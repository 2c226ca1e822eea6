/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

static void test_quote__rows(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t len, room;
        const char *out;
    } rows[] = {
        {"", 0, 8, ""},
        {"plain", 5, 16, "plain"},
        {"a\nb\x1b[0m\x7f", 8, 40, "a\\x0ab\\x1b[0m\\x7f"},
        {"nul\0nul", 7, 40, "nul\\x00nul"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 14, 40, "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff\xc3", 2, 40, "\\xff\\xc3"},          /* no UTF-8, and a sequence cut short */
        {"\xc2\x85", 2, 40, "\\xc2\\x85"},          /* a C1 control */
        {"\xed\xa0\x80", 3, 40, "\\xed\\xa0\\x80"}, /* a surrogate */
        {"\xc0\xaf", 2, 40, "\\xc0\\xaf"},          /* an overlong slash */
        {"1234567", 7, 8, "1234567"},               /* fits to the byte */
        {"12345678", 8, 8, "1234..."},
        {"123456\xc3\xa9", 8, 8, "1234..."},
        {"\n\n\n", 3, 8, "\\x0a..."},
        {"\n\n", 2, 9, "\\x0a\\x0a"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        char out[64];
        memset(out, '#', sizeof(out));
        assert_ptr_equal(pfl_quote(rows[i].in, rows[i].len, out, rows[i].room), out);
        assert_string_equal(out, rows[i].out);
        assert_int_equal(out[rows[i].room], '#');
    }
}

static void test_q__eight_results_live_at_once(void **state)
{
    (void)state;
    const char *got[8];
    char text[2] = "a";
    for (size_t i = 0; i < 8; i++) {
        text[0] = (char)('a' + (char)i);
        got[i] = pfl_q(text);
    }
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(got[i][0], 'a' + (int)i);
    assert_string_equal(pfl_q(NULL), "(none)");
}

static void test_parse_i64__refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "", " 1", "1 ", "+1", "-", "--1", "1.0", "0x10", "1e3", "ten", "101", "-11", "99999999999999999999"};
    int64_t v = 7;
    assert_false(pfl_parse_i64(NULL, -10, 100, &v));
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        if (pfl_parse_i64(rows[i], -10, 100, &v))
            fail_msg("'%s'", rows[i]);
    }
    assert_int_equal(v, 7);
}

static void test_parse_i64__whole_range(void **state)
{
    (void)state;
    int64_t v;
    assert_true(pfl_parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v) && v == INT64_MIN);
    assert_true(pfl_parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &v) && v == INT64_MAX);
    assert_true(pfl_parse_i64("0100", 0, 100, &v) && v == 100);
    assert_false(pfl_parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &v));
}

static void test_parse_u64__rows(void **state)
{
    (void)state;
    uint64_t v = 7;
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616"};
    assert_false(pfl_parse_u64(NULL, &v));
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        if (pfl_parse_u64(bad[i], &v))
            fail_msg("'%s'", bad[i]);
    }
    assert_true(v == 7);
    assert_true(pfl_parse_u64("18446744073709551615", &v) && v == UINT64_MAX);
}

static void test_parse_double__rows(void **state)
{
    (void)state;
    static const char *const bad[] = {"", " 1", "1 ", "nan", "inf", "-inf", "1e999", "0x1p3", "1,5", "e", ".", "1..2", "--1"};
    static const struct {
        const char *in;
        double out;
    } good[] = {{"0", 0}, {"-1.5", -1.5}, {"1e-3", 1e-3}, {".5", .5}, {"+2.", 2}, {"1E6", 1e6}};
    double v = 7;
    assert_false(pfl_parse_double(NULL, &v));
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        if (pfl_parse_double(bad[i], &v))
            fail_msg("'%s'", bad[i]);
    }
    assert_true(v == 7.0);
    for (size_t i = 0; i < PFL_ARRAY_LEN(good); i++) {
        if (!pfl_parse_double(good[i].in, &v) || v != good[i].out)
            fail_msg("'%s'", good[i].in);
    }
}

static void test_utf8_valid__rows(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool valid;
    } rows[] = {
        {"", true},      {"ascii", true},     {"\xc2\x80", true},          {"\xef\xbf\xbf", true},      {"\xf4\x8f\xbf\xbf", true},
        {"\x80", false}, {"\xc1\xbf", false}, {"\xe0\x9f\xbf", false},     {"\xed\xbf\xbf", false},     {"\xf0\x8f\xbf\xbf", false},
        {"\xc3", false}, {"\xe2\x82", false}, {"\xf4\x90\x80\x80", false}, {"\xf8\x88\x80\x80", false}, {"ok\xfe", false},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        if (pfl_utf8_valid(rows[i].in, strlen(rows[i].in)) != rows[i].valid)
            fail_msg("row %zu", i);
    }
}

static void test_streq__null_equals_null_only(void **state)
{
    (void)state;
    assert_true(pfl_streq(NULL, NULL));
    assert_false(pfl_streq(NULL, ""));
    assert_false(pfl_streq("", NULL));
    assert_true(pfl_streq("a", "a"));
    assert_false(pfl_streq("a", "b"));
    assert_true(pfl_str_has_prefix("unix:///x", "unix://"));
    assert_false(pfl_str_has_prefix("uni", "unix://"));
}

static void test_strs__add_remove_sort_copy(void **state)
{
    (void)state;
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs a = {0};
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs b = {0};
    static const char *const in[] = {"d", "B", "a", "c", "e", "a"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(in); i++)
        pfl_strs_add_once(&a, in[i]);
    assert_int_equal(a.n, 5);
    assert_false(pfl_strs_add_once(&a, "a"));
    assert_true(pfl_strs_remove(&a, "d"));
    assert_false(pfl_strs_remove(&a, "d"));
    assert_false(pfl_strs_has(&a, "d"));
    pfl_strs_addn(&a, "fgh", 1);
    pfl_strs_sort(&a);
    pfl_strs_add(&b, "gone");
    pfl_strs_copy(&b, &a);
    PFL_AUTO(pfl_freep) char *joined = pfl_strs_join(&b, ",");
    assert_string_equal(joined, "B,a,c,e,f");
}

static void test_strs_split__blanks_and_empty_items(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
        size_t n;
    } rows[] = {{"", "", 1}, {"a", "a", 1}, {" a , b,c ", "a|b|c", 3}, {",", "|", 2}, {"a,,b", "a||b", 3}, {"  ", "", 1}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_strs_deinit) struct pfl_strs l = {0};
        pfl_strs_split(&l, rows[i].in, ',');
        PFL_AUTO(pfl_freep) char *joined = pfl_strs_join(&l, "|");
        assert_string_equal(joined, rows[i].out);
        assert_int_equal(l.n, rows[i].n);
    }
}

static void test_nearest__rows(void **state)
{
    (void)state;
    static const char *const names[] = {"rounds", "epochs", "trainset_size", "seed"};
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"ruonds", "rounds"}, {"EPOCHS", "epochs"}, {"trainsetsize", "trainset_size"}, {"completely", NULL}, {"sed", "seed"}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        if (!pfl_streq(pfl_nearest(rows[i].in, names, PFL_ARRAY_LEN(names)), rows[i].out))
            fail_msg("'%s'", rows[i].in);
    }
    char text[200];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_null(pfl_nearest(text, names, PFL_ARRAY_LEN(names)));
    assert_null(pfl_nearest("rounds", names, 0));
}

static void test_parse_duration__number_and_unit__else_refused(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int64_t out; /* 0: refused */
    } ROWS[] = {{"90s", 90},
                {"15m", 900},
                {"24h", 86400},
                {"7d", 604800},
                {"1s", 1},
                {"", 0},
                {"s", 0},
                {"90", 0},
                {"0s", 0},
                {"-1s", 0},
                {"1.5h", 0},
                {"1 h", 0},
                {"1w", 0},
                {"h1", 0},
                {"8d", 0},
                {"1hh", 0},
                {"+1s", 0},
                {"0x1s", 0},
                {"99999999999999999999999d", 0},
                {"9223372036854775807d", 0}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        int64_t out = 0;
        bool ok = pfl_parse_duration(ROWS[i].in, 1, 7 * 86400, &out);
        if (ok != (ROWS[i].out != 0) || out != ROWS[i].out)
            fail_msg("'%s' gives %d, %lld", ROWS[i].in, ok, (long long)out);
    }
}

static void check_list(const struct pfl_strs *l, const char *want)
{
    PFL_AUTO(pfl_freep) char *text = pfl_strs_join(l, "|");
    assert_string_equal(text, want);
}

static void test_strs__a_copy_is_one_block_and_can_be_changed(void **state)
{
    (void)state;
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs a = {0}, b = {0};
    pfl_strs_seal(&a); /* nothing */
    pfl_strs_copy(&b, &a);
    assert_true(a.n == 0 && b.n == 0);
    pfl_strs_add(&a, "two");
    pfl_strs_add(&a, "");
    pfl_strs_add(&a, "one");
    pfl_strs_copy(&b, &a);
    assert_int_equal(b.cap, 0);
    check_list(&b, "two||one");
    pfl_strs_sort(&b);
    check_list(&b, "|one|two");
    assert_true(pfl_strs_remove(&b, "one"));
    check_list(&b, "|two");
    pfl_strs_seal(&b);
    pfl_strs_add(&b, "three");
    check_list(&b, "|two|three");
    pfl_strs_copy(&b, &a); /* over what was there */
    pfl_strs_seal(&b);     /* is one already */
    check_list(&b, "two||one");
    assert_false(pfl_strs_add_once(&b, "one"));
    assert_false(pfl_strs_remove(&b, "x"));
    check_list(&b, "two||one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quote__rows),
        cmocka_unit_test(test_q__eight_results_live_at_once),
        cmocka_unit_test(test_parse_i64__refused),
        cmocka_unit_test(test_parse_i64__whole_range),
        cmocka_unit_test(test_parse_u64__rows),
        cmocka_unit_test(test_parse_double__rows),
        cmocka_unit_test(test_utf8_valid__rows),
        cmocka_unit_test(test_streq__null_equals_null_only),
        cmocka_unit_test(test_strs__add_remove_sort_copy),
        cmocka_unit_test(test_strs__a_copy_is_one_block_and_can_be_changed),
        cmocka_unit_test(test_strs_split__blanks_and_empty_items),
        cmocka_unit_test(test_nearest__rows),
        cmocka_unit_test(test_parse_duration__number_and_unit__else_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
