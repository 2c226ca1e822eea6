/* SPDX-License-Identifier: Apache-2.0 */
/* What the targets for data files share: one is read or refused, and what was read holds together. */
#ifndef PFL_TESTS_FUZZ_TABLE_TARGET_H
#define PFL_TESTS_FUZZ_TABLE_TARGET_H

#include "learning/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void pfl_fuzz_table(enum pfl_rc (*decode)(struct pfl_bytes, const char *, struct pfl_table *, struct pfl_err *),
                                  struct pfl_bytes in)
{
    static const char *const labels[] = {NULL, "y", "0"};
    for (size_t k = 0; k < PFL_ARRAY_LEN(labels); k++) {
        PFL_AUTO(pfl_table_deinit) struct pfl_table t = {0};
        struct pfl_err err = {0};
        if (decode(in, labels[k], &t, &err) != PFL_OK) {
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
}

#endif
