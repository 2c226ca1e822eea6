/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca audit: the log, and the proof of it. */
#include <jansson.h>
#include <stdio.h>

#include "base/mem.h"
#include "cli/audit_print.h"
#include "cli/ca_args.h"
#include "cli/cli.h"
#include "pki/ca_admin.h"

static const char HELP[] =
    "usage: p2pfl ca audit --ca DIR [--json]            every act of the CA, oldest first\n"
    "       p2pfl ca audit --ca DIR --verify [--head N:HASH] [--json]\n"
    "                                                   is the log untouched? No key is needed\n"
    "\n"
    "  --verify                 recompute every hash, check the seal of the CA's key, hold each certificate of the register\n"
    "                           against the log; the first thing that is wrong is named\n"
    "  --head N:HASH            the head that --verify printed another day must still be in the log: nothing was cut off since\n"
    "  --json                   one JSON object a line\n";

static bool print_entry(void *user, const struct pfl_audit_entry *e)
{
    const struct pfl_ca_args *args = user;
    return pfl_audit_print(e, args->json);
}

static int say(const struct pfl_ca_args *args, const struct pfl_audit_report *r)
{
    if (args->json) {
        json_t *j = json_pack("{s:b, s:I, s:o, s:I, s:o, s:I}", "untouched", 1, "entries", (json_int_t)r->n, "head",
                              json_sprintf("%lld:%s", (long long)r->n, r->head), "sealed", (json_int_t)r->sealed, "sealed_by",
                              r->sealed ? json_sprintf("sha256:%s", r->sealed_by) : json_null(), "certificates",
                              (json_int_t)r->n_certificates);
        int rc = json_dumpf(j, stdout, JSON_COMPACT);
        json_decref(j);
        return rc == 0 && putchar('\n') != EOF ? PFL_EXIT_OK : PFL_EXIT_NO;
    }
    printf("untouched: %lld entries, %lld certificates agree with them\nhead:      %lld:%s\n", (long long)r->n,
           (long long)r->n_certificates, (long long)r->n, r->head);
    if (r->sealed)
        printf("sealed:    entries 1 to %lld by the CA's key sha256:%s%s\n", (long long)r->sealed, r->sealed_by,
               r->sealed < r->n ? " (those behind it were made without the key)" : "");
    else
        printf("sealed:    not yet\n");
    return PFL_EXIT_OK;
}

static int run(const struct pfl_ca_args *args)
{
    struct pfl_err err = {0};
    struct pfl_audit_report report;
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    if (args->head && !args->verify)
        return pfl_cli_usage("ca audit", "--head is for --verify");
    enum pfl_rc rc = pfl_ca_args_register(args, &reg, &err);
    if (rc == PFL_OK && args->verify)
        rc = pfl_ca_audit_verify(reg, args->head, &report, &err);
    if (rc == PFL_OK && args->verify)
        return say(args, &report);
    if (rc == PFL_OK)
        rc = pfl_audit_each(reg, print_entry, (void *)(uintptr_t)args, &err);
    return rc == PFL_OK ? PFL_EXIT_OK : pfl_cli_fail("ca audit", &err);
}

static const enum pfl_ca_option OPTIONS[] = {PFL_CA_OPT_CA, PFL_CA_OPT_VERIFY, PFL_CA_OPT_HEAD, PFL_CA_OPT_JSON, 0};
const struct pfl_ca_command PFL_CA_AUDIT = {"ca audit", HELP, OPTIONS, NULL, 0, 0, run};
