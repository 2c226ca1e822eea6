/* SPDX-License-Identifier: Apache-2.0 */
/* The register's rows. A serial goes in before anything is signed with it; the index on it is what makes two equal ones
 * impossible, whatever the processes do. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pki/digest.h"
#include "pki/register.h"
#include "pki/sql.h"

enum { SERIAL_TRIES = 4 };

void pfl_cert_row_deinit(struct pfl_cert_row *row)
{
    free(row->name);
    free(row->role);
    free(row->subject);
    free(row->purpose);
    free(row->key_fingerprint);
    free(row->issuer_fingerprint);
    free(row->asked_by);
    free(row->status);
    free(row->reason);
    pfl_strs_deinit(&row->sans);
    pfl_buf_deinit(&row->der);
    *row = (struct pfl_cert_row){0};
}

static void new_serial(char hex[PFL_SERIAL_HEX_MAX + 1])
{
    uint8_t bytes[PFL_SERIAL_LEN];
    do
        pfl_random_bytes(bytes, sizeof bytes);
    while (bytes[0] == 0); /* always 32 digits, so that it reads the same everywhere */
    for (size_t i = 0; i < sizeof bytes; i++) {
        hex[2 * i] = "0123456789ABCDEF"[bytes[i] >> 4];
        hex[2 * i + 1] = "0123456789ABCDEF"[bytes[i] & 15];
    }
    hex[2 * sizeof bytes] = '\0';
}

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

static enum pfl_rc insert(struct pfl_register *r, const struct pfl_cert_row *row, const char *status, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *sans = pfl_strs_join(&row->sans, "\n");
    return pfl_sql_run(r, err,
                       "INSERT INTO certificates (serial, name, role, subject, purpose, sans, key_fingerprint, issuer, asked_by,"
                       " token_id, not_before, not_after, status, der) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "tttttttttiiitb", row->serial_hex, or_empty(row->name), or_empty(row->role), or_empty(row->subject),
                       or_empty(row->purpose), sans, or_empty(row->key_fingerprint), or_empty(row->issuer_fingerprint),
                       or_empty(row->asked_by), row->token_id, row->not_before, row->not_after, status, pfl_buf_view(&row->der));
}

enum pfl_rc pfl_register_reserve(struct pfl_register *r, struct pfl_cert_row *row, struct pfl_err *err)
{
    enum pfl_rc rc = PFL_EXISTS;
    PFL_ASSERT(pfl_register_in_transaction(r) && row->der.len == 0);
    for (int i = 0; rc == PFL_EXISTS && i < SERIAL_TRIES; i++) {
        new_serial(row->serial_hex);
        rc = insert(r, row, "reserved", err);
    }
    return rc;
}

enum pfl_rc pfl_register_record(struct pfl_register *r, const char *serial_hex, struct pfl_bytes der, struct pfl_err *err)
{
    PFL_ASSERT(pfl_register_in_transaction(r) && der.len > 0);
    enum pfl_rc rc =
        pfl_sql_run(r, err, "UPDATE certificates SET status = 'valid', der = ? WHERE serial = ? AND status = 'reserved'", "bt", der,
                    serial_hex);
    if (rc == PFL_OK && sqlite3_changes(pfl_register_db(r)) != 1)
        return pfl_err_set(err, PFL_STATE, "serial %s is not reserved", serial_hex);
    return rc;
}

enum pfl_rc pfl_register_adopt(struct pfl_register *r, const struct pfl_cert_row *row, struct pfl_err *err)
{
    PFL_ASSERT(pfl_register_in_transaction(r) && row->der.len > 0);
    return insert(r, row, "valid", err);
}

enum pfl_rc pfl_register_mark_revoked(struct pfl_register *r, const char *serial_hex, const char *reason, int64_t at,
                                      struct pfl_err *err)
{
    PFL_ASSERT(pfl_register_in_transaction(r));
    enum pfl_rc rc = pfl_sql_run(
        r, err, "UPDATE certificates SET status = 'revoked', revoked_at = ?, reason = ? WHERE serial = ? AND status = 'valid'",
        "itt", at, reason, serial_hex);
    if (rc == PFL_OK && sqlite3_changes(pfl_register_db(r)) != 1)
        return pfl_err_set(err, PFL_STATE, "serial %s is not valid", serial_hex);
    return rc;
}

static void take_row(struct sqlite3_stmt *stmt, struct pfl_cert_row *row)
{
    const char *serial = pfl_sql_text(stmt, 0), *sans = pfl_sql_text(stmt, 5);
    size_t len = strnlen(serial, PFL_SERIAL_HEX_MAX);
    memcpy(row->serial_hex, serial, len);
    row->serial_hex[len] = '\0';
    row->name = pfl_xstrdup(pfl_sql_text(stmt, 1));
    row->role = pfl_xstrdup(pfl_sql_text(stmt, 2));
    row->subject = pfl_xstrdup(pfl_sql_text(stmt, 3));
    row->purpose = pfl_xstrdup(pfl_sql_text(stmt, 4));
    if (*sans)
        pfl_strs_split(&row->sans, sans, '\n');
    row->key_fingerprint = pfl_xstrdup(pfl_sql_text(stmt, 6));
    row->issuer_fingerprint = pfl_xstrdup(pfl_sql_text(stmt, 7));
    row->asked_by = pfl_xstrdup(pfl_sql_text(stmt, 8));
    row->token_id = pfl_sql_int(stmt, 9);
    row->not_before = pfl_sql_int(stmt, 10);
    row->not_after = pfl_sql_int(stmt, 11);
    row->status = pfl_xstrdup(pfl_sql_text(stmt, 12));
    row->revoked_at = pfl_sql_int(stmt, 13);
    row->reason = pfl_xstrdup(pfl_sql_text(stmt, 14));
    struct pfl_bytes der = pfl_sql_blob(stmt, 15);
    pfl_buf_append(&row->der, der.data, der.len);
}

/* "0a:1B" and "0A1B" name the same serial; "" where the text cannot be one. */
static void serial_of(const char *text, char out[PFL_SERIAL_HEX_MAX + 1])
{
    size_t n = 0;
    for (; *text && n < PFL_SERIAL_HEX_MAX; text++) {
        char c = *text;
        if (c == ':')
            continue;
        if (c >= 'a' && c <= 'f')
            c = (char)(c - 'a' + 'A');
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F')))
            break;
        out[n++] = c;
    }
    out[*text ? 0 : n] = '\0';
}

enum pfl_rc pfl_register_each(struct pfl_register *r, const char *name_or_serial, pfl_cert_row_fn fn, void *user,
                              struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    char serial[PFL_SERIAL_HEX_MAX + 1] = "";
    bool more = false;
    if (name_or_serial)
        serial_of(name_or_serial, serial);
    enum pfl_rc rc = pfl_sql_query(r, err, &stmt,
                                   "SELECT serial, name, role, subject, purpose, sans, key_fingerprint, issuer, asked_by, token_id,"
                                   " not_before, not_after, status, revoked_at, reason, der FROM certificates"
                                   " WHERE ?1 IS NULL OR name = ?1 OR serial = ?2 ORDER BY id",
                                   "tt", name_or_serial, serial);
    if (rc == PFL_OK)
        rc = pfl_sql_next(r, stmt, &more, err);
    while (rc == PFL_OK && more) {
        struct pfl_cert_row row = {0};
        take_row(stmt, &row);
        more = fn(user, &row);
        pfl_cert_row_deinit(&row);
        if (more)
            rc = pfl_sql_next(r, stmt, &more, err);
    }
    return rc;
}
