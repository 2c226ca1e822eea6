/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate authority in a folder: ca.key (encrypted, 0600), ca.crt, the register ca.db, and made from it bundle.pem (the roots
 * that members trust) and crl.pem. A folder is written whole or not at all, and no key or certificate is ever overwritten. The
 * federation's name stands in the root as a URI subject alternative name, spiffe://<federation>, so that ca.crt alone says whom it
 * vouches for. */
#ifndef PFL_PKI_CA_H
#define PFL_PKI_CA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "pki/passphrase.h"

struct x509_st; /* OpenSSL's X509 */

enum {
    PFL_CA_DAYS_DEFAULT = 1024,
    PFL_NODE_DAYS_DEFAULT = 500,
    PFL_DAYS_MAX = 7300,
    PFL_BACKDATE_S = 300 /* notBefore lies this far in the past, for clocks that are a little slow */
};

struct pfl_ca_opts {
    const char *name;       /* the root's common name; NULL: "<federation> CA" */
    const char *federation; /* NULL: "p2pfl" */
    const char *key;        /* as pfl_key_make, so a pkcs11: URI too; NULL: "p256" */
    int days;               /* 0: PFL_CA_DAYS_DEFAULT */
    int64_t now;            /* Unix seconds; 0: the system's clock */
    bool offline;           /* a root that signs intermediates only and is kept away from the network */
    const char *actor;      /* NULL: pfl_ca_operator */
};
/** Makes dir (0700; its parents too) with a new root in it: ca.key ca.crt ca.db bundle.pem crl.pem. passphrase NULL leaves ca.key
 *  unencrypted: for the throw-away CA of one run only. For a key in a token it is the PIN, and ca.key says where the key is. EXISTS
 * where dir has one of these. After an error nothing is left. */
