#include "lib/base/enc.h"

#include <stdbool.h>

static void base64(struct buf *out, struct str bytes, const char *last_two, bool pad)
{
	static const char common[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	const unsigned char *p = (const unsigned char *)bytes.ptr;
	char *to = buf_room(out, (bytes.len / 3 + 1) * 4);
	size_t n = 0;

	for (size_t i = 0; i < bytes.len; i += 3) {
		size_t left = bytes.len - i;
		uint32_t v = (uint32_t)p[i] << 16;

		if (left > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (left > 2)
			v |= p[i + 2];
		for (size_t k = 0; k < 4; k++) {
			uint32_t six = v >> (18 - 6 * k) & 63;

			if (k <= left)
				to[n++] = six < 62 ? common[six] : last_two[six - 62];
			else if (pad)
				to[n++] = '=';
		}
	}
	buf_added(out, n);
}

void enc_base64(struct buf *out, struct str bytes)
{
	base64(out, bytes, "+/", true);
}

void enc_base64url(struct buf *out, struct str bytes)
{
	base64(out, bytes, "-_", false);
}

static int base64_bits(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

enum enc_result enc_base64_decode(struct buf *out, struct str text)
{
	uint32_t held = 0;
	unsigned bits = 0;
	size_t n = 0;
	char *to;

	if (text.len && text.len % 4 == 0 && text.ptr[text.len - 1] == '=')
		text.len -= text.ptr[text.len - 2] == '=' ? 2 : 1;
	if (text.len % 4 == 1)
		return ENC_MALFORMED;
	to = buf_room(out, text.len / 4 * 3 + 3);
	for (size_t i = 0; i < text.len; i++) {
		int six = base64_bits(text.ptr[i]);

		if (six < 0)
			return ENC_MALFORMED;
		held = held << 6 | (uint32_t)six;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			to[n++] = (char)(held >> bits & 0xFF);
		}
	}
	/* Bits behind the last byte: two texts for the same bytes would be two names for one thing.
	 */
	if (held & ((1U << bits) - 1))
		return ENC_MALFORMED;
	buf_added(out, n);
	return ENC_OK;
}

void enc_hex(struct buf *out, struct str bytes)
{
	static const char digit[] = "0123456789abcdef";
	char *to = buf_room(out, bytes.len * 2);

	for (size_t i = 0; i < bytes.len; i++) {
		unsigned char c = (unsigned char)bytes.ptr[i];

		to[i * 2] = digit[c >> 4];
		to[i * 2 + 1] = digit[c & 15];
	}
	buf_added(out, bytes.len * 2);
}

static int hex_bits(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum enc_result enc_hex_decode(struct buf *out, struct str text)
{
	char *to;

	if (text.len % 2)
		return ENC_MALFORMED;
	to = buf_room(out, text.len / 2);
	for (size_t i = 0; i < text.len; i += 2) {
		int high = hex_bits(text.ptr[i]);
		int low = hex_bits(text.ptr[i + 1]);

		if (high < 0 || low < 0)
			return ENC_MALFORMED;
		to[i / 2] = (char)(high << 4 | low);
	}
	buf_added(out, text.len / 2);
	return ENC_OK;
}

void enc_varint(struct buf *out, uint64_t value)
{
	for (; value > 0x7F; value >>= 7)
		buf_add_char(out, (char)((value & 0x7F) | 0x80));
	buf_add_char(out, (char)value);
}

enum enc_result enc_varint_decode(struct str *rest, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (size_t i = 0; i < rest->len && i < 10; i++) {
		uint64_t byte = (unsigned char)rest->ptr[i];

		if (i == 9 && byte > 1)
			return ENC_MALFORMED;
		value |= (byte & 0x7F) << (7 * i);
		if (byte & 0x80)
			continue;
		/* One number has one form: no zeros on top. */
		if (i && !byte)
			return ENC_MALFORMED;
		rest->ptr += i + 1;
		rest->len -= i + 1;
		*ret_value = value;
		return ENC_OK;
	}
	return ENC_MALFORMED;
}
