/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and making keys in a token, and signing with them. */
#include "pki/pkcs11.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "pki/digest.h"
#include "pki/key.h"
#include "pki/pkcs11_impl.h"

enum { NEW_ID_LEN = 16, FOUND_MAX = 2 };

PFL_DEFINE_FREEP(md_ctx, EVP_MD_CTX, EVP_MD_CTX_free)

/* A curve as tokens name it: the DER of its object identifier. */
struct curve {
    const char *kind;
    int nid;
    size_t len;
    uint8_t der[10];
};
static const struct curve CURVES[] = {
    {"p256", NID_X9_62_prime256v1, 10, {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}},
    {"p384", NID_secp384r1, 7, {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}},
};

void pfl_p11_key_unref(struct pfl_p11_key *key)
{
    if (!key || atomic_fetch_sub(&key->refs, 1) != 1)
        return;
    if (key->module) {
        CK_FUNCTION_LIST *f = pfl_p11_lock(key->module);
        if (key->session != CK_INVALID_HANDLE)
            (void)f->C_CloseSession(key->session);
        pfl_p11_unlock(key->module);
        pfl_p11_module_close(key->module);
    }
    pfl_pkcs11_uri_deinit(&key->uri);
    pfl_passphrase_free(key->pin);
    free(key);
}

static enum pfl_rc key_new(const struct pfl_pkcs11_uri *uri, const struct pfl_passphrase *pin, struct pfl_p11_key **ret,
                           struct pfl_err *err)
{
    PFL_AUTO(pfl_p11_key_freep) struct pfl_p11_key *key = pfl_xcalloc(1, sizeof *key);
    atomic_init(&key->refs, 1);
    pfl_pkcs11_uri_copy(&key->uri, uri);
    enum pfl_rc rc = pfl_p11_module_open(uri->module_path, &key->module, err);
    if (rc == PFL_OK && pin && !uri->pin_source)
        rc = pfl_passphrase_of(pfl_passphrase_text(pin), pfl_passphrase_len(pin), &key->pin, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&key);
    return rc;
}

/* ---- objects; all under the module's lock ---- */

static CK_ATTRIBUTE attribute(CK_ATTRIBUTE_TYPE type, const void *value, size_t len)
{
    return (CK_ATTRIBUTE){type, (void *)value, len};
}

/* How many private or public keys of this label and id (each where named) there are, at most FOUND_MAX. */
static enum pfl_rc find(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label,
                        struct pfl_bytes id, CK_OBJECT_HANDLE *ret, size_t *ret_n, struct pfl_err *err)
{
    CK_ATTRIBUTE wanted[3] = {attribute(CKA_CLASS, &class, sizeof class)};
    CK_ULONG n = 1, found = 0;
    CK_OBJECT_HANDLE handles[FOUND_MAX];
    if (label)
        wanted[n++] = attribute(CKA_LABEL, label, strlen(label));
    if (id.len)
        wanted[n++] = attribute(CKA_ID, id.data, id.len);
    CK_RV rv = f->C_FindObjectsInit(session, wanted, n);
    if (rv == CKR_OK) {
        rv = f->C_FindObjects(session, handles, FOUND_MAX, &found);
        (void)f->C_FindObjectsFinal(session);
    }
    if (rv != CKR_OK)
        return pfl_p11_fail(err, rv, "looking for the key");
    *ret_n = found;
    if (found)
        *ret = handles[0];
    return PFL_OK;
}

static enum pfl_rc find_private(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, struct pfl_err *err)
{
    size_t n = 0;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    enum pfl_rc rc =
        find(f, key->session, CKO_PRIVATE_KEY, key->uri.object, pfl_bytes_of(key->uri.id, key->uri.id_len), &object, &n, err);
    if (rc != PFL_OK)
        return rc;
    if (n == 0)
        return pfl_err_set(err, PFL_NOT_FOUND, "the token has no such private key");
    if (n > 1)
        return pfl_err_set(err, PFL_INVALID, "more than one private key of the token fits: add id=… to the URI");
    key->object = object;
    return PFL_OK;
}

