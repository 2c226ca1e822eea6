/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
/* timeout: 120 */
/* Keys in a token of SoftHSM2's, as the module offers it. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "modules/p11_fault.h"
#include "pki/key.h"
#include "pki/pkcs11.h"
#include "support/certs.h"

#define MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define PIN    "471199"
#define FAULTY PFL_TEST_MODULES "/p11_faulty.so"

extern char **environ;
static char *dir; /* softhsm2.conf, the tokens, PIN files */

static int run_program(const char *const *argv)
{
    posix_spawn_file_actions_t quiet;
    pid_t pid;
    int status = -1;
    assert_int_equal(posix_spawn_file_actions_init(&quiet), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0), 0);
    assert_int_equal(posix_spawnp(&pid, argv[0], &quiet, NULL, (char *const *)argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    posix_spawn_file_actions_destroy(&quiet);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void make_token(const char *label)
{
    const char *const argv[] = {"softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN,
                                "--so-pin",      "12345678",     NULL};
    assert_int_equal(run_program(argv), 0);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    assert_int_equal(pfl_fs_write_atomic(path, pfl_bytes_of(text, strlen(text)), mode, NULL), PFL_OK);
}

static int set_up_all(void **state)
{
    (void)state;
    dir = test_dir_new();
    PFL_AUTO(pfl_freep) char *tokens = pfl_fs_join(dir, "tokens");
    PFL_AUTO(pfl_freep) char *conf = pfl_fs_join(dir, "softhsm2.conf");
    PFL_AUTO(pfl_freep)
    char *text = pfl_xasprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens);
    assert_int_equal(pfl_fs_mkdirs(tokens, 0700, NULL), PFL_OK);
    write_file("softhsm2.conf", text, 0600);
    write_file("pin", PIN "\n", 0600);
    setenv("SOFTHSM2_CONF", conf, 1);
    setenv("P2PFL_PKCS11_MODULE", MODULE, 1);
    make_token("one");
    return 0;
}

static struct p11_fault *fault(void)
{
    void *module = dlopen(FAULTY, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        fail_msg("%s", dlerror());
    return dlsym(module, "p11_fault");
}

static int no_faults(void **state)
{
    (void)state;
    *fault() = (struct p11_fault){0};
    return 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    test_dir_free(dir);
    return 0;
}

static struct pfl_passphrase *passphrase(const char *text)
{
    struct pfl_passphrase *p = NULL;
    assert_int_equal(pfl_passphrase_of(text, strlen(text), &p, NULL), PFL_OK);
    return p;
}

static EVP_PKEY *make(const char *spec)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pin = passphrase(PIN);
    struct pfl_err err = {0};
    EVP_PKEY *key = NULL;
    if (pfl_key_make(spec, pin, &key, &err) != PFL_OK)
        fail_msg("%s: %s", spec, err.msg);
    return key;
}

static void check_load(const char *uri, const char *pin_text, enum pfl_rc rc, const char *says)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pin = pin_text ? passphrase(pin_text) : NULL;
    struct pfl_err err = {0};
    EVP_PKEY *key = NULL;
    enum pfl_rc got = pfl_key_load(uri, pin, &key, &err);
    pfl_key_free(key);
    EVP_PKEY *silent = NULL;
    enum pfl_rc got_silently = pfl_key_load(uri, pin, &silent, NULL);
    pfl_key_free(silent);
    assert_int_equal(got_silently, got);
    if (got != rc || (says && !strstr(err.msg, says)))
        fail_msg("%s: %d, %s", uri, (int)got, err.msg);
    if (pin_text)
        assert_null(strstr(err.msg, pin_text));
}

