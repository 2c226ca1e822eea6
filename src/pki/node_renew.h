/* SPDX-License-Identifier: Apache-2.0 */
/* The node's own side of a renewal: keys and requests for the same identity, the files that replace the present ones, and when it
 * is time. */
#ifndef PFL_PKI_NODE_RENEW_H
#define PFL_PKI_NODE_RENEW_H

#include "pki/node_files.h"

struct pfl_node_pairs { /* borrowed */
    const char *ca_crt;
    const char *server_crt, *server_key, *client_crt, *client_key; /* as in settings.ssl */
    const char *passphrase_file, *pin_file;                        /* may be NULL */
};
/** Keys for a renewal: fresh ones of the present certificates' kind, or (same_keys) the present ones. Keys in a token are always
 * kept: a fresh one would need another URI in the configuration. The requests ask for nothing: the CA renews what it issued. As
 * pfl_key_load and pfl_certs_load. */
enum pfl_rc pfl_node_renew_keys(const struct pfl_node_pairs *p, bool same_keys, struct pfl_node_keys *ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;

/** New contents of the files; a key's is empty where it is kept (in a token, or the same). Zero-initialised; wiped at the end. */
struct pfl_node_contents {
    struct pfl_buf ca_crt, server_crt, server_key, client_crt, client_key; /* PEM */
};
void pfl_node_contents_deinit(struct pfl_node_contents *c); /* for PFL_AUTO too */
/** keys: those of the requests; chains and roots: DER. Keys are encrypted where the present file is; roots in ca.crt that are not
 * from the CA stay (see pfl_node_roots_pem). Nothing is verified here. */
enum pfl_rc pfl_node_renew_contents(const struct pfl_node_pairs *p, const struct pfl_node_keys *keys, bool same_keys,
                                    const struct pfl_node_certs *certs, struct pfl_node_contents *ret,
                                    struct pfl_err *err) PFL_WARN_UNUSED;

/** When to renew. Pure: the wall clock may have jumped or slept between two looks. Times in Unix seconds, with fractions. */
struct pfl_renew_plan {
    double not_before, not_after; /* the certificate that ends first */
    double at;                    /* the share of its life after which it is renewed: two thirds */
    double jitter;                /* of this node, in [-1, 1): moves that by up to a twentieth of the life */
    unsigned failures;            /* since the last success */
    double failed_at;             /* of the last one */
};
double pfl_renew_due(const struct pfl_renew_plan *plan);
/** How long a failure is waited out: a hundredth of the life, doubled each time, at most a twentieth of it or an hour; at least a
 * fifth of a second. */
double pfl_renew_backoff(const struct pfl_renew_plan *plan);
/** How often the wall clock should be looked at: a fiftieth of the life, 0.2 s to 60 s. */
double pfl_renew_period(const struct pfl_renew_plan *plan);

#endif
