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

/* Without branches, so that the loops over them become vectors. */

/* To nearest even; beyond the range the largest finite one. */
static uint16_t f16_of(float x)
{
    uint32_t u = bits_of(x), a = u & 0x7fffffffU;
    uint32_t normal = (a + 0xfffU + (a >> 13 & 1U) - 0x38000000U) >> 13;
    uint32_t denormal = bits_of(float_of(a) + 0.5F) - 0x3f000000U; /* whose last place there is 2^-24 */
    uint32_t h = a < 0x38800000U ? denormal : normal;
    h = a >= 0x477ff000U ? 0x7bffU : h; /* from 65520 on it would round to infinity */
    h = a > 0x7f800000U ? 0x7e00U : h;
    return (uint16_t)(h | (u >> 16 & 0x8000U));
}

static float f16_to(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16, a = h & 0x7fffU;
    uint32_t normal = (a << 13) + 0x38000000U, special = a << 13 | 0x7f800000U;
    uint32_t denormal = bits_of((float)(int32_t)a * 0x1p-24F);
    uint32_t u = a < 0x400U ? denormal : a < 0x7c00U ? normal : special;
    return float_of(u | sign);
}

static uint16_t bf16_of(float x)
{
    uint32_t u = bits_of(x), a = u & 0x7fffffffU;
    uint32_t r = (u + 0x7fffU + (u >> 16 & 1U)) >> 16;
    r = a >= 0x7f7f8000U && a < 0x7f800000U ? (u >> 16 & 0x8000U) | 0x7f7fU : r; /* would round to infinity */
    return (uint16_t)r;
}

static float bf16_to(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

void pfl_halve(enum pfl_dtype t, const float *x, size_t n, uint8_t *out)
{
    uint16_t h;
    for (size_t i = 0; t == PFL_F16 && i < n; i++) {
        h = f16_of(x[i]);
        memcpy(out + 2 * i, &h, sizeof(h));
    }
    for (size_t i = 0; t == PFL_BF16 && i < n; i++) {
        h = bf16_of(x[i]);
        memcpy(out + 2 * i, &h, sizeof(h));
    }
}

void pfl_unhalve(enum pfl_dtype t, const uint8_t *in, size_t n, float *out)
{
    uint16_t h;
    for (size_t i = 0; t == PFL_F16 && i < n; i++) {
        memcpy(&h, in + 2 * i, sizeof(h));
        out[i] = f16_to(h);
    }
    for (size_t i = 0; t == PFL_BF16 && i < n; i++) {
        memcpy(&h, in + 2 * i, sizeof(h));
        out[i] = bf16_to(h);
    }
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

/* Where the run of values that begins at i and has one scale ends. */
static size_t run_end(struct pfl_channels c, size_t i, size_t n)
{
    return c.channels <= 1 || c.inner == 0 || c.inner > n - i ? n : i + c.inner;
}

/* The channel after k. */
static size_t next_channel(struct pfl_channels c, size_t k)
{
    return k + 1 < c.channels ? k + 1 : 0;
}

/* Symmetric U8 has its zero in the middle. */
static int32_t zero_of(enum pfl_dtype t, const int32_t *zero, size_t c)
{
    return zero ? zero[c] : t == PFL_U8 ? 128 : 0;
}

/* The largest magnitude of n values and `most`. NaN counts for nothing, here and below. */
static float magnitude(const float *x, size_t n, float most)
{
    for (size_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static void widen(const float *x, size_t n, float *min, float *max)
{
    float lo = *min, hi = *max;
    for (size_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *min = lo;
    *max = hi;
}

static void find_scales(enum pfl_dtype t, const float *x, size_t n, struct pfl_channels c, float *scale, int32_t *zero)
{
    int32_t lo, hi;
    range_of(t, &lo, &hi);
    PFL_AUTO(pfl_freep) float *min = pfl_xcalloc(c.channels, sizeof(*min)); /* with 0: it can always be said exactly */
    for (size_t k = 0; k < c.channels; k++)
        scale[k] = 0.0F; /* the largest so far */
    for (size_t i = 0, k = 0, end; i < n; i = end, k = next_channel(c, k)) {
        end = run_end(c, i, n);
        if (zero)
            widen(x + i, end - i, &min[k], &scale[k]);
        else
            scale[k] = magnitude(x + i, end - i, scale[k]);
    }
    for (size_t k = 0; k < c.channels; k++) {
        if (!zero) {
            scale[k] = (float)((double)scale[k] / (double)(t == PFL_I16 ? 32767 : 127));
            continue;
        }
        scale[k] = (float)(((double)scale[k] - (double)min[k]) / (double)(hi - lo));
        zero[k] = scale[k] > 0.0F ? lo + (int32_t)nearbyint(-(double)min[k] / (double)scale[k]) : 0;
    }
}

/* To nearest even, as nearbyint, of |x| < 2^51 and NaN: adding this leaves no bit for a fraction. */
static double to_integer(double x)
{
    const double big = 0x1.8p52;
    return (x + big) - big;
}

struct quantizer {
    double scale, zero, lo, hi; /* scale 0: every value is zero */
};

static int32_t quantized(struct quantizer z, float x)
{
    double q = (z.scale > 0.0 ? to_integer((double)x / z.scale) : 0.0) + z.zero;
    q = q > z.lo ? q : z.lo; /* NaN, too */
    return (int32_t)(q < z.hi ? q : z.hi);
}

void pfl_quantize(enum pfl_dtype t, const float *x, size_t n, struct pfl_channels c, float *scale, int32_t *zero, uint8_t *out)
{
    int32_t lo, hi;
    range_of(t, &lo, &hi);
    find_scales(t, x, n, c, scale, zero);
    for (size_t i = 0, k = 0, end; i < n; i = end, k = next_channel(c, k)) {
        const struct quantizer z = {(double)scale[k], (double)zero_of(t, zero, k), (double)lo, (double)hi};
        end = run_end(c, i, n);
        for (size_t j = i; t == PFL_I16 && j < end; j++) {
            int16_t wide = (int16_t)quantized(z, x[j]);
            memcpy(out + 2 * j, &wide, sizeof(wide));
        }
        for (size_t j = i; t != PFL_I16 && j < end; j++)
            out[j] = (uint8_t)quantized(z, x[j]);
    }
}

static float dequantized(int32_t q, double zero, double scale)
{
    return (float)(((double)q - zero) * scale);
}

void pfl_dequantize(enum pfl_dtype t, const uint8_t *q, size_t n, struct pfl_channels c, const float *scale, const int32_t *zero,
                    float *out)
{
    for (size_t i = 0, k = 0, end; i < n; i = end, k = next_channel(c, k)) {
        double z = (double)zero_of(t, zero, k), s = (double)scale[k];
        end = run_end(c, i, n);
        for (size_t j = i; t == PFL_I16 && j < end; j++) {
            int16_t wide;
            memcpy(&wide, q + 2 * j, sizeof(wide));
            out[j] = dequantized(wide, z, s);
        }
        for (size_t j = i; t == PFL_U8 && j < end; j++)
            out[j] = dequantized(q[j], z, s);
        for (size_t j = i; t == PFL_I8 && j < end; j++)
            out[j] = dequantized((int8_t)q[j], z, s);
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
