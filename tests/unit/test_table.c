/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* What is read from CSV, JSON lines and NumPy files, and what is refused. tests/integration/test_data.py has NumPy write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "learning/table.h"

static struct pfl_bytes text(const char *s)
{
    return pfl_bytes_of(s, strlen(s));
}

/* ---- CSV ---- */

struct row {
    const char *name, *in, *label;
    enum pfl_rc rc;
    const char *says;    /* of an error */
    size_t n, n_columns; /* else */
    const char *labels;  /* names in the order of their appearance */
    float first;
};

static void check(const struct row *r, enum pfl_rc (*decode)(struct pfl_bytes, const char *, struct pfl_table *, struct pfl_err *))
{
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
    struct pfl_err err = {0};
    enum pfl_rc rc = decode(text(r->in), r->label, &t, &err);
    if (rc != r->rc || (rc != PFL_OK && !strstr(err.msg, r->says)))
        fail_msg("%s: %d \"%s\"", r->name, (int)rc, err.msg);
    if (rc != PFL_OK) {
        assert_null(t.values);
        return;
    }
    PFL_AUTO(pfl_freep) char *labels = pfl_strs_join(&t.names, "|");
    if (t.n != r->n || t.n_columns != r->n_columns || strcmp(labels, r->labels) != 0 || t.values[0] != r->first)
        fail_msg("%s: %zu rows, %zu columns, labels %s, first %g", r->name, t.n, t.n_columns, labels, (double)t.values[0]);
}

static void test_csv__rows(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"heading", "a,b,y\n1,2,x\n3,4,z\n", NULL, PFL_OK, NULL, 2, 2, "x|z", 1.0f},
        {"no heading", "1,2,0\n3,4,1\n", NULL, PFL_OK, NULL, 2, 2, "0|1", 1.0f},
        {"label by name, first", "y,a,b\n0,1.5,2\n1,3,4\n", "y", PFL_OK, NULL, 2, 2, "0|1", 1.5f},
        {"label by number", "7,1\n8,2\n", "0", PFL_OK, NULL, 2, 1, "7|8", 1.0f},
        {"semicolons, CRLF, no end", "a;y\r\n1e-2;\"q;\"\"r\"\r\n2;s", NULL, PFL_OK, NULL, 2, 1, "q;\"r|s", 0.01f},
        {"tabs, spaces, empty lines", "1\t a\n\n 2 \t b\n\n", NULL, PFL_OK, NULL, 2, 1, " a| b", 1.0f},
        {"byte order mark",
         "\xef\xbb\xbf"
         "1,a\n",
         NULL, PFL_OK, NULL, 1, 1, "a", 1.0f},
        {"empty", "", NULL, PFL_MALFORMED, "empty", 0, 0, NULL, 0},
        {"heading alone", "a,b,y\n", NULL, PFL_MALFORMED, "no rows", 0, 0, NULL, 0},
        {"one field", "5\n", NULL, PFL_MALFORMED, "one field", 0, 0, NULL, 0},
        {"no number", "a,b,y\n1,2,x\n1,two,x\n", NULL, PFL_MALFORMED, "line 3, column 1 (b): 'two' is not a number", 0, 0, NULL, 0},
        {"missing value", "1,2,x\n1,,x\n", NULL, PFL_MALFORMED, "line 2, column 1: '' is not a number", 0, 0, NULL, 0},
        {"too few", "1,2,x\n1,x\n", NULL, PFL_MALFORMED, "line 2", 0, 0, NULL, 0},
        {"too many", "1,2,x\n1,2,3,x\n", NULL, PFL_MALFORMED, "line 2 has more than 3 fields", 0, 0, NULL, 0},
        {"no such column", "alpha,y\n1,x\n", "alhpa", PFL_INVALID, "there is no column 'alhpa'; did you mean 'alpha'?", 0, 0, NULL,
         0},
        {"open quote", "1,\"x\n", NULL, PFL_MALFORMED, "does not end", 0, 0, NULL, 0},
        {"behind a quote", "1,\"x\"y\n", NULL, PFL_MALFORMED, "behind a closing quote", 0, 0, NULL, 0},
        {"infinite", "1,x\ninf,y\n", NULL, PFL_MALFORMED, "'inf' is not a number", 0, 0, NULL, 0},
        {"too large", "1,x\n1e39,y\n", NULL, PFL_MALFORMED, "'1e39' is not a number", 0, 0, NULL, 0},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++)
        check(&rows[i], pfl_csv_decode);
}

