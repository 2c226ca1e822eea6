/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whole reads with a limit, atomic writes with a mode, private-file checks. */
#ifndef PFL_BASE_FS_H
#define PFL_BASE_FS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"

/** Reads a regular file whole, at most `limit` bytes (TOO_BIG past it). *ret_blob is owned by the caller; one NUL byte follows
 *  the content (not counted in len). Messages start with the path. */
enum pfl_rc pfl_fs_read(const char *path, size_t limit, struct pfl_blob **ret_blob, struct pfl_err *err) PFL_WARN_UNUSED;

/** Temporary file beside it, mode, write, fsync, rename, fsync of the folder. After an error the old file is as it was. */
enum pfl_rc pfl_fs_write_atomic(const char *path, struct pfl_bytes content, mode_t mode, struct pfl_err *err) PFL_WARN_UNUSED;

/** The same for content in parts, written in order. */
enum pfl_rc pfl_fs_write_atomic_parts(const char *path, const struct pfl_bytes *parts, size_t n, mode_t mode,
                                      struct pfl_err *err) PFL_WARN_UNUSED;

/** As write_atomic, but refuses (EXISTS) where the path exists. */
enum pfl_rc pfl_fs_write_new(const char *path, struct pfl_bytes content, mode_t mode, struct pfl_err *err) PFL_WARN_UNUSED;

/** Like mkdir -p; an existing folder is fine and keeps its mode. */
enum pfl_rc pfl_fs_mkdirs(const char *path, mode_t mode, struct pfl_err *err) PFL_WARN_UNUSED;

bool pfl_fs_exists(const char *path);

/** AUTH where the file's mode gives anything to group or others, or where it belongs to neither us nor root.
 *  The message names path, mode and the chmod to run. */
enum pfl_rc pfl_fs_check_private(const char *path, struct pfl_err *err) PFL_WARN_UNUSED;

/** "dir/name", owned by the caller. An absolute name is taken as it is. */
char *pfl_fs_join(const char *dir, const char *name);
/** The folder part of a path ("." where none). Owned by the caller. */
char *pfl_fs_dirname(const char *path);

#endif
