/* SPDX-License-Identifier: Apache-2.0 */
/* What will happen, ordered by virtual time. Equal times keep the order in which they were put in, so a run depends on nothing but
 * its seed. */
#ifndef PFL_SIM_QUEUE_H
#define PFL_SIM_QUEUE_H

#include "base/clock.h"
#include "base/mem.h"

enum {
    PFL_SIM_QUEUE_BITS = 26, /* of an item's number: 67 million at once; what is left of 64 counts 274 billion pushes */
    PFL_SIM_QUEUE_NONE = 1 << PFL_SIM_QUEUE_BITS,
};

/** Zero-initialised. Items are numbers, less than PFL_SIM_QUEUE_NONE. */
struct pfl_sim_queue {
    struct pfl_sim_slot {
        pfl_ns at;
        uint64_t seq_item; /* how many were put in before it, which breaks ties; behind that, the item */
    } * slots;             /* owned: a heap with four children per slot, which touches half as much memory as one with two */
    size_t n, cap;
    uint64_t seq;
    size_t most; /* the longest that it ever was */
};
void pfl_sim_queue_deinit(struct pfl_sim_queue *q);
void pfl_sim_queue_push(struct pfl_sim_queue *q, pfl_ns at, uint32_t item);
/** When the next item is due; PFL_NEVER where there is none. */
pfl_ns pfl_sim_queue_next(const struct pfl_sim_queue *q);
/** Takes the next item out, PFL_SIM_QUEUE_NONE where there is none. */
uint32_t pfl_sim_queue_pop(struct pfl_sim_queue *q);

#endif
