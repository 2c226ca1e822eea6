/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys: made, written once, and read only when nobody else can. A key file that group or others can touch is refused
 * with the chmod to run. Keys and passphrases reach no message and no log. */
#ifndef PFL_PKI_KEY_H
#define PFL_PKI_KEY_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "pki/passphrase.h"

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */
struct x509_st;     /* OpenSSL's X509 */

enum {
    PFL_KEY_FILE_MAX = 64 << 10, /* largest key file, bytes */
    PFL_RSA_BITS_MIN = 2048,
    PFL_RSA_BITS_MAX = 8192,
    PFL_EC_BITS_MIN = 256
};

void pfl_key_free(struct evp_pkey_st *key); /* accepts NULL */
PFL_DEFINE_FREEP(key, struct evp_pkey_st, pfl_key_free)

/** What --key takes: p256, p384, ed25519, rsa:N with 2048 <= N <= 8192. */
bool pfl_key_spec_valid(const char *spec, struct pfl_err *err);
/** Makes a key. *ret is owned. INVALID for a spec that is not known. */
enum pfl_rc pfl_key_generate(const char *spec, struct evp_pkey_st **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** UNSUPPORTED for kinds other than RSA, EC and Ed25519, AUTH for a weak one ("RSA key of 1024 bits, at least 2048 needed"). */
enum pfl_rc pfl_key_check_strength(const struct evp_pkey_st *key, struct pfl_err *err) PFL_WARN_UNUSED;

/** PKCS#8 PEM, encrypted where passphrase is not NULL, appended to out. The caller wipes it with pfl_key_pem_wipe. */
enum pfl_rc pfl_key_pem(const struct evp_pkey_st *key, const struct pfl_passphrase *passphrase, struct pfl_buf *out,
                        struct pfl_err *err) PFL_WARN_UNUSED;
/** Overwrites and frees the buffer; for PFL_AUTO too. */
void pfl_key_pem_wipe(struct pfl_buf *pem);

/** PKCS#8 PEM, mode 0600, in a new file only (EXISTS). With a passphrase (not NULL): AES-256-CBC under a key that scrypt derives.
 */
enum pfl_rc pfl_key_save_new(const char *path, const struct evp_pkey_st *key, const struct pfl_passphrase *passphrase,
                             struct pfl_err *err) PFL_WARN_UNUSED;

/** Reads a PEM key. AUTH where others can read the file, where it is encrypted and passphrase is NULL or wrong, or the key is
 *  weak; NOT_FOUND, IO, TOO_BIG, MALFORMED. *ret is owned. Never prompts by itself. The
 *  key's own numbers are checked for consistency. */
enum pfl_rc pfl_key_load(const char *path, const struct pfl_passphrase *passphrase, struct evp_pkey_st **ret,
                         struct pfl_err *err) PFL_WARN_UNUSED;
/** Does the file say that its key is encrypted? False where it cannot be read: pfl_key_load says why. */
bool pfl_key_file_encrypted(const char *path);
/** Does the private key belong to the certificate's public key? */
bool pfl_key_matches(const struct evp_pkey_st *key, const struct x509_st *cert);

#endif
