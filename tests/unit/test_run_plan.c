/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* A run's folder before anything starts: what is refused, what each node gets, which ports and certificates. */
#include <ftw.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "config/node_config.h"
#include "pki/verify.h"
#include "runtime/run_plan.h"

static const char experiment[] = "network:\n  nodes: 3\n  topology: star\n"
                                 "experiment:\n  name: tiny\n  rounds: 2\n  trainset_size: 3\n  seed: 7\n"
                                 "  dataset:\n    name: dummy\n  model:\n    package: dummy\n";

static char *tmp; /* the tests' folder */

static int setup(void **state)
{
    char name[] = "/tmp/pfl-plan-XXXXXX";
    (void)state;
    tmp = pfl_xstrdup(mkdtemp(name));
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int remove_tree(const char *path)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int teardown(void **state)
{
    (void)state;
    int rc = remove_tree(tmp);
    free(tmp);
    return rc;
}

/* Is the certificate good for a client of this root, in the eyes of OpenSSL's command line? */
static bool openssl_accepts(const char *ca, const char *crt)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        int null = dup2(STDERR_FILENO, STDOUT_FILENO);
        execlp("openssl", "openssl", "verify", "-CAfile", ca, "-purpose", "sslclient", crt, (char *)NULL);
        _exit(null >= 0 ? 127 : 126);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 126);
    return WEXITSTATUS(status) == 0;
}

