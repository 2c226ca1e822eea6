/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca issue: keys and certificates in one go. p2pfl ca sign: a request's key, so that the private half never travels. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cli/ca_args.h"
#include "cli/cert_print.h"
#include "cli/cli.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/identity.h"

static const char ISSUE_HELP[] =
    "usage: p2pfl ca issue NAME --ca DIR --san IP:127.0.0.1,DNS:host.example [options]\n"
    "Makes ca.crt server.key server.crt client.key client.crt for a node.\n"
    "\n"
    "  --ca DIR                 the CA's folder\n"
    "  --san LIST               the addresses and names that peers dial, IP:… and DNS:…, by commas or repeated\n"
    "  --role ROLE              node (default), coordinator or observer\n"
    "  --out DIR                where the five files go (default ./NAME)\n"
    "  --days N                 how long they are valid (default 500, never longer than the CA)\n"
    "  --lifetime 24h           the same in s, m, h or d\n"
    "  --key KIND               of the node's keys: p256 (default), p384, ed25519 or rsa:N\n"
    "  --key-passphrase-file F  encrypt the node's keys too, with the first line of F\n"
    "  --passphrase-file F      the CA key's passphrase is the first line of F (a file that only you can read)\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n"
    "  --json                   say what was made as one line of JSON each\n"
    "\n"
    "Nothing is overwritten, and after an error nothing is left behind.\n";

static const char SIGN_HELP[] =
    "usage: p2pfl ca sign FILE.csr --ca DIR --name NAME --san LIST --out F [options]\n"
    "Signs a certificate request (PKCS#10, PEM or DER). The options say what the certificate says; a request that asks for\n"
    "more is refused. F gets the certificate, with the intermediate behind it if there is one.\n"
    "\n"
    "  --name NAME              the node's name\n"
    "  --san LIST               the addresses and names that peers dial, IP:… and DNS:…, by commas or repeated\n"
    "  --role ROLE              node (default), coordinator or observer\n"
    "  --purpose server|client  what for (default: what the request asks for); a node needs one of each, from two requests\n"
    "  --lifetime 24h           how long it is valid, in s, m, h or d (default 500 days, never longer than the CA); or --days N\n"
    "  --out F                  where the certificate goes; nothing is overwritten\n"
    "  --ca DIR --passphrase-file F --passphrase-fd N --json     as for p2pfl ca issue\n";

static int check_names(const struct pfl_ca_args *args, const char *name)
{
    const char *title = args->command->title;
    if (args->sans.n == 0)
        return pfl_cli_usage(title, "--san is missing: peers check the address that they dial, for example "
                                    "--san IP:127.0.0.1,DNS:localhost");
    if (!pfl_name_valid(name))
        return pfl_cli_usage(title, "name '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(name), PFL_NAME_MAX);
    if (args->role && !pfl_role_valid(args->role))
        return pfl_cli_usage(title, "--role '%s': node, coordinator or observer is wanted", pfl_q(args->role));
    return PFL_EXIT_OK;
}

static int say_issue(const struct pfl_ca_args *args, const char *out, struct pfl_err *err)
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

static int issue(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *key_passphrase = NULL;
    const char *name = args->items[0], *out = args->out ? args->out : name;
    int code = check_names(args, name);
    if (code != PFL_EXIT_OK)
        return code;
    if (args->key_passphrase_file && pfl_passphrase_from_file(args->key_passphrase_file, &key_passphrase, &err) != PFL_OK)
        return pfl_cli_fail("ca issue", &err);
    struct pfl_issue_opts opts = {.name = name,
                                  .role = args->role,
                                  .key = args->key,
                                  .sans = args->sans,
                                  .lifetime_s = pfl_ca_args_lifetime(args),
                                  .key_passphrase = key_passphrase};
    if (pfl_ca_args_open(args, &ca, &err) != PFL_OK || pfl_ca_issue(ca, &opts, out, &err) != PFL_OK)
        return pfl_cli_fail("ca issue", &err);
    return say_issue(args, out, &err);
}

/* "serverAuth" or "clientAuth"; NULL where neither option nor request says. */
static const char *purpose_of(const struct pfl_ca_args *args, const struct pfl_csr *csr)
{
    const struct pfl_strs *asked = pfl_csr_purposes(csr);
    if (args->purpose)
        return pfl_streq(args->purpose, "server") ? "serverAuth" : "clientAuth";
    return asked->n == 1 && (pfl_streq(asked->items[0], "serverAuth") || pfl_streq(asked->items[0], "clientAuth")) ? asked->items[0]
                                                                                                                   : NULL;
}

static enum pfl_rc write_chain(const struct pfl_ca *ca, struct x509_st *cert, const char *path, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    PFL_AUTO(pfl_freep) char *leaf = pfl_cert_pem(cert);
    pfl_buf_append_str(&out, leaf);
    for (size_t i = 0; i < pfl_x509s_n(pfl_ca_chain(ca)); i++) {
        PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(pfl_x509s_at(pfl_ca_chain(ca), i));
        pfl_buf_append_str(&out, pem);
    }
    return pfl_fs_write_new(path, pfl_buf_view(&out), 0644, err);
}

/* It is in the register already; a certificate that nobody can read is of no use there. */
static void withdraw(const struct pfl_ca *ca, struct x509_st *cert, const char *actor)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    size_t n = 0;
    if (pfl_identity_of_x509(cert, &id, NULL) != PFL_OK ||
        pfl_ca_revoke(ca, id->serial_hex, "cessationOfOperation", actor, &n, NULL) != PFL_OK)
        fprintf(stderr, "p2pfl ca sign: the certificate stays in the register as valid\n");
}

