#include "lib/base/json_mend.h"

#include <stdio.h>

#define ESCAPE_BYTES 6 /* \uXXXX */

/* The code unit of an escape that stands at @at; -1: none does. */
static int32_t unit_at(struct str text, size_t at)
{
	int32_t unit = 0;

	if (text.len - at < ESCAPE_BYTES || text.ptr[at] != '\\' || text.ptr[at + 1] != 'u')
		return -1;
	for (size_t i = at + 2; i < at + ESCAPE_BYTES; i++) {
		char c = text.ptr[i], letter = (char)(c | 0x20);

		if (c >= '0' && c <= '9')
			unit = unit << 4 | (c - '0');
		else if (letter >= 'a' && letter <= 'f')
			unit = unit << 4 | (letter - 'a' + 10);
		else
			return -1;
	}
	return unit;
}

static bool is_first(int32_t unit)
{
	return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool is_second(int32_t unit)
{
	return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* The escape at @at, which begins a string where @opens; the bytes that it took. */
static size_t mend_unit(struct str text, size_t at, bool opens, struct buf *out,
			struct json_halves *halves)
{
	int32_t unit = unit_at(text, at);
	size_t behind = at + ESCAPE_BYTES;
	bool ends = behind < text.len && text.ptr[behind] == '"';

	if (is_first(unit) && is_second(unit_at(text, behind))) {
		buf_add(out, text.ptr + at, 2 * ESCAPE_BYTES);
		return 2 * ESCAPE_BYTES;
	}
	if (is_first(unit) && ends && !halves->behind) {
		halves->behind = (uint32_t)unit;
	} else if (is_second(unit) && opens && halves->before && !halves->joined) {
		buf_printf(out, "\\u%04x\\u%04x", halves->before, (unsigned)unit);
		halves->joined = true;
	} else if (!unit || is_first(unit) || is_second(unit)) {
		buf_add_text(out, "\\ufffd");
	} else {
		buf_add(out, text.ptr + at, ESCAPE_BYTES);
	}
	return ESCAPE_BYTES;
}

void json_mend(struct str text, struct buf *out, struct json_halves *halves)
{
	bool opens = false; /* the byte before was a quote */

	for (size_t at = 0; at < text.len;) {
		size_t run = at;

		if (text.ptr[at] != '\\') {
			while (at < text.len && text.ptr[at] != '\\')
				at++;
			buf_add(out, text.ptr + run, at - run);
			opens = text.ptr[at - 1] == '"';
			continue;
		}
		if (unit_at(text, at) >= 0) {
			at += mend_unit(text, at, opens, out, halves);
		} else {
			at += text.len - at < 2 ? 1 : 2;
			buf_add(out, text.ptr + run, at - run);
		}
		opens = false;
	}
}
