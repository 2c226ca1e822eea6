/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of a run in numbers: one JSON object, JSON lines per node and round, and a few lines for people. */
#ifndef PFL_RUNTIME_RUN_SUMMARY_H
#define PFL_RUNTIME_RUN_SUMMARY_H

#include "base/bytes.h"
#include "runtime/run_record.h"

/** {"finished", "rounds", "wall_s", "bytes_sent", "messages_sent", "nodes": [{"name", "address", "accuracy", "loss",
 * "model_sha256", "rounds", ...}], "refused": [{"by", "peer", "reason", "remote"}], ...}: a new reference. What is not known is
 * null. */
json_t *pfl_summary_json(const struct pfl_record *r);
/** One line per node and round: {"node", "address", "round", "test_loss", "test_accuracy", "fit_loss", "fit_s", "bytes_sent", ...}.
 */
void pfl_summary_metrics(const struct pfl_record *r, struct pfl_buf *out);
/** The closing words: accuracy per node, whether the models are equal, time, traffic, who was refused and who was lost. */
void pfl_summary_text(const struct pfl_record *r, struct pfl_buf *out);

#endif
