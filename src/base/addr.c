/* SPDX-License-Identifier: Apache-2.0 */
/* Node addresses. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

static enum pfl_rc bad(struct pfl_err *err, const char *text, const char *why)
{
    return pfl_err_set(err, PFL_INVALID, "address '%s': %s", pfl_q(text), why);
}

static enum pfl_rc parse_unix(const char *text, struct pfl_addr *a, struct pfl_err *err)
{
    const char *path = text + strlen("unix://");
    if (path[0] != '/')
        return bad(err, text, "the path behind unix:// must be absolute");
    if (strlen(path) >= sizeof(a->path))
        return bad(err, text, "the path is longer than 107 bytes");
    for (const char *p = path; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return bad(err, text, "the path has a control character");
    }
    memcpy(a->path, path, strlen(path) + 1);
    a->is_unix = true;
    return PFL_OK;
}

/* Digits and dots alone are an IPv4 address or a mistake: resolvers read "127.1" in their own way. */
static bool only_digits(const char *host)
{
    return host[strspn(host, "0123456789.")] == '\0';
}

static bool host_ok(const char *host)
{
    for (const char *p = host; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '.' && *p != '-' && *p != '_')
            return false;
    }
    return host[0] != '\0' && host[0] != '-' && host[0] != '.';
}

enum pfl_rc pfl_addr_parse(const char *text, struct pfl_addr *ret, struct pfl_err *err)
{
    struct pfl_addr a = {0};
    if (!text || text[0] == '\0')
        return pfl_err_set(err, PFL_INVALID, "an address is empty; write host:port, [v6]:port or unix:///path");
    if (pfl_str_has_prefix(text, "unix://")) {
        enum pfl_rc rc = parse_unix(text, &a, err);
        if (rc == PFL_OK)
            *ret = a;
        return rc;
    }
    bool brackets = text[0] == '[';
    const char *host = brackets ? text + 1 : text;
    const char *end = brackets ? strchr(host, ']') : strrchr(host, ':');
    if (brackets && !end)
        return bad(err, text, "'[' without ']'");
    bool bare_v6 = !brackets && end && strchr(host, ':') != end;
    if (!end || bare_v6)
        end = host + strlen(host);
    size_t len = (size_t)(end - host);
    if (len >= sizeof(a.host))
        return bad(err, text, "the host is longer than 255 bytes");
    memcpy(a.host, host, len);
    const char *port = brackets ? end + 1 : end;
    int64_t n = 0;
    if (*port != '\0' && (*port != ':' || !pfl_parse_i64(port + 1, 0, 65535, &n)))
        return bad(err, text, "the port must be a number from 0 to 65535");
    struct in_addr v4;
    struct in6_addr v6;
    a.port = (uint16_t)n;
    a.is_ipv6 = inet_pton(AF_INET6, a.host, &v6) == 1;
    a.is_ipv4 = inet_pton(AF_INET, a.host, &v4) == 1;
    if ((brackets || bare_v6) && !a.is_ipv6)
        return bad(err, text, "not an IPv6 address");
    if (a.is_ipv6 && !inet_ntop(AF_INET6, &v6, a.host, sizeof(a.host)))
        return bad(err, text, "not an IPv6 address");
    if (!a.is_ipv4 && !a.is_ipv6 && a.host[0] != '\0' && only_digits(a.host))
        return bad(err, text, "not an IPv4 address");
    if (!a.is_ipv4 && !a.is_ipv6 && !host_ok(a.host))
        return bad(err, text, "a host has letters, digits, '.', '-' and '_' only");
    *ret = a;
    return PFL_OK;
}

void pfl_addr_format(const struct pfl_addr *a, char out[PFL_ADDR_MAX + 16])
{
    if (a->is_unix)
        snprintf(out, PFL_ADDR_MAX + 16, "unix://%s", a->path);
    else
        snprintf(out, PFL_ADDR_MAX + 16, a->is_ipv6 ? "[%s]:%u" : "%s:%u", a->host, (unsigned)a->port);
}

bool pfl_addr_is_loopback(const struct pfl_addr *a)
{
    struct in_addr v4;
    if (a->is_unix || strcasecmp(a->host, "localhost") == 0)
        return true;
    if (a->is_ipv4 && inet_pton(AF_INET, a->host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return a->is_ipv6 && strcmp(a->host, "::1") == 0;
}
