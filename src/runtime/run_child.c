/* SPDX-License-Identifier: Apache-2.0 */
/* libuv starts processes but cannot ask for a parent-death signal, so a child is this same program once more, which asks for it and
 * then replaces itself by the node. Children are sessions of their own: Ctrl-C reaches the runner alone, which ends them in order.
 */
#include "runtime/run_child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "runtime/run_conn.h"

enum {
    RETRY_MS = 25,        /* how often the control socket of a starting node is tried */
    LOG_TAIL_BYTES = 4096 /* what of a log is looked at for its last line */
};

struct pfl_child {
    uv_loop_t *loop;
    char *name, *dir; /* owned */
    int dir_fd;
    uv_process_t process;
    uv_timer_t retry;
    bool running, listening, freed;
    unsigned open; /* handles that are not closed yet */
    int64_t exit_code;
    int term_signal;
    struct pfl_run_conn *events; /* NULL: not subscribed */
    void (*on_event)(void *user, struct pfl_child *c, const json_t *event);
    void (*on_exit)(void *user, struct pfl_child *c);
    void *user;
};

static void subscribe(uv_timer_t *t);

static void on_line(void *user, json_t *o)
{
    struct pfl_child *c = user;
    c->listening = true;
    if (json_object_get(o, "event") && c->on_event)
        c->on_event(c->user, c, o);
}

static void maybe_free(struct pfl_child *c)
{
    if (!c->freed || c->open > 0 || c->events)
        return;
    close(c->dir_fd);
    free(c->name);
    free(c->dir);
    free(c);
}

static void on_end(void *user, const char *reason)
{
    struct pfl_child *c = user;
    (void)reason; /* a process that ended says so itself */
    c->events = NULL;
    maybe_free(c);
}

static void subscribe(uv_timer_t *t)
{
    struct pfl_child *c = t->data;
    if (!c->running || c->events)
        return;
    c->events = pfl_run_conn_open(c->loop, c->dir_fd, json_pack("{s:s}", "cmd", "subscribe"), on_line, on_end, c);
    if (!c->events)
        uv_timer_start(&c->retry, subscribe, RETRY_MS, 0);
}

static void on_exit_cb(uv_process_t *p, int64_t exit_code, int term_signal)
{
    struct pfl_child *c = p->data;
    c->running = false;
    c->exit_code = exit_code;
    c->term_signal = term_signal;
    uv_timer_stop(&c->retry);
    if (c->on_exit)
        c->on_exit(c->user, c);
}

static void on_closed(uv_handle_t *h)
{
    struct pfl_child *c = h->data;
    c->open--;
    maybe_free(c);
}

static int open_log(const char *dir, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "log.txt");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        (void)pfl_err_errno(err, errno, "%s", path);
    return fd;
}

/* The environment with the BLAS kept to one thread per node: the nodes share this machine. What the user set stays. */
static char **child_env(void)
{
    size_t n = 0;
    bool has = false;
    for (; environ[n]; n++)
        has = has || strncmp(environ[n], "OPENBLAS_NUM_THREADS=", 21) == 0;
    char **env = pfl_xcalloc(n + 2, sizeof(*env));
    memcpy(env, environ, n * sizeof(*env));
    static char one[] = "OPENBLAS_NUM_THREADS=1";
    if (!has)
        env[n] = one;
    return env;
}

static int spawn(struct pfl_child *c, int log_fd)
{
    char parent[24];
    (void)snprintf(parent, sizeof(parent), "%ld", (long)getpid());
    char *args[] = {(char[]){"p2pfl"}, (char[]){"run"}, (char[]){"--as-child-of"}, parent, c->name, NULL};
    PFL_AUTO(pfl_freep) char **env = child_env();
    uv_stdio_container_t io[] = {
        {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = log_fd}, {.flags = UV_INHERIT_FD, .data.fd = log_fd}};
    uv_process_options_t o = {.file = "/proc/self/exe",
                              .args = args,
                              .env = env,
                              .cwd = c->dir,
                              .exit_cb = on_exit_cb,
                              .stdio = io,
                              .stdio_count = 3,
                              .flags = UV_PROCESS_DETACHED};
    return uv_spawn(c->loop, &c->process, &o);
}

