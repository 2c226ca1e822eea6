/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, at once or piece by piece, and random bytes fit for secrets. */
#ifndef PFL_PKI_DIGEST_H
#define PFL_PKI_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { PFL_SHA256_LEN = 32 };

void pfl_sha256(struct pfl_bytes in, uint8_t out[PFL_SHA256_LEN]);
/** Lower-case hex, NUL-terminated. */
void pfl_sha256_hex(struct pfl_bytes in, char out[2 * PFL_SHA256_LEN + 1]);

struct pfl_sha256;
struct pfl_sha256 *pfl_sha256_new(void); /* owned */
void pfl_sha256_add(struct pfl_sha256 *s, struct pfl_bytes in);
void pfl_sha256_end(struct pfl_sha256 *s, uint8_t out[PFL_SHA256_LEN]); /* ready for a new run afterwards */
void pfl_sha256_free(struct pfl_sha256 *s);                             /* accepts NULL */
PFL_DEFINE_FREEP(sha256, struct pfl_sha256, pfl_sha256_free)

/** From OpenSSL's generator; the process ends where that fails, for nothing safe can be done then. */
void pfl_random_bytes(void *out, size_t len);

#endif
