/* An arena: everything that is made for one job lives here and goes with it. Refuses single frees. */
#ifndef SLUICE_BASE_ARENA_H
#define SLUICE_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

/* Zero-initialised is empty and valid. */
struct arena {
	struct arena_block *blocks;
	size_t used_bytes;
};

/* Gives everything back; the arena is empty and usable again. */
void arena_reset(struct arena *a);

/* @size zeroed bytes, aligned for any type, valid until arena_reset. */
void *arena_alloc(struct arena *a, size_t size);
#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))

/* A NUL-terminated copy of @size bytes. */
char *arena_dup(struct arena *a, const void *from, size_t size);

/* A copy of @text; NULL gives NULL. */
char *arena_strdup(struct arena *a, const char *text);

char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
