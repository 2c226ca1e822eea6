/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca init: a root, a root to be kept offline, or an online CA that waits for such a root's signature. */
#include <stdio.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/ca_args.h"
#include "cli/cert_print.h"
#include "cli/cli.h"
#include "pki/ca_admin.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"

static const char HELP[] =
    "usage: p2pfl ca init DIR [options]\n"
    "Makes DIR with a root in it: ca.key (encrypted, 0600), ca.crt, the register ca.db, bundle.pem and crl.pem.\n"
    "\n"
    "  --federation NAME        whom the CA is for (default p2pfl); stands in every certificate it issues\n"
    "  --name TEXT              the CA's common name (default \"<federation> CA\")\n"
    "  --days N                 how long it is valid (default 1024)\n"
    "  --root-offline           a root to be kept offline: it signs intermediate CAs only (ca sign-intermediate)\n"
    "  --intermediate           no root but an online CA under one: DIR gets ca.key and ca.csr; --federation, --name and --key "
    "count\n"
    "  --key KIND               p256 (default), p384, ed25519 or rsa:N\n"
    "  --key pkcs11:URI         the CA's key is this one of a token, made there (p256) if it is not there; KIND@pkcs11:URI makes\n"
    "                           a new one of that kind. --passphrase-file and -fd are the token's PIN then\n"
    "  --pin-file F             the token's PIN is the first line of F, now and later: F becomes the URI's pin-source\n"
    "  --passphrase-file F      the key's passphrase is the first line of F (a file that only you can read)\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n"
    "  --json                   say what was made as one line of JSON\n"
    "\n"
    "Nothing is overwritten, and after an error nothing is left behind.\n";

static int say_root(const struct pfl_ca_args *args, struct pfl_err *err)
{
    const char *dir = args->items[0];
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    PFL_AUTO(pfl_freep) char *crt = pfl_fs_join(dir, "ca.crt");
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(dir, "ca.key");
    if (pfl_certs_load(crt, &certs, err) != PFL_OK)
        return pfl_cli_fail("ca init", err);
    if (args->json)
        return pfl_cert_print_json(crt, certs, err) ? PFL_EXIT_OK : pfl_cli_fail("ca init", err);
    printf("%s  the CA's key, %s\n%s  the CA's certificate: every node gets a copy\n\n", key,
           pfl_key_file_in_token(key) ? "in its token: the file only says where" : "encrypted: keep it away from the nodes", crt);
    return pfl_cert_print_text(certs, err) ? PFL_EXIT_OK : pfl_cli_fail("ca init", err);
}

static int say_request(const struct pfl_ca_args *args)
{
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(args->items[0], "ca.key");
    PFL_AUTO(pfl_freep) char *csr = pfl_fs_join(args->items[0], "ca.csr");
    if (args->json) {
        json_t *j = json_pack("{s:s, s:s}", "key", key, "request", csr);
        int rc = json_dumpf(j, stdout, 0);
        json_decref(j);
        return rc == 0 && putchar('\n') != EOF ? PFL_EXIT_OK : PFL_EXIT_NO;
    }
    printf("%s  the online CA's key: it stays here\n%s  its request: carry it to the root\n\n"
           "next, where the root is:  p2pfl ca sign-intermediate ca.csr --ca ROOT_DIR --out intermediate.pem\n"
           "then here:                p2pfl ca install intermediate.pem --ca %s\n",
           key, csr, args->items[0]);
    return PFL_EXIT_OK;
}

/* What --key says, with --pin-file in it, and the passphrase or PIN. A key in a token is named after the federation if its URI does
 * not name it. */
static enum pfl_rc init_key(const struct pfl_ca_args *args, char **ret_spec, struct pfl_passphrase **ret, struct pfl_err *err)
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

static int check(const struct pfl_ca_args *args)
{
    static const char *const NAMES[] = {"ca.crt", "ca.key", "ca.csr", "ca.db"};
    if (args->federation && !pfl_name_valid(args->federation))
        return pfl_cli_usage("ca init", "--federation '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(args->federation),
                             PFL_NAME_MAX);
    if (args->root_offline && args->intermediate)
        return pfl_cli_usage("ca init", "--root-offline and --intermediate exclude each other");
    if (args->intermediate && args->days)
        return pfl_cli_usage("ca init", "--days is the root's decision: p2pfl ca sign-intermediate takes it");
    for (size_t i = 0; i < PFL_ARRAY_LEN(NAMES); i++) { /* before anybody types a passphrase */
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(args->items[0], NAMES[i]);
        struct pfl_err err = {0};
        if (!pfl_fs_exists(path))
            continue;
        (void)pfl_err_set(&err, PFL_EXISTS, "%s has a CA already, which is not overwritten: choose another folder", args->items[0]);
        return pfl_cli_fail("ca init", &err);
    }
    return PFL_EXIT_OK;
}

static int run(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *passphrase = NULL;
    PFL_AUTO(pfl_freep) char *spec = NULL;
    struct pfl_ca_opts opts = {
        .name = args->name, .federation = args->federation, .days = args->days, .offline = args->root_offline};
    int code = check(args);
    if (code != PFL_EXIT_OK)
        return code;
    if (init_key(args, &spec, &passphrase, &err) != PFL_OK)
        return pfl_cli_fail("ca init", &err);
    opts.key = spec;
    enum pfl_rc rc = args->intermediate ? pfl_ca_init_intermediate(args->items[0], &opts, passphrase, &err)
                                        : pfl_ca_init(args->items[0], &opts, passphrase, &err);
    if (rc != PFL_OK)
        return pfl_cli_fail("ca init", &err);
    return args->intermediate ? say_request(args) : say_root(args, &err);
}

static const enum pfl_ca_option OPTIONS[] = {PFL_CA_OPT_NAME,
                                             PFL_CA_OPT_FEDERATION,
                                             PFL_CA_OPT_KEY,
                                             PFL_CA_OPT_DAYS,
                                             PFL_CA_OPT_ROOT_OFFLINE,
                                             PFL_CA_OPT_INTERMEDIATE,
                                             PFL_CA_OPT_PIN_FILE,
                                             PFL_CA_OPT_PASSPHRASE_FILE,
                                             PFL_CA_OPT_PASSPHRASE_FD,
                                             PFL_CA_OPT_JSON,
                                             0};
const struct pfl_ca_command PFL_CA_INIT = {"ca init", HELP, OPTIONS, "the folder DIR", 1, 1, run};
