/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* Any text as a pkcs11: URI: what is taken is written and read back to the same, and holds no PIN. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "pki/pkcs11_uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_freep) char *text = pfl_xstrndup((const char *)data, size < 4096 ? size : 4096);
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri uri = {0};
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri again = {0};
    struct pfl_err err = {0};
    if (pfl_pkcs11_uri_parse(text, &uri, &err) != PFL_OK) {
        PFL_ASSERT(err.rc != PFL_OK && err.msg[0] && !uri.token && !uri.pin_source);
        return 0;
    }
    PFL_ASSERT(uri.id_len <= PFL_PKCS11_ID_MAX && (!uri.object || strlen(uri.object) <= PFL_PKCS11_TEXT_MAX));
    PFL_ASSERT((!uri.pin_source || uri.pin_source[0] == '/') && (!uri.module_path || uri.module_path[0] == '/'));
    PFL_AUTO(pfl_freep) char *written = pfl_pkcs11_uri_text(&uri);
    PFL_AUTO(pfl_freep) char *name = pfl_pkcs11_uri_name(&uri);
    PFL_ASSERT(!strstr(written, "pin-value=") && !strchr(name, '?'));
    if (strlen(written) > PFL_PKCS11_URI_MAX) /* canonical form may be longer: more of it is percent-encoded */
        return 0;
    PFL_ASSERT(pfl_pkcs11_uri_parse(written, &again, &err) == PFL_OK);
    PFL_AUTO(pfl_freep) char *twice = pfl_pkcs11_uri_text(&again);
    PFL_ASSERT(pfl_streq(written, twice));
    return 0;
}
