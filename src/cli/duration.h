/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PFL_CLI_DURATION_H
#define PFL_CLI_DURATION_H

#include <stdint.h>

#include "base/err.h"

/** "90s", "10m", "24h", "7d" (a bare number is seconds) to seconds, 0 to 20 years. INVALID names the option. */
enum pfl_rc pfl_cli_duration(const char *option, const char *text, int64_t *ret_s, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
