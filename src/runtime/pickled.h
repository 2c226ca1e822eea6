/* SPDX-License-Identifier: Apache-2.0 */
/* Models on their way to P2PFL's own nodes: settings.general.interop_compression, and the jobs that pickle. */
#ifndef PFL_RUNTIME_PICKLED_H
#define PFL_RUNTIME_PICKLED_H

#include "config/settings.h"
#include "learning/p2pfl_payload.h"
#include "node/node.h"

/** What a configuration asks for. */
struct pfl_p2pfl_options pfl_pickled_options(const struct pfl_interop_compression *c);

struct pfl_driver;
/** A SEND with msg and payload: goes out when the payload is pickled. */
void pfl_pickled_send(struct pfl_driver *d, const struct pfl_action *a);

#endif