static bool sign_and_verify(EVP_PKEY *key, bool pss, const char *text)
{
    uint8_t sig[1024];
    size_t len = sizeof sig;
    EVP_PKEY_CTX *ctx = NULL;
    EVP_MD_CTX *s = EVP_MD_CTX_new(), *v = EVP_MD_CTX_new();
    bool ok = EVP_DigestSignInit(s, &ctx, EVP_sha256(), NULL, key) == 1 &&
              (!pss || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0) &&
              EVP_DigestSign(s, sig, &len, (const uint8_t *)text, strlen(text)) == 1;
    PFL_AUTO(pfl_freep) uint8_t *der = NULL;
    int der_len = i2d_PUBKEY(key, &der); /* checked by a key that has no token behind it */
    const uint8_t *p = der;
    EVP_PKEY *public = d2i_PUBKEY(NULL, &p, der_len);
    ok = ok && public && EVP_DigestVerifyInit(v, &ctx, EVP_sha256(), NULL, public) == 1 &&
         (!pss || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0) &&
         EVP_DigestVerify(v, sig, len, (const uint8_t *)text, strlen(text)) == 1;
    EVP_PKEY_free(public);
    EVP_MD_CTX_free(s);
    EVP_MD_CTX_free(v);
    return ok;
}

/* ---- refused ---- */

static void test_pkcs11__what_is_not_there__said(void **state)
{
    (void)state;
    check_load("pkcs11:token=nobody;object=x", PIN, PFL_NOT_FOUND, "the token is not there (module " MODULE " has 'one')");
    check_load("pkcs11:token=one;serial=0;object=x", PIN, PFL_NOT_FOUND, "the token is not there");
    check_load("pkcs11:token=one;object=nothing", PIN, PFL_NOT_FOUND, "no such private key");
    check_load("pkcs11:token=one;object=x?module-path=/nonexistent.so", PIN, PFL_NOT_FOUND, "/nonexistent.so");
    check_load("pkcs11:token=one;object=x?module-path=/lib/x86_64-linux-gnu/libc.so.6", PIN, PFL_UNSUPPORTED, "no PKCS#11 module");
    check_load("pkcs11:token=one;object=x", NULL, PFL_AUTH, "wants a PIN and none was given");
    check_load("pkcs11:token=one;object=x?pin-source=file:/nonexistent", NULL, PFL_NOT_FOUND, "pin-source");
}

static void test_pkcs11__pin_file_that_others_can_read__refused(void **state)
{
    (void)state;
    write_file("open-pin", PIN "\n", 0644);
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("pkcs11:token=one;object=x?pin-source=file:%s/open-pin", dir);
    check_load(uri, NULL, PFL_AUTH, "chmod");
}

/* One wrong PIN is one try: the second load does not ask the token, which says so by its counter. */
static void test_pkcs11__wrong_pin__tried_once(void **state)
{
    (void)state;
    check_load("pkcs11:token=one;object=x", "000000", PFL_AUTH, "wrong PIN");
    for (int i = 0; i < 20; i++)
        check_load("pkcs11:token=one;object=x", "000000", PFL_AUTH, "is not tried again");
    check_load("pkcs11:token=one;object=x", PIN, PFL_NOT_FOUND, "no such private key");
}

static void test_pkcs11__two_tokens_or_two_keys_fit__refused(void **state)
{
    (void)state;
    make_token("twin");
    make_token("twin");
    check_load("pkcs11:token=twin;object=x", PIN, PFL_INVALID, "2 tokens fit");
    EVP_PKEY *a = make("p256@pkcs11:token=one;object=left"), *b = make("p256@pkcs11:token=one;object=right");
    check_load("pkcs11:token=one", PIN, PFL_INVALID, "more than one private key");
    check_load("pkcs11:token=one;object=left", PIN, PFL_OK, NULL);
    pfl_key_free(a);
    pfl_key_free(b);
}

