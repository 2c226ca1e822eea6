/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl cert show | verify; renew is in cmd_cert_renew.c. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cert_print.h"
#include "cli/cli.h"
#include "config/node_config.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/verify.h"

static const char HELP[] =
    "usage: p2pfl cert show FILE [--json]        every certificate in FILE, in plain words; of a node's folder or\n"
    "                                            node.yaml: its pairs and its CA\n"
    "       p2pfl cert verify --ca FILE [--host HOST] [--purpose server|client] [--crl FILE] [--json] FILE\n"
    "                                            would a node accept it? yes, or exactly why not\n"
    "       p2pfl cert renew NODE.yaml [--force] a node's certificates, now (see p2pfl cert renew --help)\n"
    "\n"
    "  --ca FILE            the trusted root certificates (ca.crt)\n"
    "  --host HOST          the address or name that is dialled; the certificate must cover it\n"
    "  --purpose PURPOSE    server or client (default: either will do)\n"
    "  --crl FILE           revocation lists: one of each issuer in the chain must be there, and in time\n"
    "  --json               one line of JSON\n"
    "  -h, --help           this text\n"
    "\n"
    "The first certificate in FILE is the one that is verified; those behind it may be intermediates.\n"
    "exit codes: 0 yes; 1 no, or a file cannot be read; 2 the command line was wrong\n";

struct cert_args {
    const char *file, *ca, *host, *crl;
    enum pfl_purpose purpose;
    bool json, help;
};

enum { OPT_CA = 256, OPT_HOST, OPT_PURPOSE, OPT_JSON, OPT_CRL };

static const struct option SHOW_OPTIONS[] = {
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};
static const struct option VERIFY_OPTIONS[] = {
    {"ca", required_argument, NULL, OPT_CA},
    {"host", required_argument, NULL, OPT_HOST},
    {"crl", required_argument, NULL, OPT_CRL},
    {"purpose", required_argument, NULL, OPT_PURPOSE},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static enum pfl_rc take_option(struct cert_args *args, int opt, const char *value, struct pfl_err *err)
{
    switch (opt) {
    case OPT_CA:
        args->ca = value;
        return PFL_OK;
    case OPT_HOST:
        args->host = value;
        return PFL_OK;
    case OPT_CRL:
        args->crl = value;
        return PFL_OK;
    case OPT_JSON:
        args->json = true;
        return PFL_OK;
    case 'h':
        args->help = true;
        return PFL_OK;
    default:
        break;
    }
    if (!pfl_streq(value, "server") && !pfl_streq(value, "client"))
        return pfl_err_set(err, PFL_INVALID, "--purpose '%s': server or client is wanted", pfl_q(value));
    args->purpose = pfl_streq(value, "server") ? PFL_PURPOSE_SERVER : PFL_PURPOSE_CLIENT;
    return PFL_OK;
}

/* Fills args; not PFL_OK is a usage error. */
static enum pfl_rc parse(int argc, char **argv, const struct option *options, struct cert_args *args, struct pfl_err *err)
{
    int opt;
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return pfl_cli_bad_option(opt, argv, err);
        enum pfl_rc rc = take_option(args, opt, optarg, err);
        if (rc != PFL_OK)
            return rc;
    }
    if (args->help)
        return PFL_OK;
    if (argc - optind != 1)
        return pfl_err_set(err, PFL_INVALID, argc == optind ? "the certificate's FILE is missing" : "one FILE is wanted");
    if (options == VERIFY_OPTIONS && !args->ca)
        return pfl_err_set(err, PFL_INVALID, "--ca FILE is missing: whom do you trust?");
    args->file = argv[optind];
    return PFL_OK;
}

/* ---- a node's files ---- */

struct node_files {
    char *server, *client, *ca; /* owned */
};

