/* SPDX-License-Identifier: Apache-2.0 */
/* From libyaml's events to a tree. The parser's events come one by one, so the limits on depth and nodes bite before anything
 * grows, and aliases (the road to exponential documents) are refused where they stand. */
#include "config/yaml.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

struct build {
    yaml_parser_t parser;
    const char *file;
    unsigned nodes;
    struct pfl_err *err;
};

static void node_free(struct pfl_yaml *y)
{
    while (y) {
        struct pfl_yaml *next = y->next;
        node_free(y->first);
        free(y->key);
        free(y->path);
        free(y->text);
        free(y);
        y = next;
    }
}

void pfl_yaml_deinit(struct pfl_yaml_doc *doc)
{
    node_free(doc->root);
    free(doc->file);
    *doc = (struct pfl_yaml_doc){0};
}

static enum pfl_rc fail(struct build *b, size_t line, enum pfl_rc rc, const char *what)
{
    return pfl_err_set(b->err, rc, "%s:%zu: %s", b->file, line + 1, what);
}

static enum pfl_rc next_event(struct build *b, yaml_event_t *ev)
{
    if (yaml_parser_parse(&b->parser, ev))
        return PFL_OK;
    return pfl_err_set(b->err, PFL_MALFORMED, "%s:%zu: %s%s%s", b->file, b->parser.problem_mark.line + 1,
                       b->parser.problem ? b->parser.problem : "not YAML", b->parser.context ? ", " : "",
                       b->parser.context ? b->parser.context : "");
}

static enum pfl_rc build_value(struct build *b, const yaml_event_t *ev, const char *path, const char *key, unsigned depth,
                               struct pfl_yaml **ret);

/* What no value and no key may carry: names for parts of the document, types, NUL bytes. */
static enum pfl_rc check_event(struct build *b, const yaml_event_t *ev)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        anchor = ev->data.scalar.anchor;
        tag = ev->data.scalar.tag;
        if (memchr(ev->data.scalar.value, 0, ev->data.scalar.length))
            return fail(b, ev->start_mark.line, PFL_MALFORMED, "a NUL byte in a text");
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = ev->data.sequence_start.anchor;
        tag = ev->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = ev->data.mapping_start.anchor;
        tag = ev->data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (ev->type == YAML_ALIAS_EVENT || anchor)
        return fail(b, ev->start_mark.line, PFL_UNSUPPORTED, "anchors and aliases (& and *) are not taken: write the value out");
    if (tag)
        return fail(b, ev->start_mark.line, PFL_UNSUPPORTED, "tags (!...) are not taken");
    return PFL_OK;
}

/* One entry of a map: ev is its key. */
static enum pfl_rc build_entry(struct build *b, const yaml_event_t *ev, struct pfl_yaml *map, unsigned depth, struct pfl_yaml **ret)
{
    enum pfl_rc rc = check_event(b, ev);
    if (rc != PFL_OK)
        return rc;
    if (ev->type != YAML_SCALAR_EVENT)
        return fail(b, ev->start_mark.line, PFL_UNSUPPORTED, "a key must be a plain name");
    PFL_AUTO(pfl_freep) char *key = pfl_xstrndup((const char *)ev->data.scalar.value, ev->data.scalar.length);
    for (const struct pfl_yaml *y = map->first; y; y = y->next) {
        if (strcasecmp(y->key, key) == 0)
            return pfl_err_set(b->err, PFL_MALFORMED, "%s:%zu: the key '%s' is there twice (first in line %u)", b->file,
                               ev->start_mark.line + 1, pfl_q(key), y->line);
    }
    PFL_AUTO(pfl_freep) char *path = map->path[0] ? pfl_xasprintf("%s.%s", map->path, pfl_q(key)) : pfl_xstrdup(pfl_q(key));
    yaml_event_t value;
    rc = next_event(b, &value);
    if (rc != PFL_OK)
        return rc;
    rc = build_value(b, &value, path, key, depth, ret);
    yaml_event_delete(&value);
    if (*ret) { /* a block begins a line below its key, and people look for the key */
        (*ret)->line = (unsigned)ev->start_mark.line + 1;
        (*ret)->column = (unsigned)ev->start_mark.column + 1;
    }
    return rc;
}

static enum pfl_rc build_items(struct build *b, struct pfl_yaml *parent, unsigned depth)
{
    struct pfl_yaml **tail = &parent->first;
    for (unsigned i = 0;; i++) {
        yaml_event_t ev;
        enum pfl_rc rc = next_event(b, &ev);
        if (rc != PFL_OK)
            return rc;
        bool end = ev.type == YAML_MAPPING_END_EVENT || ev.type == YAML_SEQUENCE_END_EVENT;
        if (!end && parent->kind == PFL_YAML_MAP && i >= PFL_YAML_KEYS_MAX) {
            rc = fail(b, ev.start_mark.line, PFL_TOO_BIG, "more than 256 keys in one map");
        } else if (!end && parent->kind == PFL_YAML_MAP) {
            rc = build_entry(b, &ev, parent, depth, tail);
        } else if (!end) {
            PFL_AUTO(pfl_freep) char *path = pfl_xasprintf("%s[%u]", parent->path, i);
            rc = build_value(b, &ev, path, NULL, depth, tail);
        }
        yaml_event_delete(&ev);
        if (end || rc != PFL_OK)
            return rc;
        tail = &(*tail)->next;
    }
}

