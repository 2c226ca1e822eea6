/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca revoke | crl. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/ca_args.h"
#include "cli/cli.h"
#include "pki/ca_admin.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "pki/identity.h"
#include "runtime/evidence.h"

static const char REVOKE_HELP[] =
    "usage: p2pfl ca revoke NAME|SERIAL|FILE.crt --ca DIR --reason REASON [options]\n"
    "       p2pfl ca revoke --evidence FILE --ca DIR [options]\n"
    "Revokes every valid certificate of a node, or one, and makes a new revocation list (DIR/crl.pem) at once. Final.\n"
    "FILE.crt: a certificate that this CA issued, also one from before it had a register.\n"
    "\n"
    "  --evidence FILE          what a node keeps of another that signed two votes, contributions or results for one round: both\n"
    "                           signatures are checked, and that this CA issued both certificates; then all valid certificates\n"
    "                           of that node are revoked, with the reason privilegeWithdrawn where none is named\n"
    "  --reason REASON          unspecified (default), keyCompromise, cACompromise, affiliationChanged, superseded,\n"
    "                           cessationOfOperation, privilegeWithdrawn or aACompromise\n"
    "  --passphrase-file F      the CA key's passphrase is the first line of F (a file that only you can read)\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n"
    "  --json                   say what was done as one line of JSON\n";

static const char CRL_HELP[] =
    "usage: p2pfl ca crl --ca DIR [options]\n"
    "Makes a new revocation list with the next number: DIR/crl.pem.\n"
    "\n"
    "  --days N, --hours N      until the next one is due (default as the last time, at first 7 days); kept for those that\n"
    "                           revocations make\n"
    "  --out F                  a copy in F too, whatever was there\n"
    "  --passphrase-file F --passphrase-fd N     as for p2pfl ca revoke\n";

/* A file's certificate is put into the register first, so that its serial is known there. */
static enum pfl_rc name_it(const struct pfl_ca *ca, const char *item, const char *actor, char serial[PFL_SERIAL_HEX_MAX + 1],
                           const char **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    *ret = item;
    if (!strchr(item, '/') && !strchr(item, '.'))
        return PFL_OK; /* a folder or file that happens to be called as a node does not change what the name means */
    if (!pfl_fs_exists(item))
        return PFL_OK;
    enum pfl_rc rc = pfl_certs_load(item, &certs, err);
    if (rc == PFL_OK)
        rc = pfl_ca_adopt(ca, pfl_x509s_at(certs, 0), actor, serial, err);
    *ret = serial;
    return rc == PFL_OK ? PFL_OK : pfl_err_wrap(err, "%s", item);
}

/* Whom the evidence proves something against: the node's name, or the serial of a certificate without one. *ret is owned. */
static enum pfl_rc accused(const struct pfl_ca *ca, const char *path, char **ret, char actor[160], struct pfl_err *err)
{
    struct pfl_evidence e = {0};
    struct pfl_identity *id = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    char serial[PFL_SERIAL_HEX_MAX + 1], hash[2 * PFL_SHA256_LEN + 1];
    enum pfl_rc rc = pfl_evidence_load(path, &e, err);
    if (rc == PFL_OK)
        rc = pfl_fs_read(path, PFL_EVIDENCE_FILE_MAX, &blob, err);
    if (rc == PFL_OK) {
        size_t len = strlen(actor);
        pfl_sha256_hex(pfl_bytes_of(blob->data, blob->len), hash);
        snprintf(actor + len, 160 - len, " by evidence sha256=%.16s", hash);
    }
    for (size_t i = 2; rc == PFL_OK && i-- > 0;) {
        rc = pfl_ca_adopt(ca, e.signer[i], actor, serial, err);
        if (rc != PFL_OK)
            pfl_err_wrap(err, "%s: the certificate of statement %zu", path, i + 1);
    }
    if (rc == PFL_OK)
        rc = pfl_identity_of_x509(e.signer[0], &id, err);
    if (rc == PFL_OK)
        *ret = pfl_xstrdup(id->name ? id->name : serial);
    pfl_identity_unref(id);
    pfl_evidence_deinit(&e);
    return rc;
}

