/* SPDX-License-Identifier: Apache-2.0 */
/* Requests. What comes in is a stranger's bytes: the size is limited before anything is parsed, the signature and the key are
 * checked before anybody sees a request, and names are read as strictly as a certificate's. */
#include "pki/csr.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/fs.h"
#include "pki/build.h"
#include "pki/digest.h"
#include "pki/identity.h"
#include "pki/key.h"

enum { COMMON_NAME_MAX = 256 };

PFL_DEFINE_FREEP(bio, BIO, BIO_free_all)
PFL_DEFINE_FREEP(req, X509_REQ, X509_REQ_free)
PFL_DEFINE_FREEP(general_names, GENERAL_NAMES, GENERAL_NAMES_free)

static void free_extensions(X509_EXTENSIONS *exts)
{
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
}
PFL_DEFINE_FREEP(extensions, X509_EXTENSIONS, free_extensions)

struct pfl_csr {
    X509_REQ *req;     /* owned */
    char *common_name; /* owned */
    struct pfl_strs sans, purposes;
    bool asks_ca;
    char key_fingerprint[65];
};

static int no_passphrase(char *buf, int size, int rwflag, void *user)
{
    (void)buf, (void)size, (void)rwflag, (void)user;
    return -1;
}

static bool is_pem(struct pfl_bytes in)
{
    return memmem(in.data, in.len, "-----BEGIN ", 11) != NULL;
}

static enum pfl_rc parse_pem(struct pfl_bytes in, X509_REQ **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new_mem_buf(in.data, (int)in.len);
    PFL_ASSERT(bio != NULL);
    PFL_AUTO(pfl_req_freep) X509_REQ *req = PEM_read_bio_X509_REQ(bio, NULL, no_passphrase, NULL);
    PFL_AUTO(pfl_req_freep) X509_REQ *second = req ? PEM_read_bio_X509_REQ(bio, NULL, no_passphrase, NULL) : NULL;
    ERR_clear_error();
    if (!req)
        return pfl_err_set(err, PFL_MALFORMED, "no certificate request in it that can be read");
    if (second)
        return pfl_err_set(err, PFL_MALFORMED, "more than one certificate request in it: one at a time is wanted");
    *ret = pfl_steal(&req);
    return PFL_OK;
}

static enum pfl_rc parse_der(struct pfl_bytes in, X509_REQ **ret, struct pfl_err *err)
{
    const unsigned char *at = in.data;
    PFL_AUTO(pfl_req_freep) X509_REQ *req = in.len ? d2i_X509_REQ(NULL, &at, (long)in.len) : NULL;
    ERR_clear_error();
    if (!req)
        return pfl_err_set(err, PFL_MALFORMED, "is no certificate request, neither in PEM nor in DER");
    if (at != in.data + in.len)
        return pfl_err_set(err, PFL_MALFORMED, "%zu bytes stand behind the certificate request", in.len - (size_t)(at - in.data));
    *ret = pfl_steal(&req);
    return PFL_OK;
}

static enum pfl_rc check_digest(const X509_REQ *req, struct pfl_err *err)
{
    int nid = X509_REQ_get_signature_nid(req), digest = NID_undef, key = NID_undef;
    if (nid == NID_ED25519)
        return PFL_OK;
    const char *name = OBJ_nid2ln(nid);
    OBJ_find_sigid_algs(nid, &digest, &key);
    if (digest == NID_md5 || digest == NID_sha1 || digest == NID_md5_sha1)
        return pfl_err_set(err, PFL_AUTH, "the request is signed with %s: SHA-256 or better is needed", name);
    if (digest != NID_sha256 && digest != NID_sha384 && digest != NID_sha512)
        return pfl_err_set(err, PFL_UNSUPPORTED,
                           "the request is signed with %s: RSA (PKCS#1), ECDSA or Ed25519 with SHA-256 or better is wanted",
                           name ? name : "an unknown algorithm");
    return PFL_OK;
}

static enum pfl_rc check_key(X509_REQ *req, struct pfl_err *err)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(req);
    if (!key) {
        ERR_clear_error();
        return pfl_err_set(err, PFL_UNSUPPORTED, "the request's public key cannot be read");
    }
    enum pfl_rc rc = pfl_key_check_strength(key, err);
    if (rc == PFL_OK)
        rc = check_digest(req, err);
    if (rc != PFL_OK)
        return rc;
    int ok = X509_REQ_verify(req, key);
    ERR_clear_error();
    if (ok != 1)
        return pfl_err_set(err, PFL_AUTH,
                           "the request's signature is not by its own key: it was altered, or the key is not the sender's");
    return PFL_OK;
}

