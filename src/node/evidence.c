/* SPDX-License-Identifier: Apache-2.0 */
/* Equivocation that somebody else found. Who has two statements of one node that contradict each other tells everybody, signed, by
 * the gossip command `evidence`; whoever gets it believes nothing of it but the accused's own signatures, which the driver has
 * verified, and comes to the same exclusion. Each node sends evidence against one address once: its own, or the first that it got.
 * Who accuses wrongly is refused and named, and after a few times not listened to. Whoever comes late is given what there is. */
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

static const char command[] = "evidence";

/* ---- parties ---- */

static struct pfl_party *party_of(struct pfl_node *n, const char *id)
{
    struct pfl_evidence_book *b = &n->evidence;
    for (size_t i = 0; i < b->n_parties; i++) {
        if (strcmp(b->parties[i].id, id) == 0)
            return &b->parties[i];
    }
    if (b->n_parties == PFL_PARTIES_MAX)
        return NULL;
    b->parties = pfl_xrealloc(b->parties, (b->n_parties + 1) * sizeof(*b->parties));
    b->parties[b->n_parties] = (struct pfl_party){.id = pfl_xstrdup(id)};
    return &b->parties[b->n_parties++];
}

void pfl_core_evidence_clear(struct pfl_node *n)
{
    struct pfl_evidence_book *b = &n->evidence;
    for (size_t i = 0; i < b->n_parties; i++) {
        free(b->parties[i].id);
        free(b->parties[i].source);
    }
    for (size_t i = 0; i < b->n_bodies; i++)
        pfl_scatter_unref(b->bodies[i]);
    free(b->parties);
    free(b->bodies);
    *b = (struct pfl_evidence_book){0};
    pfl_strs_deinit(&n->excluded);
    free(n->excluded_in);
    n->excluded_in = NULL;
}

void pfl_core_evidence_in(struct pfl_node *n, const char *experiment)
{
    if (pfl_streq(n->excluded_in, experiment))
        return;
    pfl_core_evidence_clear(n);
    n->excluded_in = pfl_xstrdup(experiment);
}

/* ---- out ---- */

void pfl_core_keep_evidence(struct pfl_node *n, struct pfl_scatter *body)
{
    struct pfl_evidence_book *b = &n->evidence;
    if (b->bytes + body->total > PFL_EVIDENCE_BYTES_MAX)
        return;
    b->bytes += body->total;
    b->bodies = pfl_xrealloc(b->bodies, (b->n_bodies + 1) * sizeof(struct pfl_scatter *));
    b->bodies[b->n_bodies++] = pfl_scatter_ref(body);
}

void pfl_core_hand_evidence(struct pfl_node *n, const struct pfl_peer *p)
{
    for (size_t i = 0; p->proves && i < n->evidence.n_bodies; i++)
        pfl_outbox_add(&n->outbox, p->addr, n->evidence.bodies[i], 0, n->now, false);
}

void pfl_core_accuse(struct pfl_node *n, const struct pfl_statement said[2], const char *id)
{
    struct pfl_party *party = party_of(n, id);
    struct pfl_origin_said about = {0};
    if (!party || party->accused >= PFL_ACCUSED_MAX || pfl_origin_said_parse(pfl_buf_view(&said[0].text), &about, NULL) != PFL_OK)
        return;
    struct pfl_msg *m = pfl_msg_new(n->addr, about.round, command, PFL_MSG_GOSSIP);
    struct pfl_err err = {0};
    if (pfl_statements_pack(said, &m->evidence, &err) == PFL_OK) {
        party->accused++;
        pfl_core_flood(n, m);
    } else {
        pfl_core_note_text(n, PFL_NOTE_WARNING, about.source, "the others are not told of what it did: %s", err.msg);
        pfl_msg_unref(m);
    }
    pfl_origin_said_deinit(&about);
}

/* ---- in ---- */

bool pfl_core_evidence_idle(const struct pfl_node *n, const struct pfl_msg *m)
{
    const struct pfl_evidence_book *b = &n->evidence;
    for (size_t i = 0; m->evidence.len > 0 && i < b->n_parties; i++) {
        if (b->parties[i].refused >= PFL_FALSE_EVIDENCE_MAX && pfl_streq(b->parties[i].source, m->source))
            return true;
    }
    bool ours = m->evidence.len > 0 && m->origin && pfl_streq(m->origin->experiment, n->experiment);
    struct pfl_statement said[2] = {0};
    struct pfl_origin_said about = {0};
    if (!ours || (n->excluded.n == 0 && !b->against_us) || pfl_statements_unpack(pfl_buf_view(&m->evidence), said, NULL) != PFL_OK)
        return false;
    bool idle = pfl_origin_said_parse(pfl_buf_view(&said[0].text), &about, NULL) == PFL_OK &&
                (pfl_core_excluded(n, about.source) || (b->against_us && pfl_streq(about.source, n->addr)));
    pfl_origin_said_deinit(&about);
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
    return idle;
}

