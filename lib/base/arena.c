#include "lib/base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

#define BLOCK_BYTES 2048
#define ALIGN 16

struct arena_block {
	struct arena_block *next;
	size_t size;
	size_t used;
	_Alignas(ALIGN) char bytes[];
};

void arena_reset(struct arena *a)
{
	struct arena_block *block = a->blocks;

	while (block) {
		struct arena_block *next = block->next;

		mem_free(block);
		block = next;
	}
	*a = (struct arena){0};
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t want = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	struct arena_block *block = a->blocks;
	char *at;

	if (!block || block->size - block->used < want) {
		size_t bytes = want > BLOCK_BYTES ? want : BLOCK_BYTES;

		block = mem_alloc(sizeof(*block) + bytes);
		block->size = bytes;
		block->next = a->blocks;
		a->blocks = block;
	}
	at = block->bytes + block->used;
	block->used += want;
	a->used_bytes += want;
	return at;
}

char *arena_dup(struct arena *a, const void *from, size_t size)
{
	char *copy = arena_alloc(a, size + 1);

	if (size)
		memcpy(copy, from, size);
	return copy;
}

char *arena_strdup(struct arena *a, const char *text)
{
	return text ? arena_dup(a, text, strlen(text)) : NULL;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	va_list ap;
	va_list again;
	char *text;
	int n;

	va_start(ap, format);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	text = arena_alloc(a, (size_t)(n < 0 ? 0 : n) + 1);
	if (n > 0)
		vsnprintf(text, (size_t)n + 1, format, again);
	va_end(again);
	return text;
}
