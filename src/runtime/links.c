/* SPDX-License-Identifier: Apache-2.0 */
/* Channels by address. An address is bound to the identity that first met it under our checks (a dial whose certificate covers
 * the host, or a dial back that met the caller's identity) and stays bound while the core keeps it: another holder is refused,
 * also when the channel reconnects by itself. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/driver_impl.h"
#include "runtime/origins.h"
#include "runtime/revocation.h"

struct pfl_link *pfl_link_find(const struct pfl_driver *d, const char *addr)
{
    for (struct pfl_link *l = d->links; l; l = l->next) {
        if (pfl_streq(l->addr, addr) && !l->leaving)
            return l;
    }
    return NULL;
}

const char *pfl_link_held_by(const struct pfl_driver *d, const struct pfl_identity *id)
{
    const char *addr = NULL;
    if (d->tls && pfl_identity_same(pfl_tls_client_identity(d->tls), id))
        return NULL; /* all nodes have the same certificate */
    for (const struct pfl_link *l = d->links; l; l = l->next) {
        if (l->leaving || !l->bound || !pfl_identity_same(l->bound, id))
            continue;
        if (addr)
            return NULL;
        addr = l->addr;
    }
    return addr;
}

static void scatter_release(void *owner)
{
    pfl_scatter_unref(owner);
}

struct pfl_rpc_body pfl_rpc_body_of(struct pfl_scatter *s)
{
    return (struct pfl_rpc_body){.parts = s->parts, .n = s->n, .release = scatter_release, .owner = s};
}

static void post_link_down(struct pfl_link *l, enum pfl_rc rc)
{
    l->opening = false;
    l->linked = false;
    struct pfl_event ev = pfl_driver_event(PFL_EV_LINK_DOWN);
    ev.addr = l->addr;
    ev.rc = rc;
    ev.text = l->reason;
    pfl_driver_post(l->d, &ev);
}

static void post_link_up(struct pfl_link *l, const struct pfl_hello *hello)
{
    l->opening = false;
    l->linked = true;
    if (!l->noted)
        pfl_driver_note_link(l->d, l);
    l->noted = true;
    struct pfl_event ev = pfl_driver_event(PFL_EV_LINK_UP);
    ev.addr = l->addr;
    ev.hello = hello;
    pfl_driver_post(l->d, &ev);
    if (l->linked && l->up && !l->leaving) /* the core may not want it any more */
        pfl_revocation_greet(l->d, l);
}

static bool check_peer(void *user, const struct pfl_rpc_peer *peer, struct pfl_err *err)
{
    struct pfl_link *l = user;
    if (!l->bound || !peer->identity || pfl_identity_same(l->bound, peer->identity))
        return true;
    pfl_err_set(err, PFL_AUTH, "%s is held by %s, but the certificate there is %s's", l->addr, pfl_q(pfl_identity_text(l->bound)),
                pfl_q(pfl_identity_text(peer->identity)));
    return false;
}

static void my_hello(const struct pfl_driver *d, struct pfl_hello *h)
{
    *h = (struct pfl_hello){.present = true, .version = 1};
    pfl_strs_copy(&h->codecs, &pfl_node_hello()->codecs);
    pfl_strs_copy(&h->features, &pfl_node_hello()->features);
    pfl_strs_add(&h->features, "crl");
    h->federation = d->federation ? pfl_xstrdup(d->federation) : NULL;
}

static bool hello_fits(struct pfl_link *l, const struct pfl_hello *h)
{
    if (!h->present && !l->d->interop) {
        snprintf(l->reason, sizeof(l->reason),
                 "%s is a P2PFL (Python) node: it sends pickled models; this node does not link with it (general.interop)",
                 l->addr);
        return false;
    }
    if (l->d->federation && h->federation && !pfl_streq(l->d->federation, h->federation)) {
        snprintf(l->reason, sizeof(l->reason), "%s belongs to federation '%s', this node to '%s'", l->addr, pfl_q(h->federation),
                 l->d->federation);
        return false;
    }
    return true;
}

