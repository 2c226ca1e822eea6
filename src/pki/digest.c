/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 and secret-grade randomness through OpenSSL. Neither can fail for a reason that a caller could do anything about, so
 * a failure ends the process. */
#include "pki/digest.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

struct pfl_sha256 {
    EVP_MD_CTX *ctx; /* owned */
};

void pfl_sha256(struct pfl_bytes in, uint8_t out[PFL_SHA256_LEN])
{
    int ok = EVP_Digest(in.data, in.len, out, NULL, EVP_sha256(), NULL);
    PFL_ASSERT(ok == 1);
}

void pfl_sha256_hex(struct pfl_bytes in, char out[2 * PFL_SHA256_LEN + 1])
{
    uint8_t digest[PFL_SHA256_LEN];
    pfl_sha256(in, digest);
    pfl_hex(pfl_bytes_of(digest, sizeof digest), out);
}

struct pfl_sha256 *pfl_sha256_new(void)
{
    struct pfl_sha256 *s = pfl_xmalloc(sizeof *s);
    s->ctx = EVP_MD_CTX_new();
    PFL_ASSERT(s->ctx != NULL);
    int ok = EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL);
    PFL_ASSERT(ok == 1);
    return s;
}

void pfl_sha256_add(struct pfl_sha256 *s, struct pfl_bytes in)
{
    int ok = EVP_DigestUpdate(s->ctx, in.data, in.len);
    PFL_ASSERT(ok == 1);
}

void pfl_sha256_end(struct pfl_sha256 *s, uint8_t out[PFL_SHA256_LEN])
{
    int ok = EVP_DigestFinal_ex(s->ctx, out, NULL) && EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL);
    PFL_ASSERT(ok == 1);
}

void pfl_sha256_free(struct pfl_sha256 *s)
{
    if (!s)
        return;
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

void pfl_random_bytes(void *out, size_t len)
{
    PFL_ASSERT(len <= INT32_MAX);
    int ok = RAND_bytes(out, (int)len);
    PFL_ASSERT(ok == 1);
}
