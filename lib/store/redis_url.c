#include "lib/store/redis_url.h"

#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Undoes percent-encoding into a C string; false where it is malformed, holds a NUL or does not fit. */
static bool decode(struct str from, char *into, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < from.len; i++) {
		char c = from.ptr[i];

		if (c == '%') {
			bool whole = from.len - i > 2;
			int high = whole ? hex_digit(from.ptr[i + 1]) : -1;
			int low = whole ? hex_digit(from.ptr[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (!c || n + 1 >= size)
			return false;
		into[n++] = c;
	}
	into[n] = '\0';
	return true;
}

static bool copy(struct str from, char *into, size_t size)
{
	if (!from.len || from.len >= size || memchr(from.ptr, '\0', from.len))
		return false;
	memcpy(into, from.ptr, from.len);
	into[from.len] = '\0';
	return true;
}

static bool credentials(struct str text, struct redis_url *url)
{
	const char *colon = memchr(text.ptr, ':', text.len);
	size_t user_len = colon ? (size_t)(colon - text.ptr) : text.len;
	struct str user = {text.ptr, user_len};

	if (!decode(user, url->user, sizeof(url->user)))
		return false;
	if (!colon)
		return true;
	return decode((struct str){colon + 1, text.len - user_len - 1}, url->password,
		      sizeof(url->password));
}

static bool host_port(struct str text, struct redis_url *url)
{
	struct str host = text;
	struct str rest = {0};

	if (text.len && text.ptr[0] == '[') {
		const char *end = memchr(text.ptr, ']', text.len);

		if (!end)
			return false;
		host = (struct str){text.ptr + 1, (size_t)(end - text.ptr) - 1};
		rest = (struct str){end + 1, text.len - host.len - 2};
	} else {
		const char *colon = memchr(text.ptr, ':', text.len);

		if (colon) {
			host.len = (size_t)(colon - text.ptr);
			rest = (struct str){colon, text.len - host.len};
		}
	}
	if (rest.len) {
		uint64_t port;

		if (rest.ptr[0] != ':' ||
		    !str_u64((struct str){rest.ptr + 1, rest.len - 1}, &port) || !port ||
		    port > UINT16_MAX)
			return false;
		url->port = (uint16_t)port;
	}
	return copy(host, url->host, sizeof(url->host));
}

enum redis_url_result redis_url_parse(struct str text, struct redis_url *ret_url)
{
	struct redis_url url = {.port = 6379};
	struct str rest = text;
	const char *at;
	const char *slash;

	if (str_starts(rest, "rediss://")) {
		url.tls = true;
		rest = (struct str){rest.ptr + 9, rest.len - 9};
	} else if (str_starts(rest, "redis://")) {
		rest = (struct str){rest.ptr + 8, rest.len - 8};
	} else {
		return REDIS_URL_MALFORMED;
	}
	slash = memchr(rest.ptr, '/', rest.len);
	if (slash) {
		struct str db = {slash + 1, rest.len - (size_t)(slash - rest.ptr) - 1};
		uint64_t number = 0;

		rest.len = (size_t)(slash - rest.ptr);
		if (db.len && (!str_u64(db, &number) || number > 65535))
			return REDIS_URL_MALFORMED;
		url.db = (uint32_t)number;
	}
	at = memrchr(rest.ptr, '@', rest.len);
	if (at) {
		struct str before = {rest.ptr, (size_t)(at - rest.ptr)};

		rest = (struct str){at + 1, rest.len - before.len - 1};
		if (!credentials(before, &url))
			return REDIS_URL_MALFORMED;
	}
	if (!host_port(rest, &url))
		return REDIS_URL_MALFORMED;
	*ret_url = url;
	return REDIS_URL_OK;
}
