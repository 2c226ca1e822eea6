/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tls rpc */
/* A hostile peer behind the handshake: its bytes meet the whole server (input starts with an even byte) or the whole client (odd)
 * over a unix socket in plaintext. The second byte's lowest bit: HTTP/2's opening is put before the rest. Whatever comes, nothing
 * is leaked, overrun or waited for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "rpc/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t OPENING[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
enum { SETTINGS_AT = 24, OPENING_LEN = 33, TURNS_MAX = 64 };

static void on_call(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    (void)user;
    if (request->len % 3 == 2)
        pfl_rpc_call_fail(call, PFL_GRPC_ABORTED, "%s", "\x01%");
    else
        pfl_rpc_call_reply(call, NULL);
}

static void on_closed(void *user)
{
    *(bool *)user = true;
}

static void on_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    PFL_ASSERT((status->code == PFL_GRPC_OK) == (response != NULL));
    ++*(unsigned *)user;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    return un;
}

static void say(int fd, const uint8_t *data, size_t size, const uint8_t *opening, size_t opening_len)
{
    if (opening)
        (void)!send(fd, opening, opening_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)!send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
}

static void turn(uv_loop_t *loop, int fd)
{
    char sink[4096];
    for (int i = 0; i < TURNS_MAX; i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        while (fd >= 0 && recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0) {
        }
    }
}

static void attack_server(uv_loop_t *loop, const char *path, const uint8_t *data, size_t size, bool opening)
{
    static const struct pfl_rpc_method METHODS[] = {{"/a", on_call, false}, {"/b", on_call, true}};
    char address[128];
    snprintf(address, sizeof address, "unix://%s", path);
    const struct pfl_rpc_server_opts opts = {
        .loop = loop, .address = address, .methods = METHODS, .n_methods = 2, .health = true, .reflection = true};
    struct pfl_rpc_server *server = NULL;
    PFL_ASSERT(pfl_rpc_server_new(&opts, &server, NULL) == PFL_OK);
    struct sockaddr_un un = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    PFL_ASSERT(connect(fd, (void *)&un, sizeof un) == 0);
    say(fd, data, size, opening ? OPENING : NULL, OPENING_LEN);
    turn(loop, fd);
    close(fd);
    bool closed = false;
    pfl_rpc_server_close(server, 0, on_closed, &closed);
    while (!closed)
        uv_run(loop, UV_RUN_ONCE);
}

static void attack_client(uv_loop_t *loop, const char *path, const uint8_t *data, size_t size, bool opening)
{
    char target[128];
    unsigned n_done = 0;
    bool closed = false;
    struct sockaddr_un un = address_of(path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    PFL_ASSERT(bind(listener, (void *)&un, sizeof un) == 0 && listen(listener, 4) == 0);
    snprintf(target, sizeof target, "unix://%s", path);
    const struct pfl_rpc_channel_opts opts = {.loop = loop, .target = target, .response_limit = 1000};
    struct pfl_rpc_channel *ch = NULL;
    PFL_ASSERT(pfl_rpc_channel_new(&opts, &ch, NULL) == PFL_OK);
    for (int i = 0; i < 3; i++)
        pfl_rpc_channel_call(ch, "/a", NULL, i == 2 ? 10 * PFL_SEC : 0, on_done, &n_done);
    for (int i = 0; i < 4; i++)
        uv_run(loop, UV_RUN_NOWAIT);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd >= 0)
        say(fd, data, size, opening ? OPENING + SETTINGS_AT : NULL, OPENING_LEN - SETTINGS_AT);
    turn(loop, fd);
    if (fd >= 0)
        close(fd);
    pfl_rpc_channel_close(ch, on_closed, &closed);
    while (!closed)
        uv_run(loop, UV_RUN_ONCE);
    PFL_ASSERT(n_done == 3);
    close(listener);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    char dir[] = "/tmp/pfl-fuzz-XXXXXX", path[64];
    PFL_ASSERT(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/s", dir);
    uv_loop_t loop;
    PFL_ASSERT(uv_loop_init(&loop) == 0);
    pfl_log_set_level(PFL_LOG_ERROR);
    (data[0] % 2 ? attack_client : attack_server)(&loop, path, data + 2, size - 2, data[1] % 2);
    uv_run(&loop, UV_RUN_DEFAULT);
    PFL_ASSERT(uv_loop_close(&loop) == 0);
    rmdir(dir);
    return 0;
}
