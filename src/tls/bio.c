/* SPDX-License-Identifier: Apache-2.0 */
/* The socket below OpenSSL. OpenSSL's own socket BIO writes with write(2), which raises SIGPIPE when the peer is gone: a library
 * may neither die of that nor change the signal's disposition for the program that embeds it. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "tls/impl.h"

static bool would_block(int errnum)
{
    return errnum == EAGAIN || errnum == EWOULDBLOCK || errnum == EINTR;
}

static int socket_write(BIO *bio, const char *data, size_t len, size_t *ret_written)
{
    struct pfl_tls_socket *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = send(s->fd, data, len, MSG_NOSIGNAL);
    if (n >= 0) {
        *ret_written = (size_t)n;
        return 1;
    }
    if (would_block(errno))
        BIO_set_retry_write(bio);
    else
        s->errnum = errno;
    return 0;
}

static int socket_read(BIO *bio, char *data, size_t len, size_t *ret_read)
{
    struct pfl_tls_socket *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (s->drained) { /* polling is level-triggered: asking again right behind a short read would only cost a call */
        s->drained = false;
        BIO_set_retry_read(bio);
        return 0;
    }
    ssize_t n = recv(s->fd, data, len, 0);
    if (n <= 0) {
        if (n < 0 && would_block(errno))
            BIO_set_retry_read(bio);
        else if (n < 0)
            s->errnum = errno;
        else
            BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        return 0;
    }
    *ret_read = (size_t)n;
    s->drained = (size_t)n < len;
    if (s->head_len < sizeof s->head) {
        size_t take = (size_t)n < sizeof s->head - s->head_len ? (size_t)n : sizeof s->head - s->head_len;
        memcpy(s->head + s->head_len, data, take);
        s->head_len += take;
    }
    return 1;
}

static long socket_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    if (cmd == BIO_CTRL_FLUSH)
        return 1;
    if (cmd == BIO_CTRL_EOF)
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    return 0;
}

BIO_METHOD *pfl_tls_bio_method_new(void)
{
    int type = BIO_get_new_index();
    BIO_METHOD *m = BIO_meth_new((type < 0 ? 0 : type) | BIO_TYPE_SOURCE_SINK, "p2pfl socket");
    PFL_ASSERT(m != NULL);
    BIO_meth_set_write_ex(m, socket_write);
    BIO_meth_set_read_ex(m, socket_read);
    BIO_meth_set_ctrl(m, socket_ctrl);
    return m;
}
