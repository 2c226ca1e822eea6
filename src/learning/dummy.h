/* SPDX-License-Identifier: Apache-2.0 */
/* A learner that learns nothing: for tests of the protocol, of large models and of faults, where training would only cost time.
 * What it does is exact in float32, so that a test can say what the result has to be. */
#ifndef PFL_LEARNING_DUMMY_H
#define PFL_LEARNING_DUMMY_H

#include "base/clock.h"
#include "learning/learner.h"

/** One F32 tensor "values" of n_values. init: zeros. fit takes `delay` and adds pfl_dummy_step(node_name) to each value
 *  (whatever the epochs, unless there are 0); its weight is pfl_dummy_samples(node_name). evaluate: the loss is the mean value, the
 *  accuracy 0.5. interrupt() ends a fit at once; one that comes between calls is forgotten.
 *  INVALID for n_values 0 or a negative delay. node_name is copied. */
enum pfl_rc pfl_dummy_learner_new(uint64_t n_values, pfl_ns delay, const char *node_name, struct pfl_learner *ret,
                                  struct pfl_err *err) PFL_WARN_UNUSED;

float pfl_dummy_step(const char *node_name);       /* k/64 with k in [1, 64] */
uint64_t pfl_dummy_samples(const char *node_name); /* in [100, 131] */

#endif
