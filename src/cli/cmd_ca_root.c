/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca sign-intermediate | install | rollover: what is done to a root, seldom. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cli/ca_args.h"
#include "cli/cli.h"
#include "pki/ca_admin.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/key.h"

enum { FILES_MAX = 8 };

static const char SIGN_HELP[] =
    "usage: p2pfl ca sign-intermediate FILE.csr --ca ROOT_DIR --out F [options]\n"
    "A root signs the request of an online CA (p2pfl ca init DIR --intermediate). F gets its certificate, the roots and their\n"
    "revocation lists: all that p2pfl ca install wants.\n"
    "\n"
    "  --days N                 how long it is valid (default 1024, never longer than the root); or --lifetime 24h\n"
    "  --out F                  where it goes; nothing is overwritten\n"
    "  --passphrase-file F      the root key's passphrase is the first line of F (a file that only you can read)\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n";

static const char INSTALL_HELP[] =
    "usage: p2pfl ca install FILE... --ca DIR [options]\n"
    "Puts what came from the root into an online CA's folder: its certificate, the roots (they replace the bundle), the root's\n"
    "revocation lists. Everything is checked; nothing is changed where something is wrong.\n"
    "\n"
    "  --passphrase-file F      the passphrase of DIR/ca.key is the first line of F (a file that only you can read)\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n";

static const char ROLLOVER_HELP[] =
    "usage: p2pfl ca rollover prepare|activate|finish|status --ca DIR [options]\n"
    "A new root in the place of the old one, without a day on which all must change:\n"
    "  prepare    makes the new root; bundle.pem has both from then on, the old one goes on signing\n"
    "  activate   the new root signs; the old one only its revocation lists. Wait until every member has the bundle\n"
    "  finish     the old root leaves the bundle. Refused while certificates of it are valid\n"
    "  status     which roots there are, and how many valid certificates each has. No key is needed\n"
    "\n"
    "  --name TEXT              prepare: the new root's common name (default \"<federation> CA <n>\")\n"
    "  --key KIND, --days N     prepare: as for p2pfl ca init\n"
    "  --force                  finish: although certificates of the old root are valid\n"
    "  --json                   status: one JSON object a line\n"
    "  --passphrase-file F      the CA key's passphrase is the first line of F; the new key gets the same\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n";

static int sign_intermediate(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    char operator[80];
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *csr = NULL;
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf pem = {0};
    if (!args->out)
        return pfl_cli_usage("ca sign-intermediate", "--out F is missing");
    pfl_ca_operator(operator);
    if (pfl_fs_exists(args->out)) {
        (void)pfl_err_set(&err, PFL_EXISTS, "%s is there already and is not overwritten", args->out);
        return pfl_cli_fail("ca sign-intermediate", &err);
    }
    if (pfl_csr_load(args->items[0], &csr, &err) != PFL_OK || pfl_ca_args_open(args, &ca, &err) != PFL_OK ||
        pfl_ca_sign_intermediate(ca, csr, pfl_ca_args_lifetime(args), operator, & pem, &err) != PFL_OK ||
        pfl_fs_write_new(args->out, pfl_buf_view(&pem), 0644, &err) != PFL_OK)
        return pfl_cli_fail("ca sign-intermediate", &err);
    printf("%s  the certificate of '%s' with the roots and their revocation lists\n"
           "next, where its key is:  p2pfl ca install %s --ca DIR\n",
           args->out, pfl_q(pfl_csr_common_name(csr)), args->out);
    return PFL_EXIT_OK;
}

static enum pfl_rc read_all(const struct pfl_ca_args *args, struct pfl_buf *out, struct pfl_err *err)
{
    for (size_t i = 0; i < args->n_items; i++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
        enum pfl_rc rc = pfl_fs_read(args->items[i], PFL_BUF_LIMIT_DEFAULT / FILES_MAX, &blob, err);
        if (rc != PFL_OK)
            return rc;
        pfl_buf_append(out, blob->data, blob->len);
        pfl_buf_append_str(out, "\n");
    }
    return out->failed ? pfl_err_set(err, PFL_TOO_BIG, "the files are too large together") : PFL_OK;
}

