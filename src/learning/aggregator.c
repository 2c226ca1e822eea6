/* SPDX-License-Identifier: Apache-2.0 */
/* The table of aggregators. */
#include "learning/aggregator.h"

#include "base/str.h"

static const struct pfl_aggregator fedavg = {.name = "fedavg", .partial = true, .aggregate = pfl_fedavg};

static const struct {
    const char *name;
    const struct pfl_aggregator *aggregator;
} names[] = {
    {"fedavg", &fedavg}, {"FedAvg", &fedavg}, /* P2PFL's class */
};

const struct pfl_aggregator *pfl_aggregator_find(const char *name)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(names); i++) {
        if (pfl_streq(name, names[i].name))
            return names[i].aggregator;
    }
    return NULL;
}
