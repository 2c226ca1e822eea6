/* SPDX-License-Identifier: Apache-2.0 */
/* link: base config pki */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/str.h"
#include "config/yaml.h"

struct refusal {
    const char *name, *text;
    enum pfl_rc rc;
    const char *message; /* a part of it */
};

static const struct refusal refusals[] = {
    {"empty", "", PFL_MALFORMED, "f.yaml:1: the file is empty"},
    {"comment only", "# nothing\n", PFL_MALFORMED, "the file is empty"},
    {"scalar", "hello\n", PFL_MALFORMED, "f.yaml:1: the file must be a map"},
    {"list", "- 1\n", PFL_MALFORMED, "must be a map"},
    {"two documents", "a: 1\n---\nb: 2\n", PFL_MALFORMED, "f.yaml:2: only one document"},
    {"not closed", "a: [1, 2\nb: 3\n", PFL_MALFORMED, "f.yaml:2: "},
    {"not closed at the end", "a: {b: 1", PFL_MALFORMED, "f.yaml:"},
    {"tab as indent", "a:\n\tb: 1\n", PFL_MALFORMED, "f.yaml:2: "},
    {"bad indent", "a:\n  b: 1\n c: 2\n", PFL_MALFORMED, "f.yaml:3: "},
    {"not UTF-8", "a: \xff\xfe\n", PFL_MALFORMED, "f.yaml:"},
    {"control character", "a: \x01\n", PFL_MALFORMED, "f.yaml:"},
    {"anchor on a value", "a: &x 1\n", PFL_UNSUPPORTED, "f.yaml:1: anchors and aliases"},
    {"anchor on a list", "a: &x [1]\n", PFL_UNSUPPORTED, "anchors"},
    {"anchor on a map", "a: &x {b: 1}\n", PFL_UNSUPPORTED, "anchors"},
    {"anchor on a key", "&x a: 1\n", PFL_UNSUPPORTED, "anchors"},
    {"anchor on the document", "&x\na: 1\n", PFL_UNSUPPORTED, "anchors"},
    {"alias", "a: 1\nb: *a\n", PFL_UNSUPPORTED, "f.yaml:2: anchors"},
    {"alias as a key", "a: 1\n*a : 2\n", PFL_UNSUPPORTED, "f.yaml:2: anchors"},
    {"tag on a value", "a: !!python/object:os.system x\n", PFL_UNSUPPORTED, "f.yaml:1: tags"},
    {"tag on a map", "a: !foo {b: 1}\n", PFL_UNSUPPORTED, "tags"},
    {"tag on a key", "!!str a: 1\n", PFL_UNSUPPORTED, "tags"},
    {"list as a key", "? [a, b]\n: 1\n", PFL_UNSUPPORTED, "a key must be a plain name"},
    {"key twice", "a: 1\nb: 2\na: 3\n", PFL_MALFORMED, "f.yaml:3: the key 'a' is there twice (first in line 1)"},
    {"key twice in two cases", "ssl: {use_ssl: true}\nSSL: {use_ssl: false}\n", PFL_MALFORMED,
     "f.yaml:2: the key 'SSL' is there twice"},
    {"NUL in a value", "a: \"x\\0y\"\n", PFL_MALFORMED, "NUL"},
    {"NUL in a key", "\"use_ssl\\0x\": false\n", PFL_MALFORMED, "NUL"},
};

static void test_yaml_parse__refused_with_file_and_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(refusals); i++) {
        const struct refusal *r = &refusals[i];
        struct pfl_yaml_doc doc = {.file = NULL};
        struct pfl_err err = {0};
        enum pfl_rc rc = pfl_yaml_parse("f.yaml", r->text, strlen(r->text), &doc, &err);
        if (rc != r->rc || !strstr(err.msg, r->message) || doc.root)
            fail_msg("%s: %s: %s", r->name, pfl_rc_text(rc), err.msg);
    }
}

/* ---- limits: the last that is taken, the first that is not ---- */

