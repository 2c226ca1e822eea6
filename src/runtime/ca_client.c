/* SPDX-License-Identifier: Apache-2.0 */
/* One call to a CA service on a channel of its own. TLS has checked the chain and the host when check_peer asks who it is; only
 * then does the channel come up and the request leave. A dialling that fails is the end of the call: who calls tries again later,
 * with a back-off of its own. */
#include "runtime/ca_client.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "pki/digest.h"
#include "rpc/rpc.h"
#include "wire/limits.h"

enum { TIMEOUT_DEFAULT_S = 30 };

struct pfl_ca_call {
    struct pfl_rpc_channel *channel; /* NULL: it could not be made */
    uv_timer_t later;                /* delivers a failure that was there before the call */
    char *target;
    struct pfl_buf request; /* owned; wiped */
    struct pfl_err early;   /* why there is no channel */
    struct pfl_err refusal; /* why the other side is not taken for the service */
    pfl_ca_credentials_done credentials_done;
    pfl_ca_bundle_done bundle_done; /* one of the two; both NULL: canceled */
    void *user;
};

static void call_free(struct pfl_ca_call *c)
{
    if (c->request.data)
        explicit_bzero(c->request.data, c->request.cap);
    pfl_buf_deinit(&c->request);
    free(c->target);
    free(c);
}

static void on_channel_closed(void *user)
{
    call_free(user);
}

static void on_later_closed(uv_handle_t *h)
{
    call_free(h->data);
}

static void finish(struct pfl_ca_call *c)
{
    if (c->channel)
        pfl_rpc_channel_close(c->channel, on_channel_closed, c);
    else
        uv_close((uv_handle_t *)&c->later, on_later_closed);
}

static void tell(struct pfl_ca_call *c, enum pfl_rc rc, const struct pfl_err *err, const struct pfl_ca_credentials *credentials,
                 const struct pfl_ca_bundle *bundle)
{
    if (c->credentials_done)
        c->credentials_done(c->user, rc, err, credentials);
    else if (c->bundle_done)
        c->bundle_done(c->user, rc, err, bundle);
    c->credentials_done = NULL;
    c->bundle_done = NULL;
}

static void tell_error(struct pfl_ca_call *c, struct pfl_err *err)
{
    pfl_err_wrap(err, "CA service %s", c->target);
    tell(c, err->rc, err, NULL, NULL);
}

static void on_later(uv_timer_t *h)
{
    struct pfl_ca_call *c = h->data;
    tell_error(c, &c->early);
    finish(c);
}

static enum pfl_rc class_of(int code)
{
    switch (code) {
    case PFL_GRPC_UNAUTHENTICATED:
    case PFL_GRPC_PERMISSION_DENIED:
        return PFL_AUTH;
    case PFL_GRPC_DEADLINE_EXCEEDED:
        return PFL_TIMEOUT;
    case PFL_GRPC_CANCELLED:
        return PFL_CANCELED;
    case PFL_GRPC_INVALID_ARGUMENT:
        return PFL_INVALID;
    case PFL_GRPC_NOT_FOUND:
        return PFL_NOT_FOUND;
    case PFL_GRPC_FAILED_PRECONDITION:
        return PFL_STATE;
    case PFL_GRPC_UNIMPLEMENTED:
        return PFL_UNSUPPORTED;
    default: /* RESOURCE_EXHAUSTED too: the same call may do later */
        return PFL_UNAVAILABLE;
    }
}

static void deliver_answer(struct pfl_ca_call *c, struct pfl_bytes answer)
{
    struct pfl_err err = {0};
    struct pfl_ca_credentials credentials = {0};
    struct pfl_ca_bundle bundle = {0};
    enum pfl_rc rc =
        c->bundle_done ? pfl_ca_bundle_decode(answer, &bundle, &err) : pfl_ca_credentials_decode(answer, &credentials, &err);
    pfl_sha256(answer, bundle.digest);
    if (rc == PFL_OK)
        tell(c, PFL_OK, &err, &credentials, &bundle);
    else
        tell_error(c, &err);
    pfl_ca_credentials_deinit(&credentials);
    pfl_ca_bundle_deinit(&bundle);
}

static void on_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct pfl_ca_call *c = user;
    if (status->code == PFL_GRPC_OK) {
        deliver_answer(c, response ? pfl_bytes_of(response->data, response->len) : pfl_bytes_of(NULL, 0));
    } else {
        struct pfl_err err = c->refusal;
        if (err.rc == PFL_OK) {
            char quoted[PFL_ERR_MAX - 64];
            pfl_quote(status->message, strlen(status->message), quoted, sizeof quoted);
            pfl_err_set(&err, class_of(status->code), "%s", quoted[0] ? quoted : pfl_grpc_code_name(status->code));
        }
        tell_error(c, &err);
    }
    finish(c);
}

