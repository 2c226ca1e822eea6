/* SPDX-License-Identifier: Apache-2.0 */
#include "support/signed_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const pfl_ns epoch = 1800000000 * PFL_SEC;

void step(struct world *w, struct pfl_event *ev)
{
    pfl_actions_clear(&w->out);
    w->now += PFL_MS;
    ev->now = w->now;
    ev->wall = epoch + w->now;
    pfl_node_step(w->node, ev, &w->out);
}

struct world *world_new(bool interop)
{
    const struct pfl_tensor_desc desc = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {4}};
    struct world *w = pfl_xcalloc(1, sizeof(*w));
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    assert_int_equal(pfl_layout_new(&desc, 1, &w->layout, NULL), PFL_OK);
    assert_int_equal(pfl_model_new(w->layout, &m, NULL), PFL_OK);
    memset(pfl_model_data_mut(m), 0, w->layout->bytes);
    assert_int_equal(pfl_payload_new(m, &w->payload, NULL), PFL_OK);
    w->payload->has_digest = true;
    struct pfl_node_settings s;
    pfl_node_settings_default(&s);
    s.signatures = true;
    s.interop = interop;
    s.max_rounds = 50;
    w->node = pfl_node_new(ME, w->layout, &s);
    w->now = PFL_SEC;
    struct pfl_event ev = {.kind = PFL_EV_MODEL, .payload = w->payload};
    step(w, &ev);
    return w;
}

void world_free(struct world *w)
{
    pfl_actions_deinit(&w->out);
    pfl_node_free(w->node);
    pfl_payload_unref(w->payload);
    pfl_layout_unref(w->layout);
    free(w);
}

const char *deliver(struct world *w, struct pfl_event *ev)
{
    struct pfl_msg *m = ev->msg;
    ev->kind = PFL_EV_MESSAGE;
    ev->call = 7;
    ev->from = "spiffe://lab/node/relay";
    step(w, ev);
    pfl_msg_unref(m);
    for (size_t i = 0; i < w->out.n; i++) {
        if (w->out.items[i].kind == PFL_ACT_REPLY)
            return w->out.items[i].error ? w->out.items[i].error : "";
    }
    return "no answer";
}

unsigned count(const struct world *w, enum pfl_action_kind kind, enum pfl_note_kind note)
{
    unsigned n = 0;
    for (size_t i = 0; i < w->out.n; i++)
        n += w->out.items[i].kind == kind && (kind != PFL_ACT_NOTE || w->out.items[i].note->kind == note);
    return n;
}

struct pfl_msg *sent_msg(const struct pfl_action *a)
{
    struct pfl_msg *m = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    for (size_t k = 0; k < a->body->n; k++)
        pfl_buf_append(&b, a->body->parts[k].data, a->body->parts[k].len);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(b.data, b.len);
    assert_int_equal(pfl_msg_decode(blob, &m, NULL), PFL_OK);
    return m;
}
