/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "pki/key.h"
#include "pki/pkcs11_uri.h"

struct bad {
    const char *uri;
    enum pfl_rc rc;
    const char *says;
};

static void test_pkcs11_uri__not_as_rfc_7512_has_it__refused(void **state)
{
    (void)state;
    static const struct bad BAD[] = {
        {"", PFL_INVALID, "not a pkcs11: URI"},
        {"/etc/key.pem", PFL_INVALID, "not a pkcs11: URI"},
        {"pkcs11", PFL_INVALID, "not a pkcs11: URI"},
        {"pkcs11:", PFL_INVALID, "names no token"},
        {"pkcs11:object=x", PFL_INVALID, "names no token"},
        {"pkcs11:token=", PFL_INVALID, "token is empty"},
        {"pkcs11:token", PFL_INVALID, "name=value is wanted"},
        {"pkcs11:=x", PFL_INVALID, "name=value is wanted"},
        {"pkcs11:;token=x", PFL_INVALID, "name=value is wanted"},
        {"pkcs11:token=x;", PFL_INVALID, "it ends in ';'"},
        {"pkcs11:token=x?module-path=/m&", PFL_INVALID, "it ends in '&'"},
        {"pkcs11:token=x;;object=y", PFL_INVALID, "name=value is wanted"},
        {"pkcs11:token=x;token=x", PFL_INVALID, "token is there twice"},
        {"pkcs11:token=x;Object=y", PFL_INVALID, "'Object' is no attribute"},
        {"pkcs11:token=x;x-vendor=y", PFL_INVALID, "'x-vendor' is no attribute"},
        {"pkcs11:token=x?object=y", PFL_INVALID, "object belongs before the '?'"},
        {"pkcs11:token=x;pin-source=/p", PFL_INVALID, "pin-source belongs behind the '?'"},
        {"pkcs11:token=x;type=public", PFL_INVALID, "type: only 'private'"},
        {"pkcs11:token=x;slot-id=-1", PFL_INVALID, "slot-id: a number"},
        {"pkcs11:token=x;slot-id=18446744073709551616", PFL_INVALID, "slot-id: a number"},
        {"pkcs11:token=x y", PFL_INVALID, "0x20 has to be percent-encoded"},
        {"pkcs11:token=x#y", PFL_INVALID, "0x23 has to be percent-encoded"},
        {"pkcs11:token=x/y", PFL_INVALID, "0x2f has to be percent-encoded"},
        {"pkcs11:token=\xc3\xa9", PFL_INVALID, "0xc3 has to be percent-encoded"},
        {"pkcs11:token=x%", PFL_INVALID, "two hexadecimal digits"},
        {"pkcs11:token=x%4", PFL_INVALID, "two hexadecimal digits"},
        {"pkcs11:token=x%4g", PFL_INVALID, "two hexadecimal digits"},
        {"pkcs11:token=x%00y", PFL_INVALID, "without control characters"},
        {"pkcs11:token=x%0ay", PFL_INVALID, "without control characters"},
        {"pkcs11:token=%ff", PFL_INVALID, "UTF-8"},
        {"pkcs11:token=x?module-path=m.so", PFL_INVALID, "an absolute path is wanted"},
        {"pkcs11:token=x?pin-source=pin", PFL_INVALID, "an absolute path is wanted"},
        {"pkcs11:token=x?pin-source=file:pin", PFL_INVALID, "an absolute path is wanted"},
        {"pkcs11:token=x?pin-source=file://host/pin", PFL_INVALID, "an absolute path is wanted"},
        {"pkcs11:token=x?pin-source=|cat%20pin", PFL_UNSUPPORTED, "programs are not run"},
        {"pkcs11:token=x?module-name=softhsm2", PFL_UNSUPPORTED, "module-path="},
        {"pkcs11:library-version=3;token=x", PFL_UNSUPPORTED, "library-version is not used"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++) {
        struct pfl_pkcs11_uri uri = {0};
        struct pfl_err err = {0};
        if (pfl_pkcs11_uri_parse(BAD[i].uri, &uri, &err) != BAD[i].rc || !strstr(err.msg, BAD[i].says))
            fail_msg("%s: %s", BAD[i].uri, err.msg);
        assert_null(uri.token);
    }
}

/* Wherever somebody puts a PIN, it comes back in no message. */
static void test_pkcs11_uri__pin_in_it__refused_and_not_quoted(void **state)
{
    (void)state;
    static const char *const BAD[] = {"pkcs11:token=x?pin-value=471199",
                                      "pkcs11:token=x;pin-value=471199",
                                      "pkcs11:token=x?pin-value=471199&pin-source=/p",
                                      "pkcs11:token=x?module-path=/m&pin-value=471199",
                                      "pkcs11:token=x?471199",
                                      "pkcs11:token=x?pin-source=471199",
                                      "pkcs11:token=x?pin-source=|471199",
                                      "pkcs11:token=x?Pin-Value=471199",
                                      "pkcs11:token=x?pin-value=471199%"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++) {
        struct pfl_pkcs11_uri uri = {0};
        struct pfl_err err = {0};
        char *spec = pfl_xasprintf("p384@%s", BAD[i]);
        assert_int_not_equal(pfl_pkcs11_uri_parse(BAD[i], &uri, &err), PFL_OK);
        assert_null(strstr(err.msg, "471199"));
        err = (struct pfl_err){0};
        assert_false(pfl_key_spec_valid(spec, &err));
        assert_null(strstr(err.msg, "471199"));
        struct evp_pkey_st *key = NULL;
        err = (struct pfl_err){0};
        assert_int_not_equal(pfl_key_load(BAD[i], NULL, &key, &err), PFL_OK);
        assert_null(strstr(err.msg, "471199"));
        free(spec);
    }
    struct pfl_pkcs11_uri uri = {0};
    struct pfl_err err = {0};
    assert_int_equal(pfl_pkcs11_uri_parse(BAD[0], &uri, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "pin-source=file:"));
}

static void test_pkcs11_uri__limits__kept(void **state)
{
    (void)state;
    static const struct {
        const char *attribute;
        size_t max;
    } ROWS[] = {{"token", PFL_PKCS11_TEXT_MAX}, {"id", PFL_PKCS11_ID_MAX}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        for (size_t more = 0; more < 2; more++) {
            char value[512] = "";
            memset(value, 'a', ROWS[i].max + more);
            char *text = pfl_xasprintf("pkcs11:serial=1;%s=%s", ROWS[i].attribute, value);
            struct pfl_pkcs11_uri uri = {0};
            struct pfl_err err = {0};
            assert_int_equal(pfl_pkcs11_uri_parse(text, &uri, &err), more ? PFL_TOO_BIG : PFL_OK);
            pfl_pkcs11_uri_deinit(&uri);
            free(text);
        }
    }
    char *big = pfl_xasprintf("pkcs11:token=%0*d", PFL_PKCS11_URI_MAX, 1);
    struct pfl_pkcs11_uri uri = {0};
    assert_int_equal(pfl_pkcs11_uri_parse(big, &uri, NULL), PFL_TOO_BIG);
    free(big);
}

static void test_pkcs11_uri__all_of_it__taken_and_written(void **state)
{
    (void)state;
    struct pfl_pkcs11_uri uri = {0};
    struct pfl_err err = {0};
    static const char TEXT[] =
        "pkcs11:type=private;id=%01%fFz;object=my%20key%3b;slot-id=42;model=v2;serial=1&2;manufacturer=A%2fB;"
        "token=caf%c3%a9?module-path=/usr/lib/m%20m.so&pin-source=file:///etc/p2pfl/pin";
    assert_int_equal(pfl_pkcs11_uri_parse(TEXT, &uri, &err), PFL_OK);
    assert_string_equal(uri.token, "caf\xc3\xa9");
    assert_string_equal(uri.manufacturer, "A/B");
    assert_string_equal(uri.serial, "1&2");
    assert_string_equal(uri.model, "v2");
    assert_true(uri.has_slot);
    assert_int_equal(uri.slot_id, 42);
    assert_string_equal(uri.object, "my key;");
    assert_int_equal(uri.id_len, 3);
    assert_memory_equal(uri.id, "\x01\xffz", 3);
    assert_string_equal(uri.module_path, "/usr/lib/m m.so");
    assert_string_equal(uri.pin_source, "/etc/p2pfl/pin");
    char *text = pfl_pkcs11_uri_text(&uri), *name = pfl_pkcs11_uri_name(&uri);
    assert_string_equal(text, "pkcs11:token=caf%c3%a9;manufacturer=A%2fB;serial=1%262;model=v2;slot-id=42;object=my%20key%3b;"
                              "id=%01%ff%7a?pin-source=file:/etc/p2pfl/pin&module-path=/usr/lib/m%20m.so");
    assert_string_equal(name, "pkcs11:token=caf%c3%a9;manufacturer=A%2fB;serial=1%262;model=v2;slot-id=42;object=my%20key%3b;"
                              "id=%01%ff%7a");
    struct pfl_pkcs11_uri copy = {0};
    pfl_pkcs11_uri_copy(&copy, &uri);
    pfl_pkcs11_uri_deinit(&uri);
    char *again = pfl_pkcs11_uri_text(&copy);
    assert_string_equal(again, text);
    free(text);
    free(name);
    free(again);
    pfl_pkcs11_uri_deinit(&copy);
}

static void test_key_spec_for__token__one_name_for_each_key(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *want;
    } ROWS[] = {
        {"p384", "p384"},
        {"pkcs11:token=t", "p256@pkcs11:token=t;object=a-server"},
        {"rsa:3072@pkcs11:token=t", "rsa:3072@pkcs11:token=t;object=a-server"},
        {"pkcs11:token=t;object=x?module-path=/m", "p256@pkcs11:token=t;object=x-server?module-path=/m"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        char *spec = NULL;
        assert_int_equal(pfl_key_spec_for(ROWS[i].spec, "a", "server", NULL, &spec, NULL), PFL_OK);
        assert_string_equal(spec, ROWS[i].want);
        free(spec);
    }
    char *spec = NULL;
    assert_int_equal(pfl_key_spec_for("pkcs11:token=t", "ca", NULL, "/dev/null", &spec, NULL), PFL_OK);
    assert_string_equal(spec, "pkcs11:token=t;object=ca?pin-source=file:/dev/null");
    free(spec);
}

static void test_key_spec_for__what_cannot_be__refused(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *pin_file, *says;
    } ROWS[] = {
        {"p521", NULL, "p256, p384"},
        {"p256", "/dev/null", "for keys in a token only"},
        {"dsa@pkcs11:token=t", NULL, "p256, p384"},
        {"ed25519@pkcs11:token=t", NULL, "cannot be made in a token"},
        {"pkcs11:token=t;id=%01", NULL, "id names one key"},
        {"pkcs11:token=t?pin-source=/p", "/dev/null", "one too many"},
        {"pkcs11:token=t", "/nonexistent/pin", "cannot be found"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        char *spec = NULL;
        struct pfl_err err = {0};
        assert_int_not_equal(pfl_key_spec_for(ROWS[i].spec, "a", "server", ROWS[i].pin_file, &spec, &err), PFL_OK);
        assert_null(spec);
        if (!strstr(err.msg, ROWS[i].says))
            fail_msg("%s: %s", ROWS[i].spec, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pkcs11_uri__not_as_rfc_7512_has_it__refused),
        cmocka_unit_test(test_pkcs11_uri__pin_in_it__refused_and_not_quoted),
        cmocka_unit_test(test_pkcs11_uri__limits__kept),
        cmocka_unit_test(test_pkcs11_uri__all_of_it__taken_and_written),
        cmocka_unit_test(test_key_spec_for__token__one_name_for_each_key),
        cmocka_unit_test(test_key_spec_for__what_cannot_be__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
