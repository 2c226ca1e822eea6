/* SPDX-License-Identifier: Apache-2.0 */
/* The end is told when three things are over: the process, its standard output and its standard error; the last line of the latter
 * is often the only one that says why. Somebody else who holds the pipes open does not keep it from being told. */
#include "runtime/remote_process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    LINE_MAX_BYTES = 1000,
    LINES_BURST = 200, /* lines at once, ... */
    LINES_PER_S = 20,  /* ... and per second in the long run; the others are counted and left out */
    DRAIN_MS = 1000,   /* how long output may come behind the process's end */
};

struct output {
    uv_pipe_t pipe;
    struct pfl_process *p;
    bool ended;
    char line[LINE_MAX_BYTES + 1];
    size_t len;
    bool cut; /* the rest of a line that is too long is thrown away */
};

struct pfl_process {
    uv_process_t process;
    uv_pipe_t input;
    uv_timer_t timer; /* of the kill, then of the drain */
    struct output out[2];
    unsigned open; /* handles */
    bool exited, told, input_closed;
    int64_t exit_code;
    int term_signal;
    char *prefix;                  /* owned */
    char last[LINE_MAX_BYTES + 1]; /* of standard error, quoted */
    double tokens;                 /* lines that may be logged */
    pfl_ns refilled;
    uint64_t left_out;
    char buffer[4096];
    void (*on_ended)(void *user, const char *how);
    void *user;
};

/* ---- output ---- */

static bool may_log(struct pfl_process *p)
{
    pfl_ns now = pfl_clock_mono();
    p->tokens += (double)(now - p->refilled) / (double)PFL_SEC * LINES_PER_S;
    p->tokens = p->tokens < LINES_BURST ? p->tokens : LINES_BURST;
    p->refilled = now;
    if (p->tokens < 1.0) {
        p->left_out++;
        return false;
    }
    p->tokens -= 1.0;
    if (p->left_out > 0)
        pfl_warn("%s: %llu lines left out, more than %d per second", p->prefix, (unsigned long long)p->left_out, LINES_PER_S);
    p->left_out = 0;
    return true;
}

static void end_line(struct output *o)
{
    struct pfl_process *p = o->p;
    char text[LINE_MAX_BYTES + 1];
    if (o->len > 0 && o->line[o->len - 1] == '\r')
        o->len--;
    if (o->len > 0) {
        (void)pfl_quote(o->line, o->len, text, sizeof(text));
        if (o == &p->out[1])
            memcpy(p->last, text, sizeof(text));
        if (may_log(p))
            pfl_info("%s: %s%s", p->prefix, text, o->cut ? " (cut)" : "");
    }
    o->len = 0;
    o->cut = false;
}

static void take_output(struct output *o, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n')
            end_line(o);
        else if (o->len < LINE_MAX_BYTES)
            o->line[o->len++] = data[i];
        else
            o->cut = true;
    }
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *h)
{
    struct pfl_process *p = h->data;
    if (--p->open > 0)
        return;
    free(p->prefix);
    free(p);
}

static void close_input(struct pfl_process *p)
{
    if (!p->input_closed)
        uv_close((uv_handle_t *)&p->input, on_closed);
    p->input_closed = true;
}

static void tell(struct pfl_process *p)
{
    char how[LINE_MAX_BYTES + 200];
    if (p->told)
        return;
    p->told = true;
    for (size_t i = 0; i < 2; i++) {
        end_line(&p->out[i]);
        uv_close((uv_handle_t *)&p->out[i].pipe, on_closed);
    }
    if (p->left_out > 0)
        pfl_warn("%s: %llu lines left out, more than %d per second", p->prefix, (unsigned long long)p->left_out, LINES_PER_S);
    close_input(p);
    uv_close((uv_handle_t *)&p->timer, on_closed);
    uv_close((uv_handle_t *)&p->process, on_closed);
    if (p->term_signal)
        (void)snprintf(how, sizeof(how), "was killed by signal %d (%s)", p->term_signal, strsignal(p->term_signal));
    else
        (void)snprintf(how, sizeof(how), "ended with code %d%s%s", (int)p->exit_code, p->last[0] ? ": " : "", p->last);
    p->on_ended(p->user, how); /* the handles close later: p is still there */
}

static void maybe_tell(struct pfl_process *p)
{
    if (p->exited && p->out[0].ended && p->out[1].ended)
        tell(p);
}

static void on_drained(uv_timer_t *t)
{
    tell(t->data);
}

static void kill_session(struct pfl_process *p, int signum)
{
    if (!p->exited)
        (void)kill(-p->process.pid, signum); /* not reaped yet: nobody else can have the number */
}

static void on_exit_cb(uv_process_t *process, int64_t exit_code, int term_signal)
{
    struct pfl_process *p = process->data;
    (void)kill(-process->pid, SIGKILL); /* what it started and left behind; the group's number is not free while they live */
    p->exited = true;
    p->exit_code = exit_code;
    p->term_signal = term_signal;
    uv_timer_start(&p->timer, on_drained, DRAIN_MS, 0);
    maybe_tell(p);
}

