/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing but the calls, handed on. */
#include "learning/wrapper.h"

#include <stdlib.h>

static struct pfl_layout *layout(void *self)
{
    struct pfl_wrapper *w = self;
    return w->inner.ops->layout(w->inner.self);
}

static enum pfl_rc init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct pfl_wrapper *w = self;
    return w->inner.ops->init(w->inner.self, ret, err);
}

static enum pfl_rc fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                       void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                       struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct pfl_wrapper *w = self;
    return w->inner.ops->fit(w->inner.self, start, epochs, seed, progress, user, ret_model, ret, err);
}

static enum pfl_rc evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct pfl_wrapper *w = self;
    return w->inner.ops->evaluate(w->inner.self, model, ret, err);
}

static void interrupt(void *self)
{
    struct pfl_wrapper *w = self;
    w->inner.ops->interrupt(w->inner.self);
}

static enum pfl_rc steer(void *self, const struct pfl_fit_steer *s, struct pfl_err *err)
{
    struct pfl_wrapper *w = self;
    return w->inner.ops->steer(w->inner.self, s, err);
}

void pfl_wrapper_free(void *self)
{
    struct pfl_wrapper *w = self;
    w->inner.ops->free(w->inner.self);
    free(w);
}

void pfl_wrapper_init(struct pfl_wrapper *w, struct pfl_learner *learner)
{
    *w = (struct pfl_wrapper){.ops = {.name = learner->ops->name,
                                      .layout = layout,
                                      .init = init,
                                      .fit = fit,
                                      .evaluate = evaluate,
                                      .interrupt = interrupt,
                                      .steer = learner->ops->steer ? steer : NULL,
                                      .free = pfl_wrapper_free},
                              .inner = *learner};
    *learner = (struct pfl_learner){.ops = &w->ops, .self = w};
}
