/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of pki/key*.c: keys that are named by a pkcs11: URI. */
#ifndef PFL_PKI_KEY_TOKEN_H
#define PFL_PKI_KEY_TOKEN_H

#include "base/bytes.h"
#include "base/err.h"
#include "pki/passphrase.h"
#include "pki/pkcs11.h"

/** [KIND@]URI. INVALID, UNSUPPORTED, AUTH (a PIN in it). */
enum pfl_rc pfl_key_token_spec_check(const char *spec, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_key_token_make(const char *spec, const struct pfl_passphrase *pin, struct evp_pkey_st **ret,
                               struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_key_token_load(const char *uri, const struct pfl_passphrase *pin, struct evp_pkey_st **ret,
                               struct pfl_err *err) PFL_WARN_UNUSED;
/** What a key file says instead of a key. */
enum pfl_rc pfl_key_token_reference(const struct pfl_pkcs11_uri *uri, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** The URI that a key file is: one line of it, nothing else. Owned; NULL where the file is something else. */
char *pfl_key_token_in_file(struct pfl_bytes content);
/** Does the URI leave open where its PIN is? */
bool pfl_key_token_asks(const char *uri);

#endif
