/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* support: certs */
/* timeout: 180 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/fs.h"
#include "pki/digest.h"
#include "runtime/journal.h"
#include "support/certs.h"

enum { VALUES = 3000 };

struct world {
    char *dir, *db, *models;
    struct pfl_layout *layout;
};

static int set_up(void **state)
{
    struct world *w = pfl_xcalloc(1, sizeof(*w));
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {VALUES}};
    w->dir = test_dir_new();
    w->db = pfl_fs_join(w->dir, "node.db");
    w->models = pfl_fs_join(w->dir, "models");
    assert_int_equal(pfl_layout_new(&desc, 1, &w->layout, NULL), PFL_OK);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    pfl_layout_unref(w->layout);
    test_dir_free(w->dir);
    free(w->db);
    free(w->models);
    free(w);
    return 0;
}

static struct pfl_payload *payload(const struct world *w, unsigned value)
{
    struct pfl_model *m = NULL;
    struct pfl_payload *p = NULL;
    assert_int_equal(pfl_model_new(w->layout, &m, NULL), PFL_OK);
    float *v = (float *)(void *)pfl_model_data_mut(m);
    for (size_t i = 0; i < VALUES; i++)
        v[i] = (float)value;
    assert_int_equal(pfl_payload_new(m, &p, NULL), PFL_OK);
    pfl_model_unref(m);
    struct pfl_sha256 *sha = pfl_sha256_new();
    pfl_sha256_add(sha, pfl_buf_view(&p->head));
    pfl_sha256_add(sha, pfl_bytes_of(p->model->data, w->layout->bytes));
    pfl_sha256_end(sha, p->digest);
    pfl_sha256_free(sha);
    p->has_digest = true;
    return p;
}

/* Round `round` of a run of many; all that is in it follows from the number. */
static struct pfl_durable *state_of(const struct world *w, unsigned round, bool contributed)
{
    struct pfl_durable *d = pfl_durable_new();
    d->seq = 2 * (uint64_t)round + contributed + 1;
    d->experiment = pfl_xstrdup("mnist-1700000000");
    d->learning = true;
    d->rounds = 100000;
    d->epochs = 1;
    d->trainset_size = 4;
    d->round = (int32_t)round;
    d->rounds_done = round;
    d->model = payload(w, round);
    d->voted = (int32_t)round;
    d->computed = contributed;
    pfl_strs_add(&d->ballot, "127.0.0.1:6001");
    pfl_strs_add(&d->ballot, "17");
    pfl_strs_add(&d->members, "127.0.0.1:6001");
    pfl_strs_add(&d->neighbours, "127.0.0.1:6002");
    pfl_strs_add(&d->others, "unix:///a/b \"c\"\n");
    if (contributed) {
        d->contributed = (int32_t)round;
        d->contribution = payload(w, 1000000 + round);
        d->n_samples = 77;
    }
    return d;
}

static void check_state(const struct world *w, const struct pfl_durable *d)
{
    struct pfl_durable *want = state_of(w, d->rounds_done, d->contributed >= 0);
    assert_int_equal(d->seq, want->seq);
    assert_string_equal(d->experiment, want->experiment);
    assert_int_equal(d->round, want->round);
    assert_memory_equal(d->model->model->data, want->model->model->data, w->layout->bytes);
    assert_memory_equal(d->model->digest, want->model->digest, PFL_DIGEST_LEN);
    assert_int_equal(d->voted, want->voted);
    assert_int_equal(d->computed, want->computed);
    assert_int_equal(d->ballot.n, 2);
    assert_string_equal(d->ballot.items[1], "17");
    assert_string_equal(d->others.items[0], want->others.items[0]);
    assert_int_equal(d->contribution != NULL, want->contribution != NULL);
    if (d->contribution) {
        assert_memory_equal(d->contribution->model->data, want->contribution->model->data, w->layout->bytes);
        assert_int_equal(d->n_samples, 77);
    }
    pfl_durable_free(want);
}

