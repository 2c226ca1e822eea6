/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log. Each entry's hash covers the one before and its own fields, each with its length, so nothing can be changed,
 * taken out or moved without every later hash changing; the last hash stands in a row of its own, and the CA's key signs it
 * whenever that key is open. Whoever can write the file but has not the key can cut entries off behind the last seal at most. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "pki/digest.h"
#include "pki/register.h"
#include "pki/register_private.h"
#include "pki/sql.h"

enum { FIELD_MAX = 1024, SEAL_MAX = 2048 };

struct fields {
    int64_t seq, at;
    const char *actor, *action, *subject, *detail;
};

static void add_text(struct pfl_buf *b, const char *text)
{
    size_t len = strlen(text);
    pfl_buf_u32be(b, (uint32_t)len);
    pfl_buf_append(b, text, len);
}

static void entry_hash(const uint8_t before[PFL_SHA256_LEN], const struct fields *f, uint8_t out[PFL_SHA256_LEN])
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    pfl_buf_append(&b, before, PFL_SHA256_LEN);
    pfl_buf_u64be(&b, (uint64_t)f->seq);
    pfl_buf_u64be(&b, (uint64_t)f->at);
    add_text(&b, f->actor);
    add_text(&b, f->action);
    add_text(&b, f->subject);
    add_text(&b, f->detail);
    PFL_ASSERT(!b.failed);
    pfl_sha256(pfl_buf_view(&b), out);
}

struct head {
    int64_t seq, sealed;
    uint8_t hash[PFL_SHA256_LEN]; /* zeros while the log is empty */
};

static enum pfl_rc read_head(struct pfl_register *r, struct head *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool row = false;
    enum pfl_rc rc = pfl_sql_query(r, err, &stmt, "SELECT seq, hash, sealed FROM audit_head", "");
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &row, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_bytes hash = row ? pfl_sql_blob(stmt, 1) : pfl_bytes_of("", 0);
    *ret = (struct head){0};
    if (row && pfl_sql_int(stmt, 0) == 0)
        return PFL_OK;
    if (!row || hash.len != PFL_SHA256_LEN)
        return pfl_err_set(err, PFL_AUTH, "%s: the audit log's head is missing: it was tampered with", pfl_register_path(r));
    ret->seq = pfl_sql_int(stmt, 0);
    ret->sealed = pfl_sql_int(stmt, 2);
    memcpy(ret->hash, hash.data, sizeof ret->hash);
    return PFL_OK;
}

/* One line, printable, whatever the caller took it from. */
static char *clean(const char *text)
{
    char out[FIELD_MAX];
    return pfl_xstrdup(pfl_quote(text ? text : "", text ? strlen(text) : 0, out, sizeof out));
}

enum pfl_rc pfl_audit_append(struct pfl_register *r, const char *actor, const char *action, const char *subject, const char *detail,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *a = clean(actor);
    PFL_AUTO(pfl_freep) char *s = clean(subject);
    PFL_AUTO(pfl_freep) char *d = clean(detail);
    uint8_t hash[PFL_SHA256_LEN];
    struct head head;
    PFL_ASSERT(pfl_register_in_transaction(r));
    enum pfl_rc rc = read_head(r, &head, err);
    if (rc != PFL_OK)
        return rc;
    struct fields f = {head.seq + 1, pfl_clock_wall() / PFL_SEC, a, action, s, d};
    entry_hash(head.hash, &f, hash);
    rc = pfl_sql_run(r, err, "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", "iittttb", f.seq, f.at, a, action, s, d,
                     pfl_bytes_of(hash, sizeof hash));
    if (rc == PFL_OK)
        rc = pfl_sql_run(r, err, "UPDATE audit_head SET seq = ?, hash = ?", "ib", f.seq, pfl_bytes_of(hash, sizeof hash));
    if (rc == PFL_OK)
        pfl_register_mark_appended(r);
    return rc;
}

