/* SPDX-License-Identifier: Apache-2.0 */
/* The CA service's messages on nanopb. A decoder takes views of the input first, each under its limit, and copies when the whole
 * message was read: nothing half-read leaves, and what a stranger sends costs no more than its own length. */
#include "wire/ca_msg.h"

#include <stdlib.h>
#include <string.h>

#include "ca.pb.h"
#include "wire/limits.h"
#include "wire/pb.h"

/* ---- owning ---- */

void pfl_ders_add(struct pfl_ders *l, struct pfl_bytes der)
{
    l->items = pfl_xrealloc(l->items, (l->n + 1) * sizeof *l->items);
    struct pfl_buf *b = &l->items[l->n++];
    *b = (struct pfl_buf){.limit = PFL_WIRE_CA_ANSWER_MAX};
    pfl_buf_append(b, der.data, der.len);
}

void pfl_ders_deinit(struct pfl_ders *l)
{
    for (size_t i = 0; i < l->n; i++)
        pfl_buf_deinit(&l->items[i]);
    free(l->items);
    *l = (struct pfl_ders){0};
}

static void wipe_str(char *s)
{
    if (!s)
        return;
    explicit_bzero(s, strlen(s));
    free(s);
}

void pfl_ca_request_deinit(struct pfl_ca_request *r)
{
    wipe_str(r->token);
    wipe_str(r->request_id);
    pfl_buf_deinit(&r->server_csr);
    pfl_buf_deinit(&r->client_csr);
    *r = (struct pfl_ca_request){0};
}

void pfl_ca_bundle_deinit(struct pfl_ca_bundle *b)
{
    pfl_ders_deinit(&b->roots);
    pfl_ders_deinit(&b->crls);
}

void pfl_ca_credentials_deinit(struct pfl_ca_credentials *c)
{
    pfl_ders_deinit(&c->server_chain);
    pfl_ders_deinit(&c->client_chain);
    pfl_ca_bundle_deinit(&c->bundle);
    free(c->federation.name);
    free(c->federation.node_name);
    free(c->federation.role);
    free(c->federation.settings_yaml);
    pfl_strs_deinit(&c->federation.sans);
    pfl_strs_deinit(&c->federation.connect);
    wipe_str(c->request_id);
    *c = (struct pfl_ca_credentials){0};
}

/* ---- decoding ---- */

/* An empty message may come without a buffer. */
static struct pfl_pb_input input_of(struct pfl_bytes in, struct pfl_err *err)
{
    static const uint8_t nothing;
    return (struct pfl_pb_input){in.data ? in : pfl_bytes_of(&nothing, 0), err};
}

static enum pfl_rc check_size(struct pfl_bytes in, size_t max, const char *what, struct pfl_err *err)
{
    if (in.len > max)
        return pfl_err_set(err, PFL_TOO_BIG, "%s is %zu bytes, the limit is %zu", what, in.len, max);
    return PFL_OK;
}

struct request_wants {
    struct pfl_pb_str token, request_id;
    struct pfl_pb_view server_csr, client_csr;
};

static enum pfl_rc decode_kind(enum pfl_ca_request_kind kind, const struct pfl_pb_input *input, struct request_wants *w)
{
    if (kind == PFL_CA_ENROL) {
        p2pfl_ca_v1_EnrolRequest pb = p2pfl_ca_v1_EnrolRequest_init_zero;
        pfl_pb_want_str(&pb.token, &w->token);
        pfl_pb_want_view(&pb.server_csr, &w->server_csr);
        pfl_pb_want_view(&pb.client_csr, &w->client_csr);
        return pfl_pb_decode(input, p2pfl_ca_v1_EnrolRequest_fields, &pb, "enrolment request");
    }
    if (kind == PFL_CA_RENEW) {
        p2pfl_ca_v1_RenewRequest pb = p2pfl_ca_v1_RenewRequest_init_zero;
        pfl_pb_want_view(&pb.server_csr, &w->server_csr);
        pfl_pb_want_view(&pb.client_csr, &w->client_csr);
        return pfl_pb_decode(input, p2pfl_ca_v1_RenewRequest_fields, &pb, "renewal request");
    }
    p2pfl_ca_v1_PollRequest pb = p2pfl_ca_v1_PollRequest_init_zero;
    pfl_pb_want_str(&pb.request_id, &w->request_id);
    return pfl_pb_decode(input, p2pfl_ca_v1_PollRequest_fields, &pb, "poll request");
}

