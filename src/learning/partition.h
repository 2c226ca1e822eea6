/* SPDX-License-Identifier: Apache-2.0 */
/* Which samples are whose. Every node computes the same division from the same seed and keeps only its own part. */
#ifndef PFL_LEARNING_PARTITION_H
#define PFL_LEARNING_PARTITION_H

#include "learning/dataset.h"

struct pfl_partition {
    uint64_t seed;
    unsigned part_index, part_count; /* index < count */
    double reduction_factor;         /* (0, 1]: the share of the part that is kept */
};

/** Random IID, as P2PFL's RandomIIDPartitionStrategy: all samples are shuffled by the seed and cut into part_count runs whose
 *  sizes differ by at most one. *ret is a copy of this part's samples; `full` can be freed after.
 *  INVALID: index, count or factor out of range, or no sample left for the part. */
enum pfl_rc pfl_partition_iid(const struct pfl_dataset *full, const struct pfl_partition *p, struct pfl_dataset **ret,
                              struct pfl_err *err) PFL_WARN_UNUSED;

#endif
