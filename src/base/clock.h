/* SPDX-License-Identifier: Apache-2.0 */
/* Clock: who may read it is decided by the layer rules; the node core gets `now` with each event. */
#ifndef PFL_BASE_CLOCK_H
#define PFL_BASE_CLOCK_H

#include <stdint.h>

typedef int64_t pfl_ns; /* nanoseconds */
#define PFL_MS    ((pfl_ns)1000000)
#define PFL_SEC   ((pfl_ns)1000000000)
#define PFL_NEVER INT64_MAX

pfl_ns pfl_clock_mono(void); /* monotonic, arbitrary zero */
pfl_ns pfl_clock_wall(void); /* since the Unix epoch */
/** "2026-11-23T04:05:06.789Z"; out needs 32 bytes. */
void pfl_clock_format(pfl_ns wall, char out[32]);

#endif