static enum pfl_rc check_request(enum pfl_ca_request_kind kind, const struct request_wants *w, struct pfl_err *err)
{
    if (kind == PFL_CA_ENROL && (!w->token.value || w->token.value[0] == '\0'))
        return pfl_err_set(err, PFL_MALFORMED, "enrolment request without a token");
    if (kind == PFL_CA_POLL)
        return w->request_id.value && w->request_id.value[0] != '\0'
                   ? PFL_OK
                   : pfl_err_set(err, PFL_MALFORMED, "poll request without a request_id");
    if (w->server_csr.value.len == 0 || w->client_csr.value.len == 0)
        return pfl_err_set(err, PFL_MALFORMED, "request without a %s_csr", w->server_csr.value.len == 0 ? "server" : "client");
    const struct pfl_pb_view *larger = w->server_csr.value.len > w->client_csr.value.len ? &w->server_csr : &w->client_csr;
    return check_size(larger->value, PFL_WIRE_CA_CSR_MAX, larger->field, err);
}

enum pfl_rc pfl_ca_bundle_request_decode(struct pfl_bytes in, struct pfl_ca_bundle_request *ret, struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    const struct pfl_pb_input input = input_of(in, e);
    p2pfl_ca_v1_BundleRequest pb = p2pfl_ca_v1_BundleRequest_init_zero;
    enum pfl_rc rc = check_size(in, PFL_WIRE_CA_REQUEST_MAX, "bundle request", e);
    if (rc == PFL_OK)
        rc = pfl_pb_decode(&input, p2pfl_ca_v1_BundleRequest_fields, &pb, "bundle request");
    if (rc != PFL_OK)
        return rc;
    if (pb.known.size != 0 && pb.known.size != PFL_CA_KNOWN_LEN)
        return pfl_err_set(e, PFL_MALFORMED, "known is %u bytes, %d are needed", (unsigned)pb.known.size, PFL_CA_KNOWN_LEN);
    *ret = (struct pfl_ca_bundle_request){.has_known = pb.known.size > 0, .wait_s = pb.wait_s};
    memcpy(ret->known, pb.known.bytes, pb.known.size);
    return PFL_OK;
}

static void copy_view(struct pfl_buf *dst, struct pfl_bytes v)
{
    *dst = (struct pfl_buf){.limit = PFL_WIRE_CA_CSR_MAX};
    pfl_buf_append(dst, v.data, v.len);
}

enum pfl_rc pfl_ca_request_decode(enum pfl_ca_request_kind kind, struct pfl_bytes in, struct pfl_ca_request *ret,
                                  struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    const struct pfl_pb_input input = input_of(in, e);
    struct request_wants w = {
        .token = {"token", PFL_WIRE_CA_TOKEN_MAX, NULL, &input},
        .request_id = {"request_id", PFL_WIRE_CA_REQUEST_ID_MAX, NULL, &input},
        .server_csr = {"server_csr", {NULL, 0}, &input},
        .client_csr = {"client_csr", {NULL, 0}, &input},
    };
    enum pfl_rc rc = check_size(in, PFL_WIRE_CA_REQUEST_MAX, "request", e);
    if (rc == PFL_OK)
        rc = decode_kind(kind, &input, &w);
    if (rc == PFL_OK)
        rc = check_request(kind, &w, e);
    struct pfl_ca_request r = {.token = w.token.value, .request_id = w.request_id.value};
    if (rc != PFL_OK) {
        pfl_ca_request_deinit(&r);
        return rc;
    }
    copy_view(&r.server_csr, w.server_csr.value);
    copy_view(&r.client_csr, w.client_csr.value);
    *ret = r;
    return PFL_OK;
}

struct bundle_wants {
    struct pfl_pb_views roots, crls;
};

