/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl node evidence: what a node keeps against others, each pair checked again before it is shown. */
#include "cli/cmd_node_evidence.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "cli/cli.h"
#include "runtime/evidence.h"

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_json(const struct dirent *e)
{
    size_t len = strlen(e->d_name);
    return len > 5 && strcmp(e->d_name + len - 5, ".json") == 0;
}

static json_t *describe(const char *path, const struct pfl_evidence *e, const struct pfl_err *err)
{
    json_t *o = json_pack("{s:s, s:b}", "file", path, "proves", err->rc == PFL_OK);
    if (err->rc != PFL_OK) {
        json_object_set_new(o, "reason", json_string(err->msg));
        return o;
    }
    json_object_set_new(o, "identity", json_string(e->identity));
    json_object_set_new(o, "address", json_string(pfl_q(e->about.source)));
    json_object_set_new(o, "what", json_sprintf("two %s", pfl_once_name(pfl_origin_once(&e->about))));
    json_object_set_new(o, "experiment", json_string(pfl_q(e->about.experiment)));
    json_object_set_new(o, "round", json_integer(e->about.round));
    return o;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "-";
}

static void print(const json_t *o)
{
    if (json_is_true(json_object_get(o, "proves")))
        printf("%s\n  %s (%s) signed %s for round %lld of '%s'\n", text_of(o, "file"), text_of(o, "identity"),
               text_of(o, "address"), text_of(o, "what"), (long long)json_integer_value(json_object_get(o, "round")),
               text_of(o, "experiment"));
    else
        printf("%s\n  proves NOTHING: %s\n", text_of(o, "file"), text_of(o, "reason"));
}

/* Appends what one file is to list; true: it proves what it says. */
static bool look(const char *path, json_t *list)
{
    struct pfl_evidence e = {0};
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_evidence_load(path, &e, &err);
    json_array_append_new(list, describe(path, &e, &err));
    pfl_evidence_deinit(&e);
    return rc == PFL_OK;
}

static bool look_at_all(const char *state, json_t *list)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_join(state, "evidence");
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_json, by_name); /* no folder: nothing was ever kept */
    bool good = true;
    for (int i = 0; i < n; i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, names[i]->d_name);
        good = look(path, list) && good;
        free(names[i]);
    }
    free(names);
    return good;
}

int pfl_cmd_node_evidence(const char *state, const char *file, bool json)
{
    PFL_AUTO(pfl_evidence_json_freep) json_t *list = json_array();
    if (!file && !pfl_fs_exists(state)) {
        struct pfl_err err = {0};
        (void)pfl_err_errno(&err, ENOENT, "%s", state);
        return pfl_cli_fail("node evidence", &err);
    }
    bool good = file ? look(file, list) : look_at_all(state, list);
    json_t *o;
    size_t i;
    if (json) {
        json_dumpf(list, stdout, JSON_COMPACT);
        putchar('\n');
        return good ? PFL_EXIT_OK : PFL_EXIT_NO;
    }
    json_array_foreach (list, i, o)
        print(o);
    if (json_array_size(list) == 0)
        puts("nobody is known to have contradicted itself");
    return good ? PFL_EXIT_OK : PFL_EXIT_NO;
}
