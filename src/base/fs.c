/* SPDX-License-Identifier: Apache-2.0 */
/* Files. An atomic write goes through a temporary file in the same folder, so a reader sees the old content or the new. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

enum pfl_rc pfl_fs_read(const char *path, size_t limit, struct pfl_blob **ret_blob, struct pfl_err *err)
{
    PFL_AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return pfl_err_errno(err, errno, "%s", path);
    struct stat st;
    if (fstat(fd, &st) != 0)
        return pfl_err_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return pfl_err_set(err, PFL_INVALID, "%s: not a regular file", path);
    if ((uint64_t)st.st_size > limit)
        return pfl_err_set(err, PFL_TOO_BIG, "%s: %lld bytes, the limit is %zu", path, (long long)st.st_size, limit);
    size_t size = (size_t)st.st_size;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = pfl_blob_new(size + 1);
    if (!b)
        return pfl_err_set(err, PFL_UNAVAILABLE, "%s: no memory for %zu bytes", path, size);
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, b->data + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pfl_err_errno(err, errno, "%s", path);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    b->data[got] = 0;
    b->len = got;
    *ret_blob = pfl_steal(&b);
    return PFL_OK;
}

static enum pfl_rc write_parts(int fd, const char *path, const struct pfl_bytes *parts, size_t n, struct pfl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t done = 0; done < parts[i].len;) {
            ssize_t w = write(fd, parts[i].data + done, parts[i].len - done);
            if (w < 0 && errno == EINTR)
                continue;
            if (w < 0)
                return pfl_err_errno(err, errno, "%s: cannot write", path);
            done += (size_t)w;
        }
    }
    if (fsync(fd) != 0)
        return pfl_err_errno(err, errno, "%s: cannot write", path);
    return PFL_OK;
}

static void sync_folder(const char *path)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(path);
    PFL_AUTO(closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)fsync(fd); /* some file systems cannot; the content is safe all the same */
}

static enum pfl_rc write_via_temp(const char *path, const struct pfl_bytes *parts, size_t n, mode_t mode, bool replace,
                                  struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *tmp = pfl_xasprintf("%s.tmp-XXXXXX", path);
    PFL_AUTO(closep) int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return pfl_err_errno(err, errno, "%s: cannot write", path);
    enum pfl_rc rc = fchmod(fd, mode) == 0 ? PFL_OK : pfl_err_errno(err, errno, "%s: cannot set its mode", path);
    if (rc == PFL_OK)
        rc = write_parts(fd, path, parts, n, err);
    if (rc == PFL_OK && replace && rename(tmp, path) != 0)
        rc = pfl_err_errno(err, errno, "%s: cannot write", path);
    if (rc == PFL_OK && !replace && link(tmp, path) != 0)
        rc = errno == EEXIST ? pfl_err_set(err, PFL_EXISTS, "%s: is there already and is not overwritten", path)
                             : pfl_err_errno(err, errno, "%s: cannot write", path);
    if (rc != PFL_OK || !replace)
        (void)unlink(tmp);
    if (rc == PFL_OK)
        sync_folder(path);
    return rc;
}

enum pfl_rc pfl_fs_write_atomic(const char *path, struct pfl_bytes content, mode_t mode, struct pfl_err *err)
{
    return write_via_temp(path, &content, 1, mode, true, err);
}

enum pfl_rc pfl_fs_write_atomic_parts(const char *path, const struct pfl_bytes *parts, size_t n, mode_t mode, struct pfl_err *err)
{
    return write_via_temp(path, parts, n, mode, true, err);
}

enum pfl_rc pfl_fs_write_new(const char *path, struct pfl_bytes content, mode_t mode, struct pfl_err *err)
{
    return write_via_temp(path, &content, 1, mode, false, err);
}

enum pfl_rc pfl_fs_mkdirs(const char *path, mode_t mode, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *p = pfl_xstrdup(path);
    for (char *s = p + 1; p[0] != '\0'; s++) {
        char c = *s;
        if (c != '/' && c != '\0')
            continue;
        *s = '\0';
        if (mkdir(p, mode) != 0 && errno != EEXIST)
            return pfl_err_errno(err, errno, "%s: cannot make this folder", p);
        *s = c;
        if (c == '\0')
            break;
    }
    struct stat st;
    if (stat(path, &st) != 0)
        return pfl_err_errno(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return pfl_err_set(err, PFL_EXISTS, "%s: is there and is no folder", path);
    return PFL_OK;
}

bool pfl_fs_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

enum pfl_rc pfl_fs_check_private(const char *path, struct pfl_err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return pfl_err_errno(err, errno, "%s", path);
    if (st.st_mode & 077)
        return pfl_err_set(err, PFL_AUTH, "%s: mode %04o lets others at it; run: chmod 600 %s", path,
                           (unsigned)(st.st_mode & 07777), path);
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return pfl_err_set(err, PFL_AUTH, "%s: belongs to user %u, not to this user (%u) or root", path, (unsigned)st.st_uid,
                           (unsigned)geteuid());
    return PFL_OK;
}

char *pfl_fs_join(const char *dir, const char *name)
{
    if (name[0] == '/' || dir[0] == '\0')
        return pfl_xstrdup(name);
    size_t len = strlen(dir);
    return pfl_xasprintf("%s%s%s", dir, dir[len - 1] == '/' ? "" : "/", name);
}

char *pfl_fs_dirname(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return pfl_xstrdup(".");
    return pfl_xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
}
