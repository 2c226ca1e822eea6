/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: one function and one file for each command. argv[0] is the command's own name ("ca"), so getopt_long works
 * on argv as it stands. Results go to standard output, everything else to standard error. */
#ifndef PFL_CLI_CLI_H
#define PFL_CLI_CLI_H

#include <stddef.h>

#include "base/err.h"

/** Exit codes of every command. */
enum pfl_exit {
    PFL_EXIT_OK = 0,    /* done, or yes */
    PFL_EXIT_NO = 1,    /* it failed, or the answer is no */
    PFL_EXIT_USAGE = 2, /* the command line was wrong: nothing was done */
};

int pfl_cmd_run(int argc, char **argv);
int pfl_cmd_node(int argc, char **argv);
int pfl_cmd_ca(int argc, char **argv);
int pfl_cmd_cert(int argc, char **argv);
int pfl_cmd_cert_renew(int argc, char **argv); /* of `p2pfl cert`; argv[0] is "renew" */
int pfl_cmd_join(int argc, char **argv);
int pfl_cmd_csr(int argc, char **argv);
/* Of `p2pfl ca`; argv[0] is the subcommand. */
int pfl_cmd_ca_serve(int argc, char **argv);
int pfl_cmd_ca_token(int argc, char **argv);
int pfl_cmd_ca_requests(int argc, char **argv);
int pfl_cmd_simulate(int argc, char **argv);
int pfl_cmd_examples(int argc, char **argv);
int pfl_cmd_variations(int argc, char **argv);

/** "p2pfl ca issue: <text>" and a pointer to --help on standard error. Returns PFL_EXIT_USAGE. */
int pfl_cli_usage(const char *command, const char *fmt, ...) PFL_PRINTF(2, 3);
/** "p2pfl ca issue: <the error>" on standard error. Returns PFL_EXIT_NO. */
int pfl_cli_fail(const char *command, const struct pfl_err *err);
/** After getopt_long (with opterr = 0 and ':' first in its short options) returned '?' or ':': names the option, never its value.
 *  Returns PFL_INVALID. */
enum pfl_rc pfl_cli_bad_option(int opt, char **argv, struct pfl_err *err);
/** Says that `name` is no `kind` ("command", "subcommand") of `command` (NULL: of p2pfl itself) and the nearest one of names.
 * Returns PFL_EXIT_USAGE. */
int pfl_cli_unknown(const char *command, const char *kind, const char *name, const char *const *names, size_t n);

#endif
