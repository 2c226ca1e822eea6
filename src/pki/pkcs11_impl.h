/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of pki/pkcs11*.c: modules, sessions, keys. */
#ifndef PFL_PKI_PKCS11_IMPL_H
#define PFL_PKI_PKCS11_IMPL_H

#include <p11-kit/pkcs11.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "pki/pkcs11.h"

/* ---- module: one of each path in a process, as PKCS#11 has it; it stays in memory, its C_Finalize is called when nobody uses it
 * ---- */
struct pfl_p11_module;
/** NULL: P2PFL_PKCS11_MODULE or p11-kit's proxy. *ret is a reference. */
enum pfl_rc pfl_p11_module_open(const char *path, struct pfl_p11_module **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_p11_module_close(struct pfl_p11_module *m); /* accepts NULL; not under its lock */
/** Every call into the module, and every use of a session of it, is made under its lock. */
CK_FUNCTION_LIST *pfl_p11_lock(struct pfl_p11_module *m);
void pfl_p11_unlock(struct pfl_p11_module *m);
const char *pfl_p11_module_path(const struct pfl_p11_module *m);
/** "CKR_PIN_INCORRECT: wrong PIN"; a number for those that have no row. out_size >= 80. Returns out. */
const char *pfl_p11_rv_text(CK_RV rv, char *out, size_t out_size);
/** UNAVAILABLE, "<what>: the token says <rv>". */
enum pfl_rc pfl_p11_fail(struct pfl_err *err, CK_RV rv, const char *what);

/* ---- session: on the one token that a URI names, logged in ---- */
/** Under the module's lock. pin: NULL where the URI has a pin-source or the token wants none. */
enum pfl_rc pfl_p11_session_open(struct pfl_p11_module *m, const struct pfl_pkcs11_uri *uri, const struct pfl_passphrase *pin,
                                 bool read_write, CK_SESSION_HANDLE *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Has this PIN been refused for this token by this process? Remembers it where `remember`. */
bool pfl_p11_pin_refused(struct pfl_p11_module *m, const CK_TOKEN_INFO *token, const struct pfl_passphrase *pin, bool remember);

/* ---- key: refcounted; lives as long as an EVP_PKEY of it ---- */
struct pfl_p11_key {
    atomic_uint refs;
    struct pfl_p11_module *module; /* owned reference */
    struct pfl_pkcs11_uri uri;     /* owned; with the key's id where it has one */
    struct pfl_passphrase *pin;    /* owned; NULL where the URI has a pin-source */
    CK_KEY_TYPE type;
    CK_OBJECT_HANDLE made; /* the public half, where this key was made here; CK_INVALID_HANDLE: it was there before */
    /* under the module's lock: */
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE object; /* CK_INVALID_HANDLE: the token was gone, look again */
};
void pfl_p11_key_unref(struct pfl_p11_key *key); /* accepts NULL; not under the lock */
PFL_DEFINE_FREEP(p11_key, struct pfl_p11_key, pfl_p11_key_unref)
/** Signs what is given as the mechanism wants it; a session that died is opened anew once. *out_len: room in, length out. */
enum pfl_rc pfl_p11_sign(struct pfl_p11_key *key, CK_MECHANISM_TYPE mechanism, struct pfl_bytes in, uint8_t *out, size_t *out_len,
                         struct pfl_err *err) PFL_WARN_UNUSED;

/** NULL where the key is none of ours. Borrowed. */
struct pfl_p11_key *pfl_p11_key_of(const struct evp_pkey_st *key);
/** An EVP_PKEY of the public numbers whose private operations call pfl_p11_sign. Takes a reference of its own. `point` is the
 *  uncompressed point; curve a NID. NULL where OpenSSL does not take the numbers. */
struct evp_pkey_st *pfl_p11_evp_ec(struct pfl_p11_key *key, int curve, struct pfl_bytes point);
struct evp_pkey_st *pfl_p11_evp_rsa(struct pfl_p11_key *key, struct pfl_bytes modulus, struct pfl_bytes exponent);

#endif
