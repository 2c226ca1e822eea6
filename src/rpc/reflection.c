/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC server reflection over descriptors that were compiled in. v1 and v1alpha are the same on the wire. A question that has no
 * answer gets an ErrorResponse; a message that is no question ends the stream. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "health_descriptor.h"
#include "node_descriptor.h"
#include "reflection_descriptor.h"
#include "reflection_v1alpha_descriptor.h"
#include "rpc/proto_scan.h"
#include "rpc/server_impl.h"

/* Field numbers of descriptor.proto and reflection.proto. */
enum {
    SET_FILE = 1,
    FILE_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_DEPENDENCY = 3,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    ANY_NAME = 1,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    SERVICE_METHOD = 2,
    REQ_HOST = 1,
    REQ_FILE = 3,
    REQ_SYMBOL = 4,
    REQ_EXTENSION = 5,
    REQ_EXTENSION_NUMBERS = 6,
    REQ_LIST = 7,
    RSP_HOST = 1,
    RSP_REQUEST = 2,
    RSP_FILES = 4,
    RSP_SERVICES = 6,
    RSP_ERROR = 7,
};
enum { DEPTH_MAX = 8 };

static struct pfl_bytes descriptor_set(size_t i)
{
    switch (i) {
    case 0:
        return pfl_bytes_of(pfl_node_descriptor, pfl_node_descriptor_len);
    case 1:
        return pfl_bytes_of(pfl_health_descriptor, pfl_health_descriptor_len);
    case 2:
        return pfl_bytes_of(pfl_reflection_descriptor, pfl_reflection_descriptor_len);
    case 3:
        return pfl_bytes_of(pfl_reflection_v1alpha_descriptor, pfl_reflection_v1alpha_descriptor_len);
    default:
        return (struct pfl_bytes){0};
    }
}

typedef bool (*file_match)(struct pfl_bytes file, struct pfl_bytes what);

/* The first file that matches; the empty view where none does. */
static struct pfl_bytes file_find(file_match match, struct pfl_bytes what)
{
    for (size_t i = 0; descriptor_set(i).len > 0; i++) {
        struct pfl_reader r = pfl_reader_of(descriptor_set(i));
        struct pfl_field f;
        while (pfl_field_next(&r, &f))
            if (f.number == SET_FILE && match(f.bytes, what))
                return f.bytes;
    }
    return (struct pfl_bytes){0};
}

static bool has_name(struct pfl_bytes file, struct pfl_bytes name)
{
    return pfl_bytes_eq(pfl_field_find(file, FILE_NAME), name);
}

/* "a.b.c" with prefix "a.b" leaves "c" in *rest. An empty prefix leaves all. */
static bool strip(struct pfl_bytes name, struct pfl_bytes prefix, struct pfl_bytes *rest)
{
    if (prefix.len == 0) {
        *rest = name;
        return true;
    }
    if (name.len <= prefix.len || !pfl_bytes_eq(pfl_bytes_sub(name, 0, prefix.len), prefix) || name.data[prefix.len] != '.')
        return false;
    *rest = pfl_bytes_sub(name, prefix.len + 1, name.len - prefix.len - 1);
    return true;
}

/* Is `name` the entity or something inside of it? Messages hold messages and enums, services hold methods. */
static bool entity_has(struct pfl_bytes entity, bool is_service, struct pfl_bytes name, int depth)
{
    struct pfl_bytes own = pfl_field_find(entity, ANY_NAME), rest;
    if (pfl_bytes_eq(own, name))
        return true;
    if (depth >= DEPTH_MAX || !strip(name, own, &rest))
        return false;
    struct pfl_reader r = pfl_reader_of(entity);
    struct pfl_field f;
    while (pfl_field_next(&r, &f)) {
        bool inner = is_service ? f.number == SERVICE_METHOD : f.number == MESSAGE_NESTED || f.number == MESSAGE_ENUM;
        if (inner && f.wire_type == 2 && entity_has(f.bytes, false, rest, depth + 1))
            return true;
    }
    return false;
}

static bool has_symbol(struct pfl_bytes file, struct pfl_bytes symbol)
{
    struct pfl_bytes rest;
    if (!strip(symbol, pfl_field_find(file, FILE_PACKAGE), &rest))
        return false;
    struct pfl_reader r = pfl_reader_of(file);
    struct pfl_field f;
    while (pfl_field_next(&r, &f))
        if ((f.number == FILE_MESSAGE || f.number == FILE_ENUM || f.number == FILE_SERVICE) &&
            entity_has(f.bytes, f.number == FILE_SERVICE, rest, 0))
            return true;
    return false;
}

