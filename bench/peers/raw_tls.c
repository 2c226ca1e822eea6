/* SPDX-License-Identifier: Apache-2.0 */
/* The limit of a transport on this machine: SSL_write and SSL_read of the same bytes over mutual TLS 1.3, blocking sockets, one
 * thread for each connection, nothing around the bytes but their length. It uses the suite that p2pfl prefers. The receiver reads
 * each message into memory of its own, as a transport must that hands messages over, and answers with one byte.
 *
 *   raw_tls CERTS     understands `send BYTES COUNT TARGET` and `calls TARGET 1 1 MS` of bench/tools/bench_rpc.c */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { RECORD = 16384, READ_AHEAD = 256 << 10, SMALL = 64, LATENCIES_MAX = 1 << 22 };

static void die(const char *what)
{
    (void)fprintf(stderr, "raw_tls: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static SSL_CTX *context(const char *certs, const char *side, const SSL_METHOD *method)
{
    char crt[512], key[512], ca[512];
    (void)snprintf(crt, sizeof(crt), "%s/%s.crt", certs, side);
    (void)snprintf(key, sizeof(key), "%s/%s.key", certs, side);
    (void)snprintf(ca, sizeof(ca), "%s/ca.crt", certs);
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_use_certificate_chain_file(ctx, crt) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
        die("certificates");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD);
    return ctx;
}

static SSL *session(SSL_CTX *ctx, int fd, int (*handshake)(SSL *))
{
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    SSL *ssl = SSL_new(ctx);
    if (!ssl || SSL_set_fd(ssl, fd) != 1 || handshake(ssl) != 1)
        die("handshake");
    return ssl;
}

static int read_all(SSL *ssl, uint8_t *to, size_t len)
{
    for (size_t got = 0, n = 0; got < len; got += n) {
        size_t want = len - got < RECORD ? len - got : RECORD;
        if (SSL_read_ex(ssl, to + got, want, &n) != 1)
            return 0;
    }
    return 1;
}

static void write_all(SSL *ssl, const uint8_t *from, size_t len)
{
    for (size_t put = 0, n = 0; put < len; put += n) {
        size_t want = len - put < RECORD ? len - put : RECORD;
        if (SSL_write_ex(ssl, from + put, want, &n) != 1)
            die("write");
    }
}

static void *serve_one(void *arg)
{
    SSL *ssl = arg;
    for (uint64_t len = 0; read_all(ssl, (uint8_t *)&len, sizeof(len));) {
        uint8_t *message = malloc(len);
        if (!message || !read_all(ssl, message, len))
            die("message");
        write_all(ssl, message + len - 1, 1);
        free(message);
    }
    return NULL;
}

struct server {
    SSL_CTX *ctx;
    int fd;
};

static void *serve(void *arg)
{
    const struct server *s = arg;
    for (;;) {
        pthread_t thread;
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0 || pthread_create(&thread, NULL, serve_one, session(s->ctx, fd, SSL_accept)) != 0)
            die("accept");
    }
    return NULL;
}

static void start_server(struct server *s)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    pthread_t thread;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s->fd, (struct sockaddr *)&addr, len) != 0 || listen(s->fd, 16) != 0 ||
        getsockname(s->fd, (struct sockaddr *)&addr, &len) != 0 || pthread_create(&thread, NULL, serve, s) != 0)
        die("server");
    printf("LISTEN 127.0.0.1:%d\n", ntohs(addr.sin_port));
    (void)fflush(stdout);
}

static SSL *dial(SSL_CTX *ctx, const char *target)
{
    static char known[64];
    static SSL *ssl;
    if (ssl && strcmp(known, target) == 0)
        return ssl;
    const char *colon = strchr(target, ':');
    if (!colon)
        die("target");
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    addr.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0)
        die("connect");
    (void)snprintf(known, sizeof(known), "%s", target);
    return ssl = session(ctx, fd, SSL_connect);
}

static void exchange(SSL *ssl, const uint8_t *data, uint64_t len)
{
    uint8_t small[sizeof(len) + SMALL], answer;
    if (len == SMALL) { /* one record */
        memcpy(small, &len, sizeof(len));
        memcpy(small + sizeof(len), data, SMALL);
        write_all(ssl, small, sizeof(small));
    } else {
        write_all(ssl, (const uint8_t *)&len, sizeof(len));
        write_all(ssl, data, len);
    }
    if (!read_all(ssl, &answer, 1))
        die("answer");
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void send_messages(SSL_CTX *ctx, const char *target, uint64_t bytes, unsigned count)
{
    static uint8_t *payload;
    static uint64_t payload_len;
    if (payload_len != bytes) {
        free(payload);
        payload = malloc(bytes + 1);
        if (!payload)
            die("memory");
        memset(payload, 'w', bytes);
        payload_len = bytes;
    }
    SSL *ssl = dial(ctx, target);
    double from = now();
    for (unsigned i = 0; i < count; i++)
        exchange(ssl, payload, bytes);
    double s = now() - from;
    printf("{\"seconds\":%.6f,\"mb_per_s\":%.1f}\n", s, (double)bytes * count / s / 1e6);
}

static void calls(SSL_CTX *ctx, const char *target, double seconds)
{
    static double took[LATENCIES_MAX];
    static const uint8_t payload[SMALL];
    SSL *ssl = dial(ctx, target);
    size_t n = 0;
    double from = now(), at = from;
    while (at - from < seconds && n < LATENCIES_MAX) {
        exchange(ssl, payload, SMALL);
        double then = at;
        at = now();
        took[n++] = (at - then) * 1e6;
    }
    qsort(took, n, sizeof(*took), by_value);
    printf("{\"n\":%zu,\"per_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", n, (double)n / (at - from), took[n / 2],
           took[n * 99 / 100]);
}

int main(int argc, char **argv)
{
    char line[512];
    if (argc != 2)
        return 2;
    struct server server = {.ctx = context(argv[1], "server", TLS_server_method())};
    SSL_CTX *client = context(argv[1], "client", TLS_client_method());
    start_server(&server);
    while (fgets(line, sizeof(line), stdin)) {
        char *words[8] = {0}, *rest = line;
        size_t n = 0;
        line[strcspn(line, "\n")] = '\0';
        for (char *w; n < 8 && (w = strsep(&rest, " ")) != NULL;)
            words[n++] = w;
        if (n == 4 && strcmp(words[0], "send") == 0)
            send_messages(client, words[3], strtoull(words[1], NULL, 10), (unsigned)strtoul(words[2], NULL, 10));
        else if (n == 5 && strcmp(words[0], "calls") == 0)
            calls(client, words[1], (double)strtoul(words[4], NULL, 10) / 1e3);
        else
            die("no such command");
        (void)fflush(stdout);
    }
    _exit(0);
}
