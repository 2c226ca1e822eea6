/* SPDX-License-Identifier: Apache-2.0 */
/* CRLs of any shape for unit tests. Failures in here end the test. */
#ifndef PFL_TESTS_CRLS_H
#define PFL_TESTS_CRLS_H

#include "base/bytes.h"
#include "support/certs.h"

struct test_crl_spec {
    const char *number;            /* decimal; NULL: no cRLNumber */
    int64_t this_update;           /* Unix seconds */
    int64_t next_update;           /* 0: none */
    X509 *const *revoked;          /* ended by NULL; may be NULL */
    int64_t revoked_at;            /* 0: this_update */
    int reason;                    /* CRL_REASON_...; -1: none */
    const char *const *exts;       /* further extensions as in openssl.cnf, ended by NULL */
    const char *const *entry_exts; /* of each entry */
    const EVP_MD *md;              /* NULL: SHA-256 */
    EVP_PKEY *key;                 /* who signs; NULL: the issuer */
    unsigned n_filler;             /* this many entries of serials that nobody has */
};
/* DER, owned by the caller: pfl_buf_deinit. */
struct pfl_buf test_crl_make(const struct test_crl_spec *spec, const struct test_cert *issuer);
/* Appends it as PEM to a file. */
void test_crl_append(const char *path, const struct pfl_buf *der);

#endif
