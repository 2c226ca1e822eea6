/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pki/digest.h"

/* FIPS 180-4's examples */
static const struct {
    const char *text, *hex;
} VECTORS[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void test_sha256__published_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(VECTORS); i++) {
        char hex[2 * PFL_SHA256_LEN + 1];
        pfl_sha256_hex(pfl_bytes_of(VECTORS[i].text, strlen(VECTORS[i].text)), hex);
        assert_string_equal(hex, VECTORS[i].hex);
    }
}

static void test_sha256__pieces__as_at_once(void **state)
{
    (void)state;
    struct pfl_sha256 *s = pfl_sha256_new();
    for (size_t i = 0; i < PFL_ARRAY_LEN(VECTORS); i++) { /* one object for all: end() makes it ready again */
        uint8_t digest[PFL_SHA256_LEN];
        char hex[2 * PFL_SHA256_LEN + 1];
        for (const char *c = VECTORS[i].text; *c; c++)
            pfl_sha256_add(s, pfl_bytes_of(c, 1));
        pfl_sha256_end(s, digest);
        pfl_hex(pfl_bytes_of(digest, sizeof digest), hex);
        assert_string_equal(hex, VECTORS[i].hex);
    }
    pfl_sha256_free(s);
}

static void test_random_bytes__differ(void **state)
{
    (void)state;
    uint8_t a[32] = {0}, b[32] = {0}, zero[32] = {0};
    pfl_random_bytes(a, sizeof a);
    pfl_random_bytes(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a, zero, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256__published_vectors),
        cmocka_unit_test(test_sha256__pieces__as_at_once),
        cmocka_unit_test(test_random_bytes__differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