static enum pfl_rc parse_buf(struct pfl_buf *b, struct pfl_err *err)
{
    struct pfl_yaml_doc doc = {0};
    assert_false(b->failed);
    enum pfl_rc rc = pfl_yaml_parse("f", pfl_buf_cstr(b), b->len, &doc, err);
    pfl_yaml_deinit(&doc);
    return rc;
}

static void put_n(struct pfl_buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pfl_buf_append_str(b, s);
}

static void test_yaml_parse__depth__32_and_no_more(void **state)
{
    (void)state;
    for (size_t depth = 32; depth <= 33; depth++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        struct pfl_err err = {0};
        pfl_buf_append_str(&b, "a: ");
        put_n(&b, "[", depth - 1);
        pfl_buf_append_str(&b, "1");
        put_n(&b, "]", depth - 1);
        assert_int_equal(parse_buf(&b, &err), depth == 32 ? PFL_OK : PFL_TOO_BIG);
        assert_true(depth == 32 || strstr(err.msg, "nested more than 32 deep"));
    }
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    put_n(&b, "{a: ", 200000);
    assert_int_equal(parse_buf(&b, NULL), PFL_TOO_BIG);
}

static void test_yaml_parse__values__10000_and_no_more(void **state)
{
    (void)state;
    for (size_t n = PFL_YAML_NODES_MAX; n <= PFL_YAML_NODES_MAX + 1; n++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        struct pfl_err err = {0};
        pfl_buf_append_str(&b, "a:\n"); /* the root, the list and n - 2 items */
        put_n(&b, "- 1\n", n - 2);
        assert_int_equal(parse_buf(&b, &err), n == PFL_YAML_NODES_MAX ? PFL_OK : PFL_TOO_BIG);
        assert_true(n == PFL_YAML_NODES_MAX || strstr(err.msg, "more than 10000 values"));
    }
}

static void test_yaml_parse__keys__256_and_no_more(void **state)
{
    (void)state;
    for (size_t n = PFL_YAML_KEYS_MAX; n <= PFL_YAML_KEYS_MAX + 1; n++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        for (size_t i = 0; i < n; i++)
            pfl_buf_printf(&b, "k%zu: 1\n", i);
        assert_int_equal(parse_buf(&b, NULL), n == PFL_YAML_KEYS_MAX ? PFL_OK : PFL_TOO_BIG);
    }
}

static void test_yaml_parse__size__one_mebibyte_and_no_more(void **state)
{
    (void)state;
    for (size_t len = PFL_YAML_FILE_MAX; len <= PFL_YAML_FILE_MAX + 1; len++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        pfl_buf_append_str(&b, "a: 1\n#");
        while (b.len < len)
            pfl_buf_append(&b, "x", 1);
        assert_int_equal(parse_buf(&b, NULL), len == PFL_YAML_FILE_MAX ? PFL_OK : PFL_TOO_BIG);
    }
}

