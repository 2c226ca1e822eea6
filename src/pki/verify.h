/* SPDX-License-Identifier: Apache-2.0 */
/* The one verification of a certificate: TLS handshakes, `p2pfl cert verify` and checks of a node's own files all come here.
 * A certificate passes when a chain of at most PFL_CHAIN_MAX certificates leads to a root in ca.crt, every one of them is in
 * time, well signed and strong enough, and the leaf is not a CA, names somebody, serves the purpose and covers the host.
 * There is no way to turn a check off. Revocation is looked at where the caller has CRLs or asks for them: each certificate of the
 * chain but the root is looked for in the CRL of its issuer. */
#ifndef PFL_PKI_VERIFY_H
#define PFL_PKI_VERIFY_H

#include <stdint.h>

#include "base/err.h"
#include "pki/crl.h"
#include "pki/limits.h"
#include "pki/trust.h"

struct x509_st;       /* OpenSSL's X509 */
struct stack_st_X509; /* OpenSSL's STACK_OF(X509) */

enum pfl_purpose {
    PFL_PURPOSE_ANY, /* either is good: a certificate with an extended key usage needs serverAuth or clientAuth in it */
    PFL_PURPOSE_SERVER,
    PFL_PURPOSE_CLIENT,
};

/** What kind of refusal it was, for those who do more than tell it. */
enum pfl_verify_why {
    PFL_WHY_OTHER,
    PFL_WHY_REVOKED,
    PFL_WHY_NO_CRL, /* under crl_policy require: missing or stale */
    PFL_WHY_EXPIRED,
    PFL_WHY_NOT_YET_VALID,
};

struct pfl_verify_opts {
    enum pfl_purpose purpose;
    const char *host;               /* the name that was dialled, as in pfl_identity_covers_host; NULL: not checked */
    int64_t now;                    /* Unix seconds; 0: the system's clock */
    const struct pfl_crl_set *crls; /* NULL: none */
    enum pfl_crl_policy crl_policy; /* the default is prefer: crls are applied, and none need be there */
    enum pfl_verify_why *ret_why;   /* set after AUTH; may be NULL */
};

/** Verifies a leaf. `untrusted` (may be NULL) is what the peer sent along: the leaf may be in it. PFL_OK, or AUTH with the
 *  first reason in plain words: what was found, what is wanted, what to do. Names in it are quoted. Builds its own
 *  X509_STORE_CTX: for TLS call it from the callback of SSL_CTX_set_cert_verify_callback with
 *  X509_STORE_CTX_get0_cert and X509_STORE_CTX_get0_untrusted. The OpenSSL error queue is left empty. */
enum pfl_rc pfl_verify_x509(const struct pfl_trust *trust, struct x509_st *leaf, struct stack_st_X509 *untrusted,
                            const struct pfl_verify_opts *opts, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
