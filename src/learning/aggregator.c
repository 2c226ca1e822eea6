/* SPDX-License-Identifier: Apache-2.0 */
/* The table of aggregators. */
#include "learning/aggregator.h"

#include <math.h>

#include "base/str.h"

#define DEFAULTS                                                                                                                   \
    {                                                                                                                              \
        .byzantine = PFL_BYZANTINE_AUTO, .trim = 0.1                                                                               \
    }
enum { FEDAVG, FEDMEDIAN, TRIMMED_MEAN, KRUM, MULTI_KRUM, KRUM_P2PFL, BULYAN, GEOMETRIC_MEDIAN };
static const struct pfl_aggregator aggregators[] = {
    [FEDAVG] = {.name = "fedavg", .partial = true, .params = DEFAULTS, .aggregate = pfl_fedavg},
    [FEDMEDIAN] = {.name = "fedmedian", .params = DEFAULTS, .aggregate = pfl_fedmedian},
    [TRIMMED_MEAN] = {.name = "trimmed_mean", .params = DEFAULTS, .aggregate = pfl_trimmed_mean},
    [KRUM] = {.name = "krum", .params = DEFAULTS, .aggregate = pfl_krum},
    [MULTI_KRUM] = {.name = "multi_krum", .params = DEFAULTS, .aggregate = pfl_multi_krum},
    [KRUM_P2PFL] = {.name = "krum_p2pfl", .params = DEFAULTS, .aggregate = pfl_krum_p2pfl},
    [BULYAN] = {.name = "bulyan", .params = DEFAULTS, .aggregate = pfl_bulyan},
    [GEOMETRIC_MEDIAN] = {.name = "geometric_median", .params = DEFAULTS, .aggregate = pfl_geometric_median},
};
static const struct {
    const char *name;
    unsigned at;
} aliases[] = {
    /* P2PFL's classes */
    {"FedAvg", FEDAVG},
    {"FedMedian", FEDMEDIAN},
    {"Krum", KRUM},
};

const struct pfl_aggregator *pfl_aggregator_find(const char *name)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(aggregators); i++) {
        if (pfl_streq(name, aggregators[i].name))
            return &aggregators[i];
    }
    for (size_t i = 0; i < PFL_ARRAY_LEN(aliases); i++) {
        if (pfl_streq(name, aliases[i].name))
            return &aggregators[aliases[i].at];
    }
    return NULL;
}

struct pfl_aggregator_params pfl_aggregator_params_default(void)
{
    return (struct pfl_aggregator_params)DEFAULTS;
}

enum pfl_rc pfl_aggregator_make(const char *name, const struct pfl_aggregator_params *params, struct pfl_aggregator *ret,
                                struct pfl_err *err)
{
    const struct pfl_aggregator *found = pfl_aggregator_find(name);
    if (!found)
        return pfl_err_set(err, PFL_NOT_FOUND, "there is no aggregator '%s'", pfl_q(name));
    if (params->byzantine < PFL_BYZANTINE_AUTO)
        return pfl_err_set(err, PFL_INVALID, "byzantine is %d: a number of contributions is wanted", params->byzantine);
    if (!(params->trim >= 0.0 && params->trim < 0.5))
        return pfl_err_set(err, PFL_INVALID, "trim is %g: from 0 to less than 0.5 is wanted", params->trim);
    *ret = *found;
    ret->params = *params;
    return PFL_OK;
}
