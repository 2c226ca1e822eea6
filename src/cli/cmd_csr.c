/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl csr: a node's folder for a CA without a service. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "pki/ca.h"
#include "runtime/join.h"

static const char HELP[] =
    "usage: p2pfl csr --name NAME --san LIST [options]\n"
    "Makes a node's folder: node.yaml and certs/ with server.key, client.key and the requests server.csr, client.csr. The "
    "requests\n"
    "go to the CA (p2pfl ca sign); what comes back goes beside them as certs/ca.crt, certs/server.crt and certs/client.crt.\n"
    "\n"
    "  --name NAME              the node's name\n"
    "  --san LIST               the addresses and names that peers dial, IP:… and DNS:…, by commas or repeated\n"
    "  --federation NAME        the federation's name (default p2pfl)\n"
    "  --dir DIR                the node's folder (default ./NAME); not there yet, or empty\n"
    "  --address HOST:PORT      where the node listens (default: the first name, port 6666)\n"
    "  --ca-service HOST:PORT   the CA's service, if there is one for renewals\n"
    "  --key KIND               p256 (default), p384, ed25519, rsa:N, or a pkcs11: URI\n"
    "  --pin-file F             the token's PIN is the first line of F, for a pkcs11: URI\n";

static enum pfl_rc add_sans(struct pfl_csr_folder_opts *o, const char *list, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs items = {0};
    pfl_strs_split(&items, list, ',');
    for (size_t i = 0; i < items.n; i++) {
        PFL_AUTO(pfl_freep) char *san = NULL;
        enum pfl_rc rc = pfl_san_parse(items.items[i], &san, err);
        if (rc != PFL_OK)
            return rc;
        pfl_strs_add_once(&o->sans, san);
    }
    return PFL_OK;
}

static enum pfl_rc parse(int argc, char **argv, struct pfl_csr_folder_opts *o, bool *ret_help, struct pfl_err *err)
{
    static const struct option OPTIONS[] = {
        {"name", required_argument, NULL, 'n'},
        {"san", required_argument, NULL, 's'},
        {"federation", required_argument, NULL, 'f'},
        {"dir", required_argument, NULL, 'd'},
        {"address", required_argument, NULL, 'a'},
        {"ca-service", required_argument, NULL, 'c'},
        {"key", required_argument, NULL, 'k'},
        {"pin-file", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char **slots[128] = {['n'] = &o->name,       ['f'] = &o->federation, ['d'] = &o->dir,     ['a'] = &o->address,
                               ['c'] = &o->ca_service, ['k'] = &o->key,        ['p'] = &o->pin_file};
    int opt;
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", OPTIONS, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return pfl_cli_bad_option(opt, argv, err);
        if (opt == 's' && add_sans(o, optarg, err) != PFL_OK)
            return PFL_INVALID;
        if (slots[opt])
            *slots[opt] = optarg;
        *ret_help = *ret_help || opt == 'h';
    }
    if (*ret_help)
        return PFL_OK;
    if (optind != argc || !o->name || o->sans.n == 0)
        return pfl_err_set(err, PFL_INVALID, "--name NAME and --san LIST are wanted");
    return PFL_OK;
}

static int make(struct pfl_csr_folder_opts *o)
{
    struct pfl_err err = {0};
    if (!o->dir)
        o->dir = o->name;
    if (!o->federation)
        o->federation = "p2pfl";
    if (pfl_csr_folder(o, &err) != PFL_OK)
        return pfl_cli_fail("csr", &err);
    printf("%s: keys and requests of '%s'. At the CA, for each of the two:\n"
           "  p2pfl ca sign server.csr --ca DIR --name %s --san … --purpose server --out server.crt\n"
           "then put ca.crt, server.crt and client.crt into %s/certs and run: p2pfl node start -c %s/node.yaml\n",
           o->dir, o->name, o->name, o->dir, o->dir);
    return PFL_EXIT_OK;
}

int pfl_cmd_csr(int argc, char **argv)
{
    struct pfl_csr_folder_opts o = {0};
    struct pfl_err err = {0};
    bool help = false;
    int code;
    if (parse(argc, argv, &o, &help, &err) != PFL_OK)
        code = pfl_cli_usage("csr", "%s", err.msg);
    else if (help)
        code = fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    else
        code = make(&o);
    pfl_strs_deinit(&o.sans);
    return code;
}
