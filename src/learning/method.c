/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts of a method and the calls on them. */
#include "learning/method.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

bool pfl_method_is_extra(const struct pfl_tensor_desc *t)
{
    return t->name[0] == '@';
}

const struct pfl_tensor_desc *pfl_method_find(const struct pfl_layout *l, const char *set, const char *name)
{
    char full[2 * PFL_TENSOR_NAME_MAX];
    (void)snprintf(full, sizeof(full), "@%s.%s", set, name);
    return pfl_layout_find(l, full);
}

enum pfl_rc pfl_method_check_prefix(const struct pfl_layout *longer, const struct pfl_layout *shorter, struct pfl_err *err)
{
    if (longer->n < shorter->n)
        return pfl_err_set(err, PFL_INVALID, "a model of %zu tensors, %zu are expected", longer->n, shorter->n);
    for (size_t i = 0; i < shorter->n; i++) {
        const struct pfl_tensor_desc *a = &longer->tensors[i], *b = &shorter->tensors[i];
        if (strcmp(a->name, b->name) != 0 || a->dtype != b->dtype || a->rank != b->rank ||
            memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0])) != 0)
            return pfl_err_set(err, PFL_INVALID, "tensor '%s' differs from '%s' in name, type or shape", pfl_q(a->name),
                               pfl_q(b->name));
    }
    return PFL_OK;
}

/* The F32 tensors of `params` once more for each set. */
static enum pfl_rc extend(const struct pfl_layout *params, const char *const *sets, struct pfl_layout **ret, struct pfl_err *err)
{
    size_t n_sets = 0, n = params->n;
    while (n_sets < PFL_AGGREGATOR_SETS_MAX && sets[n_sets])
        n_sets++;
    PFL_AUTO(pfl_freep) struct pfl_tensor_desc *descs = pfl_xcalloc(n * (n_sets + 1), sizeof(*descs));
    memcpy(descs, params->tensors, n * sizeof(*descs));
    for (size_t s = 0; s < n_sets; s++) {
        for (size_t i = 0; i < params->n; i++) {
            const struct pfl_tensor_desc *t = &params->tensors[i];
            if (t->dtype != PFL_F32)
                continue;
            descs[n] = *t;
            int len = snprintf(descs[n].name, sizeof(descs[n].name), "@%s.%s", sets[s], t->name);
            if (len < 0 || (size_t)len >= sizeof(descs[n].name))
                return pfl_err_set(err, PFL_INVALID, "tensor '%s': its name is too long for a set beside it", pfl_q(t->name));
            n++;
        }
    }
    return pfl_layout_new(descs, n, ret, err);
}

enum pfl_rc pfl_method_init(struct pfl_method *m, const struct pfl_aggregator *aggregator, struct pfl_learner learner,
                            struct pfl_err *err)
{
    struct pfl_layout *params = learner.ops->layout(learner.self), *model = NULL;
    enum pfl_rc rc = extend(params, aggregator->model_sets, &model, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "aggregator '%s'", aggregator->name);
    *m = (struct pfl_method){.aggregator = aggregator,
                             .learner = learner,
                             .params = pfl_layout_ref(params),
                             .contribution = pfl_layout_ref(params),
                             .model = model};
    return PFL_OK;
}

void pfl_method_deinit(struct pfl_method *m)
{
    pfl_layout_unref(m->params);
    pfl_layout_unref(m->contribution);
    pfl_layout_unref(m->model);
    *m = (struct pfl_method){0};
}

struct pfl_layout *pfl_method_layout(const struct pfl_method *m, const char *cmd)
{
    return pfl_streq(cmd, "partial_model") ? m->contribution : m->model;
}

enum pfl_rc pfl_method_fit_layout(struct pfl_model *model, struct pfl_layout *want, struct pfl_model **ret, struct pfl_err *err)
{
    const struct pfl_layout *have = model->layout;
    if (have == want || pfl_layout_check_same(have, want, NULL) == PFL_OK) {
        *ret = pfl_model_ref(model);
        return PFL_OK;
    }
    bool cut = have->n > want->n;
    struct pfl_model *m = NULL;
    enum pfl_rc rc = pfl_method_check_prefix(cut ? have : want, cut ? want : have, err);
    if (rc == PFL_OK)
        rc = pfl_model_new(want, &m, err);
    if (rc != PFL_OK)
        return rc;
    size_t bytes = cut ? want->bytes : have->bytes; /* equal tensors in equal order lie at equal offsets */
    if (bytes > 0)
        memcpy(pfl_model_data_mut(m), model->data, bytes);
    *ret = m;
    return PFL_OK;
}

enum pfl_rc pfl_method_init_model(const struct pfl_method *m, struct pfl_model **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    enum pfl_rc rc = m->learner.ops->init(m->learner.self, &model, err);
    return rc == PFL_OK ? pfl_method_fit_layout(model, m->model, ret, err) : rc;
}

enum pfl_rc pfl_method_fit(const struct pfl_method *m, struct pfl_model *base, unsigned epochs, uint64_t seed,
                           struct pfl_model **ret, struct pfl_fit_result *ret_fit, struct pfl_err *err)
{
    const struct pfl_learner *l = &m->learner;
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = NULL;
    enum pfl_rc rc = pfl_method_fit_layout(base, m->params, &start, err);
    return rc == PFL_OK ? l->ops->fit(l->self, start, epochs, seed, NULL, NULL, ret, ret_fit, err) : rc;
}

enum pfl_rc pfl_method_evaluate(const struct pfl_method *m, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *params = NULL;
    enum pfl_rc rc = pfl_method_fit_layout(model, m->params, &params, err);
    return rc == PFL_OK ? m->learner.ops->evaluate(m->learner.self, params, ret, err) : rc;
}

enum pfl_rc pfl_method_aggregate(const struct pfl_method *m, const struct pfl_model *base, bool partial,
                                 const struct pfl_contribution *in, size_t n, struct pfl_model **ret, struct pfl_err *err)
{
    const struct pfl_aggregator *a = m->aggregator;
    return partial ? a->aggregate(a, in, n, ret, err) : pfl_aggregator_next(a, base, in, n, ret, err);
}
