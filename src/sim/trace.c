/* SPDX-License-Identifier: Apache-2.0 */
/* The trace: one line for each thing that happens, with its virtual time since the learning started (or, with a ~ before it, since
 * the simulation did, while the nodes still meet) and the names of nodes. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"

/* The length of the address at the start of text, and whose it is. 0: there is none. */
static size_t address_at(const struct pfl_sim *s, const char *text, unsigned *ret)
{
    char addr[sizeof(s->nodes->addr)];
    if (strncmp(text, "10.", 3) != 0)
        return 0;
    size_t len = strspn(text, "0123456789.:");
    while (len > 0 && (text[len - 1] == '.' || text[len - 1] == ':')) /* of the sentence */
        len--;
    if (len >= sizeof(addr))
        return 0;
    memcpy(addr, text, len);
    addr[len] = '\0';
    *ret = pfl_sim_index(s, addr);
    return *ret == UINT_MAX ? 0 : len;
}

char *pfl_sim_names(const struct pfl_sim *s, const char *text)
{
    struct pfl_buf b = {0};
    while (*text) {
        unsigned k;
        size_t len = address_at(s, text, &k);
        if (len > 0)
            pfl_buf_append_str(&b, s->nodes[k].name);
        else
            pfl_buf_append(&b, text, len = 1);
        text += len;
    }
    char *out = pfl_xstrdup(pfl_buf_cstr(&b));
    pfl_buf_deinit(&b);
    return out;
}

void pfl_sim_trace(struct pfl_sim *s, unsigned node, const char *fmt, ...)
{
    if (!s->o.trace)
        return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    PFL_AUTO(pfl_freep) char *named = pfl_sim_names(s, text);
    double at = (double)(s->now - s->learn_at) / 1e9;
    PFL_AUTO(pfl_freep)
    char *line =
        pfl_xasprintf("%s%10.6f  %-9s %s", s->learn_at ? " " : "~", at, node == UINT_MAX ? "-" : s->nodes[node].name, named);
    s->o.trace(s->o.user, line);
}

static char *list_text(const struct pfl_note *note)
{
    PFL_AUTO(pfl_freep) char *joined = pfl_strs_join(&note->list, " ");
    return note->list.n ? pfl_xasprintf(" [%s]", joined) : pfl_xstrdup("");
}

void pfl_sim_trace_note(struct pfl_sim *s, unsigned node, const struct pfl_note *note)
{
    if (!s->o.trace)
        return;
    char round[16] = "", digest[16] = "";
    PFL_AUTO(pfl_freep) char *list = list_text(note);
    if (note->round >= 0)
        snprintf(round, sizeof(round), " r%d", note->round);
    if (note->has_digest)
        snprintf(digest, sizeof(digest), " %02x%02x%02x%02x", note->digest[0], note->digest[1], note->digest[2], note->digest[3]);
    pfl_sim_trace(s, node, "%s%s%s%s%s%s%s%s", pfl_note_name(note->kind), round, note->addr ? " " : "",
                  note->addr ? note->addr : "", list, digest, note->text ? ": " : "", note->text ? note->text : "");
}
