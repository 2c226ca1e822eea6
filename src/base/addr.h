/* SPDX-License-Identifier: Apache-2.0 */
/* Node addresses as P2PFL writes them: "127.0.0.1:6666", "[::1]:6666", "host.example:6666", "host" (a free port),
 * "unix:///abs/path". The address is the node's name on the wire. */
#ifndef PFL_BASE_ADDR_H
#define PFL_BASE_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { PFL_ADDR_MAX = 256 }; /* longest address text with its NUL: a DNS name (253) fits with its port in most cases */

struct pfl_addr {
    char host[PFL_ADDR_MAX]; /* without brackets; empty for unix */
    char path[108];          /* unix:// only: absolute path, at most 107 bytes */
    uint16_t port;           /* 0: pick a free one */
    bool is_unix, is_ipv4, is_ipv6;
};

/** INVALID with the text and what was wrong: bad port, empty host, path not absolute, characters that no host has. */
enum pfl_rc pfl_addr_parse(const char *text, struct pfl_addr *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Canonical text; IPv6 in brackets, in its shortest form. */
void pfl_addr_format(const struct pfl_addr *a, char out[PFL_ADDR_MAX + 16]);
/** 127.0.0.0/8, ::1, "localhost" and unix sockets. */
bool pfl_addr_is_loopback(const struct pfl_addr *a);

#endif
