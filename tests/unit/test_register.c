/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
/* timeout: 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fs.h"
#include "pki/register.h"
#include "pki/sql.h"
#include "support/certs.h"

struct world {
    char *dir, *path;
    struct pfl_register *r;
};

static int set_up(void **state)
{
    struct world *w = pfl_xcalloc(1, sizeof *w);
    struct pfl_err err = {0};
    w->dir = test_dir_new();
    w->path = pfl_fs_join(w->dir, "ca.db");
    if (pfl_register_open(w->path, &w->r, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    pfl_register_close(w->r);
    test_dir_free(w->dir);
    free(w->path);
    free(w);
    return 0;
}

static struct pfl_cert_row row_named(const char *name)
{
    struct pfl_cert_row row = {.not_before = 1, .not_after = INT64_C(4000000000)};
    row.name = pfl_xstrdup(name);
    row.purpose = pfl_xstrdup("serverAuth");
    pfl_strs_add(&row.sans, "IP:127.0.0.1");
    pfl_strs_add(&row.sans, "DNS:a.example");
    return row;
}

/* Reserved, recorded and logged as the CA does it. */
static void add(struct pfl_register *r, const char *name, const char *log, char serial[PFL_SERIAL_HEX_MAX + 1])
{
    struct pfl_cert_row row = row_named(name);
    assert_int_equal(pfl_register_begin(r, NULL), PFL_OK);
    assert_int_equal(pfl_register_reserve(r, &row, NULL), PFL_OK);
    assert_int_equal(pfl_register_record(r, row.serial_hex, pfl_bytes_of("abc", 3), NULL), PFL_OK);
    if (log)
        assert_int_equal(pfl_audit_append(r, "operator test", "issue", row.serial_hex, log, NULL), PFL_OK);
    assert_int_equal(pfl_register_commit(r, NULL), PFL_OK);
    memcpy(serial, row.serial_hex, sizeof row.serial_hex);
    pfl_cert_row_deinit(&row);
}

struct seen {
    size_t n;
    char *name, *status, *sans;
};

static bool see(void *user, const struct pfl_cert_row *row)
{
    struct seen *s = user;
    s->n++;
    free(s->name);
    free(s->status);
    free(s->sans);
    s->name = pfl_xstrdup(row->name);
    s->status = pfl_xstrdup(row->status);
    s->sans = pfl_strs_join(&row->sans, " ");
    return true;
}

static size_t count(struct pfl_register *r, const char *what)
{
    struct seen s = {0};
    assert_int_equal(pfl_register_each(r, what, see, &s, NULL), PFL_OK);
    free(s.name);
    free(s.status);
    free(s.sans);
    return s.n;
}