/* What the CA's key signs. It begins with a letter, so it can never be read as the body of a certificate or a CRL. */
static void seal_text(struct pfl_buf *b, int64_t seq, const uint8_t hash[PFL_SHA256_LEN])
{
    char hex[2 * PFL_SHA256_LEN + 1];
    pfl_hex(pfl_bytes_of(hash, PFL_SHA256_LEN), hex);
    pfl_buf_printf(b, "p2pfl audit log, entry %lld, %s", (long long)seq, hex);
}

enum pfl_rc pfl_audit_seal(struct pfl_register *r, pfl_audit_sign_fn sign, void *user, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf seal = {.limit = SEAL_MAX};
    char fingerprint[65];
    struct head head;
    enum pfl_rc rc = read_head(r, &head, err);
    if (rc != PFL_OK)
        return rc;
    seal_text(&text, head.seq, head.hash);
    rc = sign(user, pfl_buf_view(&text), &seal, fingerprint, err);
    if (rc != PFL_OK)
        return rc;
    return pfl_sql_run(r, err, "UPDATE audit_head SET sealed = seq, sealed_by = ?, seal = ?", "tb", fingerprint,
                       pfl_buf_view(&seal));
}

static enum pfl_rc query_entries(struct pfl_register *r, struct sqlite3_stmt **ret, struct pfl_err *err)
{
    return pfl_sql_query(r, err, ret, "SELECT seq, at, actor, action, subject, detail, hash FROM audit ORDER BY seq", "");
}

static struct fields fields_of(struct sqlite3_stmt *stmt)
{
    return (struct fields){pfl_sql_int(stmt, 0),  pfl_sql_int(stmt, 1),  pfl_sql_text(stmt, 2),
                           pfl_sql_text(stmt, 3), pfl_sql_text(stmt, 4), pfl_sql_text(stmt, 5)};
}

enum pfl_rc pfl_audit_each(struct pfl_register *r, pfl_audit_fn fn, void *user, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    enum pfl_rc rc = query_entries(r, &stmt, err);
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &more, err);
    while (rc == PFL_OK && more) {
        struct fields f = fields_of(stmt);
        struct pfl_audit_entry e = {f.seq, f.at, f.actor, f.action, f.subject, f.detail, ""};
        struct pfl_bytes hash = pfl_sql_blob(stmt, 6);
        if (hash.len == PFL_SHA256_LEN)
            pfl_hex(hash, e.hash);
        more = fn(user, &e);
        if (more)
            rc = pfl_sql_next(r, stmt, &more, err);
    }
    return rc;
}

struct walk {
    struct pfl_register *r;
    int64_t seq; /* of the last entry that was good */
    uint8_t hash[PFL_SHA256_LEN];
    int64_t sealed;                      /* from the head's row */
    uint8_t sealed_hash[PFL_SHA256_LEN]; /* of that entry, as met */
    int64_t expect;                      /* the entry that somebody noted; 0: none */
    char expect_hex[65];
};

static enum pfl_rc tampered(const struct walk *w, struct pfl_err *err, int64_t seq, const char *what, const char *wrong)
{
    return pfl_err_set(err, PFL_AUTH, "%s: audit entry %lld%s%s%s: %s", pfl_register_path(w->r), (long long)seq, *what ? " (" : "",
                       what, *what ? ")" : "", wrong);
}

static enum pfl_rc check_entry(struct walk *w, struct sqlite3_stmt *stmt, struct pfl_err *err)
{
    char hex[65];
    struct fields f = fields_of(stmt);
    struct pfl_bytes stored = pfl_sql_blob(stmt, 6);
    uint8_t hash[PFL_SHA256_LEN];
    PFL_AUTO(pfl_freep) char *what = pfl_xasprintf("%s %s", pfl_q(f.action), pfl_q(f.subject));
    if (f.seq != w->seq + 1)
        return tampered(w, err, w->seq + 1, "", f.seq > w->seq ? "is missing" : "stands where it does not belong");
    entry_hash(w->hash, &f, hash);
    if (!pfl_bytes_eq(stored, pfl_bytes_of(hash, sizeof hash)))
        return tampered(w, err, f.seq, what,
                        "its hash does not follow from what it says and the entry before: it was changed or moved");
    w->seq = f.seq;
    memcpy(w->hash, hash, sizeof hash);
    if (f.seq == w->sealed)
        memcpy(w->sealed_hash, hash, sizeof hash);
    pfl_hex(pfl_bytes_of(hash, sizeof hash), hex);
    if (f.seq == w->expect && !pfl_streq(hex, w->expect_hex))
        return tampered(w, err, f.seq, what, "its hash is not the one that was noted: the log was written anew");
    return PFL_OK;
}

