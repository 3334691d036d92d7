#include "lib/base/str.h"

#include <string.h>
#include <strings.h>

struct str str_of(const char *text)
{
	return (struct str){text ? text : "", text ? strlen(text) : 0};
}

bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (!a.len || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool str_is(struct str a, const char *text)
{
	return str_eq(a, str_of(text));
}

bool str_is_nocase(struct str a, const char *text)
{
	return a.len == strlen(text) && (!a.len || strncasecmp(a.ptr, text, a.len) == 0);
}

bool str_starts(struct str a, const char *prefix)
{
	size_t n = strlen(prefix);

	return a.len >= n && (!n || memcmp(a.ptr, prefix, n) == 0);
}

bool str_split(struct str *rest, char separator, struct str *ret_head)
{
	const char *at;

	if (!rest->ptr)
		return false;
	at = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
	if (!at) {
		*ret_head = *rest;
		*rest = (struct str){NULL, 0};
		return true;
	}
	*ret_head = (struct str){rest->ptr, (size_t)(at - rest->ptr)};
	rest->len -= ret_head->len + 1;
	rest->ptr = at + 1;
	return true;
}

struct str str_trim(struct str a)
{
	while (a.len && (a.ptr[0] == ' ' || a.ptr[0] == '\t')) {
		a.ptr++;
		a.len--;
	}
	while (a.len && (a.ptr[a.len - 1] == ' ' || a.ptr[a.len - 1] == '\t'))
		a.len--;
	return a;
}

bool str_u64(struct str a, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!a.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		unsigned digit = (unsigned)(a.ptr[i] - '0');

		if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, digit, &value))
			return false;
	}
	*ret_value = value;
	return true;
}

bool str_i64(struct str a, int64_t *ret_value)
{
	bool negative = a.len && a.ptr[0] == '-';
	uint64_t value;

	if (negative) {
		a.ptr++;
		a.len--;
	}
	if (!str_u64(a, &value) || value > (uint64_t)INT64_MAX + negative)
		return false;
	*ret_value = (int64_t)(negative ? -value : value);
	return true;
}

/* Bytes of the code point that begins at @p (at most @left), 0 where it is malformed. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	unsigned char low = 0x80, high = 0xBF;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xC2 || p[0] > 0xF4)
		return 0;
	n = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
	if (left < n)
		return 0;
	if (p[0] == 0xE0)
		low = 0xA0;
	else if (p[0] == 0xED)
		high = 0x9F;
	else if (p[0] == 0xF0)
		low = 0x90;
	else if (p[0] == 0xF4)
		high = 0x8F;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	return n;
}

bool str_utf8(struct str a)
{
	const unsigned char *p = (const unsigned char *)a.ptr;

	for (size_t i = 0; i < a.len;) {
		size_t n = utf8_length(p + i, a.len - i);

		if (!n)
			return false;
		i += n;
	}
	return true;
}

size_t str_utf8_cut(struct str a, size_t max)
{
	if (a.len <= max)
		return a.len;
	while (max && ((unsigned char)a.ptr[max] & 0xC0) == 0x80)
		max--;
	return max;
}

struct str str_utf8_clean(struct str a, char *room, size_t size)
{
	struct str clean = {room, 0};

	for (size_t i = 0; i < a.len;) {
		size_t took =
		    a.ptr[i] ? utf8_length((const unsigned char *)a.ptr + i, a.len - i) : 0;
		struct str next = took ? (struct str){a.ptr + i, took} : STR("\xEF\xBF\xBD");

		if (clean.len + next.len > size)
			break;
		memcpy(room + clean.len, next.ptr, next.len);
		clean.len += next.len;
		i += took ? took : 1;
	}
	return clean;
}
