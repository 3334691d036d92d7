/* A hash map from bytes to one pointer. Copies the keys; refuses to own the values. Not for hostile key floods
 * without a seed: give map_init one from the loop's generator. */
#ifndef SLUICE_BASE_MAP_H
#define SLUICE_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

struct map_entry {
	struct str key;
	void *value;
	uint64_t hash;
};

/* Zero-initialised is empty and valid (seed 0). */
struct map {
	struct map_entry **slots;
	size_t count;
	size_t cap;
	size_t graves;
	uint64_t seed;
};

void map_init(struct map *m, uint64_t seed);
/* Frees keys and slots, not the values. */
void map_fini(struct map *m);
/* NULL where the key is not there. */
void *map_find(const struct map *m, struct str key);
/* Puts @value (not NULL) under @key; returns the value that stood there, or NULL. */
void *map_set(struct map *m, struct str key, void *value);
/* Takes the value out; NULL where the key is not there. */
void *map_take(struct map *m, struct str key);
/* Visits the entries: start with *@at = 0; NULL at the end. The map may lose, not gain, entries meanwhile. */
struct map_entry *map_next(const struct map *m, size_t *at);

#endif
