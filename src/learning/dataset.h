/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets: samples with a class each. Images are held as the bytes they come in (a float copy would be four times as large) and
 * are read as value / 255; rows of numbers are held as float32. Refcounted, immutable once made. */
#ifndef PFL_LEARNING_DATASET_H
#define PFL_LEARNING_DATASET_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "learning/net.h"

enum {
    PFL_DATASET_SIDE = 28, /* of an image, for the named data sets */
    PFL_DATASET_CLASSES = 10,
};

struct pfl_dataset {
    atomic_uint refs;
    size_t n;                            /* samples, > 0 */
    size_t n_features;                   /* values of one sample */
    struct pfl_shape3 shape;             /* of an image; rows of numbers are n_features channels of 1 x 1 */
    unsigned n_classes;                  /* labels are below */
    const uint8_t *images;               /* (n, n_features) in blob, or NULL */
    const float *values;                 /* (n, n_features) in blob, where images is NULL */
    const uint8_t *labels;               /* (n), in blob_labels */
    struct pfl_blob *blob, *blob_labels; /* references */
    float *mean, *scale;                 /* owned, one per channel: read as (value - mean) * scale; NULL: as it is */
};
enum pfl_dataset_split { PFL_DATASET_TRAIN, PFL_DATASET_TEST };

/** Copies n images and labels; the images are rows of n_features bytes. INVALID: n, n_features or n_classes 0, a label out of
 * range. UNAVAILABLE: no memory. */
enum pfl_rc pfl_dataset_new(const uint8_t *images, const uint8_t *labels, size_t n, size_t n_features, unsigned n_classes,
                            struct pfl_dataset **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** As above, with the images' shape (images) or numbers instead (values): one of the two is NULL. INVALID also where a value is NaN
 * or infinite. */
struct pfl_dataset_source {
    const uint8_t *images;
    const float *values;
    const uint8_t *labels;
    size_t n;
    struct pfl_shape3 shape;
    unsigned n_classes;
};
enum pfl_rc pfl_dataset_make(const struct pfl_dataset_source *from, struct pfl_dataset **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** The samples picks[0..n), or n from number `first` on, as float32 into out (n, n_features), scaled. */
void pfl_dataset_read(const struct pfl_dataset *d, const uint32_t *picks, size_t n, float *out);
void pfl_dataset_read_run(const struct pfl_dataset *d, size_t first, size_t n, float *out);

/** Sets how d is scaled, one mean and deviation per channel, before it is shared. INVALID: a deviation that is not above 0. */
enum pfl_rc pfl_dataset_normalise(struct pfl_dataset *d, const float *mean, const float *deviation,
                                  struct pfl_err *err) PFL_WARN_UNUSED;
/** Mean and standard deviation of each channel over the whole set, in double; a channel that never changes gets deviation 1. */
void pfl_dataset_moments(const struct pfl_dataset *d, float *mean, float *deviation);

/** A copy of the samples picks[0..n_picks), each < from->n. INVALID where n_picks is 0. */
enum pfl_rc pfl_dataset_pick(const struct pfl_dataset *from, const uint32_t *picks, size_t n_picks, struct pfl_dataset **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;

/** Loads "fashion-mnist", "mnist" or "cifar10" (learning/cifar.h) from `folder`, or, where that is NULL, from where its package
 * puts it
 *  (/usr/share/datasets/fashion-mnist; data/mnist and data/cifar10 under the working folder). The four files have their usual names
 *  ("train-images-idx3-ubyte", ...), with ".gz" or without; without wins where both are there.
 *  NOT_FOUND names the file and the command that brings it; INVALID an unknown name; else as pfl_idx_load. */
enum pfl_rc pfl_dataset_load(const char *name, const char *folder, enum pfl_dataset_split split, struct pfl_dataset **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_dataset *pfl_dataset_ref(struct pfl_dataset *d);
void pfl_dataset_unref(struct pfl_dataset *d); /* accepts NULL */
PFL_DEFINE_FREEP(dataset, struct pfl_dataset, pfl_dataset_unref)

#endif
