/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate signing requests (PKCS#10, RFC 2986). A request is a wish and proof of possession of the key; what a certificate
 * says is decided by a grant (pki/ca.h), never by the request. */
#ifndef PFL_PKI_CSR_H
#define PFL_PKI_CSR_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "pki/limits.h"

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */
struct X509_req_st; /* OpenSSL's X509_REQ */

struct pfl_csr;

/** PEM or DER, one request. Its signature by its own key is checked, the key's strength too (AUTH), and that the names it asks for
 * can be read. MALFORMED, TOO_BIG, AUTH, UNSUPPORTED. */
enum pfl_rc pfl_csr_parse(struct pfl_bytes in, struct pfl_csr **ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_csr_load(const char *path, struct pfl_csr **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_csr_free(struct pfl_csr *csr); /* accepts NULL */
PFL_DEFINE_FREEP(csr, struct pfl_csr, pfl_csr_free)

/** What it asks for; all borrowed for csr's life. */
const char *pfl_csr_common_name(const struct pfl_csr *csr);         /* "" where none */
const struct pfl_strs *pfl_csr_sans(const struct pfl_csr *csr);     /* "IP:…", "DNS:…", "URI:…", canonical, sorted */
const struct pfl_strs *pfl_csr_purposes(const struct pfl_csr *csr); /* "serverAuth", …; empty: none asked */
bool pfl_csr_asks_ca(const struct pfl_csr *csr);                    /* basicConstraints CA:TRUE, or a CA's key usages */
const char *pfl_csr_key_fingerprint(const struct pfl_csr *csr);     /* SHA-256 of the SubjectPublicKeyInfo, lower-case hex */
struct evp_pkey_st *pfl_csr_key(const struct pfl_csr *csr);         /* the public key */

/** Makes one: CN ("": none), SANs ("IP:…", "DNS:…", may be NULL) and, if not NULL, the purpose ("serverAuth" or "clientAuth"; "ca":
 * an intermediate CA), signed by key. DER, appended to out. */
enum pfl_rc pfl_csr_make(const char *common_name, const struct pfl_strs *sans, const char *purpose, struct evp_pkey_st *key,
                         struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** DER as PEM text, owned by the caller. */
char *pfl_csr_pem(struct pfl_bytes der);

#endif