static int revoke(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    char operator[160], serial[PFL_SERIAL_HEX_MAX + 1];
    const char *what = NULL, *reason = args->reason ? args->reason : args->evidence ? "privilegeWithdrawn" : "unspecified";
    PFL_AUTO(pfl_freep) char *guilty = NULL;
    if ((args->n_items == 0) == (args->evidence == NULL))
        return pfl_cli_usage("ca revoke", "NAME, SERIAL or FILE.crt is wanted, or --evidence FILE, not both");
    size_t n = 0;
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    pfl_ca_operator(operator);
    enum pfl_rc rc = pfl_ca_args_open(args, &ca, &err);
    if (rc == PFL_OK && args->evidence)
        rc = accused(ca, args->evidence, &guilty, operator, & err);
    else if (rc == PFL_OK)
        rc = name_it(ca, args->items[0], operator, serial, &what, &err);
    what = guilty ? guilty : what;
    if (rc != PFL_OK || pfl_ca_revoke(ca, what, reason, operator, & n, &err) != PFL_OK)
        return pfl_cli_fail("ca revoke", &err);
    PFL_AUTO(pfl_freep) char *crl = pfl_fs_join(args->ca, "crl.pem");
    if (args->json) {
        json_t *j = json_pack("{s:s, s:I, s:s, s:s}", "revoked", what, "certificates", (json_int_t)n, "reason", reason, "crl", crl);
        int dumped = json_dumpf(j, stdout, JSON_COMPACT);
        json_decref(j);
        return dumped == 0 && putchar('\n') != EOF ? PFL_EXIT_OK : PFL_EXIT_NO;
    }
    printf(
        "%s: %zu certificate%s revoked (%s)\n%s  the new revocation list: members get it from the CA's service, from each other, "
        "or as a copy\n",
        pfl_q(what), n, n == 1 ? "" : "s", reason, crl);
    return PFL_EXIT_OK;
}

static int crl(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    char operator[80];
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(args->ca, "crl.pem");
    pfl_ca_operator(operator);
    if (pfl_ca_args_open(args, &ca, &err) != PFL_OK || pfl_ca_make_crl(ca, pfl_ca_args_lifetime(args), operator, & err) != PFL_OK)
        return pfl_cli_fail("ca crl", &err);
    if (args->out && (pfl_fs_read(path, PFL_BUF_LIMIT_DEFAULT, &blob, &err) != PFL_OK ||
                      pfl_fs_write_atomic(args->out, pfl_bytes_of(blob->data, blob->len), 0644, &err) != PFL_OK))
        return pfl_cli_fail("ca crl", &err);
    printf("%s  the new revocation list\n", args->out ? args->out : path);
    return PFL_EXIT_OK;
}

static const enum pfl_ca_option REVOKE_OPTIONS[] = {PFL_CA_OPT_CA,
                                                    PFL_CA_OPT_REASON,
                                                    PFL_CA_OPT_EVIDENCE,
                                                    PFL_CA_OPT_PASSPHRASE_FILE,
                                                    PFL_CA_OPT_PASSPHRASE_FD,
                                                    PFL_CA_OPT_JSON,
                                                    0};
static const enum pfl_ca_option CRL_OPTIONS[] = {
    PFL_CA_OPT_CA, PFL_CA_OPT_DAYS, PFL_CA_OPT_HOURS, PFL_CA_OPT_OUT, PFL_CA_OPT_PASSPHRASE_FILE, PFL_CA_OPT_PASSPHRASE_FD, 0};
const struct pfl_ca_command PFL_CA_REVOKE = {"ca revoke", REVOKE_HELP, REVOKE_OPTIONS, "NAME, SERIAL or FILE.crt", 0, 1, revoke};
const struct pfl_ca_command PFL_CA_CRL = {"ca crl", CRL_HELP, CRL_OPTIONS, NULL, 0, 0, crl};