static void test_pkcs11__make__what_cannot_be_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        enum pfl_rc rc;
        const char *says;
    } ROWS[] = {
        {"ed25519@pkcs11:token=one;object=e", PFL_UNSUPPORTED, "ed25519"},
        {"rsa:1024@pkcs11:token=one;object=e", PFL_INVALID, "rsa:N"},
        {"p256@pkcs11:token=one", PFL_INVALID, "names no key"},
        {"pkcs11:token=one", PFL_INVALID, "names no key"},
        {"p256@pkcs11:token=one;object=there", PFL_EXISTS, "of this label already"},
        {"p256@pkcs11:token=one;object=other;id=%07", PFL_EXISTS, "of this id already"},
    };
    EVP_PKEY *there = make("p256@pkcs11:token=one;object=there;id=%07");
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pin = passphrase(PIN);
        struct pfl_err err = {0};
        EVP_PKEY *key = NULL;
        enum pfl_rc rc = pfl_key_make(ROWS[i].spec, pin, &key, &err);
        if (rc != ROWS[i].rc || !strstr(err.msg, ROWS[i].says))
            fail_msg("%s: %d, %s", ROWS[i].spec, (int)rc, err.msg);
        assert_null(key);
    }
    pfl_key_free(there);
}

static void test_pkcs11__other_certificate__does_not_match(void **state)
{
    (void)state;
    struct test_cert_spec spec = {.cn = "other"};
    struct test_cert cert = test_cert_make(&spec, NULL);
    EVP_PKEY *key = make("p256@pkcs11:token=one;object=alone");
    assert_false(pfl_key_matches(key, cert.cert));
    test_cert_free(&cert);
    pfl_key_free(key);
}

enum { USER_PIN_FINAL_TRY = 0x20000, USER_PIN_LOCKED = 0x40000 }; /* CKF_… of PKCS#11 2.40 */

static void test_pkcs11__last_try_or_locked__not_even_the_right_pin_is_tried(void **state)
{
    (void)state;
    struct p11_fault *f = fault();
    f->token_flags = USER_PIN_FINAL_TRY;
    check_load("pkcs11:token=one;object=x?module-path=" FAULTY, PIN, PFL_AUTH, "would lock the token, so none is tried");
    f->token_flags = USER_PIN_LOCKED;
    check_load("pkcs11:token=one;object=x?module-path=" FAULTY, PIN, PFL_AUTH, "locked after too many wrong ones");
    assert_int_equal(f->n_logins, 0);
}

static void test_pkcs11__wrong_pin_again_and_again__one_login(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        check_load("pkcs11:token=one;object=x?module-path=" FAULTY, "111111", PFL_AUTH, NULL);
    assert_int_equal(fault()->n_logins, 1);
}

static void test_pkcs11__made_key_that_could_leave__destroyed(void **state)
{
    (void)state;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pin = passphrase(PIN);
    struct pfl_err err = {0};
    EVP_PKEY *key = NULL;
    fault()->says_extractable = true;
    assert_int_equal(pfl_key_make("p256@pkcs11:token=one;object=loose?module-path=" FAULTY, pin, &key, &err), PFL_UNSUPPORTED);
    assert_null(key);
    assert_non_null(strstr(err.msg, "it was destroyed again"));
    check_load("pkcs11:token=one;object=loose", PIN, PFL_NOT_FOUND, "no such private key");
}

static void test_pkcs11__key_that_does_not_sign__refused_when_loaded(void **state)
{
    (void)state;
    EVP_PKEY *key = make("p256@pkcs11:token=one;object=mute");
    fault()->sign_init_rv = 0x68; /* CKR_KEY_FUNCTION_NOT_PERMITTED */
    check_load("pkcs11:token=one;object=mute?module-path=" FAULTY, PIN, PFL_UNAVAILABLE, "does not sign with this key");
    pfl_key_free(key);
}

/* ---- done ---- */

