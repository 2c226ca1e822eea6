/* SPDX-License-Identifier: Apache-2.0 */
/* CSV as RFC 4180 describes it, with the separators that people use. One pass; a field is looked at where it lies. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learning/table.h"

enum { FIELD_MAX = 256 }; /* bytes of one field: numbers and labels */

struct csv {
    struct pfl_bytes in;
    size_t pos, line;
    char separator;
};

static bool at_end(const struct csv *c)
{
    return c->pos >= c->in.len;
}

static bool at_line_end(const struct csv *c)
{
    return at_end(c) || c->in.data[c->pos] == '\n' ||
           (c->in.data[c->pos] == '\r' && (c->pos + 1 == c->in.len || c->in.data[c->pos + 1] == '\n'));
}

static void skip_line_end(struct csv *c)
{
    if (!at_end(c) && c->in.data[c->pos] == '\r')
        c->pos++;
    if (!at_end(c) && c->in.data[c->pos] == '\n')
        c->pos++;
    c->line++;
}

/* The next field of the line into text. *ret_more: a separator follows. */
static enum pfl_rc read_field(struct csv *c, char text[FIELD_MAX], bool *ret_more, struct pfl_err *err)
{
    size_t n = 0;
    bool quoted = !at_end(c) && c->in.data[c->pos] == '"';
    c->pos += quoted;
    for (;;) {
        if (quoted && at_end(c))
            return pfl_err_set(err, PFL_MALFORMED, "line %zu: a quoted field that does not end", c->line);
        if (!quoted && (at_line_end(c) || c->in.data[c->pos] == (uint8_t)c->separator))
            break;
        char ch = (char)c->in.data[c->pos++];
        if (quoted && ch == '"') {
            if (at_end(c) || c->in.data[c->pos] != '"')
                break;
            c->pos++;
        }
        if (ch == '\0' || n == FIELD_MAX - 1)
            return pfl_err_set(err, PFL_MALFORMED, "line %zu: a field %s", c->line,
                               ch ? "of more than 255 bytes" : "with a zero byte");
        text[n++] = ch;
    }
    text[n] = '\0';
    if (!at_line_end(c) && c->in.data[c->pos] != (uint8_t)c->separator)
        return pfl_err_set(err, PFL_MALFORMED, "line %zu: something behind a closing quote", c->line);
    *ret_more = !at_line_end(c);
    c->pos += *ret_more;
    return PFL_OK;
}

/* Spaces around a number do not matter. */
static bool number(const char *text, double *ret)
{
    char trimmed[FIELD_MAX];
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == ' ')
        n--;
    while (n > 0 && *text == ' ') {
        text++;
        n--;
    }
    memcpy(trimmed, text, n);
    trimmed[n] = '\0';
    return pfl_parse_double(trimmed, ret);
}

static char find_separator(struct pfl_bytes in)
{
    static const char separators[] = ",;\t";
    size_t best = 0, most = 0;
    for (size_t s = 0; s < 3; s++) {
        size_t n = 0;
        for (size_t i = 0; i < in.len && in.data[i] != '\n'; i++)
            n += in.data[i] == (uint8_t)separators[s];
        if (n > most) {
            most = n;
            best = s;
        }
    }
    return separators[best];
}

/* One line into fields. */
static enum pfl_rc read_line(struct csv *c, struct pfl_strs *fields, struct pfl_err *err)
{
    char text[FIELD_MAX];
    bool more = true;
    while (more) {
        enum pfl_rc rc = read_field(c, text, &more, err);
        if (rc != PFL_OK)
            return rc;
        if (fields->n == PFL_TABLE_COLUMNS_MAX)
            return pfl_err_set(err, PFL_TOO_BIG, "line %zu: more than %d fields", c->line, PFL_TABLE_COLUMNS_MAX);
        pfl_strs_add(fields, text);
    }
    skip_line_end(c);
    return PFL_OK;
}

/* Which column has the labels. */
static enum pfl_rc find_label(const struct pfl_strs *first, bool heading, const char *label, size_t *ret, struct pfl_err *err)
{
    int64_t v;
    *ret = first->n - 1;
    if (!label)
        return PFL_OK;
    for (size_t i = 0; heading && i < first->n; i++) {
        if (pfl_streq(first->items[i], label)) {
            *ret = i;
            return PFL_OK;
        }
    }
    if (pfl_parse_i64(label, 0, (int64_t)first->n - 1, &v)) {
        *ret = (size_t)v;
        return PFL_OK;
    }
    const char *near = heading ? pfl_nearest(label, (const char *const *)first->items, first->n) : NULL;
    return pfl_err_set(err, PFL_INVALID, "there is no column '%s'%s%s%s%s", pfl_q(label), near ? "; did you mean '" : "",
                       near ? pfl_q(near) : "", near ? "'?" : "",
                       heading ? "" : "; the file has no heading: name it by its number from 0");
}

