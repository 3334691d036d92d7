#include "lib/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/err.h"
#include "lib/base/mem.h"

/* From here on room grows by a quarter: two thousand answers of 10 KB must not hold half as much again. */
#define STEADY_BYTES 4096

void buf_fini(struct buf *b)
{
	mem_free(b->data);
	*b = (struct buf){0};
}

void buf_reset(struct buf *b)
{
	b->head = 0;
	b->len = 0;
}

char *buf_room(struct buf *b, size_t more)
{
	size_t need = b->len + more + 1;

	if (b->cap - b->head >= need)
		return b->data + b->head + b->len;
	if (b->head && b->cap >= need && b->head >= b->cap / 2) {
		memmove(b->data, b->data + b->head, b->len);
		b->head = 0;
		return b->data + b->len;
	}
	size_t cap = b->cap ? b->cap : 64;

	while (cap < need)
		cap += cap < STEADY_BYTES ? cap : cap / 4;
	if (b->head) {
		char *fresh = mem_alloc(cap);

		memcpy(fresh, b->data + b->head, b->len);
		mem_free(b->data);
		b->data = fresh;
		b->head = 0;
	} else {
		b->data = mem_resize(b->data, cap);
	}
	b->cap = cap;
	return b->data + b->len;
}

void buf_added(struct buf *b, size_t count)
{
	must(b->head + b->len + count <= b->cap);
	b->len += count;
}

void buf_add(struct buf *b, const void *bytes, size_t count)
{
	if (!count)
		return;
	memcpy(buf_room(b, count), bytes, count);
	b->len += count;
}

void buf_add_str(struct buf *b, struct str s)
{
	buf_add(b, s.ptr, s.len);
}

void buf_add_text(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_add_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_add_u64(struct buf *b, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	buf_add(b, digits + at, sizeof(digits) - at);
}

void buf_add_i64(struct buf *b, int64_t value)
{
	if (value < 0)
		buf_add_char(b, '-');
	buf_add_u64(b, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap;
	va_list again;
	int n;

	va_start(ap, format);
	va_copy(again, ap);
	n = vsnprintf(buf_room(b, 128), 128, format, ap);
	va_end(ap);
	if (n >= 128)
		n = vsnprintf(buf_room(b, (size_t)n + 1), (size_t)n + 1, format, again);
	va_end(again);
	if (n > 0)
		b->len += (size_t)n;
}

void buf_take(struct buf *b, size_t count)
{
	must(count <= b->len);
	b->head += count;
	b->len -= count;
	if (!b->len)
		b->head = 0;
}

struct str buf_str(const struct buf *b)
{
	return (struct str){b->data ? b->data + b->head : "", b->len};
}

const char *buf_text(struct buf *b)
{
	*buf_room(b, 1) = 0;
	return b->data + b->head;
}

char *buf_steal(struct buf *b)
{
	char *text;

	if (b->head) {
		text = mem_dup(b->data + b->head, b->len);
		buf_fini(b);
		return text;
	}
	*buf_room(b, 1) = 0;
	text = b->data;
	*b = (struct buf){0};
	return text;
}
