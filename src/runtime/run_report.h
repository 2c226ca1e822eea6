/* SPDX-License-Identifier: Apache-2.0 */
/* The report of a run: one HTML page that needs no network and no script. */
#ifndef PFL_RUNTIME_RUN_REPORT_H
#define PFL_RUNTIME_RUN_REPORT_H

#include "base/bytes.h"
#include "runtime/run_record.h"

/** Appends the whole page. Everything that came from an event, a peer or the experiment file is escaped. out->failed where the page
 *  does not fit the buffer's limit. */
void pfl_report_html(const struct pfl_record *r, struct pfl_buf *out);

#endif