enum pfl_rc pfl_ca_init(const char *dir, const struct pfl_ca_opts *opts, const struct pfl_passphrase *passphrase,
                        struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_ca;
/** AUTH for a wrong or missing passphrase, a key that others can read, or one that is not ca.crt's; STATE where an intermediate CA
 *  waits for its certificate. A folder from before the register (ca.key and ca.crt only) gets one here, which is logged. One thread
 *  at a time; a process may open it more than once, and others may have it open too: what they change is seen in the next call. */
enum pfl_rc pfl_ca_open(const char *dir, const struct pfl_passphrase *passphrase, struct pfl_ca **ret,
                        struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_ca_close(struct pfl_ca *ca); /* accepts NULL */
PFL_DEFINE_FREEP(ca, struct pfl_ca, pfl_ca_close)
const char *pfl_ca_federation(const struct pfl_ca *ca); /* "p2pfl" where the root names none */
struct x509_st *pfl_ca_root(const struct pfl_ca *ca);   /* the active one; borrowed for ca's life */
/** Is the key that signs in dir encrypted, so that a passphrase is needed to open the CA? False where that cannot be found out:
 *  pfl_ca_open says why. */
bool pfl_ca_key_encrypted(const char *dir);
/** "operator <login>" of this process, for the register and the audit log. */
void pfl_ca_operator(char out[80]);

struct pfl_issue_opts {
    const char *name;                            /* the node's, as pfl_name_valid */
    const char *role;                            /* NULL: "node" */
    const char *key;                             /* NULL: "p256" */
    struct pfl_strs sans;                        /* "IP:127.0.0.1", "DNS:a.example"; at least one. Borrowed */
    int days;                                    /* 0: PFL_NODE_DAYS_DEFAULT; cut where the issuer ends */
    int64_t lifetime_s;                          /* not 0: instead of days */
    const char *actor;                           /* NULL: pfl_ca_operator */
    int64_t now;                                 /* Unix seconds; 0: the system's clock */
    const struct pfl_passphrase *key_passphrase; /* NULL: server.key and client.key are not encrypted (0600 all the same) */
};
/** Writes ca.crt server.key server.crt client.key client.crt into outdir (made 0700 where it is not there). EXISTS where one of the
 *  five is there already; after any error none of them is. The certificates are in the register before they are in a file; where
 *  the files then cannot be written they are revoked there (cessationOfOperation), since nobody has their keys. */
enum pfl_rc pfl_ca_issue(const struct pfl_ca *ca, const struct pfl_issue_opts *opts, const char *outdir,
                         struct pfl_err *err) PFL_WARN_UNUSED;

/** "IP:…" or "DNS:…" checked and put in canonical form. *ret is owned. INVALID with the reason. */
enum pfl_rc pfl_san_parse(const char *text, char **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- the register, requests, revocation (one CA folder: ca.key ca.crt ca.db crl.pem bundle.pem) ---- */

struct pfl_csr;
struct pfl_register;
struct stack_st_X509;

struct pfl_register *pfl_ca_register(const struct pfl_ca *ca); /* borrowed for ca's life */
/** The roots that members trust: one, or several while a root is rolled over. Borrowed for ca's life. */
struct stack_st_X509 *pfl_ca_bundle(const struct pfl_ca *ca);
/** What goes behind each leaf: the intermediate that signed it; empty where the root signs by itself. Borrowed. */
struct stack_st_X509 *pfl_ca_chain(const struct pfl_ca *ca);

/** What other processes did to the register since the last look: issuers and keys are read again, and the PEM files beside it are
 *  made again where they differ (who changed it may have been killed before it wrote them). One short read where nothing happened,
 *  so it may be called for each connection. Not inside a transaction. After an error the next call looks again. */
enum pfl_rc pfl_ca_follow(struct pfl_ca *ca, struct pfl_err *err) PFL_WARN_UNUSED;
/** Inside a transaction: AUTH where the issuer with this fingerprint (of a register's row) is none that members trust any more: its
 *  root was rolled over. */
enum pfl_rc pfl_ca_check_issuer(const struct pfl_ca *ca, const char *issuer_fingerprint, struct pfl_err *err) PFL_WARN_UNUSED;

/** What a certificate will say. The request adds its key and nothing else. */
struct pfl_grant {
    const char *name;     /* as pfl_name_valid */
    const char *role;     /* node, coordinator, observer; "ca" for the CA's own service */
    struct pfl_strs sans; /* "IP:…", "DNS:…"; at least one. Borrowed */
    const char *purpose;  /* "serverAuth" or "clientAuth"; "serverAuth,clientAuth" for clients that want one for both */
    int64_t lifetime_s;   /* 0: PFL_NODE_DAYS_DEFAULT days; cut where the issuer ends */
    int64_t now;          /* Unix seconds; 0: the system's clock */
    const char *actor;    /* never NULL: who asked, for register and audit log: "operator root", "token 12", "spiffe://…" */
    const char *action;   /* audit log: "issue", "sign", "enrol", "renew" */
    int64_t token_id;     /* 0: none */
};
/** Signs a request within a grant. AUTH, naming each excess, where the request asks for more than the grant gives: other names,
 * CA:TRUE, a role, a purpose. A request that asks for nothing or for less gets the grant. Reserved in the register, signed,
 * registered, then returned (owned): never the other way round. Inside a transaction of the caller's (pfl_register_begin of
 * pfl_ca_register) it becomes part of that: nothing may leave the process before the commit, and after an error the caller rolls
 * back. Otherwise it has a transaction of its own. notBefore lies PFL_BACKDATE_S in the past, a tenth of the lifetime at most. */
enum pfl_rc pfl_ca_sign(const struct pfl_ca *ca, const struct pfl_csr *csr, const struct pfl_grant *grant, struct x509_st **ret,
                        struct pfl_err *err) PFL_WARN_UNUSED;

/** Revokes every valid certificate of a node (by name; those that have expired where none is in time) or one (by serial), writes a
 *  new CRL. *ret_n: how many. NOT_FOUND, STATE
 *  (none of them is valid any more), INVALID (a reason that RFC 5280 does not have or that cannot be kept here: certificateHold,
 *  removeFromCRL), UNSUPPORTED (a root: it is rolled over). */
enum pfl_rc pfl_ca_revoke(const struct pfl_ca *ca, const char *name_or_serial, const char *reason, const char *actor, size_t *ret_n,
                          struct pfl_err *err) PFL_WARN_UNUSED;
enum { PFL_CRL_LIFETIME_DEFAULT_S = 7 * 24 * 3600, PFL_CRL_LIFETIME_OFFLINE_S = 365 * 24 * 3600 };
/** A fresh CRL (next number, thisUpdate now) of each key of this CA that members trust into DIR/crl.pem, atomically. Numbers grow
 *  with every CRL and are never below the clock's seconds, so a register from a backup does not fall behind what nodes have seen.
 *  lifetime_s 0: as the last time, at first the default. A certificate leaves the CRL a week after its expiry. */
enum pfl_rc pfl_ca_make_crl(const struct pfl_ca *ca, int64_t lifetime_s, const char *actor, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
