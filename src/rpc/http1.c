/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 for EST clients that offer no h2: one request in, one answer out, the end. Fields that say how long a body is are taken
 * strictly (RFC 9112, 6.3): what two readers could understand in two ways is refused. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/conn.h"
#include "rpc/http.h"

struct pfl_http1 {
    struct pfl_buf in, out; /* owned; in is wiped: a token may be in it */
    size_t written;
    struct pfl_http1_head head;
    bool has_head, answered;
};

const char *pfl_http_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 411:
        return "Length Required";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Error";
    }
}

/* ---- parsing ---- */

static void copy(char *dst, size_t size, const char *text, size_t len)
{
    if (len >= size || memchr(text, '\0', len))
        len = 0;
    memcpy(dst, text, len);
    dst[len] = '\0';
}

/* Past the end of the head; 0: it is not complete. */
static size_t head_end(struct pfl_bytes in)
{
    const uint8_t *end = in.len > 3 ? memmem(in.data, in.len, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - in.data) + 4 : 0;
}

static int parse_request_line(const char *line, size_t len, struct pfl_http1_head *h)
{
    const char *first = memchr(line, ' ', len);
    if (!first)
        return 400;
    const char *target = first + 1, *second = memchr(target, ' ', len - (size_t)(target - line));
    if (!second || target[0] != '/')
        return 400;
    size_t version_len = len - (size_t)(second + 1 - line);
    if (version_len != 8 || memcmp(second + 1, "HTTP/1.", 7) != 0)
        return version_len > 5 && memcmp(second + 1, "HTTP/", 5) == 0 ? 505 : 400;
    copy(h->method, sizeof h->method, line, (size_t)(first - line));
    copy(h->path, sizeof h->path, target, (size_t)(second - target));
    return 200;
}

static int take_length(const char *value, size_t len, bool *had, struct pfl_http1_head *h)
{
    char text[16];
    int64_t n = 0;
    copy(text, sizeof text, value, len);
    if (*had || !isdigit((unsigned char)text[0]) || !pfl_parse_i64(text, 0, INT32_MAX, &n))
        return len >= sizeof text ? 413 : 400;
    *had = true;
    h->content_length = (size_t)n;
    return 200;
}

static int parse_field(const char *line, size_t len, bool *had_length, struct pfl_http1_head *h)
{
    const char *colon = memchr(line, ':', len);
    size_t name_len = colon ? (size_t)(colon - line) : 0;
    if (name_len == 0 || isspace((unsigned char)line[0]) || isspace((unsigned char)line[name_len - 1]))
        return 400; /* folded lines and blanks before the colon among them */
    const char *value = colon + 1, *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t value_len = (size_t)(end - value);
#define IS(text) (name_len == sizeof(text) - 1 && strncasecmp(line, text, sizeof(text) - 1) == 0)
    if (IS("Content-Length"))
        return take_length(value, value_len, had_length, h);
    if (IS("Transfer-Encoding"))
        return 501;
    if (IS("Content-Type"))
        copy(h->content_type, sizeof h->content_type, value, value_len);
    else if (IS("Authorization"))
        copy(h->authorization, sizeof h->authorization, value, value_len);
    else if (IS("Expect"))
        h->expects_continue = value_len == 12 && strncasecmp(value, "100-continue", 12) == 0;
#undef IS
    return 200;
}

int pfl_http1_parse(struct pfl_bytes in, size_t body_max, struct pfl_http1_head *ret)
{
    struct pfl_http1_head h = {0};
    bool had_length = false;
    size_t end = head_end(pfl_bytes_sub(in, 0, in.len < PFL_HTTP1_HEAD_MAX ? in.len : PFL_HTTP1_HEAD_MAX));
    if (end == 0)
        return in.len >= PFL_HTTP1_HEAD_MAX ? 431 : 0;
    const char *at = (const char *)in.data, *stop = at + end - 2;
    int status = 200;
    for (bool first = true; status == 200 && at < stop; first = false) {
        const char *eol = memmem(at, (size_t)(stop + 2 - at), "\r\n", 2);
        size_t len = (size_t)(eol - at);
        status = first ? parse_request_line(at, len, &h) : parse_field(at, len, &had_length, &h);
        at = eol + 2;
    }
    h.head_len = end;
    if (status == 200 && strcmp(h.method, "POST") == 0 && !had_length)
        status = 411;
    if (status == 200 && h.content_length > body_max)
        status = 413;
    if (status == 200)
        *ret = h;
    return status;
}

/* ---- the connection ---- */

