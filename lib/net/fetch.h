/* One HTTP exchange, blocking, for operators' tools: on libcurl, HTTP/1.1. Refuses to be used on a loop: programs that
 * serve call providers through client.h. Follows no redirect, retries nothing. */
#ifndef SLUICE_NET_FETCH_H
#define SLUICE_NET_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct fetch {
	const char *method; /* "GET" */
	const char *url;
	const char *const *fields; /* "name: value", NULL behind the last; may be NULL */
	struct str body;	   /* ptr NULL: none */
	const char *ca_file;	   /* NULL: the system's */
	uint64_t connect_ms;
	uint64_t silence_ms; /* without a byte for so long the exchange is given up; 0: never */
	/* A piece of the answer's body, from inside fetch_run; false ends the exchange (which is no error). */
	bool (*data)(void *ctx, int status, struct str bytes);
	void *ctx;
};

/* Runs it: 0 and @ret_status; -ECONNREFUSED, -ETIMEDOUT, -EPROTO (anything else), with libcurl's words in @why
 * (may be NULL; otherwise at least 256 bytes). */
must_check int fetch_run(const struct fetch *fetch, int *ret_status, char *why);

#endif
