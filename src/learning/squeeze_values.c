/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in fewer bits, and noise on them. All arithmetic in double, one value at a time: the same everywhere. */
#include <math.h>
#include <string.h>
#include <sys/random.h>

#include "learning/squeeze.h"

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

uint16_t pfl_f16_of(float x)
{
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000U);
    double a = fabs((double)x);
    if (!(a < 65520.0)) /* would round to infinity */
        return isnan(x) ? 0x7e00U : (uint16_t)(sign | 0x7bffU);
    if (a < 0x1p-14) /* denormal: multiples of 2^-24 */
        return (uint16_t)(sign | (uint16_t)nearbyint(a * 0x1p24));
    int e;
    double m = frexp(a, &e);                      /* a = m 2^e, m in [0.5, 1) */
    uint32_t q = (uint32_t)nearbyint(m * 2048.0); /* 1024 to 2048 */
    return (uint16_t)(sign | (((uint32_t)(e + 14) << 10) + (q - 1024U)));
}

float pfl_f16_to(uint16_t h)
{
    uint32_t e = h >> 10 & 31U, m = h & 1023U;
    double a = e == 0 ? ldexp((double)m, -24) : ldexp((double)(1024U + m), (int)e - 25);
    if (e == 31)
        return float_of((uint32_t)(h & 0x8000U) << 16 | 0x7f800000U | m << 13);
    return (float)(h & 0x8000U ? -a : a);
}

uint16_t pfl_bf16_of(float x)
{
    uint32_t u = bits_of(x);
    uint32_t r = (u + 0x7fffU + (u >> 16 & 1U)) >> 16;
    if ((r & 0x7f80U) == 0x7f80U && isfinite(x)) /* rounded up to infinity */
        r = (u >> 16 & 0x8000U) | 0x7f7fU;
    return (uint16_t)r;
}

float pfl_bf16_to(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

/* ---- integers ---- */

static void range_of(enum pfl_dtype t, int32_t *lo, int32_t *hi)
{
    *lo = t == PFL_U8 ? 0 : t == PFL_I8 ? -128 : -32768;
    *hi = t == PFL_U8 ? 255 : t == PFL_I8 ? 127 : 32767;
}

struct pfl_channels pfl_channels_of(bool per_channel, unsigned axis, unsigned rank, const size_t *shape)
{
    struct pfl_channels c = {.channels = 1, .inner = 1};
    if (!per_channel || rank < 2 || axis >= rank || shape[axis] == 0)
        return c;
    c.channels = shape[axis];
    for (unsigned i = axis + 1; i < rank; i++)
        c.inner *= shape[i];
    return c;
}

static size_t channel(struct pfl_channels c, size_t i)
{
    return c.channels <= 1 || c.inner == 0 ? 0 : i / c.inner % c.channels;
}

/* Symmetric U8 has its zero in the middle. */
static int32_t zero_of(enum pfl_dtype t, const int32_t *zero, size_t c)
{
    return zero ? zero[c] : t == PFL_U8 ? 128 : 0;
}

static void find_scales(enum pfl_dtype t, const float *x, size_t n, struct pfl_channels c, float *scale, int32_t *zero)
{
    int32_t lo, hi;
    range_of(t, &lo, &hi);
    for (size_t k = 0; k < c.channels; k++)
        scale[k] = 0.0F;
    if (!zero) {
        for (size_t i = 0; i < n; i++)
            scale[channel(c, i)] = fmaxf(scale[channel(c, i)], fabsf(x[i]));
        for (size_t k = 0; k < c.channels; k++)
            scale[k] = (float)((double)scale[k] / (double)(t == PFL_I16 ? 32767 : 127));
        return;
    }
    PFL_AUTO(pfl_freep) double *min = pfl_xcalloc(2 * c.channels, sizeof(*min)); /* zero can always be said exactly */
    double *max = min + c.channels;
    for (size_t i = 0; i < n; i++) {
        min[channel(c, i)] = fmin(min[channel(c, i)], (double)x[i]);
        max[channel(c, i)] = fmax(max[channel(c, i)], (double)x[i]);
    }
    for (size_t k = 0; k < c.channels; k++) {
        scale[k] = (float)((max[k] - min[k]) / (double)(hi - lo));
        zero[k] = scale[k] > 0.0F ? lo + (int32_t)nearbyint(-min[k] / (double)scale[k]) : 0;
    }
}

static void put_integer(enum pfl_dtype t, uint8_t *out, size_t i, int32_t v)
{
    int16_t wide = (int16_t)v;
    if (t == PFL_I16)
        memcpy(out + 2 * i, &wide, sizeof(wide));
    else
        out[i] = (uint8_t)v;
}

static int32_t get_integer(enum pfl_dtype t, const uint8_t *q, size_t i)
{
    int16_t wide;
    if (t == PFL_I16) {
        memcpy(&wide, q + 2 * i, sizeof(wide));
        return wide;
    }
    return t == PFL_U8 ? q[i] : (int8_t)q[i];
}

void pfl_quantize(enum pfl_dtype t, const float *x, size_t n, struct pfl_channels c, float *scale, int32_t *zero, uint8_t *out)
{
    int32_t lo, hi;
    range_of(t, &lo, &hi);
    find_scales(t, x, n, c, scale, zero);
    for (size_t i = 0; i < n; i++) {
        size_t k = channel(c, i);
        double q = scale[k] > 0.0F ? nearbyint((double)x[i] / (double)scale[k]) : 0.0;
        q += (double)zero_of(t, zero, k);
        put_integer(t, out, i, (int32_t)fmin(fmax(q, (double)lo), (double)hi));
    }
}

void pfl_dequantize(enum pfl_dtype t, const uint8_t *q, size_t n, struct pfl_channels c, const float *scale, const int32_t *zero,
                    float *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t k = channel(c, i);
        out[i] = (float)(((double)get_integer(t, q, i) - (double)zero_of(t, zero, k)) * (double)scale[k]);
    }
}