/* A node of P2PFL's that still counts us as its neighbour says so in place of "yes". */
static bool linked_already(const struct pfl_link *l, const struct pfl_hello *h, const char *error)
{
    return l->d->interop && !h->present && pfl_streq(error, "Cannot add the node (duplicated or wrong direction)");
}

static void on_handshake_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct pfl_link *l = user;
    if (l->leaving || !l->opening)
        return;
    if (status->code != PFL_GRPC_OK) {
        snprintf(l->reason, sizeof(l->reason), "%s: handshake: %s: %s", l->addr, pfl_grpc_code_name(status->code),
                 pfl_q(status->message));
        bool refused = status->code == PFL_GRPC_UNAUTHENTICATED || status->code == PFL_GRPC_PERMISSION_DENIED;
        post_link_down(l, refused ? PFL_AUTH : PFL_UNAVAILABLE);
        return;
    }
    PFL_AUTO(pfl_freep) char *text = NULL;
    PFL_AUTO(pfl_freep) char *error = NULL;
    struct pfl_hello hello = {0};
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_response_decode(pfl_bytes_of(response->data, response->len), &text, &error, &hello, &err);
    if (rc != PFL_OK)
        snprintf(l->reason, sizeof(l->reason), "%s: handshake: %s", l->addr, err.msg);
    else if (error && linked_already(l, &hello, error)) {
        l->plain = true;
    } else if (error) {
        snprintf(l->reason, sizeof(l->reason), "%s refused the handshake: %s", l->addr, pfl_q(error));
        rc = PFL_STATE;
    } else if (!hello_fits(l, &hello))
        rc = PFL_AUTH;
    else
        l->plain = !hello.present;
    if (rc == PFL_OK)
        post_link_up(l, &hello);
    else
        post_link_down(l, rc);
    pfl_hello_deinit(&hello);
}

static void shake_hands(struct pfl_link *l)
{
    struct pfl_hello hello;
    my_hello(l->d, &hello);
    struct pfl_scatter *s = NULL;
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_handshake_encode(l->d->address, &hello, &s, &err);
    pfl_hello_deinit(&hello);
    if (rc != PFL_OK) {
        snprintf(l->reason, sizeof(l->reason), "%s", err.msg);
        post_link_down(l, rc);
        return;
    }
    struct pfl_rpc_body body = pfl_rpc_body_of(s);
    pfl_rpc_channel_call(l->channel, "/node.NodeServices/handshake", &body, l->d->call_timeout, on_handshake_done, l);
}

static void proceed(struct pfl_link *l)
{
    if (!l->opening)
        return;
    if (l->handshake)
        shake_hands(l);
    else
        post_link_up(l, NULL);
}

static void on_state(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason)
{
    struct pfl_link *l = user;
    if (l->leaving)
        return;
    bool was_up = l->up;
    l->up = up;
    if (up) {
        if (peer->identity && !l->bound)
            l->bound = pfl_identity_ref(peer->identity);
        pfl_origins_met(l->d->origins, l->addr, l->bound);
        proceed(l);
        return;
    }
    l->noted = false;
    snprintf(l->reason, sizeof(l->reason), "%s: %s", l->addr, reason ? reason : "the connection was lost");
    /* who answers without TLS, or with one that is not taken here, was refused as well; a link that once was good is only lost */
    if (rc == PFL_AUTH || (!was_up && (rc == PFL_UNSUPPORTED || rc == PFL_MALFORMED)))
        pfl_driver_refused(l->d, l->addr, l->addr, reason);
    bool told_revoked = pfl_rpc_channel_told_revoked(l->channel);
    if (l->opening || l->linked)
        post_link_down(l, rc == PFL_OK ? PFL_UNAVAILABLE : rc);
    if (told_revoked) /* behind it: who asked for the link hears the peer's words */
        pfl_revocation_told(l->d, l);
}

