/* SPDX-License-Identifier: Apache-2.0 */
/* link: base learning */
/* Two CIFAR-10 files from anywhere, cut at any place. */
#include "learning/cifar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = size ? data[0] * (size / 256) : 0;
    const struct pfl_bytes files[] = {pfl_bytes_of(data, size), pfl_bytes_of(data, cut)};
    for (size_t n = 1; n <= 2; n++) {
        PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *d = NULL;
        struct pfl_err err = {0};
        if (pfl_cifar_decode(files, n, &d, &err) != PFL_OK) {
            PFL_ASSERT(err.msg[0] && !d);
            continue;
        }
        for (size_t i = 0; i < d->n; i++)
            PFL_ASSERT(d->labels[i] < d->n_classes);
    }
    return 0;
}
