/* SPDX-License-Identifier: Apache-2.0 */
/* Who a certificate says its holder is. An identity is read from a certificate that something else has verified: reading
 * one says nothing about trust. It is immutable and refcounted, so a connection, a log line and a report can share it.
 *
 * In certificates made by `p2pfl ca issue` the name is one URI subject alternative name, spiffe://<federation>/<role>/<name>.
 * Certificates made by hand have none; their identity is the set of names and addresses that the CA put into them. */
#ifndef PFL_PKI_IDENTITY_H
#define PFL_PKI_IDENTITY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"
#include "pki/limits.h"

struct x509_st;               /* OpenSSL's X509 */
struct stack_st_GENERAL_NAME; /* OpenSSL's GENERAL_NAMES */

enum { PFL_FINGERPRINT_LEN = 64 }; /* hex digits of a SHA-256 */

struct pfl_identity {
    atomic_uint refs;
    char *spiffe_id;  /* "spiffe://<federation>/<role>/<name>"; NULL in certificates made by hand */
    char *federation; /* the parts of it; NULL where spiffe_id is */
    char *role;
    char *name;
    char *subject;                             /* RFC 2253 on one line, quoted for logs; "" where the subject is empty */
    char *issuer;                              /* the same */
    char *serial_hex;                          /* upper case, as openssl prints it */
    char *text;                                /* what pfl_identity_text returns */
    char fingerprint[PFL_FINGERPRINT_LEN + 1]; /* SHA-256 of the DER, lower-case hex */
    struct pfl_strs sans;                      /* "DNS:a.example" (lower case), "IP:127.0.0.1", "URI:spiffe://…", sorted */
    int64_t not_before, not_after;             /* Unix seconds */
};

/** Reads a certificate's names. *ret is owned (one reference).
 *  MALFORMED for a NUL byte or a control character inside a name, text that is not UTF-8 (or not ASCII where it must be),
 *  an IP of the wrong length, more than PFL_SANS_MAX names, more than one spiffe URI, or one that is over-long or badly built. */
enum pfl_rc pfl_identity_of_x509(const struct x509_st *cert, struct pfl_identity **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The same from DER (one certificate, nothing behind it). TOO_BIG past PFL_DER_CERT_MAX. */
enum pfl_rc pfl_identity_of_der(struct pfl_bytes der, struct pfl_identity **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The names of a request, read as strictly as a certificate's; those of a kind that means nothing here as "other:<kind>", so that
 *  nothing that is asked for goes unseen. Sorted, appended to ret. MALFORMED as above. */
enum pfl_rc pfl_sans_read(const struct stack_st_GENERAL_NAME *names, struct pfl_strs *ret, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_identity *pfl_identity_ref(struct pfl_identity *id); /* accepts NULL */
void pfl_identity_unref(struct pfl_identity *id);               /* accepts NULL */
PFL_DEFINE_FREEP(identity, struct pfl_identity, pfl_identity_unref)

/** Does the certificate cover this host? An IP address (with or without brackets) is compared in binary form and with IP
 *  names only; anything else with DNS names only, case-blind, where "*" may stand for the whole left-most label of a name with
 *  at least two more labels (RFC 6125). "localhost" is a DNS name as any other. */
bool pfl_identity_covers_host(const struct pfl_identity *id, const char *host);

/** Are these two certificates, both verified, the same party's? Both have a SPIFFE ID: the IDs are equal. Neither has: the sets of
 *  subject alternative names are equal (which is all that a certificate made by hand vouches for: two nodes whose certificates
 *  carry the same names cannot be told apart by them). One has and the other has not: false. The certificates themselves may
 *  differ: a node's server and client certificate are the same party's, and so is what it is renewed to, under a new root too. */
bool pfl_identity_same(const struct pfl_identity *a, const struct pfl_identity *b);

/** For logs and reports: the SPIFFE ID, else the subject's common name and the first subject alternative name. Borrowed for the
 *  identity's life; safe to print. */
const char *pfl_identity_text(const struct pfl_identity *id);

/** A strict name for federations, roles and nodes: 1 to PFL_NAME_MAX of a-z 0-9 . _ -, first and last a letter or digit. */
bool pfl_name_valid(const char *name);
/** node, coordinator or observer. */
bool pfl_role_valid(const char *role);

#endif