/* The driver has looked at signatures, certificates and addresses; here at what was said. about: of the first. */
static enum pfl_rc check(const struct pfl_node *n, const struct pfl_incoming *in, struct pfl_statement said[2],
                         struct pfl_origin_said *about, struct pfl_err *err)
{
    const struct pfl_event *ev = in->ev;
    enum pfl_rc rc = pfl_statements_unpack(pfl_buf_view(&in->msg->evidence), said, err);
    if (rc == PFL_OK)
        rc = pfl_origin_said_parse(pfl_buf_view(&said[0].text), about, err);
    if (rc != PFL_OK)
        return rc;
    if (!ev->accused)
        return pfl_err_set(err, PFL_AUTH, "%s", ev->unproven ? ev->unproven : "nobody has verified it");
    if (!pfl_streq(about->experiment, n->experiment))
        return pfl_err_set(err, PFL_AUTH, "the statements are of experiment '%s', here runs '%s'", pfl_q(about->experiment),
                           pfl_q(n->experiment));
    if (!pfl_origin_contradict(pfl_buf_view(&said[0].text), pfl_buf_view(&said[1].text)))
        return pfl_err_set(err, PFL_AUTH, "the statements do not contradict each other");
    return PFL_OK;
}

/* Evidence that is none costs its reporter: it is named, and in the end not listened to. */
static enum pfl_rc accuser_lied(struct pfl_node *n, const struct pfl_incoming *in, const char *accused, const char *why,
                                struct pfl_err *err)
{
    const struct pfl_event *ev = in->ev;
    struct pfl_party *p = party_of(n, ev->signer->id);
    if (p) {
        free(p->source);
        p->source = pfl_xstrdup(in->msg->source);
        if (++p->refused == PFL_FALSE_EVIDENCE_MAX)
            pfl_core_note_text(
                n, PFL_NOTE_WARNING, in->msg->source,
                "it gave evidence that proves nothing %d times in this experiment: no more of it is looked at (signed by %s)",
                PFL_FALSE_EVIDENCE_MAX, pfl_q(ev->signer->id));
    }
    return pfl_err_set(err, PFL_AUTH, "evidence of %s against %s proves nothing: %s (signed by %s, passed on by %s)",
                       pfl_q(in->msg->source), accused ? pfl_q(accused) : "nobody", why, pfl_q(ev->signer->id),
                       ev->from ? pfl_q(ev->from) : "an unknown caller");
}

static enum pfl_rc believe(struct pfl_node *n, const struct pfl_incoming *in, struct pfl_statement said[2], const char *addr,
                           struct pfl_err *err)
{
    if (strcmp(addr, n->addr) == 0) {
        n->evidence.against_us = true;
        pfl_core_note_text(n, PFL_NOTE_WARNING, in->msg->source,
                           "%s has proof that this node said two different things in this experiment: the others let it out. Does "
                           "another process use its key, or did it lose its state?",
                           pfl_q(in->msg->source));
        return PFL_OK;
    }
    struct pfl_party *p = party_of(n, in->ev->accused);
    if (!p || p->accused >= PFL_ACCUSED_MAX)
        return pfl_err_set(err, PFL_STATE, "evidence: %d addresses of %s are out already", PFL_ACCUSED_MAX, pfl_q(in->ev->accused));
    p->accused++;
    pfl_core_exclude(n, addr, said, in->msg->source);
    return PFL_OK;
}

enum pfl_rc pfl_core_cmd_evidence(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    struct pfl_statement said[2] = {0};
    struct pfl_origin_said about = {0};
    struct pfl_err why = {0};
    if (!n->set.signatures || !in->ev || !in->ev->signer)
        return pfl_err_set(err, PFL_UNSUPPORTED, "evidence: signatures are not verified here");
    if ((!n->learning && !n->over) || pfl_core_foreign(n, in->msg))
        return pfl_err_set(err, PFL_STATE, "evidence: this node is not learning in that experiment");
    enum pfl_rc rc = check(n, in, said, &about, &why);
    rc = rc == PFL_OK ? believe(n, in, said, about.source, err) : accuser_lied(n, in, about.source, why.msg, err);
    pfl_origin_said_deinit(&about);
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
    return rc;
}
