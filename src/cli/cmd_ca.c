/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca init | issue. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cert_print.h"
#include "cli/cli.h"
#include "cli/secret.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"

static const char HELP[] =
    "usage: p2pfl ca init DIR [options]          make a root: DIR/ca.key (encrypted, 0600) and DIR/ca.crt\n"
    "       p2pfl ca issue NAME --ca DIR --san IP:127.0.0.1,DNS:host.example [options]\n"
    "                                            make ca.crt server.key server.crt client.key client.crt for a node\n"
    "\n"
    "init:\n"
    "  --federation NAME        whom the CA is for (default p2pfl); stands in every certificate it issues\n"
    "  --name TEXT              the root's common name (default \"<federation> CA\")\n"
    "  --days N                 how long it is valid (default 1024)\n"
    "  --key pkcs11:URI         the CA's key is this one of a token, made there (p256) if it is not there; KIND@pkcs11:URI makes\n"
    "                           a new one of that kind. --passphrase-file and -fd are the token's PIN then\n"
    "  --pin-file F             the token's PIN is the first line of F, now and later: F becomes the URI's pin-source\n"
    "issue:\n"
    "  --ca DIR                 the CA's folder\n"
    "  --san LIST               the addresses and names that peers dial, IP:… and DNS:…, by commas or repeated\n"
    "  --role ROLE              node (default), coordinator or observer\n"
    "  --out DIR                where the five files go (default ./NAME)\n"
    "  --days N                 how long they are valid (default 500, never longer than the CA)\n"
    "  --key-passphrase-file F  encrypt the node's keys too, with the first line of F\n"
    "both:\n"
    "  --key KIND               p256 (default), p384, ed25519 or rsa:N\n"
    "  --passphrase-file F      the CA key's passphrase is the first line of F (a file that only you can read)\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n"
    "  --json                   say what was made as one line of JSON\n"
    "  -h, --help               this text\n"
    "\n"
    "Nothing is overwritten, and after an error nothing is left behind.\n"
    "exit codes: 0 made; 1 failed; 2 the command line was wrong\n";

struct ca_args {
    const char *target; /* DIR of init, NAME of issue */
    const char *name, *federation, *key, *ca, *role, *out, *key_passphrase_file, *pin_file;
    struct pfl_strs sans; /* owned */
    int days;
    struct pfl_secret_source secret;
    bool json, help;
};

enum {
    OPT_NAME = 256,
    OPT_FEDERATION,
    OPT_KEY,
    OPT_DAYS,
    OPT_FILE,
    OPT_FD,
    OPT_CA,
    OPT_SAN,
    OPT_ROLE,
    OPT_OUT,
    OPT_KEYPASS,
    OPT_PIN_FILE,
    OPT_JSON
};

static const struct option INIT_OPTIONS[] = {
    {"name", required_argument, NULL, OPT_NAME},
    {"federation", required_argument, NULL, OPT_FEDERATION},
    {"key", required_argument, NULL, OPT_KEY},
    {"days", required_argument, NULL, OPT_DAYS},
    {"passphrase-file", required_argument, NULL, OPT_FILE},
    {"passphrase-fd", required_argument, NULL, OPT_FD},
    {"pin-file", required_argument, NULL, OPT_PIN_FILE},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};
