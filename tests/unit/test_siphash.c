/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/siphash.h"

static uint64_t of(const void *data, size_t len)
{
    struct pfl_siphash h;
    pfl_siphash_init(&h, UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908));
    pfl_siphash_add(&h, data, len);
    return pfl_siphash_end(&h);
}

/* Key 00..0f, message 00..0e: the example of the paper's appendix A. */
static void test_siphash__paper_example(void **state)
{
    (void)state;
    uint8_t m[15];
    for (uint8_t i = 0; i < sizeof(m); i++)
        m[i] = i;
    assert_true(of(m, sizeof(m)) == UINT64_C(0xa129ca6149be45e5));
}

static void test_siphash__pieces__same_hash(void **state)
{
    (void)state;
    const char *text = "a text of forty-one bytes, in two pieces.";
    for (size_t cut = 0; cut <= strlen(text); cut++) {
        struct pfl_siphash h;
        pfl_siphash_init(&h, UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908));
        pfl_siphash_add(&h, text, cut);
        pfl_siphash_add(&h, text + cut, strlen(text) - cut);
        assert_true(pfl_siphash_end(&h) == of(text, strlen(text)));
    }
}

static void test_siphash__texts__do_not_run_into_each_other(void **state)
{
    (void)state;
    uint64_t got[2];
    const char *const texts[2][2] = {{"ab", "c"}, {"a", "bc"}};
    for (size_t i = 0; i < 2; i++) {
        struct pfl_siphash h;
        pfl_siphash_init(&h, 1, 2);
        pfl_siphash_add_text(&h, texts[i][0]);
        pfl_siphash_add_text(&h, texts[i][1]);
        got[i] = pfl_siphash_end(&h);
    }
    assert_true(got[0] != got[1]);
}

static void test_siphash__other_key__other_hash(void **state)
{
    (void)state;
    struct pfl_siphash h;
    pfl_siphash_init(&h, 1, 2);
    assert_true(pfl_siphash_end(&h) != of("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash__paper_example),
        cmocka_unit_test(test_siphash__pieces__same_hash),
        cmocka_unit_test(test_siphash__texts__do_not_run_into_each_other),
        cmocka_unit_test(test_siphash__other_key__other_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
