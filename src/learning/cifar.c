/* SPDX-License-Identifier: Apache-2.0 */
/* The files come from outside: sizes are checked before anything is allocated. */
#include "learning/cifar.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

enum { BATCHES = 5, FILE_MAX = 64 << 20 }; /* a batch of the original has 30,730,000 bytes */

static enum pfl_rc count_records(const struct pfl_bytes *files, size_t n_files, size_t *ret, struct pfl_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < n_files; i++) {
        if (files[i].len == 0 || files[i].len % PFL_CIFAR_RECORD != 0)
            return pfl_err_set(err, PFL_MALFORMED,
                               "file %zu of %zu bytes: a CIFAR-10 file is a whole number of records of %d bytes", i + 1,
                               files[i].len, PFL_CIFAR_RECORD);
        n += files[i].len / PFL_CIFAR_RECORD;
    }
    *ret = n;
    return n ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "no CIFAR-10 records");
}

enum pfl_rc pfl_cifar_decode(const struct pfl_bytes *files, size_t n_files, struct pfl_dataset **ret, struct pfl_err *err)
{
    enum { PIXELS = PFL_CIFAR_RECORD - 1 };
    size_t n = 0, at = 0;
    enum pfl_rc rc = count_records(files, n_files, &n, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) uint8_t *images = pfl_try_malloc(n * PIXELS);
    PFL_AUTO(pfl_freep) uint8_t *labels = pfl_try_malloc(n);
    if (!images || !labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu images", n);
    for (size_t i = 0; i < n_files; i++) {
        struct pfl_reader r = pfl_reader_of(files[i]);
        for (; pfl_reader_left(&r) > 0; at++) {
            labels[at] = pfl_reader_u8(&r);
            struct pfl_bytes image = pfl_reader_bytes(&r, PIXELS);
            if (labels[at] >= PFL_CIFAR_CLASSES)
                return pfl_err_set(err, PFL_MALFORMED, "record %zu has label %u, there are %d classes", at, labels[at],
                                   PFL_CIFAR_CLASSES);
            memcpy(images + at * PIXELS, image.data, PIXELS);
        }
    }
    const struct pfl_dataset_source from = {
        .images = images, .labels = labels, .n = n, .shape = {3, PFL_CIFAR_SIDE, PFL_CIFAR_SIDE}, .n_classes = PFL_CIFAR_CLASSES};
    return pfl_dataset_make(&from, ret, err);
}

static enum pfl_rc not_there(const char *path, struct pfl_err *err)
{
    return pfl_err_set(
        err, PFL_NOT_FOUND,
        "%s: not there. This program brings no CIFAR-10: unpack the binary version (cifar-10-binary.tar.gz, 163 MB, from the "
        "home page of CIFAR-10) and name its folder, with --data DIR or experiment.dataset.path",
        path);
}

static void blobs_unref(struct pfl_blob *blobs[static BATCHES])
{
    for (unsigned i = 0; i < BATCHES; i++)
        pfl_blob_unref(blobs[i]);
}

static enum pfl_rc load_files(const char *dir, enum pfl_dataset_split split, struct pfl_dataset **ret, struct pfl_err *err)
{
    struct pfl_blob *blobs[BATCHES] = {0};
    struct pfl_bytes views[BATCHES];
    unsigned n = 0;
    enum pfl_rc rc = PFL_OK;
    for (unsigned i = 0; rc == PFL_OK && i < (split == PFL_DATASET_TEST ? 1 : BATCHES); i++) {
        PFL_AUTO(pfl_freep)
        char *path =
            split == PFL_DATASET_TEST ? pfl_fs_join(dir, "test_batch.bin") : pfl_xasprintf("%s/data_batch_%u.bin", dir, i + 1);
        if (!pfl_fs_exists(path)) {
            rc = i == 0 ? not_there(path, err) : PFL_OK;
            break;
        }
        rc = pfl_fs_read(path, FILE_MAX, &blobs[n], err);
        if (rc == PFL_OK) {
            views[n] = pfl_bytes_of(blobs[n]->data, blobs[n]->len);
            n++;
        }
    }
    if (rc == PFL_OK && pfl_cifar_decode(views, n, ret, err) != PFL_OK)
        rc = pfl_err_wrap(err, "%s", dir);
    blobs_unref(blobs);
    return rc;
}

enum pfl_rc pfl_cifar_load(const char *folder, enum pfl_dataset_split split, struct pfl_dataset **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *inner = pfl_fs_join(folder, "cifar-10-batches-bin");
    return load_files(pfl_fs_exists(inner) ? inner : folder, split, ret, err);
}
