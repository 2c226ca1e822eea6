/* SPDX-License-Identifier: Apache-2.0 */
/* nghttp2 has checked names, values and the pseudo fields' presence and order already; here only meaning is read. */
#include "rpc/headers.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/status.h"

enum { FIELD_OVERHEAD = 32 }; /* RFC 9113, 6.5.2 */

static void set(char *dst, size_t size, const char *value, size_t len)
{
    dst[0] = '\0';
    if (len >= size || memchr(value, '\0', len))
        return;
    memcpy(dst, value, len);
    dst[len] = '\0';
}

static void set_encoding(struct pfl_headers *h, const char *value, size_t len)
{
    bool identity = len == 8 && memcmp(value, "identity", 8) == 0;
    h->encoding_unknown = !identity;
    set(h->encoding, sizeof h->encoding, identity ? "" : value, identity ? 0 : len);
}

static void set_timeout(struct pfl_headers *h, const char *value, size_t len)
{
    char text[16];
    set(text, sizeof text, value, len);
    h->has_timeout = true;
    h->timeout_bad = !pfl_grpc_timeout_parse(text, &h->timeout);
}

static void set_http_status(struct pfl_headers *h, const char *value, size_t len)
{
    h->http_status = 0;
    (void)pfl_grpc_status_parse(value, len, &h->http_status);
}

static void set_grpc_status(struct pfl_headers *h, const char *value, size_t len)
{
    h->has_grpc_status = true;
    h->grpc_status_bad = !pfl_grpc_status_parse(value, len, &h->grpc_status);
}

bool pfl_headers_add(struct pfl_headers *h, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len)
{
    const char *v = (const char *)value;
    h->list_len += name_len + value_len + FIELD_OVERHEAD;
    if (h->list_len > PFL_H2_HEADER_LIST_MAX)
        return false;
#define IS(text) (name_len == sizeof(text) - 1 && memcmp(name, text, sizeof(text) - 1) == 0)
    if (IS(":method"))
        set(h->method, sizeof h->method, v, value_len);
    else if (IS(":path"))
        set(h->path, sizeof h->path, v, value_len);
    else if (IS(":status"))
        set_http_status(h, v, value_len);
    else if (IS("content-type"))
        set(h->content_type, sizeof h->content_type, v, value_len);
    else if (IS("authorization"))
        set(h->authorization, sizeof h->authorization, v, value_len);
    else if (IS("grpc-encoding"))
        set_encoding(h, v, value_len);
    else if (IS("grpc-timeout"))
        set_timeout(h, v, value_len);
    else if (IS("grpc-status"))
        set_grpc_status(h, v, value_len);
    else if (IS("grpc-message"))
        pfl_grpc_percent_decode(v, value_len, h->message, sizeof h->message);
#undef IS
    return true;
}

bool pfl_headers_is_grpc(const struct pfl_headers *h)
{
    static const char GRPC[] = "application/grpc";
    if (!pfl_str_has_prefix(h->content_type, GRPC))
        return false;
    char next = h->content_type[sizeof GRPC - 1];
    return next == '\0' || next == ';' || pfl_streq(h->content_type + sizeof GRPC - 1, "+proto") ||
           pfl_str_has_prefix(h->content_type + sizeof GRPC - 1, "+proto;");
}

nghttp2_nv pfl_nv(const char *name, const char *value)
{
    /* nghttp2 takes both as non-const and copies both */
    union {
        const char *in;
        uint8_t *out;
    } n = {.in = name}, v = {.in = value};
    return (nghttp2_nv){
        .name = n.out, .value = v.out, .namelen = strlen(name), .valuelen = strlen(value), .flags = NGHTTP2_NV_FLAG_NONE};
}
