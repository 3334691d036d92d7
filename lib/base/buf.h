/* A growing byte buffer with a read end: bytes are added behind and taken in front. Owns its memory; refuses to
 * check limits (the caller does, before it adds what came from outside). */
#ifndef SLUICE_BASE_BUF_H
#define SLUICE_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

/* Zero-initialised is empty and valid. Live bytes: data + head … data + head + len. */
struct buf {
	char *data;
	size_t head;
	size_t len;
	size_t cap;
};

/* Frees the memory; the buffer is empty and usable again. */
void buf_fini(struct buf *b);
/* Forgets the bytes, keeps the memory. */
void buf_reset(struct buf *b);
/* At least @more writable bytes at the returned place, to be followed by buf_added. */
char *buf_room(struct buf *b, size_t more);
void buf_added(struct buf *b, size_t count);
void buf_add(struct buf *b, const void *bytes, size_t count);
void buf_add_str(struct buf *b, struct str s);
void buf_add_text(struct buf *b, const char *text);
void buf_add_char(struct buf *b, char c);
void buf_add_u64(struct buf *b, uint64_t value);
void buf_add_i64(struct buf *b, int64_t value);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Drops @count bytes in front; @count is at most len. */
void buf_take(struct buf *b, size_t count);
/* The live bytes; valid until the next change. */
struct str buf_str(const struct buf *b);
/* The live bytes as a C string (a NUL stands behind them); valid until the next change. */
const char *buf_text(struct buf *b);
/* Hands the memory to the caller as a NUL-terminated string (mem_free); the buffer is empty. */
char *buf_steal(struct buf *b);

#endif