static enum pfl_rc sign_request(const struct pfl_ca_args *args, const struct pfl_csr *csr, const char *purpose, struct pfl_err *err)
{
    char operator[80];
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    PFL_AUTO(pfl_x509_freep) struct x509_st *cert = NULL;
    pfl_ca_operator(operator);
    struct pfl_grant grant = {.name = args->name,
                              .role = args->role ? args->role : "node",
                              .sans = args->sans,
                              .purpose = purpose,
                              .lifetime_s = pfl_ca_args_lifetime(args),
                              .actor = operator,
                              .action = "sign" };
    if (pfl_fs_exists(args->out)) /* before anything is signed */
        return pfl_err_set(err, PFL_EXISTS, "%s is there already and is not overwritten", args->out);
    enum pfl_rc rc = pfl_ca_args_open(args, &ca, err);
    if (rc == PFL_OK)
        rc = pfl_ca_sign(ca, csr, &grant, &cert, err);
    if (rc != PFL_OK)
        return rc;
    rc = write_chain(ca, cert, args->out, err);
    if (rc != PFL_OK)
        withdraw(ca, cert, operator);
    return rc;
}

static int sign(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *csr = NULL;
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    if (!args->name || !args->out)
        return pfl_cli_usage("ca sign", "%s is missing", args->name ? "--out F" : "--name NAME");
    int code = check_names(args, args->name);
    if (code != PFL_EXIT_OK)
        return code;
    if (args->purpose && !pfl_streq(args->purpose, "server") && !pfl_streq(args->purpose, "client"))
        return pfl_cli_usage("ca sign", "--purpose '%s': server or client is wanted", pfl_q(args->purpose));
    if (pfl_csr_load(args->items[0], &csr, &err) != PFL_OK)
        return pfl_cli_fail("ca sign", &err);
    const char *purpose = purpose_of(args, csr);
    if (!purpose)
        return pfl_cli_usage("ca sign", "--purpose server or client is wanted: the request does not ask for exactly one of them");
    if (sign_request(args, csr, purpose, &err) != PFL_OK || pfl_certs_load(args->out, &certs, &err) != PFL_OK)
        return pfl_cli_fail("ca sign", &err);
    if (!(args->json ? pfl_cert_print_json(args->out, certs, &err) : pfl_cert_print_text(certs, &err)))
        return pfl_cli_fail("ca sign", &err);
    return PFL_EXIT_OK;
}

static const enum pfl_ca_option ISSUE_OPTIONS[] = {PFL_CA_OPT_CA,
                                                   PFL_CA_OPT_SAN,
                                                   PFL_CA_OPT_ROLE,
                                                   PFL_CA_OPT_OUT,
                                                   PFL_CA_OPT_KEY,
                                                   PFL_CA_OPT_DAYS,
                                                   PFL_CA_OPT_LIFETIME,
                                                   PFL_CA_OPT_PASSPHRASE_FILE,
                                                   PFL_CA_OPT_PASSPHRASE_FD,
                                                   PFL_CA_OPT_KEY_PASSPHRASE_FILE,
                                                   PFL_CA_OPT_JSON,
                                                   0};
static const enum pfl_ca_option SIGN_OPTIONS[] = {PFL_CA_OPT_CA,
                                                  PFL_CA_OPT_NAME,
                                                  PFL_CA_OPT_SAN,
                                                  PFL_CA_OPT_ROLE,
                                                  PFL_CA_OPT_PURPOSE,
                                                  PFL_CA_OPT_OUT,
                                                  PFL_CA_OPT_DAYS,
                                                  PFL_CA_OPT_LIFETIME,
                                                  PFL_CA_OPT_PASSPHRASE_FILE,
                                                  PFL_CA_OPT_PASSPHRASE_FD,
                                                  PFL_CA_OPT_JSON,
                                                  0};
const struct pfl_ca_command PFL_CA_ISSUE = {"ca issue", ISSUE_HELP, ISSUE_OPTIONS, "NAME", 1, 1, issue};
const struct pfl_ca_command PFL_CA_SIGN = {"ca sign", SIGN_HELP, SIGN_OPTIONS, "FILE.csr", 1, 1, sign};