/* One attribute, appended to out (which is empty). NOT_FOUND where the object has none. */
static enum pfl_rc read_attribute(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                                  struct pfl_buf *out, struct pfl_err *err)
{
    uint8_t value[PFL_PKCS11_ATTRIBUTE_MAX];
    CK_ATTRIBUTE a = attribute(type, value, sizeof value);
    CK_RV rv = f->C_GetAttributeValue(session, object, &a, 1);
    if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE)
        return pfl_err_set(err, PFL_NOT_FOUND, "the key has no attribute 0x%lx that can be read", type);
    if (rv != CKR_OK)
        return pfl_p11_fail(err, rv, "reading the key's attributes");
    if (a.ulValueLen > sizeof value || !pfl_buf_append(out, value, a.ulValueLen))
        return pfl_err_set(err, PFL_TOO_BIG, "attribute 0x%lx of the key is over %d bytes", type, PFL_PKCS11_ATTRIBUTE_MAX);
    return PFL_OK;
}

/* A flag of an object; `missing` where the token does not say. */
static bool read_flag(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, bool missing)
{
    CK_BBOOL value = CK_FALSE;
    CK_ATTRIBUTE a = attribute(type, &value, sizeof value);
    return f->C_GetAttributeValue(session, object, &a, 1) == CKR_OK && a.ulValueLen == sizeof value ? value != CK_FALSE : missing;
}

static bool can_leave(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    return !read_flag(f, session, object, CKA_SENSITIVE, false) || read_flag(f, session, object, CKA_EXTRACTABLE, true);
}

static enum pfl_rc read_type_and_id(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf type = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf id = {0};
    enum pfl_rc rc = read_attribute(f, key->session, key->object, CKA_KEY_TYPE, &type, err);
    if (rc != PFL_OK)
        return rc;
    if (type.len != sizeof key->type)
        return pfl_err_set(err, PFL_UNAVAILABLE, "the token gives %zu bytes for the key's type", type.len);
    memcpy(&key->type, type.data, type.len);
    rc = read_attribute(f, key->session, key->object, CKA_ID, &id, err);
    if (rc == PFL_OK && id.len && id.len <= PFL_PKCS11_ID_MAX) {
        memcpy(key->uri.id, id.data, id.len);
        key->uri.id_len = id.len;
    }
    return rc == PFL_NOT_FOUND ? PFL_OK : rc;
}

/* ---- the public half ---- */

static const struct curve *curve_of(struct pfl_bytes params)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(CURVES); i++)
        if (pfl_bytes_eq(params, pfl_bytes_of(CURVES[i].der, CURVES[i].len)))
            return &CURVES[i];
    return NULL;
}

/* CKA_EC_POINT is the point in a DER OCTET STRING (PKCS#11 2.40, 2.3.3); old modules give the point as it is. */
static struct pfl_bytes point_of(struct pfl_bytes attr)
{
    bool wrapped = attr.len > 2 && attr.data[0] == 0x04 && attr.data[1] < 0x80 && attr.len == 2U + attr.data[1];
    return wrapped ? pfl_bytes_sub(attr, 2, attr.len - 2) : attr;
}

static enum pfl_rc public_ec(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, EVP_PKEY **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf params = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf point = {0};
    CK_OBJECT_HANDLE public = CK_INVALID_HANDLE;
    size_t n = 0;
    enum pfl_rc rc = read_attribute(f, key->session, key->object, CKA_EC_PARAMS, &params, err);
    if (rc != PFL_OK)
        return rc;
    const struct curve *curve = curve_of(pfl_buf_view(&params));
    if (!curve)
        return pfl_err_set(err, PFL_UNSUPPORTED, "the token's EC key is on another curve than P-256 and P-384");
    rc = find(f, key->session, CKO_PUBLIC_KEY, key->uri.id_len ? NULL : key->uri.object, pfl_bytes_of(key->uri.id, key->uri.id_len),
              &public, &n, err);
    if (rc == PFL_OK && n == 0)
        return pfl_err_set(err, PFL_NOT_FOUND,
                           "the token has the private key but not its public key of the same id: import that too");
    if (rc == PFL_OK)
        rc = read_attribute(f, key->session, public, CKA_EC_POINT, &point, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_p11_evp_ec(key, curve->nid, point_of(pfl_buf_view(&point)));
    return *ret ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "the public key in the token is no point of its curve");
}

static enum pfl_rc public_rsa(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, EVP_PKEY **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf modulus = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf exponent = {0};
    enum pfl_rc rc = read_attribute(f, key->session, key->object, CKA_MODULUS, &modulus, err);
    if (rc == PFL_OK)
        rc = read_attribute(f, key->session, key->object, CKA_PUBLIC_EXPONENT, &exponent, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_p11_evp_rsa(key, pfl_buf_view(&modulus), pfl_buf_view(&exponent));
    return *ret ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "the numbers of the token's RSA key are none");
}