static enum pfl_rc build_value(struct build *b, const yaml_event_t *ev, const char *path, const char *key, unsigned depth,
                               struct pfl_yaml **ret)
{
    enum pfl_rc rc = check_event(b, ev);
    if (rc != PFL_OK)
        return rc;
    if (depth > PFL_YAML_DEPTH_MAX)
        return fail(b, ev->start_mark.line, PFL_TOO_BIG, "nested more than 32 deep");
    if (++b->nodes > PFL_YAML_NODES_MAX)
        return fail(b, ev->start_mark.line, PFL_TOO_BIG, "more than 10000 values");
    struct pfl_yaml *y = pfl_xcalloc(1, sizeof(*y));
    *ret = y; /* hangs in the tree at once, so an error frees it with the tree */
    y->line = (unsigned)ev->start_mark.line + 1;
    y->column = (unsigned)ev->start_mark.column + 1;
    y->key = key ? pfl_xstrdup(key) : NULL;
    y->path = pfl_xstrdup(path);
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        y->kind = PFL_YAML_SCALAR;
        y->text = pfl_xstrndup((const char *)ev->data.scalar.value, ev->data.scalar.length);
        y->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return PFL_OK;
    case YAML_SEQUENCE_START_EVENT:
        y->kind = PFL_YAML_LIST;
        return build_items(b, y, depth + 1);
    case YAML_MAPPING_START_EVENT:
        y->kind = PFL_YAML_MAP;
        return build_items(b, y, depth + 1);
    default:
        return fail(b, ev->start_mark.line, PFL_MALFORMED, "a value is missing here");
    }
}

static enum pfl_rc expect(struct build *b, yaml_event_type_t type, const char *what)
{
    yaml_event_t ev;
    enum pfl_rc rc = next_event(b, &ev);
    if (rc != PFL_OK)
        return rc;
    if (ev.type != type)
        rc = fail(b, ev.start_mark.line, PFL_MALFORMED, what);
    yaml_event_delete(&ev);
    return rc;
}

static enum pfl_rc build_document(struct build *b, struct pfl_yaml **ret)
{
    enum pfl_rc rc = expect(b, YAML_STREAM_START_EVENT, "not YAML");
    if (rc == PFL_OK)
        rc = expect(b, YAML_DOCUMENT_START_EVENT, "the file is empty");
    yaml_event_t ev;
    if (rc == PFL_OK)
        rc = next_event(b, &ev);
    if (rc != PFL_OK)
        return rc;
    if (ev.type == YAML_MAPPING_START_EVENT)
        rc = build_value(b, &ev, "", NULL, 0, ret);
    else
        rc = fail(b, ev.start_mark.line, PFL_MALFORMED, "the file must be a map of keys and values");
    yaml_event_delete(&ev);
    if (rc == PFL_OK)
        rc = expect(b, YAML_DOCUMENT_END_EVENT, "something stands behind the document");
    if (rc == PFL_OK)
        rc = expect(b, YAML_STREAM_END_EVENT, "only one document is taken");
    return rc;
}

enum pfl_rc pfl_yaml_parse(const char *file, const char *text, size_t len, struct pfl_yaml_doc *ret, struct pfl_err *err)
{
    if (len > PFL_YAML_FILE_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%s: %zu bytes, the limit is %d", file, len, PFL_YAML_FILE_MAX);
    struct build b = {.file = file, .err = err};
    if (!yaml_parser_initialize(&b.parser))
        return pfl_err_set(err, PFL_UNAVAILABLE, "%s: no memory", file);
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, len);
    struct pfl_yaml *root = NULL;
    enum pfl_rc rc = build_document(&b, &root);
    yaml_parser_delete(&b.parser);
    if (rc != PFL_OK) {
        node_free(root);
        return rc;
    }
    *ret = (struct pfl_yaml_doc){.file = pfl_xstrdup(file), .root = root};
    return PFL_OK;
}

enum pfl_rc pfl_yaml_load(const char *path, struct pfl_yaml_doc *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
    enum pfl_rc rc = pfl_fs_read(path, PFL_YAML_FILE_MAX, &b, err);
    if (rc != PFL_OK)
        return rc;
    return pfl_yaml_parse(path, (const char *)b->data, b->len, ret, err);
}

/* ---- getters ---- */

static bool is_unset(const struct pfl_yaml *y)
{
    static const char *const words[] = {"", "~", "null", "none"};
    if (y->kind != PFL_YAML_SCALAR || y->quoted)
        return false;
    for (size_t i = 0; i < PFL_ARRAY_LEN(words); i++) {
        if (strcasecmp(y->text, words[i]) == 0)
            return true;
    }
    return false;
}

