/* SPDX-License-Identifier: Apache-2.0 */
/* A learner around another one: every call goes to the inner learner, but those that the outer one replaces. */
#ifndef PFL_LEARNING_WRAPPER_H
#define PFL_LEARNING_WRAPPER_H

#include "learning/learner.h"

/** The first member of a learner that wraps another: the outer one's `self` points to it. */
struct pfl_wrapper {
    struct pfl_learner_ops ops; /* of the outer one; without steer where the inner one has none */
    struct pfl_learner inner;   /* owned */
};

/** Puts w, which lies on the heap and is first in its struct, around *learner, which it owns from then on. Its ops are the inner
 * one's until the caller replaces some; ops.free frees the inner one and w: a replacement ends with pfl_wrapper_free. */
void pfl_wrapper_init(struct pfl_wrapper *w, struct pfl_learner *learner);
void pfl_wrapper_free(void *self);

#endif
