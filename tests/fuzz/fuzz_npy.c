/* SPDX-License-Identifier: Apache-2.0 */
/* link: base learning */
/* A .npy array from anywhere: it is read or refused, every value can be read, and as features and labels it makes a table or none.
 */
#include "learning/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfl_npy x;
    struct pfl_err err = {0};
    if (pfl_npy_decode(pfl_bytes_of(data, size), &x, &err) != PFL_OK) {
        PFL_ASSERT(err.msg[0]);
        return 0;
    }
    size_t n = 1;
    for (unsigned i = 0; i < x.rank; i++)
        n *= x.shape[i];
    PFL_ASSERT(n == x.n && x.data.len == n * x.bytes);
    double sum = 0.0;
    for (size_t i = 0; i < x.n; i++)
        sum += pfl_npy_value(&x, i);
    PFL_ASSERT(sum == sum || x.kind == 'f');
    PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
    if (pfl_npy_table(&x, &x, &t, &err) == PFL_OK)
        PFL_ASSERT(t.n == x.shape[0] && pfl_shape3_size(t.shape) == t.n_columns);
    return 0;
}