static char *write_experiment(const char *name, const char *text)
{
    struct pfl_err err = {0};
    char *path = pfl_fs_join(tmp, name);
    if (pfl_fs_write_atomic(path, pfl_bytes_of(text, strlen(text)), 0644, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return path;
}

static void make(const struct pfl_run_opts *o, struct pfl_plan *p)
{
    struct pfl_err err = {0};
    if (pfl_plan_make(o, p, &err) != PFL_OK)
        fail_msg("%s", err.msg);
}

static void test_plan_make__what_cannot_be_run__is_refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *good = write_experiment("good.yaml", experiment);
    PFL_AUTO(pfl_freep) char *plain = pfl_xasprintf("%ssettings:\n  ssl:\n    use_ssl: false\n", experiment);
    PFL_AUTO(pfl_freep) char *plain_file = write_experiment("plain.yaml", plain);
    PFL_AUTO(pfl_freep) char *some = pfl_xasprintf("%ssettings:\n  ssl:\n    ca_crt: good.yaml\n", experiment);
    PFL_AUTO(pfl_freep) char *some_file = write_experiment("some.yaml", some);
    PFL_AUTO(pfl_freep) char *out = pfl_fs_join(tmp, "refused");
    const struct {
        const char *name;
        struct pfl_run_opts o;
        const char *want;
    } rows[] = {
        {"no such thing", {.experiment = "fashion-mnits", .out = out}, "did you mean 'fashion-mnist'"},
        {"folder in use", {.experiment = good, .out = tmp}, "not empty"},
        {"topology", {.experiment = good, .out = out, .topology = "torus"}, "star, full, line, ring"},
        {"data", {.experiment = good, .out = out, .data = "/does/not/exist"}, "--data"},
        {"one node", {.experiment = good, .out = out, .nodes = 1}, "2 to"},
        {"impostor without TLS", {.experiment = plain_file, .out = out, .impostor = true}, "use_ssl: false"},
        {"certs without TLS", {.experiment = plain_file, .out = out, .certs = tmp}, "use_ssl: false"},
        {"only some files", {.experiment = some_file, .out = out}, "server_crt"},
        {"certs not there", {.experiment = good, .out = out, .certs = tmp}, "ca.crt"},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_plan p;
        struct pfl_err err = {0};
        if (pfl_plan_make(&rows[i].o, &p, &err) == PFL_OK)
            fail_msg("%s: accepted", rows[i].name);
        if (!strstr(err.msg, rows[i].want))
            fail_msg("%s: '%s' does not say '%s'", rows[i].name, err.msg, rows[i].want);
        if (pfl_fs_exists(out))
            assert_int_equal(remove_tree(out), 0);
    }
}

static void check_node(const struct pfl_plan *p, unsigned i)
{
    struct pfl_err err = {0};
    struct pfl_node_config c;
    PFL_AUTO(pfl_freep) char *yaml = pfl_fs_join(p->nodes[i].dir, "node.yaml");
    if (pfl_node_config_load(yaml, &c, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(c.name, p->nodes[i].name);
    assert_string_equal(c.address, p->nodes[i].address);
    assert_int_equal(c.learner.part_index, i);
    assert_int_equal(c.learner.part_count, 3);
    assert_int_equal(c.learner.part_seed, 7);
    assert_string_equal(c.learner.dataset, "dummy");
    assert_true(c.settings.has_seed && c.settings.seed == 7);
    assert_true(c.settings.ssl.use_ssl);
    const char *files[] = {c.settings.ssl.ca_crt, c.settings.ssl.server_crt, c.settings.ssl.server_key, c.settings.ssl.client_crt,
                           c.settings.ssl.client_key};
    for (size_t k = 0; k < PFL_ARRAY_LEN(files); k++)
        assert_true(pfl_fs_exists(files[k]));
    assert_int_equal(pfl_fs_check_private(c.settings.ssl.server_key, &err), PFL_OK);
    assert_int_equal(pfl_fs_check_private(c.settings.ssl.client_key, &err), PFL_OK);
    pfl_node_config_deinit(&c);
}

static void test_plan_make__experiment_file__makes_a_folder_that_could_be_started_by_hand(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *file = write_experiment("made.yaml", experiment);
    PFL_AUTO(pfl_freep) char *out = pfl_fs_join(tmp, "made");
    struct pfl_plan p;
    struct stat st;
    make(&(struct pfl_run_opts){.experiment = file, .out = out, .rounds = 9, .has_epochs = true}, &p);
    assert_int_equal(p.cfg.nodes, 3);
    assert_int_equal(p.cfg.rounds, 9);
    assert_int_equal(p.cfg.epochs, 0); /* given, and none */
    assert_int_equal(p.n_edges, 2);
    assert_true(p.certs_made);
    assert_int_equal(stat(p.dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    for (unsigned i = 0; i < 3; i++)
        check_node(&p, i);
    /* Addresses sort as their numbers do: the order in which models are summed hangs on it. */
    assert_true(strcmp(p.nodes[0].address, p.nodes[1].address) < 0 && strcmp(p.nodes[1].address, p.nodes[2].address) < 0);
    PFL_AUTO(pfl_freep) char *ca_key = pfl_fs_join(p.dir, "ca/ca.key");
    PFL_AUTO(pfl_freep) char *ca_crt = pfl_fs_join(p.dir, "ca/ca.crt");
    assert_false(pfl_fs_exists(ca_key));
    assert_true(pfl_fs_exists(ca_crt));
    struct pfl_err err = {0};
    struct pfl_blob *copy = NULL;
    PFL_AUTO(pfl_freep) char *copy_path = pfl_fs_join(p.dir, "experiment.yaml");
    assert_int_equal(pfl_fs_read(copy_path, 1 << 20, &copy, &err), PFL_OK);
    assert_non_null(strstr((const char *)copy->data, "# run with --rounds 9"));
    pfl_blob_unref(copy);
    pfl_plan_deinit(&p);
}

static void test_plan_make__impostor__has_the_federations_root_and_another_authoritys_certificate(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *file = write_experiment("imp.yaml", experiment);
    PFL_AUTO(pfl_freep) char *out = pfl_fs_join(tmp, "imp");
    struct pfl_plan p;
    struct pfl_err err = {0};
    make(&(struct pfl_run_opts){.experiment = file, .out = out, .impostor = true}, &p);
    PFL_AUTO(pfl_freep) char *real_ca = pfl_fs_join(p.nodes[0].dir, "certs/ca.crt");
    PFL_AUTO(pfl_freep) char *its_ca = pfl_fs_join(p.impostor.dir, "certs/ca.crt");
    PFL_AUTO(pfl_freep) char *its_crt = pfl_fs_join(p.impostor.dir, "certs/client.crt");
    PFL_AUTO(pfl_freep) char *good_crt = pfl_fs_join(p.nodes[1].dir, "certs/client.crt");
    PFL_AUTO(pfl_freep) char *its_ca_key = pfl_fs_join(p.impostor.dir, "ca/ca.key");
    struct pfl_blob *a = NULL, *b = NULL;
    assert_int_equal(pfl_fs_read(real_ca, 1 << 20, &a, &err), PFL_OK);
    assert_int_equal(pfl_fs_read(its_ca, 1 << 20, &b, &err), PFL_OK);
    assert_true(pfl_bytes_eq(pfl_bytes_of(a->data, a->len), pfl_bytes_of(b->data, b->len)));
    pfl_blob_unref(a);
    pfl_blob_unref(b);
    assert_false(pfl_fs_exists(its_ca_key));
    assert_false(openssl_accepts(real_ca, its_crt));
    assert_true(openssl_accepts(real_ca, good_crt));
    pfl_plan_deinit(&p);
}

static void test_plan_make__certs_folder__is_used_as_it_is(void **state)
{
    (void)state;
    PFL_AUTO(pfl_freep) char *file = write_experiment("certs.yaml", experiment);
    PFL_AUTO(pfl_freep) char *first = pfl_fs_join(tmp, "certs-1");
    PFL_AUTO(pfl_freep) char *second = pfl_fs_join(tmp, "certs-2");
    PFL_AUTO(pfl_freep) char *given = pfl_fs_join(first, "nodes/node-2/certs");
    struct pfl_plan p, q;
    struct pfl_err err = {0};
    struct pfl_node_config c;
    make(&(struct pfl_run_opts){.experiment = file, .out = first}, &p);
    make(&(struct pfl_run_opts){.experiment = file, .out = second, .certs = given}, &q);
    assert_false(q.certs_made);
    PFL_AUTO(pfl_freep) char *yaml = pfl_fs_join(q.nodes[2].dir, "node.yaml");
    PFL_AUTO(pfl_freep) char *want = pfl_fs_join(given, "client.key");
    assert_int_equal(pfl_node_config_load(yaml, &c, &err), PFL_OK);
    assert_string_equal(c.settings.ssl.client_key, want);
    pfl_node_config_deinit(&c);
    /* Two plans at once of one seed: the second keeps off the first one's ports. */
    assert_string_not_equal(p.nodes[0].address, q.nodes[0].address);
    pfl_plan_deinit(&p);
    pfl_plan_deinit(&q);
}

static void test_plan_ports__same_seed__same_block_unless_taken(void **state)
{
    (void)state;
    uint16_t a, b, c;
    int lock_a, lock_b, lock_c, one = 1;
    struct pfl_err err = {0};
    assert_int_equal(pfl_plan_ports(4711, 5, &a, &lock_a, &err), PFL_OK);
    close(lock_a);
    assert_int_equal(pfl_plan_ports(4711, 5, &b, &lock_b, &err), PFL_OK);
    assert_int_equal(a, b);
    close(lock_b);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(a + 4)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(pfl_plan_ports(4711, 5, &c, &lock_c, &err), PFL_OK);
    assert_int_not_equal(a, c);
    close(lock_c);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_make__what_cannot_be_run__is_refused),
        cmocka_unit_test(test_plan_make__experiment_file__makes_a_folder_that_could_be_started_by_hand),
        cmocka_unit_test(test_plan_make__impostor__has_the_federations_root_and_another_authoritys_certificate),
        cmocka_unit_test(test_plan_make__certs_folder__is_used_as_it_is),
        cmocka_unit_test(test_plan_ports__same_seed__same_block_unless_taken),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
