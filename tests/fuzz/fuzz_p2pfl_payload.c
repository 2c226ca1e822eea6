/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning */
/* Payloads of P2PFL's nodes with all that lies in them: decompression, techniques, sets; into a layout and into their own. */
#include <stdlib.h>

#include "learning/p2pfl_payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pfl_layout *layout(void)
{
    static struct pfl_layout *made;
    static const struct pfl_tensor_desc descs[] = {
        {.name = "w", .dtype = PFL_F32, .rank = 2, .shape = {2, 3}},
        {.name = "b", .dtype = PFL_F32, .rank = 1, .shape = {2}},
        {.name = "@delta_y.w", .dtype = PFL_F32, .rank = 2, .shape = {2, 3}},
        {.name = "@delta_y.b", .dtype = PFL_F32, .rank = 1, .shape = {2}},
        {.name = "@other.w", .dtype = PFL_F32, .rank = 2, .shape = {2, 3}},
    };
    if (!made && pfl_layout_new(descs, PFL_ARRAY_LEN(descs), &made, NULL) != PFL_OK)
        abort();
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int own = 0; own < 2; own++) {
        PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
        struct pfl_p2pfl_info info = {0};
        struct pfl_err err = {0};
        struct pfl_layout *want = own ? NULL : layout();
        enum pfl_rc rc =
            pfl_p2pfl_decode(pfl_bytes_of(data, size), want, own ? 1 << 20 : pfl_p2pfl_inner_max(want), &model, &info, &err);
        if ((rc == PFL_OK) != (model != NULL) || (rc != PFL_OK && !err.msg[0]))
            abort();
        if (model && want && (model->layout->n != want->n || model->layout->bytes != want->bytes))
            abort();
    }
    return 0;
}
