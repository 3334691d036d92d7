/* A Redis address: redis://[user[:password]@]host[:port][/db], rediss:// for TLS, host as name, IPv4 or [IPv6];
 * user and password percent-encoded. Refuses Unix sockets and query strings. */
#ifndef SLUICE_STORE_REDIS_URL_H
#define SLUICE_STORE_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct redis_url {
	bool tls;
	char host[256];
	char user[128];	    /* "" for none */
	char password[512]; /* "" for none */
	uint16_t port;	    /* 6379 where none is given */
	uint32_t db;
};

enum redis_url_result { REDIS_URL_OK = 0, REDIS_URL_MALFORMED = 1 };

must_check enum redis_url_result redis_url_parse(struct str text, struct redis_url *ret_url);

#endif