struct pfl_yaml *pfl_yaml_get(struct pfl_yaml *map, const char *key)
{
    if (!map || map->kind != PFL_YAML_MAP)
        return NULL;
    for (struct pfl_yaml *y = map->first; y; y = y->next) {
        if (strcasecmp(y->key, key) == 0)
            return is_unset(y) ? NULL : y;
    }
    return NULL;
}

enum pfl_rc pfl_yaml_fail(const struct pfl_yaml_doc *doc, const struct pfl_yaml *at, enum pfl_rc rc, struct pfl_err *err,
                          const char *fmt, ...)
{
    char text[PFL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pfl_err_set(err, rc, "%s:%u: %s%s%s", doc->file, at->line, at->path, at->path[0] ? ": " : "", text);
}

static enum pfl_rc get_kind(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, enum pfl_yaml_kind kind,
                            const char *what, struct pfl_yaml **ret, struct pfl_err *err)
{
    struct pfl_yaml *y = pfl_yaml_get(map, key);
    if (y && y->kind != kind)
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be %s", what);
    if (y)
        *ret = y;
    return PFL_OK;
}

enum pfl_rc pfl_yaml_map(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, struct pfl_yaml **ret,
                         struct pfl_err *err)
{
    return get_kind(doc, map, key, PFL_YAML_MAP, "a map of keys and values", ret, err);
}

enum pfl_rc pfl_yaml_list(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, struct pfl_yaml **ret,
                          struct pfl_err *err)
{
    return get_kind(doc, map, key, PFL_YAML_LIST, "a list", ret, err);
}

static enum pfl_rc get_scalar(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, struct pfl_yaml **ret,
                              struct pfl_err *err)
{
    return get_kind(doc, map, key, PFL_YAML_SCALAR, "a single value", ret, err);
}

enum pfl_rc pfl_yaml_str(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, char **ret, struct pfl_err *err)
{
    struct pfl_yaml *y = NULL;
    enum pfl_rc rc = get_scalar(doc, map, key, &y, err);
    if (!y)
        return rc;
    free(*ret);
    *ret = pfl_xstrdup(y->text);
    return PFL_OK;
}

enum pfl_rc pfl_yaml_int(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, int64_t min, int64_t max,
                         int64_t *ret, struct pfl_err *err)
{
    struct pfl_yaml *y = NULL;
    enum pfl_rc rc = get_scalar(doc, map, key, &y, err);
    if (!y || pfl_parse_i64(y->text, min, max, ret))
        return rc;
    return pfl_yaml_fail(doc, y, PFL_INVALID, err, "'%s' is not a whole number from %lld to %lld", pfl_q(y->text), (long long)min,
                         (long long)max);
}

enum pfl_rc pfl_yaml_u64(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, uint64_t *ret, struct pfl_err *err)
{
    struct pfl_yaml *y = NULL;
    enum pfl_rc rc = get_scalar(doc, map, key, &y, err);
    if (!y || pfl_parse_u64(y->text, ret))
        return rc;
    return pfl_yaml_fail(doc, y, PFL_INVALID, err, "'%s' is not a whole number from 0 to 2^64 - 1", pfl_q(y->text));
}

enum pfl_rc pfl_yaml_double(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, double min, double max,
                            double *ret, struct pfl_err *err)
{
    struct pfl_yaml *y = NULL;
    double v;
    enum pfl_rc rc = get_scalar(doc, map, key, &y, err);
    if (!y)
        return rc;
    if (!pfl_parse_double(y->text, &v) || v < min || v > max)
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "'%s' is not a number from %g to %g", pfl_q(y->text), min, max);
    *ret = v;
    return PFL_OK;
}

enum pfl_rc pfl_yaml_bool(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, bool *ret, struct pfl_err *err)
{
    struct pfl_yaml *y = NULL;
    enum pfl_rc rc = get_scalar(doc, map, key, &y, err);
    if (!y)
        return rc;
    if (strcasecmp(y->text, "true") == 0 || strcasecmp(y->text, "yes") == 0 || strcasecmp(y->text, "on") == 0)
        *ret = true;
    else if (strcasecmp(y->text, "false") == 0 || strcasecmp(y->text, "no") == 0 || strcasecmp(y->text, "off") == 0)
        *ret = false;
    else
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "'%s' is neither true nor false", pfl_q(y->text));
    return PFL_OK;
}

enum pfl_rc pfl_yaml_only(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *const *names, size_t n,
                          struct pfl_err *err)
{
    for (const struct pfl_yaml *y = map ? map->first : NULL; y; y = y->next) {
        bool known = false;
        for (size_t i = 0; i < n && !known; i++)
            known = strcasecmp(y->key, names[i]) == 0;
        if (known)
            continue;
        const char *near = pfl_nearest(y->key, names, n);
        return pfl_err_set(err, PFL_INVALID, "%s:%u: unknown key '%s'%s%s%s%s%s", doc->file, y->line, pfl_q(y->key),
                           map->path[0] ? " in " : "", map->path, near ? ": did you mean '" : "", near ? near : "",
                           near ? "'?" : "");
    }
    return PFL_OK;
}
