/* SPDX-License-Identifier: Apache-2.0 */
/* node.yaml: one node. Paths in it are relative to the file's folder. */
#ifndef PFL_CONFIG_NODE_CONFIG_H
#define PFL_CONFIG_NODE_CONFIG_H

#include "config/settings.h"
#include "pki/policy.h"

/** `ca:`, the CA service of the federation. */
struct pfl_ca_config {
    char *service;   /* HOST:PORT; owned or NULL: there is none */
    pfl_ns poll;     /* how often it is asked for newer CRLs, 60 s */
    bool renew;      /* certificates in time, at that service; true */
    double renew_at; /* the share of their life after which, 0.67; 0.05 to 0.95 */
    bool same_keys;  /* key: same; false: fresh ones at each renewal */
    pfl_ns look;     /* how often certificate files are looked at beside being watched, 10 s */
};

struct pfl_node_config {
    char *name, *address;         /* owned; address: listened on and announced */
    char *federation;             /* owned; default "p2pfl" */
    char *state_dir;              /* owned, resolved; default: the file's folder */
    bool no_journal;              /* journal: false; what the node must know after a crash is not kept */
    struct pfl_strs connect;      /* addresses to link with at the start */
    struct pfl_settings settings; /* ssl paths resolved */
    struct pfl_ca_config ca;
    struct pfl_learner_config learner;
    struct pfl_policy policy; /* policy: who may do what here */
};
void pfl_node_config_default(struct pfl_node_config *c);
void pfl_node_config_deinit(struct pfl_node_config *c);
enum pfl_rc pfl_node_config_load(const char *path, struct pfl_node_config *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The federation's part of every node.yaml, as its CA sends it to new nodes: settings and learner, over the defaults. Nothing in
 * it may be about one node or where its files are: INVALID for other keys, certificates, paths of a CRL, and use_ssl: false. Paths
 * in learner stay as written. */
enum pfl_rc pfl_node_config_federation(const char *file, const char *text, size_t len, struct pfl_node_config *ret,
                                       struct pfl_err *err) PFL_WARN_UNUSED;
/** Writes a file that load reads back to the same, 0600, atomically. */
enum pfl_rc pfl_node_config_write(const char *path, const struct pfl_node_config *c, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