static void test_yaml_load__missing_file__names_it(void **state)
{
    (void)state;
    struct pfl_yaml_doc doc = {0};
    struct pfl_err err = {0};
    assert_int_equal(pfl_yaml_load("/nowhere/x.yaml", &doc, &err), PFL_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nowhere/x.yaml"));
}

/* ---- getters ---- */

static struct pfl_yaml_doc parse(const char *text)
{
    struct pfl_yaml_doc doc = {0};
    struct pfl_err err = {0};
    if (pfl_yaml_parse("f.yaml", text, strlen(text), &doc, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return doc;
}

static void test_yaml_int__refused_with_path_and_range(void **state)
{
    (void)state;
    static const char *const rows[] = {"ten", "0", "100001", "1.0", "1e3", "0x10", "+5", "\"\"", "99999999999999999999", "1_000"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("x: 1\nexperiment:\n  rounds: %s\n", rows[i]);
        PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse(text);
        struct pfl_yaml *m = pfl_yaml_get(doc.root, "experiment");
        struct pfl_err err = {0};
        int64_t v = 7;
        assert_int_equal(pfl_yaml_int(&doc, m, "rounds", 1, 100000, &v, &err), PFL_INVALID);
        assert_int_equal(v, 7);
        PFL_AUTO(pfl_freep)
        char *want = pfl_xasprintf("f.yaml:3: experiment.rounds: '%s' is not a whole number from 1 to 100000",
                                   strcmp(rows[i], "\"\"") == 0 ? "" : rows[i]);
        assert_string_equal(err.msg, want);
    }
}

static void test_yaml_getters__wrong_kind__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse("scalar: 1\nlist: [1]\nmap: {a: 1}\n");
    static const char *const not_scalar[] = {"list", "map"};
    for (size_t i = 0; i < 2; i++) {
        int64_t n = 7;
        uint64_t u = 7;
        double d = 7;
        bool b = true;
        char *s = NULL;
        assert_int_equal(pfl_yaml_int(&doc, doc.root, not_scalar[i], 0, 9, &n, NULL), PFL_INVALID);
        assert_int_equal(pfl_yaml_u64(&doc, doc.root, not_scalar[i], &u, NULL), PFL_INVALID);
        assert_int_equal(pfl_yaml_double(&doc, doc.root, not_scalar[i], 0, 9, &d, NULL), PFL_INVALID);
        assert_int_equal(pfl_yaml_bool(&doc, doc.root, not_scalar[i], &b, NULL), PFL_INVALID);
        assert_int_equal(pfl_yaml_str(&doc, doc.root, not_scalar[i], &s, NULL), PFL_INVALID);
        assert_true(n == 7 && u == 7 && d == 7.0 && b && !s);
    }
    struct pfl_yaml *y = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_yaml_map(&doc, doc.root, "list", &y, NULL), PFL_INVALID);
    assert_int_equal(pfl_yaml_list(&doc, doc.root, "map", &y, NULL), PFL_INVALID);
    assert_int_equal(pfl_yaml_map(&doc, doc.root, "scalar", &y, &err), PFL_INVALID);
    assert_string_equal(err.msg, "f.yaml:1: scalar: must be a map of keys and values");
    assert_null(y);
}

static void test_yaml_bool__rows(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum pfl_rc rc;
        bool value;
    } rows[] = {{"true", PFL_OK, true},   {"True", PFL_OK, true},     {"yes", PFL_OK, true},      {"on", PFL_OK, true},
                {"FALSE", PFL_OK, false}, {"no", PFL_OK, false},      {"off", PFL_OK, false},     {"0", PFL_INVALID, true},
                {"1", PFL_INVALID, true}, {"tru", PFL_INVALID, true}, {"\"\"", PFL_INVALID, true}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("a: %s\n", rows[i].text);
        PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse(text);
        bool v = rows[i].rc == PFL_OK ? !rows[i].value : rows[i].value;
        if (pfl_yaml_bool(&doc, doc.root, "a", &v, NULL) != rows[i].rc || v != rows[i].value)
            fail_msg("%s", rows[i].text);
    }
}

static void test_yaml_double__range_and_form(void **state)
{
    (void)state;
    static const char *const bad[] = {"nan", ".inf", "-0.1", "1.1", "x", "0x1"};
    double v = 7;
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("a: %s\n", bad[i]);
        PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse(text);
        if (pfl_yaml_double(&doc, doc.root, "a", 0, 1, &v, NULL) != PFL_INVALID || v != 7.0)
            fail_msg("%s", bad[i]);
    }
    PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse("a: 1\nb: 2.5e-1\n");
    assert_int_equal(pfl_yaml_double(&doc, doc.root, "a", 0, 1, &v, NULL), PFL_OK);
    assert_true(v == 1.0);
    assert_int_equal(pfl_yaml_double(&doc, doc.root, "b", 0, 1, &v, NULL), PFL_OK);
    assert_true(v == 0.25);
}

