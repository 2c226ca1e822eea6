/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys through OpenSSL. Buffers that held a key or its PEM are wiped on every way out, and no message carries OpenSSL's
 * own texts, which may quote what was read. */
#include "pki/key.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "pki/key_token.h"

enum {
    SCRYPT_N = 1 << 14, /* with r = 8: 16 MiB a guess, the largest that OpenSSL's default memory limit lets anybody read */
    SCRYPT_R = 8,
    SCRYPT_P = 1,
    PEM_MAX = 32 << 10
};

PFL_DEFINE_FREEP(bio, BIO, BIO_free_all)
PFL_DEFINE_FREEP(pkey_ctx, EVP_PKEY_CTX, EVP_PKEY_CTX_free)
PFL_DEFINE_FREEP(p8inf, PKCS8_PRIV_KEY_INFO, PKCS8_PRIV_KEY_INFO_free)
PFL_DEFINE_FREEP(x509_sig, X509_SIG, X509_SIG_free)

void pfl_key_free(EVP_PKEY *key)
{
    EVP_PKEY_free(key);
}

/* bits of "rsa:N"; 0 where the text is something else. */
static int rsa_bits(const char *spec)
{
    int64_t bits;
    if (!pfl_str_has_prefix(spec, "rsa:") || !pfl_parse_i64(spec + 4, PFL_RSA_BITS_MIN, PFL_RSA_BITS_MAX, &bits))
        return 0;
    return (int)bits;
}

bool pfl_key_spec_valid(const char *spec, struct pfl_err *err)
{
    if (pfl_key_spec_in_token(spec))
        return pfl_key_token_spec_check(spec, err) == PFL_OK;
    if (pfl_streq(spec, "p256") || pfl_streq(spec, "p384") || pfl_streq(spec, "ed25519") || rsa_bits(spec))
        return true;
    (void)pfl_err_set(err, PFL_INVALID, "key '%s': p256, p384, ed25519 or rsa:N with N from %d to %d is wanted, or a pkcs11: URI",
                      pfl_q(spec), PFL_RSA_BITS_MIN, PFL_RSA_BITS_MAX);
    return false;
}

enum pfl_rc pfl_key_make(const char *spec, const struct pfl_passphrase *pin, EVP_PKEY **ret, struct pfl_err *err)
{
    if (pfl_key_spec_in_token(spec))
        return pfl_key_token_make(spec, pin, ret, err);
    if (!pfl_key_spec_valid(spec, err))
        return PFL_INVALID;
    EVP_PKEY *key = NULL;
    if (pfl_streq(spec, "p256"))
        key = EVP_EC_gen("P-256");
    else if (pfl_streq(spec, "p384"))
        key = EVP_EC_gen("P-384");
    else if (pfl_streq(spec, "ed25519"))
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    else
        key = EVP_RSA_gen((unsigned)rsa_bits(spec));
    ERR_clear_error();
    if (!key)
        return pfl_err_set(err, PFL_IO, "OpenSSL could not make a key of kind '%s'", spec);
    *ret = key;
    return PFL_OK;
}

void pfl_key_unmake(EVP_PKEY *key)
{
    if (key)
        pfl_pkcs11_unmake(key);
}

enum pfl_rc pfl_key_generate(const char *spec, EVP_PKEY **ret, struct pfl_err *err)
{
    return pfl_key_make(spec, NULL, ret, err);
}

