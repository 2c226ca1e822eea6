/* SPDX-License-Identifier: Apache-2.0 */
/* From a target to sockets. Numeric hosts and unix paths resolve at once; names go through libuv's thread pool. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "rpc/channel_impl.h"
#include "rpc/listen.h"

static void take_addrs(struct pfl_rpc_channel *ch, const struct addrinfo *list)
{
    ch->n_addrs = ch->next_addr = 0;
    for (const struct addrinfo *ai = list; ai && ch->n_addrs < PFL_DIAL_ADDRS_MAX; ai = ai->ai_next)
        if (ai->ai_addrlen <= sizeof ch->addrs[0])
            memcpy(&ch->addrs[ch->n_addrs++], ai->ai_addr, ai->ai_addrlen);
}

static void no_address(struct pfl_rpc_channel *ch, const char *why)
{
    char reason[PFL_ERR_MAX];
    snprintf(reason, sizeof reason, "the host has no address: %s", why);
    pfl_channel_attempt_failed(ch, PFL_UNAVAILABLE, reason);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct pfl_rpc_channel *ch = req->data;
    ch->resolving = false;
    if (ch->closing) {
        uv_freeaddrinfo(list);
        pfl_channel_maybe_closed(ch);
        return;
    }
    take_addrs(ch, list);
    uv_freeaddrinfo(list);
    if (status != 0 || ch->n_addrs == 0)
        no_address(ch, uv_strerror(status ? status : UV_EAI_NONAME));
    else
        pfl_channel_attempt(ch);
}

static void resolve_name(struct pfl_rpc_channel *ch, const char *port)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    ch->resolve.data = ch;
    int rv = uv_getaddrinfo(ch->loop, &ch->resolve, on_resolved, ch->target.host, port, &hints);
    if (rv != 0)
        no_address(ch, uv_strerror(rv));
    else
        ch->resolving = true;
}

static void resolve_number(struct pfl_rpc_channel *ch, const char *port)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rv = getaddrinfo(ch->target.host, port, &hints, &list);
    if (rv != 0 || !list) {
        no_address(ch, gai_strerror(rv));
        return;
    }
    take_addrs(ch, list);
    freeaddrinfo(list);
    pfl_channel_attempt(ch);
}

void pfl_channel_resolve(struct pfl_rpc_channel *ch)
{
    char port[8];
    snprintf(port, sizeof port, "%u", ch->target.port);
    if (ch->target.is_unix) {
        (void)pfl_sockaddr_unix(ch->target.path, &ch->addrs[0]);
        ch->n_addrs = 1;
        ch->next_addr = 0;
        pfl_channel_attempt(ch);
    } else if (ch->target.is_ipv4 || ch->target.is_ipv6)
        resolve_number(ch, port);
    else
        resolve_name(ch, port);
}

int pfl_channel_socket(const struct sockaddr_storage *sa)
{
    socklen_t len = sa->ss_family == AF_INET    ? sizeof(struct sockaddr_in)
                    : sa->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                : sizeof(struct sockaddr_un);
    int fd = socket(sa->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const void *)sa, len) == 0 || errno == EINPROGRESS)
        return fd;
    int errnum = errno;
    close(fd);
    errno = errnum;
    return -1;
}
