/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets from IDX files. A file that is missing or damaged is an error that says where it comes from; there is no
 * downloading here and no made-up data in its place. */
#include "learning/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "learning/cifar.h"
#include "learning/idx.h"

static const struct source {
    const char *name, *folder, *bring;
} sources[] = {
    {"fashion-mnist", "/usr/share/datasets/fashion-mnist", "apt-get install dataset-fashion-mnist"},
    {"mnist", "data/mnist", "make mnist"},
};
static const char *const image_files[] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"};
static const char *const label_files[] = {"train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"};

static void copy_norm(struct pfl_dataset *d, const float *mean, const float *scale)
{
    size_t n = d->shape.channels;
    free(d->mean);
    free(d->scale);
    d->mean = pfl_xcalloc(n, sizeof(*mean));
    d->scale = pfl_xcalloc(n, sizeof(*scale));
    memcpy(d->mean, mean, n * sizeof(*mean));
    memcpy(d->scale, scale, n * sizeof(*scale));
}

/* Takes both blobs' references. */
static struct pfl_dataset *dataset_of(struct pfl_blob **data, struct pfl_blob **labels, size_t n, struct pfl_shape3 shape,
                                      unsigned n_classes, bool numbers)
{
    struct pfl_dataset *d = pfl_xcalloc(1, sizeof(*d));
    atomic_init(&d->refs, 1);
    d->n = n;
    d->shape = shape;
    d->n_features = pfl_shape3_size(shape);
    d->n_classes = n_classes;
    d->blob = pfl_steal(data);
    d->blob_labels = pfl_steal(labels);
    d->images = numbers ? NULL : d->blob->data;
    d->values = numbers ? (const float *)(const void *)d->blob->data : NULL;
    d->labels = d->blob_labels->data;
    return d;
}

static enum pfl_rc blobs_new(size_t n, size_t n_features, size_t value_bytes, unsigned n_classes, struct pfl_blob **data,
                             struct pfl_blob **labels, struct pfl_err *err)
{
    size_t bytes;
    if (n == 0 || n_features == 0 || n_classes == 0)
        return pfl_err_set(err, PFL_INVALID, "a data set of %zu samples, %zu features, %u classes", n, n_features, n_classes);
    if (!pfl_size_mul(n, n_features, &bytes) || !pfl_size_mul(bytes, value_bytes, &bytes))
        return pfl_err_set(err, PFL_TOO_BIG, "a data set of %zu samples of %zu values", n, n_features);
    *data = pfl_blob_new(bytes);
    *labels = pfl_blob_new(n);
    if (!*data || !*labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a data set of %zu bytes", bytes);
    return PFL_OK;
}

static enum pfl_rc check_samples(const struct pfl_dataset_source *from, struct pfl_err *err)
{
    size_t n_features = pfl_shape3_size(from->shape);
    for (size_t i = 0; i < from->n; i++) {
        if (from->labels[i] >= from->n_classes)
            return pfl_err_set(err, PFL_INVALID, "label %zu is %u, there are %u classes", i, from->labels[i], from->n_classes);
        for (size_t k = 0; from->values && k < n_features; k++) {
            if (!isfinite(from->values[i * n_features + k]))
                return pfl_err_set(err, PFL_INVALID, "sample %zu: value %zu is not a finite number", i, k);
        }
    }
    return PFL_OK;
}

enum pfl_rc pfl_dataset_make(const struct pfl_dataset_source *from, struct pfl_dataset **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *data = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *labels = NULL;
    size_t value_bytes = from->values ? sizeof(float) : 1, n_features = pfl_shape3_size(from->shape);
    enum pfl_rc rc = check_samples(from, err);
    if (rc == PFL_OK)
        rc = blobs_new(from->n, n_features, value_bytes, from->n_classes, &data, &labels, err);
    if (rc != PFL_OK)
        return rc;
    memcpy(data->data, from->values ? (const void *)from->values : (const void *)from->images, from->n * n_features * value_bytes);
    memcpy(labels->data, from->labels, from->n);
    *ret = dataset_of(&data, &labels, from->n, from->shape, from->n_classes, from->values != NULL);
    return PFL_OK;
}

enum pfl_rc pfl_dataset_new(const uint8_t *images, const uint8_t *labels, size_t n, size_t n_features, unsigned n_classes,
                            struct pfl_dataset **ret, struct pfl_err *err)
{
    const struct pfl_dataset_source from = {
        .images = images, .labels = labels, .n = n, .shape = {n_features, 1, 1}, .n_classes = n_classes};
    return pfl_dataset_make(&from, ret, err);
}

enum pfl_rc pfl_dataset_pick(const struct pfl_dataset *from, const uint32_t *picks, size_t n_picks, struct pfl_dataset **ret,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *data = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *labels = NULL;
    size_t value_bytes = from->values ? sizeof(float) : 1, bytes = from->n_features * value_bytes;
    const uint8_t *in = from->values ? (const uint8_t *)from->values : from->images;
    enum pfl_rc rc = blobs_new(n_picks, from->n_features, value_bytes, from->n_classes, &data, &labels, err);
    if (rc != PFL_OK)
        return rc;
    for (size_t i = 0; i < n_picks; i++) {
        PFL_ASSERT(picks[i] < from->n);
        memcpy(data->data + i * bytes, in + picks[i] * bytes, bytes);
        labels->data[i] = from->labels[picks[i]];
    }
    struct pfl_dataset *d = dataset_of(&data, &labels, n_picks, from->shape, from->n_classes, from->values != NULL);
    if (from->mean)
        copy_norm(d, from->mean, from->scale);
    *ret = d;
    return PFL_OK;
}

/* ---- reading ---- */

static void read_one(const struct pfl_dataset *d, size_t i, float *restrict out)
{
    size_t n = d->n_features, pixels = d->shape.height * d->shape.width;
    if (d->values) {
        memcpy(out, d->values + i * n, n * sizeof(float));
    } else {
        const uint8_t *restrict in = d->images + i * n;
        for (size_t k = 0; k < n; k++)
            out[k] = (float)in[k] / 255.0f;
    }
    for (size_t c = 0; d->mean && c < d->shape.channels; c++) {
        for (size_t k = c * pixels; k < (c + 1) * pixels; k++)
            out[k] = (out[k] - d->mean[c]) * d->scale[c];
    }
}

void pfl_dataset_read(const struct pfl_dataset *d, const uint32_t *picks, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        read_one(d, picks[i], out + i * d->n_features);
}

void pfl_dataset_read_run(const struct pfl_dataset *d, size_t first, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        read_one(d, first + i, out + i * d->n_features);
}

enum pfl_rc pfl_dataset_normalise(struct pfl_dataset *d, const float *mean, const float *deviation, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) float *scale = pfl_xcalloc(d->shape.channels, sizeof(*scale));
    for (size_t c = 0; c < d->shape.channels; c++) {
        if (!(isfinite(mean[c]) && isfinite(deviation[c]) && deviation[c] > 0.0f))
            return pfl_err_set(err, PFL_INVALID, "channel %zu: mean %g, deviation %g; finite numbers and a deviation above 0", c,
                               (double)mean[c], (double)deviation[c]);
        scale[c] = 1.0f / deviation[c];
    }
    copy_norm(d, mean, scale);
    return PFL_OK;
}

