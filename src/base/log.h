/* SPDX-License-Identifier: Apache-2.0 */
/* Log: one line per event, to one sink per process. Thread-safe. The only mutable global of the program. */
#ifndef PFL_BASE_LOG_H
#define PFL_BASE_LOG_H

#include <stdbool.h>

#include "base/rc.h"

enum pfl_log_level { PFL_LOG_DEBUG, PFL_LOG_INFO, PFL_LOG_WARN, PFL_LOG_ERROR };

/** A sink gets one line without a newline; it is called under the log's lock. */
typedef void (*pfl_log_sink)(void *user, enum pfl_log_level level, const char *line);

/** NULL sink: standard error, as "2026-11-23T04:05:06.789Z INFO  text". */
void pfl_log_set_sink(pfl_log_sink sink, void *user);
void pfl_log_set_level(enum pfl_log_level level);
/** debug, info, warning|warn, error|critical, any case. */
bool pfl_log_parse_level(const char *name, enum pfl_log_level *ret);
/** Lines longer than 2000 bytes are cut. Control characters are escaped, so that a line stays one line. */
void pfl_log(enum pfl_log_level level, const char *fmt, ...) PFL_PRINTF(2, 3);

#define pfl_debug(...) pfl_log(PFL_LOG_DEBUG, __VA_ARGS__)
#define pfl_info(...)  pfl_log(PFL_LOG_INFO, __VA_ARGS__)
#define pfl_warn(...)  pfl_log(PFL_LOG_WARN, __VA_ARGS__)
#define pfl_error(...) pfl_log(PFL_LOG_ERROR, __VA_ARGS__)

#endif
