/* SPDX-License-Identifier: Apache-2.0 */
/* The table of aggregators. */
#include "learning/aggregator.h"

#include <math.h>

#include "base/str.h"

#define DEFAULTS                                                                                                                   \
    {                                                                                                                              \
        .byzantine = PFL_BYZANTINE_AUTO, .trim = 0.1, .eta = 0.1, .beta_1 = PFL_AGGREGATOR_OWN, .beta_2 = 0.99, .tau = 1e-9,       \
        .proximal_mu = 0.01, .global_lr = 1.0                                                                                      \
    }
#define FEDOPT(id)                                                                                                                 \
    {                                                                                                                              \
        .name = (id), .partial = true, .params = DEFAULTS, .aggregate = pfl_fedavg, .update = pfl_fedopt, .model_sets = {          \
            "m",                                                                                                                   \
            "v"                                                                                                                    \
        }                                                                                                                          \
    }
enum {
    FEDAVG,
    FEDMEDIAN,
    TRIMMED_MEAN,
    KRUM,
    MULTI_KRUM,
    KRUM_P2PFL,
    BULYAN,
    GEOMETRIC_MEDIAN,
    FEDADAGRAD,
    FEDADAM,
    FEDYOGI,
    FEDPROX,
    FEDNOVA,
    SCAFFOLD
};
static const struct pfl_aggregator aggregators[] = {
    [FEDAVG] = {.name = "fedavg", .partial = true, .params = DEFAULTS, .aggregate = pfl_fedavg},
    [FEDMEDIAN] = {.name = "fedmedian", .params = DEFAULTS, .aggregate = pfl_fedmedian},
    [TRIMMED_MEAN] = {.name = "trimmed_mean", .params = DEFAULTS, .aggregate = pfl_trimmed_mean},
    [KRUM] = {.name = "krum", .params = DEFAULTS, .aggregate = pfl_krum},
    [MULTI_KRUM] = {.name = "multi_krum", .params = DEFAULTS, .aggregate = pfl_multi_krum},
    [KRUM_P2PFL] = {.name = "krum_p2pfl", .params = DEFAULTS, .aggregate = pfl_krum_p2pfl},
    [BULYAN] = {.name = "bulyan", .params = DEFAULTS, .aggregate = pfl_bulyan},
    [GEOMETRIC_MEDIAN] = {.name = "geometric_median", .params = DEFAULTS, .aggregate = pfl_geometric_median},
    [FEDADAGRAD] = FEDOPT("fedadagrad"),
    [FEDADAM] = FEDOPT("fedadam"),
    [FEDYOGI] = FEDOPT("fedyogi"),
    [FEDPROX] = {.name = "fedprox", .partial = true, .params = DEFAULTS, .aggregate = pfl_fedavg, .proximal = true},
    [FEDNOVA] = {.name = "fednova",
                 .partial = true,
                 .params = DEFAULTS,
                 .aggregate = pfl_fedavg,
                 .update = pfl_fednova,
                 .merge = pfl_fednova,
                 .counts = true},
    [SCAFFOLD] = {.name = "scaffold",
                  .params = DEFAULTS,
                  .aggregate = pfl_fedavg,
                  .update = pfl_scaffold,
                  .variates = true,
                  .contribution_sets = {"delta_c"},
                  .model_sets = {"c"}},
};
static const struct {
    const char *name;
    unsigned at;
} aliases[] = {
    /* P2PFL's classes */
    {"FedAvg", FEDAVG},   {"FedMedian", FEDMEDIAN}, {"Krum", KRUM},       {"FedAdagrad", FEDADAGRAD},
    {"FedAdam", FEDADAM}, {"FedYogi", FEDYOGI},     {"FedProx", FEDPROX}, {"Scaffold", SCAFFOLD},
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

static enum pfl_rc check_numbers(const struct pfl_aggregator_params *p, struct pfl_err *err)
{
    if (!(p->proximal_mu >= 0.0 && isfinite(p->proximal_mu)))
        return pfl_err_set(err, PFL_INVALID, "proximal_mu is %g: 0 or more is wanted", p->proximal_mu);
    if (!(p->global_lr > 0.0 && isfinite(p->global_lr)))
        return pfl_err_set(err, PFL_INVALID, "global_lr is %g: more than 0 is wanted", p->global_lr);
    if (!(p->eta > 0.0 && isfinite(p->eta)))
        return pfl_err_set(err, PFL_INVALID, "eta is %g: more than 0 is wanted", p->eta);
    if (p->beta_1 != PFL_AGGREGATOR_OWN && !(p->beta_1 >= 0.0 && p->beta_1 < 1.0))
        return pfl_err_set(err, PFL_INVALID, "beta_1 is %g: from 0 to less than 1 is wanted", p->beta_1);
    if (!(p->beta_2 >= 0.0 && p->beta_2 < 1.0))
        return pfl_err_set(err, PFL_INVALID, "beta_2 is %g: from 0 to less than 1 is wanted", p->beta_2);
    if (!(p->tau > 0.0 && isfinite(p->tau)))
        return pfl_err_set(err, PFL_INVALID, "tau is %g: more than 0 is wanted", p->tau);
    return PFL_OK;
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
    enum pfl_rc rc = check_numbers(params, err);
    if (rc != PFL_OK)
        return rc;
    *ret = *found;
    ret->params = *params;
    if (params->beta_1 < 0.0)
        ret->params.beta_1 = found == &aggregators[FEDADAGRAD] ? 0.0 : 0.9;
    return PFL_OK;
}

enum pfl_rc pfl_aggregator_next(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                                size_t n, struct pfl_model **ret, struct pfl_err *err)
{
    return self->update ? self->update(self, base, in, n, ret, err) : self->aggregate(self, in, n, ret, err);
}
