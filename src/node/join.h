/* SPDX-License-Identifier: Apache-2.0 */
/* Catching up: what a neighbour says of its experiment, and what a node does with it. */
#ifndef PFL_NODE_JOIN_H
#define PFL_NODE_JOIN_H

#include "node/core.h"

/** An answer to `state`. */
struct pfl_state {
    int32_t round;
    unsigned rounds, epochs, trainset_size;
    bool ended; /* the experiment; round is its last one */
    bool has_digest;
    uint8_t digest[PFL_DIGEST_LEN]; /* of the model that the round began with */
    char name[PFL_EXPERIMENT_NAME_MAX + 1];
    struct pfl_strs members; /* sorted; empty: not known */
};
/** False: it is none. *ret needs pfl_state_deinit where it was true. */
bool pfl_state_parse(const char *text, struct pfl_state *ret);
void pfl_state_deinit(struct pfl_state *s);

#endif
