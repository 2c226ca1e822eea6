/* SPDX-License-Identifier: Apache-2.0 */
/* What a node did, as JSON objects, one per line: appended to <state_dir>/events.jsonl, kept in a bounded ring, streamed to
 * subscribers of the control socket. Loop thread only. */
#ifndef PFL_RUNTIME_EVENTS_H
#define PFL_RUNTIME_EVENTS_H

#include <jansson.h>

#include "base/err.h"

enum { PFL_EVENTS_RING = 4096 }; /* lines kept for subscribers that come late: about 1 MB */

struct pfl_events;
/** path NULL: no file. on_line (may be NULL) sees each line, for subscribers; borrowed for the call. */
enum pfl_rc pfl_events_open(const char *path, const char *node, struct pfl_events **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_events_close(struct pfl_events *ev);
/** Adds "t", "node" and "event" to fields and emits it; takes the reference to fields (NULL: none). */
void pfl_events_emit(struct pfl_events *ev, const char *event, json_t *fields);
void pfl_events_set_listener(struct pfl_events *ev, void (*on_line)(void *user, const char *line, size_t len), void *user);
/** Calls fn for each line that is still in the ring, oldest first. */
void pfl_events_replay(const struct pfl_events *ev, void (*fn)(void *user, const char *line, size_t len), void *user);

#endif