static void test_register_open__readable_by_others__refused(void **state)
{
    const struct world *w = *state;
    struct pfl_register *r = NULL;
    struct pfl_err err = {0};
    struct stat st;
    assert_int_equal(stat(w->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(chmod(w->path, 0640), 0);
    assert_int_equal(pfl_register_open(w->path, &r, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "chmod 600"));
    assert_null(r);
}

static void test_register_open__newer_schema__refused(void **state)
{
    struct world *w = *state;
    struct pfl_register *r = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_sql_run(w->r, NULL, "PRAGMA user_version = 99", ""), PFL_OK);
    assert_int_equal(pfl_register_open(w->path, &r, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "newer p2pfl"));
}

static void test_register_open__no_folder__io(void **state)
{
    const struct world *w = *state;
    struct pfl_register *r = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(w->dir, "no/ca.db");
    assert_int_not_equal(pfl_register_open(path, &r, NULL), PFL_OK);
    assert_null(r);
}

static void test_register_rollback__nothing_stays(void **state)
{
    struct world *w = *state;
    struct pfl_cert_row row = row_named("a");
    assert_int_equal(pfl_register_begin(w->r, NULL), PFL_OK);
    assert_true(pfl_register_in_transaction(w->r));
    assert_int_equal(pfl_register_reserve(w->r, &row, NULL), PFL_OK);
    assert_int_equal(pfl_audit_append(w->r, "x", "issue", "y", "z", NULL), PFL_OK);
    pfl_register_rollback(w->r);
    pfl_register_rollback(w->r); /* accepts that none is open */
    assert_false(pfl_register_in_transaction(w->r));
    assert_int_equal(count(w->r, NULL), 0);
    struct pfl_audit_report report;
    assert_int_equal(pfl_audit_verify(w->r, NULL, NULL, NULL, &report, NULL), PFL_OK);
    assert_int_equal(report.n, 0);
    pfl_cert_row_deinit(&row);
}

static void test_register_record__what_is_not_reserved__refused(void **state)
{
    struct world *w = *state;
    char serial[PFL_SERIAL_HEX_MAX + 1];
    add(w->r, "a", NULL, serial);
    assert_int_equal(strlen(serial), 32);
    assert_int_equal(pfl_register_begin(w->r, NULL), PFL_OK);
    assert_int_equal(pfl_register_record(w->r, serial, pfl_bytes_of("x", 1), NULL), PFL_STATE); /* a second certificate with it */
    assert_int_equal(pfl_register_record(w->r, "00", pfl_bytes_of("x", 1), NULL), PFL_STATE);
    assert_int_equal(pfl_register_mark_revoked(w->r, "00", "superseded", 1, NULL), PFL_STATE);
    pfl_register_rollback(w->r);
}

static void test_register_adopt__known_serial__exists(void **state)
{
    struct world *w = *state;
    struct pfl_cert_row row = row_named("b");
    add(w->r, "a", NULL, row.serial_hex);
    pfl_buf_append(&row.der, "x", 1);
    assert_int_equal(pfl_register_begin(w->r, NULL), PFL_OK);
    assert_int_equal(pfl_register_adopt(w->r, &row, NULL), PFL_EXISTS);
    pfl_register_rollback(w->r);
    pfl_cert_row_deinit(&row);
}

static void test_register_each__by_name_and_serial__as_written(void **state)
{
    struct world *w = *state;
    char a[PFL_SERIAL_HEX_MAX + 1], b[PFL_SERIAL_HEX_MAX + 1], lower[64];
    struct seen s = {0};
    add(w->r, "a", NULL, a);
    add(w->r, "b", NULL, b);
    assert_int_equal(count(w->r, NULL), 2);
    assert_int_equal(count(w->r, "c"), 0);
    assert_int_equal(count(w->r, ""), 0);
    assert_int_equal(count(w->r, "a' OR 1=1 --"), 0);
    for (size_t i = 0; i < strlen(a); i++)
        lower[i] = (char)(a[i] >= 'A' ? a[i] - 'A' + 'a' : a[i]);
    lower[strlen(a)] = '\0';
    PFL_AUTO(pfl_freep) char *colons = pfl_xasprintf("%.2s:%s", lower, lower + 2);
    assert_int_equal(count(w->r, lower), 1);
    assert_int_equal(pfl_register_each(w->r, colons, see, &s, NULL), PFL_OK);
    assert_int_equal(s.n, 1);
    assert_string_equal(s.name, "a");
    assert_string_equal(s.status, "valid");
    assert_string_equal(s.sans, "IP:127.0.0.1 DNS:a.example");
    free(s.name);
    free(s.status);
    free(s.sans);
}

static void test_register_mark_revoked__once(void **state)
{
    struct world *w = *state;
    char serial[PFL_SERIAL_HEX_MAX + 1];
    add(w->r, "a", NULL, serial);
    assert_int_equal(pfl_register_begin(w->r, NULL), PFL_OK);
    assert_int_equal(pfl_register_mark_revoked(w->r, serial, "superseded", 1, NULL), PFL_OK);
    assert_int_equal(pfl_register_mark_revoked(w->r, serial, "superseded", 2, NULL), PFL_STATE);
    assert_int_equal(pfl_register_commit(w->r, NULL), PFL_OK);
}

static void test_register_get_set__last_value(void **state)
{
    struct world *w = *state;
    char *value = NULL;
    assert_int_equal(pfl_register_get(w->r, "k", &value, NULL), PFL_OK);
    assert_null(value);
    assert_int_equal(pfl_register_begin(w->r, NULL), PFL_OK);
    assert_int_equal(pfl_register_set(w->r, "k", "1", NULL), PFL_OK);
    assert_int_equal(pfl_register_set(w->r, "k", "2'", NULL), PFL_OK);
    assert_int_equal(pfl_register_commit(w->r, NULL), PFL_OK);
    assert_int_equal(pfl_register_get(w->r, "k", &value, NULL), PFL_OK);
    assert_string_equal(value, "2'");
    free(value);
}

static bool count_entry(void *user, const struct pfl_audit_entry *e)
{
    size_t *n = user;
    *n += 1;
    for (const char *c = e->detail; *c; c++)
        assert_true((unsigned char)*c >= 0x20); /* one line each, whatever was put in */
    return *n < 2;
}

static void test_audit_each__ends_when_told__one_line_each(void **state)
{
    struct world *w = *state;
    size_t n = 0;
    assert_int_equal(pfl_register_begin(w->r, NULL), PFL_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pfl_audit_append(w->r, "a\nb", "token", NULL, "x\r\n\x1b[2Jy", NULL), PFL_OK);
    assert_int_equal(pfl_register_commit(w->r, NULL), PFL_OK);
    assert_int_equal(pfl_audit_each(w->r, count_entry, &n, NULL), PFL_OK);
    assert_int_equal(n, 2);
}

/* A seal that anybody can make: what it covers is the point here. */
static enum pfl_rc toy_sign(void *user, struct pfl_bytes in, struct pfl_buf *out, char key_fingerprint[65], struct pfl_err *err)
{
    (void)user, (void)err;
    memcpy(key_fingerprint, "toy", 4);
    return pfl_buf_append(out, in.data, in.len) ? PFL_OK : PFL_TOO_BIG;
}

static bool toy_check(void *user, struct pfl_bytes in, struct pfl_bytes signature, const char *key_fingerprint)
{
    (void)user;
    return pfl_bytes_eq(in, signature) && pfl_streq(key_fingerprint, "toy");
}

static enum pfl_rc refuse_to_sign(void *user, struct pfl_bytes in, struct pfl_buf *out, char key_fingerprint[65],
                                  struct pfl_err *err)
{
    (void)user, (void)in, (void)out, (void)key_fingerprint;
    return pfl_err_set(err, PFL_UNAVAILABLE, "the token is gone");
}

static void append_one(struct pfl_register *r)
{
    assert_int_equal(pfl_register_begin(r, NULL), PFL_OK);
    assert_int_equal(pfl_audit_append(r, "a", "token", "s", "d", NULL), PFL_OK);
}

static void test_audit_seal__covers_what_was_there(void **state)
{
    struct world *w = *state;
    struct pfl_audit_report report;
    pfl_register_set_sealer(w->r, toy_sign, NULL);
    append_one(w->r);
    assert_int_equal(pfl_register_commit(w->r, NULL), PFL_OK);
    pfl_register_set_sealer(w->r, NULL, NULL);
    append_one(w->r);
    assert_int_equal(pfl_register_commit(w->r, NULL), PFL_OK);
    assert_int_equal(pfl_audit_verify(w->r, NULL, toy_check, NULL, &report, NULL), PFL_OK);
    assert_int_equal(report.n, 2);
    assert_int_equal(report.sealed, 1);
    assert_string_equal(report.sealed_by, "toy");
}

static void test_register_commit__seal_fails__nothing_stays(void **state)
{
    struct world *w = *state;
    struct pfl_audit_report report;
    struct pfl_err err = {0};
    pfl_register_set_sealer(w->r, refuse_to_sign, NULL);
    append_one(w->r);
    assert_int_equal(pfl_register_commit(w->r, &err), PFL_UNAVAILABLE);
    assert_false(pfl_register_in_transaction(w->r));
    assert_int_equal(pfl_audit_verify(w->r, NULL, toy_check, NULL, &report, NULL), PFL_OK);
    assert_int_equal(report.n, 0);
}

static void test_audit_verify__certificate_without_an_entry__named(void **state)
{
    struct world *w = *state;
    char serial[PFL_SERIAL_HEX_MAX + 1];
    struct pfl_audit_report report;
    struct pfl_err err = {0};
    add(w->r, "a", "sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad name=a", serial); /* of "abc" */
    assert_int_equal(pfl_audit_verify(w->r, NULL, toy_check, NULL, &report, &err), PFL_OK);
    assert_int_equal(report.n_certificates, 1);
    add(w->r, "b", NULL, serial);
    assert_int_equal(pfl_audit_verify(w->r, NULL, toy_check, NULL, &report, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, serial));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_register_open__readable_by_others__refused),
        TEST(test_register_open__newer_schema__refused),
        TEST(test_register_open__no_folder__io),
        TEST(test_register_rollback__nothing_stays),
        TEST(test_register_record__what_is_not_reserved__refused),
        TEST(test_register_adopt__known_serial__exists),
        TEST(test_register_each__by_name_and_serial__as_written),
        TEST(test_register_mark_revoked__once),
        TEST(test_register_get_set__last_value),
        TEST(test_audit_each__ends_when_told__one_line_each),
        TEST(test_audit_seal__covers_what_was_there),
        TEST(test_register_commit__seal_fails__nothing_stays),
        TEST(test_audit_verify__certificate_without_an_entry__named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
