/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca list | show: the register, without any key. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/ca_args.h"
#include "cli/cert_print.h"
#include "cli/cli.h"
#include "pki/cert.h"

static const char LIST_HELP[] = "usage: p2pfl ca list --ca DIR [--all|--valid|--revoked|--expired] [--json]\n"
                                "One line for each certificate of the register, oldest first. No key is needed.\n"
                                "\n"
                                "  --all                    every certificate (default)\n"
                                "  --valid                  those that are in time and not revoked\n"
                                "  --revoked, --expired     those\n"
                                "  --json                   one JSON object a line\n";

static const char SHOW_HELP[] = "usage: p2pfl ca show NAME|SERIAL --ca DIR [--json|--pem]\n"
                                "All about a node's certificates, or about one, by its serial. No key is needed.\n"
                                "\n"
                                "  --json                   one JSON object a line\n"
                                "  --pem                    the certificates themselves\n";

struct printing {
    const struct pfl_ca_args *args;
    int64_t now;
    size_t n;
    bool failed;
    struct pfl_err err;
};

/* Expiry is no status of the register: it follows from the clock. */
static const char *status_of(const struct pfl_cert_row *row, int64_t now)
{
    if (!pfl_streq(row->status, "valid"))
        return row->status;
    return row->not_after < now ? "expired" : "valid";
}

static bool wanted(const struct printing *p, const char *status)
{
    switch ((int)p->args->filter) {
    case PFL_CA_OPT_VALID:
        return pfl_streq(status, "valid");
    case PFL_CA_OPT_REVOKED:
        return pfl_streq(status, "revoked");
    case PFL_CA_OPT_EXPIRED:
        return pfl_streq(status, "expired");
    default:
        return true;
    }
}

static json_t *time_json(int64_t unix_s)
{
    char text[32];
    if (unix_s == 0)
        return json_null();
    pfl_clock_format(unix_s * PFL_SEC, text);
    return json_string(text);
}

static json_t *row_json(const struct pfl_cert_row *row, const char *status)
{
    json_t *sans = json_array();
    for (size_t i = 0; i < row->sans.n; i++)
        json_array_append_new(sans, json_string(row->sans.items[i]));
    bool revoked = row->revoked_at != 0;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:o, s:o, s:o}", "serial", row->serial_hex,
                     "name", row->name, "role", row->role, "purpose", row->purpose, "status", status, "subject", row->subject,
                     "sans", sans, "not_before", time_json(row->not_before), "not_after", time_json(row->not_after),
                     "key_fingerprint", row->key_fingerprint, "issuer_fingerprint", row->issuer_fingerprint, "asked_by",
                     row->asked_by, "token_id", row->token_id ? json_integer(row->token_id) : json_null(), "revoked_at",
                     time_json(row->revoked_at), "reason", revoked ? json_string(row->reason) : json_null());
}

static bool print_json(const struct pfl_cert_row *row, const char *status)
{
    json_t *j = row_json(row, status);
    bool ok = j && json_dumpf(j, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(j);
    return ok;
}

static bool list_one(void *user, const struct pfl_cert_row *row)
{
    struct printing *p = user;
    char until[32];
    const char *status = status_of(row, p->now);
    if (!wanted(p, status))
        return true;
    p->n++;
    if (p->args->json) {
        p->failed = !print_json(row, status);
        return !p->failed;
    }
    if (p->n == 1)
        printf("%-32s  %-8s  %-24s  %-11s  %-10s  %s\n", "SERIAL", "STATUS", "NAME", "ROLE", "PURPOSE", "UNTIL");
    pfl_time_text(row->not_after, until);
    printf("%-32s  %-8s  %-24s  %-11s  %-10s  %s%s%s%s\n", row->serial_hex, status, pfl_q(row->name), row->role, row->purpose,
           until, row->revoked_at ? " (" : "", row->reason, row->revoked_at ? ")" : "");
    return true;
}

static enum pfl_rc load_der(const struct pfl_cert_row *row, struct stack_st_X509 **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_x509_freep) struct x509_st *cert = NULL;
    enum pfl_rc rc = pfl_cert_of_der(pfl_buf_view(&row->der), &cert, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(cert);
    return pfl_certs_parse(pfl_bytes_of(pem, strlen(pem)), ret, err);
}

static bool show_one(void *user, const struct pfl_cert_row *row)
{
    struct printing *p = user;
    char at[32];
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    const char *status = status_of(row, p->now);
    p->n++;
    if (p->args->json) {
        p->failed = !print_json(row, status);
        return !p->failed;
    }
    if (load_der(row, &certs, &p->err) != PFL_OK) {
        p->failed = true;
        return false;
    }
    if (p->args->pem) {
        PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(pfl_x509s_at(certs, 0));
        return fputs(pem, stdout) >= 0;
    }
    printf("%s%s (%s, %s): %s", p->n > 1 ? "\n" : "", pfl_q(row->name), row->role, row->purpose, status);
    if (row->revoked_at) {
        pfl_time_text(row->revoked_at, at);
        printf(" on %s, %s", at, row->reason);
    }
    printf("\n");
    p->failed = !pfl_cert_print_text(certs, &p->err);
    printf("  %-12s %s\n  %-12s %s\n  %-12s %s", "public key", row->key_fingerprint, "signed by", row->issuer_fingerprint,
           "asked by", pfl_q(row->asked_by));
    if (row->token_id)
        printf(" (token %lld)", (long long)row->token_id);
    printf("\n");
    return !p->failed;
}

static int walk(const struct pfl_ca_args *args, const char *what, pfl_cert_row_fn fn)
{
    struct printing p = {.args = args, .now = pfl_clock_wall() / PFL_SEC};
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    enum pfl_rc rc = pfl_ca_args_register(args, &reg, &p.err);
    if (rc == PFL_OK)
        rc = pfl_register_each(reg, what, fn, &p, &p.err);
    if (rc == PFL_OK && p.failed && !p.err.msg[0])
        rc = pfl_err_set(&p.err, PFL_IO, "standard output cannot be written");
    if (rc == PFL_OK && what && p.n == 0)
        rc = pfl_err_set(&p.err, PFL_NOT_FOUND, "'%s': the register has no certificate of that name or serial", pfl_q(what));
    return rc == PFL_OK && !p.failed ? PFL_EXIT_OK : pfl_cli_fail(args->command->title, &p.err);
}

static int list(const struct pfl_ca_args *args)
{
    return walk(args, NULL, list_one);
}

static int show(const struct pfl_ca_args *args)
{
    if (args->json && args->pem)
        return pfl_cli_usage("ca show", "--json and --pem exclude each other");
    return walk(args, args->items[0], show_one);
}

static const enum pfl_ca_option LIST_OPTIONS[] = {
    PFL_CA_OPT_CA, PFL_CA_OPT_ALL, PFL_CA_OPT_VALID, PFL_CA_OPT_REVOKED, PFL_CA_OPT_EXPIRED, PFL_CA_OPT_JSON, 0};
static const enum pfl_ca_option SHOW_OPTIONS[] = {PFL_CA_OPT_CA, PFL_CA_OPT_PEM, PFL_CA_OPT_JSON, 0};
const struct pfl_ca_command PFL_CA_LIST = {"ca list", LIST_HELP, LIST_OPTIONS, NULL, 0, 0, list};
const struct pfl_ca_command PFL_CA_SHOW = {"ca show", SHOW_HELP, SHOW_OPTIONS, "NAME or SERIAL", 1, 1, show};
