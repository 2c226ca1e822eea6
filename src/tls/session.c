/* SPDX-License-Identifier: Apache-2.0 */
/* A session keeps the reason of its own refusal (verification, ALPN) from inside OpenSSL's callbacks, since OpenSSL's error codes
 * only say "certificate verify failed"; what the peer says in alerts and what is not TLS at all is put in words here. */
#include "tls/session.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "pki/cert.h"
#include "tls/impl.h"

static const unsigned char ALPN_HTTP1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

struct pfl_tls_session {
    struct pfl_tls *tls;     /* owned reference: by what the peer is judged */
    struct pfl_tls *made_by; /* owned reference: whose socket functions ssl uses as long as it lives, whoever judges by now */
    SSL *ssl;                /* owned */
    struct pfl_tls_socket socket;
    bool is_server, established, shut;
    bool http1;                /* agreed on, instead of HTTP/2 */
    bool told_revoked;         /* by an alert */
    int hello_version;         /* as a server: the highest version that the client offered; 0: not known */
    char *host;                /* owned; NULL: not checked */
    struct pfl_identity *peer; /* owned */
    struct pfl_err refusal;    /* set by the callbacks: why this side refuses the other */
    struct pfl_err failure;    /* after FAILED */
};

static struct pfl_tls_session *session_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* Which alert the peer gets: OpenSSL makes it from an error code. Revocation is ours to say; for the rest a verification inside
 * OpenSSL's context finds the code, of which nothing else is used. The answer itself is pfl_verify_x509's. */
static void pick_alert(X509_STORE_CTX *ctx, enum pfl_verify_why why)
{
    if (why == PFL_WHY_REVOKED)
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REVOKED);
    else if (why == PFL_WHY_NO_CRL)
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_DIFFERENT_CRL_SCOPE); /* "certificate unknown": the fault is not the peer's */
    else if (X509_verify_cert(ctx) == 1 || X509_STORE_CTX_get_error(ctx) == X509_V_OK)
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED);
    ERR_clear_error();
}

static enum pfl_rc verify_peer(const struct pfl_tls_session *s, X509 *leaf, STACK_OF(X509) * untrusted,
                               enum pfl_verify_why *ret_why, struct pfl_err *err)
{
    *ret_why = PFL_WHY_OTHER;
    if (s->tls->pinned)
        return pfl_tls_verify_pinned(s->tls, leaf, untrusted, s->host, err);
    const struct pfl_verify_opts opts = {
        .purpose = s->is_server ? PFL_PURPOSE_CLIENT : PFL_PURPOSE_SERVER,
        .host = s->host,
        .crls = s->tls->crls,
        .crl_policy = s->tls->crl_policy,
        .ret_why = ret_why,
    };
    enum pfl_rc rc = pfl_verify_x509(s->tls->trust, leaf, untrusted, &opts, err);
    if (rc != PFL_OK && s->is_server && s->tls->expired_window_s > 0 &&
        (*ret_why == PFL_WHY_EXPIRED || *ret_why == PFL_WHY_OTHER)) /* in its very last second it is OpenSSL that says so */
        rc = pfl_tls_forgive_expired(s->tls, leaf, untrusted, err);
    return rc;
}

int pfl_tls_session_verify(X509_STORE_CTX *ctx, void *unused)
{
    (void)unused;
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct pfl_tls_session *s = session_of(ssl);
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    enum pfl_verify_why kind;
    struct pfl_err why = {0}, unreadable = {0};
    enum pfl_rc rc = verify_peer(s, leaf, X509_STORE_CTX_get0_untrusted(ctx), &kind, &why);
    if (leaf && !s->peer && pfl_identity_of_x509(leaf, &s->peer, &unreadable) != PFL_OK && rc == PFL_OK)
        rc = pfl_err_set(&why, PFL_AUTH, "%s", unreadable.msg);
    ERR_clear_error();
    if (rc == PFL_OK)
        return 1;
    pfl_err_set(&s->refusal, PFL_AUTH, "certificate refused: %s", why.msg);
    pick_alert(ctx, kind);
    return 0;
}

