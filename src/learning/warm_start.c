/* SPDX-License-Identifier: Apache-2.0 */
/* The file is read once, when the learner is made, so that what is wrong with it shows before the node starts. */
#include "learning/warm_start.h"

#include "base/fs.h"
#include "base/mem.h"
#include "learning/wrapper.h"
#include "wire/payload.h"

struct warm {
    struct pfl_wrapper wrapper;
    struct pfl_model *model; /* a reference */
};

static enum pfl_rc init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct warm *w = self;
    (void)err;
    *ret = pfl_model_ref(w->model);
    return PFL_OK;
}

static void warm_free(void *self)
{
    struct warm *w = self;
    pfl_model_unref(w->model);
    pfl_wrapper_free(w);
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
    pfl_wrapper_init(&w->wrapper, learner);
    w->model = model;
    w->wrapper.ops.init = init;
    w->wrapper.ops.free = warm_free;
    return PFL_OK;
}