/* A field that is no number, in a column that is not the label's, makes the first line a heading. */
static bool is_heading(const struct pfl_strs *first, const char *label)
{
    double v;
    for (size_t i = 0; i < first->n; i++) {
        if ((label && pfl_streq(first->items[i], label)) || (i + 1 < first->n && !number(first->items[i], &v)))
            return !number(first->items[i], &v);
    }
    return false;
}

/* What is known of the file after its first line. */
struct columns {
    struct pfl_strs heading; /* empty: there is none */
    size_t label;
    float *row; /* owned, scratch */
};

static void columns_deinit(struct columns *k)
{
    pfl_strs_deinit(&k->heading);
    free(k->row);
}

/* Looks at the first line, and goes back to it where it is a row. */
static enum pfl_rc read_first(struct csv *c, const char *label, struct columns *k, struct pfl_table *t, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs first = {0};
    struct csv start = *c;
    enum pfl_rc rc = read_line(c, &first, err);
    bool heading = rc == PFL_OK && is_heading(&first, label);
    if (rc == PFL_OK)
        rc = find_label(&first, heading, label, &k->label, err);
    if (rc != PFL_OK)
        return rc;
    if (first.n < 2)
        return pfl_err_set(err, PFL_MALFORMED, "line 1 has one field: a label and at least one number are expected");
    t->n_columns = first.n - 1;
    t->shape = (struct pfl_shape3){t->n_columns, 1, 1};
    k->row = pfl_xcalloc(t->n_columns, sizeof(*k->row));
    if (heading)
        pfl_strs_copy(&k->heading, &first);
    else
        *c = start;
    return PFL_OK;
}

static enum pfl_rc read_row(struct csv *c, const struct columns *k, struct pfl_table *t, struct pfl_err *err)
{
    char text[FIELD_MAX], label[FIELD_MAX] = "";
    size_t n = 0, at = 0, line = c->line;
    double v = 0.0;
    for (bool more = true; more; n++) {
        enum pfl_rc rc = read_field(c, text, &more, err);
        if (rc != PFL_OK)
            return rc;
        if (n == k->label) {
            memcpy(label, text, sizeof(label));
            continue;
        }
        if (at == t->n_columns)
            return pfl_err_set(err, PFL_MALFORMED, "line %zu has more than %zu fields", line, t->n_columns + 1);
        if (!number(text, &v) || v > 3.4e38 || v < -3.4e38)
            return pfl_err_set(err, PFL_MALFORMED, "line %zu, column %zu%s%s%s: '%s' is not a number", line, n,
                               k->heading.n > n ? " (" : "", k->heading.n > n ? pfl_q(k->heading.items[n]) : "",
                               k->heading.n > n ? ")" : "", pfl_q(text));
        k->row[at++] = (float)v;
    }
    skip_line_end(c);
    if (n != t->n_columns + 1)
        return pfl_err_set(err, PFL_MALFORMED, "line %zu has %zu fields, %zu are expected", line, n, t->n_columns + 1);
    if (pfl_table_add(t, k->row, label, err) != PFL_OK)
        return pfl_err_wrap(err, "line %zu", line);
    return PFL_OK;
}

static enum pfl_rc read_rows(struct csv *c, const char *label, struct pfl_table *t, struct pfl_err *err)
{
    PFL_AUTO(columns_deinit) struct columns k = {0};
    if (at_end(c))
        return pfl_err_set(err, PFL_MALFORMED, "the file is empty");
    enum pfl_rc rc = read_first(c, label, &k, t, err);
    while (rc == PFL_OK && !at_end(c)) {
        if (at_line_end(c))
            skip_line_end(c); /* an empty line */
        else
            rc = read_row(c, &k, t, err);
    }
    return rc != PFL_OK || t->n ? rc : pfl_err_set(err, PFL_MALFORMED, "no rows");
}

enum pfl_rc pfl_csv_decode(struct pfl_bytes in, const char *label, struct pfl_table *ret, struct pfl_err *err)
{
    static const uint8_t mark[] = {0xef, 0xbb, 0xbf};
    if (in.len >= sizeof(mark) && memcmp(in.data, mark, sizeof(mark)) == 0)
        in = pfl_bytes_sub(in, sizeof(mark), in.len - sizeof(mark));
    struct csv c = {.in = in, .line = 1, .separator = find_separator(in)};
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
    enum pfl_rc rc = read_rows(&c, label, &t, err);
    if (rc != PFL_OK)
        return rc;
    *ret = t;
    t = (struct pfl_table){0};
    return PFL_OK;
}
