#include "lib/base/rand.h"

/* splitmix64: spreads a small seed over the whole state. */
static uint64_t spread(uint64_t *x)
{
	uint64_t z = *x += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int by)
{
	return (x << by) | (x >> (64 - by));
}

void rand_init(struct rand *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		r->state[i] = spread(&seed);
}

uint64_t rand_u64(struct rand *r)
{
	uint64_t *s = r->state;
	uint64_t result = rotate(s[1] * 5, 7) * 9;
	uint64_t shifted = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= shifted;
	s[3] = rotate(s[3], 45);
	return result;
}

uint64_t rand_below(struct rand *r, uint64_t below)
{
	uint64_t limit;
	uint64_t got;

	if (!below)
		return 0;
	/* The last, incomplete run of values would favour the small ones: drawn again. */
	limit = UINT64_MAX - (UINT64_MAX % below + 1) % below;
	do
		got = rand_u64(r);
	while (got > limit);
	return got % below;
}

double rand_unit(struct rand *r)
{
	return (double)(rand_u64(r) >> 11) * 0x1.0p-53;
}