enum pfl_rc pfl_key_check_strength(const EVP_PKEY *key, struct pfl_err *err)
{
    char curve[80];
    int bits = EVP_PKEY_get_bits(key);
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_ED25519:
        return PFL_OK;
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        if (bits < PFL_RSA_BITS_MIN)
            return pfl_err_set(err, PFL_AUTH, "RSA key of %d bits, at least %d needed", bits, PFL_RSA_BITS_MIN);
        if (bits > 2 * PFL_RSA_BITS_MAX) /* not weak, but it would let a peer burn our time */
            return pfl_err_set(err, PFL_AUTH, "RSA key of %d bits, at most %d allowed", bits, 2 * PFL_RSA_BITS_MAX);
        return PFL_OK;
    case EVP_PKEY_EC:
        if (bits < PFL_EC_BITS_MIN)
            return pfl_err_set(err, PFL_AUTH, "EC key of %d bits, at least %d needed", bits, PFL_EC_BITS_MIN);
        if (EVP_PKEY_get_group_name((EVP_PKEY *)key, curve, sizeof curve, NULL) != 1)
            return pfl_err_set(err, PFL_UNSUPPORTED, "EC key on a curve without a name, P-256 or P-384 is wanted");
        return PFL_OK;
    default:
        return pfl_err_set(err, PFL_UNSUPPORTED, "a key that is neither RSA nor EC nor Ed25519");
    }
}

void pfl_key_pem_wipe(struct pfl_buf *pem)
{
    if (pem->data)
        OPENSSL_cleanse(pem->data, pem->cap);
    pfl_buf_deinit(pem);
}

/* AES-256-CBC under scrypt(passphrase). NULL where OpenSSL fails. */
static X509_SIG *encrypt(PKCS8_PRIV_KEY_INFO *plain, const struct pfl_passphrase *passphrase)
{
    X509_ALGOR *pbe = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), NULL, 16, NULL, SCRYPT_N, SCRYPT_R, SCRYPT_P);
    if (!pbe)
        return NULL;
    X509_SIG *sig = PKCS8_set0_pbe(pfl_passphrase_text(passphrase), (int)pfl_passphrase_len(passphrase), plain, pbe);
    if (!sig)
        X509_ALGOR_free(pbe);
    return sig;
}

static bool write_pem(BIO *bio, const EVP_PKEY *key, const struct pfl_passphrase *passphrase)
{
    PFL_AUTO(pfl_p8inf_freep) PKCS8_PRIV_KEY_INFO *plain = EVP_PKEY2PKCS8(key);
    if (!plain)
        return false;
    if (!passphrase)
        return PEM_write_bio_PKCS8_PRIV_KEY_INFO(bio, plain) == 1;
    PFL_AUTO(pfl_x509_sig_freep) X509_SIG *sig = encrypt(plain, passphrase);
    return sig && PEM_write_bio_PKCS8(bio, sig) == 1;
}

enum pfl_rc pfl_key_pem(const EVP_PKEY *key, const struct pfl_passphrase *passphrase, struct pfl_buf *out, struct pfl_err *err)
{
    const struct pfl_pkcs11_uri *uri = pfl_pkcs11_uri_of(key);
    if (uri)
        return pfl_key_token_reference(uri, out, err);
    /* a secure-memory BIO is wiped by OpenSSL when it grows and when it is freed; ours grows once, before it is filled */
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new(BIO_s_secmem());
    char *data = NULL;
    bool ok = bio && write_pem(bio, key, passphrase);
    long len = ok ? BIO_get_mem_data(bio, &data) : 0;
    ok = ok && pfl_buf_reserve(out, PEM_MAX) && pfl_buf_append(out, data, (size_t)len);
    ERR_clear_error();
    return ok ? PFL_OK : pfl_err_set(err, PFL_IO, "OpenSSL could not write the key");
}

enum pfl_rc pfl_key_save_new(const char *path, const EVP_PKEY *key, const struct pfl_passphrase *passphrase, struct pfl_err *err)
{
    PFL_AUTO(pfl_key_pem_wipe) struct pfl_buf pem = {0};
    enum pfl_rc rc = pfl_key_pem(key, passphrase, &pem, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "%s", path);
    return pfl_fs_write_new(path, pfl_buf_view(&pem), 0600, err);
}

struct ask {
    const struct pfl_passphrase *passphrase; /* NULL: none */
    bool asked;                              /* OpenSSL wanted one: the key is encrypted */
};

static int give_passphrase(char *buf, int size, int rwflag, void *user)
{
    struct ask *ask = user;
    (void)rwflag;
    ask->asked = true;
    if (!ask->passphrase || pfl_passphrase_len(ask->passphrase) > (size_t)size)
        return -1;
    memcpy(buf, pfl_passphrase_text(ask->passphrase), pfl_passphrase_len(ask->passphrase));
    return (int)pfl_passphrase_len(ask->passphrase);
}

