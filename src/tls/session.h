/* SPDX-License-Identifier: Apache-2.0 */
/* One side of one TLS connection on a non-blocking socket. The handshake checks the other side's certificate with the pki's one
 * verification; every refusal, on this side or on the other, can be told in words afterwards. The socket stays the caller's. */
#ifndef PFL_TLS_SESSION_H
#define PFL_TLS_SESSION_H

#include "tls/context.h"

enum pfl_tls_io {
    PFL_TLS_OK,
    PFL_TLS_AGAIN_READ,  /* nothing happened: call again when the socket can be read */
    PFL_TLS_AGAIN_WRITE, /* ... can be written */
    PFL_TLS_EOF,         /* the peer closed in order */
    PFL_TLS_FAILED,      /* over; pfl_tls_session_reason says why */
};

struct pfl_tls_session;
/** Both take a reference of the context. fd is borrowed for the session's life. host is what was dialled and must be covered by the
 *  peer's certificate; NULL: not checked (unix sockets: their path is no name that a CA vouches for). */
struct pfl_tls_session *pfl_tls_session_new_server(struct pfl_tls *t, int fd);
struct pfl_tls_session *pfl_tls_session_new_client(struct pfl_tls *t, int fd, const char *host);
void pfl_tls_session_free(struct pfl_tls_session *s); /* accepts NULL */

/** OK once the handshake is over on this side: the peer's certificate is good and HTTP/2 is agreed. As a client under TLS 1.3 the
 *  server may still refuse our certificate: the first read tells. */
enum pfl_tls_io pfl_tls_session_handshake(struct pfl_tls_session *s);
/** At most one TLS record. OK means *ret_n > 0. */
enum pfl_tls_io pfl_tls_session_read(struct pfl_tls_session *s, void *buf, size_t len, size_t *ret_n);
/** Writes a part, at most one TLS record (16 KiB). After AGAIN the same bytes (or more of them) must come again, from anywhere. */
enum pfl_tls_io pfl_tls_session_write(struct pfl_tls_session *s, const void *buf, size_t len, size_t *ret_n);
/** Bytes lie here that the socket does not have any more: read again without waiting for it. */
bool pfl_tls_session_pending(const struct pfl_tls_session *s);
/** Sends close_notify, once, if it can be sent at once. */
void pfl_tls_session_shutdown(struct pfl_tls_session *s);

/** A server's session of a context that allows it: the client offered no h2, HTTP/1.1 follows. */
bool pfl_tls_session_http1(const struct pfl_tls_session *s);

/** After FAILED: the class (AUTH where certificates are the matter, MALFORMED, TIMEOUT, IO, UNAVAILABLE) and why in words. */
enum pfl_rc pfl_tls_session_rc(const struct pfl_tls_session *s);
const char *pfl_tls_session_reason(const struct pfl_tls_session *s);
/** The peer said by its alert that our certificate is revoked. Any peer can say so: it is no proof. */
bool pfl_tls_session_told_revoked(const struct pfl_tls_session *s);
/** Uses another context's trust and CRLs from now on (a reference is taken), and looks at the peer's certificate again, if it has
 *  come already: AUTH with the reason where it would be refused today. ret_why may be NULL. */
enum pfl_rc pfl_tls_session_revise(struct pfl_tls_session *s, struct pfl_tls *t, enum pfl_verify_why *ret_why,
                                   struct pfl_err *err) PFL_WARN_UNUSED;
/** Looks at the peer's certificate once more, by the present context and today's date: AUTH where it would be refused. */
enum pfl_rc pfl_tls_session_recheck(struct pfl_tls_session *s, struct pfl_err *err) PFL_WARN_UNUSED;
/** The peer began with a plain HTTP/1 request: it can read a plain answer. */
bool pfl_tls_session_saw_http1(const struct pfl_tls_session *s);
/** The peer's identity: verified after the handshake; before it, of a refused peer, what its certificate claims (for messages
 *  only). NULL where no certificate came. Borrowed. */
struct pfl_identity *pfl_tls_session_peer(const struct pfl_tls_session *s);
const char *pfl_tls_session_version(const struct pfl_tls_session *s); /* "TLSv1.3" */
const char *pfl_tls_session_cipher(const struct pfl_tls_session *s);  /* "TLS_AES_128_GCM_SHA256" */

#endif
