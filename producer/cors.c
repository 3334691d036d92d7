#include "producer/cors.h"

#include <errno.h>
#include <string.h>

#include "lib/net/http.h"

/* Fields of answers that scripts may read besides the plain ones. */
#define EXPOSED                                                                        \
	"x-request-id, request-id, idempotent-replayed, retry-after, retry-after-ms, " \
	"x-sluice-job, "                                                               \
	"x-sluice-provider"
#define METHODS "GET, POST, DELETE"
/* Browsers keep the answer so long, or two hours where that is less. */
#define MAX_AGE_S "7200"

/* The next word of a list that is separated by blanks. */
static bool next(struct str *list, struct str *ret_word)
{
	while (str_split(list, ' ', ret_word))
		if (ret_word->len)
			return true;
	return false;
}

static bool is_origin(struct str word)
{
	size_t scheme;

	for (scheme = 0; scheme < word.len && word.ptr[scheme] != ':'; scheme++)
		if (word.ptr[scheme] < 'a' || word.ptr[scheme] > 'z')
			return false;
	if (!scheme || word.len <= scheme + 3 || memcmp(word.ptr + scheme, "://", 3) != 0)
		return false;
	for (size_t i = scheme + 3; i < word.len; i++) {
		char c = word.ptr[i];

		if (c == '/' || c == '?' || c == '#' || c == '@' || c <= ' ' || c == 0x7f ||
		    (c >= 'A' && c <= 'Z'))
			return false;
	}
	return true;
}

int cors_check(const char *origins, struct str *ret_bad)
{
	struct str list = str_of(origins), word;

	if (strcmp(origins, "*") == 0)
		return 0;
	while (next(&list, &word)) {
		if (is_origin(word))
			continue;
		*ret_bad = word;
		return err_origin(-EINVAL);
	}
	return 0;
}

bool cors_allows(const char *origins, struct str origin)
{
	struct str list = str_of(origins), word;

	if (!origin.len)
		return false;
	if (strcmp(origins, "*") == 0)
		return true;
	while (next(&list, &word))
		if (str_eq(word, origin))
			return true;
	return false;
}

void cors_add_fields(struct http_req *req, const char *origins)
{
	struct str origin = http_field(req, "origin");

	if (!origins[0] || !str_starts(http_path(req), "/v1/"))
		return;
	http_add_field(req, "vary", STR("origin"));
	if (!cors_allows(origins, origin))
		return;
	http_add_field(req, "access-control-allow-origin", origin);
	http_add_field(req, "access-control-expose-headers", STR(EXPOSED));
}

bool cors_preflight(struct http_req *req, const char *origins)
{
	struct str fields = http_field(req, "access-control-request-headers");

	if (!str_is(http_method(req), "OPTIONS") || !str_starts(http_path(req), "/v1/") ||
	    !http_field(req, "access-control-request-method").len ||
	    !cors_allows(origins, http_field(req, "origin")))
		return false;
	http_add_field(req, "access-control-allow-methods", STR(METHODS));
	if (fields.len)
		http_add_field(req, "access-control-allow-headers", fields);
	http_add_field(req, "access-control-max-age", STR(MAX_AGE_S));
	return true;
}