static struct pfl_journal *open_ok(const struct world *w, struct pfl_durable **kept)
{
    struct pfl_journal *j = NULL;
    struct pfl_err err = {0};
    if (pfl_journal_open(w->dir, w->layout, w->layout, &j, kept, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return j;
}

static void write_ok(struct pfl_journal *j, struct pfl_durable *d)
{
    struct pfl_err err = {0};
    if (pfl_journal_write(j, d, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_durable_free(d);
}

/* A journal with one state. */
static void prepare(const struct world *w, unsigned round, bool learning)
{
    struct pfl_durable *kept = NULL, *d = state_of(w, round, true);
    struct pfl_journal *j = open_ok(w, &kept);
    d->learning = learning;
    d->round = learning ? d->round : -1;
    write_ok(j, d);
    pfl_journal_close(j);
    pfl_durable_free(kept);
}

static void open_fails(const struct world *w, enum pfl_rc rc, const char *says)
{
    struct pfl_journal *j = NULL;
    struct pfl_durable *kept = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_journal_open(w->dir, w->layout, w->layout, &j, &kept, &err), rc);
    if (!strstr(err.msg, says))
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_null(j);
    assert_null(kept);
}

/* The names in models/ that begin with `prefix`. */
static size_t count_files(const struct world *w, const char *prefix)
{
    DIR *d = opendir(w->models);
    size_t n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}

static char *first_file(const struct world *w, const char *prefix)
{
    DIR *d = opendir(w->models);
    char *found = NULL;
    assert_non_null(d);
    for (struct dirent *e; !found && (e = readdir(d));)
        found = strncmp(e->d_name, prefix, strlen(prefix)) == 0 ? pfl_fs_join(w->models, e->d_name) : NULL;
    closedir(d);
    assert_non_null(found);
    return found;
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : 0;
}

/* ---- refusals ---- */

static void open__second_process__is_refused(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    struct pfl_journal *j = open_ok(w, &kept);
    assert_null(kept);
    open_fails(w, PFL_UNAVAILABLE, "is the node running already");
    pfl_journal_close(j);
    pfl_journal_close(open_ok(w, &kept));
}

static void open__readable_by_others__is_refused(void **state)
{
    const struct world *w = *state;
    prepare(w, 1, true);
    assert_int_equal(chmod(w->db, 0644), 0);
    open_fails(w, PFL_AUTH, "chmod 600");
}

static void open__no_database__is_refused(void **state)
{
    const struct world *w = *state;
    uint8_t junk[5000];
    memset(junk, 'x', sizeof(junk));
    assert_int_equal(pfl_fs_write_atomic(w->db, pfl_bytes_of(junk, sizeof(junk)), 0600, NULL), PFL_OK);
    open_fails(w, PFL_MALFORMED, "move it away");
}

static void flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    char c;
    assert_true(fd >= 0 && pread(fd, &c, 1, at) == 1);
    c = (char)(c ^ 1);
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

static void open__damaged_checkpoint_while_learning__is_refused(void **state)
{
    const struct world *w = *state;
    prepare(w, 3, true);
    char *path = first_file(w, "checkpoint-");
    flip(path, size_of(path) / 2);
    open_fails(w, PFL_MALFORMED, "it is not what was written");
    free(path);
}

static void open__missing_contribution_while_learning__is_refused(void **state)
{
    const struct world *w = *state;
    prepare(w, 3, true);
    char *path = first_file(w, "contribution-");
    assert_int_equal(unlink(path), 0);
    open_fails(w, PFL_MALFORMED, "cannot be gone on with");
    free(path);
}

static void open__damaged_checkpoint_when_idle__starts_without(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    prepare(w, 3, false);
    char *path = first_file(w, "checkpoint-");
    flip(path, 20);
    struct pfl_journal *j = open_ok(w, &kept);
    assert_non_null(kept);
    assert_null(kept->model);
    pfl_journal_close(j);
    pfl_durable_free(kept);
    free(path);
}

static void open__another_layout_while_learning__is_refused(void **state)
{
    struct world *w = *state;
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {VALUES + 1}};
    prepare(w, 3, true);
    pfl_layout_unref(w->layout);
    assert_int_equal(pfl_layout_new(&desc, 1, &w->layout, NULL), PFL_OK);
    open_fails(w, PFL_MALFORMED, "mnist-1700000000");
}

/* ---- what is kept ---- */

static void write__then_open__gives_the_same(void **state)
{
    const struct world *w = *state;
    for (unsigned contributed = 0; contributed < 2; contributed++) {
        struct pfl_durable *kept = NULL;
        struct pfl_journal *j = open_ok(w, &kept);
        pfl_durable_free(pfl_steal(&kept));
        write_ok(j, state_of(w, 5 + contributed, contributed));
        pfl_journal_close(j);
        j = open_ok(w, &kept);
        assert_int_equal(kept->rounds_done, 5 + contributed);
        check_state(w, kept);
        pfl_durable_free(kept);
        pfl_journal_close(j);
    }
    struct stat st;
    assert_int_equal(stat(w->db, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void open__made_by_the_version_before__is_gone_on_with(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    sqlite3 *db = NULL;
    prepare(w, 3, true);
    assert_int_equal(sqlite3_open(w->db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "ALTER TABLE state DROP COLUMN computed; PRAGMA user_version = 1", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    for (unsigned i = 0; i < 2; i++) {
        struct pfl_journal *j = open_ok(w, &kept);
        assert_int_equal(kept->rounds_done, 3);
        assert_int_equal(kept->computed, false);
        pfl_durable_free(pfl_steal(&kept));
        pfl_journal_close(j);
    }
}

static void write__many_rounds__stays_within_its_bounds(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    struct pfl_journal *j = open_ok(w, &kept);
    char *wal = pfl_xasprintf("%s-wal", w->db);
    off_t most = 0;
    for (unsigned round = 0; round < 150; round++) {
        for (unsigned contributed = 0; contributed < 2; contributed++)
            write_ok(j, state_of(w, round, contributed));
        assert_true(count_files(w, "checkpoint-") <= 2);
        assert_true(count_files(w, "contribution-") <= 1);
        off_t size = size_of(w->db) + size_of(wal);
        most = size > most ? size : most;
    }
    assert_true(most <= PFL_JOURNAL_BYTES_MAX);
    pfl_journal_close(j);
    free(wal);
}

static void write__other_result_of_the_same_round__replaces_it(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    struct pfl_journal *j = open_ok(w, &kept);
    for (unsigned i = 0; i < 5; i++) {
        struct pfl_durable *d = state_of(w, 7, false);
        pfl_payload_unref(d->model);
        d->model = payload(w, 50 + i);
        write_ok(j, d);
    }
    pfl_journal_close(j);
    j = open_ok(w, &kept);
    struct pfl_payload *last = payload(w, 54);
    assert_memory_equal(kept->model->digest, last->digest, PFL_DIGEST_LEN);
    pfl_payload_unref(last);
    pfl_durable_free(kept);
    pfl_journal_close(j);
}

static void write__many_experiments__forgets_the_oldest(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    struct pfl_journal *j = open_ok(w, &kept);
    for (unsigned i = 0; i < PFL_JOURNAL_FINISHED_MAX + 40; i++) {
        struct pfl_durable *d = state_of(w, 9, false);
        free(d->experiment);
        d->experiment = pfl_xasprintf("run-%u", i);
        d->learning = false;
        d->over = true;
        d->round = -1;
        write_ok(j, d);
    }
    assert_true(count_files(w, "checkpoint-") <= 2);
    pfl_journal_close(j);
    assert_true(size_of(w->db) <= PFL_JOURNAL_BYTES_MAX);
}

static void write__experiment_named_like_a_path__stays_in_its_folder(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL, *d = state_of(w, 2, true);
    struct pfl_journal *j = open_ok(w, &kept);
    free(d->experiment);
    d->experiment = pfl_xstrdup("../../../tmp/\x01 a\\b");
    write_ok(j, d);
    pfl_journal_close(j);
    assert_int_equal(count_files(w, "checkpoint-"), 1);
    assert_int_equal(count_files(w, "contribution-"), 1);
    j = open_ok(w, &kept);
    assert_string_equal(kept->experiment, "../../../tmp/\x01 a\\b");
    pfl_durable_free(kept);
    pfl_journal_close(j);
}

static void open__leftovers__are_removed_and_final_models_are_not(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    prepare(w, 3, true);
    const char *const names[] = {"checkpoint-x-1.safetensors", "contribution-x-1.safetensors.tmp-abcdef", "final.safetensors"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(names); i++) {
        char *path = pfl_fs_join(w->models, names[i]);
        assert_int_equal(pfl_fs_write_atomic(path, pfl_bytes_of("x", 1), 0600, NULL), PFL_OK);
        free(path);
    }
    pfl_journal_close(open_ok(w, &kept));
    check_state(w, kept);
    pfl_durable_free(kept);
    assert_int_equal(count_files(w, "checkpoint-"), 1);
    assert_int_equal(count_files(w, "contribution-"), 1);
    assert_int_equal(count_files(w, "final"), 1);
}

/* ---- disks that fail, processes that die ---- */

/* A limit on file sizes is what a test without root has of a full disk: a write past it fails with EFBIG. */
static void limit_files(rlim_t bytes)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = bytes < r.rlim_max ? bytes : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void write__no_room__keeps_what_was_there_and_works_again_later(void **state)
{
    const struct world *w = *state;
    struct pfl_durable *kept = NULL;
    prepare(w, 1, true);
    signal(SIGXFSZ, SIG_IGN);
    unsigned failed = 0, done = 1;
    for (rlim_t room = 0; room < 60000; room += 1777) {
        struct pfl_journal *j = open_ok(w, &kept);
        struct pfl_durable *d = state_of(w, done + 1, true);
        struct pfl_err err = {0};
        assert_int_equal(kept->rounds_done, done);
        check_state(w, kept);
        pfl_durable_free(pfl_steal(&kept));
        limit_files(room);
        enum pfl_rc rc = pfl_journal_write(j, d, &err);
        limit_files(RLIM_INFINITY);
        if (rc != PFL_OK) {
            failed++;
            assert_int_equal(rc, PFL_IO);
            assert_non_null(strstr(err.msg, w->dir));
            if (failed % 2) /* as it is after the failure, every second time; else written again */
                assert_int_equal(pfl_journal_write(j, d, NULL), PFL_OK);
        }
        done += rc == PFL_OK || failed % 2;
        pfl_durable_free(d);
        pfl_journal_close(j);
    }
    signal(SIGXFSZ, SIG_DFL);
    assert_true(failed > 3);
}

/* Writes one state after the other until it is killed. */
static void child_writes(const struct world *w, unsigned from)
{
    struct pfl_journal *j = NULL;
    struct pfl_durable *kept = NULL;
    if (pfl_journal_open(w->dir, w->layout, w->layout, &j, &kept, NULL) != PFL_OK)
        _exit(3);
    for (unsigned round = from; round < from + 50; round++) {
        for (unsigned contributed = 0; contributed < 2; contributed++) {
            struct pfl_durable *d = state_of(w, round, contributed);
            if (pfl_journal_write(j, d, NULL) != PFL_OK)
                _exit(4);
            pfl_durable_free(d);
        }
    }
    _exit(0);
}

static void child_ends(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        fail_msg("the writer ended with %d", WEXITSTATUS(status));
}

static unsigned found_sound(const struct world *w, unsigned at_least)
{
    struct pfl_durable *kept = NULL;
    pfl_journal_close(open_ok(w, &kept));
    unsigned round = kept ? kept->rounds_done : 0;
    if (kept)
        check_state(w, kept);
    assert_true(round >= at_least);
    assert_true(count_files(w, "checkpoint-") <= 2 && count_files(w, "contribution-") <= 1);
    pfl_durable_free(kept);
    return round;
}

static void kill__at_any_instant__leaves_one_whole_state(void **state)
{
    const struct world *w = *state;
    unsigned round = 0;
    for (unsigned i = 0; i < 60; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            child_writes(w, round);
        struct timespec t = {.tv_nsec = 1000000L + 731000L * (long)i};
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        child_ends(pid);
        round = found_sound(w, round);
    }
    assert_true(round > 0);
}

/* The kernel kills a process at the very write that would pass its limit: one instant after the other, none left to chance. */
static void kill__in_the_middle_of_a_write__leaves_one_whole_state(void **state)
{
    const struct world *w = *state;
    unsigned round = 0;
    for (rlim_t room = 0; room < 400000; room = room < 30000 ? room + 1024 : room + 20480) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            limit_files(room);
            child_writes(w, round);
        }
        child_ends(pid);
        round = found_sound(w, round);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(open__second_process__is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__readable_by_others__is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__made_by_the_version_before__is_gone_on_with, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__no_database__is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__damaged_checkpoint_while_learning__is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__missing_contribution_while_learning__is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__damaged_checkpoint_when_idle__starts_without, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__another_layout_while_learning__is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write__then_open__gives_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write__many_rounds__stays_within_its_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write__other_result_of_the_same_round__replaces_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write__many_experiments__forgets_the_oldest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write__experiment_named_like_a_path__stays_in_its_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(open__leftovers__are_removed_and_final_models_are_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write__no_room__keeps_what_was_there_and_works_again_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kill__at_any_instant__leaves_one_whole_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kill__in_the_middle_of_a_write__leaves_one_whole_state, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
