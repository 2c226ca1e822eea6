/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures over messages by the keys of a context: what the node writes it signs as the client that it is in TLS, and what others
 * wrote is checked as their client certificate would be in a handshake: the one verification, with the same roots and CRLs. */
#ifndef PFL_TLS_ORIGIN_H
#define PFL_TLS_ORIGIN_H

#include "base/bytes.h"
#include "base/clock.h"
#include "tls/context.h"

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */

/** Appends the client key's signature of text to out. IO. On any thread. */
enum pfl_rc pfl_tls_sign(const struct pfl_tls *t, struct pfl_bytes text, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** Is that a matter of microseconds? */
bool pfl_tls_signs_fast(const struct pfl_tls *t);
/** The client certificate and its intermediates in DER, each appended to its buffer, leaf first. How many; max at most. */
size_t pfl_tls_client_chain(const struct pfl_tls *t, struct pfl_buf *certs, size_t max);

/** An author's certificate as this context judges it. Immutable, refcounted. */
struct pfl_author {
    atomic_uint refs;
    uint8_t fingerprint[32];       /* SHA-256 of the leaf */
    struct pfl_identity *identity; /* owned; NULL where rc is not OK */
    struct evp_pkey_st *key;       /* the same */
    enum pfl_rc rc;                /* AUTH: the certificate is refused */
    char why[PFL_ERR_MAX];
    pfl_ns checked_at; /* monotonic */
};
/** Verifies the chain (leaf first, DER) as a client's at `now` (Unix seconds). Never NULL; one reference. On any thread. */
struct pfl_author *pfl_author_check(const struct pfl_tls *t, const struct pfl_buf *certs, size_t n, int64_t now);
/** Is this a's signature of the text? a->rc is OK. On any thread. */
bool pfl_author_signed(const struct pfl_author *a, struct pfl_bytes text, struct pfl_bytes signature);
struct pfl_author *pfl_author_ref(struct pfl_author *a); /* accepts NULL */
void pfl_author_unref(struct pfl_author *a);             /* accepts NULL */
PFL_DEFINE_FREEP(author, struct pfl_author, pfl_author_unref)

#endif
