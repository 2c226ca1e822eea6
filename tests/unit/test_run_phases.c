/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* support: fake_node */
/* timeout: 120 */
/* The runner against nodes that behave well and badly. The nodes' processes are real ones: this program again, as a fake. */
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "runtime/run.h"
#include "runtime/run_child.h"
#include "support/fake_node.h"

static const char experiment[] = "network:\n  nodes: 3\n  topology: line\n"
                                 "experiment:\n  name: fake\n  wait_timeout: 0.02\n  rounds: 3\n  trainset_size: 3\n  seed: 11\n"
                                 "  dataset:\n    name: dummy\n  model:\n    package: dummy\n";

static char *tmp, *file;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int setup(void **state)
{
    char name[] = "/tmp/pfl-run-XXXXXX";
    struct pfl_err err = {0};
    (void)state;
    tmp = pfl_xstrdup(mkdtemp(name));
    file = pfl_fs_join(tmp, "fake.yaml");
    return (int)pfl_fs_write_atomic(file, pfl_bytes_of(experiment, strlen(experiment)), 0644, &err);
}

static int teardown(void **state)
{
    (void)state;
    int rc = nftw(tmp, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(tmp);
    free(file);
    return rc;
}

struct result {
    int exit_code;
    json_t *summary;
};

/* A run of three fakes in a folder of its own, with summary.json read back. */
static struct result run(const char *name, const char *fake, struct pfl_run_opts o)
{
    struct pfl_err err = {0};
    struct result r = {.exit_code = -1};
    json_error_t e;
    PFL_AUTO(pfl_freep) char *out = pfl_fs_join(tmp, name);
    PFL_AUTO(pfl_freep) char *summary = pfl_fs_join(out, "summary.json");
    PFL_AUTO(pfl_freep) char *report = pfl_fs_join(out, "report.html");
    setenv("PFL_FAKE", fake, 1);
    o.experiment = file;
    o.out = out;
    if (pfl_run(&o, &r.exit_code, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    r.summary = json_load_file(summary, 0, &e);
    assert_non_null(r.summary);
    assert_true(pfl_fs_exists(report));
    return r;
}

static const char *failure(const struct result *r)
{
    const char *s = json_string_value(json_array_get(json_object_get(r->summary, "failures"), 0));
    return s ? s : "";
}

static json_t *node(const struct result *r, size_t i)
{
    return json_array_get(json_object_get(r->summary, "nodes"), i);
}

static void test_run__nodes_that_fail__fail_the_run_and_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *name, *fake, *want;
        bool impostor;
    } rows[] = {
        {"nostart", "node-2=nostart", "node-2 did not start: exited with code 1: server.key: mode 0644, others can read it", false},
        {"stop", "node-3=stop", "node-3 did not finish: it stopped after 1 of 3 rounds", false},
        {"hang", "node-2=hang", "node-2 did not finish: nothing happened any more after 1 of 3 rounds", false},
        {"badfile", "node-2=badfile", "node-2: its final model file has SHA-256", false},
        {"othermodel", "node-3=othermodel", "", false},
        {"admitted", "mallory=admitted", "the impostor got in", true},
        {"all-die", "node-1=die node-2=die node-3=die", "no node is left", false},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct result r = run(rows[i].name, rows[i].fake, (struct pfl_run_opts){.impostor = rows[i].impostor});
        if (r.exit_code != PFL_RUN_FAILED || json_is_true(json_object_get(r.summary, "finished")))
            fail_msg("%s: exit code %d", rows[i].name, r.exit_code);
        if (!strstr(failure(&r), rows[i].want))
            fail_msg("%s: '%s' does not say '%s'", rows[i].name, failure(&r), rows[i].want);
        json_decref(r.summary);
    }
}

static void test_run__all_well__finishes_with_one_model(void **state)
{
    (void)state;
    struct result r = run("well", "", (struct pfl_run_opts){.impostor = true});
    PFL_AUTO(pfl_freep) char *model = pfl_fs_join(tmp, "well/model.safetensors");
    assert_int_equal(r.exit_code, PFL_RUN_FINISHED);
    assert_true(json_is_true(json_object_get(r.summary, "finished")));
    assert_true(json_is_true(json_object_get(r.summary, "identical")));
    assert_int_equal(json_integer_value(json_object_get(r.summary, "bytes_sent")), 3000); /* the last status' counters */
    assert_int_equal(json_integer_value(json_object_get(r.summary, "rounds")), 3);
    json_t *refused = json_object_get(r.summary, "refused");
    assert_int_equal(json_array_size(refused), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(refused, 0), "peer")), "spiffe://p2pfl/node/mallory");
    assert_int_equal(json_array_size(json_object_get(r.summary, "nodes")), 3); /* the impostor is none of them */
    assert_true(pfl_fs_exists(model));
    json_decref(r.summary);
}

