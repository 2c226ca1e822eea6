/* SPDX-License-Identifier: Apache-2.0 */
#include "base/swap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"

enum { MARKER_MAX = 64 << 10 };

static char *new_path(const char *path)
{
    return pfl_xasprintf("%s.new", path);
}

/* A lock on the folder that the marker lies in; -1 with the error set. */
static int lock_folder(const char *marker, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(marker);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        (void)pfl_err_errno(err, errno, "%s", dir);
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            (void)pfl_err_set(err, PFL_STATE, "%s: another process is replacing files here", dir);
        else
            (void)pfl_err_errno(err, errno, "%s: lock", dir);
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void unlink_new(const char *path)
{
    PFL_AUTO(pfl_freep) char *fresh = new_path(path);
    (void)unlink(fresh);
}

static void sync_folder(const char *path)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

/* Renames what is still to be renamed; a file whose new one is gone has been. */
static enum pfl_rc complete(const char *marker, char *const *paths, size_t n, struct pfl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        PFL_AUTO(pfl_freep) char *fresh = new_path(paths[i]);
        if (rename(fresh, paths[i]) != 0 && errno != ENOENT)
            return pfl_err_errno(err, errno, "%s: it could not be replaced; the next start tries again", paths[i]);
    }
    for (size_t i = 0; i < n; i++)
        sync_folder(paths[i]);
    if (unlink(marker) != 0 && errno != ENOENT)
        return pfl_err_errno(err, errno, "%s", marker);
    sync_folder(marker);
    return PFL_OK;
}

static enum pfl_rc write_marker(const char *marker, const struct pfl_swap_file *files, size_t n, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {.limit = MARKER_MAX};
    for (size_t i = 0; i < n; i++)
        (void)pfl_buf_printf(&text, "%s\n", files[i].path);
    if (text.failed)
        return pfl_err_set(err, PFL_TOO_BIG, "%s: the paths are too long", marker);
    return pfl_fs_write_atomic(marker, pfl_buf_view(&text), 0600, err);
}

static enum pfl_rc recover_locked(const char *marker, const char *const *paths, size_t n, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *text = NULL;
    if (!pfl_fs_exists(marker)) {
        for (size_t i = 0; i < n; i++)
            unlink_new(paths[i]);
        return PFL_OK;
    }
    enum pfl_rc rc = pfl_fs_read(marker, MARKER_MAX, &text, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs lines = {0};
    pfl_strs_split(&lines, (const char *)text->data, '\n');
    if (lines.n > PFL_SWAP_FILES_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "%s: more than %d files in it", marker, PFL_SWAP_FILES_MAX);
    char *known[PFL_SWAP_FILES_MAX] = {0};
    size_t n_known = 0;
    for (size_t i = 0; i < lines.n; i++) {
        if (lines.items[i][0])
            known[n_known++] = lines.items[i];
    }
    return complete(marker, known, n_known, err);
}

enum pfl_rc pfl_swap_recover(const char *marker, const char *const *paths, size_t n, struct pfl_err *err)
{
    int lock = lock_folder(marker, err);
    if (lock < 0)
        return err ? err->rc : PFL_IO;
    enum pfl_rc rc = recover_locked(marker, paths, n, err);
    (void)close(lock);
    return rc;
}

static enum pfl_rc swap_locked(const char *marker, const struct pfl_swap_file *files, size_t n, struct pfl_err *err)
{
    char *paths[PFL_SWAP_FILES_MAX] = {0};
    for (size_t i = 0; i < n; i++)
        paths[i] = (char *)(uintptr_t)files[i].path;
    enum pfl_rc rc = recover_locked(marker, (const char *const *)paths, n, err);
    for (size_t i = 0; i < n && rc == PFL_OK; i++) {
        PFL_AUTO(pfl_freep) char *fresh = new_path(files[i].path);
        rc = pfl_fs_write_new(fresh, files[i].content, files[i].mode, err);
    }
    if (rc == PFL_OK)
        rc = write_marker(marker, files, n, err);
    if (rc == PFL_OK)
        return complete(marker, paths, n, err);
    for (size_t i = 0; i < n; i++)
        unlink_new(files[i].path);
    return rc;
}

enum pfl_rc pfl_swap_files(const char *marker, const struct pfl_swap_file *files, size_t n, struct pfl_err *err)
{
    PFL_ASSERT(n <= PFL_SWAP_FILES_MAX);
    int lock = lock_folder(marker, err);
    if (lock < 0)
        return err ? err->rc : PFL_IO;
    enum pfl_rc rc = swap_locked(marker, files, n, err);
    (void)close(lock);
    return rc;
}
