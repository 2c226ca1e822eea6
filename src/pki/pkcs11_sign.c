/* SPDX-License-Identifier: Apache-2.0 */
/* Where OpenSSL meets a token: an EC_KEY or RSA of public numbers whose method calls the token for the private operation. These
 * methods are deprecated since OpenSSL 3.0 in favour of providers; they are used because a provider that does no more than this is
 * ten times the code, and Debian 12 has none that is ready. The whole dependency on them is this file. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "pki/key.h"
#include "pki/pkcs11_impl.h"

enum { SIGNATURE_MAX = 2 * PFL_RSA_BITS_MAX / 8, EC_SIGNATURE_MAX = 2 * 66 };

PFL_DEFINE_FREEP(ec_key, EC_KEY, EC_KEY_free)
PFL_DEFINE_FREEP(rsa_key, RSA, RSA_free)
PFL_DEFINE_FREEP(bn, BIGNUM, BN_free)

/* Made once, for the process's life, as PKCS#11's modules are. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static EC_KEY_METHOD *ec_method;
static RSA_METHOD *rsa_method;
static int ec_index, rsa_index, pkey_index; /* where the struct pfl_p11_key hangs */

static void drop(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    pfl_p11_key_unref(ptr);
}

/* A copy would hold the pointer without a reference: it gets none, and cannot sign. */
static int no_copy(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **from_d, int idx, long argl, void *argp)
{
    (void)to, (void)from, (void)idx, (void)argl, (void)argp;
    *from_d = NULL;
    return 1;
}

/* The operator sees it in the log; OpenSSL's queue says only that it failed. */
static bool token_signs(struct pfl_p11_key *key, CK_MECHANISM_TYPE mechanism, struct pfl_bytes in, uint8_t *out, size_t *out_len)
{
    struct pfl_err err = {0};
    if (key && pfl_p11_sign(key, mechanism, in, out, out_len, &err) == PFL_OK)
        return true;
    pfl_error("%s", key ? err.msg : "a copy of a token's key cannot sign");
    ERR_raise_data(ERR_LIB_USER, ERR_R_OPERATION_FAIL, "%s", key ? err.msg : "a copy of a token's key");
    return false;
}

/* kinv and r are of no use here: the token draws its own. */
static ECDSA_SIG *ec_sign(const unsigned char *digest, int digest_len, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *ec)
{
    (void)kinv, (void)r;
    uint8_t raw[EC_SIGNATURE_MAX];
    size_t len = sizeof raw, order = ((size_t)EC_GROUP_order_bits(EC_KEY_get0_group(ec)) + 7) / 8;
    if (digest_len < 0)
        return NULL;
    /* ECDSA takes the leftmost bits of a digest that is longer than the order; not every token does so by itself */
    struct pfl_bytes in = pfl_bytes_of(digest, (size_t)digest_len < order ? (size_t)digest_len : order);
    if (!token_signs(EC_KEY_get_ex_data(ec, ec_index), CKM_ECDSA, in, raw, &len))
        return NULL;
    if (len == 0 || len % 2 != 0 || len > 2 * order)
        return NULL;
    BIGNUM *br = BN_bin2bn(raw, (int)(len / 2), NULL), *bs = BN_bin2bn(raw + len / 2, (int)(len / 2), NULL);
    ECDSA_SIG *sig = ECDSA_SIG_new();
    if (sig && br && bs && ECDSA_SIG_set0(sig, br, bs) == 1)
        return sig;
    BN_free(br);
    BN_free(bs);
    ECDSA_SIG_free(sig);
    return NULL;
}

/* PKCS#1 v1.5 comes as DigestInfo, PSS already padded. */
static int rsa_sign(int len, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
    size_t out_len = (size_t)RSA_size(rsa);
    if (len < 0 || (padding != RSA_PKCS1_PADDING && padding != RSA_NO_PADDING))
        return -1;
    if (!token_signs(RSA_get_ex_data(rsa, rsa_index), padding == RSA_PKCS1_PADDING ? CKM_RSA_PKCS : CKM_RSA_X_509,
                     pfl_bytes_of(from, (size_t)len), to, &out_len))
        return -1;
    return (int)out_len;
}

/* Nothing of ours decrypts with a node's key; a token that was asked to would be somebody's oracle. */
static int rsa_no_decrypt(int len, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
    (void)len, (void)from, (void)to, (void)rsa, (void)padding;
    return -1;
}

