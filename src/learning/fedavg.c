/* SPDX-License-Identifier: Apache-2.0 */
/* FedAvg, and with it partial aggregation: the mean of means, weighted by the samples behind each, is the mean of all up to
 * rounding. The sum over one value runs in the order given, in double. */
#include "learning/aggregate.h"

enum pfl_rc pfl_fedavg(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                       struct pfl_err *err)
{
    (void)self;
    enum pfl_rc rc = pfl_aggregate_check(in, n, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) double *w = pfl_xcalloc(n, sizeof(*w));
    double total = 0.0; /* in double: a sum of 64-bit counts could overflow */
    for (size_t k = 0; k < n; k++) {
        w[k] = (double)in[k].n_samples;
        total += w[k];
    }
    return pfl_aggregate_mean(in, n, w, total, ret, err);
}