static void test_csv__too_many_labels__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    for (int i = 0; i < 257; i++)
        pfl_buf_printf(&b, "1,label %d\n", i);
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
    struct pfl_err err = {0};
    assert_int_equal(pfl_csv_decode(pfl_buf_view(&b), NULL, &t, &err), PFL_TOO_BIG);
    assert_non_null(strstr(err.msg, "line 257"));
    assert_non_null(strstr(err.msg, "is this the label's column?"));
}

/* ---- JSON lines ---- */

static void test_jsonl__rows(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"features", "{\"features\": [1, 2.5], \"label\": 3}\n\n{\"label\": 0, \"features\": [3, 4]}", NULL, PFL_OK, NULL, 2, 2,
         "3|0", 1.0f},
        {"nested, booleans", "{\"features\": [[2, true], [3, 4]], \"label\": \"a\"}\r\n", NULL, PFL_OK, NULL, 1, 4, "a", 2.0f},
        {"fields", "{\"x\": 5, \"y\": \"b\", \"z\": 6}\n{\"z\": 1, \"y\": \"b\", \"x\": 2}\n", "y", PFL_OK, NULL, 2, 2, "b", 5.0f},
        {"an array", " [{\"features\": [7], \"label\": 1}, {\"features\": [8], \"label\": 2}]", NULL, PFL_OK, NULL, 2, 1, "1|2",
         7.0f},
        {"empty", "", NULL, PFL_MALFORMED, "no objects", 0, 0, NULL, 0},
        {"no JSON", "{\"label\": 1, \"x\": 2}\n{nope}\n", NULL, PFL_MALFORMED, "line 2: not JSON", 0, 0, NULL, 0},
        {"no object", "5\n", NULL, PFL_MALFORMED, "line 1: not JSON", 0, 0, NULL, 0},
        {"no label", "{\"x\": 2}\n", NULL, PFL_MALFORMED, "no label 'label'", 0, 0, NULL, 0},
        {"a label that is none", "{\"x\": 2, \"label\": [1]}\n", NULL, PFL_MALFORMED, "the label 'label'", 0, 0, NULL, 0},
        {"too many", "{\"features\": [1], \"label\": 0}\n{\"features\": [1, 2], \"label\": 0}\n", NULL, PFL_MALFORMED,
         "line 2: 'features'", 0, 0, NULL, 0},
        {"too few", "{\"features\": [1, 2], \"label\": 0}\n{\"features\": [1], \"label\": 0}\n", NULL, PFL_MALFORMED,
         "1 numbers, 2", 0, 0, NULL, 0},
        {"a text", "{\"x\": \"two\", \"label\": 0}\n", NULL, PFL_MALFORMED, "'x' is not a number", 0, 0, NULL, 0},
        {"missing", "{\"x\": 1, \"label\": 0}\n{\"label\": 0}\n", NULL, PFL_MALFORMED, "line 2: 'x' is missing", 0, 0, NULL, 0},
        {"nothing in it", "{\"features\": [], \"label\": 0}\n", NULL, PFL_MALFORMED, "0 numbers", 0, 0, NULL, 0},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++)
        check(&rows[i], pfl_jsonl_decode);
}

/* ---- .npy ---- */

