/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts: immutable, refcounted, swapped whole. A context holds both of a node's identities (server and client
 * certificate), its trust and its limits. A file that is missing, unreadable, readable by others or does not fit its
 * certificate refuses the whole context: there is no way from here to plaintext. */
#ifndef PFL_TLS_CONTEXT_H
#define PFL_TLS_CONTEXT_H

#include <stdbool.h>

#include "base/err.h"
#include "base/mem.h"
#include "pki/identity.h"

struct pfl_tls_files {
    const char *ca_crt, *server_crt, *server_key, *client_crt, *client_key; /* paths, borrowed for the call */
    const char *key_passphrase_file;                                        /* NULL: keys are not encrypted */
    bool tls12_allowed;                                                     /* default: TLS 1.3 only */
};
struct pfl_tls;
/** AUTH, NOT_FOUND, IO, MALFORMED; the message names the file, what is wrong and what to do. Own certificates that are out of time
 *  or do not chain to ca_crt are loaded with a warning in the log (peers will refuse them). */
enum pfl_rc pfl_tls_new(const struct pfl_tls_files *files, struct pfl_tls **ret, struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_tls *pfl_tls_ref(struct pfl_tls *t);
void pfl_tls_unref(struct pfl_tls *t); /* accepts NULL */
PFL_DEFINE_FREEP(tls, struct pfl_tls, pfl_tls_unref)
/** Own identities, borrowed for the context's life. */
struct pfl_identity *pfl_tls_server_identity(const struct pfl_tls *t);
struct pfl_identity *pfl_tls_client_identity(const struct pfl_tls *t);

#endif
