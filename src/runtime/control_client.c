/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a running node over its control socket. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/control.h"

enum { ANSWER_MAX = 4 << 20 }; /* a status with thousands of peers */

static void closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static enum pfl_rc dial(const char *path, int *ret, struct pfl_err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path))
        return pfl_err_set(err, PFL_TOO_BIG, "%s: longer than a socket's path can be", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return pfl_err_errno(err, errno, "socket");
    *ret = fd; /* the caller closes it, after an error too */
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
        return PFL_OK;
    if (errno == ENOENT || errno == ECONNREFUSED)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no node runs with this state folder (%s: %s)", path, strerror(errno));
    return pfl_err_errno(err, errno, "%s", path);
}

static enum pfl_rc write_all(int fd, const char *p, size_t len, struct pfl_err *err)
{
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfl_err_errno(err, errno, "control socket: write");
        p += n;
        len -= (size_t)n;
    }
    return PFL_OK;
}

static enum pfl_rc read_line(int fd, pfl_ns until, struct pfl_buf *line, struct pfl_err *err)
{
    char chunk[4096];
    for (;;) {
        pfl_ns left = until - pfl_clock_mono();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, (int)(left / PFL_MS) + 1) == 0)
            return pfl_err_set(err, PFL_TIMEOUT, "the node did not answer in time");
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfl_err_errno(err, errno, "control socket: read");
        if (n == 0)
            return pfl_err_set(err, PFL_UNAVAILABLE, "the node closed the control socket before it answered");
        if (!pfl_buf_append(line, chunk, (size_t)n))
            return pfl_err_set(err, PFL_TOO_BIG, "the node's answer is over %d bytes", ANSWER_MAX);
        if (memchr(chunk, '\n', (size_t)n))
            return PFL_OK;
    }
}

enum pfl_rc pfl_control_ask(const char *state_dir, json_t *request, pfl_ns timeout, json_t **ret_answer, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    PFL_ASSERT(text);
    PFL_AUTO(pfl_freep) char *line = pfl_xasprintf("%s\n", text);
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(state_dir, "control.sock");
    PFL_AUTO(closep) int fd = -1;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf in = {.limit = ANSWER_MAX};
    enum pfl_rc rc = dial(path, &fd, err);
    if (rc == PFL_OK)
        rc = write_all(fd, line, strlen(line), err);
    if (rc == PFL_OK)
        rc = read_line(fd, pfl_clock_mono() + timeout, &in, err);
    if (rc != PFL_OK)
        return rc;
    json_error_t e;
    json_t *answer = json_loads(pfl_buf_cstr(&in), 0, &e);
    if (!json_is_object(answer)) {
        json_decref(answer);
        return pfl_err_set(err, PFL_MALFORMED, "the node's answer is no JSON object: %s", e.text);
    }
    if (!json_is_true(json_object_get(answer, "ok"))) {
        const char *why = json_string_value(json_object_get(answer, "error"));
        rc = pfl_err_set(err, PFL_STATE, "%s", why ? why : "the node refused without a reason");
        json_decref(answer);
        return rc;
    }
    *ret_answer = answer;
    return PFL_OK;
}
