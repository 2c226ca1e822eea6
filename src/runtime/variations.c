/* SPDX-License-Identifier: Apache-2.0 */
/* Combinations, and what their runs left behind. */
#include "runtime/variations.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/fs.h"
#include "base/mem.h"
#include "config/experiment.h"
#include "config/yaml_edit.h"
#include "runtime/examples.h"

enum { RESULT_MAX = 256 << 20 };

static const char seed_path[] = "experiment.seed";

/* ---- what varies ---- */

static enum pfl_rc unknown(const char *name, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs names = {0};
    for (const struct pfl_example *e = pfl_examples; e->name; e++)
        pfl_strs_add(&names, e->name);
    const char *near = pfl_nearest(name, (const char *const *)names.items, names.n);
    return pfl_err_set(err, PFL_NOT_FOUND, "'%s' is neither a file nor an example%s%s%s", pfl_q(name),
                       near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

/* The variations' files lie elsewhere than the experiment: paths that are relative to it become absolute. */
static enum pfl_rc resolve(struct pfl_yaml_doc *doc, const char *file, struct pfl_err *err)
{
    static const char *const keys[] = {"path", "test_path"};
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(file);
    PFL_AUTO(pfl_freep) char *full = realpath(dir, NULL);
    struct pfl_yaml *data = pfl_yaml_get(pfl_yaml_get(doc->root, "experiment"), "dataset");
    for (size_t i = 0; full && data && data->kind == PFL_YAML_MAP && i < PFL_ARRAY_LEN(keys); i++) {
        const struct pfl_yaml *y = pfl_yaml_get(data, keys[i]);
        if (!y || y->kind != PFL_YAML_SCALAR || y->text[0] == '/' || strpbrk(y->text, "\"\\"))
            continue;
        PFL_AUTO(pfl_freep) char *beside = pfl_fs_join(full, y->text);
        PFL_AUTO(pfl_freep) char *path = pfl_xasprintf("experiment.dataset.%s", keys[i]);
        PFL_AUTO(pfl_freep) char *value = pfl_xasprintf("\"%s\"", beside);
        bool there = pfl_fs_exists(beside) || strstr(beside, "{node}");
        enum pfl_rc rc = there ? pfl_yaml_set(doc, path, value, err) : PFL_OK;
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}

enum pfl_rc pfl_variations_open(const char *experiment, struct pfl_variations *ret, struct pfl_err *err)
{
    struct pfl_variations v = {.title = pfl_xstrdup(experiment), .target = NAN};
    enum pfl_rc rc = PFL_OK;
    if (pfl_fs_exists(experiment)) {
        rc = pfl_yaml_load(experiment, &v.doc, err);
        if (rc == PFL_OK)
            rc = resolve(&v.doc, experiment, err);
    } else {
        const struct pfl_example *e = pfl_examples;
        while (e->name && !pfl_streq(e->name, experiment))
            e++;
        rc = e->name ? pfl_yaml_parse(e->name, e->text, strlen(e->text), &v.doc, err) : unknown(experiment, err);
    }
    if (rc != PFL_OK) {
        pfl_variations_deinit(&v);
        return rc;
    }
    *ret = v;
    return PFL_OK;
}

static void variation_deinit(struct pfl_variation *x)
{
    free(x->label);
    free(x->group);
    free(x->folder);
    free(x->text);
    free(x->curve);
}

void pfl_variations_deinit(struct pfl_variations *v)
{
    for (size_t i = 0; i < v->n_axes; i++) {
        free(v->axes[i].path);
        pfl_strs_deinit(&v->axes[i].values);
    }
    for (size_t i = 0; i < v->n; i++)
        variation_deinit(&v->items[i]);
    free(v->items);
    free(v->title);
    pfl_yaml_deinit(&v->doc);
    *v = (struct pfl_variations){0};
}

/* "1..5" into its numbers. False where it is no range. */
static bool take_range(const char *text, struct pfl_strs *values)
{
    const char *dots = strstr(text, "..");
    PFL_AUTO(pfl_freep) char *first = pfl_xstrndup(text, dots ? (size_t)(dots - text) : 0);
    int64_t a, b;
    if (!dots || !pfl_parse_i64(first, 0, INT32_MAX, &a) || !pfl_parse_i64(dots + 2, a, a + PFL_VARIATIONS_MAX, &b))
        return false;
    for (; a <= b; a++) {
        PFL_AUTO(pfl_freep) char *one = pfl_xasprintf("%lld", (long long)a);
        pfl_strs_add(values, one);
    }
    return true;
}

static bool take_values(const char *text, struct pfl_strs *values)
{
    int depth = 0;
    if (take_range(text, values))
        return true;
    for (const char *from = text, *p = text;; p++) {
        depth += (*p == '[' || *p == '{') - (*p == ']' || *p == '}');
        if (*p && (*p != ',' || depth > 0))
            continue;
        if (p == from)
            return false;
        pfl_strs_addn(values, from, (size_t)(p - from));
        if (!*p)
            return depth == 0;
        from = p + 1;
    }
}

enum pfl_rc pfl_variations_add(struct pfl_variations *v, const char *path, const char *values, struct pfl_err *err)
{
    struct pfl_axis a = {0};
    size_t i = 0;
    if (!take_values(values, &a.values)) {
        pfl_strs_deinit(&a.values);
        return pfl_err_set(err, PFL_INVALID, "'%s' is no list of values such as 1,2 or 1..5", pfl_q(values));
    }
    while (i < v->n_axes && strcmp(v->axes[i].path, path) != 0)
        i++;
    if (i == PFL_VARIATION_AXES_MAX) {
        pfl_strs_deinit(&a.values);
        return pfl_err_set(err, PFL_TOO_BIG, "more than %d things that vary", PFL_VARIATION_AXES_MAX);
    }
    if (i < v->n_axes) {
        free(v->axes[i].path);
        pfl_strs_deinit(&v->axes[i].values);
    } else {
        v->n_axes++;
    }
    a.path = pfl_xstrdup(path);
    v->axes[i] = a;
    return PFL_OK;
}

/* ---- combinations ---- */

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* A folder's name: what is no letter, digit or one of ._=- becomes -. */
static char *folder_of(const char *label)
{
    char *s = pfl_xstrdup(label);
    for (char *p = s; *p; p++)
        *p = *p == ' ' ? ',' : isalnum((unsigned char)*p) || strchr("._=-", *p) ? *p : '-';
    if (strlen(s) > 200)
        s[200] = '\0';
    return s;
}

static void append(char **text, const char *name, const char *value)
{
    char *longer = pfl_xasprintf("%s%s%s=%s", *text, (*text)[0] ? " " : "", name, value);
    free(*text);
    *text = longer;
}

/* Changes the document to combination number k; the labels say how. */
static enum pfl_rc apply(struct pfl_variations *v, size_t k, struct pfl_variation *x, struct pfl_err *err)
{
    x->label = pfl_xstrdup("");
    x->group = pfl_xstrdup("");
    for (size_t i = 0; i < v->n_axes; i++) {
        const struct pfl_axis *a = &v->axes[i];
        const char *value = a->values.items[k % a->values.n];
        k /= a->values.n;
        enum pfl_rc rc = pfl_yaml_set(&v->doc, a->path, value, err);
        if (rc != PFL_OK)
            return rc;
        if (a->values.n == 1)
            continue; /* does not tell one from another */
        append(&x->label, last_part(a->path), value);
        if (!pfl_streq(a->path, seed_path))
            append(&x->group, last_part(a->path), value);
    }
    if (!x->label[0])
        append(&x->label, "run", "1");
    return PFL_OK;
}

static enum pfl_rc make_one(struct pfl_variations *v, size_t k, struct pfl_variation *x, struct pfl_err *err)
{
    struct pfl_experiment_config c;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0};
    enum pfl_rc rc = apply(v, k, x, err);
    if (rc != PFL_OK)
        return rc;
    pfl_yaml_write(&v->doc, &text);
    x->text = pfl_xstrdup(pfl_buf_cstr(&text));
    x->folder = folder_of(x->label);
    rc = pfl_experiment_parse(x->label, x->text, strlen(x->text), &c, err);
    if (rc != PFL_OK)
        return rc;
    x->nodes = c.nodes;
    x->accuracy = x->worst = x->loss = x->reached = NAN;
    pfl_experiment_deinit(&c);
    return PFL_OK;
}

enum pfl_rc pfl_variations_make(struct pfl_variations *v, struct pfl_err *err)
{
    size_t n = 1;
    for (size_t i = 0; i < v->n_axes; i++) {
        n *= v->axes[i].values.n;
        if (n > PFL_VARIATIONS_MAX)
            return pfl_err_set(err, PFL_TOO_BIG, "more than %d combinations", PFL_VARIATIONS_MAX);
    }
    v->items = pfl_xcalloc(n, sizeof(*v->items));
    v->n = n;
    for (size_t k = 0; k < n; k++) {
        enum pfl_rc rc = make_one(v, k, &v->items[k], err);
        if (rc != PFL_OK)
            return rc;
        for (size_t j = 0; j < k; j++) {
            if (pfl_streq(v->items[j].folder, v->items[k].folder))
                return pfl_err_set(err, PFL_INVALID, "'%s' and '%s' would have one folder", pfl_q(v->items[j].label),
                                   pfl_q(v->items[k].label));
        }
    }
    return PFL_OK;
}

/* ---- results ---- */

static double number_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void read_nodes(struct pfl_variation *x, const json_t *nodes)
{
    double accuracy = 0.0, loss = 0.0, worst = NAN;
    size_t i, n = 0;
    const json_t *node;
    json_array_foreach (nodes, i, node) {
        double a = number_of(node, "accuracy"), l = number_of(node, "loss");
        if (isnan(a))
            continue;
        accuracy += a;
        loss += l;
        worst = isnan(worst) || a < worst ? a : worst;
        n++;
    }
    x->accuracy = n ? accuracy / (double)n : NAN;
    x->loss = n ? loss / (double)n : NAN;
    x->worst = worst;
}

/* One line of metrics.jsonl into sums and counts per round. */
static void add_point(const json_t *o, double *sum, size_t *count, size_t n)
{
    double a = number_of(o, "test_accuracy");
    json_int_t round = json_integer_value(json_object_get(o, "round"));
    if (isnan(a) || round < 0 || (size_t)round >= n)
        return;
    sum[round] += a;
    count[round]++;
}

static void read_curve(struct pfl_variation *x, const char *dir, double target)
{
    struct pfl_blob *blob = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "metrics.jsonl");
    if (x->rounds > 100000 || pfl_fs_read(path, RESULT_MAX, &blob, NULL) != PFL_OK)
        return;
    x->n_curve = (size_t)x->rounds + 1;
    free(x->curve);
    x->curve = pfl_xcalloc(x->n_curve, sizeof(*x->curve));
    PFL_AUTO(pfl_freep) size_t *count = pfl_xcalloc(x->n_curve, sizeof(*count));
    const char *at = (const char *)blob->data, *end = at + blob->len;
    for (const char *nl; at < end && (nl = memchr(at, '\n', (size_t)(end - at))); at = nl + 1) {
        json_t *o = json_loadb(at, (size_t)(nl - at), 0, NULL);
        add_point(o, x->curve, count, x->n_curve);
        json_decref(o);
    }
    for (size_t i = 0; i < x->n_curve; i++) {
        x->curve[i] = count[i] ? x->curve[i] / (double)count[i] : NAN;
        if (isnan(x->reached) && x->curve[i] >= target)
            x->reached = (double)i;
    }
    pfl_blob_unref(blob);
}

bool pfl_variation_read(struct pfl_variation *x, const char *dir, double target)
{
    struct pfl_blob *blob = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "summary.json");
    if (pfl_fs_read(path, RESULT_MAX, &blob, NULL) != PFL_OK)
        return false;
    json_t *o = json_loadb((const char *)blob->data, blob->len, 0, NULL);
    pfl_blob_unref(blob);
    if (!json_is_object(o)) {
        json_decref(o);
        return false;
    }
    json_int_t rounds = json_integer_value(json_object_get(o, "rounds"));
    x->done = true;
    x->finished = json_is_true(json_object_get(o, "finished"));
    x->rounds = rounds > 0 && rounds <= 1000000 ? (unsigned)rounds : 0;
    x->wall_s = number_of(o, "wall_s");
    x->bytes_sent = number_of(o, "bytes_sent");
    read_nodes(x, json_object_get(o, "nodes"));
    json_decref(o);
    read_curve(x, dir, target);
    return true;
}
