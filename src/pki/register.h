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

enum {
    PFL_SERIAL_HEX_MAX = 40,
    PFL_SERIAL_LEN = 16,         /* bytes of a serial that this CA gives: 128 random bits, the first byte not zero */
    PFL_REGISTER_WAIT_MS = 10000 /* how long one process waits for another's transaction */
};

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
bool pfl_register_in_transaction(const struct pfl_register *r);

/** Small values by name. *ret is owned; NULL where there is none. set: inside a transaction of the caller's. */
enum pfl_rc pfl_register_get(struct pfl_register *r, const char *key, char **ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_register_set(struct pfl_register *r, const char *key, const char *value, struct pfl_err *err) PFL_WARN_UNUSED;

/** Signs `in` with the CA's key, appended to out; key_fingerprint: SHA-256 of its SubjectPublicKeyInfo, hex. */
typedef enum pfl_rc (*pfl_audit_sign_fn)(void *user, struct pfl_bytes in, struct pfl_buf *out, char key_fingerprint[65],
                                         struct pfl_err *err);
/** Whoever has the CA's key open seals the audit log's head with each commit that appended to it. NULL: nobody does. */
void pfl_register_set_sealer(struct pfl_register *r, pfl_audit_sign_fn sign, void *user);

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

/** A new serial: the row goes in as "reserved" with it; row->serial_hex is set. Inside a transaction of the caller's, as the two
 *  below. */
enum pfl_rc pfl_register_reserve(struct pfl_register *r, struct pfl_cert_row *row, struct pfl_err *err) PFL_WARN_UNUSED;
/** The reserved certificate was signed: DER, "valid". */
enum pfl_rc pfl_register_record(struct pfl_register *r, const char *serial_hex, struct pfl_bytes der,
                                struct pfl_err *err) PFL_WARN_UNUSED;
/** A certificate that was made before the register, or elsewhere with this CA's key. EXISTS where its serial is known. */
enum pfl_rc pfl_register_adopt(struct pfl_register *r, const struct pfl_cert_row *row, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_register_mark_revoked(struct pfl_register *r, const char *serial_hex, const char *reason, int64_t at,
                                      struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- the audit log ---- */

struct pfl_audit_entry { /* borrowed for the call */
    int64_t seq, at;     /* from 1; Unix seconds */
    const char *actor, *action, *subject, *detail;
    char hash[65]; /* lower-case hex */
};
typedef bool (*pfl_audit_fn)(void *user, const struct pfl_audit_entry *e); /* false ends the walk */
enum pfl_rc pfl_audit_each(struct pfl_register *r, pfl_audit_fn fn, void *user, struct pfl_err *err) PFL_WARN_UNUSED;

/** Is `signature` over `in` by the key with this fingerprint? For pfl_audit_verify. */
typedef bool (*pfl_audit_check_fn)(void *user, struct pfl_bytes in, struct pfl_bytes signature, const char *key_fingerprint);
struct pfl_audit_report {
    int64_t n;              /* entries */
    char head[65];          /* hash of the last one; to be noted elsewhere */
    int64_t sealed;         /* the CA's key vouches for entries 1 to this one; 0: for none */
    char sealed_by[65];     /* fingerprint of that key */
    int64_t n_certificates; /* that were held against the log */
};
/** Recomputes every hash, compares head and seal, and holds each certificate of the register against the entries about it. `expect`
 * (may be NULL) is a head that somebody noted, "SEQ:HASH": it must still be in the log. AUTH naming the first thing that is wrong:
 *  "entry 17 (revoke …): its hash does not follow from what it says". */
enum pfl_rc pfl_audit_verify(struct pfl_register *r, const char *expect, pfl_audit_check_fn check, void *user,
                             struct pfl_audit_report *ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
