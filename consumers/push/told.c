#include "consumers/push/told.h"

#include <string.h>

#include "lib/base/mem.h"

/* FNV-1a: ids are ours, nobody chooses them. */
static uint64_t hash_of(struct str job)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < job.len; i++)
		hash = (hash ^ (unsigned char)job.ptr[i]) * UINT64_C(0x100000001b3);
	return hash;
}

bool told_has(const struct told *t, struct str job)
{
	uint64_t hash = hash_of(job);

	for (size_t i = 0; i < t->count; i++)
		if (t->hashes[i] == hash)
			return true;
	return false;
}

static void grow(struct told *t)
{
	size_t cap = t->cap ? t->cap * 2 : 8;
	uint64_t *hashes = mem_alloc(cap * sizeof(*hashes));

	if (t->count)
		memcpy(hashes, t->hashes, t->count * sizeof(*hashes));
	mem_free(t->hashes);
	t->hashes = hashes;
	t->cap = cap;
}

void told_add(struct told *t, struct str job)
{
	if (told_has(t, job))
		return;
	if (t->count == TOLD_MAX) {
		t->hashes[t->oldest] = hash_of(job);
		t->oldest = (t->oldest + 1) % TOLD_MAX;
		return;
	}
	if (t->count == t->cap)
		grow(t);
	t->hashes[t->count++] = hash_of(job);
}

void told_fini(struct told *t)
{
	mem_free(t->hashes);
	*t = (struct told){0};
}
