/* SPDX-License-Identifier: Apache-2.0 */
/* What run_record.c and run_record_events.c share. */
#ifndef PFL_RUNTIME_RUN_RECORD_IMPL_H
#define PFL_RUNTIME_RUN_RECORD_IMPL_H

#include "runtime/run_record.h"

/** Replaces an owned string; NULL leaves NULL. */
void pfl_record_set(char **field, const char *value);
/** Appends a copy; past PFL_RECORD_LIST_MAX it is only counted. */
void pfl_record_remark(struct pfl_rec_remarks *l, double t, int32_t round, const char *node, const char *address, const char *text);
/** The point of a round, made where it is not there. NULL where no experiment has such a round. */
struct pfl_rec_point *pfl_record_point(struct pfl_rec_node *n, int32_t round);

#endif
