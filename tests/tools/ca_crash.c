/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* One act of a CA, killed with SIGKILL at its N-th change to a file: `ca_crash N before|half ACT CA_DIR [ARG...]`. Every function
 * through which this program, OpenSSL or SQLite changes a file is defined here, counts, and then asks the kernel itself. N 0: no
 * kill; the number of changes is printed. "half": a write has put half of its bytes down when the kill comes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "pki/ca_admin.h"
#include "pki/cert.h"
#include "pki/enrol.h"
#include "pki/identity.h"

static long n_changes, kill_at;
static bool counting, half;

static bool is_now(void)
{
    return counting && ++n_changes == kill_at;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void change(void)
{
    if (is_now())
        die();
}

static ssize_t put(int fd, const void *data, size_t len, off_t at, bool positioned)
{
    bool now = fd > 2 && is_now();
    size_t n = now ? (half ? len / 2 : 0) : len;
    ssize_t rc = n == 0 && now ? 0 : positioned ? syscall(SYS_pwrite64, fd, data, n, at) : syscall(SYS_write, fd, data, n);
    if (now)
        die();
    return rc;
}

ssize_t write(int fd, const void *data, size_t len)
{
    return put(fd, data, len, 0, false);
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return put(fd, data, len, at, true);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
    return put(fd, data, len, at, true);
}
int fsync(int fd)
{
    change();
    return (int)syscall(SYS_fsync, fd);
}
int fdatasync(int fd)
{
    change();
    return (int)syscall(SYS_fdatasync, fd);
}
int ftruncate(int fd, off_t len)
{
    change();
    return (int)syscall(SYS_ftruncate, fd, len);
}
int ftruncate64(int fd, off_t len)
{
    change();
    return (int)syscall(SYS_ftruncate, fd, len);
}
int rename(const char *from, const char *to)
{
    change();
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    change();
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}
int link(const char *from, const char *to)
{
    change();
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int unlink(const char *path)
{
    change();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
int fchmod(int fd, mode_t mode)
{
    change();
    return (int)syscall(SYS_fchmod, fd, mode);
}
int mkdir(const char *path, mode_t mode)
{
    change();
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

static enum pfl_rc issue(const struct pfl_ca *ca, const char *out, struct pfl_err *err)
{
    struct pfl_issue_opts opts = {.name = "node", .actor = "operator test"};
    pfl_strs_add(&opts.sans, "IP:127.0.0.1");
    enum pfl_rc rc = pfl_ca_issue(ca, &opts, out, err);
    pfl_strs_deinit(&opts.sans);
    return rc;
}

static enum pfl_rc install(const char *dir, const char *file, struct pfl_err *err)
{
    struct pfl_install_report report;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *pem = NULL;
    enum pfl_rc rc = pfl_fs_read(file, 1 << 20, &pem, err);
    return rc == PFL_OK ? pfl_ca_install(dir, pfl_bytes_of(pem->data, pem->len), NULL, "operator test", &report, err) : rc;
}

/* What the service does for `p2pfl join` and for a renewal. The folder has server.csr, client.csr and token or present.crt; the
 * new certificates come there. */
struct asked {
    struct pfl_blob *token, *server, *client; /* owned */
    struct pfl_identity *peer;                /* owned */
};

static void asked_deinit(struct asked *q)
{
    pfl_blob_unref(q->token);
    pfl_blob_unref(q->server);
    pfl_blob_unref(q->client);
    pfl_identity_unref(q->peer);
}

static enum pfl_rc read_in(const char *folder, const char *name, struct pfl_blob **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(folder, name);
    return pfl_fs_read(path, 1 << 16, ret, err);
}

static enum pfl_rc read_peer(const char *folder, struct pfl_identity **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(folder, "present.crt");
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *present = NULL;
    enum pfl_rc rc = pfl_certs_load(path, &present, err);
    return rc == PFL_OK ? pfl_identity_of_x509(pfl_x509s_at(present, 0), ret, err) : rc;
}

static enum pfl_rc put_out(const char *folder, const char *name, const struct x509_st *cert, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(folder, name);
    PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(cert);
    return pfl_fs_write_atomic(path, pfl_bytes_of(pem, strlen(pem)), 0644, err);
}

static enum pfl_rc answer(const struct pfl_ca *ca, const char *folder, bool renews, struct pfl_err *err)
{
    PFL_AUTO(asked_deinit) struct asked q = {0};
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer a = {0};
    enum pfl_rc rc = renews ? read_peer(folder, &q.peer, err) : read_in(folder, "token", &q.token, err);
    if (rc == PFL_OK)
        rc = read_in(folder, "server.csr", &q.server, err);
    if (rc == PFL_OK)
        rc = read_in(folder, "client.csr", &q.client, err);
    if (rc != PFL_OK)
        return rc;
    const struct pfl_enrol_ask ask = {.token = renews ? NULL : (const char *)q.token->data, /* a NUL follows a file's bytes */
                                      .server_csr = pfl_bytes_of(q.server->data, q.server->len),
                                      .client_csr = pfl_bytes_of(q.client->data, q.client->len),
                                      .peer = q.peer,
                                      .remote = "192.0.2.7:1",
                                      .lifetime_s = 3600,
                                      .now = pfl_clock_wall() / PFL_SEC};
    rc = renews ? pfl_enrol_renew(ca, &ask, &a, err) : pfl_enrol(ca, &ask, &a, err);
    if (rc == PFL_OK)
        rc = put_out(folder, "server.crt", a.server, err);
    return rc == PFL_OK ? put_out(folder, "client.crt", a.client, err) : rc;
}

static enum pfl_rc act(const char *what, const char *dir, const char *arg, struct pfl_err *err)
{
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    size_t n = 0;
    if (strcmp(what, "init") == 0)
        return pfl_ca_init(dir, &(struct pfl_ca_opts){.federation = "lab"}, NULL, err);
    if (strcmp(what, "install") == 0)
        return install(dir, arg, err);
    enum pfl_rc rc = pfl_ca_open(dir, NULL, &ca, err);
    if (rc != PFL_OK)
        return rc;
    if (strcmp(what, "issue") == 0)
        return issue(ca, arg, err);
    if (strcmp(what, "enrol") == 0)
        return answer(ca, arg, false, err);
    if (strcmp(what, "renew") == 0)
        return answer(ca, arg, true, err);
    if (strcmp(what, "revoke") == 0)
        return pfl_ca_revoke(ca, arg, "keyCompromise", "operator test", &n, err);
    if (strcmp(what, "crl") == 0)
        return pfl_ca_make_crl(ca, 0, "operator test", err);
    if (strcmp(what, "prepare") == 0)
        return pfl_ca_rollover_prepare(ca, &(struct pfl_ca_opts){0}, "operator test", err);
    if (strcmp(what, "activate") == 0)
        return pfl_ca_rollover_activate(ca, "operator test", err);
    if (strcmp(what, "finish") == 0)
        return pfl_ca_rollover_finish(ca, true, "operator test", err);
    return pfl_err_set(err, PFL_INVALID, "no act '%s'", what);
}

int main(int argc, char **argv)
{
    struct pfl_err err = {0};
    int64_t at = 0;
    if (argc < 5 || !pfl_parse_i64(argv[1], 0, 100000, &at))
        return 2;
    kill_at = at;
    half = strcmp(argv[2], "half") == 0;
    pfl_log_set_level(PFL_LOG_WARN);
    counting = true;
    enum pfl_rc rc = act(argv[3], argv[4], argc > 5 ? argv[5] : NULL, &err);
    counting = false;
    if (rc != PFL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    printf("%ld\n", n_changes);
    return 0;
}
