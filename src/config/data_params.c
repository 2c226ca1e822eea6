/* SPDX-License-Identifier: Apache-2.0 */
/* Where samples come from and how they are scaled: the same keys in experiments and in node files. */
#include <stdlib.h>
#include <strings.h>

#include "config/settings.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

static enum pfl_rc read_classes(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_strs *ret, struct pfl_err *err)
{
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(doc, map, "classes", &list, err));
    if (list)
        pfl_strs_deinit(ret);
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        if (y->kind != PFL_YAML_SCALAR || ret->n == 256 || !pfl_strs_add_once(ret, y->text))
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be at most 256 different names of classes");
    }
    return PFL_OK;
}

static enum pfl_rc read_numbers(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, double ret[4],
                                unsigned *ret_n, struct pfl_err *err)
{
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(doc, map, key, &list, err));
    if (list)
        *ret_n = 0;
    for (const struct pfl_yaml *y = list ? list->first : NULL; y; y = y->next) {
        if (y->kind != PFL_YAML_SCALAR || *ret_n == 4 || !pfl_parse_double(y->text, &ret[*ret_n]))
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be one number per channel of the images, at most 4");
        ++*ret_n;
    }
    return PFL_OK;
}

static enum pfl_rc read_scale(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_data_config *d, struct pfl_err *err)
{
    const struct pfl_yaml *y = pfl_yaml_get(map, "normalise");
    bool standard = y && y->kind == PFL_YAML_SCALAR && strcasecmp(y->text, "standard") == 0;
    if (y && !standard && (y->kind != PFL_YAML_SCALAR || strcasecmp(y->text, "none") != 0))
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be none or standard");
    d->standardise = y ? standard : d->standardise;
    TRY(read_numbers(doc, map, "mean", d->mean, &d->n_mean, err));
    TRY(read_numbers(doc, map, "std", d->deviation, &d->n_deviation, err));
    const struct pfl_yaml *at = pfl_yaml_get(map, d->n_mean ? "mean" : "std");
    if (at && d->n_mean != d->n_deviation)
        return pfl_yaml_fail(doc, at, PFL_INVALID, err, "'mean' has %u numbers, 'std' %u", d->n_mean, d->n_deviation);
    for (unsigned i = 0; i < d->n_deviation; i++) {
        if (!(d->deviation[i] > 0.0))
            return pfl_yaml_fail(doc, pfl_yaml_get(map, "std"), PFL_INVALID, err, "must be above 0");
    }
    return PFL_OK;
}

enum pfl_rc pfl_learner_config_read_data(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_data_config *d,
                                         struct pfl_err *err)
{
    TRY(pfl_yaml_str(doc, map, "test_path", &d->test_path, err));
    TRY(pfl_yaml_double(doc, map, "test_share", 0.0001, 0.9999, &d->test_share, err));
    TRY(pfl_yaml_str(doc, map, "label", &d->label, err));
    TRY(read_classes(doc, map, &d->classes, err));
    return read_scale(doc, map, d, err);
}

static void put_quoted(struct pfl_buf *out, const char *text)
{
    pfl_buf_append_str(out, "'");
    for (const char *p = text; *p; p++)
        pfl_buf_printf(out, "%s%c", *p == '\'' ? "'" : "", *p);
    pfl_buf_append_str(out, "'");
}

static void put_text(struct pfl_buf *out, const char *indent, const char *key, const char *text)
{
    if (!text)
        return;
    pfl_buf_printf(out, "%s%s: ", indent, key);
    put_quoted(out, text);
    pfl_buf_append_str(out, "\n");
}

static void put_numbers(struct pfl_buf *out, const char *indent, const char *key, const double *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        pfl_buf_printf(out, "%s%s%s%.17g%s", i ? "" : indent, i ? "" : key, i ? ", " : ": [", v[i], i + 1 == n ? "]\n" : "");
}

void pfl_learner_config_write_data(const struct pfl_data_config *d, const char *indent, struct pfl_buf *out)
{
    put_text(out, indent, "test_path", d->test_path);
    put_text(out, indent, "label", d->label);
    if (d->test_share != 0.2)
        pfl_buf_printf(out, "%stest_share: %.17g\n", indent, d->test_share);
    for (size_t i = 0; i < d->classes.n; i++) {
        pfl_buf_printf(out, "%s%s", i ? "" : indent, i ? ", " : "classes: [");
        put_quoted(out, d->classes.items[i]);
        pfl_buf_append_str(out, i + 1 == d->classes.n ? "]\n" : "");
    }
    if (d->standardise)
        pfl_buf_printf(out, "%snormalise: standard\n", indent);
    put_numbers(out, indent, "mean", d->mean, d->n_mean);
    put_numbers(out, indent, "std", d->deviation, d->n_deviation);
}

void pfl_data_config_deinit(struct pfl_data_config *d)
{
    free(d->test_path);
    free(d->label);
    pfl_strs_deinit(&d->classes);
    *d = (struct pfl_data_config){0};
}
