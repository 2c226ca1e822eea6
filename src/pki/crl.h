/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate revocation lists (RFC 5280 section 5): reading, verifying, and the set of the newest one of each issuer. All
 * immutable once verified, refcounted, safe to share between threads. Anyone may carry a CRL: only its signature counts.
 *
 * A CRL belongs to the key that signed it, not to a name: roots of one name with different keys (a roll-over) have a CRL each.
 * Only full CRLs are taken: no delta CRLs, no indirect ones, none for a part of an issuer's certificates. */
#ifndef PFL_PKI_CRL_H
#define PFL_PKI_CRL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "pki/limits.h"
#include "pki/trust.h"

struct x509_st;       /* OpenSSL's X509 */
struct stack_st_X509; /* OpenSSL's STACK_OF(X509) */

enum pfl_crl_policy {
    PFL_CRL_PREFER,  /* default: the newest CRL is applied; one that is missing or stale is reported, links stay */
    PFL_CRL_REQUIRE, /* no link without a CRL of the certificate's issuer that is in time (nextUpdate not passed) */
    PFL_CRL_OFF,     /* CRLs are not looked at; said loudly at the start */
};
static inline const char *pfl_crl_policy_name(enum pfl_crl_policy policy)
{
    return policy == PFL_CRL_REQUIRE ? "require" : policy == PFL_CRL_OFF ? "off" : "prefer";
}

struct pfl_crl;
/** One CRL from DER, or PEM. MALFORMED (delta, indirect and partial CRLs, critical extensions that are not known, and a signature
 *  algorithm that is too weak included), TOO_BIG. Nothing is verified yet. */
enum pfl_rc pfl_crl_parse(struct pfl_bytes in, struct pfl_crl **ret, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_crl *pfl_crl_ref(struct pfl_crl *c); /* accepts NULL */
void pfl_crl_unref(struct pfl_crl *c);          /* accepts NULL */
PFL_DEFINE_FREEP(crl, struct pfl_crl, pfl_crl_unref)
const char *pfl_crl_issuer(const struct pfl_crl *c);     /* RFC 2253, safe to print */
const char *pfl_crl_number_hex(const struct pfl_crl *c); /* cRLNumber, upper-case hex without leading zeros; "0" where absent */
/** For people: the number in decimal where it has at most 64 bits, else "0x" and hex. Borrowed for c's life. */
const char *pfl_crl_number_text(const struct pfl_crl *c);
int64_t pfl_crl_this_update(const struct pfl_crl *c); /* Unix seconds */
int64_t pfl_crl_next_update(const struct pfl_crl *c); /* INT64_MAX where absent */
size_t pfl_crl_n_revoked(const struct pfl_crl *c);
struct pfl_bytes pfl_crl_der(const struct pfl_crl *c); /* borrowed for c's life */

/** Signed by a root of `trust`, or by a CA certificate of `untrusted` (may be NULL: a node's own chain) that chains to one, with
 *  the right to sign CRLs; thisUpdate not in the future. NOT_FOUND where nobody of its issuer's name is known here, else AUTH,
 *  with the reason in words; a nextUpdate that has passed is no error here. Before c is shared: it remembers whose key it was. */
enum pfl_rc pfl_crl_verify(struct pfl_crl *c, const struct pfl_trust *trust, struct stack_st_X509 *untrusted, int64_t now,
                           struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_crl_set;
struct pfl_crl_set *pfl_crl_set_new(void);                  /* empty */
struct pfl_crl_set *pfl_crl_set_ref(struct pfl_crl_set *s); /* accepts NULL */
void pfl_crl_set_unref(struct pfl_crl_set *s);              /* accepts NULL */
PFL_DEFINE_FREEP(crl_set, struct pfl_crl_set, pfl_crl_set_unref)
size_t pfl_crl_set_n(const struct pfl_crl_set *s);                     /* 0 for NULL */
struct pfl_crl *pfl_crl_set_at(const struct pfl_crl_set *s, size_t i); /* borrowed for s's life; i < n */
/** Has the set this very CRL, byte by byte? */
bool pfl_crl_set_has(const struct pfl_crl_set *s, struct pfl_bytes der);
/** A new set with c (verified by the caller) in the place of its issuer's older one. EXISTS where the set has this very CRL, STATE
 *  where it has a newer one ("older than the one in use: number 3 of …, in use is 5"), TOO_BIG past PFL_CRL_SET_MAX. s may be
 *  NULL: the empty set. */
enum pfl_rc pfl_crl_set_with(const struct pfl_crl_set *s, struct pfl_crl *c, struct pfl_crl_set **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;
/** Every CRL of `more` that s lacks or has an older one of, put into s: a new set (owned; s again where nothing is new). ret_n_new
 * (may be NULL): how many; ret_older (may be NULL): set where s has a newer one of some, with the reason of the last. */
struct pfl_crl_set *pfl_crl_set_merge(struct pfl_crl_set *s, const struct pfl_crl_set *more, unsigned *ret_n_new,
                                      struct pfl_err *ret_older);
/** A file of PEM CRLs (or one DER): each is verified, the newest of each issuer is kept. A CRL of an issuer that is not known here
 *  is left out with a warning in the log (in a roll-over the file may be ahead of ca.crt); a file of nothing else is AUTH.
 *  NOT_FOUND, IO, and as above; the message names the file. */
enum pfl_rc pfl_crl_set_load(const char *path, const struct pfl_trust *trust, struct stack_st_X509 *untrusted, int64_t now,
                             struct pfl_crl_set **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The same from bytes. */
enum pfl_rc pfl_crl_set_parse(struct pfl_bytes in, const struct pfl_trust *trust, struct stack_st_X509 *untrusted, int64_t now,
                              struct pfl_crl_set **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** PEM, atomically, 0644. */
enum pfl_rc pfl_crl_set_save(const struct pfl_crl_set *s, const char *path, struct pfl_err *err) PFL_WARN_UNUSED;

/** What pfl_crl_set_check found. */
enum pfl_crl_found { PFL_CRL_GOOD, PFL_CRL_REVOKED, PFL_CRL_MISSING, PFL_CRL_STALE };
/** Looks for cert in the CRL of its issuer, whose certificate is `issuer`. PFL_OK, or AUTH: "revoked on <date> (<reason>) by CRL
 *  number N of 'CN=…'", or, under REQUIRE, that the issuer's CRL is missing or lapsed at <date>. s may be NULL: no CRL is there.
 *  *ret_found (may be NULL) is set in each case, under PREFER too: MISSING and STALE are PFL_OK there. */
enum pfl_rc pfl_crl_set_check(const struct pfl_crl_set *s, const struct x509_st *cert, const struct x509_st *issuer,
                              enum pfl_crl_policy policy, int64_t now, enum pfl_crl_found *ret_found,
                              struct pfl_err *err) PFL_WARN_UNUSED;
/** Earliest nextUpdate of the set; INT64_MAX where there is none. */
int64_t pfl_crl_set_next_update(const struct pfl_crl_set *s);

#endif