/* The token is pulled out and put back: one new session, one login, and the signature is made. */
static void test_pkcs11__token_away_and_back__signs_again(void **state)
{
    (void)state;
    EVP_PKEY *key = make("p256@pkcs11:token=one;object=away?module-path=" FAULTY);
    struct p11_fault *f = fault();
    *f = (struct p11_fault){.n_removals = 1};
    assert_true(sign_and_verify(key, false, "after it came back"));
    assert_int_equal(f->n_logins, 1);
    assert_int_equal(f->n_sessions, 1);
    assert_true(sign_and_verify(key, false, "again"));
    assert_int_equal(f->n_sessions, 1);
    pfl_key_free(key);
}

static void test_pkcs11__each_kind__made_signs_and_is_found_again(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"p256", "p384", "rsa:2048"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(KINDS); i++) {
        PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pin = passphrase(PIN);
        PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("pkcs11:token=one;object=kind-%zu", i);
        PFL_AUTO(pfl_freep) char *spec = pfl_xasprintf("%s@%s", KINDS[i], uri);
        EVP_PKEY *key = make(spec), *again = NULL;
        assert_true(sign_and_verify(key, false, "text"));
        assert_true(i != 2 || sign_and_verify(key, true, "text"));
        assert_int_equal(pfl_key_load(uri, pin, &again, NULL), PFL_OK);
        assert_int_equal(EVP_PKEY_eq(key, again), 1);
        assert_int_equal(pfl_key_check_strength(again, NULL), PFL_OK);
        pfl_key_free(key);
        assert_true(sign_and_verify(again, false, "the first one is gone, its session too"));
        pfl_key_free(again);
    }
}

static void test_pkcs11__without_kind__used_if_there_made_if_not(void **state)
{
    (void)state;
    EVP_PKEY *first = make("pkcs11:token=one;object=found"), *second = make("pkcs11:token=one;object=found");
    assert_int_equal(EVP_PKEY_eq(first, second), 1);
    pfl_key_free(first);
    pfl_key_free(second);
}

static void test_pkcs11__unmade__gone_if_it_was_made_here_only(void **state)
{
    (void)state;
    EVP_PKEY *made = make("pkcs11:token=one;object=undone"), *found = make("pkcs11:token=one;object=undone");
    pfl_key_unmake(NULL);
    pfl_key_unmake(found);
    check_load("pkcs11:token=one;object=undone", PIN, PFL_OK, NULL);
    pfl_key_unmake(made);
    check_load("pkcs11:token=one;object=undone", PIN, PFL_NOT_FOUND, "no such private key");
    pfl_key_unmake(made);
    pfl_key_free(made);
    pfl_key_free(found);
    made = make("p256@pkcs11:token=one;object=undone"); /* its public half went too */
    pfl_key_unmake(made);
    pfl_key_free(made);
    made = make("p256");
    pfl_key_unmake(made);
    assert_true(sign_and_verify(made, false, "no token's"));
    pfl_key_free(made);
}

static void test_pkcs11__key_file__is_a_uri_and_loads(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "server.key");
    PFL_AUTO(pfl_freep) char *spec = pfl_xasprintf("pkcs11:token=one;object=filed?pin-source=file:%s/pin", dir);
    struct pfl_blob *content = NULL;
    EVP_PKEY *key = NULL, *again = NULL;
    assert_int_equal(pfl_key_generate(spec, &key, NULL), PFL_OK); /* a caller without err sees the same classes */
    assert_int_equal(pfl_key_save_new(path, key, NULL, NULL), PFL_OK);
    assert_int_equal(pfl_fs_read(path, 4096, &content, NULL), PFL_OK);
    assert_true(pfl_str_has_prefix((const char *)content->data, "pkcs11:token=one;object=filed;id=%"));
    assert_null(strstr((const char *)content->data, PIN));
    assert_true(pfl_key_file_in_token(path));
    assert_false(pfl_key_file_encrypted(path));
    assert_true(pfl_key_file_encrypted("pkcs11:token=one;object=filed"));
    assert_int_equal(pfl_key_load(path, NULL, &again, NULL), PFL_OK);
    assert_int_equal(EVP_PKEY_eq(key, again), 1);
    pfl_key_free(again);
    assert_int_equal(chmod(path, 0644), 0);
    again = NULL;
    assert_int_equal(pfl_key_load(path, NULL, &again, NULL), PFL_AUTH);
    pfl_blob_unref(content);
    pfl_key_free(key);
}

