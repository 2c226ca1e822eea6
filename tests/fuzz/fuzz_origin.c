/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* Signed texts from outside: evidence. What is read must be all of the text, and a text never contradicts itself. */
#include <string.h>

#include "wire/origin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfl_origin_said s = {0};
    struct pfl_err err = {0};
    struct pfl_bytes all = pfl_bytes_of(data, size), half = pfl_bytes_of(data, size / 2);
    if (pfl_origin_said_parse(all, &s, &err) == PFL_OK) {
        PFL_ASSERT(s.source && strlen(s.source) <= PFL_WIRE_ADDRESS_MAX && strlen(s.cmd) <= PFL_WIRE_CMD_MAX);
        PFL_ASSERT(strlen(s.experiment) <= PFL_WIRE_EXPERIMENT_MAX && s.content_at <= size);
        pfl_origin_said_deinit(&s);
    } else {
        PFL_ASSERT(err.msg[0] && !s.source);
    }
    struct pfl_statement two[2] = {0};
    if (pfl_statements_unpack(all, two, NULL) == PFL_OK) {
        struct pfl_buf again = {0};
        PFL_ASSERT(pfl_statements_pack(two, &again, NULL) == PFL_OK && pfl_bytes_eq(pfl_buf_view(&again), all));
        pfl_buf_deinit(&again);
        pfl_statement_deinit(&two[0]);
        pfl_statement_deinit(&two[1]);
    }
    PFL_ASSERT(!pfl_origin_contradict(all, all));
    bool there = pfl_origin_contradict(half, pfl_bytes_sub(all, size / 2, size - size / 2));
    PFL_ASSERT(there == pfl_origin_contradict(pfl_bytes_sub(all, size / 2, size - size / 2), half));
    return 0;
}