static int install(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    char operator[80];
    struct pfl_install_report report;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *passphrase = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf pem = {0};
    pfl_ca_operator(operator);
    if (read_all(args, &pem, &err) != PFL_OK || pfl_ca_args_passphrase(args, &passphrase, &err) != PFL_OK ||
        pfl_ca_install(args->ca, pfl_buf_view(&pem), passphrase, operator, & report, &err) != PFL_OK)
        return pfl_cli_fail("ca install", &err);
    printf("%s: %zu certificate%s of this CA, %zu root%s, %zu revocation list%s installed\n", args->ca, report.n_intermediates,
           report.n_intermediates == 1 ? "" : "s", report.n_roots, report.n_roots == 1 ? "" : "s", report.n_crls,
           report.n_crls == 1 ? "" : "s");
    if (report.revoked)
        printf("the root has REVOKED this CA's certificate: what it signs is refused; make a new online CA\n");
    return PFL_EXIT_OK;
}

struct status {
    bool json, failed;
};

static bool print_issuer(void *user, const struct pfl_issuer_info *info)
{
    struct status *s = user;
    char until[32];
    PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(info->cert);
    pfl_time_text(pfl_cert_not_after(info->cert), until);
    if (!s->json) {
        printf("%-12s  %-9s  %s\n  until        %s\n  public key   sha256:%s\n  key          %s\n  certificates %lld valid\n",
               info->kind, info->state, subject, until, info->fingerprint,
               info->key_file[0] ? pfl_q(info->key_file) : "not in this folder", (long long)info->n_valid);
        return true;
    }
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:I}", "kind", info->kind, "state", info->state, "subject", subject,
                          "until", until, "fingerprint", info->fingerprint, "key",
                          info->key_file[0] ? json_string(info->key_file) : json_null(), "valid", (json_int_t)info->n_valid);
    s->failed = !j || json_dumpf(j, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF;
    json_decref(j);
    return !s->failed;
}

static int status(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    struct status s = {.json = args->json};
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    if (pfl_ca_args_register(args, &reg, &err) != PFL_OK || pfl_ca_issuers_each(reg, print_issuer, &s, &err) != PFL_OK)
        return pfl_cli_fail("ca rollover", &err);
    return s.failed ? PFL_EXIT_NO : PFL_EXIT_OK;
}

static enum pfl_rc prepare(const struct pfl_ca_args *args, const struct pfl_ca *ca, const char *actor, struct pfl_err *err)
{
    struct pfl_ca_opts opts = {.name = args->name, .key = args->key, .days = args->days};
    enum pfl_rc rc = pfl_ca_rollover_prepare(ca, &opts, actor, err);
    if (rc == PFL_OK)
        printf("the new root is prepared; %s/bundle.pem has both. Next: let every member have the bundle, then activate\n",
               args->ca);
    return rc;
}

static enum pfl_rc activate(const struct pfl_ca_args *args, const struct pfl_ca *ca, const char *actor, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_ca_rollover_activate(ca, actor, err);
    if (rc == PFL_OK)
        printf("the new root signs from now on; %s/ca.crt is its certificate. Next: let every member renew, then finish\n",
               args->ca);
    return rc;
}

/* What keeps the old root in the bundle, in full: the message has the first names only. */
struct left {
    char issuer[65];
    int64_t now;
};

static bool take_retiring(void *user, const struct pfl_issuer_info *info)
{
    struct left *left = user;
    if (!pfl_streq(info->state, "retiring"))
        return true;
    memcpy(left->issuer, info->fingerprint, strnlen(info->fingerprint, sizeof left->issuer - 1));
    return false;
}

static bool print_left(void *user, const struct pfl_cert_row *row)
{
    const struct left *left = user;
    char until[32];
    if (!pfl_streq(row->issuer_fingerprint, left->issuer) || !pfl_streq(row->status, "valid") || row->not_after <= left->now ||
        pfl_streq(row->purpose, "root"))
        return true;
    pfl_time_text(row->not_after, until);
    return printf("%s  %s  %s  valid until %s\n", row->serial_hex, pfl_q(row->name), row->purpose, until) >= 0;
}

