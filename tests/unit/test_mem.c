/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

static void test_size_add__overflow__refused_and_unchanged(void **state)
{
    (void)state;
    size_t r = 7;
    assert_false(pfl_size_add(SIZE_MAX, 1, &r));
    assert_int_equal(r, 7);
    assert_true(pfl_size_add(SIZE_MAX - 1, 1, &r));
    assert_true(r == SIZE_MAX);
}

static void test_size_mul__overflow__refused_and_unchanged(void **state)
{
    (void)state;
    size_t r = 7;
    assert_false(pfl_size_mul(SIZE_MAX / 2 + 1, 2, &r));
    assert_int_equal(r, 7);
    assert_true(pfl_size_mul(SIZE_MAX / 2, 2, &r));
    assert_true(r == SIZE_MAX - 1);
    assert_true(pfl_size_mul(0, SIZE_MAX, &r));
    assert_int_equal(r, 0);
}

static void test_try_malloc__over_half_the_address_space__null(void **state)
{
    (void)state;
    assert_null(pfl_try_malloc(SIZE_MAX));
    assert_null(pfl_try_malloc((size_t)PTRDIFF_MAX + 1));
    PFL_AUTO(pfl_freep) void *p = pfl_try_malloc(0);
    assert_non_null(p);
}

static void test_try_block__small_and_huge__aligned_and_writable(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 64, 65, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (9 << 20) + 12345};
    for (size_t i = 0; i < PFL_ARRAY_LEN(sizes); i++) {
        unsigned char *p = pfl_try_block(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 7, sizes[i]);
        pfl_block_free(p, sizes[i]);
    }
}

static void test_block_free__next_of_its_size__is_the_same_until_trimmed(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* nothing is kept there, see mem.c */
#endif
    enum { SIZE = 8 << 20, N = 6 };
    void *blocks[N];
    pfl_blocks_trim();
    void *one = pfl_try_block(SIZE), *other = pfl_try_block(SIZE / 2);
    pfl_block_free(one, SIZE);
    void *next = pfl_try_block(SIZE / 2); /* another size */
    assert_ptr_not_equal(next, one);
    void *same = pfl_try_block(SIZE - 1);
    assert_ptr_equal(same, one);
    pfl_block_free(other, SIZE / 2);
    pfl_block_free(next, SIZE / 2);
    pfl_block_free(same, SIZE - 1);
    for (size_t i = 0; i < N; i++)
        assert_non_null(blocks[i] = pfl_try_block(SIZE));
    for (size_t i = 0; i < N; i++)
        pfl_block_free(blocks[i], SIZE); /* the first ones have to go for the last ones */
    for (size_t i = 2; i < N; i++)
        assert_ptr_equal(pfl_try_block(SIZE), blocks[i]);
    for (size_t i = 2; i < N; i++)
        pfl_block_free(blocks[i], SIZE);
    pfl_blocks_trim();
    pfl_block_free(NULL, SIZE);
}

static void test_block_free__more_than_may_be_kept__is_let_go(void **state)
{
    (void)state;
    const size_t size = (size_t)200 << 20; /* never written: takes no memory */
    struct mallinfo2 before = mallinfo2();
    void *blocks[3];
    for (size_t i = 0; i < 3; i++)
        assert_non_null(blocks[i] = pfl_try_block(size));
    for (size_t i = 0; i < 3; i++)
        pfl_block_free(blocks[i], size);
    assert_true(mallinfo2().hblkhd - before.hblkhd <= (size_t)512 << 20);
    pfl_blocks_trim();
    assert_true(mallinfo2().hblkhd <= before.hblkhd);
}

static void test_try_block__over_half_the_address_space__null(void **state)
{
    (void)state;
    volatile size_t huge = SIZE_MAX; /* volatile: the compiler would complain */
    assert_null(pfl_try_block(huge));
    assert_null(pfl_try_block(huge - 63));
    assert_null(pfl_try_block(huge / 2));
}

static void test_assert__false__aborts_the_process(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        fclose(stderr);
        PFL_ASSERT(pid != 0);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_xcalloc__zeroed_and_never_null(void **state)
{
    (void)state;
    static const char zero[48];
    PFL_AUTO(pfl_freep) void *a = pfl_xcalloc(3, 16);
    PFL_AUTO(pfl_freep) void *b = pfl_xcalloc(0, 16);
    PFL_AUTO(pfl_freep) void *c = pfl_xmalloc(0);
    assert_memory_equal(a, zero, sizeof(zero));
    assert_non_null(b);
    assert_non_null(c);
}

static void test_strings__copied_cut_and_formatted(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *a = pfl_xstrdup("abc");
    PFL_AUTO(pfl_freep) char *b = pfl_xstrndup("abcdef", 4);
    PFL_AUTO(pfl_freep) char *c = pfl_xasprintf("%s-%d", a, 5);
    assert_string_equal(a, "abc");
    assert_string_equal(b, "abcd");
    assert_string_equal(c, "abc-5");
}

static void test_steal__value_leaves_null_behind(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *a = pfl_xstrdup("abc");
    PFL_AUTO(pfl_freep) char *b = pfl_steal(&a);
    assert_null(a);
    assert_string_equal(b, "abc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_add__overflow__refused_and_unchanged),
        cmocka_unit_test(test_size_mul__overflow__refused_and_unchanged),
        cmocka_unit_test(test_try_malloc__over_half_the_address_space__null),
        cmocka_unit_test(test_try_block__small_and_huge__aligned_and_writable),
        cmocka_unit_test(test_block_free__next_of_its_size__is_the_same_until_trimmed),
        cmocka_unit_test(test_block_free__more_than_may_be_kept__is_let_go),
        cmocka_unit_test(test_try_block__over_half_the_address_space__null),
        cmocka_unit_test(test_assert__false__aborts_the_process),
        cmocka_unit_test(test_xcalloc__zeroed_and_never_null),
        cmocka_unit_test(test_strings__copied_cut_and_formatted),
        cmocka_unit_test(test_steal__value_leaves_null_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
