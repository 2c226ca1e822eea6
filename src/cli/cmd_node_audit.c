/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl node audit: the log of one node, and the proof that nobody changed it. */
#include "cli/cmd_node_audit.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "pki/cert.h"
#include "pki/register.h"

static bool print_json(const struct pfl_audit_entry *e)
{
    char at[32];
    pfl_clock_format(e->at * PFL_SEC, at);
    json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "seq", (json_int_t)e->seq, "at", at, "actor", e->actor, "action",
                          e->action, "subject", e->subject, "detail", e->detail, "hash", e->hash);
    bool ok = j && json_dumpf(j, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(j);
    return ok;
}

static bool print_entry(void *user, const struct pfl_audit_entry *e)
{
    const bool *json = user;
    char at[32], actor[160], subject[160], detail[1200];
    if (*json)
        return print_json(e);
    pfl_time_text(e->at, at);
    /* quoted again: the file may have been written by somebody else */
    return printf("%lld  %s  %s  %s  %s  %s\n", (long long)e->seq, at, pfl_quote(e->actor, strlen(e->actor), actor, sizeof(actor)),
                  pfl_q(e->action), pfl_quote(e->subject, strlen(e->subject), subject, sizeof(subject)),
                  pfl_quote(e->detail, strlen(e->detail), detail, sizeof(detail))) >= 0;
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
