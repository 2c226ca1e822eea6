/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl node audit: the log of one node, and the proof that nobody changed it. */
#include "cli/cmd_node_audit.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "base/fs.h"
#include "cli/audit_print.h"
#include "cli/cli.h"
#include "pki/register.h"

static bool print_entry(void *user, const struct pfl_audit_entry *e)
{
    const bool *json = user;
    return pfl_audit_print(e, *json);
}

/* A node's log has no seal, so one that claims to have is none of ours. */
static bool no_seal(void *user, struct pfl_bytes in, struct pfl_bytes signature, const char *fingerprint)
{
    (void)user;
    (void)in;
    (void)signature;
    (void)fingerprint;
    return false;
}

static int say(const struct pfl_audit_report *r, bool json)
{
    if (json) {
        json_t *j = json_pack("{s:b, s:I, s:o}", "untouched", 1, "entries", (json_int_t)r->n, "head",
                              json_sprintf("%lld:%s", (long long)r->n, r->head));
        int rc = json_dumpf(j, stdout, JSON_COMPACT);
        json_decref(j);
        return rc == 0 && putchar('\n') != EOF ? PFL_EXIT_OK : PFL_EXIT_NO;
    }
    printf("untouched: %lld entries\nhead:      %lld:%s\n", (long long)r->n, (long long)r->n, r->head);
    return PFL_EXIT_OK;
}

int pfl_cmd_node_audit(const char *state, bool verify, const char *head, bool json)
{
    struct pfl_err err = {0};
    struct pfl_audit_report report;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(state, "audit.db");
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    if (head && !verify)
        return pfl_cli_usage("node audit", "--head is for --verify");
    enum pfl_rc rc = pfl_fs_exists(path) ? PFL_OK : pfl_err_errno(&err, ENOENT, "%s", path); /* it is not made by looking */
    if (rc == PFL_OK)
        rc = pfl_register_open(path, &reg, &err);
    if (rc == PFL_OK && verify)
        rc = pfl_audit_verify(reg, head, no_seal, NULL, &report, &err);
    else if (rc == PFL_OK)
        rc = pfl_audit_each(reg, print_entry, &json, &err);
    if (rc != PFL_OK)
        return pfl_cli_fail("node audit", &err);
    return verify ? say(&report, json) : PFL_EXIT_OK;
}
