/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
/* timeout: 240 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <openssl/x509v3.h>

#include "base/fs.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"
#include "pki/verify.h"
#include "support/certs.h"

static const int64_t NOW = 1800000000;
enum { DAY = 86400 };

struct world {
    char *dir, *ca_dir, *ca_crt, *ca_key, *out;
    struct pfl_passphrase *pass;
    struct pfl_ca *ca;
};

static int set_up(void **state)
{
    struct world *w = pfl_xcalloc(1, sizeof *w);
    struct pfl_err err = {0};
    w->dir = test_dir_new();
    w->ca_dir = pfl_fs_join(w->dir, "sub/ca");
    w->ca_crt = pfl_fs_join(w->ca_dir, "ca.crt");
    w->ca_key = pfl_fs_join(w->ca_dir, "ca.key");
    w->out = pfl_fs_join(w->dir, "a");
    assert_int_equal(pfl_passphrase_of("correct horse", 13, &w->pass, &err), PFL_OK);
    struct pfl_ca_opts opts = {.federation = "lab", .now = NOW};
    if (pfl_ca_init(w->ca_dir, &opts, w->pass, &err) != PFL_OK || pfl_ca_open(w->ca_dir, w->pass, &w->ca, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    pfl_ca_close(w->ca);
    pfl_passphrase_free(w->pass);
    test_dir_free(w->dir);
    free(w->ca_dir);
    free(w->ca_crt);
    free(w->ca_key);
    free(w->out);
    free(w);
    return 0;
}

static enum pfl_rc issue(const struct world *w, struct pfl_issue_opts opts, const char *san, struct pfl_err *err)
{
    opts.now = opts.now ? opts.now : NOW;
    if (san)
        pfl_strs_split(&opts.sans, san, ',');
    enum pfl_rc rc = pfl_ca_issue(w->ca, &opts, w->out, err);
    pfl_strs_deinit(&opts.sans);
    return rc;
}

static mode_t mode_of(const char *dir, const char *name)
{
    struct stat st;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static struct stack_st_X509 *load(const char *dir, const char *name)
{
    struct stack_st_X509 *certs = NULL;
    struct pfl_err err = {0};
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    if (pfl_certs_load(path, &certs, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return certs;
}

static void test_ca_init__bad_options__nothing_written(void **state)
{
    const struct world *w = *state;
    char long_name[66];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const struct {
        struct pfl_ca_opts opts;
        const char *wanted;
    } rows[] = {{{.federation = "A B"}, "federation 'A B'"},
                {{.federation = ""}, "federation ''"},
                {{.name = ""}, "visible characters"},
                {{.name = "a\nb"}, "visible characters"},
                {{.name = long_name}, "1 to 64"},
                {{.key = "rsa:1024"}, "rsa:N"},
                {{.days = -1}, "-1 days"},
                {{.days = 7301}, "7301 days"}};
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_join(w->dir, "bad");
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_err err = {0};
        assert_int_equal(pfl_ca_init(dir, &rows[i].opts, w->pass, &err), PFL_INVALID);
        assert_non_null(strstr(err.msg, rows[i].wanted));
        assert_int_equal(test_dir_count(dir), -1);
    }
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *little = NULL;
    assert_int_equal(pfl_passphrase_of("short", 5, &little, NULL), PFL_OK);
    assert_int_equal(pfl_ca_init(dir, &(struct pfl_ca_opts){0}, little, NULL), PFL_INVALID);
    assert_int_equal(test_dir_count(dir), -1);
}

static void test_ca_init__existing__not_overwritten(void **state)
{
    const struct world *w = *state;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *before = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *after = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_fs_read(w->ca_key, 65536, &before, NULL), PFL_OK);
    assert_int_equal(pfl_ca_init(w->ca_dir, &(struct pfl_ca_opts){0}, w->pass, &err), PFL_EXISTS);
    assert_int_equal(pfl_fs_read(w->ca_key, 65536, &after, NULL), PFL_OK);
    assert_true(pfl_bytes_eq(pfl_bytes_of(before->data, before->len), pfl_bytes_of(after->data, after->len)));
}

static void test_ca_init__root__as_a_root_should_be(void **state)
{
    const struct world *w = *state;
    struct stack_st_X509 *certs = load(w->ca_dir, "ca.crt");
    X509 *root = pfl_x509s_at(certs, 0);
    PFL_AUTO(pfl_cert_info_deinit) struct pfl_cert_info info = {0};
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    int critical = 0;
    pfl_cert_info_of(root, &info);
    assert_int_equal(pfl_identity_of_x509(root, &id, NULL), PFL_OK);
    assert_int_equal(pfl_x509s_n(certs), 1);
    assert_true(info.is_ca && info.self_signed);
    assert_string_equal(info.key, "ECDSA P-256");
    assert_string_equal(info.signature, "ecdsa-with-SHA256");
    assert_string_equal(id->subject, "CN=lab CA");
    assert_string_equal(id->federation, "lab");
    assert_int_equal(id->not_before, NOW - 300);
    assert_int_equal(id->not_after, NOW + 1024LL * DAY);
    assert_string_equal(info.ski, info.aki);
    BASIC_CONSTRAINTS_free(X509_get_ext_d2i(root, NID_basic_constraints, &critical, NULL));
    assert_int_equal(critical, 1);
    ASN1_BIT_STRING_free(X509_get_ext_d2i(root, NID_key_usage, &critical, NULL));
    assert_int_equal(critical, 1);
    assert_int_equal(mode_of(w->ca_dir, "ca.key"), 0600);
    assert_int_equal(mode_of(w->dir, "sub/ca"), 0700);
    assert_true(pfl_key_file_encrypted(w->ca_key));
    assert_int_equal(mode_of(w->ca_dir, "ca.db"), 0600);
    assert_int_equal(mode_of(w->ca_dir, "bundle.pem"), 0644);
    assert_int_equal(mode_of(w->ca_dir, "crl.pem"), 0644);
    pfl_x509s_free(certs);
}

static void test_ca_open__wrong_passphrase_or_key__refused(void **state)
{
    const struct world *w = *state;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *wrong = NULL;
    PFL_AUTO(pfl_freep) char *other = pfl_fs_join(w->dir, "other");
    PFL_AUTO(pfl_freep) char *other_key = pfl_fs_join(w->dir, "other/ca.key");
    struct pfl_ca *ca = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_passphrase_of("wrong horse", 11, &wrong, NULL), PFL_OK);
    assert_int_equal(pfl_ca_open(w->ca_dir, wrong, &ca, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "wrong passphrase"));
    assert_int_equal(pfl_ca_open(w->ca_dir, NULL, &ca, &err), PFL_AUTH);
    assert_int_equal(pfl_ca_open(other, w->pass, &ca, &err), PFL_NOT_FOUND);
    assert_int_equal(pfl_ca_init(other, &(struct pfl_ca_opts){0}, w->pass, NULL), PFL_OK);
    assert_int_equal(rename(w->ca_key, other_key), 0);
    assert_int_equal(pfl_ca_open(other, w->pass, &ca, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "is not the key of"));
    assert_int_equal(chmod(other_key, 0644), 0);
    assert_int_equal(pfl_ca_open(other, w->pass, &ca, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "chmod"));
    assert_null(ca);
}

static void test_ca_issue__bad_options__nothing_written(void **state)
{
    static const struct {
        struct pfl_issue_opts opts;
        const char *san, *wanted;
    } ROWS[] = {
        {{.name = "A"}, "IP:::1", "name 'A'"},
        {{.name = "../a"}, "IP:::1", "name '../a'"},
        {{.name = ""}, "IP:::1", "name ''"},
        {{.name = "a", .role = "root"}, "IP:::1", "role 'root'"},
        {{.name = "a"}, NULL, "no subject alternative name"},
        {{.name = "a"}, "127.0.0.1", "IP:… or DNS:… is wanted"},
        {{.name = "a"}, "IP:::1,URI:spiffe://x/node/y", "IP:… or DNS:… is wanted"},
        {{.name = "a"}, "IP:127.0.0.256", "not an IP address"},
        {{.name = "a"}, "DNS:a b", "not a DNS name"},
        {{.name = "a"}, "DNS:127.0.0.1", "not a DNS name"},
        {{.name = "a", .key = "rsa:512"}, "IP:::1", "rsa:N"},
        {{.name = "a", .days = 99999}, "IP:::1", "99999 days"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct pfl_err err = {0};
        const struct world *w = *state;
        assert_int_equal(issue(w, ROWS[i].opts, ROWS[i].san, &err), PFL_INVALID);
        if (!strstr(err.msg, ROWS[i].wanted))
            fail_msg("'%s', wanted '%s'", err.msg, ROWS[i].wanted);
        assert_int_equal(test_dir_count(w->out), -1);
    }
}

static void test_ca_issue__one_file_is_there__nothing_written(void **state)
{
    const struct world *w = *state;
    PFL_AUTO(pfl_freep) char *there = pfl_fs_join(w->out, "client.crt");
    struct pfl_err err = {0};
    assert_int_equal(pfl_fs_mkdirs(w->out, 0700, NULL), PFL_OK);
    assert_int_equal(pfl_fs_write_new(there, pfl_bytes_of("mine", 4), 0644, NULL), PFL_OK);
    assert_int_equal(issue(w, (struct pfl_issue_opts){.name = "a"}, "IP:::1", &err), PFL_EXISTS);
    assert_non_null(strstr(err.msg, "client.crt"));
    assert_int_equal(test_dir_count(w->out), 1);
}

static void test_ca_issue__disk_full_half_way__nothing_left(void **state)
{
    const struct world *w = *state;
    struct rlimit old, little = {1000, RLIM_INFINITY}; /* the register cannot grow */
    struct pfl_err err = {0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    little.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    enum pfl_rc rc = issue(w, (struct pfl_issue_opts){.name = "a", .key = "rsa:2048"}, "IP:::1", &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rc, PFL_IO);
    assert_int_equal(test_dir_count(w->out), -1);
}

