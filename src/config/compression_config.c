/* SPDX-License-Identifier: Apache-2.0 */
/* The block `compression:`, the same in experiments (P2PFL's names) and in node files: a map of techniques in the order in which
 * they are applied. */
#include <string.h>

#include "base/mem.h"
#include "config/settings.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

enum { KEYS_MAX = 7 };
enum { OF_NOISE, OF_NUMBERS, OF_TYPES, OF_BYTES };
static const struct technique {
    const char *name;
    int group;
    const char *keys[KEYS_MAX];
} techniques[] = {
    {"dp", OF_NOISE, {"clip_norm", "epsilon", "delta", "noise_type", "noise_multiplier", "budget", "stability_constant"}},
    {"topk", OF_NUMBERS, {"k", "error_feedback"}},
    {"low_rank", OF_NUMBERS, {"threshold"}},
    {"ptq", OF_TYPES, {"dtype", "scheme", "granularity", "channel_axis"}},
    {"zlib", OF_BYTES, {"level"}},
    {"lzma", OF_BYTES, {"preset", "level"}},
    {"zstd", OF_BYTES, {"level"}},
};
static const char *const types[] = {"float16", "bfloat16", "int8", "uint8", "int16"};

static size_t n_keys(const struct technique *t)
{
    size_t n = 0;
    while (n < KEYS_MAX && t->keys[n])
        n++;
    return n;
}

static const struct technique *technique_of(const char *name)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(techniques); i++) {
        if (pfl_streq(name, techniques[i].name))
            return &techniques[i];
    }
    return NULL;
}

/* The value of key as one of two words: *ret true for the second. */
static enum pfl_rc one_of(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, const char *no, const char *yes,
                          bool *ret, struct pfl_err *err)
{
    const struct pfl_yaml *y = pfl_yaml_get(map, key);
    if (!y)
        return PFL_OK;
    if (y->kind != PFL_YAML_SCALAR || !(pfl_streq(y->text, no) || pfl_streq(y->text, yes)))
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be %s or %s", no, yes);
    *ret = pfl_streq(y->text, yes);
    return PFL_OK;
}

static enum pfl_rc read_type(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char **ret, struct pfl_err *err)
{
    const struct pfl_yaml *y = pfl_yaml_get(map, "dtype");
    for (size_t i = 0; y && i < PFL_ARRAY_LEN(types); i++) {
        if (y->kind == PFL_YAML_SCALAR && pfl_streq(y->text, types[i])) {
            *ret = types[i];
            return PFL_OK;
        }
    }
    return y ? pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be float16, bfloat16, int8, uint8 or int16") : PFL_OK;
}

static enum pfl_rc read_dp(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_compression_config *c,
                           struct pfl_compression_step_config *s, struct pfl_err *err)
{
    TRY(pfl_yaml_double(doc, map, "clip_norm", 1e-9, 1e9, &s->clip_norm, err));
    TRY(pfl_yaml_double(doc, map, "epsilon", 1e-6, 1e6, &c->epsilon, err));
    TRY(pfl_yaml_double(doc, map, "delta", 1e-15, 0.5, &c->delta, err));
    TRY(pfl_yaml_double(doc, map, "noise_multiplier", 1e-6, 1e6, &s->noise_multiplier, err));
    TRY(pfl_yaml_double(doc, map, "budget", 1e-6, 1e9, &c->budget, err));
    return one_of(doc, map, "noise_type", "gaussian", "laplace", &s->laplace, err);
}

static enum pfl_rc read_step(const struct pfl_yaml_doc *doc, struct pfl_yaml *y, const struct technique *t,
                             struct pfl_compression_config *c, struct pfl_err *err)
{
    struct pfl_compression_step_config *s = &c->steps[c->n];
    int64_t axis = 0, level = -1;
    *s = (struct pfl_compression_step_config){.technique = t->name,
                                              .dtype = "float16",
                                              .k = 0.1,
                                              .threshold = 0.95,
                                              .clip_norm = 1.0,
                                              .error_feedback = true,
                                              .level = -1};
    bool empty = y->kind == PFL_YAML_SCALAR && y->text[0] == '\0';
    if (y->kind != PFL_YAML_MAP && !empty)
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be a map of parameters, such as {} or {%s: ...}", t->keys[0]);
    struct pfl_yaml *map = empty ? NULL : y;
    TRY(pfl_yaml_only(doc, map, t->keys, n_keys(t), err));
    TRY(pfl_yaml_double(doc, map, "k", 1e-9, 1.0, &s->k, err));
    TRY(pfl_yaml_bool(doc, map, "error_feedback", &s->error_feedback, err));
    TRY(pfl_yaml_double(doc, map, "threshold", 1e-9, 1.0, &s->threshold, err));
    TRY(read_type(doc, map, &s->dtype, err));
    TRY(one_of(doc, map, "scheme", "symmetric", "asymmetric", &s->asymmetric, err));
    TRY(one_of(doc, map, "granularity", "per_tensor", "per_channel", &s->per_channel, err));
    TRY(pfl_yaml_int(doc, map, "channel_axis", 0, 7, &axis, err));
    TRY(pfl_yaml_int(doc, map, "preset", 0, 9, &level, err));
    TRY(pfl_yaml_int(doc, map, "level", pfl_streq(t->name, "zstd") ? 1 : 0, pfl_streq(t->name, "zstd") ? 22 : 9, &level, err));
    if (pfl_streq(t->name, "dp"))
        TRY(read_dp(doc, map, c, s, err));
    s->channel_axis = (unsigned)axis;
    s->level = (int)level;
    return PFL_OK;
}

