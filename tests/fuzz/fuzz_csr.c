/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* A certificate request from a stranger: it is refused, or what it asks for is text that can be printed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pki/csr.h"
#include "pki/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text)
{
    PFL_ASSERT(pfl_utf8_valid(text, strlen(text)));
    for (const char *c = text; *c; c++)
        PFL_ASSERT((unsigned char)*c >= 0x20 && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfl_csr *csr = NULL;
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_csr_parse(pfl_bytes_of(data, size), &csr, &err);
    PFL_ASSERT((rc == PFL_OK) == (csr != NULL) && (rc == PFL_OK) == (err.msg[0] == '\0'));
    if (rc != PFL_OK)
        return 0;
    const struct pfl_strs *sans = pfl_csr_sans(csr);
    PFL_ASSERT(sans->n <= PFL_SANS_MAX);
    for (size_t i = 0; i < sans->n; i++)
        check_text(sans->items[i]);
    check_text(pfl_csr_common_name(csr));
    PFL_ASSERT(pfl_csr_key(csr) && strlen(pfl_csr_key_fingerprint(csr)) == 64);
    pfl_csr_free(csr);
    return 0;
}
