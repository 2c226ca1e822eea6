/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* A model as a peer sends it. What decodes has tensors that lie side by side in its block, each byte of which is readable, and
 * what we write of it decodes to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_model(const struct pfl_model *m, size_t size)
{
    const struct pfl_layout *l = m->layout;
    size_t at = 0;
    unsigned sum = 0;
    PFL_ASSERT(l->n >= 1 && l->n <= PFL_LAYOUT_TENSORS_MAX && l->bytes < size);
    for (size_t i = 0; i < l->n; i++) {
        PFL_ASSERT(l->tensors[i].offset == at && l->tensors[i].name[0]);
        at += l->tensors[i].bytes;
    }
    PFL_ASSERT(at == l->bytes);
    for (size_t i = 0; i < l->bytes; i++)
        sum += m->data[i];
    PFL_ASSERT(sum <= 255 * l->bytes); /* what counts is that each byte was read */
    struct pfl_err err = {0};
    PFL_ASSERT(pfl_model_check_finite(m, &err) == PFL_OK || err.msg[0]);
}

static void check_again(struct pfl_model *m)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *back = NULL;
    if (pfl_payload_new(m, &p, NULL) != PFL_OK)
        return;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = pfl_blob_new(pfl_payload_bytes(p));
    PFL_ASSERT(b);
    memcpy(b->data, p->head.data, p->head.len);
    memcpy(b->data + p->head.len, m->data, m->layout->bytes);
    PFL_ASSERT(pfl_safetensors_decode(b, 0, b->len, m->layout, &back, NULL) == PFL_OK);
    PFL_ASSERT(memcmp(back->data, m->data, m->layout->bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(data, size);
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    PFL_ASSERT(blob);
    if (pfl_safetensors_decode(blob, 0, size, NULL, &m, &err) != PFL_OK) {
        PFL_ASSERT(!m && err.msg[0]);
        return 0;
    }
    check_model(m, size);
    check_again(m);
    return 0;
}