static enum pfl_rc take_common_name(struct pfl_csr *csr, struct pfl_err *err)
{
    X509_NAME *name = X509_REQ_get_subject_name(csr->req);
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0) {
        csr->common_name = pfl_xstrdup("");
        return PFL_OK;
    }
    if (X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0)
        return pfl_err_set(err, PFL_MALFORMED, "the request has more than one common name");
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    ERR_clear_error();
    bool fine = len >= 0 && len <= COMMON_NAME_MAX && pfl_utf8_valid(utf8, (size_t)len);
    for (int i = 0; fine && i < len; i++)
        fine = utf8[i] >= 0x20 && utf8[i] != 0x7f;
    if (fine)
        csr->common_name = pfl_xstrndup((const char *)utf8, (size_t)len);
    OPENSSL_free(utf8);
    return fine ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "the request's common name is too long or not visible text");
}

/* An extension that is asked for: NULL where it is not; MALFORMED where it is there twice or cannot be read. */
static enum pfl_rc get_extension(const X509_EXTENSIONS *exts, int nid, void **ret, struct pfl_err *err)
{
    int critical = -1;
    *ret = X509V3_get_d2i(exts, nid, &critical, NULL);
    ERR_clear_error();
    if (*ret || critical == -1)
        return PFL_OK;
    return pfl_err_set(err, PFL_MALFORMED, "the request's extension %s %s", OBJ_nid2sn(nid),
                       critical == -2 ? "is there twice" : "cannot be read");
}

static enum pfl_rc take_purposes(struct pfl_csr *csr, const X509_EXTENSIONS *exts, struct pfl_err *err)
{
    char oid[80];
    void *value = NULL;
    enum pfl_rc rc = get_extension(exts, NID_ext_key_usage, &value, err);
    EXTENDED_KEY_USAGE *eku = value;
    for (int i = 0; i < sk_ASN1_OBJECT_num(eku); i++) {
        const ASN1_OBJECT *obj = sk_ASN1_OBJECT_value(eku, i);
        int nid = OBJ_obj2nid(obj);
        if (nid == NID_undef)
            OBJ_obj2txt(oid, sizeof oid, obj, 1);
        pfl_strs_add_once(&csr->purposes, nid == NID_undef ? oid : OBJ_nid2sn(nid));
    }
    EXTENDED_KEY_USAGE_free(eku);
    return rc;
}

static enum pfl_rc take_ca_wish(struct pfl_csr *csr, const X509_EXTENSIONS *exts, struct pfl_err *err)
{
    void *value = NULL;
    enum pfl_rc rc = get_extension(exts, NID_basic_constraints, &value, err);
    BASIC_CONSTRAINTS *bc = value;
    csr->asks_ca = bc && bc->ca;
    BASIC_CONSTRAINTS_free(bc);
    if (rc == PFL_OK)
        rc = get_extension(exts, NID_key_usage, &value, err);
    if (rc != PFL_OK)
        return rc;
    ASN1_BIT_STRING *usage = value;
    if (usage && (ASN1_BIT_STRING_get_bit(usage, 5) || ASN1_BIT_STRING_get_bit(usage, 6))) /* keyCertSign, cRLSign */
        csr->asks_ca = true;
    ASN1_BIT_STRING_free(usage);
    return PFL_OK;
}

static enum pfl_rc take_wishes(struct pfl_csr *csr, struct pfl_err *err)
{
    void *value = NULL;
    PFL_AUTO(pfl_extensions_freep) X509_EXTENSIONS *exts = X509_REQ_get_extensions(csr->req);
    ERR_clear_error();
    enum pfl_rc rc = get_extension(exts, NID_subject_alt_name, &value, err);
    PFL_AUTO(pfl_general_names_freep) GENERAL_NAMES *names = value;
    if (rc == PFL_OK)
        rc = pfl_sans_read(names, &csr->sans, err);
    if (rc == PFL_OK)
        rc = take_purposes(csr, exts, err);
    if (rc == PFL_OK)
        rc = take_ca_wish(csr, exts, err);
    return rc;
}

static void take_fingerprint(struct pfl_csr *csr)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(csr->req), &der);
    PFL_ASSERT(len > 0);
    pfl_sha256_hex(pfl_bytes_of(der, (size_t)len), csr->key_fingerprint);
    OPENSSL_free(der);
}