/* A version 1 array with this head. */
static struct pfl_bytes npy(uint8_t buf[512], const char *head, const void *data, size_t len)
{
    size_t n = strlen(head);
    memcpy(buf, "\x93NUMPY\x01\x00", 8);
    buf[8] = (uint8_t)n;
    buf[9] = 0;
    memcpy(buf + 10, head, n);
    memcpy(buf + 10 + n, data, len);
    return pfl_bytes_of(buf, 10 + n + len);
}

static void test_npy__types_and_orders(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        size_t len;
        uint8_t data[16];
        double want[2];
    } rows[] = {
        {"'|u1'", 2, {1, 255}, {1, 255}},
        {"'|b1'", 2, {0, 1}, {0, 1}},
        {"'|i1'", 2, {0xff, 5}, {-1, 5}},
        {"'<i2'", 4, {0xfe, 0xff, 1, 1}, {-2, 257}},
        {"'>u2'", 4, {0xff, 0xfe, 1, 2}, {65534, 258}},
        {"'<i8'", 16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3}, {-1, 3}},
        {"'<f2'", 4, {0x00, 0x3e, 0x01, 0x80}, {1.5, -5.9604644775390625e-08}},
        {"'<f4'", 8, {0, 0, 0x20, 0x40, 0, 0, 0x80, 0xbf}, {2.5, -1}},
        {"'>f4'", 8, {0x40, 0x20, 0, 0, 0xbf, 0x80, 0, 0}, {2.5, -1}},
        {"'<f8'", 16, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0}, {1.5, -2}},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        uint8_t buf[512];
        struct pfl_npy x;
        struct pfl_err err = {0};
        PFL_AUTO(pfl_freep) char *head = pfl_xasprintf("{'descr': %s, 'fortran_order': False, 'shape': (2,), }   \n", rows[i].type);
        if (pfl_npy_decode(npy(buf, head, rows[i].data, rows[i].len), &x, &err) != PFL_OK)
            fail_msg("%s: %s", rows[i].type, err.msg);
        if (x.n != 2 || x.rank != 1 || pfl_npy_value(&x, 0) != rows[i].want[0] || pfl_npy_value(&x, 1) != rows[i].want[1])
            fail_msg("%s: %g, %g", rows[i].type, pfl_npy_value(&x, 0), pfl_npy_value(&x, 1));
    }
}

static void test_npy__malformed__refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *head;
        size_t len;
        enum pfl_rc rc;
    } rows[] = {
        {"objects", "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", 2, PFL_UNSUPPORTED},
        {"records", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", 2, PFL_UNSUPPORTED},
        {"Fortran", "{'descr': '|u1', 'fortran_order': True, 'shape': (2,)}", 2, PFL_UNSUPPORTED},
        {"no type", "{'fortran_order': False, 'shape': (2,)}", 2, PFL_MALFORMED},
        {"no shape", "{'descr': '|u1', 'fortran_order': False}", 2, PFL_MALFORMED},
        {"a negative shape", "{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}", 2, PFL_MALFORMED},
        {"nine dimensions", "{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}", 2, PFL_MALFORMED},
        {"an overflow", "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999,99999999999999)}", 2, PFL_MALFORMED},
        {"too big", "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999,)}", 2, PFL_TOO_BIG},
        {"short", "{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", 2, PFL_MALFORMED},
        {"trailing", "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", 2, PFL_MALFORMED},
    };
    uint8_t buf[512];
    struct pfl_npy x = {.rank = 77};
    struct pfl_err err = {0};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        enum pfl_rc rc = pfl_npy_decode(npy(buf, rows[i].head, "\1\2", rows[i].len), &x, &err);
        if (rc != rows[i].rc || !err.msg[0])
            fail_msg("%s: %d %s", rows[i].name, (int)rc, err.msg);
    }
    struct pfl_bytes whole = npy(buf, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}", "\1\2", 2);
    for (size_t len = 0; len < whole.len; len++)
        assert_int_equal(pfl_npy_decode(pfl_bytes_sub(whole, 0, len), &x, &err), PFL_MALFORMED);
    assert_int_equal(x.rank, 77);
}

