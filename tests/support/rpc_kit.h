/* SPDX-License-Identifier: Apache-2.0 */
/* A server and channels in one loop over real sockets, with certificates of any shape. Failures in here end the test. */
#ifndef PFL_TESTS_RPC_KIT_H
#define PFL_TESTS_RPC_KIT_H

#include "rpc/rpc.h"
#include "support/certs.h"

/* How a certificate differs from a good one. */
struct kit_cert {
    const char *san;                /* NULL: "IP:127.0.0.1,IP:::1,DNS:localhost" */
    const char *eku;                /* NULL: serverAuth and clientAuth */
    int64_t from, until;            /* 0: in time */
    const struct test_cert *issuer; /* NULL: the kit's CA */
};

struct kit {
    uv_loop_t loop;
    uv_timer_t timer;
    char *dir;
    struct test_cert ca, other_ca;
    struct pfl_tls *tls; /* good on both sides */
    struct pfl_rpc_server *server;
    /* what the server said last */
    char refused_peer[160], refused_remote[160], refused_reason[PFL_ERR_MAX];
    unsigned n_refused;
    /* what a channel said last */
    unsigned n_up, n_down;
    enum pfl_rc down_rc;
    char down_reason[PFL_ERR_MAX];
    unsigned n_not_replaced;
    /* what check_peer answers */
    const char *refuse_peer;
    /* calls */
    unsigned n_done;
    struct pfl_rpc_status status; /* of the last */
    struct pfl_blob *response;    /* of the last; owned */
    unsigned n_handled;
    struct pfl_rpc_call *held; /* by the "hold" method */
    size_t request_limit;
    pfl_ns ping_period;
    pfl_ns handshake_timeout, read_stall, write_stall; /* 0: the default */
    unsigned connections_max;
    unsigned n_closed;
};

int kit_set_up(void **state);
int kit_tear_down(void **state); /* closes server; the channels must be closed */

/* A context of one certificate for both roles, that trusts the kit's CA (or trusted). */
struct pfl_tls *kit_tls(struct kit *k, const struct kit_cert *cert, const struct test_cert *trusted, bool tls12);

/* Serves /t.T/{echo,empty,fail,hold,big,stream} at address with tls. */
void kit_serve(struct kit *k, const char *address, struct pfl_tls *tls);
void kit_close_server(struct kit *k, pfl_ns grace);
struct pfl_rpc_channel *kit_channel(struct kit *k, const char *target, struct pfl_tls *tls);
void kit_close_channel(struct kit *k, struct pfl_rpc_channel *ch);

/* Runs the loop until *counter >= value; fails the test after 10 s. */
void kit_until(struct kit *k, const unsigned *counter, unsigned value);
/* Runs the loop for so long. */
void kit_run_for(struct kit *k, pfl_ns time);

void kit_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response); /* counts in n_done */
/* One call, waited for. The result is in k->status and k->response. */
void kit_call(struct kit *k, struct pfl_rpc_channel *ch, const char *path, const void *data, size_t len, pfl_ns timeout);

/* TCP to the server's port, blocking. */
int kit_connect(const struct kit *k);

#endif
