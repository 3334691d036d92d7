/* Which pages may call the front from a browser (CORS, as the Fetch standard has it). Origins are configured
 * (front.cors_origins; lib/net/origin.h); keys travel in header fields and never in cookies, so credentials are not allowed for, and what a page may
 * send is not limited further. Refuses nothing by itself: a page that is not listed gets answers that its browser keeps from it. */
#ifndef SLUICE_PRODUCER_CORS_H
#define SLUICE_PRODUCER_CORS_H

#include <stdbool.h>

struct http_req;

/* Adds the fields that let the page that asks read the answer of @req, on the routes below /v1/. */
void cors_add_fields(struct http_req *req, const char *origins);
/* True where @req is the question before a request (OPTIONS) of a page that is allowed: its fields were added, and a 204 is the
 * answer. */
bool cors_preflight(struct http_req *req, const char *origins);

#endif
