/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of Rényi divergences. In logarithms where terms would overflow. */
#include "learning/privacy.h"

#include <math.h>

enum { QUARTERS = 36, WHOLE = 38 }; /* 1.25 ... 10, then 11 ... 48 */

double pfl_rdp_order(size_t i)
{
    static const double far[] = {64, 96, 128, 256, 512, 1024};
    if (i < QUARTERS)
        return 1.25 + 0.25 * (double)i;
    return i < QUARTERS + WHOLE ? 11.0 + (double)(i - QUARTERS) : far[i - QUARTERS - WHOLE];
}

void pfl_rdp_add_gaussian(struct pfl_rdp *r, double noise_multiplier)
{
    for (size_t i = 0; i < PFL_RDP_ORDERS; i++)
        r->at[i] += pfl_rdp_order(i) / (2.0 * noise_multiplier * noise_multiplier);
    r->releases++;
}

static double log_add(double a, double b)
{
    double most = fmax(a, b), least = fmin(a, b);
    return isinf(most) ? most : most + log1p(exp(least - most));
}

void pfl_rdp_add_laplace(struct pfl_rdp *r, double noise_multiplier)
{
    double t = 1.0 / noise_multiplier;
    for (size_t i = 0; i < PFL_RDP_ORDERS; i++) {
        double a = pfl_rdp_order(i);
        double sum = log_add(log(a / (2.0 * a - 1.0)) + (a - 1.0) * t, log((a - 1.0) / (2.0 * a - 1.0)) - a * t);
        r->at[i] += fmin(sum / (a - 1.0), t); /* pure epsilon bounds every order */
    }
    r->releases++;
}

/* log E[(1 - q + q exp((2 z - 1) / (2 s^2)))^a] over z ~ N(0, s^2), by the binomial sum. */
static double log_moment(double s, double q, unsigned a)
{
    double sum = -INFINITY;
    for (unsigned k = 0; k <= a; k++) {
        double choose = lgamma((double)a + 1.0) - lgamma((double)k + 1.0) - lgamma((double)(a - k) + 1.0);
        double term =
            choose + (double)(a - k) * log1p(-q) + (double)k * log(q) + ((double)k * (double)k - (double)k) / (2.0 * s * s);
        sum = log_add(sum, term);
    }
    return sum;
}

void pfl_rdp_add_sampled_gaussian(struct pfl_rdp *r, double noise_multiplier, double q, uint64_t steps)
{
    for (size_t i = 0; i < PFL_RDP_ORDERS; i++) {
        double a = pfl_rdp_order(i);
        if (q >= 1.0)
            r->at[i] += (double)steps * a / (2.0 * noise_multiplier * noise_multiplier);
        else if (a == floor(a))
            r->at[i] += (double)steps * log_moment(noise_multiplier, q, (unsigned)a) / (a - 1.0);
        else
            r->at[i] = INFINITY;
    }
    r->releases += steps;
}

double pfl_rdp_epsilon(const struct pfl_rdp *r, double delta)
{
    double best = INFINITY;
    if (r->releases == 0)
        return 0.0;
    for (size_t i = 0; i < PFL_RDP_ORDERS; i++)
        best = fmin(best, r->at[i] + log(1.0 / delta) / (pfl_rdp_order(i) - 1.0));
    return best;
}
