/* SPDX-License-Identifier: Apache-2.0 */
/* The folder that a node and its learner share: the learner's socket and the files with parameters. It is made in memory (/dev/shm,
 * else TMPDIR or /tmp), 0700, under a name that nobody can foresee, and removed with the learner. A node that was killed leaves its
 * folder behind; the next one that starts removes it: the lock in it tells that nobody has it any more.
 *
 * The node reads and writes through descriptors of files that it made itself, so that a learner can neither lead it elsewhere nor
 * crash it: what the learner cut off is a short read, not a fault. Not thread-safe; used by the learner's thread alone. */
#ifndef PFL_RUNTIME_REMOTE_EXCHANGE_H
#define PFL_RUNTIME_REMOTE_EXCHANGE_H

#include "tensor/model.h"
#include "wire/learner_msg.h"

struct pfl_exchange;

/** parent: where the folder is made; NULL: see above. IO names the folder and why not. */
enum pfl_rc pfl_exchange_new(const char *parent, struct pfl_exchange **ret, struct pfl_err *err) PFL_WARN_UNUSED;
const char *pfl_exchange_dir(const struct pfl_exchange *x);    /* absolute */
const char *pfl_exchange_socket(const struct pfl_exchange *x); /* where a learner that the node starts listens: a path in it */
/** Forgets the files of the session before, and the socket. */
void pfl_exchange_reset(struct pfl_exchange *x);
enum pfl_exchange_what { PFL_EXCHANGE_MODEL, PFL_EXCHANGE_CORRECTION };
/** Writes the model where the learner will read it; *ret says where. A correction is a model too (see struct pfl_fit_steer). */
enum pfl_rc pfl_exchange_put(struct pfl_exchange *x, enum pfl_exchange_what what, const struct pfl_model *model,
                             struct pfl_learner_parameters *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** An empty file, as large as a model of this layout, for the learner to write; *ret says which. */
enum pfl_rc pfl_exchange_offer(struct pfl_exchange *x, const struct pfl_layout *layout, struct pfl_learner_parameters *ret,
                               struct pfl_err *err) PFL_WARN_UNUSED;
/** A copy of what is in the offered file; MALFORMED where its size is not the layout's. *ret is owned. */
enum pfl_rc pfl_exchange_take(struct pfl_exchange *x, struct pfl_layout *layout, struct pfl_model **ret,
                              struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_exchange_free(struct pfl_exchange *x); /* removes the folder; accepts NULL */

#endif
