/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* What strangers send to a CA service and what a service answers: the first byte says which message the rest is. What decodes lies
 * within its limits and encodes to what decodes to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/ca_msg.h"
#include "wire/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(enum pfl_ca_request_kind kind, struct pfl_bytes in)
{
    PFL_AUTO(pfl_ca_request_deinit) struct pfl_ca_request r = {0}, back = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    struct pfl_err err = {0};
    if (pfl_ca_request_decode(kind, in, &r, &err) != PFL_OK) {
        PFL_ASSERT(err.msg[0] && !r.token && !r.request_id && !r.server_csr.data);
        return;
    }
    PFL_ASSERT(kind != PFL_CA_ENROL || strlen(r.token) <= PFL_WIRE_CA_TOKEN_MAX);
    PFL_ASSERT(kind != PFL_CA_POLL || strlen(r.request_id) <= PFL_WIRE_CA_REQUEST_ID_MAX);
    PFL_ASSERT(r.server_csr.len <= PFL_WIRE_CA_CSR_MAX && r.client_csr.len <= PFL_WIRE_CA_CSR_MAX);
    PFL_ASSERT(pfl_ca_request_encode(kind, &r, &out, NULL) == PFL_OK);
    PFL_ASSERT(pfl_ca_request_decode(kind, pfl_buf_view(&out), &back, NULL) == PFL_OK);
    PFL_ASSERT(pfl_streq(r.token, back.token) && pfl_streq(r.request_id, back.request_id));
    PFL_ASSERT(pfl_bytes_eq(pfl_buf_view(&r.server_csr), pfl_buf_view(&back.server_csr)));
}

static void try_credentials(struct pfl_bytes in)
{
    PFL_AUTO(pfl_ca_credentials_deinit) struct pfl_ca_credentials c = {0}, back = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
    if (pfl_ca_credentials_decode(in, &c, NULL) != PFL_OK)
        return;
    PFL_ASSERT(c.server_chain.n <= PFL_WIRE_CA_CHAIN_MAX && c.bundle.roots.n <= PFL_WIRE_CA_ROOTS_MAX);
    PFL_ASSERT(c.federation.sans.n <= PFL_WIRE_CA_SANS_MAX && c.federation.connect.n <= PFL_WIRE_CA_CONNECT_MAX);
    PFL_ASSERT(c.pending ? c.request_id != NULL : c.server_chain.n > 0);
    PFL_ASSERT(pfl_ca_credentials_encode(&c, &out, NULL) == PFL_OK);
    PFL_ASSERT(pfl_ca_credentials_decode(pfl_buf_view(&out), &back, NULL) == PFL_OK);
    PFL_ASSERT(back.pending == c.pending && back.server_chain.n == c.server_chain.n);
}

static void try_bundle(struct pfl_bytes in)
{
    PFL_AUTO(pfl_ca_bundle_deinit) struct pfl_ca_bundle b = {0};
    if (pfl_ca_bundle_decode(in, &b, NULL) == PFL_OK)
        PFL_ASSERT(b.roots.n <= PFL_WIRE_CA_ROOTS_MAX && b.crls.n <= PFL_WIRE_CA_CRLS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfl_bytes in = pfl_bytes_of(data, size);
    struct pfl_bytes rest = size > 0 ? pfl_bytes_sub(in, 1, size - 1) : in;
    switch (size > 0 ? data[0] % 5 : 0) {
    case 0:
        try_request(PFL_CA_ENROL, rest);
        break;
    case 1:
        try_request(PFL_CA_RENEW, rest);
        break;
    case 2:
        try_request(PFL_CA_POLL, rest);
        break;
    case 3:
        try_credentials(rest);
        break;
    default:
        try_bundle(rest);
    }
    return 0;
}
