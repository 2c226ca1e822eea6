/* SPDX-License-Identifier: Apache-2.0 */
/* The division depends on (seed, number of samples, number of parts) alone, so that parts made by different processes never
 * overlap and together are the whole. */
#include "learning/partition.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

static enum pfl_rc check(const struct pfl_dataset *full, const struct pfl_partition *p, struct pfl_err *err)
{
    if (p->part_count == 0 || p->part_index >= p->part_count)
        return pfl_err_set(err, PFL_INVALID, "part %u of %u: the index has to be below the count", p->part_index, p->part_count);
    if (!(p->reduction_factor > 0.0 && p->reduction_factor <= 1.0))
        return pfl_err_set(err, PFL_INVALID, "reduction factor %g: it has to be above 0 and at most 1", p->reduction_factor);
    if (full->n > UINT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%zu samples, the limit is %u", full->n, UINT32_MAX);
    return PFL_OK;
}

enum pfl_rc pfl_partition_iid(const struct pfl_dataset *full, const struct pfl_partition *p, struct pfl_dataset **ret,
                              struct pfl_err *err)
{
    enum pfl_rc rc = check(full, p, err);
    if (rc != PFL_OK)
        return rc;
    uint64_t n = full->n, from = n * p->part_index / p->part_count, to = n * ((uint64_t)p->part_index + 1) / p->part_count;
    size_t keep = (size_t)floor((double)(to - from) * p->reduction_factor);
    if (keep == 0)
        return pfl_err_set(err, PFL_INVALID, "part %u of %u with reduction factor %g gets none of the %zu samples", p->part_index,
                           p->part_count, p->reduction_factor, full->n);
    PFL_AUTO(pfl_freep) uint32_t *order = pfl_try_malloc(full->n * sizeof(*order));
    if (!order)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory to divide %zu samples", full->n);
    for (uint32_t i = 0; i < full->n; i++)
        order[i] = i;
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, p->seed, "partition");
    pfl_rng_shuffle_u32(&rng, order, full->n);
    return pfl_dataset_pick(full, order + from, keep, ret, err);
}