static enum pfl_rc check_chain(struct walk *w, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    enum pfl_rc rc = query_entries(w->r, &stmt, err);
    if (rc == PFL_OK)
        rc = pfl_sql_next(w->r, stmt, &more, err);
    while (rc == PFL_OK && more) {
        rc = check_entry(w, stmt, err);
        if (rc == PFL_OK)
            rc = pfl_sql_next(w->r, stmt, &more, err);
    }
    return rc;
}

static enum pfl_rc check_ends(const struct walk *w, const struct head *head, struct pfl_err *err)
{
    if (w->seq < head->seq || w->seq < w->sealed)
        return tampered(w, err, w->seq + 1, "", "is missing: the end of the log was cut off");
    if (w->seq > head->seq || memcmp(w->hash, head->hash, sizeof w->hash) != 0)
        return tampered(w, err, w->seq, "", "is not the head that the register names: entries were put behind it");
    if (w->expect > w->seq)
        return tampered(w, err, w->expect, "", "was noted and is missing: the end of the log was cut off");
    return PFL_OK;
}

static enum pfl_rc check_seal(const struct walk *w, pfl_audit_check_fn check, void *user, struct pfl_audit_report *ret,
                              struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0};
    bool row = false;
    enum pfl_rc rc = pfl_sql_query(w->r, err, &stmt, "SELECT sealed_by, seal FROM audit_head", "");
    if (rc == PFL_OK)
        rc = pfl_sql_next(w->r, stmt, &row, err);
    if (rc != PFL_OK || w->sealed == 0)
        return rc;
    seal_text(&text, w->sealed, w->sealed_hash);
    if (!row || !check(user, pfl_buf_view(&text), pfl_sql_blob(stmt, 1), pfl_sql_text(stmt, 0)))
        return tampered(w, err, w->sealed, "", "the seal on it is not by this CA's key: the log was written anew");
    ret->sealed = w->sealed;
    memcpy(ret->sealed_by, pfl_sql_text(stmt, 0), strnlen(pfl_sql_text(stmt, 0), 64));
    return PFL_OK;
}

/* The log says of each certificate "sha256=<of its DER>", and of each revocation "revoke": the register must say the same. */
static const char CERTIFICATES[] =
    "SELECT serial, der, status,"
    " (SELECT detail FROM audit a WHERE a.subject = serial AND detail LIKE 'sha256=%' LIMIT 1),"
    " (SELECT count(*) FROM audit a WHERE a.subject = serial AND action = 'revoke') FROM certificates";

static enum pfl_rc check_certificate(struct pfl_register *r, struct sqlite3_stmt *stmt, struct pfl_err *err)
{
    char hex[65];
    PFL_AUTO(pfl_freep) char *path = pfl_xasprintf("%s: certificate %s", pfl_register_path(r), pfl_q(pfl_sql_text(stmt, 0)));
    const char *status = pfl_sql_text(stmt, 2), *logged = pfl_sql_text(stmt, 3);
    bool revoked = pfl_streq(status, "revoked");
    if (pfl_streq(status, "reserved"))
        return PFL_OK;
    pfl_sha256_hex(pfl_sql_blob(stmt, 1), hex);
    if (*logged == '\0')
        return pfl_err_set(err, PFL_AUTH, "%s: the audit log knows nothing of it", path);
    if (strncmp(logged + strlen("sha256="), hex, 64) != 0)
        return pfl_err_set(err, PFL_AUTH, "%s: is not the certificate that the audit log names", path);
    if (revoked != (pfl_sql_int(stmt, 4) > 0))
        return pfl_err_set(err, PFL_AUTH, "%s: the register says %s, the audit log %s", path, revoked ? "revoked" : "valid",
                           revoked ? "has no revocation of it" : "that it was revoked");
    return PFL_OK;
}