static const struct option ISSUE_OPTIONS[] = {
    {"ca", required_argument, NULL, OPT_CA},
    {"san", required_argument, NULL, OPT_SAN},
    {"role", required_argument, NULL, OPT_ROLE},
    {"out", required_argument, NULL, OPT_OUT},
    {"key", required_argument, NULL, OPT_KEY},
    {"days", required_argument, NULL, OPT_DAYS},
    {"passphrase-file", required_argument, NULL, OPT_FILE},
    {"passphrase-fd", required_argument, NULL, OPT_FD},
    {"key-passphrase-file", required_argument, NULL, OPT_KEYPASS},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static enum pfl_rc parse_days(const char *text, int *ret, struct pfl_err *err)
{
    int64_t days;
    if (!pfl_parse_i64(text, 1, PFL_DAYS_MAX, &days))
        return pfl_err_set(err, PFL_INVALID, "--days '%s': a number from 1 to %d is wanted", pfl_q(text), PFL_DAYS_MAX);
    *ret = (int)days;
    return PFL_OK;
}

static enum pfl_rc add_sans(struct ca_args *args, const char *list, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs items = {0};
    pfl_strs_split(&items, list, ',');
    for (size_t i = 0; i < items.n; i++) {
        PFL_AUTO(pfl_freep) char *san = NULL;
        enum pfl_rc rc = pfl_san_parse(items.items[i], &san, err);
        if (rc != PFL_OK)
            return rc;
        pfl_strs_add_once(&args->sans, san);
    }
    return PFL_OK;
}

static enum pfl_rc take_option(struct ca_args *args, int opt, const char *value, struct pfl_err *err)
{
    switch (opt) {
    case OPT_NAME:
        args->name = value;
        return PFL_OK;
    case OPT_FEDERATION:
        args->federation = value;
        return PFL_OK;
    case OPT_CA:
        args->ca = value;
        return PFL_OK;
    case OPT_ROLE:
        args->role = value;
        return PFL_OK;
    case OPT_OUT:
        args->out = value;
        return PFL_OK;
    case OPT_FILE:
        args->secret.file = value;
        return PFL_OK;
    case OPT_KEYPASS:
        args->key_passphrase_file = value;
        return PFL_OK;
    case OPT_PIN_FILE:
        args->pin_file = value;
        return PFL_OK;
    case OPT_FD:
        return pfl_secret_parse_fd(value, &args->secret.fd, err);
    case OPT_SAN:
        return add_sans(args, value, err);
    case OPT_DAYS:
        return parse_days(value, &args->days, err);
    case OPT_KEY:
        args->key = value;
        return pfl_key_spec_valid(value, err) ? PFL_OK : PFL_INVALID;
    case OPT_JSON:
        args->json = true;
        return PFL_OK;
    case 'h':
        args->help = true;
        return PFL_OK;
    default:
        return pfl_err_set(err, PFL_INVALID, "unknown option, or one without its value");
    }
}

/* Fills args; not PFL_OK is a usage error. */
static enum pfl_rc parse(int argc, char **argv, const struct option *options, struct ca_args *args, struct pfl_err *err)
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
        return pfl_err_set(err, PFL_INVALID, argc == optind ? "%s is missing" : "one %s at a time is wanted",
                           options == INIT_OPTIONS ? "the folder DIR" : "NAME");
    args->target = argv[optind];
    if (args->secret.file && args->secret.fd >= 0)
        return pfl_err_set(err, PFL_INVALID, "--passphrase-file and --passphrase-fd exclude each other");
    return PFL_OK;
}

static int say_init(const struct ca_args *args, const char *crt, struct pfl_err *err)
{
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    if (pfl_certs_load(crt, &certs, err) != PFL_OK)
        return pfl_cli_fail("ca init", err);
    if (args->json)
        return pfl_cert_print_json(crt, certs, err) ? PFL_EXIT_OK : pfl_cli_fail("ca init", err);
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(args->target, "ca.key");
    printf("%s  the CA's key, %s\n%s  the CA's certificate: every node gets a copy\n\n", key,
           pfl_key_file_in_token(key) ? "in its token: the file only says where" : "encrypted: keep it away from the nodes", crt);
    return pfl_cert_print_text(certs, err) ? PFL_EXIT_OK : pfl_cli_fail("ca init", err);
}

/* What --key says, with --pin-file in it, and the passphrase or PIN. A key in a token is named after the federation if its URI does
 * not name it. */
static enum pfl_rc init_key(const struct ca_args *args, char **ret_spec, struct pfl_passphrase **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *name = pfl_xasprintf("%s-ca", args->federation ? args->federation : "p2pfl");
    enum pfl_rc rc = pfl_key_spec_for(args->key ? args->key : "p256", name, NULL, args->pin_file, ret_spec, err);
    if (rc != PFL_OK)
        return rc;
    if (!pfl_key_spec_in_token(*ret_spec))
        return pfl_secret_get(&args->secret, "New passphrase for the CA key", true, ret, err);
    if (!pfl_key_spec_asks_pin(*ret_spec))
        return PFL_OK;
    return pfl_secret_get(&args->secret, "PIN of the token", false, ret, err);
}

static int ca_init(struct ca_args *args)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *passphrase = NULL;
    PFL_AUTO(pfl_freep) char *crt = pfl_fs_join(args->target, "ca.crt");
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(args->target, "ca.key");
    PFL_AUTO(pfl_freep) char *spec = NULL;
    struct pfl_ca_opts opts = {.name = args->name, .federation = args->federation, .days = args->days};
    if (args->federation && !pfl_name_valid(args->federation))
        return pfl_cli_usage("ca init", "--federation '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(args->federation),
                             PFL_NAME_MAX);
    if (pfl_fs_exists(crt) || pfl_fs_exists(key)) { /* before anybody types a passphrase */
        (void)pfl_err_set(&err, PFL_EXISTS, "%s has a CA already, which is not overwritten: choose another folder", args->target);
        return pfl_cli_fail("ca init", &err);
    }
    if (init_key(args, &spec, &passphrase, &err) != PFL_OK)
        return pfl_cli_fail("ca init", &err);
    opts.key = spec;
    if (pfl_ca_init(args->target, &opts, passphrase, &err) != PFL_OK)
        return pfl_cli_fail("ca init", &err);
    return say_init(args, crt, &err);
}

