/* SPDX-License-Identifier: Apache-2.0 */
/* link: base learning */
/* A data file from anywhere: a .npz of NumPy. */
#include "table_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pfl_fuzz_table(pfl_npz_decode, pfl_bytes_of(data, size));
    return 0;
}