static void *sign_many(void *key)
{
    bool ok = true;
    for (int i = 0; i < 25; i++)
        ok = ok && sign_and_verify(key, false, "from a thread");
    return ok ? key : NULL;
}

static void test_pkcs11__several_threads__all_sign(void **state)
{
    (void)state;
    pthread_t threads[4];
    EVP_PKEY *keys[2] = {make("p256@pkcs11:token=one;object=thread-a"), make("p256@pkcs11:token=one;object=thread-b")};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_many, keys[i % 2]), 0);
    for (size_t i = 0; i < 4; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_non_null(result);
    }
    pfl_key_free(keys[0]);
    pfl_key_free(keys[1]);
}

static void no_log(void *user, enum pfl_log_level level, const char *line)
{
    (void)level;
    pfl_strs_add(user, line);
}

/* The key goes while it is in use. */
static void test_pkcs11__key_gone__said_in_the_log(void **state)
{
    (void)state;
    make_token("away");
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs log = {0};
    EVP_PKEY *key = make("p256@pkcs11:token=away;object=k");
    const char *const destroy[] = {"pkcs11-tool", "--module", MODULE, "--token-label", "away", "--login", "--pin", PIN, "-b",
                                   "--label",     "k",        "-y",   "privkey",       NULL};
    assert_true(sign_and_verify(key, false, "before"));
    assert_int_equal(run_program(destroy), 0);
    pfl_log_set_sink(no_log, &log);
    assert_false(sign_and_verify(key, false, "gone"));
    assert_false(sign_and_verify(key, false, "still gone"));
    pfl_log_set_sink(NULL, NULL);
    assert_true(log.n >= 2);
    assert_non_null(strstr(log.items[0], "pkcs11:token=away;object=k"));
    pfl_key_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pkcs11__what_is_not_there__said),
        cmocka_unit_test(test_pkcs11__pin_file_that_others_can_read__refused),
        cmocka_unit_test(test_pkcs11__wrong_pin__tried_once),
        cmocka_unit_test(test_pkcs11__two_tokens_or_two_keys_fit__refused),
        cmocka_unit_test(test_pkcs11__make__what_cannot_be_is_refused),
        cmocka_unit_test(test_pkcs11__other_certificate__does_not_match),
        cmocka_unit_test(test_pkcs11__each_kind__made_signs_and_is_found_again),
        cmocka_unit_test(test_pkcs11__without_kind__used_if_there_made_if_not),
        cmocka_unit_test(test_pkcs11__unmade__gone_if_it_was_made_here_only),
        cmocka_unit_test(test_pkcs11__key_file__is_a_uri_and_loads),
        cmocka_unit_test(test_pkcs11__several_threads__all_sign),
        cmocka_unit_test_setup_teardown(test_pkcs11__last_try_or_locked__not_even_the_right_pin_is_tried, no_faults, no_faults),
        cmocka_unit_test_setup_teardown(test_pkcs11__wrong_pin_again_and_again__one_login, no_faults, no_faults),
        cmocka_unit_test_setup_teardown(test_pkcs11__made_key_that_could_leave__destroyed, no_faults, no_faults),
        cmocka_unit_test_setup_teardown(test_pkcs11__key_that_does_not_sign__refused_when_loaded, no_faults, no_faults),
        cmocka_unit_test_setup_teardown(test_pkcs11__token_away_and_back__signs_again, no_faults, no_faults),
        cmocka_unit_test(test_pkcs11__key_gone__said_in_the_log),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
