/* SPDX-License-Identifier: Apache-2.0 */
/* Enrolments that wait for the operator (`p2pfl ca serve --approve`). Who asked holds a secret to ask again with; the operator sees
 * a number. A token has one request at most, so strangers cannot make any. */
#ifndef PFL_PKI_REQUEST_H
#define PFL_PKI_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct pfl_register;

enum { PFL_REQUEST_LIFE_S = 24 * 3600 /* an undecided or approved request is forgotten after that */ };

enum pfl_request_state { PFL_REQUEST_PENDING, PFL_REQUEST_APPROVED, PFL_REQUEST_DENIED };
const char *pfl_request_state_text(enum pfl_request_state s); /* "pending" */

struct pfl_request { /* zero-initialised; owned */
    int64_t id, token_id, made_at, decided_at;
    enum pfl_request_state state;
    struct pfl_buf server_csr, client_csr; /* DER; the second is empty where one certificate was asked for */
    char *address;                         /* who asked: "192.0.2.7:53422" */
    char *decided_by;                      /* "" while it is pending */
};
void pfl_request_deinit(struct pfl_request *q);

/** A new request, or the token's present one where the CSRs' bytes are the same: then with a new secret. *ret_secret is owned.
 *  STATE where the token has one with other CSRs. In a transaction of the caller's. */
enum pfl_rc pfl_request_open(struct pfl_register *r, int64_t token_id, struct pfl_bytes server_csr, struct pfl_bytes client_csr,
                             const char *address, int64_t now, char **ret_secret, int64_t *ret_id,
                             struct pfl_err *err) PFL_WARN_UNUSED;
/** NOT_FOUND: none, or forgotten. */
enum pfl_rc pfl_request_by_secret(struct pfl_register *r, const char *secret, int64_t now, struct pfl_request *ret,
                                  struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_request_by_token(struct pfl_register *r, int64_t token_id, int64_t now, struct pfl_request *ret,
                                 struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_request_get(struct pfl_register *r, int64_t id, int64_t now, struct pfl_request *ret,
                            struct pfl_err *err) PFL_WARN_UNUSED;
typedef bool (*pfl_request_fn)(void *user, const struct pfl_request *q);
enum pfl_rc pfl_request_each(struct pfl_register *r, int64_t now, pfl_request_fn fn, void *user,
                             struct pfl_err *err) PFL_WARN_UNUSED;
/** The operator's word, with an audit entry about `name`. STATE where it was decided already. */
enum pfl_rc pfl_request_decide(struct pfl_register *r, int64_t id, bool approve, const char *name, const char *actor, int64_t now,
                               struct pfl_err *err) PFL_WARN_UNUSED;

#endif
