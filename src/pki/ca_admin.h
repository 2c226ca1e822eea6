/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator does with a CA now and then: an intermediate under a root that is kept offline, a new root in the place of the
 * old one, certificates that the register does not know, and the proof of the audit log. Each is one transaction of the register;
 * the files beside it follow, at once or at the next open. */
#ifndef PFL_PKI_CA_ADMIN_H
#define PFL_PKI_CA_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"
#include "pki/ca.h"
#include "pki/register.h"

/* ---- an intermediate under an offline root ---- */

/** Makes dir with ca.key and ca.csr: an online CA that waits for a root's signature. Of opts: name (NULL: "<federation> issuing
 *  CA"), federation, key. EXISTS as pfl_ca_init. */
enum pfl_rc pfl_ca_init_intermediate(const char *dir, const struct pfl_ca_opts *opts, const struct pfl_passphrase *passphrase,
                                     struct pfl_err *err) PFL_WARN_UNUSED;
/** A root signs an intermediate's request: CA:TRUE, pathlen 0. lifetime_s 0: PFL_CA_DAYS_DEFAULT days; cut where the root ends.
 *  *ret_pem: what the online folder needs, for pfl_ca_install: the certificate, the roots and their revocation lists. AUTH where
 *  the request is no CA's or asks for names; STATE where ca is an intermediate itself. */
enum pfl_rc pfl_ca_sign_intermediate(const struct pfl_ca *ca, const struct pfl_csr *csr, int64_t lifetime_s, const char *actor,
                                     struct pfl_buf *ret_pem, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_install_report {
    size_t n_intermediates, n_roots, n_crls; /* taken from the files */
    bool revoked;                            /* a root's list says that this CA's own certificate is revoked */
};
/** Puts what came from the root into an intermediate's folder: certificate, roots, revocation lists, in any number of PEM
 *  texts joined. The first time certificate and root are needed; later any of them. Roots in it replace the bundle, which must keep
 *  the root of the certificate in use. AUTH for a certificate of another key, one that no root in the bundle has signed, a list
 *  with a bad signature; STATE for a list older than the one here, or where dir is a root's folder. */
enum pfl_rc pfl_ca_install(const char *dir, struct pfl_bytes pem, const struct pfl_passphrase *passphrase, const char *actor,
                           struct pfl_install_report *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- a new root ---- */

/** A new root beside the old one: bundle.pem has both, the old one goes on signing. Of opts: name (NULL: "<federation> CA <n>"),
 *  key, days, now. STATE where a roll-over is under way or ca is an intermediate (its root is rolled over where its key is). */
enum pfl_rc pfl_ca_rollover_prepare(const struct pfl_ca *ca, const struct pfl_ca_opts *opts, const char *actor,
                                    struct pfl_err *err) PFL_WARN_UNUSED;
/** The new root signs from now on; the old one signs revocation lists only. */
enum pfl_rc pfl_ca_rollover_activate(const struct pfl_ca *ca, const char *actor, struct pfl_err *err) PFL_WARN_UNUSED;
/** The old root leaves the bundle. STATE, naming the first ones and their number, while certificates of it are valid, unless
 *  `force`. */
enum pfl_rc pfl_ca_rollover_finish(const struct pfl_ca *ca, bool force, const char *actor, struct pfl_err *err) PFL_WARN_UNUSED;

/** One root or intermediate, for showing. */
struct pfl_issuer_info {
    const char *kind, *state; /* "root", "intermediate"; "next", "active", "retiring", "retired" */
    const char *fingerprint;  /* of its public key */
    const char *key_file;     /* "" where its key is not in this folder */
    struct x509_st *cert;
    int64_t n_valid; /* certificates by it that are valid and in time */
};
/** All, oldest first; borrowed for the call. No key is needed. */
enum pfl_rc pfl_ca_issuers_each(struct pfl_register *reg, bool (*fn)(void *user, const struct pfl_issuer_info *info), void *user,
                                struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- the register ---- */

/** Puts a certificate that this CA signed before it had a register into it; one that is there already is fine. AUTH where none of
 *  the CA's keys signed it. serial_hex: its serial. */
enum pfl_rc pfl_ca_adopt(const struct pfl_ca *ca, struct x509_st *cert, const char *actor, char serial_hex[PFL_SERIAL_HEX_MAX + 1],
                         struct pfl_err *err) PFL_WARN_UNUSED;
/** pfl_audit_verify, with the seal held against the CA's certificates. No key is needed. */
enum pfl_rc pfl_ca_audit_verify(struct pfl_register *reg, const char *expect, struct pfl_audit_report *ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;

#endif
