/* SPDX-License-Identifier: Apache-2.0 */
/* link: base config pki */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "config/yaml_edit.h"

static struct pfl_yaml_doc parse(const char *text)
{
    struct pfl_yaml_doc doc = {0};
    struct pfl_err err = {0};
    if (pfl_yaml_parse("e", text, strlen(text), &doc, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return doc;
}

static void expect(const char *in, const char *path, const char *value, const char *want)
{
    PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse(in);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    struct pfl_err err = {0};
    if (path && pfl_yaml_set(&doc, path, value, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_yaml_write(&doc, &out);
    assert_string_equal(pfl_buf_cstr(&out), want);
    PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc again = parse(pfl_buf_cstr(&out)); /* what is written reads the same */
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf twice = {0};
    pfl_yaml_write(&again, &twice);
    assert_string_equal(pfl_buf_cstr(&twice), want);
}

static void test_set__there_or_not__the_value_stands(void **state)
{
    (void)state;
    expect("a: {b: 1, c: 2}\nd: x\n", "a.b", "5", "a:\n  b: 5\n  c: 2\nd: x\n");
    expect("a: {B: 1}\n", "A.b", "7", "a:\n  B: 7\n");
    expect("a: 1\n", "e.f.g", "[200, 200]", "a: 1\ne:\n  f:\n    g: [200, 200]\n");
    expect("a: null\nb: ~\n", "a.x", "1", "a:\n  x: 1\nb: ~\n");
    expect("a: None\n", "a.x", "{y: 1}", "a:\n  x:\n    y: 1\n");
    expect("a: [1, 2]\n", "a", "\"it's\"", "a: \"it's\"\n");
}

static void test_write__awkward_texts__quoted(void **state)
{
    (void)state;
    expect("a: \"null\"\nb: 'x: y'\nc: -\"d\"\n\"k k\": [[0, 2], [1, 3]]\n", NULL, NULL,
           "a: \"null\"\nb: \"x: y\"\nc: \"-\\\"d\\\"\"\n\"k k\": [[0, 2], [1, 3]]\n");
    expect("a: \"tab\\there\"\nb:\nc: 1e-3\nd: -0.5\n", NULL, NULL, "a: \"tab\\x09here\"\nb: null\nc: 1e-3\nd: -0.5\n");
}

static void test_set__what_cannot_be__refused_and_nothing_changed(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value;
    } rows[] = {{"a.b", "1"}, {"", "1"}, {"x..y", "1"}, {"x", "[1"}, {"x", "1\ny: 2"}, {"x", "*alias"}, {"l.x", "1"}};
    PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse("a: 1\nl: [1]\n");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pfl_err err = {0};
        if (pfl_yaml_set(&doc, rows[i].path, rows[i].value, &err) != PFL_INVALID || !err.msg[0])
            fail_msg("row %zu", i);
    }
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    pfl_yaml_write(&doc, &out);
    assert_string_equal(pfl_buf_cstr(&out), "a: 1\nl: [1]\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set__there_or_not__the_value_stands),
        cmocka_unit_test(test_write__awkward_texts__quoted),
        cmocka_unit_test(test_set__what_cannot_be__refused_and_nothing_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
