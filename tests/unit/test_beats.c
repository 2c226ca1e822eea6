/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire mesh */
/* The digest of signs of life: what it refuses, what it packs, that both fit together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mesh/beats.h"
#include "wire/limits.h"

static enum pfl_rc read_one(const char *text, struct pfl_beat *ret)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs args = {0};
    struct pfl_err err = {0};
    pfl_strs_add(&args, text);
    struct pfl_beats_reader r = {.args = &args};
    return pfl_beats_next(&r, ret, &err);
}

static void lines__that_are_none__are_refused(void **state)
{
    (void)state;
    static char long_addr[PFL_ADDR_MAX + 16];
    snprintf(long_addr, sizeof(long_addr), "1 - ");
    memset(long_addr + 4, 'a', PFL_ADDR_MAX);
    const char *const bad[] = {"",
                               " ",
                               "1",
                               "1 -",
                               "1 - ",
                               "0 - a:1",
                               "-1 - a:1",
                               "+1 - a:1",
                               "1  a:1",
                               "1 xx a:1",
                               "1 X a:1",
                               "1 -1 a:1",
                               "x - a:1",
                               "9007199254740992 - a:1",
                               "99999999999999999999 - a:1",
                               "1 2147483648 a:1",
                               "1 -- a:1",
                               "1 - a:1\n\n",
                               "\n",
                               "1e3 - a:1",
                               long_addr};
    struct pfl_beat b;
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        PFL_AUTO(pfl_strs_deinit) struct pfl_strs args = {0};
        struct pfl_err err = {0};
        enum pfl_rc rc = PFL_OK;
        pfl_strs_add(&args, bad[i]);
        struct pfl_beats_reader r = {.args = &args};
        while (rc == PFL_OK)
            rc = pfl_beats_next(&r, &b, &err);
        if (rc != PFL_MALFORMED)
            fail_msg("'%s' is taken", bad[i]);
    }
}

static void a_line__is_read(void **state)
{
    (void)state;
    struct pfl_beat b;
    assert_int_equal(read_one("17 - 10.0.0.1:6666", &b), PFL_OK);
    assert_string_equal(b.addr, "10.0.0.1:6666");
    assert_true(b.count == 17 && b.fits == PFL_BEAT_IDLE);
    assert_int_equal(read_one("17 x 10.0.0.1:6666", &b), PFL_OK);
    assert_true(b.count == 17 && b.fits == PFL_BEAT_GONE);
    assert_int_equal(read_one("9007199254740991 2147483647 unix:///a b 5", &b), PFL_OK);
    assert_string_equal(b.addr, "unix:///a b 5");
    assert_true(b.count == PFL_BEAT_COUNT_MAX && b.fits == INT32_MAX);
}

static void what_is_packed__is_read_back(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct pfl_beats_writer w = {0};
    struct pfl_beat b;
    struct pfl_err err = {0};
    char addr[64];
    for (unsigned i = 0; i < N; i++) {
        snprintf(addr, sizeof(addr), "node-%u.example:%u", i, 1 + i);
        assert_true(pfl_beats_add(&w, addr, i + 1, i % 3 ? -(int32_t)(i % 3) : (int32_t)i));
    }
    assert_true(pfl_beats_add(&w, "unix:///new\nline", 1, -1)); /* left out */
    pfl_beats_end(&w);
    assert_true(w.args.n < N / 20);
    for (size_t i = 0; i < w.args.n; i++)
        assert_true(strlen(w.args.items[i]) <= PFL_WIRE_ARG_MAX);
    struct pfl_beats_reader r = {.args = &w.args};
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(pfl_beats_next(&r, &b, &err), PFL_OK);
        snprintf(addr, sizeof(addr), "node-%u.example:%u", i, 1 + i);
        assert_string_equal(b.addr, addr);
        assert_true(b.count == i + 1 && b.fits == (i % 3 ? -(int32_t)(i % 3) : (int32_t)i));
    }
    assert_int_equal(pfl_beats_next(&r, &b, &err), PFL_NOT_FOUND);
    pfl_beats_deinit(&w);
}

static void a_full_message__says_so(void **state)
{
    (void)state;
    struct pfl_beats_writer w = {0};
    char addr[PFL_ADDR_MAX];
    unsigned n = 0;
    memset(addr, 'a', sizeof(addr) - 1);
    addr[sizeof(addr) - 1] = '\0';
    while (n < 4096 && pfl_beats_add(&w, addr, PFL_BEAT_COUNT_MAX, INT32_MAX))
        n++;
    pfl_beats_end(&w);
    size_t bytes = 0;
    for (size_t i = 0; i < w.args.n; i++)
        bytes += strlen(w.args.items[i]) + 4;
    assert_true(n > 800 && n < 4096 && bytes < PFL_WIRE_CONTROL_MAX - 1024 && w.args.n <= PFL_WIRE_ARGS_MAX);
    pfl_beats_deinit(&w);
}

static void hashes__depend_on_both(void **state)
{
    (void)state;
    assert_true(pfl_beat_hash("a:1", 1) == pfl_beat_hash("a:1", 1));
    assert_true(pfl_beat_hash("a:1", 1) != pfl_beat_hash("a:1", 2));
    assert_true(pfl_beat_hash("a:1", 1) != pfl_beat_hash("a:2", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines__that_are_none__are_refused),
        cmocka_unit_test(a_line__is_read),
        cmocka_unit_test(what_is_packed__is_read_back),
        cmocka_unit_test(a_full_message__says_so),
        cmocka_unit_test(hashes__depend_on_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
