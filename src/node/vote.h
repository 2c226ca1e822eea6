/* SPDX-License-Identifier: Apache-2.0 */
/* The vote on a round's train set, as pure functions. P2PFL: node/stages/base_node/vote_train_set_stage. */
#ifndef PFL_NODE_VOTE_H
#define PFL_NODE_VOTE_H

#include "base/rng.h"
#include "base/str.h"
#include "node/limits.h"

/** A ballot: min(size, candidates) of them at random, the i-th gets floor(random(0..1000) / (i + 1)) votes.
 *  *ret: name, votes, name, votes, ... as vote_train_set's arguments; deinited first. candidates sorted, not empty. */
void pfl_vote_make(struct pfl_rng *rng, const struct pfl_strs *candidates, size_t size, struct pfl_strs *ret);

/** A ballot from outside. MALFORMED: odd number of arguments, none, too many, a name twice or too long, votes that are no
 *  number in 0..1000. */
enum pfl_rc pfl_vote_check(const struct pfl_strs *args, struct pfl_err *err) PFL_WARN_UNUSED;

/** Somebody who was voted for, with the sum of all votes. */
struct pfl_candidate {
    const char *name; /* borrowed */
    int64_t votes;
};
/** Orders n candidates by (votes, name), both descending; *ret: the first `size` names (deinited first).
 *  Names for which counts() says no are left out: votes for nodes that nobody here ever heard of. */
void pfl_vote_rank(struct pfl_candidate *all, size_t n, size_t size, bool (*counts)(void *user, const char *name), void *user,
                   struct pfl_strs *ret);

#endif
