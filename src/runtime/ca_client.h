/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to a CA service (proto/ca.proto). All on the loop's thread; each call dials, checks that the other side is a CA service of
 * the federation (its SPIFFE ID has the role "ca"; no other certificate of the federation can play it), calls once and closes. */
#ifndef PFL_RUNTIME_CA_CLIENT_H
#define PFL_RUNTIME_CA_CLIENT_H

#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "tls/context.h"
#include "wire/ca_msg.h"

struct pfl_ca_client_opts {
    uv_loop_t *loop;
    const char *target;  /* "ca.example:7443" */
    struct pfl_tls *tls; /* a reference is taken for the call: the node's own (Renew, GetBundle), or a pinned one without a client
                            certificate (Enrol, Poll; see pfl_tls_new_pinned) */
    pfl_ns timeout;      /* of the whole; 0: 30 s */
};
/** Exactly once, never from within the call. What they get is theirs to read until they return; NULL unless rc is PFL_OK. err's
 *  message is for the operator: the service's own reason (quoted) where it refused. rc: AUTH refused (token, identity,
 * certificate), UNAVAILABLE/TIMEOUT nobody there, MALFORMED a bad answer, and as the service says. */
typedef void (*pfl_ca_credentials_done)(void *user, enum pfl_rc rc, const struct pfl_err *err,
                                        const struct pfl_ca_credentials *credentials);
typedef void (*pfl_ca_bundle_done)(void *user, enum pfl_rc rc, const struct pfl_err *err, const struct pfl_ca_bundle *bundle);

struct pfl_ca_call; /* one call under way; gone when its done was called */

/** kind ENROL, RENEW or POLL. request is borrowed for this call only; what was encoded of it is wiped behind the call. */
struct pfl_ca_call *pfl_ca_client_request(const struct pfl_ca_client_opts *opts, enum pfl_ca_request_kind kind,
                                          const struct pfl_ca_request *request, pfl_ca_credentials_done done, void *user);
struct pfl_ca_call *pfl_ca_client_bundle(const struct pfl_ca_client_opts *opts, pfl_ca_bundle_done done, void *user);
/** The same, but a service that has nothing else than `known` (a bundle's digest; NULL: answer now) waits for it, wait_s seconds at
 *  most; opts->timeout must leave it that time. */
struct pfl_ca_call *pfl_ca_client_bundle_newer(const struct pfl_ca_client_opts *opts, const uint8_t *known, uint32_t wait_s,
                                               pfl_ca_bundle_done done, void *user);
/** done is not called any more. The loop still has to run until the connection is closed. */
void pfl_ca_client_cancel(struct pfl_ca_call *call);

#endif