/* The neighbour takes this node's old certificate and not its new one, or cannot be dialled anew: said once for each reason. */
static void on_not_replaced(void *user, const char *reason)
{
    struct pfl_link *l = user;
    char text[sizeof(l->reason)];
    snprintf(text, sizeof(text), "%s: %s", l->addr, reason);
    if (l->leaving || pfl_streq(l->reason, text))
        return;
    snprintf(l->reason, sizeof(l->reason), "%s", text);
    pfl_warn("%s: no connection with the new certificates to %s, the old one stays in use", l->d->name, text);
    pfl_events_emit(l->d->events, "not_reconnected", json_pack("{s:s, s:s}", "address", l->addr, "reason", pfl_q(reason)));
}

static struct pfl_link *link_get(struct pfl_driver *d, const char *addr, struct pfl_err *err)
{
    struct pfl_link *l = pfl_link_find(d, addr);
    if (l)
        return l;
    l = pfl_xcalloc(1, sizeof(*l));
    l->d = d;
    l->addr = pfl_xstrdup(addr);
    const struct pfl_rpc_channel_opts opts = {.loop = d->loop,
                                              .target = l->addr,
                                              .tls = d->tls,
                                              .user = l,
                                              .check_peer = check_peer,
                                              .on_state = on_state,
                                              .on_not_replaced = on_not_replaced};
    if (pfl_rpc_channel_new(&opts, &l->channel, err) != PFL_OK) {
        free(l->addr);
        free(l);
        return NULL;
    }
    l->next = d->links;
    d->links = l;
    return l;
}

void pfl_link_open(struct pfl_driver *d, const char *addr, bool handshake, uint64_t call)
{
    struct pfl_err err = {0};
    struct pfl_link *l = link_get(d, addr, &err);
    if (!l) {
        struct pfl_event ev = pfl_driver_event(PFL_EV_LINK_DOWN);
        ev.addr = addr;
        ev.rc = err.rc;
        ev.text = err.msg;
        pfl_driver_post(d, &ev);
        return;
    }
    const struct pfl_pending *p = call ? pfl_pending_find(d, call) : NULL;
    if (p && p->caller && !l->bound)
        l->bound = pfl_identity_ref(p->caller);
    if (p)
        l->plain = p->plain;
    l->opening = true;
    l->handshake = handshake;
    if (l->up)
        proceed(l);
    else
        pfl_rpc_channel_connect(l->channel);
}

/* ---- sending ---- */

struct send {
    struct pfl_driver *d;
    uint64_t id;
};

static void post_sent(struct pfl_driver *d, uint64_t id, enum pfl_rc rc, const char *text, const struct pfl_hello *hello)
{
    if (d->shutting_down)
        return;
    struct pfl_event ev = pfl_driver_event(PFL_EV_SENT);
    ev.id = id;
    ev.rc = rc;
    ev.text = text;
    ev.hello = hello;
    pfl_driver_post(d, &ev);
}

static enum pfl_rc rc_of_status(int code)
{
    switch (code) {
    case PFL_GRPC_DEADLINE_EXCEEDED:
        return PFL_TIMEOUT;
    case PFL_GRPC_RESOURCE_EXHAUSTED:
        return PFL_TOO_BIG;
    case PFL_GRPC_PERMISSION_DENIED:
    case PFL_GRPC_UNAUTHENTICATED:
        return PFL_AUTH;
    case PFL_GRPC_INVALID_ARGUMENT:
        return PFL_MALFORMED;
    case PFL_GRPC_CANCELLED:
        return PFL_CANCELED;
    case PFL_GRPC_UNIMPLEMENTED:
        return PFL_UNSUPPORTED;
    default:
        return PFL_UNAVAILABLE;
    }
}

