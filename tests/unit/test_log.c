/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

struct lines {
    struct pfl_strs text;
    enum pfl_log_level last;
    bool inside; /* the lock keeps a second caller out */
};

static void sink(void *user, enum pfl_log_level level, const char *line)
{
    struct lines *l = user;
    assert_false(l->inside);
    l->inside = true;
    pfl_strs_add(&l->text, line);
    l->last = level;
    l->inside = false;
}

static int setup(void **state)
{
    static struct lines l;
    l = (struct lines){0};
    pfl_log_set_sink(sink, &l);
    pfl_log_set_level(PFL_LOG_INFO);
    *state = &l;
    return 0;
}

static int teardown(void **state)
{
    struct lines *l = *state;
    pfl_log_set_sink(NULL, NULL);
    pfl_strs_deinit(&l->text);
    return 0;
}

static void test_log__below_the_level__dropped(void **state)
{
    struct lines *l = *state;
    pfl_debug("no");
    assert_int_equal(l->text.n, 0);
    pfl_info("yes");
    pfl_log_set_level(PFL_LOG_ERROR);
    pfl_warn("no");
    pfl_error("yes %d", 2);
    assert_int_equal(l->text.n, 2);
    assert_string_equal(l->text.items[1], "yes 2");
    assert_int_equal(l->last, PFL_LOG_ERROR);
}

static void test_log__control_characters__one_line_stays_one(void **state)
{
    struct lines *l = *state;
    pfl_info("peer says: %s", "x\n2026-11-23T00:00:00.000Z INFO forged\x1b[2J");
    assert_int_equal(l->text.n, 1);
    assert_string_equal(l->text.items[0], "peer says: x\\x0a2026-11-23T00:00:00.000Z INFO forged\\x1b[2J");
}

static void test_log__long_line__cut_at_2000(void **state)
{
    struct lines *l = *state;
    static char text[5000];
    memset(text, 'a', sizeof(text) - 1);
    pfl_info("%.2000s", text);
    pfl_info("%.2001s", text);
    pfl_info("%s", text);
    assert_int_equal(strlen(l->text.items[0]), 2000);
    assert_null(strstr(l->text.items[0], "..."));
    for (size_t i = 1; i < 3; i++) {
        assert_int_equal(strlen(l->text.items[i]), 2000);
        assert_string_equal(l->text.items[i] + 1997, "...");
    }
}

static void *many(void *unused)
{
    (void)unused;
    for (int i = 0; i < 500; i++)
        pfl_info("line %d", i);
    return NULL;
}

static void test_log__several_threads__one_at_a_time(void **state)
{
    struct lines *l = *state;
    pthread_t t[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, many, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(l->text.n, 2000);
}

static void test_log_parse_level__rows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum pfl_log_level level;
    } rows[] = {{"DEBUG", PFL_LOG_DEBUG}, {"info", PFL_LOG_INFO},   {"Warning", PFL_LOG_WARN},
                {"warn", PFL_LOG_WARN},   {"ERROR", PFL_LOG_ERROR}, {"CRITICAL", PFL_LOG_ERROR}};
    enum pfl_log_level level = PFL_LOG_WARN;
    assert_false(pfl_log_parse_level("", &level));
    assert_false(pfl_log_parse_level("inform", &level));
    assert_int_equal(level, PFL_LOG_WARN);
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        assert_true(pfl_log_parse_level(rows[i].name, &level));
        assert_int_equal(level, rows[i].level);
    }
}

static void test_log__no_sink__standard_error_with_time_and_level(void **state)
{
    (void)state;
    int fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(fds), 0);
    pfl_log_set_sink(NULL, NULL);
    fflush(stderr);
    dup2(fds[1], STDERR_FILENO);
    pfl_warn("hello");
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    char got[128] = "";
    ssize_t n = read(fds[0], got, sizeof(got) - 1);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(n, 24 + strlen(" WARN  hello\n"));
    assert_int_equal(got[10], 'T');
    assert_string_equal(got + 23, "Z WARN  hello\n");
}

static void test_clock_format__rows(void **state)
{
    (void)state;
    static const struct {
        pfl_ns at;
        const char *text;
    } rows[] = {{0, "1970-01-01T00:00:00.000Z"},
                {1792728306789 * PFL_MS, "2026-10-23T04:05:06.789Z"},
                {-1 * PFL_MS, "1969-12-31T23:59:59.999Z"},
                {INT64_MAX, "2262-04-11T23:47:16.854Z"},
                {INT64_MIN, "1677-09-21T00:12:43.145Z"}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        char out[32];
        pfl_clock_format(rows[i].at, out);
        assert_string_equal(out, rows[i].text);
    }
    pfl_ns a = pfl_clock_mono(), b = pfl_clock_mono();
    assert_true(b >= a);
    assert_true(pfl_clock_wall() > 1700000000 * PFL_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_log__below_the_level__dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log__control_characters__one_line_stays_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log__long_line__cut_at_2000, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log__several_threads__one_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log__no_sink__standard_error_with_time_and_level, setup, teardown),
        cmocka_unit_test(test_log_parse_level__rows),
        cmocka_unit_test(test_clock_format__rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