/* ---- answers ---- */

static void put_sub(struct pfl_buf *out, uint32_t number, struct pfl_buf *sub)
{
    pfl_field_put_bytes(out, number, pfl_buf_view(sub));
    pfl_buf_deinit(sub);
}

static void answer_error(struct pfl_buf *out, int code, const char *message)
{
    struct pfl_buf sub = {0};
    pfl_field_put_varint(&sub, 1, (uint64_t)code);
    pfl_field_put_bytes(&sub, 2, pfl_bytes_of(message, strlen(message)));
    put_sub(out, RSP_ERROR, &sub);
}

/* The file and what it imports, so that one question is enough. */
static void answer_files(struct pfl_buf *out, struct pfl_bytes file)
{
    if (file.len == 0) {
        answer_error(out, PFL_GRPC_NOT_FOUND, "not found");
        return;
    }
    struct pfl_buf sub = {0};
    pfl_field_put_bytes(&sub, 1, file);
    struct pfl_reader r = pfl_reader_of(file);
    struct pfl_field f;
    while (pfl_field_next(&r, &f)) {
        struct pfl_bytes import = f.number == FILE_DEPENDENCY ? file_find(has_name, f.bytes) : (struct pfl_bytes){0};
        if (import.len > 0)
            pfl_field_put_bytes(&sub, 1, import);
    }
    put_sub(out, RSP_FILES, &sub);
}

static void answer_services(struct pfl_buf *out, const struct pfl_rpc_server *s)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs names = {0};
    struct pfl_buf list = {0};
    for (size_t i = 0; i < s->n_methods; i++) {
        PFL_AUTO(pfl_freep) char *name = pfl_xstrdup(s->methods[i].path + 1);
        char *slash = strchr(name, '/');
        if (slash)
            *slash = '\0';
        if (!pfl_strs_add_once(&names, name))
            continue;
        struct pfl_buf service = {0};
        pfl_field_put_bytes(&service, ANY_NAME, pfl_bytes_of(name, strlen(name)));
        put_sub(&list, 1, &service);
    }
    put_sub(out, RSP_SERVICES, &list);
}

static bool answer(const struct pfl_rpc_server *s, struct pfl_bytes request, struct pfl_buf *out)
{
    struct pfl_reader r = pfl_reader_of(request);
    struct pfl_field f, question = {0};
    while (pfl_field_next(&r, &f))
        if (f.number >= REQ_FILE && f.number <= REQ_LIST)
            question = f;
    if (r.failed)
        return false;
    pfl_field_put_bytes(out, RSP_HOST, pfl_field_find(request, REQ_HOST));
    pfl_field_put_bytes(out, RSP_REQUEST, request);
    if (question.number == REQ_FILE)
        answer_files(out, file_find(has_name, question.bytes));
    else if (question.number == REQ_SYMBOL)
        answer_files(out, file_find(has_symbol, question.bytes));
    else if (question.number == REQ_LIST)
        answer_services(out, s);
    else if (question.number == REQ_EXTENSION || question.number == REQ_EXTENSION_NUMBERS)
        answer_error(out, PFL_GRPC_NOT_FOUND, "there are no extensions");
    else
        answer_error(out, PFL_GRPC_INVALID_ARGUMENT, "the request asks nothing");
    return !out->failed;
}

static void buf_release(void *owner)
{
    struct pfl_buf *b = owner;
    pfl_buf_deinit(b);
    free(b);
}

static void on_info(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct pfl_buf *out = pfl_xcalloc(1, sizeof *out);
    if (!answer(user, pfl_bytes_of(request->data, request->len), out)) {
        buf_release(out);
        pfl_rpc_call_fail(call, PFL_GRPC_INVALID_ARGUMENT, "the request cannot be read");
        return;
    }
    struct pfl_bytes part = pfl_buf_view(out);
    const struct pfl_rpc_body body = {.parts = &part, .n = 1, .release = buf_release, .owner = out};
    pfl_rpc_call_reply(call, &body);
}

void pfl_reflection_add(struct pfl_rpc_server *s)
{
    char v1[] = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    char v1alpha[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    pfl_server_add_method(s, &(struct pfl_method){v1, on_info, s, true, true});
    pfl_server_add_method(s, &(struct pfl_method){v1alpha, on_info, s, true, true});
}
