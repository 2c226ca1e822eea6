/* SPDX-License-Identifier: Apache-2.0 */
/* The system's clocks. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static pfl_ns read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (pfl_ns)ts.tv_sec * PFL_SEC + ts.tv_nsec;
}

pfl_ns pfl_clock_mono(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

pfl_ns pfl_clock_wall(void)
{
    return read_clock(CLOCK_REALTIME);
}

void pfl_clock_format(pfl_ns wall, char out[32])
{
    pfl_ns part = wall % PFL_SEC < 0 ? wall % PFL_SEC + PFL_SEC : wall % PFL_SEC;
    time_t s = (time_t)(wall / PFL_SEC - (wall % PFL_SEC < 0 ? 1 : 0));
    struct tm tm;
    char day[24];
    gmtime_r(&s, &tm);
    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 32, "%s.%03dZ", day, (int)(part / PFL_MS));
}
