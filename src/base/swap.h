/* SPDX-License-Identifier: Apache-2.0 */
/* Several files replaced as one: a key and its certificate, in whatever folders they lie. All new contents are written beside the
 * files and synced; a marker that lists them is put in place atomically: from there on the change holds; then each is renamed and
 * the marker goes. A process that is killed on the way leaves either no marker (nothing happened) or one that pfl_swap_recover
 * completes. A reader that comes between two renames sees a pair that does not match and looks again.
 *
 * The folder of the marker is locked meanwhile (flock), so two processes never swap at once. */
#ifndef PFL_BASE_SWAP_H
#define PFL_BASE_SWAP_H

#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"

enum { PFL_SWAP_FILES_MAX = 16 };

struct pfl_swap_file {
    const char *path;
    struct pfl_bytes content;
    mode_t mode;
};
/** n files, at most PFL_SWAP_FILES_MAX. On an error before the marker nothing has changed and nothing is left behind; on one behind
 * it (IO) the message says that the next start completes it. STATE where another process is at it. */
enum pfl_rc pfl_swap_files(const char *marker, const struct pfl_swap_file *files, size_t n, struct pfl_err *err) PFL_WARN_UNUSED;
/** Completes a swap that was cut off, if there is one. Leftovers of one that never held are removed for the given paths. */
enum pfl_rc pfl_swap_recover(const char *marker, const char *const *paths, size_t n, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
