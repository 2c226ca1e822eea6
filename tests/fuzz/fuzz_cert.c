/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* A certificate as a peer sends it, before anybody trusts it: its names are read or refused, and what was read is safe to print
 * and holds together. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pki/cert.h"
#include "pki/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(const char *text)
{
    for (; text && *text; text++)
        PFL_ASSERT((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void check_identity(const struct pfl_identity *id)
{
    check_printable(id->subject);
    check_printable(id->issuer);
    check_printable(pfl_identity_text(id));
    PFL_ASSERT(strlen(id->fingerprint) == PFL_FINGERPRINT_LEN && id->sans.n <= PFL_SANS_MAX);
    PFL_ASSERT(!id->spiffe_id == !id->federation && !id->role == !id->name);
    PFL_ASSERT(!id->name || (pfl_name_valid(id->name) && pfl_name_valid(id->role) && pfl_name_valid(id->federation)));
    for (size_t i = 0; i < id->sans.n; i++) {
        const char *san = id->sans.items[i];
        check_printable(san);
        if (strncmp(san, "IP:", 3) == 0)
            PFL_ASSERT(pfl_identity_covers_host(id, san + 3));
    }
    PFL_ASSERT(id->sans.n == 0 || pfl_identity_same(id, id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    struct pfl_err err = {0};
    if (pfl_identity_of_der(pfl_bytes_of(data, size), &id, &err) == PFL_OK)
        check_identity(id);
    else
        check_printable(err.msg);
    if (pfl_certs_parse(pfl_bytes_of(data, size), &certs, &err) != PFL_OK)
        return 0;
    for (size_t i = 0; i < pfl_x509s_n(certs); i++) {
        PFL_AUTO(pfl_cert_info_deinit) struct pfl_cert_info info = {0};
        pfl_cert_info_of(pfl_x509s_at(certs, i), &info);
        check_printable(info.key);
        check_printable(info.signature);
    }
    return 0;
}
