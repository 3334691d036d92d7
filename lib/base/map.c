#include "lib/base/map.h"

#include <stdbool.h>
#include <string.h>

#include "lib/base/err.h"
#include "lib/base/mem.h"

#define CAP_MIN 16

/* Stands where an entry was taken out, so that searches go on behind it. */
static const struct map_entry grave_mark;
#define GRAVE ((struct map_entry *)(uintptr_t)&grave_mark)

static uint64_t rotate(uint64_t x, int by)
{
	return (x << by) | (x >> (64 - by));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein 2012), keyed by the seed: who does not know it cannot choose
 * keys that meet. */
static uint64_t hash_of(uint64_t seed, struct str key)
{
	uint64_t k[2] = {seed, rotate(seed, 32) ^ UINT64_C(0x9E3779B97F4A7C15)};
	uint64_t v[4] = {k[0] ^ UINT64_C(0x736F6D6570736575), k[1] ^ UINT64_C(0x646F72616E646F6D),
			 k[0] ^ UINT64_C(0x6C7967656E657261), k[1] ^ UINT64_C(0x7465646279746573)};
	uint64_t word;
	size_t at = 0;

	for (; key.len - at >= 8; at += 8) {
		memcpy(&word, key.ptr + at, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = 0;
	if (key.len - at)
		memcpy(&word, key.ptr + at, key.len - at);
	word |= (uint64_t)key.len << 56;
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xFF;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *m, uint64_t seed)
{
	*m = (struct map){.seed = seed};
}

static bool alive(const struct map_entry *e)
{
	return e && e != GRAVE;
}

void map_fini(struct map *m)
{
	for (size_t i = 0; i < m->cap; i++)
		if (alive(m->slots[i]))
			mem_free(m->slots[i]);
	mem_free(m->slots);
	*m = (struct map){.seed = m->seed};
}

/* The slot that holds @key, or NULL. */
static struct map_entry **slot_of(const struct map *m, struct str key, uint64_t hash)
{
	if (!m->cap)
		return NULL;
	for (size_t at = hash & (m->cap - 1);; at = (at + 1) & (m->cap - 1)) {
		struct map_entry *e = m->slots[at];

		if (!e)
			return NULL;
		if (e != GRAVE && e->hash == hash && str_eq(e->key, key))
			return &m->slots[at];
	}
}

void *map_find(const struct map *m, struct str key)
{
	struct map_entry **slot = m->count ? slot_of(m, key, hash_of(m->seed, key)) : NULL;

	return slot ? (*slot)->value : NULL;
}

static void rebuild(struct map *m)
{
	struct map_entry **old = m->slots;
	size_t old_cap = m->cap;

	m->cap = CAP_MIN;
	while (m->cap < (m->count + 1) * 2)
		m->cap *= 2;
	m->slots = mem_alloc(m->cap * sizeof(struct map_entry *));
	m->graves = 0;
	for (size_t i = 0; i < old_cap; i++) {
		size_t at;

		if (!alive(old[i]))
			continue;
		at = old[i]->hash & (m->cap - 1);
		while (m->slots[at])
			at = (at + 1) & (m->cap - 1);
		m->slots[at] = old[i];
	}
	mem_free(old);
}

void *map_set(struct map *m, struct str key, void *value)
{
	uint64_t hash = hash_of(m->seed, key);
	struct map_entry **slot = slot_of(m, key, hash);
	struct map_entry *entry;
	size_t at;

	must(value);
	if (slot) {
		void *old = (*slot)->value;

		(*slot)->value = value;
		return old;
	}
	if ((m->count + m->graves + 1) * 4 > m->cap * 3)
		rebuild(m);
	at = hash & (m->cap - 1);
	while (alive(m->slots[at]))
		at = (at + 1) & (m->cap - 1);
	if (m->slots[at] == GRAVE)
		m->graves--;
	entry = mem_alloc(sizeof(*entry) + key.len + 1);
	if (key.len)
		memcpy(entry + 1, key.ptr, key.len);
	*entry = (struct map_entry){{(char *)(entry + 1), key.len}, value, hash};
	m->slots[at] = entry;
	m->count++;
	return NULL;
}

void *map_take(struct map *m, struct str key)
{
	struct map_entry **slot = m->count ? slot_of(m, key, hash_of(m->seed, key)) : NULL;
	void *value;

	if (!slot)
		return NULL;
	value = (*slot)->value;
	mem_free(*slot);
	*slot = GRAVE;
	m->graves++;
	m->count--;
	return value;
}

struct map_entry *map_next(const struct map *m, size_t *at)
{
	while (*at < m->cap) {
		struct map_entry *e = m->slots[(*at)++];

		if (alive(e))
			return e;
	}
	return NULL;
}
