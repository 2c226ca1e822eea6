/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys: made, written once, and read only when nobody else can. A key file that group or others can touch is refused
 * with the chmod to run. Keys and passphrases reach no message and no log.
 *
 * Wherever a key is named by its path, the path may be a pkcs11: URI (pki/pkcs11_uri.h): the key is in a token and stays there. A
 * key file may hold such a URI instead of a key: that is what is written for a key that was made in a token, so that all that moves
 * key files about works for these too. The passphrase is the token's PIN then, unless the URI says with pin-source where that is.
 */
#ifndef PFL_PKI_KEY_H
#define PFL_PKI_KEY_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "pki/limits.h"
#include "pki/passphrase.h"

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */
struct x509_st;     /* OpenSSL's X509 */

void pfl_key_free(struct evp_pkey_st *key); /* accepts NULL */
PFL_DEFINE_FREEP(key, struct evp_pkey_st, pfl_key_free)

/** What --key takes: p256, p384, ed25519, rsa:N with 2048 <= N <= 8192; or a pkcs11: URI, or KIND@ and a URI. */
bool pfl_key_spec_valid(const char *spec, struct pfl_err *err);
/** Does it name a key in a token? */
bool pfl_key_spec_in_token(const char *spec);
/** Does it, and leaves open where the PIN is? */
bool pfl_key_spec_asks_pin(const char *spec);
/** Makes a key. A URI names a key of the token that is used if it is there and made (p256) if it is not; with KIND@ it is made, and
 *  EXISTS if it is there. pin: for a URI without pin-source; NULL: none. *ret is owned. INVALID for a spec that is not known, or a
 *  URI without object and id; and what pfl_pkcs11_load says. */
enum pfl_rc pfl_key_make(const char *spec, const struct pfl_passphrase *pin, struct evp_pkey_st **ret,
                         struct pfl_err *err) PFL_WARN_UNUSED;
/** pfl_key_make without a PIN. */
enum pfl_rc pfl_key_generate(const char *spec, struct evp_pkey_st **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Takes a key out of its token again if pfl_key_make made it there: for a caller that fails later. Any other key, one that was in
 *  the token before among them, stays. Accepts NULL. */
void pfl_key_unmake(struct evp_pkey_st *key);
/** The spec for one of several keys that are made from one --key, or for the only one (purpose NULL). A URI's object is <name>
 * where it has none. One of several gets "-<purpose>" behind its object, and is always a new key. pin_file, if not NULL, becomes
 * its pin-source (made absolute). Other specs are copied. *ret is owned. INVALID for a spec that is not valid, a URI with an id
 * (two keys cannot have it), a pin_file without a URI or with one that has a pin-source.
 */
enum pfl_rc pfl_key_spec_for(const char *spec, const char *name, const char *purpose, const char *pin_file, char **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;
/** UNSUPPORTED for kinds other than RSA, EC and Ed25519, AUTH for a weak one ("RSA key of 1024 bits, at least 2048 needed"). */
enum pfl_rc pfl_key_check_strength(const struct evp_pkey_st *key, struct pfl_err *err) PFL_WARN_UNUSED;

/** PKCS#8 PEM, encrypted where passphrase is not NULL, appended to out; for a key in a token its URI, a line. The caller wipes it
 * with pfl_key_pem_wipe. */
enum pfl_rc pfl_key_pem(const struct evp_pkey_st *key, const struct pfl_passphrase *passphrase, struct pfl_buf *out,
                        struct pfl_err *err) PFL_WARN_UNUSED;
/** Overwrites and frees the buffer; for PFL_AUTO too. */
void pfl_key_pem_wipe(struct pfl_buf *pem);

/** PKCS#8 PEM, mode 0600, in a new file only (EXISTS). With a passphrase (not NULL): AES-256-CBC under a key that scrypt derives.
 */
enum pfl_rc pfl_key_save_new(const char *path, const struct evp_pkey_st *key, const struct pfl_passphrase *passphrase,
                             struct pfl_err *err) PFL_WARN_UNUSED;

/** Reads a PEM key, or finds the one in a token that the path or the file names. AUTH where others can read the file, where it is
 * encrypted and passphrase is NULL or wrong, or the key is weak; NOT_FOUND, IO, TOO_BIG, MALFORMED. *ret is owned. Never prompts by
 * itself. The key's own numbers are checked for consistency. For a token also what pfl_pkcs11_load says. */
enum pfl_rc pfl_key_load(const char *path, const struct pfl_passphrase *passphrase, struct evp_pkey_st **ret,
                         struct pfl_err *err) PFL_WARN_UNUSED;
/** Does the file say that its key is encrypted, or in a token whose PIN is nowhere named? Then pfl_key_load needs a passphrase.
 * False where it cannot be read: pfl_key_load says why. */
bool pfl_key_file_encrypted(const char *path);
/** Is the key in a token: is the path a pkcs11: URI, or one in the file's first line? */
bool pfl_key_file_in_token(const char *path);
/** Does the private key belong to the certificate's public key? */
bool pfl_key_matches(const struct evp_pkey_st *key, const struct x509_st *cert);

#endif