static enum pfl_rc check_certificates(struct pfl_register *r, int64_t *ret_n, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *lost = NULL;
    bool more = false;
    enum pfl_rc rc = pfl_sql_query(r, err, &stmt, CERTIFICATES, "");
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &more, err);
    while (rc == PFL_OK && more) {
        *ret_n += 1;
        rc = check_certificate(r, stmt, err);
        if (rc == PFL_OK)
            rc = pfl_sql_next(r, stmt, &more, err);
    }
    if (rc == PFL_OK)
        rc = pfl_sql_query(r, err, &lost,
                           "SELECT seq, subject FROM audit WHERE detail LIKE 'sha256=%' AND NOT EXISTS"
                           " (SELECT 1 FROM certificates c WHERE c.serial = audit.subject) ORDER BY seq LIMIT 1",
                           "");
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, lost, &more, err);
    if (rc == PFL_OK && more)
        return pfl_err_set(err, PFL_AUTH, "%s: certificate %s of audit entry %lld is no longer in the register",
                           pfl_register_path(r), pfl_q(pfl_sql_text(lost, 1)), (long long)pfl_sql_int(lost, 0));
    return rc;
}

static enum pfl_rc take_expected(struct walk *w, const char *expect, struct pfl_err *err)
{
    const char *colon = expect ? strchr(expect, ':') : NULL;
    PFL_AUTO(pfl_freep) char *number = colon ? pfl_xstrndup(expect, (size_t)(colon - expect)) : NULL;
    uint8_t bytes[PFL_SHA256_LEN];
    if (!expect)
        return PFL_OK;
    if (!number || !pfl_parse_i64(number, 1, INT64_MAX, &w->expect) || !pfl_unhex(colon + 1, bytes, sizeof bytes))
        return pfl_err_set(err, PFL_INVALID, "'%s': a noted head is wanted, as 'NUMBER:HASH'", pfl_q(expect));
    pfl_hex(pfl_bytes_of(bytes, sizeof bytes), w->expect_hex);
    return PFL_OK;
}

static enum pfl_rc verify(struct walk *w, pfl_audit_check_fn check, void *user, struct pfl_audit_report *ret, struct pfl_err *err)
{
    struct head head;
    enum pfl_rc rc = read_head(w->r, &head, err);
    if (rc != PFL_OK)
        return rc;
    w->sealed = head.sealed;
    rc = check_chain(w, err);
    if (rc == PFL_OK)
        rc = check_ends(w, &head, err);
    if (rc == PFL_OK)
        rc = check_seal(w, check, user, ret, err);
    if (rc == PFL_OK)
        rc = check_certificates(w->r, &ret->n_certificates, err);
    return rc;
}

enum pfl_rc pfl_audit_verify(struct pfl_register *r, const char *expect, pfl_audit_check_fn check, void *user,
                             struct pfl_audit_report *ret, struct pfl_err *err)
{
    struct walk w = {.r = r};
    *ret = (struct pfl_audit_report){0};
    enum pfl_rc rc = take_expected(&w, expect, err);
    if (rc == PFL_OK) /* one view of the file, whatever other processes write meanwhile */
        rc = pfl_sql_run(r, err, "BEGIN", "");
    if (rc != PFL_OK)
        return rc;
    rc = verify(&w, check, user, ret, err);
    pfl_register_rollback(r);
    ret->n = w.seq;
    pfl_hex(pfl_bytes_of(w.hash, sizeof w.hash), ret->head);
    return rc;
}
