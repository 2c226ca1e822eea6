/* SPDX-License-Identifier: Apache-2.0 */
/* Three files: "to-learner", "correction" and "from-learner". Each is made anew for each use, so that a learner that was given up
 * and still has an old one open or mapped writes where nobody reads any more. */
#include "runtime/remote_exchange.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

static const char PREFIX[] = "p2pfl-learner-";
static const char LOCK[] = "lock", SOCKET[] = "learner.sock", TO[] = "to-learner", CORRECTION[] = "correction",
                  FROM[] = "from-learner";

enum { TRIES_MAX = 5 };

struct pfl_exchange {
    char *dir, *socket; /* owned */
    int dir_fd, lock_fd;
    int from_fd; /* the offered file; -1: none */
};

/* ---- the folder ---- */

/* What is left of a node that was killed: a folder of ours whose lock is free. */
static void remove_if_left(int parent_fd, const char *name)
{
    struct stat st;
    if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return;
    int dir_fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int lock_fd = dir_fd < 0 ? -1 : openat(dir_fd, LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (lock_fd >= 0 && flock(lock_fd, LOCK_EX | LOCK_NB) == 0) {
        const char *const names[] = {SOCKET, TO, CORRECTION, FROM, LOCK};
        for (size_t i = 0; i < PFL_ARRAY_LEN(names); i++)
            (void)unlinkat(dir_fd, names[i], 0);
        (void)unlinkat(parent_fd, name, AT_REMOVEDIR);
    }
    if (lock_fd >= 0)
        close(lock_fd);
    if (dir_fd >= 0)
        close(dir_fd);
}

static void sweep(const char *parent)
{
    DIR *d = opendir(parent);
    struct dirent *e;
    if (!d)
        return;
    while ((e = readdir(d)))
        if (pfl_str_has_prefix(e->d_name, PREFIX))
            remove_if_left(dirfd(d), e->d_name);
    closedir(d);
}

static const char *default_parent(void)
{
    const char *tmp = getenv("TMPDIR");
    if (access("/dev/shm", W_OK | X_OK) == 0)
        return "/dev/shm";
    return tmp && tmp[0] == '/' ? tmp : "/tmp";
}

static enum pfl_rc make_folder(const char *parent, char **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_xasprintf("%s/%sXXXXXX", parent, PREFIX);
    if (strlen(dir) + 1 + sizeof(SOCKET) > PFL_LEARNER_FOLDER_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%s: the path is too long for a Unix socket in it", parent);
    if (!mkdtemp(dir)) /* 0700 */
        return pfl_err_errno(err, errno, "%s: cannot make the learner's folder", dir);
    *ret = pfl_steal(&dir);
    return PFL_OK;
}

enum pfl_rc pfl_exchange_new(const char *parent, struct pfl_exchange **ret, struct pfl_err *err)
{
    parent = parent ? parent : default_parent();
    sweep(parent);
    for (unsigned tries = 1;; tries++) { /* another node that sweeps just now may be quicker than the lock */
        char *dir = NULL;
        enum pfl_rc rc = make_folder(parent, &dir, err);
        if (rc != PFL_OK)
            return rc;
        struct pfl_exchange *x = pfl_xcalloc(1, sizeof(*x));
        x->dir = dir;
        x->socket = pfl_fs_join(dir, SOCKET);
        x->from_fd = -1;
        x->dir_fd = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        x->lock_fd = x->dir_fd < 0 ? -1 : openat(x->dir_fd, LOCK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (x->lock_fd >= 0 && flock(x->lock_fd, LOCK_EX | LOCK_NB) == 0 && faccessat(x->dir_fd, LOCK, F_OK, 0) == 0) {
            *ret = x;
            return PFL_OK;
        }
        rc = pfl_err_errno(err, errno, "%s: cannot prepare the learner's folder", x->dir);
        pfl_exchange_free(x);
        if (tries == TRIES_MAX)
            return rc;
    }
}

const char *pfl_exchange_dir(const struct pfl_exchange *x)
{
    return x->dir;
}

const char *pfl_exchange_socket(const struct pfl_exchange *x)
{
    return x->socket;
}

void pfl_exchange_reset(struct pfl_exchange *x)
{
    if (x->from_fd >= 0)
        close(x->from_fd);
    x->from_fd = -1;
    (void)unlinkat(x->dir_fd, SOCKET, 0);
    (void)unlinkat(x->dir_fd, TO, 0);
    (void)unlinkat(x->dir_fd, CORRECTION, 0);
    (void)unlinkat(x->dir_fd, FROM, 0);
}

void pfl_exchange_free(struct pfl_exchange *x)
{
    if (!x)
        return;
    if (x->dir_fd >= 0) {
        pfl_exchange_reset(x);
        (void)unlinkat(x->dir_fd, LOCK, 0);
        close(x->dir_fd);
    }
    (void)rmdir(x->dir);
    if (x->lock_fd >= 0)
        close(x->lock_fd);
    free(x->dir);
    free(x->socket);
    free(x);
}

/* ---- the files ---- */

static enum pfl_rc fresh(struct pfl_exchange *x, const char *name, int *ret, struct pfl_err *err)
{
    (void)unlinkat(x->dir_fd, name, 0);
    int fd = openat(x->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return pfl_err_errno(err, errno, "%s/%s", x->dir, name);
    *ret = fd;
    return PFL_OK;
}

static void say(const char *name, const struct pfl_layout *layout, struct pfl_learner_parameters *ret)
{
    *ret = (struct pfl_learner_parameters){.bytes = layout->bytes};
    memcpy(ret->file, name, strlen(name) + 1);
}

static int write_whole(int fd, struct pfl_bytes b)
{
    for (size_t done = 0; done < b.len;) {
        ssize_t n = pwrite(fd, b.data + done, b.len - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ENOSPC;
        done += (size_t)n;
    }
    return 0;
}

enum pfl_rc pfl_exchange_put(struct pfl_exchange *x, enum pfl_exchange_what what, const struct pfl_model *model,
                             struct pfl_learner_parameters *ret, struct pfl_err *err)
{
    const char *name = what == PFL_EXCHANGE_MODEL ? TO : CORRECTION;
    int fd = -1;
    enum pfl_rc rc = fresh(x, name, &fd, err);
    if (rc != PFL_OK)
        return rc;
    int errnum = write_whole(fd, pfl_bytes_of(model->data, model->layout->bytes));
    close(fd);
    if (errnum != 0)
        return pfl_err_errno(err, errnum, "%s/%s: cannot write %zu bytes of parameters", x->dir, name, model->layout->bytes);
    say(name, model->layout, ret);
    return PFL_OK;
}

enum pfl_rc pfl_exchange_offer(struct pfl_exchange *x, const struct pfl_layout *layout, struct pfl_learner_parameters *ret,
                               struct pfl_err *err)
{
    int fd = -1;
    enum pfl_rc rc = fresh(x, FROM, &fd, err);
    if (rc != PFL_OK)
        return rc;
    int errnum = posix_fallocate(fd, 0, (off_t)layout->bytes); /* now, so that no full disk meets the learner's mapping */
    if (errnum != 0) {
        close(fd);
        return pfl_err_errno(err, errnum, "%s/%s: no room for %zu bytes of parameters", x->dir, FROM, layout->bytes);
    }
    if (x->from_fd >= 0)
        close(x->from_fd);
    x->from_fd = fd;
    say(FROM, layout, ret);
    return PFL_OK;
}

enum pfl_rc pfl_exchange_take(struct pfl_exchange *x, struct pfl_layout *layout, struct pfl_model **ret, struct pfl_err *err)
{
    struct stat st;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    PFL_ASSERT(x->from_fd >= 0);
    if (fstat(x->from_fd, &st) != 0)
        return pfl_err_errno(err, errno, "%s/%s", x->dir, FROM);
    if ((uint64_t)st.st_size != layout->bytes)
        return pfl_err_set(err, PFL_MALFORMED, "wrote %lld bytes of parameters, its own description asks for %zu",
                           (long long)st.st_size, layout->bytes);
    enum pfl_rc rc = pfl_model_new(layout, &model, err);
    if (rc != PFL_OK)
        return rc;
    uint8_t *data = pfl_model_data_mut(model);
    for (size_t done = 0; done < layout->bytes;) {
        ssize_t n = pread(x->from_fd, data + done, layout->bytes - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfl_err_errno(err, errno, "%s/%s", x->dir, FROM);
        if (n == 0)
            return pfl_err_set(err, PFL_MALFORMED, "cut off its parameters while they were read");
        done += (size_t)n;
    }
    close(x->from_fd);
    x->from_fd = -1;
    *ret = pfl_steal(&model);
    return PFL_OK;
}
