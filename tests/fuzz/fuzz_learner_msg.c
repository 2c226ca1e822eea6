/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* What a learner in another process sends, and what a node sends to it: the first byte says which message the rest is. What decodes
 * lies within its limits and encodes to what decodes to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/learner_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_description(struct pfl_bytes in)
{
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = NULL;
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *back = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    struct pfl_err err = {0};
    struct pfl_learner_description d, again;
    if (pfl_learner_description_decode(in, &d, &l, &err) != PFL_OK) {
        PFL_ASSERT(err.msg[0] && !l);
        return;
    }
    PFL_ASSERT(l->n >= 1 && l->n <= PFL_LAYOUT_TENSORS_MAX && strlen(d.name) < PFL_LEARNER_NAME_MAX);
    PFL_ASSERT(pfl_learner_description_encode(&d, l, &out, NULL) == PFL_OK);
    PFL_ASSERT(pfl_learner_description_decode(pfl_buf_view(&out), &again, &back, NULL) == PFL_OK);
    PFL_ASSERT(pfl_layout_check_same(back, l, NULL) == PFL_OK && strcmp(d.name, again.name) == 0);
}

static void try_describe(struct pfl_bytes in)
{
    PFL_AUTO(pfl_freep) struct pfl_learner_describe *m = pfl_xcalloc(1, sizeof(*m));
    PFL_AUTO(pfl_freep) struct pfl_learner_describe *back = pfl_xcalloc(1, sizeof(*back));
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    if (pfl_learner_describe_decode(in, m, NULL) != PFL_OK)
        return;
    PFL_ASSERT(pfl_learner_describe_encode(m, &out, NULL) == PFL_OK);
    PFL_ASSERT(pfl_learner_describe_decode(pfl_buf_view(&out), back, NULL) == PFL_OK);
    PFL_ASSERT(strcmp(m->folder, back->folder) == 0 && m->n_params == back->n_params && m->part_seed == back->part_seed);
}

static void try_small(unsigned which, struct pfl_bytes in)
{
    struct pfl_learner_parameters file;
    struct pfl_learner_job job;
    struct pfl_learner_result result;
    struct pfl_learner_progress_request ask;
    struct pfl_learner_progress progress;
    switch (which) {
    case 2:
        if (pfl_learner_parameters_decode(in, &file, NULL) == PFL_OK)
            PFL_ASSERT(file.file[0] && file.file[0] != '.' && !strchr(file.file, '/'));
        break;
    case 3:
        (void)!pfl_learner_job_decode(in, &job, NULL);
        break;
    case 4:
        (void)!pfl_learner_result_decode(in, &result, NULL);
        break;
    case 5:
        (void)!pfl_learner_progress_request_decode(in, &ask, NULL);
        break;
    default:
        (void)!pfl_learner_progress_decode(in, &progress, NULL);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct pfl_bytes in = pfl_bytes_of(data + 1, size - 1);
    if (data[0] % 7 == 0)
        try_description(in);
    else if (data[0] % 7 == 1)
        try_describe(in);
    else
        try_small(data[0] % 7, in);
    return 0;
}