static void test_run__node_dies_in_a_round__others_finish_and_it_is_named(void **state)
{
    (void)state;
    struct result r = run("die", "node-2=die", (struct pfl_run_opts){0});
    assert_int_equal(r.exit_code, PFL_RUN_FINISHED);
    assert_string_equal(json_string_value(json_object_get(node(&r, 1), "lost")), "killed by signal 9 (Killed)");
    assert_true(json_is_false(json_object_get(node(&r, 1), "finished")));
    assert_true(json_is_true(json_object_get(node(&r, 2), "finished")));
    json_decref(r.summary);
}

static void test_run__keep_going__does_without_a_node_that_does_not_start(void **state)
{
    (void)state;
    struct result r = run("keep", "node-3=nostart", (struct pfl_run_opts){.keep_going = true});
    assert_int_equal(r.exit_code, PFL_RUN_FINISHED);
    assert_true(json_is_string(json_object_get(node(&r, 2), "lost")));
    json_decref(r.summary);
}

static void test_run__long_folder__does_not_matter_to_sockets(void **state)
{
    (void)state;
    char name[201];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct result r = run(name, "", (struct pfl_run_opts){0});
    assert_int_equal(r.exit_code, PFL_RUN_FINISHED);
    json_decref(r.summary);
}

static void test_run__signal__ends_all_and_still_reports(void **state)
{
    (void)state;
    pid_t parent = getpid(), child = fork();
    if (child == 0) { /* sends the signal when learning has begun */
        PFL_AUTO(pfl_freep) char *go = pfl_fs_join(tmp, "signal/go");
        for (int i = 0; i < 5000 && !pfl_fs_exists(go); i++)
            (void)poll(NULL, 0, 2);
        kill(parent, SIGINT);
        _exit(0);
    }
    struct result r = run("signal", "node-2=stubborn", (struct pfl_run_opts){0});
    assert_int_equal(r.exit_code, PFL_RUN_INTERRUPTED);
    assert_true(json_is_true(json_object_get(r.summary, "interrupted")));
    assert_true(json_is_false(json_object_get(r.summary, "finished")));
    for (size_t i = 0; i < 3; i++) { /* the stubborn one too */
        char path[64];
        PFL_AUTO(pfl_freep) char *events = pfl_xasprintf("%s/signal/nodes/node-%zu/pid", tmp, i + 1);
        FILE *f = fopen(events, "re");
        long pid = 0;
        assert_non_null(f);
        assert_int_equal(fread(path, 1, sizeof(path) - 1, f) > 0, 1);
        fclose(f);
        pid = strtol(path, NULL, 10);
        assert_true(pid > 1 && kill((pid_t)pid, 0) != 0);
    }
    json_decref(r.summary);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "run") == 0)
        return pfl_child_main(argc - 1, argv + 1);
    if (argc > 2 && strcmp(argv[1], "node") == 0)
        return fake_node_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run__nodes_that_fail__fail_the_run_and_are_named),
        cmocka_unit_test(test_run__all_well__finishes_with_one_model),
        cmocka_unit_test(test_run__node_dies_in_a_round__others_finish_and_it_is_named),
        cmocka_unit_test(test_run__keep_going__does_without_a_node_that_does_not_start),
        cmocka_unit_test(test_run__long_folder__does_not_matter_to_sockets),
        cmocka_unit_test(test_run__signal__ends_all_and_still_reports),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
