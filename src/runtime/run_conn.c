/* SPDX-License-Identifier: Apache-2.0 */
/* One connection per request keeps answers and requests together without numbering them: a command may take as long as a link does
 * to come up, and others go on meanwhile. A node that sends a line over the limit or no JSON loses its connection. */
#include "runtime/run_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"

enum {
    LINE_BYTES_MAX = 4 << 20, /* a status with thousands of peers */
    READ_BYTES = 64 << 10,
};

struct pfl_run_conn {
    uv_pipe_t pipe;
    uv_write_t write;
    char *request; /* owned: being written */
    struct pfl_buf in;
    char reason[160];
    bool closing;
    void (*on_line)(void *user, json_t *object);
    void (*on_end)(void *user, const char *reason);
    void *user;
};

static void on_closed(uv_handle_t *h)
{
    struct pfl_run_conn *c = h->data;
    c->on_end(c->user, c->reason);
    pfl_buf_deinit(&c->in);
    free(c->request);
    free(c);
}

static void close_because(struct pfl_run_conn *c, const char *reason)
{
    if (c->closing)
        return;
    c->closing = true;
    (void)snprintf(c->reason, sizeof(c->reason), "%s", reason);
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}

void pfl_run_conn_close(struct pfl_run_conn *c)
{
    close_because(c, "closed");
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct pfl_run_conn *c = h->data;
    (void)suggested;
    *buf = pfl_buf_reserve(&c->in, READ_BYTES) ? uv_buf_init((char *)c->in.data + c->in.len, READ_BYTES) : uv_buf_init(NULL, 0);
}

static void take_lines(struct pfl_run_conn *c)
{
    size_t from = 0;
    while (!c->closing && c->in.len > from) {
        const char *start = (const char *)c->in.data + from;
        const char *end = memchr(start, '\n', c->in.len - from);
        if (!end)
            break;
        json_error_t e;
        json_t *o = json_loadb(start, (size_t)(end - start), 0, &e);
        if (json_is_object(o))
            c->on_line(c->user, o);
        else
            close_because(c, "the node sent a line that is no JSON object");
        json_decref(o);
        from += (size_t)(end - start) + 1;
    }
    if (from > 0) {
        memmove(c->in.data, c->in.data + from, c->in.len - from);
        c->in.len -= from;
    }
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct pfl_run_conn *c = s->data;
    (void)buf;
    if (n == UV_ENOBUFS) {
        close_because(c, "the node sent a line over the limit");
    } else if (n < 0) {
        close_because(c, "the node closed the connection");
    } else {
        c->in.len += (size_t)n;
        take_lines(c);
    }
}

static void on_written(uv_write_t *w, int status)
{
    struct pfl_run_conn *c = w->data;
    if (status != 0 && status != UV_ECANCELED)
        close_because(c, uv_strerror(status));
}

/* A blocking connect to a Unix socket does not wait: it is accepted by the kernel or refused. */
static int dial(int dir_fd)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/control.sock", dir_fd);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

struct pfl_run_conn *pfl_run_conn_open(uv_loop_t *loop, int dir_fd, json_t *request, void (*on_line)(void *user, json_t *object),
                                       void (*on_end)(void *user, const char *reason), void *user)
{
    PFL_AUTO(pfl_freep) char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    PFL_ASSERT(text);
    int fd = dial(dir_fd);
    if (fd < 0)
        return NULL;
    struct pfl_run_conn *c = pfl_xcalloc(1, sizeof(*c));
    c->in.limit = LINE_BYTES_MAX;
    c->on_line = on_line;
    c->on_end = on_end;
    c->user = user;
    c->request = pfl_xasprintf("%s\n", text);
    uv_pipe_init(loop, &c->pipe, 0);
    c->pipe.data = c;
    c->write.data = c;
    if (uv_pipe_open(&c->pipe, fd) != 0) {
        close(fd);
        close_because(c, "cannot use the socket");
        return c;
    }
    uv_buf_t b = uv_buf_init(c->request, (unsigned)strlen(c->request));
    if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &b, 1, on_written) != 0 ||
        uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) != 0)
        close_because(c, "cannot use the socket");
    return c;
}

/* ---- one request, one answer ---- */

struct ask {
    struct pfl_run_conn *conn;
    uv_timer_t timer;
    unsigned open; /* of the two handles: the last one to close frees */
    bool answered, late;
    void (*done)(void *user, json_t *answer, const char *error);
    void *user;
};

static void ask_maybe_free(struct ask *a)
{
    if (--a->open == 0)
        free(a);
}

static void on_timer_closed(uv_handle_t *h)
{
    ask_maybe_free(h->data);
}

static void ask_answer(struct ask *a, json_t *answer, const char *error)
{
    if (a->answered)
        return;
    a->answered = true;
    a->done(a->user, answer, error);
}

static void ask_line(void *user, json_t *o)
{
    struct ask *a = user;
    const char *why = json_string_value(json_object_get(o, "error"));
    if (json_is_true(json_object_get(o, "ok")))
        ask_answer(a, o, NULL);
    else
        ask_answer(a, NULL, why ? why : "the node refused without a reason");
    pfl_run_conn_close(a->conn);
}

static void ask_end(void *user, const char *reason)
{
    struct ask *a = user;
    ask_answer(a, NULL, a->late ? "the node did not answer in time" : reason);
    uv_close((uv_handle_t *)&a->timer, on_timer_closed);
    ask_maybe_free(a);
}

static void ask_late(uv_timer_t *t)
{
    struct ask *a = t->data;
    a->late = true;
    pfl_run_conn_close(a->conn);
}

void pfl_run_conn_ask(uv_loop_t *loop, int dir_fd, json_t *request, pfl_ns timeout,
                      void (*done)(void *user, json_t *answer, const char *error), void *user)
{
    struct ask *a = pfl_xcalloc(1, sizeof(*a));
    *a = (struct ask){.open = 2, .done = done, .user = user};
    a->conn = pfl_run_conn_open(loop, dir_fd, request, ask_line, ask_end, a);
    if (!a->conn) {
        done(user, NULL, "the node does not listen on its control socket");
        free(a);
        return;
    }
    uv_timer_init(loop, &a->timer);
    a->timer.data = a;
    uv_timer_start(&a->timer, ask_late, (uint64_t)(timeout / PFL_MS), 0);
}
