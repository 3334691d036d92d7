/* A URL from outside: read (by libcurl's parser, the one that later connects), and refused where it is more than a place to call:
 * only http and https, a host, no user or password, no fragment, ASCII. Refuses to judge the host: where a name leads is seen when
 * it is connected (client.h, address_ok). */
#ifndef SLUICE_NET_URL_H
#define SLUICE_NET_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct arena;

#define URL_MAX_BYTES 2048

enum url_result { URL_OK = 0, URL_BAD = 1 };

/* Views live in the arena. */
struct url {
	bool https;
	struct str
	    host; /* in lower case, without brackets; a number of whatever form is written as an address */
	struct str origin; /* "https://example.com:443", "http://[::1]:8080" */
};

/* On URL_BAD @ret_why says what is wrong ("a user or password is not allowed"), a literal. */
must_check enum url_result url_read(struct arena *arena, struct str text, struct url *ret_url,
				    const char **ret_why);

#endif
