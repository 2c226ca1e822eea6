/* SPDX-License-Identifier: Apache-2.0 */
/* All reading goes through pfl_reader, so that a malformed message ends in `failed` and nothing else. */
#include "rpc/proto_scan.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

bool pfl_field_next(struct pfl_reader *r, struct pfl_field *ret)
{
    if (r->failed || pfl_reader_left(r) == 0)
        return false;
    uint64_t key = pfl_reader_varint(r);
    struct pfl_field f = {.number = (uint32_t)(key >> 3), .wire_type = (uint32_t)(key & 7)};
    if (f.wire_type == WIRE_VARINT)
        f.value = pfl_reader_varint(r);
    else if (f.wire_type == WIRE_BYTES) {
        uint64_t len = pfl_reader_varint(r);
        if (len > pfl_reader_left(r))
            r->failed = true;
        else
            f.bytes = pfl_reader_bytes(r, (size_t)len);
    } else if (f.wire_type == WIRE_64 || f.wire_type == WIRE_32)
        (void)pfl_reader_bytes(r, f.wire_type == WIRE_64 ? 8 : 4);
    else
        r->failed = true;
    if (r->failed || f.number == 0)
        r->failed = true;
    else
        *ret = f;
    return !r->failed;
}

struct pfl_bytes pfl_field_find(struct pfl_bytes message, uint32_t number)
{
    struct pfl_reader r = pfl_reader_of(message);
    struct pfl_field f;
    while (pfl_field_next(&r, &f))
        if (f.number == number && f.wire_type == WIRE_BYTES)
            return f.bytes;
    return (struct pfl_bytes){0};
}

void pfl_field_put_bytes(struct pfl_buf *b, uint32_t number, struct pfl_bytes bytes)
{
    pfl_buf_varint(b, (uint64_t)number << 3 | WIRE_BYTES);
    pfl_buf_varint(b, bytes.len);
    pfl_buf_append(b, bytes.data, bytes.len);
}

void pfl_field_put_varint(struct pfl_buf *b, uint32_t number, uint64_t value)
{
    pfl_buf_varint(b, (uint64_t)number << 3 | WIRE_VARINT);
    pfl_buf_varint(b, value);
}
