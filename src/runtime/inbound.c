/* SPDX-License-Identifier: Apache-2.0 */
/* What peers may ask of a node: handshake, disconnect, send. What a message claims about who sent it counts only where the
 * connection's certificate backs it; the check is made here, before the core sees the message. Gossip passes through third
 * nodes: its source is not the caller. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/log.h"
#include "learning/p2pfl_payload.h"
#include "runtime/ca_rate.h"
#include "runtime/driver_impl.h"
#include "runtime/limits.h"
#include "runtime/origins.h"
#include "runtime/revocation.h"

static const char *caller_text(const struct pfl_rpc_peer *peer)
{
    return peer->identity ? pfl_identity_text(peer->identity) : peer->remote;
}

/* Refuses a call for a reason that the caller and the operator both get to read. */
static void refuse(struct pfl_driver *d, struct pfl_rpc_call *call, int code, const char *fmt, ...) PFL_PRINTF(4, 5);
static void refuse(struct pfl_driver *d, struct pfl_rpc_call *call, int code, const char *fmt, ...)
{
    char why[PFL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    const struct pfl_rpc_peer *peer = pfl_rpc_call_peer(call);
    pfl_driver_refused(d, caller_text(peer), peer->remote, why);
    pfl_rpc_call_fail(call, code, "%s", why);
}

/* May this caller speak as addr? With TLS: its certificate covers the host, and the address is not somebody else's. */
static bool speaks_for(struct pfl_driver *d, struct pfl_rpc_call *call, const char *addr)
{
    const struct pfl_rpc_peer *peer = pfl_rpc_call_peer(call);
    struct pfl_addr a;
    struct pfl_err err = {0};
    if (pfl_addr_parse(addr, &a, &err) != PFL_OK) {
        refuse(d, call, PFL_GRPC_INVALID_ARGUMENT, "%s", err.msg);
        return false;
    }
    if (!d->tls)
        return true;
    if (!a.is_unix && !pfl_identity_covers_host(peer->identity, a.host)) {
        refuse(d, call, PFL_GRPC_PERMISSION_DENIED, "the client certificate does not cover the address '%s' that it claims",
               pfl_q(addr));
        return false;
    }
    const struct pfl_link *l = pfl_link_find(d, addr);
    if (l && l->bound && !pfl_identity_same(l->bound, peer->identity)) {
        refuse(d, call, PFL_GRPC_PERMISSION_DENIED, "the address '%s' is held by %s, this is %s", pfl_q(addr),
               pfl_q(pfl_identity_text(l->bound)), pfl_q(pfl_identity_text(peer->identity)));
        return false;
    }
    return true;
}

/* Has this caller anything to say here at all? */
static bool may_connect(struct pfl_driver *d, struct pfl_rpc_call *call)
{
    const struct pfl_rpc_peer *peer = pfl_rpc_call_peer(call);
    if (!d->origins || pfl_driver_rights(d, peer->identity) & PFL_RIGHT_CONNECT)
        return true;
    refuse(d, call, PFL_GRPC_PERMISSION_DENIED,
           "%s may not take part here: its certificate's role is %s, or the policy here says no",
           pfl_q(pfl_identity_text(peer->identity)), pfl_q(pfl_policy_role(&d->policy, peer->identity, true)));
    return false;
}

static void on_hand(struct pfl_driver *d, struct pfl_rpc_call *call, struct pfl_blob *request, enum pfl_event_kind kind)
{
    PFL_AUTO(pfl_freep) char *addr = NULL;
    struct pfl_hello hello = {0};
    struct pfl_err err = {0};
    if (d->shutting_down) {
        pfl_rpc_call_fail(call, PFL_GRPC_UNAVAILABLE, "the node is shutting down");
        return;
    }
    if (pfl_handshake_decode(pfl_bytes_of(request->data, request->len), &addr, &hello, &err) != PFL_OK) {
        refuse(d, call, PFL_GRPC_INVALID_ARGUMENT, "%s", err.msg);
        pfl_hello_deinit(&hello);
        return;
    }
    if (may_connect(d, call) && speaks_for(d, call, addr)) {
        struct pfl_event ev = pfl_driver_event(kind);
        ev.addr = addr;
        ev.hello = &hello;
        ev.call = pfl_pending_add(d, call, NULL, NULL);
        pfl_pending_find(d, ev.call)->disconnect = kind == PFL_EV_DISCONNECT;
        pfl_pending_find(d, ev.call)->plain = !hello.present;
        pfl_driver_post(d, &ev);
    }
    pfl_hello_deinit(&hello);
}

static void on_handshake(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    on_hand(user, call, request, PFL_EV_HANDSHAKE);
}

static void on_disconnect(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    on_hand(user, call, request, PFL_EV_DISCONNECT);
}

/* Gossip is passed on to everybody, so what one caller hands over is bounded. Its text names it; the end of a long one, which holds
 * a node's own name. */
static bool within_rate(struct pfl_driver *d, struct pfl_rpc_call *call)
{
    enum { KEY_LEN = 70 };
    const char *who = caller_text(pfl_rpc_call_peer(call));
    size_t len = strlen(who);
    pfl_ns now = pfl_clock_mono();
    if (pfl_rate_take(d->gossip_rate, len > KEY_LEN ? who + len - KEY_LEN : who, now))
        return true;
    if (d->gossip_flood_said && now - d->gossip_flood_said < PFL_GOSSIP_FLOOD_SAID) {
        pfl_rpc_call_fail(call, PFL_GRPC_RESOURCE_EXHAUSTED, "more gossip than %d messages a second", PFL_GOSSIP_PER_S);
        return false;
    }
    d->gossip_flood_said = now;
    refuse(d, call, PFL_GRPC_RESOURCE_EXHAUSTED, "more gossip than %d messages a second", PFL_GOSSIP_PER_S);
    return false;
}

static void on_send(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct pfl_driver *d = user;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *msg = NULL;
    struct pfl_err err = {0};
    if (d->shutting_down) {
        pfl_rpc_call_fail(call, PFL_GRPC_UNAVAILABLE, "the node is shutting down");
        return;
    }
    if (pfl_msg_decode(request, &msg, &err) != PFL_OK) {
        refuse(d, call, PFL_GRPC_INVALID_ARGUMENT, "%s", err.msg);
        return;
    }
    if (!may_connect(d, call))
        return;
    if (msg->kind == PFL_MSG_GOSSIP && !within_rate(d, call))
        return;
    /* A model with its author's signature may be passed on by anybody, as gossip is. */
    bool by_anybody = msg->kind == PFL_MSG_GOSSIP || (d->origins && msg->kind == PFL_MSG_WEIGHTS && msg->origin);
    if (!by_anybody && !speaks_for(d, call, msg->source))
        return;
    if (msg->kind == PFL_MSG_WEIGHTS && pfl_streq(msg->cmd, "crl")) {
        pfl_revocation_on_message(d, call, msg);
        return;
    }
    if (msg->kind == PFL_MSG_WEIGHTS)
        pfl_job_decode(d, msg, pfl_pending_add(d, call, NULL, NULL));
    else if (!pfl_origins_receive(d, msg, call))
        pfl_rpc_call_fail(call, PFL_GRPC_UNAVAILABLE, "too many messages wait to be verified: send it again");
}

void pfl_inbound_reply(struct pfl_driver *d, struct pfl_pending *p, const struct pfl_action *a)
{
    if (p->disconnect && !a->error) {
        pfl_rpc_call_reply(p->call, NULL);
        return;
    }
    if (a->denied && a->error) {
        pfl_rpc_call_fail(p->call, PFL_GRPC_PERMISSION_DENIED, "%s", a->error);
        return;
    }
    struct pfl_hello hello = {.present = true, .version = 1};
    if (a->hello) {
        pfl_strs_copy(&hello.codecs, &pfl_node_hello()->codecs);
        pfl_strs_copy(&hello.features, &pfl_node_hello()->features);
        pfl_strs_add(&hello.features, "crl");
        hello.federation = d->federation ? pfl_xstrdup(d->federation) : NULL;
    }
    struct pfl_scatter *s = NULL;
    struct pfl_err err = {0};
    if (pfl_response_encode(a->text, a->error, a->hello ? &hello : NULL, &s, &err) != PFL_OK) {
        pfl_rpc_call_fail(p->call, PFL_GRPC_INTERNAL, "%s", err.msg);
    } else {
        struct pfl_rpc_body body = pfl_rpc_body_of(s);
        pfl_rpc_call_reply(p->call, &body);
    }
    pfl_hello_deinit(&hello);
}

static size_t request_limit(void *user, const char *path, const struct pfl_rpc_peer *peer)
{
    const struct pfl_driver *d = user;
    (void)peer;
    if (!pfl_streq(path, "/node.NodeServices/send"))
        return PFL_HAND_MAX;
    const struct pfl_layout *l = d->method.model; /* the largest there is */
    size_t model = (d->interop ? pfl_p2pfl_inner_max(l) : l->bytes) + PFL_WEIGHTS_SLACK, crl = PFL_CRL_MAX + PFL_CRL_SLACK;
    return model > crl ? model : crl;
}

static void on_refused(void *user, const char *peer, const char *remote, const char *reason)
{
    pfl_driver_refused(user, peer, remote, reason);
}

enum pfl_rc pfl_inbound_start(struct pfl_driver *d, const char *address, struct pfl_err *err)
{
    static const struct pfl_rpc_method methods[] = {
        {"/node.NodeServices/handshake", on_handshake, false},
        {"/node.NodeServices/disconnect", on_disconnect, false},
        {"/node.NodeServices/send", on_send, false},
    };
    const struct pfl_rpc_server_opts opts = {
        .loop = d->loop,
        .address = address,
        .tls = d->tls,
        .methods = methods,
        .n_methods = PFL_ARRAY_LEN(methods),
        .user = d,
        .request_limit = request_limit,
        .on_refused = on_refused,
        .health = true,
        .reflection = true,
    };
    return pfl_rpc_server_new(&opts, &d->server, err);
}
