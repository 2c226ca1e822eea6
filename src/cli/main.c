/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl: finds the command and hands the rest of the line over. Each command has its own file; this one knows names only. */
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"

#ifndef PFL_VERSION
#define PFL_VERSION "0.1.0"
#endif

static const struct {
    const char *name, *help;
    int (*fn)(int argc, char **argv);
} COMMANDS[] = {
    {"run", "run an experiment: one process per node, certificates, a report", pfl_cmd_run},
    {"run-variations", "run an experiment with other values, again and again", pfl_cmd_variations},
    {"node", "start one node, or talk to one that runs", pfl_cmd_node},
    {"ca", "make a certificate authority and issue nodes their certificates", pfl_cmd_ca},
    {"join", "make a node's folder with certificates from a CA's service", pfl_cmd_join},
    {"csr", "make a node's folder with requests for a CA without a service", pfl_cmd_csr},
    {"cert", "show and verify certificates", pfl_cmd_cert},
    {"simulate", "run an experiment in virtual time, with faults, for many seeds", pfl_cmd_simulate},
    {"examples", "list the experiments that come with p2pfl", pfl_cmd_examples},
};

static void print_help(FILE *out)
{
    fprintf(out, "p2pfl: decentralized federated learning over mutual TLS\n\n"
                 "usage: p2pfl <command> [arguments]\n\n"
                 "commands:\n");
    for (size_t i = 0; i < PFL_ARRAY_LEN(COMMANDS); i++)
        fprintf(out, "  %-14s %s\n", COMMANDS[i].name, COMMANDS[i].help);
    fprintf(out, "\noptions:\n"
                 "  -h, --help     this text; 'p2pfl <command> --help' tells about a command\n"
                 "  -V, --version  the version\n\n"
                 "exit codes: 0 done, or yes; 1 failed, or no; 2 the command line was wrong\n");
}

int pfl_cli_usage(const char *command, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "p2pfl %s: ", command);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nSee 'p2pfl %s --help'.\n", command);
    return PFL_EXIT_USAGE;
}

int pfl_cli_fail(const char *command, const struct pfl_err *err)
{
    fprintf(stderr, "p2pfl %s: %s\n", command, err->msg[0] ? err->msg : pfl_rc_text(err->rc));
    return PFL_EXIT_NO;
}

enum pfl_rc pfl_cli_bad_option(int opt, char **argv, struct pfl_err *err)
{
    char name[64];
    if (optopt > 0 && optopt < 256 && opt == '?') /* of short ones getopt keeps the letter, and optind may not have moved */
        snprintf(name, sizeof name, "-%c", optopt);
    else
        snprintf(name, sizeof name, "%.*s", (int)strcspn(argv[optind - 1], "="), argv[optind - 1]);
    return pfl_err_set(err, PFL_INVALID, opt == ':' ? "option '%s' needs a value" : "unknown option '%s'", pfl_q(name));
}

int pfl_cli_unknown(const char *command, const char *kind, const char *name, const char *const *names, size_t n)
{
    const char *near = pfl_nearest(name, names, n), *sep = command ? " " : "", *cmd = command ? command : "";
    fprintf(stderr, "p2pfl%s%s: '%s' is no %s", sep, cmd, pfl_q(name), kind);
    if (near)
        fprintf(stderr, ", did you mean '%s'?", near);
    fprintf(stderr, "\nSee 'p2pfl%s%s --help'.\n", sep, cmd);
    return PFL_EXIT_USAGE;
}

static int unknown_command(const char *name)
{
    const char *names[PFL_ARRAY_LEN(COMMANDS)];
    for (size_t i = 0; i < PFL_ARRAY_LEN(COMMANDS); i++)
        names[i] = COMMANDS[i].name;
    return pfl_cli_unknown(NULL, "command", name, names, PFL_ARRAY_LEN(names));
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "C.UTF-8"); /* numbers stay in the C locale */
    signal(SIGPIPE, SIG_IGN);       /* a reader that went away is an error of that write, not our end */
    if (argc < 2) {
        print_help(stderr);
        return PFL_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return PFL_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("p2pfl %s\n", PFL_VERSION);
        return PFL_EXIT_OK;
    }
    for (size_t i = 0; i < PFL_ARRAY_LEN(COMMANDS); i++)
        if (strcmp(name, COMMANDS[i].name) == 0)
            return COMMANDS[i].fn(argc - 1, argv + 1);
    return unknown_command(name);
}
