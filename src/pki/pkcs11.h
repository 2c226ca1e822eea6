/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys that never leave a token: an HSM, a smart card, a TPM behind its PKCS#11 module, SoftHSM2. A key is named by a
 * pkcs11: URI (pki/pkcs11_uri.h) and comes back as an ordinary EVP_PKEY whose private operations the token does. pki/key.h calls
 * this wherever a key is named by a URI or by a file that holds one, so callers rarely come here.
 *
 * The module is code that is loaded into this process: module-path of the URI, else P2PFL_PKCS11_MODULE of the environment, else
 * p11-kit's proxy, which offers the modules that the machine's administrator set up. All calls into one module are made one after
 * another, so modules that know no threads work too. A process that forks without exec must load its keys afterwards.
 *
 * PINs: from pin-source of the URI, else what the caller gives. A PIN that the token refused is not tried again by this process,
 * and the last try before the token locks is never used: no loop of ours can lock a token.
 *
 * Keys: RSA and EC (P-256, P-384). Ed25519 in a token is UNSUPPORTED: few modules have it, and OpenSSL takes no Ed25519 key whose
 * private half is elsewhere but from a provider. RSA signs with PSS through CKM_RSA_X_509, so the token must offer that. */
#ifndef PFL_PKI_PKCS11_H
#define PFL_PKI_PKCS11_H

#include <stdbool.h>

#include "base/err.h"
#include "pki/passphrase.h"
#include "pki/pkcs11_uri.h"

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */

enum {
    PFL_PKCS11_SLOTS_MAX = 256,      /* slots looked at */
    PFL_PKCS11_ATTRIBUTE_MAX = 4096, /* bytes of one attribute read from a token */
};

/** The key that the URI names, tried by one signature. `pin`: for a URI without pin-source; copied, kept for as long as the key, to
 *  log in again after the token was gone; may be NULL.
 *  NOT_FOUND: module, token, key or its public half. INVALID: several fit. AUTH: no PIN, a wrong one, a locked token.
 *  UNSUPPORTED: kind of key or module. UNAVAILABLE: the token's own failures. *ret is owned. */
enum pfl_rc pfl_pkcs11_load(const struct pfl_pkcs11_uri *uri, const struct pfl_passphrase *pin, struct evp_pkey_st **ret,
                            struct pfl_err *err) PFL_WARN_UNUSED;
/** Makes a pair in the token: "p256", "p384", "rsa:N". It is sensitive, cannot be extracted, and signs only; what the token says
 *  of the new key is read back, and a key that could be extracted is destroyed (UNSUPPORTED). Its label is uri->object ("p2pfl"
 * where NULL), its id uri->id or 16 random bytes. EXISTS where a key of this label or id is there. Errors as pfl_pkcs11_load. */
enum pfl_rc pfl_pkcs11_generate(const struct pfl_pkcs11_uri *uri, const char *kind, const struct pfl_passphrase *pin,
                                struct evp_pkey_st **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Destroys a pair in its token if pfl_pkcs11_generate made it for this very key; nothing else. */
void pfl_pkcs11_unmake(struct evp_pkey_st *key);
/** The URI of a key that came from here, its id in it; NULL for any other key and for NULL. Borrowed for the key's life. */
const struct pfl_pkcs11_uri *pfl_pkcs11_uri_of(const struct evp_pkey_st *key);

#endif
