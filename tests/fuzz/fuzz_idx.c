/* SPDX-License-Identifier: Apache-2.0 */
/* link: base learning */
/* A data file from anywhere, plain or gzip: it is read or refused, and what was read holds together. */
#include "learning/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *in = pfl_blob_copy(data, size);
    for (unsigned rank = 1; in && rank <= PFL_IDX_RANK_MAX; rank++) {
        PFL_AUTO(pfl_idx_deinit) struct pfl_idx x = {0};
        struct pfl_err err = {0};
        if (pfl_idx_decode(in, rank, &x, &err) != PFL_OK) {
            PFL_ASSERT(err.msg[0] && !x.blob);
            continue;
        }
        size_t product = 1, sum = 0;
        for (unsigned i = 0; i < rank; i++)
            product *= x.dims[i];
        PFL_ASSERT(x.rank == rank && product == x.values.len && product > 0);
        for (size_t i = 0; i < x.values.len; i++) /* each byte is there to be read */
            sum += x.values.data[i];
        PFL_ASSERT(sum <= 255 * product);
    }
    return 0;
}
