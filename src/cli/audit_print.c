/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/audit_print.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "pki/cert.h"

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

bool pfl_audit_print(const struct pfl_audit_entry *e, bool json)
{
    char at[32], actor[160], subject[160], detail[1200];
    if (json)
        return print_json(e);
    pfl_time_text(e->at, at);
    return printf("%lld  %s  %s  %s  %s  %s\n", (long long)e->seq, at, pfl_quote(e->actor, strlen(e->actor), actor, sizeof(actor)),
                  pfl_q(e->action), pfl_quote(e->subject, strlen(e->subject), subject, sizeof(subject)),
                  pfl_quote(e->detail, strlen(e->detail), detail, sizeof(detail))) >= 0;
}
