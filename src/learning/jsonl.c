/* SPDX-License-Identifier: Apache-2.0 */
/* JSON lines, or one array of objects. jansson reads each object; what is in it becomes numbers here. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learning/table.h"

enum { LINE_MAX_BYTES = 64 << 20, ARRAY_MAX_BYTES = 256 << 20, DEPTH_MAX = 8 };

struct jsonl {
    const char *label;
    struct pfl_strs fields; /* where there is no "features": the other fields of the first object */
    float *row;             /* owned; n_columns */
    size_t at;              /* filled of it */
    struct pfl_table *t;
};

static size_t count_numbers(const json_t *v, unsigned depth)
{
    size_t n = 0, i;
    const json_t *item;
    if (json_is_number(v) || json_is_boolean(v))
        return 1;
    if (depth == DEPTH_MAX || !json_is_array(v))
        return 0;
    json_array_foreach (v, i, item)
        n += count_numbers(item, depth + 1);
    return n;
}

/* False where something is no number, or does not fit. */
static bool take_numbers(struct jsonl *j, const json_t *v, unsigned depth)
{
    size_t i;
    const json_t *item;
    if (json_is_array(v) && depth < DEPTH_MAX) {
        json_array_foreach (v, i, item) {
            if (!take_numbers(j, item, depth + 1))
                return false;
        }
        return true;
    }
    double x = json_is_boolean(v) ? (double)json_boolean_value(v) : json_number_value(v);
    if (!(json_is_number(v) || json_is_boolean(v)) || fabs(x) > 3.4e38 || j->at == j->t->n_columns)
        return false;
    j->row[j->at++] = (float)x;
    return true;
}

/* The features' columns, from the first object. */
static enum pfl_rc look_at_first(struct jsonl *j, const json_t *o, struct pfl_err *err)
{
    const json_t *features = json_object_get(o, "features"), *v;
    const char *key;
    size_t n = features ? count_numbers(features, 0) : 0;
    if (!features) {
        json_object_foreach ((json_t *)(uintptr_t)o, key, v) {
            if (!pfl_streq(key, j->label))
                pfl_strs_add(&j->fields, key);
        }
        n = j->fields.n;
    }
    if (n == 0 || n > PFL_TABLE_COLUMNS_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "%zu numbers; 1 to %d are possible", n, PFL_TABLE_COLUMNS_MAX);
    j->t->n_columns = n;
    j->t->shape = (struct pfl_shape3){n, 1, 1};
    j->row = pfl_xcalloc(n, sizeof(*j->row));
    return PFL_OK;
}

static enum pfl_rc take_label(const struct jsonl *j, const json_t *o, char **ret, struct pfl_err *err)
{
    const json_t *v = json_object_get(o, j->label);
    if (json_is_integer(v))
        *ret = pfl_xasprintf("%lld", (long long)json_integer_value(v));
    else if (json_is_string(v) && strlen(json_string_value(v)) < 256)
        *ret = pfl_xstrdup(json_string_value(v));
    else
        return pfl_err_set(err, PFL_MALFORMED, "%s '%s': a whole number or a short text is expected", v ? "the label" : "no label",
                           pfl_q(j->label));
    return PFL_OK;
}

static enum pfl_rc take_object(struct jsonl *j, const json_t *o, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *label = NULL;
    if (!json_is_object(o))
        return pfl_err_set(err, PFL_MALFORMED, "not a JSON object");
    enum pfl_rc rc = take_label(j, o, &label, err);
    if (rc == PFL_OK && !j->row)
        rc = look_at_first(j, o, err);
    if (rc != PFL_OK)
        return rc;
    j->at = 0;
    if (j->fields.n == 0 && !take_numbers(j, json_object_get(o, "features"), 0))
        return pfl_err_set(err, PFL_MALFORMED, "'features' is not a list of %zu numbers", j->t->n_columns);
    for (size_t i = 0; i < j->fields.n; i++) {
        const json_t *v = json_object_get(o, j->fields.items[i]);
        if (json_is_array(v) || !take_numbers(j, v, 0))
            return pfl_err_set(err, PFL_MALFORMED, "'%s' is %s", pfl_q(j->fields.items[i]), v ? "not a number" : "missing");
    }
    if (j->at != j->t->n_columns)
        return pfl_err_set(err, PFL_MALFORMED, "%zu numbers, %zu are expected", j->at, j->t->n_columns);
    return pfl_table_add(j->t, j->row, label, err);
}

static enum pfl_rc read_lines(struct jsonl *j, struct pfl_bytes in, struct pfl_err *err)
{
    size_t line = 0;
    for (size_t pos = 0; pos < in.len;) {
        const uint8_t *end = memchr(in.data + pos, '\n', in.len - pos);
        size_t len = (end ? (size_t)(end - in.data) : in.len) - pos;
        struct pfl_bytes text = pfl_bytes_sub(in, pos, len);
        json_error_t e;
        pos += len + 1;
        line++;
        while (text.len > 0 && (text.data[text.len - 1] == '\r' || text.data[text.len - 1] == ' '))
            text.len--;
        if (text.len == 0)
            continue;
        if (text.len > LINE_MAX_BYTES)
            return pfl_err_set(err, PFL_TOO_BIG, "line %zu: %zu bytes, the limit is %d", line, text.len, LINE_MAX_BYTES);
        json_t *o = json_loadb((const char *)text.data, text.len, 0, &e);
        enum pfl_rc rc = o ? take_object(j, o, err) : pfl_err_set(err, PFL_MALFORMED, "not JSON: %s", pfl_q(e.text));
        json_decref(o);
        if (rc != PFL_OK)
            return pfl_err_wrap(err, "line %zu", line);
    }
    return PFL_OK;
}

static enum pfl_rc read_array(struct jsonl *j, struct pfl_bytes in, struct pfl_err *err)
{
    json_error_t e;
    size_t i;
    if (in.len > ARRAY_MAX_BYTES)
        return pfl_err_set(err, PFL_TOO_BIG, "one array of %zu bytes, the limit is %d: write one object per line", in.len,
                           ARRAY_MAX_BYTES);
    json_t *all = json_loadb((const char *)in.data, in.len, 0, &e), *o;
    enum pfl_rc rc = PFL_OK;
    if (!all)
        return pfl_err_set(err, PFL_MALFORMED, "line %d: not JSON: %s", e.line, pfl_q(e.text));
    json_array_foreach (all, i, o) {
        rc = take_object(j, o, err);
        if (rc != PFL_OK) {
            rc = pfl_err_wrap(err, "object %zu", i);
            break;
        }
    }
    json_decref(all);
    return rc;
}

enum pfl_rc pfl_jsonl_decode(struct pfl_bytes in, const char *label, struct pfl_table *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
    struct jsonl j = {.label = label ? label : "label", .t = &t};
    size_t first = 0;
    while (first < in.len && (in.data[first] == ' ' || in.data[first] == '\n' || in.data[first] == '\r' || in.data[first] == '\t'))
        first++;
    enum pfl_rc rc = first < in.len && in.data[first] == '[' ? read_array(&j, in, err) : read_lines(&j, in, err);
    free(j.row);
    pfl_strs_deinit(&j.fields);
    if (rc == PFL_OK && t.n == 0)
        rc = pfl_err_set(err, PFL_MALFORMED, "no objects");
    if (rc != PFL_OK)
        return rc;
    *ret = t;
    t = (struct pfl_table){0};
    return PFL_OK;
}
