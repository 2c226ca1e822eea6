/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's register: a SQLite file (ca.db, 0600, WAL, synchronous=FULL) beside ca.key. Every certificate is in it before it leaves
 * the CA, and every act is in its audit log, whose entries are hash-chained. Several processes may use it at once: each change is
 * one IMMEDIATE transaction. */
#ifndef PFL_PKI_REGISTER_H
#define PFL_PKI_REGISTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct sqlite3;
struct x509_st;

enum { PFL_SERIAL_HEX_MAX = 40 };

struct pfl_register;
/** Opens or makes it. IO (read-only, full: said so), MALFORMED (no database, newer schema), AUTH (others can read it). */
enum pfl_rc pfl_register_open(const char *path, struct pfl_register **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_register_close(struct pfl_register *r); /* accepts NULL */
PFL_DEFINE_FREEP(register, struct pfl_register, pfl_register_close)

/** For the other files of pki that keep their own tables in it (tokens, requests). */
struct sqlite3 *pfl_register_db(struct pfl_register *r);
/** BEGIN IMMEDIATE (waits up to 10 s for another process) / COMMIT; rollback after an error. Not nested. */
enum pfl_rc pfl_register_begin(struct pfl_register *r, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_register_commit(struct pfl_register *r, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_register_rollback(struct pfl_register *r); /* accepts that none is open */

/** Appends to the audit log; inside a transaction of the caller's. actor: "operator root", "token 12", "spiffe://…". action:
 *  "ca-init", "issue", "sign", "enrol", "renew", "revoke", "crl", "token", "approve", "deny", "refuse", "rollover-…".
 *  subject: the name or serial. detail: one line; no secrets. Each entry's hash is SHA-256 over the one before and its own
 *  fields. */
enum pfl_rc pfl_audit_append(struct pfl_register *r, const char *actor, const char *action, const char *subject, const char *detail,
                             struct pfl_err *err) PFL_WARN_UNUSED;

/** One row. Zero-initialised; text is owned. */
struct pfl_cert_row {
    char serial_hex[PFL_SERIAL_HEX_MAX + 1]; /* upper case; 128 random bits */
    char *name, *role, *subject, *purpose;   /* purpose: "serverAuth", "clientAuth", "ca", "root" */
    struct pfl_strs sans;
    char *key_fingerprint;    /* SHA-256 of the SubjectPublicKeyInfo, hex */
    char *issuer_fingerprint; /* SHA-256 of the issuer's SubjectPublicKeyInfo: which CA key signed it */
    char *asked_by;           /* as the audit log's actor */
    int64_t token_id;         /* 0: none */
    int64_t not_before, not_after;
    char *status;       /* "reserved" (never given out), "valid", "revoked"; expiry follows from not_after */
    int64_t revoked_at; /* 0: not revoked */
    char *reason;       /* RFC 5280 names: "keyCompromise", … */
    struct pfl_buf der; /* empty while reserved */
};
void pfl_cert_row_deinit(struct pfl_cert_row *row);
typedef bool (*pfl_cert_row_fn)(void *user, const struct pfl_cert_row *row); /* false ends the walk */
/** What names a certificate: its serial (hex), a node's name, or a file's. NULL: all, oldest first. */
enum pfl_rc pfl_register_each(struct pfl_register *r, const char *name_or_serial, pfl_cert_row_fn fn, void *user,
                              struct pfl_err *err) PFL_WARN_UNUSED;

#endif
