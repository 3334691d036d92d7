#include "tests/sim/cache.h"

#include "lib/base/mem.h"
#include "tests/sim/ask.h"

/* Above so many what is over is taken out; where that does not help, nothing more is kept. */
#define ENTRIES_MAX 200000

struct entry {
	uint64_t until_us;
	uint64_t life_us;
};

uint64_t sim_cache_hash(uint64_t h, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(1099511628211);
	return h;
}

void sim_cache_init(struct sim_cache *c, uint64_t seed)
{
	*c = (struct sim_cache){0};
	map_init(&c->entries, seed);
}

void sim_cache_clear(struct sim_cache *c)
{
	struct map_entry *e;
	uint64_t seed = c->entries.seed;
	for (size_t at = 0; (e = map_next(&c->entries, &at));)
		mem_free(e->value);
	map_fini(&c->entries);
	sim_cache_init(c, seed);
}

void sim_cache_fini(struct sim_cache *c)
{
	sim_cache_clear(c);
	map_fini(&c->entries);
}

static struct str key_of(const uint64_t key[static 2])
{
	return (struct str){(const char *)key, 2 * sizeof(key[0])};
}

static struct entry *entry_of(struct sim_cache *c, uint64_t scope, const struct sim_spot *p)
{
	const uint64_t key[2] = {scope, p->hash};
	return map_find(&c->entries, key_of(key));
}

static bool alive(struct sim_cache *c, uint64_t now_us, uint64_t scope, const struct sim_spot *p)
{
	const struct entry *e = entry_of(c, scope, p);
	return e && now_us < e->until_us;
}

/* The spot up to which is read, counted from 1; 0: nothing. */
static size_t read_to(struct sim_cache *c, uint64_t now_us, uint64_t scope,
		      const struct sim_prefix *prefix, bool marks)
{
	size_t seen = prefix->count; /* below here nothing has been looked at */
	for (size_t i = prefix->count; i-- > 0;) {
		size_t least = i >= SIM_CACHE_LOOKBACK ? i - SIM_CACHE_LOOKBACK : 0;
		if (!marks)
			least = i;
		else if (!prefix->spots[i].marked)
			continue;
		for (size_t j = i < seen ? i + 1 : seen; j-- > least;)
			if (alive(c, now_us, scope, &prefix->spots[j]))
				return j + 1;
		seen = least;
	}
	return 0;
}

static bool written(const struct sim_spot *p, const struct sim_cache_rules *rules)
{
	return (!rules->marks || p->marked) && sim_estimate(p->bytes) >= rules->least;
}

struct sim_use sim_cache_look(struct sim_cache *c, uint64_t now_us, uint64_t scope,
			      const struct sim_prefix *prefix, const struct sim_cache_rules *rules,
			      uint64_t input)
{
	struct sim_use use = {.input = input};
	size_t read = read_to(c, now_us, scope, prefix, rules->marks);
	if (read)
		use.read = sim_estimate(prefix->spots[read - 1].bytes);
	uint64_t upto = use.read;
	for (size_t i = read; i < prefix->count; i++) {
		const struct sim_spot *p = &prefix->spots[i];
		if (!written(p, rules))
			continue;
		*(p->hour ? &use.write_1h : &use.write_5m) += sim_estimate(p->bytes) - upto;
		upto = sim_estimate(p->bytes);
	}
	return use;
}

static void entries_prune(struct sim_cache *c, uint64_t now_us)
{
	struct map_entry *e;
	for (size_t at = 0; (e = map_next(&c->entries, &at));) {
		struct entry *old = e->value;
		if (old->until_us > now_us)
			continue;
		map_take(&c->entries, e->key);
		mem_free(old);
	}
}

static void entry_put(struct sim_cache *c, uint64_t now_us, uint64_t scope,
		      const struct sim_spot *p, uint64_t life_us)
{
	const uint64_t key[2] = {scope, p->hash};
	struct entry *e = entry_of(c, scope, p);
	if (!e && c->entries.count >= ENTRIES_MAX)
		entries_prune(c, now_us);
	if (!e && c->entries.count >= ENTRIES_MAX)
		return;
	if (!e) {
		e = mem_new(struct entry);
		map_set(&c->entries, key_of(key), e);
	}
	e->life_us = life_us;
	e->until_us = now_us + life_us;
}

void sim_cache_begun(struct sim_cache *c, uint64_t began_us, uint64_t scope,
		     const struct sim_prefix *prefix, const struct sim_cache_rules *rules,
		     const struct sim_use *use)
{
	uint64_t wrote = use->write_5m + use->write_1h;
	for (size_t i = 0; i < prefix->count; i++) {
		const struct sim_spot *p = &prefix->spots[i];
		struct entry *e = entry_of(c, scope, p);
		bool read = sim_estimate(p->bytes) <= use->read;
		if (read && e && began_us < e->until_us)
			e->until_us = began_us + e->life_us;
		else if (!read && written(p, rules))
			entry_put(c, began_us, scope, p,
				  p->hour ? SIM_CACHE_HOUR_US : rules->short_us);
	}
	c->reads += use->read > 0;
	c->writes += wrote > 0;
	c->read_tokens += use->read;
	c->write_tokens += wrote;
}