static int say_issue(const struct ca_args *args, const char *out, struct pfl_err *err)
{
    static const char *const CERTS[] = {"server.crt", "client.crt"};
    if (!args->json)
        printf("%s: ca.crt server.key server.crt client.key client.crt\n", out);
    for (size_t i = 0; i < PFL_ARRAY_LEN(CERTS); i++) {
        PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(out, CERTS[i]);
        if (pfl_certs_load(path, &certs, err) != PFL_OK)
            return pfl_cli_fail("ca issue", err);
        if (!args->json)
            printf("\n%s\n", CERTS[i]);
        if (!(args->json ? pfl_cert_print_json(path, certs, err) : pfl_cert_print_text(certs, err)))
            return pfl_cli_fail("ca issue", err);
    }
    return PFL_EXIT_OK;
}

/* The CA's key may be unencrypted (one that `p2pfl run` made for itself, or one made by hand): then nothing is asked. */
static enum pfl_rc open_ca(const struct ca_args *args, struct pfl_ca **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *passphrase = NULL;
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(args->ca, "ca.key");
    bool given = args->secret.file || args->secret.fd >= 0;
    if (given || pfl_key_file_encrypted(key)) {
        const char *what = pfl_key_file_in_token(key) ? "PIN of the token with the CA key" : "Passphrase of the CA key";
        enum pfl_rc rc = pfl_secret_get(&args->secret, what, false, &passphrase, err);
        if (rc != PFL_OK)
            return rc;
    }
    return pfl_ca_open(args->ca, passphrase, ret, err);
}

static int check_issue_args(const struct ca_args *args)
{
    if (!args->ca)
        return pfl_cli_usage("ca issue", "--ca DIR is missing: which CA issues it?");
    if (args->sans.n == 0)
        return pfl_cli_usage("ca issue", "--san is missing: peers check the address that they dial, for example "
                                         "--san IP:127.0.0.1,DNS:localhost");
    if (!pfl_name_valid(args->target))
        return pfl_cli_usage("ca issue", "name '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(args->target), PFL_NAME_MAX);
    if (args->role && !pfl_role_valid(args->role))
        return pfl_cli_usage("ca issue", "--role '%s': node, coordinator or observer is wanted", pfl_q(args->role));
    return PFL_EXIT_OK;
}

static int ca_issue(struct ca_args *args)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *key_passphrase = NULL;
    int code = check_issue_args(args);
    if (code != PFL_EXIT_OK)
        return code;
    const char *out = args->out ? args->out : args->target;
    if (args->key_passphrase_file && pfl_passphrase_from_file(args->key_passphrase_file, &key_passphrase, &err) != PFL_OK)
        return pfl_cli_fail("ca issue", &err);
    struct pfl_issue_opts opts = {.name = args->target,
                                  .role = args->role,
                                  .key = args->key,
                                  .sans = args->sans,
                                  .days = args->days,
                                  .key_passphrase = key_passphrase};
    if (open_ca(args, &ca, &err) != PFL_OK || pfl_ca_issue(ca, &opts, out, &err) != PFL_OK)
        return pfl_cli_fail("ca issue", &err);
    return say_issue(args, out, &err);
}

static int run(const char *command, int argc, char **argv, const struct option *options, int (*fn)(struct ca_args *))
{
    struct pfl_err err = {0};
    struct ca_args args = {.secret.fd = -1};
    enum pfl_rc rc = parse(argc, argv, options, &args, &err);
    int code;
    if (rc != PFL_OK)
        code = pfl_cli_usage(command, "%s", err.msg);
    else if (args.help)
        code = fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    else
        code = fn(&args);
    pfl_strs_deinit(&args.sans);
    return code;
}

int pfl_cmd_ca(int argc, char **argv)
{
    static const char *const NAMES[] = {"init", "issue"};
    if (argc < 2)
        return pfl_cli_usage("ca", "init or issue is wanted");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    if (strcmp(argv[1], "init") == 0)
        return run("ca init", argc - 1, argv + 1, INIT_OPTIONS, ca_init);
    if (strcmp(argv[1], "issue") == 0)
        return run("ca issue", argc - 1, argv + 1, ISSUE_OPTIONS, ca_issue);
    return pfl_cli_unknown("ca", "subcommand", argv[1], NAMES, PFL_ARRAY_LEN(NAMES));
}
