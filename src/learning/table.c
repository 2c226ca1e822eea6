/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and what becomes of them. Sizes come from files: they are checked before anything of that size is allocated. */
#include "learning/table.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"

void pfl_table_deinit(struct pfl_table *t)
{
    free(t->values);
    free(t->bytes);
    free(t->labels);
    pfl_strs_deinit(&t->names);
    *t = (struct pfl_table){0};
}

enum pfl_rc pfl_table_label(struct pfl_table *t, const char *label, uint16_t *ret, struct pfl_err *err)
{
    for (size_t i = 0; i < t->names.n; i++) {
        if (!pfl_streq(t->names.items[i], label))
            continue;
        *ret = (uint16_t)i;
        return PFL_OK;
    }
    if (t->names.n == PFL_TABLE_CLASSES_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "'%s' is the label number %d: at most %d different ones; is this the label's column?",
                           pfl_q(label), PFL_TABLE_CLASSES_MAX + 1, PFL_TABLE_CLASSES_MAX);
    *ret = (uint16_t)t->names.n;
    pfl_strs_add(&t->names, label);
    return PFL_OK;
}

static enum pfl_rc grow(struct pfl_table *t, struct pfl_err *err)
{
    size_t cap = t->cap ? 2 * t->cap : 64, most = PFL_TABLE_VALUES_MAX / t->n_columns;
    cap = cap < most ? cap : most;
    if (cap <= t->n)
        return pfl_err_set(err, PFL_TOO_BIG, "more than %zu rows of %zu numbers; the limit is %zu numbers", most, t->n_columns,
                           PFL_TABLE_VALUES_MAX);
    float *values = realloc(t->values, cap * t->n_columns * sizeof(*values));
    if (!values)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu rows of %zu numbers", cap, t->n_columns);
    t->values = values;
    uint16_t *labels = realloc(t->labels, cap * sizeof(*labels));
    if (!labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu labels", cap);
    t->labels = labels;
    t->cap = cap;
    return PFL_OK;
}

enum pfl_rc pfl_table_add(struct pfl_table *t, const float *row, const char *label, struct pfl_err *err)
{
    uint16_t number;
    enum pfl_rc rc = t->n == t->cap ? grow(t, err) : PFL_OK;
    if (rc == PFL_OK)
        rc = pfl_table_label(t, label, &number, err);
    if (rc != PFL_OK)
        return rc;
    memcpy(t->values + t->n * t->n_columns, row, t->n_columns * sizeof(*row));
    t->labels[t->n++] = number;
    return PFL_OK;
}

/* ---- classes ---- */

static bool all_numbers(const struct pfl_strs *names, int64_t *most)
{
    for (size_t i = 0; i < names->n; i++) {
        int64_t v;
        if (!pfl_parse_i64(names->items[i], 0, PFL_TABLE_CLASSES_MAX - 1, &v))
            return false;
        *most = v > *most ? v : *most;
    }
    return true;
}

/* The names of the classes in their order. Empty: labels are their own numbers, below *ret_n. */
static void find_classes(const struct pfl_table *train, const struct pfl_table *test, const struct pfl_strs *given,
                         struct pfl_strs *ret, size_t *ret_n)
{
    int64_t most = -1;
    if (given && given->n > 0) {
        pfl_strs_copy(ret, given);
    } else if (all_numbers(&train->names, &most) && all_numbers(&test->names, &most)) {
        *ret_n = (size_t)(most + 1);
        return;
    } else {
        for (size_t i = 0; i < train->names.n; i++)
            (void)pfl_strs_add_once(ret, train->names.items[i]);
        for (size_t i = 0; i < test->names.n; i++)
            (void)pfl_strs_add_once(ret, test->names.items[i]);
        pfl_strs_sort(ret);
    }
    *ret_n = ret->n;
}

static enum pfl_rc class_of(const char *label, const struct pfl_strs *classes, uint8_t *ret, struct pfl_err *err)
{
    int64_t v = -1;
    for (size_t i = 0; i < classes->n && v < 0; i++)
        v = pfl_streq(classes->items[i], label) ? (int64_t)i : -1;
    if (classes->n == 0 && !pfl_parse_i64(label, 0, PFL_TABLE_CLASSES_MAX - 1, &v))
        v = -1;
    if (v < 0)
        return pfl_err_set(err, PFL_INVALID, "the label '%s' is not one of the classes", pfl_q(label));
    *ret = (uint8_t)v;
    return PFL_OK;
}

static enum pfl_rc to_dataset(const struct pfl_table *t, const struct pfl_strs *classes, size_t n_classes, struct pfl_dataset **ret,
                              struct pfl_err *err)
{
    uint8_t map[PFL_TABLE_CLASSES_MAX] = {0};
    PFL_AUTO(pfl_freep) uint8_t *labels = pfl_try_malloc(t->n);
    if (!labels)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for %zu labels", t->n);
    for (size_t i = 0; i < t->names.n; i++) {
        enum pfl_rc rc = class_of(t->names.items[i], classes, &map[i], err);
        if (rc != PFL_OK)
            return rc;
    }
    for (size_t i = 0; i < t->n; i++)
        labels[i] = map[t->labels[i]];
    const struct pfl_dataset_source from = {
        .images = t->bytes, .values = t->values, .labels = labels, .n = t->n, .shape = t->shape, .n_classes = (unsigned)n_classes};
    return pfl_dataset_make(&from, ret, err);
}

enum pfl_rc pfl_table_datasets(const struct pfl_table *train, const struct pfl_table *test, const struct pfl_strs *classes,
                               struct pfl_dataset **ret_train, struct pfl_dataset **ret_test, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs names = {0};
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *first = NULL;
    size_t n_classes = 0;
    if (train->n_columns != test->n_columns || !train->bytes != !test->bytes)
        return pfl_err_set(err, PFL_INVALID, "training rows of %zu %s, test rows of %zu %s", train->n_columns,
                           train->bytes ? "bytes" : "numbers", test->n_columns, test->bytes ? "bytes" : "numbers");
    if (classes && classes->n > PFL_TABLE_CLASSES_MAX)
        return pfl_err_set(err, PFL_INVALID, "%zu classes, the limit is %d", classes->n, PFL_TABLE_CLASSES_MAX);
    find_classes(train, test, classes, &names, &n_classes);
    enum pfl_rc rc = to_dataset(train, &names, n_classes, &first, err);
    if (rc != PFL_OK)
        return rc;
    rc = to_dataset(test, &names, n_classes, ret_test, err);
    if (rc == PFL_OK)
        *ret_train = pfl_steal(&first);
    return rc;
}

/* ---- splitting ---- */

static void take_rows(struct pfl_table *to, const struct pfl_table *from, const uint32_t *rows, size_t n)
{
    *to = (struct pfl_table){.n = n, .cap = n, .n_columns = from->n_columns, .shape = from->shape};
    to->values = from->values ? pfl_xcalloc(n * from->n_columns, sizeof(float)) : NULL;
    to->bytes = from->bytes ? pfl_xcalloc(n, from->n_columns) : NULL;
    to->labels = pfl_xcalloc(n, sizeof(*to->labels));
    pfl_strs_copy(&to->names, &from->names);
    for (size_t i = 0; i < n; i++) {
        size_t row = rows[i] * from->n_columns;
        if (from->values)
            memcpy(to->values + i * from->n_columns, from->values + row, from->n_columns * sizeof(float));
        else
            memcpy(to->bytes + i * from->n_columns, from->bytes + row, from->n_columns);
        to->labels[i] = from->labels[rows[i]];
    }
}

enum pfl_rc pfl_table_split(struct pfl_table *t, double share, uint64_t seed, struct pfl_table *ret, struct pfl_err *err)
{
    size_t n = (size_t)((double)t->n * share);
    if (n == 0 || n >= t->n || t->n > UINT32_MAX)
        return pfl_err_set(err, PFL_INVALID, "a share of %g of %zu rows leaves nothing for training or for the test", share, t->n);
    PFL_AUTO(pfl_freep) uint32_t *order = pfl_xcalloc(t->n, sizeof(*order));
    struct pfl_rng rng;
    for (uint32_t i = 0; i < t->n; i++)
        order[i] = i;
    pfl_rng_seed_named(&rng, seed, "test split");
    pfl_rng_shuffle_u32(&rng, order, t->n);
    struct pfl_table rest;
    take_rows(ret, t, order, n);
    take_rows(&rest, t, order + n, t->n - n);
    pfl_table_deinit(t);
    *t = rest;
    return PFL_OK;
}

/* ---- files ---- */

bool pfl_table_format(const char *name)
{
    return pfl_streq(name, "csv") || pfl_streq(name, "jsonl") || pfl_streq(name, "npy") || pfl_streq(name, "npz");
}

/* "x_train.npy" -> "y_train.npy", "features.npy" -> "labels.npy"; NULL where the name says nothing. */
static char *labels_beside(const char *path)
{
    static const char *const pairs[][2] = {{"features", "labels"}, {"images", "labels"}, {"x", "y"}, {"X", "y"}};
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    for (size_t i = 0; i < PFL_ARRAY_LEN(pairs); i++) {
        const char *at = strstr(base, pairs[i][0]);
        if (at)
            return pfl_xasprintf("%.*s%s%s", (int)(at - path), path, pairs[i][1], at + strlen(pairs[i][0]));
    }
    return NULL;
}

static enum pfl_rc load_npy(const char *path, struct pfl_bytes features, const char *label, struct pfl_table *ret,
                            struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *file = NULL;
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(path);
    PFL_AUTO(pfl_freep) char *labels = label ? pfl_fs_join(dir, label) : labels_beside(path);
    struct pfl_npy x, y;
    if (!labels)
        return pfl_err_set(err, PFL_INVALID, "say with 'label' which .npy file has the labels");
    enum pfl_rc rc = pfl_npy_decode(features, &x, err);
    if (rc == PFL_OK)
        rc = pfl_fs_read(labels, PFL_TABLE_FILE_MAX, &file, err);
    if (rc == PFL_OK && pfl_npy_decode(pfl_bytes_of(file->data, file->len), &y, err) != PFL_OK)
        rc = pfl_err_wrap(err, "%s", labels);
    return rc == PFL_OK ? pfl_npy_table(&x, &y, ret, err) : rc;
}

enum pfl_rc pfl_table_load(const char *format, const char *path, const char *label, struct pfl_table *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *file = NULL;
    enum pfl_rc rc = pfl_fs_read(path, PFL_TABLE_FILE_MAX, &file, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_bytes in = pfl_bytes_of(file->data, file->len);
    if (pfl_streq(format, "csv"))
        rc = pfl_csv_decode(in, label, ret, err);
    else if (pfl_streq(format, "jsonl"))
        rc = pfl_jsonl_decode(in, label, ret, err);
    else if (pfl_streq(format, "npz"))
        rc = pfl_npz_decode(in, label, ret, err);
    else if (pfl_streq(format, "npy"))
        rc = load_npy(path, in, label, ret, err);
    else
        rc = pfl_err_set(err, PFL_INVALID, "'%s' is no format of data; there are csv, jsonl, npy and npz", pfl_q(format));
    return rc == PFL_OK ? PFL_OK : pfl_err_wrap(err, "%s", path);
}
