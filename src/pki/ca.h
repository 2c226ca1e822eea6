/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate authority in a folder: ca.key (encrypted, 0600) and ca.crt, and the certificates that it issues to nodes.
 * A folder is written whole or not at all, and nothing that exists is ever overwritten. The federation's name stands in the root as
 * a URI subject alternative name, spiffe://<federation>, so that ca.crt alone says whom it vouches for. */
#ifndef PFL_PKI_CA_H
#define PFL_PKI_CA_H

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
    const char *key;        /* as pfl_key_generate; NULL: "p256" */
    int days;               /* 0: PFL_CA_DAYS_DEFAULT */
    int64_t now;            /* Unix seconds; 0: the system's clock */
};
/** Makes dir (0700; its parents too) with a new root in it. passphrase NULL leaves ca.key unencrypted: for the throw-away CA of one
 *  run only. EXISTS where dir has a ca.key or ca.crt. */
enum pfl_rc pfl_ca_init(const char *dir, const struct pfl_ca_opts *opts, const struct pfl_passphrase *passphrase,
                        struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_ca;
/** AUTH for a wrong or missing passphrase, a key that others can read, or one that is not ca.crt's. */
enum pfl_rc pfl_ca_open(const char *dir, const struct pfl_passphrase *passphrase, struct pfl_ca **ret,
                        struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_ca_close(struct pfl_ca *ca); /* accepts NULL */
PFL_DEFINE_FREEP(ca, struct pfl_ca, pfl_ca_close)
const char *pfl_ca_federation(const struct pfl_ca *ca); /* "p2pfl" where the root names none */
struct x509_st *pfl_ca_root(const struct pfl_ca *ca);   /* borrowed for ca's life */

struct pfl_issue_opts {
    const char *name;                            /* the node's, as pfl_name_valid */
    const char *role;                            /* NULL: "node" */
    const char *key;                             /* NULL: "p256" */
    struct pfl_strs sans;                        /* "IP:127.0.0.1", "DNS:a.example"; at least one. Borrowed */
    int days;                                    /* 0: PFL_NODE_DAYS_DEFAULT; cut where the root ends */
    int64_t now;                                 /* Unix seconds; 0: the system's clock */
    const struct pfl_passphrase *key_passphrase; /* NULL: server.key and client.key are not encrypted (0600 all the same) */
};
/** Writes ca.crt server.key server.crt client.key client.crt into outdir (made 0700 where it is not there). EXISTS where one of the
 *  five is there already; after any error none of them is. */
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

/** What a certificate will say. The request adds its key and nothing else. */
struct pfl_grant {
    const char *name;     /* as pfl_name_valid */
    const char *role;     /* node, coordinator, observer; "ca" for the CA's own service */
    struct pfl_strs sans; /* "IP:…", "DNS:…"; at least one. Borrowed */
    const char *purpose;  /* "serverAuth" or "clientAuth" */
    int64_t lifetime_s;   /* 0: PFL_NODE_DAYS_DEFAULT days; cut where the issuer ends */
    int64_t now;          /* Unix seconds; 0: the system's clock */
    const char *actor;    /* who asked, for register and audit log: "operator root", "token 12", "spiffe://…" */
    const char *action;   /* audit log: "issue", "sign", "enrol", "renew" */
    int64_t token_id;     /* 0: none */
};
/** Signs a request within a grant. AUTH, naming each excess, where the request asks for more than the grant gives: other names,
 * CA:TRUE, a role, a purpose. A request that asks for nothing or for less gets the grant. Reserved in the register, signed,
 * registered, then returned (owned): never the other way round. */
enum pfl_rc pfl_ca_sign(const struct pfl_ca *ca, const struct pfl_csr *csr, const struct pfl_grant *grant, struct x509_st **ret,
                        struct pfl_err *err) PFL_WARN_UNUSED;

/** Revokes every valid certificate of a node (by name) or one (by serial), writes a new CRL. *ret_n: how many. NOT_FOUND, INVALID
 *  (a reason that RFC 5280 does not have). */
enum pfl_rc pfl_ca_revoke(const struct pfl_ca *ca, const char *name_or_serial, const char *reason, const char *actor, size_t *ret_n,
                          struct pfl_err *err) PFL_WARN_UNUSED;
enum { PFL_CRL_LIFETIME_DEFAULT_S = 7 * 24 * 3600 };
/** A fresh CRL (next number, thisUpdate now) of each key of this CA that has signed certificates still in time into DIR/crl.pem,
 *  atomically. lifetime_s 0: the default. */
enum pfl_rc pfl_ca_make_crl(const struct pfl_ca *ca, int64_t lifetime_s, const char *actor, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