void pfl_http1_free(struct pfl_http1 *h)
{
    if (!h)
        return;
    if (h->in.data)
        explicit_bzero(h->in.data, h->in.cap);
    explicit_bzero(&h->head, sizeof h->head);
    pfl_buf_deinit(&h->in);
    pfl_buf_deinit(&h->out);
    free(h);
}

void pfl_conn_http1_start(struct pfl_conn *c)
{
    c->http1 = pfl_xcalloc(1, sizeof *c->http1);
    c->http1->in.limit = PFL_HTTP1_HEAD_MAX + PFL_HTTP_BODY_MAX;
    c->http1->out.limit = PFL_HTTP_ANSWER_MAX + 4096;
    c->state = PFL_CONN_OPEN; /* the time for the setup stays the time for the whole request */
    c->ops->ready(c);
    pfl_conn_read(c);
    if (!pfl_conn_over(c))
        pfl_conn_http1_write(c);
}

static void say(struct pfl_http1 *h, const struct pfl_http_response *r)
{
    pfl_buf_printf(&h->out, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n", r->status, pfl_http_reason(r->status),
                   r->body.len);
    if (r->content_type)
        pfl_buf_printf(&h->out, "Content-Type: %s\r\n", r->content_type);
    if (r->base64)
        pfl_buf_append_str(&h->out, "Content-Transfer-Encoding: base64\r\n");
    if (r->retry_after_s > 0)
        pfl_buf_printf(&h->out, "Retry-After: %d\r\n", r->retry_after_s);
    if (r->status == 401)
        pfl_buf_append_str(&h->out, PFL_HTTP_CHALLENGE_1);
    pfl_buf_append_str(&h->out, "\r\n");
    pfl_buf_append(&h->out, r->body.data, r->body.len);
    h->answered = true;
}

static void refuse(struct pfl_http1 *h, int status)
{
    struct pfl_http_response r = {.status = status, .content_type = "text/plain"};
    pfl_buf_printf(&r.body, "%s\n", pfl_http_reason(status));
    say(h, &r);
    pfl_buf_deinit(&r.body);
}

static void answer(struct pfl_conn *c)
{
    struct pfl_http1 *h = c->http1;
    struct pfl_http_response r = {.body = {.limit = PFL_HTTP_ANSWER_MAX}};
    const struct pfl_http_request request = {
        .method = h->head.method,
        .path = h->head.path,
        .content_type = h->head.content_type,
        .authorization = h->head.authorization,
        .body = pfl_bytes_sub(pfl_buf_view(&h->in), h->head.head_len, h->head.content_length),
    };
    c->ops->http(c, &request, &r);
    say(h, &r);
    pfl_buf_deinit(&r.body);
}

static bool take_head(struct pfl_conn *c)
{
    struct pfl_http1 *h = c->http1;
    int status = pfl_http1_parse(pfl_buf_view(&h->in), c->ops->http ? PFL_HTTP_BODY_MAX : 0, &h->head);
    if (status == 0)
        return false;
    h->has_head = status == 200;
    if (!h->has_head)
        refuse(h, status);
    else if (h->head.expects_continue && h->in.len < h->head.head_len + h->head.content_length)
        pfl_buf_append_str(&h->out, "HTTP/1.1 100 Continue\r\n\r\n");
    return h->has_head;
}

void pfl_conn_http1_feed(struct pfl_conn *c, const uint8_t *data, size_t len)
{
    struct pfl_http1 *h = c->http1;
    if (h->answered)
        return; /* more than one request: not read */
    if (!pfl_buf_append(&h->in, data, len)) {
        refuse(h, 413);
        return;
    }
    if (!h->has_head && !take_head(c))
        return;
    if (h->in.len >= h->head.head_len + h->head.content_length)
        answer(c);
}

void pfl_conn_http1_write(struct pfl_conn *c)
{
    struct pfl_http1 *h = c->http1;
    while (!c->write_blocked && h->written < h->out.len) {
        size_t n = 0;
        enum pfl_tls_io io = pfl_conn_transport_write(c, h->out.data + h->written, h->out.len - h->written, &n);
        if (io == PFL_TLS_AGAIN_READ || io == PFL_TLS_AGAIN_WRITE)
            c->write_blocked = true;
        else if (io != PFL_TLS_OK) {
            pfl_conn_fail(c, PFL_UNAVAILABLE, "connection lost before the answer was out");
            return;
        }
        h->written += n;
    }
    if (h->answered && h->written == h->out.len)
        pfl_conn_refuse(c, PFL_UNAVAILABLE, "answered over HTTP/1.1");
}
