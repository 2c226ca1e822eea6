/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* Lines for the control socket meet a whole node (plaintext, on a Unix socket, alone). Whatever comes, it answers with one line
 * each and lives. What would dial or shut it down is left out: another address is not this test's to call. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "learning/aggregator.h"
#include "learning/dummy.h"
#include "pki/digest.h"
#include "runtime/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TURNS = 40 };

static uv_loop_t loop;
static struct pfl_driver *node;
static struct sockaddr_un control = {.sun_family = AF_UNIX};
static char dir[] = "/tmp/pfl-fuzz-control-XXXXXX";

static void clear_up(void)
{
    pfl_driver_shutdown(node, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    char *argv[] = {"rm", "-r", dir, NULL};
    (void)execv("/bin/rm", argv);
}

static void set_up(void)
{
    struct pfl_err err = {0};
    char address[64];
    struct pfl_driver_opts opts = {.loop = &loop, .name = "fuzzed", .address = address, .state_dir = dir};
    pfl_log_set_level(PFL_LOG_ERROR);
    (void)signal(SIGPIPE, SIG_IGN); /* as the program does: a client may be gone before its answer */
    if (!mkdtemp(dir) || uv_loop_init(&loop) != 0)
        abort();
    (void)snprintf(address, sizeof(address), "unix://%s/node.sock", dir);
    (void)snprintf(control.sun_path, sizeof(control.sun_path), "%s/control.sock", dir);
    pfl_node_settings_default(&opts.settings);
    opts.settings.aggregator = pfl_aggregator_find("fedavg");
    if (pfl_dummy_learner_new(8, 0, "fuzzed", &opts.learner, &err) != PFL_OK || pfl_driver_new(&opts, &node, &err) != PFL_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    /* OpenSSL's own handler must be there before ours: they run last to first, and the node's end still hashes. */
    uint8_t digest[PFL_SHA256_LEN];
    pfl_sha256((struct pfl_bytes){0}, digest);
    (void)atexit(clear_up);
}

static bool left_out(const uint8_t *data, size_t size)
{
    static const char *const WORDS[] = {"connect", "shutdown", "\\u", "/"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(WORDS); i++) {
        if (memmem(data, size, WORDS[i], strlen(WORDS[i])))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char STATUS[] = "\n{\"cmd\":\"status\"}\n";
    char sink[65536];
    bool answered = false;
    if (size > 8192 || left_out(data, size))
        return 0;
    if (!node)
        set_up();
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    PFL_ASSERT(fd >= 0 && connect(fd, (const struct sockaddr *)&control, sizeof(control)) == 0);
    PFL_ASSERT(size == 0 || send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size);
    PFL_ASSERT(send(fd, STATUS, sizeof(STATUS) - 1, MSG_NOSIGNAL) == sizeof(STATUS) - 1);
    for (int i = 0; i < TURNS || !answered; i++) {
        uv_run(&loop, i < TURNS ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
        answered = answered || (n > 0 && memmem(sink, (size_t)n, "\"address\"", 9));
        PFL_ASSERT(n != 0 && i < 100000); /* it is not sent away, and it is answered */
    }
    close(fd);
    for (int i = 0; i < 4; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    return 0;
}
