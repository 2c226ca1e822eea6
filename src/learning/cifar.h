/* SPDX-License-Identifier: Apache-2.0 */
/* CIFAR-10 in its binary version: records of 3,073 bytes, a label and the red, green and blue planes of a 32x32 image.
 * Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; cifar-10-binary.tar.gz of its home page. */
#ifndef PFL_LEARNING_CIFAR_H
#define PFL_LEARNING_CIFAR_H

#include "learning/dataset.h"

enum { PFL_CIFAR_SIDE = 32, PFL_CIFAR_CLASSES = 10, PFL_CIFAR_RECORD = 1 + 3 * PFL_CIFAR_SIDE * PFL_CIFAR_SIDE };

/** The records of whole files, one behind the other, into a data set. MALFORMED: a size that is no number of records, or a label
 * that is out of range; the message says which record. */
enum pfl_rc pfl_cifar_decode(const struct pfl_bytes *files, size_t n_files, struct pfl_dataset **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;

/** data_batch_1.bin to data_batch_5.bin (those that are there, at least the first), or test_batch.bin, of `folder` or of the folder
 *  cifar-10-batches-bin in it. NOT_FOUND says what is missing and where it comes from. */
enum pfl_rc pfl_cifar_load(const char *folder, enum pfl_dataset_split split, struct pfl_dataset **ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;

#endif
