/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets from IDX files. A file that is missing or damaged is an error that says where it comes from; there is no
 * downloading here and no made-up data in its place. */
#include "learning/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "learning/idx.h"

static const struct source {
    const char *name, *folder, *bring;
} sources[] = {
    {"fashion-mnist", "/usr/share/datasets/fashion-mnist", "apt-get install dataset-fashion-mnist"},
    {"mnist", "data/mnist", "make mnist"},
};
static const char *const image_files[] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"};
static const char *const label_files[] = {"train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"};

/* Takes both blobs' references on success. */
static struct pfl_dataset *dataset_of(struct pfl_blob **images, struct pfl_blob **labels, size_t n, size_t n_features,
                                      unsigned n_classes)
{
    struct pfl_dataset *d = pfl_xcalloc(1, sizeof(*d));
    atomic_init(&d->refs, 1);
    d->n = n;
    d->n_features = n_features;
    d->n_classes = n_classes;
    d->blob = pfl_steal(images);
    d->blob_labels = pfl_steal(labels);
    d->images = d->blob->data;
    d->labels = d->blob_labels->data;
    return d;
}

static enum pfl_rc blobs_new(size_t n, size_t n_features, unsigned n_classes, struct pfl_blob **images, struct pfl_blob **labels,
                             struct pfl_err *err)
{
    size_t bytes;
    if (n == 0 || n_features == 0 || n_classes == 0)
        return pfl_err_set(err, PFL_INVALID, "a data set of %zu samples, %zu features, %u classes", n, n_features, n_classes);
    if (!pfl_size_mul(n, n_features, &bytes))
        return pfl_err_set(err, PFL_TOO_BIG, "a data set of %zu samples of %zu bytes", n, n_features);
    *images = pfl_blob_new(bytes);
    *labels = pfl_blob_new(n);
    if (!*images || !*labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a data set of %zu bytes", bytes);
    return PFL_OK;
}

enum pfl_rc pfl_dataset_new(const uint8_t *images, const uint8_t *labels, size_t n, size_t n_features, unsigned n_classes,
                            struct pfl_dataset **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *i_blob = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *l_blob = NULL;
    for (size_t i = 0; i < n; i++) {
        if (labels[i] >= n_classes)
            return pfl_err_set(err, PFL_INVALID, "label %zu is %u, there are %u classes", i, labels[i], n_classes);
    }
    enum pfl_rc rc = blobs_new(n, n_features, n_classes, &i_blob, &l_blob, err);
    if (rc != PFL_OK)
        return rc;
    memcpy(i_blob->data, images, n * n_features);
    memcpy(l_blob->data, labels, n);
    *ret = dataset_of(&i_blob, &l_blob, n, n_features, n_classes);
    return PFL_OK;
}

enum pfl_rc pfl_dataset_pick(const struct pfl_dataset *from, const uint32_t *picks, size_t n_picks, struct pfl_dataset **ret,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *images = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *labels = NULL;
    enum pfl_rc rc = blobs_new(n_picks, from->n_features, from->n_classes, &images, &labels, err);
    if (rc != PFL_OK)
        return rc;
    for (size_t i = 0; i < n_picks; i++) {
        PFL_ASSERT(picks[i] < from->n);
        memcpy(images->data + i * from->n_features, from->images + picks[i] * from->n_features, from->n_features);
        labels->data[i] = from->labels[picks[i]];
    }
    *ret = dataset_of(&images, &labels, n_picks, from->n_features, from->n_classes);
    return PFL_OK;
}

/* folder/file or folder/file.gz, whichever is there. */
static enum pfl_rc load_file(const char *folder, const char *file, unsigned rank, const char *bring, struct pfl_idx *ret,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *plain = pfl_fs_join(folder, file);
    PFL_AUTO(pfl_freep) char *packed = pfl_xasprintf("%s.gz", plain);
    if (pfl_fs_exists(plain))
        return pfl_idx_load(plain, rank, ret, err);
    if (pfl_fs_exists(packed))
        return pfl_idx_load(packed, rank, ret, err);
    return pfl_err_set(err, PFL_NOT_FOUND, "%s: not there, nor with .gz; `%s` brings it", plain, bring);
}

static enum pfl_rc check_pair(const struct pfl_idx *images, const struct pfl_idx *labels, struct pfl_err *err)
{
    if (images->dims[1] != PFL_DATASET_SIDE || images->dims[2] != PFL_DATASET_SIDE)
        return pfl_err_set(err, PFL_MALFORMED, "images of %u x %u, %d x %d are expected", images->dims[1], images->dims[2],
                           PFL_DATASET_SIDE, PFL_DATASET_SIDE);
    if (images->dims[0] != labels->dims[0])
        return pfl_err_set(err, PFL_MALFORMED, "%u images but %u labels", images->dims[0], labels->dims[0]);
    for (size_t i = 0; i < labels->values.len; i++) {
        if (labels->values.data[i] >= PFL_DATASET_CLASSES)
            return pfl_err_set(err, PFL_MALFORMED, "label %zu is %u, there are %d classes", i, labels->values.data[i],
                               PFL_DATASET_CLASSES);
    }
    return PFL_OK;
}

static enum pfl_rc load_from(const char *folder, const char *bring, enum pfl_dataset_split split, struct pfl_dataset **ret,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_idx_deinit) struct pfl_idx labels = {0};
    PFL_AUTO(pfl_idx_deinit) struct pfl_idx images = {0};
    enum pfl_rc rc = load_file(folder, label_files[split], 1, bring, &labels, err);
    if (rc == PFL_OK)
        rc = load_file(folder, image_files[split], 3, bring, &images, err);
    if (rc != PFL_OK)
        return rc;
    if (check_pair(&images, &labels, err) != PFL_OK)
        return pfl_err_wrap(err, "%s/%s", folder, image_files[split]);
    struct pfl_dataset *d =
        dataset_of(&images.blob, &labels.blob, images.dims[0], PFL_DATASET_SIDE * PFL_DATASET_SIDE, PFL_DATASET_CLASSES);
    d->images = images.values.data; /* a plain file's blob starts with its head */
    d->labels = labels.values.data;
    *ret = d;
    return PFL_OK;
}

enum pfl_rc pfl_dataset_load(const char *name, const char *folder, enum pfl_dataset_split split, struct pfl_dataset **ret,
                             struct pfl_err *err)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(sources); i++) {
        if (!pfl_streq(name, sources[i].name))
            continue;
        if (load_from(folder ? folder : sources[i].folder, sources[i].bring, split, ret, err) != PFL_OK)
            return pfl_err_wrap(err, "data set '%s'", name);
        return PFL_OK;
    }
    return pfl_err_set(err, PFL_INVALID, "unknown data set '%s'; there are fashion-mnist and mnist", pfl_q(name));
}

struct pfl_dataset *pfl_dataset_ref(struct pfl_dataset *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void pfl_dataset_unref(struct pfl_dataset *d)
{
    if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1)
        return;
    pfl_blob_unref(d->blob);
    pfl_blob_unref(d->blob_labels);
    free(d);
}
