#include "consumers/pool/warm.h"

#include <stdio.h>

#include "consumers/pool/route.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"

/* What is not read for so long is gone; each read makes it stay. */
#define LIFE_US (300 * US_PER_S)
/* So long a first answer is waited for. */
#define FILL_US (5 * US_PER_S)
/* More prefixes than this are not kept: the old ones go first. */
#define PREFIXES_MOST 1024

struct prefix {
	uint64_t warm_until_us; /* 0: never was */
	uint64_t fills_until_us;
};

struct name {
	char text[64];
	size_t len;
};

static struct name name_of(const struct target *target, uint64_t key)
{
	struct name n;

	n.len = (size_t)snprintf(n.text, sizeof(n.text), "%p %016llx",
				 (const void *)target->breaker, (unsigned long long)key);
	return n;
}

static void sweep(struct warm *warm, uint64_t now_us)
{
	struct map_entry *e;

	for (size_t at = 0; (e = map_next(&warm->prefixes, &at));) {
		struct prefix *p = e->value;

		if (p->warm_until_us > now_us || p->fills_until_us > now_us)
			continue;
		map_take(&warm->prefixes, e->key);
		mem_free(p);
	}
}

static struct prefix *find(struct warm *warm, const struct target *target, uint64_t key)
{
	struct name n = name_of(target, key);

	return map_find(&warm->prefixes, (struct str){n.text, n.len});
}

bool warm_asks(struct warm *warm, const struct target *target, uint64_t key, uint64_t now_us,
	       uint64_t *ret_wait_us)
{
	struct prefix *p = key ? find(warm, target, key) : NULL;
	struct name n;

	if (!key)
		return true;
	if (!p) {
		if (warm->prefixes.count >= PREFIXES_MOST)
			sweep(warm, now_us);
		if (warm->prefixes.count >= PREFIXES_MOST)
			return true;
		p = mem_new(struct prefix);
		n = name_of(target, key);
		map_set(&warm->prefixes, (struct str){n.text, n.len}, p);
	}
	if (p->warm_until_us > now_us)
		return true;
	if (p->fills_until_us > now_us) {
		*ret_wait_us = p->fills_until_us - now_us;
		return false;
	}
	p->fills_until_us = now_us + FILL_US;
	return true;
}

bool warm_begins(struct warm *warm, const struct target *target, uint64_t key, uint64_t now_us)
{
	struct prefix *p = key ? find(warm, target, key) : NULL;
	bool filled;

	if (!p)
		return false;
	filled = p->fills_until_us > now_us;
	p->fills_until_us = 0;
	p->warm_until_us = now_us + LIFE_US;
	return filled;
}

void warm_fini(struct warm *warm)
{
	struct map_entry *e;

	for (size_t at = 0; (e = map_next(&warm->prefixes, &at));)
		mem_free(e->value);
	map_fini(&warm->prefixes);
}
