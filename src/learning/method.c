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

/* The F32 tensors of `params` once more for each set, and the number of steps. */
static enum pfl_rc extend(const struct pfl_layout *params, const char *const *sets, bool steps, struct pfl_layout **ret,
                          struct pfl_err *err)
{
    size_t n_sets = 0, n = params->n;
    while (n_sets < PFL_AGGREGATOR_SETS_MAX && sets[n_sets])
        n_sets++;
    PFL_AUTO(pfl_freep) struct pfl_tensor_desc *descs = pfl_xcalloc(n * (n_sets + 1) + 1, sizeof(*descs));
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
    if (steps)
        descs[n++] = (struct pfl_tensor_desc){.name = "@steps", .dtype = PFL_F32, .rank = 1, .shape = {1}};
    return pfl_layout_new(descs, n, ret, err);
}

enum pfl_rc pfl_method_init(struct pfl_method *m, const struct pfl_aggregator *aggregator, struct pfl_learner learner,
                            struct pfl_err *err)
{
    struct pfl_layout *params = learner.ops->layout(learner.self);
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *model = NULL;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *contribution = NULL;
    if ((aggregator->proximal || aggregator->variates) && !learner.ops->steer)
        return pfl_err_set(err, PFL_UNSUPPORTED, "aggregator '%s' needs a learner whose training it can change; '%s' is none",
                           aggregator->name, learner.ops->name);
    enum pfl_rc rc = extend(params, aggregator->model_sets, false, &model, err);
    if (rc == PFL_OK)
        rc = extend(params, aggregator->contribution_sets, aggregator->counts, &contribution, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "aggregator '%s'", aggregator->name);
    *m = (struct pfl_method){.aggregator = aggregator,
                             .learner = learner,
                             .params = pfl_layout_ref(params),
                             .contribution = pfl_steal(&contribution),
                             .model = pfl_steal(&model)};
    return PFL_OK;
}

