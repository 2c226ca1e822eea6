/* SPDX-License-Identifier: Apache-2.0 */
/* Revocation in a running node: CRLs come in from neighbours, from the CA service and from files, are verified on a worker, replace
 * the ones in use, are written down, end the connections of whom they revoke and go on to the neighbours. One at a time, in the
 * order of arrival. Loop thread only. Parts of the driver include this, and driver.h exports what others need. */
#ifndef PFL_RUNTIME_REVOCATION_H
#define PFL_RUNTIME_REVOCATION_H

#include "runtime/driver_impl.h"

/* Limits. A CRL itself: PFL_CRL_MAX. */
enum {
    PFL_CRL_QUEUE_MAX = 8, /* CRLs that wait to be verified, together at most 32 MiB; more are refused, the sender tries again */
    PFL_CRL_REFUSED_KEPT = 16, /* refused CRLs that are known again without a look */
    PFL_CRL_NOTES_MAX = 10,    /* refusals that are told in PFL_CRL_NOTES_WINDOW; more are only counted */
    PFL_CRL_REDIAL_MAX = 64,   /* neighbours lost to a lapsed CRL that are dialled when a newer one is there */
};
#define PFL_CRL_NOTES_WINDOW (10 * PFL_SEC)
#define PFL_CRL_RESEND       (PFL_SEC)      /* to a neighbour that did not take it */
#define PFL_CRL_LOOK         (60 * PFL_SEC) /* at the wall clock, which may have jumped */
#define PFL_CRL_FETCH        (30 * PFL_SEC) /* for a call to the CA service, beside the time that it may wait */
#define PFL_CRL_WARN_AGAIN   (3600 * PFL_SEC)

/** NULL on plaintext. Reads what it needs from d and opts (copied). */
struct pfl_revocation *pfl_revocation_start(struct pfl_driver *d, const struct pfl_driver_opts *opts);
/** Once, at shutdown. d->revocation becomes NULL when all is closed, then pfl_driver_maybe_closed is called. Accepts NULL. */
void pfl_revocation_stop(struct pfl_revocation *r);

/** A `crl` message of a neighbour; answers the call. */
void pfl_revocation_on_message(struct pfl_driver *d, struct pfl_rpc_call *call, const struct pfl_msg *msg);
/** A link came up: it is given the CRLs in use. */
void pfl_revocation_greet(struct pfl_driver *d, struct pfl_link *l);
/** A peer ended a connection with the alert that this node's certificate is revoked. */
void pfl_revocation_told(struct pfl_driver *d, struct pfl_link *l);
/** Before a context that was made anew from files takes the place of d->tls: the same with the CRLs that are in use and newer (a
 *  reference, to be unreferenced by the caller). Files may be older than what came through the mesh. */
struct pfl_tls *pfl_revocation_prepare(const struct pfl_driver *d, struct pfl_tls *fresh);
/** After it did: live connections are judged by it, and this node's own certificates too: a new one ends "this node is out". */
void pfl_revocation_tls_changed(struct pfl_driver *d);
/** Adds "crl_policy", "crls", "revoked" and counters to a status. */
void pfl_revocation_status(const struct pfl_driver *d, json_t *status);

#endif
