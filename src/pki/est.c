/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/est.h"

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pkcs7.h>
#include <string.h>

#include "base/mem.h"

void pfl_est_certs_only(X509 *const *certs, size_t n, struct pfl_buf *out)
{
    PKCS7 *p7 = PKCS7_new();
    bool ok = p7 && PKCS7_set_type(p7, NID_pkcs7_signed) == 1 && PKCS7_content_new(p7, NID_pkcs7_data) == 1 &&
              PKCS7_set_detached(p7, 1) == 1;
    for (size_t i = 0; ok && i < n; i++)
        ok = PKCS7_add_certificate(p7, certs[i]) == 1;
    unsigned char *der = NULL;
    int len = ok ? i2d_PKCS7(p7, &der) : -1;
    PFL_ASSERT(len > 0); /* only memory can fail */
    pfl_buf_append(out, der, (size_t)len);
    OPENSSL_free(der);
    PKCS7_free(p7);
    ERR_clear_error();
}

void pfl_base64_encode(struct pfl_bytes in, struct pfl_buf *out)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        unsigned v = (unsigned)in.data[i] << 16;
        v |= left > 1 ? (unsigned)in.data[i + 1] << 8 : 0;
        v |= left > 2 ? (unsigned)in.data[i + 2] : 0;
        const char quad[4] = {DIGITS[v >> 18], DIGITS[v >> 12 & 63], left > 1 ? DIGITS[v >> 6 & 63] : '=',
                              left > 2 ? DIGITS[v & 63] : '='};
        pfl_buf_append(out, quad, sizeof quad);
    }
}

static int digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

enum pfl_rc pfl_base64_decode(struct pfl_bytes in, struct pfl_buf *out, struct pfl_err *err)
{
    uint32_t bits = 0;
    size_t n = 0, pads = 0;
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.data[i];
        int d = digit(c);
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            continue;
        if (c == '=' ? n % 4 < 2 || ++pads > 2 : d < 0 || pads > 0)
            return pfl_err_set(err, PFL_MALFORMED, "not base64: byte %zu", i);
        bits = bits << 6 | (c == '=' ? 0U : (uint32_t)d);
        if (++n % 4 != 0)
            continue;
        const uint8_t three[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
        if (!pfl_buf_append(out, three, 3 - pads))
            return pfl_err_set(err, PFL_TOO_BIG, "the base64 holds more than %zu bytes", out->limit);
    }
    if (n % 4 != 0)
        return pfl_err_set(err, PFL_MALFORMED, "base64 that is cut off");
    return PFL_OK;
}