enum pfl_rc pfl_child_start(const struct pfl_child_opts *opts, struct pfl_child **ret, struct pfl_err *err)
{
    int dir_fd = open(opts->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return pfl_err_errno(err, errno, "%s", opts->dir);
    int log_fd = open_log(opts->dir, err);
    if (log_fd < 0) {
        close(dir_fd);
        return PFL_IO;
    }
    struct pfl_child *c = pfl_xcalloc(1, sizeof(*c));
    *c = (struct pfl_child){.loop = opts->loop,
                            .name = pfl_xstrdup(opts->name),
                            .dir = pfl_xstrdup(opts->dir),
                            .dir_fd = dir_fd,
                            .open = 2,
                            .on_event = opts->on_event,
                            .on_exit = opts->on_exit,
                            .user = opts->user};
    c->process.data = c;
    c->retry.data = c;
    uv_timer_init(c->loop, &c->retry);
    int rc = spawn(c, log_fd);
    close(log_fd);
    if (rc != 0) {
        pfl_child_free(c);
        return pfl_err_set(err, PFL_IO, "cannot start the process of %s: %s", opts->name, uv_strerror(rc));
    }
    c->running = true;
    uv_timer_start(&c->retry, subscribe, RETRY_MS, 0);
    *ret = c;
    return PFL_OK;
}

const char *pfl_child_name(const struct pfl_child *c)
{
    return c->name;
}

const char *pfl_child_dir(const struct pfl_child *c)
{
    return c->dir;
}

bool pfl_child_running(const struct pfl_child *c)
{
    return c->running;
}

bool pfl_child_listening(const struct pfl_child *c)
{
    return c->listening;
}

bool pfl_child_ended_well(const struct pfl_child *c)
{
    return !c->running && c->term_signal == 0 && c->exit_code == 0;
}

/* The last line that says something, quoted; "" where there is none. */
static void last_log_line(const struct pfl_child *c, char *out, size_t out_size)
{
    char tail[LOG_TAIL_BYTES + 1];
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(c->dir, "log.txt");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    out[0] = '\0';
    if (fd < 0)
        return;
    off_t end = lseek(fd, 0, SEEK_END), from = end > LOG_TAIL_BYTES ? end - LOG_TAIL_BYTES : 0;
    ssize_t n = pread(fd, tail, LOG_TAIL_BYTES, from);
    close(fd);
    while (n > 0 && (tail[n - 1] == '\n' || tail[n - 1] == ' '))
        n--;
    if (n <= 0)
        return;
    tail[n] = '\0';
    const char *line = strrchr(tail, '\n');
    line = line ? line + 1 : tail;
    (void)pfl_quote(line, strlen(line), out, out_size);
}

char *pfl_child_ending(const struct pfl_child *c)
{
    char line[400];
    if (c->term_signal)
        return pfl_xasprintf("killed by signal %d (%s)", c->term_signal, strsignal(c->term_signal));
    last_log_line(c, line, sizeof(line));
    return pfl_xasprintf("exited with code %d%s%s", (int)c->exit_code, line[0] ? ": " : "", line);
}

void pfl_child_ask(struct pfl_child *c, json_t *request, pfl_ns timeout,
                   void (*done)(void *user, json_t *answer, const char *error), void *user)
{
    pfl_run_conn_ask(c->loop, c->dir_fd, request, timeout, done, user);
}

void pfl_child_kill(struct pfl_child *c, int signum)
{
    if (c->running)
        (void)uv_process_kill(&c->process, signum);
}

void pfl_child_free(struct pfl_child *c)
{
    if (!c)
        return;
    c->freed = true;
    c->on_event = NULL;
    c->on_exit = NULL;
    if (c->events)
        pfl_run_conn_close(c->events);
    uv_close((uv_handle_t *)&c->retry, on_closed);
    uv_close((uv_handle_t *)&c->process, on_closed);
}

int pfl_child_main(int argc, char **argv)
{
    int64_t parent;
    if (argc < 4 || !pfl_parse_i64(argv[2], 1, INT32_MAX, &parent))
        return 2;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || (int64_t)getppid() != parent)
        return 1; /* the runner is gone already: nobody wants this node */
    char *node[] = {(char[]){"p2pfl"}, (char[]){"node"}, (char[]){"start"}, (char[]){"-c"}, (char[]){"node.yaml"}, NULL};
    (void)execv("/proc/self/exe", node);
    fprintf(stderr, "cannot become a node: %s\n", strerror(errno));
    return 1;
}
