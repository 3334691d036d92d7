/* What push says over HTTP: refusals alone, in the native error's shape, each with its request id. Refuses to serve anything. */
#ifndef SLUICE_PUSH_REPLY_H
#define SLUICE_PUSH_REPLY_H

#include "lib/base/id.h"
#include "lib/base/str.h"
#include "schemas/fault.h"

struct http_req;
struct push;

/* Names the request: every answer of it, the upgrade too, carries the id. */
void reply_name(struct push *push, struct http_req *req, char ret_id[static ID_SIZE]);
/* Answers @req, which is over for its owner then. 503 says when to come again. @message NULL: the fault's own. */
void reply_refuse(struct http_req *req, const char *id, int status, enum fault fault,
		  const char *message);

/* Of the HTTP server's own errors (http_server_ops); @ctx: the push. */
void reply_error_fields(void *ctx, struct http_req *req, int status);
void reply_error_body(void *ctx, int status, const char *reason, struct str *ret_type,
		      struct str *ret_body);

#endif
