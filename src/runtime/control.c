/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: how an operator talks to a running node. A Unix socket, mode 0600, one JSON object per line each way.
 * Who may open the file may steer the node; nothing else is asked. Requests: status, connect, disconnect, learn, stop,
 * shutdown, subscribe. A line that is too long or no JSON gets an error and costs its connection. */
#include "runtime/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "runtime/credentials.h"
#include "runtime/driver_impl.h"
#include "runtime/limits.h"

struct client {
    struct client *next;
    struct pfl_control *c; /* NULL once the control is gone */
    uv_pipe_t pipe;
    struct pfl_buf in;
    bool subscribed, closing;
    unsigned waiting; /* commands whose answer is not written yet: keeps the client's memory */
    bool closed;
};

struct pfl_control {
    struct pfl_driver *d;
    uv_pipe_t pipe;
    char *path; /* owned */
    struct client *clients;
    unsigned n_clients;
    bool stopping, pipe_closed;
};

/* ---- writing ---- */

struct write {
    uv_write_t req;
    char *data;
};

static void client_close(struct client *cl);

static void on_written(uv_write_t *req, int status)
{
    struct write *w = (struct write *)req->data;
    (void)status; /* a failed write shows as a read error, which closes */
    free(w->data);
    free(w);
}

static void client_write(struct client *cl, const char *data, size_t len)
{
    if (cl->closing)
        return;
    if (uv_stream_get_write_queue_size((uv_stream_t *)&cl->pipe) > PFL_CONTROL_BACKLOG_MAX) {
        client_close(cl);
        return;
    }
    struct write *w = pfl_xcalloc(1, sizeof(*w));
    w->data = pfl_xmalloc(len);
    memcpy(w->data, data, len);
    w->req.data = w;
    uv_buf_t b = uv_buf_init(w->data, (unsigned)len);
    if (uv_write(&w->req, (uv_stream_t *)&cl->pipe, &b, 1, on_written) != 0) {
        free(w->data);
        free(w);
        client_close(cl);
    }
}

static void client_answer(struct client *cl, json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    PFL_ASSERT(text);
    PFL_AUTO(pfl_freep) char *line = pfl_xasprintf("%s\n", text);
    free(text);
    client_write(cl, line, strlen(line));
}

static void client_answer_error(struct client *cl, const char *error)
{
    char text[2 * PFL_ERR_MAX];
    client_answer(cl, error ? json_pack("{s:b, s:s}", "ok", 0, "error", pfl_quote(error, strlen(error), text, sizeof(text)))
                            : json_pack("{s:b}", "ok", 1));
}

/* ---- the life of a client ---- */

static void control_maybe_gone(struct pfl_control *c)
{
    if (!c->stopping || !c->pipe_closed || c->clients)
        return;
    struct pfl_driver *d = c->d;
    free(c->path);
    free(c);
    d->control_closed = true;
    pfl_driver_maybe_closed(d);
}

static void client_maybe_free(struct client *cl)
{
    if (!cl->closed || cl->waiting)
        return;
    struct pfl_control *c = cl->c;
    for (struct client **p = &c->clients; *p; p = &(*p)->next) {
        if (*p == cl) {
            *p = cl->next;
            break;
        }
    }
    c->n_clients--;
    pfl_buf_deinit(&cl->in);
    free(cl);
    control_maybe_gone(c);
}

static void on_client_closed(uv_handle_t *h)
{
    struct client *cl = h->data;
    cl->closed = true;
    client_maybe_free(cl);
}

static void client_close(struct client *cl)
{
    if (cl->closing)
        return;
    cl->closing = true;
    uv_close((uv_handle_t *)&cl->pipe, on_client_closed);
}

/* ---- requests ---- */

static void on_command_done(void *user, const char *error)
{
    struct client *cl = user;
    client_answer_error(cl, error);
    cl->waiting--;
    client_maybe_free(cl);
}

static void run_command(struct client *cl, enum pfl_event_kind kind, const char *addr, const struct pfl_learn_args *learn)
{
    cl->waiting++;
    pfl_driver_command(cl->c->d, kind, addr, learn, on_command_done, cl);
}

