/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures over messages, by the natural algorithm of a certificate's key: RSA (PKCS #1 v1.5) and ECDSA with SHA-256, Ed25519 as
 * it is. The key may be in a token. */
#ifndef PFL_PKI_SIGN_H
#define PFL_PKI_SIGN_H

#include <stdbool.h>

#include "base/bytes.h"

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */
struct x509_st;     /* OpenSSL's X509 */

/** Appends the signature. IO where the key does not sign (a token that is gone). The OpenSSL error queue is left empty. */
enum pfl_rc pfl_sign(struct evp_pkey_st *key, struct pfl_bytes text, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** Safe on any thread, also several with one key. */
bool pfl_sign_verify(struct evp_pkey_st *key, struct pfl_bytes text, struct pfl_bytes signature);
/** Does it sign within some ten microseconds? EC P-256 and Ed25519 in this process; not RSA, and no key in a token. */
bool pfl_sign_is_fast(const struct evp_pkey_st *key);
/** The certificate's public key, owned by the caller (pfl_key_free); NULL where it cannot be read. */
struct evp_pkey_st *pfl_cert_key(struct x509_st *cert);

#endif
