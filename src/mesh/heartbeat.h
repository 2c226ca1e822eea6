/* SPDX-License-Identifier: Apache-2.0 */
/* When to say that we are there, and when somebody else is not any more. Arrival times count, never the sender's clock:
 * P2PFL compares clocks, which evicts nodes whose clocks differ. */
#ifndef PFL_MESH_HEARTBEAT_H
#define PFL_MESH_HEARTBEAT_H

#include <stdbool.h>

#include "base/clock.h"

struct pfl_heartbeat {
    pfl_ns period, timeout;
    pfl_ns next;        /* the periodic beat; PFL_NEVER before the first pfl_heartbeat_observe */
    pfl_ns last;        /* the last one sent; only meaningful once `beaten` */
    pfl_ns soon;        /* an extra one for a newcomer; PFL_NEVER: none */
    pfl_ns seen_now;    /* of the last observe */
    pfl_ns grace_until; /* nobody is evicted before: we were asleep ourselves and have not read what came meanwhile */
    bool started, beaten;
};
void pfl_heartbeat_init(struct pfl_heartbeat *h, pfl_ns period, pfl_ns timeout);
/** At each step. A gap far over the period means that this process did not run (suspended, starved). */
void pfl_heartbeat_observe(struct pfl_heartbeat *h, pfl_ns now);
/** A newcomer should learn of us: one beat soon, at most one in 200 ms, or in a quarter of the period. */
void pfl_heartbeat_soon(struct pfl_heartbeat *h, pfl_ns now);
bool pfl_heartbeat_due(const struct pfl_heartbeat *h, pfl_ns now);
void pfl_heartbeat_sent(struct pfl_heartbeat *h, pfl_ns now);
pfl_ns pfl_heartbeat_deadline(const struct pfl_heartbeat *h);
/** When a peer that was heard last at last_heard counts as gone. */
pfl_ns pfl_heartbeat_expiry(const struct pfl_heartbeat *h, pfl_ns last_heard);

#endif
