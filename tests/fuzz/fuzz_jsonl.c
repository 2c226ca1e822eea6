/* SPDX-License-Identifier: Apache-2.0 */
/* link: base learning */
/* A data file from anywhere (jsonl): it is read or refused, and what was read holds together. */
#include "learning/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = {NULL, "y", "0"};
    struct pfl_bytes in = pfl_bytes_of(data, size);
    for (size_t k = 0; k < PFL_ARRAY_LEN(labels); k++) {
        const char *label = labels[k];
        PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
        struct pfl_err err = {0};
        if (pfl_jsonl_decode(in, label, &t, &err) != PFL_OK) {
            PFL_ASSERT(err.msg[0] && !t.values && !t.bytes);
            continue;
        }
        PFL_ASSERT(t.n > 0 && t.n_columns > 0 && t.names.n > 0 && t.names.n <= PFL_TABLE_CLASSES_MAX);
        PFL_ASSERT(pfl_shape3_size(t.shape) == t.n_columns);
        double sum = 0.0;
        for (size_t i = 0; i < t.n * t.n_columns; i++) /* each value is there to be read */
            sum += t.bytes ? (double)t.bytes[i] : (double)t.values[i];
        for (size_t i = 0; i < t.n; i++)
            PFL_ASSERT(t.labels[i] < t.names.n);
        PFL_ASSERT(sum == sum || !t.bytes);
    }
    return 0;
}
