/* SPDX-License-Identifier: Apache-2.0 */
/* What context.c, session.c and bio.c share. Not for other layers. */
#ifndef PFL_TLS_IMPL_H
#define PFL_TLS_IMPL_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "pki/verify.h"
#include "tls/context.h"

enum {
    PFL_TLS_HEAD_MAX = 16,         /* first bytes from a peer that are kept, to say what they are when they are not TLS */
    PFL_TLS_READ_AHEAD = 64 << 10, /* bytes that one read from the socket may take in: several records */
};

struct pfl_tls {
    atomic_uint refs;
    bool tls12_allowed;
    struct pfl_trust *trust;                                /* owned */
    SSL_CTX *server, *client;                               /* owned */
    BIO_METHOD *bio;                                        /* owned */
    struct pfl_identity *server_identity, *client_identity; /* owned */
    struct pfl_crl_set *crls;                               /* a reference; never NULL */
    enum pfl_crl_policy crl_policy;
    bool guests;              /* server: clients without a certificate are let in */
    bool http1;               /* server: a client that does not offer h2 speaks HTTP/1.1 */
    int64_t expired_window_s; /* server: how long a client certificate may have expired */
    bool pinned;              /* client: trust is NULL, the root is the one whose key has this hash */
    uint8_t pin[32];
    struct pfl_tls *base; /* a reference: who owns everything above but crls. NULL: this one does */
};

/** context.c, for service.c: what every context has, without certificates; t->trust may be NULL. */
enum pfl_rc pfl_tls_init_contexts(struct pfl_tls *t, struct pfl_err *err) PFL_WARN_UNUSED;

/** service.c: a server's certificate by the hash of its root's key. */
enum pfl_rc pfl_tls_verify_pinned(const struct pfl_tls *t, X509 *leaf, STACK_OF(X509) * untrusted, const char *host,
                                  struct pfl_err *err) PFL_WARN_UNUSED;
/** service.c: a client certificate that was refused for having expired: OK where that is all and not too long ago. err keeps the
 *  reason of the refusal. */
enum pfl_rc pfl_tls_forgive_expired(const struct pfl_tls *t, X509 *leaf, STACK_OF(X509) * untrusted,
                                    struct pfl_err *err) PFL_WARN_UNUSED;

/** crls.c: reads files->crl and files->crl_kept into t. */
enum pfl_rc pfl_tls_load_crls(struct pfl_tls *t, const struct pfl_tls_files *files, struct pfl_err *err) PFL_WARN_UNUSED;

/** The callbacks that context.c puts into its SSL_CTXs; the SSL's application data is its session. */
int pfl_tls_session_verify(X509_STORE_CTX *ctx, void *unused);
int pfl_tls_session_client_hello(SSL *ssl, int *alert, void *unused);
int pfl_tls_session_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len,
                         void *unused);

/** A socket BIO that never raises SIGPIPE and that remembers the first bytes from the peer. */
struct pfl_tls_socket {
    int fd;
    uint8_t head[PFL_TLS_HEAD_MAX];
    size_t head_len;
    bool drained; /* the last read took all there was */
    int errnum;   /* of the last failed read or write; 0: none. EPIPE and ECONNRESET end up here */
};
BIO_METHOD *pfl_tls_bio_method_new(void);

#endif
