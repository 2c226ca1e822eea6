/* SPDX-License-Identifier: Apache-2.0 */
/* What crl.c and crl_set.c share. Not for other files. */
#ifndef PFL_PKI_CRL_IMPL_H
#define PFL_PKI_CRL_IMPL_H

#include <openssl/x509.h>
#include <stdatomic.h>

#include "pki/crl.h"

enum { PFL_CRL_KEY_LEN = 32 };

struct pfl_crl {
    atomic_uint refs;
    X509_CRL *crl;      /* owned; its entries are sorted */
    unsigned char *der; /* owned, OpenSSL's */
    size_t der_len;
    char *issuer, *number_hex, *number_text; /* owned */
    int64_t this_update, next_update;
    bool verified;
    uint8_t signer[PFL_CRL_KEY_LEN]; /* SHA-256 of the SubjectPublicKeyInfo of who signed it; once verified */
};

struct pfl_crl_set {
    atomic_uint refs;
    size_t n;
    struct pfl_crl *items[PFL_CRL_SET_MAX]; /* references, one for each signer */
};

/** SHA-256 of a certificate's SubjectPublicKeyInfo; false where its key cannot be read. */
bool pfl_crl_key_digest(const X509 *cert, uint8_t out[PFL_CRL_KEY_LEN]);

#endif
