/* SPDX-License-Identifier: Apache-2.0 */
/* One renewal of a node's certificates by the CA service: keys and requests (worker), the call over mutual TLS with the present
 * certificate, then what came is loaded as a context of its own, checked, and only then put in the files' place (worker). */
#ifndef PFL_RUNTIME_RENEWAL_H
#define PFL_RUNTIME_RENEWAL_H

#include <uv.h>

#include "tls/context.h"
#include "wire/ca_msg.h"

struct pfl_renewal_opts {
    uv_loop_t *loop;
    const struct pfl_tls_files *files; /* borrowed until done */
    struct pfl_tls *tls;               /* the present context; a reference is taken */
    const char *service;               /* HOST:PORT; copied */
    bool same_keys;                    /* keep the keys, renew the certificates alone */
};
/** rc PFL_OK: the files are replaced and fresh (borrowed) is what they load to, without newer CRLs of the present context; crls are
 * the service's, not verified. Else err says why, and the files are as they were. Never called from within begin. */
typedef void (*pfl_renewal_done)(void *user, enum pfl_rc rc, const struct pfl_err *err, struct pfl_tls *fresh,
                                 const struct pfl_ders *crls);
struct pfl_renewal;
struct pfl_renewal *pfl_renewal_begin(const struct pfl_renewal_opts *opts, pfl_renewal_done done, void *user);
/** done is not called any more; the loop has to run on until a worker that is at it has ended, gone is called then (may be NULL).
 */
void pfl_renewal_cancel(struct pfl_renewal *r, void (*gone)(void *user), void *user);

/** Completes a replacement of these files that was cut off, before they are loaded: at every start. */
enum pfl_rc pfl_renewal_recover(const struct pfl_tls_files *files, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
