#include "consumers/push/reply.h"

#include "consumers/push/push.h"
#include "lib/base/json.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"

#define RETRY_S "1"
#define RETRY_MS "1000"

static const char *type_of(int status)
{
	if (status == 404)
		return "not_found";
	return status < 500 ? "invalid_request" : "server_error";
}

static void write_error(struct buf *out, const char *id, int status, enum fault fault,
			const char *message)
{
	const struct fault_info *info = fault_info(fault);
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	json_key(&o, "error");
	json_open(&o, '{');
	json_put_text(&o, "type", type_of(status));
	json_put_text(&o, "message", message ? message : info->text);
	json_put_text(&o, "code", info->code);
	json_put_null(&o, "param");
	json_put_null(&o, "offset");
	json_put_text(&o, "request_id", id);
	json_close(&o, '}');
	json_close(&o, '}');
}

void reply_name(struct push *push, struct http_req *req, char ret_id[static ID_SIZE])
{
	id_make(ret_id, "req", loop_wall_ms(push->loop), loop_rand(push->loop));
	http_add_field(req, "x-request-id", str_of(ret_id));
	http_add_field(req, "request-id", str_of(ret_id));
}

void reply_refuse(struct http_req *req, const char *id, int status, enum fault fault,
		  const char *message)
{
	struct buf body = {0};

	write_error(&body, id, status, fault, message);
	if (status == 503) {
		http_add_field(req, "retry-after", STR(RETRY_S));
		http_add_field(req, "retry-after-ms", STR(RETRY_MS));
	}
	http_reply(req, status, "application/json", buf_str(&body));
	buf_fini(&body);
}

static enum fault fault_of(int status)
{
	for (size_t i = 0; fault_at(i); i++)
		if (fault_at(i)->status == status)
			return fault_at(i)->fault;
	return status < 500 ? FAULT_INVALID_REQUEST : FAULT_INTERNAL;
}

void reply_error_fields(void *ctx, struct http_req *req, int status)
{
	struct push *push = ctx;

	(void)status;
	reply_name(push, req, push->error_id);
}

void reply_error_body(void *ctx, int status, const char *reason, struct str *ret_type,
		      struct str *ret_body)
{
	struct push *push = ctx;

	buf_reset(&push->error_body);
	write_error(&push->error_body, push->error_id, status, fault_of(status), reason);
	*ret_type = STR("application/json");
	*ret_body = buf_str(&push->error_body);
}
