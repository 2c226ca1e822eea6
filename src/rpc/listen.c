/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets are made by hand, not by libuv, so that a unix socket's mode is set before anybody can connect and stale files are told
 * from live ones. */
#include "rpc/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"
#include "rpc/limits.h"

void pfl_sockaddr_text(const struct sockaddr *sa, char *out, size_t out_size)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *a = (const void *)sa;
        inet_ntop(AF_INET, &a->sin_addr, ip, sizeof ip);
        snprintf(out, out_size, "%s:%u", ip, ntohs(a->sin_port));
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const void *)sa;
        inet_ntop(AF_INET6, &a->sin6_addr, ip, sizeof ip);
        snprintf(out, out_size, "[%s]:%u", ip, ntohs(a->sin6_port));
    } else
        snprintf(out, out_size, "unix");
}

socklen_t pfl_sockaddr_unix(const char *path, struct sockaddr_storage *ret)
{
    struct sockaddr_un *un = (void *)ret;
    memset(ret, 0, sizeof *ret);
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path, sizeof un->sun_path, "%s", path);
    return (socklen_t)sizeof *un;
}

static bool is_socket(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool somebody_answers(const struct sockaddr_storage *sa, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    bool refused = connect(fd, (const void *)sa, len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return !refused;
}

static enum pfl_rc bind_unix(int fd, const char *path, struct pfl_err *err)
{
    struct sockaddr_storage sa;
    socklen_t len = pfl_sockaddr_unix(path, &sa);
    int rv = bind(fd, (void *)&sa, len);
    if (rv != 0 && errno == EADDRINUSE) {
        if (!is_socket(path))
            return pfl_err_set(err, PFL_EXISTS, "unix://%s: there is a file of that name that is no socket", path);
        if (somebody_answers(&sa, len))
            return pfl_err_set(err, PFL_EXISTS, "unix://%s: another process listens there", path);
        unlink(path);
        rv = bind(fd, (void *)&sa, len);
    }
    /* nobody can connect before listen() */
    if (rv != 0 || chmod(path, 0600) != 0)
        return pfl_err_errno(err, errno, "unix://%s: cannot listen", path);
    return PFL_OK;
}

static enum pfl_rc start(struct pfl_listener *l, const char *text, struct pfl_err *err)
{
    if (listen(l->fd, PFL_RPC_BACKLOG) != 0)
        return pfl_err_errno(err, errno, "%s: cannot listen", text);
    return PFL_OK;
}

static enum pfl_rc listen_unix(struct pfl_listener *l, struct pfl_err *err)
{
    struct stat st;
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return pfl_err_errno(err, errno, "unix://%s", l->addr.path);
    enum pfl_rc rc = bind_unix(l->fd, l->addr.path, err);
    if (rc != PFL_OK)
        return rc;
    if (lstat(l->addr.path, &st) == 0) {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
    }
    return start(l, l->addr.path, err);
}

static enum pfl_rc bind_tcp(struct pfl_listener *l, const struct addrinfo *ai, const char *text, struct pfl_err *err)
{
    int one = 1, zero = 0;
    l->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return pfl_err_errno(err, errno, "%s", text);
    (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, strcmp(l->addr.host, "::") == 0 ? &zero : &one, sizeof one);
    if (bind(l->fd, ai->ai_addr, ai->ai_addrlen) != 0) {
        if (errno == EADDRINUSE)
            return pfl_err_set(err, PFL_EXISTS, "%s: the port is taken: another process listens there", text);
        return pfl_err_errno(err, errno, "%s: cannot listen", text);
    }
    return start(l, text, err);
}

static void read_port(struct pfl_listener *l)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    if (getsockname(l->fd, (void *)&sa, &len) != 0)
        return;
    const struct sockaddr_in *v4 = (const void *)&sa;
    const struct sockaddr_in6 *v6 = (const void *)&sa;
    l->addr.port = ntohs(sa.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
}

static enum pfl_rc listen_tcp(struct pfl_listener *l, struct pfl_err *err)
{
    char text[PFL_ADDR_MAX + 16], port[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    pfl_addr_format(&l->addr, text);
    snprintf(port, sizeof port, "%u", l->addr.port);
    int rv = getaddrinfo(l->addr.host, port, &hints, &list);
    if (rv != 0 || !list)
        return pfl_err_set(err, PFL_NOT_FOUND, "%s: the host has no address here: %s", text, gai_strerror(rv));
    enum pfl_rc rc = bind_tcp(l, list, text, err);
    freeaddrinfo(list);
    if (rc == PFL_OK)
        read_port(l);
    return rc;
}

enum pfl_rc pfl_listen(const struct pfl_addr *addr, struct pfl_listener *ret, struct pfl_err *err)
{
    struct pfl_listener l = {.fd = -1, .addr = *addr};
    enum pfl_rc rc = addr->is_unix ? listen_unix(&l, err) : listen_tcp(&l, err);
    if (rc == PFL_OK)
        *ret = l;
    else if (l.fd >= 0)
        close(l.fd);
    return rc;
}

void pfl_listener_close(struct pfl_listener *l)
{
    struct stat st;
    if (l->fd < 0)
        return;
    close(l->fd);
    l->fd = -1;
    if (l->addr.is_unix && lstat(l->addr.path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        unlink(l->addr.path);
}
