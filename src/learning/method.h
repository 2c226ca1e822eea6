/* SPDX-License-Identifier: Apache-2.0 */
/* A learning method: an aggregator and a learner together, and the shapes of what travels because of them. Three layouts, each the
 * one before and more behind it:
 *
 *   params        the learner's own
 *   contribution  what one node gives a round (partial_model)
 *   model         what a round begins with and ends with (init_model, add_model, checkpoints)
 *
 * A further tensor is named "@<set>.<tensor>". Values of a set that is not there yet are zero. Both drivers of a node (runtime,
 * sim) call a learner through this. */
#ifndef PFL_LEARNING_METHOD_H
#define PFL_LEARNING_METHOD_H

#include "learning/aggregator.h"
#include "learning/learner.h"

struct pfl_method {
    const struct pfl_aggregator *aggregator;          /* borrowed */
    struct pfl_learner learner;                       /* borrowed */
    struct pfl_layout *params, *contribution, *model; /* references */
    struct pfl_model *variate;                        /* owned: this node's c_i of SCAFFOLD, of params' layout; NULL: zero */
    void (*progress)(void *user, double done);        /* of fits, from the thread that fits; NULL: nobody asks */
    void *progress_user;
};
/** INVALID where a name of a tensor leaves no room, or the layout has too many; UNSUPPORTED where the aggregator asks something of
 * the learner that it cannot do. */
enum pfl_rc pfl_method_init(struct pfl_method *m, const struct pfl_aggregator *aggregator, struct pfl_learner learner,
                            struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_method_deinit(struct pfl_method *m);

/** The layout of a model that comes with this command. */
struct pfl_layout *pfl_method_layout(const struct pfl_method *m, const char *cmd);
/** As the learner's ops, on models of these layouts. *ret owned. */
enum pfl_rc pfl_method_init_model(const struct pfl_method *m, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_method_fit(struct pfl_method *m, struct pfl_model *base, unsigned epochs, uint64_t seed, struct pfl_model **ret,
                           struct pfl_fit_result *ret_fit, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_method_evaluate(const struct pfl_method *m, struct pfl_model *model, struct pfl_metrics *ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;
/** partial: several contributions become one; else the round's result. */
enum pfl_rc pfl_method_aggregate(const struct pfl_method *m, const struct pfl_model *base, bool partial,
                                 const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                                 struct pfl_err *err) PFL_WARN_UNUSED;

/** A model in another layout of which one begins with the other: cut off, or zeros behind. *ret owned; a reference where there is
 *  nothing to do. */
enum pfl_rc pfl_method_fit_layout(struct pfl_model *model, struct pfl_layout *want, struct pfl_model **ret,
                                  struct pfl_err *err) PFL_WARN_UNUSED;
/** The tensor "@set.name"; NULL where there is none. */
const struct pfl_tensor_desc *pfl_method_find(const struct pfl_layout *l, const char *set, const char *name);
/** INVALID unless `longer` begins with the tensors of `shorter`. */
enum pfl_rc pfl_method_check_prefix(const struct pfl_layout *longer, const struct pfl_layout *shorter,
                                    struct pfl_err *err) PFL_WARN_UNUSED;
/** Is it a tensor of a set? Such tensors are never compressed with losses. */
bool pfl_method_is_extra(const struct pfl_tensor_desc *t);

#endif
