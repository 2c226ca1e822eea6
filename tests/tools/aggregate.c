/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor learning */
/* One aggregation, for a test with NumPy: aggregate NAME BYZANTINE SELECTED TRIM N D SPLIT <models >result
 * Standard input: N times an 8-byte count of samples and D float32; the model has two tensors, of SPLIT and of D - SPLIT values.
 * Standard output: D float32. An error goes to standard error and ends it with 1. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/str.h"
#include "learning/aggregator.h"

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s\n", what);
    return 1;
}

static bool read_inputs(struct pfl_layout *layout, struct pfl_contribution *in, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        if (fread(&in[k].n_samples, sizeof(in[k].n_samples), 1, stdin) != 1 ||
            pfl_model_new(layout, &in[k].model, NULL) != PFL_OK ||
            fread(pfl_model_data_mut(in[k].model), layout->bytes, 1, stdin) != 1)
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    int64_t byzantine, selected, n, d, split;
    if (argc != 8 || !pfl_parse_i64(argv[2], -1, 1000, &byzantine) || !pfl_parse_i64(argv[3], 0, 1000, &selected) ||
        !pfl_parse_i64(argv[5], 0, 1000, &n) || !pfl_parse_i64(argv[6], 1, 1 << 24, &d) || !pfl_parse_i64(argv[7], 0, d, &split))
        return fail("usage: aggregate NAME BYZANTINE SELECTED TRIM N D SPLIT");
    struct pfl_aggregator_params params = pfl_aggregator_params_default();
    params.byzantine = (int)byzantine;
    params.selected = (unsigned)selected;
    params.trim = strtod(argv[4], NULL);
    struct pfl_aggregator aggregator;
    struct pfl_err err = {0};
    if (pfl_aggregator_make(argv[1], &params, &aggregator, &err) != PFL_OK)
        return fail(err.msg);

    const struct pfl_tensor_desc descs[] = {{.name = "a", .dtype = PFL_F32, .rank = 1, .shape = {(size_t)split}},
                                            {.name = "b", .dtype = PFL_F32, .rank = 1, .shape = {(size_t)(d - split)}}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    if (pfl_layout_new(descs, 2, &layout, &err) != PFL_OK)
        return fail(err.msg);
    PFL_AUTO(pfl_freep) struct pfl_contribution *in = pfl_xcalloc(n ? (size_t)n : 1, sizeof(*in));
    struct pfl_model *result = NULL;
    int code = 1;
    if (!read_inputs(layout, in, (size_t)n))
        (void)fail("the input ended early");
    else if (aggregator.aggregate(&aggregator, in, (size_t)n, &result, &err) != PFL_OK)
        (void)fail(err.msg);
    else
        code = fwrite(result->data, layout->bytes, 1, stdout) == 1 ? 0 : fail("standard output");
    pfl_model_unref(result);
    for (size_t k = 0; k < (size_t)n; k++)
        pfl_model_unref(in[k].model);
    return code;
}