void pfl_dataset_moments(const struct pfl_dataset *d, float *mean, float *deviation)
{
    size_t channels = d->shape.channels, pixels = d->shape.height * d->shape.width;
    PFL_AUTO(pfl_freep) double *sum = pfl_xcalloc(2 * channels, sizeof(*sum));
    PFL_AUTO(pfl_freep) float *x = pfl_xcalloc(d->n_features, sizeof(*x));
    for (int pass = 0; pass < 2; pass++) { /* the mean, then the squares around it */
        for (size_t i = 0; i < d->n; i++) {
            read_one(d, i, x);
            for (size_t k = 0; k < d->n_features; k++) {
                size_t c = k / pixels;
                double v = (double)x[k] - (pass ? (double)mean[c] : 0.0);
                sum[(size_t)pass * channels + c] += pass ? v * v : v;
            }
        }
        for (size_t c = 0; c < channels; c++) {
            double m = sum[(size_t)pass * channels + c] / ((double)d->n * (double)pixels);
            (pass ? deviation : mean)[c] = (float)(pass ? m > 0.0 ? sqrt(m) : 1.0 : m);
        }
    }
}

/* ---- the named sets ---- */

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
    const struct pfl_shape3 side = {1, PFL_DATASET_SIDE, PFL_DATASET_SIDE};
    struct pfl_dataset *d = dataset_of(&images.blob, &labels.blob, images.dims[0], side, PFL_DATASET_CLASSES, false);
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
    if (pfl_streq(name, "cifar10")) {
        if (pfl_cifar_load(folder ? folder : "data/cifar10", split, ret, err) != PFL_OK)
            return pfl_err_wrap(err, "data set '%s'", name);
        return PFL_OK;
    }
    return pfl_err_set(err, PFL_INVALID, "unknown data set '%s'; there are fashion-mnist, mnist and cifar10", pfl_q(name));
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
    free(d->mean);
    free(d->scale);
    free(d);
}
