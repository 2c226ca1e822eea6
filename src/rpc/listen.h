/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket for an address, TCP or unix. */
#ifndef PFL_RPC_LISTEN_H
#define PFL_RPC_LISTEN_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base/addr.h"

struct pfl_listener {
    int fd;
    struct pfl_addr addr; /* with the real port */
    dev_t dev;            /* unix: the socket file that is ours */
    ino_t ino;
};
/** Non-blocking, close-on-exec, listening. A unix socket's file is 0600; one that is there already is removed only where it is a
 * socket and nobody answers on it (EXISTS else). EXISTS too for a port that is taken; NOT_FOUND where the host has no address. */
enum pfl_rc pfl_listen(const struct pfl_addr *addr, struct pfl_listener *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Closes, and removes the unix socket's file if it is still the one that was made. */
void pfl_listener_close(struct pfl_listener *l);

/** "127.0.0.1:53422", "[::1]:53422" or "unix". out needs PFL_ADDR_MAX bytes. */
void pfl_sockaddr_text(const struct sockaddr *sa, char *out, size_t out_size);
/** A sockaddr of a unix path; the path was checked by pfl_addr_parse. */
socklen_t pfl_sockaddr_unix(const char *path, struct sockaddr_storage *ret);

#endif
