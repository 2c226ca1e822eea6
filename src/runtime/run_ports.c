/* SPDX-License-Identifier: Apache-2.0 */
/* Ports for a run: below the range that the kernel hands out by itself, so nobody takes one by chance between our look and the
 * node's bind. All have five digits, so addresses sort as numbers do. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/clock.h"
#include "runtime/run_plan.h"

enum { PORT_FIRST = 20000, PORT_LAST = 31999, BLOCK = 100, TRIES = 120, LOOK_MS = 20 };

static bool port_is_free(uint16_t port)
{
    int one = 1;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    /* As the node will: what an earlier run left in TIME_WAIT does not count, a listener does. */
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
              bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 1) == 0;
    close(fd);
    return ok;
}

/* A name in the abstract socket space is a lock that the kernel lets go of when its holder ends. -1: someone else has it. */
static int lock_block(unsigned first)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int len = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "p2pfl-run-ports-%u", first);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

enum pfl_rc pfl_plan_ports(uint64_t seed, unsigned n, uint16_t *ret_first, int *ret_lock, struct pfl_err *err)
{
    unsigned span = (n + BLOCK - 1) / BLOCK * BLOCK, blocks = (PORT_LAST + 1 - PORT_FIRST) / span;
    for (unsigned attempt = 0; attempt < TRIES && attempt < blocks; attempt++) {
        unsigned first = PORT_FIRST + span * (unsigned)((seed % blocks + attempt) % blocks);
        int lock = lock_block(first);
        bool ok = lock >= 0;
        for (unsigned i = 0; ok && i < n; i++)
            ok = port_is_free((uint16_t)(first + i));
        if (ok) {
            *ret_first = (uint16_t)first;
            *ret_lock = lock;
            return PFL_OK;
        }
        if (lock >= 0)
            close(lock);
    }
    return pfl_err_set(err, PFL_UNAVAILABLE, "no block of %u free ports on 127.0.0.1 between %d and %d", n, PORT_FIRST, PORT_LAST);
}

void pfl_plan_await_ports(const struct pfl_plan *p, pfl_ns limit)
{
    pfl_ns end = pfl_clock_mono() + limit;
    for (unsigned i = 0; i < p->cfg.nodes; i++) {
        struct pfl_addr a;
        if (pfl_addr_parse(p->nodes[i].address, &a, NULL) != PFL_OK)
            continue; /* the node says so itself */
        while (!port_is_free(a.port) && pfl_clock_mono() < end)
            (void)poll(NULL, 0, LOOK_MS);
    }
}
