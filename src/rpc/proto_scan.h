/* SPDX-License-Identifier: Apache-2.0 */
/* The little of Protocol Buffers that the built-in services need: walking fields and writing length-delimited ones. */
#ifndef PFL_RPC_PROTO_SCAN_H
#define PFL_RPC_PROTO_SCAN_H

#include "base/bytes.h"

struct pfl_field {
    uint32_t number;
    uint32_t wire_type;     /* 0 varint, 1 64 bits, 2 length-delimited, 5 32 bits */
    uint64_t value;         /* of a varint */
    struct pfl_bytes bytes; /* of a length-delimited one */
};
/** The next field; false at the end or, with r->failed, where the bytes are malformed. Groups are malformed. */
bool pfl_field_next(struct pfl_reader *r, struct pfl_field *ret);
/** First length-delimited field of that number; the empty view where there is none. */
struct pfl_bytes pfl_field_find(struct pfl_bytes message, uint32_t number);

void pfl_field_put_bytes(struct pfl_buf *b, uint32_t number, struct pfl_bytes bytes);
void pfl_field_put_varint(struct pfl_buf *b, uint32_t number, uint64_t value);

#endif
