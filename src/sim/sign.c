/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures, as far as the core can tell: what a node says goes out with the name of its author and with something that only fits
 * what was said, and whoever gets it is told whether it does. No key is needed for that where nobody can forge one: a liar signs
 * what it says, and cannot sign for others. The sizes are those of a certificate and a signature with P-256. */
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"

enum { CERTIFICATE_BYTES = 600, SIGNATURE_BYTES = 71 };

static void sign_text(struct pfl_bytes text, const char *author, uint8_t out[SIGNATURE_BYTES])
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < text.len; i++)
        h = (h ^ text.data[i]) * UINT64_C(0x100000001b3);
    for (; *author; author++)
        h = (h ^ (uint8_t)*author) * UINT64_C(0x100000001b3);
    memset(out, 0, SIGNATURE_BYTES);
    memcpy(out, &h, sizeof(h));
}

static bool signature_of(const struct pfl_msg *m, const char *author, const char *experiment, int64_t sent_at_ms,
                         uint8_t out[SIGNATURE_BYTES])
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0};
    if (pfl_origin_text(m, experiment, sent_at_ms, &text, NULL) != PFL_OK)
        return false;
    sign_text(pfl_buf_view(&text), author, out);
    return true;
}

void pfl_sim_sign(struct pfl_sim *s, unsigned i, struct pfl_scatter *body)
{
    const struct pfl_msg *m = body->to_sign;
    uint8_t signature[SIGNATURE_BYTES], certificate[CERTIFICATE_BYTES] = {0};
    if (!m)
        return;
    const char *author = s->nodes[i].addr;
    PFL_AUTO(pfl_origin_freep) struct pfl_origin *o = pfl_origin_new(m->sign_for, pfl_sim_wall(s, i) / PFL_MS);
    bool said = signature_of(m, author, o->experiment, o->sent_at_ms, signature);
    PFL_ASSERT(said);
    memcpy(certificate, author, strlen(author) + 1);
    pfl_buf_append(&o->certs[0], certificate, sizeof(certificate));
    o->n_certs = 1;
    pfl_buf_append(&o->signature, signature, sizeof(signature));
    enum pfl_rc rc = pfl_scatter_put_origin(body, o, NULL);
    PFL_ASSERT(rc == PFL_OK);
}

/* Did the node in whose name it is sign this? */
static bool is_its_own(const struct pfl_statement *said, const struct pfl_origin_said *about)
{
    uint8_t signature[SIGNATURE_BYTES];
    const struct pfl_buf *author = &said->origin->certs[0], *got = &said->origin->signature;
    sign_text(pfl_buf_view(&said->text), about->source, signature);
    return author->len == CERTIFICATE_BYTES && author->data[CERTIFICATE_BYTES - 1] == 0 &&
           strcmp((const char *)author->data, about->source) == 0 && got->len == SIGNATURE_BYTES &&
           memcmp(got->data, signature, SIGNATURE_BYTES) == 0;
}

static void verify_evidence(const struct pfl_sim *s, struct pfl_event *ev)
{
    struct pfl_statement said[2] = {0};
    struct pfl_origin_said about[2] = {0};
    bool good = pfl_statements_unpack(pfl_buf_view(&ev->msg->evidence), said, NULL) == PFL_OK;
    for (size_t i = 0; i < 2 && good; i++)
        good = pfl_origin_said_parse(pfl_buf_view(&said[i].text), &about[i], NULL) == PFL_OK && is_its_own(&said[i], &about[i]);
    good = good && strcmp(about[0].source, about[1].source) == 0;
    for (unsigned k = 0; good && k < s->n; k++) {
        if (strcmp(s->nodes[k].addr, about[0].source) == 0)
            ev->accused = s->nodes[k].addr;
    }
    if (!ev->accused)
        ev->unproven = "its signatures do not fit";
    for (size_t i = 0; i < 2; i++) {
        pfl_statement_deinit(&said[i]);
        pfl_origin_said_deinit(&about[i]);
    }
}

void pfl_sim_verify(const struct pfl_sim *s, unsigned i, unsigned from, struct pfl_event *ev, struct pfl_signer *signer)
{
    const struct pfl_msg *m = ev->msg;
    uint8_t signature[SIGNATURE_BYTES];
    ev->from = ev->addr = s->nodes[from].addr;
    if (!m->origin || (m->kind == PFL_MSG_GOSSIP && pfl_node_knows(s->nodes[i].core, m)))
        return;
    const struct pfl_buf *got = &m->origin->signature, *author = &m->origin->certs[0];
    bool named = author->len == CERTIFICATE_BYTES && author->data[CERTIFICATE_BYTES - 1] == 0 &&
                 strcmp((const char *)author->data, m->source) == 0;
    bool good = named && signature_of(m, m->source, m->origin->experiment, m->origin->sent_at_ms, signature) &&
                got->len == SIGNATURE_BYTES && memcmp(got->data, signature, SIGNATURE_BYTES) == 0;
    if (!good) {
        ev->forged = "its signature does not fit";
        return;
    }
    *signer = (struct pfl_signer){.id = m->source, .may = PFL_MAY_TRAIN | PFL_MAY_START};
    ev->signer = signer;
    if (m->evidence.len > 0)
        verify_evidence(s, ev);
    ev->relayed = strcmp(m->source, s->nodes[from].addr) != 0;
}
