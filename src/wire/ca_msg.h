/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of the CA service (proto/ca.proto) as plain structs. Everything decoded is owned by the struct and was bounded while
 * it was decoded; nothing in it is verified. */
#ifndef PFL_WIRE_CA_MSG_H
#define PFL_WIRE_CA_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#define PFL_CA_SERVICE      "p2pfl.ca.v1.CertificateAuthority"
#define PFL_CA_METHOD(name) "/" PFL_CA_SERVICE "/" name

/** A list of DER objects; each buffer is owned. */
struct pfl_ders {
    struct pfl_buf *items;
    size_t n;
};
void pfl_ders_add(struct pfl_ders *l, struct pfl_bytes der); /* copies */
void pfl_ders_deinit(struct pfl_ders *l);

struct pfl_ca_request { /* EnrolRequest, RenewRequest, PollRequest: what a method does not have stays empty */
    char *token, *request_id;
    struct pfl_buf server_csr, client_csr;
};
void pfl_ca_request_deinit(struct pfl_ca_request *r); /* wipes the token */

enum { PFL_CA_KNOWN_LEN = 32 };
struct pfl_ca_bundle {
    struct pfl_ders roots, crls;
    uint8_t digest[PFL_CA_KNOWN_LEN]; /* SHA-256 of it as received; filled in by the caller of the service, not by the decoder */
};
struct pfl_ca_bundle_request {
    bool has_known;
    uint8_t known[PFL_CA_KNOWN_LEN];
    uint32_t wait_s;
};
void pfl_ca_bundle_deinit(struct pfl_ca_bundle *b);

struct pfl_ca_federation {
    char *name, *node_name, *role, *settings_yaml; /* owned or NULL */
    struct pfl_strs sans, connect;
    uint32_t lifetime_s;
};

struct pfl_ca_credentials {
    bool pending;
    struct pfl_ders server_chain, client_chain; /* leaf first, without the root */
    struct pfl_ca_bundle bundle;
    struct pfl_ca_federation federation;
    char *request_id; /* owned or NULL */
    uint32_t retry_after_s;
};
void pfl_ca_credentials_deinit(struct pfl_ca_credentials *c);

enum pfl_ca_request_kind { PFL_CA_ENROL, PFL_CA_RENEW, PFL_CA_POLL };
/** Each encode appends to out; each decode overwrites ret. MALFORMED or TOO_BIG with the field's name. */
enum pfl_rc pfl_ca_request_encode(enum pfl_ca_request_kind kind, const struct pfl_ca_request *r, struct pfl_buf *out,
                                  struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_ca_request_decode(enum pfl_ca_request_kind kind, struct pfl_bytes in, struct pfl_ca_request *ret,
                                  struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_ca_credentials_encode(const struct pfl_ca_credentials *c, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_ca_credentials_decode(struct pfl_bytes in, struct pfl_ca_credentials *ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_ca_bundle_request_encode(const struct pfl_ca_bundle_request *r, struct pfl_buf *out,
                                         struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_ca_bundle_request_decode(struct pfl_bytes in, struct pfl_ca_bundle_request *ret,
                                         struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_ca_bundle_encode(const struct pfl_ca_bundle *b, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_ca_bundle_decode(struct pfl_bytes in, struct pfl_ca_bundle *ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