enum pfl_rc pfl_csr_parse(struct pfl_bytes in, struct pfl_csr **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *csr = pfl_xcalloc(1, sizeof *csr);
    if (in.len > PFL_CSR_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "a certificate request of %zu bytes, the limit is %d", in.len, PFL_CSR_MAX);
    ERR_clear_error();
    enum pfl_rc rc = is_pem(in) ? parse_pem(in, &csr->req, err) : parse_der(in, &csr->req, err);
    if (rc == PFL_OK)
        rc = check_key(csr->req, err);
    if (rc == PFL_OK)
        rc = take_common_name(csr, err);
    if (rc == PFL_OK)
        rc = take_wishes(csr, err);
    if (rc != PFL_OK)
        return rc;
    take_fingerprint(csr);
    *ret = pfl_steal(&csr);
    return PFL_OK;
}

enum pfl_rc pfl_csr_load(const char *path, struct pfl_csr **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    enum pfl_rc rc = pfl_fs_read(path, PFL_CSR_MAX, &blob, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_csr_parse(pfl_bytes_of(blob->data, blob->len), ret, err);
    return rc == PFL_OK ? PFL_OK : pfl_err_wrap(err, "%s", path);
}

void pfl_csr_free(struct pfl_csr *csr)
{
    if (!csr)
        return;
    X509_REQ_free(csr->req);
    free(csr->common_name);
    pfl_strs_deinit(&csr->sans);
    pfl_strs_deinit(&csr->purposes);
    free(csr);
}

const char *pfl_csr_common_name(const struct pfl_csr *csr)
{
    return csr->common_name;
}

const struct pfl_strs *pfl_csr_sans(const struct pfl_csr *csr)
{
    return &csr->sans;
}

const struct pfl_strs *pfl_csr_purposes(const struct pfl_csr *csr)
{
    return &csr->purposes;
}

bool pfl_csr_asks_ca(const struct pfl_csr *csr)
{
    return csr->asks_ca;
}

const char *pfl_csr_key_fingerprint(const struct pfl_csr *csr)
{
    return csr->key_fingerprint;
}

EVP_PKEY *pfl_csr_key(const struct pfl_csr *csr)
{
    return X509_REQ_get0_pubkey(csr->req);
}

static bool push_text(X509_EXTENSIONS *exts, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    return ext && sk_X509_EXTENSION_push(exts, ext) > 0;
}

static bool push_wishes(X509_EXTENSIONS **exts, const struct pfl_strs *sans, const char *purpose)
{
    if (sans && sans->n > 0) {
        PFL_AUTO(pfl_general_names_freep) GENERAL_NAMES *names = pfl_general_names(sans);
        if (!names || X509V3_add1_i2d(exts, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1)
            return false;
    }
    if (!purpose)
        return true;
    if (pfl_streq(purpose, "ca"))
        return push_text(*exts, NID_basic_constraints, "critical,CA:TRUE") &&
               push_text(*exts, NID_key_usage, "critical,keyCertSign,cRLSign");
    return push_text(*exts, NID_ext_key_usage, purpose);
}

enum pfl_rc pfl_csr_make(const char *common_name, const struct pfl_strs *sans, const char *purpose, EVP_PKEY *key,
                         struct pfl_buf *out, struct pfl_err *err)
{
    unsigned char *der = NULL;
    PFL_AUTO(pfl_req_freep) X509_REQ *req = X509_REQ_new();
    PFL_AUTO(pfl_extensions_freep) X509_EXTENSIONS *exts = sk_X509_EXTENSION_new_null();
    PFL_ASSERT(req && exts);
    X509_NAME *name = X509_REQ_get_subject_name(req);
    bool ed25519 = EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    bool ok = common_name[0] == '\0' ||
              X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) == 1;
    ok = ok && push_wishes(&exts, sans, purpose);
    ok = ok && (sk_X509_EXTENSION_num(exts) == 0 || X509_REQ_add_extensions(req, exts) == 1);
    ok = ok && X509_REQ_set_pubkey(req, key) == 1 && X509_REQ_sign(req, key, ed25519 ? NULL : EVP_sha256()) > 0;
    int len = ok ? i2d_X509_REQ(req, &der) : -1;
    ERR_clear_error();
    if (len > 0)
        pfl_buf_append(out, der, (size_t)len);
    OPENSSL_free(der);
    if (len <= 0 || out->failed)
        return pfl_err_set(err, PFL_IO, "OpenSSL could not make the certificate request of '%s'", pfl_q(common_name));
    return PFL_OK;
}

char *pfl_csr_pem(struct pfl_bytes der)
{
    char *data = NULL;
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new(BIO_s_mem());
    int ok = bio && PEM_write_bio(bio, PEM_STRING_X509_REQ, "", der.data, (long)der.len) > 0;
    PFL_ASSERT(ok);
    long len = BIO_get_mem_data(bio, &data);
    return pfl_xstrndup(data, (size_t)len);
}
