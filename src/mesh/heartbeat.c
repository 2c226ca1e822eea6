/* SPDX-License-Identifier: Apache-2.0 */
/* Timers of the beat, nothing more: who is flooded to and who is removed is the node's business. */
#include "mesh/heartbeat.h"

static const pfl_ns extra_beat_gap_max = 200 * PFL_MS;
static const pfl_ns oversleep_slack = 500 * PFL_MS;

void pfl_heartbeat_init(struct pfl_heartbeat *h, pfl_ns period, pfl_ns timeout)
{
    *h = (struct pfl_heartbeat){.period = period, .timeout = timeout, .next = PFL_NEVER, .soon = PFL_NEVER};
}

void pfl_heartbeat_observe(struct pfl_heartbeat *h, pfl_ns now)
{
    if (!h->started) {
        h->started = true;
        h->next = now + h->period;
        h->grace_until = now;
    } else if (now - h->seen_now > h->period + oversleep_slack) {
        h->grace_until = now + h->period;
    }
    h->seen_now = now;
}

void pfl_heartbeat_soon(struct pfl_heartbeat *h, pfl_ns now)
{
    if (h->soon != PFL_NEVER)
        return;
    pfl_ns gap = h->period / 4 < extra_beat_gap_max ? h->period / 4 : extra_beat_gap_max;
    h->soon = h->beaten && h->last + gap > now ? h->last + gap : now;
}

pfl_ns pfl_heartbeat_deadline(const struct pfl_heartbeat *h)
{
    return h->soon < h->next ? h->soon : h->next;
}

bool pfl_heartbeat_due(const struct pfl_heartbeat *h, pfl_ns now)
{
    return pfl_heartbeat_deadline(h) <= now;
}

void pfl_heartbeat_sent(struct pfl_heartbeat *h, pfl_ns now)
{
    h->beaten = true;
    h->last = now;
    h->next = now + h->period;
    h->soon = PFL_NEVER;
}

pfl_ns pfl_heartbeat_expiry(const struct pfl_heartbeat *h, pfl_ns last_heard)
{
    pfl_ns t = last_heard + h->timeout;
    return t > h->grace_until ? t : h->grace_until;
}
