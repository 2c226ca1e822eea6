/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca: which subcommand it is. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/ca_args.h"
#include "cli/cli.h"

static const char HELP[] =
    "usage: p2pfl ca init DIR [options]                 make a CA: key, root certificate, register\n"
    "       p2pfl ca issue NAME --ca DIR --san LIST     make keys and certificates of a node\n"
    "       p2pfl ca sign FILE.csr --ca DIR --name NAME --san LIST --out F\n"
    "                                                   sign a request: the private key stays where it is\n"
    "       p2pfl ca list --ca DIR                      what is in the register\n"
    "       p2pfl ca show NAME|SERIAL --ca DIR          all about a certificate\n"
    "       p2pfl ca revoke NAME|SERIAL|FILE --ca DIR   revoke, and make a new revocation list\n"
    "       p2pfl ca crl --ca DIR                       make a new revocation list\n"
    "       p2pfl ca audit --ca DIR [--verify]          the audit log, and whether it is untouched\n"
    "       p2pfl ca sign-intermediate FILE.csr --ca DIR --out F\n"
    "                                                   an offline root signs an online CA\n"
    "       p2pfl ca install FILE... --ca DIR           put what the root signed into the online CA's folder\n"
    "       p2pfl ca rollover prepare|activate|finish|status --ca DIR\n"
    "                                                   a new root in the place of the old one\n"
    "       p2pfl ca serve --ca DIR --listen HOST:PORT  answer machines that join and members that renew\n"
    "       p2pfl ca token --ca DIR --name NAME --san LIST\n"
    "                                                   the line to run on a new machine; token list, token revoke\n"
    "       p2pfl ca requests|approve|deny --ca DIR     decide who joins (ca serve --approve)\n"
    "\n"
    "p2pfl ca SUBCOMMAND --help says more. docs/CERTIFICATES.md explains it all.\n"
    "exit codes: 0 done; 1 failed, or the answer is no; 2 the command line was wrong\n";

static const struct {
    const char *name;
    const struct pfl_ca_command *command; /* or */
    int (*run)(int argc, char **argv);
} SUBCOMMANDS[] = {
    {"init", &PFL_CA_INIT, NULL},
    {"issue", &PFL_CA_ISSUE, NULL},
    {"sign", &PFL_CA_SIGN, NULL},
    {"list", &PFL_CA_LIST, NULL},
    {"show", &PFL_CA_SHOW, NULL},
    {"revoke", &PFL_CA_REVOKE, NULL},
    {"crl", &PFL_CA_CRL, NULL},
    {"audit", &PFL_CA_AUDIT, NULL},
    {"sign-intermediate", &PFL_CA_SIGN_INTERMEDIATE, NULL},
    {"install", &PFL_CA_INSTALL, NULL},
    {"rollover", &PFL_CA_ROLLOVER, NULL},
    {"serve", NULL, pfl_cmd_ca_serve},
    {"token", NULL, pfl_cmd_ca_token},
    {"requests", NULL, pfl_cmd_ca_requests},
    {"approve", NULL, pfl_cmd_ca_requests},
    {"deny", NULL, pfl_cmd_ca_requests},
};

int pfl_cmd_ca(int argc, char **argv)
{
    const char *names[PFL_ARRAY_LEN(SUBCOMMANDS)];
    if (argc < 2)
        return pfl_cli_usage("ca", "a subcommand is wanted: init or issue to begin with");
    if (pfl_streq(argv[1], "--help") || pfl_streq(argv[1], "-h"))
        return fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    for (size_t i = 0; i < PFL_ARRAY_LEN(SUBCOMMANDS); i++) {
        names[i] = SUBCOMMANDS[i].name;
        if (pfl_streq(argv[1], names[i]))
            return SUBCOMMANDS[i].run ? SUBCOMMANDS[i].run(argc - 1, argv + 1)
                                      : pfl_ca_command_run(SUBCOMMANDS[i].command, argc - 1, argv + 1);
    }
    return pfl_cli_unknown("ca", "subcommand", argv[1], names, PFL_ARRAY_LEN(names));
}
