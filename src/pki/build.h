/* SPDX-License-Identifier: Apache-2.0 */
/* Making one X.509 certificate: a root's, an intermediate's or a node's. Only the CA uses this. */
#ifndef PFL_PKI_BUILD_H
#define PFL_PKI_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct evp_pkey_st;           /* OpenSSL's EVP_PKEY */
struct x509_st;               /* OpenSSL's X509 */
struct stack_st_GENERAL_NAME; /* OpenSSL's GENERAL_NAMES */

struct pfl_cert_spec {
    const char *common_name;
    struct pfl_strs sans;          /* "IP:…", "DNS:…", "URI:…", in canonical form. Borrowed */
    bool is_ca;                    /* a root, or an intermediate */
    int path_len;                  /* CAs: -1: no limit */
    const char *serial_hex;        /* NULL: 128 random bits */
    const char *purpose;           /* nodes: "serverAuth", "clientAuth", or both with a comma */
    int64_t not_before, not_after; /* Unix seconds */
};

/** Builds and signs (SHA-256; Ed25519 has its own). issuer and issuer_key are the CA's; for a root NULL and the root's own key.
 *  `key` is the holder's: only its public half goes in. *ret is owned. */
enum pfl_rc pfl_cert_build(const struct pfl_cert_spec *spec, struct evp_pkey_st *key, struct x509_st *issuer,
                           struct evp_pkey_st *issuer_key, struct x509_st **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** "IP:…", "DNS:…", "URI:…" as OpenSSL's names. Owned by the caller; NULL where one of them is none of these. */
struct stack_st_GENERAL_NAME *pfl_general_names(const struct pfl_strs *sans);

#endif