static void want_bundle(p2pfl_ca_v1_Bundle *pb, struct bundle_wants *w, const struct pfl_pb_input *input)
{
    *w = (struct bundle_wants){
        .roots = {"roots", PFL_WIRE_CA_CERT_MAX, PFL_WIRE_CA_ROOTS_MAX, NULL, 0, input},
        .crls = {"crls", PFL_WIRE_CA_CRL_MAX, PFL_WIRE_CA_CRLS_MAX, NULL, 0, input},
    };
    pfl_pb_want_views(&pb->roots, &w->roots);
    pfl_pb_want_views(&pb->crls, &w->crls);
}

/* Copies what came where it is wanted, and lets go of the views. */
static void finish_views(struct pfl_pb_views *v, bool ok, struct pfl_ders *ret)
{
    for (size_t i = 0; ok && i < v->n; i++)
        pfl_ders_add(ret, v->value[i]);
    free(v->value);
}

enum pfl_rc pfl_ca_bundle_decode(struct pfl_bytes in, struct pfl_ca_bundle *ret, struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    const struct pfl_pb_input input = input_of(in, e);
    p2pfl_ca_v1_Bundle pb = p2pfl_ca_v1_Bundle_init_zero;
    struct bundle_wants w;
    want_bundle(&pb, &w, &input);
    enum pfl_rc rc = check_size(in, PFL_WIRE_CA_ANSWER_MAX, "bundle", e);
    if (rc == PFL_OK)
        rc = pfl_pb_decode(&input, p2pfl_ca_v1_Bundle_fields, &pb, "bundle");
    struct pfl_ca_bundle b = {0};
    finish_views(&w.roots, rc == PFL_OK, &b.roots);
    finish_views(&w.crls, rc == PFL_OK, &b.crls);
    if (rc == PFL_OK)
        *ret = b;
    return rc;
}

struct credentials_wants {
    struct pfl_pb_views server_chain, client_chain;
    struct bundle_wants bundle;
    struct pfl_pb_str name, node_name, role, settings_yaml, request_id;
    struct pfl_pb_strs sans, connect;
};

static void want_federation(p2pfl_ca_v1_Federation *pb, struct credentials_wants *w, const struct pfl_pb_input *input)
{
    w->name = (struct pfl_pb_str){"federation.name", PFL_WIRE_CA_NAME_MAX, NULL, input};
    w->node_name = (struct pfl_pb_str){"federation.node_name", PFL_WIRE_CA_NAME_MAX, NULL, input};
    w->role = (struct pfl_pb_str){"federation.role", PFL_WIRE_CA_NAME_MAX, NULL, input};
    w->settings_yaml = (struct pfl_pb_str){"federation.settings_yaml", PFL_WIRE_CA_SETTINGS_MAX, NULL, input};
    w->sans = (struct pfl_pb_strs){"federation.sans", PFL_WIRE_CA_SAN_MAX, PFL_WIRE_CA_SANS_MAX, {0}, input};
    w->connect = (struct pfl_pb_strs){"federation.connect", PFL_WIRE_ADDRESS_MAX, PFL_WIRE_CA_CONNECT_MAX, {0}, input};
    pfl_pb_want_str(&pb->name, &w->name);
    pfl_pb_want_str(&pb->node_name, &w->node_name);
    pfl_pb_want_str(&pb->role, &w->role);
    pfl_pb_want_str(&pb->settings_yaml, &w->settings_yaml);
    pfl_pb_want_strs(&pb->sans, &w->sans);
    pfl_pb_want_strs(&pb->connect, &w->connect);
}

static void want_credentials(p2pfl_ca_v1_Credentials *pb, struct credentials_wants *w, const struct pfl_pb_input *input)
{
    w->server_chain = (struct pfl_pb_views){"server_chain", PFL_WIRE_CA_CERT_MAX, PFL_WIRE_CA_CHAIN_MAX, NULL, 0, input};
    w->client_chain = (struct pfl_pb_views){"client_chain", PFL_WIRE_CA_CERT_MAX, PFL_WIRE_CA_CHAIN_MAX, NULL, 0, input};
    w->request_id = (struct pfl_pb_str){"request_id", PFL_WIRE_CA_REQUEST_ID_MAX, NULL, input};
    pfl_pb_want_views(&pb->server_chain, &w->server_chain);
    pfl_pb_want_views(&pb->client_chain, &w->client_chain);
    pfl_pb_want_str(&pb->request_id, &w->request_id);
    want_bundle(&pb->bundle, &w->bundle, input);
    want_federation(&pb->federation, w, input);
}

