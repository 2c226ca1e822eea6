/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's small texts: status codes, timeouts, percent-encoding, and what HTTP and HTTP/2 codes mean as a gRPC status. */
#ifndef PFL_RPC_STATUS_H
#define PFL_RPC_STATUS_H

#include "rpc/rpc.h"

/** Of a response without grpc-status, by gRPC's "HTTP to gRPC Status Code Mapping". */
int pfl_grpc_code_of_http(int http_status);
/** Of a stream that was reset, by gRPC's "HTTP2 error codes" table. */
int pfl_grpc_code_of_h2(uint32_t error_code);

/** "10S": at most 8 digits and a unit, rounded up. out needs 16 bytes. timeout > 0. */
void pfl_grpc_timeout_format(pfl_ns timeout, char out[16]);
/** Strict; false where malformed. Timeouts past what fits give PFL_NEVER. */
bool pfl_grpc_timeout_parse(const char *text, pfl_ns *ret);
/** Decimal digits only; false where malformed. Codes that are not defined are valid (gRPC says: treat as UNKNOWN). */
bool pfl_grpc_status_parse(const char *text, size_t len, int *ret);

/** grpc-message: bytes outside printable ASCII and '%' become %XX. What does not fit is cut at a whole sequence. Returns the
 * length. */
size_t pfl_grpc_percent_encode(const char *text, char *out, size_t out_size);
/** Lenient, as gRPC asks: what is not %XX stays as it is. NUL bytes become '?'. */
void pfl_grpc_percent_decode(const char *text, size_t len, char *out, size_t out_size);

#endif
