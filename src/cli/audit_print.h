/* SPDX-License-Identifier: Apache-2.0 */
/* A line of an audit log, as `p2pfl ca audit` and `p2pfl node audit` print it. */
#ifndef PFL_CLI_AUDIT_PRINT_H
#define PFL_CLI_AUDIT_PRINT_H

#include "pki/register.h"

/** On standard output, as text or as one JSON object. What the file says is quoted: somebody else may have written it. False where
 * it cannot be written. */
bool pfl_audit_print(const struct pfl_audit_entry *e, bool json);

#endif