static void make_methods(void)
{
    int (*sign)(int, const unsigned char *, int, unsigned char *, unsigned *, const BIGNUM *, const BIGNUM *, EC_KEY *) = NULL;
    int (*setup)(EC_KEY *, BN_CTX *, BIGNUM **, BIGNUM **) = NULL;
    ec_method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
    rsa_method = RSA_meth_dup(RSA_PKCS1_OpenSSL());
    PFL_ASSERT(ec_method && rsa_method);
    EC_KEY_METHOD_get_sign(ec_method, &sign, &setup, NULL);
    EC_KEY_METHOD_set_sign(ec_method, sign, setup, ec_sign);
    PFL_ASSERT(RSA_meth_set1_name(rsa_method, "PKCS#11") == 1);
    RSA_meth_set_priv_enc(rsa_method, rsa_sign);
    RSA_meth_set_priv_dec(rsa_method, rsa_no_decrypt);
    RSA_meth_set_flags(rsa_method, RSA_FLAG_EXT_PKEY | RSA_METHOD_FLAG_NO_CHECK);
    ec_index = EC_KEY_get_ex_new_index(0, NULL, NULL, no_copy, drop);
    rsa_index = RSA_get_ex_new_index(0, NULL, NULL, no_copy, drop);
    pkey_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_EVP_PKEY, 0, NULL, NULL, no_copy, drop);
    PFL_ASSERT(ec_index >= 0 && rsa_index >= 0 && pkey_index >= 0);
}

static struct pfl_p11_key *ref(struct pfl_p11_key *key)
{
    atomic_fetch_add(&key->refs, 1);
    return key;
}

/* Takes the EC_KEY or RSA where `assigned`. */
static EVP_PKEY *finish(EVP_PKEY *pkey, bool assigned, struct pfl_p11_key *key)
{
    if (assigned && EVP_PKEY_set_ex_data(pkey, pkey_index, key) == 1) {
        (void)ref(key);
        return pkey;
    }
    EVP_PKEY_free(pkey);
    return NULL;
}

EVP_PKEY *pfl_p11_evp_ec(struct pfl_p11_key *key, int curve, struct pfl_bytes point)
{
    PFL_ASSERT(pthread_once(&once, make_methods) == 0);
    PFL_AUTO(pfl_ec_key_freep) EC_KEY *ec = EC_KEY_new_by_curve_name(curve);
    EVP_PKEY *pkey = EVP_PKEY_new();
    bool ok = ec && pkey && EC_KEY_oct2key(ec, point.data, point.len, NULL) == 1 && EC_KEY_set_method(ec, ec_method) == 1 &&
              EC_KEY_set_ex_data(ec, ec_index, key) == 1;
    if (ok)
        (void)ref(key);
    return finish(pkey, ok && EVP_PKEY_set1_EC_KEY(pkey, ec) == 1, key);
}

EVP_PKEY *pfl_p11_evp_rsa(struct pfl_p11_key *key, struct pfl_bytes modulus, struct pfl_bytes exponent)
{
    PFL_ASSERT(pthread_once(&once, make_methods) == 0);
    PFL_AUTO(pfl_rsa_key_freep) RSA *rsa = RSA_new();
    EVP_PKEY *pkey = EVP_PKEY_new();
    PFL_AUTO(pfl_bn_freep) BIGNUM *n = BN_bin2bn(modulus.data, (int)modulus.len, NULL);
    PFL_AUTO(pfl_bn_freep) BIGNUM *e = BN_bin2bn(exponent.data, (int)exponent.len, NULL);
    bool ok = rsa && pkey && n && e && RSA_set0_key(rsa, n, e, NULL) == 1;
    if (ok)
        n = e = NULL; /* rsa's now */
    ok = ok && RSA_set_method(rsa, rsa_method) == 1 && RSA_set_ex_data(rsa, rsa_index, key) == 1;
    if (ok)
        (void)ref(key);
    return finish(pkey, ok && EVP_PKEY_set1_RSA(pkey, rsa) == 1, key);
}

struct pfl_p11_key *pfl_p11_key_of(const EVP_PKEY *key)
{
    PFL_ASSERT(pthread_once(&once, make_methods) == 0);
    return key ? EVP_PKEY_get_ex_data(key, pkey_index) : NULL;
}

const struct pfl_pkcs11_uri *pfl_pkcs11_uri_of(const EVP_PKEY *key)
{
    const struct pfl_p11_key *k = pfl_p11_key_of(key);
    return k ? &k->uri : NULL;
}