/* A member of the federation that listens where the service should be is not the service. */
static bool check_peer(void *user, const struct pfl_rpc_peer *peer, struct pfl_err *err)
{
    struct pfl_ca_call *c = user;
    const struct pfl_identity *id = peer->identity;
    if (id && id->role && strcmp(id->role, "ca") == 0)
        return true;
    pfl_err_set(&c->refusal, PFL_AUTH, "'%s' answers there, which is not a CA service: its certificate lacks the role 'ca'",
                id ? pfl_q(pfl_identity_text(id)) : "a peer without a certificate");
    pfl_err_set(err, PFL_AUTH, "%s", c->refusal.msg);
    return false;
}

/* Keeps the class of a certificate's refusal, which gRPC's UNAVAILABLE does not tell. */
static void on_state(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason)
{
    struct pfl_ca_call *c = user;
    (void)peer;
    if (!up && rc == PFL_AUTH && c->refusal.rc == PFL_OK)
        pfl_err_set(&c->refusal, PFL_AUTH, "%s", reason);
}

static struct pfl_ca_call *call_new(const struct pfl_ca_client_opts *opts, void *user)
{
    struct pfl_ca_call *c = pfl_xcalloc(1, sizeof *c);
    c->target = pfl_xstrdup(opts->target);
    c->user = user;
    c->request.limit = PFL_WIRE_CA_REQUEST_MAX;
    return c;
}

static void start(struct pfl_ca_call *c, const struct pfl_ca_client_opts *opts, const char *path)
{
    const struct pfl_rpc_channel_opts channel = {
        .loop = opts->loop,
        .target = opts->target,
        .tls = opts->tls,
        .user = c,
        .check_peer = check_peer,
        .on_state = on_state,
        .response_limit = PFL_WIRE_CA_ANSWER_MAX,
    };
    PFL_ASSERT(opts->tls); /* never in the clear */
    if (c->early.rc == PFL_OK && pfl_rpc_channel_new(&channel, &c->channel, &c->early) == PFL_OK) {
        const struct pfl_bytes part = pfl_buf_view(&c->request);
        const struct pfl_rpc_body body = {&part, 1, NULL, NULL};
        pfl_rpc_channel_call(c->channel, path, &body, opts->timeout ? opts->timeout : TIMEOUT_DEFAULT_S * PFL_SEC, on_done, c);
        return;
    }
    PFL_ASSERT(uv_timer_init(opts->loop, &c->later) == 0);
    c->later.data = c;
    uv_timer_start(&c->later, on_later, 0, 0);
}

struct pfl_ca_call *pfl_ca_client_request(const struct pfl_ca_client_opts *opts, enum pfl_ca_request_kind kind,
                                          const struct pfl_ca_request *request, pfl_ca_credentials_done done, void *user)
{
    static const char *const PATHS[] = {
        [PFL_CA_ENROL] = PFL_CA_METHOD("Enrol"), [PFL_CA_RENEW] = PFL_CA_METHOD("Renew"), [PFL_CA_POLL] = PFL_CA_METHOD("Poll")};
    struct pfl_ca_call *c = call_new(opts, user);
    c->credentials_done = done;
    if (pfl_ca_request_encode(kind, request, &c->request, &c->early) == PFL_OK && c->request.failed)
        pfl_err_set(&c->early, PFL_TOO_BIG, "the request is past %d bytes", PFL_WIRE_CA_REQUEST_MAX);
    start(c, opts, PATHS[kind]);
    return c;
}

struct pfl_ca_call *pfl_ca_client_bundle(const struct pfl_ca_client_opts *opts, pfl_ca_bundle_done done, void *user)
{
    return pfl_ca_client_bundle_newer(opts, NULL, 0, done, user);
}

struct pfl_ca_call *pfl_ca_client_bundle_newer(const struct pfl_ca_client_opts *opts, const uint8_t *known, uint32_t wait_s,
                                               pfl_ca_bundle_done done, void *user)
{
    struct pfl_ca_call *c = call_new(opts, user);
    struct pfl_ca_bundle_request request = {.has_known = known != NULL, .wait_s = wait_s};
    if (known)
        memcpy(request.known, known, sizeof request.known);
    c->bundle_done = done;
    if (pfl_ca_bundle_request_encode(&request, &c->request, &c->early) == PFL_OK && c->request.failed)
        pfl_err_set(&c->early, PFL_TOO_BIG, "the request is past %d bytes", PFL_WIRE_CA_REQUEST_MAX);
    start(c, opts, PFL_CA_METHOD("GetBundle"));
    return c;
}

void pfl_ca_client_cancel(struct pfl_ca_call *call)
{
    call->credentials_done = NULL;
    call->bundle_done = NULL;
    if (!call->channel)
        uv_timer_start(&call->later, on_later, 0, 0);
    else
        finish(call);
}
