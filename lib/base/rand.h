/* A seeded generator (xoshiro256**, Blackman and Vigna 2018): the only source of chance in Sluice's decisions, so
 * that one seed gives one history. Refuses to make secrets: keys and tokens come from lib/identity. */
#ifndef SLUICE_BASE_RAND_H
#define SLUICE_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

struct rand {
	uint64_t state[4];
};

void rand_init(struct rand *r, uint64_t seed);
uint64_t rand_u64(struct rand *r);
/* Uniform in 0 … @below - 1; 0 where @below is 0. */
uint64_t rand_below(struct rand *r, uint64_t below);
/* Uniform in [0, 1). */
double rand_unit(struct rand *r);

#endif
