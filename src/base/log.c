/* SPDX-License-Identifier: Apache-2.0 */
/* The log. One lock, one sink. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/str.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pfl_log_sink the_sink;
static void *the_user;
static atomic_int the_level = PFL_LOG_INFO;

void pfl_log_set_sink(pfl_log_sink sink, void *user)
{
    pthread_mutex_lock(&lock);
    the_sink = sink;
    the_user = user;
    pthread_mutex_unlock(&lock);
}

void pfl_log_set_level(enum pfl_log_level level)
{
    atomic_store(&the_level, (int)level);
}

bool pfl_log_parse_level(const char *name, enum pfl_log_level *ret)
{
    static const struct {
        const char *name;
        enum pfl_log_level level;
    } names[] = {{"debug", PFL_LOG_DEBUG}, {"info", PFL_LOG_INFO},   {"warning", PFL_LOG_WARN},
                 {"warn", PFL_LOG_WARN},   {"error", PFL_LOG_ERROR}, {"critical", PFL_LOG_ERROR}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i].name) == 0) {
            *ret = names[i].level;
            return true;
        }
    }
    return false;
}

static void to_stderr(enum pfl_log_level level, const char *line)
{
    static const char *const names[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};
    char when[32];
    pfl_clock_format(pfl_clock_wall(), when);
    fprintf(stderr, "%s %s %s\n", when, names[level], line);
}

void pfl_log(enum pfl_log_level level, const char *fmt, ...)
{
    if ((int)level < atomic_load(&the_level))
        return;
    char text[2100], line[2001]; /* text is longer, so that a cut line shows "..." */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    pfl_quote(text, strlen(text), line, sizeof(line));
    pthread_mutex_lock(&lock);
    if (the_sink)
        the_sink(the_user, level, line);
    else
        to_stderr(level, line);
    pthread_mutex_unlock(&lock);
}