/* An answer says one thing: wait, with the secret to ask again, or here are both chains and the roots. */
static enum pfl_rc check_credentials(const p2pfl_ca_v1_Credentials *pb, const struct credentials_wants *w, struct pfl_err *err)
{
    if (pb->state == p2pfl_ca_v1_Credentials_State_PENDING)
        return w->request_id.value && w->request_id.value[0] != '\0'
                   ? PFL_OK
                   : pfl_err_set(err, PFL_MALFORMED, "credentials: pending without a request_id");
    if (pb->state != p2pfl_ca_v1_Credentials_State_ISSUED)
        return pfl_err_set(err, PFL_MALFORMED, "credentials: state %d is not known", (int)pb->state);
    if (w->server_chain.n == 0 || w->client_chain.n == 0 || w->bundle.roots.n == 0)
        return pfl_err_set(err, PFL_MALFORMED, "credentials without a %s",
                           w->server_chain.n == 0   ? "server_chain"
                           : w->client_chain.n == 0 ? "client_chain"
                                                    : "root");
    return PFL_OK;
}

enum pfl_rc pfl_ca_credentials_decode(struct pfl_bytes in, struct pfl_ca_credentials *ret, struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    const struct pfl_pb_input input = input_of(in, e);
    p2pfl_ca_v1_Credentials pb = p2pfl_ca_v1_Credentials_init_zero;
    struct credentials_wants w;
    want_credentials(&pb, &w, &input);
    enum pfl_rc rc = check_size(in, PFL_WIRE_CA_ANSWER_MAX, "credentials", e);
    if (rc == PFL_OK)
        rc = pfl_pb_decode(&input, p2pfl_ca_v1_Credentials_fields, &pb, "credentials");
    if (rc == PFL_OK)
        rc = check_credentials(&pb, &w, e);
    struct pfl_ca_credentials c = {
        .pending = pb.state == p2pfl_ca_v1_Credentials_State_PENDING,
        .federation = {.name = w.name.value,
                       .node_name = w.node_name.value,
                       .role = w.role.value,
                       .settings_yaml = w.settings_yaml.value,
                       .sans = w.sans.value,
                       .connect = w.connect.value,
                       .lifetime_s = pb.federation.lifetime_s},
        .request_id = w.request_id.value,
        .retry_after_s = pb.retry_after_s,
    };
    finish_views(&w.server_chain, rc == PFL_OK, &c.server_chain);
    finish_views(&w.client_chain, rc == PFL_OK, &c.client_chain);
    finish_views(&w.bundle.roots, rc == PFL_OK, &c.bundle.roots);
    finish_views(&w.bundle.crls, rc == PFL_OK, &c.bundle.crls);
    if (rc == PFL_OK)
        *ret = c;
    else
        pfl_ca_credentials_deinit(&c);
    return rc;
}

/* ---- encoding ---- */