static void test_yaml_get__unset__as_if_not_there(void **state)
{
    (void)state;
    PFL_AUTO(pfl_yaml_deinit)
    struct pfl_yaml_doc doc = parse("a:\nb: null\nc: None\nd: ~\ne: NULL\nf: \"\"\ng: 'None'\nh: []\n");
    static const char *const unset[] = {"a", "b", "c", "d", "e", "missing"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(unset); i++) {
        int64_t v = 7;
        if (pfl_yaml_get(doc.root, unset[i]) || pfl_yaml_int(&doc, doc.root, unset[i], 0, 9, &v, NULL) != PFL_OK || v != 7)
            fail_msg("%s", unset[i]);
    }
    char *s = NULL;
    assert_int_equal(pfl_yaml_str(&doc, doc.root, "f", &s, NULL), PFL_OK);
    assert_string_equal(s, "");
    assert_int_equal(pfl_yaml_str(&doc, doc.root, "g", &s, NULL), PFL_OK); /* quoted: a text; the old one is freed */
    assert_string_equal(s, "None");
    free(s);
    assert_null(pfl_yaml_get(NULL, "a"));
    assert_null(pfl_yaml_get(pfl_yaml_get(doc.root, "h"), "a"));
}

static void test_yaml_tree__order_place_and_path(void **state)
{
    (void)state;
    PFL_AUTO(pfl_yaml_deinit) struct pfl_yaml_doc doc = parse("a: 1\nB:\n  - x\n  - {C: y}\n");
    struct pfl_yaml *list = pfl_yaml_get(doc.root, "b"); /* any case */
    assert_non_null(list);
    assert_int_equal(list->kind, PFL_YAML_LIST);
    const struct pfl_yaml *x = list->first, *m = x->next;
    assert_string_equal(x->text, "x");
    assert_int_equal(list->line, 2); /* the key's, not that of the first item */
    assert_int_equal(x->line, 3);
    assert_int_equal(x->column, 5);
    assert_null(m->next);
    assert_string_equal(m->first->path, "B[1].C");
    assert_string_equal(m->first->text, "y");
}

static void test_yaml_only__unknown_key__nearest_is_named(void **state)
{
    (void)state;
    static const char *const names[] = {"name", "rounds", "epochs"};
    PFL_AUTO(pfl_yaml_deinit)
    struct pfl_yaml_doc doc = parse("experiment:\n  name: x\n  ruonds: 5\nfar:\n  \"completely\\ndifferent\": 1\nok: {NAME: 1}\n");
    struct pfl_err err = {0};
    assert_int_equal(pfl_yaml_only(&doc, pfl_yaml_get(doc.root, "experiment"), names, 3, &err), PFL_INVALID);
    assert_string_equal(err.msg, "f.yaml:3: unknown key 'ruonds' in experiment: did you mean 'rounds'?");
    assert_int_equal(pfl_yaml_only(&doc, pfl_yaml_get(doc.root, "far"), names, 3, &err), PFL_INVALID);
    assert_string_equal(err.msg, "f.yaml:5: unknown key 'completely\\x0adifferent' in far");
    assert_int_equal(pfl_yaml_only(&doc, doc.root, names, 3, &err), PFL_INVALID);
    assert_string_equal(err.msg, "f.yaml:1: unknown key 'experiment'");
    assert_int_equal(pfl_yaml_only(&doc, pfl_yaml_get(doc.root, "ok"), names, 3, &err), PFL_OK);
    assert_int_equal(pfl_yaml_only(&doc, NULL, names, 3, &err), PFL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml_parse__refused_with_file_and_line),
        cmocka_unit_test(test_yaml_parse__depth__32_and_no_more),
        cmocka_unit_test(test_yaml_parse__values__10000_and_no_more),
        cmocka_unit_test(test_yaml_parse__keys__256_and_no_more),
        cmocka_unit_test(test_yaml_parse__size__one_mebibyte_and_no_more),
        cmocka_unit_test(test_yaml_load__missing_file__names_it),
        cmocka_unit_test(test_yaml_int__refused_with_path_and_range),
        cmocka_unit_test(test_yaml_getters__wrong_kind__refused),
        cmocka_unit_test(test_yaml_bool__rows),
        cmocka_unit_test(test_yaml_double__range_and_form),
        cmocka_unit_test(test_yaml_get__unset__as_if_not_there),
        cmocka_unit_test(test_yaml_tree__order_place_and_path),
        cmocka_unit_test(test_yaml_only__unknown_key__nearest_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
