/* SPDX-License-Identifier: Apache-2.0 */
/* What a node has revealed of its data, over all experiments in its state folder: `privacy.json` (0600). A release is on disk
 * before its contribution is made, so a crash may count one that nobody saw, and never the other way round. Past its budget a node
 * trains no more. The arithmetic: learning/privacy.h. */
#ifndef PFL_RUNTIME_LEDGER_H
#define PFL_RUNTIME_LEDGER_H

#include "base/err.h"
#include "base/mem.h"

struct pfl_ledger_opts {
    double delta;            /* (0, 1) */
    double budget;           /* the most that epsilon may become; 0: any */
    double noise_multiplier; /* of the releases to come */
    bool laplace;
};
struct pfl_ledger;
/** path NULL: it is kept in memory only. MALFORMED, IO, TOO_BIG: the file is there and cannot be used; the node should not start.
 */
enum pfl_rc pfl_ledger_open(const char *path, const struct pfl_ledger_opts *opts, struct pfl_ledger **ret,
                            struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_ledger_close(struct pfl_ledger *l);
PFL_DEFINE_FREEP(ledger, struct pfl_ledger, pfl_ledger_close)

/* From one worker at a time, but for budget and delta. */
/** STATE with the figures where the next release would pass the budget. */
enum pfl_rc pfl_ledger_check(const struct pfl_ledger *l, struct pfl_err *err) PFL_WARN_UNUSED;
/** Counts one release; it is on disk when this returns OK. Else nothing may be released. */
enum pfl_rc pfl_ledger_spend(struct pfl_ledger *l, struct pfl_err *err) PFL_WARN_UNUSED;
double pfl_ledger_epsilon(const struct pfl_ledger *l); /* spent so far */
double pfl_ledger_delta(const struct pfl_ledger *l);
double pfl_ledger_budget(const struct pfl_ledger *l);

#endif
