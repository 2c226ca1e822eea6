/* SPDX-License-Identifier: Apache-2.0 */
/* Subject alternative names as a person types them. */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "pki/ca.h"

/* Labels of 1 to 63 letters, digits, '-' and '_', not beginning or ending in '-'; the first may be "*". */
static bool dns_name_valid(const char *name)
{
    size_t len = strlen(name), label = 0;
    if (len == 0 || len > 253 || name[len - 1] == '.')
        return false;
    const char *c = name;
    if (c[0] == '*' && c[1] == '.' && strchr(c + 2, '.'))
        c += 2;
    for (; *c; c++) {
        if (*c == '.') {
            if (label == 0 || c[-1] == '-')
                return false;
            label = 0;
            continue;
        }
        bool fine = isalnum((unsigned char)*c) || *c == '_' || (*c == '-' && label > 0);
        if (!fine || ++label > 63)
            return false;
    }
    return c[-1] != '-';
}

enum pfl_rc pfl_san_parse(const char *text, char **ret, struct pfl_err *err)
{
    unsigned char ip[16];
    char canonical[INET6_ADDRSTRLEN];
    if (strncasecmp(text, "IP:", 3) == 0) {
        int family = inet_pton(AF_INET, text + 3, ip) == 1 ? AF_INET : inet_pton(AF_INET6, text + 3, ip) == 1 ? AF_INET6 : 0;
        if (family == 0)
            return pfl_err_set(err, PFL_INVALID, "subject alternative name '%s': not an IP address", pfl_q(text));
        inet_ntop(family, ip, canonical, sizeof canonical);
        *ret = pfl_xasprintf("IP:%s", canonical);
        return PFL_OK;
    }
    if (strncasecmp(text, "DNS:", 4) != 0)
        return pfl_err_set(err, PFL_INVALID, "subject alternative name '%s': IP:… or DNS:… is wanted", pfl_q(text));
    if (!dns_name_valid(text + 4) || inet_pton(AF_INET, text + 4, ip) == 1)
        return pfl_err_set(err, PFL_INVALID, "subject alternative name '%s': not a DNS name", pfl_q(text));
    *ret = pfl_xasprintf("DNS:%s", text + 4);
    for (char *c = *ret + 4; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return PFL_OK;
}