/* ---- noise ---- */

static void system_random(void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        ssize_t got = getrandom(p, len < 4096 ? len : 4096, 0);
        PFL_ASSERT(got > 0);
        p += got;
        len -= (size_t)got;
    }
}

/* In (0, 1), 53 bits, never an end of it. */
static double open_unit(uint64_t u)
{
    return ((double)(u >> 11) + 0.5) * 0x1p-53;
}

static double laplace_of(uint64_t u)
{
    double p = open_unit(u);
    return p < 0.5 ? log(2.0 * p) : -log(2.0 * (1.0 - p));
}

/* Two normal values of two numbers: Box and Muller 1958. */
static void normals_of(const uint64_t u[2], double out[2])
{
    double r = sqrt(-2.0 * log(open_unit(u[0]))), a = 6.283185307179586 * open_unit(u[1]);
    out[0] = r * cos(a);
    out[1] = r * sin(a);
}

void pfl_privatize(float *x, size_t n, double clip_norm, double noise_multiplier, bool laplace, void (*random)(void *, size_t))
{
    double norm = 0.0;
    for (size_t i = 0; i < n; i++)
        norm += laplace ? fabs((double)x[i]) : (double)x[i] * (double)x[i];
    norm = laplace ? norm : sqrt(norm);
    double factor = norm > clip_norm ? clip_norm / norm : 1.0, sigma = noise_multiplier * clip_norm;
    uint64_t u[512];
    double noise[2];
    for (size_t i = 0; i < n; i++) {
        size_t at = i % PFL_ARRAY_LEN(u);
        if (at == 0)
            (random ? random : system_random)(u, sizeof(u));
        if (!laplace && at % 2 == 0)
            normals_of(u + at, noise);
        x[i] = (float)((double)x[i] * factor + sigma * (laplace ? laplace_of(u[at]) : noise[i % 2]));
    }
}