enum pfl_rc pfl_tls_session_revise(struct pfl_tls_session *s, struct pfl_tls *t, enum pfl_verify_why *ret_why, struct pfl_err *err)
{
    struct pfl_tls *old = s->tls;
    s->tls = pfl_tls_ref(t);
    pfl_tls_unref(old);
    X509 *leaf = SSL_get0_peer_certificate(s->ssl);
    if (!leaf)
        return PFL_OK;
    return verify_peer(s, leaf, SSL_get_peer_cert_chain(s->ssl), ret_why, err);
}

enum pfl_rc pfl_tls_session_recheck(struct pfl_tls_session *s, struct pfl_err *err)
{
    enum pfl_verify_why why;
    return pfl_tls_session_revise(s, s->tls, &why, err);
}

bool pfl_tls_session_http1(const struct pfl_tls_session *s)
{
    return s->http1;
}

bool pfl_tls_session_told_revoked(const struct pfl_tls_session *s)
{
    return s->told_revoked;
}

static void remember_version(struct pfl_tls_session *s, SSL *ssl)
{
    const unsigned char *ext = NULL;
    size_t len = 0;
    s->hello_version = (int)SSL_client_hello_get0_legacy_version(ssl);
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &ext, &len) != 1)
        return;
    struct pfl_reader r = pfl_reader_of(pfl_bytes_of(ext, len));
    for (size_t left = pfl_reader_u8(&r); left >= 2 && !r.failed; left -= 2) {
        int version = pfl_reader_u16be(&r);
        if (version <= TLS1_3_VERSION && version > s->hello_version)
            s->hello_version = version;
    }
}

/* OpenSSL asks its ALPN callback only about clients that sent the extension: those without it are refused here. Versions come
 * first: OpenSSL itself refuses an old one after this. */
int pfl_tls_session_client_hello(SSL *ssl, int *alert, void *unused)
{
    (void)unused;
    struct pfl_tls_session *s = session_of(ssl);
    const unsigned char *ext = NULL;
    size_t len = 0;
    remember_version(s, ssl);
    if (s->hello_version < (s->tls->tls12_allowed ? TLS1_2_VERSION : TLS1_3_VERSION) || s->tls->http1)
        return SSL_CLIENT_HELLO_SUCCESS;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &ext, &len) == 1)
        return SSL_CLIENT_HELLO_SUCCESS;
    pfl_err_set(&s->refusal, PFL_UNSUPPORTED, "no ALPN in its TLS hello: HTTP/2 ('h2') is needed");
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
}

