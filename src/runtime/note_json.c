/* SPDX-License-Identifier: Apache-2.0 */
/* Text that came from peers is quoted and cut. */
#include "runtime/note_json.h"

#include <string.h>

#include "base/bytes.h"
#include "base/str.h"

static json_t *list_json(const struct pfl_strs *l)
{
    json_t *a = json_array();
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(a, json_string(l->items[i]));
    return a;
}

static json_t *digest_json(const struct pfl_note *n)
{
    char hex[2 * PFL_DIGEST_LEN + 1];
    if (!n->has_digest)
        return json_null();
    pfl_hex(pfl_bytes_of(n->digest, sizeof(n->digest)), hex);
    return json_string(hex);
}

static json_t *text_json(const char *s)
{
    char text[2 * PFL_ERR_MAX];
    return s ? json_string(pfl_quote(s, strlen(s), text, sizeof(text))) : json_null();
}

json_t *pfl_note_json(const struct pfl_note *n, json_t *counters)
{
    json_t *f = json_object();
    if (n->round >= 0)
        json_object_set_new(f, "round", json_integer(n->round));
    switch (n->kind) {
    case PFL_NOTE_NEIGHBOUR:
    case PFL_NOTE_KNOWN:
        json_object_set_new(f, "address", text_json(n->addr));
        break;
    case PFL_NOTE_NEIGHBOUR_LOST:
    case PFL_NOTE_KNOWN_LOST:
    case PFL_NOTE_EXCLUDED:
    case PFL_NOTE_REVOKED:
        json_object_set_new(f, "address", text_json(n->addr));
        json_object_set_new(f, "reason", text_json(n->text));
        break;
    case PFL_NOTE_LEARNING_STARTED:
        json_object_set_new(f, "experiment", text_json(n->text));
        json_object_set_new(f, "by", text_json(n->addr));
        json_object_set_new(f, "rounds", json_integer((json_int_t)n->rounds));
        json_object_set_new(f, "epochs", json_integer((json_int_t)n->epochs));
        json_object_set_new(f, "trainset_size", json_integer((json_int_t)n->trainset_size));
        break;
    case PFL_NOTE_JOINED:
        json_object_set_new(f, "address", text_json(n->addr));
        json_object_set_new(f, "experiment", text_json(n->text));
        break;
    case PFL_NOTE_RESUMED:
        json_object_set_new(f, "experiment", text_json(n->text));
        break;
    case PFL_NOTE_ROUND_STARTED:
        break;
    case PFL_NOTE_STAGE:
        json_object_set_new(f, "stage", text_json(n->text));
        break;
    case PFL_NOTE_TRAIN_SET:
        json_object_set_new(f, "members", list_json(&n->list));
        break;
    case PFL_NOTE_FIT:
        json_object_set_new(f, "loss", json_real(n->metrics.loss));
        json_object_set_new(f, "samples", json_integer((json_int_t)n->n_samples));
        break;
    case PFL_NOTE_METRICS:
        json_object_set_new(f, "address", text_json(n->addr));
        json_object_set_new(f, "loss", json_real(n->metrics.loss));
        json_object_set_new(f, "accuracy", json_real(n->metrics.accuracy));
        break;
    case PFL_NOTE_CONTRIBUTION:
        json_object_set_new(f, "from", text_json(n->addr));
        json_object_set_new(f, "contributors", list_json(&n->list));
        json_object_set_new(f, "samples", json_integer((json_int_t)n->n_samples));
        break;
    case PFL_NOTE_AGGREGATED:
        json_object_set_new(f, "contributors", list_json(&n->list));
        json_object_set_new(f, "samples", json_integer((json_int_t)n->n_samples));
        json_object_set_new(f, "digest", digest_json(n));
        break;
    case PFL_NOTE_ADOPTED:
        json_object_set_new(f, "from", text_json(n->addr));
        json_object_set_new(f, "digest", digest_json(n));
        break;
    case PFL_NOTE_ROUND_FINISHED:
        if (counters)
            json_object_update(f, counters);
        json_object_set_new(f, "digest", digest_json(n));
        break;
    case PFL_NOTE_LEARNING_FINISHED:
        json_object_del(f, "round");
        json_object_set_new(f, "rounds", json_integer(n->round));
        json_object_set_new(f, "loss", json_real(n->metrics.loss));
        json_object_set_new(f, "accuracy", json_real(n->metrics.accuracy));
        json_object_set_new(f, "digest", digest_json(n));
        break;
    case PFL_NOTE_LEARNING_STOPPED:
        json_object_set_new(f, "reason", text_json(n->text));
        break;
    case PFL_NOTE_REFUSED:
        json_object_set_new(f, "peer", text_json(n->addr));
        json_object_set_new(f, "remote", text_json(n->addr));
        json_object_set_new(f, "reason", text_json(n->text));
        break;
    case PFL_NOTE_WARNING:
        json_object_set_new(f, "address", text_json(n->addr));
        json_object_set_new(f, "text", text_json(n->text));
        break;
    }
    json_decref(counters);
    return f;
}
