/* SPDX-License-Identifier: Apache-2.0 */
/* Names, defaults and what may follow what. */
#include "learning/compression.h"

#include <math.h>
#include <stdlib.h>

#include "base/str.h"

static const char *const names[PFL_TECHNIQUES] = {"dp", "topk", "low_rank", "ptq", "zlib", "lzma", "zstd"};

const char *pfl_technique_name(enum pfl_technique t)
{
    return names[t];
}

bool pfl_technique_parse(const char *name, enum pfl_technique *ret)
{
    for (unsigned i = 0; i < PFL_TECHNIQUES; i++) {
        if (pfl_streq(name, names[i])) {
            *ret = (enum pfl_technique)i;
            return true;
        }
    }
    return false;
}

struct pfl_compression_step pfl_compression_step_default(enum pfl_technique t)
{
    return (struct pfl_compression_step){.technique = t,
                                         .k = 0.1,
                                         .error_feedback = true,
                                         .threshold = 0.95,
                                         .dtype = PFL_F16,
                                         .level = t == PFL_TECHNIQUE_ZSTD ? 3 : 6,
                                         .clip_norm = 1.0,
                                         .noise_multiplier = 1.0};
}

bool pfl_compression_has(const struct pfl_compression *c, enum pfl_technique t)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->steps[i].technique == t)
            return true;
    }
    return false;
}

static bool is_of_bytes(enum pfl_technique t)
{
    return t >= PFL_TECHNIQUE_ZLIB;
}

bool pfl_compression_is_lossy(const struct pfl_compression *c)
{
    return c->n > 0 && !is_of_bytes(c->steps[0].technique);
}

static enum pfl_rc check_values(const struct pfl_compression_step *s, struct pfl_err *err)
{
    int least = s->technique == PFL_TECHNIQUE_ZSTD ? 1 : 0, most = s->technique == PFL_TECHNIQUE_ZSTD ? 22 : 9;
    if (s->technique == PFL_TECHNIQUE_TOPK && !(s->k > 0.0 && s->k <= 1.0))
        return pfl_err_set(err, PFL_INVALID, "topk: k is %g: a share above 0, at most 1 is wanted", s->k);
    if (s->technique == PFL_TECHNIQUE_LOW_RANK && !(s->threshold > 0.0 && s->threshold <= 1.0))
        return pfl_err_set(err, PFL_INVALID, "low_rank: threshold is %g: above 0, at most 1 is wanted", s->threshold);
    if (s->technique == PFL_TECHNIQUE_PTQ && s->dtype != PFL_F16 && s->dtype != PFL_BF16 && s->dtype != PFL_I8 &&
        s->dtype != PFL_U8 && s->dtype != PFL_I16)
        return pfl_err_set(err, PFL_INVALID, "ptq: the type must be float16, bfloat16, int8, uint8 or int16");
    if (is_of_bytes(s->technique) && (s->level < least || s->level > most))
        return pfl_err_set(err, PFL_INVALID, "%s: level %d: %d to %d are possible", names[s->technique], s->level, least, most);
    if (s->technique == PFL_TECHNIQUE_DP && !(s->clip_norm > 0.0 && isfinite(s->clip_norm)))
        return pfl_err_set(err, PFL_INVALID, "dp: clip_norm is %g: more than 0 is wanted", s->clip_norm);
    if (s->technique == PFL_TECHNIQUE_DP && !(s->noise_multiplier > 0.0 && isfinite(s->noise_multiplier)))
        return pfl_err_set(err, PFL_INVALID, "dp: the noise is %g times clip_norm: more than 0 is wanted", s->noise_multiplier);
    return PFL_OK;
}

enum pfl_rc pfl_compression_check(const struct pfl_compression *c, struct pfl_err *err)
{
    unsigned seen = 0;
    for (size_t i = 0; i < c->n; i++) {
        enum pfl_technique t = c->steps[i].technique, before = i > 0 ? c->steps[i - 1].technique : t;
        if (seen & 1U << t)
            return pfl_err_set(err, PFL_INVALID, "%s comes twice", names[t]);
        seen |= 1U << t;
        if (t == PFL_TECHNIQUE_DP && i > 0)
            return pfl_err_set(err, PFL_INVALID,
                               "dp must come first: noise protects what it is added to, not what was made before");
        if (i > 0 && is_of_bytes(before))
            return pfl_err_set(err, PFL_INVALID, "%s comes behind %s, which must be the last", names[t], names[before]);
        if (i > 0 && before == PFL_TECHNIQUE_PTQ && !is_of_bytes(t))
            return pfl_err_set(err, PFL_INVALID, "%s comes behind ptq, which leaves it nothing to work on: put it before",
                               names[t]);
        enum pfl_rc rc = check_values(&c->steps[i], err);
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}

void pfl_compressor_deinit(struct pfl_compressor *c)
{
    free(c->residual);
    *c = (struct pfl_compressor){0};
}

size_t pfl_compressed_max(const struct pfl_layout *l)
{
    size_t max = 0;
    if (!pfl_size_mul(l->bytes, 2, &max) || !pfl_size_add(max, l->n * 1024 + ((size_t)64 << 10), &max))
        return SIZE_MAX;
    return max;
}