static void test_ca_issue__ca_out_of_time__refused(void **state)
{
    const struct world *w = *state;
    struct pfl_err err = {0};
    assert_int_equal(issue(w, (struct pfl_issue_opts){.name = "a", .now = NOW + 1025LL * DAY}, "IP:::1", &err), PFL_STATE);
    assert_non_null(strstr(err.msg, "expired on"));
    assert_int_equal(issue(w, (struct pfl_issue_opts){.name = "a", .now = NOW - 301}, "IP:::1", &err), PFL_STATE);
    assert_non_null(strstr(err.msg, "not valid before"));
    assert_int_equal(test_dir_count(w->out), -1);
}

static void check_pair(const struct world *w, const char *crt, const char *key, enum pfl_purpose purpose)
{
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *trust = NULL;
    PFL_AUTO(pfl_freep) char *key_path = pfl_fs_join(w->out, key);
    PFL_AUTO(pfl_freep) char *ca_path = pfl_fs_join(w->out, "ca.crt");
    struct stack_st_X509 *certs = load(w->out, crt);
    EVP_PKEY *k = NULL;
    struct pfl_err err = {0};
    struct pfl_verify_opts opts = {.purpose = purpose, .host = "a.example", .now = NOW};
    struct pfl_verify_opts other = {.purpose = purpose == PFL_PURPOSE_SERVER ? PFL_PURPOSE_CLIENT : PFL_PURPOSE_SERVER, .now = NOW};
    assert_int_equal(pfl_trust_load(ca_path, &trust, &err), PFL_OK);
    assert_int_equal(pfl_key_load(key_path, NULL, &k, &err), PFL_OK);
    assert_true(pfl_key_matches(k, pfl_x509s_at(certs, 0)));
    assert_int_equal(pfl_verify_x509(trust, pfl_x509s_at(certs, 0), NULL, &other, &err), PFL_AUTH);
    if (pfl_verify_x509(trust, pfl_x509s_at(certs, 0), NULL, &opts, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_key_free(k);
    pfl_x509s_free(certs);
}

static void test_ca_issue__five_files__each_for_its_purpose(void **state)
{
    const struct world *w = *state;
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *server = NULL;
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *client = NULL;
    struct pfl_err err = {0};
    if (issue(w, (struct pfl_issue_opts){.name = "a", .role = "observer"}, "IP:127.0.0.1,DNS:A.example", &err) != PFL_OK)
        fail_msg("%s", err.msg);
    check_pair(w, "server.crt", "server.key", PFL_PURPOSE_SERVER);
    check_pair(w, "client.crt", "client.key", PFL_PURPOSE_CLIENT);
    struct stack_st_X509 *s = load(w->out, "server.crt"), *c = load(w->out, "client.crt");
    assert_int_equal(pfl_identity_of_x509(pfl_x509s_at(s, 0), &server, NULL), PFL_OK);
    assert_int_equal(pfl_identity_of_x509(pfl_x509s_at(c, 0), &client, NULL), PFL_OK);
    assert_string_equal(server->spiffe_id, "spiffe://lab/observer/a");
    assert_true(pfl_identity_same(server, client));
    assert_true(pfl_identity_covers_host(server, "127.0.0.1"));
    assert_string_not_equal(server->serial_hex, client->serial_hex);
    assert_false(EVP_PKEY_eq(X509_get0_pubkey(pfl_x509s_at(s, 0)), X509_get0_pubkey(pfl_x509s_at(c, 0))) == 1);
    assert_int_equal(server->not_before, NOW - 300);
    assert_int_equal(server->not_after, NOW + 500LL * DAY);
    assert_int_equal(mode_of(w->out, "server.key"), 0600);
    assert_int_equal(mode_of(w->out, "client.key"), 0600);
    assert_int_equal(mode_of(w->dir, "a"), 0700);
    assert_int_equal(test_dir_count(w->out), 5);
    pfl_x509s_free(s);
    pfl_x509s_free(c);
}

static void test_ca_issue__near_the_cas_end__cut(void **state)
{
    const struct world *w = *state;
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    assert_int_equal(issue(w, (struct pfl_issue_opts){.name = "a", .now = NOW + 1000LL * DAY}, "IP:::1", NULL), PFL_OK);
    struct stack_st_X509 *s = load(w->out, "server.crt");
    assert_int_equal(pfl_identity_of_x509(pfl_x509s_at(s, 0), &id, NULL), PFL_OK);
    assert_int_equal(id->not_after, NOW + 1024LL * DAY);
    pfl_x509s_free(s);
}

static void test_ca__every_kind_of_key__signs_every_kind(void **state)
{
    static const struct {
        const char *ca, *node;
    } ROWS[] = {{"p384", "ed25519"}, {"ed25519", "p384"}, {"rsa:3072", "p256"}, {"p256", "rsa:2048"}, {"ed25519", "ed25519"}};
    const struct world *w = *state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        struct world v = {.dir = test_dir_new()};
        struct pfl_err err = {0};
        v.ca_dir = pfl_fs_join(v.dir, "ca");
        v.out = pfl_fs_join(v.dir, "a");
        struct pfl_ca_opts opts = {.key = ROWS[i].ca, .now = NOW, .name = "Größe CA"};
        if (pfl_ca_init(v.ca_dir, &opts, NULL, &err) != PFL_OK || pfl_ca_open(v.ca_dir, w->pass, &v.ca, &err) != PFL_OK)
            fail_msg("%s: %s", ROWS[i].ca, err.msg);
        if (issue(&v, (struct pfl_issue_opts){.name = "a", .key = ROWS[i].node}, "DNS:a.example", &err) != PFL_OK)
            fail_msg("%s: %s", ROWS[i].node, err.msg);
        check_pair(&v, "server.crt", "server.key", PFL_PURPOSE_SERVER);
        pfl_ca_close(v.ca);
        test_dir_free(v.dir);
        free(v.ca_dir);
        free(v.out);
    }
}

static void test_san_parse__canonical_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } ROWS[] = {
        {"", NULL},
        {"IP:", NULL},
        {"DNS:", NULL},
        {"IP:1.2.3", NULL},
        {"IP:::g", NULL},
        {"IP:127.0.0.1/8", NULL},
        {"DNS:a..b", NULL},
        {"DNS:.a", NULL},
        {"DNS:a.", NULL},
        {"DNS:-a", NULL},
        {"DNS:a-.b", NULL},
        {"DNS:a-", NULL},
        {"DNS:*.b", NULL},
        {"DNS:*", NULL},
        {"DNS:a.*.b", NULL},
        {"DNS:a,b", NULL},
        {"DNS:\xc3\xa4", NULL},
        {"email:a@b", NULL},
        {"URI:x", NULL},
        {"dirName:x", NULL},
        {"ip:127.0.0.1", "IP:127.0.0.1"},
        {"IP:0:0::1", "IP:::1"},
        {"dns:A.Example", "DNS:a.example"},
        {"DNS:*.a.example", "DNS:*.a.example"},
        {"DNS:localhost", "DNS:localhost"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        PFL_AUTO(pfl_freep) char *out = NULL;
        enum pfl_rc rc = pfl_san_parse(ROWS[i].in, &out, NULL);
        if (rc != (ROWS[i].out ? PFL_OK : PFL_INVALID) || !pfl_streq(out, ROWS[i].out))
            fail_msg("'%s' gives '%s'", ROWS[i].in, out ? out : "nothing");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ca_init__bad_options__nothing_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_init__existing__not_overwritten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_init__root__as_a_root_should_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_open__wrong_passphrase_or_key__refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_issue__bad_options__nothing_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_issue__one_file_is_there__nothing_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_issue__disk_full_half_way__nothing_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_issue__ca_out_of_time__refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_issue__five_files__each_for_its_purpose, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca_issue__near_the_cas_end__cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ca__every_kind_of_key__signs_every_kind, set_up, tear_down),
        cmocka_unit_test(test_san_parse__canonical_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
