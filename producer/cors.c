#include "producer/cors.h"

#include "lib/net/http.h"
#include "lib/net/origin.h"

/* Fields of answers that scripts may read besides the plain ones. */
#define EXPOSED                                                                        \
	"x-request-id, request-id, idempotent-replayed, retry-after, retry-after-ms, " \
	"x-sluice-job, "                                                               \
	"x-sluice-provider"
#define METHODS "GET, POST, DELETE"
/* Browsers keep the answer so long, or two hours where that is less. */
#define MAX_AGE_S "7200"

void cors_add_fields(struct http_req *req, const char *origins)
{
	struct str origin = http_field(req, "origin");

	if (!origins[0] || !str_starts(http_path(req), "/v1/"))
		return;
	http_add_field(req, "vary", STR("origin"));
	if (!origin_list_has(origins, origin))
		return;
	http_add_field(req, "access-control-allow-origin", origin);
	http_add_field(req, "access-control-expose-headers", STR(EXPOSED));
}

bool cors_preflight(struct http_req *req, const char *origins)
{
	struct str fields = http_field(req, "access-control-request-headers");

	if (!str_is(http_method(req), "OPTIONS") || !str_starts(http_path(req), "/v1/") ||
	    !http_field(req, "access-control-request-method").len ||
	    !origin_list_has(origins, http_field(req, "origin")))
		return false;
	http_add_field(req, "access-control-allow-methods", STR(METHODS));
	if (fields.len)
		http_add_field(req, "access-control-allow-headers", fields);
	http_add_field(req, "access-control-max-age", STR(MAX_AGE_S));
	return true;
}