int pfl_tls_session_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len,
                         void *unused)
{
    (void)unused;
    struct pfl_reader r = pfl_reader_of(pfl_bytes_of(in, in_len));
    while (pfl_reader_left(&r) > 0 && !r.failed) {
        struct pfl_bytes name = pfl_reader_bytes(&r, pfl_reader_u8(&r));
        if (name.len == 2 && memcmp(name.data, "h2", 2) == 0) {
            *out = name.data;
            *out_len = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    if (session_of(ssl)->tls->http1 && SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ALPN_HTTP1,
                                                             sizeof ALPN_HTTP1, in, in_len) == OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_OK;
    char offered[80];
    pfl_err_set(&session_of(ssl)->refusal, PFL_UNSUPPORTED, "its TLS hello offers '%s' by ALPN, HTTP/2 ('h2') is needed",
                pfl_quote(in_len > 1 ? in + 1 : in, in_len > 1 ? in_len - 1 : 0, offered, sizeof offered));
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static struct pfl_tls_session *session_new(struct pfl_tls *t, int fd, SSL_CTX *ctx, bool is_server)
{
    struct pfl_tls_session *s = pfl_xcalloc(1, sizeof *s);
    s->tls = pfl_tls_ref(t);
    s->made_by = pfl_tls_ref(t);
    s->socket.fd = fd;
    s->is_server = is_server;
    s->ssl = SSL_new(ctx);
    BIO *bio = BIO_new(t->bio);
    PFL_ASSERT(s->ssl && bio);
    BIO_set_data(bio, &s->socket);
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio);
    SSL_set_app_data(s->ssl, s);
    return s;
}

struct pfl_tls_session *pfl_tls_session_new_server(struct pfl_tls *t, int fd)
{
    struct pfl_tls_session *s = session_new(t, fd, t->server, true);
    SSL_set_accept_state(s->ssl);
    return s;
}

static bool is_ip(const char *host)
{
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

struct pfl_tls_session *pfl_tls_session_new_client(struct pfl_tls *t, int fd, const char *host)
{
    struct pfl_tls_session *s = session_new(t, fd, t->client, false);
    if (host) {
        s->host = pfl_xstrdup(host);
        if (!is_ip(host))
            SSL_set_tlsext_host_name(s->ssl, host); /* addresses do not belong into SNI (RFC 6066) */
    }
    SSL_set_connect_state(s->ssl);
    return s;
}

void pfl_tls_session_free(struct pfl_tls_session *s)
{
    if (!s)
        return;
    SSL_free(s->ssl);
    pfl_identity_unref(s->peer);
    pfl_tls_unref(s->tls);
    pfl_tls_unref(s->made_by);
    free(s->host);
    free(s);
}

static bool begins(const struct pfl_tls_session *s, const char *text)
{
    size_t len = strlen(text);
    return s->socket.head_len >= len && memcmp(s->socket.head, text, len) == 0;
}

bool pfl_tls_session_saw_http1(const struct pfl_tls_session *s)
{
    static const char *const METHODS[] = {"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "};
    if (s->established)
        return false;
    for (size_t i = 0; i < PFL_ARRAY_LEN(METHODS); i++)
        if (begins(s, METHODS[i]))
            return true;
    return false;
}

/* What came instead of TLS: a handshake or an alert is what a TLS peer begins with. */
static bool explain_not_tls(struct pfl_tls_session *s)
{
    const struct pfl_tls_socket *k = &s->socket;
    char head[4 * PFL_TLS_HEAD_MAX + 8];
    if (k->head_len == 0 ||
        ((k->head[0] == SSL3_RT_HANDSHAKE || k->head[0] == SSL3_RT_ALERT) && (k->head_len < 2 || k->head[1] == 3)))
        return false;
    if (pfl_tls_session_saw_http1(s) || begins(s, "HTTP/1."))
        pfl_err_set(&s->failure, PFL_MALFORMED, "not TLS: the first bytes look like plain HTTP/1");
    else if (begins(s, "PRI * HTTP/2") || (k->head_len >= 9 && memcmp(k->head + 3, "\x04\x00\x00\x00\x00\x00", 6) == 0))
        pfl_err_set(&s->failure, PFL_MALFORMED, "not TLS: the first bytes look like plain HTTP/2 (gRPC without TLS)");
    else
        pfl_err_set(&s->failure, PFL_MALFORMED, "not TLS: the first bytes are '%s'",
                    pfl_quote(k->head, k->head_len, head, sizeof head));
    return true;
}

static bool about_our_certificate(int alert)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
    case SSL_AD_DECRYPT_ERROR:
        return true;
    default:
        return false;
    }
}

/* Expired over there and not here: one of the two clocks is wrong. */
static void explain_expired(struct pfl_tls_session *s)
{
    const struct pfl_identity *own = s->is_server ? s->tls->server_identity : s->tls->client_identity;
    int64_t now = pfl_clock_wall() / PFL_SEC;
    char clock[32], until[32];
    pfl_time_text(now, clock);
    if (!own || own->not_after < now) {
        pfl_err_set(&s->failure, PFL_AUTH, "the peer refused our certificate: certificate expired");
        return;
    }
    pfl_time_text(own->not_after, until);
    pfl_err_set(
        &s->failure, PFL_AUTH,
        "the peer refused our certificate: certificate expired; it is valid until %s, and this machine's clock says %s: is it "
        "right?",
        until, clock);
}

static void explain_alert(struct pfl_tls_session *s, int alert)
{
    const char *text = SSL_alert_desc_string_long(alert);
    if (alert == SSL_AD_CERTIFICATE_REQUIRED) /* OpenSSL 3.0 has no text for this one */
        text = "certificate required";
    if (alert == SSL_AD_NO_APPLICATION_PROTOCOL)
        text = "no application protocol";
    s->told_revoked = alert == SSL_AD_CERTIFICATE_REVOKED;
    if (s->told_revoked)
        pfl_err_set(&s->failure, PFL_AUTH, "the peer says that our certificate is revoked");
    else if (alert == SSL_AD_CERTIFICATE_EXPIRED)
        explain_expired(s);
    else if (about_our_certificate(alert))
        pfl_err_set(&s->failure, PFL_AUTH, "the peer refused our certificate: %s", text);
    else if (alert == SSL_AD_PROTOCOL_VERSION)
        pfl_err_set(&s->failure, PFL_UNSUPPORTED, "the peer speaks no TLS version that is allowed here (%s)",
                    s->tls->tls12_allowed ? "1.2 and 1.3" : "1.3");
    else
        pfl_err_set(&s->failure, PFL_UNSUPPORTED, "the peer ended the TLS connection: %s", text);
}

static const char *version_text(int version)
{
    switch (version) {
    case TLS1_2_VERSION:
        return "TLS 1.2";
    case TLS1_1_VERSION:
        return "TLS 1.1";
    case TLS1_VERSION:
        return "TLS 1.0";
    case SSL3_VERSION:
        return "SSL 3";
    default:
        return "an unknown version";
    }
}

static void explain_version(struct pfl_tls_session *s)
{
    const char *wanted = s->tls->tls12_allowed ? "at least TLS 1.2" : "TLS 1.3";
    if (s->is_server)
        pfl_err_set(&s->failure, PFL_UNSUPPORTED, "TLS version too old: the peer offers %s, %s is needed",
                    version_text(s->hello_version), wanted);
    else
        pfl_err_set(&s->failure, PFL_UNSUPPORTED, "TLS version too old: the peer wants %s, %s is needed",
                    version_text(SSL_version(s->ssl)), wanted);
}

static void explain_ssl_error(struct pfl_tls_session *s, unsigned long code)
{
    int reason = ERR_GET_REASON(code);
    if (s->refusal.rc != PFL_OK && !s->established) {
        s->failure = s->refusal;
        return;
    }
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
        explain_alert(s, reason - SSL_AD_REASON_OFFSET);
        return;
    }
    if (!s->established && explain_not_tls(s))
        return;
    switch (ERR_GET_LIB(code) == ERR_LIB_SSL ? reason : 0) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        pfl_err_set(&s->failure, PFL_AUTH, "no client certificate");
        return;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_WRONG_VERSION_NUMBER:
        explain_version(s);
        return;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        pfl_err_set(&s->failure, PFL_UNAVAILABLE, "the peer closed the connection%s",
                    s->established ? "" : " during the TLS handshake");
        return;
    default: {
        const char *text = ERR_reason_error_string(code);
        pfl_err_set(&s->failure, PFL_MALFORMED, "TLS failed: %s", text ? text : "OpenSSL gives no reason");
    }
    }
}

