/* SPDX-License-Identifier: Apache-2.0 */
/* The report's parts; only run_report*.c include this. */
#ifndef PFL_RUNTIME_RUN_REPORT_IMPL_H
#define PFL_RUNTIME_RUN_REPORT_IMPL_H

#include "runtime/run_report.h"

void pfl_report_timeline(const struct pfl_record *r, struct pfl_buf *out);
/** Nothing where it is not known. */
void pfl_report_parts(const struct pfl_record *r, struct pfl_buf *out);
void pfl_report_nodes(const struct pfl_record *r, struct pfl_buf *out);
void pfl_report_rounds(const struct pfl_record *r, struct pfl_buf *out);
void pfl_report_links(const struct pfl_record *r, struct pfl_buf *out);
void pfl_report_refusals(const struct pfl_record *r, struct pfl_buf *out);
/** Exclusions and warnings; nothing where there are none. */
void pfl_report_remarks(const struct pfl_record *r, struct pfl_buf *out);

#endif
