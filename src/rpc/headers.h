/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of a call's header fields: the few that gRPC gives a meaning. All others (metadata) are ignored. */
#ifndef PFL_RPC_HEADERS_H
#define PFL_RPC_HEADERS_H

#include <nghttp2/nghttp2.h>

#include "rpc/limits.h"
#include "rpc/rpc.h"

struct pfl_headers {
    size_t list_len; /* of all fields together, as HTTP/2 counts */
    char method[12]; /* values that do not fit become "": none of them is one that is wanted */
    char path[PFL_RPC_PATH_MAX];
    char content_type[64];
    char authorization[256]; /* plain HTTP only */
    char encoding[16];       /* grpc-encoding; "" where absent or identity */
    bool encoding_unknown;
    bool has_timeout, timeout_bad;
    pfl_ns timeout;
    int http_status; /* 0: none */
    bool has_grpc_status, grpc_status_bad;
    int grpc_status;
    char message[PFL_RPC_MESSAGE_MAX]; /* decoded */
};
/** False where the list grows past PFL_H2_HEADER_LIST_MAX. */
bool pfl_headers_add(struct pfl_headers *h, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len);
/** application/grpc, alone or with +proto or parameters behind it. */
bool pfl_headers_is_grpc(const struct pfl_headers *h);

/** A field to send; both strings are copied by nghttp2. */
nghttp2_nv pfl_nv(const char *name, const char *value);

#endif
