/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets by key (an address, a name), at most so many keys. Not safe between threads. */
#ifndef PFL_RUNTIME_CA_RATE_H
#define PFL_RUNTIME_CA_RATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/mem.h"

struct pfl_rate;
struct pfl_rate *pfl_rate_new(double burst, double per_minute, size_t keys_max); /* owned */
void pfl_rate_free(struct pfl_rate *r);                                          /* accepts NULL */
PFL_DEFINE_FREEP(rate, struct pfl_rate, pfl_rate_free)
/** Is anything left for this key? Takes nothing. */
bool pfl_rate_allows(struct pfl_rate *r, const char *key, pfl_ns now);
/** Takes one; false where none was left. */
bool pfl_rate_take(struct pfl_rate *r, const char *key, pfl_ns now);
/** The key under which an address ("192.0.2.7:53422", "[2001:db8::1]:5") is counted: its host, of IPv6 the /64. out needs 64. */
void pfl_rate_key_of(const char *remote, char out[64]);

#endif
