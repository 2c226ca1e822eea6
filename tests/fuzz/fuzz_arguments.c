/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki rpc */
/* Texts that a command line, a header or another node's argument may hold: numbers, durations, addresses, PKCS#11 URIs, gRPC's
 * time-outs and statuses, old HTTP. Each is read or refused; what was read and written again is read as the same. */
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/str.h"
#include "pki/pkcs11_uri.h"
#include "rpc/http.h"
#include "rpc/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_address(const char *text)
{
    struct pfl_addr a, b;
    struct pfl_err err = {0};
    char out[PFL_ADDR_MAX + 16];
    if (pfl_addr_parse(text, &a, &err) != PFL_OK) {
        PFL_ASSERT(err.msg[0]);
        return;
    }
    pfl_addr_format(&a, out);
    PFL_ASSERT(pfl_addr_parse(out, &b, &err) == PFL_OK && a.is_unix == b.is_unix && a.port == b.port);
    PFL_ASSERT(strlen(out) < sizeof(out));
}

static void check_numbers(const char *text)
{
    int64_t i = 5;
    uint64_t u = 0;
    double d = 0.0;
    if (pfl_parse_i64(text, -10, 10, &i))
        PFL_ASSERT(i >= -10 && i <= 10);
    else
        PFL_ASSERT(i == 5);
    (void)pfl_parse_u64(text, &u);
    if (pfl_parse_duration(text, 1, 3600, &i))
        PFL_ASSERT(i >= 1 && i <= 3600);
    if (pfl_parse_double(text, &d))
        PFL_ASSERT(d - d == 0.0);
    pfl_ns t = -1;
    if (pfl_grpc_timeout_parse(text, &t))
        PFL_ASSERT(t >= 0);
}

static void check_http1(const uint8_t *data, size_t size)
{
    struct pfl_http1_head head;
    if (pfl_http1_parse(pfl_bytes_of(data, size), 1 << 16, &head) == 200)
        PFL_ASSERT(head.content_length <= 1 << 16 && head.head_len <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 65536)
        return 0;
    PFL_AUTO(pfl_freep) char *text = strndup((const char *)data, size);
    struct pfl_pkcs11_uri uri = {0};
    struct pfl_err err = {0};
    int status;
    check_address(text);
    check_numbers(text);
    (void)pfl_grpc_status_parse((const char *)data, size, &status);
    if (pfl_pkcs11_uri_parse(text, &uri, &err) == PFL_OK)
        pfl_pkcs11_uri_deinit(&uri);
    check_http1(data, size);
    return 0;
}
