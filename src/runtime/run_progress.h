/* SPDX-License-Identifier: Apache-2.0 */
/* What a person sees while a run goes on: a table that redraws itself on a terminal, plain lines elsewhere, and the same lines with
 * their times in run.log. */
#ifndef PFL_RUNTIME_RUN_PROGRESS_H
#define PFL_RUNTIME_RUN_PROGRESS_H

#include <stdio.h>

#include "base/err.h"
#include "runtime/run_record.h"

struct pfl_progress;
struct pfl_progress_opts {
    FILE *out;                       /* borrowed; NULL: nothing but the log */
    const char *log_path;            /* NULL: no log */
    const struct pfl_record *record; /* borrowed */
    bool table;                      /* out is a terminal */
};
enum pfl_rc pfl_progress_new(const struct pfl_progress_opts *opts, struct pfl_progress **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_progress_free(struct pfl_progress *p); /* takes the table away; accepts NULL */

/** One line, above the table where there is one. */
void pfl_progress_say(struct pfl_progress *p, const char *fmt, ...) PFL_PRINTF(2, 3);
/** After the record took the event in: says what people want to know of it, and each round's result when all its values are there.
 */
void pfl_progress_event(struct pfl_progress *p, const json_t *event);
/** Draws the table anew; nothing where there is none. */
void pfl_progress_draw(struct pfl_progress *p);

#endif