static void on_send_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct send s = *(struct send *)user;
    free(user);
    if (status->code != PFL_GRPC_OK) {
        post_sent(s.d, s.id, rc_of_status(status->code), status->message, NULL);
        return;
    }
    PFL_AUTO(pfl_freep) char *text = NULL;
    PFL_AUTO(pfl_freep) char *error = NULL;
    struct pfl_hello hello = {0};
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_response_decode(pfl_bytes_of(response->data, response->len), &text, &error, &hello, &err);
    if (rc != PFL_OK)
        post_sent(s.d, s.id, rc, err.msg, NULL);
    else if (error)
        post_sent(s.d, s.id, PFL_STATE, error, NULL);
    else
        post_sent(s.d, s.id, PFL_OK, text ? text : "", &hello);
    pfl_hello_deinit(&hello);
}

void pfl_link_send(struct pfl_driver *d, const char *addr, uint64_t id, struct pfl_scatter *body, pfl_ns timeout)
{
    struct pfl_err err = {0};
    struct pfl_link *l = link_get(d, addr, &err);
    if (!l) {
        post_sent(d, id, err.rc, err.msg, NULL);
        return;
    }
    struct send *s = pfl_xmalloc(sizeof(*s));
    *s = (struct send){.d = d, .id = id};
    struct pfl_rpc_body b = pfl_rpc_body_of(pfl_scatter_ref(body));
    pfl_rpc_channel_call(l->channel, "/node.NodeServices/send", &b, timeout, on_send_done, s);
}

/* ---- closing ---- */

static void counters_add(struct pfl_rpc_counters *sum, const struct pfl_rpc_counters *c)
{
    sum->bytes_sent += c->bytes_sent;
    sum->bytes_received += c->bytes_received;
    sum->messages_sent += c->messages_sent;
    sum->messages_received += c->messages_received;
}

static void link_free(void *user)
{
    struct pfl_link *l = user;
    struct pfl_driver *d = l->d;
    pfl_identity_unref(l->bound);
    free(l->addr);
    free(l);
    d->closing_links--;
    pfl_driver_maybe_closed(d);
}

static void link_close(struct pfl_link *gone)
{
    struct pfl_driver *d = gone->d;
    for (struct pfl_link **p = &d->links; *p; p = &(*p)->next) {
        if (*p == gone) {
            *p = gone->next;
            break;
        }
    }
    struct pfl_rpc_counters c;
    pfl_rpc_channel_counters(gone->channel, &c);
    counters_add(&d->closed_links, &c);
    gone->leaving = true;
    d->closing_links++;
    pfl_rpc_channel_close(gone->channel, link_free, gone);
}

void pfl_link_close(struct pfl_driver *d, const char *addr)
{
    struct pfl_link *l = pfl_link_find(d, addr);
    if (l)
        link_close(l);
}

static void on_goodbye_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    (void)status;
    (void)response;
    link_close(user);
}

void pfl_link_goodbye(struct pfl_driver *d, const char *addr)
{
    struct pfl_link *l = pfl_link_find(d, addr);
    if (!l)
        return;
    struct pfl_scatter *s = NULL;
    if (!l->up || pfl_handshake_encode(d->address, NULL, &s, NULL) != PFL_OK) {
        link_close(l);
        return;
    }
    l->leaving = true;
    struct pfl_rpc_body body = pfl_rpc_body_of(s);
    pfl_rpc_channel_call(l->channel, "/node.NodeServices/disconnect", &body, PFL_SEC, on_goodbye_done, l);
}

void pfl_links_close_all(struct pfl_driver *d)
{
    for (struct pfl_link *l = d->links, *next; l; l = next) {
        next = l->next;
        if (!l->leaving)
            link_close(l);
    }
}

void pfl_links_counters(const struct pfl_driver *d, struct pfl_rpc_counters *ret)
{
    *ret = d->closed_links;
    for (const struct pfl_link *l = d->links; l; l = l->next) {
        struct pfl_rpc_counters c;
        pfl_rpc_channel_counters(l->channel, &c);
        counters_add(ret, &c);
    }
}
