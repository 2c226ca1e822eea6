/* SPDX-License-Identifier: Apache-2.0 */
/* HandShakeRequest and ResponseMessage, with the Hello that tells our nodes from P2PFL's. */
#include <stdlib.h>

#include "node.pb.h"
#include "wire/limits.h"
#include "wire/msg.h"
#include "wire/pb.h"

void pfl_hello_deinit(struct pfl_hello *h)
{
    pfl_strs_deinit(&h->codecs);
    pfl_strs_deinit(&h->features);
    free(h->federation);
    *h = (struct pfl_hello){0};
}

/* An empty message may come without a buffer. */
static struct pfl_pb_input input_of(struct pfl_bytes in, struct pfl_err *err)
{
    static const uint8_t nothing;
    return (struct pfl_pb_input){in.data ? in : pfl_bytes_of(&nothing, 0), err};
}

struct hello_wants {
    struct pfl_pb_strs codecs, features;
    struct pfl_pb_str federation;
};

static void want_hello(node_Hello *pb, struct hello_wants *w, const struct pfl_pb_input *input)
{
    *w = (struct hello_wants){
        .codecs = {"hello.codecs", PFL_WIRE_HELLO_ITEM_MAX, PFL_WIRE_HELLO_ITEMS_MAX, {0}, input},
        .features = {"hello.features", PFL_WIRE_HELLO_ITEM_MAX, PFL_WIRE_HELLO_ITEMS_MAX, {0}, input},
        .federation = {"hello.federation", PFL_WIRE_HELLO_ITEM_MAX, NULL, input},
    };
    pfl_pb_want_strs(&pb->codecs, &w->codecs);
    pfl_pb_want_strs(&pb->features, &w->features);
    pfl_pb_want_str(&pb->federation, &w->federation);
}

/* Hands what came over to ret (NULL: not wanted) or frees it. */
static void finish_hello(struct hello_wants *w, bool ok, bool present, uint32_t version, struct pfl_hello *ret)
{
    struct pfl_hello h = {present, version, w->codecs.value, w->features.value, w->federation.value};
    if (ok && ret)
        *ret = h;
    else
        pfl_hello_deinit(&h);
}

static void put_hello(node_Hello *pb, bool *has, const struct pfl_hello *h)
{
    if (!h || !h->present)
        return;
    *has = true;
    pb->version = h->version;
    pfl_pb_put_strs(&pb->codecs, &h->codecs);
    pfl_pb_put_strs(&pb->features, &h->features);
    pfl_pb_put_str(&pb->federation, h->federation);
}

static enum pfl_rc encode(const pb_msgdesc_t *fields, const void *msg, const char *what, struct pfl_scatter **ret,
                          struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {.limit = PFL_WIRE_CONTROL_MAX};
    enum pfl_rc rc = pfl_pb_encode(&out, fields, msg, what, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_scatter_of(out.data, out.len);
    return PFL_OK;
}

enum pfl_rc pfl_handshake_encode(const char *addr, const struct pfl_hello *hello, struct pfl_scatter **ret, struct pfl_err *err)
{
    node_HandShakeRequest pb = node_HandShakeRequest_init_zero;
    pfl_pb_put_str(&pb.addr, addr);
    put_hello(&pb.hello, &pb.has_hello, hello);
    return encode(node_HandShakeRequest_fields, &pb, "handshake", ret, err);
}

enum pfl_rc pfl_handshake_decode(struct pfl_bytes in, char **ret_addr, struct pfl_hello *ret_hello, struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    const struct pfl_pb_input input = input_of(in, e);
    node_HandShakeRequest pb = node_HandShakeRequest_init_zero;
    struct pfl_pb_str addr = {"addr", PFL_WIRE_ADDRESS_MAX, NULL, &input};
    struct hello_wants w;
    pfl_pb_want_str(&pb.addr, &addr);
    want_hello(&pb.hello, &w, &input);
    enum pfl_rc rc = pfl_pb_decode(&input, node_HandShakeRequest_fields, &pb, "handshake");
    if (rc == PFL_OK && (!addr.value || addr.value[0] == '\0'))
        rc = pfl_err_set(e, PFL_MALFORMED, "handshake without an address");
    finish_hello(&w, rc == PFL_OK, pb.has_hello, pb.hello.version, ret_hello);
    if (rc == PFL_OK)
        *ret_addr = pfl_steal(&addr.value);
    free(addr.value);
    return rc;
}

enum pfl_rc pfl_response_encode(const char *response, const char *error, const struct pfl_hello *hello, struct pfl_scatter **ret,
                                struct pfl_err *err)
{
    node_ResponseMessage pb = node_ResponseMessage_init_zero;
    pfl_pb_put_str(&pb.response, response);
    pfl_pb_put_str(&pb.error, error);
    put_hello(&pb.hello, &pb.has_hello, hello);
    return encode(node_ResponseMessage_fields, &pb, "response", ret, err);
}

enum pfl_rc pfl_response_decode(struct pfl_bytes in, char **ret_response, char **ret_error, struct pfl_hello *ret_hello,
                                struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    const struct pfl_pb_input input = input_of(in, e);
    node_ResponseMessage pb = node_ResponseMessage_init_zero;
    struct pfl_pb_str response = {"response", PFL_WIRE_RESPONSE_MAX, NULL, &input},
                      error = {"error", PFL_WIRE_RESPONSE_MAX, NULL, &input};
    struct hello_wants w;
    pfl_pb_want_str(&pb.response, &response);
    pfl_pb_want_str(&pb.error, &error);
    want_hello(&pb.hello, &w, &input);
    enum pfl_rc rc = pfl_pb_decode(&input, node_ResponseMessage_fields, &pb, "response");
    finish_hello(&w, rc == PFL_OK, pb.has_hello, pb.hello.version, ret_hello);
    if (rc == PFL_OK) {
        *ret_response = pfl_steal(&response.value);
        bool empty = error.value && error.value[0] == '\0'; /* P2PFL takes an empty error for none */
        *ret_error = empty ? NULL : pfl_steal(&error.value);
    }
    free(response.value);
    free(error.value);
    return rc;
}