static void list_left(const struct pfl_ca *ca)
{
    struct left left = {.now = pfl_clock_wall() / PFL_SEC};
    struct pfl_register *reg = pfl_ca_register(ca);
    if (pfl_ca_issuers_each(reg, take_retiring, &left, NULL) != PFL_OK || !left.issuer[0] ||
        pfl_register_each(reg, NULL, print_left, &left, NULL) != PFL_OK)
        return; /* the refusal itself says enough */
}

static enum pfl_rc finish(const struct pfl_ca_args *args, const struct pfl_ca *ca, const char *actor, struct pfl_err *err)
{
    list_left(ca);
    enum pfl_rc rc = pfl_ca_rollover_finish(ca, args->force, actor, err);
    if (rc == PFL_OK)
        printf("the old root is out of %s/bundle.pem. Its key is no longer needed: p2pfl ca rollover status --ca %s names it\n",
               args->ca, args->ca);
    return rc;
}

static int rollover(const struct pfl_ca_args *args)
{
    static const struct {
        const char *name;
        enum pfl_rc (*fn)(const struct pfl_ca_args *args, const struct pfl_ca *ca, const char *actor, struct pfl_err *err);
    } STEPS[] = {{"prepare", prepare}, {"activate", activate}, {"finish", finish}, {"status", NULL}};
    const char *names[PFL_ARRAY_LEN(STEPS)];
    struct pfl_err err = {0};
    char operator[80];
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    size_t step = 0;
    for (size_t i = 0; i < PFL_ARRAY_LEN(STEPS); i++)
        names[i] = STEPS[i].name;
    while (step < PFL_ARRAY_LEN(STEPS) && !pfl_streq(args->items[0], STEPS[step].name))
        step++;
    if (step == PFL_ARRAY_LEN(STEPS))
        return pfl_cli_unknown("ca rollover", "step", args->items[0], names, PFL_ARRAY_LEN(names));
    if (!STEPS[step].fn)
        return status(args);
    pfl_ca_operator(operator);
    if (pfl_ca_args_open(args, &ca, &err) != PFL_OK || STEPS[step].fn(args, ca, operator, & err) != PFL_OK)
        return pfl_cli_fail("ca rollover", &err);
    return PFL_EXIT_OK;
}

static const enum pfl_ca_option SIGN_OPTIONS[] = {
    PFL_CA_OPT_CA, PFL_CA_OPT_OUT, PFL_CA_OPT_DAYS, PFL_CA_OPT_LIFETIME, PFL_CA_OPT_PASSPHRASE_FILE, PFL_CA_OPT_PASSPHRASE_FD, 0};
static const enum pfl_ca_option INSTALL_OPTIONS[] = {PFL_CA_OPT_CA, PFL_CA_OPT_PASSPHRASE_FILE, PFL_CA_OPT_PASSPHRASE_FD, 0};
static const enum pfl_ca_option ROLLOVER_OPTIONS[] = {PFL_CA_OPT_CA,
                                                      PFL_CA_OPT_NAME,
                                                      PFL_CA_OPT_KEY,
                                                      PFL_CA_OPT_DAYS,
                                                      PFL_CA_OPT_FORCE,
                                                      PFL_CA_OPT_JSON,
                                                      PFL_CA_OPT_PASSPHRASE_FILE,
                                                      PFL_CA_OPT_PASSPHRASE_FD,
                                                      0};
const struct pfl_ca_command PFL_CA_SIGN_INTERMEDIATE = {"ca sign-intermediate", SIGN_HELP, SIGN_OPTIONS, "FILE.csr", 1, 1,
                                                        sign_intermediate};
const struct pfl_ca_command PFL_CA_INSTALL = {"ca install", INSTALL_HELP, INSTALL_OPTIONS, "FILE", 1, FILES_MAX, install};
const struct pfl_ca_command PFL_CA_ROLLOVER = {
    "ca rollover", ROLLOVER_HELP, ROLLOVER_OPTIONS, "prepare, activate, finish or status", 1, 1, rollover};
