/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/duration.h"

#include "base/str.h"

enum pfl_rc pfl_cli_duration(const char *option, const char *text, int64_t *ret_s, struct pfl_err *err)
{
    if (!pfl_parse_duration(text, 0, (int64_t)20 * 365 * 86400, ret_s))
        return pfl_err_set(err, PFL_INVALID, "--%s '%s': a time such as 90s, 10m, 24h or 7d is wanted", option, pfl_q(text));
    return PFL_OK;
}
