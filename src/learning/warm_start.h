/* SPDX-License-Identifier: Apache-2.0 */
/* A learner whose initial model is a file's instead of random. */
#ifndef PFL_LEARNING_WARM_START_H
#define PFL_LEARNING_WARM_START_H

#include "learning/learner.h"

/** Wraps *learner, which it owns from then on; all but init is the inner one's. The safetensors file at path must have the tensors
 * of the learner's layout, each by name, type and shape, in any order, and nothing else. Fail means unchanged.
 * Errors name the file, and the tensor that is missing or differs: those of pfl_fs_read; MALFORMED, also for NaN and infinity. */
enum pfl_rc pfl_warm_start_wrap(struct pfl_learner *learner, const char *path, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
