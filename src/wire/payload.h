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
    /* A contribution that was compressed (learning/compression.h): what it was decoded from, and goes to others as it came. */
    struct pfl_blob *packed_in;            /* a reference; NULL: none */
    struct pfl_bytes packed;               /* a view of it */
    uint8_t packed_digest[PFL_DIGEST_LEN]; /* of packed */
};
enum pfl_rc pfl_payload_new(struct pfl_model *model, struct pfl_payload **ret, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_payload *pfl_payload_ref(struct pfl_payload *p);
void pfl_payload_unref(struct pfl_payload *p);
PFL_DEFINE_FREEP(payload, struct pfl_payload, pfl_payload_unref)
size_t pfl_payload_bytes(const struct pfl_payload *p);
/** Before it is shared. Takes a reference to blob, in which packed lies. */
void pfl_payload_set_packed(struct pfl_payload *p, struct pfl_blob *blob, struct pfl_bytes packed, const uint8_t *digest);

/** One entry of `__metadata__`; borrowed. */
struct pfl_safetensors_meta {
    const char *key, *value;
};
/** Appends the head of a file with this layout: length and JSON, padded to 8 bytes. */
enum pfl_rc pfl_safetensors_head(const struct pfl_layout *l, const struct pfl_safetensors_meta *meta, size_t n_meta,
                                 struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** The text of a key of a file's `__metadata__`, owned by the caller; NULL where it has none (or is no such file). */
char *pfl_safetensors_meta_get(struct pfl_bytes file, const char *key);

/** Reads a safetensors file that lies in blob->data[off, off + len). The model is a view where alignment allows.
 *  want: the layout it must have (checked by name, dtype, shape; order may differ: then it is copied in want's order), or NULL.
 *  MALFORMED for overlaps, holes, offsets outside, overflows, doubled names, wrong sizes; each names the tensor. */
enum pfl_rc pfl_safetensors_decode(struct pfl_blob *blob, size_t off, size_t len, struct pfl_layout *want, struct pfl_model **ret,
                                   struct pfl_err *err) PFL_WARN_UNUSED;

#endif
