/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate under which a CA's service answers. Its key lives in memory only, and as short as the service runs. */
#include <openssl/x509.h>

#include <string.h>

#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/digest.h"
#include "pki/enrol.h"
#include "pki/key.h"

void pfl_service_identity_deinit(struct pfl_service_identity *s)
{
    pfl_x509_free(s->crt);
    pfl_x509s_free(s->chain);
    pfl_key_free(s->key);
    *s = (struct pfl_service_identity){0};
}

static enum pfl_rc make_csr(EVP_PKEY *key, const struct pfl_strs *sans, struct pfl_csr **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {.limit = PFL_CSR_MAX};
    enum pfl_rc rc = pfl_csr_make("service", sans, "serverAuth", key, &der, err);
    return rc == PFL_OK ? pfl_csr_parse(pfl_buf_view(&der), ret, err) : rc;
}

/* Behind the leaf: the intermediate where there is one, and the root. */
static STACK_OF(X509) * chain_of(const struct pfl_ca *ca)
{
    STACK_OF(X509) *chain = X509_chain_up_ref(pfl_ca_chain(ca));
    if (!chain)
        chain = sk_X509_new_null();
    X509 *root = pfl_ca_root(ca);
    PFL_ASSERT(chain && X509_up_ref(root) == 1 && sk_X509_push(chain, root) > 0);
    return chain;
}

enum pfl_rc pfl_enrol_service_identity(const struct pfl_ca *ca, const struct pfl_strs *sans, int64_t lifetime_s, int64_t now,
                                       struct pfl_service_identity *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_csr_freep) struct pfl_csr *csr = NULL;
    PFL_AUTO(pfl_service_identity_deinit) struct pfl_service_identity s = {0};
    const struct pfl_grant grant = {
        .name = "service",
        .role = "ca",
        .sans = *sans,
        .purpose = "serverAuth",
        .lifetime_s = lifetime_s,
        .now = now,
        .actor = "ca serve",
        .action = "issue",
    };
    enum pfl_rc rc = pfl_key_generate("p256", &s.key, err);
    if (rc == PFL_OK)
        rc = make_csr(s.key, sans, &csr, err);
    if (rc == PFL_OK)
        rc = pfl_ca_sign(ca, csr, &grant, &s.crt, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "the service's own certificate");
    s.chain = chain_of(ca);
    *ret = s;
    memset(&s, 0, sizeof(s)); /* moved */
    return PFL_OK;
}

void pfl_enrol_ca_hash(const struct pfl_ca *ca, char out[72])
{
    uint8_t hash[PFL_SHA256_LEN];
    PFL_ASSERT(pfl_cert_spki_hash(pfl_ca_root(ca), hash));
    for (size_t i = 0; i < 7; i++)
        out[i] = "sha256:"[i];
    pfl_hex(pfl_bytes_of(hash, sizeof hash), out + 7);
}
