/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* Rounds of an aggregator that looks at the round's model, for a test with NumPy:
 * fedopt NAME ETA BETA_1 BETA_2 TAU ROUNDS N D SPLIT <in >out            (scaffold: ETA is its global_lr)
 * Standard input: D float32 (the model, two tensors of SPLIT and D - SPLIT values), then for each round N times an 8-byte count of
 * samples, D float32 that are added to the model as it is then: a contribution, and what the rule wants beside it (scaffold: D
 * float32, the change of the variates; fednova: one, the number of steps). Standard output: for each round the model and what the
 * rule keeps with it: fedadam and the like two moments, 3 D float32 in all; scaffold 2 D; fednova D. An error goes to standard
 * error and ends it with 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "learning/method.h"

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s\n", what);
    return 1;
}

/* A learner that has a layout and nothing else. */
static struct pfl_layout *layout_of(void *self)
{
    return self;
}

static enum pfl_rc steer(void *self, const struct pfl_fit_steer *s, struct pfl_err *err)
{
    (void)self;
    (void)s;
    (void)err;
    return PFL_OK;
}

static enum pfl_rc one_round(const struct pfl_method *m, struct pfl_model **base, size_t n, size_t d, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) struct pfl_contribution *in = pfl_xcalloc(n, sizeof(*in));
    PFL_AUTO(pfl_freep) float *add = pfl_xcalloc(d, sizeof(*add));
    enum pfl_rc rc = PFL_OK;
    struct pfl_model *next = NULL;
    for (size_t k = 0; k < n && rc == PFL_OK; k++) {
        if (fread(&in[k].n_samples, sizeof(in[k].n_samples), 1, stdin) != 1 || fread(add, sizeof(*add), d, stdin) != d)
            rc = pfl_err_set(err, PFL_IO, "the input ended early");
        else
            rc = pfl_model_new(m->contribution, &in[k].model, err);
        const float *x = (const float *)(const void *)(*base)->data;
        float *c = rc == PFL_OK ? (float *)(void *)pfl_model_data_mut(in[k].model) : NULL;
        for (size_t i = 0; c && i < d; i++)
            c[i] = x[i] + add[i];
        size_t beside = m->contribution->bytes / sizeof(float) - d;
        if (c && fread(c + d, sizeof(float), beside, stdin) != beside)
            rc = pfl_err_set(err, PFL_IO, "the input ended early");
    }
    if (rc == PFL_OK)
        rc = pfl_method_aggregate(m, *base, false, in, n, &next, err);
    for (size_t k = 0; k < n; k++)
        pfl_model_unref(in[k].model);
    if (rc == PFL_OK) {
        pfl_model_unref(*base);
        *base = next;
    }
    return rc;
}

static enum pfl_rc rounds(const struct pfl_method *m, size_t n_rounds, size_t n, size_t d, struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *base = NULL;
    enum pfl_rc rc = pfl_model_new(m->model, &base, err);
    if (rc == PFL_OK && fread(pfl_model_data_mut(base), sizeof(float), d, stdin) != d)
        rc = pfl_err_set(err, PFL_IO, "the input ended early");
    for (size_t r = 0; r < n_rounds && rc == PFL_OK; r++) {
        rc = one_round(m, &base, n, d, err);
        if (rc == PFL_OK && fwrite(base->data, base->layout->bytes, 1, stdout) != 1)
            rc = pfl_err_set(err, PFL_IO, "standard output");
    }
    return rc;
}

int main(int argc, char **argv)
{
    int64_t n_rounds, n, d, split;
    if (argc != 10 || !pfl_parse_i64(argv[6], 1, 1000, &n_rounds) || !pfl_parse_i64(argv[7], 1, 1000, &n) ||
        !pfl_parse_i64(argv[8], 1, 1 << 24, &d) || !pfl_parse_i64(argv[9], 0, d, &split))
        return fail("usage: fedopt NAME ETA BETA_1 BETA_2 TAU ROUNDS N D SPLIT");
    struct pfl_aggregator_params params = pfl_aggregator_params_default();
    *(pfl_streq(argv[1], "scaffold") ? &params.global_lr : &params.eta) = strtod(argv[2], NULL);
    params.beta_1 = strtod(argv[3], NULL);
    params.beta_2 = strtod(argv[4], NULL);
    params.tau = strtod(argv[5], NULL);
    struct pfl_aggregator aggregator;
    struct pfl_err err = {0};
    if (pfl_aggregator_make(argv[1], &params, &aggregator, &err) != PFL_OK)
        return fail(err.msg);
    const struct pfl_tensor_desc descs[] = {{.name = "a", .dtype = PFL_F32, .rank = 1, .shape = {(size_t)split}},
                                            {.name = "b", .dtype = PFL_F32, .rank = 1, .shape = {(size_t)(d - split)}}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    if (pfl_layout_new(descs, 2, &layout, &err) != PFL_OK)
        return fail(err.msg);
    static const struct pfl_learner_ops ops = {.name = "none", .layout = layout_of, .steer = steer};
    struct pfl_method m = {0};
    enum pfl_rc rc = pfl_method_init(&m, &aggregator, (struct pfl_learner){.ops = &ops, .self = layout}, &err);
    if (rc == PFL_OK)
        rc = rounds(&m, (size_t)n_rounds, (size_t)n, (size_t)d, &err);
    pfl_method_deinit(&m);
    return rc == PFL_OK ? 0 : fail(err.msg);
}
