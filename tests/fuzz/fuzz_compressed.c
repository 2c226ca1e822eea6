/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire learning */
/* A compressed contribution as a peer sends it. What decodes has the layout that was expected, and no more memory was needed than
 * its bound allows: the container's decoder is what the sanitizers watch. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learning/compression.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct pfl_model *base_of(void *user, const uint8_t *digest)
{
    return digest[0] & 1 ? user : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pfl_tensor_desc descs[] = {{.name = "w", .dtype = PFL_F32, .rank = 2, .shape = {6, 5}},
                                                   {.name = "b", .dtype = PFL_F32, .rank = 1, .shape = {2}},
                                                   {.name = "n", .dtype = PFL_I32, .rank = 1, .shape = {3}}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *base = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    PFL_ASSERT(pfl_layout_new(descs, 3, &l, NULL) == PFL_OK && pfl_model_new(l, &base, NULL) == PFL_OK);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(data, size);
    PFL_ASSERT(blob);
    if (pfl_decompress(blob, 0, blob->len, l, base_of, base, &m, &err) != PFL_OK) {
        PFL_ASSERT(err.msg[0] && !m);
        return 0;
    }
    PFL_ASSERT(size <= pfl_compressed_max(l) && pfl_layout_check_same(m->layout, l, NULL) == PFL_OK);
    unsigned sum = 0;
    for (size_t i = 0; i < l->bytes; i++)
        sum += m->data[i];
    PFL_ASSERT(sum <= 255 * l->bytes); /* what counts is that each byte was read */
    return 0;
}
