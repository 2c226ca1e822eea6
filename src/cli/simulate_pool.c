/* SPDX-License-Identifier: Apache-2.0 */
/* Worker processes for seeds. See simulate_pool.h. Worker k has every jobs-th seed; rows come over one pipe per worker. */
#include "cli/simulate_pool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct worker {
    pid_t pid;
    int fd;        /* -1: done */
    uint64_t next; /* the first seed whose result has not come */
    bool begun;
};

/* ---- in the worker ---- */

static void write_row(int fd, const struct pfl_pool_row *row)
{
    const char *p = (const char *)row;
    size_t left = sizeof(*row);
    while (left > 0) {
        ssize_t n = write(fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(3); /* nobody reads any more */
        p += n;
        left -= (size_t)n;
    }
}

static _Noreturn void work(const struct pfl_pool_opts *o, uint64_t first, int fd)
{
    uint64_t seed = first;
    for (;;) {
        struct pfl_pool_row row = {.seed = seed, .begun = true};
        write_row(fd, &row);
        row.begun = false;
        (void)alarm(o->seed_limit_s);
        o->run(o->user, seed, &row);
        (void)alarm(0);
        write_row(fd, &row);
        if (o->last - seed < o->jobs)
            break;
        seed += o->jobs;
    }
    fflush(NULL);
    _exit(0);
}

/* ---- in the parent ---- */

static enum pfl_rc start(const struct pfl_pool_opts *o, struct worker *w, struct worker *all, struct pfl_err *err)
{
    int fds[2];
    fflush(NULL);
    if (pipe(fds) != 0)
        return pfl_err_errno(err, errno, "pipe");
    pid_t pid = fork();
    if (pid < 0) {
        pfl_err_errno(err, errno, "fork");
        close(fds[0]);
        close(fds[1]);
        return PFL_IO;
    }
    if (pid == 0) {
        close(fds[0]);
        for (unsigned k = 0; k < o->jobs; k++) {
            if (all[k].fd >= 0)
                close(all[k].fd);
        }
        work(o, w->next, fds[1]);
    }
    close(fds[1]);
    *w = (struct worker){.pid = pid, .fd = fds[0], .next = w->next};
    return PFL_OK;
}

static bool read_row(int fd, struct pfl_pool_row *row)
{
    char *p = (char *)row;
    size_t left = sizeof(*row);
    while (left > 0) {
        ssize_t n = read(fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        left -= (size_t)n;
    }
    return true;
}

/* A worker's pipe ended. With seeds left, something killed it: that seed failed, the next are for another one. */
static enum pfl_rc ended(const struct pfl_pool_opts *o, struct worker *w, struct worker *all, struct pfl_err *err)
{
    int status = 0;
    close(w->fd);
    w->fd = -1;
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!w->begun)
        return PFL_OK;
    struct pfl_pool_row row = {.seed = w->next, .r = {.failed = true}};
    snprintf(row.r.checker, sizeof(row.r.checker), "crash");
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(row.r.failure, sizeof(row.r.failure), "not through within %u s of real time", o->seed_limit_s);
    else if (WIFSIGNALED(status))
        snprintf(row.r.failure, sizeof(row.r.failure), "the simulation died of signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(row.r.failure, sizeof(row.r.failure), "the simulation ended with status %d", WEXITSTATUS(status));
    o->row(o->user, &row);
    if (o->last - w->next < o->jobs)
        return PFL_OK;
    w->next += o->jobs;
    return start(o, w, all, err);
}

static enum pfl_rc take(const struct pfl_pool_opts *o, struct worker *w, struct worker *all, struct pfl_err *err)
{
    struct pfl_pool_row row;
    if (!read_row(w->fd, &row))
        return ended(o, w, all, err);
    w->begun = row.begun;
    w->next = row.seed;
    if (!row.begun)
        o->row(o->user, &row);
    return PFL_OK;
}

static enum pfl_rc serve(const struct pfl_pool_opts *o, struct worker *all, struct pollfd *fds, struct pfl_err *err)
{
    for (;;) {
        unsigned open = 0;
        for (unsigned k = 0; k < o->jobs; k++) {
            fds[k] = (struct pollfd){.fd = all[k].fd, .events = POLLIN};
            open += all[k].fd >= 0;
        }
        if (open == 0)
            return PFL_OK;
        if (poll(fds, o->jobs, -1) < 0 && errno != EINTR)
            return pfl_err_errno(err, errno, "poll");
        for (unsigned k = 0; k < o->jobs; k++) {
            if (all[k].fd < 0 || !(fds[k].revents & (POLLIN | POLLHUP | POLLERR)))
                continue;
            enum pfl_rc rc = take(o, &all[k], all, err);
            if (rc != PFL_OK)
                return rc;
        }
    }
}

enum pfl_rc pfl_pool_run(const struct pfl_pool_opts *opts, struct pfl_err *err)
{
    struct pfl_pool_opts o = *opts;
    uint64_t seeds = o.last - o.first;
    if (seeds < o.jobs - 1)
        o.jobs = (unsigned)seeds + 1;
    struct worker *all = pfl_xcalloc(o.jobs, sizeof(*all));
    struct pollfd *fds = pfl_xcalloc(o.jobs, sizeof(*fds));
    enum pfl_rc rc = PFL_OK;
    for (unsigned k = 0; k < o.jobs; k++)
        all[k] = (struct worker){.fd = -1, .next = o.first + k};
    for (unsigned k = 0; rc == PFL_OK && k < o.jobs; k++)
        rc = start(&o, &all[k], all, err);
    if (rc == PFL_OK)
        rc = serve(&o, all, fds, err);
    for (unsigned k = 0; k < o.jobs; k++) {
        if (all[k].fd < 0)
            continue;
        kill(all[k].pid, SIGTERM);
        close(all[k].fd);
        waitpid(all[k].pid, NULL, 0);
    }
    free(all);
    free(fds);
    return rc;
}