/* May t follow what is there? The rules are those of learning/compression.h; here the file and the line are known. */
static enum pfl_rc check_order(const struct pfl_yaml_doc *doc, const struct pfl_yaml *y, const struct pfl_compression_config *c,
                               const struct technique *t, struct pfl_err *err)
{
    const struct technique *before = c->n > 0 ? technique_of(c->steps[c->n - 1].technique) : NULL;
    if (before && t->group == OF_NOISE)
        return pfl_yaml_fail(doc, y, PFL_INVALID, err,
                             "must come first: noise protects what it is added to, not what was made before");
    if (before && before->group >= OF_TYPES && t->group <= before->group)
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "cannot come behind '%s', which leaves it nothing to work on", before->name);
    return PFL_OK;
}

enum pfl_rc pfl_learner_config_read_compression(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                                struct pfl_err *err)
{
    struct pfl_yaml *block = pfl_yaml_get(map, "compression");
    struct pfl_compression_config c = {.epsilon = 3.0, .delta = 1e-5};
    const char *names[PFL_ARRAY_LEN(techniques)];
    for (size_t i = 0; i < PFL_ARRAY_LEN(techniques); i++)
        names[i] = techniques[i].name;
    if (block && block->kind != PFL_YAML_MAP)
        return pfl_yaml_fail(doc, block, PFL_INVALID, err, "must be a map of techniques, such as {ptq: {dtype: int8}}");
    TRY(pfl_yaml_only(doc, block, names, PFL_ARRAY_LEN(names), err));
    for (struct pfl_yaml *y = block ? block->first : NULL; y; y = y->next) {
        const struct technique *t = NULL;
        for (size_t i = 0; !t && i < PFL_ARRAY_LEN(techniques); i++) {
            if (pfl_yaml_get(block, names[i]) == y)
                t = &techniques[i];
        }
        if (!t) /* unset: null or None stands for "with its defaults" here */
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be a map of parameters, such as {}");
        TRY(check_order(doc, y, &c, t, err));
        TRY(read_step(doc, y, t, &c, err));
        c.n++;
    }
    l->compression = c;
    return PFL_OK;
}

static void write_step(const struct pfl_compression_config *c, const struct pfl_compression_step_config *s, struct pfl_buf *out)
{
    if (pfl_streq(s->technique, "dp")) {
        pfl_buf_printf(out, "clip_norm: %.17g, epsilon: %.17g, delta: %.17g, noise_type: %s", s->clip_norm, c->epsilon, c->delta,
                       s->laplace ? "laplace" : "gaussian");
        if (s->noise_multiplier > 0.0)
            pfl_buf_printf(out, ", noise_multiplier: %.17g", s->noise_multiplier);
        if (c->budget > 0.0)
            pfl_buf_printf(out, ", budget: %.17g", c->budget);
    } else if (pfl_streq(s->technique, "topk")) {
        pfl_buf_printf(out, "k: %.17g, error_feedback: %s", s->k, s->error_feedback ? "true" : "false");
    } else if (pfl_streq(s->technique, "low_rank")) {
        pfl_buf_printf(out, "threshold: %.17g", s->threshold);
    } else if (pfl_streq(s->technique, "ptq")) {
        pfl_buf_printf(out, "dtype: %s, scheme: %s, granularity: %s, channel_axis: %u", s->dtype,
                       s->asymmetric ? "asymmetric" : "symmetric", s->per_channel ? "per_channel" : "per_tensor", s->channel_axis);
    } else if (s->level >= 0) {
        pfl_buf_printf(out, "level: %d", s->level);
    }
}

void pfl_learner_config_write_compression(const struct pfl_learner_config *l, const char *indent, struct pfl_buf *out)
{
    const struct pfl_compression_config *c = &l->compression;
    for (size_t i = 0; i < c->n; i++) {
        pfl_buf_printf(out, "%s%s%s: {", i ? ", " : indent, i ? "" : "compression: {", c->steps[i].technique);
        write_step(c, &c->steps[i], out);
        pfl_buf_append_str(out, "}");
    }
    if (c->n > 0)
        pfl_buf_append_str(out, "}\n");
}
