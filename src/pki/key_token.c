/* SPDX-License-Identifier: Apache-2.0 */
/* The specs of --key and the key files that stand for a key in a token. */
#include "pki/key_token.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "pki/key.h"

/* Where the URI begins in "[KIND@]pkcs11:…"; NULL where there is none. Before it only a kind can stand, which is short. */
static const char *uri_in(const char *spec)
{
    if (pfl_pkcs11_is_uri(spec))
        return spec;
    const char *at = spec ? strchr(spec, '@') : NULL;
    return at && pfl_pkcs11_is_uri(at + 1) ? at + 1 : NULL;
}

bool pfl_key_spec_in_token(const char *spec)
{
    return uri_in(spec) != NULL;
}

bool pfl_key_spec_asks_pin(const char *spec)
{
    const char *uri = uri_in(spec);
    return uri && pfl_key_token_asks(uri);
}

/* *ret_kind is owned; NULL where the spec names none. */
static enum pfl_rc split(const char *spec, char **ret_kind, struct pfl_pkcs11_uri *ret, struct pfl_err *err)
{
    const char *uri = uri_in(spec);
    PFL_AUTO(pfl_freep) char *kind = uri == spec ? NULL : pfl_xstrndup(spec, (size_t)(uri - spec - 1));
    if (kind && pfl_streq(kind, "ed25519"))
        return pfl_err_set(err, PFL_UNSUPPORTED, "a key of kind ed25519 cannot be made in a token: p256, p384 or rsa:N is wanted");
    if (kind && !pfl_key_spec_valid(kind, err))
        return PFL_INVALID;
    enum pfl_rc rc = pfl_pkcs11_uri_parse(uri, ret, err);
    if (rc == PFL_OK)
        *ret_kind = pfl_steal(&kind);
    return rc;
}

enum pfl_rc pfl_key_token_spec_check(const char *spec, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *kind = NULL;
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri uri = {0};
    return split(spec, &kind, &uri, err);
}

enum pfl_rc pfl_key_token_make(const char *spec, const struct pfl_passphrase *pin, struct evp_pkey_st **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *kind = NULL;
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri uri = {0};
    enum pfl_rc rc = split(spec, &kind, &uri, err);
    if (rc != PFL_OK)
        return rc;
    if (!uri.object && uri.id_len == 0)
        return pfl_err_set(err, PFL_INVALID, "pkcs11: URI: it names no key: object=… is wanted");
    if (!kind) {
        rc = pfl_pkcs11_load(&uri, pin, ret, err);
        if (rc == PFL_OK && (rc = pfl_key_check_strength(*ret, err)) != PFL_OK)
            pfl_key_free(pfl_steal(ret));
        if (rc != PFL_NOT_FOUND)
            return rc;
        pfl_err_clear(err);
    }
    return pfl_pkcs11_generate(&uri, kind ? kind : "p256", pin, ret, err);
}

enum pfl_rc pfl_key_token_load(const char *uri, const struct pfl_passphrase *pin, struct evp_pkey_st **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri parsed = {0};
    PFL_AUTO(pfl_key_freep) struct evp_pkey_st *key = NULL;
    enum pfl_rc rc = pfl_pkcs11_uri_parse(uri, &parsed, err);
    if (rc == PFL_OK)
        rc = pfl_pkcs11_load(&parsed, pin, &key, err);
    if (rc != PFL_OK)
        return rc;
    if ((rc = pfl_key_check_strength(key, err)) != PFL_OK) {
        PFL_AUTO(pfl_freep) char *name = pfl_pkcs11_uri_name(&parsed);
        (void)pfl_err_wrap(err, "%s", pfl_q(name));
        return rc;
    }
    *ret = pfl_steal(&key);
    return PFL_OK;
}

enum pfl_rc pfl_key_token_reference(const struct pfl_pkcs11_uri *uri, struct pfl_buf *out, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *text = pfl_pkcs11_uri_text(uri);
    bool ok = pfl_buf_append_str(out, text) && pfl_buf_append_str(out, "\n");
    return ok ? PFL_OK : pfl_err_set(err, PFL_TOO_BIG, "the key's URI does not fit");
}

char *pfl_key_token_in_file(struct pfl_bytes content)
{
    size_t len = content.len;
    while (len && (content.data[len - 1] == '\n' || content.data[len - 1] == '\r'))
        len--;
    if (len == 0 || len > PFL_PKCS11_URI_MAX || memchr(content.data, '\n', len) || memchr(content.data, '\0', len))
        return NULL;
    PFL_AUTO(pfl_freep) char *line = pfl_xstrndup((const char *)content.data, len);
    return pfl_pkcs11_is_uri(line) ? pfl_steal(&line) : NULL;
}

bool pfl_key_token_asks(const char *uri)
{
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri parsed = {0};
    return pfl_pkcs11_uri_parse(uri, &parsed, NULL) == PFL_OK && !parsed.pin_source;
}

static enum pfl_rc set_pin_file(struct pfl_pkcs11_uri *uri, const char *pin_file, struct pfl_err *err)
{
    if (uri->pin_source)
        return pfl_err_set(err, PFL_INVALID, "the URI says with pin-source where its PIN is: a PIN file beside it is one too many");
    uri->pin_source = realpath(pin_file, NULL); /* the URI is used later, in another folder */
    return uri->pin_source ? PFL_OK : pfl_err_set(err, PFL_NOT_FOUND, "PIN file %s: cannot be found", pin_file);
}

enum pfl_rc pfl_key_spec_for(const char *spec, const char *name, const char *purpose, const char *pin_file, char **ret,
                             struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *kind = NULL;
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri uri = {0};
    if (!pfl_key_spec_in_token(spec)) {
        if (pin_file)
            return pfl_err_set(err, PFL_INVALID, "a PIN file is for keys in a token only: the key '%s' is in none", pfl_q(spec));
        if (!pfl_key_spec_valid(spec, err))
            return PFL_INVALID;
        *ret = pfl_xstrdup(spec);
        return PFL_OK;
    }
    enum pfl_rc rc = split(spec, &kind, &uri, err);
    if (rc == PFL_OK && purpose && uri.id_len)
        rc = pfl_err_set(err, PFL_INVALID, "pkcs11: URI: id names one key, and several are made: name them with object=…");
    if (rc == PFL_OK && pin_file)
        rc = set_pin_file(&uri, pin_file, err);
    if (rc != PFL_OK)
        return rc;
    if (purpose && !kind) /* one of several is never a key that is there already: that may be another node's */
        kind = pfl_xstrdup("p256");
    const char *object = uri.object ? uri.object : uri.id_len ? NULL : name;
    char *label = !object ? NULL : purpose ? pfl_xasprintf("%s-%s", object, purpose) : pfl_xstrdup(object);
    free(uri.object);
    uri.object = label;
    PFL_AUTO(pfl_freep) char *text = pfl_pkcs11_uri_text(&uri);
    *ret = pfl_xasprintf("%s%s%s", kind ? kind : "", kind ? "@" : "", text);
    return PFL_OK;
}