static void node_files_deinit(struct node_files *f)
{
    free(f->server);
    free(f->client);
    free(f->ca);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* False: FILE is what it says, a file of certificates. */
static enum pfl_rc find_node_files(const char *file, bool *ret_node, struct node_files *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = {0};
    PFL_AUTO(pfl_freep) char *yaml = is_folder(file) ? pfl_fs_join(file, "node.yaml") : pfl_xstrdup(file);
    size_t len = strlen(yaml);
    *ret_node = is_folder(file) || (len > 5 && pfl_streq(yaml + len - 5, ".yaml"));
    if (!*ret_node)
        return PFL_OK;
    if (is_folder(file) && !pfl_fs_exists(yaml)) { /* a folder of certificates */
        *ret = (struct node_files){pfl_fs_join(file, "server.crt"), pfl_fs_join(file, "client.crt"), pfl_fs_join(file, "ca.crt")};
        return PFL_OK;
    }
    enum pfl_rc rc = pfl_node_config_load(yaml, &c, err);
    if (rc != PFL_OK)
        return rc;
    if (!c.settings.ssl.use_ssl)
        return pfl_err_set(err, PFL_INVALID, "%s: this node has no certificates (use_ssl: false)", yaml);
    *ret = (struct node_files){pfl_xstrdup(c.settings.ssl.server_crt), pfl_xstrdup(c.settings.ssl.client_crt),
                               pfl_xstrdup(c.settings.ssl.ca_crt)};
    return PFL_OK;
}

static bool show_one(const char *title, const char *file, bool json, struct pfl_err *err)
{
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    if (pfl_certs_load(file, &certs, err) != PFL_OK)
        return false;
    if (!json && title)
        printf("%s: %s\n", title, file);
    if (json ? pfl_cert_print_json(file, certs, err) : pfl_cert_print_text(certs, err))
        return true;
    (void)pfl_err_wrap(err, "%s", file);
    return false;
}

static bool show_node(const struct node_files *f, bool json, struct pfl_err *err)
{
    if (!show_one("server certificate", f->server, json, err))
        return false;
    if (!json)
        putchar('\n');
    if (!show_one("client certificate", f->client, json, err))
        return false;
    if (!json)
        putchar('\n');
    return show_one("trusted roots", f->ca, json, err);
}

static int cert_show(const struct cert_args *args)
{
    struct pfl_err err = {0};
    bool node = false;
    PFL_AUTO(node_files_deinit) struct node_files files = {0};
    if (find_node_files(args->file, &node, &files, &err) == PFL_OK &&
        (node ? show_node(&files, args->json, &err) : show_one(NULL, args->file, args->json, &err)))
        return PFL_EXIT_OK;
    return pfl_cli_fail("cert show", &err);
}

static void say_json(const struct cert_args *args, struct x509_st *leaf, bool yes, const char *reason)
{
    json_t *o = json_object(), *cert = pfl_cert_json(leaf, NULL), *why = yes ? NULL : json_string(reason);
    json_object_set_new(o, "file", json_string(args->file));
    json_object_set_new(o, "ok", json_boolean(yes));
    json_object_set_new(o, "reason", why ? why : json_null());
    json_object_set_new(o, "certificate", cert ? cert : json_null());
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static int cert_verify(const struct cert_args *args)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *trust = NULL;
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    struct pfl_verify_opts opts = {.purpose = args->purpose, .host = args->host};
    if (pfl_trust_load(args->ca, &trust, &err) != PFL_OK || pfl_certs_load(args->file, &certs, &err) != PFL_OK)
        return pfl_cli_fail("cert verify", &err);
    PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *crls = NULL;
    if (args->crl && pfl_crl_set_load(args->crl, trust, certs, pfl_clock_wall() / PFL_SEC, &crls, &err) != PFL_OK)
        return pfl_cli_fail("cert verify", &err);
    opts.crls = crls;
    opts.crl_policy = args->crl ? PFL_CRL_REQUIRE : PFL_CRL_PREFER;
    struct x509_st *leaf = pfl_x509s_at(certs, 0);
    bool yes = pfl_verify_x509(trust, leaf, certs, &opts, &err) == PFL_OK;
    if (args->json) {
        say_json(args, leaf, yes, err.msg);
        return yes ? PFL_EXIT_OK : PFL_EXIT_NO;
    }
    if (!yes) {
        printf("no: %s: %s\n", args->file, err.msg);
        return PFL_EXIT_NO;
    }
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    if (pfl_identity_of_x509(leaf, &id, &err) != PFL_OK)
        return pfl_cli_fail("cert verify", &err);
    char until[32];
    pfl_time_text(id->not_after, until);
    printf("yes: %s: %s, issued by '%s', valid until %s\n", args->file, pfl_identity_text(id), id->issuer, until);
    return PFL_EXIT_OK;
}

static int run(const char *command, int argc, char **argv, const struct option *options, int (*fn)(const struct cert_args *))
{
    struct pfl_err err = {0};
    struct cert_args args = {0};
    if (parse(argc, argv, options, &args, &err) != PFL_OK)
        return pfl_cli_usage(command, "%s", err.msg);
    if (args.help)
        return fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    return fn(&args);
}

int pfl_cmd_cert(int argc, char **argv)
{
    static const char *const NAMES[] = {"show", "verify", "renew"};
    if (argc < 2)
        return pfl_cli_usage("cert", "show, verify or renew is wanted");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    if (strcmp(argv[1], "show") == 0)
        return run("cert show", argc - 1, argv + 1, SHOW_OPTIONS, cert_show);
    if (strcmp(argv[1], "verify") == 0)
        return run("cert verify", argc - 1, argv + 1, VERIFY_OPTIONS, cert_verify);
    if (strcmp(argv[1], "renew") == 0)
        return pfl_cmd_cert_renew(argc - 1, argv + 1);
    return pfl_cli_unknown("cert", "subcommand", argv[1], NAMES, PFL_ARRAY_LEN(NAMES));
}
