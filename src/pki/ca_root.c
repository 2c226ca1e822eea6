/* SPDX-License-Identifier: Apache-2.0 */
/* Roots: what a new one says. */
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"

enum { CN_MAX = 64 };

int64_t pfl_now_or(int64_t now)
{
    return now ? now : pfl_clock_wall() / PFL_SEC;
}

/* What a person typed as a name: visible UTF-8, as long as X.509 lets a common name be. */
bool pfl_common_name_valid(const char *name)
{
    size_t len = strlen(name), chars = 0;
    if (len == 0 || len > 4 * CN_MAX || !pfl_utf8_valid(name, len))
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f)
            return false;
        chars += (c & 0xc0) != 0x80;
    }
    return chars <= CN_MAX;
}

enum pfl_rc pfl_check_days(int days, struct pfl_err *err)
{
    if (days < 1 || days > PFL_DAYS_MAX)
        return pfl_err_set(err, PFL_INVALID, "%d days: 1 to %d are allowed", days, PFL_DAYS_MAX);
    return PFL_OK;
}

enum pfl_rc pfl_root_make(const struct pfl_ca_opts *opts, const struct pfl_passphrase *pin, EVP_PKEY **ret_key, X509 **ret_root,
                          struct pfl_err *err)
{
    const char *federation = opts->federation ? opts->federation : "p2pfl";
    int days = opts->days ? opts->days : PFL_CA_DAYS_DEFAULT;
    if (!pfl_name_valid(federation))
        return pfl_err_set(err, PFL_INVALID, "federation '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(federation),
                           PFL_NAME_MAX);
    PFL_AUTO(pfl_freep) char *name = opts->name ? pfl_xstrdup(opts->name) : pfl_xasprintf("%.60s CA", federation);
    if (!pfl_common_name_valid(name))
        return pfl_err_set(err, PFL_INVALID, "name '%s': 1 to %d visible characters are wanted", pfl_q(name), CN_MAX);
    if (pfl_check_days(days, err) != PFL_OK)
        return PFL_INVALID;
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("URI:spiffe://%s", federation);
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    enum pfl_rc rc = pfl_key_make(opts->key ? opts->key : "p256", pin, &key, err);
    if (rc != PFL_OK)
        return rc;
    int64_t now = pfl_now_or(opts->now);
    struct pfl_cert_spec spec = {.common_name = name, .is_ca = true, .path_len = opts->offline ? 1 : -1};
    spec.not_before = now - PFL_BACKDATE_S;
    spec.not_after = now + (int64_t)days * PFL_DAY_S;
    pfl_strs_add(&spec.sans, uri);
    rc = pfl_cert_build(&spec, key, NULL, key, ret_root, err);
    pfl_strs_deinit(&spec.sans);
    if (rc == PFL_OK)
        *ret_key = pfl_steal(&key);
    return rc;
}