static void on_kill(uv_timer_t *t)
{
    kill_session(t->data, SIGKILL);
}

void pfl_process_end(struct pfl_process *p, unsigned grace_ms)
{
    if (p->exited)
        return;
    close_input(p);
    kill_session(p, grace_ms ? SIGTERM : SIGKILL);
    if (grace_ms)
        uv_timer_start(&p->timer, on_kill, grace_ms, 0);
}

/* ---- the beginning ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct pfl_process *p = h->data;
    (void)suggested;
    *buf = uv_buf_init(p->buffer, sizeof(p->buffer));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct pfl_process *p = s->data;
    struct output *o = s == (uv_stream_t *)&p->out[0].pipe ? &p->out[0] : &p->out[1];
    if (n > 0)
        take_output(o, buf->base, (size_t)n);
    if (n >= 0)
        return;
    (void)uv_read_stop(s);
    o->ended = true;
    maybe_tell(p);
}

/* Ours, without what `more` sets. The array is owned, its strings are not. */
static char **environment(const struct pfl_strs *more)
{
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    char **env = pfl_xcalloc(n + more->n + 1, sizeof(*env));
    for (size_t i = 0; i < n; i++) {
        bool replaced = false;
        for (size_t m = 0; m < more->n && !replaced; m++)
            replaced = strncmp(environ[i], more->items[m], strcspn(more->items[m], "=") + 1) == 0;
        if (!replaced)
            env[k++] = environ[i];
    }
    memcpy(env + k, more->items, more->n * sizeof(*env));
    return env;
}

static int spawn(struct pfl_process *p, const struct pfl_process_opts *o)
{
    char parent[24];
    (void)snprintf(parent, sizeof(parent), "%ld", (long)getpid());
    char *front[] = {(char[]){"p2pfl"}, (char[]){"node"}, (char[]){"as-learner-of"}, parent};
    size_t n_front = o->launcher ? PFL_ARRAY_LEN(front) : 0;
    PFL_AUTO(pfl_freep) char **args = pfl_xcalloc(n_front + o->command->n + 1, sizeof(*args));
    PFL_AUTO(pfl_freep) char **env = environment(o->env);
    memcpy(args, front, n_front * sizeof(*args));
    memcpy(args + n_front, o->command->items, o->command->n * sizeof(*args));
    uv_stdio_container_t io[] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&p->input},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->out[0].pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->out[1].pipe},
    };
    const uv_process_options_t options = {
        .file = o->launcher ? o->launcher : args[0],
        .args = args,
        .env = env,
        .cwd = o->folder,
        .flags = UV_PROCESS_DETACHED, /* a session of its own */
        .stdio_count = 3,
        .stdio = io,
        .exit_cb = on_exit_cb,
    };
    return uv_spawn(o->loop, &p->process, &options);
}

enum pfl_rc pfl_process_start(const struct pfl_process_opts *o, struct pfl_process **ret, struct pfl_err *err)
{
    struct pfl_process *p = pfl_xcalloc(1, sizeof(*p));
    PFL_ASSERT(o->command->n > 0);
    p->prefix = pfl_xstrdup(o->prefix);
    p->on_ended = o->on_ended;
    p->user = o->user;
    p->tokens = LINES_BURST;
    p->refilled = pfl_clock_mono();
    p->open = 5;
    PFL_ASSERT(uv_timer_init(o->loop, &p->timer) == 0 && uv_pipe_init(o->loop, &p->input, 0) == 0);
    p->process.data = p->timer.data = p->input.data = p;
    for (size_t i = 0; i < 2; i++) {
        PFL_ASSERT(uv_pipe_init(o->loop, &p->out[i].pipe, 0) == 0);
        p->out[i].pipe.data = p->out[i].p = p;
    }
    int rv = spawn(p, o);
    if (rv != 0) {
        enum pfl_rc rc = pfl_err_set(err, PFL_IO, "cannot be started%s%s: %s", o->folder ? " in " : "", o->folder ? o->folder : "",
                                     uv_strerror(rv));
        uv_handle_t *const handles[] = {(uv_handle_t *)&p->process, (uv_handle_t *)&p->timer, (uv_handle_t *)&p->input,
                                        (uv_handle_t *)&p->out[0].pipe, (uv_handle_t *)&p->out[1].pipe};
        for (size_t i = 0; i < PFL_ARRAY_LEN(handles); i++)
            uv_close(handles[i], on_closed);
        return rc;
    }
    for (size_t i = 0; i < 2; i++)
        (void)uv_read_start((uv_stream_t *)&p->out[i].pipe, on_alloc, on_read);
    *ret = p;
    return PFL_OK;
}

int pfl_process_launch(int argc, char **argv)
{
    int64_t parent;
    if (argc < 3 || !pfl_parse_i64(argv[1], 1, INT32_MAX, &parent))
        return 2;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || (int64_t)getppid() != parent)
        return 1; /* the node is gone already */
    (void)execvp(argv[2], argv + 2);
    fprintf(stderr, "cannot start the learner '%s': %s\n", argv[2], strerror(errno));
    return 127;
}
