/* SPDX-License-Identifier: Apache-2.0 */
/* Aggregators: many models, one result. Inputs come in the sorted order of their contributors, so every node computes the
 * same bytes from the same set. Non-finite models never reach an aggregator (they are refused on arrival). */
#ifndef PFL_LEARNING_AGGREGATOR_H
#define PFL_LEARNING_AGGREGATOR_H

#include "tensor/model.h"

struct pfl_contribution {
    struct pfl_model *model; /* borrowed for the call */
    uint64_t n_samples;      /* > 0 */
};
struct pfl_aggregator {
    const char *name;
    bool partial; /* an aggregate of some may stand for them in a later one */
    enum pfl_rc (*aggregate)(const struct pfl_contribution *in, size_t n, struct pfl_model **ret, struct pfl_err *err);
};
/** By our name or P2PFL's class name ("fedavg", "FedAvg"); NULL where there is none. */
const struct pfl_aggregator *pfl_aggregator_find(const char *name);

/** Weighted mean by samples, accumulated in double in the given order. All dtypes must be F32 or integers (integers: those of the
 *  contribution with the most samples). INVALID for n = 0 or layouts that differ; UNSUPPORTED for other types, or an F32 at an
 * offset that is no multiple of 4. Source: McMahan et al. 2017, Algorithm 1. */
enum pfl_rc pfl_fedavg(const struct pfl_contribution *in, size_t n, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
