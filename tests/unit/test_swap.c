/* SPDX-License-Identifier: Apache-2.0 */
/* link: base */
/* timeout: 120 */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/swap.h"

enum { FILES = 5 };
static char dir[64], paths[FILES][96], marker[96];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s", "/tmp/pfl-test-swap-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    for (int i = 0; i < FILES; i++)
        snprintf(paths[i], sizeof paths[i], "%s/file%d", dir, i);
    snprintf(marker, sizeof marker, "%s/.swap", dir);
    return 0;
}

static int remove_one(const char *p, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(p);
}

static int teardown(void **state)
{
    (void)state;
    (void)chmod(dir, 0700);
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static enum pfl_rc swap_to(unsigned generation, struct pfl_err *err)
{
    struct pfl_swap_file files[FILES];
    char text[FILES][32];
    for (int i = 0; i < FILES; i++) {
        snprintf(text[i], sizeof text[i], "%u of %d", generation, i);
        files[i] = (struct pfl_swap_file){paths[i], pfl_bytes_of(text[i], strlen(text[i])), i % 2 ? 0600 : 0644};
    }
    return pfl_swap_files(marker, files, FILES, err);
}

static enum pfl_rc recover(struct pfl_err *err)
{
    const char *all[FILES];
    for (int i = 0; i < FILES; i++)
        all[i] = paths[i];
    return pfl_swap_recover(marker, all, FILES, err);
}

/* The generation that all files have; fails where they differ, or where something else lies in the folder. */
static unsigned generation(void)
{
    unsigned seen = 0;
    for (int i = 0; i < FILES; i++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
        char fresh[128], want[32];
        assert_int_equal(pfl_fs_read(paths[i], 100, &b, NULL), PFL_OK);
        unsigned now = (unsigned)strtoul((const char *)b->data, NULL, 10);
        snprintf(want, sizeof want, "%u of %d", now, i);
        assert_string_equal((const char *)b->data, want);
        if (i > 0)
            assert_int_equal(now, seen);
        seen = now;
        snprintf(fresh, sizeof fresh, "%s.new", paths[i]);
        assert_false(pfl_fs_exists(fresh));
    }
    assert_false(pfl_fs_exists(marker));
    return seen;
}

static void test_swap__all_files_and_their_modes(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(swap_to(1, NULL), PFL_OK);
    assert_int_equal(generation(), 1);
    assert_int_equal(swap_to(2, NULL), PFL_OK);
    assert_int_equal(generation(), 2);
    assert_int_equal(stat(paths[1], &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(paths[2], &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
}

static void test_swap__cannot_be_written__nothing_has_changed(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    assert_int_equal(swap_to(1, NULL), PFL_OK);
    char first[96];
    memcpy(first, paths[3], sizeof first);
    snprintf(paths[3], sizeof paths[3], "%s/nowhere/file", dir); /* the fourth of five */
    assert_int_equal(swap_to(2, &err), PFL_NOT_FOUND);
    assert_non_null(strstr(err.msg, "nowhere"));
    memcpy(paths[3], first, sizeof first);
    assert_int_equal(generation(), 1);
}

static void test_swap__another_process_is_at_it__refused(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(swap_to(1, &err), PFL_STATE);
    assert_non_null(strstr(err.msg, "another process"));
    close(fd);
    assert_int_equal(swap_to(1, NULL), PFL_OK);
}

static void test_recover__marker_of_others__bounded(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    char lines[400] = "";
    for (int i = 0; i < 40; i++)
        memcpy(lines + 3 * i, "x\ny\n", 3);
    assert_int_equal(pfl_fs_write_atomic(marker, pfl_bytes_of(lines, 120), 0600, NULL), PFL_OK);
    assert_int_equal(recover(&err), PFL_MALFORMED);
}

static void pause_us(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&t, NULL);
}

static void wait_for_other_than(unsigned generation_before)
{
    for (unsigned tries = 0; tries < 20000; tries++) {
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
        assert_int_equal(pfl_fs_read(paths[FILES - 1], 100, &b, NULL), PFL_OK);
        if (strtoul((const char *)b->data, NULL, 10) != generation_before)
            return;
        pause_us(1000);
    }
    fail_msg("no swap in 20 s");
}

/* A child swaps as fast as it can and is killed at a random moment: after recovery all files are of one generation. */
static void test_swap__killed_at_any_moment__one_generation(void **state)
{
    (void)state;
    assert_int_equal(swap_to(1, NULL), PFL_OK);
    unsigned last = 1, cut = 0;
    for (unsigned i = 0; i < 200; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (unsigned g = last + 1;; g++) {
                if (swap_to(g, NULL) != PFL_OK)
                    _exit(1);
            }
        }
        if (i % 20 == 0)
            wait_for_other_than(last); /* a slow disk: one at least comes through now and then */
        pause_us(200 + (long)(i * 7919 % 4000));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        cut += pfl_fs_exists(marker);
        assert_int_equal(recover(NULL), PFL_OK);
        unsigned now = generation();
        assert_true(now >= last);
        last = now;
    }
    print_message("%u generations, %u swaps cut off behind their marker\n", last, cut);
    assert_true(last > 1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_swap__all_files_and_their_modes),
        T(test_swap__cannot_be_written__nothing_has_changed),
        T(test_swap__another_process_is_at_it__refused),
        T(test_recover__marker_of_others__bounded),
        T(test_swap__killed_at_any_moment__one_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
