/* SPDX-License-Identifier: Apache-2.0 */
/* What the aggregators share: checks, views, distances. Only src/learning includes this. */
#ifndef PFL_LEARNING_AGGREGATE_H
#define PFL_LEARNING_AGGREGATE_H

#include "learning/aggregator.h"

/** At least one, samples, equal layouts, types that can be averaged. */
enum pfl_rc pfl_aggregate_check(const struct pfl_contribution *in, size_t n, struct pfl_err *err) PFL_WARN_UNUSED;
/** A new model: every F32 tensor by `values` (out, the n inputs' values, how many values), every integer from the contribution with
 * the most samples. */
typedef void (*pfl_aggregate_fn)(void *user, float *out, const float *const *x, size_t n, size_t len);
enum pfl_rc pfl_aggregate_tensors(const struct pfl_contribution *in, size_t n, pfl_aggregate_fn values, void *user,
                                  struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Weighted mean with the given weights (n of them, sum total > 0). */
enum pfl_rc pfl_aggregate_mean(const struct pfl_contribution *in, size_t n, const double *weights, double total,
                               struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** n x n squared Euclidean distances over all F32 values, in double, tensors and values in their order; symmetric, zero diagonal.
 * By tensor: instead the sum over the tensors of their norms (not squared). Owned by the caller. */
double *pfl_aggregate_distances(const struct pfl_contribution *in, size_t n, bool by_tensor);
/** Sorts ascending; made for a few dozen values. */
void pfl_sort_f32(float *v, size_t n);

#endif