static void wiped_unref(struct pfl_blob **blob)
{
    if (*blob)
        OPENSSL_cleanse((*blob)->data, (*blob)->len);
    pfl_blob_unref(*blob);
}

static bool key_consistent(EVP_PKEY *key)
{
    PFL_AUTO(pfl_pkey_ctx_freep) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    return ctx && EVP_PKEY_pairwise_check(ctx) == 1;
}

static enum pfl_rc parse(struct pfl_bytes pem, const struct pfl_passphrase *passphrase, EVP_PKEY **ret, struct pfl_err *err)
{
    struct ask ask = {.passphrase = passphrase};
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    PFL_ASSERT(bio != NULL);
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &ask);
    if (!key && ask.asked && !passphrase)
        return pfl_err_set(err, PFL_AUTH, "the key is encrypted and no passphrase was given");
    if (!key && ask.asked)
        return pfl_err_set(err, PFL_AUTH, "the key cannot be decrypted: wrong passphrase, or the file is damaged");
    if (!key)
        return pfl_err_set(err, PFL_MALFORMED, "no private key in PEM in it, or a damaged one");
    enum pfl_rc rc = pfl_key_check_strength(key, err);
    if (rc != PFL_OK)
        return rc;
    if (!key_consistent(key))
        return pfl_err_set(err, PFL_MALFORMED, "the key's private and public half do not fit each other");
    *ret = pfl_steal(&key);
    return PFL_OK;
}

enum pfl_rc pfl_key_load(const char *path, const struct pfl_passphrase *passphrase, EVP_PKEY **ret, struct pfl_err *err)
{
    PFL_AUTO(wiped_unref) struct pfl_blob *pem = NULL;
    if (pfl_pkcs11_is_uri(path))
        return pfl_key_token_load(path, passphrase, ret,
                                  err); /* its messages name the key, without what may be secret in the URI */
    enum pfl_rc rc = pfl_fs_check_private(path, err);
    if (rc == PFL_OK)
        rc = pfl_fs_read(path, PFL_KEY_FILE_MAX, &pem, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) char *uri = pfl_key_token_in_file(pfl_bytes_of(pem->data, pem->len));
    rc = uri ? pfl_key_token_load(uri, passphrase, ret, err) : parse(pfl_bytes_of(pem->data, pem->len), passphrase, ret, err);
    ERR_clear_error();
    if (rc != PFL_OK)
        (void)pfl_err_wrap(err, "%s", path);
    return rc;
}

/* The URI that the path is or its file holds; owned, NULL where it is neither. */
static char *uri_at(const char *path)
{
    PFL_AUTO(wiped_unref) struct pfl_blob *content = NULL;
    if (pfl_pkcs11_is_uri(path))
        return pfl_xstrdup(path);
    if (pfl_fs_read(path, PFL_KEY_FILE_MAX, &content, NULL) != PFL_OK)
        return NULL;
    return pfl_key_token_in_file(pfl_bytes_of(content->data, content->len));
}

bool pfl_key_file_in_token(const char *path)
{
    PFL_AUTO(pfl_freep) char *uri = uri_at(path);
    return uri != NULL;
}

bool pfl_key_file_encrypted(const char *path)
{
    PFL_AUTO(wiped_unref) struct pfl_blob *pem = NULL;
    PFL_AUTO(pfl_freep) char *uri = uri_at(path);
    if (uri)
        return pfl_key_token_asks(uri);
    if (pfl_fs_read(path, PFL_KEY_FILE_MAX, &pem, NULL) != PFL_OK)
        return false;
    return memmem(pem->data, pem->len, "ENCRYPTED", 9) != NULL; /* both PEM forms carry the word; base64 cannot make it a line */
}

bool pfl_key_matches(const EVP_PKEY *key, const X509 *cert)
{
    bool same = X509_check_private_key((X509 *)cert, (EVP_PKEY *)key) == 1;
    ERR_clear_error();
    return same;
}
