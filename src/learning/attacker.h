/* SPDX-License-Identifier: Apache-2.0 */
/* A learner that lies, for experiments with aggregators: it trains as the one inside does, and gives away something else. */
#ifndef PFL_LEARNING_ATTACKER_H
#define PFL_LEARNING_ATTACKER_H

#include "learning/learner.h"

enum pfl_attack {
    PFL_ATTACK_NONE,
    PFL_ATTACK_GAUSSIAN,  /* noise of standard deviation sigma on every value of the trained model */
    PFL_ATTACK_SIGN_FLIP, /* sigma times its change, in the other direction */
};
/** Wraps *learner, which it owns from then on. Seeded by the fit's own seed. */
void pfl_attacker_wrap(struct pfl_learner *learner, enum pfl_attack attack, double sigma);

#endif
