/* SPDX-License-Identifier: Apache-2.0 */
/* What the register's own files share. */
#ifndef PFL_PKI_REGISTER_PRIVATE_H
#define PFL_PKI_REGISTER_PRIVATE_H

#include "pki/register.h"

const char *pfl_register_path(const struct pfl_register *r); /* borrowed for r's life */
enum pfl_rc pfl_sql_error(struct pfl_register *r, int code, struct pfl_err *err);

/* audit.c: seals the log's head where something was appended since the transaction began. */
enum pfl_rc pfl_audit_seal(struct pfl_register *r, pfl_audit_sign_fn sign, void *user, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_register_mark_appended(struct pfl_register *r);

#endif
