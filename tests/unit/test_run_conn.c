/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* The runner's end of the control socket against answers of every kind. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "runtime/run_conn.h"

struct server {
    uv_loop_t loop;
    uv_pipe_t listener, client;
    uv_write_t write;
    char *dir, *path; /* owned */
    int dir_fd;
    const char *say; /* sent to who connects; NULL: nothing */
    bool hang_up, accepted;
    /* the outcome */
    unsigned n_done;
    bool answered;
    char error[200];
};

static void on_closed(uv_handle_t *h)
{
    h->data = NULL;
}

static void on_written(uv_write_t *w, int status)
{
    struct server *s = w->data;
    (void)status;
    if (s->hang_up)
        uv_close((uv_handle_t *)&s->client, on_closed);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct server *s = listener->data;
    assert_int_equal(status, 0);
    uv_pipe_init(&s->loop, &s->client, 0);
    s->client.data = s;
    s->accepted = true;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&s->client), 0);
    uv_buf_t b = uv_buf_init((char *)(uintptr_t)(s->say ? s->say : ""), s->say ? (unsigned)strlen(s->say) : 0);
    s->write.data = s;
    assert_int_equal(uv_write(&s->write, (uv_stream_t *)&s->client, &b, 1, on_written), 0);
}

static void server_open(struct server *s, bool listening)
{
    char name[] = "/tmp/pfl-conn-XXXXXX";
    *s = (struct server){.dir = pfl_xstrdup(mkdtemp(name))};
    s->path = pfl_fs_join(s->dir, "control.sock");
    s->dir_fd = open(s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    uv_loop_init(&s->loop);
    uv_pipe_init(&s->loop, &s->listener, 0);
    s->listener.data = s;
    if (!listening)
        return;
    assert_int_equal(uv_pipe_bind(&s->listener, s->path), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&s->listener, 4, on_connection), 0);
}

static void server_close(struct server *s)
{
    if (s->accepted && !uv_is_closing((uv_handle_t *)&s->client))
        uv_close((uv_handle_t *)&s->client, on_closed);
    uv_close((uv_handle_t *)&s->listener, on_closed);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    close(s->dir_fd);
    (void)unlink(s->path);
    assert_int_equal(rmdir(s->dir), 0);
    free(s->dir);
    free(s->path);
}

static void on_done(void *user, json_t *answer, const char *error)
{
    struct server *s = user;
    s->n_done++;
    s->answered = answer != NULL;
    (void)snprintf(s->error, sizeof(s->error), "%s", error ? error : "");
}

static char *long_line(void)
{
    size_t len = 5u << 20;
    char *text = pfl_xmalloc(len + 1);
    memset(text, 'x', len);
    text[len] = '\0';
    return text;
}

static void test_conn_ask__answers_of_every_kind__done_is_called_once(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *endless = long_line();
    const struct {
        const char *name, *say;
        bool hang_up, answered;
        const char *error;
    } rows[] = {
        {"nothing", NULL, false, false, "did not answer in time"},
        {"closed", NULL, true, false, "closed the connection"},
        {"no JSON", "hello\n", false, false, "no JSON object"},
        {"a list", "[1]\n", false, false, "no JSON object"},
        {"half a line", "{\"ok\":tr", true, false, "closed the connection"},
        {"over the limit", endless, false, false, "over the limit"},
        {"refused", "{\"ok\":false,\"error\":\"no such node\"}\n", false, false, "no such node"},
        {"refused without a word", "{}\n", false, false, "without a reason"},
        {"ok twice", "{\"ok\":true}\n{\"ok\":true}\n", true, true, ""},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct server s;
        server_open(&s, true);
        s.say = rows[i].say;
        s.hang_up = rows[i].hang_up;
        pfl_run_conn_ask(&s.loop, s.dir_fd, json_pack("{s:s}", "cmd", "status"), rows[i].say ? 10 * PFL_SEC : 100 * PFL_MS, on_done,
                         &s);
        while (s.n_done == 0)
            uv_run(&s.loop, UV_RUN_ONCE);
        if (s.answered != rows[i].answered || !strstr(s.error, rows[i].error))
            fail_msg("%s: answered %d, '%s'", rows[i].name, s.answered, s.error);
        server_close(&s);
        assert_int_equal(s.n_done, 1);
    }
}

static void test_conn_ask__nobody_listens__says_so_at_once(void **state)
{
    (void)state;
    struct server s;
    server_open(&s, false);
    pfl_run_conn_ask(&s.loop, s.dir_fd, json_pack("{s:s}", "cmd", "status"), PFL_SEC, on_done, &s);
    assert_int_equal(s.n_done, 1);
    assert_false(s.answered);
    assert_non_null(strstr(s.error, "does not listen"));
    server_close(&s);
}

static void on_line(void *user, json_t *o)
{
    struct server *s = user;
    s->n_done += (unsigned)json_integer_value(json_object_get(o, "n"));
}

static void on_end(void *user, const char *reason)
{
    struct server *s = user;
    s->answered = true;
    (void)snprintf(s->error, sizeof(s->error), "%s", reason);
}

static void test_conn_open__many_lines_in_one_read__each_is_given_once(void **state)
{
    (void)state;
    struct server s;
    server_open(&s, true);
    s.say = "{\"n\":1}\n{\"n\":10}\n{\"n\":100}\n{\"n\":1000}";
    s.hang_up = true;
    assert_non_null(pfl_run_conn_open(&s.loop, s.dir_fd, json_pack("{s:s}", "cmd", "subscribe"), on_line, on_end, &s));
    while (!s.answered)
        uv_run(&s.loop, UV_RUN_ONCE);
    assert_int_equal(s.n_done, 111); /* the last line has no end: it was cut off */
    server_close(&s);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* as p2pfl does: who hangs up early is an error of that write */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conn_ask__answers_of_every_kind__done_is_called_once),
        cmocka_unit_test(test_conn_ask__nobody_listens__says_so_at_once),
        cmocka_unit_test(test_conn_open__many_lines_in_one_read__each_is_given_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
