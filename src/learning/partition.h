/* SPDX-License-Identifier: Apache-2.0 */
/* Which samples are whose. Every node computes the same division from the same seed and keeps only its own part; parts never
 * overlap. All divisions but IID look at the labels. */
#ifndef PFL_LEARNING_PARTITION_H
#define PFL_LEARNING_PARTITION_H

#include "learning/dataset.h"

enum pfl_partition_strategy {
    /** All samples shuffled and cut into runs whose sizes differ by at most one. P2PFL's RandomIIDPartitionStrategy. */
    PFL_PARTITION_IID,
    /** Each class is divided by shares drawn from a symmetric Dirichlet distribution; drawn again until every part has min_size
     * samples. With self_balancing a part that has its fair number of samples takes no more. Source: Yurochkin et al. 2019; Li et
     * al. 2022, "Federated Learning on Non-IID Data Silos"; P2PFL's DirichletPartitionStrategy. */
    PFL_PARTITION_DIRICHLET,
    /** Sorted by label and cut into equal runs. P2PFL's LabelSkewedPartitionStrategy. */
    PFL_PARTITION_LABEL_SKEW,
    /** Sorted by label, cut into shards, each part gets shards_per_part of them at random. Source: McMahan et al. 2017, section 3.
     */
    PFL_PARTITION_SHARDS,
    /** main_share of each part's samples come from its main classes (main_classes of them, in turn), the rest from the others.
     * Where a class runs out, other classes fill in. P2PFL has the name only: PercentageBasedNonIIDPartitionStrategy. */
    PFL_PARTITION_PERCENTAGE,
    /** IID in labels, sizes by shares drawn from a symmetric Dirichlet distribution (at least min_size). Source: Li et al. 2022. */
    PFL_PARTITION_QUANTITY,
};

struct pfl_partition {
    uint64_t seed;
    unsigned part_index, part_count; /* index < count */
    double reduction_factor;         /* (0, 1]: the share of the part that is kept, chosen at random */
    enum pfl_partition_strategy strategy;
    double alpha;             /* Dirichlet, quantity: > 0; small is uneven */
    size_t min_size;          /* Dirichlet, quantity: of a part before the reduction */
    bool self_balancing;      /* Dirichlet */
    unsigned shards_per_part; /* shards: > 0 */
    double main_share;        /* percentage: [0, 1] */
    unsigned main_classes;    /* percentage: 1 .. classes of the data set */
};
/** IID, the whole part, one part; alpha 0.5, min_size 10, 2 shards, 0.8 of 1 class. */
struct pfl_partition pfl_partition_default(void);
/** By our name ("iid", "dirichlet", "label_skew", "shards", "percentage", "quantity"). */
bool pfl_partition_parse(const char *name, enum pfl_partition_strategy *ret);

/** *ret is a copy of this part's samples; `full` can be freed after. INVALID: a parameter out of range (it is named), no sample
 * left for the part, or no division with min_size found in 1,000 draws. */
enum pfl_rc pfl_partition_take(const struct pfl_dataset *full, const struct pfl_partition *p, struct pfl_dataset **ret,
                               struct pfl_err *err) PFL_WARN_UNUSED;
/** Who gets what: table[part * n_classes + class] samples, for every part, the reduction included. table has part_count * n_classes
 *  elements. Errors as above, but for parts without samples: they are zero. */
enum pfl_rc pfl_partition_table(const struct pfl_dataset *full, const struct pfl_partition *p, size_t *table,
                                struct pfl_err *err) PFL_WARN_UNUSED;

#endif