/* What lies in OpenSSL's queue of errors would be taken for this call's. Looking costs a tenth of clearing, and this is done for
 * each record. */
static void forget_errors(void)
{
    if (ERR_peek_error() != 0)
        ERR_clear_error();
}

static enum pfl_tls_io outcome(struct pfl_tls_session *s, int ret)
{
    unsigned long code;
    switch (SSL_get_error(s->ssl, ret)) {
    case SSL_ERROR_NONE:
        return PFL_TLS_OK;
    case SSL_ERROR_WANT_READ:
        return PFL_TLS_AGAIN_READ;
    case SSL_ERROR_WANT_WRITE:
        return PFL_TLS_AGAIN_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        pfl_err_set(&s->failure, PFL_UNAVAILABLE, "the peer closed the connection");
        return PFL_TLS_EOF;
    case SSL_ERROR_SYSCALL:
        if (s->socket.errnum != 0 && s->refusal.rc == PFL_OK)
            pfl_err_set(&s->failure, PFL_UNAVAILABLE, "connection lost%s: %s", s->established ? "" : " during the TLS handshake",
                        strerror(s->socket.errnum));
        else
            explain_ssl_error(s, ERR_PACK(ERR_LIB_SSL, 0, SSL_R_UNEXPECTED_EOF_WHILE_READING));
        break;
    default:
        code = ERR_peek_error();
        explain_ssl_error(s, code);
    }
    ERR_clear_error();
    return PFL_TLS_FAILED;
}