static void cmd_address(struct client *cl, enum pfl_event_kind kind, json_t *req)
{
    const char *addr = json_string_value(json_object_get(req, "address"));
    struct pfl_addr a;
    struct pfl_err err = {0};
    if (!addr) {
        client_answer_error(cl, "\"address\" is missing");
        return;
    }
    if (pfl_addr_parse(addr, &a, &err) != PFL_OK) {
        client_answer_error(cl, err.msg);
        return;
    }
    char text[PFL_ADDR_MAX + 16];
    pfl_addr_format(&a, text);
    run_command(cl, kind, text, NULL);
}

static bool get_count(json_t *req, const char *key, json_int_t min, json_int_t max, unsigned *ret)
{
    json_t *v = json_object_get(req, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return false;
    *ret = (unsigned)json_integer_value(v);
    return true;
}

static void cmd_learn(struct client *cl, json_t *req)
{
    struct pfl_learn_args args = {.name = json_string_value(json_object_get(req, "name"))};
    if (!args.name)
        args.name = "experiment";
    if (!get_count(req, "rounds", 1, 1000000, &args.rounds))
        client_answer_error(cl, "\"rounds\" must be a whole number from 1 to 1000000");
    else if (!get_count(req, "epochs", 0, 10000, &args.epochs))
        client_answer_error(cl, "\"epochs\" must be a whole number from 0 to 10000");
    else if (!get_count(req, "trainset_size", 1, 4096, &args.trainset_size))
        client_answer_error(cl, "\"trainset_size\" must be a whole number from 1 to 4096");
    else
        run_command(cl, PFL_EV_CMD_LEARN, NULL, &args);
}

static void cmd_renew(struct client *cl, json_t *req)
{
    cl->waiting++;
    pfl_credentials_renew(cl->c->d, json_is_true(json_object_get(req, "force")), on_command_done, cl);
}

/* "path" of a CRL file, or none: the one in settings.ssl.crl */
static void cmd_crl(struct client *cl, json_t *req)
{
    cl->waiting++;
    pfl_driver_reload_crl(cl->c->d, json_string_value(json_object_get(req, "path")), on_command_done, cl);
}

static void replay_line(void *user, const char *line, size_t len)
{
    client_write(user, line, len);
}

static void cmd_subscribe(struct client *cl)
{
    client_answer_error(cl, NULL);
    pfl_events_replay(cl->c->d->events, replay_line, cl);
    cl->subscribed = true;
}

static void handle(struct client *cl, json_t *req)
{
    struct pfl_driver *d = cl->c->d;
    const char *cmd = json_string_value(json_object_get(req, "cmd"));
    if (!cmd)
        client_answer_error(cl, "\"cmd\" is missing");
    else if (pfl_streq(cmd, "status"))
        client_answer(cl, pfl_driver_status(d));
    else if (pfl_streq(cmd, "connect"))
        cmd_address(cl, PFL_EV_CMD_CONNECT, req);
    else if (pfl_streq(cmd, "disconnect"))
        cmd_address(cl, PFL_EV_CMD_DISCONNECT, req);
    else if (pfl_streq(cmd, "learn"))
        cmd_learn(cl, req);
    else if (pfl_streq(cmd, "stop"))
        run_command(cl, PFL_EV_CMD_STOP, NULL, NULL);
    else if (pfl_streq(cmd, "crl"))
        cmd_crl(cl, req);
    else if (pfl_streq(cmd, "renew"))
        cmd_renew(cl, req);
    else if (pfl_streq(cmd, "subscribe"))
        cmd_subscribe(cl);
    else if (pfl_streq(cmd, "shutdown")) {
        client_answer_error(cl, d->on_shutdown_request ? NULL : "this node is not stopped this way: its program embeds it");
        if (d->on_shutdown_request)
            d->on_shutdown_request(d->shutdown_user);
    } else {
        char text[256];
        snprintf(text, sizeof(text), "unknown command '%s'", pfl_q(cmd));
        client_answer_error(cl, text);
    }
}

static void handle_line(struct client *cl, const char *line, size_t len)
{
    json_error_t e;
    json_t *req = json_loadb(line, len, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(req)) {
        json_decref(req);
        client_answer_error(cl, "a request is one JSON object on one line");
        return;
    }
    handle(cl, req);
    json_decref(req);
}

static void take_lines(struct client *cl)
{
    size_t from = 0;
    while (!cl->closing) {
        const uint8_t *start = cl->in.data + from;
        const uint8_t *nl = cl->in.len > from ? memchr(start, '\n', cl->in.len - from) : NULL;
        if (!nl)
            break;
        size_t len = (size_t)(nl - start);
        handle_line(cl, (const char *)start, len);
        from += len + 1;
    }
    if (from > 0) {
        memmove(cl->in.data, cl->in.data + from, cl->in.len - from);
        cl->in.len -= from;
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct client *cl = h->data;
    (void)suggested;
    if (!pfl_buf_reserve(&cl->in, 4096)) {
        *buf = uv_buf_init(NULL, 0);
        return;
    }
    *buf = uv_buf_init((char *)cl->in.data + cl->in.len, 4096);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct client *cl = s->data;
    (void)buf;
    if (n < 0) { /* also UV_ENOBUFS: the line is too long */
        client_close(cl);
        return;
    }
    cl->in.len += (size_t)n;
    take_lines(cl);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct pfl_control *c = server->data;
    if (status != 0)
        return;
    struct client *cl = pfl_xcalloc(1, sizeof(*cl));
    cl->c = c;
    cl->in.limit = PFL_CONTROL_LINE_MAX;
    uv_pipe_init(c->d->loop, &cl->pipe, 0);
    cl->pipe.data = cl;
    cl->next = c->clients;
    c->clients = cl;
    c->n_clients++;
    if (uv_accept(server, (uv_stream_t *)&cl->pipe) != 0 || c->n_clients > PFL_CONTROL_CLIENTS_MAX ||
        uv_read_start((uv_stream_t *)&cl->pipe, on_alloc, on_read) != 0)
        client_close(cl);
}

void pfl_control_event(struct pfl_control *c, const char *line, size_t len)
{
    for (struct client *cl = c->clients, *next; cl; cl = next) {
        next = cl->next;
        if (cl->subscribed)
            client_write(cl, line, len);
    }
}

/* ---- start and stop ---- */

/* A socket file that nobody answers on is a leftover of a node that was killed. */
static enum pfl_rc clear_path(const char *path, struct pfl_err *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? PFL_OK : pfl_err_errno(err, errno, "%s", path);
    if (!S_ISSOCK(st.st_mode))
        return pfl_err_set(err, PFL_EXISTS, "%s: is there and is no socket; move it away", path);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return pfl_err_errno(err, errno, "%s", path);
    int rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
    close(fd);
    if (rc == 0)
        return pfl_err_set(err, PFL_EXISTS, "%s: a running node answers there; two nodes cannot share a state folder", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return pfl_err_errno(err, errno, "%s: cannot remove the leftover socket", path);
    return PFL_OK;
}

static void on_pipe_closed(uv_handle_t *h)
{
    struct pfl_control *c = h->data;
    c->pipe_closed = true;
    control_maybe_gone(c);
}

static enum pfl_rc control_listen(struct pfl_control *c, struct pfl_err *err)
{
    mode_t old = umask(0177); /* the socket is 0600 from its first moment */
    int rc = uv_pipe_bind(&c->pipe, c->path);
    umask(old);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&c->pipe, PFL_CONTROL_CLIENTS_MAX, on_connection);
    if (rc != 0)
        return pfl_err_set(err, PFL_IO, "%s: cannot listen: %s", c->path, uv_strerror(rc));
    return PFL_OK;
}

enum pfl_rc pfl_control_start(struct pfl_driver *d, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(d->state_dir, "control.sock");
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return pfl_err_set(err, PFL_TOO_BIG,
                           "%s: the path of a socket has at most %zu bytes; use a state folder with a shorter path", path,
                           sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    enum pfl_rc rc = clear_path(path, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_control *c = pfl_xcalloc(1, sizeof(*c));
    c->d = d;
    c->path = pfl_steal(&path);
    uv_pipe_init(d->loop, &c->pipe, 0);
    c->pipe.data = c;
    d->control_closed = false;
    rc = control_listen(c, err);
    if (rc != PFL_OK) {
        c->stopping = true;
        uv_close((uv_handle_t *)&c->pipe, on_pipe_closed);
        return rc;
    }
    d->control = c;
    return PFL_OK;
}

void pfl_control_stop(struct pfl_control *c)
{
    c->d->control = NULL;
    c->stopping = true;
    for (struct client *cl = c->clients, *next; cl; cl = next) {
        next = cl->next;
        client_close(cl);
    }
    uv_close((uv_handle_t *)&c->pipe, on_pipe_closed); /* libuv unlinks the path */
}
