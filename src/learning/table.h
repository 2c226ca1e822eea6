/* SPDX-License-Identifier: Apache-2.0 */
/* Samples as a table: rows of numbers with a label each, as they come out of a CSV, JSON lines or NumPy file, before classes have
 * numbers. From tables to data sets: pfl_table_datasets. */
#ifndef PFL_LEARNING_TABLE_H
#define PFL_LEARNING_TABLE_H

#include "base/str.h"
#include "learning/dataset.h"

enum {
    PFL_TABLE_CLASSES_MAX = 256, /* different labels */
    PFL_TABLE_COLUMNS_MAX = PFL_NET_WIDTH_MAX,
};
#define PFL_TABLE_FILE_MAX   ((size_t)1 << 30)
#define PFL_TABLE_VALUES_MAX ((size_t)1 << 28) /* numbers of one table */

struct pfl_table {
    size_t n, n_columns;     /* rows; features of a row */
    struct pfl_shape3 shape; /* of a row; {n_columns, 1, 1} where it is no image */
    float *values;           /* owned (n, n_columns), or NULL */
    uint8_t *bytes;          /* owned: images as bytes instead, read as value / 255 */
    uint16_t *labels;        /* owned, n: numbers into names */
    struct pfl_strs names;   /* different labels in the order of their first appearance */
    size_t cap;              /* rows that there is room for */
};
void pfl_table_deinit(struct pfl_table *t); /* for PFL_AUTO too; accepts a zeroed one */

/** A row of t->n_columns numbers and its label. TOO_BIG: too many rows, or too many different labels. */
enum pfl_rc pfl_table_add(struct pfl_table *t, const float *row, const char *label, struct pfl_err *err) PFL_WARN_UNUSED;

/** The number of a label, by name; a new one where there is room. TOO_BIG past PFL_TABLE_CLASSES_MAX. */
enum pfl_rc pfl_table_label(struct pfl_table *t, const char *label, uint16_t *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** Formats: "csv", "jsonl", "npy", "npz". label: the column with the labels (CSV, JSON lines: a name, or a number from 0; default:
 *  the last, or "label"), the array with them (.npz; default: y and its usual names), the file with them (.npy, beside the
 * features'; default: FILE with "labels" for "features", or "y" for "x"). Messages start with the path. */
enum pfl_rc pfl_table_load(const char *format, const char *path, const char *label, struct pfl_table *ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;
bool pfl_table_format(const char *name); /* is it one of them? */

/** Both tables into data sets with the same classes, whose names are `classes` where it is not empty. Else: where every label is a
 *  number below 256, that number; else the sorted names of both tables. INVALID: rows of different lengths, a label that is no
 * class. Takes nothing. */
enum pfl_rc pfl_table_datasets(const struct pfl_table *train, const struct pfl_table *test, const struct pfl_strs *classes,
                               struct pfl_dataset **ret_train, struct pfl_dataset **ret_test, struct pfl_err *err) PFL_WARN_UNUSED;

/** Moves a share of the rows, drawn by the seed, from t into a table of their own. INVALID where one of the two would be empty. */
enum pfl_rc pfl_table_split(struct pfl_table *t, double share, uint64_t seed, struct pfl_table *ret,
                            struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- the formats, for tests ---- */

/** Fields separated by commas, semicolons or tabs (whichever the first line has most of), quoted with "" where they must be; a
 * first line with a field that is no number is the heading, unless it is the label's. MALFORMED names line and column. */
enum pfl_rc pfl_csv_decode(struct pfl_bytes in, const char *label, struct pfl_table *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** One JSON object per line, or an array of objects. The label is a number or a text. The features are the numbers in "features",
 *  nested lists included, where it is there, else all other fields, which have to be numbers, in the first object's order. */
enum pfl_rc pfl_jsonl_decode(struct pfl_bytes in, const char *label, struct pfl_table *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** NumPy's .npy, version 1 to 3: bool, integers, float16, float32 and float64 of either byte order, C order. Source: NumPy
 * Enhancement Proposal 1. UNSUPPORTED: objects, texts, complex numbers, Fortran order. */
struct pfl_npy {
    unsigned rank;
    size_t shape[PFL_TENSOR_RANK_MAX];
    size_t n;  /* values */
    char kind; /* 'b', 'u', 'i', 'f' */
    unsigned bytes;
    bool swapped;          /* big-endian */
    struct pfl_bytes data; /* a view of the input */
};
enum pfl_rc pfl_npy_decode(struct pfl_bytes in, struct pfl_npy *ret, struct pfl_err *err) PFL_WARN_UNUSED;
double pfl_npy_value(const struct pfl_npy *x, size_t i);

/** Samples from an array of features, (n, ...), and one of labels, (n). Images are (n, height, width), (n, height, width, 1 to 4)
 * or (n, 1 to 4, height, width). */
enum pfl_rc pfl_npy_table(const struct pfl_npy *x, const struct pfl_npy *y, struct pfl_table *ret,
                          struct pfl_err *err) PFL_WARN_UNUSED;

/** An entry of a zip file (stored or deflated), unpacked: *ret owned. NOT_FOUND where no entry has one of the n names, with those
 * that there are. MALFORMED, TOO_BIG: more than `limit` bytes. Source: PKWARE's APPNOTE.TXT, without zip64. */
enum pfl_rc pfl_zip_entry(struct pfl_bytes in, const char *const *names, size_t n, size_t limit, struct pfl_blob **ret,
                          struct pfl_err *err) PFL_WARN_UNUSED;
/** The two arrays of a .npz. label: as for pfl_table_load. */
enum pfl_rc pfl_npz_decode(struct pfl_bytes in, const char *label, struct pfl_table *ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
