#include <string.h>

#include "lib/base/json.h"

/* What stands behind the backslash for a byte; 0: the byte stands for itself; 'u': \u00XX. */
static const char escape_of[256] = {
    [0] = 'u',	[1] = 'u',    [2] = 'u',    [3] = 'u',	  [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',	['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f',  ['\r'] = 'r',
    [14] = 'u', [15] = 'u',   [16] = 'u',   [17] = 'u',	  [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u', [22] = 'u',   [23] = 'u',   [24] = 'u',	  [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u', [29] = 'u',   [30] = 'u',   [31] = 'u',	  ['"'] = '"', ['\\'] = '\\',
};

void json_escape(struct buf *out, struct str text)
{
	const char *at = text.ptr;
	const char *end = at + text.len;

	while (at < end) {
		const char *run = at;
		char letter = 0;

		while (at < end && !(letter = escape_of[(unsigned char)*at]))
			at++;
		buf_add(out, run, (size_t)(at - run));
		if (!letter)
			return;
		if (letter == 'u') {
			static const char digit[] = "0123456789abcdef";
			char form[6] = "\\u00";

			form[4] = digit[*at >> 4 & 15];
			form[5] = digit[*at & 15];
			buf_add(out, form, sizeof(form));
		} else {
			buf_add(out, (const char[]){'\\', letter}, 2);
		}
		at++;
	}
}

static bool read_hex4(struct str text, uint32_t *ret_value)
{
	uint32_t value = 0;

	if (text.len < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		unsigned char letter = c | 0x20;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if (letter >= 'a' && letter <= 'f')
			value = value << 4 | (uint32_t)(letter - 'a' + 10);
		else
			return false;
	}
	*ret_value = value;
	return true;
}

static void add_code_point(struct buf *out, uint32_t c)
{
	char utf8[4];
	size_t n;

	if (c < 0x80) {
		utf8[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		utf8[0] = (char)(0xC0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		utf8[0] = (char)(0xE0 | c >> 12);
		n = 3;
	} else {
		utf8[0] = (char)(0xF0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		utf8[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3F));
	buf_add(out, utf8, n);
}

/* Reads the digits behind \u, and the second half of a pair; the bytes it took, 0 where it is
 * malformed. */
static size_t unescape_u(struct buf *out, struct str digits)
{
	uint32_t c, low;

	if (!read_hex4(digits, &c) || !c || (c >= 0xDC00 && c <= 0xDFFF))
		return 0;
	if (c < 0xD800 || c > 0xDBFF) {
		add_code_point(out, c);
		return 4;
	}
	if (digits.len < 10 || digits.ptr[4] != '\\' || digits.ptr[5] != 'u' ||
	    !read_hex4((struct str){digits.ptr + 6, digits.len - 6}, &low) || low < 0xDC00 ||
	    low > 0xDFFF)
		return 0;
	add_code_point(out, 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00));
	return 10;
}

enum json_result json_unescape(struct buf *out, struct str inside)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char *at = inside.ptr;
	const char *end = at + inside.len;

	while (at < end) {
		const char *run = at;
		const char *letter;

		while (at < end && *at != '\\' && *at != '"' && (unsigned char)*at >= 0x20)
			at++;
		buf_add(out, run, (size_t)(at - run));
		if (at == end)
			return JSON_OK;
		if (*at != '\\' || end - at < 2)
			return JSON_MALFORMED;
		if (at[1] == 'u') {
			size_t took = unescape_u(out, (struct str){at + 2, (size_t)(end - at) - 2});

			if (!took)
				return JSON_MALFORMED;
			at += 2 + took;
			continue;
		}
		letter = at[1] ? strchr(from, at[1]) : NULL;
		if (!letter)
			return JSON_MALFORMED;
		buf_add_char(out, to[letter - from]);
		at += 2;
	}
	return JSON_OK;
}
