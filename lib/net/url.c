#include "lib/net/url.h"

#include <curl/curl.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/mem.h"

static bool ascii(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] <= ' ' || text.ptr[i] > '~')
			return false;
	return true;
}

/* A part as a string of the arena's; NULL where there is none. */
static char *part_of(CURLU *u, CURLUPart part, unsigned flags, struct arena *arena)
{
	char *text = NULL, *kept = NULL;

	if (curl_url_get(u, part, &text, flags) == CURLUE_OK && text)
		kept = arena_strdup(arena, text);
	curl_free(text);
	return kept;
}

/* libcurl takes three as well, and what is a path then for a host. */
static bool two_slashes(struct str text)
{
	struct str scheme;

	return str_split(&text, ':', &scheme) && str_starts(text, "//") && !str_starts(text, "///");
}

static void lower(char *text)
{
	for (; *text; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text | 0x20);
}

static const char *parts_wrong(CURLU *u, struct arena *arena, struct url *ret_url)
{
	char *scheme = part_of(u, CURLUPART_SCHEME, 0, arena);
	char *host = part_of(u, CURLUPART_HOST, 0, arena);
	char *port = part_of(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, arena);
	size_t len;

	if (!scheme || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
		return "it must begin with https://";
	if (!host || !*host || !port)
		return "a host is missing";
	if (part_of(u, CURLUPART_USER, 0, arena) || part_of(u, CURLUPART_PASSWORD, 0, arena))
		return "a user or password is not allowed";
	if (part_of(u, CURLUPART_FRAGMENT, 0, arena))
		return "a fragment is not allowed";
	lower(host);
	ret_url->https = strcmp(scheme, "https") == 0;
	ret_url->origin = str_of(arena_printf(arena, "%s://%s:%s", scheme, host, port));
	len = strlen(host);
	if (host[0] == '[' && host[len - 1] == ']')
		ret_url->host = (struct str){host + 1, len - 2};
	else
		ret_url->host = (struct str){host, len};
	return NULL;
}

enum url_result url_read(struct arena *arena, struct str text, struct url *ret_url,
			 const char **ret_why)
{
	const char *why = NULL;
	struct url url = {0};
	CURLU *u;

	if (text.len > URL_MAX_BYTES)
		why = "it is longer than 2048 bytes";
	else if (!text.len || !ascii(text))
		why = "it must be printable ASCII without blanks";
	if (why) {
		*ret_why = why;
		return URL_BAD;
	}
	u = curl_url();
	must(u);
	if (!two_slashes(text) ||
	    curl_url_set(u, CURLUPART_URL, arena_dup(arena, text.ptr, text.len),
			 CURLU_NON_SUPPORT_SCHEME))
		why = "it is not a URL";
	else
		why = parts_wrong(u, arena, &url);
	curl_url_cleanup(u);
	if (why) {
		*ret_why = why;
		return URL_BAD;
	}
	*ret_url = url;
	return URL_OK;
}
