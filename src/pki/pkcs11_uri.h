/* SPDX-License-Identifier: Apache-2.0 */
/* pkcs11: URIs (RFC 7512), as far as they name a private key and where its PIN is. Strict: an attribute that is unknown, twice
 * there or empty is refused, because one that is silently ignored may name another key than was meant. pin-value is refused: a PIN
 * in a URI stands in command lines, configuration files and logs. No message of these functions quotes a value of the query. */
#ifndef PFL_PKI_PKCS11_URI_H
#define PFL_PKI_PKCS11_URI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    PFL_PKCS11_URI_MAX = 2048,  /* bytes of a URI: nine attributes of the lengths below, percent-encoded in reason */
    PFL_PKCS11_TEXT_MAX = 255,  /* bytes of a decoded name: PKCS#11's own are at most 64, labels of objects are free */
    PFL_PKCS11_ID_MAX = 64,     /* bytes of CKA_ID: tokens use 1 to 20 */
    PFL_PKCS11_PATH_MAX = 1023, /* bytes of a decoded path */
};

/** Zero-initialised. NULL: not named, anything fits. Texts are UTF-8 without control characters. */
struct pfl_pkcs11_uri {
    char *token, *manufacturer, *serial, *model; /* owned; which token */
    bool has_slot;
    uint64_t slot_id; /* which slot; the numbers of some modules change, so a token's name is better */
    char *object;     /* owned; the key's CKA_LABEL */
    uint8_t id[PFL_PKCS11_ID_MAX];
    size_t id_len;     /* 0: not named */
    char *pin_source;  /* owned; absolute path of the file with the PIN in its first line */
    char *module_path; /* owned; absolute path of the PKCS#11 module */
};
void pfl_pkcs11_uri_deinit(struct pfl_pkcs11_uri *uri);                                 /* for PFL_AUTO too */
void pfl_pkcs11_uri_copy(struct pfl_pkcs11_uri *dst, const struct pfl_pkcs11_uri *src); /* dst is deinited first */

/** Does it begin with "pkcs11:", in any case? Says nothing about the rest. */
bool pfl_pkcs11_is_uri(const char *text);
/** INVALID, naming the attribute; UNSUPPORTED for what RFC 7512 has and we do not; TOO_BIG. After an error *ret is as it was. */
enum pfl_rc pfl_pkcs11_uri_parse(const char *text, struct pfl_pkcs11_uri *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The whole URI in one canonical form, which parses to the same. Owned by the caller. */
char *pfl_pkcs11_uri_text(const struct pfl_pkcs11_uri *uri);
/** Token and key only: for messages. Owned by the caller. */
char *pfl_pkcs11_uri_name(const struct pfl_pkcs11_uri *uri);

#endif
