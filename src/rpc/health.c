/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1.Health/Check: the server, and every service that it has methods of, serves as long as it answers. Watch is not
 * offered (UNIMPLEMENTED, which clients of the protocol take as "ask again with Check"). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/proto_scan.h"
#include "rpc/server_impl.h"

enum { SERVING = 1 };

static bool is_service(const struct pfl_rpc_server *s, struct pfl_bytes name)
{
    if (name.len == 0)
        return true;
    for (size_t i = 0; i < s->n_methods; i++) {
        const char *service = s->methods[i].path + 1;
        const char *slash = strchr(service, '/');
        if (slash && pfl_bytes_eq(pfl_bytes_of(service, (size_t)(slash - service)), name))
            return true;
    }
    return false;
}

static void on_check(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    static const uint8_t ANSWER[] = {1 << 3, SERVING};
    static const struct pfl_bytes PART = {ANSWER, sizeof ANSWER};
    const struct pfl_rpc_body body = {.parts = &PART, .n = 1};
    struct pfl_bytes name = pfl_field_find(pfl_bytes_of(request->data, request->len), 1);
    char quoted[80];
    if (is_service(user, name))
        pfl_rpc_call_reply(call, &body);
    else
        pfl_rpc_call_fail(call, PFL_GRPC_NOT_FOUND, "unknown service '%s'", pfl_quote(name.data, name.len, quoted, sizeof quoted));
}

void pfl_health_add(struct pfl_rpc_server *s)
{
    char path[] = "/grpc.health.v1.Health/Check";
    pfl_server_add_method(s, &(struct pfl_method){path, on_check, s, false, true});
}
