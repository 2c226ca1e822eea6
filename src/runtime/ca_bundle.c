/* SPDX-License-Identifier: Apache-2.0 */
/* GetBundle: roots and CRLs for anybody. Who has the newest already may wait for the next: a revocation reaches it the moment that
 * crl.pem is written, by this process or by `p2pfl ca revoke`, and costs nothing until then. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "pki/digest.h"
#include "runtime/ca_limits.h"
#include "runtime/ca_rate.h"
#include "runtime/ca_server_impl.h"
#include "wire/limits.h"

struct pfl_ca_waiting {
    struct pfl_ca_waiting *next;
    struct pfl_rpc_call *call;
    uint8_t known[PFL_CA_KNOWN_LEN];
    pfl_ns until;
    char ip[PFL_ADDR_MAX];
};

/* The newest bundle, encoded; false (and said) where it cannot be had. */
static bool refresh(struct pfl_ca_server *s)
{
    struct pfl_err err = {0};
    struct pfl_buf out = {.limit = PFL_WIRE_CA_ANSWER_MAX};
    enum pfl_rc rc = pfl_ca_server_refresh_bundle(s, &err);
    if (rc == PFL_OK)
        rc = pfl_ca_bundle_encode(&s->bundle, &out, &err);
    if (rc != PFL_OK || out.failed) {
        pfl_error("the bundle cannot be given: %s", rc == PFL_OK ? "it is too large" : err.msg);
        pfl_buf_deinit(&out);
        return false;
    }
    pfl_buf_deinit(&s->bundle_bytes);
    s->bundle_bytes = out;
    pfl_sha256(pfl_buf_view(&out), s->bundle_digest);
    return true;
}

static void release(void *owner)
{
    pfl_blob_unref(owner);
}

static void give(struct pfl_ca_server *s, struct pfl_rpc_call *call, bool ok)
{
    struct pfl_blob *copy = ok ? pfl_blob_copy(s->bundle_bytes.data, s->bundle_bytes.len) : NULL;
    if (!copy) {
        pfl_rpc_call_fail(call, PFL_GRPC_UNAVAILABLE, "the CA cannot answer now: its log says why");
        return;
    }
    const struct pfl_bytes part = pfl_bytes_of(copy->data, copy->len);
    const struct pfl_rpc_body body = {.parts = &part, .n = 1, .release = release, .owner = copy};
    pfl_rpc_call_reply(call, &body);
}

static bool may_wait(const struct pfl_ca_server *s, const char *ip)
{
    unsigned n = 0, of_ip = 0;
    for (const struct pfl_ca_waiting *w = s->waiting; w; w = w->next) {
        n++;
        of_ip += pfl_streq(w->ip, ip);
    }
    return n < PFL_CA_WAITING_MAX && of_ip < PFL_CA_WAITING_PER_IP_MAX;
}

void pfl_ca_on_bundle(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct pfl_ca_server *s = user;
    struct pfl_ca_bundle_request r;
    struct pfl_err err = {0};
    char ip[PFL_ADDR_MAX];
    if (pfl_ca_bundle_request_decode(pfl_bytes_of(request->data, request->len), &r, &err) != PFL_OK) {
        pfl_rpc_call_fail(call, PFL_GRPC_INVALID_ARGUMENT, "%s", err.msg);
        return;
    }
    bool ok = refresh(s);
    pfl_rate_key_of(pfl_rpc_call_peer(call)->remote, ip);
    bool newest = ok && r.has_known && memcmp(r.known, s->bundle_digest, sizeof r.known) == 0;
    if (!newest || r.wait_s == 0 || s->closed || !may_wait(s, ip)) {
        give(s, call, ok);
        return;
    }
    struct pfl_ca_waiting *w = pfl_xcalloc(1, sizeof *w);
    w->call = call;
    memcpy(w->known, r.known, sizeof w->known);
    memcpy(w->ip, ip, sizeof w->ip);
    w->until = pfl_clock_mono() + (r.wait_s < PFL_CA_WAIT_MAX_S ? r.wait_s : PFL_CA_WAIT_MAX_S) * PFL_SEC;
    w->next = s->waiting;
    s->waiting = w;
}

void pfl_ca_bundle_look(struct pfl_ca_server *s)
{
    if (!s->waiting)
        return;
    bool ok = refresh(s);
    pfl_ns now = pfl_clock_mono();
    for (struct pfl_ca_waiting **p = &s->waiting, *w; (w = *p);) {
        bool newest = memcmp(w->known, s->bundle_digest, sizeof w->known) == 0;
        if (ok && newest && now < w->until && pfl_rpc_call_alive(w->call)) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        give(s, w->call, ok);
        free(w);
    }
}

static void on_folder(uv_fs_event_t *h, const char *name, int events, int status)
{
    struct pfl_ca_server *s = h->data;
    (void)events;
    if (status != 0 || !name || !pfl_streq(name, "crl.pem"))
        return;
    pfl_ca_server_follow(s);
    pfl_ca_bundle_look(s);
}

void pfl_ca_bundle_start(struct pfl_ca_server *s)
{
    s->folder.data = s;
    s->folder_open = uv_fs_event_init(s->loop, &s->folder) == 0;
    if (s->folder_open && uv_fs_event_start(&s->folder, on_folder, s->dir, 0) != 0)
        pfl_warn("%s cannot be watched: who waits for a CRL gets it up to %d ms later", s->dir, PFL_CA_TICK_MS);
}

void pfl_ca_bundle_stop(struct pfl_ca_server *s)
{
    while (s->waiting) {
        struct pfl_ca_waiting *w = s->waiting;
        s->waiting = w->next;
        pfl_rpc_call_fail(w->call, PFL_GRPC_UNAVAILABLE, "the service is closing");
        free(w);
    }
    if (s->folder_open)
        uv_fs_event_stop(&s->folder);
}
