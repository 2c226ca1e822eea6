/* SPDX-License-Identifier: Apache-2.0 */
/* One way to sign and one to verify; the key decides how. */
#include "pki/sign.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "pki/pkcs11.h"

enum { SIGNATURE_MAX = 1024 }; /* RSA of 8192 bits */

static const EVP_MD *digest_for(const EVP_PKEY *key)
{
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

enum pfl_rc pfl_sign(EVP_PKEY *key, struct pfl_bytes text, struct pfl_buf *out, struct pfl_err *err)
{
    unsigned char signature[SIGNATURE_MAX];
    size_t len = sizeof(signature);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    PFL_ASSERT(ctx != NULL);
    bool ok = EVP_DigestSignInit(ctx, NULL, digest_for(key), NULL, key) == 1 &&
              EVP_DigestSign(ctx, signature, &len, text.data, text.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    if (!ok || !pfl_buf_append(out, signature, len))
        return pfl_err_set(err, PFL_IO, "the key could not sign a message%s",
                           pfl_pkcs11_uri_of(key) ? ": is its token still there?" : "");
    return PFL_OK;
}

bool pfl_sign_verify(EVP_PKEY *key, struct pfl_bytes text, struct pfl_bytes signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    PFL_ASSERT(ctx != NULL);
    bool ok = EVP_DigestVerifyInit(ctx, NULL, digest_for(key), NULL, key) == 1 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, text.data, text.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

bool pfl_sign_is_fast(const EVP_PKEY *key)
{
    int kind = EVP_PKEY_get_base_id(key);
    bool small_ec = kind == EVP_PKEY_EC && EVP_PKEY_get_bits(key) == 256;
    return (small_ec || kind == EVP_PKEY_ED25519) && !pfl_pkcs11_uri_of(key);
}

EVP_PKEY *pfl_cert_key(X509 *cert)
{
    EVP_PKEY *key = X509_get_pubkey(cert);
    ERR_clear_error();
    return key;
}