static enum pfl_rc make_evp(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, EVP_PKEY **ret, struct pfl_err *err)
{
    enum pfl_rc rc = read_type_and_id(key, f, err);
    if (rc != PFL_OK)
        return rc;
    if (key->type == CKK_EC)
        return public_ec(key, f, ret, err);
    if (key->type == CKK_RSA)
        return public_rsa(key, f, ret, err);
    return pfl_err_set(err, PFL_UNSUPPORTED, "a key of kind 0x%lx in the token: RSA, P-256 and P-384 can be used there", key->type);
}

/* One signature over fresh random bytes, checked with the public half: the two belong together and the key may sign. */
static enum pfl_rc try_key(EVP_PKEY *evp, struct pfl_err *err)
{
    uint8_t text[32], sig[2 * PFL_RSA_BITS_MAX / 8];
    size_t sig_len = sizeof sig;
    pfl_random_bytes(text, sizeof text);
    PFL_AUTO(pfl_md_ctx_freep) EVP_MD_CTX *sign = EVP_MD_CTX_new();
    PFL_AUTO(pfl_md_ctx_freep) EVP_MD_CTX *verify = EVP_MD_CTX_new();
    bool signs = sign && EVP_DigestSignInit(sign, NULL, EVP_sha256(), NULL, evp) == 1 &&
                 EVP_DigestSign(sign, sig, &sig_len, text, sizeof text) == 1;
    bool good = signs && verify && EVP_DigestVerifyInit(verify, NULL, EVP_sha256(), NULL, evp) == 1 &&
                EVP_DigestVerify(verify, sig, sig_len, text, sizeof text) == 1;
    ERR_clear_error();
    if (!signs)
        return pfl_err_set(err, PFL_UNAVAILABLE, "the token does not sign with this key (the log has its answer)");
    return good ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "the private and the public key in the token do not fit each other");
}

/* ---- loading ---- */

static enum pfl_rc open_locked(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, EVP_PKEY **ret, bool *ret_can_leave,
                               struct pfl_err *err)
{
    enum pfl_rc rc = pfl_p11_session_open(key->module, &key->uri, key->pin, false, &key->session, err);
    if (rc == PFL_OK)
        rc = find_private(key, f, err);
    if (rc == PFL_OK)
        rc = make_evp(key, f, ret, err);
    *ret_can_leave = rc == PFL_OK && can_leave(f, key->session, key->object);
    return rc;
}

/* Puts the key's name before the message; returns rc, which a caller without err needs too. */
static enum pfl_rc wrap(const struct pfl_pkcs11_uri *uri, enum pfl_rc rc, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *name = pfl_pkcs11_uri_name(uri);
    (void)pfl_err_wrap(err, "%s", pfl_q(name));
    return rc;
}

enum pfl_rc pfl_pkcs11_load(const struct pfl_pkcs11_uri *uri, const struct pfl_passphrase *pin, EVP_PKEY **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_p11_key_freep) struct pfl_p11_key *key = NULL;
    PFL_AUTO(pfl_key_freep) EVP_PKEY *evp = NULL;
    bool leaves = false;
    enum pfl_rc rc = key_new(uri, pin, &key, err);
    if (rc != PFL_OK)
        return wrap(uri, rc, err);
    CK_FUNCTION_LIST *f = pfl_p11_lock(key->module);
    rc = open_locked(key, f, &evp, &leaves, err);
    pfl_p11_unlock(key->module);
    if (rc == PFL_OK)
        rc = try_key(evp, err);
    if (rc != PFL_OK)
        return wrap(uri, rc, err);
    if (leaves) {
        PFL_AUTO(pfl_freep) char *name = pfl_pkcs11_uri_name(uri);
        pfl_warn("%s: this key can be taken out of its token: make it there as one that is sensitive and not extractable", name);
    }
    *ret = pfl_steal(&evp);
    return PFL_OK;
}

/* ---- making ---- */

/* Public exponent 65537; a number above 2 bytes as PKCS#11 has it, big-endian. */
static const uint8_t F4[] = {0x01, 0x00, 0x01};

