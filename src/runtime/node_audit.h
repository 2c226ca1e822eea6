/* SPDX-License-Identifier: Apache-2.0 */
/* The node's audit log: who started and stopped what, who was refused and why, what the operator ordered. audit.db in the state
 * folder is the CA's audit log in form (pki/register.h): each entry's hash covers the one before, so nothing in it can be changed,
 * taken out or moved unseen. It is not sealed by a key: whoever may write the file can write all of it anew, which a head that was
 * noted elsewhere shows (`p2pfl node audit --verify --head N:HASH`).
 *
 * Entries are written by a worker, some at a time; the node never waits for them. Refusals of peers are told singly up to a
 * number a minute and counted beyond: nobody outside decides how fast the log grows. What could not be written is told when
 * writing works again. Loop thread only. */
#ifndef PFL_RUNTIME_NODE_AUDIT_H
#define PFL_RUNTIME_NODE_AUDIT_H

#include "base/clock.h"
#include "runtime/driver_impl.h"

enum {
    PFL_NODE_AUDIT_QUEUE_MAX = 1000, /* entries that wait for the disk; more are counted as lost */
    PFL_NODE_AUDIT_REFUSALS = 20,    /* told singly in PFL_NODE_AUDIT_WINDOW */
};
#define PFL_NODE_AUDIT_WINDOW (60 * PFL_SEC)

struct pfl_node_audit *pfl_node_audit_new(struct pfl_driver *d); /* for a driver with a state folder */
void pfl_node_audit_free(struct pfl_node_audit *a);              /* nothing runs any more; accepts NULL */
/** All texts are copied, NULL counts as "". a NULL: nothing happens. */
void pfl_node_audit_add(struct pfl_node_audit *a, const char *actor, const char *action, const char *subject, const char *detail);
/** The same for what a peer was refused. */
void pfl_node_audit_refusal(struct pfl_node_audit *a, const char *peer, const char *remote, const char *reason);
/** An entry for what a note tells, where it is one for this log. */
void pfl_node_audit_note(struct pfl_node_audit *a, const struct pfl_note *note);

#endif
