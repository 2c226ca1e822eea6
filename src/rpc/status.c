/* SPDX-License-Identifier: Apache-2.0 */
/* Pure functions on short texts from peers: each reads what it is given and nothing more. */
#include "rpc/status.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

const char *pfl_grpc_code_name(int code)
{
    static const char *const NAMES[] = {
        "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED",
    };
    return code >= 0 && (size_t)code < PFL_ARRAY_LEN(NAMES) ? NAMES[code] : "UNKNOWN";
}

int pfl_grpc_code_of_http(int http_status)
{
    switch (http_status) {
    case 400:
        return PFL_GRPC_INTERNAL;
    case 401:
        return PFL_GRPC_UNAUTHENTICATED;
    case 403:
        return PFL_GRPC_PERMISSION_DENIED;
    case 404:
        return PFL_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return PFL_GRPC_UNAVAILABLE;
    default:
        return PFL_GRPC_UNKNOWN;
    }
}

int pfl_grpc_code_of_h2(uint32_t error_code)
{
    switch (error_code) {
    case NGHTTP2_REFUSED_STREAM:
        return PFL_GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return PFL_GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return PFL_GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return PFL_GRPC_PERMISSION_DENIED;
    case NGHTTP2_STREAM_CLOSED:
        return PFL_GRPC_UNKNOWN;
    default:
        return PFL_GRPC_INTERNAL;
    }
}

static const struct unit {
    char letter;
    pfl_ns ns;
} UNITS[] = {
    {'n', 1}, {'u', 1000}, {'m', PFL_MS}, {'S', PFL_SEC}, {'M', 60 * PFL_SEC}, {'H', 3600 * PFL_SEC},
};
enum { TIMEOUT_DIGITS_MAX = 8, TIMEOUT_VALUE_MAX = 99999999 };

/* The coarsest unit that says it exactly, so that equal timeouts give equal header fields (which HTTP/2 sends as one byte); else
 * the finest that fits, rounded up. */
void pfl_grpc_timeout_format(pfl_ns timeout, char out[16])
{
    const struct unit *u = NULL;
    for (size_t i = PFL_ARRAY_LEN(UNITS); i-- > 0 && !u;)
        if (timeout % UNITS[i].ns == 0 && timeout / UNITS[i].ns <= TIMEOUT_VALUE_MAX)
            u = &UNITS[i];
    for (size_t i = 0; i < PFL_ARRAY_LEN(UNITS) && !u; i++)
        if (timeout / UNITS[i].ns < TIMEOUT_VALUE_MAX)
            u = &UNITS[i];
    if (!u)
        u = &UNITS[PFL_ARRAY_LEN(UNITS) - 1];
    pfl_ns value = timeout / u->ns + (timeout % u->ns != 0);
    snprintf(out, 16, "%u%c", (unsigned)(value > TIMEOUT_VALUE_MAX ? TIMEOUT_VALUE_MAX : value), u->letter);
}

bool pfl_grpc_timeout_parse(const char *text, pfl_ns *ret)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > TIMEOUT_DIGITS_MAX || text[digits] == '\0' || text[digits + 1] != '\0')
        return false;
    pfl_ns value = 0, total;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (text[i] - '0');
    for (size_t i = 0; i < PFL_ARRAY_LEN(UNITS); i++) {
        if (UNITS[i].letter != text[digits])
            continue;
        *ret = __builtin_mul_overflow(value, UNITS[i].ns, &total) ? PFL_NEVER : total;
        return true;
    }
    return false;
}

bool pfl_grpc_status_parse(const char *text, size_t len, int *ret)
{
    int value = 0;
    if (len == 0 || len > 6)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *ret = value;
    return true;
}

size_t pfl_grpc_percent_encode(const char *text, char *out, size_t out_size)
{
    static const char HEX[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool plain = *p >= 0x20 && *p <= 0x7e && *p != '%';
        if (n + (plain ? 1 : 3) >= out_size)
            break;
        if (plain) {
            out[n++] = (char)*p;
            continue;
        }
        out[n++] = '%';
        out[n++] = HEX[*p >> 4];
        out[n++] = HEX[*p & 15];
    }
    out[n] = '\0';
    return n;
}

void pfl_grpc_percent_decode(const char *text, size_t len, char *out, size_t out_size)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < out_size; i++) {
        uint8_t byte;
        char hex[3] = {0};
        if (text[i] == '%' && i + 2 < len) {
            memcpy(hex, text + i + 1, 2);
            if (pfl_unhex(hex, &byte, 1)) {
                out[n++] = byte ? (char)byte : '?';
                i += 2;
                continue;
            }
        }
        out[n++] = text[i] ? text[i] : '?';
    }
    out[n] = '\0';
}
