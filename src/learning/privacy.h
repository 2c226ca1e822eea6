/* SPDX-License-Identifier: Apache-2.0 */
/* What was revealed so far: Rényi differential privacy, added up over releases. A release is one contribution of this node whose
 * update was clipped and noised (learning/compression.h, dp). Two data sets are neighbours where one is this node's and the other
 * gives no update at all: the sensitivity is clip_norm. Pure arithmetic; the runtime keeps it on disk (runtime/ledger.h). Sources:
 * Mironov 2017, "Rényi Differential Privacy": Proposition 1 (sums), 3 (conversion to epsilon and delta), Table II (Gaussian,
 * Laplace); Abadi et al. 2016 and Mironov et al. 2019 for the sampled Gaussian at whole orders. */
#ifndef PFL_LEARNING_PRIVACY_H
#define PFL_LEARNING_PRIVACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PFL_RDP_ORDERS = 80 };
/** The orders that are kept: 1.25 to 10 in quarters, then 11 to 48, 64, 96, 128, 256, 512, 1024. */
double pfl_rdp_order(size_t i);

struct pfl_rdp {
    double at[PFL_RDP_ORDERS]; /* RDP at each order */
    uint64_t releases;
};
/** One release with normal noise of standard deviation noise_multiplier times the sensitivity. */
void pfl_rdp_add_gaussian(struct pfl_rdp *r, double noise_multiplier);
/** Laplace noise of scale noise_multiplier times the (L1) sensitivity. */
void pfl_rdp_add_laplace(struct pfl_rdp *r, double noise_multiplier);
/** `steps` releases of which each draws with probability q whether there is anything in it. Whole orders only: the others are
 * infinite from then on where q < 1. */
void pfl_rdp_add_sampled_gaussian(struct pfl_rdp *r, double noise_multiplier, double q, uint64_t steps);
/** The least epsilon for this delta in (0, 1); 0 where nothing was released. */
double pfl_rdp_epsilon(const struct pfl_rdp *r, double delta);

#endif
