/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's service in the foreground. The first signal ends it in order. */
#include "runtime/ca_main.h"

#include <signal.h>

#include "base/log.h"
#include "base/mem.h"

struct program {
    uv_loop_t loop;
    uv_signal_t sigint, sigterm;
    struct pfl_ca_server *server;
};

static void on_signal(uv_signal_t *h, int signum)
{
    struct program *p = h->data;
    if (!p->server)
        return;
    pfl_info("signal %d: ending", signum);
    pfl_ca_server_close(p->server, NULL, NULL);
    p->server = NULL;
    uv_close((uv_handle_t *)&p->sigint, NULL);
    uv_close((uv_handle_t *)&p->sigterm, NULL);
}

enum pfl_rc pfl_ca_serve(const struct pfl_ca_server_opts *opts, void (*ready)(void *user, const char *address), void *user,
                         struct pfl_err *err)
{
    struct program p = {0};
    struct pfl_ca_server_opts own = *opts;
    uv_loop_init(&p.loop);
    own.loop = &p.loop;
    enum pfl_rc rc = pfl_ca_server_new(&own, &p.server, err);
    if (rc == PFL_OK) {
        uv_signal_init(&p.loop, &p.sigint);
        uv_signal_init(&p.loop, &p.sigterm);
        p.sigint.data = p.sigterm.data = &p;
        uv_signal_start(&p.sigint, on_signal, SIGINT);
        uv_signal_start(&p.sigterm, on_signal, SIGTERM);
        signal(SIGPIPE, SIG_IGN);
        ready(user, pfl_ca_server_address(p.server));
    }
    uv_run(&p.loop, UV_RUN_DEFAULT);
    PFL_ASSERT(uv_loop_close(&p.loop) == 0);
    return rc;
}
