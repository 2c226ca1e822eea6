/* SPDX-License-Identifier: Apache-2.0 */
/* A model as it travels: a safetensors file (8-byte little-endian header length, JSON header, data block) and its SHA-256.
 * The header is made once, the block is the model's own. Metadata: "p2pfl" version and applied techniques as JSON (none yet).
 * The header's bytes depend on the layout alone, so equal parameters give equal payloads and equal digests.
 * Source: the safetensors format description (header at most 100 MB there, 1 MiB here; no holes, no overlaps). */
#ifndef PFL_WIRE_PAYLOAD_H
#define PFL_WIRE_PAYLOAD_H

#include "tensor/model.h"
#include "wire/msg.h"

struct pfl_payload {
    atomic_uint refs;
    struct pfl_buf head;     /* length and JSON header, padded with spaces to 8 bytes */
    struct pfl_model *model; /* a reference */
    bool has_digest;
    uint8_t digest[PFL_DIGEST_LEN]; /* of head and block; filled by whoever has a hash function (runtime, on a worker) */
    struct pfl_blob *pickled;       /* owned: the same for P2PFL's own nodes; NULL until the runtime's loop needs it */
};
enum pfl_rc pfl_payload_new(struct pfl_model *model, struct pfl_payload **ret, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_payload *pfl_payload_ref(struct pfl_payload *p);
void pfl_payload_unref(struct pfl_payload *p);
PFL_DEFINE_FREEP(payload, struct pfl_payload, pfl_payload_unref)
size_t pfl_payload_bytes(const struct pfl_payload *p);

/** Reads a safetensors file that lies in blob->data[off, off + len). The model is a view where alignment allows.
 *  want: the layout it must have (checked by name, dtype, shape; order may differ: then it is copied in want's order), or NULL.
 *  MALFORMED for overlaps, holes, offsets outside, overflows, doubled names, wrong sizes; each names the tensor. */
enum pfl_rc pfl_safetensors_decode(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want, struct pfl_model **ret,
                                   struct pfl_err *err) PFL_WARN_UNUSED;

#endif
