/* SPDX-License-Identifier: Apache-2.0 */
/* The forms that EST (RFC 7030) speaks in: "certs-only" PKCS#7 messages and base64. */
#ifndef PFL_PKI_EST_H
#define PFL_PKI_EST_H

#include "base/bytes.h"
#include "base/err.h"

struct x509_st;

/** A degenerate SignedData without signatures that holds the certificates (borrowed), DER, appended (RFC 5272, 3.1). */
void pfl_est_certs_only(struct x509_st *const *certs, size_t n, struct pfl_buf *out);
/** One line without an end (RFC 4648; RFC 8951 wants no line breaks, and strongSwan's client can read none), appended. */
void pfl_base64_encode(struct pfl_bytes in, struct pfl_buf *out);
/** Blanks and line ends are skipped; everything else must be base64 with its padding. MALFORMED; appended to out, whose limit
 *  holds. */
enum pfl_rc pfl_base64_decode(struct pfl_bytes in, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
