/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's service: `p2pfl ca serve`. gRPC (proto/ca.proto) and EST (RFC 7030) on one port, over TLS; who has no certificate yet
 * may come without one. Decisions are pki/enrol's; this file carries them over the network, bounds who may ask how often, and keeps
 * the service's own certificate and the CRL fresh. Everything runs on the loop's thread: a signature and its transaction take
 * milliseconds, and where another process holds the register a request waits for it, at most PFL_REGISTER_WAIT_MS. */
#ifndef PFL_RUNTIME_CA_SERVER_H
#define PFL_RUNTIME_CA_SERVER_H

#include <uv.h>

#include "base/err.h"
#include "base/str.h"

struct pfl_ca;

struct pfl_ca_server_opts {
    uv_loop_t *loop;
    struct pfl_ca *ca;         /* borrowed until closed */
    const char *dir;           /* its folder */
    const char *listen;        /* "0.0.0.0:7443" */
    struct pfl_strs sans;      /* of the service's certificate; borrowed for the call */
    bool approve;              /* the operator approves each enrolment */
    int64_t lifetime_s;        /* of certificates; 0: PFL_CA_LIFETIME_DEFAULT_S */
    int64_t renew_window_s;    /* how long after its expiry a certificate may still be renewed; 0: not at all */
    const char *settings_yaml; /* copied; NULL: none */
    struct pfl_strs connect;   /* addresses that new nodes link with; borrowed for the call */
};
struct pfl_ca_server;
enum pfl_rc pfl_ca_server_new(const struct pfl_ca_server_opts *opts, struct pfl_ca_server **ret,
                              struct pfl_err *err) PFL_WARN_UNUSED;
const char *pfl_ca_server_address(const struct pfl_ca_server *s); /* with the real port */
/** Calls in flight get a moment; then everything is closed and freed, and `closed` called. */
void pfl_ca_server_close(struct pfl_ca_server *s, void (*closed)(void *user), void *user);

#endif
