/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* A CRL as any peer may send it: read or refused, safe to print, and equal to itself when its bytes are read again. */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "pki/crl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(const char *text)
{
    for (; text && *text; text++)
        PFL_ASSERT((unsigned char)*text >= 0x20 && *text != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_crl_freep) struct pfl_crl *c = NULL;
    PFL_AUTO(pfl_crl_freep) struct pfl_crl *again = NULL;
    struct pfl_err err = {0};
    if (pfl_crl_parse(pfl_bytes_of(data, size), &c, &err) != PFL_OK) {
        check_printable(err.msg);
        PFL_ASSERT(err.msg[0] != '\0');
        return 0;
    }
    check_printable(pfl_crl_issuer(c));
    check_printable(pfl_crl_number_text(c));
    PFL_ASSERT(strlen(pfl_crl_number_hex(c)) <= PFL_CRL_NUMBER_HEX_MAX);
    PFL_ASSERT(pfl_crl_this_update(c) <= pfl_crl_next_update(c));
    PFL_ASSERT(pfl_crl_parse(pfl_crl_der(c), &again, &err) == PFL_OK);
    PFL_ASSERT(pfl_bytes_eq(pfl_crl_der(c), pfl_crl_der(again)) && pfl_crl_n_revoked(c) == pfl_crl_n_revoked(again));
    return 0;
}
