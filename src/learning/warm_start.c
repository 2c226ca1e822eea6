/* SPDX-License-Identifier: Apache-2.0 */
/* The file is read once, when the learner is made, so that what is wrong with it shows before the node starts. */
#include "learning/warm_start.h"

#include <stdlib.h>

#include "base/fs.h"
#include "base/mem.h"
#include "wire/payload.h"

struct warm {
    struct pfl_learner_ops ops; /* of this one; without steer where the inner one has none */
    struct pfl_learner inner;   /* owned */
    struct pfl_model *model;    /* a reference */
};

static struct pfl_layout *layout(void *self)
{
    struct warm *w = self;
    return w->inner.ops->layout(w->inner.self);
}

static enum pfl_rc init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct warm *w = self;
    (void)err;
    *ret = pfl_model_ref(w->model);
    return PFL_OK;
}

static enum pfl_rc fit(void *self, struct pfl_model *start, unsigned epochs, uint64_t seed,
                       void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                       struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct warm *w = self;
    return w->inner.ops->fit(w->inner.self, start, epochs, seed, progress, user, ret_model, ret, err);
}

static enum pfl_rc evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct warm *w = self;
    return w->inner.ops->evaluate(w->inner.self, model, ret, err);
}

static void interrupt(void *self)
{
    struct warm *w = self;
    w->inner.ops->interrupt(w->inner.self);
}

static enum pfl_rc steer(void *self, const struct pfl_fit_steer *s, struct pfl_err *err)
{
    struct warm *w = self;
    return w->inner.ops->steer(w->inner.self, s, err);
}

static void warm_free(void *self)
{
    struct warm *w = self;
    pfl_model_unref(w->model);
    w->inner.ops->free(w->inner.self);
    free(w);
}

/* Somewhat larger files are read, too: that they have other tensors says more than that they are too big. */
static enum pfl_rc load(const char *path, struct pfl_layout *want, struct pfl_model **ret, struct pfl_err *err)
{
    enum { SLACK = 64 << 20 };
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    enum pfl_rc rc = pfl_fs_read(path, want->bytes + SLACK, &blob, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_safetensors_decode(blob, 0, blob->len, want, &model, err);
    if (rc == PFL_OK)
        rc = pfl_model_check_finite(model, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "%s", path);
    *ret = pfl_steal(&model);
    return PFL_OK;
}

enum pfl_rc pfl_warm_start_wrap(struct pfl_learner *learner, const char *path, struct pfl_err *err)
{
    struct pfl_model *model = NULL;
    enum pfl_rc rc = load(path, learner->ops->layout(learner->self), &model, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "warm_start");
    struct warm *w = pfl_xcalloc(1, sizeof(*w));
    *w = (struct warm){.ops = {.name = learner->ops->name,
                               .layout = layout,
                               .init = init,
                               .fit = fit,
                               .evaluate = evaluate,
                               .interrupt = interrupt,
                               .steer = learner->ops->steer ? steer : NULL,
                               .free = warm_free},
                       .inner = *learner,
                       .model = model};
    *learner = (struct pfl_learner){.ops = &w->ops, .self = w};
    return PFL_OK;
}
