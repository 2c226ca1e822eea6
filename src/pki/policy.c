/* SPDX-License-Identifier: Apache-2.0 */
/* A list narrows what a role gives, it never widens it: a mistake in a list costs somebody a right and gives nobody one. */
#include "pki/policy.h"

#include <stdlib.h>
#include <string.h>

void pfl_policy_deinit(struct pfl_policy *p)
{
    free(p->without_role);
    pfl_strs_deinit(&p->connect);
    pfl_strs_deinit(&p->train);
    pfl_strs_deinit(&p->start);
    *p = (struct pfl_policy){0};
}

void pfl_policy_copy(struct pfl_policy *to, const struct pfl_policy *from)
{
    *to = (struct pfl_policy){
        .max_rounds = from->max_rounds, .max_epochs = from->max_epochs, .max_model_bytes = from->max_model_bytes};
    to->without_role = from->without_role ? pfl_xstrdup(from->without_role) : NULL;
    pfl_strs_copy(&to->connect, &from->connect);
    pfl_strs_copy(&to->train, &from->train);
    pfl_strs_copy(&to->start, &from->start);
}

bool pfl_policy_pattern_valid(const char *pattern)
{
    static const char scheme[] = "spiffe://";
    size_t len = strlen(pattern);
    const char *star = strchr(pattern, '*');
    return strncmp(pattern, scheme, sizeof(scheme) - 1) == 0 && len >= sizeof(scheme) && len <= PFL_SPIFFE_ID_MAX &&
           (!star || star == pattern + len - 1);
}

static bool matches(const char *pattern, const char *id)
{
    size_t len = strlen(pattern);
    if (len > 0 && pattern[len - 1] == '*')
        return strncmp(pattern, id, len - 1) == 0;
    return strcmp(pattern, id) == 0;
}

static bool on_list(const struct pfl_strs *list, const struct pfl_identity *id)
{
    for (size_t i = 0; id->spiffe_id && i < list->n; i++) {
        if (matches(list->items[i], id->spiffe_id))
            return true;
    }
    return list->n == 0;
}

const char *pfl_policy_role(const struct pfl_policy *p, const struct pfl_identity *id, bool federated)
{
    if (id->spiffe_id)
        return id->role;
    if (p->without_role)
        return p->without_role;
    return federated ? "node" : "coordinator";
}

static unsigned rights_of_role(const char *role)
{
    if (pfl_streq(role, "coordinator"))
        return PFL_RIGHT_CONNECT | PFL_RIGHT_TRAIN | PFL_RIGHT_START;
    if (pfl_streq(role, "node"))
        return PFL_RIGHT_CONNECT | PFL_RIGHT_TRAIN;
    return 0; /* observers read metrics, the CA's service signs; neither is a peer */
}

unsigned pfl_policy_rights(const struct pfl_policy *p, const struct pfl_identity *id, bool federated)
{
    unsigned rights = rights_of_role(pfl_policy_role(p, id, federated));
    if (!on_list(&p->connect, id))
        rights = 0;
    if (!on_list(&p->train, id))
        rights &= ~(unsigned)PFL_RIGHT_TRAIN;
    if (!on_list(&p->start, id))
        rights &= ~(unsigned)PFL_RIGHT_START;
    return rights;
}
