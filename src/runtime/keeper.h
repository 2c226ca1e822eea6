/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of the journal: states go to disk on a worker, never on the loop; what says something that a state on its way
 * to disk has to back (sends, and the notes that tell of it) waits until it is there. While one state is written, newer ones
 * replace each other: the next write takes the newest, which holds for all before it.
 *
 * A disk that is full, read-only or broken costs the node its durability, not its place in the round: that is said (log, event
 * "durability_lost", status), what is on disk stays as it was, and it is tried again every few seconds ("durability_regained"). */
#ifndef PFL_RUNTIME_KEEPER_H
#define PFL_RUNTIME_KEEPER_H

#include "runtime/driver_impl.h"
#include "runtime/journal.h"

/** Takes the journal. seq: of the state that is in it, 0 where there is none. */
struct pfl_keeper *pfl_keeper_new(struct pfl_driver *d, struct pfl_journal *journal, uint64_t seq);
void pfl_keeper_free(struct pfl_keeper *k); /* nothing runs any more; accepts NULL */
/** Takes what a DURABLE action carries. */
void pfl_keeper_take(struct pfl_keeper *k, struct pfl_durable *state);
/** Nothing new is written until the end of the pause: what has to be told first is not told yet. Pauses nest. k may be NULL. */
void pfl_keeper_pause(struct pfl_keeper *k);
void pfl_keeper_go_on(struct pfl_keeper *k);
/** k NULL: false. True: the action (SEND, NOTE) waits for the disk, and what it owned was taken from it. */
bool pfl_keeper_holds(struct pfl_keeper *k, struct pfl_action *a);
/** The link with that address ends: what waits for it is dropped. */
void pfl_keeper_forget(struct pfl_keeper *k, const char *addr);
/** Now and then: tries again, says that the disk is slow. */
void pfl_keeper_look(struct pfl_keeper *k);
/** For the node's status: {"state": "on" | "lost" | "off", ...}; a new reference. k NULL: off. */
json_t *pfl_keeper_status(const struct pfl_keeper *k);

#endif
