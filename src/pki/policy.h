/* SPDX-License-Identifier: Apache-2.0 */
/* What an identity may do in a federation: its role says it, and a node's policy narrows that further by SPIFFE ID. Pure. */
#ifndef PFL_PKI_POLICY_H
#define PFL_PKI_POLICY_H

#include "pki/identity.h"

enum pfl_right {
    PFL_RIGHT_CONNECT = 1, /* link with this node and send to it */
    PFL_RIGHT_TRAIN = 2,   /* vote, train, be counted */
    PFL_RIGHT_START = 4,   /* start and stop learning */
};

struct pfl_policy {
    /** The role of certificates without a SPIFFE ID: node, coordinator, observer or none; owned. NULL: coordinator where the
     * trusted CAs name no federation (one made by hand gives nobody a role, and somebody must be able to start), node where one
     * does (there every certificate has a role, and one without it is somebody's mistake). */
    char *without_role;
    /** Who may, as SPIFFE IDs, where a last "*" stands for anything; an empty list: everybody whose role may. */
    struct pfl_strs connect, train, start;
    uint64_t max_rounds, max_epochs, max_model_bytes; /* 0: no limit of this node's own */
};
void pfl_policy_deinit(struct pfl_policy *p);
void pfl_policy_copy(struct pfl_policy *to, const struct pfl_policy *from); /* to is overwritten */

/** "spiffe://", then anything; a "*" only at the end. */
bool pfl_policy_pattern_valid(const char *pattern);
/** The role that counts: that of the SPIFFE ID, or p->without_role, or what stands for it. Static or p's or id's. */
const char *pfl_policy_role(const struct pfl_policy *p, const struct pfl_identity *id, bool federated);
/** enum pfl_right, together. federated: one of the trusted roots names a federation. */
unsigned pfl_policy_rights(const struct pfl_policy *p, const struct pfl_identity *id, bool federated);

#endif
