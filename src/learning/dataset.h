/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets of small grey images with a class each, held as the bytes they come in (a float copy would be four times as large).
 * Refcounted, immutable once made. */
#ifndef PFL_LEARNING_DATASET_H
#define PFL_LEARNING_DATASET_H

#include <stdatomic.h>

#include "base/bytes.h"

enum {
    PFL_DATASET_SIDE = 28, /* of an image, for the named data sets */
    PFL_DATASET_CLASSES = 10,
};

struct pfl_dataset {
    atomic_uint refs;
    size_t n;                            /* samples, > 0 */
    size_t n_features;                   /* bytes of one image */
    unsigned n_classes;                  /* labels are below */
    const uint8_t *images;               /* (n, n_features), in blob */
    const uint8_t *labels;               /* (n), in blob_labels */
    struct pfl_blob *blob, *blob_labels; /* references */
};
enum pfl_dataset_split { PFL_DATASET_TRAIN, PFL_DATASET_TEST };

/** Copies n images and labels. INVALID: n, n_features or n_classes 0, a label out of range. UNAVAILABLE: no memory. */
enum pfl_rc pfl_dataset_new(const uint8_t *images, const uint8_t *labels, size_t n, size_t n_features, unsigned n_classes,
                            struct pfl_dataset **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** A copy of the samples picks[0..n_picks), each < from->n. INVALID where n_picks is 0. */
enum pfl_rc pfl_dataset_pick(const struct pfl_dataset *from, const uint32_t *picks, size_t n_picks, struct pfl_dataset **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;

/** Loads "fashion-mnist" or "mnist" from `folder`, or, where that is NULL, from where its package puts it
 *  (/usr/share/datasets/fashion-mnist; data/mnist under the working folder). The four files have their usual names
 *  ("train-images-idx3-ubyte", ...), with ".gz" or without; without wins where both are there.
 *  NOT_FOUND names the file and the command that brings it; INVALID an unknown name; else as pfl_idx_load. */
enum pfl_rc pfl_dataset_load(const char *name, const char *folder, enum pfl_dataset_split split, struct pfl_dataset **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;

struct pfl_dataset *pfl_dataset_ref(struct pfl_dataset *d);
void pfl_dataset_unref(struct pfl_dataset *d); /* accepts NULL */
PFL_DEFINE_FREEP(dataset, struct pfl_dataset, pfl_dataset_unref)

#endif