void pfl_method_deinit(struct pfl_method *m)
{
    pfl_layout_unref(m->params);
    pfl_layout_unref(m->contribution);
    pfl_layout_unref(m->model);
    pfl_model_unref(m->variate);
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

/* ---- a fit, steered ---- */

static const float *floats(const struct pfl_model *m, const struct pfl_tensor_desc *t)
{
    return (const float *)(const void *)(m->data + t->offset);
}

static bool is_zero(const struct pfl_model *m)
{
    size_t i = 0;
    while (i < m->layout->bytes && m->data[i] == 0)
        i++;
    return i == m->layout->bytes;
}

/* c of the round's model, of params' layout: what is no F32 is zero. */
static enum pfl_rc common_variate(const struct pfl_method *m, const struct pfl_model *base, struct pfl_model **ret,
                                  struct pfl_err *err)
{
    struct pfl_model *c = NULL;
    enum pfl_rc rc = pfl_model_new(m->params, &c, err);
    for (size_t i = 0; i < m->params->n && rc == PFL_OK; i++) {
        const struct pfl_tensor_desc *t = &m->params->tensors[i], *from = pfl_method_find(base->layout, "c", t->name);
        if (from && t->dtype == PFL_F32 && t->bytes > 0)
            memcpy(pfl_model_data_mut(c) + t->offset, base->data + from->offset, t->bytes);
    }
    if (rc == PFL_OK)
        *ret = c;
    return rc;
}

/* c - c_i, which is added to each gradient. */
static enum pfl_rc correction_of(const struct pfl_method *m, const struct pfl_model *c, struct pfl_model **ret, struct pfl_err *err)
{
    struct pfl_model *d = NULL;
    enum pfl_rc rc = pfl_model_new(m->params, &d, err);
    for (size_t i = 0; i < m->params->n && rc == PFL_OK; i++) {
        const struct pfl_tensor_desc *t = &m->params->tensors[i];
        float *out = (float *)(void *)(pfl_model_data_mut(d) + t->offset);
        for (size_t k = 0; t->dtype == PFL_F32 && k < t->bytes / sizeof(float); k++)
            out[k] = floats(c, t)[k] - (m->variate ? floats(m->variate, t)[k] : 0.0F);
    }
    if (rc == PFL_OK)
        *ret = d;
    return rc;
}

static enum pfl_rc steer(struct pfl_method *m, const struct pfl_model *base, struct pfl_model **ret_c, struct pfl_err *err)
{
    const struct pfl_learner *l = &m->learner;
    struct pfl_fit_steer s = {.proximal_mu = m->aggregator->proximal ? m->aggregator->params.proximal_mu : 0.0};
    PFL_AUTO(pfl_model_freep) struct pfl_model *c = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *correction = NULL;
    if (!m->aggregator->proximal && !m->aggregator->variates)
        return PFL_OK;
    enum pfl_rc rc = PFL_OK;
    if (m->aggregator->variates)
        rc = common_variate(m, base, &c, err);
    if (rc == PFL_OK && c) {
        if (is_zero(c)) { /* an experiment begins */
            pfl_model_unref(m->variate);
            m->variate = NULL;
        }
        rc = correction_of(m, c, &correction, err);
        s.correction = correction;
    }
    if (rc == PFL_OK)
        rc = l->ops->steer(l->self, &s, err);
    if (rc == PFL_OK)
        *ret_c = pfl_steal(&c);
    return rc;
}

/* Option II: c_i becomes c_i - c + (x - y) / (K eta); the difference goes with the contribution. */
static enum pfl_rc put_variate(struct pfl_method *m, const struct pfl_model *start, const struct pfl_model *c,
                               const struct pfl_fit_result *fit, struct pfl_model *out, struct pfl_err *err)
{
    struct pfl_model *next = NULL;
    if (fit->n_steps > 0 && !(fit->learning_rate > 0.0))
        return pfl_err_set(err, PFL_UNSUPPORTED, "scaffold: the learner '%s' does not say its learning rate", m->learner.ops->name);
    enum pfl_rc rc = pfl_model_new(m->params, &next, err);
    if (rc != PFL_OK)
        return rc;
    double step = fit->n_steps > 0 ? (double)fit->n_steps * fit->learning_rate : 0.0;
    for (size_t i = 0; i < m->params->n; i++) {
        const struct pfl_tensor_desc *t = &m->params->tensors[i], *to = pfl_method_find(out->layout, "delta_c", t->name);
        if (t->dtype != PFL_F32 || !to)
            continue;
        float *ci = (float *)(void *)(pfl_model_data_mut(next) + t->offset);
        float *dc = (float *)(void *)(pfl_model_data_mut(out) + to->offset);
        for (size_t k = 0; k < t->bytes / sizeof(float); k++) {
            double old = m->variate ? (double)floats(m->variate, t)[k] : 0.0;
            double moved = (double)floats(start, t)[k] - (double)floats(out, t)[k];
            ci[k] = step > 0.0 ? (float)(old - (double)floats(c, t)[k] + moved / step) : (float)old;
            dc[k] = (float)((double)ci[k] - old);
        }
    }
    pfl_model_unref(m->variate);
    m->variate = next;
    return PFL_OK;
}

static enum pfl_rc put_steps(const struct pfl_method *m, const struct pfl_fit_result *fit, struct pfl_model *out,
                             struct pfl_err *err)
{
    const struct pfl_tensor_desc *t = pfl_layout_find(out->layout, "@steps");
    double steps = fit->normaliser > 0.0 ? fit->normaliser : (double)fit->n_steps;
    if (steps <= 0.0)
        return pfl_err_set(err, PFL_UNSUPPORTED, "%s: the learner '%s' does not say how many steps it made", m->aggregator->name,
                           m->learner.ops->name);
    *(float *)(void *)(pfl_model_data_mut(out) + t->offset) = (float)steps;
    return PFL_OK;
}

enum pfl_rc pfl_method_fit(struct pfl_method *m, struct pfl_model *base, unsigned epochs, uint64_t seed, struct pfl_model **ret,
                           struct pfl_fit_result *ret_fit, struct pfl_err *err)
{
    const struct pfl_learner *l = &m->learner;
    const struct pfl_aggregator *a = m->aggregator;
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *c = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *trained = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *out = NULL;
    enum pfl_rc rc = pfl_method_fit_layout(base, m->params, &start, err);
    if (rc == PFL_OK)
        rc = steer(m, base, &c, err);
    if (rc == PFL_OK)
        rc = l->ops->fit(l->self, start, epochs, seed, m->progress, m->progress_user, &trained, ret_fit, err);
    if (rc == PFL_OK)
        rc = pfl_method_fit_layout(trained, m->contribution, &out, err);
    if (rc == PFL_OK && a->variates)
        rc = put_variate(m, start, c, ret_fit, out, err);
    if (rc == PFL_OK && a->counts)
        rc = put_steps(m, ret_fit, out, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&out);
    return rc;
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
    if (!partial) {
        PFL_AUTO(pfl_model_freep) struct pfl_model *next = NULL;
        enum pfl_rc rc = pfl_aggregator_next(a, base, in, n, &next, err);
        return rc == PFL_OK ? pfl_method_fit_layout(next, m->model, ret, err) : rc;
    }
    return a->merge ? a->merge(a, base, in, n, ret, err) : a->aggregate(a, in, n, ret, err);
}
