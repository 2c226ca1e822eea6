/* SPDX-License-Identifier: Apache-2.0 */
/* A learner in another process, as node files and experiments name it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/settings.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

const char *const pfl_remote_keys[6] = {"command", "socket", "folder", "start_timeout", "silence_timeout", "params"};

bool pfl_remote_is_set(const struct pfl_remote_config *r)
{
    return r->command.n > 0 || r->socket;
}

void pfl_remote_config_deinit(struct pfl_remote_config *r)
{
    pfl_strs_deinit(&r->command);
    pfl_strs_deinit(&r->params);
    free(r->socket);
    free(r->folder);
    *r = (struct pfl_remote_config){0};
}

static enum pfl_rc read_command(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_remote_config *r,
                                struct pfl_err *err)
{
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(doc, map, "command", &list, err));
    pfl_strs_deinit(&r->command);
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        if (y->kind != PFL_YAML_SCALAR || y->text[0] == '\0' || r->command.n == PFL_REMOTE_COMMAND_MAX)
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be at most %d words, such as [python3, train.py]",
                                 PFL_REMOTE_COMMAND_MAX);
        pfl_strs_add(&r->command, y->text);
    }
    return list && r->command.n == 0 ? pfl_yaml_fail(doc, list, PFL_INVALID, err, "must name a program") : PFL_OK;
}

static enum pfl_rc read_params(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_remote_config *r,
                               struct pfl_err *err)
{
    struct pfl_yaml *params = NULL;
    TRY(pfl_yaml_map(doc, map, "params", &params, err));
    for (const struct pfl_yaml *y = params ? params->first : NULL; y; y = y->next) {
        if (y->kind != PFL_YAML_SCALAR || strlen(y->key) > PFL_REMOTE_KEY_MAX || strchr(y->key, '=') ||
            strlen(y->text) > PFL_REMOTE_VALUE_MAX || r->params.n == PFL_REMOTE_PARAMS_MAX)
            return pfl_yaml_fail(doc, y, PFL_INVALID, err,
                                 "must be a single value: at most %d of them, names of at most %d bytes, values of at most %d",
                                 PFL_REMOTE_PARAMS_MAX, PFL_REMOTE_KEY_MAX, PFL_REMOTE_VALUE_MAX);
        PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("%s=%s", y->key, y->text);
        pfl_strs_add(&r->params, text);
    }
    return PFL_OK;
}

static enum pfl_rc read_seconds(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, pfl_ns *ret,
                                struct pfl_err *err)
{
    double s = -1;
    TRY(pfl_yaml_double(doc, map, key, 0.1, 86400, &s, err));
    if (s > 0)
        *ret = (pfl_ns)(s * 1e9 + 0.5);
    return PFL_OK;
}

enum pfl_rc pfl_remote_config_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_remote_config *r,
                                   struct pfl_err *err)
{
    TRY(read_command(doc, map, r, err));
    TRY(pfl_yaml_str(doc, map, "socket", &r->socket, err));
    TRY(pfl_yaml_str(doc, map, "folder", &r->folder, err));
    TRY(read_seconds(doc, map, "start_timeout", &r->start_timeout, err));
    TRY(read_seconds(doc, map, "silence_timeout", &r->silence_timeout, err));
    TRY(read_params(doc, map, r, err));
    if (r->command.n > 0 && r->socket)
        return pfl_yaml_fail(doc, pfl_yaml_get(map, "socket"), PFL_INVALID, err,
                             "and command exclude each other: the node starts a learner, or finds one");
    for (size_t i = 2; !pfl_remote_is_set(r) && i < PFL_ARRAY_LEN(pfl_remote_keys); i++) {
        const struct pfl_yaml *y = pfl_yaml_get(map, pfl_remote_keys[i]);
        if (y)
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "belongs to a learner in another process: command or socket is missing");
    }
    return PFL_OK;
}

static void put_quoted(struct pfl_buf *b, const char *value, size_t len)
{
    pfl_buf_append_str(b, "\"");
    for (size_t i = 0; i < len; i++) {
        if (value[i] == '"' || value[i] == '\\')
            pfl_buf_printf(b, "\\%c", value[i]);
        else if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            pfl_buf_printf(b, "\\x%02x", (unsigned)(unsigned char)value[i]);
        else
            pfl_buf_append(b, value + i, 1);
    }
    pfl_buf_append_str(b, "\"");
}

static void put_text(struct pfl_buf *b, const char *indent, const char *key, const char *value)
{
    if (!value)
        return;
    pfl_buf_printf(b, "%s%s: ", indent, key);
    put_quoted(b, value, strlen(value));
    pfl_buf_append_str(b, "\n");
}

static void put_seconds(struct pfl_buf *b, const char *indent, const char *key, pfl_ns t)
{
    if (t > 0)
        pfl_buf_printf(b, "%s%s: %" PRId64 ".%09" PRId64 "\n", indent, key, t / PFL_SEC, t % PFL_SEC);
}

void pfl_remote_config_write(const struct pfl_remote_config *r, const char *indent, struct pfl_buf *out)
{
    if (!pfl_remote_is_set(r))
        return;
    if (r->command.n > 0) {
        pfl_buf_printf(out, "%scommand: [", indent);
        for (size_t i = 0; i < r->command.n; i++) {
            pfl_buf_append_str(out, i ? ", " : "");
            put_quoted(out, r->command.items[i], strlen(r->command.items[i]));
        }
        pfl_buf_append_str(out, "]\n");
    }
    put_text(out, indent, "socket", r->socket);
    put_text(out, indent, "folder", r->folder);
    put_seconds(out, indent, "start_timeout", r->start_timeout);
    put_seconds(out, indent, "silence_timeout", r->silence_timeout);
    if (r->params.n > 0)
        pfl_buf_printf(out, "%sparams:\n", indent);
    for (size_t i = 0; i < r->params.n; i++) {
        const char *key = r->params.items[i], *value = strchr(key, '=');
        pfl_buf_printf(out, "%s  ", indent);
        put_quoted(out, key, (size_t)(value - key));
        pfl_buf_append_str(out, ": ");
        put_quoted(out, value + 1, strlen(value + 1));
        pfl_buf_append_str(out, "\n");
    }
}
