/* SPDX-License-Identifier: Apache-2.0 */
/* The roots that a node trusts: what its ca.crt holds. Immutable, refcounted, safe to share between threads. */
#ifndef PFL_PKI_TRUST_H
#define PFL_PKI_TRUST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

struct x509_st;       /* OpenSSL's X509 */
struct stack_st_X509; /* OpenSSL's STACK_OF(X509) */
struct x509_store_st; /* OpenSSL's X509_STORE */

struct pfl_trust;
/** Reads ca.crt: one or more CA certificates in PEM. *ret is owned (one reference). NOT_FOUND, IO, TOO_BIG, MALFORMED, or AUTH
 * where one of them is no root CA certificate or is too weak (the message names the file and the certificate). A root out of time
 * is loaded: it is refused when something is verified with it, with that reason. */
enum pfl_rc pfl_trust_load(const char *path, struct pfl_trust **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The same of certificates at hand (at least one, each a root); references are taken of them. AUTH, MALFORMED. */
enum pfl_rc pfl_trust_of_certs(const struct stack_st_X509 *roots, struct pfl_trust **ret, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_trust *pfl_trust_ref(struct pfl_trust *t); /* accepts NULL */
void pfl_trust_unref(struct pfl_trust *t);            /* accepts NULL */
PFL_DEFINE_FREEP(trust, struct pfl_trust, pfl_trust_unref)

size_t pfl_trust_n_roots(const struct pfl_trust *t);
struct x509_st *pfl_trust_root(const struct pfl_trust *t, size_t i); /* borrowed for t's life; i < n_roots */
/** The same roots in the same order? */
bool pfl_trust_same(const struct pfl_trust *a, const struct pfl_trust *b);
/** "'CN=p2pfl CA' and 'CN=other'": the roots' subjects for messages, at most about 450 bytes. Borrowed for t's life. */
const char *pfl_trust_text(const struct pfl_trust *t);
struct x509_store_st *pfl_trust_store(const struct pfl_trust *t); /* borrowed for t's life */
/** The federation that a root names in its SPIFFE ID; NULL where it names none or is not one of t's. */
const char *pfl_trust_federation(const struct pfl_trust *t, const struct x509_st *root);

/** AUTH for a key or a signature digest that is too weak, with the reason. The certificate itself is not named. */
enum pfl_rc pfl_trust_check_strength(struct x509_st *cert, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
