/* SPDX-License-Identifier: Apache-2.0 */
/* What a node reports, as the fields of its event (events.jsonl; a run's record). */
#ifndef PFL_RUNTIME_NOTE_JSON_H
#define PFL_RUNTIME_NOTE_JSON_H

#include <jansson.h>

#include "node/node.h"

/** A new reference. counters: {"bytes_sent", ...} for the end of a round; the reference is taken; NULL: none. */
json_t *pfl_note_json(const struct pfl_note *n, json_t *counters);

#endif
