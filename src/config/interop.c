/* SPDX-License-Identifier: Apache-2.0 */
/* settings.general.interop and interop_compression. The map has the form of P2PFL's own `compression`: techniques by name, in the
 * order in which they are applied, each with its parameters. */
#include <string.h>
#include <strings.h>

#include "config/settings.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

/* One of names, as the static text; *ret stays where the key is not there. */
static enum pfl_rc choose(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, const char *key, const char *const *names, size_t n,
                          const char **ret, struct pfl_err *err)
{
    const struct pfl_yaml *y = pfl_yaml_get(m, key);
    if (!y)
        return PFL_OK;
    for (size_t i = 0; y->kind == PFL_YAML_SCALAR && i < n; i++) {
        if (pfl_streq(y->text, names[i])) {
            *ret = names[i];
            return PFL_OK;
        }
    }
    return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be one of %s, %s%s%s", names[0], names[1], n > 2 ? ", ..., " : "",
                         n > 2 ? names[n - 1] : "");
}

static enum pfl_rc read_topk(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_interop_technique *t,
                             struct pfl_err *err)
{
    static const char *const keys[] = {"k"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    return pfl_yaml_double(doc, m, "k", 1e-9, 1.0, &t->k, err);
}

static enum pfl_rc read_low_rank(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_interop_technique *t,
                                 struct pfl_err *err)
{
    static const char *const keys[] = {"threshold"};
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    return pfl_yaml_double(doc, m, "threshold", 1e-9, 1.0, &t->threshold, err);
}

static enum pfl_rc read_ptq(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_interop_technique *t,
                            struct pfl_err *err)
{
    static const char *const keys[] = {"dtype", "scheme", "granularity", "channel_axis"};
    static const char *const dtypes[] = {"int8", "uint8", "int16", "float16"};
    static const char *const schemes[] = {"symmetric", "asymmetric"};
    static const char *const granularities[] = {"per_tensor", "per_channel"};
    const char *scheme = schemes[0], *granularity = granularities[0];
    int64_t axis = 0;
    TRY(pfl_yaml_only(doc, m, keys, PFL_ARRAY_LEN(keys), err));
    TRY(choose(doc, m, "dtype", dtypes, PFL_ARRAY_LEN(dtypes), &t->dtype, err));
    TRY(choose(doc, m, "scheme", schemes, PFL_ARRAY_LEN(schemes), &scheme, err));
    TRY(choose(doc, m, "granularity", granularities, PFL_ARRAY_LEN(granularities), &granularity, err));
    TRY(pfl_yaml_int(doc, m, "channel_axis", 0, 7, &axis, err));
    t->asymmetric = scheme == schemes[1];
    t->per_channel = granularity == granularities[1];
    t->axis = (unsigned)axis;
    return PFL_OK;
}

static enum pfl_rc read_compressor(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, const char *name, const char *key,
                                   struct pfl_interop_compression *c, struct pfl_err *err)
{
    const char *const keys[] = {key};
    int64_t level = 6;
    TRY(pfl_yaml_only(doc, m, keys, 1, err));
    TRY(pfl_yaml_int(doc, m, key, 0, 9, &level, err));
    c->compressor = name;
    c->level = (int)level;
    return PFL_OK;
}

static enum pfl_rc read_one(const struct pfl_yaml_doc *doc, const struct pfl_yaml *entry, struct pfl_yaml *params,
                            struct pfl_interop_compression *c, struct pfl_err *err)
{
    static const struct {
        const char *name;
        enum pfl_rc (*read)(const struct pfl_yaml_doc *doc, struct pfl_yaml *m, struct pfl_interop_technique *t,
                            struct pfl_err *err);
    } techniques[PFL_INTEROP_TECHNIQUES] = {{"low_rank", read_low_rank}, {"topk", read_topk}, {"ptq", read_ptq}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(techniques); i++) {
        if (strcasecmp(entry->key, techniques[i].name) != 0)
            continue;
        if (c->n > 0 && pfl_streq(c->techniques[c->n - 1].name, "ptq"))
            return pfl_yaml_fail(doc, entry, PFL_INVALID, err, "stands behind ptq, which must be the last technique");
        struct pfl_interop_technique *t = &c->techniques[c->n++];
        *t = (struct pfl_interop_technique){.name = techniques[i].name, .k = 0.1, .threshold = 0.95, .dtype = "float16"};
        TRY(techniques[i].read(doc, params, t, err));
        if (pfl_streq(t->dtype, "uint8") && !t->asymmetric)
            return pfl_yaml_fail(doc, entry, PFL_INVALID, err, "uint8 has no negative values: scheme: asymmetric is needed");
        return PFL_OK;
    }
    if (c->compressor)
        return pfl_yaml_fail(doc, entry, PFL_INVALID, err, "one of zlib and lzma is enough");
    return strcasecmp(entry->key, "zlib") == 0 ? read_compressor(doc, params, "zlib", "level", c, err)
                                               : read_compressor(doc, params, "lzma", "preset", c, err);
}

enum pfl_rc pfl_interop_compression_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_interop_compression *ret,
                                         struct pfl_err *err)
{
    static const char *const names[] = {"low_rank", "topk", "ptq", "zlib", "lzma"};
    struct pfl_interop_compression c = {0};
    TRY(pfl_yaml_only(doc, map, names, PFL_ARRAY_LEN(names), err));
    for (const struct pfl_yaml *y = map ? map->first : NULL; y; y = y->next) {
        struct pfl_yaml *params = NULL;
        TRY(pfl_yaml_map(doc, map, y->key, &params, err)); /* empty: its defaults */
        TRY(read_one(doc, y, params, &c, err));
    }
    *ret = c;
    return PFL_OK;
}

void pfl_interop_compression_write(const struct pfl_interop_compression *c, const char *indent, struct pfl_buf *out)
{
    if (c->n == 0 && !c->compressor)
        return;
    pfl_buf_printf(out, "%sinterop_compression:\n", indent);
    for (size_t i = 0; i < c->n; i++) {
        const struct pfl_interop_technique *t = &c->techniques[i];
        if (pfl_streq(t->name, "topk"))
            pfl_buf_printf(out, "%s  topk: {k: %.17g}\n", indent, t->k);
        else if (pfl_streq(t->name, "low_rank"))
            pfl_buf_printf(out, "%s  low_rank: {threshold: %.17g}\n", indent, t->threshold);
        else
            pfl_buf_printf(out, "%s  ptq: {dtype: %s, scheme: %s, granularity: %s, channel_axis: %u}\n", indent, t->dtype,
                           t->asymmetric ? "asymmetric" : "symmetric", t->per_channel ? "per_channel" : "per_tensor", t->axis);
    }
    if (c->compressor)
        pfl_buf_printf(out, "%s  %s: {%s: %d}\n", indent, c->compressor, pfl_streq(c->compressor, "zlib") ? "level" : "preset",
                       c->level);
}
