#include "lib/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *alive(void *got)
{
	if (!got) {
		fputs("sluice: out of memory\n", stderr);
		abort();
	}
	return got;
}

void *mem_alloc(size_t size)
{
	return alive(calloc(1, size ? size : 1));
}

void *mem_resize(void *old, size_t size)
{
	return alive(realloc(old, size ? size : 1));
}

void *mem_dup(const void *from, size_t size)
{
	char *copy = alive(malloc(size + 1));

	if (size)
		memcpy(copy, from, size);
	copy[size] = 0;
	return copy;
}

char *mem_strdup(const char *text)
{
	return text ? mem_dup(text, strlen(text)) : NULL;
}

char *mem_printf(const char *format, ...)
{
	va_list ap;
	char *text = NULL;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	return alive(text);
}

void mem_free(void *old)
{
	free(old);
}

void mem_wipe(void *secret, size_t size)
{
	volatile unsigned char *p = secret;

	while (size--)
		*p++ = 0;
}

void mem_free_cleanup(void *address)
{
	free(*(void **)address);
}
