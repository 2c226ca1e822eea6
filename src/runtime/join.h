/* SPDX-License-Identifier: Apache-2.0 */
/* A new machine joins a federation: `p2pfl join`. Blocking, with a loop of its own. */
#ifndef PFL_RUNTIME_JOIN_H
#define PFL_RUNTIME_JOIN_H

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

struct pfl_join_opts {
    const char *target;   /* HOST:PORT of the CA's service */
    const char *token;    /* borrowed for the call; the caller wipes it */
    const char *ca_hash;  /* "sha256:<64 hex digits>": of the SubjectPublicKeyInfo of the CA's root */
    const char *dir;      /* the node's folder: not there yet, or empty */
    const char *address;  /* listened on and announced; NULL: the first granted name, port PFL_JOIN_PORT */
    const char *key;      /* as --key; NULL: p256 */
    const char *pin_file; /* for keys in a token; NULL: none */
    pfl_ns timeout;       /* of the whole, waiting for the operator included; 0: 10 min */
    /** Lines for the person who waits; may be NULL. */
    void (*say)(void *user, const char *line);
    void *user;
};
struct pfl_join_result { /* zero-initialised, owned */
    char *name, *federation, *role, *address;
    struct pfl_strs sans;
};
void pfl_join_result_deinit(struct pfl_join_result *r);
enum { PFL_JOIN_PORT = 6666, PFL_JOIN_CLOCK_WARN_S = 60 };
/** Writes dir/node.yaml and dir/certs/{ca.crt,server.crt,server.key,client.crt,client.key,crl.pem}: made in a folder beside dir and
 *  renamed, so after any error there is nothing. EXISTS, INVALID before anything is sent; AUTH the CA refused or is not the one
 *  pinned; TIMEOUT, UNAVAILABLE. */
enum pfl_rc pfl_join(const struct pfl_join_opts *opts, struct pfl_join_result *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** The offline way: dir with node.yaml and certs/{server,client}.{key,csr}; certificates are put beside them later. ca_service may
 *  be NULL. */
struct pfl_csr_folder_opts {
    const char *dir, *name, *federation, *address, *key, *pin_file, *ca_service;
    struct pfl_strs sans; /* borrowed */
};
enum pfl_rc pfl_csr_folder(const struct pfl_csr_folder_opts *opts, struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- join_folder.c, for join.c ---- */
struct pfl_node_folder {
    char *final, *temp, *certs; /* owned; temp is beside final, certs in temp */
};
enum pfl_rc pfl_node_folder_begin(const char *dir, struct pfl_node_folder *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** settings_yaml (may be NULL) is the federation's part of a node.yaml; what is about this node and its certificates is set here,
 *  whatever it says. */
struct pfl_node_yaml {
    const char *name, *federation, *address, *ca_service, *settings_yaml;
    const struct pfl_strs *connect; /* may be NULL */
    bool crl;                       /* certs/crl.pem is there */
};
enum pfl_rc pfl_node_folder_yaml(const struct pfl_node_folder *f, const struct pfl_node_yaml *y,
                                 struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_node_folder_commit(struct pfl_node_folder *f, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_node_folder_abandon(struct pfl_node_folder *f); /* removes what is not committed; for PFL_AUTO too */
/** "127.0.0.1:6666" of the first name. Owned. */
char *pfl_join_address_of(const struct pfl_strs *sans);

#endif
