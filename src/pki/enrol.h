/* SPDX-License-Identifier: Apache-2.0 */
/* What a CA's service decides: who gets certificates for a token, for an approved request, or for the certificate that it has.
 * One transaction covers looking at the token, signing, and marking it used: a crash leaves an unused token, or certificates that
 * the same keys can fetch again with the same token while it lives. No I/O but the register's. */
#ifndef PFL_PKI_ENROL_H
#define PFL_PKI_ENROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"
#include "pki/ca.h"
#include "pki/identity.h"

struct x509_st;
struct stack_st_X509;
struct evp_pkey_st;

struct pfl_enrol_ask {
    const char *token;                       /* enrolment only */
    const char *user;                        /* EST: must be the token's name; NULL: not given */
    struct pfl_bytes server_csr, client_csr; /* DER or PEM. client_csr empty: one certificate (EST), for the purposes that the
                                                CSR asks for, or for both */
    const struct pfl_identity *peer;         /* renewal only: from the verified client certificate */
    const char *remote;                      /* for the operator: "192.0.2.7:53422" */
    int64_t lifetime_s;                      /* of certificates where the token says nothing, and at most for renewals */
    bool approve;                            /* the operator decides */
    int64_t now;                             /* Unix seconds */
};

struct pfl_enrol_answer { /* zero-initialised, owned */
    bool pending;
    char *request_id;                /* pending: the secret to poll with */
    struct x509_st *server, *client; /* client NULL where one was asked for */
    char *name, *role;
    struct pfl_strs sans;
    int64_t lifetime_s;
};
void pfl_enrol_answer_deinit(struct pfl_enrol_answer *a);

/** NOT_FOUND: no such token; a guess. AUTH: it expired, was used or revoked, was denied, has another name, or the CSRs ask for more
 *  than it grants. MALFORMED, TOO_BIG: the CSRs. UNAVAILABLE, IO: the register. */
enum pfl_rc pfl_enrol(const struct pfl_ca *ca, const struct pfl_enrol_ask *ask, struct pfl_enrol_answer *ret,
                      struct pfl_err *err) PFL_WARN_UNUSED;
/** NOT_FOUND: no such request; a guess. AUTH: denied. */
enum pfl_rc pfl_enrol_poll(const struct pfl_ca *ca, const char *request_id, int64_t lifetime_s, int64_t now,
                           struct pfl_enrol_answer *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** AUTH: a certificate that the register does not know, or as revoked, or that is a CA's or its service's. Name, role and names are
 *  those of the present certificate, the lifetime at most its own. */
enum pfl_rc pfl_enrol_renew(const struct pfl_ca *ca, const struct pfl_enrol_ask *ask, struct pfl_enrol_answer *ret,
                            struct pfl_err *err) PFL_WARN_UNUSED;
/** The service's own certificate: a fresh key, role "ca", through the register like any other. chain: what is sent behind it, the
 *  root included, for those who know the CA by the hash of its key. All three are owned. */
struct pfl_service_identity {
    struct x509_st *crt;
    struct stack_st_X509 *chain;
    struct evp_pkey_st *key;
};
enum pfl_rc pfl_enrol_service_identity(const struct pfl_ca *ca, const struct pfl_strs *sans, int64_t lifetime_s, int64_t now,
                                       struct pfl_service_identity *ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_service_identity_deinit(struct pfl_service_identity *s);
/** "sha256:<hex>" of the key of the root that the CA works under: what --ca-hash takes. */
void pfl_enrol_ca_hash(const struct pfl_ca *ca, char out[72]);
/** An audit entry "refuse"; the caller sees to it that there are not too many. Best effort: a full disk is only logged. */
void pfl_enrol_note_refusal(const struct pfl_ca *ca, const char *actor, const char *subject, const char *detail);

#endif
