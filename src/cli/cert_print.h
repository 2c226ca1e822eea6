/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates on standard output, in words or as JSON. */
#ifndef PFL_CLI_CERT_PRINT_H
#define PFL_CLI_CERT_PRINT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

struct x509_st;
struct stack_st_X509;

/** Each certificate of the stack. False with *err where one cannot be shown (its names are malformed). */
bool pfl_cert_print_text(struct stack_st_X509 *certs, struct pfl_err *err);
/** One line: {"file": …, "certificates": [ … ]}. */
bool pfl_cert_print_json(const char *file, struct stack_st_X509 *certs, struct pfl_err *err);
/** One certificate as a JSON object, owned by the caller; NULL with *err. */
json_t *pfl_cert_json(struct x509_st *cert, struct pfl_err *err);

#endif