enum pfl_rc pfl_ca_request_encode(enum pfl_ca_request_kind kind, const struct pfl_ca_request *r, struct pfl_buf *out,
                                  struct pfl_err *err)
{
    if (kind == PFL_CA_ENROL) {
        p2pfl_ca_v1_EnrolRequest pb = p2pfl_ca_v1_EnrolRequest_init_zero;
        pfl_pb_put_str(&pb.token, r->token);
        pfl_pb_put_bytes(&pb.server_csr, &r->server_csr);
        pfl_pb_put_bytes(&pb.client_csr, &r->client_csr);
        return pfl_pb_encode(out, p2pfl_ca_v1_EnrolRequest_fields, &pb, "enrolment request", err);
    }
    if (kind == PFL_CA_RENEW) {
        p2pfl_ca_v1_RenewRequest pb = p2pfl_ca_v1_RenewRequest_init_zero;
        pfl_pb_put_bytes(&pb.server_csr, &r->server_csr);
        pfl_pb_put_bytes(&pb.client_csr, &r->client_csr);
        return pfl_pb_encode(out, p2pfl_ca_v1_RenewRequest_fields, &pb, "renewal request", err);
    }
    p2pfl_ca_v1_PollRequest pb = p2pfl_ca_v1_PollRequest_init_zero;
    pfl_pb_put_str(&pb.request_id, r->request_id);
    return pfl_pb_encode(out, p2pfl_ca_v1_PollRequest_fields, &pb, "poll request", err);
}

enum pfl_rc pfl_ca_bundle_request_encode(const struct pfl_ca_bundle_request *r, struct pfl_buf *out, struct pfl_err *err)
{
    p2pfl_ca_v1_BundleRequest pb = p2pfl_ca_v1_BundleRequest_init_zero;
    if (r->has_known) {
        memcpy(pb.known.bytes, r->known, PFL_CA_KNOWN_LEN);
        pb.known.size = PFL_CA_KNOWN_LEN;
    }
    pb.wait_s = r->wait_s;
    return pfl_pb_encode(out, p2pfl_ca_v1_BundleRequest_fields, &pb, "bundle request", err);
}

static bool put_ders(pb_ostream_t *s, const pb_field_t *f, void *const *arg)
{
    const struct pfl_ders *l = *arg;
    for (size_t i = 0; i < l->n; i++)
        if (!pb_encode_tag_for_field(s, f) || !pb_encode_string(s, l->items[i].data, l->items[i].len))
            return false;
    return true;
}

static void put_list(pb_callback_t *cb, const struct pfl_ders *l)
{
    cb->funcs.encode = put_ders;
    cb->arg = (void *)(uintptr_t)l;
}

static void put_bundle(p2pfl_ca_v1_Bundle *pb, const struct pfl_ca_bundle *b)
{
    put_list(&pb->roots, &b->roots);
    put_list(&pb->crls, &b->crls);
}

static void put_federation(p2pfl_ca_v1_Federation *pb, const struct pfl_ca_federation *f)
{
    pfl_pb_put_str(&pb->name, f->name);
    pfl_pb_put_str(&pb->node_name, f->node_name);
    pfl_pb_put_str(&pb->role, f->role);
    pfl_pb_put_str(&pb->settings_yaml, f->settings_yaml);
    pfl_pb_put_strs(&pb->sans, &f->sans);
    pfl_pb_put_strs(&pb->connect, &f->connect);
    pb->lifetime_s = f->lifetime_s;
}

enum pfl_rc pfl_ca_credentials_encode(const struct pfl_ca_credentials *c, struct pfl_buf *out, struct pfl_err *err)
{
    p2pfl_ca_v1_Credentials pb = p2pfl_ca_v1_Credentials_init_zero;
    pb.state = c->pending ? p2pfl_ca_v1_Credentials_State_PENDING : p2pfl_ca_v1_Credentials_State_ISSUED;
    pfl_pb_put_str(&pb.request_id, c->request_id);
    pb.retry_after_s = c->retry_after_s;
    pb.has_bundle = pb.has_federation = !c->pending;
    put_list(&pb.server_chain, &c->server_chain);
    put_list(&pb.client_chain, &c->client_chain);
    put_bundle(&pb.bundle, &c->bundle);
    put_federation(&pb.federation, &c->federation);
    return pfl_pb_encode(out, p2pfl_ca_v1_Credentials_fields, &pb, "credentials", err);
}

enum pfl_rc pfl_ca_bundle_encode(const struct pfl_ca_bundle *b, struct pfl_buf *out, struct pfl_err *err)
{
    p2pfl_ca_v1_Bundle pb = p2pfl_ca_v1_Bundle_init_zero;
    put_bundle(&pb, b);
    return pfl_pb_encode(out, p2pfl_ca_v1_Bundle_fields, &pb, "bundle", err);
}