/* Labels and ids name keys: a second one of the same name would make both impossible to find. */
static enum pfl_rc check_free(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, struct pfl_err *err)
{
    static const CK_OBJECT_CLASS CLASSES[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    for (size_t i = 0; i < PFL_ARRAY_LEN(CLASSES); i++) {
        CK_OBJECT_HANDLE object;
        size_t by_label = 0, by_id = 0;
        enum pfl_rc rc = find(f, key->session, CLASSES[i], key->uri.object, (struct pfl_bytes){0}, &object, &by_label, err);
        if (rc == PFL_OK)
            rc = find(f, key->session, CLASSES[i], NULL, pfl_bytes_of(key->uri.id, key->uri.id_len), &object, &by_id, err);
        if (rc != PFL_OK)
            return rc;
        if (by_label || by_id)
            return pfl_err_set(
                err, PFL_EXISTS,
                "the token has a key of this %s already, which is not overwritten: name another with object=… in the URI",
                by_label ? "label" : "id");
    }
    return PFL_OK;
}

static enum pfl_rc generate_pair(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, const char *kind, struct pfl_err *err)
{
    static const CK_BBOOL YES = CK_TRUE, NO = CK_FALSE;
    int64_t rsa_bits = 0;
    bool is_rsa = pfl_str_has_prefix(kind, "rsa:") && pfl_parse_i64(kind + 4, PFL_RSA_BITS_MIN, PFL_RSA_BITS_MAX, &rsa_bits);
    CK_ULONG bits = (CK_ULONG)rsa_bits;
    const struct curve *curve = NULL;
    for (size_t i = 0; i < PFL_ARRAY_LEN(CURVES); i++)
        curve = pfl_streq(kind, CURVES[i].kind) ? &CURVES[i] : curve;
    if (!is_rsa && !curve)
        return pfl_err_set(err, PFL_UNSUPPORTED, "a key of kind '%s' cannot be made in a token: p256, p384 or rsa:N is wanted",
                           pfl_q(kind));
    CK_ATTRIBUTE label = attribute(CKA_LABEL, key->uri.object, strlen(key->uri.object));
    CK_ATTRIBUTE id = attribute(CKA_ID, key->uri.id, key->uri.id_len);
    CK_ATTRIBUTE public[] = {
        label,
        id,
        attribute(CKA_TOKEN, &YES, sizeof YES),
        attribute(CKA_VERIFY, &YES, sizeof YES),
        is_rsa ? attribute(CKA_MODULUS_BITS, &bits, sizeof bits) : attribute(CKA_EC_PARAMS, curve->der, curve->len),
        attribute(CKA_PUBLIC_EXPONENT, F4, sizeof F4), /* RSA's only */
    };
    CK_ATTRIBUTE private[] = {
        label,
        id,
        attribute(CKA_TOKEN, &YES, sizeof YES),
        attribute(CKA_PRIVATE, &YES, sizeof YES),
        attribute(CKA_SENSITIVE, &YES, sizeof YES),
        attribute(CKA_EXTRACTABLE, &NO, sizeof NO),
        attribute(CKA_SIGN, &YES, sizeof YES),
        attribute(CKA_DECRYPT, &NO, sizeof NO),
        attribute(CKA_UNWRAP, &NO, sizeof NO),
    };
    CK_MECHANISM mechanism = {is_rsa ? CKM_RSA_PKCS_KEY_PAIR_GEN : CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_RV rv = f->C_GenerateKeyPair(key->session, &mechanism, public, PFL_ARRAY_LEN(public) - !is_rsa, private,
                                    PFL_ARRAY_LEN(private), &key->made, &key->object);
    return rv == CKR_OK ? PFL_OK : pfl_p11_fail(err, rv, "making the key");
}

static void destroy_pair(struct pfl_p11_key *key, CK_FUNCTION_LIST *f)
{
    (void)f->C_DestroyObject(key->session, key->object);
    (void)f->C_DestroyObject(key->session, key->made);
    key->object = key->made = CK_INVALID_HANDLE;
}

static enum pfl_rc generate_locked(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, const char *kind, EVP_PKEY **ret,
                                   struct pfl_err *err)
{
    enum pfl_rc rc = pfl_p11_session_open(key->module, &key->uri, key->pin, true, &key->session, err);
    if (rc == PFL_OK)
        rc = check_free(key, f, err);
    if (rc == PFL_OK)
        rc = generate_pair(key, f, kind, err);
    if (rc != PFL_OK)
        return rc;
    if (can_leave(f, key->session, key->object))
        rc = pfl_err_set(err, PFL_UNSUPPORTED, "the token made a key that can be taken out of it; it was destroyed again");
    if (rc == PFL_OK)
        rc = make_evp(key, f, ret, err);
    if (rc != PFL_OK)
        destroy_pair(key, f);
    return rc;
}

enum pfl_rc pfl_pkcs11_generate(const struct pfl_pkcs11_uri *uri, const char *kind, const struct pfl_passphrase *pin,
                                EVP_PKEY **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_p11_key_freep) struct pfl_p11_key *key = NULL;
    PFL_AUTO(pfl_key_freep) EVP_PKEY *evp = NULL;
    enum pfl_rc rc = key_new(uri, pin, &key, err);
    if (rc != PFL_OK)
        return wrap(uri, rc, err);
    if (!key->uri.object)
        key->uri.object = pfl_xstrdup("p2pfl");
    if (key->uri.id_len == 0) {
        pfl_random_bytes(key->uri.id, NEW_ID_LEN);
        key->uri.id_len = NEW_ID_LEN;
    }
    CK_FUNCTION_LIST *f = pfl_p11_lock(key->module);
    rc = generate_locked(key, f, kind, &evp, err);
    pfl_p11_unlock(key->module);
    if (rc == PFL_OK && (rc = try_key(evp, err)) != PFL_OK)
        pfl_pkcs11_unmake(evp);
    if (rc != PFL_OK)
        return wrap(uri, rc, err);
    *ret = pfl_steal(&evp);
    return PFL_OK;
}

void pfl_pkcs11_unmake(EVP_PKEY *evp)
{
    struct pfl_p11_key *key = pfl_p11_key_of(evp);
    if (!key || key->made == CK_INVALID_HANDLE)
        return;
    CK_FUNCTION_LIST *f = pfl_p11_lock(key->module);
    destroy_pair(key, f);
    pfl_p11_unlock(key->module);
}

/* ---- signing ---- */

/* Session and object anew, after the token was gone. */
static enum pfl_rc reopen(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, struct pfl_err *err)
{
    if (key->session != CK_INVALID_HANDLE)
        (void)f->C_CloseSession(key->session);
    key->session = key->object = CK_INVALID_HANDLE;
    enum pfl_rc rc = pfl_p11_session_open(key->module, &key->uri, key->pin, false, &key->session, err);
    return rc == PFL_OK ? find_private(key, f, err) : rc;
}

/* Answers that mean "the token was away", so that a new session may help. Anything else would only fail twice. */
static bool session_died(CK_RV rv)
{
    return rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED || rv == CKR_DEVICE_REMOVED || rv == CKR_DEVICE_ERROR ||
           rv == CKR_TOKEN_NOT_PRESENT || rv == CKR_USER_NOT_LOGGED_IN || rv == CKR_OBJECT_HANDLE_INVALID ||
           rv == CKR_KEY_HANDLE_INVALID;
}

static CK_RV sign_once(struct pfl_p11_key *key, CK_FUNCTION_LIST *f, CK_MECHANISM_TYPE type, struct pfl_bytes in, uint8_t *out,
                       CK_ULONG *out_len)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_RV rv = f->C_SignInit(key->session, &mechanism, key->object);
    return rv == CKR_OK ? f->C_Sign(key->session, (unsigned char *)in.data, in.len, out, out_len) : rv;
}

enum pfl_rc pfl_p11_sign(struct pfl_p11_key *key, CK_MECHANISM_TYPE mechanism, struct pfl_bytes in, uint8_t *out, size_t *out_len,
                         struct pfl_err *err)
{
    CK_ULONG len = *out_len;
    enum pfl_rc rc = PFL_OK;
    CK_FUNCTION_LIST *f = pfl_p11_lock(key->module);
    CK_RV rv = key->object == CK_INVALID_HANDLE ? CKR_SESSION_CLOSED : sign_once(key, f, mechanism, in, out, &len);
    if (session_died(rv)) {
        rc = reopen(key, f, err);
        len = *out_len;
        rv = rc == PFL_OK ? sign_once(key, f, mechanism, in, out, &len) : rv;
    }
    pfl_p11_unlock(key->module);
    if (rc == PFL_OK && rv != CKR_OK)
        rc = pfl_p11_fail(err, rv, "signing");
    if (rc != PFL_OK)
        return wrap(&key->uri, rc, err);
    *out_len = len;
    return PFL_OK;
}
