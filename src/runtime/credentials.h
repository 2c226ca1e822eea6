/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates of a running node: files that somebody else replaces are taken into use, the node renews its own in time at the
 * CA service, peers whose certificates expire are let go. New connections use the new context, old ones are drained. Loop thread
 * only. */
#ifndef PFL_RUNTIME_CREDENTIALS_H
#define PFL_RUNTIME_CREDENTIALS_H

#include "runtime/driver_impl.h"

enum { PFL_CREDENTIALS_WATCHES = 6 /* distinct folders of the files that are watched */ };
#define PFL_CREDENTIALS_SETTLE    (100 * PFL_MS) /* between a change and the look at it: several files follow each other */
#define PFL_CREDENTIALS_RETRY     (250 * PFL_MS) /* after a look that found a pair that does not match; doubled each time */
#define PFL_CREDENTIALS_RETRY_MAX (30 * PFL_SEC)
#define PFL_CREDENTIALS_REVISE    (60 * PFL_SEC) /* live peers are judged again, since a chain may end before its leaf */

/** NULL where opts->credentials is NULL or the node speaks plaintext. Copies what it needs. */
struct pfl_credentials *pfl_credentials_start(struct pfl_driver *d, const struct pfl_driver_opts *opts);
/** Once, at shutdown. d->credentials becomes NULL when all is closed, then pfl_driver_maybe_closed is called. Accepts NULL. */
void pfl_credentials_stop(struct pfl_credentials *c);
/** Renews now, whatever the time; where renewal is off (somebody else writes the files), with force only. done is called once, at
 * once or later. */
void pfl_credentials_renew(struct pfl_driver *d, bool force, void (*done)(void *user, const char *error), void *user);
/** Adds "certificate" to a status. */
void pfl_credentials_status(const struct pfl_driver *d, json_t *status);

#endif
