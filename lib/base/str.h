/* A view of bytes that somebody else owns: pointer and length, not NUL-terminated. Refuses to allocate. */
#ifndef SLUICE_BASE_STR_H
#define SLUICE_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
	const char *ptr;
	size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_FMT(s) (int)(s).len, (s).ptr /* for "%.*s" */

/* The view of a C string; NULL gives the empty view. */
struct str str_of(const char *text);
bool str_eq(struct str a, struct str b);
bool str_is(struct str a, const char *text);
/* As str_is, but ASCII letters of either case are the same. */
bool str_is_nocase(struct str a, const char *text);
bool str_starts(struct str a, const char *prefix);
/* Cuts the part before the first @separator off @rest into @ret_head; false where @rest is used up. The last
 * part has no separator behind it. */
bool str_split(struct str *rest, char separator, struct str *ret_head);
/* Without blanks and tabs on both sides. */
struct str str_trim(struct str a);
/* A decimal number without sign, the whole view; false where it is none or does not fit. */
bool str_u64(struct str a, uint64_t *ret_value);
/* As str_u64 with an optional minus. */
bool str_i64(struct str a, int64_t *ret_value);
/* True for well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool str_utf8(struct str a);
/* The longest prefix of @a that is at most @max bytes and splits no code point; @a is well-formed UTF-8. */
size_t str_utf8_cut(struct str a, size_t max);
/* What came from outside, made readable: @a in @room, where each byte that belongs to no code point, and NUL, is U+FFFD. At most @size
 * bytes of it; splits no code point. */
struct str str_utf8_clean(struct str a, char *room, size_t size);

#endif
