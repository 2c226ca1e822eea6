/* SPDX-License-Identifier: Apache-2.0 */
/* A heap by (time, order of insertion). See queue.h. */
#include "sim/queue.h"

#include <stdlib.h>

enum { CHILDREN = 4 };

static bool before(const struct pfl_sim_slot *a, const struct pfl_sim_slot *b)
{
    return a->at != b->at ? a->at < b->at : a->seq_item < b->seq_item;
}

void pfl_sim_queue_deinit(struct pfl_sim_queue *q)
{
    free(q->slots);
    *q = (struct pfl_sim_queue){0};
}

void pfl_sim_queue_push(struct pfl_sim_queue *q, pfl_ns at, uint32_t item)
{
    PFL_ASSERT(item < PFL_SIM_QUEUE_NONE && q->seq < UINT64_MAX >> PFL_SIM_QUEUE_BITS);
    const struct pfl_sim_slot s = {.at = at, .seq_item = q->seq++ << PFL_SIM_QUEUE_BITS | item};
    if (q->n == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 256;
        q->slots = pfl_xrealloc(q->slots, q->cap * sizeof(*q->slots));
    }
    size_t i = q->n++;
    while (i > 0 && before(&s, &q->slots[(i - 1) / CHILDREN])) {
        q->slots[i] = q->slots[(i - 1) / CHILDREN];
        i = (i - 1) / CHILDREN;
    }
    q->slots[i] = s;
    q->most = q->n > q->most ? q->n : q->most;
}

pfl_ns pfl_sim_queue_next(const struct pfl_sim_queue *q)
{
    return q->n ? q->slots[0].at : PFL_NEVER;
}

static size_t first_child(const struct pfl_sim_queue *q, size_t i)
{
    size_t best = CHILDREN * i + 1;
    size_t end = best + CHILDREN < q->n ? best + CHILDREN : q->n;
    for (size_t k = best + 1; k < end; k++) {
        if (before(&q->slots[k], &q->slots[best]))
            best = k;
    }
    return best;
}

uint32_t pfl_sim_queue_pop(struct pfl_sim_queue *q)
{
    if (q->n == 0)
        return PFL_SIM_QUEUE_NONE;
    uint32_t item = (uint32_t)(q->slots[0].seq_item & (PFL_SIM_QUEUE_NONE - 1));
    const struct pfl_sim_slot last = q->slots[--q->n];
    size_t i = 0;
    while (CHILDREN * i + 1 < q->n) {
        size_t k = first_child(q, i);
        if (!before(&q->slots[k], &last))
            break;
        q->slots[i] = q->slots[k];
        i = k;
    }
    q->slots[i] = last;
    return item;
}