/* Agreed on our side, but did the peer agree on HTTP/2? A server that ignores ALPN lets the handshake pass. */
static enum pfl_tls_io finish(struct pfl_tls_session *s)
{
    const unsigned char *proto = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(s->ssl, &proto, &len);
    s->http1 = s->is_server && s->tls->http1 && (len != 2 || memcmp(proto, "h2", 2) != 0);
    if (!s->http1 && (len != 2 || memcmp(proto, "h2", 2) != 0)) {
        pfl_err_set(&s->failure, PFL_UNSUPPORTED, "the peer did not agree on HTTP/2 ('h2') by ALPN");
        return PFL_TLS_FAILED;
    }
    if (!s->peer &&
        !(s->is_server && s->tls->guests)) { /* cannot be: FAIL_IF_NO_PEER_CERT; checked all the same, since all else rests on it */
        pfl_err_set(&s->failure, PFL_AUTH, "no certificate");
        return PFL_TLS_FAILED;
    }
    s->established = true;
    return PFL_TLS_OK;
}

enum pfl_tls_io pfl_tls_session_handshake(struct pfl_tls_session *s)
{
    ERR_clear_error();
    int ret = SSL_do_handshake(s->ssl);
    return ret == 1 ? finish(s) : outcome(s, ret);
}

enum pfl_tls_io pfl_tls_session_read(struct pfl_tls_session *s, void *buf, size_t len, size_t *ret_n)
{
    forget_errors();
    int ret = SSL_read_ex(s->ssl, buf, len, ret_n);
    return ret == 1 ? PFL_TLS_OK : outcome(s, ret);
}

enum pfl_tls_io pfl_tls_session_write(struct pfl_tls_session *s, const void *buf, size_t len, size_t *ret_n)
{
    forget_errors();
    int ret = SSL_write_ex(s->ssl, buf, len, ret_n);
    return ret == 1 ? PFL_TLS_OK : outcome(s, ret);
}

bool pfl_tls_session_pending(const struct pfl_tls_session *s)
{
    return SSL_has_pending(s->ssl) == 1;
}

void pfl_tls_session_shutdown(struct pfl_tls_session *s)
{
    if (s->established && !s->shut && s->failure.rc == PFL_OK)
        (void)SSL_shutdown(s->ssl);
    s->shut = true;
    ERR_clear_error();
}

enum pfl_rc pfl_tls_session_rc(const struct pfl_tls_session *s)
{
    return s->failure.rc == PFL_OK ? PFL_UNAVAILABLE : s->failure.rc;
}

const char *pfl_tls_session_reason(const struct pfl_tls_session *s)
{
    return s->failure.msg;
}

struct pfl_identity *pfl_tls_session_peer(const struct pfl_tls_session *s)
{
    return s->peer;
}

const char *pfl_tls_session_version(const struct pfl_tls_session *s)
{
    return SSL_get_version(s->ssl);
}

const char *pfl_tls_session_cipher(const struct pfl_tls_session *s)
{
    return SSL_get_cipher_name(s->ssl);
}
