/* SPDX-License-Identifier: Apache-2.0 */
/* Plain HTTP requests beside gRPC, for a server that wants them (rpc.h, `http`): what both versions of HTTP have in common, and the
 * small reader of HTTP/1.1 for clients that know no other. HTTP/1.1 is spoken only where the TLS context allows it and the client
 * did not offer h2: one request per connection, no chunked bodies, everything bounded. */
#ifndef PFL_RPC_HTTP_H
#define PFL_RPC_HTTP_H

#include "rpc/rpc.h"

enum {
    PFL_HTTP1_HEAD_MAX = 8 << 10, /* request line and fields: a browser's are below 2 KiB, an EST client's below 500 bytes */
    PFL_HTTP_BODY_MAX = 64 << 10, /* of a request, whatever the options say; a PKCS#10 in base64 is below 24 KiB */
    PFL_HTTP_ANSWER_MAX = 1 << 20
};

/** The head of an HTTP/1.1 request; what it points to lies in `in`. */
struct pfl_http1_head {
    char method[12], path[256], content_type[64], authorization[256]; /* "" where absent or too long to mean anything */
    size_t content_length, head_len;
    bool expects_continue;
};
/** 0: more bytes are needed. 200: *ret is set. Else the HTTP status to refuse with: 400, 411, 413, 431, 501, 505. */
int pfl_http1_parse(struct pfl_bytes in, size_t body_max, struct pfl_http1_head *ret);

#define PFL_HTTP_CHALLENGE   "Basic realm=\"p2pfl enrolment\", charset=\"UTF-8\""
#define PFL_HTTP_CHALLENGE_1 "WWW-Authenticate: " PFL_HTTP_CHALLENGE "\r\n"

struct pfl_conn;
struct pfl_http1;
/* For conn.c and conn_io.c: the connection after its handshake. */
void pfl_conn_http1_start(struct pfl_conn *c);
void pfl_conn_http1_feed(struct pfl_conn *c, const uint8_t *data, size_t len);
void pfl_conn_http1_write(struct pfl_conn *c);
void pfl_http1_free(struct pfl_http1 *h); /* accepts NULL; wipes */

const char *pfl_http_reason(int status); /* "Not Found" */

#endif
