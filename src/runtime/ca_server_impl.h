/* SPDX-License-Identifier: Apache-2.0 */
/* What ca_server.c (gRPC, time) and ca_est.c (EST) share. */
#ifndef PFL_RUNTIME_CA_SERVER_IMPL_H
#define PFL_RUNTIME_CA_SERVER_IMPL_H

#include <time.h>

#include "pki/enrol.h"
#include "rpc/rpc.h"
#include "runtime/ca_rate.h"
#include "runtime/ca_server.h"
#include "wire/ca_msg.h"

struct pfl_ca_server {
    uv_loop_t *loop;
    struct pfl_ca *ca;
    char *dir;
    struct pfl_strs sans, connect;
    char *settings_yaml;
    bool approve;
    int64_t lifetime_s, renew_window_s;
    struct pfl_rpc_server *rpc;
    uv_timer_t tick;
    struct pfl_rate *wrong, *wrong_all, *renewals, *audit;
    unsigned unaudited;          /* refusals without an entry of their own since the last one */
    int64_t own_from, own_until; /* of the service's certificate */
    int64_t own_retry_at;        /* one could not be made */
    uint8_t own_trust[32];       /* of the roots and the issuer that it was made under */
    bool follow_failed;          /* and that was said */
    struct pfl_ca_bundle bundle; /* as last read */
    uint8_t bundle_trust[32];    /* of the roots then */
    int64_t crl_next_update;     /* of the oldest CRL in it */
    int64_t crl_retry_at;
    struct timespec crl_mtime;   /* of the crl.pem that it was read from */
    struct pfl_buf bundle_bytes; /* the bundle, encoded */
    uint8_t bundle_digest[32];
    struct pfl_ca_waiting *waiting; /* who waits for a newer one */
    uv_fs_event_t folder;           /* tells that the CA's folder changed */
    bool folder_open;
    void (*closed)(void *user);
    void *closed_user;
};

enum pfl_ca_ask { PFL_CA_ASK_ENROL, PFL_CA_ASK_RENEW, PFL_CA_ASK_POLL };
/** What both protocols do with a request: limits, the decision, the audit entry of a refusal. ask->now, lifetime and approve are
 *  filled in here; for POLL ask->token is the request id. UNAVAILABLE where a limit was hit. */
enum pfl_rc pfl_ca_server_decide(struct pfl_ca_server *s, enum pfl_ca_ask kind, const struct pfl_rpc_peer *peer,
                                 struct pfl_enrol_ask *ask, struct pfl_enrol_answer *ret, bool *ret_limited, struct pfl_err *err);
/** An answer's certificate and the intermediates behind it. */
void pfl_ca_server_chain(const struct pfl_ca_server *s, const struct x509_st *leaf, struct pfl_ders *ret);

/** Takes up what other processes did to the register: roots, issuers and the files; the service's own certificate goes with them.
 */
void pfl_ca_server_follow(struct pfl_ca_server *s);
/** Reads the roots and CRLs again where they changed. */
enum pfl_rc pfl_ca_server_refresh_bundle(struct pfl_ca_server *s, struct pfl_err *err);

/* ---- ca_bundle.c ---- */
void pfl_ca_bundle_start(struct pfl_ca_server *s);
void pfl_ca_on_bundle(void *user, struct pfl_rpc_call *call, struct pfl_blob *request);
/** Answers those whose bundle is not the newest any more, or whose time is over. */
void pfl_ca_bundle_look(struct pfl_ca_server *s);
/** Answers all, and looks at the folder no more. */
void pfl_ca_bundle_stop(struct pfl_ca_server *s);

/* ---- ca_est.c ---- */
void pfl_ca_est(void *user, const struct pfl_rpc_peer *peer, const struct pfl_http_request *request, struct pfl_http_response *ret);

#endif
