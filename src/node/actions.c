/* SPDX-License-Identifier: Apache-2.0 */
/* Actions and notes: making them, and letting go of what they own. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

static const pfl_ns bulk_ns_per_mib = PFL_SEC / 4;

const char *pfl_note_name(enum pfl_note_kind k)
{
    static const char *const names[] = {
#define X(id, name) name,
        PFL_NOTE_LIST(X)
#undef X
    };
    return (size_t)k < PFL_ARRAY_LEN(names) ? names[k] : "unknown";
}

static void note_free(struct pfl_note *note)
{
    if (!note)
        return;
    free(note->addr);
    free(note->text);
    pfl_strs_deinit(&note->list);
    free(note);
}

void pfl_actions_clear(struct pfl_actions *a)
{
    for (size_t i = 0; i < a->n; i++) {
        struct pfl_action *x = &a->items[i];
        free(x->addr);
        free(x->text);
        free(x->error);
        pfl_scatter_unref(x->body);
        pfl_msg_unref(x->msg);
        pfl_payload_unref(x->payload);
        for (size_t k = 0; k < x->n_in; k++)
            pfl_model_unref(x->in[k].model);
        free(x->in);
        pfl_durable_free(x->durable);
        for (size_t k = 0; x->said && k < 2; k++)
            pfl_statement_deinit(&x->said[k]);
        free(x->said);
        note_free(x->note);
    }
    a->n = 0;
}

void pfl_actions_deinit(struct pfl_actions *a)
{
    pfl_actions_clear(a);
    free(a->items);
    *a = (struct pfl_actions){0};
}

struct pfl_action *pfl_core_act(struct pfl_node *n, enum pfl_action_kind kind, const char *addr)
{
    struct pfl_actions *a = n->out;
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 16;
        a->items = pfl_xrealloc(a->items, a->cap * sizeof(*a->items));
    }
    struct pfl_action *x = &a->items[a->n++];
    *x = (struct pfl_action){.kind = kind, .addr = addr ? pfl_xstrdup(addr) : NULL};
    return x;
}

void pfl_core_reply(struct pfl_node *n, uint64_t call, const char *text, const char *error)
{
    if (call == 0)
        return;
    struct pfl_action *x = pfl_core_act(n, PFL_ACT_REPLY, NULL);
    x->call = call;
    x->text = text ? pfl_xstrdup(text) : NULL;
    x->error = error ? pfl_xstrdup(error) : NULL;
}

struct pfl_note *pfl_core_note(struct pfl_node *n, enum pfl_note_kind kind, const char *addr)
{
    struct pfl_action *x = pfl_core_act(n, PFL_ACT_NOTE, NULL);
    x->after = n->durable_seq;
    x->note = pfl_xcalloc(1, sizeof(*x->note));
    x->note->kind = kind;
    x->note->round = n->learning ? n->round : -1;
    x->note->addr = addr ? pfl_xstrdup(addr) : NULL;
    return x->note;
}

struct pfl_note *pfl_core_note_text(struct pfl_node *n, enum pfl_note_kind kind, const char *addr, const char *fmt, ...)
{
    char text[PFL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct pfl_note *note = pfl_core_note(n, kind, addr);
    note->text = pfl_xstrdup(text);
    return note;
}

void pfl_note_set_digest(struct pfl_note *note, const struct pfl_payload *p)
{
    note->has_digest = p && p->has_digest;
    if (note->has_digest)
        memcpy(note->digest, p->digest, sizeof(note->digest));
}

void pfl_core_refused(struct pfl_node *n, const char *addr, const char *text)
{
    if (n->now - n->refused_window >= n->set.heartbeat_period || n->refused_window == 0) {
        n->refused_window = n->now;
        n->refused_notes = 0;
    }
    n->refused++;
    if (n->refused_notes++ < PFL_REFUSED_NOTES_MAX)
        pfl_core_note_text(n, PFL_NOTE_REFUSED, addr, "%s", text);
}

uint64_t pfl_core_send(struct pfl_node *n, const char *addr, struct pfl_scatter *body, pfl_ns timeout)
{
    struct pfl_action *x = pfl_core_act(n, PFL_ACT_SEND, addr);
    x->id = ++n->next_id;
    x->body = pfl_scatter_ref(body);
    x->timeout = timeout;
    x->after = n->vital ? 0 : n->durable_seq;
    return x->id;
}

pfl_ns pfl_core_bulk_timeout(const struct pfl_node *n)
{
    return n->set.call_timeout + (pfl_ns)(n->layout->bytes >> 20) * bulk_ns_per_mib;
}