static void test_npy_table__images__channels_first_however_they_come(void **state)
{
    (void)state;
    uint8_t a[512], b[512], c[512];
    struct pfl_npy last, first, y;
    const uint8_t pixels_last[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint8_t pixels_first[] = {1, 4, 7, 10, 13, 2, 5, 8, 11, 14, 3, 6, 9, 12, 15};
    assert_int_equal(
        pfl_npy_decode(npy(a, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 5, 3)}", pixels_last, 15), &last, NULL),
        PFL_OK);
    assert_int_equal(
        pfl_npy_decode(npy(b, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 3, 1, 5)}", pixels_first, 15), &first, NULL),
        PFL_OK);
    assert_int_equal(pfl_npy_decode(npy(c, "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", "\4", 1), &y, NULL), PFL_OK);
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
    PFL_AUTO(pfl_table_deinit) struct pfl_table u = {0};
    assert_int_equal(pfl_npy_table(&last, &y, &t, NULL), PFL_OK);
    assert_int_equal(pfl_npy_table(&first, &y, &u, NULL), PFL_OK);
    assert_memory_equal(u.bytes, pixels_first, 15);
    assert_true(t.shape.channels == 3 && t.shape.height == 1 && t.shape.width == 5);
    assert_memory_equal(t.bytes, pixels_first, 15);
    struct pfl_err err = {0};
    PFL_AUTO(pfl_table_deinit) struct pfl_table none = {0};
    assert_int_equal(pfl_npy_table(&y, &y, &none, &err), PFL_MALFORMED);
    assert_int_equal(pfl_npy_table(&first, &first, &none, &err), PFL_MALFORMED);
}

/* ---- from tables to data sets ---- */

static struct pfl_table table_of(const char *csv)
{
    struct pfl_table t;
    struct pfl_err err = {0};
    if (pfl_csv_decode(text(csv), NULL, &t, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return t;
}

static void test_datasets__classes__the_same_in_both(void **state)
{
    (void)state;
    static const struct {
        const char *name, *train, *test, *classes;
        unsigned n_classes;
        uint8_t first_train, first_test;
        const char *says;
    } rows[] = {
        {"numbers", "1,4\n1,0\n", "1,2\n", "", 5, 4, 2, NULL},
        {"names, sorted", "1,wolf\n1,cat\n", "1,dog\n", "", 3, 2, 1, NULL},
        {"names, given", "1,wolf\n1,cat\n", "1,cat\n", "cat wolf yak", 3, 1, 0, NULL},
        {"numbers as names", "1,10\n1,x\n", "1,x\n", "", 2, 0, 1, NULL},
        {"not among the given", "1,wolf\n1,cat\n", "1,dog\n", "cat wolf", 0, 0, 0, "'dog' is not one of the classes"},
        {"other columns", "1,a\n", "1,2,a\n", "", 0, 0, 0, "rows of 1 numbers, test rows of 2"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_table_deinit) struct pfl_table train = table_of(rows[i].train);
        PFL_AUTO(pfl_table_deinit) struct pfl_table test = table_of(rows[i].test);
        PFL_AUTO(pfl_strs_deinit) struct pfl_strs classes = {0};
        PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *a = NULL;
        PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *b = NULL;
        struct pfl_err err = {0};
        if (rows[i].classes[0])
            pfl_strs_split(&classes, rows[i].classes, ' ');
        enum pfl_rc rc = pfl_table_datasets(&train, &test, &classes, &a, &b, &err);
        if (rows[i].says) {
            if (rc != PFL_INVALID || !strstr(err.msg, rows[i].says) || a || b)
                fail_msg("%s: %s", rows[i].name, err.msg);
            continue;
        }
        if (rc != PFL_OK || a->n_classes != rows[i].n_classes || b->n_classes != rows[i].n_classes ||
            a->labels[0] != rows[i].first_train || b->labels[0] != rows[i].first_test)
            fail_msg("%s: %s", rows[i].name, err.msg);
    }
}

static void test_split__all_rows_once_and_by_the_seed(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf csv = {0};
    for (int i = 0; i < 50; i++)
        pfl_buf_printf(&csv, "%d,%d\n", i, i % 3);
    float firsts[2];
    for (int k = 0; k < 2; k++) {
        PFL_AUTO(pfl_table_deinit) struct pfl_table t = table_of(pfl_buf_cstr(&csv));
        PFL_AUTO(pfl_table_deinit) struct pfl_table test = {0};
        bool seen[50] = {false};
        assert_int_equal(pfl_table_split(&t, 0.2, 7, &test, NULL), PFL_OK);
        assert_int_equal(t.n, 40);
        assert_int_equal(test.n, 10);
        for (size_t i = 0; i < 50; i++) {
            const struct pfl_table *from = i < 40 ? &t : &test;
            size_t row = i < 40 ? i : i - 40, v = (size_t)from->values[row];
            PFL_AUTO(pfl_freep) char *label = pfl_xasprintf("%zu", v % 3);
            assert_false(seen[v]);
            seen[v] = true;
            assert_string_equal(from->names.items[from->labels[row]], label);
        }
        firsts[k] = t.values[0];
    }
    assert_true(firsts[0] == firsts[1]);
    PFL_AUTO(pfl_table_deinit) struct pfl_table small = table_of("1,a\n2,b\n");
    PFL_AUTO(pfl_table_deinit) struct pfl_table none = {0};
    assert_int_equal(pfl_table_split(&small, 0.2, 7, &none, NULL), PFL_INVALID);
    assert_int_equal(small.n, 2);
}

static void test_normalise__moments__mean_zero_deviation_one(void **state)
{
    (void)state;
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = table_of("1,5,a\n3,5,b\n5,5,a\n7,5,b\n");
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = NULL;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *e = NULL;
    assert_int_equal(pfl_table_datasets(&t, &t, NULL, &d, &e, NULL), PFL_OK);
    float mean[2], deviation[2], out[8], bad[2] = {1.0f, 0.0f};
    pfl_dataset_moments(d, mean, deviation);
    assert_true(mean[0] == 4.0f && mean[1] == 5.0f && deviation[1] == 1.0f); /* a column that never changes stays where it is */
    assert_true(deviation[0] > 2.2360f && deviation[0] < 2.2361f);
    assert_int_equal(pfl_dataset_normalise(d, mean, bad, NULL), PFL_INVALID);
    assert_int_equal(pfl_dataset_normalise(d, mean, deviation, NULL), PFL_OK);
    pfl_dataset_read_run(d, 0, 4, out);
    assert_true(out[0] < -1.34f && out[0] > -1.35f && out[1] == 0.0f && out[6] == -out[0]);
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *part = NULL;
    assert_int_equal(pfl_dataset_pick(d, (const uint32_t[]){3}, 1, &part, NULL), PFL_OK);
    pfl_dataset_read_run(part, 0, 1, out);
    assert_true(out[0] > 1.34f && out[0] < 1.35f); /* a part is scaled as the whole */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv__rows),
        cmocka_unit_test(test_csv__too_many_labels__refused),
        cmocka_unit_test(test_jsonl__rows),
        cmocka_unit_test(test_npy__types_and_orders),
        cmocka_unit_test(test_npy__malformed__refused),
        cmocka_unit_test(test_npy_table__images__channels_first_however_they_come),
        cmocka_unit_test(test_datasets__classes__the_same_in_both),
        cmocka_unit_test(test_split__all_rows_once_and_by_the_seed),
        cmocka_unit_test(test_normalise__moments__mean_zero_deviation_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
