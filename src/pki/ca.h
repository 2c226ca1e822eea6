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

#endif
