/* SPDX-License-Identifier: Apache-2.0 */
/* What a new node makes for itself, its two key pairs with their requests, and what it gets for them, looked at before any of it
 * is written: it was asked for from a machine that knew nothing but the hash of a key. */
#ifndef PFL_PKI_NODE_FILES_H
#define PFL_PKI_NODE_FILES_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"
#include "pki/identity.h"

struct evp_pkey_st;

struct pfl_node_keys {                     /* zero-initialised */
    struct evp_pkey_st *server, *client;   /* owned */
    struct pfl_buf server_csr, client_csr; /* DER */
    bool kept;                             /* set where a folder names the keys: false takes those made in a token out again */
};
void pfl_node_keys_deinit(struct pfl_node_keys *k); /* for PFL_AUTO too */
/** key: as --key (NULL: p256); pin_file: for keys in a token, or NULL. name and sans: what the requests say; NULL: nothing, a token
 *  says it all. INVALID, and as pfl_key_make. */
enum pfl_rc pfl_node_keys_make(const char *name, const struct pfl_strs *sans, const char *key, const char *pin_file,
                               struct pfl_node_keys *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** SHA-256 of a request's public key, as `p2pfl ca approve` shows it: "sha256:<hex>". MALFORMED. */
enum pfl_rc pfl_node_keys_fingerprint(struct pfl_bytes csr, char out[72], struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_node_certs {                                               /* everything borrowed; DER */
    const struct pfl_buf *server_chain, *client_chain, *roots, *crls; /* arrays; chains leaf first */
    size_t n_server_chain, n_client_chain, n_roots, n_crls;
    const char *federation, *name, *role; /* who the CA says that it is */
    const struct pfl_strs *sans;          /* as granted */
    const uint8_t *pin;                   /* 32 bytes: the key that one of the roots must have */
    int64_t now;                          /* Unix seconds */
};
/** AUTH, MALFORMED naming what does not fit: no root has the pinned key, a chain leads to no root, a key is another, the names are
 *  not those that were granted, a CRL is not signed by the CA or revokes the node already. */
enum pfl_rc pfl_node_certs_check(const struct pfl_node_keys *keys, const struct pfl_node_certs *certs,
                                 struct pfl_err *err) PFL_WARN_UNUSED;
/** The text of a ca.crt: the roots between two comment lines. Where `present` (a ca.crt's text; may be empty) has those lines, what
 *  stands between them is replaced and the rest is kept: roots that are not the CA's to give and take. MALFORMED, TOO_BIG. */
enum pfl_rc pfl_node_roots_pem(struct pfl_bytes present, const struct pfl_buf *roots, size_t n, struct pfl_buf *out,
                               struct pfl_err *err) PFL_WARN_UNUSED;
/** Into dir, which exists: ca.crt server.crt server.key client.crt client.key crl.pem, each new, keys 0600. EXISTS, IO. */
enum pfl_rc pfl_node_files_write(const char *dir, const struct pfl_node_keys *keys, const struct pfl_node_certs *certs,
                                 struct pfl_err *err) PFL_WARN_UNUSED;
/** The offline way: server.key client.key server.csr client.csr (PEM). */
enum pfl_rc pfl_node_requests_write(const char *dir, const struct pfl_node_keys *keys, struct pfl_err *err) PFL_WARN_UNUSED;
/** How far this machine's clock is ahead of the CA's (negative: behind), in seconds, as a certificate tells that was issued just
 *  now. */
int64_t pfl_node_certs_clock_ahead(const struct pfl_node_certs *certs);

#endif
