/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts: immutable, refcounted, swapped whole. A context holds both of a node's identities (server and client
 * certificate), its trust and its limits. A file that is missing, unreadable, readable by others or does not fit its
 * certificate refuses the whole context: there is no way from here to plaintext. */
#ifndef PFL_TLS_CONTEXT_H
#define PFL_TLS_CONTEXT_H

#include <stdbool.h>

#include "base/err.h"
#include "base/mem.h"
#include "pki/crl.h"
#include "pki/identity.h"
#include "pki/verify.h"

struct pfl_tls_files {
    /** Paths, borrowed for the call. A key's may be a pkcs11: URI. */
    const char *ca_crt, *server_crt, *server_key, *client_crt, *client_key;
    const char *key_passphrase_file; /* NULL: keys are not encrypted */
    const char *key_pin_file;        /* for keys in a token without a pin-source; NULL: key_passphrase_file */
    bool tls12_allowed;              /* default: TLS 1.3 only */
    /** Where CRLs are read from; either may be NULL. crl is the operator's file: under REQUIRE it must be there or crl_kept must,
     * one that cannot be used refuses the context. crl_kept is what the program itself wrote last (a lost one is no error): the
     * newest of both counts, so an old file that is put back changes nothing. */
    const char *crl, *crl_kept;
    enum pfl_crl_policy crl_policy;
};
struct pfl_tls;
/** AUTH, NOT_FOUND, IO, MALFORMED; the message names the file, what is wrong and what to do. Own certificates that are out of time
 *  or do not chain to ca_crt are loaded with a warning in the log (peers will refuse them). */
enum pfl_rc pfl_tls_new(const struct pfl_tls_files *files, struct pfl_tls **ret, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_tls *pfl_tls_ref(struct pfl_tls *t);
void pfl_tls_unref(struct pfl_tls *t); /* accepts NULL */
PFL_DEFINE_FREEP(tls, struct pfl_tls, pfl_tls_unref)
/** Own identities, borrowed for the context's life. */
struct pfl_identity *pfl_tls_server_identity(const struct pfl_tls *t);
struct pfl_identity *pfl_tls_client_identity(const struct pfl_tls *t);

/* ---- contexts of and for a CA service (service.c) ---- */

struct x509_st;
struct stack_st_X509;
struct evp_pkey_st;
struct pfl_tls_service {
    struct x509_st *crt;         /* the service's own certificate; references are taken of all of these */
    struct stack_st_X509 *chain; /* what is sent behind it: intermediates, and the root, for those who pin its key */
    struct evp_pkey_st *key;
    struct pfl_trust *trust;  /* the roots of the federation */
    int64_t expired_window_s; /* how long ago a client certificate may have expired; 0: not at all. Nothing else is forgiven */
};
/** A server's context where a client may come without a certificate: peer.identity is then NULL, and the handlers decide. One that
 *  is offered must be good. TLS 1.2 is spoken too and HTTP/1.1 where a client offers no h2: for EST clients. Has no client side. */
enum pfl_rc pfl_tls_new_service(const struct pfl_tls_service *opts, struct pfl_tls **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** A client's context without a certificate for a machine that knows the CA only by the SHA-256 of its root's SubjectPublicKeyInfo:
 *  a server passes when it sends a root with that key along, its chain leads there, and it covers the host that was dialled and has
 *  the role "ca". Nothing of a request leaves before. Has no server side. */
enum pfl_rc pfl_tls_new_pinned(const uint8_t spki_sha256[32], struct pfl_tls **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- revocation ---- */

/** What CRLs are verified against, borrowed for the context's life. */
const struct pfl_trust *pfl_tls_trust(const struct pfl_tls *t);
struct pfl_crl_set *pfl_tls_crls(const struct pfl_tls *t); /* borrowed; never NULL, may be empty */
enum pfl_crl_policy pfl_tls_crl_policy(const struct pfl_tls *t);
/** Parses and verifies a CRL from anywhere by t's roots and the intermediates of its own chains, and puts it into the place of its
 *  issuer's older one in the set that it gives back (owned). As pfl_crl_parse, pfl_crl_verify and pfl_crl_set_with; EXISTS where
 *  t has it. now: Unix seconds. Safe on any thread. */
enum pfl_rc pfl_tls_crl_accept(const struct pfl_tls *t, struct pfl_bytes crl, int64_t now, struct pfl_crl_set **ret,
                               struct pfl_err *err) PFL_WARN_UNUSED;
/** The same for all CRLs of a file's bytes (PEM or one DER); those that t has, or has newer ones of, change nothing. EXISTS where
 *  that leaves nothing new, STATE where some were older and none was newer. */
enum pfl_rc pfl_tls_crls_accept(const struct pfl_tls *t, struct pfl_bytes crls, int64_t now, struct pfl_crl_set **ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;
/** A new context (one reference) that shares everything with t but the CRLs; a reference is taken of set. */
struct pfl_tls *pfl_tls_with_crls(struct pfl_tls *t, struct pfl_crl_set *set);
/** For a context made anew from files: with the newer ones of old's CRLs and old's policy (a reference, or a new context). */
struct pfl_tls *pfl_tls_inherit_crls(struct pfl_tls *fresh, const struct pfl_tls *old);
/** What peers say of this node's own certificates, by t's roots and CRLs: AUTH with the file's role and the reason. ret_why (may
 *  be NULL) tells a revocation from the rest. now: Unix seconds. */
enum pfl_rc pfl_tls_check_own(const struct pfl_tls *t, int64_t now, enum pfl_verify_why *ret_why,
                              struct pfl_err *err) PFL_WARN_UNUSED;

#endif
