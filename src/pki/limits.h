/* SPDX-License-Identifier: Apache-2.0 */
/* What a certificate, a request or a list from outside may be, and why. The numbers of the CA's service: runtime/ca_limits.h. */
#ifndef PFL_PKI_LIMITS_H
#define PFL_PKI_LIMITS_H

enum {
    PFL_DER_CERT_MAX = 32 << 10,  /* largest certificate in DER, bytes: RSA 8192 with 64 names is below 8 KiB */
    PFL_CERT_FILE_MAX = 64 << 10, /* largest certificate file, bytes */
    PFL_CERTS_MAX = 8,            /* most certificates in one file */
    PFL_CHAIN_MAX = 4,            /* certificates in a chain, leaf and root included: a handshake costs a signature for each */
    PFL_CSR_MAX = 16 << 10,       /* largest request, bytes */
    PFL_KEY_FILE_MAX = 64 << 10,  /* largest key file, bytes */
    PFL_RSA_BITS_MIN = 2048,
    PFL_RSA_BITS_MAX = 8192, /* more would make each verification a millisecond's work and more */
    PFL_EC_BITS_MIN = 256,

    PFL_NAME_MAX = 63,        /* longest federation, role or node name */
    PFL_SPIFFE_ID_MAX = 2048, /* as the SPIFFE ID standard says */
    PFL_SANS_MAX = 64,        /* most subject alternative names that are read from one certificate */

    PFL_CRL_MAX = 4 << 20,       /* largest CRL, bytes of DER: about 100,000 entries */
    PFL_CRL_FILE_MAX = 8 << 20,  /* largest file of CRLs: PEM takes a third more */
    PFL_CRL_SET_MAX = 8,         /* most issuers in a set */
    PFL_CRL_FUTURE_S = 300,      /* a thisUpdate further in the future than this is refused: room for clocks that differ */
    PFL_CRL_NUMBER_HEX_MAX = 40, /* RFC 5280 5.2.3: at most 20 octets */
};

#endif
