/* SPDX-License-Identifier: Apache-2.0 */
/* Enrolment tokens: what an operator hands to a new machine so that it may ask for certificates, once. A token is
 * "<number>.<secret>": the secret is 256 random bits. The register keeps its SHA-256 only. A plain hash is right here: there is
 * nothing to guess in 256 random bits, so a slow one would slow down nobody but the CA.
 * What the certificates will say stands in the token's row and nowhere else. */
#ifndef PFL_PKI_TOKEN_H
#define PFL_PKI_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct pfl_register;

enum {
    PFL_TOKEN_TTL_DEFAULT_S = 3600,
    PFL_TOKEN_TTL_MAX_S = 30 * 24 * 3600, /* a secret on paper for longer is a password */
    PFL_TOKEN_TEXT_MAX = 96
};

struct pfl_token_opts {
    const char *name, *role; /* as a grant's; role NULL: "node" */
    struct pfl_strs sans;    /* "IP:…", "DNS:…"; at least one. Borrowed */
    int64_t ttl_s;           /* of the token; 0: the default */
    int64_t lifetime_s;      /* of the certificates; 0: as the service says */
    int64_t now;             /* Unix seconds; 0: the system's clock */
    const char *actor;
};
/** *ret_text is owned and to be wiped: it is nowhere else. INVALID names what is wrong. */
enum pfl_rc pfl_token_make(struct pfl_register *r, const struct pfl_token_opts *opts, char **ret_text, int64_t *ret_id,
                           struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_token { /* zero-initialised; text is owned */
    int64_t id, lifetime_s, made_at, expires_at;
    int64_t used_at, revoked_at; /* 0: not */
    char *name, *role, *made_by;
    struct pfl_strs sans;
    char *server_key, *client_key; /* fingerprints of the keys that it was used for; "": none */
};
void pfl_token_deinit(struct pfl_token *t);

/** Which token is this? NOT_FOUND where it is none of this CA's (wrong secret or number: the same answer), AUTH where it was
 * revoked or has expired. A used one is found. */
enum pfl_rc pfl_token_find(struct pfl_register *r, const char *text, int64_t now, struct pfl_token *ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;
/** By number, whatever its state. NOT_FOUND. */
enum pfl_rc pfl_token_get(struct pfl_register *r, int64_t id, struct pfl_token *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Marks it used for these keys; in a transaction of the caller's. STATE where it was used already. */
enum pfl_rc pfl_token_use(struct pfl_register *r, int64_t id, const char *server_key, const char *client_key, int64_t now,
                          struct pfl_err *err) PFL_WARN_UNUSED;
/** NOT_FOUND; STATE where it was used or revoked already. */
enum pfl_rc pfl_token_revoke(struct pfl_register *r, int64_t id, const char *actor, struct pfl_err *err) PFL_WARN_UNUSED;
typedef bool (*pfl_token_fn)(void *user, const struct pfl_token *t); /* false ends the walk */
enum pfl_rc pfl_token_each(struct pfl_register *r, pfl_token_fn fn, void *user, struct pfl_err *err) PFL_WARN_UNUSED;

/** 256 random bits in base64url (43 characters). *ret is owned. For tokens and request ids. */
char *pfl_secret_text(void);

#endif
