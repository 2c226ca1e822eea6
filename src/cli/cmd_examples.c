/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl examples: the experiments that come with the program, listed or printed to start one's own from. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "config/experiment.h"
#include "runtime/examples.h"

static const char help[] =
    "usage: p2pfl examples [--json]\n"
    "       p2pfl examples NAME      print the experiment's file\n"
    "\n"
    "Lists the experiments that 'p2pfl run NAME' knows. To change one: p2pfl examples NAME > my.yaml, edit it,\n"
    "p2pfl run my.yaml.\n"
    "\n"
    "exit codes: 0 done, 2 wrong command line or no such example\n";

static int print_one(const char *name)
{
    struct pfl_strs names = {0};
    for (const struct pfl_example *e = pfl_examples; e->name; e++) {
        if (pfl_streq(e->name, name)) {
            fputs(e->text, stdout);
            pfl_strs_deinit(&names);
            return PFL_EXIT_OK;
        }
        pfl_strs_add(&names, e->name);
    }
    int code = pfl_cli_unknown("examples", "example", name, (const char *const *)names.items, names.n);
    pfl_strs_deinit(&names);
    return code;
}

static void list_one(const struct pfl_example *e, json_t *rows)
{
    struct pfl_experiment_config c;
    struct pfl_err err = {0};
    if (pfl_experiment_parse(e->name, e->text, strlen(e->text), &c, &err) != PFL_OK) {
        fprintf(stderr, "p2pfl examples: %s\n", err.msg);
        return;
    }
    const char *description = c.description ? c.description : "";
    if (rows)
        json_array_append_new(rows, json_pack("{s:s, s:s, s:i, s:i}", "name", e->name, "description", description, "nodes",
                                              (int)c.nodes, "rounds", (int)c.rounds));
    else
        printf("  %-16s %s\n", e->name, description);
    pfl_experiment_deinit(&c);
}

int pfl_cmd_examples(int argc, char **argv)
{
    static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    json_t *rows = NULL;
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return PFL_EXIT_OK;
        }
        if (c != 'j') {
            json_decref(rows);
            return PFL_EXIT_USAGE;
        }
        if (!rows)
            rows = json_array();
    }
    if (optind < argc) {
        json_decref(rows);
        return print_one(argv[optind]);
    }
    for (const struct pfl_example *e = pfl_examples; e->name; e++)
        list_one(e, rows);
    if (rows) {
        json_dumpf(rows, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(rows);
    }
    return PFL_EXIT_OK;
}
