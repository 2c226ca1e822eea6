/* SPDX-License-Identifier: Apache-2.0 */
/* Values are taken from a document of their own, so that what can be set is what can be read. */
#include "config/yaml_edit.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

/* The value of a document "v: text". *ret owned. */
static enum pfl_rc parse_value(const char *text, struct pfl_yaml **ret, struct pfl_err *err)
{
    struct pfl_yaml_doc doc = {0};
    PFL_AUTO(pfl_freep) char *one = pfl_xasprintf("v: %s\n", text);
    if (strchr(text, '\n') || pfl_yaml_parse("value", one, strlen(one), &doc, NULL) != PFL_OK || !doc.root->first ||
        doc.root->first->next) {
        pfl_yaml_deinit(&doc);
        return pfl_err_set(err, PFL_INVALID, "'%s' is no value that could stand in a YAML file", pfl_q(text));
    }
    *ret = pfl_steal(&doc.root->first);
    pfl_yaml_deinit(&doc);
    return PFL_OK;
}

static void set_key(struct pfl_yaml *y, const char *key)
{
    free(y->key);
    y->key = pfl_xstrdup(key);
}

/* The entry of that name, unset ones too; NULL. */
static struct pfl_yaml **find(struct pfl_yaml *map, const char *key)
{
    struct pfl_yaml **at = &map->first;
    while (*at && strcasecmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

static void free_value(struct pfl_yaml *y)
{
    struct pfl_yaml_doc doc = {.root = y};
    pfl_yaml_deinit(&doc);
}

/* An entry without a value becomes an empty map. */
static bool as_map(struct pfl_yaml *y)
{
    bool unset = y->kind == PFL_YAML_SCALAR && !y->quoted &&
                 (!y->text || !y->text[0] || pfl_streq(y->text, "~") || strcasecmp(y->text, "null") == 0 ||
                  strcasecmp(y->text, "none") == 0);
    if (unset) {
        y->kind = PFL_YAML_MAP;
        free(pfl_steal(&y->text));
    }
    return y->kind == PFL_YAML_MAP;
}

enum pfl_rc pfl_yaml_set(struct pfl_yaml_doc *doc, const char *path, const char *text, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs parts = {0};
    struct pfl_yaml *map = doc->root, *value = NULL;
    pfl_strs_split(&parts, path, '.');
    for (size_t i = 0; i < parts.n; i++) {
        if (!parts.items[i][0])
            return pfl_err_set(err, PFL_INVALID, "'%s' is no path such as experiment.rounds", pfl_q(path));
    }
    if (parts.n == 0)
        return pfl_err_set(err, PFL_INVALID, "a path such as experiment.rounds is needed");
    enum pfl_rc rc = parse_value(text, &value, err);
    if (rc != PFL_OK)
        return rc;
    for (size_t i = 0; i + 1 < parts.n; i++) {
        struct pfl_yaml **at = find(map, parts.items[i]);
        if (!*at) {
            *at = pfl_xcalloc(1, sizeof(**at));
            (*at)->kind = PFL_YAML_MAP;
            set_key(*at, parts.items[i]);
        }
        if (!as_map(*at)) {
            free_value(value);
            return pfl_err_set(err, PFL_INVALID, "'%s': '%s' is no block", pfl_q(path), pfl_q(parts.items[i]));
        }
        map = *at;
    }
    struct pfl_yaml **at = find(map, parts.items[parts.n - 1]), *old = *at;
    set_key(value, old ? old->key : parts.items[parts.n - 1]);
    value->next = old ? pfl_steal(&old->next) : NULL;
    *at = value;
    if (old)
        free_value(old);
    return PFL_OK;
}

/* ---- writing ---- */

/* Does a scalar read as itself without quotes? Else it is quoted, which makes it a text: only what was quoted before. */
static bool plain(const struct pfl_yaml *y)
{
    if (y->quoted || !y->text[0])
        return false;
    for (const char *p = y->text; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("_.+-/", *p))
            return *p == '~' && !p[1] && p == y->text;
    }
    return y->text[0] != '-' || y->text[1];
}

static void put_quoted(const char *text, struct pfl_buf *out)
{
    pfl_buf_append_str(out, "\"");
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            pfl_buf_printf(out, "\\x%02x", (unsigned)*p);
        else
            pfl_buf_printf(out, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
    }
    pfl_buf_append_str(out, "\"");
}

static void put_scalar(const struct pfl_yaml *y, struct pfl_buf *out)
{
    if (!y->text || (!y->quoted && !y->text[0]))
        pfl_buf_append_str(out, "null");
    else if (plain(y))
        pfl_buf_append_str(out, y->text);
    else
        put_quoted(y->text, out);
}

/* In flow style, which nests without indentation. */
static void put_flow(const struct pfl_yaml *y, struct pfl_buf *out)
{
    if (y->kind == PFL_YAML_SCALAR) {
        put_scalar(y, out);
        return;
    }
    bool map = y->kind == PFL_YAML_MAP;
    pfl_buf_append_str(out, map ? "{" : "[");
    for (const struct pfl_yaml *e = y->first; e; e = e->next) {
        if (map) {
            put_quoted(e->key, out);
            pfl_buf_append_str(out, ": ");
        }
        put_flow(e, out);
        pfl_buf_append_str(out, e->next ? ", " : "");
    }
    pfl_buf_append_str(out, map ? "}" : "]");
}

static bool plain_key(const char *key)
{
    for (const char *p = key; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '_')
            return false;
    }
    return key[0] != '\0';
}

static void put_map(const struct pfl_yaml *map, unsigned depth, struct pfl_buf *out)
{
    for (const struct pfl_yaml *e = map->first; e; e = e->next) {
        pfl_buf_printf(out, "%*s", (int)(2 * depth), "");
        if (plain_key(e->key))
            pfl_buf_append_str(out, e->key);
        else
            put_quoted(e->key, out);
        pfl_buf_append_str(out, ":");
        if (e->kind == PFL_YAML_MAP && e->first) {
            pfl_buf_append_str(out, "\n");
            put_map(e, depth + 1, out);
            continue;
        }
        pfl_buf_append_str(out, " ");
        put_flow(e, out);
        pfl_buf_append_str(out, "\n");
    }
}

void pfl_yaml_write(const struct pfl_yaml_doc *doc, struct pfl_buf *out)
{
    put_map(doc->root, 0, out);
}
